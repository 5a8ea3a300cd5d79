"""Labels that name no class, or mark what is to be left out: does the loss leave it out?"""

from __future__ import annotations

import numpy as np

from diffmetrics.diagnose._inputs import (
    COUNT_FROM_0,
    MARKS,
    from_one,
    left_out,
    look_of,
    mark,
    seem_from_one,
)
from diffmetrics.diagnose._probes._asked import Asked
from diffmetrics.diagnose._probes.own_reduction import is_scalar, summed
from diffmetrics.diagnose._report import Finding, defect, note


def unnamed(asked: Asked) -> Finding | None:
    """Ids that name none of the classes."""
    if asked.decides or asked.known.all() or not asked.known.any() or not asked.classifies:
        return None
    y, number = np.asarray(asked.y).astype(np.int64), asked.z.shape[-1]
    if from_one(y, number):
        return _from_one(number, y, asked)
    values, counts = np.unique(y[~asked.known], return_counts=True)
    most = float(values[counts.argmax()])
    shown = f"{counts.sum()} of {y.size} labels, for {number} classes, 0 to {number - 1}"
    does = _what_is_done(asked)
    named = f"labels of {most:g} mark what is to be left out" if most in MARKS else ""
    named = named or f"labels of {most:g} name no class"
    advice = left_out(most) if most in MARKS else f"{seem_from_one(y, number)}check the labels"
    if does:
        return defect(f"{named}, and {does}", shown, advice)
    if most in MARKS:
        return averaged(asked, most)
    return note(f"{named}, and the loss leaves them out without a word", shown, advice)


def _from_one(number: int, y: np.ndarray, asked: Asked) -> Finding:
    does = _what_is_done(asked) or "the loss leaves them out without a word"
    return defect(
        f"class ids go from 1 to {number}, and the loss counts from 0: each example is taught the "
        f"class after its own, and there is no class {number}",
        f"of {y.size} labels none is 0, and {(y == number).sum()} are {number}: {does}",
        COUNT_FROM_0,
    )


def _what_is_done(asked: Asked) -> str:
    """What becomes of labels that name no class, or nothing if the loss leaves them out."""
    seen = asked.batch.seen
    if not seen.finite and asked.look(asked.z, asked.hard).finite:
        return "they make the loss, or its gradient, NaN"
    slope = seen.slopes[0].reshape(asked.known.size, -1)[~asked.known.ravel()]
    pulled = np.unique(slope.argmin(1)[(slope < 0).any(1)])
    if not slope.any():
        return ""
    return f"the loss counts them as class {pulled[0]}" if pulled.size == 1 else "they are learnt"


def marked(asked: Asked) -> Finding | None:
    """A number beside 0 and 1."""
    if not asked.decides or asked.known.all() or not asked.classifies:
        return None
    y = np.asarray(asked.y)
    value = float(mark(y) or 0.0)
    slope = asked.batch.seen.slopes[0][~asked.known]
    if asked.batch.seen.finite and not slope.any():
        return averaged(asked, value)
    taken = "they get a gradient all the same"
    if asked.reads_signs:
        taken = f"the loss counts them as {'positive' if value > 0 else 'negative'}"
    shown = f"{(~asked.known).sum()} of {y.size} labels"
    return defect(f"{look_of(y).what}, and {taken}", shown, left_out(value))


def averaged(asked: Asked, value: float) -> Finding | None:
    """Whether what is left out is counted by the mean."""
    share, even = float(asked.known.mean()), asked.undecided
    here, there = (asked.look(even, labels).value for labels in (asked.y, asked.hard))
    off = abs(here - share * there)
    if share > 0.98 or off > 1e-3 * abs(there) or not is_scalar(asked.batch) or summed(asked.batch):
        return None
    return note(
        f"the mean counts what is ignored: labels of {value:g} cost nothing, and the sum is "
        "divided by the number of all, so that batches with much of it learn little",
        f"{1 - share:.1%} of the labels; at equal predictions {here:.4g}, {there:.4g} without",
        "divide by the number of the others: (losses * known).sum() / known.sum()",
    )
