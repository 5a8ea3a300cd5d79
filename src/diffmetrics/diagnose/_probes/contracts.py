"""Probes that ask the same of every kind: attentive to labels, compiled, right slopes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffmetrics.diagnose import _forms
from diffmetrics.diagnose._forms import CLASSES, CLASSIFYING, CONCRETE, KINDS, PAIRS, quiet, said
from diffmetrics.diagnose._probes.margins import jumps
from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, defect, note, ok
from diffmetrics.diagnose._subject import Subject

# --- how it is called, and compiled ---------------------------------------------------------------


@probe("inputs", (*CLASSIFYING, *PAIRS), rank=3)
def inputs(subject: Subject) -> Iterator[Finding]:
    """What was found out by looking for the form in which the loss makes sense."""
    yield from subject.noticed


@probe("jit", rank=0)
def compiles(subject: Subject) -> Iterator[Finding]:
    """Whether it means the same with and without jit."""
    if subject.mode == "compiled":
        yield _alike(subject)
    elif subject.mode == "mapped":
        yield note(
            "it cannot be vmapped",
            said(subject.obstacle),
            "per-example gradients and sweeps need a Python loop; look for callbacks "
            "or indexing by a traced number",
        )
    elif subject.mode == "eager":
        yield not_compiled(said(subject.obstacle))
    else:
        yield defect(
            "no gradient flows through it: it leaves JAX, and computes in NumPy or Python",
            said(subject.obstacle),
            "write it in jax.numpy; the other probes here used finite differences",
        )


def not_compiled(evidence: str) -> Finding:
    """The finding of a loss that runs without `jit` only."""
    return defect(
        "it cannot be compiled: it looks at values while being traced",
        evidence,
        "check shapes only, replace `if` on values by jnp.where",
    )


def _alike(subject: Subject) -> Finding:
    """Whether it is the same number compiled."""
    z, y = subject.form.predictions(), subject.form.targets()
    jitted = subject.measure(z[None], y).value[0]
    plain = _forms.value(subject.loss, subject.form, z, y)
    if abs(jitted - plain) > 1e-3 * (abs(plain) + 1e-3):
        return defect(
            "compiled it is another number: it keeps state, or draws at random",
            f"{jitted:.6g} under jit and vmap, {plain:.6g} without",
            "pass state and random keys as arguments",
        )
    return ok("the same under jit and vmap")


# --- labels ---------------------------------------------------------------------------------------


@probe("labels", [kind for kind in KINDS if kind not in ("divergence", "triplet")], rank=1)
def labels(subject: Subject) -> Iterator[Finding]:
    """Whether it matters whose label is whose."""
    form = subject.form
    shuffled = _shuffled(subject)
    value = subject.measure(np.stack([form.predictions()] * len(shuffled)), shuffled).value
    spread = np.ptp(value) / max(np.abs(value).max(), 1e-30)
    shape = subject.output_shape
    outer = len(shape) == 2 and shape[0] == shape[1] == form.examples and len(form.shape) <= 2
    moved = f"shuffling the labels moves the loss by {spread:.2g} of itself"
    evidence = f"{moved}; it returns shape {shape} for {form.examples} examples"
    equal = "give both the same shape, and check it: chex.assert_equal_shape"
    if spread < 1e-5 and (outer or _blames_broadcast(subject)):
        yield defect(
            "it is blind to its labels: (B,) was broadcast against (B, 1) to (B, B), so every "
            "prediction meets every label, and only their averages count",
            evidence,
            equal,
        )
    elif spread < 1e-5:
        yield defect(
            BLIND, evidence, "do not average over the batch before multiplying by the labels"
        )
    elif outer:
        yield defect(
            f"it returns {shape} values for {form.examples} examples: (B,) was "
            " broadcast against (B, 1)",
            evidence,
            equal,
        )
    else:
        yield ok(moved)


BLIND = "it is blind to its labels: only their share counts, not whose they are"


def _shuffled(subject: Subject) -> np.ndarray:
    """Labels, and others that are the same in another order."""
    y, rng = subject.form.targets(), np.random.default_rng(4)
    rows = [y] + [y[rng.permutation(len(y))] for _ in range(4)]
    if subject.form.decides:
        rows = [rng.permutation(some.ravel()).reshape(y.shape) for some in rows]
    return np.stack(rows)


def _blames_broadcast(subject: Subject) -> bool:
    """Whether an array of every example against every example occurs in the loss."""
    if subject.jaxpr is None:
        return False
    n = subject.form.examples
    return any(shape[:2] == (n, n) for shape in intermediate_shapes(subject.jaxpr.jaxpr))


def intermediate_shapes(jaxpr: Any) -> Iterator[tuple[int, ...]]:
    """Shapes of all that is computed on the way, in inner programs too."""
    for equation in jaxpr.eqns:
        for variable in equation.outvars:
            yield tuple(getattr(variable.aval, "shape", ()))
        for parameter in equation.params.values():
            for each in parameter if isinstance(parameter, tuple | list) else (parameter,):
                inner = getattr(each, "jaxpr", each)
                if hasattr(inner, "eqns"):
                    yield from intermediate_shapes(inner)


@probe(
    "shapes", [kind for kind in KINDS if kind not in ("divergence", "triplet", "embedding")], rank=2
)
def shapes(subject: Subject) -> Iterator[Finding]:
    """Whether labels with an axis too many are refused."""
    form, y = subject.form, subject.form.targets()
    z, column = form.predictions(), y[..., None]
    try:
        shape = _forms.shape_of(subject.loss, form, z, column)
    except Exception as error:
        yield ok(f"labels {column.shape} are refused: {type(error).__name__}")
        return
    right, wrong = (_forms.value(subject.loss, form, z, some) for some in (y, column))
    if abs(wrong - right) <= 1e-5 * (abs(right) + 1e-6):
        yield ok(f"labels {column.shape} mean the same as {y.shape}")
        return
    shuffled = column[np.random.default_rng(4).permutation(len(y))]
    blind = abs(_forms.value(subject.loss, form, z, shuffled) - wrong) <= 1e-5 * abs(wrong)
    yield note(
        "it broadcasts labels of another shape without a word"
        + (", and is blind to whose they are then" if blind else ""),
        f"labels {column.shape} with predictions {form.labelled} give {wrong:.4g} (shape "
        f"{shape}), {y.shape} give {right:.4g}",
        "check shapes before the loss: chex.assert_equal_shape([logits, labels])",
    )


@probe("ids", ("multiclass",), rank=20)
def ids(subject: Subject) -> Iterator[Finding]:
    """What a class id of -1 counts as."""
    form = subject.form
    if form.labels != "ids":
        return
    z, y = form.predictions(), form.targets()
    some = np.stack([np.full_like(y, -1), np.full_like(y, CLASSES - 1)])
    value, gradient = subject.measure(np.stack([z, z]), some)
    advice = "mask such examples before the loss"
    if np.isnan(value[0]):
        yield note("an id of -1 gives NaN", "value nan", advice)
    elif value[0] == value[1] and np.abs(gradient[0]).max() > 0:
        yield note(
            "an id of -1 counts as the last class, without a word",
            f"loss {value[0]:.4g}, as with id {CLASSES - 1}",
            advice,
        )
    else:
        yield ok(f"an id of -1 costs {value[0]:.3g}")


@probe("order", rank=14)
def order(subject: Subject) -> Iterator[Finding]:
    """Whether the order of the examples matters."""
    form = subject.form
    z, y = form.predictions(), form.targets()
    turn = np.random.default_rng(6).permutation(form.examples)
    zs = np.stack([z, np.take(z, turn, form.axis)])
    value = subject.measure(zs, np.stack([y, np.take(y, turn, 0)])).value
    if abs(value[1] - value[0]) > 1e-3 * max(abs(value[0]), 1e-30):
        yield note(
            "the order of the examples matters",
            f"{value[0]:.5g}, in another order {value[1]:.5g}",
            "if the first half and the second are pairs, all is well; else shuffle",
        )
    else:
        yield ok("the order of the examples does not matter")


# --- derivatives ----------------------------------------------------------------------------------


@probe("gradient", rank=11)
def gradient(subject: Subject) -> Iterator[Finding]:
    """Whether the gradient is that of the value, by finite differences."""
    if subject.mode == "values" or (subject.form.classifies and jumps(subject)):
        return
    tries = list(_differences(subject))
    if not tries:
        return
    _, fit, residual = min(tries)
    evidence = f"gradient / finite difference = {fit:.3g}, scatter {residual:.2g}, {MANY} batches"
    if abs(fit - 1) < 0.05 and residual < 0.25:
        yield ok(evidence)
    elif subject.jaxpr is not None and "stop_gradient" in str(subject.jaxpr):
        yield note(
            "its gradient is not that of its value: a stop_gradient stands between",
            evidence,
            "do not read its value as progress; watch what it stands for",
        )
    else:
        yield defect(
            "its gradient is not that of its value: a custom derivative is wrong, or something is "
            "rounded or compared on the way",
            evidence,
            "check the custom_vjp or custom_jvp with jax.test_util.check_grads",
        )


MANY = 16


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


@probe("second", rank=15, slow=True)
def second(subject: Subject) -> Iterator[Finding]:
    """Whether a second derivative exists and is finite."""
    if subject.mode != "compiled":
        return
    form, y = subject.form, subject.form.targets()
    z = form.predictions(2)
    sizes = [z] if form.kind == "mean_scale" else [z, 0 * z, 20 * z, 100 * np.sign(z)]

    def curvature(z: jax.Array, y: jax.Array) -> Any:
        return jax.jvp(jax.grad(lambda p: subject.one(p, y)), (z,), (jnp.ones_like(z),))[1]

    try:
        with quiet():
            some = np.stack(sizes).astype(np.float32)
            bend = np.asarray(jax.jit(jax.vmap(curvature, in_axes=(0, None)))(some, y))
    except Exception as error:
        yield note(
            "it has no second derivative: a custom_vjp allows one derivative only",
            said(error),
            "write the rule as a custom_jvp",
        )
        return
    if np.isfinite(bend).all():
        yield ok("the second derivative is finite")
    else:
        yield note(
            "its second derivative is not finite everywhere",
            f"{(~np.isfinite(bend)).mean():.0%} of the entries, at logits 0 to 100",
            "first-order training is not affected; L-BFGS, Laplace and influence are",
        )


@probe("targets", CLASSIFYING, rank=19, slow=True)
def targets(subject: Subject) -> Iterator[Finding]:
    """Whether labels that are learnt, or come from a teacher, get a finite gradient."""
    form = subject.form
    if subject.mode != "compiled" or form.labels == "ids":
        return
    z, y = form.predictions(), form.targets()
    hard_and_soft = np.stack([y, 0.8 * y + 0.1])
    slope = jax.jit(jax.vmap(jax.grad(subject.one, argnums=1), in_axes=(None, 0)))
    with quiet():
        of_hard, of_soft = np.isfinite(np.asarray(slope(z, hard_and_soft)))
    if of_hard.all() and of_soft.all():
        yield ok("the gradient in the labels is finite, at 0 and 1 too")
        return
    bad = ", ".join(f"{b:g}" for b in np.unique(y[~of_hard]))
    yield note(
        "its gradient in the labels is not finite, so labels cannot be learnt or distilled",
        f"{(~of_hard).mean():.0%} of them not finite, at labels {bad}"
        if bad
        else "at labels between 0 and 1",
        "a jnp.where inside the logarithm too, on its argument (double where)",
    )


# --- dtype ----------------------------------------------------------------------------------------


@probe("dtype", CLASSIFYING, rank=18, slow=True)
def dtype(subject: Subject) -> Iterator[Finding]:
    """Whether a large batch in float16 or bfloat16 has the loss of the same numbers in float32."""
    if subject.mode != "compiled":
        return
    z, y = subject.form.crowd(2**18)
    try:
        with quiet():
            values = _in_each_dtype(subject, z, y)
    except CONCRETE:
        return
    except Exception as error:
        yield not_narrow(error)
        return
    if values is None:
        return
    exact, found = values[0], False
    for name, value in zip(("float16", "bfloat16"), values[1:], strict=True):
        off = abs(value - exact) / max(abs(exact), 1e-6)
        if not off < 0.05:
            found = True
            lost = not np.isfinite(value) or off > 0.5
            yield (defect if lost else note)(
                f"it counts in {name}: a large batch overflows or stops counting",
                f"{len(z)} examples at logits +-1: {value:.4g}, in float32 {exact:.4g}",
                "cast the logits to float32 before the loss",
            )
    if not found:
        yield ok(f"{len(z)} examples in float16 and bfloat16 as in float32")


def _in_each_dtype(subject: Subject, z: np.ndarray, y: np.ndarray) -> list[float] | None:
    """The loss in float32, float16 and bfloat16; None if it is of all pairs, for small batches."""

    def each(z: jax.Array, y: jax.Array) -> Any:
        return [subject.one(z.astype(d), y) for d in (jnp.float32, jnp.float16, jnp.bfloat16)]

    traced = jax.make_jaxpr(each)(z, y)
    if max(int(np.prod(s)) for s in intermediate_shapes(traced.jaxpr)) > 64 * z.size:
        return None
    return [float(value) for value in jax.jit(each)(z, y)]


def not_narrow(error: Exception) -> Finding:
    """The finding of a loss that raises for a narrower type than float32."""
    return note(
        "it does not take float16 or bfloat16 predictions",
        said(error),
        "cast the logits to float32 before the loss",
    )


# --- microbatches ---------------------------------------------------------------------------------


@probe("decomposable", rank=16)
def decomposable(subject: Subject) -> Iterator[Finding]:
    """Whether gradient accumulation and means over devices are exact."""
    whole, halves, error, cosine = _mixing(subject)
    if abs(whole - halves) <= 1e-4 * (abs(whole) + 1e-3) and error < 1e-3:
        yield ok("the loss of a batch is the mean over its halves")
    else:
        yield of_the_whole(whole, halves, f"{error:.0%}, cosine {cosine:.3f}")


def of_the_whole(whole: float, halves: float, off: str) -> Finding:
    """The finding of a loss that is not the mean over the parts of a batch."""
    return note(
        "it is a loss of the whole batch: a mean over microbatches or devices is another loss",
        f"whole {whole:.4g}, mean over halves {halves:.4g}; the gradient is off by {off}",
        "sum its counts first and divide once, see docs/microbatches.md",
    )


def _mixing(subject: Subject) -> tuple[float, float, float, float]:
    """How far the loss of a batch is from the mean over its halves, in value and gradient.

    Of the batch (a, b) with halves as batches (a, a) and (b, b), of one shape for one compilation.
    Returns whole, mean of halves, error of the gradient, and its cosine.
    """
    form = subject.form
    first, second = np.split(np.arange(form.examples), 2)
    orders = [np.r_[first, second], np.r_[first, first], np.r_[second, second]]
    z, y = form.predictions(1), form.uneven()
    value, gradient = subject.measure(
        np.stack([np.take(z, order, form.axis) for order in orders]),
        np.stack([np.take(y, order, 0) for order in orders]),
    )
    halves = [sum(np.split(g, 2, form.axis)) / 2 for g in gradient[1:]]
    mean = np.concatenate(halves, form.axis)
    norms = np.linalg.norm(gradient[0]), np.linalg.norm(mean)
    error = float(np.linalg.norm(gradient[0] - mean) / max(norms[0], 1e-30))
    cosine = float((gradient[0] * mean).sum() / max(norms[0] * norms[1], 1e-30))
    return float(value[0]), float(value[1:].mean()), error, cosine
