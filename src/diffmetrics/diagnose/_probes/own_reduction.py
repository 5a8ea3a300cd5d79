"""What becomes of the loss of a batch of the user's that is halved, or given twice over."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffmetrics.diagnose._forms import OWN
from diffmetrics.diagnose._probes import contracts
from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, note, ok
from diffmetrics.diagnose._subject import OwnBatch, Seen


def is_scalar(batch: OwnBatch) -> bool:
    """Whether the loss returns one number, and not one for each example."""
    return batch.jaxpr is not None and batch.output_shape == ()


class Halves(NamedTuple):
    """The loss of the first half of a batch, of the second, and of the first one twice over."""

    first: Seen
    second: Seen
    twice: Seen


def halves(batch: OwnBatch) -> Halves | None:
    """None if there are no two, or the loss takes no batch of another size; an odd one is left."""
    z, y, n = batch.form.predictions(), batch.form.targets(), _examples(batch)
    if n < 2:
        return None
    half = n // 2
    one, two = (jax.tree.map(lambda a, i=start: a[i : i + half], (z, y)) for start in (0, half))
    twice = jax.tree.map(lambda a: jnp.concatenate([a, a]), one)
    try:
        return Halves(batch.look(*one), batch.look(*two), batch.look(*twice))
    except Exception:  # whatever a user's function may raise of a size that it does not know
        return None


def _examples(batch: OwnBatch) -> int:
    """How many, if all arrays have as many on their first axis, or else 0."""
    numbers = {
        a.shape[:1] for a in jax.tree.leaves((batch.form.predictions(), batch.form.targets()))
    }
    return 0 if len(numbers) > 1 else sum(numbers.pop())


def summed(batch: OwnBatch) -> bool:
    """Whether twice the batch has twice the loss, or four times as a sum of pairs has."""
    return _times(batch) is not None


def _times(batch: OwnBatch) -> int | None:
    each = halves(batch)
    if each is None or each.first.value == 0 or not is_scalar(batch):
        return None
    times = each.twice.value / each.first.value
    return next((k for k in (2, 4) if abs(times - k) < 1e-3 * k), None)


@probe("decomposable", (OWN,), rank=17)
def decomposable(batch: OwnBatch) -> Finding | None:
    """Whether the loss is the mean over the two halves of the batch."""
    each, whole = halves(batch), batch.seen
    if each is None or _examples(batch) % 2:
        return None
    times = 2 if _times(batch) == 2 else 1  # a sum is no mean, but the sum of its halves
    slopes = zip(each.first.slopes, each.second.slopes, strict=True)
    mean = np.concatenate([np.concatenate(two).ravel() for two in slopes]) / 2
    value = (each.first.value + each.second.value) / 2
    norm = max(float(np.linalg.norm(whole.slope)), 1e-30)
    off = float(np.linalg.norm(whole.slope - times * mean)) / norm
    rounding = max(float(jnp.finfo(a.dtype).eps) for a in jax.tree.leaves(batch.form.predictions()))
    of_the_whole = contracts.not_a_mean(whole.value, times * value, off)
    if abs(whole.value - times * value) <= rounding * abs(value) and off <= rounding:
        of_the_whole = None  # the loss of bfloat16 may be rounded to it
    return of_the_whole or ok(f"its loss is the {'mean' if times == 1 else 'sum'} over its halves")


@probe("reduction", (OWN,), rank=17.5)
def reduction(batch: OwnBatch) -> Finding | None:
    """Whether the loss grows with the number of examples."""
    each, times = halves(batch), _times(batch)
    if each is None or times is None:
        return None
    over = "the examples" if times == 2 else "all pairs of examples"
    return note(
        f"the loss is a sum over {over}, and no mean: it and its gradient grow with the batch, and "
        "a learning rate that suits one size of batch does not suit another",
        f"{each.first.value:.4g} for half of the batch, {each.twice.value:.4g} for it twice over",
        f"divide by the number of {'examples' if times == 2 else 'pairs'}; or scale the learning "
        "rate of SGD, and a clip of the gradient's norm, with it",
    )
