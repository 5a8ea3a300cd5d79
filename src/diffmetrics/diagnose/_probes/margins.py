"""Probes of the gradient as a prediction moves from confidently wrong to confidently right.

The margin of an example is how far its logit is on the right side: the logit of a positive, minus
the logit of a negative, or the true class's logit less its rival's.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from diffmetrics.diagnose._forms import CLASSIFYING, Group
from diffmetrics.diagnose._inside import steps_within
from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, defect, note, ok
from diffmetrics.diagnose._subject import Subject

MARGINS = np.array(
    [-100.0, -88.0, -60.0, -40.0, -30.0, -25.0, *range(-20, -2), -2.5, -2.0, -1.5, -1.0, -0.847,
     -0.5, -0.25, -0.1, -1e-3, 0.0, 1e-3, 0.1, 0.25, 0.5, 0.847, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0]
)  # fmt: skip
WRONG = (MARGINS < 0) & (MARGINS >= -30.0)


class Profile(NamedTuple):
    """What happens as all examples of one class have the same margin, and all others margin 1.

    `slope` is that of the loss in the margin: negative where the loss pulls to the right side.
    `size` is its size, of which the largest is 1, unless it is 0 everywhere.
    """

    group: Group
    value: np.ndarray
    slope: np.ndarray
    size: np.ndarray

    @property
    def name(self) -> str:
        return self.group.name

    def at(self, margin: float) -> float:
        """The slope's size at a margin."""
        return float(self.size[np.searchsorted(MARGINS, margin)])


@functools.lru_cache(4)
def profiles(subject: Subject) -> tuple[Profile, ...]:
    """A profile of each class."""
    return tuple(_profile(subject, group, MARGINS) for group in subject.form.groups())


def _profile(subject: Subject, group: Group, margins: np.ndarray) -> Profile:
    z = subject.form.at_margins(margins, group) + 0.0  # no -0.0, of which a ReLU thinks otherwise
    value, gradient = subject.measure(z)
    slope = (subject.form.in_margin(gradient) * group.members).reshape(len(margins), -1).sum(1)
    size = np.abs(slope)
    return Profile(group, value, slope, size / max(np.nanmax(size), 1e-300))


@probe("alive", CLASSIFYING, rank=12)
def alive(subject: Subject) -> Iterable[Finding]:
    """Where a wrong prediction gets no gradient, and why."""
    found: dict[str, Finding] = {}
    for each in _not_alive(subject):  # those of one cause as one, with the evidence of all
        before = found.setdefault(each.cause, each)
        if before is not each and before.evidence.count(";") < 3:
            more = f"{before.evidence}; {each.evidence}"
            found[each.cause] = dataclasses.replace(each, evidence=more)
    if any(each.status == "defect" for each in found.values()):
        return found.values()
    least = min(p.at(-10.0) for p in profiles(subject))
    return [
        *found.values(),
        ok(f"a logit 10 on the wrong side has {least:.2g} of the largest gradient or more"),
    ]


def _not_alive(subject: Subject) -> Iterator[Finding]:
    silent = [p for p in profiles(subject) if not np.nanmax(p.size) > 0]
    moving = [p for p in profiles(subject) if np.nanmax(p.size) > 0]
    if silent:
        yield _silent(subject, silent)
    elif _rectified(subject):
        yield defect(
            "a ReLU stands in front of the loss: below logit 0 nothing has a gradient",
            "gradient is exactly 0 for every positive and every negative with a logit below 0",
            "let the last layer be linear: logits have a sign",
        )
        return
    yield from _focused(moving)
    for profile in moving:
        yield from _dead(subject, profile)


def _silent(subject: Subject, silent: list[Profile]) -> Finding:
    """Why a class has no gradient at all."""
    names = " and ".join(p.name for p in silent)
    value = silent[0].value
    evidence = f"{names}: gradient exactly 0 at every margin from -100 to 8"
    if np.ptp(value) <= 1e-6 * (1 + abs(value[0])):
        evidence += f", loss constant {value[0]:.3g}"
    if len(silent) == len(profiles(subject)):
        if np.ptp(value) == 0 and not steps_within(subject):
            return defect(
                "it has no gradient at all, and is the same whatever is predicted: predictions are "
                "not used, or are behind a softmax over a single output, which is always 1",
                evidence,
                "take a sigmoid of a single output, or a softmax of two",
            )
        ends = " and ".join(steps_within(subject)) or "a clip, a cast or a stop_gradient"
        return defect(
            f"it has no gradient at all: {ends} leaves none",
            evidence,
            "replace the step by a sigmoid or softmax: diffmetrics.score_loss does so for any",
        )
    plural = "s" if subject.form.decides else ""
    if np.ptp(value) > 1e-4 * (1e-6 + np.abs(value).max()):
        return defect(
            f"its value changes with {names}{plural}, but gives no gradient there: a "
            "stop_gradient, a rounding, a clip or a comparison ends it",
            f"{evidence}, while the loss goes from {value.max():.3g} to {value.min():.3g}",
            "let the gradient through: sigmoid or softmax in place of a step, no stop_gradient",
        )
    if not subject.form.decides:
        return defect(
            f"{names} never moves: the loss leaves it out",
            evidence,
            "check include_background, ignored ids and zero class weights",
        )
    return _silent_side(subject, names, evidence)


def _silent_side(subject: Subject, name: str, evidence: str) -> Finding:
    """Why positives, or negatives, do not matter."""
    if _is_signed(subject):
        return defect(
            "it expects labels -1 and +1: with 0 and 1 the loss of a negative is flat",
            evidence + "; with labels -1 and +1 both classes learn",
            "pass 2 * labels - 1, or use diffmetrics.hinge_loss, which takes 0 and 1",
        )
    if separable(subject) and _is_own_ratio(subject):
        return defect(
            "every element is a ratio of its own, as if summed over an axis of size one: the "
            "intersection of a negative is 0 whatever is predicted, so nothing opposes a false "
            "alarm and all becomes positive",
            evidence + "; a positive costs what it costs alone, 1 - p at every p",
            "sum over the pixels (all axes but the batch, or all) before dividing: "
            "diffmetrics.jaccard_loss(logits, labels)",
        )
    if separable(subject):
        missing, what = (
            ("(1 - y) log(1 - p)", "positive") if name == "negative" else ("y log(p)", "negative")
        )
        return defect(
            f"no {name} matters to it: a term like {missing} is missing, and everything becomes "
            f"{what}",
            evidence,
            "write both terms, or take a loss that has them: diffmetrics.sigmoid_cross_entropy",
        )
    return note(
        f"no {name} matters to it, as in a bare recall or precision of one side",
        evidence,
        "add the other kind of error: F-beta, Dice, or a cross-entropy",
    )


def _is_signed(subject: Subject) -> bool:
    """Whether it learns from labels -1 and +1, of which it treats both alike."""
    side, margins = subject.form.sides(), np.array([-2.0, -0.5, 0.3, 2.0])
    signed = subject.measure(-0.5 * side[None], side)
    if not (signed.finite.all() and (signed.gradient * side < 0).all()):
        return False
    ones = np.ones(subject.form.shape, np.float32)
    plus, minus = (
        subject.measure(np.multiply.outer(s * margins, ones), s * ones)[0] for s in (1, -1)
    )
    return np.allclose(plus, minus, rtol=1e-3, atol=1e-6)


def _is_own_ratio(subject: Subject) -> bool:
    """Whether a positive's loss falls from its largest to 0 as 1 - p or 1 - 2p / (1 + p) do."""
    y = subject.form.targets()
    p = np.array([0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
    z = np.where(y == 1, np.log(p / (1 - p)).reshape(-1, *[1] * y.ndim), -3.0)
    value = subject.measure(z, y).value
    share = (value - value[-1]) / (y == 1).mean()
    ratios = (1 - p, 1 - 2 * p / (1 + p), 1 - (2 * p + 1) / (p + 2))
    return any(np.allclose(share, expected, atol=0.03) for expected in ratios)


def _rectified(subject: Subject) -> bool:
    """No gradient wherever the logit is negative, for the wrong and the right class alike."""
    if not subject.form.decides:
        return False
    positive, negative = profiles(subject)
    below, above = MARGINS < 0, MARGINS > 0
    return bool(
        (positive.slope[below] == 0).all()
        and (negative.slope[above] == 0).all()
        and (negative.slope[WRONG] != 0).any()
        and (positive.slope[above & (MARGINS < 1)] != 0).any()
    )


def _dead(subject: Subject, profile: Profile) -> Iterator[Finding]:
    """Where the gradient of a class ends, or dies away."""
    end = _clipped(subject, profile) or _flat(profile)
    if end:
        yield end
        return
    lenient = separable(subject) and _lenient(profile)
    if lenient:
        yield lenient
        return
    yield from _stuck_at_zero(subject, profile)
    ten = profile.at(-10.0)
    if ten < 0.01:
        yield note(
            "it saturates: what is confidently wrong hardly moves",
            f"{profile.name}: a logit 10 on the wrong side has {ten:.1g} of the largest gradient",
            "start with small weights in the last layer, or add a cross-entropy",
        )
    right = (MARGINS > 0) & (MARGINS <= 0.25)
    if (profile.slope[right] == 0).all() and not offset_free(subject):
        yield note(
            "it stops as soon as a prediction is on the right side, however near to the boundary",
            f"{profile.name}: gradient exactly 0 from margin 0.001 on",
            "ask for a margin, as max(0, 1 - z) does",
        )


def _stuck_at_zero(subject: Subject, profile: Profile) -> Iterator[Finding]:
    """Whether predictions that are all 0 have no gradient, although those beside have."""
    (gradient,) = subject.measure(np.zeros((1, *subject.form.shape))).gradient
    near, at_zero = profile.at(-1e-3), subject.form.in_margin(gradient)
    if near > 0.01 and not at_zero[profile.group.members].any():
        # While another class moves, all leave 0 after one step.
        yield (note if at_zero.any() else defect)(
            "it has no gradient at exactly 0, where an output layer of zeros starts",
            f"{profile.name}: gradient 0 if all logits are 0, {near:.2g} of the largest at margin "
            "-0.001",
            "choose the slope at the kink (>= instead of >), or start from random weights",
        )


def _lenient(profile: Profile) -> Finding | None:
    """Whether only what is wrong by more than some margin is corrected."""
    dead = np.flatnonzero(WRONG & (profile.size == 0))
    moving = np.flatnonzero(WRONG & (profile.size > 1e-3))
    if not (dead.size > 1 and moving.size and moving[-1] < dead[0] and profile.at(-1e-3) == 0):
        return None
    most = -MARGINS[dead[0]]
    return defect(
        "its margin is on the wrong side: what is wrong, but not by much, gets no gradient",
        f"{profile.name}: gradient exactly 0 at margins {-most:g} to 0",
        "a hinge asks to be right by a margin: max(0, margin - z) of a positive's logit z",
    )


def _clipped(subject: Subject, profile: Profile) -> Finding | None:
    """A clip lets gradients be as large as ever, and then there are none."""
    size = profile.size
    strong = np.flatnonzero((MARGINS > -30.0) & (MARGINS <= -4.0) & (size > 0.25))
    gone = size[WRONG][0] <= 1e-3 * size[WRONG].max()
    if not (strong.size and gone):
        return None
    (first, last), (after, before) = (x[strong[0] - 1 : strong[0] + 1] for x in (MARGINS, size))
    if not abrupt(before, after, last - first):
        return None
    margins = np.linspace(last, first, 64)
    size = _profile(subject, profile.group, margins).size
    edge = margins[np.argmax(size <= 0.05 * size[0])]
    p = 1 / (1 + math.exp(-edge))
    evidence = (
        f"{profile.name}: at margin {last:g} the gradient is {before:.2g} of its largest, "
        f"from {first:g} on it is gone"
    )
    if not _is_epsilon(p):
        most = (profile.value[0] - profile.value[-1]) / profile.group.members.mean()
        return defect(
            "the loss is cut off from above, as by a minimum with a constant: beyond it a "
            "confidently wrong prediction gets no gradient, and never comes back",
            f"{evidence}; the loss of an element stops at {most:.3g}",
            "let it grow, and clip the gradient instead (optax.clip_by_global_norm)",
        )
    return defect(
        "probabilities are clipped: beyond the clip a confidently wrong prediction gets no "
        "gradient, and never comes back",
        f"{evidence}: a clip at about {p:.0e}",
        "compute from logits (log_sigmoid, log_softmax), which needs no clip",
    )


def _is_epsilon(p: float) -> bool:
    """Whether people clip probabilities at it: a power of ten, or what float32 makes of 1e-7."""
    digits = math.log10(p)
    return p < 2e-3 and (abs(digits - round(digits)) < 0.1 or 4e-8 < p < 2e-7)


def abrupt(before: float, after: float, distance: float) -> bool:
    """Whether a gradient ends at once; that of a probability falls by no more than e a step."""
    return after < 0.2 * math.exp(-distance) * before


def _flat(profile: Profile) -> Finding | None:
    """A gradient that has been cut off, and has not died away in the last digit of float32."""
    zero = np.flatnonzero(WRONG & (profile.size == 0))
    moving = np.flatnonzero(WRONG & (profile.size != 0))
    edge = moving[0] if moving.size else np.searchsorted(MARGINS, 0.0)
    if not (profile.at(-30.0) == 0 and profile.size[edge] > 1e-4):
        return None
    return defect(
        "it is flat for wrong predictions: a ramp, a minimum with a constant, a clip or a ReLU "
        "ends their gradient",
        f"{profile.name}: gradient exactly 0 at margins -30 to {MARGINS[zero[-1]]:.3g}",
        "an example that starts there is never corrected; take a loss that keeps its slope",
    )


def _focused(everyone: list[Profile]) -> Iterator[Finding]:
    """How much less a prediction on the right side weighs than one on the wrong side."""
    gammas, evidence = [], []
    for profile in everyone:
        right, left, middle = (profile.at(m) for m in (0.847, -0.847, 0.0))
        if not (left > 0 and right > 0) or middle > 0.25:
            continue
        # In (p / (1 - p)) of 0.3 / 0.7, of which a cross-entropy has the first power, focal more.
        gammas.append(math.log(right / left) / math.log(3 / 7) - 1.0)
        evidence.append(f"{profile.name}: {right / left:.2g} times")
    gamma = max(gammas, default=0.0)
    text = (
        "gradient at p = 0.7 for the right side, of that at 0.3: "
        + ", ".join(evidence[:2])
        + f" (cross-entropy 0.43, focal with gamma {gamma:.1f} as little)"
    )
    if gamma > 4.5:
        yield defect(
            "it loses interest as soon as a prediction is on the right side of 1/2: a "
            f"focusing exponent of about {gamma:.0f} leaves all in the middle",
            text,
            "lower gamma to 2 or less",
        )
    elif gamma > 2.5:
        yield note(
            f"it focuses strongly on wrong predictions, as a focal loss of gamma {gamma:.1f}",
            text,
            "probabilities stay closer to 1/2 than they should: tune the threshold",
        )


@functools.lru_cache(4)
def separable(subject: Subject) -> bool:
    """Whether the gradient of an element depends on that element and its label alone."""
    z = subject.form.predictions(1)
    kept = np.random.default_rng(8).random(subject.form.elements) < 0.5
    kept = kept.reshape(*kept.shape, *[1] * (z.ndim - kept.ndim))
    here, there = subject.measure(np.stack([z, np.where(kept, z, z[::-1] + 0.5)])).gradient * kept
    return bool(np.linalg.norm(here - there) < 1e-3 * np.linalg.norm(here))


@functools.lru_cache(4)
def offset_free(subject: Subject) -> bool:
    """Whether adding a constant to all logits changes nothing, as it does to no ranking."""
    z = subject.form.predictions(1)
    here, moved = subject.measure(np.stack([z, z + 1.0])).value
    return bool(abs(here - moved) <= 1e-4 * abs(here))
