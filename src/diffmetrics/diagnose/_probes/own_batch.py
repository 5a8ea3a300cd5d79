"""Probes of a loss on a batch of the user's, in its shapes and with its numbers.

They ask what the probes of made-up batches ask, but there is one batch, of whatever it holds, and
what was seen in it is all there is to say.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffmetrics.diagnose._forms import OWN
from diffmetrics.diagnose._probes.contracts import (
    BLIND,
    intermediate_shapes,
    not_compiled,
    of_the_whole,
)  # fmt: skip
from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, defect, note, ok
from diffmetrics.diagnose._subject import OwnBatch


class Seen(NamedTuple):
    """Value of a batch, and its gradient in every array of the predictions."""

    value: float
    slopes: list[np.ndarray]

    @property
    def finite(self) -> bool:
        """Whether all of it is."""
        return bool(np.isfinite([self.value, self.size]).all())

    @property
    def size(self) -> float:
        """Norm of the gradient."""
        return sum(float((s**2).sum()) for s in self.slopes) ** 0.5


def _look(batch: OwnBatch, z: Any, y: Any) -> Seen:
    value, gradient = batch.program(z, y)
    return Seen(float(value), [np.asarray(g, np.float64) for g in jax.tree.leaves(gradient)])


@functools.lru_cache(4)
def seen(batch: OwnBatch) -> Seen:
    """What the batch itself shows."""
    return _look(batch, *_arrays(batch))


def _arrays(batch: OwnBatch) -> tuple[Any, Any]:
    return batch.form.predictions(), batch.form.targets()


def _first(batch: OwnBatch) -> jax.Array:
    """The first array of the predictions."""
    return jax.tree.leaves(batch.form.predictions())[0]


@probe("jit", (OWN,), rank=0)
def compiles(batch: OwnBatch) -> Iterator[Finding]:
    """Whether it can be compiled."""
    if batch.mode == "eager":
        yield not_compiled(type(batch.obstacle).__name__)


@probe("finite", (OWN,), rank=13)
def finite(batch: OwnBatch) -> Iterator[Finding]:
    """Whether value and gradient are finite."""
    value, slopes = seen(batch)
    slope = np.concatenate([s.ravel() for s in slopes])
    bad = int((~np.isfinite(slope)).sum())
    if np.isfinite(value) and not bad:
        yield ok(f"loss {value:.4g}, gradient finite")
    else:
        yield defect(
            "value or gradient are not finite on this batch",
            f"loss {value:g}, {bad} of {slope.size} entries of the gradient not finite",
            "diagnose.loss tells from which logit on; clip the gradients' norm, not the logits",
        )


@probe("shapes", (OWN,), rank=2)
def shapes(batch: OwnBatch) -> Iterator[Finding]:
    """Whether predictions of one shape met labels of another, all with all."""
    z, y = _first(batch), batch.form.targets()
    if batch.jaxpr is None:
        return
    if z.shape == y.shape or z.size != y.size or z.size < 2:
        yield ok(f"{z.shape} and {y.shape}")
        return
    inside = intermediate_shapes(batch.jaxpr.jaxpr)
    outer = [s for s in inside if len(s) >= 2 and int(np.prod(s)) > z.size]
    if not outer:
        yield ok(f"{z.shape} and {y.shape}, brought together by the loss")
        return
    yield defect(
        f"predictions {z.shape} were broadcast against labels {y.shape} to {outer[0]}: every "
        "prediction meets every label",
        f"{z.size} predictions, an array of shape {outer[0]} inside the loss",
        "give both the same shape: labels.reshape(logits.shape)",
    )


@probe("labels", (OWN,), rank=1)
def labels(batch: OwnBatch) -> Iterator[Finding]:
    """Whether it matters whose label is whose."""
    z, y = _arrays(batch)
    flat = np.asarray(y).ravel()
    if flat.size < 2 or np.ptp(flat.astype(np.float64)) == 0:
        yield note("all labels are the same", f"{flat[:1]}", "look at another batch")
        return
    shuffled = np.random.default_rng(0).permutation(flat).reshape(y.shape)
    value, other = seen(batch).value, _look(batch, z, jnp.asarray(shuffled)).value
    moved = abs(other - value) / max(abs(value), 1e-30)
    if moved > 1e-5 or np.ptp(np.asarray(_first(batch), np.float64)) == 0:
        yield ok(f"shuffling the labels moves the loss by {moved:.2g} of itself")
    else:
        yield defect(
            BLIND,
            f"{value:.6g}, with shuffled labels {other:.6g}",
            "look for (B,) against (B, 1), and for means over the batch before the labels come in",
        )


@probe("decomposable", (OWN,), rank=16)
def decomposable(batch: OwnBatch) -> Iterator[Finding]:
    """Whether the loss is the mean over the two halves of the batch."""
    z, y = _arrays(batch)
    n = (_first(batch).shape or (0,))[0]
    if n < 2 or n % 2 or y.shape[:1] != (n,):
        return
    whole = seen(batch)
    ends = slice(0, n // 2), slice(n // 2, n)
    halves = [_look(batch, jax.tree.map(lambda a, e=end: a[e], z), y[end]) for end in ends]
    slopes = [
        np.concatenate(two) / 2 for two in zip(*(half.slopes for half in halves), strict=True)
    ]
    mean = Seen(
        sum(half.value for half in halves) / 2,
        [a - b for a, b in zip(whole.slopes, slopes, strict=True)],
    )
    off = mean.size / max(whole.size, 1e-30)
    if off < 1e-3 and abs(mean.value - whole.value) <= 1e-4 * (abs(whole.value) + 1e-3):
        yield ok("its loss is the mean over its halves")
    else:
        yield of_the_whole(whole.value, mean.value, f"{off:.0%}")


# --- who gets the gradient, and who should --------------------------------------------------------


class Decided(NamedTuple):
    """Of every decision in a batch: its gradient, whether it is positive, and whether wrong."""

    slope: np.ndarray
    positive: np.ndarray
    wrong: np.ndarray


def _decided(batch: OwnBatch) -> Decided | None:
    """The decisions, if that is what predictions and labels are, and there is any gradient."""
    z, y, slopes = np.asarray(_first(batch), np.float64), batch.form.targets(), seen(batch).slopes
    zeros_and_ones = bool(((y == 0) | (y == 1)).all())
    if y.shape != z.shape or len(slopes) > 1 or not zeros_and_ones or not slopes[0].any():
        return None
    positive = np.asarray(y) == 1
    return Decided(slopes[0], positive, (z > 0) != positive)


@probe("alive", (OWN,), rank=12)
def alive(batch: OwnBatch) -> Iterator[Finding]:
    """Whether predictions that are wrong get a gradient."""
    if not seen(batch).size:
        yield defect(
            "no prediction gets a gradient", "gradient 0 everywhere", "diagnose.loss tells why"
        )
    decided = _decided(batch)
    if decided is None:
        return
    slope, positive, wrong = decided
    dead = wrong & (slope == 0)
    if dead.sum() <= 0.01 * max(wrong.sum(), 1):
        yield ok(f"all {wrong.sum()} wrong predictions get a gradient")
        return
    shares = {"positives": dead[positive], "negatives": dead[~positive]}
    yield defect(
        "predictions that are wrong get no gradient",
        f"{dead.sum()} of {wrong.sum()} wrong ones; "
        + ", ".join(f"{s.mean() if s.size else 0:.1%} of the {who}" for who, s in shares.items()),
        "diagnose.loss tells why",
    )


@probe("direction", (OWN,), rank=6)
def direction(batch: OwnBatch) -> Iterator[Finding]:
    """Whether wrong predictions are pulled to their own side."""
    decided = _decided(batch)
    if decided is None:
        return
    slope, positive, wrong = decided
    astray = (slope * np.where(positive, 1, -1) > 1e-6 * np.abs(slope).max()) & wrong
    if astray.any():
        yield defect(
            "wrong predictions are pulled further to the wrong side",
            f"{astray.sum()} of {wrong.sum()} wrong ones",
            "check the sign of the loss, and which class is called 1",
        )


@probe("weights", (OWN,), rank=9)
def weights(batch: OwnBatch) -> Iterator[Finding]:
    """How much of the gradient the positives hold."""
    decided = _decided(batch)
    if decided is None or decided.positive.all() or not decided.positive.any():
        return
    size, positive = np.abs(decided.slope), decided.positive
    share = size[positive].sum() / size.sum()
    yield ok(
        f"positives are {positive.mean():.2%} of the batch and hold {share:.1%} of the gradient"
    )
