"""Probe of the gradient: is it that of the value, and if not, who pays for it?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from diffmetrics.diagnose._forms import COMPARING, STACKED
from diffmetrics.diagnose._probes.jumps import jumps, straight_through
from diffmetrics.diagnose._probes.sides import shift
from diffmetrics.diagnose._probes.tradeoffs import rounded
from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, defect, note, ok
from diffmetrics.diagnose._subject import Subject

MANY = 16
DEAD = 1e-3  # of the slope of the value
CHECK = "check the custom_vjp or custom_jvp with jax.test_util.check_grads"


@probe("gradient", rank=0.5)
def gradient(subject: Subject) -> Finding | None:
    """Whether the gradient is that of the value, by finite differences."""
    if subject.mode == "values" or shift(subject):
        return None
    if subject.form.classifies and jumps(subject):
        return _rounded_value() if straight_through(subject) else None
    tries = list(_differences(subject))
    if not tries:
        return None
    _, fit, residual = min(tries)
    evidence = f"gradient / finite difference = {fit:.3g}, scatter {residual:.2g}, {MANY} batches"
    text = str(subject.jaxpr)
    parts = list(_parts(subject)) if "stop_gradient" in text and subject.mode == "compiled" else []
    if abs(fit - 1) < 0.05 and residual < 0.25 and all(part.size > DEAD for part in parts):
        return ok(evidence)
    if "stop_gradient" in text and "custom_vjp" not in text:
        return _stopped(subject, parts, fit, evidence)
    if " sort[" in text:
        return None  # within a step the order changes, and the slope with it
    return defect(
        "its gradient is not that of its value: a custom derivative is wrong, or something is "
        "rounded or compared on the way",
        evidence,
        CHECK,
    )


def _rounded_value() -> Finding:
    return note(
        "its value counts rounded predictions, its gradient is that of another, smooth function "
        "(a straight-through estimator)",
        "the value stays as it is while predictions move within their side, and the gradient is "
        "not 0",
        "fine if it is meant; read the value as a metric, and watch what is descended as well",
    )


def _differences(subject: Subject) -> Iterator[tuple[float, float, float]]:
    """Of each step that is of use: how far off the gradient is, its factor, and its scatter."""
    form, y = subject.form, subject.form.targets()
    z = np.stack([form.predictions(10 + i) for i in range(MANY)]).astype(np.float64)
    along = np.random.default_rng(7).normal(size=z.shape)
    slopes = (subject.measure(z, y).gradient * along).reshape(MANY, -1).sum(1)
    if not slopes.any() or not np.isfinite(slopes).all():
        return
    for step in (0.02, 0.004):  # the smaller one for steep losses, the larger for flat ones
        ahead, behind = (subject.measure(z + s * step * along, y).value for s in (1, -1))
        measured = (ahead - behind) / (2 * step)
        noise = 1e-6 * np.abs(ahead).max() / step
        power = (measured**2).sum()
        if np.isfinite(measured).all() and power > MANY * noise**2:
            fit = float((slopes * measured).sum() / power)
            residual = float(np.sqrt(((slopes - fit * measured) ** 2).sum() / power))
            yield abs(fit - 1) + residual, fit, residual


# --- what a stop_gradient takes away --------------------------------------------------------------

REMOVE = "move the stop_gradient to what is no part of the loss, or remove it"


class Part(NamedTuple):
    """Some of the predictions: of the gradient that their value asks for, how much they get.

    `size` is the gradient's length by that of the value's slope, `pull` how much of it points the
    same way, and `astray` whether it pulls away from the labels, which a value that is no loss
    (of a surrogate, whose gradient alone is meant) may ask for.
    """

    name: str
    size: float
    pull: float
    astray: bool


def _stopped(subject: Subject, parts: list[Part], fit: float, evidence: str) -> Finding:
    """A defect if it changes who learns, and a note if all learn as the value asks."""
    dead = [part.name for part in parts if part.size <= DEAD]
    turned = [part.name for part in parts if part.size > DEAD and part.pull < -0.1 and part.astray]
    each = ", ".join(f"{p.pull:.2g} times for {p.name}" for p in parts)
    shown = f"the gradient is as many times the slope of the value: {each}"
    if turned:
        return defect(
            f"a stop_gradient cuts off part of it: {_and(turned)} are pulled the wrong way, to "
            "where the value rises",
            shown,
            REMOVE,
        )
    if dead and subject.form.kind in COMPARING:
        return note(
            f"its gradient is not that of its value: a stop_gradient keeps {_and(dead)} fixed",
            shown,
            "right for a teacher or a target network, which others follow; else remove it",
        )
    if dead:
        return defect(
            f"a stop_gradient cuts off part of it: its value depends on {_and(dead)}, which get no "
            "gradient",
            shown,
            REMOVE,
        )
    if fit < 0.05 and any(part.astray for part in parts):
        return defect(
            "a stop_gradient leaves a gradient that does not lower its value",
            evidence,
            REMOVE,
        )
    uneven = _uneven(parts, shown) if subject.form.classifies else None
    return uneven or note(
        "its gradient is not that of its value: a stop_gradient stands between",
        evidence,
        "do not read its value as progress; watch what it stands for",
    )


def _uneven(parts: list[Part], shown: str) -> Finding | None:
    """Whether some learn many times faster than others, measured by what the value asks for."""
    if not parts or not min(p.pull for p in parts) > 0:
        return None
    most, least = max(parts, key=lambda p: p.pull), min(parts, key=lambda p: p.pull)
    times = most.pull / least.pull
    if times < 10:
        return None
    return defect(
        f"a stop_gradient changes what weighs how much: {most.name} pull {rounded(times)} times "
        f"as much against {least.name} as in the value",
        shown,
        REMOVE,
    )


def _and(names: list[str]) -> str:
    return " and ".join(names)


def _parts(subject: Subject) -> Iterator[Part]:
    """The gradient of one batch beside the slope of its value, one prediction after the other."""
    form, step = subject.form, 0.02
    z = form.predictions(10).astype(np.float64)
    nudges = step * np.eye(z.size).reshape(-1, *z.shape)
    ahead, behind = (subject.measure(z + s * nudges).value for s in (1, -1))
    slope = ((ahead - behind) / (2 * step)).reshape(z.shape)
    got = subject.measure(z[None]).gradient[0]
    noise = 1e-6 * np.abs(ahead).max() / step
    for name, some in _masks(subject):
        asked = np.linalg.norm(slope[some])
        if asked > max(noise * np.sqrt(some.sum()), 1e-3 * np.linalg.norm(slope)):
            size = np.linalg.norm(got[some]) / asked
            pull = float((got * slope)[some].sum() / asked**2)
            astray = not form.classifies or float((got * form.sides())[some].sum()) > 0
            yield Part(name, float(size), pull, astray)


def _masks(subject: Subject) -> Iterator[tuple[str, np.ndarray]]:
    """Which predictions are of one part, and what it is called."""
    form = subject.form
    if form.decides:
        yield from ((f"{group.name}s", group.members) for group in form.groups())
    elif form.classifies:
        true = form.sides() > 0
        yield from (("the true logits", true), ("the other logits", ~true))
    elif form.kind in STACKED:
        two = ("the means", "the deviations")
        names = two if form.kind == "mean_scale" else form.predicted
        for i, name in enumerate(names):
            which = np.arange(len(names)).reshape(-1, *[1] * (len(form.shape) - 1))
            yield name, np.broadcast_to(which == i, form.shape)
    else:
        yield "predictions", np.full(form.shape, True)
