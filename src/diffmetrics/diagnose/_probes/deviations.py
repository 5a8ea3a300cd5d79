"""Probes of predicted numbers, and of a mean with its deviation."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, defect, note, ok
from diffmetrics.diagnose._subject import Measured, Subject

ERRORS = np.array([-100.0, -10.0, -1.0, -0.1, -0.01, 0.0, 0.01, 0.1, 1.0, 10.0, 100.0])


@functools.lru_cache(4)
def _over_errors(subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    """The loss, and its slope, as all predictions have the same error."""
    value, gradient = subject.measure(np.add.outer(ERRORS, subject.form.targets()))
    slope = gradient.sum(1)
    # What is left of a sum that cancels is no slope.
    rest = 1e-4 * np.abs(gradient).sum(1)
    return value, np.where(np.abs(slope) <= rest, 0.0, slope)


@probe("cancel", ("regression",), rank=0.7)
def cancel(subject: Subject) -> Finding | None:
    """Whether an error above the target and one below it cancel."""
    y = subject.form.targets()
    signs = np.where(np.arange(len(y)) % 2, 1.0, -1.0)
    errors = np.stack([0 * y, signs, 0 * y + 1, 0 * y - 1])
    none, both, above, below = subject.measure(y + errors).value
    size = abs(above - none)
    if not abs(both - none) < 1e-3 * size:
        return None
    evidence = (
        f"loss {none:.3g} without errors, {both:.3g} with errors of 1 and -1 in turn, {above:.3g} "
        f"with errors of 1, {below:.3g} with errors of -1"
    )
    if abs(above + below - 2 * none) < 1e-3 * size:
        return defect(
            "it is the mean of the error itself, without a square or an absolute value: errors "
            "cancel, and it falls without end",
            evidence,
            "square the difference, or take its absolute value, before the mean",
        )
    return defect(
        "errors above and below the target cancel: the mean is taken before the square or the "
        "absolute value",
        evidence,
        "square first, and take the mean last",
    )


@probe("minimum", ("regression",), rank=10)
def minimum(subject: Subject) -> Finding:
    """Whether the target is the minimum, and whether one may be there."""
    value, slope = _over_errors(subject)
    if not slope.any():
        return note(
            "it leaves the offset free: only how predictions rise and fall with the targets counts",
            "the loss is the same if all predictions move by the same amount",
            "a correlation is meant so; add a squared error if the numbers themselves matter",
        )
    least = ERRORS[np.nanargmin(value)]
    if least != 0:
        return note(
            "its minimum is not at the target",
            f"least at an error of {least:g}",
            "an asymmetric loss (pinball) is meant so; else check signs",
        )
    if not np.isfinite(slope[ERRORS == 0]).all():
        return _infinite_slope(subject)
    return ok(f"at the target, {np.nanmin(value):.3g}")


def _infinite_slope(subject: Subject) -> Finding:
    """Whether one prediction that meets its target is enough to end the training."""
    y = subject.form.targets()
    one = y + (np.arange(len(y)) > 0)
    cause = "its slope is not finite where {}: the root of an error of 0"
    advice = "keep the root's argument from 0 (double where, or a small constant inside)"
    if subject.measure(one[None]).finite.all():
        where = "all predictions of a batch meet their targets"
        return note(cause.format(where), "gradient not finite, of a perfect batch", advice)
    where = "a prediction meets its target, as padding does"
    return defect(cause.format(where), "gradient not finite, with one error of 0 in 64", advice)


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
    slope = _over_errors(subject)[1]
    dead = ERRORS[(slope == 0) & (ERRORS != 0)]
    if not (dead.size and slope.any()):
        return None
    cause = "it is flat for some errors: a ReLU, a clip or a dead zone"
    if {-100.0, 100.0} <= {*dead} and np.abs(dead).min() >= 1:
        cause = (
            "it is flat for large errors: a clip, or a minimum with a constant, cuts it off from "
            "above, and an outlier is never corrected"
        )
        if _fades(subject):
            return note(
                "it lets go of large errors by and by: outliers do not count",
                f"gradient 0 at errors {', '.join(f'{s:g}' for s in dead)}",
                "a redescending loss (Tukey's biweight) is meant so; start from a good fit",
            )
    return (defect if np.abs(dead).max() >= 1 else note)(
        cause,
        f"gradient 0 at errors {', '.join(f'{s:g}' for s in dead)}",
        "let the last layer be linear, and clip gradients instead of errors",
    )


def _fades(subject: Subject) -> bool:
    """Whether the gradient has become small before it is gone."""
    errors = np.geomspace(0.1, 100.0, 64)
    slope = subject.measure(np.add.outer(errors, subject.form.targets())).gradient.sum(1)
    alive = slope[slope != 0]
    return bool(alive.size and alive[-1] < 0.3 * alive.max())


@probe("outliers", ("regression",), rank=12.5)
def outliers(subject: Subject) -> Finding | None:
    """How much a large error pulls, and whether a Huber has its branches in their places."""
    value, slope = _over_errors(subject)
    tiny, small, large, huge = (slope[e == ERRORS].item() for e in (0.01, 0.1, 10.0, 100.0))
    if not (np.isfinite([tiny, small, large, huge]).all() and tiny and large):
        return None
    evidence = f"an error of 100 pulls {huge / large + 0.0:.3g} times as much as one of 10"
    if not (abs(tiny / small - 1) < 0.01 and abs(huge / large - 10) < 0.1):
        return ok(evidence)
    evidence += f", one of 0.1 {small / tiny:.3g} times as much as one of 0.01"
    below = value[ERRORS == 0].item()
    if below < -1e-6:
        return defect(
            "the two branches of a Huber loss are swapped: small errors count by their size, "
            "large ones by their square, so outliers rule",
            f"{evidence}; at the target it is {below:.3g}",
            "jnp.where(abs(error) <= delta, error**2 / 2, delta * (abs(error) - delta / 2))",
        )
    return note(
        "small errors count by their size, large ones by their square: outliers rule",
        evidence,
        "a reversed Huber (berHu) is meant so; a Huber has it the other way round",
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
        low, high = lost.min(), lost.max()
        where = f"from {low:g} to {high:g}" if low < high else f"of {low:g}"
        evidence = f"not finite at raw outputs {where}"
        logarithmic = lost.max() <= -20.0 and _is_exponential(near.value - exact.value)
        yield (note if logarithmic else defect)(VANISHING, evidence, FLOOR)
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


def _is_exponential(grown: np.ndarray) -> bool:
    """Whether the raw output is a logarithm, of a deviation that vanishes far beyond any data."""
    some = (RAW >= -3.0) & (RAW <= 3.0)
    if not (grown[some] > 0).all():
        return False
    line = np.polyfit(RAW[some], np.log(grown[some]), 1)
    return bool(np.abs(np.polyval(line, RAW[some]) - np.log(grown[some])).max() < 0.02)


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
    unheld, anatomy = _unheld(_at_scales(subject, rows, 0.0), balance), _anatomy(subject)
    if unheld or not raw:
        return unheld or _settles(rows, balance, anatomy)
    return _why_not_one(anatomy, None, raw=True) if anatomy else None


def _settles(rows: np.ndarray, balance: np.ndarray, anatomy: Anatomy | None) -> Finding:
    """Where the gradient turns from growing to shrinking."""
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
    where = float(np.interp(0.0, balance[i], rows[i]))
    if anatomy:
        return _why_not_one(anatomy, where, raw=False)
    if abs(where - 1) < 0.06:
        return ok(f"errors of deviation 1 are best told by {where:.2f}")
    return note(
        f"it is content with a deviation of {where:.2f} where the errors' is 1",
        "zero of the gradient in the deviation, for normal errors",
        "another distribution's scale, a variance in place of a deviation, or a missing 1/2?",
    )


def _unheld(exact: Measured, balance: np.ndarray) -> Finding | None:
    """Whether nothing keeps the deviation down where there is no error, as log(scale) does."""
    alone = exact.gradient[:, 1].sum(1)
    error = balance - alone
    missing = np.abs(alone).max() < 1e-3 * np.abs(error).max()
    turned = (alone * error > 0).all()
    if not (missing or turned):
        return None
    return defect(
        "the deviation only grows: the log(scale) that should hold it down "
        + ("is missing" if missing else "has the wrong sign"),
        f"gradient in the deviation without an error {alone[len(alone) // 2]:.3g}, with errors of "
        f"deviation 1 {balance[len(alone) // 2]:.3g}",
        "a normal likelihood is log(scale) + error**2 / (2 scale**2): diffmetrics.gaussian_nll",
    )


class Anatomy(NamedTuple):
    """The loss as ``square error**2 exp(-power u) + log u``, u the raw output or log(scale)."""

    square: float
    power: int
    log: float


def _anatomy(subject: Subject) -> Anatomy | None:
    """Its parts, or None if it is no normal likelihood of a scale or an exponential."""
    u = np.linspace(-1.0, 1.0, 9)
    scales = u if subject.form.raw_scale else np.exp(u)
    none, near, far = (_at_scales(subject, scales, error) for error in (0.0, 0.2, 2.0))
    if not (none.finite.all() and near.finite.all() and far.finite.all()):
        return None
    grown = far.value - none.value
    if not (grown > 0).all() or not np.allclose(grown, 100 * (near.value - none.value), rtol=0.01):
        return None
    (slope, offset), log_grown = np.polyfit(u, np.log(grown / 4), 1), np.log(grown / 4)
    log, bend = np.polyfit(u, none.value, 1)[0], np.polyfit(u, none.value, 2)[0]
    power = round(-slope)
    straight = np.abs(slope * u + offset - log_grown).max() < 0.01 and abs(bend) < 0.01
    if not (straight and power in (1, 2) and abs(power + slope) < 0.02):
        return None
    return Anatomy(math.exp(offset), power, float(log))


def _why_not_one(anatomy: Anatomy, where: float | None, *, raw: bool) -> Finding:
    """Which factor is off, if errors of deviation 1 do not lead to a deviation of 1."""
    square, power, log = anatomy
    if where is None:
        where = math.sqrt(power * square / log)
    u, below = ("raw", f" exp(-{power} raw)") if raw else ("log(scale)", f" / scale**{power}")
    evidence = f"the loss is {log:.3g} {u} + {square:.3g} error**2{below}"
    if not raw and power == 1 and math.isclose(square, log, rel_tol=0.05):
        return note(
            "it takes its second argument for a variance, not for a deviation",
            evidence,
            "give it the square of a deviation, and take the root of what it learns",
        )
    if abs(where - 1) < 0.06:
        return ok(f"errors of deviation 1 are best told by {where:.2f}")
    return note(
        f"it is content with a deviation of {where:.2f} where the errors' is 1: "
        + _factor(anatomy, raw=raw),
        evidence,
        "a normal likelihood is log(scale) + error**2 / (2 scale**2): diffmetrics.gaussian_nll",
    )


def _factor(anatomy: Anatomy, *, raw: bool) -> str:
    """What is wrong with the parts of a normal likelihood."""
    square, power, log = anatomy
    if power == 1 and not raw:
        return "the squared error is divided by the scale, and not by its square"
    times = log / (power * square)
    if math.isclose(times, 2, rel_tol=0.05):
        return "the logarithm counts twice, as if 1/2 were missing before a log-variance"
    if not math.isclose(times, 0.5, rel_tol=0.05):
        return "the squared error and the logarithm do not weigh what they should"
    if math.isclose(square, 1, rel_tol=0.05):
        return "1/2 is missing before the squared error"
    what = "a log-variance" if raw else "a variance"
    return f"the error takes for a deviation what the logarithm takes for {what}"
