"""How much the classes weigh in a batch of the user's, and whether the rare ones weigh least."""

from __future__ import annotations

import numpy as np

from diffmetrics.diagnose._forms import OWN
from diffmetrics.diagnose._probes._asked import Asked
from diffmetrics.diagnose._probes.own_batch import decided
from diffmetrics.diagnose._probes.tradeoffs import rounded
from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, defect, ok
from diffmetrics.diagnose._subject import OwnBatch

# Focal loss weighs a positive a third of a negative on purpose (alpha = 1/4, Lin et al., 2017).
INVERTED = 4.0
RARE = 3.0  # times as many of the heaviest class as of the lightest


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


def _inverted(asked: Asked) -> Finding | None:
    """A weight that falls on what is frequent: the rarer a class, the less each of it weighs."""
    slope = np.abs(asked.look(asked.undecided, asked.hard).slopes[0])
    known = asked.known.ravel()
    if not asked.is_hard:
        return None
    if asked.decides:
        which, size = asked.positive.ravel()[known].astype(int), slope.ravel()[known]
    else:
        which = asked.positive.reshape(known.size, -1).argmax(1)[known]
        size = slope.reshape(known.size, -1)[known, which]
    if not np.isfinite(size).all():
        return None
    number = np.bincount(which)
    weight = np.bincount(which, size) / np.maximum(number, 1)
    some = np.flatnonzero(weight > 0)
    order = some[np.argsort(number[some], kind="stable")]
    if order.size < 2 or (np.diff(weight[order]) < -1e-6 * weight.max()).any():
        return None
    least, most = order[0], order[-1]
    times = float(weight[most] / weight[least])
    often = number[most] >= RARE * number[least]
    return _told(asked, int(least), int(most), times, number / number.sum()) if often else None


def _told(asked: Asked, least: int, most: int, times: float, share: np.ndarray) -> Finding | None:
    if times < INVERTED:
        return None
    names = ("the negatives", "the positives")
    if not asked.decides:
        names = tuple(f"class {c}" for c in range(len(share)))
    rare, frequent = names[least], names[most]
    return defect(
        f"the class weight is on the wrong class: an example of {rare}, the rarer, weighs "
        f"{rounded(times)} times less than one of {frequent}",
        f"gradient of one at equal predictions; {rare} {share[least]:.2%} of the labels, "
        f"{frequent} {share[most]:.2%}",
        "weigh a class by one over its share; sigmoid losses: the weight belongs to label 1",
    )
