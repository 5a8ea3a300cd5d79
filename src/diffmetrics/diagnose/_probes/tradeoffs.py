"""Probes of what a loss trades for what: errors of one class for those of another, and how rare."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffmetrics.diagnose import _forms
from diffmetrics.diagnose._forms import CLASSES
from diffmetrics.diagnose._probes.margins import class_logits, offset_free, separable
from diffmetrics.diagnose._report import Finding, note, ok
from diffmetrics.diagnose._subject import Subject

SURE = 20.0  # a logit of which the sigmoid is 0 or 1, and its exponential is no extreme


# --- weights --------------------------------------------------------------------------------------


def weights(subject: Subject) -> list[Finding]:
    """By which factor a positive weighs more than a negative, or one class than another."""
    if subject.form.kind == "multiclass":
        return _class_weights(subject)
    claims = subject.claims
    if not separable(subject):
        return _error_weights(subject, claims)
    y = subject.form.targets()
    gradient = np.abs(subject.measure(np.zeros((1, *subject.form.shape)), y).gradient[0])
    positive, negative = gradient[y == 1].mean(), gradient[y == 0].mean()
    if not (positive > 0 and negative > 0):
        return []  # `alive` tells of a class without a gradient
    factor = positive / negative
    evidence = (
        f"gradient at p = 1/2: {positive:.3g} of a positive, {negative:.3g} of a negative, "
        f"ratio {factor:.3g}"
    )
    alpha = claims.get("alpha")
    if alpha and 0 < alpha < 1 and alpha != 0.5:
        odds = alpha / (1 - alpha)
        if math.isclose(factor, 1 / odds, rel_tol=0.05):
            return [
                Finding(
                    "weights",
                    f"alpha = {alpha:g} weighs the negatives: it sits on the wrong class",
                    f"{evidence}; alpha on the positives would give {odds:.3g}",
                    "alpha belongs to label 1, 1 - alpha to label 0 (Lin et al., 2017)",
                )
            ]
    if factor < 0.1:
        return [
            Finding(
                "weights",
                f"the class weight is inverted: a negative weighs {_round(1 / factor)} times as "
                "much as a positive, and if positives are rare nothing is ever predicted",
                evidence,
                "put the weight on label 1: weighted_sigmoid_cross_entropy(positive_weight=...)",
            )
        ]
    if 0.8 < factor < 1.25:
        return [ok("weights", evidence)]
    heavier, times = ("positive", factor) if factor > 1 else ("negative", 1 / factor)
    return [
        note(
            "weights",
            f"a {heavier} weighs {_round(times)} times as much as the other class",
            evidence,
            "probabilities are shifted by it: correct_prior, or a tuned threshold",
        )
    ]


def _round(x: float) -> str:
    """Two digits, without an exponent."""
    return f"{float(f'{x:.2g}'):.0f}" if x >= 10 else f"{x:.2g}"


def _class_weights(subject: Subject) -> list[Finding]:
    form = subject.form
    true = np.arange(form.examples) % CLASSES
    y = form.targets()
    gradient = subject.measure(np.zeros((1, *form.shape)), y).gradient[0]
    size = np.array([np.abs(gradient[true == c, c]).mean() for c in range(CLASSES)])
    if not size.min() > 0:
        return []
    evidence = "gradient of the true class at equal logits: " + ", ".join(f"{s:.3g}" for s in size)
    if size.max() / size.min() < 1.25:
        return [ok("weights", evidence)]
    return [
        note(
            "weights",
            f"class {size.argmax()} weighs {_round(size.max() / size.min())} times as much as "
            f"class {size.argmin()}",
            evidence,
            "if the heavy class is not the rare one, the weights are the wrong way round",
        )
    ]


def _error_weights(subject: Subject, claims: dict[str, float]) -> list[Finding]:
    """What a false alarm and a miss cost a score, if it is tp / (tp + a fp + b fn)."""
    form = subject.form
    one, two = form.positives(1), form.positives(2)
    ahead = form.positives(3) - two  # a negative beside every two positives
    rest = 1 - form.positives(3)
    sharp = SURE * (2 * np.stack([two, two + ahead, two + ahead + rest, one]) - 1)
    perfect, alarm, alarms, miss = 1.0 - subject.measure(sharp, two).value
    scores = (perfect, alarm, alarms, miss)
    if not (abs(perfect - 1) < 0.02 and all(0.01 < s < 1.0 for s in scores[1:])):
        return [_at_half(subject)]
    a, b = 2 * (1 / alarm - 1), 1 / miss - 1
    if not math.isclose(a, 1 / alarms - 1, rel_tol=0.1, abs_tol=0.02):
        return [_at_half(subject)]
    evidence = (
        f"half a false alarm a positive costs {1 - alarm:.3g}, half of the positives missed "
        f"{1 - miss:.3g}: as tp / (tp + {a:.2g} fp + {b:.2g} fn)"
    )
    beta = math.sqrt(b / a) if abs(a + b - 1) < 0.1 and a > 0 else None
    asked = claims.get("beta")
    if beta and asked and asked > 0 and "alpha" not in claims:
        shown = beta
        if asked == 1.0:  # which is its own inverse
            shown, asked = _at_other_beta(subject) or (beta, asked)
        if abs(math.log(shown * asked)) < 0.15 < abs(math.log(shown / asked)):
            return [
                Finding(
                    "weights",
                    f"false positives and false negatives are swapped: it is F-{shown:.2g}, the "
                    f"F of 1/beta, not F-{asked:g}",
                    f"{evidence}; beta = {asked:g} was asked for",
                    "FP = p (1 - y), FN = (1 - p) y; diffmetrics.fbeta_loss(beta=...)",
                )
            ]
    alpha, other = claims.get("alpha"), claims.get("beta")
    if alpha is not None and other is not None and alpha != other:
        swapped = np.allclose([a, b], [other, alpha], rtol=0.1)
        if swapped and not np.allclose([a, b], [alpha, other], rtol=0.1):
            return [
                Finding(
                    "weights",
                    f"alpha = {alpha:g} weighs misses and beta = {other:g} false alarms: they are "
                    "swapped",
                    evidence,
                    "alpha belongs to the false positives (Salehi et al., 2017); "
                    "diffmetrics.tversky_loss(fp_weight=..., fn_weight=...) says so",
                )
            ]
    if beta:
        named = "Dice (F1)" if abs(beta - 1) < 0.03 else f"F-{beta:.2g}"
        if named == "Dice (F1)":
            return [ok("weights", f"{evidence}, {named}")]
    else:
        named = "Jaccard" if np.allclose([a, b], 1, atol=0.05) else "a Tversky score"
        if named == "Jaccard":
            return [ok("weights", f"{evidence}, {named}")]
    return [note("weights", f"it is {named}: a miss costs {b / a:.2g} false alarms", evidence)]


def _at_other_beta(subject: Subject) -> tuple[float, float] | None:
    """The beta that shows when 2 is asked for, of a loss that takes it and defaults to 1."""
    form = subject.form
    loss = functools.partial(subject.loss, beta=2.0)
    two = form.positives(2)
    scores = []
    for chosen in (form.positives(3), form.positives(1)):
        z = (SURE * (2 * chosen - 1)).astype(np.float32)
        scores.append(1 - _forms.value(loss, form, z, two))
    alarm, miss = scores
    if not (0 < alarm < 1 and 0 < miss < 1):
        return None
    return math.sqrt((1 / miss - 1) / (2 * (1 / alarm - 1))), 2.0


def _at_half(subject: Subject) -> Finding:
    y = subject.form.targets()
    gradient = np.abs(subject.measure(np.zeros((1, *subject.form.shape)), y).gradient[0])
    positive, negative = gradient[y == 1].sum(), gradient[y == 0].sum()
    share = positive / max(positive + negative, 1e-300)
    return ok(
        "weights",
        f"at p = 1/2 positives, a quarter of the batch, hold {share:.0%} of the gradient",
    )


# --- arguments ------------------------------------------------------------------------------------


def arguments(subject: Subject) -> list[Finding]:
    """Whether predictions and labels are swapped inside: the logarithm is taken of the labels.

    A cross-entropy is linear in the label; one with swapped arguments is linear in the probability,
    with the logarithm of the clip as its slope.
    """
    form = subject.form
    if form.labels not in ("binary", "one-hot") or not separable(subject):
        return []
    p = np.array([0.02, 0.2, 0.4, 0.6, 0.8, 0.98])
    margin = np.log(p / (1 - p))
    y = form.targets()
    if form.labels == "one-hot":
        true = y.argmax(-1)
        z = np.stack([class_logits(true, np.full(len(true), m)) for m in margin])
        soft = 0.5 * y + 0.5 * np.roll(y, 1, -1)
        ends = (y, np.roll(y, 1, -1))
    else:
        z = np.where(y == 1, 1.0, -1.0) * margin.reshape(-1, *[1] * y.ndim)
        soft, ends = np.full_like(y, 0.5), (y, 1 - y)
    value = subject.measure(z, y).value
    slope, offset = np.polyfit(p, value, 1)
    linear = np.abs(np.polyval([slope, offset], p) - value).max() < 0.01 * np.ptp(value)
    some = z[1:2]
    middle = subject.measure(some, soft).value[0]
    between = np.mean([subject.measure(some, end).value[0] for end in ends])
    bent = not abs(middle - between) < 0.05 * abs(between)
    if linear and -slope > 3 and bent:
        return [
            Finding(
                "arguments",
                "labels and predictions are swapped inside: the logarithm is taken of the labels, "
                "so the loss is linear in the probability and the worst errors get no gradient",
                f"the loss is {-slope:.3g} (1 - p) for the true class, {-slope:.3g} being -log of "
                f"a clip at {math.exp(slope):.0e}; of a label of 1/2 it is {middle:.3g}, of 0 and "
                f"1 on average {between:.3g}",
                "Keras 2 and later take (y_true, y_pred), Keras 1 took (y_pred, y_true)",
            )
        ]
    return [ok("arguments", "the loss is not that of the swapped arguments")]


# --- minimum --------------------------------------------------------------------------------------


def minimum(subject: Subject) -> list[Finding]:
    """Whether nothing beats the perfect prediction, and whether it stands out from its opposite."""
    form, y = subject.form, subject.form.targets()
    hot = np.eye(CLASSES)[y] if form.labels == "ids" else y
    side = 2.0 * hot - 1.0
    rng = np.random.default_rng(3)
    perfect = np.stack([8.0 * side, SURE * side, 50.0 * side])
    errors = [np.where(rng.random(side.shape) < share, -1, 1) for share in (0.02, 0.2, 0.5)]
    others = {
        "all at 0": 0 * side,
        "margin 1/2": 0.5 * side,
        "margin 1": side,
        "margin 2": 2 * side,
        "logit = label": hot,
        "all wrong": -SURE * side,
        "all positive": 0 * side + SURE,
        "all negative": 0 * side - SURE,
        **{f"partly wrong {i}": s * e * side for i, e in enumerate(errors) for s in (1.0, SURE)},
    }
    best = np.nanmin(subject.measure(perfect, y).value)
    value = subject.measure(np.stack(list(others.values())), y).value
    scale = max(np.nanmax(np.abs(value)), abs(best), 1e-30)
    found: list[Finding] = []
    if np.isfinite(best) and np.nanmin(value) < best - 1e-4 * scale:
        which = list(others)[int(np.nanargmin(value))]
        finite = which.startswith(("margin", "logit"))
        ideal = "a finite logit" if finite else "a wrong prediction"
        found.append(
            Finding(
                "minimum",
                f"{ideal} beats the perfect one",
                f"loss {np.nanmin(value):.4g} ({which}) against {best:.4g} of the perfect one",
                "check signs, and that a squared error stands behind a sigmoid",
                "note" if finite else "defect",
            )
        )
    if form.kind == "multiclass":
        found += _absent(subject)
    return found or [ok("minimum", f"perfect {best:.4g}, opposite {value[5]:.4g}, nothing below")]


def _absent(subject: Subject) -> list[Finding]:
    """Whether classes that a batch lacks drown the others."""
    form = subject.form
    true = np.arange(form.examples) % CLASSES
    contrast = []
    for ids, wrong_ids in ((true, (true + 1) % CLASSES), (true % 2, 1 - true % 2)):
        y = ids.astype(np.int32) if form.labels == "ids" else np.eye(CLASSES, dtype=np.float32)[ids]
        z = np.stack([class_logits(some, np.full(len(ids), SURE)) for some in (ids, wrong_ids)])
        right, wrong = subject.measure(z, y).value
        contrast.append((right, wrong, wrong - right))
    (_, _, full), (right, wrong, few) = contrast
    if full > 0 and few < 0.01 * full:
        return [
            Finding(
                "minimum",
                "a class that is absent from the batch takes all the weight, and right or wrong no "
                "longer matters",
                f"two of four classes present: perfect {right:.3g}, all wrong {wrong:.3g}; "
                f"with all four the difference is {full:.3g}",
                "leave absent classes out of the mean, do not weigh them by 1 / (0 + epsilon)",
            )
        ]
    return []


# --- proper ---------------------------------------------------------------------------------------

TRUTHS = (0.125, 0.25, 0.5, 0.75)


def proper(subject: Subject) -> list[Finding]:
    """Where the best constant prediction lies for data that are positive with probability q."""
    form = subject.form
    logit = np.linspace(-10.0, 10.0, 81)
    best, flat = [], True
    for q in TRUTHS:
        if form.kind == "multiclass":
            count = round(q * form.examples)
            ids = (np.arange(form.examples) < count).astype(np.int32)
            y = ids if form.labels == "ids" else np.eye(CLASSES, dtype=np.float32)[ids]
            z = np.full((len(logit), *form.shape), -8.0)
            z[..., 1], z[..., 0] = logit[:, None] / 2, -logit[:, None] / 2
        else:
            size = int(np.prod(form.shape))
            order = np.random.default_rng(5).permutation(size)
            y = np.zeros(size, np.float32)
            y[order[: round(q * size)]] = 1.0
            y = y.reshape(form.shape)
            z = np.broadcast_to(
                logit.reshape(-1, *[1] * len(form.shape)), (len(logit), *form.shape)
            )
        value = subject.measure(z, y).value
        if not np.isfinite(value).all():
            return []
        flat = flat and np.ptp(value) <= 1e-5 * (1e-3 + np.abs(value).max())
        best.append(_lowest(logit, value))
    if flat:
        free = form.kind != "multiclass" and offset_free(subject)
        return [
            note(
                "proper",
                "it leaves the offset free: only differences of logits matter, so probabilities "
                "and the threshold 1/2 mean nothing"
                if free
                else "every constant prediction is as good as any other to it",
                "the loss is the same for every constant prediction",
                "add a cross-entropy, or tune the threshold",
            )
        ]
    found = 1 / (1 + np.exp(-np.array(best)))
    bias = np.abs(found - np.array(TRUTHS)).max()
    curve = ", ".join(f"{q:g} -> {p:.2f}" for q, p in zip(TRUTHS, found, strict=True))
    if bias < 0.02:
        return [ok("proper", f"the best prediction is the true probability: {curve}")]
    odds = found / (1 - found) / (np.array(TRUTHS) / (1 - np.array(TRUTHS)))
    even = np.ptp(np.log(odds)) < 0.1
    cause = (
        f"its best prediction is not the probability, but that of odds {_round(odds.mean())} times "
        "as large"
        if even
        else "its best prediction is not the probability: a decision, not a confidence"
        if ((found < 0.02) | (found > 0.98)).sum() >= 3
        else "its best prediction is not the probability"
    )
    return [
        note(
            "proper",
            cause,
            f"true probability -> best constant prediction: {curve}",
            "divide the odds by it (correct_prior)" if even else "do not read it as a probability",
        )
    ]


def _lowest(x: np.ndarray, value: np.ndarray) -> float:
    """Where a curve is lowest, between grid points."""
    i = int(np.argmin(value))
    if not 0 < i < len(x) - 1:
        return float(x[i])
    a, b, c = value[i - 1 : i + 2]
    bend = a - 2 * b + c
    return float(x[i] + (0.5 * (a - c) / bend * (x[1] - x[0]) if bend > 0 else 0.0))


# --- collapse -------------------------------------------------------------------------------------

RARE = 1000  # one positive in so many


def collapse(subject: Subject) -> list[Finding]:
    """What becomes of a linear model on one positive in 1000, from zero, in 200 steps of Adam."""
    if subject.mode != "compiled":
        return []
    form = subject.form
    shape = (max(1, 4000 // int(np.prod(form.shape[1:]))), *form.shape[1:])
    rng = np.random.default_rng(0)
    size = int(np.prod(shape))
    y = np.zeros(size, np.float32)
    y[rng.permutation(size)[: max(2, size // RARE)]] = 1.0
    # Two features of which the positives have 3 and 2, and the others noise around 0.
    x = rng.normal(size=(size, 2)).astype(np.float32) + y[:, None] * np.array([3.0, 2.0])
    x = np.concatenate([x, np.ones((size, 1))], 1).astype(np.float32)
    y = y.reshape(shape)

    # Data are arguments, because XLA sorts and sums constants while it compiles, and slowly.
    @jax.jit
    def run(x: jax.Array, y: jax.Array) -> Any:
        def logits(w: jax.Array) -> jax.Array:
            return (x @ w).reshape(shape)

        def step(state: Any, t: Any) -> Any:
            w, m, v = state
            g = jax.grad(lambda w: subject.one(logits(w), y))(w)
            m, v, t = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g, t + 1.0
            w -= 0.1 * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.99**t)) + 1e-12)
            chosen = logits(w) > 0
            return (w, m, v), (jnp.mean(chosen), jnp.sum(chosen * y) / jnp.sum(y))

        w = jnp.zeros(3)
        pull = jax.grad(subject.one)(logits(w), y)
        return pull, jax.lax.scan(step, (w, w, w), jnp.arange(200.0))[1]

    pull, (predicted, found) = jax.device_get(run(x, y))
    size_of = np.abs(np.asarray(pull, np.float64))
    share = size_of[y == 1].sum() / max(size_of.sum(), 1e-300)
    if not np.isfinite(share) or size_of.sum() == 0:
        return []
    evidence = (
        f"1 positive in {RARE}, linear model, 200 steps: predicts {predicted[-1]:.2%} positive, "
        f"finds {found[-1]:.0%} of the positives, which begin with {share:.1%} of the gradient"
    )
    nothing = np.flatnonzero(predicted == 0)
    if predicted[-1] == 0:
        return [
            note(
                "collapse",
                "on rare positives it predicts nothing at the threshold 1/2",
                f"{evidence}; nothing from step {nothing[0] + 1} on"
                if (predicted[nothing[0] :] == 0).all()
                else evidence,
                "tune the threshold (fit_threshold) before anything else; or weigh the positives, "
                "or take a loss of counts",
            )
        ]
    if predicted[-1] > 0.5:
        return [
            note(
                "collapse",
                "on rare positives it predicts nearly everything",
                evidence,
                "nothing opposes false alarms: tune the threshold, or count them",
            )
        ]
    return [ok("collapse", evidence)]
