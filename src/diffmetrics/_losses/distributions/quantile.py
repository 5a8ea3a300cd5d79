"""Quantiles and intervals: losses that need no distribution."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import doors, examples, numbers, slopes
from diffmetrics._core.calls import ElementOptions
from diffmetrics._core.predictions import located


@examples.per_element()
def pinball_loss(
    quantile: ArrayLike, target: ArrayLike, *, level: ArrayLike, **_: Unpack[ElementOptions]
) -> jax.Array:
    r"""Pinball loss (quantile loss): on average it is least at a quantile of the target.

    Use it for intervals without a distribution: outputs of level 0.05 and 0.95 are a 90 % interval.
    Train several levels on the mean of their losses. They cannot cross if the head returns
    ``lowest + jnp.cumsum(jax.nn.softplus(raw), -1)``. The CRPS is twice the integral over levels.

    .. math:: \max\big(\tau (y - q),\; (\tau - 1) (y - q)\big)

    Args:
      quantile: prediction ``[...]``.
      target: observation ``[...]``. Where it equals `quantile` the gradient is 0.
      level: τ in (0, 1), the probability that the target is below `quantile`.

    Returns:
      Loss ≥ 0 of each target ``[...]``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(dm.pinball_loss(jnp.array([1.0, 3.0]), jnp.array([2.0, 2.0]), level=0.75))
      [0.75 0.25]
      >>> q, levels = jnp.array([[1.0, 1.5, 4.0]]), jnp.array([0.25, 0.5, 0.75])
      >>> y = jnp.array([2.0])
      >>> print(dm.pinball_loss(q, jnp.broadcast_to(y[:, None], q.shape), level=levels))
      [[0.25 0.25 0.5 ]]

    References:
      Koenker and Bassett, Regression quantiles, Econometrica 46, 1978.
    """
    q, y = located("quantile", quantile, target)
    tau = doors.parameter("level", level, q, "quantile")
    return _pinball(q, y, tau)


def _pinball_value(q: jax.Array, y: jax.Array, tau: jax.Array) -> jax.Array:
    # Not a `where` in front of a sum: see `slopes`.
    return numbers.capped(jnp.maximum(tau * (y - q), (tau - 1.0) * (y - q)))


def _pinball_in_target(q: jax.Array, y: jax.Array, tau: jax.Array) -> jax.Array:
    return jnp.where(y > q, tau, jnp.where(y < q, tau - 1.0, 0.0))


def _pinball_in_quantile(q: jax.Array, y: jax.Array, tau: jax.Array) -> jax.Array:
    return -_pinball_in_target(q, y, tau)


_pinball = slopes.with_slope(_pinball_value, _pinball_in_quantile, _pinball_in_target)


@examples.per_element()
def interval_score(
    lower: ArrayLike,
    upper: ArrayLike,
    target: ArrayLike,
    *,
    coverage: ArrayLike,
    **_: Unpack[ElementOptions],
) -> jax.Array:
    r"""Interval score (Winkler score): width of an interval plus a penalty for a target outside.

    Use it to compare intervals of the same nominal coverage from any source, or to train their
    ends. Smaller is better: on average it is least at the central interval. It penalises both width
    and missed targets, so neither coverage nor width has to be judged alone. It is 2 / (1 - c)
    times the sum of the `pinball_loss` of both ends.

    .. math:: u - l + \frac{2}{1 - c} \big((l - y)_+ + (y - u)_+\big)

    Args:
      lower: lower end ``[...]``.
      upper: upper end ``[...]``. One below `lower` is penalised, not an error.
      target: observation ``[...]``.
      coverage: probability c in (0, 1) with which the interval should contain the target.

    Returns:
      Score of each target ``[...]``, in its units, ≥ 0 if the ends are in order.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> y = jnp.array([0.0, 1.5])
      >>> print(dm.interval_score(-jnp.ones(2), jnp.ones(2), y, coverage=0.9).round(4))
      [ 2. 12.]

    References:
      Winkler, A decision-theoretic approach to interval estimation, JASA 1972; Gneiting and
      Raftery, Strictly proper scoring rules, prediction, and estimation, JASA 2007.
    """
    low, y = located("lower", lower, target)
    low, high, y = numbers.floats(low, located("upper", upper, target)[0], y)
    c = doors.parameter("coverage", coverage, low, "lower")
    # 1 - c is a multiple of the resolution, or 0.
    fine = 2.0 / jnp.maximum(1.0 - c, jnp.finfo(c.dtype).eps)
    missed = slopes.hinge(low - y) + slopes.hinge(y - high)
    return numbers.held(numbers.held(high - low) + numbers.capped(fine * missed))
