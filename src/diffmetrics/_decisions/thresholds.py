r"""Decisions: the threshold, or the set, that is best for the score by which one is judged.

A trained model gives scores. What is done with them is a separate choice, which costs no training
and on imbalanced data often gains as much as another loss does.

Choose on *validation* data. On the data on which it was chosen the value is optimistic, and where
positives are few the threshold is a guess: `bootstrap_threshold` says how much of one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffmetrics import _math
from diffmetrics._counts import Counts
from diffmetrics._curve_points import OperatingPoint
from diffmetrics._curves import curve
from diffmetrics._math import Axis
from diffmetrics._per_example import parameter

# --- thresholds -----------------------------------------------------------------------------------


@_math.compiled("score", "axis")
def fit_threshold(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    score: Callable[..., jax.Array],
    axis: Axis = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    **hyperparameters: Any,
) -> OperatingPoint:
    r"""The threshold with the best score of counts among *all* thresholds, and that score.

    Use it on validation data, for any score of this library or your own. It is exact: one sort, and
    the score at every threshold that makes a difference. The threshold lies midway between the last
    score that is predicted positive and the next, so ``scores > threshold`` and
    ``scores >= threshold`` decide alike.

    .. math:: \max_t\; \mathrm{score}\big(\mathrm{counts}(s \ge t, y)\big)

    Args:
      scores: ``[...]``, larger for the positive class: logits or probabilities. NaN counts as less
        than any other.
      labels: the shape of `scores`; 0/1 as boolean or integer, or soft in [0, 1].
      score: maps `Counts` (and keyword hyper-parameters) to an array of their shape, larger is
        better. Define it once at module level: a new lambda is a new compilation. Static.
      axis: axes that form one set; ``axis=0`` of ``[n, L]`` fits a threshold for every label.
        Default: all. Static.
      where: boolean, broadcasts to `scores`. False leaves an element out, whatever it holds.
      weights: factor ≥ 0 per element, broadcasts to `scores`.
      **hyperparameters: of the score, traced.

    Returns:
      `OperatingPoint` (value, threshold), of the shape of `scores` without `axis`. Of equal values
      the largest threshold is taken; so without a positive label, where F-beta is 0 throughout, it
      is the one that predicts nothing. That lies just above the largest score, and the one that
      predicts everything just below the least: both are finite, and may be averaged over folds.
      Where there are no examples it is inf. Between neighbouring floats nothing lies midway; the
      threshold is then the larger, and only `>=` is right. Scores of ±inf cannot be passed by:
      to predict nothing then takes ``> inf``, and everything ``>= -inf``.

    Raises:
      TypeError, ValueError: as in `curve`.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> s, y = jnp.array([0.9, 0.4, 0.3, 0.1]), jnp.array([1, 0, 1, 0])
      >>> value, threshold = dm.fit_threshold(s, y, score=dm.fbeta, beta=2.0)
      >>> print(value.round(3), threshold)
      0.909 0.2

    References:
      Lipton et al., Optimal thresholding of classifiers to maximize F1 measure, ECML 2014,
      arXiv:1402.1892. With calibrated probabilities the best threshold for F1 is half of the
      best F1.
    """
    c = curve(scores, labels, axis=axis, where=where, weights=weights)
    return _best(c.counts, jnp.asarray(c.thresholds), lambda cells: score(cells, **hyperparameters))


def _best(
    counts: Counts, thresholds: jax.Array, score: Callable[[Counts], jax.Array]
) -> OperatingPoint:
    """The best of falling thresholds, moved to midway before the next that adds anything."""
    cells = jax.tree.map(_math.as_float, counts)
    values = jnp.asarray(score(cells))
    _math.require_shape("the score", values, thresholds.shape, "the counts")
    place = jnp.argmax(jnp.where(jnp.isnan(values), -jnp.inf, values), -1)[..., None]
    at, upper, predicted = (
        jnp.take_along_axis(x, place, -1) for x in (values, thresholds, cells.tp + cells.fp)
    )
    more = cells.tp + cells.fp > predicted  # what weighs nothing is no next one
    lower = jnp.max(jnp.where(more, thresholds, -jnp.inf), -1)
    return OperatingPoint(at[..., 0], _between(upper[..., 0], lower))


def _between(upper: jax.Array, lower: jax.Array) -> jax.Array:
    """A threshold that is at most `upper` and more than `lower`; finite where either is."""
    middle = 0.5 * upper + 0.5 * lower  # whose sum could overflow
    middle = jnp.where(middle > lower, middle, upper)
    above, below = lower + _step(lower), upper - _step(upper)
    one_sided = jnp.where(jnp.isfinite(lower), above, jnp.where(jnp.isfinite(upper), below, upper))
    return jnp.where(jnp.isfinite(upper) & jnp.isfinite(lower), middle, one_sided)


def _step(x: jax.Array) -> jax.Array:
    """A little, in proportion to `x`, and a normal number: XLA takes others for 0."""
    info = jnp.finfo(x.dtype)
    return jnp.maximum(4.0 * info.eps * jnp.abs(x), info.tiny)


@_math.compiled("score", "resamples")
def bootstrap_threshold(
    key: jax.Array,
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    score: Callable[..., jax.Array],
    resamples: int = 200,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    **hyperparameters: Any,
) -> tuple[OperatingPoint, OperatingPoint]:
    r"""`fit_threshold`, and how much its value and threshold vary from sample to sample.

    Use it before a threshold is put to use: where positives are few, samples of the same population
    have widely different best thresholds. Examples are drawn with replacement, as many as there
    are, and the threshold is fitted anew, `resamples` times.

    One sort serves all resamples, each of which is a count of draws, a cumulative sum and a search;
    they come one after the other, so memory stays O(n).

    Args:
      key: of `jax.random.key`.
      scores: ``[...]``, one set; `jax.vmap` over labels gives each its own.
      labels: as in `fit_threshold`.
      score: as in `fit_threshold`. Static.
      resamples: how often; 200 give a standard error to 5 %. Static.
      where: boolean, broadcasts to `scores`. False leaves an element out, whatever it holds.
      weights: factor ≥ 0 per element, broadcasts to `scores`; an example is drawn as often as any
        other, and then counts for its weight.
      **hyperparameters: of the score, traced.

    Returns:
      Two `OperatingPoint`: what `fit_threshold` finds, and the standard errors of both its fields.
      The errors are NaN where there are no examples.

    Raises:
      TypeError, ValueError: as in `curve`.

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
    # Between equal scores there is no threshold: only the last of them is followed by less.
    last = jnp.append(s[1:] < s[:-1], True)[: s.size]
    possible = jnp.append(True, last)
    thresholds = jnp.concatenate([jnp.full_like(s, jnp.inf, shape=1), s])
    rows = jnp.argsort(~included, stable=True)

    def refit(key: jax.Array) -> OperatingPoint:
        times = _draws(key, rows, jnp.sum(included))
        cells = _running(times * positive, times * negative)
        return _best(
            cells, thresholds, lambda c: jnp.where(possible, score(c, **hyperparameters), jnp.nan)
        )

    again = jax.lax.map(refit, jax.random.split(key, resamples))
    return fitted, jax.tree.map(lambda x: jnp.std(x, 0, ddof=1), again)


def _falling(
    scores: ArrayLike, labels: ArrayLike, where: ArrayLike | None, weights: ArrayLike | None
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Checked scores, falling; the mass of positives and of negatives; and what is not left out."""
    s, y = _math.as_float(scores), jnp.asarray(labels)
    mask = jnp.asarray(True if where is None else where)
    w = jnp.asarray(1.0 if weights is None else _math.as_float(weights))
    y = _math.as_float(y if jnp.issubdtype(y.dtype, jnp.floating) else y != 0)
    s, y, w, mask = (jnp.broadcast_to(x, s.shape).ravel() for x in (s, y, w, mask))
    y, w = (jnp.where(mask, x, 0.0) for x in (y, w))
    s = jnp.where(mask & ~jnp.isnan(s), s, -jnp.inf)
    falling, positive, negative, mask = jax.lax.sort((-s, w * y, w * (1.0 - y), mask), num_keys=1)
    return -falling, positive, negative, mask


def _draws(key: jax.Array, rows: jax.Array, number: jax.Array) -> jax.Array:
    """How often each row is drawn, if the first `number` of `rows` are drawn from as often."""
    drawn = jax.random.randint(key, rows.shape, 0, jnp.maximum(number, 1))
    counted = jnp.arange(rows.size) < number
    return jnp.zeros(rows.size).at[rows[drawn]].add(counted)


def _running(positive: jax.Array, negative: jax.Array) -> Counts:
    """Counts if nothing, the first, the first two, … are predicted positive."""
    tp, fp = (jnp.cumsum(jnp.pad(mass, (1, 0))) for mass in (positive, negative))
    return Counts(tp=tp, fp=fp, fn=tp[-1] - tp, tn=fp[-1] - fp)


@_math.compiled()
def bayes_threshold(cost: ArrayLike) -> jax.Array:
    r"""The probability from which on "positive" is the cheaper decision.

    Use it where the costs are known and the probabilities good: no threshold needs fitting then.
    For logits take ``jax.scipy.special.logit`` of it; equal costs give probability ½, logit 0.

    .. math:: t = \frac{C_{01} - C_{00}}{(C_{01} - C_{00}) + (C_{10} - C_{11})}

    Args:
      cost: what it costs to predict class j when class t is true, ``cost[t, j]``, ``[..., 2, 2]``,
        in any unit; an error costs more than the right decision. The same matrix as in
        `expected_cost_loss`. Traced.

    Returns:
      Threshold in [0, 1], ``[...]``; 0 where no decision costs more than another.

    Raises:
      ValueError: if `cost` is not ``[..., 2, 2]``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(dm.bayes_threshold(jnp.array([[0.0, 1.0], [9.0, 0.0]])))  # a miss costs 9 alarms
      0.1

    References:
      Elkan, The foundations of cost-sensitive learning, IJCAI 2001.
    """
    c = _math.as_float(cost)
    if c.shape[-2:] != (2, 2):
        raise ValueError(f"cost must have shape [..., 2, 2], got {c.shape}.")
    alarm, miss = c[..., 0, 1] - c[..., 0, 0], c[..., 1, 0] - c[..., 1, 1]
    return _math.divide(alarm, alarm + miss)


# --- expected F-beta ------------------------------------------------------------------------------
#
# With r = beta² / (1 + beta²), k elements chosen and m that are positive, F-beta is
# TP / ((1 - r) k + r m). One over the denominator is an integral of exponentials,
# ∫ exp(-s (1 - r) k) exp(-s r m) ds, and the expectation of exp(-s r m), unlike that of 1 / m, is a
# product over independent elements. So the sum over 2ⁿ outcomes is one integral of a product, whose
# integrand is positive, and a fixed rule of some 50 nodes has it to the last digit of a float32.


@_math.compiled("axis")
def expected_fbeta(
    probabilities: ArrayLike,
    chosen: ArrayLike,
    *,
    beta: ArrayLike = 1.0,
    axis: Axis = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""The expected F-beta of predicting the `chosen` elements, if labels are independent.

    Use it to judge a decision before labels are there, or as an objective of the probabilities, in
    which it is differentiable. Unlike F-beta of soft counts, which is a ratio of expectations, it
    is the expectation of the ratio; they differ while positives are few.

    .. math:: \mathbb{E}_{y_i \sim \mathrm{Bernoulli}(p_i)}\, F_\beta(\mathrm{chosen}, y)

    It is exact to rounding (relative 1e-9 in float64), in time proportional to the number of
    elements; dynamic programming over the number of positives takes its square.

    Args:
      probabilities: of being positive, in [0, 1], ``[...]``; calibrated, or it means nothing.
      chosen: boolean, the shape of `probabilities`: what is predicted positive.
      beta: how many times recall matters more than precision; broadcasts to the result. Traced.
      axis: axes that form one set; ``axis=-1`` of ``[n, L]`` is the score of every instance's
        labels. Default: all. Static.
      where: boolean, broadcasts to `probabilities`. False leaves an element out, even a NaN.

    Returns:
      Expected score in [0, 1], of the shape of `probabilities` without `axis`. 0 where nothing is
      chosen, even for the case that nothing is positive: where that shall score 1 as in some
      multi-label work, the empty set is worth ``jnp.prod(1 - probabilities)``.

    Raises:
      TypeError: if `probabilities` are not floating, `chosen` or `where` not boolean.
      ValueError: if the shapes differ, do not broadcast, or an axis is out of range.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> p = jnp.array([0.5, 0.5])
      >>> print(dm.expected_fbeta(p, jnp.array([True, True])))  # (1 + 2/3 + 2/3 + 0) / 4
      0.58333

    References:
      Jansche, A maximum expected utility framework for binary sequence labeling, ACL 2007; Ye et
      al., Optimizing F-measures: a tale of two approaches, ICML 2012, arXiv:1206.4625, the dynamic
      programme for the same number.
    """
    p = _probabilities(probabilities, where)
    among = jnp.asarray(chosen)
    if among.dtype != jnp.bool_:
        raise TypeError(f"chosen must be boolean, got {among.dtype}: what is predicted positive.")
    _math.require_shape("chosen", among, p.shape, "probabilities")
    if where is not None:
        among &= jnp.asarray(where)
    axes = _math.normalize_axis(axis, p.ndim)
    p, among = (_math.sets_last(x, axes) for x in (p, among))
    number = jnp.sum(among, -1, dtype=p.dtype, keepdims=True)

    def found(hits: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(among, hits, 0.0), -1, keepdims=True)

    return _expectation(p, _miss_share(beta, p), number, found)[..., 0]


@_math.compiled("axis")
def maximize_expected_fbeta(
    probabilities: ArrayLike,
    *,
    beta: ArrayLike = 1.0,
    axis: Axis = None,
    where: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
    r"""The set of elements with the largest expected F-beta, and that expectation.

    Use it to decide from calibrated probabilities, where F-beta of each *set* is what is judged: of
    each instance's labels, each document's words, each image's pixels. No labels are needed. It is
    always the k largest probabilities for some k, and every k is tried. In a large set that is a
    threshold of F / (1 + beta²), in a small one it depends on the others.

    Where the probabilities tell nothing it predicts everything: that is what F-beta rewards.

    Args:
      probabilities: of being positive, in [0, 1], ``[...]``; of independent labels.
      beta: how many times recall matters more than precision; broadcasts to the value. Traced.
      axis: axes that form one set; ``axis=-1`` of ``[n, L]`` decides every instance. Default: all.
        Static.
      where: boolean, broadcasts to `probabilities`. False leaves an element out, even a NaN.

    Returns:
      The set, boolean in the shape of `probabilities`, and its expected score in the shape of
      `probabilities` without `axis`. Of equal scores the smallest set; it is empty, with score 0,
      only where all probabilities are 0 (see `expected_fbeta`).

    Raises:
      TypeError: if `probabilities` are not floating, or `where` not boolean.
      ValueError: if shapes do not broadcast, or an axis is out of range.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> chosen, value = dm.maximize_expected_fbeta(jnp.array([0.4, 0.05, 0.3]))
      >>> print(chosen, value)
      [ True False  True] 0.422

    References:
      Lewis, Evaluating and optimizing autonomous text classification systems, SIGIR 1995; Ye et
      al., Optimizing F-measures: a tale of two approaches, ICML 2012, arXiv:1206.4625.
    """
    p = _probabilities(probabilities, where)
    axes = _math.normalize_axis(axis, p.ndim)
    sets = _math.sets_last(p, axes)
    rank = jnp.arange(sets.shape[-1] + 1)
    falling = -jnp.sort(-sets, -1)
    values = _expectation(
        falling, _miss_share(beta, sets), rank, lambda hits: _after_zero(jnp.cumsum(hits, -1))
    )
    number = jnp.argmax(values, -1)[..., None]
    order = jnp.argsort(-sets, -1, stable=True)
    chosen = jnp.put_along_axis(
        jnp.zeros(sets.shape, bool), order, rank[:-1] < number, axis=-1, inplace=False
    )
    value = jnp.take_along_axis(values, number, -1)[..., 0]
    return _sets_back(chosen, p.shape, axes), value


def _probabilities(probabilities: ArrayLike, where: ArrayLike | None) -> jax.Array:
    """Checked probabilities, 0 for what is left out: it is never positive."""
    p = jnp.asarray(probabilities)
    _math.require_float("probabilities", p, "They are numbers in [0, 1].")
    mask = _math.select(where, p.shape, "probabilities")
    p = _math.as_float(p)
    return p if mask is None else jnp.where(mask, p, 0.0)


def _miss_share(beta: ArrayLike, sets: jax.Array) -> jax.Array:
    """What a miss weighs against a false alarm, beta² / (1 + beta²), of sets ``[..., n]``."""
    squared = parameter("beta", beta, sets.shape[:-1], of="the sets") ** 2
    share = (squared / (1.0 + squared)).astype(sets.dtype)
    return jnp.broadcast_to(share, sets.shape[:-1])[..., None]


def _expectation(
    p: jax.Array,
    share: jax.Array,
    number: jax.Array,
    found: Callable[[jax.Array], jax.Array],
) -> jax.Array:
    """Expected F-beta where `number` elements are chosen, over which `found` sums."""

    @jax.checkpoint  # else the gradient keeps every node's arrays
    def add(total: jax.Array, node: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        s, weight = node
        # E[exp(-s r m)] over independent elements, and each one's part in it if it is positive.
        lost = p * jnp.expm1(-s * share)
        lost = jnp.maximum(lost, jnp.finfo(p.dtype).epsneg - 1.0)  # a factor of 0 has no logarithm
        log_product = jnp.sum(jnp.log1p(lost), -1, keepdims=True)
        hits = p * jnp.exp(-s * share) / (1.0 + lost)
        return total + weight * jnp.exp(log_product - s * (1.0 - share) * number) * found(
            hits
        ), None

    start = jnp.zeros(jnp.broadcast_shapes(number.shape, (*p.shape[:-1], 1)), p.dtype)
    nodes = tuple(jnp.asarray(x, p.dtype) for x in _rule(p.shape[-1]))
    return jax.lax.scan(add, start, nodes)[0]


def _rule(largest: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes s and weights with Σ weight · exp(-a s) = 1 / a for a in [1, largest], to 5e-10.

    The trapezoidal rule in log(s), which converges exponentially. What lies below the least node,
    where exp(-a s) is 1, is a geometric series: the weight of a node at 0.
    """
    step, below, above = 0.4, 11.0, 3.2
    logs = np.arange(-np.log(max(largest, 1)) - below, above + step, step)
    weights = step * np.exp(logs)
    rest = weights[0] / np.expm1(step)
    return np.append(np.exp(logs), 0.0), np.append(weights, rest)


def _after_zero(x: jax.Array) -> jax.Array:
    return jnp.concatenate([jnp.zeros_like(x, shape=(*x.shape[:-1], 1)), x], -1)


def _sets_back(x: jax.Array, shape: tuple[int, ...], axes: tuple[int, ...]) -> jax.Array:
    """The inverse of `_math.sets_last` for an array of `shape`."""
    order = [*(a for a in range(len(shape)) if a not in axes), *axes]
    back = [order.index(a) for a in range(len(shape))]
    return jnp.transpose(x.reshape([shape[a] for a in order]), back)
