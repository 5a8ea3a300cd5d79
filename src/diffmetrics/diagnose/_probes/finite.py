"""Probes of whether value and gradient are finite, asked alike of every kind.

On an ordinary batch, over the range of float32 and of narrower types, with labels of one class, and
where embeddings coincide.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffmetrics.diagnose import _forms
from diffmetrics.diagnose._forms import quiet, said
from diffmetrics.diagnose._report import Finding, note, ok
from diffmetrics.diagnose._subject import Subject

SIZES = np.array(
    [0.0, 1.0, 10.0, 17.0, 20.0, 40.0, 60.0, 80.0, 88.0, 89.0, 100.0, 104.0, 150.0, 300.0, 1e3,
     1e4, 1e6, 1e10, 1e15, 1e20, 1e30, float(np.finfo(np.float32).max)]
)  # fmt: skip
DISTANCES = ("pair", "divergence", "triplet", "embedding")
# What training can reach: a logit beyond is a lost run whatever the loss does there.
REACHABLE = 1e4


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
