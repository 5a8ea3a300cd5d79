"""Probe of the numbers that a loss takes by keyword: does each of them change anything?"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from diffmetrics.diagnose import _forms, _programs
from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, defect, note, ok
from diffmetrics.diagnose._subject import Subject, defaults

# What is a number, and no setting of the loss: of these it is no wonder that they change nothing.
OTHERS = re.compile(
    r"axis|dim|index|ignore|void|pad|value|fill|seed|eps|num|size|class|clip|max|min|limit"
)
# What is asked for in order to change the training.
ASKED = re.compile(r"weight|alpha|gamma|beta|temperature|smooth|margin|lambda|^w_|_w$")
# What is asked for in order to change the size of the loss.
SIZE = re.compile(r"loss|scale|scaling|factor|coef|lambda")
LEAST = 1e-3  # below, a number is there to keep a denominator from 0


@probe("keywords", rank=9.5, slow=True)
def keywords(subject: Subject) -> Iterator[Finding]:
    """What another value of each numeric keyword changes."""
    numbers = {name: v for name, v in defaults(subject.loss).items() if _is_setting(name, v)}
    before = _values(subject, numbers) if numbers else np.array([np.nan])
    if not np.isfinite(before).all():
        return
    working = []
    for name in numbers:
        found = _effect(subject, numbers, name, before)
        working += [] if found else [name]
        yield from [found] if found else []
    if working:
        yield ok(f"{', '.join(working)}: another value is another loss")


def _is_setting(name: str, value: Any) -> bool:
    if isinstance(value, bool) or OTHERS.search(name.lower()):
        return False
    if isinstance(value, int):
        return bool(ASKED.search(name.lower()))
    return isinstance(value, float) and (value == 0 or LEAST <= abs(value) < 1e4)


def _others(value: float) -> tuple[float, ...]:
    """Values that are sensible where this one is."""
    if isinstance(value, int):
        return (max(value, 0) + 1,)
    if value <= 0:
        return (0.3, 0.6)
    return (value / 2, (1 + value) / 2) if value < 1 else (value / 2, 2 * value)


def _values(subject: Subject, keywords: dict[str, Any]) -> np.ndarray:
    """The loss of batches that are small and large, near and far, with other values of keywords."""
    form, y = subject.form, subject.form.targets()
    batches = (0.1 * form.predictions(1), form.predictions(), 3 * form.predictions(2))
    sizes = form.predictions_of_sizes(np.array([30.0]), form.predictions(3))
    labels = (y, form.uneven(), y[np.random.default_rng(9).permutation(len(y))], y)
    z = (np.asarray(some, np.float32) for some in (*batches, *sizes))
    each = [*zip(z, labels, strict=True)]
    try:
        program = _program(subject)
        return np.array([float(program(*batch, keywords)) for batch in each])
    except Exception:  # it looks at the value of a keyword, or calls NumPy
        return np.array(_forms.values(functools.partial(subject.loss, **keywords), form, each))


@functools.lru_cache(4)
def _program(subject: Subject) -> Callable[..., Any]:
    """The loss of a batch and of keywords, of which other values are no other program."""

    def one(z: Any, y: Any, keywords: dict[str, Any]) -> Any:
        return _programs.total(subject.form.call(functools.partial(subject.loss, **keywords), z, y))

    return _programs.jitted(one)


def _effect(
    subject: Subject, numbers: dict[str, Any], name: str, before: np.ndarray
) -> Finding | None:
    """None if the loss is another one with another value of a keyword."""
    value = numbers[name]
    after = {other: _values(subject, numbers | {name: other}) for other in _others(value)}
    after = {other: some for other, some in after.items() if np.isfinite(some).all()}
    if not after:
        return None
    asked, size = bool(ASKED.search(name.lower())), np.abs(before) + 1e-6
    evidence = f"{name} = {value:g} and " + ", ".join(f"{other:g}" for other in after)
    if all((np.abs(some - before) < 1e-6 * size).all() for some in after.values()):
        return (defect if asked else note)(
            f"its {name} changes nothing",
            f"the same loss of four batches with {evidence}",
            "it is not used, or cancels: above and below a fraction, or divided by its own sum",
        )
    other, some = next(iter(after.items()))
    times = some / before
    alike = np.ptp(times) < 1e-4 * np.abs(times).max() and abs(times[0] - 1) > 1e-2
    if alike and not SIZE.search(name.lower()):
        return note(
            f"its {name} multiplies the loss as a whole: it weighs nothing against anything",
            f"{times[0]:.3g} times the loss with {name} = {other:g} for {value:g}",
            "a weight balances if it multiplies one class, or one of two terms",
        )
    added = some - before
    constant = np.ptp(added) < 1e-5 * size.max() < 1e-2 * np.abs(added).max()
    if constant and not subject.form.compares:
        return note(
            f"its {name} adds the same to every loss, and changes no gradient",
            f"{added[0]:+.3g} with {name} = {other:g} for {value:g}",
            "let it multiply what depends on the predictions",
        )
    return None
