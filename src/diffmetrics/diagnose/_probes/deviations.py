"""Probes of predicted numbers, and of a mean with its deviation."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Iterator

import numpy as np

from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, defect, note, ok
from diffmetrics.diagnose._subject import Measured, Subject

ERRORS = np.array([-100.0, -10.0, -1.0, -0.1, -0.01, 0.0, 0.01, 0.1, 1.0, 10.0, 100.0])


@functools.lru_cache(4)
def _over_errors(subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    """The loss, and its slope, as all predictions have the same error."""
    value, gradient = subject.measure(np.add.outer(ERRORS, subject.form.targets()))
    return value, gradient.sum(1)


@probe("minimum", ("regression",), rank=10)
def minimum(subject: Subject) -> Finding:
    """Whether the target is the minimum."""
    value, _ = _over_errors(subject)
    least = ERRORS[np.nanargmin(value)]
    if least == 0:
        return ok(f"at the target, {np.nanmin(value):.3g}")
    return note(
        "its minimum is not at the target",
        f"least at an error of {least:g}",
        "an asymmetric loss (pinball) is meant so; else check signs",
    )


@probe("direction", ("regression",), rank=6)
def direction(subject: Subject) -> Finding | None:
    """Whether predictions are pulled to their targets."""
    wrong = ERRORS[_over_errors(subject)[1] * ERRORS < 0]
    if not wrong.size:
        return None
    evidence = f"at errors {', '.join(f'{s:g}' for s in wrong)}"
    return defect("it pushes predictions away from the target", evidence, "check the sign")


@probe("alive", ("regression",), rank=12)
def alive(subject: Subject) -> Finding | None:
    """Whether large and small errors have a gradient."""
    dead = ERRORS[(_over_errors(subject)[1] == 0) & (ERRORS != 0)]
    if not dead.size:
        return None
    return (defect if np.abs(dead).max() >= 1 else note)(
        "it is flat for some errors: a ReLU, a clip or a dead zone",
        f"gradient 0 at errors {', '.join(f'{s:g}' for s in dead)}",
        "let the last layer be linear, and clip gradients instead of errors",
    )


RAW = np.array([-100.0, -80.0, -60.0, -40.0, -20.0, -12.0, -8.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0,
                -0.5, -0.1, 0.1, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0])  # fmt: skip
SIGMAS = np.array([10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-8, 1e-12, 1e-20, 1e-30, 0.0])
VANISHING = "a vanishing scale ends in NaN or infinity"
FLOOR = "keep a floor under the scale: softplus(raw) + 1e-3"


@probe("scale", ("mean_scale",), rank=7)
def scale(subject: Subject) -> Finding | Iterator[Finding] | None:
    """The smallest deviation that the loss can express, and what it does there."""
    if subject.form.raw_scale:
        return _floor(subject)
    for error in (0.0, 1.0):
        bad = SIGMAS[~_at_scales(subject, SIGMAS, error).finite]
        if bad.size:
            evidence = f"not finite from scale {bad.max():g} down, at an error of {error:g}"
            return (defect if bad.max() > 1e-12 else note)(VANISHING, evidence, FLOOR)
    return None


def _at_scales(subject: Subject, scales: np.ndarray, errors: np.ndarray | float) -> Measured:
    """A batch of each scale, in which the means have these errors."""
    mean = np.full(subject.form.examples, 3.0)
    z = np.stack([np.stack([mean, np.full_like(mean, s)]) for s in scales])
    return subject.measure(z, (mean + errors).astype(np.float32))


def _floor(subject: Subject) -> Iterator[Finding]:
    """The deviation that a raw output means, read off how fast the loss grows with the error."""
    # A small error, of which the loss grows as a square, and it shall not be lost in float32.
    exact, near = (_at_scales(subject, RAW, error) for error in (0.0, 0.1))
    lost = RAW[~near.finite]
    if lost.size:
        evidence = f"not finite at raw outputs from {lost.min():g} to {lost.max():g}"
        yield defect(VANISHING, evidence, FLOOR)
    sigma = 0.1 / np.sqrt(2 * (near.value - exact.value))
    dead = near.finite & (RAW < 0) & (near.gradient[:, 1].sum(1) == 0)
    if dead[RAW == -1.0].any():
        floor, raw = float(np.median(sigma[dead])), RAW[dead]
        cause = f"the deviation cannot fall below {floor:.3f}, and its gradient is 0 there"
        advice = "let the layer in front be linear"
        if abs(floor - math.log(2)) < 0.02:
            cause = (
                "a ReLU stands in front of the softplus: the deviation cannot fall below "
                f"{floor:.3f} = softplus(0) = ln 2, and has no gradient there"
            )
            advice = "let the last layer be linear: softplus is what makes it positive"
        where = f"raw outputs {raw.min():g} to {raw.max():g}"
        yield defect(cause, f"{where}: deviation {floor:.4f}, gradient exactly 0", advice)
    elif not lost.size:
        least = np.nanmin(sigma[np.isfinite(sigma) & (sigma > 0)])
        yield ok(f"deviations down to {least:.2g} can be reached")


@probe("proper", ("mean_scale",), rank=18)
def proper(subject: Subject) -> Finding | None:
    """At which deviation its gradient is balanced, for normal errors of deviation 1."""
    raw = subject.form.raw_scale
    rows = np.linspace(-2.0, 3.0, 41) if raw else np.exp(np.linspace(-1.5, 1.5, 41))
    n, quantile = subject.form.examples, statistics.NormalDist().inv_cdf
    errors = np.array([quantile((i + 0.5) / n) for i in range(n)])
    balance = _at_scales(subject, rows, errors / errors.std()).gradient[:, 1].sum(1)
    if not np.isfinite(balance).all():
        return None
    if not balance.any():
        evidence = "gradient 0 at every deviation from 0.2 to 4"
        return defect("the deviation has no gradient", evidence, "let it enter the loss")
    if raw:
        return None
    crossing = np.flatnonzero((balance[:-1] < 0) & (balance[1:] >= 0))
    if not crossing.size:
        tendency = "shrinks" if balance.mean() > 0 else "grows"
        return defect(
            f"the deviation only {tendency}: nothing balances it",
            f"errors of deviation 1, deviations 0.2 to 4: gradient {balance[0]:.3g} to "
            f"{balance[-1]:.3g}",
            "a likelihood has a log(scale) and a squared error over the squared scale",
        )
    i = slice(crossing[0], crossing[0] + 2)
    where = np.interp(0.0, balance[i], rows[i])
    if abs(where - 1) < 0.06:
        return ok(f"errors of deviation 1 are best told by {where:.2f}")
    return note(
        f"it is content with a deviation of {where:.2f} where the errors' is 1",
        "zero of the gradient in the deviation, for normal errors",
        "another distribution's scale, a variance in place of a deviation, or a missing 1/2?",
    )
