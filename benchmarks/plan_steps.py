"""Whole training steps of the experiments, compiled for a device that need not be here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
from rich.console import Console

from benchmarks import report, steps
from benchmarks.run import expression
from diffmetrics.diagnose import _targets as targets
from diffmetrics.diagnose._targets import Program


@dataclasses.dataclass(frozen=True)
class Step:
    """One training step, from a batch on the device to new parameters."""

    name: str
    dtype: str
    batch: Mapping[str, Sequence[int]]
    program: Program | None
    refused: str | None = None
    """Why there is none: what the compiler says."""


def choose(dtypes: Iterable[str], pattern: str = "") -> list[tuple[str, str]]:
    """Names and types of the steps whose ``name/type`` holds the regular expression.

    Raises:
      ValueError: if it is none, or nothing matches; what exists is listed.
    """
    every = [(name, dtype) for dtype in dtypes for name in steps.STEPS]
    found = [each for each in every if expression(pattern).search("/".join(each))]
    if not found:
        exist = ", ".join(map("/".join, every))
        raise ValueError(f"--filter {pattern!r} matches no step; there are {exist}")
    return found


def compiled(
    wanted: Iterable[tuple[str, str]], device: Any, told: Callable[[str], None] = lambda _: None
) -> Iterator[Step]:
    """Compile one step after the other for `device`."""
    for name, dtype in wanted:
        told(f"training step: {name}, {dtype}")
        yield _step(name, dtype, steps.STEPS[name](dtype), device)


def _step(name: str, dtype: str, training: steps.Training, device: Any) -> Step:
    shapes = {key: x.shape for key, x in training.batch.items()}
    state, batch = targets.abstract((training.state, training.batch), device)
    try:
        return Step(name, dtype, shapes, targets.compiled(training.step, state, batch))
    except jax.errors.JaxRuntimeError as error:  # a library that is not here, say
        return Step(name, dtype, shapes, None, str(error).partition("\n")[0])


def record(
    environment: Mapping[str, Any], options: Mapping[str, Any], found: Sequence[Step]
) -> dict[str, Any]:
    """Everything that is known of the steps, in plain types."""
    return {
        "environment": dict(environment),
        "options": dict(options),
        "steps": [dataclasses.asdict(step) for step in found],
    }


def print_steps(console: Console, found: Sequence[Step]) -> None:
    """A table, and which steps no program was made of."""
    headings = ("GB moved", "kernels", "memory MiB", "of it temp", "compile s")
    table = report.table_of(("training step",), headings)
    for step in found:
        if program := step.program:
            table.add_row(
                f"{step.name}, {step.dtype}",
                f"{program.bytes / 1e9:.2f}",
                str(program.kernels),
                f"{program.memory_bytes / 2**20:.1f}",
                f"{program.temp_bytes / 2**20:.1f}",
                f"{program.compile_s:.1f}",
            )
    report.whole(console, table)
    for step in found:
        if step.refused:
            console.print(f"refused: {step.name}, {step.dtype}: {step.refused}", markup=False)
