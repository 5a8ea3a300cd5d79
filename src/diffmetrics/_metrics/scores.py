"""Scores of counts: F1, IoU, MCC and others, exact or differentiable; larger is better.

A score has the shape of its `Counts`, so what is averaged follows from what you count:

* macro average: ``score(counts(..., axis=0)).mean()``, the mean over classes or images,
* micro average: ``score(counts(...))``, one score of the counts over all axes,
* whole data set: the score of a running total of the counts of its batches.

Count class ids with `counts_per_class`. An empty ratio is 0 with zero gradient, as with
``zero_division=0`` in scikit-learn.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import numbers
from diffmetrics._metrics.counts import Counts, of_counts


def _cells(c: Counts, *prices: ArrayLike) -> tuple[jax.Array, ...]:
    """The cells and what they cost in floating point, in one type and shape.

    int32 cells could overflow in the first sum.
    """
    return tuple(jnp.broadcast_arrays(*numbers.floats(c.tp, c.fp, c.fn, c.tn, *prices)))


def _in_units(*cells: jax.Array) -> list[jax.Array]:
    """Counts that are all tiny, since weights are, in units of the largest.

    A score is a ratio, and 1e-18 would count as 0.
    """
    top = jax.lax.stop_gradient(functools.reduce(jnp.maximum, cells))
    unit = jnp.where((top > 0.0) & (top < 1e-9), top, 1.0)
    return [cell / unit for cell in cells]


def _shares(c: Counts) -> list[jax.Array]:
    """The cells as shares of their total, whose products cannot overflow: counts of 1e10 can."""
    tp, fp, fn, tn = _in_units(*_cells(c))
    total = tp + fp + fn + tn
    return [numbers.divide(cell, total) for cell in (tp, fp, fn, tn)]


@of_counts
def tversky(counts: Counts, fp_weight: ArrayLike, fn_weight: ArrayLike) -> jax.Array:
    r"""Tversky index: Dice or Jaccard with one price for false alarms and another for misses.

    Use it if one of the two errors costs more. In `fbeta` both prices add up to 1.

    .. math:: \frac{TP}{TP + a\,FP + b\,FN}

    Args:
      counts: cells of any shape ``[...]``.
      fp_weight: a, price of a false alarm. Libraries disagree on whether this is alpha or beta.
      fn_weight: b, price of a miss. (a, b) = (1, 0) is precision, (0, 1) recall, (1, 1) Jaccard and
        (½, ½) Dice.

    Returns:
      Index in [0, 1] ``[...]``; 0 if the denominator is 0.

    Example:
      >>> import diffmetrics as dm
      >>> print(dm.tversky(dm.Counts(tp=6, fp=4, fn=1), fp_weight=0.3, fn_weight=0.7))
      0.75949

    References:
      Tversky, Features of similarity, Psychological Review 84, 1977.
    """
    tp, fp, fn, _, per_alarm, per_miss = _cells(counts, fp_weight, fn_weight)
    # Without the true negatives, which need not be summed then.
    tp, fp, fn = _in_units(tp, fp, fn)
    return numbers.divide(tp, tp + per_alarm * fp + per_miss * fn)


@of_counts
def precision(counts: Counts) -> jax.Array:
    r"""Precision (positive predictive value): the share of predicted positives that are right.

    .. math:: \frac{TP}{TP + FP}

    Returns:
      Share in [0, 1], of the shape of the counts; 0 if nothing is predicted positive.

    Example:
      >>> import diffmetrics as dm
      >>> print(dm.precision(dm.Counts(tp=3, fp=1)))
      0.75
    """
    return tversky(counts, 1.0, 0.0)


@of_counts
def recall(counts: Counts) -> jax.Array:
    r"""Recall (sensitivity, true positive rate): the share of positives that are found.

    .. math:: \frac{TP}{TP + FN}

    Returns:
      Share in [0, 1], of the shape of the counts; 0 if there are no positives.

    Example:
      >>> import diffmetrics as dm
      >>> print(dm.recall(dm.Counts(tp=3, fn=5)))
      0.375
    """
    return tversky(counts, 0.0, 1.0)


@of_counts
def specificity(counts: Counts) -> jax.Array:
    r"""Specificity (true negative rate): the share of negatives that raise no alarm.

    .. math:: \frac{TN}{TN + FP}

    Returns:
      Share in [0, 1], of the shape of the counts; 0 if there are no negatives.

    Example:
      >>> import diffmetrics as dm
      >>> print(dm.specificity(dm.Counts(fp=1, tn=3)))
      0.75
    """
    return recall(_negated(counts))


@of_counts
def negative_predictive_value(counts: Counts) -> jax.Array:
    r"""Negative predictive value (NPV): the share of predicted negatives that are right.

    .. math:: \frac{TN}{TN + FN}

    Returns:
      Share in [0, 1], of the shape of the counts; 0 if nothing is predicted negative.

    Example:
      >>> import diffmetrics as dm
      >>> print(dm.negative_predictive_value(dm.Counts(fn=1, tn=3)))
      0.75
    """
    return precision(_negated(counts))


def _negated(c: Counts) -> Counts:
    return Counts(tp=c.tn, fp=c.fn, fn=c.fp, tn=c.tp)


@of_counts
def fbeta(counts: Counts, beta: ArrayLike = 1.0) -> jax.Array:
    r"""F1 and F-beta: the weighted harmonic mean of precision and recall.

    Use it if positives are rare and both errors count. It ignores true negatives.

    .. math:: \frac{(1 + \beta^2)\,TP}{(1 + \beta^2)\,TP + FP + \beta^2 FN}

    Args:
      counts: cells of any shape ``[...]``.
      beta: positive; a miss weighs as much as beta² false alarms. 1 is F1, the Dice coefficient.

    Returns:
      Score in [0, 1] ``[...]``; 0 if nothing is positive and nothing is predicted.

    Example:
      >>> import diffmetrics as dm
      >>> print(dm.fbeta(dm.Counts(tp=6, fp=4, fn=1), beta=2.0))
      0.78947

    References:
      van Rijsbergen, Information Retrieval, 2nd ed., ch. 7, 1979.
    """
    *_, beta = _cells(counts, beta)
    squared = beta**2
    return tversky(counts, 1.0 / (1.0 + squared), squared / (1.0 + squared))


@of_counts
def dice(counts: Counts) -> jax.Array:
    r"""Dice coefficient, which is F1: :math:`2TP / (2TP + FP + FN)`.

    To count an empty prediction of an empty image as 1 and not as 0, add a pseudo-count:
    `dice(c + Counts(tp=1))`.

    Returns:
      Score in [0, 1], of the shape of the counts; 0 if nothing is positive and nothing is
      predicted.

    Example:
      >>> import diffmetrics as dm
      >>> print(dm.dice(dm.Counts(tp=3, fp=1, fn=5)))
      0.5

    References:
      Dice, Measures of the amount of ecologic association between species, Ecology 26, 1945.
    """
    return tversky(counts, 0.5, 0.5)


@of_counts
def jaccard(counts: Counts) -> jax.Array:
    r"""Jaccard index, intersection over union (IoU): :math:`TP / (TP + FP + FN)`.

    With Dice D it is D / (2 - D). So both rank models alike on one data set, but their means over
    images may not. Its mean over classes is mIoU.

    Returns:
      Index in [0, 1], of the shape of the counts; 0 if nothing is positive and nothing is
      predicted.

    Example:
      >>> import diffmetrics as dm
      >>> print(dm.jaccard(dm.Counts(tp=3, fp=1, fn=2)))
      0.5

    References:
      Jaccard, Étude comparative de la distribution florale, 1901.
    """
    return tversky(counts, 1.0, 1.0)


@of_counts
def accuracy(counts: Counts) -> jax.Array:
    r"""Accuracy: the share of examples that are right, :math:`(TP + TN) / N`.

    It is nearly blind to rare positives: the example misses half of them. Use `fbeta`, `mcc` or
    `balanced_accuracy` then.

    Returns:
      Share in [0, 1], of the shape of the counts; 0 if there are no examples.

    Example:
      >>> import diffmetrics as dm
      >>> print(dm.accuracy(dm.Counts(tp=1, fn=1, tn=998)))
      0.999
    """
    tp, fp, fn, tn = _in_units(*_cells(counts))
    return numbers.divide(tp + tn, tp + fp + fn + tn)


@of_counts
def balanced_accuracy(counts: Counts) -> jax.Array:
    r"""Balanced accuracy: the mean of recall and specificity.

    It is the accuracy with both classes weighted alike, and 0.5 for any constant prediction.

    .. math:: \frac12 \Bigl( \frac{TP}{TP + FN} + \frac{TN}{TN + FP} \Bigr)

    Returns:
      Score in [0, 1], of the shape of the counts; a class without examples counts as 0
      (scikit-learn drops it).

    Example:
      >>> import diffmetrics as dm
      >>> print(dm.balanced_accuracy(dm.Counts(tp=1, fn=1, tn=998)))
      0.75

    References:
      Brodersen et al., The balanced accuracy and its posterior distribution, ICPR 2010.
    """
    return 0.5 * (recall(counts) + specificity(counts))


@of_counts
def informedness(counts: Counts) -> jax.Array:
    r"""Youden's J, or informedness: recall + specificity - 1.

    It is 0 for constant and for random decisions.

    Returns:
      Score in [-1, 1], of the shape of the counts; 0 if a class is absent.

    Example:
      >>> import diffmetrics as dm
      >>> print(dm.informedness(dm.Counts(tp=3, fp=1, fn=1, tn=4)))
      0.55

    References:
      Youden, Index for rating diagnostic tests, Cancer 3, 1950.
    """
    tp, fp, fn, tn = _shares(counts)
    return numbers.divide(tp * tn - fp * fn, (tp + fn) * (tn + fp))


@of_counts
def geometric_mean(counts: Counts) -> jax.Array:
    r"""G-mean: the geometric mean of recall and specificity.

    .. math:: \sqrt{\frac{TP}{TP + FN} \cdot \frac{TN}{TN + FP}}

    Returns:
      Score in [0, 1], of the shape of the counts; 0 with zero gradient if either is 0.

    Example:
      >>> import diffmetrics as dm
      >>> print(dm.geometric_mean(dm.Counts(tp=1, fn=3, fp=0, tn=5)))
      0.5

    References:
      Kubat and Matwin, Addressing the curse of imbalanced training sets, ICML 1997.
    """
    return numbers.sqrt(recall(counts) * specificity(counts))


@of_counts
def fowlkes_mallows(counts: Counts) -> jax.Array:
    r"""Fowlkes-Mallows index: the geometric mean of precision and recall.

    .. math:: \frac{TP}{\sqrt{(TP + FP)(TP + FN)}}

    Returns:
      Index in [0, 1], of the shape of the counts; 0 where TP is 0.

    Example:
      >>> import diffmetrics as dm
      >>> print(dm.fowlkes_mallows(dm.Counts(tp=2, fp=0, fn=6)))
      0.5

    References:
      Fowlkes and Mallows, A method for comparing two hierarchical clusterings, JASA 78, 1983.
    """
    tp, fp, fn, _ = _in_units(*_cells(counts))
    # The cosine of the two sets: unlike √(precision · recall) its gradient is finite at TP = 0.
    return numbers.divide(tp, numbers.sqrt(tp + fp) * numbers.sqrt(tp + fn))


@of_counts
def mcc(counts: Counts) -> jax.Array:
    r"""Matthews correlation coefficient (MCC): high only if all four cells are good.

    For a confusion matrix of more classes take `multiclass_mcc`.

    .. math:: \frac{TP\,TN - FP\,FN}{\sqrt{(TP + FP)(TP + FN)(TN + FP)(TN + FN)}}

    Returns:
      Correlation in [-1, 1], of the shape of the counts; 0 if predictions or labels are constant.

    Example:
      >>> import diffmetrics as dm
      >>> print(dm.mcc(dm.Counts(tp=6e9, fp=1e9, fn=1e9, tn=2e9)))
      0.52381

    References:
      Matthews, Comparison of the predicted and observed secondary structure of T4 phage lysozyme,
      Biochimica et Biophysica Acta 405, 1975.
    """
    tp, fp, fn, tn = _shares(counts)
    scale = (
        numbers.sqrt(tp + fp)
        * numbers.sqrt(tp + fn)
        * numbers.sqrt(tn + fp)
        * numbers.sqrt(tn + fn)
    )
    return numbers.divide(tp * tn - fp * fn, scale)


@of_counts
def cohen_kappa(counts: Counts) -> jax.Array:
    r"""Cohen's kappa: agreement of predictions and labels beyond chance.

    For more classes, also ordered ones, take `multiclass_kappa`.

    .. math:: \frac{2 (TP\,TN - FP\,FN)}{(TP + FP)(FP + TN) + (TP + FN)(FN + TN)}

    Returns:
      Agreement, at most 1, of the shape of the counts; 0 if predictions and labels are both
      constant.

    Example:
      >>> import diffmetrics as dm
      >>> print(dm.cohen_kappa(dm.Counts(tp=20, fp=5, fn=10, tn=15)))
      0.4

    References:
      Cohen, A coefficient of agreement for nominal scales, 1960.
    """
    tp, fp, fn, tn = _shares(counts)
    return numbers.divide(2.0 * (tp * tn - fp * fn), (tp + fp) * (fp + tn) + (tp + fn) * (fn + tn))


@of_counts
def prevalence(counts: Counts) -> jax.Array:
    r"""Prevalence: the share of examples whose label is positive, :math:`(TP + FN) / N`.

    Returns:
      Share in [0, 1], of the shape of the counts; 0 if there are no examples.

    Example:
      >>> import diffmetrics as dm
      >>> print(dm.prevalence(dm.Counts(tp=1, fn=1, tn=998)))
      0.002
    """
    tp, fp, fn, tn = _in_units(*_cells(counts))
    return numbers.divide(tp + fn, tp + fp + fn + tn)
