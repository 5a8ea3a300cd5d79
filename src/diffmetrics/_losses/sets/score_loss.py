"""Your own score as a loss: the engine of the overlap losses."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Any, Protocol

import jax
from jax.typing import ArrayLike

from diffmetrics._core import calls, doors, set_doors
from diffmetrics._core.calls import Axis, SetOptions
from diffmetrics._core.set_doors import Activation
from diffmetrics._metrics.counts import Counts, count, require_score


class Options(SetOptions, total=False):
    """The keywords that every overlap loss takes; docs/arguments.md explains them."""

    activation: Annotated[Activation, jax.nn.sigmoid]
    prior: Annotated[Counts, Counts()]
    class_axis: Annotated[int, -1]


class ScoreLoss(Protocol):
    """The signature of a loss that `score_loss` returns, for editors and type checkers."""

    def __call__(
        self,
        logits: ArrayLike,
        labels: ArrayLike,
        *,
        axis: Axis = None,
        where: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        activation: Activation = ...,
        prior: Counts = ...,
        class_axis: int = -1,
        **hyperparameters: Any,
    ) -> jax.Array:
        """The loss."""
        ...


def score_loss(score: Callable[..., ArrayLike]) -> ScoreLoss:
    r"""Turn any score of counts into a loss of logits: one minus the score of soft counts.

    Use it to train on the metric you are judged by, your own included. The overlap losses are made
    with it. A loss of counts is not a proper scoring rule: see docs/choosing.md.

    .. math::
       \text{soft} &= \mathrm{counts}(\sigma(\text{logits}), \text{labels})

       L &= 1 - \mathrm{score}(\text{soft} + \text{prior})

    Args:
      score: maps `Counts` (and keyword hyper-parameters) to an array of the counts' shape; larger
        is better. Define it once at module level, because every new lambda compiles again.

    Returns:
      A loss ``f(logits, labels, *, axis, where, weights, activation, prior, class_axis,
      **hyperparameters)``: see docs/arguments.md. The hyper-parameters go to the score.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> def harmonic(c, miss=1.0):
      ...     return c.tp / (c.tp + c.fp + miss * c.fn)
      >>> loss = dm.score_loss(harmonic)
      >>> print(loss(jnp.array([2.0, -1.0, 0.5]), jnp.array([1, 0, 1]), miss=2.0))
      0.4565

    References:
      F1: Pastor-Pellicer et al., IWANN 2013. Jaccard: Rahman and Wang, ISVC 2016. Any score of a
      confusion matrix: Bénédict et al., sigmoidF1, 2021, arXiv:2108.10566.
    """
    require_score(score)
    return _loss_of(score)


@functools.lru_cache(256)  # the same score is the same jitted loss: a call in a loop compiles once
def _loss_of(score: Callable[..., ArrayLike]) -> ScoreLoss:
    def loss(
        logits: ArrayLike,
        labels: ArrayLike,
        *,
        axis: Axis = None,
        where: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        activation: Activation = jax.nn.sigmoid,
        prior: Counts = Counts(),  # noqa: B008 - frozen
        class_axis: int = -1,
        **hyperparameters: Any,
    ) -> jax.Array:
        p, y, mask, w = set_doors.activate(logits, labels, where, weights, activation, class_axis)
        axes = doors.normalize_axis(axis, p.ndim)
        set_doors.require_effect(w, p.shape, axes)
        soft = count(p, y, axes, mask, w)
        value: Any = score(soft + prior, **hyperparameters)
        return 1.0 - value

    loss.__name__ = f"score_loss({getattr(score, '__name__', 'score')})"  # for its errors
    return calls.compiled("axis", "activation", "class_axis")(loss)
