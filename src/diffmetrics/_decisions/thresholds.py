"""Thresholds: the best one for a score, its standard error, and the one that costs imply.

A threshold costs no training, and on imbalanced data it often gains as much as another loss.

Choose it on *validation* data; its value there is optimistic. With few positives it is a guess:
`bootstrap_threshold` measures its error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import calls, doors, numbers, order, set_doors
from diffmetrics._core.calls import Axis
from diffmetrics._metrics.counts import Counts, require_score
from diffmetrics._metrics.curve_points import OperatingPoint
from diffmetrics._metrics.curves import counts_of, curve


@calls.compiled("score", "axis")
def fit_threshold(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    score: Callable[..., ArrayLike],
    axis: Axis = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    **hyperparameters: Any,
) -> OperatingPoint:
    r"""The best threshold for F1 or any other score of counts, among *all* thresholds.

    Use it on validation data, for any score of this library or your own. It is exact: one sort, and
    the score at every threshold that makes a difference. The threshold lies midway between the last
    score that is predicted positive and the next, so ``scores > threshold`` and
    ``scores >= threshold`` decide alike.

    .. math:: \max_t\; \mathrm{score}\big(\mathrm{counts}(s \ge t, y)\big)

    Args:
      scores: ``[...]``, larger for the positive class: logits or probabilities. A NaN counts as
        wrong: the least score of a positive, the greatest of a negative.
      labels: 0/1 or soft in [0, 1], of the shape of `scores`.
      score: maps `Counts` (and keyword hyper-parameters) to an array of their shape; larger is
        better. Define it once at module level: a new lambda is a new compilation. Static.
      axis: axes that form one set; ``axis=0`` of ``[n, L]`` fits a threshold per label.
      where: boolean, broadcasts to `scores`.
      weights: ≥ 0, broadcast to `scores`.
      **hyperparameters: of the score, such as ``beta=2.0``.

    Returns:
      `OperatingPoint` (value, threshold), of the shape of `scores` without `axis`.

      * Ties go to the largest threshold. So without positives, where F-beta is 0 throughout,
        nothing is predicted.
      * The threshold that predicts nothing lies just above the largest score, the one that predicts
        everything just below the least. Both are finite and may be averaged over folds. Without
        examples it is inf.
      * Two neighbouring floats have no midpoint: the threshold is then the larger, and only ``>=``
        is right. Beyond scores of ±inf there is no threshold: only ``> inf`` predicts nothing, and
        ``>= -inf`` everything.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> s, y = jnp.array([0.9, 0.4, 0.3, 0.1]), jnp.array([1, 0, 1, 0])
      >>> value, threshold = dm.fit_threshold(s, y, score=dm.fbeta, beta=2.0)
      >>> print(value.round(3), threshold)
      0.909 0.2

    References:
      Lipton et al., Optimal thresholding of classifiers to maximize F1 measure, ECML 2014,
      arXiv:1402.1892. For calibrated probabilities the best threshold is half of the best F1.
    """
    require_score(score)
    c = curve(scores, labels, axis=axis, where=where, weights=weights)
    return _best(
        counts_of(c), jnp.asarray(c.thresholds), lambda cells: score(cells, **hyperparameters)
    )


def _best(
    cells: Counts, thresholds: jax.Array, score: Callable[[Counts], ArrayLike]
) -> OperatingPoint:
    """The best of falling thresholds, moved midway to the next that adds anything."""
    values = jnp.asarray(score(cells))
    doors.require_shape("the score", values, thresholds.shape, "the counts")
    place = jnp.argmax(jnp.where(jnp.isnan(values), -jnp.inf, values), -1)[..., None]
    at, upper, predicted = (
        jnp.take_along_axis(x, place, -1) for x in (values, thresholds, cells.tp + cells.fp)
    )
    more = cells.tp + cells.fp > predicted  # a score without weight is not the next one
    lower = jnp.max(jnp.where(more, thresholds, -jnp.inf), -1)
    return OperatingPoint(at[..., 0], _between(upper[..., 0], lower))


def _between(upper: jax.Array, lower: jax.Array) -> jax.Array:
    """A threshold that is at most `upper` and more than `lower`; finite if either is."""
    middle = 0.5 * upper + 0.5 * lower  # halved first: the sum could overflow
    middle = jnp.where(middle > lower, middle, upper)
    above, below = lower + _step(lower), upper - _step(upper)
    one_sided = jnp.where(jnp.isfinite(lower), above, jnp.where(jnp.isfinite(upper), below, upper))
    return jnp.where(jnp.isfinite(upper) & jnp.isfinite(lower), middle, one_sided)


def _step(x: jax.Array) -> jax.Array:
    """A small step in proportion to `x`, and a normal number: XLA takes subnormal ones for 0."""
    info = jnp.finfo(x.dtype)
    return jnp.maximum(4.0 * info.eps * jnp.abs(x), info.tiny)


@calls.compiled("score", "resamples")
def bootstrap_threshold(
    key: jax.Array,
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    score: Callable[..., ArrayLike],
    resamples: int = 200,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    **hyperparameters: Any,
) -> tuple[OperatingPoint, OperatingPoint]:
    r"""The best threshold and its standard error, by the bootstrap.

    It is `fit_threshold`, with the standard errors of its value and threshold. Use it before a
    threshold is put to use: with few positives, samples of one population have widely different
    best thresholds. It draws as many examples as there are, with replacement, and fits the
    threshold to them, `resamples` times. One sort serves all resamples: each counts draws, takes
    cumulative sums and searches. They run one after another, so memory stays O(n).

    Args:
      key: a random key.
      scores: ``[...]``, one set; `jax.vmap` over labels gives each its own.
      labels: as in `fit_threshold`.
      score: as in `fit_threshold`. Static.
      resamples: number of resamples; 200 give a standard error to 5 %. Static.
      where: boolean, broadcasts to `scores`.
      weights: ≥ 0, broadcast to `scores`; every example is drawn alike.
      **hyperparameters: of the score, such as ``beta=2.0``.

    Returns:
      Two `OperatingPoint`, that of `fit_threshold` and its standard errors, which are NaN without
      examples.

    Example:
      >>> import diffmetrics as dm, jax, jax.numpy as jnp
      >>> s, y = jnp.array([0.9, 0.7, 0.4, 0.3, 0.2, 0.1]), jnp.array([1, 0, 1, 1, 0, 0])
      >>> best, error = dm.bootstrap_threshold(jax.random.key(0), s, y, score=dm.fbeta)
      >>> print(best.threshold, error.threshold > 0.1)
      0.25 True

    References:
      Efron, Bootstrap methods: another look at the jackknife, Annals of Statistics 7, 1979.
    """
    options: dict[str, Any] = {"where": where, "weights": weights}
    fitted = fit_threshold(scores, labels, score=score, **options, **hyperparameters)
    s, positive, negative, included = _falling(scores, labels, where, weights)
    # No threshold separates ties: only the last of them is followed by less.
    possible = jnp.concatenate([jnp.ones(1, bool), order.is_last(s)])
    thresholds = jnp.concatenate([jnp.full_like(s, jnp.inf, shape=1), s])
    rows = jnp.argsort(~included, stable=True)

    def refit(key: jax.Array) -> OperatingPoint:
        times = _draws(key, rows, jnp.sum(included, dtype=jnp.int32)).astype(positive.dtype)
        counts = _running(times * positive, times * negative)
        cells = jax.tree.map(lambda cell: cell.astype(s.dtype), counts)
        return _best(
            cells, thresholds, lambda c: jnp.where(possible, score(c, **hyperparameters), jnp.nan)
        )

    again = jax.lax.map(refit, jax.random.split(key, resamples))
    return fitted, jax.tree.map(lambda x: jnp.std(x, 0, ddof=1), again)


def _falling(
    scores: ArrayLike, labels: ArrayLike, where: ArrayLike | None, weights: ArrayLike | None
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Checked scores, falling; the mass of positives and of negatives; and what is not left out."""
    s, positive, negative = set_doors.scored(scores, labels, where=where, weights=weights)
    shown = jnp.asarray(True if where is None else where)
    included = jnp.broadcast_to(shown, jnp.shape(scores))
    falling, *masses = jax.lax.sort((-s, positive, negative, included.ravel()), num_keys=1)
    return -falling, masses[0], masses[1], masses[2]


def _draws(key: jax.Array, rows: jax.Array, number: jax.Array) -> jax.Array:
    """How often each row is drawn, with equal chance among the first `number` of `rows`."""
    drawn = jax.random.randint(key, rows.shape, 0, jnp.maximum(number, 1), jnp.int32)
    counted = jax.lax.iota(number.dtype, rows.size) < number
    return order.totals(counted.astype(jnp.int32), rows[drawn], rows.size)


def _running(positive: jax.Array, negative: jax.Array) -> Counts:
    """Counts if nothing, the first, the first two, … are predicted positive."""
    tp, fp = (jnp.cumsum(jnp.pad(mass, (1, 0)), dtype=mass.dtype) for mass in (positive, negative))
    return Counts(tp=tp, fp=fp, fn=tp[-1] - tp, tn=fp[-1] - fp)


@calls.compiled()
def bayes_threshold(cost: ArrayLike) -> jax.Array:
    r"""The threshold that costs imply: the least probability at which "positive" is cheaper.

    Use it if the costs are known and the probabilities calibrated: then no threshold needs fitting.
    For logits take ``jax.scipy.special.logit`` of it; equal costs give probability ½, logit 0.

    .. math:: t = \frac{C_{01} - C_{00}}{(C_{01} - C_{00}) + (C_{10} - C_{11})}

    Args:
      cost: ``cost[t, j]``, ``[..., 2, 2]``, of predicting class j when class t is true, in any
        unit; an error costs more than the right decision. As in `expected_cost_loss`.

    Returns:
      Threshold in [0, 1] ``[...]``; 0 if no decision costs more than another.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> cost = jnp.array([[0.0, 1.0], [9.0, 0.0]])  # a miss costs 9 false alarms
      >>> print(dm.bayes_threshold(cost))
      0.1

    References:
      Elkan, The foundations of cost-sensitive learning, IJCAI 2001.
    """
    c = numbers.as_float(cost)
    if c.shape[-2:] != (2, 2):
        raise ValueError(f"cost must have shape [..., 2, 2], got {c.shape}.")
    alarm, miss = c[..., 0, 1] - c[..., 0, 0], c[..., 1, 0] - c[..., 1, 1]
    return numbers.divide(alarm, alarm + miss)
