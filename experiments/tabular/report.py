"""The table of a set, the differences to cross-entropy, and which of them exceed chance."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from scipy import stats

from experiments.shared import plots, study, tables
from experiments.tabular.data import Splits, Table
from experiments.tabular.losses import BASELINE, LOSSES, RATE

Row = dict[str, Any]  # one loss on one set, as in its JSON file

RANKING = {
    "average_precision": "AP",
    "roc_auc": "ROC AUC",
    "precision_at_recall": f"P at R {RATE}",
    "recall_at_precision": f"R at P {RATE}",
}
ONE_LABEL = RANKING | {
    f"f{beta}_{name}": f"F{beta} {words}"
    for beta in (1, 2)
    for name, words in (("half", "at ½"), ("tuned", "tuned"), ("corrected", "corr."))
}
MANY_LABELS = RANKING | {
    f"{name}_{when}": f"{words} {where}"
    for name, words in (("f1", "macro-F1"), ("micro_f1", "micro-F1"))
    for when, where in (("half", "at ½"), ("tuned", "tuned"), ("corrected", "corr."))
}
NOTES = (
    "± is the standard error over splits. P at R 0.8 is the precision where the curve of the test "
    "part has recall 0.8, and R at P 0.8 the reverse. Tuned: at the threshold of the best F on "
    "validation data (for a macro mean one a label, for micro-F1 one for all). Corr.: at p > ½ "
    "after `correct_prior`, for losses that train as if half the rows were positive; as ½: a "
    "proper score at the true prior, where it changes nothing; -: the outputs are not "
    "probabilities at any prior, and nothing can correct them."
)


@dataclasses.dataclass(frozen=True)
class SetReport:
    """What was measured on one set; the losses have the same splits."""

    name: str
    described: str
    labels: int
    overlap: float
    """Test rows for each row of training and validation."""
    rows: list[Row]

    @property
    def columns(self) -> dict[str, str]:
        return MANY_LABELS if self.labels > 1 else ONE_LABEL

    def baseline(self) -> Row | None:
        return next((row for row in self.rows if row["loss"] == BASELINE), None)


def of_set(table: Table, splits: Splits, rows: list[Row]) -> SetReport:
    """What was measured on a table, with what it was measured on."""
    described = f"{table}; {len(splits.train)} splits of {splits.train.shape[1]} rows to train on"
    overlap = splits.test.shape[1] / (splits.train.shape[1] + splits.validation.shape[1])
    return SetReport(table.name, described, table.labels.shape[1], overlap, rows)


def publish(reports: Sequence[SetReport], settings: Any, out: Path, console: Console) -> None:
    """Tables, what they say as the last lines, JSON and a figure."""
    written = [
        study.Table(each.described, ("loss", *each.columns.values()), lines, len(lines))
        for each in reports
        for lines in [list(cells(each))]
    ]
    content = {
        "settings": dataclasses.asdict(settings),
        "seconds": sum(row["seconds"] for each in reports for row in each.rows),
        "sets": [dataclasses.asdict(each) for each in reports],
        "differences": {each.name: [d._asdict() for d in differences(each)] for each in reports},
    }
    notes = [NOTES, *_conclusions(reports)]
    study.publish(out, "comparison", written, notes, content, console)
    draw(reports, out / "comparison.png")


def _conclusions(reports: Sequence[SetReport]) -> Iterator[str]:
    for each in reports:
        yield ""
        if each.baseline() is None:
            yield f"{each.name}: {BASELINE} is not among the losses, so nothing is compared with it"
            continue
        yield f"{each.name}, against {BASELINE} on the same splits:"
        yield from (f"  {line}" for line in verdicts(each))
        corrected = prior_correction(each)
        if corrected:
            yield f"  {corrected}"
    told = conclusion(reports)
    if told:
        yield ""
        yield told


# --- tables ---------------------------------------------------------------------------------------


def cells(report: SetReport) -> Iterator[list[str]]:
    """The table as text, a line a loss."""
    for row in report.rows:
        figures = [_cell(row, name) for name in report.columns]
        yield [row["loss"], *figures]


def figures(row: Row, name: str) -> np.ndarray:
    """A figure on every split; what is not finite is null in JSON, and NaN here."""
    return np.asarray(row["figures"][name], float)


def _cell(row: Row, name: str) -> str:
    if name in row["figures"]:
        return tables.cell(tables.mean(figures(row, name).tolist()), digits=3)
    return "as ½" if LOSSES[row["loss"]].prior == "true" else "-"


# --- differences ----------------------------------------------------------------------------------


class Difference(NamedTuple):
    """A figure of a loss less that of cross-entropy, both on the same splits."""

    loss: str
    column: str
    each: tables.Mean
    """As if splits were independent."""
    sharing: tables.Mean
    """Its error allows for the rows that splits share."""

    def __str__(self) -> str:
        (mean, error), star = self.each, "*" if tables.clear(self.sharing) else ""
        return f"{self.loss} {mean:+.3f} ±{error:.3f}{star}"


def differences(report: SetReport) -> list[Difference]:
    """Of all losses and columns. Cross-entropy is at the true prior, and needs no correction."""
    baseline = report.baseline()
    if baseline is None:
        return []
    of = dict(baseline["figures"])
    of |= {name.replace("half", "corrected"): of[name] for name in of if name.endswith("half")}

    def compared(row: Row, column: str) -> Difference:
        pair = figures(row, column), np.asarray(of[column], float)
        sharing = tables.difference(*pair, overlap=report.overlap)
        return Difference(row["loss"], column, tables.difference(*pair), sharing)

    return [
        compared(row, column)
        for column in report.columns
        for row in report.rows
        if row is not baseline and column in row["figures"]
    ]


def verdicts(report: SetReport) -> Iterator[str]:
    """Which differences exceed two standard errors, and which do not: a line a column."""
    found = differences(report)
    for column, title in report.columns.items():
        here = [one for one in found if one.column == column]
        if not here:
            continue
        beyond = [one for one in here if tables.clear(one.each)]
        parts = {
            "better": [str(one) for one in beyond if one.each[0] > 0],
            "worse": [str(one) for one in beyond if one.each[0] < 0],
            "not finite": [one.loss for one in here if math.isnan(one.each[0])],
        }
        known = {one.loss for one in beyond} | set(parts["not finite"])
        parts["within two standard errors"] = [one.loss for one in here if one.loss not in known]
        told = "; ".join(f"{what}: {', '.join(which)}" for what, which in parts.items() if which)
        yield f"{title}: {told}"


def conclusion(reports: Sequence[SetReport]) -> str:
    """How many differences there are, and how many chance alone would make."""
    told = []
    for report in reports:
        found = [one for one in differences(report) if math.isfinite(one.each[1])]
        if not found:
            continue
        splits = len(report.rows[0]["figures"]["roc_auc"])
        chance = 2.0 * stats.t.sf(2.0, splits - 1)
        beyond = sum(tables.clear(one.each) for one in found)
        surely = sum(tables.clear(one.sharing) for one in found)
        told.append(
            f"{report.name}: {beyond} of {len(found)} differences to {BASELINE} exceed two "
            f"standard errors; if no loss differed, about {chance * len(found):.0f} would by "
            f"chance, one in {1 / chance:.0f}. {surely} (*) exceed two of the larger errors that "
            "allow for the rows that splits share."
        )
    return "\n".join(told)


def prior_correction(report: SetReport) -> str | None:
    """What correcting the prior did to the probabilities, which is what it is for."""
    base = report.baseline()
    told = [
        f"{row['loss']} {figures(row, 'log_loss').mean():.3f} → "
        f"{figures(row, 'log_loss_corrected').mean():.3f}"
        for row in report.rows
        if "log_loss_corrected" in row["figures"]
    ]
    if not told:
        return None
    of_base = f" ({BASELINE}: {figures(base, 'log_loss').mean():.3f})" if base else ""
    return f"log loss before → after prior correction: {', '.join(told)}{of_base}"


# --- figure ---------------------------------------------------------------------------------------


def draw(reports: Sequence[SetReport], path: Path) -> None:
    """Differences to cross-entropy with two standard errors; hollow where they are within them."""
    shown = [report for report in reports if report.baseline() and len(report.rows) > 1]
    if not shown:
        return
    titles = {
        "average_precision": "average precision",
        "f1_half": "F1 at probability ½",
        "f1_tuned": "F1 at the tuned threshold",
    }
    names = [n for n in LOSSES if any(n == row["loss"] for r in shown for row in r.rows)]
    names = [name for name in names if name != BASELINE]
    markers = "osD^vP"
    with mpl.rc_context(plots.STYLE):
        height = 0.16 + 0.07 * len(shown)
        figure = Figure(figsize=(10.0, 1.2 + height * len(names)), layout="constrained")
        panels = figure.subplots(1, len(titles), sharey=True)
        for panel, (column, title) in zip(panels, titles.items(), strict=True):
            panel.axvline(0.0, color="#333333", linewidth=0.8)
            for k, report in enumerate(shown):
                of = {d.loss: d for d in differences(report) if d.column == column}
                shift = 0.7 * ((k + 0.5) / len(shown) - 0.5)
                color = plots.CYCLE[k % len(plots.CYCLE)]
                for place, name in enumerate(names):
                    if name not in of or not math.isfinite(of[name].each[0]):
                        continue
                    mean, error = of[name].each
                    panel.errorbar(
                        mean,
                        place + shift,
                        xerr=2.0 * error if math.isfinite(error) else 0.0,
                        marker=markers[k % len(markers)],
                        markersize=4.5,
                        color=color,
                        markerfacecolor=color if tables.clear((mean, error)) else "white",
                        linewidth=0.8,
                    )
                panel.plot([], [], markers[k % len(markers)], color=color, label=report.name)
            for place in range(len(names) - 1):
                panel.axhline(place + 0.5, color="#dddddd", linewidth=0.5)
            panel.set_title(title)
            panel.set_ylim(len(names) - 0.5, -0.5)
        panels[0].set_yticks(range(len(names)), names)
        figure.supxlabel(
            f"less that of {BASELINE} on the same splits; bars are two standard errors, "
            "hollow marks lie within them",
            fontsize=9,
        )
        if len(shown) > 1:
            handles, labels = panels[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside upper center", ncols=len(shown))
        else:
            figure.suptitle(shown[0].described, fontsize=10)
        plots.save(figure, path)
