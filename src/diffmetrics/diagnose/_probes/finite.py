"""Probes of whether value and gradient are finite, asked alike of every kind.

On an ordinary batch, over the range of float32 and of narrower types, with labels of one class, and
where embeddings coincide.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffmetrics.diagnose._forms import Form
from diffmetrics.diagnose._probes.contracts import CAST, not_narrow
from diffmetrics.diagnose._programs import jitted
from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, defect, note, ok
from diffmetrics.diagnose._subject import Measured, Subject

SIZES = np.array(
    [0.0, 1.0, 10.0, 17.0, 20.0, 40.0, 60.0, 80.0, 88.0, 89.0, 100.0, 104.0, 150.0, 300.0, 1e3,
     1e4, 1e6, 1e10, 1e15, 1e20, 1e30, float(np.finfo(np.float32).max)]
)  # fmt: skip


GUARD = "put 1 in its place with a jnp.where before the operation, and 0 with another one after it"


@probe("finite", rank=13, slow=True)
def finite(subject: Subject) -> Iterator[Finding]:
    """Where value or gradient first stop being finite, over the range of float32 and narrower."""
    questions = (hopeless, _coincident, _out_of_reach, _narrow)
    found = next(filter(None, (question(subject) for question in questions)), None)
    broken = found is not None and found.status == "defect"
    told = [*filter(None, (found, None if broken else _zeros(subject)))]
    yield from told or [_fine(subject.form)]


def _fine(form: Form) -> Finding:
    what = f"every {_name(form)} up to {form.reach:g}"
    return ok(f"value and gradient are finite at {what} and every label")


def _name(form: Form) -> str:
    """What a prediction is."""
    if form.kind == "counts":
        return "log rate"
    return "logit" if form.classifies or form.kind == "divergence" else "prediction"


@functools.lru_cache(4)
def hopeless(subject: Subject) -> Finding | None:
    """An ordinary batch is too much for it already, so that nothing else can be asked."""
    z, form = subject.form.predictions()[None], subject.form
    value, gradient = subject.measure(z)
    if np.isfinite(value[0]) and np.isfinite(gradient[0]).any():
        return None
    if form.kind == "counts" and subject.measure(z, form.targets() + 1).finite.all():
        return _not_finite(subject, "counts of which some are 0", form.targets(), 1.0)
    return defect(
        "it is not finite on an ordinary batch",
        f"value {value[0]:g}, {(~np.isfinite(gradient)).mean():.0%} of the gradient not "
        f"finite, for {form.words} of normally distributed predictions",
        "if it wants other inputs, pass kind= or wrap it",
    )


def _coincident(subject: Subject) -> Finding | None:
    """Identical embeddings."""
    form = subject.form
    if not form.compares:
        return None
    same = np.broadcast_to(form.predictions()[:1], form.shape)
    measured = subject.measure(same[None])
    if measured.finite.all():
        return None
    return defect(
        "the slope of a distance is infinite where the distance is 0",
        f"value {measured.value[0]:g}, gradient not finite, for identical predictions",
        f"add a small number inside the root, or {GUARD}",
    )


def _zeros(subject: Subject) -> Finding | None:
    """Embeddings of nothing but zeros, which are rare: a dead layer makes them."""
    if not subject.form.compares:
        return None
    measured = subject.measure(np.zeros((1, *subject.form.shape)))
    if measured.finite.all():
        return None
    return note(
        "a vector of zeros is divided by its length: one of them makes every weight NaN",
        f"value {measured.value[0]:g}, gradient not finite, for predictions of all zeros",
        f"rare, as behind a ReLU that is dead; add a small number inside the root, or {GUARD}",
    )


def _signs(subject: Subject) -> np.ndarray:
    z = subject.form.predictions(2)
    return np.sign(z) + (z == 0)


def _sizes(form: Form) -> np.ndarray:
    """Sizes of predictions; vectors of zeros are a question of their own."""
    return SIZES[1:] if form.compares else SIZES


def _out_of_reach(subject: Subject) -> Finding | None:
    """The first labels with which predictions that training reaches are too large."""
    form = subject.form
    sizes = _sizes(form)
    sides = [form.sides(), -form.sides()] if form.decides else []
    batches = np.concatenate(
        [form.predictions_of_sizes(sizes, signs) for signs in (_signs(subject), *sides)]
    )
    for name, labels in form.labellings():
        fine = np.all(subject.measure(batches, labels).finite.reshape(-1, len(sizes)), axis=0)
        if not fine[form.reach >= sizes].all():
            return _not_finite(subject, name, labels, sizes[np.argmin(fine)])
    return None


def _not_finite(subject: Subject, name: str, labels: np.ndarray, reach: float) -> Finding:
    signs = np.sign(subject.form.predictions(2))
    value, gradient = subject.measure(
        subject.form.predictions_of_sizes(np.array([reach]), signs), labels
    )
    bad = gradient[~np.isfinite(gradient)]
    what, shown = "gradient", bad[0] if bad.size else np.nan
    if not np.isfinite(value[0]):
        what, shown = "value", value[0]
    empty = name not in ("any labels", "labels between 0 and 1") and reach <= 1.0
    cause, advice = _why(subject, reach, what, empty)
    where = f"from |{_name(subject.form)}| = {reach:g} on" if reach else "at any size"
    evidence = f"{what} {shown:g} {where}, for {name}"
    if _impossible(subject, labels, shown):
        return note(*IMPOSSIBLE, "take a Poisson likelihood if there are counts of 0")
    return defect(cause, evidence, advice)


IMPOSSIBLE = (
    "a count of 0 is impossible to it, as to a gamma likelihood: it costs infinity",
    "value inf for counts of which some are 0, finite if all are 1 or more",
)


def _impossible(subject: Subject, labels: np.ndarray, value: float) -> bool:
    """Whether infinity says that a count of 0 cannot be, as of a gamma likelihood."""
    if subject.form.kind != "counts" or not np.isinf(value):
        return False
    return bool(subject.measure(subject.form.predictions()[None], labels + 1).finite.all())


def _why(subject: Subject, reach: float, what: str, empty: bool) -> tuple[str, str]:
    """The likely cause, and what to do."""
    form = subject.form
    if empty and form.kind == "embedding":
        return (
            "0/0 in a batch that has no two of a kind, or no two of different kinds",
            f"{GUARD}; or draw two of every identity",
        )
    if form.kind == "counts":
        return (
            "a count of 0, or a rate that is next to 0, is put into a logarithm or a ratio",
            "jax.scipy.special.xlogy makes 0 * log 0 a 0; predict log rates, or add a little",
        )
    if empty:
        return (
            "0/0 where a class is empty: an ordinary batch without positives ends the training",
            f"add the same small number above and below, or {GUARD}",
        )
    if what == "gradient":
        return (
            "its gradient is not finite although its value is: a root or a denominator is 0 there, "
            "or a jnp.where hides an infinity, whose gradient is taken all the same",
            f"add a small number, or {GUARD}",
        )
    if form.compares:
        return (
            "a root, a power or a ratio that is not defined there",
            f"take the absolute value before an odd power; before a root or a ratio, {GUARD}",
        )
    if form.probabilities or reach <= 20:
        return (
            "the logarithm of a probability that float32 rounds to 0 or 1",
            "compute from logits (log_sigmoid, log_softmax)",
        )
    return (
        "an exponential is too large for float32, or too small to be divided by",
        "compute from logits (log_sigmoid, log_softmax), or clip the exponent",
    )


def _narrow(subject: Subject) -> Finding | None:
    """The same in float16 and bfloat16, which stop at 65,504 and at three digits."""
    if subject.mode != "compiled":
        return None
    # Squares of distances are to be what float16 can hold.
    form = subject.form
    sizes = _sizes(form)
    sizes = sizes[(20.0 if form.compares else 6e4) >= sizes].astype(np.float32)
    most = (10.0, form.reach) if form.kind == "counts" else (1e3, form.reach)

    # Labels are an argument, because XLA sorts and sums constants while it compiles, and slowly.
    def both(z: jax.Array, y: jax.Array) -> Any:
        differentiate = jax.value_and_grad(subject.one)
        return [differentiate(z.astype(d), y) for d in (jnp.float16, jnp.bfloat16)]

    try:
        batches = form.predictions_of_sizes(sizes, _signs(subject))
        results = jitted(jax.vmap(both, in_axes=(0, None)))(batches, form.targets())
    except Exception as error:
        return not_narrow(error)
    bad = []
    # A loss beyond 65,504 has no float16.
    for name, limit, result in zip(("float16", "bfloat16"), most, results, strict=True):
        fine = Measured(*(np.asarray(a, np.float32) for a in result)).finite
        lost = sizes[~fine & (sizes <= limit)]
        bad += [f"{name} from |{_name(form)}| = {lost.min():g} on"] if lost.size else []
    if not bad:
        return None
    cause = "in float16 or bfloat16 it is not finite, though it is in float32"
    return note(cause, "not finite in " + ", in ".join(bad), CAST)
