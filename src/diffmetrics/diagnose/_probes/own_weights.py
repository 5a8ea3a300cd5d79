"""How much the classes weigh in a batch of the user's, and whether the rare ones weigh least."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from diffmetrics.diagnose._forms import OWN
from diffmetrics.diagnose._probes._asked import Asked, one_hot
from diffmetrics.diagnose._probes.own_batch import decided
from diffmetrics.diagnose._probes.tradeoffs import rounded
from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, defect, note, ok
from diffmetrics.diagnose._subject import OwnBatch

# Focal loss weighs a positive a third of a negative on purpose (alpha = 1/4, Lin et al., 2017).
INVERTED, NOTED = 4.0, 1.5
RARE = 3.0  # times as many of the heaviest class as of the lightest
SAME = 1e-3


@probe("weights", (OWN,), rank=9)
def weights(batch: OwnBatch) -> Finding | None:
    """How much of the gradient the positives hold, and whether rare classes weigh less."""
    asked = Asked.of(batch)
    inverted = asked and asked.classifies and _inverted(asked)
    return inverted or _held(batch)


def _held(batch: OwnBatch) -> Finding | None:
    some = decided(batch)
    if some is None or some.positive.all() or not some.positive.any():
        return None
    size, of = np.abs(some.slope), some.positive.mean()
    share = size[some.positive].sum() / size.sum()
    return ok(f"positives are {of:.2%} of the batch and hold {share:.1%} of the gradient")


class _Weights(NamedTuple):
    """Of each class: how many examples it has, and the gradient of one at equal predictions."""

    number: np.ndarray
    weight: np.ndarray
    names: Sequence[str]


def _inverted(asked: Asked) -> Finding | None:
    """A weight that falls on what is frequent: the rarer a class, the less each of it weighs."""
    some = _weights(asked) if asked.is_hard else None
    if some is None:
        return None
    weighed = np.flatnonzero(some.weight > 0)  # of a class without a gradient `alive` tells
    order = weighed[np.argsort(some.number[weighed], kind="stable")]
    grows = np.diff(some.weight[order]) >= -SAME * some.weight.max()
    if order.size < 2 or not grows.all():
        return None
    rare, frequent = int(order[0]), int(order[-1])
    often = some.number[frequent] >= RARE * some.number[rare]
    return _told(some, rare, frequent) if often else None


def _weights(asked: Asked) -> _Weights | None:
    """None if examples of a class weigh differently, and so have no weight of their class."""
    slope = np.abs(asked.look(asked.undecided, asked.hard).slopes[0])
    known, positive = asked.known.ravel(), asked.positive
    if asked.decides and not one_hot(positive):
        which, size = positive.ravel()[known].astype(int), slope.ravel()[known]
        names: Sequence[str] = ("a negative", "a positive")
    else:
        rows = positive.reshape(-1, positive.shape[-1])
        known = known if known.size == len(rows) else np.ones(len(rows), bool)
        which = rows.argmax(1)[known]
        size = slope.reshape(rows.shape)[known, which]
        names = [f"an example of class {c}" for c in range(rows.shape[1])]
    number = np.bincount(which)
    weight = np.bincount(which, size) / np.maximum(number, 1)
    alike = np.abs(size - weight[which]) <= SAME * weight[which]
    return _Weights(number, weight, names) if alike.all() else None


def _told(some: _Weights, rare: int, frequent: int) -> Finding | None:
    times = float(some.weight[frequent] / some.weight[rare])
    few, many = some.names[rare], some.names[frequent]
    share = some.number / some.number.sum()
    less = f"{few}, which is rarer, weighs {rounded(times)} times less than {many}"
    evidence = (
        f"gradient at equal predictions {some.weight[rare]:.3g} of {few}, of which there are "
        f"{share[rare]:.2%}, and {some.weight[frequent]:.3g} of {many}, {share[frequent]:.2%}"
    )
    advice = "exchange them: a class weighs more, the rarer it is, as one over its share"
    if times >= INVERTED:
        return defect(f"the class weight is on the wrong class: {less}", evidence, advice)
    if times >= NOTED:
        return note(f"{less}, as in focal loss, of which it is meant so", evidence, advice)
    return None
