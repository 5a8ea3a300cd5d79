"""What tests ask the doctor, so that a loss costs them one compilation."""

from __future__ import annotations

import functools
from typing import Any

from diffmetrics import diagnose


def quick(kind: str) -> tuple[str, ...]:
    """Probes of one program, but for two that call the loss once more, without jit."""
    return tuple(probe for probe in diagnose.QUICK[kind] if probe not in ("jit", "shapes"))


@functools.lru_cache
def report(loss: Any, kind: Any, *more: str) -> diagnose.Report:
    """What these find, and more of the slow ones; one for all tests that ask the same."""
    probes = more if "jit" in more else (*quick(kind), *more)  # what is not compiled is slow
    return diagnose.loss(loss, kind=kind, probes=probes)
