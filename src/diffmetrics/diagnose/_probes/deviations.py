"""Probes of predicted numbers, and of a mean with its deviation."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import numpy as np

from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, defect, note, ok
from diffmetrics.diagnose._subject import Measured, Subject

# --- regression -----------------------------------------------------------------------------------

ERRORS = np.array([-100.0, -10.0, -1.0, -0.1, -0.01, 0.0, 0.01, 0.1, 1.0, 10.0, 100.0])


@functools.lru_cache(4)
def _of_errors(subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    """The loss, and its slope, as all predictions have the same error."""
    y = subject.form.targets()
    value, gradient = subject.measure(y + ERRORS.reshape(-1, 1), y)
    return value, gradient.sum(1)


@probe("minimum", ("regression",), rank=10)
def minimum(subject: Subject) -> Iterator[Finding]:
    """Whether the target is the minimum."""
    value, _ = _of_errors(subject)
    least = ERRORS[np.nanargmin(value)]
    if least == 0:
        yield ok(f"at the target, {np.nanmin(value):.3g}")
    else:
        yield note(
            "its minimum is not at the target",
            f"least at an error of {least:g}",
            "an asymmetric loss (pinball) is meant so; else check signs",
        )


@probe("direction", ("regression",), rank=6)
def direction(subject: Subject) -> Iterator[Finding]:
    """Whether predictions are pulled to their targets."""
    _, slope = _of_errors(subject)
    wrong = ERRORS[slope * ERRORS < 0]
    if wrong.size:
        yield defect(
            "it pushes predictions away from the target",
            f"at errors {', '.join(f'{s:g}' for s in wrong)}",
            "check the sign",
        )


@probe("alive", ("regression",), rank=12)
def alive(subject: Subject) -> Iterator[Finding]:
    """Whether large and small errors have a gradient."""
    _, slope = _of_errors(subject)
    dead = ERRORS[(slope == 0) & (ERRORS != 0)]
    if dead.size:
        yield (defect if np.abs(dead).max() >= 1 else note)(
            "it is flat for some errors: a ReLU, a clip or a dead zone",
            f"gradient 0 at errors {', '.join(f'{s:g}' for s in dead)}",
            "let the last layer be linear, and clip gradients instead of errors",
        )


# --- the smallest deviation -----------------------------------------------------------------------

RAW = np.array([-100.0, -80.0, -60.0, -40.0, -20.0, -12.0, -8.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0,
                -0.5, -0.1, 0.1, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0])  # fmt: skip
SIGMAS = np.array([10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-8, 1e-12, 1e-20, 1e-30, 0.0])
VANISHING = "a vanishing scale ends in NaN or infinity"
FLOOR = "keep a floor under the scale: softplus(raw) + 1e-3"


@probe("scale", ("mean_scale",), rank=7)
def scale(subject: Subject) -> Iterator[Finding]:
    """The smallest deviation that the loss can express, and what it does there."""
    if subject.form.raw_scale:
        yield from _floor(subject)
        return
    for error in (0.0, 1.0):
        bad = SIGMAS[~_at_scales(subject, SIGMAS, error).finite]
        if bad.size:
            yield (defect if bad.max() > 1e-12 else note)(
                VANISHING,
                f"not finite from scale {bad.max():g} down, at an error of {error:g}",
                FLOOR,
            )
            return


def _at_scales(subject: Subject, scales: np.ndarray, error: float) -> Measured:
    """A batch of each scale, in which all means have the same error."""
    mean = np.full(subject.form.examples, 3.0)
    z = np.stack([np.stack([mean, np.full_like(mean, s)]) for s in scales])
    return subject.measure(z, (mean + error).astype(np.float32))


def _floor(subject: Subject) -> Iterator[Finding]:
    """The deviation that a raw output means, read off how fast the loss grows with the error."""
    # A small error, of which the loss grows as a square, and it shall not be lost in float32.
    exact, near = (_at_scales(subject, RAW, error) for error in (0.0, 0.1))
    finite = near.finite
    if not finite.all():
        worst = RAW[~finite]
        yield defect(
            VANISHING, f"not finite at raw outputs from {worst.min():g} to {worst.max():g}", FLOOR
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        sigma = 0.1 / np.sqrt(2 * (near.value - exact.value))
    dead = finite & (RAW < 0) & (near.gradient[:, 1].sum(1) == 0)
    if dead[RAW == -1.0].any():
        yield _cut_off(RAW[dead], float(np.median(sigma[dead])))
    elif finite.all():
        least = np.nanmin(sigma[np.isfinite(sigma) & (sigma > 0)])
        yield ok(f"deviations down to {least:.2g} can be reached")


def _cut_off(raw: np.ndarray, floor: float) -> Finding:
    """The finding of raw outputs that have no gradient."""
    cause = f"the deviation cannot fall below {floor:.3f}, and its gradient is 0 there"
    advice = "let the layer in front be linear"
    if abs(floor - math.log(2)) < 0.02:
        cause = (
            "a ReLU stands in front of the softplus: the deviation cannot fall below "
            f"{floor:.3f} = softplus(0) = ln 2, and has no gradient there"
        )
        advice = "let the last layer be linear: softplus is what makes it positive"
    evidence = f"deviation {floor:.4f}, gradient exactly 0"
    return defect(cause, f"raw outputs {raw.min():g} to {raw.max():g}: {evidence}", advice)


# --- the best deviation ---------------------------------------------------------------------------


@probe("proper", ("mean_scale",), rank=17)
def proper(subject: Subject) -> Iterator[Finding]:
    """At which deviation its gradient is balanced, for normal errors of deviation 1."""
    raw = subject.form.raw_scale
    rows = np.linspace(-2.0, 3.0, 41) if raw else np.exp(np.linspace(-1.5, 1.5, 41))
    balance = _balance(subject, rows)
    if not np.isfinite(balance).all():
        return
    if not np.abs(balance).max() > 0:
        yield defect(
            "the deviation has no gradient",
            "gradient 0 at every deviation from 0.2 to 4",
            "let it enter the loss",
        )
    elif not raw:
        yield _balanced(rows, balance)


def _balance(subject: Subject, rows: np.ndarray) -> np.ndarray:
    """The gradient in the deviation at each of them."""
    n = subject.form.examples
    # Quantiles of a normal distribution, by inverting erf on a grid.
    grid = np.linspace(-4, 4, 4001)
    cdf = np.array([0.5 * (1 + math.erf(g / math.sqrt(2))) for g in grid])
    errors = np.interp((np.arange(n) + 0.5) / n, cdf, grid)
    errors /= errors.std()
    z = np.stack([np.stack([np.zeros(n), np.full(n, r)]) for r in rows])
    return subject.measure(z, errors.astype(np.float32)).gradient[:, 1].sum(1)


def _balanced(rows: np.ndarray, balance: np.ndarray) -> Finding:
    """Where the gradient changes its sign."""
    crossing = np.flatnonzero((balance[:-1] < 0) & (balance[1:] >= 0))
    if not crossing.size:
        tendency = "shrinks" if balance.mean() > 0 else "grows"
        return defect(
            f"the deviation only {tendency}: nothing balances it",
            f"errors of deviation 1, deviations 0.2 to 4: gradient {balance[0]:.3g} to "
            f"{balance[-1]:.3g}",
            "a likelihood has a log(scale) and a squared error over the squared scale",
        )
    i = crossing[0]
    where = rows[i] + (rows[i + 1] - rows[i]) * -balance[i] / (balance[i + 1] - balance[i])
    if abs(where - 1) < 0.06:
        return ok(f"errors of deviation 1 are best told by {where:.2f}")
    return note(
        f"it is content with a deviation of {where:.2f} where the errors' is 1",
        "zero of the gradient in the deviation, for normal errors",
        "another distribution's scale, a variance in place of a deviation, or a missing 1/2?",
    )
