"""What was counted, as a table, as JSON, and as a chart that is drawn from the JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from rich.console import Console

from benchmarks import report
from benchmarks.plan import Row
from diffmetrics.diagnose import _targets as targets
from diffmetrics.diagnose._targets import Program
from experiments.shared.plots import BLUE


def environment(target: str, device: Any) -> dict[str, Any]:
    """What stands beside the figures: the compiler's version, not this machine's devices."""
    found = report.environment(device)
    return found | {"target": target, "versions": found["versions"] | targets.versions(target)}


# --- Table ----------------------------------------------------------------------------------------


def print_rows(console: Console, rows: Sequence[Row], absent: Sequence[str]) -> None:
    """A table for each group, who was not counted, and how many rows a peer does better."""
    for workload, dtype, shape in dict.fromkeys((r.workload, r.dtype, r.shape) for r in rows):
        title = f"\n[bold]{workload}, {dtype}[/bold], {' x '.join(map(str, shape))}"
        console.print(title, highlight=False)
        _print_group(console, [r for r in rows if (r.workload, r.dtype) == (workload, dtype)])
    for row in rows:
        for name, reason in row.failed.items():
            text = f"not counted: {name} {row.name}: {reason}"
            console.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)
    rivals = [row for row in rows if row.best]
    behind = sum(map(is_behind, rivals))
    console.print(f"\n{len(rows)} rows; in {behind} of {len(rivals)} a peer moves less")
    if absent:
        console.print(f"peers absent: {', '.join(absent)}", markup=False, highlight=False)


def is_behind(row: Row) -> bool:
    """Whether a peer moves less, by more than scalars here and there."""
    return row.best is not None and row.best[1] < 0.995 * row.ratio


def _print_group(console: Console, rows: Sequence[Row]) -> None:
    headings = ("x least", "MB", "kernels", "temp MiB", "compile s")
    table = report.table_of(("loss",), headings, ("peers, x least",))
    for row in rows:
        table.add_row(
            f"{row.loss}{' (value)' if row.forward else ''}",
            f"{'≥ ' if row.ours.endless else ''}{row.ratio:.2f}",
            f"{row.ours.bytes / 1e6:.1f}",
            str(row.ours.kernels),
            f"{row.ours.temp_bytes / 2**20:.1f}",
            f"{row.ours.compile_s:.1f}",
            ", ".join(f"{name} {x.bytes / row.least:.2f}" for name, x in row.peers.items()) or "-",
            style="yellow" if is_behind(row) else None,
        )
    report.whole(console, table)


# --- JSON -----------------------------------------------------------------------------------------


def record(
    environment: Mapping[str, Any],
    options: Mapping[str, Any],
    rows: Sequence[Row],
    *,
    whole: int,
) -> dict[str, Any]:
    """Everything that a run of `whole` rows has found so far, in plain types."""
    return {
        "environment": dict(environment),
        "options": dict(options),
        "complete": len(rows) == whole,
        "rows": [{**dataclasses.asdict(row), "ratio": row.ratio, "best": row.best} for row in rows],
    }


def read(path: Path, environment: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Row]:
    """The rows that a run has recorded at `path`, by name.

    Raises:
      ValueError: if it ran with other versions or options; the first that differs is named.
    """
    content = report.recorded(path, environment, options)
    return {row.name: row for row in map(_row, content["rows"])}


def _row(kept: Mapping[str, Any]) -> Row:
    values = {field.name: kept[field.name] for field in dataclasses.fields(Row)}
    programs = {name: Program(**program) for name, program in kept["peers"].items()}
    again = {"ours": Program(**kept["ours"]), "peers": programs, "shape": tuple(kept["shape"])}
    return Row(**values | again)


# --- Chart ----------------------------------------------------------------------------------------


def draw(content: Mapping[str, Any], path: Path) -> None:
    """The bytes over the least, ours and each peer's."""
    device = content["environment"]["device"]
    label = f"bytes between memory and chip over the least, {device}"
    report.draw_panels(content, path, _panel, label)


def _panel(panel: Axes, title: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Draw one workload in one type; what its legend needs."""
    places, ours = np.arange(len(rows)), [row["ratio"] for row in rows]
    panel.axvline(1.0, color="#333333", linewidth=0.9, zorder=0)
    lanes = dict(zip(report.COLORS, np.linspace(-0.3, 0.3, 4), strict=False))  # those in JAX
    panel.hlines(places, 1.0, ours, color=BLUE, linewidth=1.2, alpha=0.5)
    seen: dict[str, Any] = {"ours": panel.scatter(ours, places, s=26, color=BLUE)}
    for peer, color in report.COLORS.items():
        found = [(i, row) for i, row in enumerate(rows) if peer in row["peers"]]
        if found:
            x = [row["peers"][peer]["bytes"] / row["least"] for _, row in found]
            marks = {"s": 13, "color": color, "edgecolors": "white", "linewidths": 0.4}
            y = [i + lanes[peer] for i, _ in found]  # many lie at the same place
            seen[peer] = panel.scatter(x, y, zorder=3, **marks)
    panel.tick_params(axis="x", labelbottom=True, labelsize=7)
    panel.set_yticks(places, [row["loss"] for row in rows], fontsize=7)
    panel.set_ylim(len(rows) - 0.4, -0.6)
    panel.set_title(title, loc="left")
    return seen
