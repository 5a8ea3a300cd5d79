"""Scores of counts, hard or soft: larger is better.

Each keeps the shape of its `Counts`: `score(counts(...)).mean()` is a macro average, a score of the
counts over all axes a micro average, and a score of a running total that of the whole data set. An
empty ratio is 0 with zero gradient (scikit-learn's `zero_division=0`).
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
    r"""Tversky index: overlap with one price for false alarms and another for misses.

    .. math:: \frac{TP}{TP + a\,FP + b\,FN}

    Args:
      counts: cells of any shape.
      fp_weight: a, price of a false alarm. Libraries disagree on whether this is alpha or beta.
      fn_weight: b, price of a miss. Precision is a, b = 1, 0; recall 0, 1; Jaccard 1, 1; Dice ½, ½.

    Returns:
      The index in [0, 1], of the shape of the counts; 0 if the denominator is 0.

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
    r"""Share of predicted positives that are right, :math:`TP / (TP + FP)`; 0 if there are none.

    Example:
      >>> import diffmetrics as dm
      >>> print(dm.precision(dm.Counts(tp=3, fp=1)))
      0.75
    """
    return tversky(counts, 1.0, 0.0)


@of_counts
def recall(counts: Counts) -> jax.Array:
    r"""Sensitivity, the share of positives found, :math:`TP / (TP + FN)`; 0 if there are none.

    Example:
      >>> import diffmetrics as dm
      >>> print(dm.recall(dm.Counts(tp=3, fn=5)))
      0.375
    """
    return tversky(counts, 0.0, 1.0)


@of_counts
def specificity(counts: Counts) -> jax.Array:
    r"""Share of negatives that raise no alarm, :math:`TN / (TN + FP)`; 0 if there are none.

    Example:
      >>> import diffmetrics as dm
      >>> print(dm.specificity(dm.Counts(fp=1, tn=3)))
      0.75
    """
    return recall(_negated(counts))


@of_counts
def negative_predictive_value(counts: Counts) -> jax.Array:
    r"""Share of predicted negatives that are right, :math:`TN / (TN + FN)`; 0 if there are none.

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
    r"""F-beta: the weighted harmonic mean of precision and recall.

    .. math:: \frac{(1 + \beta^2)\,TP}{(1 + \beta^2)\,TP + FP + \beta^2 FN}

    Args:
      counts: cells of any shape.
      beta: positive; a miss weighs beta² false alarms. 1 is F1, the Dice coefficient.

    Returns:
      The score in [0, 1]; 0 if nothing is positive and nothing is predicted.

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
    r"""Dice coefficient :math:`2TP / (2TP + FP + FN)`, which is F1.

    0 for an empty prediction of an empty image; `dice(c + Counts(tp=1))` makes that case 1.

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
    r"""Jaccard index, intersection over union: :math:`TP / (TP + FP + FN)`; 0 if both are empty.

    With Dice D it is D / (2 - D): the same ranking on one data set, but not of means over images.

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
    r"""Share of examples that are right, :math:`(TP + TN) / N`; nearly blind to rare positives.

    Example:
      >>> import diffmetrics as dm
      >>> print(dm.accuracy(dm.Counts(tp=1, fn=1, tn=998)))
      0.999
    """
    tp, fp, fn, tn = _in_units(*_cells(counts))
    return numbers.divide(tp + tn, tp + fp + fn + tn)


@of_counts
def balanced_accuracy(counts: Counts) -> jax.Array:
    r"""Mean of recall and specificity, the accuracy with both classes weighted alike.

    0.5 for any constant prediction. A class without examples counts as 0 (scikit-learn drops it).

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
    r"""Youden's J, recall + specificity - 1; 0 for constant or random decisions and absent classes.

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
    r"""Geometric mean of recall and specificity, √(TPR · TNR); 0 with zero gradient if either is 0.

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
    r"""Geometric mean of precision and recall, TP / √((TP + FP) (TP + FN)); 0 where TP is 0.

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
    r"""Matthews correlation, high only if all four cells are good; 0 if a row or column is empty.

    .. math:: \frac{TP\,TN - FP\,FN}{\sqrt{(TP + FP)(TP + FN)(TN + FP)(TN + FN)}} \in [-1, 1]

    Example:
      >>> import diffmetrics as dm
      >>> print(dm.mcc(dm.Counts(tp=6e9, fp=1e9, fn=1e9, tn=2e9)))
      0.52381

    References:
      Matthews, Biochimica et Biophysica Acta 405, 1975.
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
    r"""Cohen's kappa: agreement of predictions and labels beyond chance; 0 if both are constant.

    .. math:: \frac{2 (TP\,TN - FP\,FN)}{(TP + FP)(FP + TN) + (TP + FN)(FN + TN)} \le 1

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
    r"""Share of examples whose label is positive, :math:`(TP + FN) / N`.

    Example:
      >>> import diffmetrics as dm
      >>> print(dm.prevalence(dm.Counts(tp=1, fn=1, tn=998)))
      0.002
    """
    tp, fp, fn, tn = _in_units(*_cells(counts))
    return numbers.divide(tp + fn, tp + fp + fn + tn)
