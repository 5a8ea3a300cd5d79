"""What was measured, as a table, as JSON, and as a chart that is drawn from the JSON."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from rich.console import Console
from rich.table import Table

from benchmarks.peers import INSTALL
from benchmarks.run import Floor, Row, Timing
from benchmarks.torch_peers import cores
from experiments.shared import records
from experiments.shared.plots import BLUE, CYCLE, STYLE, save

# Where a whole run writes, and any other.
RECORDED, SCRATCH = Path("benchmarks/results"), Path("runs/benchmarks")
PACKAGES = (
    "jax", "jaxlib", "numpy", "optax", "keras", "rax", "torch", "torchvision", "monai",
    "segmentation-models-pytorch",
)  # fmt: skip
# A colour for each peer, the same in every chart.
COLORS = dict(zip(INSTALL, [*CYCLE[1:], "#999999", "#882255"], strict=False))


# What was measured, by group.
Tables = dict[str, tuple[Floor, list[Row]]]


def environment(device: Any) -> dict[str, Any]:
    """What stands beside every recorded figure, the peers' versions and the processor too."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        **records.environment(device),
        "cores": cores(),
        "processor": _processor(),
        "python": platform.python_version(),
        "versions": versions,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


# --- Table ----------------------------------------------------------------------------------------


def table_of(words: Sequence[str], numbers: Sequence[str], last: Sequence[str] = ()) -> Table:
    """A table without lines: columns of words, of numbers, and again of words."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in words:
        table.add_column(heading, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in last:
        table.add_column(heading, no_wrap=True)
    return table


def print_group(console: Console, floor: Floor, rows: Sequence[Row]) -> None:
    """One table of a group, under its yardstick, and who was not timed."""
    parts = " + ".join(f"{name} {ms:.3g}" for name, ms in floor.ms.items())
    shape = " x ".join(map(str, rows[0].shape)) if rows else ""
    rate = floor.gigabytes / floor.pass_ms * 1e3
    console.print(f"\n[bold]{floor.group}[/bold], {shape}", highlight=False)
    console.print(f"floor {floor.pass_ms:.3g} ms, {rate:.1f} GB/s ({parts} ms)", highlight=False)
    headings = ("ms [quartiles]", "x floor", "GB/s", "temp MiB", "compile s")
    table = table_of(("loss",), headings, ("best peer", "goal missed"))
    for row in rows:
        (middle, low, high), temp = row.ours.ms, row.ours.temp_mib
        best = row.best
        table.add_row(
            f"{row.loss}{' (value)' if row.forward else ''}",
            f"{middle:.3g} [{low:.3g}, {high:.3g}]",
            f"{row.times_floor:.2f}",
            f"{row.gigabytes / middle * 1e3:.1f}",
            "?" if temp is None else f"{temp:.1f}",
            f"{row.ours.compile_s:.2f}",
            f"{best[0]} {best[1]:.2f}x" if best else "-",
            "; ".join(row.missed()),
            style="yellow" if row.missed() else None,
        )
    whole(console, table)
    for row in rows:
        for name, reason in row.unequal.items():
            console.print(f"not timed: {name} {row.loss}: {reason}", style="dim", markup=False)


def whole(console: Console, table: Table) -> None:
    """Print `table` as wide as it is: a terminal that is narrower breaks lines, not figures."""
    ample = Console(file=console.file, width=300)
    needed = ample.measure(table).maximum
    Console(file=console.file, width=max(console.width, needed)).print(table)


def print_end(console: Console, rows: Sequence[Row], absent: Sequence[str]) -> None:
    """How many rows reach their goals, and which peers were not there."""
    judged = [row for row in rows if row.goal is not None or row.ahead]
    short = sum(bool(row.missed()) for row in judged)
    console.print(f"\n{len(judged) - short} of {len(judged)} rows reach their goals")
    if absent:
        console.print(f"peers absent: {', '.join(absent)}", markup=False, highlight=False)


# --- JSON -----------------------------------------------------------------------------------------


def plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as JSON knows them, but where the record lies and whether it goes on with another."""
    kept = {k: v for k, v in options.items() if k not in ("out", "resume")}
    return {k: str(v) if isinstance(v, Path) else v for k, v in kept.items()}


def record(
    environment: Mapping[str, Any], options: Mapping[str, Any], tables: Tables, *, whole: int
) -> dict[str, Any]:
    """Everything that a run of `whole` groups found so far, in plain types."""
    floors = [floor for floor, _ in tables.values()]
    return {
        "environment": dict(environment),
        "options": dict(options),
        "complete": len(floors) == whole and all(floor.complete for floor in floors),
        "floors": [dataclasses.asdict(floor) for floor in floors],
        "rows": [
            {
                **dataclasses.asdict(row),
                "group": floor.group,
                "times_floor": row.times_floor,
                "best": row.best,
                "missed": row.missed(),
            }
            for floor, rows in tables.values()
            for row in rows
        ],
    }


def read(path: Path, environment: Mapping[str, Any], options: Mapping[str, Any]) -> Tables:
    """The complete tables that a run has recorded at `path`.

    Raises:
      ValueError: if it ran on other devices, versions or options; the first that differs is named.
    """
    content = recorded(path, environment, options)
    floors = {kept["group"]: Floor(**kept) for kept in content["floors"] if kept["complete"]}
    rows: dict[str, list[Row]] = {name: [] for name in floors}
    for kept in content["rows"]:
        if kept["group"] in rows:
            values = {field.name: kept[field.name] for field in dataclasses.fields(Row)}
            timings = {name: _timing(timing) for name, timing in kept["peers"].items()}
            again = {"ours": _timing(kept["ours"]), "peers": timings, "shape": tuple(kept["shape"])}
            rows[kept["group"]].append(Row(**values | again))
    return {name: (floor, rows[name]) for name, floor in floors.items()}


def recorded(
    path: Path, environment: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    """What a run has recorded at `path`, if it was this very run. Raises as `read` does."""
    content = json.loads(path.read_text())
    here = {**environment, **options}
    for name, before in {**content["environment"], **content["options"]}.items():
        if name not in ("commit", "date") and before != here.get(name):
            raise ValueError(
                f"--resume: {path} was measured with {name} {before!r}, now it is "
                f"{here.get(name)!r}; name another --out or leave --resume out"
            )
    return content


def _timing(kept: Mapping[str, Any]) -> Timing:
    return Timing(**{**kept, "ms": tuple(kept["ms"])})


# --- Chart ----------------------------------------------------------------------------------------


def draw(content: Mapping[str, Any], path: Path) -> None:
    """Bars of the time over the floor, ours, with a mark for each peer."""
    draw_panels(content, path, floor_panel, "time over the floor; black lines: the goal")


def draw_panels(
    content: Mapping[str, Any],
    path: Path,
    draw_panel: Callable[[Axes, str, Sequence[dict[str, Any]]], dict[str, Any]],
    label: str,
) -> None:
    """A row of panels for each workload, a column for each type.

    `draw_panel` gets the axes, a title and the rows, and returns what the legend needs.
    """
    panels: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in content["rows"]:
        panels.setdefault(row["workload"], {}).setdefault(row["dtype"], []).append(row)
    dtypes = list(dict.fromkeys(row["dtype"] for row in content["rows"]))
    longest = [max(map(len, of.values())) for of in panels.values()]
    heights = [0.16 * rows + 0.5 for rows in longest]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.5 * len(dtypes), sum(heights) + 0.8), layout="constrained")
        ratios = {"height_ratios": heights}
        axes = figure.subplots(
            len(panels), len(dtypes), squeeze=False, sharex="row", gridspec_kw=ratios
        )
        seen: dict[str, Any] = {}
        for line, (workload, of) in zip(axes, panels.items(), strict=True):
            for panel, dtype in zip(line, dtypes, strict=True):
                if dtype in of:
                    seen |= draw_panel(panel, f"{workload}, {dtype}", of[dtype])
                else:  # a run that was cut short
                    panel.set_axis_off()
            _scale(line[0])
        figure.supxlabel(label, fontsize=9)
        shown = [name for name in ("ours", *COLORS) if name in seen]
        figure.legend(
            [seen[name] for name in shown], shown, loc="outside upper center", ncols=len(shown)
        )
        save(figure, path)


def _scale(panel: Axes) -> None:
    """A logarithmic axis with as many figures as there is room for; it is shared by a row."""
    panel.set_xscale("log")
    low, high = panel.get_xlim()
    near = high / low < 500
    panel.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if near else (1.0,)))
    panel.xaxis.set_major_formatter("{x:g}")
    panel.xaxis.set_minor_formatter(NullFormatter())


def floor_panel(panel: Axes, title: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Draw one workload in one type; what its legend needs."""
    places = np.arange(len(rows))
    ours = [row["times_floor"] for row in rows]
    seen: dict[str, Any] = {"ours": panel.barh(places, ours, 0.7, color=BLUE)}
    for peer in COLORS:
        timed = [(i, row) for i, row in enumerate(rows) if peer in row["peers"]]
        if timed:
            x = [row["peers"][peer]["ms"][0] / row["floor_ms"] for _, row in timed]
            y = [i for i, _ in timed]
            marks = {"s": 16, "color": COLORS[peer], "edgecolors": "white", "linewidths": 0.4}
            seen[peer] = panel.scatter(x, y, zorder=3, **marks)
    for place, row in zip(places, rows, strict=True):
        if row["goal"]:
            panel.vlines(row["goal"], place - 0.5, place + 0.5, color="#333333", linewidth=0.9)
    panel.tick_params(axis="x", labelbottom=True, labelsize=7)
    panel.set_yticks(places, [row["loss"] for row in rows], fontsize=7)
    panel.set_ylim(len(rows) - 0.4, -0.6)
    panel.set_title(title, loc="left")
    return seen
