"""Probes of what a loss computes on the way: activations and logarithms in the wrong place.

They do not read its text: an array inside of its program equals a sigmoid of a sigmoid, or it does
not.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from diffmetrics.diagnose._forms import CLASSIFYING, Form, parameters
from diffmetrics.diagnose._inside import Step, steps
from diffmetrics.diagnose._probes.tradeoffs import SURE
from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, defect, note, ok
from diffmetrics.diagnose._subject import Subject

BATCHES = 4


def _in_numpy(function: Callable[..., Any]) -> Callable[..., np.ndarray]:
    return lambda *x: np.asarray(function(*x), np.float64)


expit, softmax, log_softmax, logsumexp = map(
    _in_numpy, (jax.nn.sigmoid, jax.nn.softmax, jax.nn.log_softmax, jax.nn.logsumexp)
)


@functools.lru_cache(4)
def _seen(subject: Subject) -> tuple[np.ndarray, tuple[Step, ...]]:
    """Some predictions, and what the loss computes of them."""
    z = np.stack([2.0 * subject.form.predictions(20 + i) for i in range(BATCHES)])
    return z.astype(np.float64), tuple(steps(subject, z))


def _same(found: np.ndarray, expected: np.ndarray) -> bool:
    """Whether an array holds these numbers in any order, up to a sign."""
    if found.size != expected.size or not np.ptp(expected) > 1e-3:
        return False
    known = np.sort(expected.reshape(BATCHES, -1))
    return any(
        np.allclose(np.sort(x.reshape(BATCHES, -1)), known, rtol=2e-5, atol=2e-5)
        for x in (found, -found)
    )


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0.0, x)


def _of_sigmoid(form: Form, x: np.ndarray) -> Iterator[np.ndarray]:
    """What a loss with a sigmoid of x computes of it."""
    yield from (expit(x), expit(-x), _softplus(x), _softplus(-x), _softplus(-np.abs(x)))
    if form.decides:
        yield _softplus(-x * form.sides())


def _of_softmax(form: Form, x: np.ndarray) -> Iterator[np.ndarray]:
    """What a loss with a softmax of x computes of it."""
    if not form.decides:
        total = logsumexp(x, -1)
        yield from (softmax(x, -1), log_softmax(x, -1), total, total - x.max(-1))
        yield total - x[:, np.arange(form.examples), form.true]


OUTER = {"sigmoid": _of_sigmoid, "softmax": _of_softmax}


def _bounded(form: Form, z: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """What people have done to their logits before a loss that takes logits gets them."""
    yield "sigmoid", expit(z)
    yield "tanh", np.tanh(z)
    if not form.decides:
        p = softmax(z, -1)
        yield "softmax", p
        for x in (z, p) if form.probabilities else (z,):
            yield "scaling to length 1", x / np.linalg.norm(x, axis=-1, keepdims=True)


@probe("activation", CLASSIFYING, rank=3.5, slow=True)
def activation(subject: Subject) -> Finding | None:
    """Whether a sigmoid or softmax is taken of what is one already, or over the wrong axis."""
    z, found = _seen(subject)
    if not found:
        return None
    form, arrays = subject.form, [step.array for step in found]
    over_batch = (softmax(z, 1), log_softmax(z, 1)) if not form.decides else ()
    if any(_same(a, x) for x in over_batch for a in arrays):
        return defect(
            "its softmax runs over the examples of the batch, and not over the classes",
            "inside of it are probabilities that sum to 1 along axis 0, or their logarithms",
            "softmax(logits, axis=-1), which is the default",
        )
    if form.decides and any(_same(a, softmax(z, 1)) for a in arrays):
        return note(
            "its softmax runs over the examples of the batch, of which it ranks one above the "
            "others",
            "inside of it are probabilities that sum to 1 along axis 0",
            "right for the order of a list; for a decision on each example take a sigmoid",
        )
    for outer, computed in OUTER.items():
        for inner, squeezed in _bounded(form, z):
            if any(_same(a, x) for x in computed(form, squeezed) for a in arrays):
                return _squeezed(subject, inner, outer)
        name = "" if form.probabilities else _called(subject)
        if "prob" in name and any(_same(a, x) for x in computed(form, z) for a in arrays):
            return defect(
                f"it takes a {outer} of its argument {name}, so that it wants logits: of "
                f"probabilities every one lies {_between('softmax', outer)}",
                f"inside of it is the {outer} of what it was given",
                "pass logits, and call them so; or compute from the probabilities",
            )
    return ok("no activation is applied to what is activated already")


def _called(subject: Subject) -> str:
    """What the loss calls its predictions."""
    names = list(parameters(subject.loss))
    return names[subject.form.lead] if len(names) > subject.form.lead else ""


def _between(inner: str, outer: str) -> str:
    """Where probabilities lie that are an activation of a bounded number."""
    if outer == "softmax":
        return "far from 0 and 1"
    return f"between {0.27 if inner == 'tanh' else 0.5:g} and 0.73"


def _squeezed(subject: Subject, inner: str, outer: str) -> Finding:
    sides = subject.form.sides()
    perfect, hopeless = subject.measure(np.multiply.outer([3 * SURE, -3 * SURE], sides)).value
    if subject.form.probabilities and inner in OUTER:
        cause = f"it applies a {outer} to predictions that are probabilities already"
    elif inner == outer:
        cause = f"a {inner} is applied twice: its result is taken for a logit"
    else:
        cause = f"a {inner} stands before the {outer}: its result is taken for a logit"
    return defect(
        f"{cause}, so every probability lies {_between(inner, outer)}, whatever is predicted",
        f"a perfect prediction costs {perfect:.3g}, one that is wrong throughout {hopeless:.3g}",
        "give the loss the output of the last layer itself; or, if it is to take probabilities, "
        f"take its {outer} away",
    )


LARGE, SMALL = 5e-3, 5e-5


@probe("logarithm", CLASSIFYING, rank=11.5, slow=True)
def logarithm(subject: Subject) -> Finding | None:
    """Whether it is taken of a mean, or of a probability and a number that is not small."""
    z, found = _seen(subject)
    logs = [step.array for step in found if step.name == "log"]
    if not logs:
        return None
    probabilities = list(_probabilities(subject.form, z))
    right = probabilities[-1].reshape(BATCHES, -1)
    if any(_same(a, average) for a in logs for average in (right.mean(1), right.sum(1))):
        return defect(
            "it takes the logarithm of a mean, where the mean of logarithms is meant",
            "inside of it is the logarithm of the mean probability of the right class: one example "
            "that is surely right hides all that are wrong",
            "take the logarithm of every example's probability, then the mean",
        )
    added = max((_added(a, p) for a in logs for p in probabilities), default=0.0)
    if added < SMALL:
        return ok("it is taken of probabilities themselves, one by one")
    wrong = f"{math.log(1 / added):.2g}"
    # A shift that is meant, as that of the asymmetric loss, costs a perfect prediction nothing.
    (perfect,) = subject.measure(3 * SURE * subject.form.sides()[None]).value
    return (defect if added > LARGE and perfect < 0 else note)(
        f"it takes log(p + {added:.2g}), and {added:.2g} is not small: what is more surely wrong "
        "than that is hardly corrected",
        f"at p = {added:.2g}, a logit of -{wrong}, the gradient is half of what it should be, at "
        f"p = {added / 10:.1g} a tenth; no mistake costs more than {wrong}",
        "compute from logits (log_sigmoid, log_softmax), which needs no epsilon",
    )


def _probabilities(form: Form, z: np.ndarray) -> Iterator[np.ndarray]:
    """What logarithms are taken of; that of the right class last."""
    if form.decides:
        yield from (expit(z), expit(-z), expit(z * form.sides()))
    else:
        p = softmax(z, -1)
        yield from (p, expit(z), p[:, np.arange(form.examples), form.true])


def _added(found: np.ndarray, p: np.ndarray) -> float:
    """What an array has more than p, if it is the same everywhere, else 0."""
    if found.size != p.size:
        return 0.0
    more = np.sort(found.reshape(BATCHES, -1)) - np.sort(p.reshape(BATCHES, -1))
    return float(more.mean()) if np.ptp(more) < 2e-6 else 0.0
