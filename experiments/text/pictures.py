"""Precision and recall with the decisions on it, reliability, confusion, and all methods' bars."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.shared import plots
from experiments.text.measure import DECISIONS

MARKERS = {"at_half": "o", "at_tuned": "D", "at_bayes": "^"}
SHOWN = ("cross-entropy", "class-weighted", "asked-mask", "asked-swapped", "expected-cost")
Rows = Sequence[dict[str, Any]]


def draw(
    rows: Rows, chosen: tuple[str, str] | None, classes: tuple[str, str], out: Path, *, title: str
) -> None:
    """All figures of a comparison; those of a chosen method and decision where there is one."""
    if not rows:
        return
    by_name = {row["method"]: row for row in rows}
    names = [
        name for name in dict.fromkeys((*SHOWN, chosen[0] if chosen else None)) if name in by_name
    ]
    in_detail = [by_name[name] for name in names or list(by_name)[:5]][:6]
    precision_recall(in_detail, out / "precision-recall.png", title=title)
    reliability(in_detail, out / "reliability.png", title=title)
    wanted = [
        ("cross-entropy", "at_half"),
        ("cross-entropy", "at_tuned"),
        ("asked-mask", "at_half"),
        ("asked-swapped", "at_half"),
        *([chosen] if chosen else []),
    ]
    shown = [(by_name[name], when) for name, when in dict.fromkeys(wanted) if name in by_name]
    if shown:
        confusion(shown, classes, out / "confusion.png", title=title)
    bars(rows, out / "comparison.png", title=title)


def precision_recall(rows: Rows, path: Path, *, title: str) -> None:
    """The curve of the first seed, and where each decision lies on it."""
    with mpl.rc_context(plots.STYLE):
        figure = Figure(figsize=(7.2, 4.4), layout="constrained")
        panel = figure.subplots()
        for row, color in zip(rows, plots.CYCLE, strict=False):
            curve = row["curve"]
            panel.plot(curve["recall"], curve["precision"], color=color, lw=1.3, zorder=1)
            for when, marker in MARKERS.items():
                at = row["runs"][0][when]
                x, y = np.array([at["recall"], at["precision"]], float)  # None where it has none
                panel.plot(
                    x, y, marker, color=color, markersize=7, markeredgecolor="white", zorder=2
                )
        lines = [
            Line2D([], [], color=color, label=row["method"])
            for row, color in zip(rows, plots.CYCLE, strict=False)
        ]
        marks = [
            Line2D([], [], color="#333333", ls="", marker=MARKERS[when], label=f"threshold: {name}")
            for when, name in DECISIONS.items()
        ]
        figure.legend(handles=[*lines, *marks], loc="outside right center", fontsize=8)
        panel.set_xlabel("recall of the rare class, seed 0")
        panel.set_ylabel("precision")
        panel.set_xlim(0.0, 1.01)
        panel.set_ylim(0.0, 1.01)
        figure.suptitle(f"{title}; the first seed's test texts", fontsize=9)
        plots.save(figure, path)


def reliability(rows: Rows, path: Path, *, title: str) -> None:
    """How often a text is rare, against how probable the model says it is; all seeds together."""
    with mpl.rc_context(plots.STYLE):
        columns = min(3, len(rows))
        lines = -(-len(rows) // columns)
        figure = Figure(figsize=(2.5 * columns, 2.4 * lines + 0.5), layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
        for panel, row in zip(panels, rows, strict=False):
            bins = {key: np.array(values) for key, values in row["reliability"].items()}
            full = bins["texts"] >= 10
            texts = bins["texts"][full]
            panel.plot([0, 1], [0, 1], color="#999999", lw=1, ls="--")
            panel.plot(
                bins["probability"][full] / texts,
                bins["rare"][full] / texts,
                "o-",
                color=plots.BLUE,
                lw=1.2,
                markersize=4,
            )
            panel.set_title(f"{row['method']}, ECE {row['calibration_error'][0]:.2f}", fontsize=9)
        for panel in panels[len(rows) :]:
            panel.set_axis_off()
        for panel in panels[len(rows) - columns : len(rows)]:  # the lowest of each column
            panel.tick_params(labelbottom=True)
        figure.supxlabel("probability of the model", fontsize=9)
        figure.supylabel("share that is rare", fontsize=9)
        figure.suptitle(title, fontsize=9)
        plots.save(figure, path)


def confusion(
    shown: Sequence[tuple[dict[str, Any], str]],
    classes: tuple[str, str],
    path: Path,
    *,
    title: str,
) -> None:
    """Test texts by what they are and what they are taken for, a mean over seeds."""
    with mpl.rc_context(plots.STYLE):
        figure = Figure(figsize=(2.1 * len(shown) + 0.8, 3.0), layout="constrained")
        panels = figure.subplots(1, len(shown), squeeze=False, sharey=True)[0]
        for panel, (row, when) in zip(panels, shown, strict=True):
            mean = {key: row[when][key][0] for key in ("tn", "fp", "fn", "tp")}
            matrix = np.array([[mean["tn"], mean["fp"]], [mean["fn"], mean["tp"]]])
            share = matrix / matrix.sum(1, keepdims=True)
            panel.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0)
            for (i, j), count in np.ndenumerate(matrix):
                color = "white" if share[i, j] > 0.55 else "black"
                text = f"{count:.0f}\n{share[i, j]:.0%}"
                panel.text(j, i, text, ha="center", va="center", color=color)
            names = [textwrap.fill(name, 10) for name in classes]
            panel.set_xticks([0, 1], names, fontsize=8)
            panel.set_yticks([0, 1], names, fontsize=8)
            panel.tick_params(length=0)
            panel.spines[:].set_visible(False)
            panel.set_title(f"{row['method']}\nthreshold: {DECISIONS[when]}", fontsize=9)
            panel.set_xlabel("taken for")
        panels[0].set_ylabel("is")
        figure.suptitle(title, fontsize=9)
        plots.save(figure, path)


def bars(rows: Rows, path: Path, *, title: str) -> None:
    """F1 and recall of every method at its three thresholds, and its ranking."""
    with mpl.rc_context(plots.STYLE):
        figure = Figure(figsize=(9.5, 0.46 * len(rows) + 1.4), layout="constrained")
        panels = figure.subplots(1, 3, sharey=True)
        names = [row["method"] for row in rows]
        colors = [plots.ORANGE, plots.BLUE, plots.GREEN]
        for panel, (key, label) in zip(
            panels,
            (("recall", "recall"), ("f1", "F1"), ("average_precision", "average precision")),
            strict=True,
        ):
            if key == "average_precision":
                groups = {"any threshold": _columns(row[key] for row in rows)}
                plots.bars(panel, names, groups, ["#999999"])
            else:
                groups = {
                    f"threshold: {called}": _columns(row[when][key] for row in rows)
                    for when, called in DECISIONS.items()
                }
                plots.bars(panel, names, groups, colors)
            panel.set_xlabel(label)
            panel.set_xlim(0.0, 1.0)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        figure.suptitle(title, fontsize=10)
        plots.save(figure, path)


def _columns(means: Any) -> tuple[np.ndarray, np.ndarray]:
    values, errors = np.array(list(means), float).T
    return values, errors
