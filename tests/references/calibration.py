"""Calibration and filtering in plain loops and by counting, one set of predictions at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy.special

Numbers = Sequence[float]


def regression_calibration_error(mean: Numbers, scale: Numbers, target: Numbers) -> float:
    """By counting at a great many levels."""
    z = [abs(y - m) / s for m, s, y in zip(mean, scale, target, strict=True)]
    steps = 5_000
    total = 0.0
    for step in range(steps):
        level = (step + 0.5) / steps
        reach = float(scipy.special.ndtri((1 + level) / 2))
        total += abs(sum(x <= reach for x in z) / len(z) - level)
    return total / steps


def normalized_calibration_error(
    mean: Numbers, scale: Numbers, target: Numbers, bins: int
) -> float:
    n = len(mean)
    order = sorted(range(n), key=lambda i: scale[i])
    total = 0.0
    for b in range(bins):
        variance = error = 0.0
        for i, part in in_bin(order, b, bins):
            variance += part * scale[i] ** 2
            error += part * (target[i] - mean[i]) ** 2
        total += abs(math.sqrt(variance) - math.sqrt(error)) / math.sqrt(variance)
    return total / bins


def in_bin(order: Sequence[int], b: int, bins: int) -> list[tuple[int, float]]:
    """The members of a bin of equal size, and what part of each lies in it."""
    n = len(order)
    low, high = b * n / bins, (b + 1) * n / bins
    parts = [(i, min(k + 1, high) - max(k, low)) for k, i in enumerate(order)]
    return [(i, part) for i, part in parts if part > 0]


def sparsification(uncertainty: Numbers, error: Numbers) -> tuple[list[float], list[float]]:
    """Curve and oracle; equally uncertain predictions are averaged by going through all of them."""
    n = len(error)

    def mean_of_kept(keys: Numbers, left_out: int) -> float:
        # A prediction is kept as often as it is in an order of its equals, drawn at random.
        kept = n - left_out
        total = 0.0
        for i in range(n):
            below = sum(k < keys[i] for k in keys)
            equal = sum(k == keys[i] for k in keys)
            total += min(max((kept - below) / equal, 0.0), 1.0) * abs(error[i])
        return total / kept

    size = [abs(e) for e in error]
    return (
        [mean_of_kept(uncertainty, k) for k in range(n)],
        [mean_of_kept(size, k) for k in range(n)],
    )


def ause(uncertainty: Numbers, error: Numbers) -> float:
    """By the mean errors of a great many shares."""
    n, steps = len(error), 4_000
    area = oracle_area = 0.0
    shares = (np.arange(steps) + 0.5) / steps
    for keys in (uncertainty, [abs(e) for e in error]):
        curve, _ = sparsification(keys, error)
        totals = [0.0, *(m * (k + 1) for k, m in enumerate(reversed(curve)))]
        mean = np.interp(shares * n, np.arange(n + 1), totals) / (shares * n)
        area, oracle_area = oracle_area, float(np.mean(mean))
    return (area - oracle_area) / (float(np.mean(np.abs(error))) - oracle_area)


def bins_of(p: Numbers, bins: int) -> list[list[int]]:
    """The indices in each bin of equal width; what lies on an edge is in the lower one."""
    members: list[list[int]] = [[] for _ in range(bins)]
    for i, x in enumerate(p):
        members[next(b for b in range(bins) if x <= (b + 1) / bins or b == bins - 1)].append(i)
    return members


def expected_calibration_error(p: Numbers, y: Numbers, members: list[list[int]]) -> float:
    total = 0.0
    for inside in filter(None, members):
        total += abs(sum(y[i] - p[i] for i in inside)) / len(p)
    return total


def adaptive_calibration_error(p: Numbers, y: Numbers, bins: int) -> float:
    order = sorted(range(len(p)), key=lambda i: p[i])
    members = [in_bin(order, b, bins) for b in range(bins)]
    gaps = [sum(part * (y[i] - p[i]) for i, part in inside) for inside in members]
    return sum(map(abs, gaps)) / len(p)


def debiased_calibration_error(p: Numbers, y: Numbers, members: list[list[int]]) -> float:
    counted = [inside for inside in members if len(inside) > 1]
    total = 0.0
    for inside in counted:
        n = len(inside)
        a, c = sum(y[i] for i in inside) / n, sum(p[i] for i in inside) / n
        total += n * ((a - c) ** 2 - a * (1 - a) / (n - 1))
    return math.sqrt(max(total / sum(map(len, counted)), 0.0))


def conformal_quantile(scores: Numbers, coverage: float) -> float:
    """The least number that so many of n + 1 scores, the new one among them, do not exceed."""
    n = len(scores)
    for s in sorted(scores):
        if sum(x <= s for x in scores) >= coverage * (n + 1) - 1e-9:
            return s
    return math.inf
