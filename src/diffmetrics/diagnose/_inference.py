"""Which kind of loss is it? By its signature first, then by what a dry call does."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffmetrics.diagnose._forms import (
    CLASSES,
    CLASSIFYING,
    DECIDING,
    KINDS,
    OWN,
    PAIRS,
    WIDTH,
    Form,
    Loss,
    OwnForm,
    name_of,
    quiet,
    said,
    shape_of,
    value,
)  # fmt: skip
from diffmetrics.diagnose._report import Finding, note
from diffmetrics.diagnose._subject import Subject

# The names under which the arguments of a loss go.
LABELS = {
    "label", "labels", "y", "y_true", "target", "targets", "truth", "true", "ground_truth", "mask",
    "masks", "ids", "expected",
}  # fmt: skip
SCALES = ("scale", "std", "sigma", "stddev", "deviation")


def subject(loss: Loss, kind: str | None) -> Subject:
    """The loss, compiled in the form that makes most sense of it.

    Raises:
      TypeError: if the loss is not callable, or cannot be called as any of the kinds.
      ValueError: for an unknown kind.
    """
    if not callable(loss):
        raise TypeError(f"loss must be callable, got {type(loss).__name__}")
    if kind is not None and kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    tried: list[str] = []
    for some in [kind] if kind else _candidates(loss):
        for form in _forms(loss, some):
            reason = _fits(loss, form)
            if reason is None:
                return _sensible(loss, form)
            tried.append(reason)
        if some in CLASSIFYING:  # perhaps it refuses logits
            for form in _forms(loss, some, probabilities=True):
                if _fits(loss, form) is None:
                    return Subject(loss, form, _refuses_logits(tried[-1]))
    raise TypeError(
        f"{name_of(loss)} cannot be called with any of the usual batches; pass kind=, or "
        "wrap it as f(logits, labels). Tried:\n  " + "\n  ".join(tried)
    )


def batch_form(loss: Loss, predictions: Any, labels: Any) -> Form:
    """The form of a batch of the user's: what `predictions` and `targets` give is that batch."""
    z, y = jax.tree.map(jnp.asarray, predictions), jnp.asarray(labels)
    shapes = [a.shape for a in jax.tree.leaves(z)]
    words = f"predictions {' and '.join(map(str, shapes))}, labels {y.shape} {y.dtype}"
    call = _labels_first if _labels_lead(_required(loss)) else _logits_first
    return OwnForm(OWN, shapes[0], call, "any", words=words, batch=(z, y))


# --- what makes sense ---------------------------------------------------------------------------


def _sensible(loss: Loss, form: Form) -> Subject:
    """If logits make no sense, perhaps probabilities do, or the arguments in the other order."""
    first = Subject(loss, form)
    makes_sense = _is_finite if form.kind in PAIRS else _learns
    if form.kind not in (*CLASSIFYING, *PAIRS) or makes_sense(first):
        return first
    for other, noticed in _others(first):
        if _fits(loss, other) is None:
            second = Subject(loss, other, noticed)
            if makes_sense(second):
                return second
    return first


def _others(first: Subject) -> Iterator[tuple[Form, Finding]]:
    """Forms that may make more sense, and what to say if they do."""
    loss, form = first.loss, first.form
    if form.kind in PAIRS or _senseless(first):
        for squeezed in _forms(loss, form.kind, probabilities=True):
            if (squeezed.shape, squeezed.labels) == (form.shape, form.labels):
                yield squeezed, _wants_probabilities(first)
    named = {name.lower() for name in _required(loss)} & LABELS
    if form.classifies and form.labels != "ids" and not named:
        swapped = dataclasses.replace(form, call=_labels_first, words="loss(labels, logits)")
        yield swapped, _labels_come_first()


def _is_finite(subject: Subject) -> bool:
    value, gradient = subject.measure(subject.form.predictions()[None])
    return bool(np.isfinite(value).all() and np.isfinite(gradient).all())


WRONG = np.array([-6.0, -2.0, -1.0, -0.3])


def _pulls(subject: Subject) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where value and gradient are finite, the pull to the right side, and what is positive."""
    side = subject.form.sides()
    value, gradient = subject.measure(WRONG.reshape(-1, *[1] * side.ndim) * side)
    finite = np.isfinite(value) & np.isfinite(gradient).reshape(len(value), -1).all(1)
    return finite, -gradient * side, side == 1


def _learns(subject: Subject) -> bool:
    """Every wrong prediction is pulled to the right side."""
    finite, pull, _ = _pulls(subject)
    return bool(finite.all() and (pull >= -1e-6 * np.abs(pull).max()).all() and (pull[1] > 0).all())


def _senseless(subject: Subject) -> bool:
    """Logits as such are the trouble: not finite, dead for both classes, or pulled astray."""
    finite, pull, positive = _pulls(subject)
    dead = all((pull[1][some] == 0).all() for some in (positive, ~positive))
    return bool(not finite.all() or dead or (pull < -1e-6 * np.abs(pull).max()).any())


def _refuses_logits(reason: str) -> Finding:
    return note("it takes probabilities, and refuses logits", reason)


def _labels_come_first() -> Finding:
    return note(
        "labels come first, predictions second",
        "called as loss(logits, labels) its gradient makes no sense, the other way round it does",
        "name the arguments (y_true, y_pred), so that nobody mixes them up",
    )


def _wants_probabilities(as_logits: Subject) -> Finding:
    value, gradient = as_logits.measure(3.0 * as_logits.form.predictions()[None])
    dead = float((gradient[0] == 0).mean())
    what = f"it is {value[0]:.3g}"
    if np.isfinite(value[0]):
        what = f"{dead:.0%} of the gradient is 0" if dead else "it pulls some to the wrong side"
    squeeze = "sigmoid" if as_logits.form.decides else "softmax"
    return note(
        "it takes probabilities, not logits",
        f"of logits {what}; behind a {squeeze} it learns, and was probed so",
        "never give it logits; better: a loss that takes logits, which needs no clipping",
    )


# --- signatures ---------------------------------------------------------------------------------


def _required(loss: Loss) -> list[str]:
    """Names of the positional arguments without a default; two nameless ones if nobody knows.

    Raises:
      TypeError: if the loss needs keywords, which the caller has to bind.
    """
    try:
        parameters = list(inspect.signature(loss).parameters.values())
    except (TypeError, ValueError):
        return ["", ""]
    free = [p for p in parameters if p.default is p.empty]
    keywords = [p.name for p in free if p.kind is p.KEYWORD_ONLY]
    if keywords:
        raise TypeError(
            f"{name_of(loss)} needs the keywords {', '.join(keywords)}: bind them, "
            f"functools.partial(loss, {keywords[0]}=...), or pass them on the command line, "
            f"--set {keywords[0]}=..."
        )
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names = [p.name for p in positional if p in free]
    if len(names) == 1 and len(positional) > 1:
        names.append(positional[1].name)  # (predictions, targets=None), as optax has it
    if any(p.kind is p.VAR_POSITIONAL for p in free) and len(names) < 2:
        return ["", ""]
    return names


def _labels_lead(names: list[str]) -> bool:
    """Whether the names say that labels come before predictions."""
    return len(names) > 1 and names[0].lower() in LABELS and names[1].lower() not in LABELS


# --- the forms of a kind ------------------------------------------------------------------------

BINARY_SHAPES = ((64,), (16, 4), (4, 4, 4), (4, 4, 4, 1), (2, 2, 4, 4, 1))


def _forms(loss: Loss, kind: str, *, probabilities: bool = False) -> list[Form]:
    """The ways in which a loss of this kind may be called, the likely ones first."""
    names = _required(loss)
    found = _forms_of(kind, names, "probabilities" if probabilities else "logits")
    if not probabilities:
        return found
    squeeze = jax.nn.sigmoid if kind in DECIDING else jax.nn.softmax
    return [
        dataclasses.replace(f, call=_behind(squeeze, f.call), probabilities=True) for f in found
    ]


def _forms_of(kind: str, names: list[str], what: str) -> list[Form]:
    lead = _labels_lead(names)
    plain = functools.partial(_plain, kind, lead)
    if kind in DECIDING:
        shapes = BINARY_SHAPES if kind == "binary" else BINARY_SHAPES[1:2]
        return [plain(shape, what, "binary") for shape in shapes]
    if kind == "multiclass":
        shape = (32, CLASSES)
        return [plain(shape, what, "ids", "ids"), plain(shape, what, "one-hot", "one_hot")]
    if kind == "regression":
        return [plain((64,), "predictions", "real")]
    if kind == "embedding":
        return [plain((16, WIDTH), "embeddings", "ids")]
    if kind == "mean_scale":
        return _scale_forms(names)
    if kind == "pair":
        words = "loss(same, a, b)" if lead else "loss(a, b, same)"
        return [_several(kind, lead, (2, 16, WIDTH), "binary", words)]
    if kind == "divergence":
        return [_several(kind, lead, (2, 16, WIDTH), "none", f"loss({what}_p, {what}_q)")]
    return [_several(kind, lead, (3, 16, WIDTH), "none", "loss(anchors, positives, negatives)")]


def _plain(
    kind: str, lead: bool, shape: tuple[int, ...], what: str, labels: str, called: str = "labels"
) -> Form:
    """A form of one array of predictions and one of labels."""
    words = f"loss({called}, {what})" if lead else f"loss({what}, {called})"
    return Form(kind, shape, _labels_first if lead else _logits_first, labels, words=words)


def _several(kind: str, lead: bool, shape: tuple[int, ...], labels: str, words: str) -> Form:
    """A form of several arrays of predictions, which are stacked on the first axis."""
    calls = {"none": lambda f, z, y: f(*z), True: lambda f, z, y: f(y, *z)}
    call = calls.get(labels) or calls.get(lead) or (lambda f, z, y: f(*z, y))
    return Form(kind, shape, call, labels, 1, words)


def _scale_forms(names: list[str]) -> list[Form]:
    """The ways in which a loss of a mean and its deviation may be called."""
    lead, shape = _labels_lead(names), (2, 64)
    if len(names) == 3:
        words = "loss(target, mean, scale)" if lead else "loss(mean, scale, target)"
        return [_several("mean_scale", lead, shape, "real", words)]
    call = _labels_first if lead else _logits_first
    make = functools.partial(Form, "mean_scale", shape, labels="real", axis=1)
    return [
        make(
            call=_behind(lambda z: jnp.moveaxis(z, 0, -1), call),
            words="loss(outputs [..., 2], target)",
            raw_scale=True,
        ),
        make(call=_behind(tuple, call), words="loss((mean, scale), target)"),
    ]


def _logits_first(loss: Loss, z: Any, y: Any) -> Any:
    """The call of a loss of predictions and labels."""
    return loss(z, y)


def _labels_first(loss: Loss, z: Any, y: Any) -> Any:
    """The call of a loss of labels and predictions."""
    return loss(y, z)


def _behind(step: Callable[[Any], Any], call: Any) -> Any:
    """A call of what `step` makes of the predictions."""
    return lambda loss, z, y: call(loss, step(z), y)


def _fits(loss: Loss, form: Form) -> str | None:
    """None if the loss can be called so, or what it raised."""
    try:
        with quiet():
            shape_of(loss, form, form.predictions(), form.targets())
    except Exception as error:
        return f"{form.words} with {form.shape}: {said(error)}"
    return None


def _kind_of_names(names: list[str]) -> str | None:
    """What the arguments' names and number say of the kind, if anything."""
    low = [n.lower() for n in names]
    if len(low) == 3:
        if any(n.startswith("anchor") for n in low):
            return "triplet"
        if any(word in n for n in low for word in SCALES):
            return "mean_scale"
        if not {low[0], low[2]} & LABELS:
            return "pair"
    if len(low) == 2:
        if low[0].startswith("embedding"):
            return "embedding"
        if low[0][-2:] == "_p" or set(low) == {"p", "q"}:
            return "divergence"
        if low[0] in ("outputs", "raw", "parameters") and "label" not in low[1]:
            return "mean_scale"
    return None


def _candidates(loss: Loss) -> Iterator[str]:
    """Kinds that the loss may be of, by its signature and by what it accepts and ignores."""
    names = _required(loss)
    named = _kind_of_names(names)
    if named:
        yield named
        return
    if len(names) == 3 and _is_scale(loss):
        yield "mean_scale"
        return
    if len(names) != 2:
        raise TypeError(
            f"{name_of(loss)} takes {len(names)} positional arguments ({', '.join(names)}); "
            "a loss takes predictions and labels, or a pair and whether it is the same: "
            "wrap it in a function of those"
        )
    if _is_scale(loss):
        yield "mean_scale"
    if _is_regression(loss):
        yield "regression"
    (ids, one_hot), (embedding,) = _forms(loss, "multiclass"), _forms(loss, "embedding")
    if _fits(loss, ids) is None:
        yield "embedding" if _only_compares(loss, embedding) else "multiclass"
    elif _fits(loss, one_hot) is None and _is_softmax(loss, one_hot):
        yield "multiclass"
    yield "binary"


def _same(a: float, b: float) -> bool:
    return bool(np.isfinite(a) and np.isfinite(b) and abs(a - b) <= 1e-4 * (1e-3 + abs(a)))


def _is_regression(loss: Loss) -> bool:
    """Moving predictions and targets together changes nothing, moving one of them does."""
    (form,) = _forms(loss, "regression")
    z, y = form.predictions() + 4.0, form.targets() + 4.0
    here = value(loss, form, z, y)
    moved = value(loss, form, z + 2.0, y)
    return _same(here, value(loss, form, z + 2.0, y + 2.0)) and not _same(here, moved)


def _is_scale(loss: Loss) -> bool:
    names = _required(loss)
    for form in _scale_forms(names):
        z, y = form.predictions(), form.targets() + 4.0
        z[0] += 4.0
        up = np.array([[2.0], [0.0]], np.float32)
        here = value(loss, form, z, y)
        if _same(here, value(loss, form, z + up, y + 2.0)) and not _same(
            here, value(loss, form, z + up, y)
        ):
            return True
    return False


def _only_compares(loss: Loss, form: Form) -> bool:
    """Other names for the same identities change nothing: what counts is who equals whom."""
    z, ids = form.predictions(), form.targets()
    return _same(value(loss, form, z, ids), value(loss, form, z, (ids + 1) % CLASSES))


def _is_softmax(loss: Loss, form: Form) -> bool:
    """Logits of an example may move together, each example by its own amount."""
    z, y = form.predictions(), form.targets()
    offsets = np.arange(form.examples, dtype=np.float32)[:, None] % 5.0
    here = value(loss, form, z, y)
    return _same(here, value(loss, form, z + offsets, y)) and not _same(
        here, value(loss, form, -z, y)
    )
