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
from typing import Any

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
from diffmetrics._losses.sets.lovasz import lovasz_hinge_loss, lovasz_softmax_loss
from diffmetrics._losses.sets.overlap import (
    dice_loss,
    fbeta_loss,
    focal_tversky_loss,
    jaccard_loss,
    squared_dice_loss,
    tversky_loss,
)
from diffmetrics._metrics.counts import Counts
from diffmetrics.diagnose import _forms
from diffmetrics.diagnose._forms import Loss

partial = functools.partial
Call = Callable[[Any, Any], Any]

TOLERANCE = 1e-4  # between two formulas in float32
OTHER_NAMES = {"pos_weight": "positive_weight"}
SMOOTH = Counts(tp=0.5)  # adds one to the numerator and the denominator of Dice, as many do


def ours(kind: str, rank: int) -> tuple[Loss, ...]:
    """Losses of predictions of so many axes, those first that people write most often."""
    inner, outer = {"axis": tuple(range(1, rank))}, {"axis": tuple(range(rank - 1))}
    of_sets = [dice_loss, partial(dice_loss, prior=SMOOTH), jaccard_loss, squared_dice_loss]
    each = [partial(loss, **inner) for loss in of_sets] if rank > 1 else []
    per_class = partial(dice_loss, activation=jax.nn.softmax, **outer)
    match kind:
        case "binary":
            return (
                sigmoid_cross_entropy, sigmoid_focal_loss, partial(sigmoid_focal_loss, alpha=0.25),
                weighted_sigmoid_cross_entropy, *of_sets, *each, brier_loss, hinge_loss,
                squared_hinge_loss, softplus_hinge_loss, tversky_loss, focal_tversky_loss,
                fbeta_loss, asymmetric_loss, lovasz_hinge_loss,
            )  # fmt: skip
        case "ranks":
            surrogates = ("squared_hinge", "hinge", "logistic", "square")
            rankings = [partial(roc_auc_loss, surrogate=surrogate) for surrogate in surrogates]
            return (*rankings, average_precision_loss)
        case "ids" | "one-hot":
            return (
                softmax_cross_entropy, softmax_focal_loss, per_class,
                partial(per_class, prior=SMOOTH), lovasz_softmax_loss, generalized_cross_entropy,
                crammer_singer_loss, weston_watkins_loss,
            )  # fmt: skip
    return OF_TREES[kind]


OF_TREES: dict[str, tuple[Loss, ...]] = {
    "mean_scale": (gaussian_nll, laplace_nll, crps_gaussian, student_t_nll),
    "pair": (contrastive_loss,),
    "triplet": (triplet_loss,),
    "embedding": (batch_hard_triplet_loss,),
    "divergence": (kl_divergence, symmetric_kl_divergence, js_divergence),
}


@dataclasses.dataclass(frozen=True)
class Counterpart:
    """A loss of ours, and how it is called."""

    kind: str
    loss: Loss

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


def equal(loss: Loss, one: Call, predictions: Any, labels: Any) -> Iterator[Counterpart]:
    """Our losses that are the same as `loss`, of which ``one(predictions, labels)`` is the mean."""
    if _function(loss).__module__.startswith("diffmetrics."):
        return
    first = jax.tree.leaves(predictions)[0]
    for kind in _kinds(predictions, labels):
        batch = _batch(kind, predictions, labels)
        theirs = _seen(one, *batch)
        if theirs is None:
            continue
        ranks = kind == "binary" and _is_of_ranks(theirs[1])
        for each in ours("ranks" if ranks else kind, first.ndim):
            some = _with_settings(each, loss)
            if some and _agree(theirs, Counterpart(kind, some), *batch):
                yield Counterpart(kind, some)


def _function(loss: Loss) -> Any:
    """The function itself, or the class of an object."""
    while isinstance(loss, partial):
        loss = loss.func
    return loss if hasattr(loss, "__module__") else type(loss)


def _kinds(predictions: Any, labels: Any) -> Iterator[str]:
    """What predictions and labels of these shapes may be."""
    first, *others = jax.tree.leaves(predictions)
    if any(other.shape != first.shape for other in others):
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
    try:
        parameters = inspect.signature(loss).parameters
    except (TypeError, ValueError):
        return {}
    numbers = {name: p.default for name, p in parameters.items()}
    return {
        OTHER_NAMES.get(name, name): x
        for name, x in numbers.items()
        if isinstance(x, int | float) and not isinstance(x, bool) and not name.endswith("axis")
    }


def _seen(one: Call, predictions: Any, labels: Any) -> tuple[float, np.ndarray] | None:
    """Value and gradient, unless the loss does not take this batch or they are not finite."""
    try:
        value, slopes = jax.jit(jax.value_and_grad(one))(predictions, labels)
    except Exception:  # whatever another's function raises on short arrays
        return None
    slope = np.concatenate([np.asarray(g, np.float64).ravel() for g in jax.tree.leaves(slopes)])
    return (float(value), slope) if np.isfinite(float(value)) and np.isfinite(slope).all() else None


def _agree(
    theirs: tuple[float, np.ndarray], ours: Counterpart, predictions: Any, labels: Any
) -> bool:
    """Whether values and gradients are equal, up to a factor as between a mean and a sum."""
    mean = float(_forms.total(ours.call(predictions, labels)))
    factor = _factor(theirs[0], mean, jax.tree.leaves(predictions)[0].shape)
    if factor is None:
        return False
    again = _seen(lambda z, y: _forms.total(ours.call(z, y)), predictions, labels)
    if again is None:
        return False
    apart = np.linalg.norm(theirs[1] - factor * again[1])
    return bool(apart <= TOLERANCE * np.linalg.norm(theirs[1]))


def _is_of_ranks(slope: np.ndarray) -> bool:
    """Whether logits may all move by the same, and nothing changes."""
    return bool(abs(slope.sum()) <= TOLERANCE * np.abs(slope).sum())


def _factor(theirs: float, ours: float, shape: tuple[int, ...]) -> int | None:
    """By which theirs is larger, if that is what a sum over some axes is over a mean."""
    ends = itertools.combinations(range(len(shape) + 1), 2)
    sums = {1, *(math.prod(shape[start:end]) for start, end in ends)}
    return next(
        (n for n in sums if ours and abs(theirs - n * ours) <= TOLERANCE * abs(theirs)), None
    )
