"""Settings that mean nothing are named, with what was expected instead."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any


def require_within(settings: Any, **intervals: str) -> None:
    """Check that fields, or keys, lie in intervals such as ``"[0, 1)"``; None is left alone.

    Raises:
      ValueError: naming the first that does not, and where it should lie.
    """
    of = settings if isinstance(settings, Mapping) else vars(settings)
    for name, interval in intervals.items():
        value = of[name]
        low, high = map(float, interval[1:-1].split(","))
        if value is None or _within(value, low, high, interval):
            continue
        expected = f"lie in {interval}"
        if high == math.inf:
            expected = f"be at least {low:g}" if interval[0] == "[" else f"be above {low:g}"
        raise ValueError(f"{name} must {expected}, got {value}")


def _within(value: float, low: float, high: float, interval: str) -> bool:
    above = value >= low if interval[0] == "[" else value > low
    return above and (value <= high if interval[-1] == "]" else value < high)


def require_known(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Raise `ValueError` for names that are not known, and say which ones may be meant.

    Args:
      what: they are names of, such as "loss".
      names: that were asked for, at least one.
      known: all that there are.
    """
    names, known = list(names), list(known)
    if not names:
        raise ValueError(f"no {what} is named; there are {', '.join(known)}")
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=2)
            meant = f"did you mean {' or '.join(near)}? " if near else ""
            raise ValueError(f"no {what} is called {name}; {meant}there are {', '.join(known)}")
