r"""Whether the uncertain predictions are the wrong ones: what filtering by uncertainty gains.

An `uncertainty` counts by its order, an `error` by its size: ``target - mean``, its square, or
whether a class was wrong. Tied uncertainties are averaged over all orders. A NaN in either makes
the result NaN, an input of size 0 raises `ValueError`, and without examples (all hidden) it is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import calls, doors, masses, numbers, order
from diffmetrics._core.calls import SetOptions


class Sparsification(NamedTuple):
    """Error of what is kept as more and more is left out: what `sparsification_curve` makes.

    Attributes:
      kept: share of the predictions that are kept, falling from 1 to 1 / n ``[..., n]``.
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


@calls.compiled("axis")
def sparsification_curve(
    uncertainty: ArrayLike, error: ArrayLike, **options: Unpack[SetOptions]
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
      **options: `axis`, `where`, `weights`; see docs/arguments.md.

    Returns:
      `Sparsification` (kept, error, oracle), with n places on a last axis. The first of them repeat
      where predictions are hidden.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> curve = dm.sparsification_curve(jnp.array([3.0, 1.0, 2.0]), jnp.array([-2.0, 1.0, 0.0]))
      >>> print(curve.error, curve.oracle)
      [1.  0.5 1. ] [1.  0.5 0. ]

    References:
      Ilg et al., Uncertainty estimates and multi-hypotheses networks for optical flow, ECCV 2018,
      arXiv:1802.07095.
    """
    filtered, best = _filters(uncertainty, error, **options)
    kept = filtered.after
    every = masses.are_plain(options)
    errors = (numbers.divide(f.total, kept) if every else f.up_to(kept) for f in (filtered, best))
    share = numbers.divide(kept, kept[..., -1:])
    return Sparsification(*(jnp.flip(x, -1) for x in (share, *errors)))


class _Filter:
    """Sizes of errors ``[..., n]`` in the order in which predictions are kept, and their masses."""

    def __init__(self, error: jax.Array, mass: jax.Array) -> None:
        self.error, self.mass = jnp.where(mass == 0, 0.0, error), mass
        self.before, self.after = order.running(mass)
        self.total = jnp.cumsum(self.error * mass, -1)

    def up_to(self, kept: jax.Array) -> jax.Array:
        """Mean error of the predictions up to each mass ``[..., K]``; the last may be in part."""
        find = jnp.vectorize(jnp.searchsorted, signature="(n),(k)->(k)")
        last = jnp.minimum(find(self.after, kept), kept.shape[-1] - 1)
        total, after, error = (
            jnp.take_along_axis(x, last, -1) for x in (self.total, self.after, self.error)
        )
        return numbers.divide(total - (after - kept) * error, kept)

    def area(self) -> jax.Array:
        """The mean of `up_to` over all masses.

        In a strip the total of errors is a + e t, so its mean is a / t + e.
        """
        constant = order.later(self.total) - self.error * self.before
        logarithm = jnp.log1p(numbers.divide(self.mass, self.before))
        area = jnp.sum(self.error * self.mass + constant * logarithm, -1)
        return numbers.divide(area, self.after[..., -1])


def _filters(
    uncertainty: ArrayLike, error: ArrayLike, **options: Unpack[SetOptions]
) -> tuple[_Filter, _Filter]:
    """By uncertainty, and by the errors themselves."""
    u, e, mass = masses.rows({"uncertainty": uncertainty, "error": error}, **options)
    e = jnp.abs(e) + masses.spoilt(u, e)[..., None]
    mass, plain = masses.relative(mass), masses.are_plain(options)
    known, _, of_known = masses.averaged(u, e, mass, plain)
    return _Filter(known, of_known), _Filter(*masses.in_order(e, mass, plain))


@calls.compiled("axis")
def ause(uncertainty: ArrayLike, error: ArrayLike, **options: Unpack[SetOptions]) -> jax.Array:
    r"""Area between a sparsification curve and its oracle, relative to that of a random filter.

    Use it to say in one number whether the uncertain predictions are the wrong ones: 0 is an
    oracle, 1 an uncertainty that says nothing, such as a constant, and more is worse than nothing.
    Even the true deviation is far from 0, because errors are the deviation times chance: see
    `attainable`. Only the order counts; `regression_calibration_error` judges the size.

    .. math:: \frac{\int_0^1 (\mathrm{error}(c) - \mathrm{oracle}(c))\, dc}
                   {\int_0^1 (\mathrm{error}(1) - \mathrm{oracle}(c))\, dc}

    for the mean error of a share c of the predictions, as in `risk_at_coverage`.

    Args:
      uncertainty: ``[...]``, larger where less is known.
      error: of the same predictions ``[...]``; its size counts. Among squares the largest decide.
      **options: `axis`, `where`, `weights`; see docs/arguments.md.

    Returns:
      Relative area ≥ 0, of the shape without `axis`; 0 if all errors are equal.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> error = jnp.array([0.1, -0.4, 0.2, 0.8])
      >>> for u in (jnp.abs(error), jnp.ones(4), -jnp.abs(error)):
      ...     print(dm.ause(u, error).round(3))
      0.0
      1.0
      2.206

    References:
      Ilg et al., Uncertainty estimates and multi-hypotheses networks for optical flow, ECCV 2018,
      arXiv:1802.07095 (not divided by the area of a random filter).
    """
    filtered, best = _filters(uncertainty, error, **options)
    every = numbers.divide(best.total[..., -1], best.after[..., -1])
    return numbers.divide(filtered.area() - best.area(), every - best.area())


@calls.compiled("axis")
def risk_at_coverage(
    uncertainty: ArrayLike,
    error: ArrayLike,
    *,
    coverage: ArrayLike,
    **options: Unpack[SetOptions],
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
      **options: `axis`, `where`, `weights`; see docs/arguments.md.

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
    filtered, _ = _filters(uncertainty, error, **options)
    c = doors.parameter("coverage", coverage, filtered.mass, "a scalar", ())
    every = filtered.after[..., -1:]
    kept = jnp.clip(c * every, filtered.mass[..., :1], every)
    # The last one that is kept may count in part.
    part = jnp.clip(kept - filtered.before, 0.0, filtered.mass)
    return numbers.divide(jnp.sum(part * filtered.error, -1), kept[..., 0])


@calls.compiled("axis")
def rank_correlation(a: ArrayLike, b: ArrayLike, **options: Unpack[SetOptions]) -> jax.Array:
    r"""Spearman's rank correlation; ties share their mean rank.

    Use it to compare an uncertainty with the size of errors, or with the true deviation if that is
    known. With errors even the true deviation is far from 1, because they are the deviation times
    chance: 0.46 if deviations differ by a factor of e^½ or so (lognormal). See `attainable`.

    Args:
      a: ``[...]``.
      b: ``[...]``.
      **options: `axis`, `where`, `weights`; see docs/arguments.md.

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
    x, y, mass = masses.rows({"a": a, "b": b}, **options)
    bad, share, mass = masses.spoilt(x, y), masses.shares(mass), masses.relative(mass)
    total = jnp.sum(mass, -1, keepdims=True)
    x, y = (numbers.divide(order.ranks(t, mass), total) - 0.5 for t in (x, y))
    lengths = numbers.sqrt(jnp.sum(share * x * x, -1)) * numbers.sqrt(jnp.sum(share * y * y, -1))
    return numbers.divide(jnp.sum(share * x * y, -1), lengths) + bad


@calls.compiled("metric", "draws")
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
