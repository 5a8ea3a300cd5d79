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

from diffmetrics.diagnose._forms import quiet
from diffmetrics.diagnose._probes.contracts import not_narrow
from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, defect, note, ok
from diffmetrics.diagnose._subject import Measured, Subject

SIZES = np.array(
    [0.0, 1.0, 10.0, 17.0, 20.0, 40.0, 60.0, 80.0, 88.0, 89.0, 100.0, 104.0, 150.0, 300.0, 1e3,
     1e4, 1e6, 1e10, 1e15, 1e20, 1e30, float(np.finfo(np.float32).max)]
)  # fmt: skip
# What training can reach: a logit beyond is a lost run whatever the loss does there.
REACHABLE = 1e4


@probe("finite", rank=13, slow=True)
def finite(subject: Subject) -> Iterator[Finding]:
    """Where value or gradient first stop being finite, over the range of float32 and narrower."""
    found = hopeless(subject) or _coincident(subject) or _out_of_reach(subject) or _narrow(subject)
    yield found or ok("value and gradient, at every logit up to 1e4 and every label")


@functools.lru_cache(4)
def hopeless(subject: Subject) -> Finding | None:
    """An ordinary batch is too much for it already, so that nothing else can be asked."""
    value, gradient = subject.measure(subject.form.predictions()[None])
    if np.isfinite(value[0]) and np.isfinite(gradient[0]).any():
        return None
    return defect(
        "it is not finite on an ordinary batch",
        f"value {value[0]:g}, {(~np.isfinite(gradient)).mean():.0%} of the gradient not "
        f"finite, for {subject.form.words} of normal predictions",
        "if it wants other inputs, pass kind= or wrap it",
    )


def _coincident(subject: Subject) -> Finding | None:
    """Identical and zero embeddings."""
    form = subject.form
    if not form.compares:
        return None
    same = np.broadcast_to(form.predictions()[:1], form.shape)
    measured = subject.measure(np.stack([same, 0 * same]))
    causes = {
        "identical predictions": "the slope of a distance is infinite where the distance is 0",
        "predictions of all zeros": "a vector of zeros is divided by its length",
    }
    for (name, cause), value, fine in zip(
        causes.items(), measured.value, measured.finite, strict=True
    ):
        if not fine:
            return defect(
                cause,
                f"value {value:g}, gradient not finite, for {name}",
                "guard the argument of the root with a jnp.where (double where)",
            )
    return None


# --- large predictions ----------------------------------------------------------------------------


def _out_of_reach(subject: Subject) -> Finding | None:
    """The first labels with which predictions that training reaches are too large."""
    form = subject.form
    directions = [_signs(subject)]
    if form.decides:
        directions += [form.sides(), -form.sides()]
    for name, labels in form.labellings():
        reach = min(_first_bad(subject, direction, labels) for direction in directions)
        if reach <= REACHABLE:
            return _not_finite(subject, name, labels, reach)
    return None


def _signs(subject: Subject) -> np.ndarray:
    z = subject.form.predictions(2)
    return np.sign(z) + (z == 0)


def _first_bad(subject: Subject, direction: np.ndarray, labels: np.ndarray) -> float:
    """The least size of logits at which value or gradient are not finite."""
    bad = ~subject.measure(subject.form.of_sizes(SIZES, direction), labels).finite
    return float(SIZES[bad].min()) if bad.any() else np.inf


def _not_finite(subject: Subject, name: str, labels: np.ndarray, reach: float) -> Finding:
    signs = np.sign(subject.form.predictions(2))
    value, gradient = subject.measure(subject.form.of_sizes(np.array([reach]), signs), labels)
    bad = gradient[~np.isfinite(gradient)]
    what, shown = "gradient", bad[0] if bad.size else np.nan
    if not np.isfinite(value[0]):
        what, shown = "value", value[0]
    empty = name not in ("any labels", "labels between 0 and 1") and reach <= 1.0
    cause, advice = _why(subject, reach, what, empty)
    return defect(cause, f"{what} {shown:g} from |logit| = {reach:g} on, {name}", advice)


def _why(subject: Subject, reach: float, what: str, empty: bool) -> tuple[str, str]:
    """The likely cause, and what to do."""
    form = subject.form
    if empty and form.kind == "embedding":
        return (
            "0/0 in a batch that has no two of a kind, or no two of different kinds",
            "make 0/0 a 0 with two jnp.where, or draw two of every identity",
        )
    if empty:
        return (
            "0/0 where a class is empty: an ordinary batch without positives ends the training",
            "give the ratio a prior, or make 0/0 a 0 with two jnp.where",
        )
    if what == "gradient":
        return (
            "its gradient is not finite although its value is: a denominator that vanishes, or the "
            "branch of a jnp.where that was not taken",
            "keep the denominator from 0 with a jnp.where on the argument (double where)",
        )
    if form.compares:
        return (
            "a root, a power or a ratio that is not defined there",
            "an odd power wants an absolute value, a root and a ratio a guarded argument",
        )
    if form.probabilities or reach <= 20:
        return (
            "the logarithm of a probability that float32 rounds to 0 or 1",
            "compute from logits (log_sigmoid, log_softmax)",
        )
    return (
        "an exponential or its inverse leaves float32",
        "compute from logits (log_sigmoid, log_softmax), and guard the ratio",
    )


# --- narrower types -------------------------------------------------------------------------------


def _narrow(subject: Subject) -> Finding | None:
    """The same in float16 and bfloat16, which stop at 65,504 and at three digits."""
    if subject.mode != "compiled":
        return None
    # Squares of distances are to be what float16 can hold.
    sizes = SIZES[(20.0 if subject.form.compares else 6e4) >= SIZES]
    try:
        with quiet():
            fine = _fine_in_narrow(subject, sizes)
    except Exception as error:
        return not_narrow(error)
    bad = []
    # A loss beyond 65,504 has no float16.
    for name, fits, most in zip(("float16", "bfloat16"), fine, (1e3, REACHABLE), strict=True):
        lost = sizes[~fits & (sizes <= most)]
        if lost.size:
            bad.append(f"{name} from |logit| = {lost.min():g} on")
    if not bad:
        return None
    return note(
        "in float16 or bfloat16 it is not finite, though it is in float32",
        "not finite in " + ", in ".join(bad),
        "cast the logits to float32 before the loss",
    )


def _fine_in_narrow(subject: Subject, sizes: np.ndarray) -> list[np.ndarray]:
    """At which sizes value and gradient are finite, in float16 and in bfloat16."""

    # Labels are an argument, because XLA sorts and sums constants while it compiles, and slowly.
    def both(z: jax.Array, y: jax.Array) -> Any:
        differentiate = jax.value_and_grad(subject.one)
        return [differentiate(z.astype(d), y) for d in (jnp.float16, jnp.bfloat16)]

    some = subject.form.of_sizes(sizes.astype(np.float32), _signs(subject))
    results = jax.jit(jax.vmap(both, in_axes=(0, None)))(some, subject.form.targets())
    return [Measured(*(np.asarray(a, np.float32) for a in each)).finite for each in results]
