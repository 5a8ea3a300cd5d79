"""Uncertainty of regression: whether predicted standard deviations are right on average.

``axis=0`` of ``[n, D]`` judges each output separately. Even the true deviations do not score
perfectly on a finite test set: `attainable` computes what they score. Without examples (all are
hidden) the result is 0. An input of size 0 raises `ValueError`.
"""

from __future__ import annotations

import math
from typing import Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import calls, doors, masses, numbers, order
from diffmetrics._core.calls import SetOptions
from diffmetrics._core.predictions import errors, positive, prediction


@calls.compiled()
def normal_interval(
    mean: ArrayLike, scale: ArrayLike, *, coverage: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    r"""Prediction interval of a normal distribution: the central one with a given probability.

    Use it for the error bars of a plot, and for `interval_coverage` and `interval_score`.

    .. math:: \mu \pm \sigma\, \Phi^{-1}\big(\tfrac{1 + c}{2}\big)

    Args:
      mean: ``[...]``.
      scale: standard deviation; broadcasts to `mean`.
      coverage: probability c in (0, 1); broadcasts to `mean`.

    Returns:
      Lower and upper ends, each ``[...]``.

    Example:
      >>> import diffmetrics as dm
      >>> lower, upper = dm.normal_interval(1.0, 2.0, coverage=0.95)
      >>> print(lower.round(2), upper.round(2))
      -2.92 4.92
    """
    m, s, _, _ = prediction(mean, scale, mean)
    m, s = numbers.floats(m, s)
    c = doors.parameter("coverage", coverage, m, "mean")
    reach = math.sqrt(2.0) * jax.lax.erf_inv(jnp.broadcast_to(c, m.shape))
    reach *= jnp.broadcast_to(s, m.shape)
    return m - reach, m + reach


@calls.compiled("axis")
def interval_coverage(
    lower: ArrayLike,
    upper: ArrayLike,
    target: ArrayLike,
    **options: Unpack[SetOptions],
) -> tuple[jax.Array, jax.Array]:
    r"""Interval coverage (PICP): the share of targets inside their intervals, and the mean width.

    Use it for intervals of any kind: of a distribution, of quantiles, conformal. A share above the
    nominal coverage c is as wrong as one below it, and the width says nothing without the share;
    `interval_score` puts both into one number. For n targets the standard error of the share is
    √(c (1 - c) / n).

    Args:
      lower: lower ends ``[...]``.
      upper: upper ends ``[...]``.
      target: ``[...]``; one on an end is inside. NaN is outside.
      **options: `axis`, `where`, `weights`; see docs/arguments.md.

    Returns:
      Share in [0, 1] and mean width, of the shape without `axis`; 0 if there are no examples.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> ends = dm.normal_interval(jnp.zeros(4), jnp.ones(4), coverage=0.9)
      >>> share, width = dm.interval_coverage(*ends, jnp.array([0.0, 1.0, -1.0, 2.0]))
      >>> print(share, width.round(2))
      0.75 3.29
    """
    low, high, y, mass = masses.rows({"lower": lower, "upper": upper, "target": target}, **options)
    inside = ((low <= y) & (y <= high)).astype(y.dtype)
    return masses.mean(inside, mass), masses.mean(high - low, mass)


@calls.compiled()
def probability_integral_transform(
    mean: ArrayLike, scale: ArrayLike, target: ArrayLike
) -> jax.Array:
    r"""Probability integral transform (PIT): the predicted distribution function at each target.

    Draw its histogram: it is flat if the normal distributions are right, ∪-shaped if they are too
    narrow, ∩-shaped if too wide, sloped if biased. For a mixture take the mean over its members.
    `regression_calibration_error` says it in one number.

    .. math:: \Phi\big((y - \mu) / \sigma\big)

    Args:
      mean: μ ``[...]``.
      scale: standard deviation σ; broadcasts to `mean`.
      target: y ``[...]``.

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


@calls.compiled("axis")
def regression_calibration_error(
    mean: ArrayLike,
    scale: ArrayLike,
    target: ArrayLike,
    **options: Unpack[SetOptions],
) -> jax.Array:
    r"""Calibration error of regression: mean gap of nominal and actual coverage of intervals.

    Use it to say whether standard deviations are right on average. At 0.05, central intervals of
    level p are off by five percentage points, on average over p. It does not say *which*
    predictions are uncertain; a constant deviation can be perfect (see `ause`). One sort gives the
    exact integral over p.

    .. math:: \int_0^1 \Big| \frac1n \#\{i : \mathrm{erf}(|z_i| / \sqrt2) \le p\} - p \Big|\, dp,
              \quad z = (y - \mu) / \sigma

    Args:
      mean: μ ``[...]``.
      scale: standard deviation σ; broadcasts to `mean`.
      target: y ``[...]``.
      **options: `axis`, `where`, `weights`; see docs/arguments.md.

    Returns:
      Error in [0, 0.5], of the shape without `axis`; about 0.31 / √n for the true deviations, 0 if
      there are no examples.

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
    error, scale, mass = masses.predicted(mean, scale, target, **options)
    z = jnp.abs(masses.in_deviations(error, scale))
    plain = masses.are_plain(options)
    u, share = masses.in_order(jax.lax.erf(z * math.sqrt(0.5)), masses.shares(mass), plain)
    return _from_uniform(jnp.where(share == 0, 0.0, u), *order.running(share))


def _from_uniform(u: jax.Array, before: jax.Array, after: jax.Array) -> jax.Array:
    """The area between the distribution function of sorted `u` and the uniform one.

    That of `u` rises from `before` to `after` at each number.
    """
    inside = jnp.clip(u, before, after)
    # In the strip of each number: the area below and above it, and its distance from the strip.
    area = 0.5 * ((inside - before) ** 2 + (after - inside) ** 2)
    return jnp.sum(area + jnp.abs(u - inside) * (after - before), -1)


@calls.compiled("bins", "axis")
def normalized_calibration_error(
    mean: ArrayLike,
    scale: ArrayLike,
    target: ArrayLike,
    *,
    bins: int = 10,
    **options: Unpack[SetOptions],
) -> jax.Array:
    r"""Expected normalized calibration error (ENCE): predicted deviations against errors, in bins.

    Use it to see whether small *and* large standard deviations are right. Predictions are sorted by
    deviation into bins of equal size. Each bin compares the root mean squares of its deviations
    (RMV) and of its errors (RMSE). A prediction on an edge counts in both bins, in part.

    .. math:: \frac1B \sum_{b=1}^B \frac{|\mathrm{RMV}_b - \mathrm{RMSE}_b|}{\mathrm{RMV}_b}

    Args:
      mean: ``[...]``.
      scale: standard deviation; broadcasts to `mean`. Ties share their errors.
      target: ``[...]``.
      bins: number of bins B, at most the number of predictions. Static.
      **options: `axis`, `where`, `weights`; see docs/arguments.md.

    Returns:
      Error ≥ 0, of the shape without `axis`; about 0.6 √(B / n) for the true deviations, 0 if there
      are no examples.

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
    e, s, mass = masses.predicted(mean, scale, target, **options)
    n = e.shape[-1]
    if not 1 <= bins <= n:
        raise ValueError(f"bins must lie between 1 and the {n} predictions, got {bins}.")
    unit = positive(jnp.max(jnp.abs(e), -1))
    plain, squares = masses.are_plain(options), (e / unit[..., None]) ** 2
    squares, s, mass = masses.averaged(s, squares, mass, plain)

    def gap(part: jax.Array) -> jax.Array:
        rmse = unit * numbers.sqrt(masses.mean(squares, part))
        deviation = masses.root_mean_square(jnp.where(part > 0, s, 0.0), part)
        return jnp.abs(1.0 - numbers.held(rmse / positive(deviation))) / bins

    found = numbers.capped(jnp.sum(masses.over_bins(mass, bins, gap), 0))
    return jnp.where(jnp.any(mass != 0, -1), found, 0.0)


@calls.compiled("axis")
def sharpness(scale: ArrayLike, **options: Unpack[SetOptions]) -> jax.Array:
    r"""Sharpness: the root mean square of the predicted standard deviations.

    Use it to compare equally calibrated predictions: the sharper ones (smaller) know more. Alone it
    says little, because a network may be sharp and wrong. For calibrated deviations it equals the
    root mean squared error.

    .. math:: \sqrt{\tfrac1n \textstyle\sum_i \sigma_i^2}

    Args:
      scale: standard deviations ``[...]``.
      **options: `axis`, `where`, `weights`; see docs/arguments.md.

    Returns:
      Deviation ≥ 0 in the units of the target, of the shape without `axis`; 0 if there are no
      examples.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(dm.sharpness(jnp.array([3.0, 4.0])).round(4))
      3.5355

    References:
      Gneiting, Balabdaoui and Raftery, Probabilistic forecasts, calibration and sharpness, JRSS B
      69, 2007.
    """
    s, mass = masses.rows({"scale": scale}, **options)
    return masses.root_mean_square(s, mass)
