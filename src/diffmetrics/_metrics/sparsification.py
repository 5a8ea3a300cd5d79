r"""Whether the uncertain predictions are the wrong ones: what filtering by uncertainty gains.

An `uncertainty` counts by its order, an `error` by its size: ``target - mean``, its square, or
whether a class was wrong. Tied uncertainties are averaged over all orders.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import doors, numbers
from diffmetrics._core.doors import Axis
from diffmetrics._core.order import ranks, sort_by


class Sparsification(NamedTuple):
    """Error of what is kept as more and more is left out: what `sparsification_curve` makes.

    Attributes:
      kept: share of the predictions that are kept, falling from 1 to 1 / n ``[n]``.
      error: their mean error, with the most uncertain left out first ``[..., n]``.
      oracle: the same with the largest errors left out first: no filter does better.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> curve = dm.sparsification_curve(jnp.array([1.0, 2.0]), jnp.array([0.5, 1.5]))
      >>> print(curve.kept, curve.error)
      [1.  0.5] [1.  0.5]
    """

    kept: jax.Array
    error: jax.Array
    oracle: jax.Array


@doors.compiled("axis")
def sparsification_curve(
    uncertainty: ArrayLike, error: ArrayLike, *, axis: Axis = None
) -> Sparsification:
    r"""Mean error of the predictions that are kept as the most uncertain ones are left out.

    Use it to see what share may be kept at a given error. A curve that falls along its oracle knows
    where it is wrong; a flat one does not. For root mean squares pass squares and take both roots.

    .. math:: \mathrm{error}_k = \frac{1}{n - k} \sum_{i \le n - k} |e_{(i)}|,
              \quad k = 0, \ldots, n - 1

    where (i) is the order of rising uncertainty, or, for the oracle, of rising error.

    Args:
      uncertainty: ``[...]``, larger where less is known.
      error: of the same predictions ``[...]``; its size counts.
      axis: axes that form one set.

    Returns:
      `Sparsification` (kept, error, oracle), with n places on a last axis.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> curve = dm.sparsification_curve(jnp.array([3.0, 1.0, 2.0]), jnp.array([-2.0, 1.0, 0.0]))
      >>> print(curve.error, curve.oracle)
      [1.  0.5 1. ] [1.  0.5 0. ]

    References:
      Ilg et al., Uncertainty estimates and multi-hypotheses networks for optical flow, ECCV 2018,
      arXiv:1802.07095.
    """
    u, e = doors.rows(axis, uncertainty=uncertainty, error=error)
    return _curve(u, jnp.abs(e))


def _curve(u: jax.Array, e: jax.Array) -> Sparsification:
    number = jnp.arange(1, e.shape[-1] + 1, dtype=e.dtype)
    error, oracle = (
        jnp.flip(jnp.cumsum(x, -1) / number, -1) for x in (sort_by(u, e)[0], jnp.sort(e, -1))
    )
    return Sparsification(jnp.flip(number) / e.shape[-1], error, oracle)


@doors.compiled("axis")
def ause(uncertainty: ArrayLike, error: ArrayLike, *, axis: Axis = None) -> jax.Array:
    r"""Area between a sparsification curve and its oracle, relative to that of a random filter.

    Use it to say in one number whether the uncertain predictions are the wrong ones: 0 is an
    oracle, 1 an uncertainty that says nothing, such as a constant, and more is worse than nothing.
    Even the true deviation is far from 0, because errors are the deviation times chance: see
    `attainable`. Only the order counts; `regression_calibration_error` judges the size.

    .. math:: \frac{\sum_k (\mathrm{error}_k - \mathrm{oracle}_k)}
                   {\sum_k (\mathrm{error}_0 - \mathrm{oracle}_k)}

    Args:
      uncertainty: ``[...]``, larger where less is known.
      error: of the same predictions ``[...]``; its size counts. Among squares the largest decide.
      axis: axes that form one set.

    Returns:
      Relative area ≥ 0, of the shape without `axis`; 0 if all errors are equal.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> error = jnp.array([0.1, -0.4, 0.2, 0.8])
      >>> for u in (jnp.abs(error), jnp.ones(4), -jnp.abs(error)):
      ...     print(dm.ause(u, error).round(3))
      0.0
      1.0
      2.156

    References:
      Ilg et al., Uncertainty estimates and multi-hypotheses networks for optical flow, ECCV 2018,
      arXiv:1802.07095 (not divided by the area of a random filter).
    """
    u, e = doors.rows(axis, uncertainty=uncertainty, error=error)
    _, error, oracle = _curve(u, jnp.abs(e))
    return numbers.divide(jnp.mean(error - oracle, -1), jnp.mean(error[..., :1] - oracle, -1))


@doors.compiled("axis")
def risk_at_coverage(
    uncertainty: ArrayLike, error: ArrayLike, *, coverage: ArrayLike, axis: Axis = None
) -> jax.Array:
    r"""Mean error of the given share of predictions that is most certain.

    Use it if some predictions may be left to somebody else: it is the error of the rest. Divided by
    the mean of all errors it shows what the filter gains.

    .. math:: \frac{1}{c n} \sum_{i \le c n} |e_{(i)}|

    where (i) is the order of rising uncertainty, and the last prediction counts in part.

    Args:
      uncertainty: ``[...]``, larger where less is known.
      error: of the same predictions ``[...]``; its size counts.
      coverage: c, the share that is kept, in (0, 1]; at least one prediction. A scalar.
      axis: axes that form one set.

    Returns:
      Mean error, of the shape without `axis`.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> u, e = jnp.array([1.0, 2.0, 3.0, 4.0]), jnp.array([0.1, 0.3, -0.2, 2.0])
      >>> print(dm.risk_at_coverage(u, e, coverage=0.75).round(2))
      0.2

    References:
      Geifman and El-Yaniv, Selective classification for deep neural networks, NIPS 2017,
      arXiv:1705.08500.
    """
    u, e = doors.rows(axis, uncertainty=uncertainty, error=error)
    n = e.shape[-1]
    kept = jnp.clip(doors.parameter("coverage", coverage, (), "a scalar") * n, 1.0, n)
    # The last one that is kept may count in part.
    part = jnp.clip(kept - jnp.arange(n, dtype=e.dtype), 0.0, 1.0)
    return jnp.sum(part * sort_by(u, jnp.abs(e))[0], -1) / kept


@doors.compiled("axis")
def rank_correlation(a: ArrayLike, b: ArrayLike, *, axis: Axis = None) -> jax.Array:
    r"""Spearman's rank correlation; ties share their mean rank.

    Use it to compare an uncertainty with the size of errors, or with the true deviation if that is
    known. With errors even the true deviation is far from 1, because they are the deviation times
    chance: 0.46 if deviations differ by a factor of e^½ or so (lognormal). See `attainable`.

    Args:
      a: ``[...]``.
      b: ``[...]``.
      axis: axes that form one set.

    Returns:
      Correlation in [-1, 1], of the shape without `axis`; 0 if either is constant.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> a, b = jnp.array([1.0, 2.0, 2.0, 9.0]), jnp.array([1.0, 3.0, 2.0, 4.0])
      >>> print(dm.rank_correlation(a, b).round(3))
      0.949

    References:
      Spearman, The proof and measurement of association between two things, American Journal of
      Psychology 15, 1904.
    """
    x, y = doors.rows(axis, a=a, b=b)
    n = x.shape[-1]
    x, y = (ranks(t, jnp.ones_like(t)) / n - 0.5 for t in (x, y))
    lengths = numbers.sqrt(jnp.sum(x * x, -1)) * numbers.sqrt(jnp.sum(y * y, -1))
    return numbers.divide(jnp.sum(x * y, -1), lengths)


@doors.compiled("metric", "draws")
def attainable(
    key: jax.Array,
    scale: ArrayLike,
    *,
    metric: Callable[[jax.Array, jax.Array], Any],
    draws: int = 100,
) -> Any:
    r"""Values of a metric if the predicted deviations were exactly right.

    Use it beside every metric of uncertainty, because a perfect one is not 0 or 1. It draws errors
    from normal distributions with the predicted deviations and computes their metric, `draws`
    times. A measured value among them is as good as it gets; their spread is the test set's noise.

    Args:
      key: a random key.
      scale: standard deviations ``[...]``.
      metric: ``f(scale, error)`` of signed errors, target less mean: `ause`, or
        ``lambda s, e: dm.rank_correlation(s, abs(e))``, or, if it takes a prediction,
        ``lambda s, e: dm.regression_calibration_error(0 * e, s, e)``. Define it once at module
        level: a new lambda is a new compilation. Static.
      draws: number of sets of errors. Static.

    Returns:
      The values of the metric, with `draws` on a leading axis.

    Example:
      >>> import diffmetrics as dm, jax, jax.numpy as jnp
      >>> scale = jnp.exp(jax.random.normal(jax.random.key(0), (2000,)))
      >>> values = dm.attainable(jax.random.key(1), scale, metric=dm.ause)
      >>> print(values.shape, values.mean().round(1))
      (100,) 0.2
    """
    s = jnp.asarray(scale)
    doors.require_float("scale", s, "It is a positive number in the units of the target.")
    s = numbers.as_float(s)
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}.")

    def once(key: jax.Array) -> Any:
        return metric(s, s * jax.random.normal(key, s.shape, s.dtype))

    return jax.lax.map(once, jax.random.split(key, draws))
