"""The probe of a mask: padding must not matter, and what is left must be all that counts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from diffmetrics.diagnose import _forms, _programs
from diffmetrics.diagnose._forms import CLASSIFYING
from diffmetrics.diagnose._padding import Mask
from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, defect, note, ok
from diffmetrics.diagnose._subject import Measured, Subject

PER_ELEMENT = "multiply each element's loss by its mask, and divide the sum by the mask's sum"
HALF = "half of every sequence masked"
EMPTY = "divide by jnp.maximum({}, 1)"


class Padded(NamedTuple):
    """A batch of which the second half of every sequence is padding, and what the loss is of it.

    Attributes:
      mask: how the loss is told.
      kept: which of the elements are real.
      whole: the loss of the batch if nothing is padding.
      masked: the loss of the batch.
      predicted: with other predictions at padded places.
      labelled: with other labels there.
      sequence: if the first sequence is nothing but padding.
      nothing: if all is padding.
      finite: whether each of these six and its gradient are.
      real: the size of the gradient at real places.
      lost: at padded ones.
    """

    mask: Mask
    kept: np.ndarray
    whole: float
    masked: float
    predicted: float
    labelled: float
    sequence: float
    nothing: float
    finite: np.ndarray
    real: float
    lost: float


@probe("padding", (*CLASSIFYING, "regression", "counts"), rank=2.5, slow=True)
def padding(subject: Subject) -> Iterator[Finding]:
    """Whether what is marked as padding is left out, and only that."""
    if subject.form.mask is None or subject.mode != "compiled":
        return
    padded = _padded(subject, subject.form.mask)
    grave = _inverted(padded) or _counted(padded)
    if grave:
        yield grave
        return
    found = [*filter(None, (_shrunk(subject, padded), _empty(padded)))]
    places = f"where `{padded.mask.name}` is 0" if padded.mask.weighs else "at padded places"
    yield from found or [ok(f"what is predicted {places} does not matter")]


def _padded(subject: Subject, mask: Mask) -> Padded:
    form, z, y = subject.form, subject.form.predictions(), subject.form.targets()
    real = _real(mask.apart(np.ones(form.elements)).shape)
    kept = real[1].reshape(form.elements)
    other_z = np.where(_beside(kept, z), z, 2.0 - z).astype(np.float32)
    changed = 1 - y if form.decides else np.roll(y, 1, 0)
    other_y = np.where(_beside(kept, y), y, changed).astype(y.dtype)
    value, gradient = measured = _measured(
        subject,
        np.stack([z, z, other_z, z, z, z]),
        np.stack([y, y, y, other_y, y, y]),
        mask.of(real),
    )
    size = np.abs(gradient[1])
    at_real, at_padded = ((size * (_beside(kept, size) == some)).sum() for some in (True, False))
    return Padded(mask, kept, *value.tolist(), measured.finite, at_real, at_padded)  # type: ignore[call-arg]


def _real(shape: tuple[int, ...]) -> np.ndarray:
    """What is real in the six batches of `Padded`."""
    half = np.broadcast_to(np.arange(shape[-1]) < shape[-1] // 2, shape)
    without_first = half.copy()
    if len(shape) > 1:
        without_first[0] = False
    every, none = np.ones(shape, bool), np.zeros(shape, bool)
    return np.stack([every, half, half, half, without_first, none])


def _beside(kept: np.ndarray, array: np.ndarray) -> np.ndarray:
    """Which elements are real, in the shape of an array that may have classes."""
    return np.broadcast_to(kept.reshape(*kept.shape, *[1] * (array.ndim - kept.ndim)), array.shape)


def _measured(subject: Subject, z: np.ndarray, y: np.ndarray, masks: np.ndarray) -> Measured:
    """Loss and gradient of batches with their masks."""

    def one(z: jax.Array, y: jax.Array, mask: jax.Array) -> jax.Array:
        return _programs.total(subject.form.call(subject.loss, z, y, mask))

    results = _programs.jitted(jax.vmap(jax.value_and_grad(one)))(z, y, masks)
    return Measured(*(np.asarray(a, np.float64) for a in results))


def _same(a: float, b: float) -> bool:
    return bool(abs(a - b) <= 1e-4 * (abs(b) + 1e-3))


def _inverted(padded: Padded) -> Finding | None:
    mask = padded.mask
    if not mask.marks_padding or mask.says_padding:
        return None
    return defect(
        f"the mask is inverted: where `{mask.name}` is 1 the loss takes no notice, and where it is "
        "0, which is padding, it learns",
        f"gradient {padded.lost:.3g} where {mask.name} is 1, {padded.real:.3g} where it is 0",
        "multiply by the mask, not by 1 - mask; or call the argument `padding`",
    )


def _counted(padded: Padded) -> Finding | None:
    """Predictions or labels at padded places matter."""
    real, lost, name = padded.real, padded.lost, padded.mask.name
    matters = not _same(padded.predicted, padded.masked) or lost > 1e-6 * max(real, 1e-30)
    if not matters and _same(padded.labelled, padded.masked):
        return None
    cause, shown, what = "labels at padded places change the loss", padded.labelled, "labels"
    if matters:
        cause = (
            f"padding is learnt like real places: `{name}` is not used, or comes after a mean or "
            "sum over them"
        )
        shown, what = padded.predicted, "predictions"
    half = f"`{name}` of 0 at half of all places" if padded.mask.weighs else HALF
    evidence = (
        f"loss {padded.whole:.4g}, with {half} {padded.masked:.4g}, and {shown:.4g} with other "
        f"{what} there, which have {lost / max(real + lost, 1e-30):.0%} of the gradient"
    )
    if padded.mask.weighs:
        advice = f"right if `{name}` holds weights of classes; bind them with functools.partial"
        return note(f"`{name}` of 0 does not take an element out of the loss", evidence, advice)
    return defect(cause, evidence, PER_ELEMENT)


def _shrunk(subject: Subject, padded: Padded) -> Finding | None:
    """The loss is not that of the real examples alone."""
    alone = _alone(subject, padded)
    if not np.isfinite([alone, padded.masked]).all() or _same(padded.masked, alone):
        return None
    evidence = f"{HALF}: {padded.masked:.4g}; the other half alone: {alone:.4g}"
    each = _cost_of_a_zero(padded, alone)
    if each:
        cause = (
            f"every padded place costs log({each}), as a logit of 0 does: the mask multiplies the "
            "logits, and not the loss"
        )
        return defect(cause, evidence, PER_ELEMENT)
    if padded.mask.weighs:  # of weighed examples the mean may be over all
        return None
    if abs(padded.masked / alone - 0.5) > 1e-3:
        cause = "a masked batch has another loss than its real examples alone"
        return note(cause, evidence, PER_ELEMENT)
    cause = "its mean is over padding too: the more padding, the smaller are loss and gradient"
    return note(cause, evidence, f"{PER_ELEMENT}, unless its size shall not depend on the batch")


def _cost_of_a_zero(padded: Padded, alone: float) -> int:
    """Among how many classes a padded place is undecided, for which it pays; 0 if it does not."""
    lost = padded.kept.size - int(padded.kept.sum())
    more = padded.masked - alone
    paid = (padded.masked + more, more, more / lost)  # of a mean over all, over half, of a sum
    known = (2, _forms.CLASSES)
    return next((c for c in known for x in paid if abs(x - math.log(c)) < 1e-3), 0)


def _alone(subject: Subject, padded: Padded) -> float:
    """The loss of the real examples, as a batch without padding."""
    form, mask, kept = subject.form, padded.mask, padded.kept
    if mask.length:
        form = dataclasses.replace(form, mask=dataclasses.replace(mask, length=mask.length // 2))
    shape = (-1,) if kept.ndim == 1 else (len(kept), -1)
    z, y = form.predictions(), form.targets()
    z, y = (a[kept].reshape(*shape, *a.shape[kept.ndim :]) for a in (z, y))
    return _forms.value(subject.loss, form, z, y)


def _empty(padded: Padded) -> Finding | None:
    """Padding alone is 0/0."""
    weighs, name = padded.mask.weighs, padded.mask.name
    what = f"of which every `{name}` is 0" if weighs else "that is nothing but padding"
    if not padded.finite[4]:
        return (note if weighs else defect)(
            f"a sequence {what} makes the whole loss NaN: 0/0 in its own mean",
            f"value {padded.sequence:g} of a batch with one such sequence",
            EMPTY.format(f"{name}.sum(-1)"),
        )
    if padded.finite[5]:
        return None
    return note(
        f"a batch {what} is NaN: 0/0",
        f"value {padded.nothing:g}",
        EMPTY.format(f"{name}.sum()"),
    )
