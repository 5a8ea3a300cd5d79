"""Probe of the side to which predictions of classes are pulled, and why it may be the wrong one."""

from __future__ import annotations

import functools

import numpy as np

from diffmetrics.diagnose._forms import CLASSES, CLASSIFYING
from diffmetrics.diagnose._probes.margins import MARGINS, Profile, profiles, separable
from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, defect, note, ok
from diffmetrics.diagnose._subject import Subject


@probe("direction", CLASSIFYING, rank=6)
def direction(subject: Subject) -> Finding:
    """Whether every prediction is pulled to its own side."""
    wrong, back = [], []
    for profile in profiles(subject):
        up = MARGINS[profile.slope > 1e-4 * np.nanmax(np.abs(profile.slope))]
        near = up[(up >= -30.0) & (up < 0.0)]
        if up.size:
            (wrong if near.size else back).append((profile.name, near if near.size else up))
    if wrong:
        both = len(wrong) == len(profiles(subject))
        return (
            _shifted(subject)
            or _attentive(subject, [name for name, _ in wrong])
            or defect(
                "it pulls predictions to the wrong side"
                + (": the sign of the loss, or of the labels, is turned round" if both else ""),
                f"the loss rises as the margin rises, for {_spans(wrong)}",
                "minimise 1 - score, not the score; and check which class is called 1",
            )
        )
    if back:
        return note(
            "it pulls back predictions that are more right than it asks for",
            f"the loss rises with the margin, for {_spans(back)}",
            "label smoothing and a margin that is meant do so; a squared error of logits wants a "
            "sigmoid first, and a squared hinge its maximum with 0 inside the square",
        )
    return ok("raising the right side's logit lowers the loss, for every class")


def _spans(margins: list[tuple[str, np.ndarray]]) -> str:
    """Where each of some classes is pulled."""
    ends = [(name, [f"{m:.3g}" for m in dict.fromkeys(some[[0, -1]])]) for name, some in margins]
    return "; ".join(f"{name}: at margins {' to '.join(some)}" for name, some in ends)


@functools.lru_cache(4)
def _pulled_up(subject: Subject) -> tuple[int | None, ...]:
    """Of every class id: the one class whose logit is pulled up, None if it is none or several."""
    form = subject.form
    z = np.stack([0.1 * form.predictions(i) for i in range(8)])
    pulls = -subject.measure(z).gradient.sum(0)
    rows = np.stack([pulls[form.true == c].sum(0) for c in range(CLASSES)])
    up = rows > 1e-4 * np.abs(rows).max()
    return tuple(int(row.argmax()) if row.sum() == 1 else None for row in up)


@functools.lru_cache(4)
def shift(subject: Subject) -> int:
    """By how many classes the loss is off in what it takes an id for."""
    if subject.form.labels != "ids" or subject.form.kind != "multiclass":
        return 0
    off = [(k - c) % CLASSES for c, k in enumerate(_pulled_up(subject)) if k is not None]
    most = max(off, key=off.count, default=0)
    # The id at the end has no class beyond: it may count as none, as the first, or as itself.
    return most if off.count(most) >= CLASSES - 1 else 0


def _shifted(subject: Subject) -> Finding | None:
    k = shift(subject)
    if not k:
        return None
    up = [f"id {c}: {'none' if u is None else u}" for c, u in enumerate(_pulled_up(subject))]
    return defect(
        f"its class ids are off by one: a label of 2 is learnt as class {(2 + k) % CLASSES}"
        if k in (1, CLASSES - 1)
        else f"its class ids are permuted: a label of 0 is learnt as class {k}",
        f"the class whose logit is pulled up, of {', '.join(up)}",
        "take ids 0 to C - 1 as they are, without adding or subtracting 1",
    )


def _attentive(subject: Subject, wrong: list[str]) -> Finding | None:
    """Whether a factor p**gamma stands where (1 - p)**gamma is meant, for classes that go wrong."""
    if not separable(subject):
        return None
    gammas = [_power_of_p(profile) for profile in profiles(subject) if profile.name in wrong]
    gamma = min(gammas)
    if not gamma > 0.3:
        return None
    both = len(wrong) == len(profiles(subject))
    return defect(
        "it attends to what is right already"
        + ("" if both else f" among the {wrong[0]}s")
        + ": its focusing factor is p**gamma in place of (1 - p)**gamma, p being the probability "
        "of the true class, so what is confidently wrong costs nothing and is pulled further away",
        f"at every margin from -3 to 1 the loss is -log(p) p**{gamma:.2g}",
        "multiply by (1 - p)**gamma: diffmetrics.sigmoid_focal_loss, softmax_focal_loss",
    )


def _power_of_p(profile: Profile) -> float:
    """The gamma of -p**gamma log(p), or 0 if that is not the loss."""
    some = (MARGINS >= -3.0) & (MARGINS <= 1.0)
    log_p = -np.logaddexp(0.0, -MARGINS[some])
    factor = (profile.value[some] - profile.value[0]) / -log_p
    if not (factor > 0).all():
        return 0.0
    line = np.polyfit(log_p, np.log(factor), 1)
    return float(line[0]) if np.ptp(np.polyval(line, log_p) - np.log(factor)) < 0.05 else 0.0


def beyond(subject: Subject) -> Finding | None:
    """Whether the last id alone makes it NaN, as if 1 were added to ids."""
    form = subject.form
    if form.kind != "multiclass" or form.labels != "ids":
        return None
    ids = np.stack([np.full_like(form.targets(), c) for c in range(CLASSES)])
    value = subject.measure(np.stack([form.predictions()] * CLASSES), ids).value
    if not (np.isfinite(value[:-1]).all() and np.isnan(value[-1])):
        return None
    return defect(
        f"the last of its classes is out of range, as if ids were counted from 1: id {CLASSES - 1} "
        f"of {CLASSES} classes gives NaN",
        ", ".join(f"id {c}: loss {v:.3g}" for c, v in enumerate(value)),
        "take ids 0 to C - 1 as they are, without adding 1",
    )
