"""Probes of predicted rates of counts, as of a Poisson or a negative binomial likelihood.

Predictions are logarithms of rates, whatever the loss takes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import numpy as np

from diffmetrics.diagnose._probes.tradeoffs import lowest
from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, defect, note, ok
from diffmetrics.diagnose._subject import Subject

LOG_RATES = np.linspace(-6.0, 6.0, 121)
MEANS = (0.5, 3.0, 20.0)
OFFSETS = np.array([-6.0, -3.0, -1.0, -0.3, 0.3, 1.0, 3.0, 6.0])
COUNTS = np.array([1.0, 3.0, 20.0])


@functools.lru_cache(4)
def _slopes(subject: Subject) -> np.ndarray:
    """The slope in the log rate at each count, as the rate is off by each factor ``[3, 8]``."""
    n = subject.form.examples
    z = np.add.outer(np.log(COUNTS), OFFSETS).reshape(-1, 1) * np.ones(n)
    y = np.repeat(COUNTS, len(OFFSETS)).reshape(-1, 1) * np.ones(n)
    gradient = subject.measure(z, y.astype(np.float32)).gradient
    return gradient.sum(1).reshape(len(COUNTS), len(OFFSETS))


def _places(found: np.ndarray) -> str:
    """The first of some counts and factors, for readers."""
    (i, j), more = np.argwhere(found)[0], int(found.sum()) - 1
    rest = f", and in {more} more of {found.size} cases" if more else ""
    return f"a count of {COUNTS[i]:g} and a rate of {COUNTS[i] * np.exp(OFFSETS[j]):.3g}{rest}"


def _liked(subject: Subject) -> list[float]:
    """The rate that it likes best for counts that are all alike."""
    z = LOG_RATES[:, None] * np.ones(subject.form.examples)
    of = [subject.measure(z, np.full(z.shape[1], c, np.float32)).value for c in COUNTS]
    return [float(np.exp(lowest(LOG_RATES, value))) for value in of]


def _curve(asked: Iterable[float], rates: Iterable[float]) -> str:
    return ", ".join(f"{m:g} -> {r:.3g}" for m, r in zip(asked, rates, strict=True))


@probe("direction", ("counts",), rank=6)
def direction(subject: Subject) -> Finding:
    """Whether rates are pulled to the counts."""
    wrong = _slopes(subject) * OFFSETS < 0
    if not wrong.any():
        return ok("a rate above the count is pulled down, one below it up")
    liked = _liked(subject)
    if np.allclose(liked, np.log1p(COUNTS), rtol=0.05):
        return defect(
            "it takes logarithms twice: of the counts, log(1 + count), and of the rates that it "
            "predicts",
            f"counts -> best rate: {_curve(COUNTS, liked)}",
            "give a Poisson likelihood the counts themselves; or predict log(1 + count) by a "
            "squared error",
        )
    return defect(
        "it pushes rates away from the counts",
        f"the gradient has the wrong sign at {_places(wrong)}",
        "check the sign: minimise the negative log-likelihood, rate - count * log(rate)",
    )


@probe("alive", ("counts",), rank=12)
def alive(subject: Subject) -> Finding:
    """Whether rates that are far off get a gradient."""
    dead = _slopes(subject) == 0
    if not dead.any():
        return ok("rates that are 400 times too large or too small still get a gradient")
    return defect(
        "a rate that is far off gets no gradient, and is never corrected: a clip or a ReLU ends it",
        f"gradient 0 at {_places(dead)}",
        "predict the logarithm of the rate, and leave it unclipped up to 10 or so",
    )


@probe("minimum", ("counts",), rank=10)
def minimum(subject: Subject) -> Finding | None:
    """Whether the best constant rate is the mean of the counts."""
    z = LOG_RATES[:, None] * np.ones(subject.form.examples)
    rates = [_best(subject, z, mean) for mean in MEANS]
    if np.isnan(rates).any():
        return None  # `finite` tells
    evidence = f"mean of the counts -> best constant rate: {_curve(MEANS, rates)}"
    if np.allclose(rates, MEANS, rtol=0.05):
        return ok(evidence)
    return note(
        "the rate that it likes best is not the mean of the counts",
        evidence,
        "right if you want a median or a mean of logarithms; for expected counts take a Poisson "
        "or negative binomial likelihood",
    )


def _best(subject: Subject, z: np.ndarray, mean: float) -> float:
    """The best constant rate for counts of that mean."""
    n = subject.form.examples
    counts = np.round(2.0 * mean * (np.arange(n) + 0.5) / n).astype(np.float32)
    value = subject.measure(z, counts).value
    return float(np.exp(lowest(LOG_RATES, value))) if np.isfinite(value).all() else np.nan
