"""Which of this library's losses is the same as another? That of the same value and gradient.

Both are asked on a small batch of random numbers. A factor between them is allowed, such as lies
between a mean and a sum.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffmetrics._losses.distributions.crps import crps_gaussian
from diffmetrics._losses.distributions.likelihood import gaussian_nll, laplace_nll, student_t_nll
from diffmetrics._losses.elements.class_hinge import crammer_singer_loss, weston_watkins_loss
from diffmetrics._losses.elements.entropy import (
    generalized_cross_entropy,
    sigmoid_cross_entropy,
    sigmoid_focal_loss,
    softmax_cross_entropy,
    softmax_focal_loss,
)
from diffmetrics._losses.elements.hinge import hinge_loss, softplus_hinge_loss, squared_hinge_loss
from diffmetrics._losses.elements.imbalance import asymmetric_loss, weighted_sigmoid_cross_entropy
from diffmetrics._losses.elements.proper import brier_loss
from diffmetrics._losses.pairs.divergence import (
    js_divergence,
    kl_divergence,
    symmetric_kl_divergence,
)
from diffmetrics._losses.pairs.embedding import (
    batch_hard_triplet_loss,
    contrastive_loss,
    triplet_loss,
)
from diffmetrics._losses.rankings.ranking import average_precision_loss, roc_auc_loss
from diffmetrics._losses.sets.overlap import (
    dice_loss,
    fbeta_loss,
    focal_tversky_loss,
    jaccard_loss,
    squared_dice_loss,
    tversky_loss,
)
from diffmetrics._metrics.counts import Counts
from diffmetrics.diagnose import _programs
from diffmetrics.diagnose._forms import Loss
from diffmetrics.diagnose._subject import defaults

partial = functools.partial
Call = Callable[[Any, Any], Any]

TOLERANCE = 1e-4  # between two formulas in float32
OTHER_NAMES = {"pos_weight": "positive_weight"}
SMOOTH = Counts(tp=0.5)  # adds one to the numerator and the denominator of Dice, as many do


# Our losses by what they are of, those first that people write most often.
OURS: dict[str, tuple[Loss, ...]] = {
    "elements": (
        sigmoid_cross_entropy, sigmoid_focal_loss, partial(sigmoid_focal_loss, alpha=0.25),
        weighted_sigmoid_cross_entropy, brier_loss, hinge_loss, squared_hinge_loss,
        softplus_hinge_loss, asymmetric_loss,
    ),
    "sets": (
        dice_loss, partial(dice_loss, prior=SMOOTH), jaccard_loss, squared_dice_loss, tversky_loss,
        focal_tversky_loss, fbeta_loss,
    ),
    "orders": (
        *(partial(roc_auc_loss, surrogate=s) for s in ("squared_hinge", "hinge", "logistic")),
        average_precision_loss,
    ),
    "classes": (
        softmax_cross_entropy, softmax_focal_loss, generalized_cross_entropy, crammer_singer_loss,
        weston_watkins_loss,
    ),
    "mean_scale": (gaussian_nll, laplace_nll, crps_gaussian, student_t_nll),
    "pair": (contrastive_loss,),
    "triplet": (triplet_loss,),
    "embedding": (batch_hard_triplet_loss,),
    "divergence": (kl_divergence, symmetric_kl_divergence, js_divergence),
    "none": (),
}  # fmt: skip


def ours(kind: str, rank: int) -> tuple[Loss, ...]:
    """Our losses of this kind, and those of sets also of every image, or of every class."""
    if kind == "sets" and rank > 1:
        inner = tuple(range(1, rank))
        return (*OURS[kind], *(partial(loss, axis=inner) for loss in OURS[kind]))
    if kind == "classes":
        outer = tuple(range(rank - 1))
        per_class = partial(dice_loss, activation=jax.nn.softmax, axis=outer)
        return (*OURS[kind], per_class, partial(per_class, prior=SMOOTH))
    return OURS[kind]


@dataclasses.dataclass(frozen=True)
class Counterpart:
    """A loss of ours, and how it is called.

    `decided` says that only labels of 0 and 1 make it the same, where others may come.
    """

    kind: str
    loss: Loss
    decided: bool = False

    @property
    def name(self) -> str:
        """What to write."""
        bound = _bound(self.loss)
        function = self.loss.func if isinstance(self.loss, partial) else self.loss
        options = ", ".join(f"{name}={_written(value)}" for name, value in bound.items())
        return f"diffmetrics.{function.__name__}" + (f"({options})" if options else "")

    def call(self, predictions: Any, labels: Any) -> Any:
        """What it returns."""
        several = () if self.kind in ("triplet", "divergence") else (labels,)
        return self.loss(*jax.tree.leaves(predictions), *several)


def _bound(loss: Loss) -> dict[str, Any]:
    return dict(loss.keywords) if isinstance(loss, partial) else {}


def _written(value: Any) -> str:
    """An option as it is written in a program."""
    if isinstance(value, Counts):
        return f"Counts(tp={value.tp:g})"
    return "jax.nn.softmax" if value is jax.nn.softmax else repr(value)


def equal(loss: Loss, one: Call, predictions: Any, labels: Any) -> Counterpart | None:
    """Our loss that is the same as `loss`, of which ``one(predictions, labels)`` is the mean."""
    if is_ours(loss):
        return None
    program = jax.jit(jax.value_and_grad(one))
    rank = jax.tree.leaves(predictions)[0].ndim
    for kind in _kinds(predictions, labels):
        batch = _batch(kind, predictions, labels)
        theirs = _seen(program, *batch)
        if theirs is None:
            continue
        for each in ours(_nature(kind, theirs, program, *batch), rank):
            some = _with_settings(each, loss)
            if some and _agree(theirs, found := Counterpart(kind, some), *batch):
                return dataclasses.replace(found, decided=_is_decided(program, found, *batch))
    return None


def is_ours(loss: Loss) -> bool:
    """Whether it is of this library itself."""
    return str(_function(loss).__module__).startswith("diffmetrics.")


def _function(loss: Loss) -> Any:
    """The function itself, or the class of an object."""
    while isinstance(loss, partial):
        loss = loss.func
    return loss if hasattr(loss, "__module__") else type(loss)


def _kinds(predictions: Any, labels: Any) -> Iterator[str]:
    """What predictions and labels of these shapes may be."""
    first, *others = jax.tree.leaves(predictions)
    plain = isinstance(labels, jax.ShapeDtypeStruct) and first.size > 1
    if not plain or any(other.shape != first.shape for other in others):
        return
    if len(others) == 2:
        yield "triplet"
    elif len(others) == 1:
        yield from ("mean_scale",) if labels.shape == first.shape else ("pair", "divergence")
    elif labels.shape == first.shape:
        yield from ("binary", "one-hot") if first.ndim > 1 else ("binary",)
    elif labels.shape == first.shape[:-1] and labels.dtype.kind in "iu":
        yield from ("ids", "embedding") if first.ndim == 2 else ("ids",)


# --- a small batch --------------------------------------------------------------------------------


def _batch(kind: str, predictions: Any, labels: Any) -> tuple[Any, Any]:
    """Random numbers in arrays of as many axes, which are short."""
    rng = np.random.default_rng(0)
    leaves, tree = jax.tree.flatten(predictions)
    rank = leaves[0].ndim
    shape, of_labels = _short(leaves[0].shape, rank), _short(labels.shape, rank)
    scale = 0.7 / math.sqrt(shape[-1]) if kind == "pair" else 1.5  # distances about a margin of 1
    z = [scale * rng.standard_normal(shape, np.float32) for _ in leaves]
    if kind == "mean_scale":
        z[1] = np.exp(z[1] / 3)
    if kind == "one-hot":
        y = np.eye(shape[-1])[rng.integers(0, shape[-1], shape[:-1])]
    elif kind == "ids":
        y = rng.integers(0, shape[-1], of_labels)
    elif kind == "embedding":
        y = np.arange(shape[0]) // 2
    elif kind == "mean_scale":
        y = rng.standard_normal(of_labels)
    else:
        y = rng.random(of_labels) < 0.4
    exact = np.float32 if labels.dtype.kind in "fV" else labels.dtype
    return jax.tree.unflatten(tree, map(jnp.asarray, z)), jnp.asarray(y.astype(exact))


def _short(shape: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """Each axis cut to a few, the last of the predictions to 64."""
    few = max(2, 16 // rank)
    return tuple(min(n, few if i < rank - 1 else 64) for i, n in enumerate(shape))


# --- the same -------------------------------------------------------------------------------------


def _with_settings(ours: Loss, theirs: Loss) -> Loss | None:
    """Our loss with the settings of theirs that bear the same names; None if one is lacking."""
    known, bound = _settings(theirs), _bound(ours)
    takes = inspect.signature(ours).parameters.values()
    options = [p for p in takes if p.kind is p.KEYWORD_ONLY and p.name not in bound]
    if any(p.default is p.empty and p.name not in known for p in options):
        return None
    same = {p.name: known[p.name] for p in options if known.get(p.name, p.default) != p.default}
    return partial(ours, **same) if same else ours


def _settings(loss: Loss) -> dict[str, float]:
    """Numbers that a loss is called with if nothing is said, by name."""
    return {
        OTHER_NAMES.get(name, name): x
        for name, x in defaults(loss).items()
        if isinstance(x, int | float) and not isinstance(x, bool) and not name.endswith("axis")
    }


class _Seen(NamedTuple):
    """What a loss is on a batch."""

    value: float
    slope: np.ndarray


def _seen(program: Call, predictions: Any, labels: Any) -> _Seen | None:
    """Value and gradient, unless the loss does not take this batch or they are not finite."""
    try:
        value, slopes = program(predictions, labels)
    except Exception:  # whatever another's function raises on short arrays
        return None
    slope = np.concatenate([np.asarray(g, np.float64).ravel() for g in jax.tree.leaves(slopes)])
    found = _Seen(float(value), slope)
    return found if np.isfinite(found.value) and np.isfinite(slope).all() else None


def _nature(kind: str, seen: _Seen, program: Call, predictions: Any, labels: Any) -> str:
    """Which of ours a loss may be: of an order, of classes, of each element for itself, of sets."""
    if kind not in ("binary", "one-hot", "ids"):
        return kind
    [logits], size = jax.tree.leaves(predictions), np.abs(seen.slope).max()
    rows = seen.slope.reshape(logits.shape).sum(-1)
    of_classes = logits.ndim > 1 and np.abs(rows).max() <= TOLERANCE * size
    if of_classes or kind != "binary":  # the logits of a row may all move by the same
        return "classes" if of_classes and kind != "binary" else "none"
    if abs(rows.sum()) <= TOLERANCE * size:  # and here all that there are
        return "orders"
    other = _seen(program, logits.at[(0,) * logits.ndim].add(1.0), labels)
    apart = other is not None and np.abs(other.slope - seen.slope)[1:].max() <= TOLERANCE * size
    return "elements" if apart else "sets"


def _agree(theirs: _Seen, ours: Counterpart, predictions: Any, labels: Any) -> bool:
    """Whether values and gradients are equal, up to a factor as between a mean and a sum."""

    def one(z: Any, y: Any) -> jax.Array:
        return _programs.total(ours.call(z, y))

    mean = float(one(predictions, labels))
    factor = _factor(theirs.value, mean, jax.tree.leaves(predictions)[0].shape)
    again = _seen(jax.jit(jax.value_and_grad(one)), predictions, labels) if factor else None
    if factor is None or again is None:
        return False
    apart = np.linalg.norm(theirs.slope - factor * again.slope)
    return bool(apart <= TOLERANCE * np.linalg.norm(theirs.slope))


def _is_decided(program: Call, ours: Counterpart, predictions: Any, labels: Any) -> bool:
    """Whether soft labels make another loss of it: not every focal loss is an expected loss."""
    if ours.kind not in ("binary", "one-hot") or labels.dtype.kind != "f":
        return False
    even = 0.5 if ours.kind == "binary" else 1.0 / labels.shape[-1]
    soft = 0.8 * labels + 0.2 * even
    theirs = _seen(program, predictions, soft)
    return theirs is None or not _agree(theirs, ours, predictions, soft)


def _factor(theirs: float, ours: float, shape: tuple[int, ...]) -> int | None:
    """By which theirs is larger, if that is what a sum over some axes is over a mean."""
    ends = itertools.combinations(range(len(shape) + 1), 2)
    sums = {1, *(math.prod(shape[start:end]) for start, end in ends)}
    return next(
        (n for n in sums if ours and abs(theirs - n * ours) <= TOLERANCE * abs(theirs)), None
    )
