"""Probes of pairs, embeddings, regression, and of a mean with its deviation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from diffmetrics.diagnose._forms import CLASSES
from diffmetrics.diagnose._report import Finding, note, ok
from diffmetrics.diagnose._subject import Subject

# --- pairs ----------------------------------------------------------------------------------------


def pairs(subject: Subject) -> list[Finding]:
    """Whether the same come together and others part, and where that pull ends."""
    form = subject.form
    a, b = form.predictions()
    ones, zeros = np.ones(form.examples, np.float32), np.zeros(form.examples, np.float32)
    near = a + 0.3 * b
    found: list[Finding] = []
    together, apart = (_pull(subject, a, other, y) for other, y in ((b, ones), (near, zeros)))
    if form.kind == "divergence":
        apart = 0.0
    if not np.isfinite(together + apart):
        return []  # `finite` tells
    if together < 0 or apart > 0:
        found.append(
            Finding(
                "direction",
                "it pulls the same apart" if together < 0 else "it pulls different ones together",
                f"pull of the same {together:.3g} (should be above 0), of different ones "
                f"{apart:.3g} (should be below 0)",
                "check whether the label means same or different, and whether the prediction is a "
                "distance or a similarity",
            )
        )
    else:
        found.append(ok("direction", "the same are pulled together, different ones apart"))
        if form.kind == "pair":
            found += _coupled(subject, a, near)
    found += _far(subject, ones)
    found += _below(subject, ones)
    if form.kind == "pair":
        gradient = subject.measure(np.stack([np.stack([a, a])]), zeros).gradient[0]
        if np.abs(gradient).max() < 1e-6 * max(1.0, abs(together)):
            found.append(
                note(
                    "flat",
                    "its hinge is flat where two different ones coincide: they never part",
                    "gradient 0 for different pairs with identical predictions",
                    "start from embeddings that differ; a distance without the square has a slope",
                )
            )
    return found


def _pull(subject: Subject, a: np.ndarray, b: np.ndarray, same: np.ndarray) -> float:
    """By how much the loss falls per step of b towards a."""
    gradient = subject.measure(np.stack([np.stack([a, b])]), same).gradient[0]
    return float(-(gradient[1] * (a - b)).sum() + (gradient[0] * (a - b)).sum())


def _coupled(subject: Subject, a: np.ndarray, near: np.ndarray) -> list[Finding]:
    """Whether the labels of the others turn the pull of a pair round."""
    lonely = np.zeros(subject.form.examples, np.float32)
    lonely[0] = 1.0
    pair = np.stack([a, near])
    gradient = subject.measure(np.stack([pair] * 2), np.stack([lonely, np.ones_like(lonely)]))[1]
    towards = (gradient[:, 0, 0] - gradient[:, 1, 0]) * (a[0] - near[0])
    alone, together = towards.sum(-1)
    if not alone < 0.5 * together:
        return []
    return [
        Finding(
            "direction",
            "the hinge is averaged over the batch before it meets the labels, so a pair of the "
            "same is pushed apart as well while others are different",
            f"one pair of the same among different ones is pulled by {alone:.3g}, among pairs of "
            f"the same by {together:.3g}",
            "multiply each pair's hinge by its own label, and take the mean last",
        )
    ]


FAR = np.array([1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 20.0, 25.0, 30.0, 40.0, 60.0, 80.0])


def _far(subject: Subject, same: np.ndarray) -> list[Finding]:
    """The gradient of a same pair whose predictions disagree more and more."""
    form = subject.form
    n, width = form.examples, form.shape[-1]
    first = np.eye(width)[np.arange(n) % width]
    pair = np.stack([first, np.roll(first, 1, -1)])
    value, gradient = subject.measure(FAR.reshape(-1, 1, 1, 1) * pair, same)
    size = np.abs(gradient[:, 1]).reshape(len(FAR), -1).max(1)
    if not np.isfinite(size).all() or size.max() == 0:
        return []
    gone = size < 1e-3 * size.max()
    if not gone[-1]:
        return [ok("alive", f"at logits 80 apart {size[-1] / size.max():.2g} of the largest pull")]
    start = FAR[np.argmax(gone)]
    evidence = (
        f"the same, but logits {start:g} apart: {size[np.argmax(gone)] / size.max():.1g} of the "
        f"largest gradient, value {value[-1]:.4g} of at most {value.max():.4g}"
    )
    last = int(np.flatnonzero(size > 0.25 * size.max()).max())
    strong = FAR[last]
    # A gradient of a probability falls with its logarithm, a clipped one at once.
    abrupt = size[last + 1] < 0.2 * math.exp(strong - FAR[last + 1]) * size[last]
    if strong >= 8 and abrupt:
        return [
            Finding(
                "alive",
                "probabilities are clipped: two that should be the same but disagree for sure get "
                "no gradient, and never meet",
                evidence + f"; a clip between {math.exp(-start):.0e} and {math.exp(-strong):.0e}",
                "compute from logits: diffmetrics.kl_divergence, symmetric_kl_divergence",
            )
        ]
    return [
        note(
            "alive",
            "it saturates: two that should be the same but disagree for sure hardly move",
            evidence,
            "as Jensen-Shannon does; a symmetric KL keeps its slope",
        )
    ]


def _below(subject: Subject, same: np.ndarray) -> list[Finding]:
    """Whether identical ones are the minimum, and whether both sides are treated alike."""
    form = subject.form
    many = np.stack([form.predictions(i) for i in range(24)])
    identical = np.stack([many[:, 0], many[:, 0]], 1)
    best = subject.measure(identical, same).value
    value = subject.measure(many, same).value
    turned = subject.measure(many[:, ::-1], same).value
    found: list[Finding] = []
    scale = np.abs(value).max()
    one = np.repeat(many[:, :, :1], form.examples, 2)
    single = subject.measure(one, same).value
    lowest = min(np.nanmin(value), np.nanmin(single))
    if lowest < best.min() - 1e-5 * scale:
        found.append(
            Finding(
                "minimum",
                "it falls below the loss of identical ones"
                + (
                    ": what it compares are no distributions (they do not sum to 1), so its "
                    "logarithms are no divergence"
                    if form.kind == "divergence"
                    else ", of pairs that are the same"
                ),
                f"{lowest:.4g} for different predictions, {best.min():.4g} for identical ones",
                "take a softmax first, or diffmetrics.kl_divergence of logits"
                if form.kind == "divergence"
                else "check whether the label means same or different",
            )
        )
    else:
        found.append(ok("minimum", f"identical {best.min():.3g}, others {value.min():.3g} or more"))
    off = np.abs(turned - value).max() / max(scale, 1e-30)
    if off > 1e-2:
        found.append(
            note(
                "symmetric",
                "it is asymmetric: whoever is second is pulled otherwise than whoever is first",
                f"exchanging the two changes the loss by up to {off:.0%}",
                "if both move, take symmetric_kl_divergence; if one is the teacher, all is well",
            )
        )
    else:
        found.append(ok("symmetric", "exchanging the two changes nothing"))
    return found


def embeddings(subject: Subject) -> list[Finding]:
    """Whether the same come together, and right clusters cost less than wrong ones."""
    form, ids = subject.form, subject.form.targets()
    z = form.predictions()
    gradient = subject.measure(z[None], 0 * ids).gradient[0]
    pull = -float((gradient * (z.mean(0) - z)).sum())
    corners = 6.0 * np.eye(form.shape[1])[:CLASSES]
    noise = 0.01 * form.predictions(1)
    wrong = (ids + np.arange(len(ids)) // CLASSES) % CLASSES
    right, mixed = subject.measure(
        np.stack([corners[ids] + noise, corners[wrong] + noise]), ids
    ).value
    evidence = f"right clusters {right:.3g}, wrong ones {mixed:.3g}; pull of the same {pull:.3g}"
    if not np.isfinite(right + mixed + pull):
        return []  # `finite` tells
    if not (right < mixed and pull >= -1e-3 * np.abs(gradient).sum() - 1e-6):
        return [
            Finding(
                "direction",
                "it does not bring the same together",
                evidence,
                "check whether the label means same or different",
            )
        ]
    return [ok("direction", evidence)]


def triplets(subject: Subject) -> list[Finding]:
    """Whether positives are pulled to the anchor and negatives away."""
    a, p, n = subject.form.predictions()
    gradient = subject.measure(np.stack([np.stack([a, p, n])])).gradient[0]
    pull, push = -(gradient[1] * (a - p)).sum(), -(gradient[2] * (n - a)).sum()
    evidence = f"pull of the positive {pull:.3g}, push of the negative {push:.3g}"
    if not np.isfinite(pull + push):
        return []  # `finite` tells
    if not (pull > 0 and push > 0):
        return [
            Finding(
                "direction",
                "it does not pull the positive and push the negative",
                evidence,
                "check the order of the arguments: anchors, positives, negatives",
            )
        ]
    return [ok("direction", evidence)]


# --- regression -----------------------------------------------------------------------------------


def residuals(subject: Subject) -> list[Finding]:
    """Whether the target is the minimum, and whether large and small errors move."""
    y = subject.form.targets()
    size = np.array([-100.0, -10.0, -1.0, -0.1, -0.01, 0.0, 0.01, 0.1, 1.0, 10.0, 100.0])
    value, gradient = subject.measure(y + size.reshape(-1, 1), y)
    slope = gradient.sum(1)
    found: list[Finding] = []
    if np.nanargmin(value) != 5:
        found.append(
            Finding(
                "minimum",
                "its minimum is not at the target",
                f"least at an error of {size[np.nanargmin(value)]:g}",
                "an asymmetric loss (pinball) is meant so; else check signs",
                "note",
            )
        )
    else:
        found.append(ok("minimum", f"at the target, {value[5]:.3g}"))
    wrong = (np.sign(slope) == -np.sign(size)) & (slope != 0) & (size != 0)
    dead = (slope == 0) & (size != 0)
    if wrong.any():
        found.append(
            Finding(
                "direction",
                "it pushes predictions away from the target",
                f"at errors {', '.join(f'{s:g}' for s in size[wrong])}",
                "check the sign",
            )
        )
    if dead.any():
        found.append(
            Finding(
                "alive",
                "it is flat for some errors: a ReLU, a clip or a dead zone",
                f"gradient 0 at errors {', '.join(f'{s:g}' for s in size[dead])}",
                "let the last layer be linear, and clip gradients instead of errors",
                "defect" if np.abs(size[dead]).max() >= 1 else "note",
            )
        )
    return found or [ok("alive", "every error has a gradient")]


# --- mean and scale -------------------------------------------------------------------------------

RAW = np.array([-100.0, -80.0, -60.0, -40.0, -20.0, -12.0, -8.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0,
                -0.5, -0.1, 0.1, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0])  # fmt: skip
SIGMAS = np.array([10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-8, 1e-12, 1e-20, 1e-30, 0.0])


def scale(subject: Subject) -> list[Finding]:
    """The smallest deviation that the loss can express, and what it does there."""
    form = subject.form
    n = form.examples
    mean = np.full(n, 3.0)
    found: list[Finding] = []
    if form.raw_scale:
        found += _floor(subject, mean)
    else:
        z = np.stack([np.stack([mean, np.full(n, s)]) for s in SIGMAS])
        for error in (0.0, 1.0):
            value, gradient = subject.measure(z, (mean + error).astype(np.float32))
            bad = ~(np.isfinite(value) & np.isfinite(gradient).reshape(len(z), -1).all(1))
            if bad.any():
                largest = SIGMAS[bad].max()
                found.append(
                    Finding(
                        "scale",
                        "a vanishing scale ends in NaN or infinity",
                        f"not finite from scale {largest:g} down, at an error of {error:g}",
                        "keep a floor under the scale: softplus(raw) + 1e-3",
                        "defect" if largest > 1e-12 else "note",
                    )
                )
                break
    found += _calibrated(subject)
    return found


def _floor(subject: Subject, mean: np.ndarray) -> list[Finding]:
    """The deviation that a raw output means, read off how fast the loss grows with the error."""
    raw = np.stack([np.stack([mean, np.full_like(mean, r)]) for r in RAW])
    # A small error, of which the loss grows as a square, and it shall not be lost in float32.
    at = [subject.measure(raw, (mean + e).astype(np.float32)) for e in (0.0, 0.1)]
    value, gradient = at[1]
    finite = np.isfinite(value) & np.isfinite(gradient).reshape(len(raw), -1).all(1)
    found: list[Finding] = []
    if not finite.all():
        worst = RAW[~finite]
        found.append(
            Finding(
                "scale",
                "a vanishing scale ends in NaN or infinity",
                f"not finite at raw outputs from {worst.min():g} to {worst.max():g}",
                "keep a floor under the scale: softplus(raw) + 1e-3",
            )
        )
    slope = gradient[:, 1].sum(1)
    low = finite & (RAW < 0)
    growth = at[1].value - at[0].value
    with np.errstate(divide="ignore", invalid="ignore"):
        sigma = 0.1 / np.sqrt(2 * growth)
    dead = low & (slope == 0)
    if dead.any() and dead[RAW == -1.0].any():
        floor = float(np.median(sigma[dead]))
        cause = f"the deviation cannot fall below {floor:.3f}, and its gradient is 0 there"
        advice = "let the layer in front be linear"
        if abs(floor - math.log(2)) < 0.02:
            cause = (
                "a ReLU stands in front of the softplus: the deviation cannot fall below "
                f"{floor:.3f} = softplus(0) = ln 2, and has no gradient there"
            )
            advice = "let the last layer be linear: softplus is what makes it positive"
        found.append(
            Finding(
                "scale",
                cause,
                f"raw outputs {RAW[dead].min():g} to {RAW[dead].max():g}: deviation {floor:.4f}, "
                "gradient exactly 0",
                advice,
            )
        )
    elif finite.all():
        least = np.nanmin(sigma[np.isfinite(sigma) & (sigma > 0)])
        found.append(ok("scale", f"deviations down to {least:.2g} can be reached"))
    return found


def _calibrated(subject: Subject) -> list[Finding]:
    """At which deviation its gradient is balanced, for normal errors of deviation 1."""
    form = subject.form
    n = form.examples
    # Quantiles of a normal distribution, by inverting erf on a grid.
    grid = np.linspace(-4, 4, 4001)
    cdf = np.array([0.5 * (1 + math.erf(g / math.sqrt(2))) for g in grid])
    errors = np.interp((np.arange(n) + 0.5) / n, cdf, grid)
    errors /= errors.std()
    rows = np.linspace(-2.0, 3.0, 41) if form.raw_scale else np.exp(np.linspace(-1.5, 1.5, 41))
    z = np.stack([np.stack([np.zeros(n), np.full(n, r)]) for r in rows])
    balance = subject.measure(z, errors.astype(np.float32)).gradient[:, 1].sum(1)
    crossing = np.flatnonzero((balance[:-1] < 0) & (balance[1:] >= 0))
    if not np.isfinite(balance).all():
        return []
    if not crossing.size:
        tendency = "shrinks" if balance.mean() > 0 else "grows"
        if not np.abs(balance).max() > 0:
            return [
                Finding(
                    "proper",
                    "the deviation has no gradient",
                    "gradient 0 at every deviation from 0.2 to 4",
                    "let it enter the loss",
                )
            ]
        if form.raw_scale:
            return []
        return [
            Finding(
                "proper",
                f"the deviation only {tendency}: nothing balances it",
                f"errors of deviation 1, deviations 0.2 to 4: gradient {balance[0]:.3g} to "
                f"{balance[-1]:.3g}",
                "a likelihood has a log(scale) and a squared error over the squared scale",
            )
        ]
    i = crossing[0]
    where = rows[i] + (rows[i + 1] - rows[i]) * -balance[i] / (balance[i + 1] - balance[i])
    if form.raw_scale:
        return []
    if abs(where - 1) < 0.06:
        return [ok("proper", f"errors of deviation 1 are best told by {where:.2f}")]
    return [
        note(
            "proper",
            f"it is content with a deviation of {where:.2f} where the errors' is 1",
            "zero of the gradient in the deviation, for normal errors",
            "another distribution's scale, a variance in place of a deviation, or a missing 1/2?",
        )
    ]


# --- parts ----------------------------------------------------------------------------------------


def parts(subject: Subject, others: dict[str, Subject]) -> list[Finding]:
    """By which weight each of several losses enters the gradient of their total."""
    form = subject.form
    z = np.stack([2.0 * form.predictions(i) for i in range(8)])
    y = form.targets()
    goal = subject.measure(z, y).gradient.ravel()
    columns = np.stack([s.measure(z, y).gradient.ravel() for s in others.values()], 1)
    fit: Any = np.linalg.lstsq(columns, goal, rcond=None)[0]
    rest = np.linalg.norm(columns @ fit - goal) / max(np.linalg.norm(goal), 1e-30)
    evidence = (
        "total gradient = "
        + " + ".join(f"{w:.3g} {name}" for name, w in zip(others, fit, strict=True))
        + f", {rest:.1%} unexplained"
    )
    silent = [name for name, w in zip(others, fit, strict=True) if abs(w) < 1e-3]
    if silent:
        return [
            Finding(
                "parts",
                f"{', '.join(silent)} does not train: of several losses of one output only the "
                "first counts"
                if next(iter(others)) not in silent
                else f"{', '.join(silent)} does not train",
                evidence,
                "write their sum as one function, and log its parts",
            )
        ]
    return [ok("parts", evidence)]
