r"""Curves: counts with an axis of thresholds, and ROC AUC, average precision and plots from them.

Thresholds turn scores into `Counts`. All numbers of ROC and PR curves are functions of these::

    roc_auc(curve(scores, labels))                          # exact: every score is a threshold
    roc_auc(threshold_counts(scores, labels, thresholds))   # adds up over batches and hosts

The thresholds of a curve lie on the last axis and fall. The first is inf, where nothing is
predicted. An element is predicted positive if its score is at least the threshold.

Areas and rates of an absent class are NaN; ``jnp.nanmean`` over labels leaves them out.
"""

from __future__ import annotations

import dataclasses
from typing import Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import calls, doors, numbers, order, set_doors
from diffmetrics._core.calls import SetOptions
from diffmetrics._metrics.counts import Counts, kind_of


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Curve:
    """ROC or precision-recall curve: counts at falling thresholds.

    `curve` and `threshold_counts` make it. A frozen pytree. Curves at the same given thresholds add
    up with `+`, over batches and hosts.

    Attributes:
      counts: `Counts` ``[..., K]``, one entry per threshold.
      thresholds: ``[..., K]``, falling; the first is inf.
      fixed: whether the thresholds were given, so that curves add up. Static.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> scores, labels = jnp.array([2.0, -1.0]), jnp.array([1, 0])
      >>> first = dm.threshold_counts(scores, labels, jnp.array([0.0]))
      >>> print((first + first).counts.tp, first.thresholds)
      [0 2 2] [ inf   0. -inf]
    """

    counts: Counts
    thresholds: ArrayLike
    fixed: bool = dataclasses.field(default=False, metadata={"static": True})

    def __add__(self, other: Curve) -> Curve:
        if not isinstance(other, Curve):
            raise TypeError(f"a Curve adds up with a Curve, got {type(other).__name__}.")
        if not (self.fixed and other.fixed):
            raise TypeError(
                "curves add up only at given thresholds, and these are every batch's own scores. "
                "Use threshold_counts(scores, labels, thresholds)."
            )
        ours, theirs = jnp.shape(self.thresholds), jnp.shape(other.thresholds)
        if ours != theirs:
            raise ValueError(f"curves must have the same thresholds, got {ours} and {theirs}.")
        return dataclasses.replace(self, counts=self.counts + other.counts)

    def to_host(self) -> Curve:
        """The curve with counts in float64 NumPy, for totals over many batches.

        Example:
          >>> import diffmetrics as dm, numpy as np
          >>> part = dm.threshold_counts(np.array([2.0, -1.0]), np.array([1, 0]), np.zeros(1))
          >>> print((part.to_host() + part).counts.tp)
          [0. 2. 2.]
        """
        return dataclasses.replace(self, counts=self.counts.to_host())


# --- making a curve -------------------------------------------------------------------------------


@calls.compiled("axis")
def curve(
    scores: ArrayLike,
    labels: ArrayLike,
    **options: Unpack[SetOptions],
) -> Curve:
    r"""Exact ROC and precision-recall curve of scores: the counts at every threshold.

    Pass it to `roc_auc`, `average_precision`, `recall_at_precision`, `equal_error_rate` and their
    neighbours. If the scores do not fit in one place, take `threshold_counts`. It is one sort and
    two cumulative sums: O(n log n) in time, O(n) in memory, of static shape. Tied scores are
    decided together: each holds the counts of all.

    Args:
      scores: ``[...]``, larger for the positive class, such as negated distances. Pass logits:
        float64 probabilities near 1 become ties in float32. A NaN counts as wrong: the least score
        of a positive, the greatest of a negative.
      labels: 0/1 or soft in [0, 1], of the shape of `scores`.
      **options: `axis` (0 of ``[n, L]`` makes a curve per label), `where`, `weights`; see
        docs/arguments.md.

    Returns:
      `Curve` of the shape of `scores` without `axis`, with n + 1 thresholds. Counts are int32,
      exact to 2³¹, if labels are not floating and there are no weights; else float32.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> c = dm.curve(jnp.array([0.9, 0.4, 0.4, 0.1]), jnp.array([1, 1, 0, 0]))
      >>> print(c.thresholds, c.counts.tp, c.counts.fp)
      [inf 0.9 0.4 0.4 0.1] [0 1 2 2 2] [0 0 1 1 2]

    References:
      Fawcett, An introduction to ROC analysis, Pattern Recognition Letters 27, 2006, algorithm 1.
    """
    s, positive, negative = set_doors.scored(scores, labels, **options)
    falling, *masses = jax.lax.sort((-s, positive, negative), num_keys=1)
    last = order.is_last(falling)
    tp, fp = (_shared_by_ties(jnp.cumsum(mass, -1, dtype=mass.dtype), last) for mass in masses)
    return Curve(_between_ends(tp, fp), _after(jnp.inf, -falling))


def _shared_by_ties(total: jax.Array, last: jax.Array) -> jax.Array:
    """A running total; tied scores share that of their last."""
    integer = jnp.issubdtype(total.dtype, jnp.integer)
    most = jnp.iinfo(total.dtype).max if integer else jnp.inf
    axis = total.ndim - 1
    return jax.lax.cummin(jnp.where(last, total, most), axis=axis, reverse=True)


def _between_ends(tp: jax.Array, fp: jax.Array) -> Counts:
    """Counts of falling thresholds, after the one at which nothing is predicted."""
    tp, fp = _after(0, tp), _after(0, fp)
    return Counts(tp=tp, fp=fp, fn=tp[..., -1:] - tp, tn=fp[..., -1:] - fp)


def _after(first: float, x: jax.Array) -> jax.Array:
    return jnp.concatenate([jnp.full_like(x, first, shape=(*x.shape[:-1], 1)), x], -1)


@calls.compiled("axis")
def threshold_counts(
    scores: ArrayLike,
    labels: ArrayLike,
    thresholds: ArrayLike,
    **options: Unpack[SetOptions],
) -> Curve:
    r"""ROC and precision-recall curve at given thresholds; adds up over batches, devices and hosts.

    Use it if the scores of a data set never lie in one place. Rates at the thresholds are exact;
    areas treat scores between two thresholds as ties. So place thresholds where the *positives*
    are. For a rare class do not take an even grid of probabilities: take logits and
    ``jnp.linspace(-12, 12, 1000)``, or quantiles of some positives,
    ``jnp.quantile(sample, jnp.linspace(0, 1, 1000))``. It is a binary search per score: O(n log K).

    Args:
      scores: ``[...]``, larger for the positive class.
      labels: 0/1 or soft in [0, 1], of the shape of `scores`.
      thresholds: ``[K]``, in any order; the same in every batch. inf and -inf are added.
      **options: `axis` (0 of ``[n, L]`` makes a curve per label), `where`, `weights`; see
        docs/arguments.md.

    Returns:
      `Curve` of the shape of `scores` without `axis`, with K + 2 thresholds. Counts are int32 if
      labels are not floating and have no weights; `Curve.to_host` adds beyond 2³¹.

    Raises:
      ValueError: if `thresholds` are not a vector.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> t = jnp.array([-1.0, 0.0, 1.0])
      >>> total = dm.threshold_counts(jnp.array([2.0, 0.5]), jnp.array([1, 0]), t)
      >>> total += dm.threshold_counts(jnp.array([0.0, -3.0]), jnp.array([1, 0]), t)
      >>> print(total.thresholds, total.counts.tp, total.counts.fp)
      [ inf   1.   0.  -1. -inf] [0 1 2 2 2] [0 0 1 1 2]
      >>> print(dm.roc_auc(total))
      0.875
    """
    s, positive, negative = set_doors.scored(scores, labels, **options)
    t = numbers.as_float(thresholds).astype(s.dtype)
    if t.ndim != 1:
        raise ValueError(f"thresholds must be a vector, got shape {t.shape}.")
    rising = jnp.sort(t)
    # The first of the falling thresholds (after inf) that the score reaches.
    place = t.size - jnp.searchsorted(rising, s, side="right")
    tp, fp = (order.totals(mass, place, t.size + 1) for mass in (positive, negative))
    ends = _after(jnp.inf, jnp.concatenate([rising[::-1], jnp.full_like(t, -jnp.inf, shape=1)]))
    tp, fp = (jnp.cumsum(mass, -1, dtype=mass.dtype) for mass in (tp, fp))
    thresholds = jnp.broadcast_to(ends, (*tp.shape[:-1], t.size + 2))
    return Curve(_between_ends(tp, fp), thresholds, fixed=True)


# --- curves to draw -------------------------------------------------------------------------------


@calls.compiled()
def roc_curve(curve: Curve) -> tuple[jax.Array, jax.Array, jax.Array]:
    r"""ROC curve to draw: false and true positive rates, from (0, 0) to (1, 1).

    Returns:
      False positive rates, true positive rates and thresholds, each ``[..., K]``; the rate of an
      absent class is NaN.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> c = dm.curve(jnp.array([0.9, 0.4, 0.3, 0.1]), jnp.array([1, 0, 1, 0]))
      >>> fpr, tpr, thresholds = dm.roc_curve(c)
      >>> print(fpr, tpr)
      [0.  0.  0.5 0.5 1. ] [0.  0.5 0.5 1.  1. ]
    """
    c = counts_of(curve)
    return ratio(c.fp, c.tn), ratio(c.tp, c.fn), jnp.asarray(curve.thresholds)


@calls.compiled()
def precision_recall_curve(curve: Curve) -> tuple[jax.Array, jax.Array, jax.Array]:
    r"""Precision-recall (PR) curve to draw: precision and recall, from recall 0 to recall 1.

    For the area take `average_precision`: the area under straight lines is too large.

    Returns:
      Precision, recall and thresholds, each ``[..., K]``. Precision is 1 where nothing is
      predicted; recall is NaN without positives.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> c = dm.curve(jnp.array([0.9, 0.4, 0.3, 0.1]), jnp.array([1, 0, 1, 0]))
      >>> precision, recall, thresholds = dm.precision_recall_curve(c)
      >>> print(precision[:3], recall)
      [1.  1.  0.5] [0.  0.5 0.5 1.  1. ]

    References:
      Davis and Goadrich, The relationship between precision-recall and ROC curves, ICML 2006.
    """
    c = counts_of(curve)
    return precision_of(c), ratio(c.tp, c.fn), jnp.asarray(curve.thresholds)


@calls.compiled()
def detection_error_curve(curve: Curve) -> tuple[jax.Array, jax.Array, jax.Array]:
    r"""DET curve to draw: false alarm and miss rates, usually on axes of normal deviates.

    Returns:
      False positive rates, false negative rates and thresholds, each ``[..., K]``; the rate of an
      absent class is NaN.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> c = dm.curve(jnp.array([0.9, 0.4, 0.3, 0.1]), jnp.array([1, 0, 1, 0]))
      >>> fpr, fnr, thresholds = dm.detection_error_curve(c)
      >>> print(fpr, fnr)
      [0.  0.  0.5 0.5 1. ] [1.  0.5 0.5 0.  0. ]

    References:
      Martin et al., The DET curve in assessment of detection task performance, Eurospeech 1997.
    """
    c = counts_of(curve)
    return ratio(c.fp, c.tn), ratio(c.fn, c.tp), jnp.asarray(curve.thresholds)


def counts_of(curve: Curve) -> Counts:
    if not isinstance(curve, Curve):
        raise TypeError(
            f"expected a Curve, got {kind_of(curve)}: call it on curve(scores, labels), or "
            "on threshold_counts(scores, labels, thresholds)."
        )
    cells = jax.tree.leaves(jax.tree.map(jnp.asarray, curve.counts))
    integer = all(jnp.issubdtype(cell.dtype, jnp.integer) for cell in cells)
    # Integers become what the scores were.
    floats = numbers.floats(*cells, *([curve.thresholds] if integer else []))
    return Counts(*floats[: len(cells)])


def ratio(part: ArrayLike, rest: ArrayLike) -> jax.Array:
    """The share of `part` in both; NaN if there is neither."""
    part, rest = numbers.floats(part, rest)
    return part / (part + rest)


def precision_of(c: Counts) -> jax.Array:
    tp, fp = numbers.floats(c.tp, c.fp)
    return numbers.quotient(tp, tp + fp, 1.0)


# --- areas ----------------------------------------------------------------------------------------


@calls.compiled()
def roc_auc(curve: Curve) -> jax.Array:
    r"""ROC AUC (AUROC), the area under the ROC curve: how often a positive outscores a negative.

    Ties count one half. It does not depend on the prevalence, so it says little about precision if
    positives are rare: look at `average_precision`, too.

    .. math:: P(s_+ > s_-) + \tfrac12 P(s_+ = s_-)

    Args:
      curve: `Curve` ``[..., K]``; exact if it comes from `curve`.

    Returns:
      Area in [0, 1] ``[...]``; NaN if a class is absent.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> c = dm.curve(jnp.array([2.0, 1.0, 0.0, -1.0]), jnp.array([1, 0, 1, 0]))
      >>> print(dm.roc_auc(c))
      0.75

    References:
      Hanley and McNeil, The meaning and use of the area under a ROC curve, Radiology 143, 1982.
    """
    c = counts_of(curve)
    recall = ratio(c.tp, c.fn)
    return _total(_steps(curve.counts.fp, c) * 0.5 * (recall[..., 1:] + recall[..., :-1])) / _all(
        c.fp, c.tn
    )


@calls.compiled()
def partial_roc_auc(curve: Curve, *, max_fpr: ArrayLike) -> jax.Array:
    r"""Partial ROC AUC: the area up to a false positive rate, standardised as by McClish.

    Use it if the detector never runs at more than `max_fpr`. ½ is chance, 1 is perfect. The area
    itself is A = ``(2 * s - 1) * (max_fpr - max_fpr ** 2 / 2) + max_fpr ** 2 / 2``.

    .. math:: s = \tfrac12 \Bigl( 1 + \frac{A - m^2/2}{m - m^2/2} \Bigr), \quad
       A = \int_0^m \mathrm{TPR}\; d\,\mathrm{FPR}

    Args:
      curve: `Curve` ``[..., K]``; exact if it comes from `curve`.
      max_fpr: m, in (0, 1].

    Returns:
      Standardised area s in [0, 1] ``[...]``; NaN if a class is absent.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> c = dm.curve(jnp.array([3.0, 2.0, 1.0, 0.0, -1.0]), jnp.array([1, 0, 1, 0, 0]))
      >>> print(dm.partial_roc_auc(c, max_fpr=0.5))
      0.7778

    References:
      McClish, Analyzing a portion of the ROC curve, Medical Decision Making 9, 1989.
    """
    c = counts_of(curve)
    fpr, recall = ratio(c.fp, c.tn), ratio(c.tp, c.fn)
    width = _steps(curve.counts.fp, c) / _all(c.fp, c.tn)[..., None]
    most = doors.parameter("max_fpr", max_fpr, fpr[..., 0], "the curves")
    most = jnp.broadcast_to(most, fpr.shape[:-1])
    taken = jnp.clip(most[..., None] - fpr[..., :-1], 0.0, width)
    # Up to where the straight line between two points is cut.
    rise = jnp.diff(recall, axis=-1) * numbers.divide(taken, width)
    area = _total(taken * (recall[..., :-1] + 0.5 * rise))
    least = 0.5 * most**2
    return 0.5 * (1.0 + (area - least) / (most - least))


@calls.compiled()
def average_precision(curve: Curve) -> jax.Array:
    r"""Average precision (AP), the area under the precision-recall curve (PR AUC), by steps.

    It is the mean, over the positives, of the precision at which each is found. Use it if positives
    are rare. Its chance level is the prevalence, so values of different data sets do not compare.
    Steps are those of scikit-learn; straight lines are too optimistic.

    .. math:: \sum_k (R_k - R_{k-1}) P_k

    Args:
      curve: `Curve` ``[..., K]``, with precision P and recall R; exact if it comes from `curve`.

    Returns:
      Value in [0, 1] ``[...]``; NaN without positives.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> c = dm.curve(jnp.array([2.0, 1.0, 0.0, -1.0]), jnp.array([1, 0, 1, 0]))
      >>> print(dm.average_precision(c))
      0.8333

    References:
      Manning, Raghavan and Schütze, Introduction to information retrieval, 2008, chapter 8.
    """
    c = counts_of(curve)
    return _total(_steps(curve.counts.tp, c) * precision_of(c)[..., 1:]) / _all(c.tp, c.fn)


def _steps(cell: ArrayLike, floats: Counts) -> jax.Array:
    """By how much a cell grows; exact for integers, which a float total is not."""
    return jnp.diff(jnp.asarray(cell), axis=-1).astype(jnp.asarray(floats.tp).dtype)


def _total(terms: jax.Array) -> jax.Array:
    return numbers.sums((terms,), (terms.ndim - 1,))[0]


def _all(part: ArrayLike, rest: ArrayLike) -> jax.Array:
    """The whole of a class, which is the same at every threshold."""
    part, rest = numbers.floats(part, rest)
    return (part + rest)[..., -1]
