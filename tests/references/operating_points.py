"""Losses at an operating point once more: one list of elements, as a reader would define them.

Plain floats and loops: thresholds are found by trying every element, and nothing is imported from
`diffmetrics`. The losses have the library's keywords; the Lagrangian ones return lists of numbers,
(loss, true positives at least, false positives at most, violation).
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tests.references.along_axes import Array, Axis, along, chosen, identity, per_element, set_loss

Floats = Sequence[float] | Array

# --- the surrogates -------------------------------------------------------------------------------

UNIT = {"logistic": math.log(2), "hinge": 1.0}  # the surrogate of 0


def cost(x: float, surrogate: str) -> float:
    """What an example costs that is x beyond the threshold, on the wrong side."""
    if surrogate == "hinge":
        return max(0.0, 1 + x)
    return x + math.log(1 + math.exp(-x)) if x > 0 else math.log(1 + math.exp(x))


def total(y: Floats, w: Floats, label: int) -> float:
    """How much there is of a class."""
    return sum(w[i] for i in range(len(y)) if y[i] == label)


# --- the quantile form ----------------------------------------------------------------------------

ROUNDING = 1e-12


def threshold_of_recall(z: Floats, y: Floats, w: Floats, recall: float) -> float:
    """The highest positive at which enough positives are found."""
    positives = [i for i in range(len(z)) if y[i] == 1 and w[i] > 0]
    enough = recall * total(y, w, 1) - ROUNDING
    return max(z[i] for i in positives if sum(w[j] for j in positives if z[j] >= z[i]) >= enough)


def threshold_of_alarms(z: Floats, y: Floats, w: Floats, alarms: float) -> float:
    """The lowest negative above which there are at most so many."""
    negatives = [i for i in range(len(z)) if y[i] == 0 and w[i] > 0]
    return min(
        z[i] for i in negatives if sum(w[j] for j in negatives if z[j] > z[i]) <= alarms + ROUNDING
    )


def false_alarms(z: Floats, y: Floats, w: Floats, recall: float, surrogate: str) -> float:
    """The bound on the negatives at or above the threshold of a recall."""
    q = threshold_of_recall(z, y, w, recall)
    costs = [w[i] * cost(z[i] - q, surrogate) for i in range(len(z)) if y[i] == 0]
    return sum(costs) / UNIT[surrogate]


def misses(z: Floats, y: Floats, w: Floats, alarms: float, surrogate: str) -> float:
    """The bound on the positives at or below the threshold that lets so many negatives pass."""
    q = threshold_of_alarms(z, y, w, alarms)
    costs = [w[i] * cost(q - z[i], surrogate) for i in range(len(z)) if y[i] == 1]
    return sum(costs) / UNIT[surrogate]


def precision_at_recall(
    z: Floats, y: Floats, w: Floats, target_recall: float, surrogate: str = "logistic"
) -> float:
    """False alarms per positive."""
    if total(y, w, 1) == 0:
        return 0.0
    return false_alarms(z, y, w, target_recall, surrogate) / total(y, w, 1)


def fpr_at_tpr(
    z: Floats, y: Floats, w: Floats, target_tpr: float, surrogate: str = "logistic"
) -> float:
    """False alarms per negative."""
    if total(y, w, 1) == 0 or total(y, w, 0) == 0:
        return 0.0
    return false_alarms(z, y, w, target_tpr, surrogate) / total(y, w, 0)


def tpr_at_fpr(
    z: Floats, y: Floats, w: Floats, target_fpr: float, surrogate: str = "logistic"
) -> float:
    """Misses per positive."""
    if total(y, w, 1) == 0 or total(y, w, 0) == 0:
        return 0.0
    return misses(z, y, w, target_fpr * total(y, w, 0), surrogate) / total(y, w, 1)


def recall_at_precision(
    z: Floats, y: Floats, w: Floats, target_precision: float, surrogate: str = "logistic"
) -> float:
    """Misses per positive, with the false alarms that the precision allows beside all positives."""
    if total(y, w, 1) == 0 or total(y, w, 0) == 0:
        return 0.0
    allowed = total(y, w, 1) * (1 - target_precision) / target_precision
    return misses(z, y, w, allowed, surrogate) / total(y, w, 1)


def pr_auc(
    z: Floats, y: Floats, w: Floats, num_anchors: int = 20, surrogate: str = "logistic"
) -> float:
    """One minus the mean of the least precisions, in the middle of K ranges of recall."""
    if total(y, w, 1) == 0:
        return 0.0
    worst = []
    for k in range(num_anchors):
        recall = (k + 0.5) / num_anchors
        alarms = precision_at_recall(z, y, w, recall, surrogate)
        worst.append(recall / (recall + alarms))
    return 1 - sum(worst) / num_anchors


precision_at_recall_loss = set_loss(precision_at_recall, activation=identity)
fpr_at_tpr_loss = set_loss(fpr_at_tpr, activation=identity)
tpr_at_fpr_loss = set_loss(tpr_at_fpr, activation=identity)
recall_at_precision_loss = set_loss(recall_at_precision, activation=identity)
pr_auc_loss = set_loss(pr_auc, activation=identity)


# --- the Lagrangian form --------------------------------------------------------------------------


def weighted(
    z: Floats, y: Floats, w: Floats, on_positive: float, on_negative: float, surrogate: str
) -> float:
    """The mean surrogate, with a factor on each class."""
    costs = 0.0
    for i in range(len(z)):
        if y[i] == 1:
            costs += w[i] * on_positive * cost(-z[i], surrogate)
        else:
            costs += w[i] * on_negative * cost(z[i], surrogate)
    return costs / sum(w)


def bounds(z: Floats, y: Floats, w: Floats, surrogate: str) -> tuple[float, float]:
    """True positives at least, and false positives at most."""
    tp = fp = 0.0
    for i in range(len(z)):
        if y[i] == 1:
            tp += w[i] * (1 - cost(-z[i], surrogate) / UNIT[surrogate])
        else:
            fp += w[i] * cost(z[i], surrogate) / UNIT[surrogate]
    return tp, fp


def above(z: Floats, y: Floats, w: Floats, label: int) -> float:
    """How much of a class has a logit above 0."""
    return sum(w[i] for i in range(len(z)) if y[i] == label and z[i] > 0)


class Part(NamedTuple):
    """What a Lagrangian adds up: a factor for each class, a slack, and what it reports."""

    on_positive: float
    on_negative: float
    slack: float
    violation: float


class Found(NamedTuple):
    """Positives and negatives, and how much of them is flagged."""

    positives: float
    negatives: float
    hits: float
    alarms: float


def at_recall(multiplier: float, target: float, share: float, found: Found) -> Part:
    """Fewest false positives while TP ≥ recall · positives."""
    recall = found.hits / found.positives if found.positives > 0 else target
    return Part(multiplier, 1.0, multiplier * share * (target - 1), target - recall)


def at_fpr(multiplier: float, target: float, share: float, found: Found) -> Part:
    """Most true positives while FP ≤ rate · negatives."""
    fpr = found.alarms / found.negatives if found.negatives > 0 else target
    return Part(1.0, multiplier, -multiplier * target * (1 - share), fpr - target)


def at_precision(multiplier: float, target: float, share: float, found: Found) -> Part:
    """Most true positives while TP ≥ precision · (TP + FP)."""
    flagged = found.hits + found.alarms
    precision = found.hits / flagged if flagged > 0 else 1.0
    violation = target - precision if found.positives > 0 else 0.0
    missing = multiplier * (1 - target)
    return Part(1 + missing, multiplier * target, -missing * share, violation)


def lagrangian(part: Callable[..., Part], target: str) -> Callable[..., list[Array]]:
    """Give a part of one set the signature of the library; numbers are the same for all sets."""

    def loss(
        logits: ArrayLike,
        labels: ArrayLike,
        multipliers: float = 1.0,
        *,
        axis: Axis = None,
        where: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        prevalence: float | None = None,
        surrogate: str = "logistic",
        **options: float,
    ) -> list[Array]:
        z, y = np.asarray(logits, float), np.asarray(labels, float)
        arrays = (z, y, per_element(weights, 1.0, z), per_element(where, True, z))

        def terms(z: Floats, y: Floats, w: Floats) -> list[float]:
            share = total(y, w, 1) / sum(w) if prevalence is None else prevalence
            found = Found(*(f(y, w, k) for f in (total, partial(above, z)) for k in (1, 0)))
            of = part(multipliers, options[target], share, found)
            value = weighted(z, y, w, of.on_positive, of.on_negative, surrogate)
            slack = of.slack * UNIT[surrogate]
            return [value + slack, *bounds(z, y, w, surrogate), of.violation]

        return [
            along(lambda *arrays, n=n: terms(*chosen(*arrays))[n], axis, *arrays) for n in range(4)
        ]

    return loss


precision_at_recall_lagrangian = lagrangian(at_recall, "target_recall")
tpr_at_fpr_lagrangian = lagrangian(at_fpr, "target_fpr")
recall_at_precision_lagrangian = lagrangian(at_precision, "target_precision")
