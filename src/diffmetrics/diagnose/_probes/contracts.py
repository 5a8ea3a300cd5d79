"""Probes that ask the same of every kind: attentive to labels, compiled, in any order."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffmetrics.diagnose import _forms, _programs
from diffmetrics.diagnose._forms import CLASSES, CLASSIFYING, KINDS, PAIRS
from diffmetrics.diagnose._probes.sides import beyond
from diffmetrics.diagnose._programs import said
from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, defect, note, ok
from diffmetrics.diagnose._subject import Measured, Subject

WITH_LABELS = [kind for kind in KINDS if kind not in ("divergence", "triplet")]


@probe("inputs", (*CLASSIFYING, *PAIRS), rank=3)
def inputs(subject: Subject) -> tuple[Finding, ...]:
    """What was found out by looking for the form in which the loss makes sense."""
    out_of_range = beyond(subject)
    return (*subject.noticed, *([out_of_range] if out_of_range else []))


@probe("jit", rank=0)
def compiles(subject: Subject) -> Finding | None:
    """Whether it means the same each time that it is compiled."""
    if subject.mode == "mapped":
        return None  # `vmap` tells
    if subject.mode == "eager":
        return not_compiled(said(subject.obstacle))
    if subject.mode == "values":
        return defect(
            "no gradient flows through it: it leaves JAX, and computes in NumPy or Python",
            said(subject.obstacle),
            "write it in jax.numpy; the other probes here used finite differences",
        )
    z, y = subject.form.predictions(), subject.form.targets()
    jitted = subject.measure(z[None], y).value[0]
    again = _again(subject, z, y)
    if abs(jitted - again) > 1e-3 * (abs(again) + 1e-3):
        return defect(
            "compiled a second time it is another number: it keeps state, or draws at random",
            f"{jitted:.6g} under jit and vmap, {again:.6g} under another jit",
            "pass state and random keys as arguments",
        )
    return ok("the same under jit and vmap")


def _again(subject: Subject, z: np.ndarray, y: np.ndarray) -> float:
    """The loss traced once more, which is a fifth of the time of its steps one by one."""
    with _programs.quiet():
        return float(_programs.jitted(lambda z, y: subject.one(z, y))(z, y))


@probe("vmap", rank=14)
def maps(subject: Subject) -> Finding | None:
    """Whether it can be vmapped, which is told if it cannot."""
    if subject.mode != "mapped":
        return None
    return note(
        "it cannot be vmapped",
        said(subject.obstacle),
        "per-example gradients and sweeps need a Python loop; look for callbacks "
        "or indexing by a traced number",
    )


def not_compiled(evidence: str) -> Finding:
    """It runs without `jit` only."""
    return defect(
        "it cannot be compiled: it looks at values while being traced",
        evidence,
        "check shapes only; replace an `if` on values, and x[mask], by jnp.where",
    )


BLIND = "it is blind to its labels: "
MOVED, AT_LEAST = "shuffling the labels moves the loss by", "(0.00001 is enough)"
SHARE = "only their share counts, not whose they are"
SHAPES = "give both the same shape, and check it: chex.assert_equal_shape"


@probe("labels", WITH_LABELS, rank=1)
def labels(subject: Subject) -> Finding:
    """Whether it matters whose label is whose."""
    form, y, rng = subject.form, subject.form.targets(), np.random.default_rng(4)
    rows = [y] + [y[rng.permutation(len(y))] for _ in range(4)]
    if form.decides:
        rows = [rng.permutation(some.ravel()).reshape(y.shape) for some in rows]
    value = subject.measure(np.stack([form.predictions()] * len(rows)), np.stack(rows)).value
    spread = np.ptp(value) / max(np.abs(value).max(), 1e-30)
    moved = f"{MOVED} {spread:.2g} of itself"
    n, shape = form.examples, subject.output_shape
    evidence = f"{moved}; it returns shape {shape} for {n} examples"
    outer = shape == (n, n) and len(form.shape) <= 2
    if not spread < 1e-5:
        cause = f"it returns {shape} values for {n} examples: (B,) was broadcast against (B, 1)"
        return defect(cause, evidence, SHAPES) if outer else ok(f"{moved} {AT_LEAST}")
    if outer or any(inner[:2] == (n, n) for inner in subject.shapes):
        cause = (
            f"{BLIND}(B,) was broadcast against (B, 1) to (B, B), so every prediction meets every "
            "label, and only their averages count"
        )
        return defect(cause, evidence, SHAPES)
    advice = "do not average over the batch before multiplying by the labels"
    return defect(BLIND + SHARE, evidence, advice)


@probe("shapes", [kind for kind in WITH_LABELS if kind != "embedding"], rank=2)
def shapes(subject: Subject) -> Finding:
    """Whether labels with an axis too many are refused."""
    form, z, y = subject.form, subject.form.predictions(), subject.form.targets()
    column = y[..., None]
    try:
        shape = _forms.shape_of(subject.loss, form, z, column)
    except Exception as error:
        return ok(f"labels {column.shape} are refused: {type(error).__name__}")
    right = subject.measure(z[None], y).value[0]
    shuffled = column[np.random.default_rng(4).permutation(len(y))]
    wrong, other = _values(subject, z, np.stack([column, shuffled]))
    if abs(wrong - right) <= 1e-5 * (abs(right) + 1e-6):
        return ok(f"labels {column.shape} mean the same as {y.shape}")
    blind = abs(other - wrong) <= 1e-5 * abs(wrong)
    predicted = (form.examples,) if form.axis else form.shape
    return note(
        "it takes labels with an axis too many without complaint, and is another loss then"
        + (
            ": every prediction meets every label, and it is blind to whose is whose"
            if blind
            else ""
        ),
        f"labels {column.shape} with predictions {predicted} give {wrong:.4g} (shape "
        f"{shape}), {y.shape} give {right:.4g}",
        "check shapes before the loss: chex.assert_equal_shape([logits, labels])",
    )


def _values(subject: Subject, z: np.ndarray, labels: np.ndarray) -> list[float]:
    """The loss of the same predictions with some labels of a shape that is not theirs."""
    if subject.mode == "compiled":
        program = _programs.jitted(jax.vmap(subject.one, in_axes=(None, 0)))
        return np.asarray(program(z, labels), np.float64).tolist()
    return [_forms.value(subject.loss, subject.form, z, some) for some in labels]


@probe("ids", ("multiclass",), rank=21)
def ids(subject: Subject) -> Finding | None:
    """What a class id of -1 counts as."""
    form = subject.form
    if form.labels != "ids":
        return None
    some = np.stack([np.full_like(form.targets(), c) for c in (-1, CLASSES - 1)])
    value, gradient = subject.measure(np.stack([form.predictions()] * 2), some)
    advice = "mask such examples before the loss"
    if np.isnan(value[0]):
        return note("an id of -1 gives NaN", "value nan", advice)
    if value[0] == value[1] and np.abs(gradient[0]).max() > 0:
        evidence = f"loss {value[0]:.4g}, as with id {CLASSES - 1}"
        return note("an id of -1 counts as the last class, without a word", evidence, advice)
    learnt = np.abs(gradient[0]).max() / max(np.abs(gradient[1]).max(), 1e-30)
    if learnt > 1e-6:
        return note(
            "an id of -1 is learnt: it has a gradient, so what it marks is not left out",
            f"loss {value[0]:.4g}, its gradient up to {learnt:.2g} times an ordinary id's",
            advice,
        )
    return ok(f"an id of -1 costs {value[0] + 0.0:.3g}, and has no gradient")


@probe("order", rank=15)
def order(subject: Subject) -> Finding:
    """Whether the order of the examples matters."""
    form, z, y = subject.form, subject.form.predictions(), subject.form.targets()
    turn = np.random.default_rng(6).permutation(form.examples)
    here, there = subject.measure(
        np.stack([z, np.take(z, turn, form.axis)]), np.stack([y, np.take(y, turn, 0)])
    ).value
    if abs(there - here) > 1e-3 * max(abs(here), 1e-30):
        return note(
            "the order of the examples matters",
            f"{here:.5g}, in another order {there:.5g}",
            "if the first half and the second are pairs, all is well; else shuffle",
        )
    return ok("the order of the examples does not matter")


def halved(subject: Subject) -> Measured:
    """Of a batch (a, b), and of its halves as batches (a, a) and (b, b) of the same shape."""
    form, z, y = subject.form, subject.form.predictions(1), subject.form.uneven()
    first, second = np.split(np.arange(form.examples), 2)
    orders = [np.r_[first, second], np.r_[first, first], np.r_[second, second]]
    return subject.measure(
        np.stack([np.take(z, order, form.axis) for order in orders]),
        np.stack([np.take(y, order, 0) for order in orders]),
    )


@probe("decomposable", rank=17)
def decomposable(subject: Subject) -> Finding:
    """Whether gradient accumulation and means over devices are exact."""
    form = subject.form
    (whole, *halves), (slope, *slopes) = halved(subject)
    mean = np.concatenate([sum(np.split(g, 2, form.axis)) / 2 for g in slopes], form.axis)
    norm = float(np.linalg.norm(slope))
    off = float(np.linalg.norm(slope - mean) / max(norm, 1e-30))
    cosine = (slope * mean).sum() / max(norm * np.linalg.norm(mean), 1e-30)
    of_the_whole = not_a_mean(whole, np.mean(halves), off, f", cosine {cosine:.3f}")
    return of_the_whole or ok("the loss of a batch is the mean over its halves")


def not_a_mean(whole: Any, halves: Any, off: float, more: str = "") -> Finding | None:
    """It is not the mean over the parts of a batch, in value or gradient."""
    alike = abs(whole - halves) <= 1e-4 * (abs(whole) + 1e-3) and off < 1e-3
    if alike or not np.isfinite(off):  # of which `finite` tells
        return None
    return note(
        "it is a loss of the whole batch: a mean over microbatches or devices is another loss",
        f"whole {whole:.4g}, mean over halves {halves:.4g}; the gradient is off by {off:.0%}{more}",
        "take the batch as a whole, or add up what it counts over all parts and divide once",
    )


@probe("second", rank=16, slow=True)
def second(subject: Subject) -> Finding | None:
    """Whether a second derivative exists and is finite."""
    if subject.mode != "compiled":
        return None
    z = subject.form.predictions(2)
    sizes = [z] if subject.form.kind == "mean_scale" else [z, 0 * z, 20 * z, 100 * np.sign(z)]
    sizes = np.clip(np.stack(sizes), -subject.form.reach, subject.form.reach)

    def curvature(z: jax.Array, y: jax.Array) -> Any:
        return jax.jvp(jax.grad(lambda p: subject.one(p, y)), (z,), (jnp.ones_like(z),))[1]

    try:
        bend = _programs.jitted(jax.vmap(curvature, in_axes=(0, None)))(
            sizes.astype(np.float32), subject.form.targets()
        )
    except Exception as error:
        return note(
            "it has no second derivative: a custom_vjp allows one derivative only",
            said(error),
            "write the rule as a custom_jvp",
        )
    lost = ~np.isfinite(np.asarray(bend))
    if lost.any():
        return note(
            "its second derivative is not finite everywhere",
            f"{lost.mean():.0%} of the entries, at predictions up to {np.abs(sizes).max():.3g}",
            "training with SGD or Adam is not affected; what needs curvature, such as L-BFGS or a "
            "Laplace approximation, is",
        )
    return ok("the second derivative is finite")


@probe("targets", CLASSIFYING, rank=20, slow=True)
def targets(subject: Subject) -> Finding | None:
    """Whether labels that are learnt, or come from a teacher, get a finite gradient."""
    z, y = subject.form.predictions(), subject.form.targets()
    if subject.mode != "compiled" or subject.form.labels == "ids":
        return None
    slope = _programs.jitted(jax.vmap(jax.grad(subject.one, argnums=1), in_axes=(None, 0)))
    lost = ~np.isfinite(np.asarray(slope(z, np.stack([y, 0.8 * y + 0.1]))))
    if not lost.any():
        return ok("the gradient in the labels is finite, at 0 and 1 too")
    bad = ", ".join(f"{b:g}" for b in np.unique(y[lost[0]]))
    hard = f"{lost[0].mean():.0%} of them not finite, at labels {bad}"
    return note(
        "its gradient in the labels is not finite, so labels cannot be learnt or distilled",
        hard if bad else "at labels between 0 and 1",
        "put 1 in place of a label of 0 before the logarithm (jnp.where), and 0 after it",
    )


CAST = "where you train in half precision, cast the logits to float32 before the loss"


@probe("dtype", CLASSIFYING, rank=19, slow=True)
def dtype(subject: Subject) -> Finding | list[Finding] | None:
    """Whether a large batch in float16 or bfloat16 has the loss of the same numbers in float32."""
    if subject.mode != "compiled":
        return None
    z, y = subject.form.crowd(2**18)

    def each(z: jax.Array, y: jax.Array) -> Any:
        return [subject.one(z.astype(d), y) for d in (jnp.float32, jnp.float16, jnp.bfloat16)]

    try:
        traced = jax.make_jaxpr(each)(z, y)
        if max(int(np.prod(s)) for s in _programs.shapes_within(traced.jaxpr)) > 64 * z.size:
            return None  # all pairs: a large batch is not what it is made for
        exact, *narrow = (float(value) for value in _programs.jitted(each)(z, y))
    except _programs.CONCRETE:
        return None
    except Exception as error:
        return not_narrow(error)
    found = []
    for name, value in zip(("float16", "bfloat16"), narrow, strict=True):
        off = abs(value - exact) / max(abs(exact), 1e-6)
        if not off < 0.05:
            cause = f"of {name} logits it sums in {name}: a large batch overflows, or is lost"
            evidence = f"the loss of {z.size} such logits is {value:.4g}, in float32 {exact:.4g}"
            found.append(note(cause, evidence, CAST))
    return found or ok(f"{len(z)} examples in float16 and bfloat16 as in float32")


def not_narrow(error: Exception) -> Finding:
    """It raises for a narrower type than float32."""
    return note("it does not take float16 or bfloat16 predictions", said(error), CAST)
