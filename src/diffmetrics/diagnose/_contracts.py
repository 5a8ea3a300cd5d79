"""Probes that ask the same of every kind: finite, attentive to labels, compiled, right slopes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffmetrics.diagnose import _forms
from diffmetrics.diagnose._forms import CONCRETE, quiet, said
from diffmetrics.diagnose._margins import jumps
from diffmetrics.diagnose._report import Finding, note, ok
from diffmetrics.diagnose._subject import Subject

SIZES = np.array(
    [0.0, 1.0, 10.0, 17.0, 20.0, 40.0, 60.0, 80.0, 88.0, 89.0, 100.0, 104.0, 150.0, 300.0, 1e3,
     1e4, 1e6, 1e10, 1e15, 1e20, 1e30, float(np.finfo(np.float32).max)]
)  # fmt: skip
DISTANCES = ("pair", "divergence", "triplet", "embedding")
# What training can reach: a logit beyond is a lost run whatever the loss does there.
REACHABLE = 1e4


# --- finite ---------------------------------------------------------------------------------------


def hopeless(subject: Subject) -> list[Finding]:
    """Whether an ordinary batch is too much for it already, so that nothing else can be asked."""
    value, gradient = subject.measure(subject.form.predictions()[None])
    if np.isfinite(value[0]) and np.isfinite(gradient[0]).any():
        return []
    return [
        Finding(
            "finite",
            "it is not finite on an ordinary batch",
            f"value {value[0]:g}, {(~np.isfinite(gradient)).mean():.0%} of the gradient not "
            f"finite, for {subject.form.words} of normal predictions",
            "if it wants other inputs, pass kind= or wrap it",
        )
    ]


def finite(subject: Subject) -> list[Finding]:
    """Where value or gradient first stop being finite, over the range of float32 and narrower."""
    form, y = subject.form, subject.form.targets()
    signs = np.sign(form.predictions(2)) + (form.predictions(2) == 0)
    found: list[Finding] = []
    if form.kind in DISTANCES:
        found += _coincident(subject)
    for name, labels in _labellings(subject) if not found else ():
        reach = _first_bad(subject, signs, labels)
        if form.kind in ("binary", "multilabel"):
            side = 2.0 * y - 1.0
            reach = min(reach, *(_first_bad(subject, s * side, labels) for s in (1, -1)))
        if reach <= REACHABLE:
            found.append(_not_finite(subject, name, reach))
            break
    if subject.mode == "compiled" and not found:
        found += _narrow(subject, signs)
    return found or [ok("finite", "value and gradient, at every logit up to 1e4 and every label")]


def _labellings(subject: Subject) -> Iterator[tuple[str, np.ndarray]]:
    form, y = subject.form, subject.form.targets()
    yield "any labels", y
    if form.labels == "ids" and form.kind == "embedding":
        yield "identities that are all different", np.arange(form.examples, dtype=np.int32)
        yield "one identity", np.zeros_like(y)
    elif form.labels == "ids":
        yield "labels of one class", np.zeros_like(y)
    elif form.labels == "one-hot":
        yield "labels of one class", np.eye(_forms.CLASSES, dtype=np.float32)[np.zeros(len(y), int)]
        yield "labels between 0 and 1", 0.7 * y + 0.075
    elif form.labels == "binary":
        yield "labels that are all 0", np.zeros_like(y)
        yield "labels that are all 1", np.ones_like(y)
        if form.kind != "pair":
            yield "labels between 0 and 1", 0.8 * y + 0.1


def _first_bad(subject: Subject, direction: np.ndarray, labels: np.ndarray) -> float:
    """The least size of logits at which value or gradient are not finite."""
    value, gradient = subject.measure(_scaled(subject, SIZES, direction), labels)
    bad = ~np.isfinite(value) | ~np.isfinite(gradient).reshape(len(value), -1).all(1)
    return float(SIZES[bad].min()) if bad.any() else np.inf


def _scaled(subject: Subject, sizes: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Predictions of many sizes; of a mean and its deviation the mean alone."""
    z = sizes.reshape(-1, *[1] * direction.ndim) * direction
    if subject.form.kind == "mean_scale" and not subject.form.raw_scale:
        z[:, 1] = 1.0
    return z


def _not_finite(subject: Subject, labels: str, reach: float) -> Finding:
    form = subject.form
    signs = np.sign(form.predictions(2))
    y = dict(_labellings(subject))[labels]
    value, gradient = subject.measure(_scaled(subject, np.array([reach]), signs), y)
    what = "value" if not np.isfinite(value[0]) else "gradient"
    shown = value[0] if what == "value" else gradient[~np.isfinite(gradient)]
    shown = shown if np.ndim(shown) == 0 else (shown[0] if len(shown) else np.nan)
    empty = labels not in ("any labels", "labels between 0 and 1") and reach <= 1.0
    if empty and form.kind == "embedding":
        cause = "0/0 in a batch that has no two of a kind, or no two of different kinds"
        advice = "make 0/0 a 0 with two jnp.where, or draw two of every identity"
    elif empty:
        cause = "0/0 where a class is empty: an ordinary batch without positives ends the training"
        advice = "give the ratio a prior, or make 0/0 a 0 with two jnp.where"
    elif what == "gradient":
        cause = (
            "its gradient is not finite although its value is: a denominator that vanishes, or the "
            "branch of a jnp.where that was not taken"
        )
        advice = "keep the denominator from 0 with a jnp.where on the argument (double where)"
    elif form.kind in DISTANCES:
        cause = "a root, a power or a ratio that is not defined there"
        advice = "an odd power wants an absolute value, a root and a ratio a guarded argument"
    elif form.probabilities or reach <= 20:
        cause = "the logarithm of a probability that float32 rounds to 0 or 1"
        advice = "compute from logits (log_sigmoid, log_softmax)"
    else:
        cause = "an exponential or its inverse leaves float32"
        advice = "compute from logits (log_sigmoid, log_softmax), and guard the ratio"
    return Finding(
        "finite", cause, f"{what} {shown:g} from |logit| = {reach:g} on, {labels}", advice
    )


def _narrow(subject: Subject, signs: np.ndarray) -> list[Finding]:
    """The same in float16 and bfloat16, which stop at 65,504 and at three digits."""
    y = subject.form.targets()
    distances = subject.form.kind in DISTANCES
    sizes = SIZES[(20.0 if distances else 6e4) >= SIZES]  # squares of which float16 can hold

    # Labels are an argument, because XLA sorts and sums constants while it compiles, and slowly.
    def both(z: jax.Array, y: jax.Array) -> Any:
        differentiate = jax.value_and_grad(subject.one)
        return [differentiate(z.astype(d), y) for d in (jnp.float16, jnp.bfloat16)]

    try:
        with quiet():
            some = _scaled(subject, sizes.astype(np.float32), signs)
            results = jax.jit(jax.vmap(both, in_axes=(0, None)))(some, y)
    except Exception as error:
        return [
            note(
                "finite",
                "it does not take float16 or bfloat16 predictions",
                said(error),
                "cast the logits to float32 before the loss",
            )
        ]
    bad = []
    for name, (value, gradient) in zip(("float16", "bfloat16"), results, strict=True):
        value, gradient = (np.asarray(a, np.float32) for a in (value, gradient))
        lost = ~np.isfinite(value) | ~np.isfinite(gradient).reshape(len(value), -1).all(1)
        # A loss beyond 65,504 has no float16.
        lost &= sizes <= (1e3 if name == "float16" else REACHABLE)
        if lost.any():
            bad.append(f"{name} from |logit| = {sizes[lost].min():g} on")
    if not bad:
        return []
    return [
        note(
            "finite",
            "in float16 or bfloat16 it is not finite, though it is in float32",
            "not finite in " + ", in ".join(bad),
            "cast the logits to float32 before the loss",
        )
    ]


def _coincident(subject: Subject) -> list[Finding]:
    """Identical, zero and far apart embeddings."""
    form = subject.form
    same = np.broadcast_to(form.predictions()[:1], form.shape)
    value, gradient = subject.measure(np.stack([same, 0 * same]))
    found = []
    for i, (name, cause) in enumerate(
        {
            "identical predictions": "the slope of a distance is infinite where the distance is 0",
            "predictions of all zeros": "a vector of zeros is divided by its length",
        }.items()
    ):
        if not (np.isfinite(value[i]) and np.isfinite(gradient[i]).all()):
            found.append(
                Finding(
                    "finite",
                    cause,
                    f"value {value[i]:g}, gradient not finite, for {name}",
                    "guard the argument of the root with a jnp.where (double where)",
                )
            )
            break
    return found


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
