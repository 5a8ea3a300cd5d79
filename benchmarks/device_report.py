"""What was found on a device, as tables, as JSON, and as charts that are drawn from the JSON."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console

from benchmarks import report
from benchmarks.device_checks import Check
from benchmarks.device_steps import StepRow
from experiments.shared.plots import BLUE, STYLE, save

PACKAGES = ("flax", "chex", "scipy", "triton", "jax-cuda12-plugin", "jax-cuda13-plugin",
            "nvidia-cudnn-cu12", "nvidia-cudnn-cu13")  # fmt: skip
ASKED = "name,driver_version,memory.total,clocks.max.sm,power.limit"


@dataclasses.dataclass
class Findings:
    """All that a run found so far."""

    environment: Mapping[str, Any]
    options: Mapping[str, Any]
    checks: list[Check] = dataclasses.field(default_factory=list)
    tables: report.Tables = dataclasses.field(default_factory=dict)
    steps: list[StepRow] = dataclasses.field(default_factory=list)
    launches: dict[str, float] = dataclasses.field(default_factory=dict)
    """Milliseconds of a program that does next to nothing, by group."""
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    """What each stage took."""
    missing: list[str] = dataclasses.field(default_factory=list)
    """What was not done or not there, and why."""

    def content(self, *, complete: bool) -> dict[str, Any]:
        """Everything in plain types; `complete` if nothing was cut for want of time."""
        made = report.record(self.environment, self.options, self.tables, whole=len(self.tables))
        return {
            **made,
            "complete": complete,
            "missing": list(dict.fromkeys(self.missing)),
            "stages": self.seconds,
            "launch_ms": self.launches,
            "checks": [dataclasses.asdict(check) for check in self.checks],
            "steps": [
                {**dataclasses.asdict(row), "rate": rate(row), "ratio": ratios(row)}
                for row in self.steps
            ],
        }


def rate(row: StepRow) -> float:
    """Examples a second."""
    return 1e3 * row.examples / row.ours.median


def ratios(row: StepRow) -> dict[str, float]:
    """How many times as long each peer takes."""
    return {name: peer.median / row.ours.median for name, peer in row.peers.items()}


def environment(device: Any) -> dict[str, Any]:
    """What stands beside every figure: card, driver and everything installed that matters."""
    found = report.environment(device)
    for package in PACKAGES:
        try:
            found["versions"][package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {**found, "card": _card()}


def _card() -> dict[str, str] | None:
    """What the driver says of the card; None if there is no such driver."""
    command = ["nvidia-smi", f"--query-gpu={ASKED}", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    first = said.stdout.strip().splitlines()[0].split(",")
    return dict(zip(ASKED.split(","), map(str.strip, first), strict=False))


# --- tables ---------------------------------------------------------------------------------------


def print_checks(console: Console, checks: Sequence[Check]) -> None:
    """How many losses are right in each type, the largest errors, and every failure."""
    headings = ("losses", "right", "value", "gradient", "against the processor")
    table = report.table_of(("checked",), headings)
    for dtype in dict.fromkeys(check.dtype for check in checks):
        of = [check for check in checks if check.dtype == dtype]
        errors = (
            [getattr(c, name) for c in of if getattr(c, name) is not None]
            for name in ("value_error", "gradient_error", "extremes_error")
        )
        right = sum(not check.failed for check in of)
        cells = (f"{max(each):.1e}" if each else "-" for each in errors)
        table.add_row(dtype, str(len(of)), str(right), *cells)
    report.whole(console, table)
    for check in checks:
        if check.failed:
            console.print(f"wrong: {check.loss}, {check.dtype}: {check.failed}", style="red")


def print_steps(console: Console, rows: Sequence[StepRow]) -> None:
    """A line for each experiment and peer."""
    headings = ("parameters", "batch", "ms [quartiles]", "examples/s", "compile s")
    table = report.table_of(("training step",), headings, ("peers",))
    for row in rows:
        middle, low, high = row.ours.ms
        table.add_row(
            f"{row.experiment}, {row.dtype}",
            f"{row.parameters:,}",
            str(row.examples),
            f"{middle:.3g} [{low:.3g}, {high:.3g}]",
            f"{rate(row):,.0f}",
            f"{row.ours.compile_s:.1f}",
            ", ".join(f"{name} {ratio:.2f}x" for name, ratio in ratios(row).items()) or "-",
        )
    report.whole(console, table)
    for row in rows:
        for name, reason in row.unequal.items():
            console.print(f"not timed: {name} {row.experiment}: {reason}", style="dim")


# --- chart ----------------------------------------------------------------------------------------


def draw_steps(content: Mapping[str, Any], path: Path) -> None:
    """Bars of the milliseconds of a step, ours and the peers', a panel for each experiment."""
    names = list(dict.fromkeys(row["experiment"] for row in content["steps"]))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.2 * len(names), 2.2), layout="constrained")
        for panel, name in zip(
            figure.subplots(1, len(names), squeeze=False)[0], names, strict=True
        ):
            bars = _bars([row for row in content["steps"] if row["experiment"] == name])
            places = np.arange(len(bars))
            times = [ms for ms, _ in bars.values()]
            panel.bar(places, times, 0.7, color=[color for _, color in bars.values()])
            panel.bar_label(panel.containers[0], fmt="{:.3g}", fontsize=8)
            panel.set_xticks(places, list(bars), fontsize=8)
            panel.set_title(name, loc="left")
            panel.margins(y=0.15)
        figure.supylabel("ms for a step", fontsize=9)
        save(figure, path)


def _bars(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, str]]:
    """Time and colour of ours, which is that of the fastest run, and of each peer."""
    found = {"ours": (min((row["ours"]["ms"][0] for row in rows), default=math.nan), BLUE)}
    for row in rows:
        found |= {name: (of["ms"][0], report.COLORS[name]) for name, of in row["peers"].items()}
    return found
