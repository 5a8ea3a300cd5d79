"""What a loss moves and needs on a batch of the user's: arrays that nobody had to write."""

from __future__ import annotations

import functools
from typing import Any

import jax

from diffmetrics.diagnose import _cost, _counterparts, _targets
from diffmetrics.diagnose._cost import Cost
from diffmetrics.diagnose._forms import OWN, name_of
from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, note, ok
from diffmetrics.diagnose._subject import OwnBatch

# A loss of a whole set reads twice, and one that sorts or compares all pairs may have no choice.
MUCH, VERY_MUCH = 3.0, 10.0
LARGE = 2**20  # what is smaller lies in a cache, and costs nothing to speak of


@probe("cost", (OWN,), rank=30)
def cost(batch: OwnBatch) -> Finding | None:
    """How often over it moves what it must, and whether a loss of ours moves less."""
    found = _as_compiled(batch)
    if found is None:
        return None
    much = found.ratio > MUCH and found.least_bytes >= LARGE
    if much and not _counterparts.is_ours(batch.loss):
        found = _with_ours(batch)
        if found.ours:
            return _noted(
                found, f"{found.ours.loss} has {found.same}, and moves {found.ours.times}"
            )
        if found.ratio > VERY_MUCH:
            return _noted(
                found,
                "if it neither sorts nor compares all pairs, look for arrays that are written only "
                "to be read again; diagnose.cost tells of accelerators, which need not be here",
            )
    return ok(f"moves {found.times} the least bytes, {found.size}")


def _noted(found: Cost, advice: str) -> Finding:
    return note(
        f"it moves {found.times} the bytes of one reading of its inputs and one writing of its "
        "gradient",
        f"{found.size}, on {found.device}",
        advice,
    )


def _with_ours(batch: OwnBatch) -> Cost:
    z, y = batch.form.predictions(), batch.form.targets()
    call = functools.partial(batch.form.call, batch.loss)
    return _cost.cost(batch.loss, call, z, y, _cost.place())


def _as_compiled(batch: OwnBatch) -> Cost | None:
    """The cost of the program that is there already, if it is one, on one device, and readable."""
    program: Any = batch.program
    z, y = batch.form.predictions(), batch.form.targets()
    devices = set[Any]().union(*(x.devices() for x in jax.tree.leaves((z, y))))
    if batch.mode != "compiled" or len(devices) > 1:
        return None
    try:
        made = _targets.read(program.lower(z, y).compile())
    except Exception:  # a compiler whose programs nobody has read yet
        return None
    return _cost.read(name_of(batch.loss), _cost.title(*devices), made, z, y)
