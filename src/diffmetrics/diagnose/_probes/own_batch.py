"""Probes of a loss on a batch of the user's, in its shapes and with its numbers.

They ask what the probes of made-up batches ask, but there is one batch, of whatever it holds, and
what is seen in it is all there is to say.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffmetrics.diagnose._forms import OWN
from diffmetrics.diagnose._inputs import one_sided
from diffmetrics.diagnose._probes import contracts
from diffmetrics.diagnose._probes._asked import Asked, look
from diffmetrics.diagnose._probes.own_inputs import inputs
from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, defect, note, ok
from diffmetrics.diagnose._subject import OwnBatch


def _first(batch: OwnBatch) -> jax.Array:
    """The first array of the predictions."""
    return jax.tree.leaves(batch.form.predictions())[0]


@probe("jit", (OWN,), rank=0)
def compiles(batch: OwnBatch) -> Finding | None:
    """Whether it can be compiled."""
    if batch.mode == "compiled":
        return None
    return contracts.not_compiled(type(batch.obstacle).__name__)


@probe("finite", (OWN,), rank=13)
def finite(batch: OwnBatch) -> Finding:
    """Whether value and gradient are finite."""
    value, slope = batch.seen.value, batch.seen.slope
    if batch.seen.finite:
        return ok(f"loss {value:.4g}, gradient finite")
    lost = int((~np.isfinite(slope)).sum())
    advice = "diagnose.loss tells from which logit on; clip the gradients' norm, not the logits"
    if not lost:
        advice = "no gradient flows through what is lost: look at labels, weights and constants"
    if inputs(batch):
        advice = "first put right what is said of the inputs"
    return defect(
        _what_is_lost(value, lost),
        f"loss {value:g}, {slope.size - lost} of {slope.size} entries of the gradient finite",
        advice,
    )


def _what_is_lost(value: float, lost: int) -> str:
    """Of a loss and of so many entries of its gradient that are not finite."""
    name = "NaN" if np.isnan(value) else "infinite"
    if not lost:
        return f"the loss is {name} on this batch, though its gradient is finite"
    if np.isfinite(value):
        return "the gradient is not finite on this batch, though the loss is"
    return f"the loss is {name} on this batch, and its gradient is not finite either"


@probe("shapes", (OWN,), rank=2)
def shapes(batch: OwnBatch) -> Finding | None:
    """Whether predictions of one shape met labels of another, all with all."""
    z, y = _first(batch), batch.form.targets()
    if batch.jaxpr is None:
        return None
    if z.shape == y.shape or z.size != y.size or z.size < 2:
        return ok(f"{z.shape} and {y.shape}")
    outer = [s for s in batch.shapes if len(s) >= 2 and int(np.prod(s)) > z.size]
    if not outer:
        return ok(f"{z.shape} and {y.shape}, brought together by the loss")
    return defect(
        f"predictions {z.shape} were broadcast against labels {y.shape} to {outer[0]}: every "
        "prediction meets every label",
        f"{z.size} predictions, an array of shape {outer[0]} inside the loss",
        "give both the same shape: labels.reshape(logits.shape)",
    )


@probe("labels", (OWN,), rank=1)
def labels(batch: OwnBatch) -> Finding | None:
    """Whether it matters whose label is whose."""
    y = np.asarray(batch.form.targets())
    if y.size < 2 or np.ptp(y.astype(np.float64)) == 0:
        shown = ", ".join(f"{label:g}" for label in y.ravel()[:1].astype(np.float64))
        return note("all labels are the same", f"{y.size} of {shown}", "look at another batch")
    z = batch.form.predictions()
    value, other = _shuffling(batch, z, y)
    moved = abs(other - value) / max(abs(value), abs(other), 1e-30)
    if moved > 1e-5 or np.ptp(np.asarray(_first(batch), np.float64)) == 0:
        return ok(f"{contracts.MOVED} {moved:.2g} of itself {contracts.AT_LEAST}")
    if not np.isfinite(other) or not (batch.seen.slope.any() or one_sided(y)):
        return None  # of a loss without a gradient `alive` tells
    here, there = _shuffling(batch, _among(z, y), y) if isinstance(z, jax.Array) else (0.0, 0.0)
    if abs(here - there) > 1e-5 * abs(here):
        return ok("shuffling the labels moves the loss where predictions lie among them")
    aligned = y.shape == _first(batch).shape
    return _blind(y, f"{value:.6g}, with shuffled labels {other:.6g}", aligned)


def _shuffling(batch: OwnBatch, predictions: Any, y: np.ndarray) -> tuple[float, float]:
    """The loss, and the loss of the same labels in the order that moves it most."""
    value = look(batch, predictions, batch.form.targets()).value
    others = [look(batch, predictions, jnp.asarray(other)).value for other in _shuffled(y)]
    return value, max(others, key=lambda other: abs(other - value))


def _among(predictions: jax.Array, y: np.ndarray) -> jax.Array:
    """Predictions of the location and scale of the labels.

    An absolute error of predictions that all lie below their targets is the same in any order.
    """
    z, y = np.asarray(predictions, np.float64), y.astype(np.float64)
    return jnp.asarray((z - z.mean()) / z.std() * y.std() + y.mean(), predictions.dtype)


def _shuffled(y: np.ndarray) -> Iterator[np.ndarray]:
    """The same labels in other orders, of which one may happen to be the order that they have."""
    flat = y.ravel()
    for other in (np.random.default_rng(0).permutation(flat), flat[::-1], np.roll(flat, 1)):
        yield other.reshape(y.shape)


def _blind(y: np.ndarray, evidence: str, aligned: bool) -> Finding:
    alike = one_sided(y)
    if alike is not None:
        return defect(f"{alike.what}, and {alike.why}", evidence, alike.advice)
    means = "look for means over the batch before the labels come in"
    advice = means if aligned else f"look for (B,) against (B, 1); or {means}"
    return defect(contracts.BLIND + contracts.SHARE, evidence, advice)


class Decided(NamedTuple):
    """Of every decision in a batch: its gradient, whether it is positive, and whether wrong."""

    slope: np.ndarray
    positive: np.ndarray
    wrong: np.ndarray


def decided(batch: OwnBatch) -> Decided | None:
    """The decisions, if that is what predictions and labels are, and there is any gradient."""
    z, y = (np.asarray(a) for a in (_first(batch), batch.form.targets()))
    slope, *others = batch.seen.slopes
    if others or y.shape != z.shape or not np.isin(y, (0, 1)).all() or not slope.any():
        return None
    if (z >= 0).all() and (z > 1).any():
        return None  # neither probabilities nor logits, but distances
    higher = look(batch, _first(batch) + 1, batch.form.targets()).value
    if abs(higher - batch.seen.value) <= 1e-5 * abs(higher):
        return None  # only differences count, as of a ranking or of classes: 0 is no threshold
    between = ((z >= 0) & (z <= 1)).all() and not _takes_logits(batch)
    middle = 0.5 if between else 0.0  # of probabilities, and of logits
    return Decided(slope, y == 1, (z > middle) != (y == 1))


def _takes_logits(batch: OwnBatch) -> bool:
    """Whether the loss is next to nothing of logits that are right, and learns from wrong ones."""
    asked = Asked.of(batch)
    return asked is not None and asked.as_logits.meant and asked.as_logits.alive


@probe("alive", (OWN,), rank=12)
def alive(batch: OwnBatch) -> Finding | None:
    """Whether predictions that are wrong get a gradient."""
    some, why = decided(batch), "diagnose.loss tells why"
    if not batch.seen.slope.any():
        return _dead(batch)
    if some is None:
        return None
    dead, number = some.wrong & (some.slope == 0), some.wrong.sum()
    if dead.sum() <= 0.01 * max(number, 1):
        return ok(f"all {number} wrong predictions get a gradient")
    if _takes_signs(batch, some):
        return defect(
            "no negative gets a gradient: labels are 0 and 1, and the loss takes -1 and +1",
            f"{dead.sum()} of {number} wrong ones get none; with labels of -1 and +1 all do",
            "2 * labels - 1",
        )
    of_positives, of_negatives = (
        dead[of].mean() if of.any() else 0.0 for of in (some.positive, ~some.positive)
    )
    return defect(
        "predictions that are wrong get no gradient",
        f"{dead.sum()} of {number} wrong ones; {of_positives:.1%} of the positives, "
        f"{of_negatives:.1%} of the negatives",
        why,
    )


def _dead(batch: OwnBatch) -> Finding:
    """Nothing gets a gradient."""
    z, cause, here = _first(batch), "no prediction gets a gradient", batch.seen.value
    others = [look(batch, other, batch.form.targets()) for other in (0 * z, -z, 3 * z + 1)]
    if here == 0 and any(np.isfinite(other.slope).all() and other.slope.any() for other in others):
        return note(
            "nothing is left to learn on this batch: the loss is 0, and so is its gradient",
            "other predictions of it have a gradient",
            "a hinge or a triplet that is met has none; look at a batch that is not learnt yet",
        )
    if np.ptp([here, *(other.value for other in others)]) != 0:  # or NaN, of a tree
        return defect(cause, "gradient 0 everywhere", "diagnose.loss tells why")
    evidence = "gradient 0 everywhere, and the loss is the same for other predictions"
    if z.ndim > 1 and z.shape[-1] == 1:
        advice = "a softmax over it? of one output it is always 1: take a sigmoid, or two outputs"
        return defect(cause, f"{evidence}; predictions have a last axis of 1", advice)
    return defect(
        cause, evidence, "look where the predictions are lost: stop_gradient, a mask of 0"
    )


def _takes_signs(batch: OwnBatch, some: Decided) -> bool:
    """Whether 0 means nothing to the loss, as to a hinge, and -1 would mean no."""
    y = batch.form.targets()
    if y.dtype == bool or some.slope[~some.positive].any():
        return False
    signed = look(batch, _first(batch), 2 * y - 1).slopes[0]
    return bool(np.isfinite(signed).all() and signed[some.wrong].all())


@probe("direction", (OWN,), rank=6)
def direction(batch: OwnBatch) -> Finding | None:
    """Whether wrong predictions are pulled to their own side."""
    some = decided(batch)
    if some is None:
        return None
    rising = some.slope * np.where(some.positive, 1, -1)
    astray = (rising > 1e-6 * np.abs(rising).max()) & some.wrong
    if not astray.any():
        return None
    return defect(
        "wrong predictions are pulled further to the wrong side",
        f"{astray.sum()} of {some.wrong.sum()} wrong ones",
        "check the sign of the loss, and which class is called 1",
    )
