"""Figures, drawn from the JSON that runs have written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from experiments.shared import plots
from experiments.uncertainty import published

GREY = "#777777"


def _figure(rows: int, columns: int, width: float, height: float, **options: Any) -> Any:
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def collapse(source: Path, path: Path) -> None:
    """Deviation and mean of three seeds of the first kind of layer, with and without the ReLU."""
    result = json.loads(source.read_text())
    x = np.array(result["x"])
    with mpl.rc_context(plots.STYLE):
        figure, panels = _figure(1, 2, 4.2, 2.9)
        deviations, means = panels[0]
        for row, color in zip(result["rows"][:2], (plots.ORANGE, plots.BLUE), strict=True):
            curves, before = row["curves"], row["before"]
            for panel, key in ((deviations, "deviation"), (means, "mean")):
                for k, curve in enumerate(curves[key]):
                    label = f"{before} before the softplus" if k == 0 else None
                    panel.plot(x, curve, color=color, linewidth=1, label=label)
        deviations.plot(x, result["true_deviation"], "k--", linewidth=1.2, label="truth")
        means.plot(x, np.sin(x), "k--", linewidth=1.2, label="truth")
        deviations.axhline(np.log(2), color=GREY, linestyle=":", linewidth=1)
        deviations.annotate("log 2 = 0.693", (0.02, np.log(2) - 0.02), color=GREY, va="top",
                            ha="left", xycoords=("axes fraction", "data"))  # fmt: skip
        deviations.set(xlabel="x", ylabel="predicted deviation", ylim=(0, 0.8))
        means.set(xlabel="x", ylabel="predicted mean")
        figure.legend(*deviations.get_legend_handles_labels(), loc="outside lower center", ncols=3)
        plots.save(figure, path)


def synthetic(source: Path, path: Path) -> None:
    """Data, truth, and both kinds of band of the first seed, a panel a method."""
    result = json.loads(source.read_text())
    x = np.array(result["x"])
    mean, deviation = (np.array(each) for each in result["truth"])
    with mpl.rc_context(plots.STYLE):
        figure, panels = _figure(2, len(result["found"]), 3.3, 2.5, sharex=True, sharey="row")
        for column, (name, found) in enumerate(result["found"].items()):
            curves = {key: np.array(value) for key, value in found["curves"].items()}
            center, aleatoric = curves["mean"], curves["aleatoric"]
            total = np.hypot(aleatoric, curves["epistemic"])
            top, bottom = panels[:, column]
            top.scatter(*result["data"], s=2, color=GREY, alpha=0.5, linewidths=0)
            top.fill_between(x, center - 2 * total, center + 2 * total, color=plots.ORANGE,
                             alpha=0.45, linewidth=0, label="± 2 total deviations")  # fmt: skip
            top.fill_between(x, center - 2 * aleatoric, center + 2 * aleatoric, color=plots.BLUE,
                             alpha=0.55, linewidth=0, label="± 2 aleatoric")  # fmt: skip
            top.plot(x, center, color=plots.BLUE, linewidth=1, label="predicted mean")
            top.plot(x, mean, "k--", linewidth=1, label="truth")
            top.set(title=name, ylim=(-3, 3), xlim=(x[0], x[-1]))
            bottom.plot(x, aleatoric, color=plots.BLUE, label="aleatoric")
            bottom.plot(x, curves["epistemic"], color=plots.ORANGE, label="epistemic")
            bottom.plot(x, deviation, "k--", linewidth=1)
            bottom.set(ylim=(0, 0.8), xlabel="x")
            for panel in (top, bottom):
                for edges in ((x[0], -4), (-1, 1), (4, x[-1])):
                    panel.axvspan(*edges, color="#000000", alpha=0.05, linewidth=0)
        panels[0, 0].set_ylabel("y")
        panels[1, 0].set_ylabel("deviation")
        handles, labels = panels[0, 0].get_legend_handles_labels()
        more = panels[1, 0].get_legend_handles_labels()
        figure.legend(handles + more[0], labels + more[1], loc="outside lower center", ncols=3,
                      title="shaded: no training data")  # fmt: skip
        plots.save(figure, path)


def uci(source: Path, path: Path) -> None:
    """Log-likelihood of every method, a panel a table, with lines for the published ones."""
    rows = json.loads(source.read_text())["rows"]
    names = list(dict.fromkeys(row["table"] for row in rows))
    with mpl.rc_context(plots.STYLE):
        columns = min(3, len(names))
        count = max(sum(row["table"] == name for row in rows) for name in names)
        figure, panels = _figure(-(-len(names) // columns), columns, 3.6, 0.22 * count + 1.2)
        for panel, name in zip(panels.ravel(), names, strict=False):
            _likelihoods(panel, name, [row for row in rows if row["table"] == name])
        for panel in panels.ravel()[len(names) :]:
            panel.set_axis_off()
        figure.legend(*panels.ravel()[0].get_legend_handles_labels(), loc="outside lower center",
                      ncols=4)  # fmt: skip
        plots.save(figure, path)


def _likelihoods(panel: Axes, name: str, rows: list[dict[str, Any]]) -> None:
    places = np.arange(len(rows))
    shown = (("mixture", plots.BLUE, "o", 0.0, "mixture"),
             ("scaled", plots.ORANGE, "D", 0.22, "Normal, deviations rescaled"))  # fmt: skip
    for key, color, marker, offset, label in shown:
        values, errors = np.array([row["figures"][key] for row in rows], float).T
        panel.errorbar(values, places + offset, xerr=np.nan_to_num(errors), fmt=marker,
                       markersize=3.5, color=color, label=label, linewidth=1)  # fmt: skip
    good = [row["figures"]["scaled"][0] for row in rows if row["method"] != "vi-batch"]
    known = published.rows(name)
    styles = dict(zip(published.FORTY_PASSES, (":", "--", "-.", "-"), strict=True))
    for method, style in styles.items():
        if method in known:
            value = float(known[method][1].split()[0])
            good.append(value)
            panel.axvline(value, color=GREY, linestyle=style, linewidth=1,
                          label=f"published: {method}")  # fmt: skip
    panel.set_yticks(places, [row["method"] for row in rows])
    panel.invert_yaxis()
    spread = (max(good) - min(good)) or 1.0
    panel.set_xlim(min(good) - 0.25 * spread, max(good) + 0.1 * spread)
    panel.xaxis.set_major_locator(MaxNLocator(4))
    panel.set(title=name, xlabel="test log-likelihood")
    for place, row in zip(places, rows, strict=True):
        value = row["figures"]["mixture"][0]
        if value < panel.get_xlim()[0]:
            panel.annotate(f"← {value:.2f}", (0.01, place), color=plots.BLUE, fontsize=7,
                           xycoords=("axes fraction", "data"), va="center")  # fmt: skip


def filtering(source: Path, out: Path) -> None:
    """|error| against deviation on the left, what filtering gains on the right, a row a method."""
    for table, methods in json.loads(source.read_text())["tables"].items():
        if methods:
            _filtering(table, methods, out / f"filter-{table}.png")


def _filtering(table: str, methods: Mapping[str, Any], path: Path) -> None:
    with mpl.rc_context(plots.STYLE):
        figure, panels = _figure(len(methods), 2, 4.3, 2.9)
        spans = [np.quantile(found["deviation"], [0.001, 0.999]) for found in methods.values()]
        ends = np.array([np.min(spans) / 1.2, np.max(spans) * 1.2])
        for (left, right), (name, found) in zip(panels, methods.items(), strict=True):
            deviation, error = (np.array(found[key]).ravel() for key in ("deviation", "error"))
            _scatter(left, deviation, error, ends)
            left.set_title(f"{table}, {name}")
            kept = 100 * np.array(found["kept"])
            curves = {key: np.array(value) for key, value in found["curves"].items()}
            right.axhline(1.0, color=GREY, linestyle=":", label="random")
            right.plot(kept, curves["method"], color=plots.BLUE, label="by predicted deviation")
            right.plot(kept, curves["attainable"], color=plots.ORANGE, linestyle="--",
                       label="if the deviations were right")  # fmt: skip
            right.plot(kept, curves["oracle"], color=plots.GREEN, linestyle="-.",
                       label="oracle: by |error|")  # fmt: skip
            right.set(xlim=(100, 0), ylim=(0, 1.3), ylabel="mean |error|, kept over all",
                      title="the most uncertain left out")  # fmt: skip
        panels[-1, 0].set_xlabel("predicted deviation")
        panels[-1, 1].set_xlabel("kept, %")
        panels[0, 0].legend(loc="lower right", fontsize=7)
        panels[0, 1].legend(loc="lower left", fontsize=7)
        plots.save(figure, path)


def _scatter(panel: Axes, deviation: np.ndarray, error: np.ndarray, ends: np.ndarray) -> None:
    """Every test row between `ends`, and the root mean squared error of ten bins of equal size."""
    panel.scatter(deviation, error, s=3, color=plots.BLUE, alpha=0.25, linewidths=0)
    bins = np.array_split(np.argsort(deviation), 10)
    center = np.array([np.sqrt(np.square(deviation[rows]).mean()) for rows in bins])
    errors = np.array([np.sqrt(np.square(error[rows]).mean()) for rows in bins])
    panel.plot(center, errors, "o-", color=plots.ORANGE, markersize=4, label="RMSE of ten bins")
    panel.plot(ends, ends, "k--", linewidth=1, label="RMSE = deviation")
    floor = max(np.quantile(error, 0.01), error.max() * 1e-4)
    panel.set(xscale="log", yscale="log", xlim=ends, ylim=(floor, error.max() * 1.3),
              ylabel="|error|")  # fmt: skip
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())


def multiloss(source: Path, path: Path) -> None:
    """Error against alpha with adaptive weights as lines; the logged parts of three runs."""
    result = json.loads(source.read_text())
    rows = result["rows"]
    with mpl.rc_context(plots.STYLE):
        figure, panels = _figure(1, 3, 3.5, 3.2)
        errors, parts, fits = panels[0]
        fixed = [row for row in rows if row["alpha"] is not None]
        values = np.array([row["rmse"] for row in fixed])
        spread = values.std(1, ddof=1) / np.sqrt(values.shape[1]) if values.shape[1] > 1 else None
        errors.errorbar([row["alpha"] for row in fixed], values.mean(1), yerr=spread, marker="o",
                        markersize=4, color=plots.BLUE, label="mse + $\\alpha$ huber")  # fmt: skip
        others = [row for row in rows if row["alpha"] is None]
        for row, color, style in zip(
            others, (plots.ORANGE, plots.GREEN, "#CC79A7", "#000000"), ("-", "--", "-.", ":"),
            strict=False,
        ):  # fmt: skip
            errors.axhline(np.mean(row["rmse"]), color=color, linestyle=style, label=row["name"])
        errors.set_xscale("symlog", linthresh=0.1)
        errors.set_xlim(-0.02, 1.3 * max(row["alpha"] for row in fixed))
        errors.set(xlabel="$\\alpha$", ylabel="RMSE to the truth", ylim=(0, None))
        errors.legend(fontsize=7)
        chosen = [fixed[0], fixed[-1]]
        for row, color in zip(chosen, (plots.ORANGE, plots.BLUE), strict=True):
            for key, style in (("mse", "-"), ("huber", "--")):
                label = f"{key}, $\\alpha$ = {row['alpha']:g}"
                parts.plot(row["parts"][key], style, color=color, label=label, linewidth=1)
            fits.plot(
                result["x"], row["output"], color=color, label=f"$\\alpha$ = {row['alpha']:g}"
            )
        parts.set(xlabel="step", ylabel="part, unweighted", ylim=(0, None))
        parts.legend(fontsize=7)
        fits.scatter(*result["data"], s=4, color=GREY, linewidths=0, alpha=0.6)
        fits.plot(result["x"], np.sin(2 * np.array(result["x"])), "k--", linewidth=1, label="truth")
        fits.set(xlabel="x", ylabel="y")
        fits.legend(fontsize=7)
        plots.save(figure, path)


def recalibration(source: Path, path: Path) -> None:
    """Coverage of 95 % intervals as predicted, rescaled and conformal, a panel a table."""
    rows = json.loads(source.read_text())["rows"]
    names = list(dict.fromkeys(row["table"] for row in rows))
    kinds = {
        "coverage": ("as predicted", plots.ORANGE, "o"),
        "coverage_scaled": ("rescaled", plots.BLUE, "D"),
        "coverage_conformal": ("conformal", plots.GREEN, "s"),
    }
    with mpl.rc_context(plots.STYLE):
        columns = min(3, len(names))
        count = max(sum(row["table"] == name for row in rows) for name in names)
        figure, panels = _figure(-(-len(names) // columns), columns, 3.4, 0.3 * count + 0.9,
                                 sharex=True)  # fmt: skip
        lowest = 0.93
        for panel, name in zip(panels.ravel(), names, strict=False):
            group = [row for row in rows if row["table"] == name]
            places = np.arange(len(group))
            panel.axvspan(0.93, 0.97, color="#000000", alpha=0.08, linewidth=0)
            panel.axvline(0.95, color=GREY, linewidth=1)
            for k, (key, (label, color, marker)) in enumerate(kinds.items()):
                values, errors = np.array([row["figures"][key] for row in group], float).T
                lowest = min(lowest, float(values.min()))
                panel.errorbar(values, places + 0.2 * (k - 1), xerr=np.nan_to_num(errors),
                               fmt=marker, color=color, label=label, markersize=4,
                               linewidth=1)  # fmt: skip
            panel.set_yticks(places, [row["method"] for row in group])
            panel.set_ylim(len(group) - 0.5, -0.5)
            panel.set(title=name, xlabel="coverage of 95 % intervals")
        panels[0, 0].set_xlim(lowest - 0.02, 1.005)
        for panel in panels.ravel()[len(names) :]:
            panel.set_axis_off()
        figure.legend(*panels.ravel()[0].get_legend_handles_labels(), loc="outside lower center",
                      ncols=3)  # fmt: skip
        plots.save(figure, path)
