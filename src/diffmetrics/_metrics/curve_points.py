r"""Points of a curve: the best value at a given rate, and its threshold.

Each is a point that a threshold reaches, except the equal error rate, which decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import calls, numbers
from diffmetrics._metrics import scores
from diffmetrics._metrics.counts import on_host
from diffmetrics._metrics.curves import Curve, counts_of, detection_error_curve, precision_of, ratio


class OperatingPoint(NamedTuple):
    """A point of a curve: its value, and the threshold that reaches it.

    A named tuple: ``value, threshold = best_fbeta(...)``.

    Attributes:
      value: the score, rate or cost ``[...]``.
      threshold: ``[...]``; scores from it on are predicted positive, and inf predicts nothing.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> c = dm.curve(jnp.array([0.9, 0.4, 0.3, 0.1]), jnp.array([1, 0, 1, 0]))
      >>> value, threshold = dm.best_fbeta(c, beta=1.0)
      >>> print(value, threshold)
      0.8 0.3
    """

    value: jax.Array
    threshold: jax.Array

    def to_host(self) -> OperatingPoint:
        """Both as float64 NumPy; those of one curve are plain numbers, which JSON takes.

        Example:
          >>> import diffmetrics as dm, jax.numpy as jnp, json
          >>> c = dm.curve(jnp.array([2.5, 0.5, 0.25, -1.0]), jnp.array([1, 0, 1, 0]))
          >>> json.dumps(dm.best_fbeta(c).to_host()._asdict())
          '{"value": 0.800000011920929, "threshold": 0.25}'
        """
        return on_host(self)


@calls.compiled()
def recall_at_precision(curve: Curve, *, precision: ArrayLike) -> OperatingPoint:
    r"""Recall at precision: the largest recall at a given precision or more, and its threshold.

    Use it if only a given share of the alarms may be false. On the set that chose the threshold the
    value is optimistic, the more so the fewer the positives.

    Args:
      curve: `Curve` ``[..., K]``, from `curve` or `threshold_counts`.
      precision: the precision to keep, in [0, 1].

    Returns:
      `OperatingPoint` ``[...]``; recall 0 at inf if no threshold will do, NaN without positives.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> c = dm.curve(jnp.array([0.9, 0.4, 0.3, 0.1]), jnp.array([1, 0, 1, 0]))
      >>> value, threshold = dm.recall_at_precision(c, precision=0.6)
      >>> print(value, threshold)
      1.0 0.3
    """
    c = counts_of(curve)
    reached = precision_of(c)
    return _best(curve, ratio(c.tp, c.fn), reached >= _like(reached, precision))


@calls.compiled()
def precision_at_recall(curve: Curve, *, recall: ArrayLike) -> OperatingPoint:
    r"""Precision at recall: the largest precision at a given recall or more, and its threshold.

    Use it if only a given share of the positives may be missed, as in screening.

    Args:
      curve: `Curve` ``[..., K]``, from `curve` or `threshold_counts`.
      recall: the recall to keep, in [0, 1].

    Returns:
      `OperatingPoint` ``[...]``; NaN without positives.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> c = dm.curve(jnp.array([0.9, 0.4, 0.3, 0.1]), jnp.array([1, 0, 1, 0]))
      >>> value, threshold = dm.precision_at_recall(c, recall=0.9)
      >>> print(value.round(3), threshold)
      0.667 0.3
    """
    c = counts_of(curve)
    reached = ratio(c.tp, c.fn)
    value = jnp.where(jnp.isnan(reached), jnp.nan, precision_of(c))
    return _best(curve, value, reached >= _like(reached, recall))


@calls.compiled()
def tpr_at_fpr(curve: Curve, *, fpr: ArrayLike) -> OperatingPoint:
    r"""TPR at FPR: the largest recall at a given false positive rate or less, and its threshold.

    Use it if only a given share of the negatives may raise an alarm, as in monitoring.

    Args:
      curve: `Curve` ``[..., K]``, from `curve` or `threshold_counts`.
      fpr: the false positive rate to keep, in [0, 1].

    Returns:
      `OperatingPoint` ``[...]``; NaN if a class is absent.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> c = dm.curve(jnp.array([0.9, 0.4, 0.3, 0.1]), jnp.array([1, 0, 1, 0]))
      >>> value, threshold = dm.tpr_at_fpr(c, fpr=0.2)
      >>> print(value, threshold)
      0.5 0.9
    """
    c = counts_of(curve)
    alarms = ratio(c.fp, c.tn)
    value = jnp.where(jnp.isnan(alarms), jnp.nan, ratio(c.tp, c.fn))
    return _best(curve, value, alarms <= _like(alarms, fpr))


@calls.compiled()
def best_fbeta(curve: Curve, *, beta: ArrayLike = 1.0) -> OperatingPoint:
    r"""The best F1 or F-beta over all thresholds, and its threshold.

    Use it to choose a threshold on *validation* data, where the value is then optimistic. Ties go
    to the largest threshold. `fit_threshold` takes any score, and puts the threshold midway between
    two scores.

    Args:
      curve: `Curve` ``[..., K]``, from `curve` for all thresholds, or from `threshold_counts`.
      beta: how many times recall matters more than precision; 1 is F1.

    Returns:
      `OperatingPoint` ``[...]``; value 0 at threshold inf without positives.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> c = dm.curve(jnp.array([0.9, 0.4, 0.3, 0.1]), jnp.array([1, 0, 1, 0]))
      >>> value, threshold = dm.best_fbeta(c)
      >>> print(value, threshold)
      0.8 0.3
    """
    c = counts_of(curve)
    return _best(curve, scores.fbeta(c, beta), jnp.ones_like(c.tp, bool))


def _best(curve: Curve, value: jax.Array, allowed: jax.Array) -> OperatingPoint:
    """The largest allowed `value`; ties go to the largest threshold."""
    undefined = jnp.all(jnp.isnan(value), -1)
    place = jnp.argmax(jnp.where(allowed & ~jnp.isnan(value), value, -jnp.inf), -1)
    thresholds = jnp.broadcast_to(jnp.asarray(curve.thresholds), value.shape)
    found, threshold = (_at(x, place) for x in (value, thresholds))
    return OperatingPoint(*(jnp.where(undefined, jnp.nan, x) for x in (found, threshold)))


def _like(x: jax.Array, given: ArrayLike) -> jax.Array:
    """A number that is given, or one for each point, as what `x` is."""
    return jnp.broadcast_to(jnp.asarray(given).astype(x.dtype), x.shape)


def _at(x: jax.Array, place: jax.Array) -> jax.Array:
    return jnp.take_along_axis(x, place[..., None], -1)[..., 0]


@calls.compiled("normalized")
def min_detection_cost(
    curve: Curve,
    *,
    target_prior: ArrayLike,
    miss_cost: ArrayLike = 1.0,
    false_alarm_cost: ArrayLike = 1.0,
    normalized: bool = True,
) -> OperatingPoint:
    r"""Minimum detection cost (minDCF): the least expected cost, and its threshold.

    Use it to compare detectors of speakers, faces or intrusions at the application's costs of
    misses and false alarms and frequency of targets, which need not be those of the test set.

    .. math:: \min_t\; C_\mathrm{miss}\, \pi\, \mathrm{FNR}(t)
              + C_\mathrm{fa} (1 - \pi)\, \mathrm{FPR}(t)

    Args:
      curve: `Curve` ``[..., K]``, from `curve` or `threshold_counts`.
      target_prior: π in (0, 1), frequency of targets in use: NIST took 0.01 and 0.005, VoxSRC 0.05.
      miss_cost: cost of missing a target.
      false_alarm_cost: cost of an alarm without a target.
      normalized: whether to divide by the cost of the better of "always" and "never". Static.

    Returns:
      `OperatingPoint` ``[...]``; cost in [0, 1] if normalised, NaN if a class is absent.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> c = dm.curve(jnp.array([0.9, 0.4, 0.3, 0.1]), jnp.array([1, 0, 1, 0]))
      >>> value, threshold = dm.min_detection_cost(c, target_prior=0.2)
      >>> print(value, threshold)
      0.5 0.9

    References:
      NIST, The 2016 speaker recognition evaluation plan, section 3.
    """
    fpr, fnr, _ = detection_error_curve(curve)
    prior = _like(fnr, target_prior)
    per_miss, per_alarm = (
        _like(fnr, miss_cost) * prior,
        _like(fpr, false_alarm_cost) * (1.0 - prior),
    )
    cost = per_miss * fnr + per_alarm * fpr
    if normalized:
        cost /= jnp.minimum(per_miss, per_alarm)
    value, threshold = _best(curve, -cost, jnp.ones_like(cost, bool))
    return OperatingPoint(-value, threshold)


EqualErrorRate = Literal["interpolate", "nearest", "convex_hull"]


@calls.compiled("method")
def equal_error_rate(curve: Curve, *, method: EqualErrorRate = "interpolate") -> jax.Array:
    r"""Equal error rate (EER): the rate at which false alarms and misses are equally frequent.

    Use it to compare detectors at any frequency of targets, as is usual for speakers. With few
    trials no threshold may give equal rates. Then the methods differ, by up to a step of the rarer
    class:

    * ``"interpolate"``: on the straight line between the two neighbouring points of the ROC curve.
    * ``"nearest"``: the mean of both rates where they differ least.
    * ``"convex_hull"``: on the convex hull of the curve, which smooths the dents that ties and
      noise make; never above ``"interpolate"``.

    Args:
      curve: `Curve` ``[..., K]``, from `curve` or `threshold_counts`.
      method: one of the three. Static.

    Returns:
      Rate in [0, 1] ``[...]``; NaN if a class is absent.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> c = dm.curve(jnp.array([4.0, 3.0, 2.0, 1.0, 0.0]), jnp.array([1, 0, 1, 0, 0]))
      >>> for method in ("interpolate", "nearest", "convex_hull"):
      ...     print(dm.equal_error_rate(c, method=method))
      0.33333
      0.41667
      0.2000

    References:
      Brümmer and de Villiers, The BOSARIS toolkit, 2013, arXiv:1304.2865 (convex hull).
    """
    found: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
        "interpolate": _interpolated,
        "nearest": _nearest,
        "convex_hull": _on_hull,
    }
    if method not in found:
        raise ValueError(f"method must be one of {', '.join(found)}, got {method!r}.")
    fpr, fnr, _ = detection_error_curve(curve)
    value = jnp.vectorize(found[method], signature="(k),(k)->()")(fpr, fnr)
    return jnp.where(jnp.isnan(fpr + fnr).any(-1), jnp.nan, value)


def _interpolated(fpr: jax.Array, fnr: jax.Array) -> jax.Array:
    after = jnp.maximum(jnp.argmax(fpr >= fnr), 1)
    return _crossing(_Segment(fpr[after - 1], fnr[after - 1], fpr[after], fnr[after]))


def _nearest(fpr: jax.Array, fnr: jax.Array) -> jax.Array:
    place = jnp.argmin(jnp.abs(fpr - fnr))
    return 0.5 * (fpr[place] + fnr[place])


class _Segment(NamedTuple):
    """From a point with more misses to one with more false alarms."""

    fpr: jax.Array
    fnr: jax.Array
    to_fpr: jax.Array
    to_fnr: jax.Array


def _crossing(s: _Segment) -> jax.Array:
    """Where false alarms and misses are equal on a straight line."""
    before, after = s.fnr - s.fpr, s.to_fpr - s.to_fnr
    share = numbers.divide(before, before + after)
    return s.fpr + share * (s.to_fpr - s.fpr)


def _on_hull(fpr: jax.Array, fnr: jax.Array) -> jax.Array:
    """Pull a chord towards the curve until nothing lies below it.

    It crosses the diagonal. After some ten passes, without a sort, its ends are hull neighbours.
    """

    def pull(state: tuple[_Segment, jax.Array]) -> tuple[_Segment, jax.Array]:
        s, _ = state
        alarm, miss = s.fnr - s.to_fnr, s.to_fpr - s.fpr
        cost = alarm * fpr + miss * fnr
        lowest = jnp.argmin(cost)
        below = cost[lowest] < (alarm * s.fpr + miss * s.fnr) * (1.0 - 1e-6)
        x, y = fpr[lowest], fnr[lowest]
        first = x < y
        nearer = _Segment(
            jnp.where(first, x, s.fpr),
            jnp.where(first, y, s.fnr),
            jnp.where(first, s.to_fpr, x),
            jnp.where(first, s.to_fnr, y),
        )
        return jax.tree.map(lambda new, old: jnp.where(below, new, old), nearer, s), below

    # Made of the data, so that within `shard_map` it differs from device to device as they do.
    zero, one = jnp.zeros_like(fpr[0] + fnr[0]), jnp.ones_like(fpr[0] + fnr[0])
    start: Any = (_Segment(zero, one, one, zero), zero < one)
    chord, _ = jax.lax.while_loop(lambda state: state[1], pull, start)
    return _crossing(chord)
