"""Figures that experiments share; drawn from what runs have written, never from live objects."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.shared import processes

# Colours that stay apart for colour-blind readers and in grey print (Okabe and Ito, 2008).
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
CYCLE = [BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#F0E442"]

STYLE: dict[Any, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=CYCLE),
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "font.size": 9,
    "legend.frameon": False,
    "savefig.dpi": 150,
}


def save(figure: Figure, path: Path) -> None:
    """Write `figure` to `path`, making its folder; of several processes the first does."""
    if not processes.first():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight")


def read_log(path: Path) -> dict[str, np.ndarray]:
    """The columns of a `metrics.jsonl`; of a step that was logged twice, the later line."""
    by_step = {entry["step"]: entry for entry in map(json.loads, path.read_text().splitlines())}
    entries = [by_step[step] for step in sorted(by_step)]
    return {key: np.array([entry[key] for entry in entries]) for key in entries[0]}


def training_curves(logs: Mapping[str, Path], path: Path) -> None:
    """Draw the training loss of each named run, a panel for each: their scales differ.

    Raises:
      ValueError: if there is no run.
    """
    if not logs:
        raise ValueError("there is no run to draw")
    with mpl.rc_context(STYLE):
        columns = min(4, len(logs))
        rows = -(-len(logs) // columns)
        figure = Figure(figsize=(2.6 * columns, 1.9 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
        for panel, (name, log) in zip(panels, logs.items(), strict=False):
            logged = read_log(log)
            alone = "o" if len(logged["step"]) == 1 else ""
            panel.plot(logged["step"], logged["loss"], color=BLUE, marker=alone)
            panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            panel.set_title(name)
        for panel in panels[len(logs) :]:
            panel.set_axis_off()
        for panel in panels[len(logs) - columns : len(logs)]:  # also above a cell without a run
            panel.tick_params(labelbottom=True)
        figure.supxlabel("step", fontsize=9)
        figure.supylabel("training loss", fontsize=9)
        save(figure, path)


def bars(
    panel: Axes,
    names: Sequence[str],
    groups: Mapping[str, tuple[np.ndarray, np.ndarray]],
    colors: Sequence[str],
) -> None:
    """Horizontal bars for each name, one a group, with standard errors.

    Args:
      panel: where to draw.
      names: labels from top to bottom.
      groups: legend entry to (means, standard errors), each of the length of `names`.
      colors: one a group.
    """
    height = 0.8 / len(groups)
    places = np.arange(len(names))
    for k, (label, (mean, error)) in enumerate(groups.items()):
        offset = (k - (len(groups) - 1) / 2) * height
        shown = np.where(np.isfinite(error) & (error > 0), error, 0.0)
        panel.barh(
            places + offset,
            mean,
            height,
            xerr=shown,
            color=colors[k],
            label=label,
            ecolor="#333333",
        )
        for place in places[np.asarray(mean) == 0.0]:  # a bar of 0 is not a bar that is missing
            panel.text(0.0, place + offset, " 0", va="center", fontsize=7, color=colors[k])
    panel.set_yticks(places, names)
    panel.invert_yaxis()
