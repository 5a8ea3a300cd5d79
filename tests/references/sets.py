"""Every count, score and overlap loss once more, as a reader would write the definition.

Plain Python loops over float64 numbers: no vectorised shortcut, no clever identity, no stable
rewriting, and no import of `diffmetrics`.  What the library computes fast must agree with what is
spelled out here.  The keywords are the library's, so that a test can call both alike; the
`activation` of a loss is `sigmoid`, `softmax` or `identity` of `along_axes`.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tests.references.along_axes import (
    Array,
    Axis,
    Floats,
    along,
    chosen,
    identity,
    one_hot,
    per_element,
    set_loss,
    softmax,
)


class Counts(NamedTuple):
    """The four cells of a two-by-two confusion matrix."""

    tp: float = 0.0
    fp: float = 0.0
    fn: float = 0.0
    tn: float = 0.0

    def plus(self, other: "Counts") -> "Counts":
        """Add cell by cell; `+` of a named tuple would concatenate."""
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))


NOTHING = Counts()


def ratio(numerator: float, denominator: float) -> float:
    """Divide, with 0/0 = 0."""
    return numerator / denominator if denominator != 0 else 0.0


# --- Counting -------------------------------------------------------------------------------------


def count(p: Floats, y: Floats, w: Floats) -> Counts:
    """Count one list of elements; a prediction or a label may be a probability."""
    tp = fp = fn = tn = 0.0
    for i in range(len(p)):
        tp += w[i] * p[i] * y[i]
        fp += w[i] * p[i] * (1 - y[i])
        fn += w[i] * (1 - p[i]) * y[i]
        tn += w[i] * (1 - p[i]) * (1 - y[i])
    return Counts(tp, fp, fn, tn)


def counts(
    predictions: ArrayLike,
    labels: ArrayLike,
    *,
    axis: Axis = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> Counts:
    """Count along `axis`; each cell is an array over the other axes."""
    p = np.asarray(predictions, float)
    arrays = (p, one_hot(labels, p), per_element(weights, 1.0, p), per_element(where, True, p))

    def cell(name: str) -> Array:
        return along(lambda *set_: getattr(count(*chosen(*set_)), name), axis, *arrays)

    return Counts(*(cell(name) for name in Counts._fields))  # pyright: ignore[reportArgumentType]


def confusion(
    predicted_ids: ArrayLike,
    labels: ArrayLike,
    num_classes: int,
    *,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> Array:
    """Cell [t, p] is the weight of the elements of class t that were called p."""
    predicted, true = np.asarray(predicted_ids), np.asarray(labels)
    keep, weight = per_element(where, True, predicted), per_element(weights, 1.0, predicted)
    matrix = np.zeros((num_classes, num_classes))
    for index in np.ndindex(predicted.shape):
        t, p = true[index], predicted[index]
        if keep[index] and 0 <= t < num_classes and 0 <= p < num_classes:
            matrix[t, p] += weight[index]
    return matrix


def one_vs_rest(matrix: ArrayLike) -> list[Counts]:
    """Read each class against all others off a confusion matrix."""
    m = np.asarray(matrix, float)
    classes = range(len(m))
    result = []
    for c in classes:
        others = [k for k in classes if k != c]
        tp = m[c, c]
        fp = sum(m[k, c] for k in others)
        fn = sum(m[c, k] for k in others)
        tn = sum(m[i, j] for i in others for j in others)
        result.append(Counts(float(tp), float(fp), float(fn), float(tn)))
    return result


def counts_per_class(
    predicted_ids: ArrayLike,
    labels: ArrayLike,
    num_classes: int,
    *,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> list[Counts]:
    """Look at each class alone; who has an id that names none of them is left out."""
    predicted, true = np.asarray(predicted_ids), np.asarray(labels)
    keep, weight = per_element(where, True, predicted), per_element(weights, 1.0, predicted)
    result = []
    for c in range(num_classes):
        tp = fp = fn = tn = 0.0
        for index in np.ndindex(predicted.shape):
            t, p, w = int(true[index]), int(predicted[index]), float(weight[index])
            if keep[index] and 0 <= t < num_classes and 0 <= p < num_classes:
                tp += w * (t == c and p == c)
                fp += w * (t != c and p == c)
                fn += w * (t == c and p != c)
                tn += w * (t != c and p != c)
        result.append(Counts(tp, fp, fn, tn))
    return result


# --- Scores of counts -----------------------------------------------------------------------------


def accuracy(c: Counts) -> float:
    """Fraction of the elements that are right."""
    return ratio(c.tp + c.tn, c.tp + c.fp + c.fn + c.tn)


def precision(c: Counts) -> float:
    """Fraction of the alarms that are true."""
    return ratio(c.tp, c.tp + c.fp)


def recall(c: Counts) -> float:
    """Fraction of the positives that are found."""
    return ratio(c.tp, c.tp + c.fn)


def specificity(c: Counts) -> float:
    """Fraction of the negatives that raise no alarm."""
    return ratio(c.tn, c.tn + c.fp)


def negative_predictive_value(c: Counts) -> float:
    """Fraction of the non-alarms that are negative."""
    return ratio(c.tn, c.tn + c.fn)


def balanced_accuracy(c: Counts) -> float:
    """Mean of recall and specificity."""
    return (recall(c) + specificity(c)) / 2


def informedness(c: Counts) -> float:
    """Recall plus specificity less one (Youden's J); 0 where a class has no example."""
    if c.tp + c.fn == 0 or c.tn + c.fp == 0:
        return 0.0
    return recall(c) + specificity(c) - 1


def geometric_mean(c: Counts) -> float:
    """Geometric mean of recall and specificity."""
    return math.sqrt(recall(c) * specificity(c))


def fowlkes_mallows(c: Counts) -> float:
    """Geometric mean of precision and recall."""
    return math.sqrt(precision(c) * recall(c))


def prevalence(c: Counts) -> float:
    """Fraction of the elements that are positive."""
    return ratio(c.tp + c.fn, c.tp + c.fp + c.fn + c.tn)


def fbeta(c: Counts, beta: float = 1.0) -> float:
    """Weighted harmonic mean of precision and recall, in counts (van Rijsbergen, 1979)."""
    b2 = beta**2
    return ratio((1 + b2) * c.tp, (1 + b2) * c.tp + b2 * c.fn + c.fp)


def dice(c: Counts) -> float:
    """Twice the intersection over the sum of the two sizes."""
    return ratio(2 * c.tp, (c.tp + c.fp) + (c.tp + c.fn))


def jaccard(c: Counts) -> float:
    """Intersection over union."""
    return ratio(c.tp, c.tp + c.fp + c.fn)


def tversky(c: Counts, fp_weight: float, fn_weight: float) -> float:
    """Jaccard with a price for either error (Tversky, 1977)."""
    return ratio(c.tp, c.tp + fp_weight * c.fp + fn_weight * c.fn)


def mcc(c: Counts) -> float:
    """Matthews correlation coefficient: Pearson's correlation of the two binary variables."""
    covariance = c.tp * c.tn - c.fp * c.fn
    margins = (c.tp + c.fp) * (c.tp + c.fn) * (c.tn + c.fp) * (c.tn + c.fn)
    return ratio(covariance, math.sqrt(margins))


def cohen_kappa(c: Counts) -> float:
    """Agreement beyond what the margins alone would give (Cohen, 1960)."""
    n = c.tp + c.fp + c.fn + c.tn
    observed = ratio(c.tp + c.tn, n)
    expected = ratio((c.tp + c.fp) * (c.tp + c.fn) + (c.tn + c.fn) * (c.tn + c.fp), n * n)
    return ratio(observed - expected, 1 - expected)


# --- Scores of a confusion matrix -----------------------------------------------------------------


def multiclass_mcc(matrix: ArrayLike) -> float:
    """Gorodkin's R_K: the correlation of the two one-hot variables (Gorodkin, 2004)."""
    m = np.asarray(matrix, float)
    classes = range(len(m))
    n = sum(m[i, j] for i in classes for j in classes)
    right = sum(m[i, i] for i in classes)
    true = [sum(m[i, j] for j in classes) for i in classes]
    predicted = [sum(m[i, j] for i in classes) for j in classes]
    covariance = right * n - sum(true[k] * predicted[k] for k in classes)
    spread_true = n * n - sum(true[k] ** 2 for k in classes)
    spread_predicted = n * n - sum(predicted[k] ** 2 for k in classes)
    return ratio(covariance, math.sqrt(spread_true * spread_predicted))


def multiclass_kappa(matrix: ArrayLike, *, weighting: str = "unweighted") -> float:
    """One minus the observed cost over the cost that the margins alone would give (Cohen, 1968)."""
    m = np.asarray(matrix, float)
    classes = range(len(m))
    cost = {
        "unweighted": lambda i, j: float(i != j),
        "linear": lambda i, j: float(abs(i - j)),
        "quadratic": lambda i, j: float((i - j) ** 2),
    }[weighting]
    n = sum(m[i, j] for i in classes for j in classes)
    observed = expected = 0.0
    for i in classes:
        for j in classes:
            row = sum(m[i, k] for k in classes)
            column = sum(m[k, j] for k in classes)
            observed += cost(i, j) * m[i, j]
            expected += cost(i, j) * ratio(row * column, n)
    return 1 - observed / expected if expected != 0 else 0.0


# --- Losses of one set ----------------------------------------------------------------------------


def score_loss(score: Callable[..., float]) -> Callable[..., Array]:
    """Turn a score of counts into a loss of logits: count softly, score, take from one."""

    def flat(p: Floats, y: Floats, w: Floats, prior: Counts = NOTHING, **options: float) -> float:
        return 1 - score(count(p, y, w).plus(prior), **options)

    return set_loss(flat)


def tversky_error(
    p: Floats,
    y: Floats,
    w: Floats,
    prior: Counts = NOTHING,
    fp_weight: float = 0.5,
    fn_weight: float = 0.5,
) -> float:
    """One minus the Tversky index."""
    return 1 - tversky(count(p, y, w).plus(prior), fp_weight, fn_weight)


def focal_tversky_error(
    p: Floats,
    y: Floats,
    w: Floats,
    prior: Counts = NOTHING,
    fp_weight: float = 0.3,
    fn_weight: float = 0.7,
    gamma: float = 0.75,
) -> float:
    """Tversky loss to the power gamma (Abraham and Khan, 2018, arXiv 1810.07842)."""
    return tversky_error(p, y, w, prior, fp_weight, fn_weight) ** gamma


def squared_dice_error(p: Floats, y: Floats, w: Floats, prior: Counts = NOTHING) -> float:
    """V-Net's 1 - 2 Σpy / (Σp² + Σy²) (Milletari, 2016, arXiv 1606.04797, section 3)."""
    both = size_p = size_y = 0.0
    for i in range(len(p)):
        both += w[i] * p[i] * y[i]
        size_p += w[i] * p[i] ** 2
        size_y += w[i] * y[i] ** 2
    # A true positive of the prior lies in both sets, an error in one of them.
    denominator = size_p + size_y + 2 * prior.tp + prior.fp + prior.fn
    return 1 - ratio(2 * both + 2 * prior.tp, denominator)


def generalized_dice_error(
    p: Sequence[Floats], y: Sequence[Floats], w: Sequence[Floats], prior: Counts = NOTHING
) -> float:
    """Dice of all classes, weighted by 1 / volume² (Sudre, 2017, arXiv 1707.03237, eq. 4)."""
    numerator = denominator = 0.0
    for c in range(len(p)):
        volume = sum(w[c][i] * y[c][i] for i in range(len(p[c])))
        if volume > 0:
            cells = count(p[c], y[c], w[c]).plus(prior)
            numerator += 2 * cells.tp / volume**2
            denominator += (2 * cells.tp + cells.fp + cells.fn) / volume**2
    return 1 - ratio(numerator, denominator)


def jaccard_error(mistaken: set[int], y: Floats, w: Floats, prior: Counts) -> float:
    """Jaccard loss of the hard prediction that is wrong exactly on `mistaken`."""
    hard = [1 - y[i] if i in mistaken else y[i] for i in range(len(y))]
    cells = count(hard, y, w).plus(prior)
    if cells.tp + cells.fp + cells.fn == 0:
        return 0.0  # nothing is there and nothing is predicted: no mistake
    return 1 - jaccard(cells)


def lovasz_extension(errors: Floats, y: Floats, w: Floats, prior: Counts) -> float:
    """Walk from the largest error down and pay each for what it adds to the Jaccard loss.

    Berman, 2018, arXiv 1705.08790, equations 8 and 9.
    """
    total = 0.0
    mistaken: set[int] = set()
    before = jaccard_error(mistaken, y, w, prior)
    for i in sorted(range(len(errors)), key=lambda i: -errors[i]):
        mistaken.add(i)
        after = jaccard_error(mistaken, y, w, prior)
        total += errors[i] * (after - before)
        before = after
    return total


def lovasz_hinge_error(z: Floats, y: Floats, w: Floats, prior: Counts = NOTHING) -> float:
    """Lovász extension of the Jaccard loss at the hinge errors of logits."""
    errors = [max(0.0, 1 - (2 * y[i] - 1) * z[i]) for i in range(len(z))]
    return lovasz_extension(errors, y, w, prior)


def lovasz_softmax_error(
    p: Sequence[Floats], y: Sequence[Floats], w: Sequence[Floats], prior: Counts = NOTHING
) -> float:
    """Mean over the classes present in the labels of the Lovász extension at |y - p|."""
    losses = []
    for c in range(len(p)):
        if any(w[c][i] * y[c][i] > 0 for i in range(len(p[c]))):
            errors = [abs(y[c][i] - p[c][i]) for i in range(len(p[c]))]
            losses.append(lovasz_extension(errors, y[c], w[c], prior))
    return ratio(sum(losses), len(losses))


fbeta_loss = score_loss(fbeta)
dice_loss = score_loss(dice)
jaccard_loss = score_loss(jaccard)
mcc_loss = score_loss(mcc)
balanced_accuracy_loss = score_loss(balanced_accuracy)
tversky_loss = set_loss(tversky_error)
focal_tversky_loss = set_loss(focal_tversky_error)
squared_dice_loss = set_loss(squared_dice_error)
generalized_dice_loss = set_loss(generalized_dice_error, classes=True)
lovasz_hinge_loss = set_loss(lovasz_hinge_error, activation=identity)
lovasz_softmax_loss = set_loss(lovasz_softmax_error, activation=softmax, classes=True)
