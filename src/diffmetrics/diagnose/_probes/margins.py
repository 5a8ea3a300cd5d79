"""Probes of the gradient as a prediction moves from confidently wrong to confidently right.

The margin of an example is how far its logit is on the right side: the logit of a positive, minus
the logit of a negative, or the true class's logit less its rival's.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from diffmetrics.diagnose._forms import CLASSES
from diffmetrics.diagnose._report import Finding, note, ok
from diffmetrics.diagnose._subject import Subject

MARGINS = np.array(
    [-100.0, -88.0, -60.0, -40.0, -30.0, -25.0, *range(-20, -2), -2.5, -2.0, -1.5, -1.0, -0.847,
     -0.5, -0.25, -0.1, -1e-3, 0.0, 1e-3, 0.1, 0.25, 0.5, 0.847, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0]
)  # fmt: skip
WRONG = (MARGINS < 0) & (MARGINS >= -30.0)


class Profile(NamedTuple):
    """What happens as all examples of one class have the same margin, and all others margin 1.

    `slope` is that of the loss in the margin: negative where the loss pulls to the right side.
    """

    name: str
    value: np.ndarray
    slope: np.ndarray


@functools.lru_cache(4)
def profiles(subject: Subject) -> tuple[Profile, ...]:
    """A profile of each class."""
    form, y = subject.form, subject.form.targets()
    if form.kind != "multiclass":
        found = []
        for name, group in (("positive", y == 1), ("negative", y == 0)):
            side = np.where(y == 1, 1.0, -1.0)
            z = np.where(group, MARGINS.reshape(-1, *[1] * y.ndim), 1.0) * side
            value, gradient = subject.measure(z, y)
            slope = (gradient * side * group).reshape(len(z), -1).sum(1)
            found.append(Profile(name, value, slope))
        return tuple(found)
    true = np.arange(form.examples) % CLASSES
    found = []
    for c in range(CLASSES):
        z = np.stack([class_logits(true, np.where(true == c, m, 1.0)) for m in MARGINS])
        value, gradient = subject.measure(z, y)
        pull = np.take_along_axis(
            gradient, np.broadcast_to(true[:, None], (len(z), len(true), 1)), 2
        )
        found.append(Profile(f"class {c}", value, (pull[..., 0] * (true == c)).sum(1)))
    return tuple(found)


def class_logits(true: np.ndarray, margin: np.ndarray) -> np.ndarray:
    """Logits in which the true class leads its rival, the next one, by `margin`."""
    z = np.full((len(true), CLASSES), -8.0)
    rows = np.arange(len(true))
    z[rows, (true + 1) % CLASSES] = -margin / 2
    z[rows, true] = margin / 2
    return z


def alive(subject: Subject) -> list[Finding]:
    """Where a wrong prediction gets no gradient, and why."""
    found: list[Finding] = []
    everyone = profiles(subject)
    silent = [p for p in everyone if not np.nanmax(np.abs(p.slope)) > 0]
    if silent:
        found.append(_silent(subject, silent))
    rectified = not silent and _rectified(everyone)
    if rectified:
        found.append(
            Finding(
                "alive",
                "a ReLU stands in front of the loss: below logit 0 nothing has a gradient",
                "gradient is exactly 0 for every positive and every negative with a logit below 0",
                "let the last layer be linear: logits have a sign",
            )
        )
    moving = [p for p in everyone if not rectified and not any(p is s for s in silent)]
    found += _focused(moving)
    for profile in moving:
        found += _dead(subject, profile)
    merged = _merged(found)
    if all(f.status == "note" for f in merged):
        least = min(_ratio(p, -10.0) for p in everyone)
        merged.append(ok("alive", f"at margin -10 {least:.2g} of the largest gradient or more"))
    return merged


def _silent(subject: Subject, silent: list[Profile]) -> Finding:
    names = " and ".join(p.name for p in silent)
    value = silent[0].value
    evidence = f"{names}: gradient exactly 0 at every margin from -100 to 8"
    constant = np.ptp(value) <= 1e-6 * (1 + abs(value[0]))
    if constant:
        evidence += f", loss constant {value[0]:.3g}"
    if len(silent) == len(profiles(subject)):
        return Finding(
            "alive",
            "it has no gradient at all: a comparison, argmax, rounding or stop_gradient ends it",
            evidence,
            "replace the step by a sigmoid or softmax: diffmetrics.score_loss does so for any",
        )
    if subject.form.kind == "multiclass":
        return Finding(
            "alive",
            f"{names} never moves: the loss leaves it out",
            evidence,
            "check include_background, ignored ids and zero class weights",
        )
    if _signed(subject):
        return Finding(
            "alive",
            "it expects labels -1 and +1: with 0 and 1 the hinge of a negative is flat",
            evidence + "; with labels -1 and +1 both classes learn",
            "pass 2 * labels - 1, or use diffmetrics.hinge_loss, which takes 0 and 1",
        )
    if separable(subject) and _is_own_ratio(subject):
        return Finding(
            "alive",
            "every element is a ratio of its own, as if summed over an axis of size one: the "
            "intersection of a negative is 0 whatever is predicted, so nothing opposes a false "
            "alarm and all becomes positive",
            evidence + "; a positive costs what it costs alone, 1 - p at every p",
            "sum over the pixels (all axes but the batch, or all) before dividing: "
            "diffmetrics.jaccard_loss(logits, labels)",
        )
    return Finding(
        "alive",
        f"no {names} matters to it, as in a bare recall or precision of one side",
        evidence,
        "add the other kind of error: F-beta, Dice, or a cross-entropy",
        "defect" if separable(subject) else "note",
    )


def _signed(subject: Subject) -> bool:
    y = subject.form.targets()
    side = 2.0 * y - 1.0
    value, gradient = subject.measure(np.stack([-0.5 * side]), side)
    return bool(np.isfinite(value[0]) and (gradient[0] * side < 0).all())


def _is_own_ratio(subject: Subject) -> bool:
    """Whether a positive's loss falls from its largest to 0 as 1 - p or 1 - 2p / (1 + p) do."""
    form, y = subject.form, subject.form.targets()
    p = np.array([0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
    z = np.where(y == 1, np.log(p / (1 - p)).reshape(-1, *[1] * y.ndim), -3.0)
    value = subject.measure(z, y).value
    share = (value - value[-1]) / (y == 1).mean()
    return any(
        np.allclose(share, expected, atol=0.03)
        for expected in (1 - p, 1 - 2 * p / (1 + p), 1 - (2 * p + 1) / (p + 2))
    ) and form.kind in ("binary", "multilabel")


def _rectified(everyone: tuple[Profile, ...]) -> bool:
    """No gradient wherever the logit is negative, for the wrong and the right class alike."""
    if {p.name for p in everyone} != {"positive", "negative"}:
        return False
    positive, negative = everyone
    below, above = MARGINS < 0, MARGINS > 0
    return bool(
        (positive.slope[below] == 0).all()
        and (negative.slope[above] == 0).all()
        and (negative.slope[WRONG] != 0).any()
        and (positive.slope[(MARGINS > 0) & (MARGINS < 1)] != 0).any()
    )


def _ratio(profile: Profile, margin: float) -> float:
    size = np.abs(profile.slope)
    return float(size[np.searchsorted(MARGINS, margin)] / max(np.nanmax(size), 1e-300))


def _dead(subject: Subject, profile: Profile) -> list[Finding]:
    size = np.abs(profile.slope) / np.nanmax(np.abs(profile.slope))
    wrong = np.flatnonzero(WRONG)[::-1]  # from 0 outwards
    zero = size[wrong] <= 1e-3 * size[wrong].max()
    exactly = size[wrong] == 0
    # A clip lets gradients be as large as ever, and then there are none.
    strong = [i for i in wrong if -30.0 < MARGINS[i] <= -4.0 and size[i] > 0.25]
    last, first = (MARGINS[min(strong) - i] if strong else 0.0 for i in (0, 1))
    # A gradient of a probability falls with its logarithm, a clipped one at once.
    abrupt = strong and size[min(strong) - 1] < 0.2 * math.exp(first - last) * size[min(strong)]
    if abrupt and zero[-1]:
        epsilon = _clip(subject, profile, float(first), float(last))
        return [
            Finding(
                "alive",
                "probabilities are clipped: beyond the clip a confidently wrong prediction gets no "
                "gradient, and never comes back",
                f"{profile.name}: at margin {last:g} the gradient is {size[min(strong)]:.2g} of "
                f"its largest, from {first:g} on it is gone: a clip at about {epsilon:.0e}",
                "compute from logits (log_sigmoid, log_softmax), which needs no clip",
            )
        ]
    beyond = wrong[exactly]
    edge = wrong[~exactly].min() if not exactly.all() else np.searchsorted(MARGINS, 0.0)
    # A slope that dies away in the last digit of float32 has not been cut off.
    if exactly[-1] and size[edge] > 1e-4:
        return [
            Finding(
                "alive",
                "it is flat for wrong predictions: a ramp, a clip or a ReLU ends their gradient",
                f"{profile.name}: gradient exactly 0 at margins -30 to {MARGINS[max(beyond)]:.3g}",
                "an example that starts there is never corrected; take a loss that keeps its slope",
            )
        ]
    found: list[Finding] = []
    at = {m: size[np.searchsorted(MARGINS, m)] for m in (-1e-3, 0.0)}
    if at[0.0] == 0 and at[-1e-3] > 0.01:
        found.append(
            Finding(
                "alive",
                "it has no gradient at exactly 0, where an output layer of zeros starts",
                f"{profile.name}: gradient 0 at margin 0, {at[-1e-3]:.2g} of the largest at -0.001",
                "choose the slope at the kink (>= instead of >), or start from random weights",
            )
        )
    ten = _ratio(profile, -10.0)
    if ten < 0.01:
        found.append(
            note(
                "alive",
                "it saturates: what is confidently wrong hardly moves",
                f"{profile.name}: at margin -10 {ten:.1g} of the largest gradient",
                "start from a cautious model, or add a cross-entropy, whose gradient stays",
            )
        )
    right = (MARGINS > 0) & (MARGINS <= 0.25)
    if (size[right] == 0).all() and not offset_free(subject):
        found.append(
            note(
                "alive",
                "it stops at the boundary: right by a hair is good enough",
                f"{profile.name}: gradient exactly 0 from margin 0.001 on",
                "ask for a margin",
            )
        )
    return found


def _clip(subject: Subject, profile: Profile, first: float, last: float) -> float:
    """The probability at which the gradient ends, somewhere between two margins."""
    form, y = subject.form, subject.form.targets()
    margins = np.linspace(last, first, 64)
    if form.kind == "multiclass":
        true = np.arange(form.examples) % CLASSES
        own = true == int(profile.name[-1])
        z = np.stack([class_logits(true, np.where(own, m, 1.0)) for m in margins])
        size = np.abs(subject.measure(z, y).gradient * own[:, None]).reshape(64, -1).max(1)
    else:
        group, side = y == (profile.name == "positive"), np.where(y == 1, 1.0, -1.0)
        z = np.where(group, margins.reshape(-1, *[1] * y.ndim), 1.0) * side
        size = np.abs(subject.measure(z, y).gradient * group).reshape(64, -1).max(1)
    ends = int(np.argmax(size <= 0.05 * size[0]))
    return 1.0 / (1.0 + math.exp(-margins[ends]))


def _focused(everyone: list[Profile]) -> list[Finding]:
    """How much less a prediction on the right side weighs than one on the wrong side."""
    gammas, evidence = [], []
    for profile in everyone:
        size = np.abs(profile.slope)
        right, left, middle = (size[np.searchsorted(MARGINS, m)] for m in (0.847, -0.847, 0.0))
        if not (left > 0 and right > 0) or middle > 0.25 * size.max():
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
        return [
            Finding(
                "alive",
                "it loses interest as soon as a prediction is on the right side of 1/2: a "
                f"focusing exponent of about {gamma:.0f} leaves all in the middle",
                text,
                "lower gamma to 2 or less",
            )
        ]
    if gamma > 2.5:
        return [
            note(
                "alive",
                f"it focuses strongly on wrong predictions, as gamma {gamma:.1f} does",
                text,
                "probabilities stay closer to 1/2 than they should: tune the threshold",
            )
        ]
    return []


def _merged(findings: list[Finding]) -> list[Finding]:
    """Findings of one cause as one, with the evidence of all."""
    by_cause: dict[str, Finding] = {}
    for f in findings:
        before = by_cause.get(f.cause)
        if before is None:
            by_cause[f.cause] = f
        elif before.evidence.count(";") < 3:
            more = f"{before.evidence}; {f.evidence}"
            by_cause[f.cause] = Finding(f.probe, f.cause, more, f.advice, f.status)
    return list(by_cause.values())


def direction(subject: Subject) -> list[Finding]:
    """Whether every prediction is pulled to its own side."""
    wrong, back = [], []
    for profile in profiles(subject):
        top = np.nanmax(np.abs(profile.slope))
        up = MARGINS[profile.slope > 1e-4 * top] if top > 0 else MARGINS[:0]
        near = up[(up >= -30.0) & (up < 0.0)]
        if near.size:
            wrong.append(f"{profile.name}: at margins {_span(near)}")
        elif up.size:
            back.append(f"{profile.name}: at margins {_span(up)}")
    if wrong:
        both = len(wrong) == len(profiles(subject))
        return [
            Finding(
                "direction",
                "it pulls predictions to the wrong side"
                + (": the sign of the loss, or of the labels, is turned round" if both else ""),
                "the loss rises as the margin rises, for " + "; ".join(wrong),
                "minimise 1 - score, not the score; and check which class is called 1",
            )
        ]
    if back:
        return [
            note(
                "direction",
                "it pulls back predictions that are more right than it asks for",
                "the loss rises with the margin, for " + "; ".join(back),
                "fine for a margin that is meant; a squared error of logits wants a sigmoid first",
            )
        ]
    return [ok("direction", "raising the right side's logit lowers the loss, for every class")]


def _span(margins: np.ndarray) -> str:
    return (
        f"{margins.min():.3g} to {margins.max():.3g}" if margins.size > 1 else f"{margins[0]:.3g}"
    )


@functools.lru_cache(4)
def jumps(subject: Subject) -> tuple[str, ...]:
    """Where the loss jumps as the decision changes, between any two classes."""
    form, y = subject.form, subject.form.targets()
    near = np.array([-0.1, -1e-3, 0.0, 1e-3, 0.1])
    rows, names = [], []
    if form.kind == "multiclass":
        true = np.arange(form.examples) % CLASSES
        for one in range(CLASSES):
            for rival in (c for c in range(CLASSES) if c != one):
                names.append(f"class {one} against {rival}")
                z = class_logits(true, np.ones(len(true)))
                z = np.where((true == one)[:, None], -8.0, z)
                z = np.repeat(z[None], len(near), 0)
                z[:, true == one, one] = near[:, None] / 2
                z[:, true == one, rival] = -near[:, None] / 2
                rows.append(z)
    else:
        side = np.where(y == 1, 1.0, -1.0)
        for name, group in (("positive", y == 1), ("negative", y == 0)):
            names.append(name)
            rows.append(np.where(group, near.reshape(-1, *[1] * y.ndim), 1.0) * side)
    value, gradient = subject.measure(np.concatenate(rows), y)
    found = []
    steep = np.abs(gradient).reshape(len(value), -1).sum(1)
    for name, v, g in zip(names, value.reshape(-1, 5), steep.reshape(-1, 5), strict=True):
        expected = 2e-3 * max(g.max(), np.abs(v[0] - v[1]) / 0.099, np.abs(v[4] - v[3]) / 0.099)
        if g.max() > 0 and abs(v[1] - v[3]) > 10 * expected + 1e-6:
            tie = f", {v[2]:.4g} at a tie" if v[2] > max(v[1], v[3]) * 1.0001 else ""
            found.append(f"{name}: {v[1]:.4g} just before, {v[3]:.4g} just after{tie}")
    return tuple(found)


def continuity(subject: Subject) -> list[Finding]:
    """Whether the loss jumps where the decision changes."""
    found = jumps(subject)
    if not found:
        return [ok("continuity", "no jump where the decision changes")]
    return [
        Finding(
            "continuity",
            "the loss jumps where the decision changes: an argmax or comparison inside it switches "
            "a weight, which has no gradient of its own and is off once the decision is right",
            "; ".join(found[:2]),
            "weight by the probabilities instead: expected_cost_loss, cost_sensitive_cross_entropy",
        )
    ]


@functools.lru_cache(4)
def mixing(subject: Subject) -> tuple[float, float, float, float]:
    """How far the loss of a batch is from the mean over its halves, in value and gradient.

    Of the batch (a, b) with halves as batches (a, a) and (b, b), of one shape for one compilation.
    Returns whole, mean of halves, error of the gradient, and its cosine.
    """
    form = subject.form
    z, y = form.predictions(1), form.targets()
    half = form.examples // 2
    first, second = np.arange(half), np.arange(half, 2 * half)
    if form.labels in ("binary",) and form.kind in ("binary", "multilabel"):
        y = np.where(_block(form, half), form.positives(1), form.positives(2))
    zs, ys = [], []
    for order in (np.r_[first, second], np.r_[first, first], np.r_[second, second]):
        zs.append(np.take(z, order, form.axis))
        ys.append(np.take(y, order, 0))
    value, gradient = subject.measure(np.stack(zs), np.stack(ys))
    parts = []
    for g in gradient[1:]:
        a, b = np.split(g, 2, form.axis)
        parts.append((a + b) / 2)
    mean = np.concatenate(parts, form.axis)
    norms = np.linalg.norm(gradient[0]), np.linalg.norm(mean)
    error = float(np.linalg.norm(gradient[0] - mean) / max(norms[0], 1e-30))
    cosine = float((gradient[0] * mean).sum() / max(norms[0] * norms[1], 1e-30))
    return float(value[0]), float(value[1:].mean()), error, cosine


def _block(form: Any, half: int) -> np.ndarray:
    return (np.arange(form.examples) < half).reshape(-1, *[1] * (len(form.shape) - 1))


def additive(subject: Subject) -> bool:
    """Whether the loss of a batch is a mean (or sum) over its examples."""
    whole, halves, error, _ = mixing(subject)
    return abs(whole - halves) <= 1e-4 * (abs(whole) + 1e-3) and error < 1e-3


def decomposable(subject: Subject) -> list[Finding]:
    """Whether gradient accumulation and means over devices are exact."""
    whole, halves, error, cosine = mixing(subject)
    if additive(subject):
        return [ok("decomposable", "the loss of a batch is the mean over its halves")]
    return [
        note(
            "decomposable",
            "it is a loss of the whole batch: a mean over microbatches or devices is another loss",
            f"whole {whole:.4g}, mean over halves {halves:.4g}; the gradient is off by "
            f"{error:.0%}, cosine {cosine:.3f}",
            "sum its counts first and divide once, see docs/microbatches.md",
        )
    ]


@functools.lru_cache(4)
def separable(subject: Subject) -> bool:
    """Whether the gradient of an element depends on that element and its label alone."""
    form, y = subject.form, subject.form.targets()
    z = form.predictions(1)
    mask = np.random.default_rng(8).random(form.examples if form.kind == "multiclass" else z.shape)
    kept = (mask < 0.5)[:, None] if form.kind == "multiclass" else mask < 0.5
    here, there = (
        subject.measure(np.stack([z, np.where(kept, z, z[::-1] + 0.5)]), y).gradient * kept
    )
    return bool(np.linalg.norm(here - there) < 1e-3 * np.linalg.norm(here))


@functools.lru_cache(4)
def offset_free(subject: Subject) -> bool:
    """Whether adding a constant to all logits changes nothing, as it does to no ranking."""
    z = subject.form.predictions(1)
    here, moved = subject.measure(np.stack([z, z + 1.0])).value
    return bool(abs(here - moved) <= 1e-4 * abs(here))
