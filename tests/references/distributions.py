"""Losses of predicted distributions in plain floats: formulas, quadrature and loops over pairs.

Functions of one prediction and one target. What has no gradient in the loss is an argument of its
own here, `constant_...`, so that finite differences of the others are the gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import scipy.integrate
import scipy.stats


def scale_from_raw(raw: float, min_scale: float, init_scale: float) -> float:
    shift = math.log(math.exp(init_scale - min_scale) - 1)
    return min_scale + math.log(1 + math.exp(raw + shift))


def gaussian_nll(mean: float, scale: float, target: float) -> float:
    return -float(scipy.stats.norm.logpdf(target, mean, scale))


def beta_nll(
    mean: float, scale: float, target: float, beta: float, constant_scale: float | None = None
) -> float:
    factor = scale if constant_scale is None else constant_scale
    return factor ** (2 * beta) * gaussian_nll(mean, scale, target)


def faithful_nll(
    mean: float, scale: float, target: float, constant_error: float | None = None
) -> float:
    error = target - mean if constant_error is None else constant_error
    return 0.5 * (target - mean) ** 2 + gaussian_nll(0.0, scale, error)


def laplace_nll(mean: float, scale: float, target: float) -> float:
    return -float(scipy.stats.laplace.logpdf(target, mean, scale))


def student_t_nll(mean: float, scale: float, target: float, df: float) -> float:
    return -float(scipy.stats.t.logpdf(target, df, mean, scale))


def crps(below: Callable[[float], float], target: float, reach: float) -> float:
    """By quadrature, of a distribution function that is 0 or 1 farther than `reach` away."""
    options = {"epsabs": 1e-11, "epsrel": 1e-11, "limit": 400}
    left = scipy.integrate.quad(lambda t: below(t) ** 2, target - reach, target, **options)
    right = scipy.integrate.quad(lambda t: (1 - below(t)) ** 2, target, target + reach, **options)
    return left[0] + right[0]


def normal_below(t: float, mean: float, scale: float) -> float:
    """The distribution function of a normal distribution."""
    return 0.5 * math.erfc((mean - t) / (scale * math.sqrt(2)))


def crps_gaussian(mean: float, scale: float, target: float) -> float:
    def below(t: float) -> float:
        return normal_below(t, mean, scale)

    return crps(below, target, abs(target - mean) + 9 * scale)


def crps_mixture(
    means: Sequence[float], scales: Sequence[float], target: float, shares: Sequence[float]
) -> float:
    def below(t: float) -> float:
        members = zip(means, scales, shares, strict=True)
        return sum(w * normal_below(t, m, s) for m, s, w in members)

    reach = max(abs(target - m) + 9 * s for m, s in zip(means, scales, strict=True))
    return crps(below, target, reach)


def crps_sample(samples: Sequence[float], target: float, fair: bool) -> float:
    n = len(samples)
    near = sum(abs(x - target) for x in samples) / n
    pairs = sum(abs(a - b) for a in samples for b in samples)
    return near - pairs / (2 * n * (n - 1 if fair else n))


def pinball_loss(quantile: float, target: float, level: float) -> float:
    error = target - quantile
    return max(level * error, (level - 1) * error)


def interval_score(lower: float, upper: float, target: float, coverage: float) -> float:
    alpha = 1 - coverage
    score = upper - lower
    if target < lower:
        score += 2 / alpha * (lower - target)
    if target > upper:
        score += 2 / alpha * (target - upper)
    return score


def log_density(x: float, mean: float, scale: float) -> float:
    return -0.5 * ((x - mean) / scale) ** 2 - math.log(scale * math.sqrt(2 * math.pi))


def kl_normal(mean: float, scale: float, prior_mean: float, prior_scale: float) -> float:
    """By quadrature of the definition."""

    def integrand(x: float) -> float:
        q = log_density(x, mean, scale)
        return math.exp(q) * (q - log_density(x, prior_mean, prior_scale))

    reach = 12 * scale
    found = scipy.integrate.quad(integrand, mean - reach, mean + reach, epsabs=1e-10, limit=200)
    return found[0]


def mixture_log_likelihood(
    means: Sequence[float], scales: Sequence[float], target: float, shares: Sequence[float]
) -> float:
    members = zip(means, scales, shares, strict=True)
    return math.log(sum(w * math.exp(-gaussian_nll(m, s, target)) for m, s, w in members))


def variances(
    means: Sequence[float], scales: Sequence[float], shares: Sequence[float]
) -> tuple[float, float]:
    mean = sum(w * m for m, w in zip(means, shares, strict=True))
    aleatoric = sum(w * s**2 for s, w in zip(scales, shares, strict=True))
    return aleatoric, sum(w * (m - mean) ** 2 for m, w in zip(means, shares, strict=True))


def moment_matched_log_likelihood(
    means: Sequence[float], scales: Sequence[float], target: float, shares: Sequence[float]
) -> float:
    mean = sum(w * m for m, w in zip(means, shares, strict=True))
    return -gaussian_nll(mean, math.sqrt(sum(variances(means, scales, shares))), target)
