"""Probes of a loss on a batch of the user's, in its shapes and with its numbers.

They ask what the probes of made-up batches ask, but there is one batch, of whatever it holds, and
what is seen in it is all there is to say.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffmetrics.diagnose._forms import OWN
from diffmetrics.diagnose._probes import contracts
from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, defect, note, ok
from diffmetrics.diagnose._subject import OwnBatch, Seen


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
    return defect(
        "value or gradient are not finite on this batch",
        f"loss {value:g}, {(~np.isfinite(slope)).sum()} of {slope.size} entries of the gradient "
        "not finite",
        "diagnose.loss tells from which logit on; clip the gradients' norm, not the logits",
    )


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
def labels(batch: OwnBatch) -> Finding:
    """Whether it matters whose label is whose."""
    y = np.asarray(batch.form.targets())
    if y.size < 2 or np.ptp(y.astype(np.float64)) == 0:
        return note("all labels are the same", f"{y.ravel()[:1]}", "look at another batch")
    shuffled = np.random.default_rng(0).permutation(y.ravel()).reshape(y.shape)
    other = batch.look(batch.form.predictions(), jnp.asarray(shuffled)).value
    value = batch.seen.value
    moved = abs(other - value) / max(abs(value), 1e-30)
    if moved > 1e-5 or np.ptp(np.asarray(_first(batch), np.float64)) == 0:
        return ok(f"shuffling the labels moves the loss by {moved:.2g} of itself")
    return defect(
        contracts.BLIND + contracts.SHARE,
        f"{value:.6g}, with shuffled labels {other:.6g}",
        "look for (B,) against (B, 1), and for means over the batch before the labels come in",
    )


@probe("decomposable", (OWN,), rank=17)
def decomposable(batch: OwnBatch) -> Finding | None:
    """Whether the loss is the mean over the two halves of the batch."""
    z, y, whole = batch.form.predictions(), batch.form.targets(), batch.seen
    n = (*_first(batch).shape, 0)[0]
    if n < 2 or n % 2 or y.shape[:1] != (n,):
        return None
    ends = slice(0, n // 2), slice(n // 2, n)
    halves = [batch.look(jax.tree.map(lambda a, e=end: a[e], z), y[end]) for end in ends]
    both = zip(*(half.slopes for half in halves), strict=True)
    mean = Seen((halves[0].value + halves[1].value) / 2, [np.concatenate(two) / 2 for two in both])
    off = np.linalg.norm(whole.slope - mean.slope) / max(float(np.linalg.norm(whole.slope)), 1e-30)
    of_the_whole = contracts.not_a_mean(whole.value, mean.value, float(off))
    return of_the_whole or ok("its loss is the mean over its halves")


class Decided(NamedTuple):
    """Of every decision in a batch: its gradient, whether it is positive, and whether wrong."""

    slope: np.ndarray
    positive: np.ndarray
    wrong: np.ndarray


def _decided(batch: OwnBatch) -> Decided | None:
    """The decisions, if that is what predictions and labels are, and there is any gradient."""
    z, y = (np.asarray(a) for a in (_first(batch), batch.form.targets()))
    slope, *others = batch.seen.slopes
    if others or y.shape != z.shape or not np.isin(y, (0, 1)).all() or not slope.any():
        return None
    return Decided(slope, y == 1, (z > 0) != (y == 1))


@probe("alive", (OWN,), rank=12)
def alive(batch: OwnBatch) -> Finding | None:
    """Whether predictions that are wrong get a gradient."""
    decided, why = _decided(batch), "diagnose.loss tells why"
    if not batch.seen.slope.any():
        return defect("no prediction gets a gradient", "gradient 0 everywhere", why)
    if decided is None:
        return None
    dead, number = decided.wrong & (decided.slope == 0), decided.wrong.sum()
    if dead.sum() <= 0.01 * max(number, 1):
        return ok(f"all {number} wrong predictions get a gradient")
    of_positives, of_negatives = (
        dead[some].mean() if some.any() else 0.0 for some in (decided.positive, ~decided.positive)
    )
    return defect(
        "predictions that are wrong get no gradient",
        f"{dead.sum()} of {number} wrong ones; {of_positives:.1%} of the positives, "
        f"{of_negatives:.1%} of the negatives",
        why,
    )


@probe("direction", (OWN,), rank=6)
def direction(batch: OwnBatch) -> Finding | None:
    """Whether wrong predictions are pulled to their own side."""
    decided = _decided(batch)
    if decided is None:
        return None
    rising = decided.slope * np.where(decided.positive, 1, -1)
    astray = (rising > 1e-6 * np.abs(rising).max()) & decided.wrong
    if not astray.any():
        return None
    return defect(
        "wrong predictions are pulled further to the wrong side",
        f"{astray.sum()} of {decided.wrong.sum()} wrong ones",
        "check the sign of the loss, and which class is called 1",
    )


@probe("weights", (OWN,), rank=9)
def weights(batch: OwnBatch) -> Finding | None:
    """How much of the gradient the positives hold."""
    decided = _decided(batch)
    if decided is None or decided.positive.all() or not decided.positive.any():
        return None
    size, of = np.abs(decided.slope), decided.positive.mean()
    share = size[decided.positive].sum() / size.sum()
    return ok(f"positives are {of:.2%} of the batch and hold {share:.1%} of the gradient")
