"""Whether logits and labels are what they are taken for, where no loss says what it takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator

import jax.numpy as jnp
import numpy as np

from diffmetrics.diagnose._batch import BOTH, DECISIONS, Batch
from diffmetrics.diagnose._inputs import (
    COUNT_FROM_0,
    FEW,
    MARKS,
    from_one,
    graded,
    like_percentages,
    like_probabilities,
    look_of,
    mark,
    one_sided,
    seem_from_one,
    swapped,
    unlike_probabilities,
    values_of,
)
from diffmetrics.diagnose._registry import PROBES, probe
from diffmetrics.diagnose._report import Finding, defect, note

# Of a batch that holds no numbers, or labels of one kind; and of what is not what it should be.
ANYTIME = ("inputs", "finite", "spread", "saturated", "prevalence")
IN_ANY_CASE = ("inputs", "finite", "spread", "prevalence", "masks", "ranking")
AGAIN = "then ask again, for threshold, prior and calibration of it are not judged"
CLASSES = 3  # so many that exactly one positive in every row is no chance


@probe("inputs", BOTH, rank=3)
def inputs(batch: Batch) -> list[Finding]:
    """Whether labels are 0/1, probabilities or ids, and logits are no probabilities."""
    exchanged = swapped(batch.logits, batch.labels)
    if exchanged is not None:
        return [exchanged]
    of_labels = _of_decisions if batch.kind == DECISIONS else _of_ids
    found = (next(of_labels(batch), None), _of_logits(batch))
    return [finding for finding in found if finding is not None]


def answerable(batch: Batch) -> Collection[str]:
    """The probes that it can be asked.

    Of logits that are no numbers, or all of a kind, few; and what is found of those that are no
    logits, or of wrong labels, would be a consequence.
    """
    if not batch.is_complete:
        return ANYTIME
    logits = _of_logits(batch)
    wrong = [found for found in inputs(batch) if found.status == "defect"]
    return IN_ANY_CASE if logits or wrong else PROBES[batch.kind]


def _of_logits(batch: Batch) -> Finding | None:
    """What logits are that are none."""
    found = like_probabilities(batch.logits, batch.labels) or _percentages(batch)
    return found and dataclasses.replace(found, advice=f"{found.advice}; {AGAIN}")


def _percentages(batch: Batch) -> Finding | None:
    look = like_percentages(batch.logits)
    if look is None or batch.kind != DECISIONS:
        return None
    return note(f"logits {look.what}: none is below 0", look.why, "log(p / (1 - p)), p from 0 to 1")


def _of_decisions(batch: Batch) -> Iterator[Finding]:
    """What labels are that each belong to a logit."""
    y = batch.labels
    found = (_floating(y), _marked(batch), graded(y), _of_two_numbers(y))
    yield from (finding for finding in found if finding is not None)
    if y.ndim < 2 or y.shape[-1] < CLASSES or len(y) < FEW or not np.isin(y, (0, 1)).all():
        return
    if (y.sum(-1) == 1).all():
        yield note(
            "labels are one-hot, each row holds one 1: here every class is a decision of its own",
            f"{y.size // y.shape[-1]} rows of {y.shape[-1]} classes",
            "if the classes compete, as behind a softmax, give ids: labels.argmax(-1)",
        )


def _floating(labels: np.ndarray) -> Finding | None:
    """Floats that are no probabilities; of marks how to ask again, since there is no loss here."""
    found, other = unlike_probabilities(labels), mark(labels)
    if found is None or other is None:
        return found
    return dataclasses.replace(found, advice=_without(other))


def _without(mark: float) -> str:
    return f"known = labels != {mark:g}; ask again with logits[known], labels[known]"


def _marked(batch: Batch) -> Finding | None:
    """Integers of 0, 1 and another number."""
    y = batch.labels
    other = mark(y)
    if other is None:
        return None
    share, side = (y == other).mean(), "positive" if other > 0 else "negative"
    return note(
        f"{look_of(y).what}: here they count as {side}",
        f"{share:.2%} of {y.size} labels",
        _without(other),
    )


def _of_two_numbers(labels: np.ndarray) -> Finding | None:
    """Integers of which one is above 0, and which are yet not 0 and 1."""
    values = values_of(labels)
    if len(values) != 2 or set(values) == {0.0, 1.0} or jnp.issubdtype(labels.dtype, jnp.floating):
        return None
    if one_sided(labels) is not None:
        return None  # of which `prevalence` tells
    look, (low, high) = look_of(labels), values
    return note(
        f"{look.what}: here {high:g} counts as 1 and {low:g} as 0, and a loss that computes with "
        "these numbers takes them for something else",
        f"{labels.dtype} labels, {(labels > 0).mean():.2%} of them {high:g}",
        f"{look.advice}, in front of the loss",
    )


def _of_ids(batch: Batch) -> Iterator[Finding]:
    """What ids are that name no class."""
    y, number = batch.labels.astype(np.int64), batch.logits.shape[-1]
    outside = (y < 0) | (y >= number)
    if from_one(y, number):
        yield defect(
            f"class ids go from 1 to {number}, and are counted from 0 here: each example has the "
            f"class after its own, and there is no class {number}",
            f"of {y.size} labels none is 0, and {outside.sum()} are {number}",
            COUNT_FROM_0,
        )
    if not outside.any():
        return
    values, counts = np.unique(y[outside], return_counts=True)
    most = values[counts.argmax()]
    shown = f"{outside.sum()} of {y.size} labels, for {number} classes, 0 to {number - 1}"
    if most in MARKS:
        yield note(
            f"labels of {most} are taken as marks, and left out here",
            shown,
            "leave them out of the loss too",
        )
    else:
        cause = f"labels of {most} name no class, and are left out here"
        asked = seem_from_one(y, number)
        yield note(cause, shown, f"{asked}check the labels, and the number of outputs")
