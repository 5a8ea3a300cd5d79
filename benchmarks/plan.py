"""What an accelerator would do for every loss: programs are compiled for it and read, never run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import jax

from benchmarks import measure, peers as peers_, work
from benchmarks.losses import Loss
from benchmarks.peers import Function, Peers
from benchmarks.run import Group
from benchmarks.work import ARGUMENTS, Shape
from diffmetrics.diagnose import _targets as targets
from diffmetrics.diagnose._targets import Program


@dataclasses.dataclass(frozen=True)
class Row:
    """One loss on one workload in one type, beside its peers."""

    loss: str
    workload: str
    kind: str
    shape: Shape
    dtype: str
    forward: bool
    least: int
    """Bytes that nobody can avoid."""
    ours: Program
    peers: Mapping[str, Program]
    failed: Mapping[str, str]
    """Peers that are not counted, and why."""

    @property
    def name(self) -> str:
        return row_name(self.loss, self.workload, self.dtype)

    @property
    def ratio(self) -> float:
        return self.ours.bytes / self.least

    @property
    def best(self) -> tuple[str, float] | None:
        """The peer that moves the fewest bytes, over the least."""
        if not self.peers:
            return None
        name = min(self.peers, key=lambda peer: self.peers[peer].bytes)
        return name, self.peers[name].bytes / self.least


def row_name(loss: str, workload: str, dtype: str) -> str:
    """What --filter searches in, and by which --resume knows a row."""
    return f"{loss}/{workload}/{dtype}"


def dtypes(asked: str) -> list[str]:
    """The types that a comma-separated list names. Raises `ValueError`."""
    wanted = [name.strip() for name in asked.split(",")]
    if unknown := [name for name in wanted if name not in work.DTYPES]:
        raise ValueError(f"--dtypes: no {', '.join(unknown)}; there are {', '.join(work.DTYPES)}")
    return wanted


def in_jax(asked: str) -> str:
    """Of the peers that `asked` names those that XLA compiles. Raises `ValueError`."""
    return ",".join(name for name in peers_.names(asked) if not peers_.on_torch(name)) or "none"


def by_name(groups: Iterable[Group]) -> dict[str, tuple[Group, Loss]]:
    """Every row of the groups, under the name by which --resume knows it."""
    return {
        row_name(loss.label, group.workload.name, group.dtype): (group, loss)
        for group in groups
        for loss in group.losses
    }


def rows(
    wanted: Iterable[tuple[Group, Loss]],
    peers: Peers,
    device: Any,
    told: Callable[[str], None] = lambda _: None,
) -> Iterator[Row]:
    """Compile one row after the other for `device`."""
    for group, loss in wanted:
        told(f"{group.name}: {loss.label}")
        yield _row(group, loss, peers, device)


def _row(group: Group, loss: Loss, peers: Peers, device: Any) -> Row:
    arrays = shapes(group.kind, group.workload.shape, group.dtype, device)
    first = ARGUMENTS[group.kind][0]
    counted: dict[str, Program] = {}
    failed: dict[str, str] = {}
    for name, function in peers.of(loss.label).items():
        try:
            if unequal := _difference(loss, function, group.kind, arrays[first].shape, group.dtype):
                failed[name] = unequal
            else:
                counted[name] = program(function, arrays, first, forward=loss.forward_only)
        except Exception as error:  # whatever another library raises is its result
            failed[name] = f"{type(error).__name__}: {str(error).split(chr(10))[0]}"
    return Row(
        loss=loss.label,
        workload=group.workload.name,
        kind=group.kind,
        shape=group.workload.shape,
        dtype=group.dtype,
        forward=loss.forward_only,
        least=least(loss, arrays),
        ours=program(loss, arrays, first, forward=loss.forward_only),
        peers=counted,
        failed=failed,
    )


def least(loss: Loss, arrays: Mapping[str, Any]) -> int:
    """Bytes that must move: what is read, as often as it must be, and the gradient written."""
    read = [math.prod(x.shape) * x.dtype.itemsize for x in _positional(loss.kind, arrays)]
    return sum(read) if loss.forward_only else loss.readings * sum(read) + read[0]


def _positional(kind: str, arrays: Mapping[str, Any]) -> list[Any]:
    return [arrays[name] for name in ARGUMENTS[kind]]


def shapes(kind: str, shape: Shape, dtype: str, device: Any) -> dict[str, Any]:
    """The arrays of `work.draw` without their numbers: nothing of their size is made."""
    thin = (1,) * (len(shape) - 1) + shape[-1:]
    drawn = targets.abstract(work.draw(kind, thin, dtype), device)
    for name in ARGUMENTS[kind]:
        drawn[name] = drawn[name].update(shape=shape[: drawn[name].ndim])
    return drawn


def program(function: Function, arrays: Mapping[str, Any], first: str, *, forward: bool) -> Program:
    """Compile `function`, or it and its gradient in the array named `first`, for their device."""

    def of(x: jax.Array, rest: Mapping[str, Any]) -> jax.Array:
        return function(SimpleNamespace(**rest, **{first: x}))

    rest = {name: x for name, x in arrays.items() if name != first}
    return targets.compiled(of if forward else jax.value_and_grad(of), arrays[first], rest)


def _difference(loss: Loss, peer: Function, kind: str, shape: Shape, dtype: str) -> str | None:
    """How a peer differs from ours, asked of small arrays on the CPU."""
    small = tuple(min(n, 2**11 if len(shape) == 1 else 64) for n in shape)
    arrays, first = work.draw(kind, small, dtype), ARGUMENTS[kind][0]
    ours, theirs = (
        measure.compiled("", each, arrays, first, forward=loss.forward_only).result()
        for each in (loss, peer)
    )
    return measure.difference(ours, theirs, dtype)
