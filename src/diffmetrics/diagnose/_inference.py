"""Which kind of loss is it? By its signature first, then by what a dry call does."""

from __future__ import annotations

import dataclasses

import numpy as np

from diffmetrics.diagnose import _forms
from diffmetrics.diagnose._forms import Form, Loss
from diffmetrics.diagnose._report import Finding, note
from diffmetrics.diagnose._subject import Subject


def subject(loss: Loss, kind: str | None) -> tuple[Subject, list[Finding]]:
    """The loss, compiled in the form that makes most sense of it, and what that took.

    Raises:
      TypeError: if the loss is not callable, or cannot be called as any of the kinds.
      ValueError: for an unknown kind.
    """
    if not callable(loss):
        raise TypeError(f"loss must be callable, got {type(loss).__name__}")
    if kind is not None and kind not in _forms.KINDS:
        raise ValueError(f"kind must be one of {', '.join(_forms.KINDS)}, got {kind!r}")
    tried: list[str] = []
    for some in [kind] if kind else _forms.candidates(loss):
        for form in _forms.forms(loss, some):
            reason = _forms.fits(loss, form)
            if reason is None:
                return _sensible(loss, form)
            tried.append(reason)
        if some in ("binary", "multilabel", "multiclass"):  # perhaps it refuses logits
            for form in _forms.forms(loss, some, probabilities=True):
                if _forms.fits(loss, form) is None:
                    return Subject(loss, form), [_refuses_logits(tried[-1])]
    raise TypeError(
        f"{_forms.name_of(loss)} cannot be called with any of the usual batches; pass kind=, or "
        "wrap it as f(logits, labels). Tried:\n  " + "\n  ".join(tried)
    )


def _sensible(loss: Loss, form: Form) -> tuple[Subject, list[Finding]]:
    """If logits make no sense, perhaps probabilities do, or the arguments in the other order."""
    first = Subject(loss, form)
    if form.kind in ("pair", "divergence") and not _is_finite(first):
        squeezed = _forms.forms(loss, form.kind, probabilities=True)[0]
        second = Subject(loss, squeezed)
        return (second, [_wants_probabilities(first)]) if _is_finite(second) else (first, [])
    if form.kind not in ("binary", "multilabel", "multiclass") or _learns(first):
        return first, []
    squeezed = next(
        f
        for f in _forms.forms(loss, form.kind, probabilities=True)
        if f.shape == form.shape and f.labels == form.labels
    )
    if _senseless(first) and _forms.fits(loss, squeezed) is None:
        second = Subject(loss, squeezed)
        if _learns(second):
            return second, [_wants_probabilities(first)]
    names = _forms.required(loss)
    if form.labels != "ids" and not {n.lower() for n in names} & _forms.LABELS:
        swapped = dataclasses.replace(
            form, call=lambda f, z, y: f(y, z), words="loss(labels, logits)"
        )
        if _forms.fits(loss, swapped) is None:
            third = Subject(loss, swapped)
            if _learns(third):
                return third, [
                    note(
                        "arguments",
                        "labels come first, predictions second",
                        "called as loss(logits, labels) its gradient makes no sense, the other "
                        "way round it does",
                        "name the arguments (y_true, y_pred), so that nobody mixes them up",
                    )
                ]
    return first, []


def _is_finite(subject: Subject) -> bool:
    value, gradient = subject.measure(subject.form.predictions()[None])
    return bool(np.isfinite(value).all() and np.isfinite(gradient).all())


WRONG = np.array([-6.0, -2.0, -1.0, -0.3])


def _pulls(subject: Subject) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where value and gradient are finite, the pull to the right side, and what is positive."""
    form, y = subject.form, subject.form.targets()
    hot = np.eye(_forms.CLASSES)[y] if form.labels == "ids" else y
    side = 2.0 * hot - 1.0
    value, gradient = subject.measure(WRONG.reshape(-1, *[1] * side.ndim) * side)
    finite = np.isfinite(value) & np.isfinite(gradient).reshape(len(value), -1).all(1)
    return finite, -gradient * side, hot == 1


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
    return note("inputs", "it takes probabilities, and refuses logits", reason)


def _wants_probabilities(as_logits: Subject) -> Finding:
    z, y = as_logits.form.predictions(), as_logits.form.targets()
    value, gradient = as_logits.measure(np.stack([3.0 * z]), y)
    finite = np.isfinite(value[0])
    dead = float((gradient[0] == 0).mean())
    what = f"it is {value[0]:.3g}"
    if finite:
        what = f"{dead:.0%} of the gradient is 0" if dead else "it pulls some to the wrong side"
    squeeze = "sigmoid" if as_logits.form.kind in ("binary", "multilabel") else "softmax"
    return note(
        "inputs",
        "it takes probabilities, not logits",
        f"of logits {what}; behind a {squeeze} it learns, and was probed so",
        "never give it logits; better: a loss that takes logits, which needs no clipping",
    )
