r"""Ranking by uncertainty: whether the uncertain predictions are the wrong ones.

It is what filtering by uncertainty (selective prediction) gains. Of an `uncertainty` only the
order counts, of an `error` the size: ``target - mean``, its square, or whether a class was wrong.
Tied uncertainties are averaged over all orders. A NaN in either makes the result NaN, an input of
size 0 raises `ValueError`, and without examples (all hidden) the result is 0.
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
    """Sparsification curve: the error of what is kept, from `sparsification_curve`.

    Attributes:
      kept: share of the predictions that are kept ``[..., n]``, falling from 1 to 1 / n.
      error: their mean error ``[..., n]``, with the most uncertain left out first.
      oracle: the same with the largest errors left out first ``[..., n]``; no filter does better.

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
    r"""Sparsification or risk-coverage curve: mean error as uncertain predictions are left out.

    Use it to see what share may be kept at a given error. If the curve falls along its oracle, the
    network knows where it is wrong; if it is flat, it does not. For root mean squares pass squares
    and take both roots.

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
      >>> u, e = jnp.array([3.0, 1.0, 2.0]), jnp.array([-2.0, 1.0, 0.0])
      >>> curve = dm.sparsification_curve(u, e)
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
    r"""AUSE: area between a sparsification curve and its oracle, relative to a random filter's.

    Use it to say in one number whether the uncertain predictions are the wrong ones. 0 is an
    oracle. 1 is an uncertainty that says nothing, such as a constant; more is worse than nothing.
    Even the true deviation is far from 0, because errors are the deviation times chance: see
    `attainable`. Only the order counts; `regression_calibration_error` judges the size.

    .. math:: \frac{\int_0^1 (\mathrm{error}(c) - \mathrm{oracle}(c))\, dc}
                   {\int_0^1 (\mathrm{error}(1) - \mathrm{oracle}(c))\, dc}

    for the mean error of a share c of the predictions, as in `risk_at_coverage`.

    Args:
      uncertainty: ``[...]``, larger where less is known.
      error: of the same predictions ``[...]``; its size counts. If you pass squares, the largest
        errors decide.
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
    r"""Risk at coverage (selective prediction): mean error of the most certain predictions.

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
      Mean error, of the shape without `axis`; 0 if there are no examples.

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
    known. With errors even the true deviation is far from 1, because errors are the deviation times
    chance: 0.46 if the logarithms of the deviations are normal with standard deviation ½. See
    `attainable`.

    Args:
      a: ``[...]``.
      b: of the same shape.
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
    r"""The best that a metric of uncertainty can be: its values for exactly right deviations.

    Use it beside every metric of uncertainty, because a perfect one is not 0 or 1. It draws errors
    from normal distributions with the predicted standard deviations and computes their metric,
    `draws` times. A measured value among these is as good as it gets; their spread is the noise of
    the test set.

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
