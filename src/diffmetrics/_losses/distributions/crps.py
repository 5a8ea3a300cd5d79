r"""CRPS (continuous ranked probability score): of a normal distribution, draws or a mixture.

It integrates the squared difference between the predicted distribution function and the step at the
target, in the units of the target. For a prediction without spread it is the absolute error. It is
a proper scoring rule, and an outlier costs its distance, not the square.

.. math::
   \mathrm{CRPS}(F, y) &= \int (F(t) - 1[t \ge y])^2 dt

   &= E|X - y| - \tfrac12 E|X - X'|
"""

from __future__ import annotations

import math
from typing import Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import doors, examples, numbers, slopes
from diffmetrics._core.calls import ElementOptions
from diffmetrics._core.predictions import (
    from_error,
    members,
    positive,
    prediction,
    require_members,
    shares,
    standardized,
)


def _density(z: jax.Array) -> jax.Array:
    """The density of the standard normal distribution."""
    return jnp.exp(-0.5 * z * z) * (1.0 / math.sqrt(2.0 * math.pi))


def _erf(z: jax.Array) -> jax.Array:
    """The probability of less than |z| standard deviations, with the sign of z."""
    return jax.lax.erf(z * math.sqrt(0.5))


@examples.per_element()
def crps_gaussian(
    mean: ArrayLike, scale: ArrayLike, target: ArrayLike, **_: Unpack[ElementOptions]
) -> jax.Array:
    r"""CRPS (continuous ranked probability score) of a normal distribution, for every target.

    Use it instead of `gaussian_nll` if a few points whose predicted deviation is far too small must
    not dominate, in training or in a report. Value and gradient are exact at every deviation; the
    gradient in the mean is at most 1, that in the deviation between -0.564 and 0.234.

    .. math::
       S &= \sigma \Big( z\, \mathrm{erf}\frac{z}{\sqrt2} + 2 \varphi(z) - \frac{1}{\sqrt\pi} \Big)

       z &= (y - \mu) / \sigma

    Args:
      mean: predicted mean ``[...]``.
      scale: predicted standard deviation, broadcasts to `mean`. At 0 or less the score is the
        absolute error.
      target: observation ``[...]``.

    Returns:
      Score ≥ 0 of each target ``[...]``, in its units.

    Example:
      >>> import diffmetrics as dm, jax, jax.numpy as jnp
      >>> scale = jnp.array([1.0, 1e-10, 0.0])
      >>> print(dm.crps_gaussian(jnp.zeros(3), scale, jnp.ones(3)).round(4))
      [0.6024 1.     1.    ]
      >>> print(jax.grad(dm.crps_gaussian, argnums=1)(0.0, 1e-10, 1.0).round(4))
      -0.5642

    References:
      Gneiting et al., Calibrated probabilistic forecasting using ensemble model output statistics
      and minimum CRPS estimation, Monthly Weather Review 133, 2005.
    """
    return _gaussian(*prediction(mean, scale, target)[:3])


def _value(e: jax.Array, s: jax.Array) -> jax.Array:
    z = standardized(e, s)
    spread = jnp.maximum(s, 0.0) * (2.0 * _density(z) - 1.0 / math.sqrt(math.pi))
    return numbers.capped(numbers.capped(jnp.abs(e)) * jnp.abs(_erf(z)) + spread)


def _in_error(e: jax.Array, s: jax.Array) -> jax.Array:
    return _erf(standardized(e, s))


def _in_scale(e: jax.Array, s: jax.Array) -> jax.Array:
    return 2.0 * _density(standardized(e, s)) - 1.0 / math.sqrt(math.pi)


_gaussian = from_error(_value, _in_error, _in_scale)


@examples.per_element("fair", vectors=0)
def crps_sample(
    samples: ArrayLike,
    target: ArrayLike,
    *,
    fair: bool = False,
    weights: ArrayLike | None = None,
    **_: Unpack[ElementOptions],
) -> jax.Array:
    r"""CRPS of draws from a distribution, such as an ensemble, for every target.

    Use it if there is no density, only draws: dropout masks, a generator, a weather ensemble. It
    sorts instead of comparing all pairs. To *train* on few draws pass ``fair=True``, whose mean
    does not depend on their number; otherwise the best distribution for five draws is too narrow.

    .. math:: \frac1n \sum_i |x_i - y| - \frac{1}{2 n m} \sum_{i,j} |x_i - x_j|

    where m = n, and m = n - 1 for a fair score.

    Args:
      samples: draws ``[n, ...]``, n ≥ 1; n ≥ 2 for a fair score.
      target: observation ``[...]``.
      fair: True estimates the score of the distribution behind the draws without bias, which may be
        negative; False scores the draws themselves. Static.
      weights: of the draws, ``[n]`` or ``[n, ...]``, ≥ 0, scaled to sum to 1. A draw of weight 0 is
        absent, whatever it holds. Weights w replace 1 / n, and 1 - Σ w² replaces (n - 1) / n.

    Returns:
      Score of each target ``[...]``, in its units. A draw that equals the target has no gradient
      towards it; the gradient separates equal draws in their order.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> x, y = jnp.array([[0.0], [1.0], [3.0]]), jnp.array([1.0])
      >>> print(dm.crps_sample(x, y).round(4), dm.crps_sample(x, y, fair=True).round(4))
      [0.3333] [0.]

    References:
      Gneiting and Raftery, Strictly proper scoring rules, prediction, and estimation, JASA 2007.
      Ferro, Fair scores for ensemble forecasts, QJRMS 140, 2014.
    """
    x, y = jnp.asarray(samples), jnp.asarray(target)
    require_members("samples", x)
    doors.require_shape("target", y, x.shape[1:], "samples[0]")
    n = x.shape[0]
    if fair and n < 2:
        raise ValueError(f"samples must have two or more draws for a fair score, got {n}.")
    # Relative to the target, because draws far from 0 have no digits left for their spread.
    x, y = numbers.floats(x, y)
    if weights is not None:
        return _weighted(x, y, jnp.broadcast_to(shares(weights, x), x.shape), fair)
    ordered = jnp.sort(numbers.held(x - y[None]), 0)
    rank = jnp.arange(n, dtype=ordered.dtype).reshape(-1, *[1] * y.ndim)
    pairs = (2.0 * rank - (n - 1)) / (n * ((n - 1) if fair else n))
    return numbers.held(jnp.sum((jnp.sign(ordered) / n - pairs) * ordered, 0))


def _weighted(x: jax.Array, y: jax.Array, w: jax.Array, fair: bool) -> jax.Array:
    """The score of draws with weights that sum to 1: each stands above those before it."""
    apart = numbers.held(jnp.where(w > 0.0, x - y[None], 0.0))
    ordered, w = jax.lax.sort((apart, w), dimension=0, num_keys=1)
    above = 2.0 * jnp.cumsum(w, 0) - w - 1.0
    rest = 1.0 - jnp.sum(w * w, 0, keepdims=True)
    pairs = numbers.divide(above, rest) if fair else above
    return numbers.held(jnp.sum(w * (jnp.sign(ordered) - pairs) * ordered, 0))


@examples.per_element(vectors=0)
def crps_mixture(
    means: ArrayLike,
    scales: ArrayLike,
    target: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    **_: Unpack[ElementOptions],
) -> jax.Array:
    r"""CRPS of a mixture of normal distributions, for every target.

    Use it for ensembles and draws of a network's weights that each predict a mean and a deviation:
    it is the exact score of their mixture. The work grows with the square of their number; beyond
    about a hundred, draw from them and use `crps_sample`.

    .. math::
       & \sum_i w_i A(y - \mu_i, \sigma_i) - \tfrac12 \sum_{i,j} w_i w_j A_{ij}

       & A_{ij} = A\Big(\mu_i - \mu_j, \sqrt{\sigma_i^2+\sigma_j^2}\Big)

       & A(m, s) = m\, \mathrm{erf} \frac{m}{s \sqrt2} + 2 s\, \varphi\Big(\frac{m}{s}\Big)

    A(m, s) is the mean absolute value of a normal variable with mean m and deviation s.

    Args:
      means: predicted means ``[K, ...]``.
      scales: predicted standard deviations, broadcast to `means`; 0 is a step.
      target: observation ``[...]``.
      weights: shares of the members, ≥ 0, ``[K]`` or the shape of `means`; divided by their sum.
        Default: equal.

    Returns:
      Score ≥ 0 of each target ``[...]``, in its units.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> means, scales = jnp.array([[0.0], [2.0]]), jnp.array([[1.0], [0.5]])
      >>> print(dm.crps_mixture(means, scales, jnp.array([1.0])).round(4))
      [0.3678]

    References:
      Grimit et al., The continuous ranked probability score for circular variables, QJRMS 2006.
    """
    m, s, y = members(means, scales, target)[:3]
    w = jnp.broadcast_to(shares(weights, m), m.shape)
    apart = _absolute(numbers.held(y[None] - m), s)
    between = _absolute(numbers.held(m[:, None] - m[None]), _hypot(s[:, None], s[None]))
    own = jnp.sum(w * jnp.sum(w[None] * between, 1), 0)
    return numbers.capped(jnp.sum(w * apart, 0) - 0.5 * own)


def _mean_absolute(m: jax.Array, s: jax.Array) -> jax.Array:
    z = standardized(m, s)
    return numbers.capped(jnp.abs(m) * jnp.abs(_erf(z)) + 2.0 * jnp.maximum(s, 0.0) * _density(z))


def _absolute_in_scale(m: jax.Array, s: jax.Array) -> jax.Array:
    return 2.0 * _density(standardized(m, s))


_absolute = slopes.with_slope(_mean_absolute, _in_error, _absolute_in_scale)


def _length(a: jax.Array, b: jax.Array) -> jax.Array:
    """√(a² + b²), without squares that overflow or vanish; `jnp.hypot` has no slope at 0."""
    a, b = jnp.maximum(a, 0.0), jnp.maximum(b, 0.0)
    long, short = positive(jnp.maximum(a, b)), jnp.minimum(a, b)
    return numbers.held(jnp.maximum(a, b) * jnp.sqrt(1.0 + (short / long) ** 2))


def _length_slope(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.maximum(a, 0.0) / positive(_length(a, b))


_hypot = slopes.with_slope(_length, _length_slope, lambda a, b: _length_slope(b, a))
