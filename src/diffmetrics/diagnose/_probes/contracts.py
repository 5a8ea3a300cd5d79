"""Probes that ask the same of every kind: attentive to labels, compiled, right slopes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffmetrics.diagnose import _forms
from diffmetrics.diagnose._forms import CONCRETE, quiet, said
from diffmetrics.diagnose._probes.margins import jumps
from diffmetrics.diagnose._report import Finding, note, ok
from diffmetrics.diagnose._subject import Subject

# --- labels ---------------------------------------------------------------------------------------


def labels(subject: Subject) -> list[Finding]:
    """Whether it matters whose label is whose."""
    form = subject.form
    if form.labels == "none":
        return []
    z, y = form.predictions(), form.targets()
    rng = np.random.default_rng(4)
    shuffled = [y] + [y[rng.permutation(len(y))] for _ in range(4)]
    if form.kind in ("binary", "multilabel"):
        shuffled = [rng.permutation(s.ravel()).reshape(y.shape) for s in shuffled]
    value, _ = subject.measure(np.stack([z] * len(shuffled)), np.stack(shuffled))
    spread = np.ptp(value) / max(np.abs(value).max(), 1e-30)
    shape = subject.output_shape
    outer = len(shape) == 2 and shape[0] == shape[1] == form.examples and len(form.shape) <= 2
    evidence = (
        f"shuffling the labels moves the loss by {spread:.2g} of itself; "
        f"it returns shape {shape} for {form.examples} examples"
    )
    if spread < 1e-5:
        broadcast = outer or _blames_broadcast(subject)
        return [
            Finding(
                "labels",
                "it is blind to its labels: "
                + (
                    "(B,) was broadcast against (B, 1) to (B, B), so every prediction meets every "
                    "label, and only their averages count"
                    if broadcast
                    else "only their share counts, not whose they are"
                ),
                evidence,
                "give both the same shape, and check it: chex.assert_equal_shape"
                if broadcast
                else "do not average over the batch before multiplying by the labels",
            )
        ]
    if outer:
        return [
            Finding(
                "labels",
                f"it returns {shape} values for {form.examples} examples: (B,) was "
                " broadcast against (B, 1)",
                evidence,
                "give both the same shape, and check it: chex.assert_equal_shape",
            )
        ]
    return [ok("labels", f"shuffling the labels moves the loss by {spread:.2g} of itself")]


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


def shapes(subject: Subject) -> list[Finding]:
    """Whether labels with an axis too many are refused."""
    form = subject.form
    if form.labels == "none" or form.kind == "embedding":
        return []
    z, y = form.predictions(), form.targets()
    right = _forms.value(subject.loss, form, z, y)
    try:
        shape = _forms.shape_of(subject.loss, form, z, y[..., None])
    except Exception as error:
        return [ok("shapes", f"labels {y[..., None].shape} are refused: {type(error).__name__}")]
    wrong = _forms.value(subject.loss, form, z, y[..., None])
    if abs(wrong - right) <= 1e-5 * (abs(right) + 1e-6):
        return [ok("shapes", f"labels {y[..., None].shape} mean the same as {y.shape}")]
    predicted = (form.examples,) if form.kind in ("pair", "mean_scale") else form.shape
    shuffled = y[np.random.default_rng(4).permutation(len(y))][..., None]
    again = _forms.value(subject.loss, form, z, shuffled)
    blind = abs(again - wrong) <= 1e-5 * abs(wrong)
    return [
        note(
            "shapes",
            "it broadcasts labels of another shape without a word"
            + (", and is blind to whose they are then" if blind else ""),
            f"labels {y[..., None].shape} with predictions {predicted} give {wrong:.4g} (shape "
            f"{shape}), {y.shape} give {right:.4g}",
            "check shapes before the loss: chex.assert_equal_shape([logits, labels])",
        )
    ]


def invalid(subject: Subject) -> list[Finding]:
    """What a class id of -1 counts as."""
    form = subject.form
    if form.labels != "ids" or form.kind != "multiclass":
        return []
    z, y = form.predictions(), form.targets()
    ids = np.stack([np.full_like(y, -1), np.full_like(y, _forms.CLASSES - 1)])
    value, gradient = subject.measure(np.stack([z, z]), ids)
    if np.isnan(value[0]):
        return [
            note("ids", "an id of -1 gives NaN", "value nan", "mask such examples before the loss")
        ]
    if value[0] == value[1] and np.abs(gradient[0]).max() > 0:
        return [
            note(
                "ids",
                "an id of -1 counts as the last class, without a word",
                f"loss {value[0]:.4g}, as with id {_forms.CLASSES - 1}",
                "mask such examples before the loss",
            )
        ]
    return [ok("ids", f"an id of -1 costs {value[0]:.3g}")]


# --- order, jit, gradient, second derivative, dtype -----------------------------------------------


def order(subject: Subject) -> list[Finding]:
    """Whether the order of the examples matters."""
    form = subject.form
    z, y = form.predictions(), form.targets()
    turn = np.random.default_rng(6).permutation(form.examples)
    zs = np.stack([z, np.take(z, turn, form.axis)])
    value = subject.measure(zs, np.stack([y, np.take(y, turn, 0)])).value
    off = abs(value[1] - value[0]) / max(abs(value[0]), 1e-30)
    if off > 1e-3:
        return [
            note(
                "order",
                "the order of the examples matters",
                f"{value[0]:.5g}, in another order {value[1]:.5g}",
                "if the first half and the second are pairs, all is well; else shuffle",
            )
        ]
    return [ok("order", "the order of the examples does not matter")]


def compiles(subject: Subject) -> list[Finding]:
    """Whether it means the same with and without jit."""
    found = list(subject.findings)
    if subject.mode == "compiled":
        z, y = subject.form.predictions(), subject.form.targets()
        jitted = subject.measure(z[None], y).value[0]
        plain = _forms.value(subject.loss, subject.form, z, y)
        if abs(jitted - plain) > 1e-3 * (abs(plain) + 1e-3):
            found.append(
                Finding(
                    "jit",
                    "compiled it is another number: it keeps state, or draws at random",
                    f"{jitted:.6g} under jit and vmap, {plain:.6g} without",
                    "pass state and random keys as arguments",
                )
            )
    return found or [ok("jit", "the same under jit and vmap")]


def gradient(subject: Subject) -> list[Finding]:
    """Whether the gradient is that of the value, by finite differences."""
    form, y = subject.form, subject.form.targets()
    classified = form.kind in ("binary", "multilabel", "multiclass")
    if subject.mode == "values" or (classified and jumps(subject)):
        return []
    many = 16
    rng = np.random.default_rng(7)
    z = np.stack([form.predictions(10 + i) for i in range(many)]).astype(np.float64)
    along = rng.normal(size=z.shape)
    slopes = (subject.measure(z, y).gradient * along).reshape(many, -1).sum(1)
    if not slopes.any() or not np.isfinite(slopes).all():
        return []
    tries = []
    for step in (0.02, 0.004):  # the smaller one for steep losses, the larger for flat ones
        ahead, behind = (subject.measure(z + s * step * along, y).value for s in (1, -1))
        measured = (ahead - behind) / (2 * step)
        noise = 1e-6 * np.abs(ahead).max() / step
        power = (measured**2).sum()
        if np.isfinite(measured).all() and power > many * noise**2:
            fit = float((slopes * measured).sum() / power)
            residual = float(np.sqrt(((slopes - fit * measured) ** 2).sum() / power))
            tries.append((abs(fit - 1) + residual, fit, residual))
    if not tries:
        return []
    _, fit, residual = min(tries)
    evidence = f"gradient / finite difference = {fit:.3g}, scatter {residual:.2g}, {many} batches"
    if abs(fit - 1) < 0.05 and residual < 0.25:
        return [ok("gradient", evidence)]
    if subject.jaxpr is not None and "stop_gradient" in str(subject.jaxpr):
        return [
            note(
                "gradient",
                "its gradient is not that of its value: a stop_gradient stands between",
                evidence,
                "do not read its value as progress; watch what it stands for",
            )
        ]
    return [
        Finding(
            "gradient",
            "its gradient is not that of its value: a custom derivative is wrong, or something is "
            "rounded or compared on the way",
            evidence,
            "check the custom_vjp or custom_jvp with jax.test_util.check_grads",
        )
    ]


def second(subject: Subject) -> list[Finding]:
    """Whether a second derivative exists and is finite."""
    if subject.mode != "compiled":
        return []
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
        return [
            note(
                "second",
                "it has no second derivative: a custom_vjp allows one derivative only",
                said(error),
                "write the rule as a custom_jvp",
            )
        ]
    if not np.isfinite(bend).all():
        return [
            note(
                "second",
                "its second derivative is not finite everywhere",
                f"{(~np.isfinite(bend)).mean():.0%} of the entries, at logits 0 to 100",
                "first-order training is not affected; L-BFGS, Laplace and influence are",
            )
        ]
    return [ok("second", "the second derivative is finite")]


def targets(subject: Subject) -> list[Finding]:
    """Whether labels that are learnt, or come from a teacher, get a finite gradient."""
    form = subject.form
    classified = form.kind in ("binary", "multilabel", "multiclass")
    if subject.mode != "compiled" or form.labels not in ("binary", "one-hot") or not classified:
        return []
    z, y = form.predictions(), form.targets()
    hard_and_soft = np.stack([y, 0.8 * y + 0.1])
    slope = jax.jit(jax.vmap(jax.grad(subject.one, argnums=1), in_axes=(None, 0)))
    with quiet():
        of_hard, of_soft = np.asarray(slope(z, hard_and_soft))
    if np.isfinite(of_hard).all() and np.isfinite(of_soft).all():
        return [ok("targets", "the gradient in the labels is finite, at 0 and 1 too")]
    bad = y[~np.isfinite(of_hard)]
    return [
        note(
            "targets",
            "its gradient in the labels is not finite, so labels cannot be learnt or distilled",
            f"{(~np.isfinite(of_hard)).mean():.0%} of them not finite, at labels "
            + ", ".join(f"{b:g}" for b in np.unique(bad))
            if bad.size
            else "at labels between 0 and 1",
            "a jnp.where inside the logarithm too, on its argument (double where)",
        )
    ]


MANY = 2**18


def dtype(subject: Subject) -> list[Finding]:
    """Whether a large batch in float16 or bfloat16 has the loss of the same numbers in float32."""
    form = subject.form
    if subject.mode != "compiled" or form.labels not in ("binary", "ids", "one-hot"):
        return []
    if form.kind not in ("binary", "multilabel", "multiclass"):
        return []
    per = int(np.prod(form.shape[1:])) if form.kind != "multiclass" else 1
    count = MANY // per
    if form.kind == "multiclass":
        y = (np.arange(count) % _forms.CLASSES).astype(np.int32)
        z = np.where(y[:, None] == np.arange(_forms.CLASSES), 1.0, -1.0)
        y = y if form.labels == "ids" else np.eye(_forms.CLASSES, dtype=np.float32)[y]
    else:
        y = np.tile(form.targets(), (count // form.shape[0] + 1, *[1] * (len(form.shape) - 1)))
        y = y[:count]
        y = np.maximum(y, np.roll(y, 1, -1) if y.ndim > 1 else np.roll(y, 1))
        z = 2.0 * y - 1.0
    z = z.astype(np.float32)

    def each(z: jax.Array, y: jax.Array) -> Any:
        return [subject.one(z.astype(d), y) for d in (jnp.float32, jnp.float16, jnp.bfloat16)]

    try:
        with quiet():
            traced = jax.make_jaxpr(each)(z, y)
            largest = max(int(np.prod(s)) for s in intermediate_shapes(traced.jaxpr))
            if largest > 64 * z.size:
                return []  # all pairs: a large batch is not what it is made for
            exact, half, brain = map(float, jax.jit(each)(z, y))
    except CONCRETE:
        return []
    except Exception as error:
        return [
            note(
                "dtype",
                "it does not take float16 or bfloat16 predictions",
                said(error),
                "cast the logits to float32 before the loss",
            )
        ]
    found = []
    for name, value in (("float16", half), ("bfloat16", brain)):
        off = abs(value - exact) / max(abs(exact), 1e-6)
        if not off < 0.05:
            lost = not np.isfinite(value) or off > 0.5
            found.append(
                Finding(
                    "dtype",
                    f"it counts in {name}: a large batch overflows or stops counting",
                    f"{count} examples at logits +-1: {value:.4g}, in float32 {exact:.4g}",
                    "cast the logits to float32 before the loss",
                    "defect" if lost else "note",
                )
            )
    return found or [ok("dtype", f"{count} examples in float16 and bfloat16 as in float32")]
