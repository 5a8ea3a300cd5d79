"""Ranking losses as plain loops over all pairs, in float64; each of one set, then of many."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

from tests.references.along_axes import identity, set_loss

Pair = Callable[[float, float], float]

PAIRS: dict[str, Pair] = {
    "hinge": lambda d, margin: max(0.0, margin - d),
    "squared_hinge": lambda d, margin: max(0.0, margin - d) ** 2,
    "square": lambda d, margin: (margin - d) ** 2,
    "exponential": lambda d, _: math.exp(-d),
    "logistic": lambda d, _: math.log1p(math.exp(-abs(d))) + max(0.0, -d),
}
Masses = list[tuple[float, float]]


def split(z: Sequence[float], y: Sequence[int], w: Sequence[float]) -> tuple[Masses, Masses]:
    """Logits with their masses, positives and negatives."""
    pairs = list(zip(z, y, w, strict=True))
    return [(s, m) for s, t, m in pairs if t], [(s, m) for s, t, m in pairs if not t]


def extreme(masses: Masses, share: float) -> Masses:
    """The first of `masses` up to a share of the whole, the last of them in part."""
    left, kept = share * sum(m for _, m in masses), []
    for s, m in masses:
        kept.append((s, min(m, left)))
        left -= kept[-1][1]
    return kept


def roc_auc(
    z: Sequence[float],
    y: Sequence[int],
    w: Sequence[float],
    surrogate: str = "squared_hinge",
    margin: float = 1.0,
    max_fpr: float = 1.0,
    min_tpr: float = 0.0,
) -> float:
    one, other = split(z, y, w)
    one, other = extreme(sorted(one), 1.0 - min_tpr), extreme(sorted(other)[::-1], max_fpr)
    total = sum(m for _, m in one) * sum(m for _, m in other)
    pair = PAIRS[surrogate]
    costs = [m * n * pair(s - t, margin) for s, m in one for t, n in other]
    return math.fsum(costs) / total


def laplace(x: float) -> float:
    return 0.5 * math.exp(x) if x < 0 else 1.0 - 0.5 * math.exp(-x)


def average_precision(
    z: Sequence[float], y: Sequence[int], w: Sequence[float], temperature: float
) -> float:
    one, other = split(z, y, w)
    loss = 0.0
    for s, m in one:
        of_one = 0.5 * m + sum(n * laplace((t - s) / temperature) for t, n in one)
        of_all = of_one + sum(n * laplace((t - s) / temperature) for t, n in other)
        loss += m * (1.0 - of_one / of_all)
    return loss / sum(m for _, m in one)


def aucm(z: Sequence[float], y: Sequence[int], w: Sequence[float], margin: float) -> float:
    """The published minimax problem, at the optimum of its three variables."""
    one, other = split([1.0 / (1.0 + math.exp(-s)) for s in z], y, w)
    means = [sum(s * m for s, m in x) / sum(m for _, m in x) for x in (one, other)]
    spreads = [
        sum(m * (s - mean) ** 2 for s, m in x) / sum(m for _, m in x)
        for x, mean in zip((one, other), means, strict=True)
    ]
    alpha = max(0.0, margin + means[1] - means[0])
    return sum(spreads) + 2.0 * alpha * (margin + means[1] - means[0]) - alpha**2


def aum(z: Sequence[float], y: Sequence[int], w: Sequence[float]) -> float:
    one, other = split(z, y, w)
    places = sorted(set(z))
    area = 0.0
    for low, high in itertools.pairwise(places):
        missed = sum(m for s, m in one if s <= low) / sum(m for _, m in one)
        alarms = sum(m for s, m in other if s >= high) / sum(m for _, m in other)
        area += min(missed, alarms) * (high - low)
    return area


roc_auc_loss = set_loss(roc_auc, activation=identity)
partial_roc_auc_loss = set_loss(roc_auc, activation=identity)
average_precision_loss = set_loss(average_precision, activation=identity)
aucm_loss = set_loss(aucm, activation=identity)
aum_loss = set_loss(aum, activation=identity)
