r"""The engine of set losses: any score of counts becomes a loss of logits.

A set loss reduces over `axis` and keeps the rest; it is *not* a mean of per-element losses, so the
mean of the losses of two halves is another quantity than the loss of the whole. Over microbatches
and devices, add the counts and divide once (docs/microbatches.md).

The options mean the same in every set loss, and all are keywords:

* `logits`: real scores ``[...]``, floating. float16 and bfloat16 are accumulated in float32.
* `labels`: the shape of `logits`; 0/1 as boolean or integer, or soft in [0, 1]. With an activation
  over classes also integer class ids of shape ``logits.shape[:-1]``; no one-hot array is made.
* `axis`: axes that are counted together; the loss has the shape of the others. Default: all.
  Static.
* `where`: boolean, broadcasts to `logits`; False leaves an element out, even a NaN.
* `weights`: factor per element, broadcasts to `logits`.
* `activation`: makes probabilities of logits: `jax.nn.sigmoid` (default), `jax.nn.softmax` over the
  last axis, the identity for probabilities, or any callable that keeps the shape. Static.
* `prior`: pseudo-counts, added once after summing. Without a positive label the overlap losses are
  the constant 1 with zero gradient; ``prior=Counts(tp=1.0)`` makes them teach emptiness.

With `jax.nn.softmax` say which axes to count: ``axis=(0, 1, 2)`` of ``[B, H, W, C]`` keeps one loss
per class, whose mean is the macro loss. Counting *all* axes pools the classes, and the pooled
Dice of a softmax is its mean true-class probability: soft accuracy, blind to imbalance.

Errors, at trace time: `TypeError` for integer logits or a `where` that is not boolean; `ValueError`
for labels of another shape (``(B,)`` against ``(B, 1)`` too) or class count, a `where` or
`weights` that does not broadcast, an axis out of range, an activation that changes the shape.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Any

import jax
from jax.typing import ArrayLike

from diffmetrics._core import doors
from diffmetrics._core.doors import Activation, Axis, SetOptions
from diffmetrics._metrics.counts import Counts, count


class Options(SetOptions, total=False):
    """The keywords that every overlap loss takes; docs/arguments.md explains them."""

    activation: Annotated[Activation, jax.nn.sigmoid]
    prior: Annotated[Counts, Counts()]


@functools.lru_cache(256)  # the same score is the same jitted loss: a call in a loop compiles once
def score_loss(score: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    r"""Turn any score of counts into a loss of logits: one minus the score of soft counts.

    Use it to train on the very metric you are judged by, your own included. The named
    overlap losses are its faces.

    .. math:: 1 - \mathrm{score}\big(\mathrm{counts}(\sigma(\text{logits}), \text{labels})
       + \text{prior}\big)

    Args:
      score: maps `Counts` (and keyword hyper-parameters) to an array of the counts' shape, larger
        is better. Define it once at module level: a new lambda is a new compilation.

    Returns:
      A loss ``f(logits, labels, *, axis, where, weights, activation, prior, **hyperparameters)``,
      as described at the top of this module; the hyper-parameters go to the score and are traced.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> def harmonic(c, miss=1.0):
      ...     return c.tp / (c.tp + c.fp + miss * c.fn)
      >>> loss = dm.score_loss(harmonic)
      >>> print(loss(jnp.array([2.0, -1.0, 0.5]), jnp.array([1, 0, 1]), miss=2.0))
      0.4565

    References:
      The idea, for F1: Pastor-Pellicer et al., F-measure as the error function to train neural
      networks, IWANN 2013. For Jaccard: Rahman and Wang, ISVC 2016. For any confusion-matrix
      score: Bénédict et al., sigmoidF1, 2021, arXiv:2108.10566.
    """

    @doors.compiled("axis", "activation")
    def loss(
        logits: ArrayLike,
        labels: ArrayLike,
        *,
        axis: Axis = None,
        where: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        activation: Activation = jax.nn.sigmoid,
        prior: Counts = Counts(),  # noqa: B008 - frozen
        **hyperparameters: Any,
    ) -> jax.Array:
        p, y, mask, w = doors.activate(logits, labels, where, weights, activation)
        soft = count(p, y, doors.normalize_axis(axis, p.ndim), mask, w)
        return 1.0 - score(soft + prior, **hyperparameters)

    return loss
