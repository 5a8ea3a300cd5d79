"""Probes of what a loss trades for what: which prediction it likes best, and what rareness does."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffmetrics.diagnose._forms import CLASSES, CLASSIFYING, DECIDING, class_logits
from diffmetrics.diagnose._probes.margins import offset_free, separable
from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, defect, note, ok
from diffmetrics.diagnose._subject import Subject

SURE = 20.0  # a logit of which the sigmoid is 0 or 1, and its exponential is no extreme


@probe("arguments", CLASSIFYING, rank=4)
def arguments(subject: Subject) -> Finding | None:
    """Whether predictions and labels are swapped inside: the logarithm is taken of the labels.

    A cross-entropy is linear in the label; one with swapped arguments is linear in the probability,
    with the logarithm of the clip as its slope.
    """
    form, y = subject.form, subject.form.targets()
    if form.labels == "ids" or not separable(subject):
        return None
    p = np.array([0.02, 0.2, 0.4, 0.6, 0.8, 0.98])
    z = form.at_margins(np.log(p / (1 - p)))
    value = subject.measure(z).value
    slope, offset = np.polyfit(p, value, 1)
    linear = np.abs(slope * p + offset - value).max() < 0.01 * np.ptp(value)
    other = 1 - y if form.decides else np.roll(y, 1, -1)
    some = np.stack([0.5 * y + 0.5 * other, y, other])
    middle, *ends = subject.measure(np.stack([z[1]] * 3), some).value
    between = np.mean(ends)
    bent = not abs(middle - between) < 0.05 * abs(between)
    if not (linear and -slope > 3 and bent):
        return ok("the loss is not that of the swapped arguments")
    return defect(
        "labels and predictions are swapped inside: the logarithm is taken of the labels, "
        "so the loss is linear in the probability and the worst errors get no gradient",
        f"the loss is {-slope:.3g} (1 - p) for the true class, {-slope:.3g} being -log of "
        f"a clip at {math.exp(slope):.0e}; of a label of 1/2 it is {middle:.3g}, of 0 and "
        f"1 on average {between:.3g}",
        "Keras 2 and later take (y_true, y_pred), Keras 1 took (y_pred, y_true)",
    )


@probe("minimum", CLASSIFYING, rank=10)
def minimum(subject: Subject) -> Iterator[Finding]:
    """Whether nothing beats the perfect prediction, and whether it stands out from its opposite."""
    side = subject.form.sides()
    best = np.nanmin(subject.measure(np.multiply.outer([8.0, SURE, 50.0], side)).value)
    others = _imperfect(side)
    value = subject.measure(np.stack(list(others.values()))).value
    scale = max(np.nanmax(np.abs(value)), abs(best), 1e-30)
    better = np.isfinite(best) and np.nanmin(value) < best - 1e-4 * scale
    if better:
        which = list(others)[int(np.nanargmin(value))]
        evidence = f"loss {np.nanmin(value):.4g} ({which}), {best:.4g} if all are certain and right"
        yield _better(evidence, cautious=which.startswith(("right by", "logit")))
    absent = None if subject.form.decides else _absent(subject)
    if absent:
        yield absent
    elif not better:
        opposite = value[list(others).index("all wrong")]
        yield ok(f"perfect {best:.4g}, opposite {opposite:.4g}, nothing below")


def _better(evidence: str, *, cautious: bool) -> Finding:
    """Something beats what is certain and right."""
    if cautious:
        return note(
            "it likes a cautious prediction better than one that is certain and right",
            evidence,
            "as label smoothing or a penalty on large logits wants it; a squared error wants a "
            "sigmoid before it",
        )
    return defect(
        "a wrong prediction beats the perfect one",
        evidence,
        "check the sign of each term, and which class is called 1",
    )


def _imperfect(side: np.ndarray) -> dict[str, np.ndarray]:
    """Predictions that are worse than the perfect ones, by name."""
    rng = np.random.default_rng(3)
    errors = [np.where(rng.random(side.shape) < share, -1, 1) for share in (0.02, 0.2, 0.5)]
    return {
        "all at 0": 0 * side,
        "right by 1/2": 0.5 * side,
        "right by 1": side,
        "right by 2": 2 * side,
        "logit = label": (side + 1) / 2,
        "all wrong": -SURE * side,
        "all positive": 0 * side + SURE,
        "all negative": 0 * side - SURE,
        **{f"partly wrong {i}": s * e * side for i, e in enumerate(errors) for s in (1.0, SURE)},
    }


def _absent(subject: Subject) -> Finding | None:
    """Whether classes that a batch lacks drown the others."""
    true = subject.form.true
    sure, found = np.full(len(true), SURE), []
    for ids, others in ((true, (true + 1) % CLASSES), (true % 2, 1 - true % 2)):
        z = np.stack([class_logits(some, sure) for some in (ids, others)])
        found.append(subject.measure(z, subject.form.encoded(ids)).value)
    full, (right, wrong) = found[0][1] - found[0][0], found[1]
    if not (full > 0 and wrong - right < 0.01 * full):
        return None
    return defect(
        "a class that is absent from the batch takes all the weight, and right or wrong no "
        "longer matters",
        f"two of four classes present: perfect {right:.3g}, all wrong {wrong:.3g}; "
        f"with all four the difference is {full:.3g}",
        "leave absent classes out of the mean, do not weigh them by 1 / (0 + epsilon)",
    )


TRUTHS = np.array([0.125, 0.25, 0.5, 0.75])


@probe("proper", CLASSIFYING, rank=18)
def proper(subject: Subject) -> Finding | None:
    """Where the best constant prediction lies for data that are positive with probability q."""
    form, logit = subject.form, np.linspace(-10.0, 10.0, 81)
    z = form.at_odds(logit)
    values = np.stack([subject.measure(z, form.labels_of_share(q)).value for q in TRUTHS])
    if not np.isfinite(values).all():
        return None
    if (np.ptp(values, 1) <= 1e-5 * (1e-3 + np.abs(values).max(1))).all():
        return note(
            "it leaves the offset free: the same number added to every logit changes nothing, so "
            "probabilities and the threshold 1/2 mean nothing"
            if form.decides and offset_free(subject)
            else "every constant prediction is as good as any other to it",
            "the loss is the same for every constant prediction",
            "add a cross-entropy, or tune the threshold",
        )
    found = 1 / (1 + np.exp(-np.array([lowest(logit, value) for value in values])))
    curve = ", ".join(f"{q:g} -> {p:.2f}" for q, p in zip(TRUTHS, found, strict=True))
    if np.abs(found - TRUTHS).max() < 0.02:
        return ok(f"the best prediction is the true probability: {curve}")
    cause = "its best prediction is not the probability"
    advice = "do not read predictions as probabilities; tune the threshold"
    odds = found / (1 - found) / (TRUTHS / (1 - TRUTHS))
    if np.ptp(np.log(odds)) < 0.1:
        cause += f", but that of odds {rounded(odds.mean())} times as large"
        advice = "divide the predicted odds p / (1 - p) by it: diffmetrics.correct_prior"
    elif ((found < 0.02) | (found > 0.98)).sum() >= 3:
        cause += ": a decision, not a confidence"
    return note(cause, f"true probability -> best constant prediction: {curve}", advice)


def lowest(x: np.ndarray, value: np.ndarray) -> float:
    """Where a curve is lowest, between grid points."""
    i = int(np.argmin(value))
    if not 0 < i < len(x) - 1:
        return float(x[i])
    a, b, c = value[i - 1 : i + 2]
    bend = a - 2 * b + c
    return float(x[i] + (0.5 * (a - c) / bend * (x[1] - x[0]) if bend > 0 else 0.0))


def rounded(x: float) -> str:
    """Two digits, without an exponent."""
    return f"{float(f'{x:.2g}'):.0f}" if x >= 10 else f"{x:.2g}"


RARE = 1000  # one positive in so many


@probe("collapse", DECIDING, rank=21, slow=True)
def collapse(subject: Subject) -> Finding | None:
    """What becomes of a linear model on one positive in 1000, from zero, in 200 steps of Adam."""
    if subject.mode != "compiled":
        return None
    x, y = _rare(subject)
    pull, (predicted, found) = jax.device_get(_trained(subject, x, y))
    size = np.abs(np.asarray(pull, np.float64))
    share = size[y == 1].sum() / max(size.sum(), 1e-300)
    if not np.isfinite(share) or size.sum() == 0:
        return None
    evidence = (
        f"1 positive in {RARE}, linear model, 200 steps: predicts {predicted[-1]:.2%} positive, "
        f"finds {found[-1]:.0%} of the positives, which begin with {share:.1%} of the gradient"
    )
    if predicted[-1] == 0:
        first = int(np.argmax(predicted == 0))
        lasting = (predicted[first:] == 0).all()
        return note(
            "on rare positives it predicts nothing at the threshold 1/2",
            f"{evidence}; nothing from step {first + 1} on" if lasting else evidence,
            "tune the threshold (fit_threshold) before anything else; or weigh the positives, "
            "or take a loss such as Dice",
        )
    if predicted[-1] > 0.5:
        return note(
            "on rare positives it predicts nearly everything",
            evidence,
            "nothing opposes false alarms: tune the threshold, or count them",
        )
    return ok(evidence)


def _rare(subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    """Two features, of which the positives have 3 and 2 and others noise around 0; and labels."""
    inner = subject.form.shape[1:]
    pairs = max(map(math.prod, subject.shapes), default=0) >= math.prod(subject.form.shape) ** 2
    shape = (max(1, (1 if pairs else 4) * RARE // math.prod(inner)), *inner)
    size, rng = math.prod(shape), np.random.default_rng(0)
    y = np.zeros(size, np.float32)
    y[rng.permutation(size)[: max(1, size // RARE)]] = 1.0
    x = rng.normal(size=(size, 2)).astype(np.float32) + y[:, None] * np.array([3.0, 2.0])
    return np.concatenate([x, np.ones((size, 1))], 1).astype(np.float32), y.reshape(shape)


# Data are arguments, because XLA sorts and sums constants while it compiles, and slowly.
def _trained(subject: Subject, x: np.ndarray, y: np.ndarray) -> Any:
    """The gradient at zero, and of every step what is predicted and what is found."""

    @jax.jit
    def run(x: jax.Array, y: jax.Array) -> Any:
        def logits(w: jax.Array) -> jax.Array:
            return (x @ w).reshape(y.shape)

        def step(state: Any, t: Any) -> Any:
            w, m, v = state
            g = jax.grad(lambda w: subject.one(logits(w), y))(w)
            m, v, t = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g, t + 1.0
            w -= 0.1 * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.99**t)) + 1e-12)
            chosen = logits(w) > 0
            return (w, m, v), (jnp.mean(chosen), jnp.sum(jnp.where(chosen, y, 0.0)) / jnp.sum(y))

        w = jnp.zeros(3, x.dtype)
        pull = jax.grad(subject.one)(logits(w), y)
        return pull, jax.lax.scan(step, (w, w, w), jnp.arange(200.0, dtype=x.dtype))[1]

    return run(x, y)
