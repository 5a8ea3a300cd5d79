"""Probe of what a loss does with the number of examples: a mean, a sum, or a mean of a mean."""

from __future__ import annotations

import dataclasses

import numpy as np

from diffmetrics.diagnose import _dry, _forms
from diffmetrics.diagnose._forms import Form, Loss
from diffmetrics.diagnose._probes.contracts import halved
from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, note, ok
from diffmetrics.diagnose._subject import Subject


@probe("reduction", rank=17.5, slow=True)
def reduction(subject: Subject) -> Finding | None:
    """How the loss of the same batch twice over compares with that of the batch."""
    if subject.output_shape or subject.mode == "values" or not _adds_up(subject):
        return None  # what is left unreduced is the caller's to reduce
    once, twice = _of_twice(subject.loss, subject.form)
    times = twice / once if once else np.nan
    evidence = f"{once:.5g}, of the same batch twice over {twice:.5g}: {times:.3g} times"
    if subject.form.kind == "binary" and abs(times - 2) < 2e-3:
        # What sums over the last axis is no sum over examples that have several labels.
        apart = _of_twice(subject.loss, dataclasses.replace(subject.form, shape=(16, 4)))
        times = apart[1] / apart[0] if np.isfinite(apart[0]) else times
    if abs(times - 2) < 2e-3:
        return note(
            "it is a sum over the batch and not a mean: loss and gradient grow with the number of "
            "examples, and so the learning rate that fits shrinks",
            evidence,
            "divide by the number of examples, or tune the learning rate for each batch size",
        )
    if abs(times - 0.5) < 5e-4:
        return note(
            "it is divided by the number of examples twice: loss and gradient shrink as batches "
            "grow",
            evidence,
            "take the mean once: .mean() has divided already",
        )
    return ok(f"{times:.3g} times the loss for the same batch twice over") if times > 0 else None


def _of_twice(loss: Loss, form: Form) -> tuple[float, float]:
    """The loss of a batch, and of the batch twice over; NaN if it cannot be called so."""
    z, y = form.predictions(), form.targets()
    if _dry.refusal(loss, form):
        return np.nan, np.nan
    doubled = np.concatenate([z, z], form.axis), np.concatenate([y, y])
    return _forms.value(loss, form, z, y), _forms.value(loss, form, *doubled)


def _adds_up(subject: Subject) -> bool:
    """Whether examples do not know each other, as in a sum and in a mean."""
    whole, *halves = halved(subject).value
    return bool(abs(whole - np.mean(halves)) < 1e-4 * abs(whole))
