"""What training steps of several sizes need on an accelerator: memory and arithmetic.

    python -m benchmarks.step_sizes h100         one NVIDIA H100
    python -m benchmarks.step_sizes v5e          one chip of a TPU v5e

The programs are compiled for the device, which need not be here, and never run. What they move is
told by `python -m benchmarks plan --steps`.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tyro
from rich.console import Console

from benchmarks import plan_report, report, steps
from diffmetrics.diagnose import _targets as targets
from experiments.shared import records
from experiments.ships import experiment as of_ships

CONSOLE = Console()
DTYPE = "bfloat16"  # what the experiments compute in on an accelerator


def ships(width: int, depth: int, batch_size: int, crop: int) -> steps.Training:
    """The step of the ships experiment at these settings; of the batch there is only its shape."""
    settings = of_ships.Settings(
        dtype=DTYPE, width=width, depth=depth, batch_size=batch_size, crop=crop
    )
    graph, state = of_ships.initialize(settings, 0)
    shape = (batch_size, crop, crop)
    batch: dict[str, Any] = {
        "image": jax.ShapeDtypeStruct((*shape, 3), jnp.uint8),
        "mask": jax.ShapeDtypeStruct(shape, jnp.bool_),
    }
    update = of_ships.make_update(graph, settings, steps.SHIPS_LOSS)
    return steps.Training(functools.partial(update, jnp.uint32(0)), state, batch)


SIZES: dict[str, Callable[[], steps.Training]] = {
    "ships, width 8, depth 3, 8 x 96²": lambda: ships(8, 3, 8, 96),
    "text, 50 x 24 words": lambda: steps.text(DTYPE, quick=True),
    "text, 512 x 64 words": lambda: steps.text(DTYPE),
    "speakers, width 128, 100 x 40 frames": lambda: steps.speakers(DTYPE, quick=True),
    "speakers, width 512, 256 x 200 frames": lambda: steps.speakers(DTYPE),
    "ships, width 16, depth 4, 8 x 128²": lambda: ships(16, 4, 8, 128),
    "ships, width 32, depth 4, 16 x 768²": lambda: ships(32, 4, 16, 768),
}


@dataclasses.dataclass(frozen=True)
class Size:
    """One compiled step."""

    name: str
    flops: float
    """Of the program as it is before a compiler has worked on it."""
    argument_mib: float | None = None
    temp_mib: float | None = None
    peak_mib: float | None = None
    libraries: Sequence[str] = ()
    """What the program calls and XLA did not make, such as cuDNN."""
    too_large: str = ""
    """What the compiler says where the device has too little memory; the figures are None then."""


def measured(name: str, device: Any) -> Size:
    """Compile one of `SIZES` for `device`."""
    training = SIZES[name]()
    state, batch = targets.abstract((training.state, training.batch), device)
    step = jax.jit(training.step)
    # XLA counts nothing for a card that is not here: arithmetic is counted for this processor.
    cost = step.lower(training.state, training.batch).cost_analysis()
    assert cost is not None
    try:
        compiled = step.lower(state, batch).compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return Size(name, cost["flops"], too_large=str(error).splitlines()[0])
    memory, text = compiled.memory_analysis(), compiled.as_text()
    assert memory is not None
    return Size(
        name,
        cost["flops"],
        memory.argument_size_in_bytes / 2**20,
        memory.temp_size_in_bytes / 2**20,
        memory.peak_memory_in_bytes / 2**20,
        sorted(set(re.findall(r'custom_call_target="([^"]+)"', text or ""))),
    )


def main(target: tyro.conf.Positional[str], out: Path = report.RECORDED) -> None:
    """Compile every step for TARGET.

    Args:
      target: h100, v5e, v6e or cpu.
      out: folder for the record.
    """
    jax.config.update("jax_platforms", "cpu")
    device = targets.device(target)
    path, found = out / f"step-sizes-{target}.json", list[Size]()
    headings = ("GFLOP", "arguments MiB", "temp MiB", "peak MiB")
    table = report.table_of(("training step",), headings)
    for name in SIZES:
        found.append(size := measured(name, device))
        figures = (size.flops / 1e9, size.argument_mib, size.temp_mib, size.peak_mib)
        table.add_row(size.name, *("too large" if f is None else f"{f:,.1f}" for f in figures))
        content = {"environment": plan_report.environment(target, device)}
        records.write_json(path, {**content, "steps": [dataclasses.asdict(s) for s in found]})
    report.whole(CONSOLE, table)
    CONSOLE.print(path, highlight=False)


if __name__ == "__main__":
    tyro.cli(main, args=sys.argv[1:], description=__doc__)
