"""How time and memory of each loss grow with the number of logits."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console

from benchmarks import measure, work
from benchmarks.losses import Loss
from benchmarks.measure import Patience
from benchmarks.report import table_of, whole
from benchmarks.work import ARGUMENTS
from experiments.shared.plots import BLUE, ORANGE, STYLE, save

# A size is left out if it would need more than this much memory or time for one run.
MOST_BYTES, MOST_SECONDS = 4 * 2**30, 10.0
UPPER = 3  # sizes that the exponent is fitted to: below them a call costs more than its work


@dataclasses.dataclass(frozen=True)
class Growth:
    """One loss at growing sizes."""

    loss: str
    n: tuple[int, ...]
    """Logits."""
    ms: tuple[float, ...]
    temp_mib: tuple[float | None, ...]
    stopped: str | None = None
    """Why larger sizes are missing."""

    @property
    def exponent(self) -> float | None:
        return exponent(self.n, self.ms)


def exponent(n: Sequence[int], y: Sequence[float]) -> float | None:
    """The slope of log y over log n at the upper sizes; None of a single size."""
    if len(n) < 2:
        return None
    return float(np.polyfit(np.log(n[-UPPER:]), np.log(y[-UPPER:]), 1)[0])


def grow(
    losses: Sequence[Loss], sizes: Sequence[int], patience: Patience, told: Callable[[str], None]
) -> Iterator[Growth]:
    """Measure value and gradient of each loss in float32; after Ctrl-C the loss in hand is lost."""
    for loss in losses:
        told(loss.label)
        yield _grow(loss, sizes, patience)


def _grow(loss: Loss, sizes: Sequence[int], patience: Patience) -> Growth:
    counts: list[int] = []
    ms: list[float] = []
    temps: list[float | None] = []
    stopped = None
    for n in sizes:
        if ms:
            slope = exponent(counts, ms)
            growth = (n / counts[-1]) ** (2.0 if slope is None else max(slope, 1.0))
            if ms[-1] / 1e3 * growth > MOST_SECONDS:
                stopped = f"n = {n:g} would take about {ms[-1] / 1e3 * growth:.0f} s"
                break
        shape = work.of_size(loss.kind, n).shape
        arrays = work.draw(loss.kind, shape, "float32")
        first = ARGUMENTS[loss.kind][0]
        runner = measure.compiled(loss.label, loss, arrays, first, forward=loss.forward_only)
        needed = runner.temp_bytes or 0
        if needed > MOST_BYTES:
            stopped = f"n = {n:g} would take {needed / 2**30:.1f} GiB"
            break
        counts.append(work.elements(shape))
        measure.warm_up(runner, patience)
        measure.in_turns([runner])
        ms.append(1e3 * statistics.median(runner.samples))
        temps.append(None if runner.temp_bytes is None else runner.temp_bytes / 2**20)
    return Growth(loss.label, tuple(counts), tuple(ms), tuple(temps), stopped)


def print_growth(console: Console, found: Sequence[Growth]) -> None:
    sizes = sorted({round(math.log10(n)) for growth in found for n in growth.n})
    headings = (*(f"1e{size}" for size in sizes), "exponent", "temp MiB")
    table = table_of(("loss",), headings, ("",))
    for growth in found:
        by_size = {round(math.log10(n)): t for n, t in zip(growth.n, growth.ms, strict=True)}
        slope, temp = growth.exponent, growth.temp_mib[-1] if growth.temp_mib else None
        table.add_row(
            growth.loss,
            *(f"{by_size[size]:.3g}" if size in by_size else "" for size in sizes),
            "-" if slope is None else f"{slope:.2f}",
            "?" if temp is None else f"{temp:.1f}",
            growth.stopped or "",
        )
    console.print("milliseconds at n logits, float32; temporary memory at the largest n")
    whole(console, table)


def record(
    environment: Mapping[str, Any],
    options: Mapping[str, Any],
    found: Sequence[Growth],
    *,
    complete: bool,
) -> dict[str, Any]:
    """Everything that a run found, in plain types."""
    return {
        "environment": dict(environment),
        "options": dict(options),
        "complete": complete,
        "losses": [{**dataclasses.asdict(g), "exponent": g.exponent} for g in found],
    }


def draw(content: Mapping[str, Any], path: Path) -> None:
    """Time over n of every loss, with a line of slope 1 for the eye; a panel for each."""
    found = content["losses"]
    columns = 5
    rows = -(-len(found) // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.4 * columns, 1.6 * rows + 0.4), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
        for panel, growth in zip(panels, found, strict=False):
            n, ms = np.array(growth["n"]), np.array(growth["ms"])
            panel.loglog(n, ms, "o-", color=BLUE, markersize=3)
            if len(n):
                panel.loglog(n, ms[-1] * n / n[-1], ":", color=ORANGE)
            slope = growth["exponent"]
            power = "" if slope is None else f"n^{slope:.2f}"
            panel.set_title(f"{growth['loss']}\n{power}", fontsize=6.5)
        for panel in panels[len(found) :]:
            panel.set_axis_off()
        figure.supxlabel("logits (dotted: proportional)", fontsize=9)
        figure.supylabel("ms", fontsize=9)
        save(figure, path)
