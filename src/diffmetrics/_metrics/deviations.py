"""Whether predicted deviations are right on average: coverage, calibration, sharpness.

The metrics reduce over `axis`, by default all; ``axis=0`` of ``[n, D]`` judges every output by
itself. A metric of a finite test set is never perfect: `attainable` says what it would be if the
deviations were right.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import doors, numbers
from diffmetrics._core.doors import Axis
from diffmetrics._core.order import sort_by
from diffmetrics._core.predictions import errors, positive, prediction


@doors.compiled()
def normal_interval(
    mean: ArrayLike, scale: ArrayLike, *, coverage: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    r"""The central interval of a normal distribution that holds a given probability.

    Use it for the error bars of a plot, and for `interval_coverage` and `interval_score`.

    .. math:: \mu \pm \sigma\, \Phi^{-1}\big(\tfrac{1 + c}{2}\big)

    Args:
      mean: ``[...]``.
      scale: standard deviation; broadcasts to `mean`.
      coverage: probability in (0, 1). Broadcasts to `mean`. Traced.

    Returns:
      Lower and upper end ``[...]``.

    Example:
      >>> import diffmetrics as dm
      >>> lower, upper = dm.normal_interval(1.0, 2.0, coverage=0.95)
      >>> print(lower.round(2), upper.round(2))
      -2.92 4.92
    """
    m = jnp.asarray(mean)
    s = numbers.as_float(prediction(mean, scale, m).scale)
    c = doors.parameter("coverage", coverage, m.shape, "mean")
    reach = s * (math.sqrt(2.0) * jax.lax.erf_inv(c))
    return numbers.as_float(m) - reach, numbers.as_float(m) + reach


@doors.compiled("axis")
def interval_coverage(
    lower: ArrayLike, upper: ArrayLike, target: ArrayLike, *, axis: Axis = None
) -> tuple[jax.Array, jax.Array]:
    r"""Share of the targets that lie in their interval, and the mean width of the intervals.

    Use it for any interval: that of a distribution, of two quantiles, a conformal one. A share
    above the nominal coverage is as wrong as one below, and a width says something only beside the
    share; `interval_score` is both in one number. Of n targets the share has a standard error of
    √(c (1 - c) / n).

    Args:
      lower: lower ends ``[...]``.
      upper: upper ends ``[...]``.
      target: what happened ``[...]``; on an end is inside.
      axis: axes to reduce. Default: all. Static.

    Returns:
      Share in [0, 1] and mean width, of the shape without `axis`.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> ends = dm.normal_interval(jnp.zeros(4), jnp.ones(4), coverage=0.9)
      >>> share, width = dm.interval_coverage(*ends, jnp.array([0.0, 1.0, -1.0, 2.0]))
      >>> print(share, width.round(2))
      0.75 3.29
    """
    low, high, y = doors.rows(axis, lower=lower, upper=upper, target=target)
    inside = (low <= y) & (y <= high)
    return jnp.mean(numbers.as_float(inside), -1), jnp.mean(high - low, -1)


@doors.compiled()
def probability_integral_transform(
    mean: ArrayLike, scale: ArrayLike, target: ArrayLike
) -> jax.Array:
    r"""Predicted probability of less than what happened, for every target.

    Use it to look at: its histogram is flat if the distributions are right, ∪-shaped if they are
    too narrow, ∩-shaped if too wide, and slopes if they are biased. Of a mixture it is the mean of
    those of its members. `regression_calibration_error` is a number for it.

    .. math:: \Phi\big((y - \mu) / \sigma\big)

    Args:
      mean: predicted mean ``[...]``.
      scale: predicted standard deviation; broadcasts to `mean`.
      target: what happened ``[...]``.

    Returns:
      Probabilities ``[...]``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> y = jnp.array([-1.0, 0.0, 1.0])
      >>> print(dm.probability_integral_transform(jnp.zeros(3), 1.0, y).round(2))
      [0.16 0.5  0.84]

    References:
      Dawid, Statistical theory: the prequential approach, JRSS A 147, 1984; Gneiting, Balabdaoui
      and Raftery, Probabilistic forecasts, calibration and sharpness, JRSS B 69, 2007.
    """
    return jax.scipy.special.ndtr(errors(mean, scale, target)[1])


@doors.compiled("axis")
def regression_calibration_error(
    mean: ArrayLike, scale: ArrayLike, target: ArrayLike, *, axis: Axis = None
) -> jax.Array:
    r"""How far, on average over all levels, central intervals are from covering what they claim.

    Use it to say in one number whether deviations are right on average: 0.05 means that the
    intervals of level p hold, on average over p, five per cent too many or too few. It says nothing
    about *which* predictions are uncertain; a constant deviation can be perfect here, see `ause`.
    The integral over levels is exact, by one sort, where others try a hundred levels.

    .. math:: \int_0^1 \Big| \frac1n \#\{i : \mathrm{erf}(|z_i| / \sqrt2) \le p\} - p \Big|\, dp,
              \quad z = (y - \mu) / \sigma

    Args:
      mean: predicted mean ``[...]``.
      scale: predicted standard deviation; broadcasts to `mean`.
      target: what happened ``[...]``.
      axis: axes to reduce. Default: all. Static.

    Returns:
      Error in [0, 0.5], of the shape without `axis`. With the true deviations it is about
      0.31 / √n, and not 0.

    Example:
      >>> import diffmetrics as dm, jax, jax.numpy as jnp
      >>> noise = jax.random.normal(jax.random.key(0), (1000,))
      >>> for factor in (0.5, 1.0, 2.0):
      ...     error = dm.regression_calibration_error(jnp.zeros(1000), factor, noise)
      ...     print(factor, error.round(2))
      0.5 0.2
      1.0 0.01
      2.0 0.2

    References:
      Kuleshov, Fenner and Ermon, Accurate uncertainties for deep learning using calibrated
      regression, ICML 2018, arXiv:1807.00263 (with squares, and one-sided levels).
    """
    _, z = errors(mean, scale, target)
    (z,) = doors.rows(axis, mean=jnp.abs(z))
    return _from_uniform(jnp.sort(jax.lax.erf(z * math.sqrt(0.5)), -1))


def _from_uniform(u: jax.Array) -> jax.Array:
    """The area between the distribution function of sorted `u` and that of even numbers."""
    n = u.shape[-1]
    a, b = jnp.arange(n, dtype=u.dtype) / n, jnp.arange(1, n + 1, dtype=u.dtype) / n
    inside = jnp.clip(u, a, b)
    # What the strip of each number has below and above it, and the rest of the way to it.
    area = 0.5 * ((inside - a) ** 2 + (b - inside) ** 2) + jnp.abs(u - inside) / n
    return jnp.sum(area, -1)


@doors.compiled("bins", "axis")
def normalized_calibration_error(
    mean: ArrayLike, scale: ArrayLike, target: ArrayLike, *, bins: int = 10, axis: Axis = None
) -> jax.Array:
    r"""How far predicted deviations are from the errors that they came with, relatively (ENCE).

    Use it to see whether deviations are right *where* they are small and where they are large. The
    predictions are sorted by deviation and cut into bins of equal size; in each the root mean
    square of the deviations is compared with that of the errors.

    .. math:: \frac1B \sum_{b=1}^B \frac{|\mathrm{RMV}_b - \mathrm{RMSE}_b|}{\mathrm{RMV}_b}

    Args:
      mean: predicted mean ``[...]``.
      scale: predicted standard deviation; broadcasts to `mean`. Equal ones share their errors, so
        that the order of the data does not matter.
      target: what happened ``[...]``.
      bins: B, at most as many as there are predictions. Static.
      axis: axes to reduce. Default: all. Static.

    Returns:
      Error ≥ 0, of the shape without `axis`. Not 0 with the true deviations: about 0.6 √(B / n).

    Raises:
      ValueError: if there are fewer predictions than bins.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> scale, error = jnp.array([0.1, 0.1, 1.0, 1.0]), jnp.array([0.1, -0.1, 2.0, 2.0])
      >>> print(dm.normalized_calibration_error(jnp.zeros(4), scale, error, bins=2).round(3))
      0.5

    References:
      Levi, Gispan, Giladi and Fetaya, Evaluating and calibrating uncertainty prediction in
      regression tasks, 2019, arXiv:1905.11659.
    """
    error, _ = errors(mean, scale, target)
    e, s = doors.rows(axis, mean=error, scale=jnp.broadcast_to(scale, error.shape))
    n = e.shape[-1]
    if not 1 <= bins <= n:
        raise ValueError(f"bins must lie between 1 and the {n} predictions, got {bins}.")
    unit = positive(jnp.max(jnp.abs(e), -1, keepdims=True))
    squares, s = sort_by(s, (e / unit) ** 2)
    # In units of the largest of each bin, because squares may be beyond all numbers or vanish.
    number = jnp.arange(n) * bins // n
    largest = positive(s[..., jnp.searchsorted(number, jnp.arange(bins), side="right") - 1])
    members = (number == jnp.arange(bins)[:, None]) / jnp.bincount(number, length=bins)[:, None]
    rmse = unit * numbers.sqrt(squares @ members.T)
    deviations = largest * numbers.sqrt((s / largest[..., number]) ** 2 @ members.T)
    apart = jnp.abs(1.0 - numbers.held(rmse / positive(deviations)))
    return numbers.capped(jnp.sum(apart / bins, -1))


@doors.compiled("axis")
def sharpness(scale: ArrayLike, *, axis: Axis = None) -> jax.Array:
    r"""Root mean square of the predicted deviations, in the units of the target.

    Use it to compare predictions that are equally calibrated: the sharper one, with less, knows
    more. By itself it is no merit; a network may be sharp and wrong. With calibrated deviations it
    equals the root mean squared error.

    .. math:: \sqrt{\tfrac1n \textstyle\sum_i \sigma_i^2}

    Args:
      scale: predicted standard deviations ``[...]``.
      axis: axes to reduce. Default: all. Static.

    Returns:
      Deviation ≥ 0, of the shape without `axis`.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(dm.sharpness(jnp.array([3.0, 4.0])).round(4))
      3.5355

    References:
      Gneiting, Balabdaoui and Raftery, Probabilistic forecasts, calibration and sharpness, JRSS B
      69, 2007.
    """
    (s,) = doors.rows(axis, scale=scale)
    return numbers.root_mean_square(s)
