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
from experiments.tabular.data import Table
from experiments.tabular.losses import BASELINE, LOSSES, RATE
from experiments.tabular.splits import Splits

Result = dict[str, Any]  # of one loss on one set, as in its JSON file

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
    f"± is the standard error over splits. P at R {RATE} is the precision where the curve of the "
    f"test part has recall {RATE}, and R at P {RATE} the reverse. Tuned: at the threshold of the "
    "best F on validation data (for a macro mean one a label, for micro-F1 one for all). Corr.: at "
    "p > ½ after `correct_prior`, for losses that train as if half the rows were positive; as ½: a "
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
    results: list[Result]

    @property
    def columns(self) -> dict[str, str]:
        return MANY_LABELS if self.labels > 1 else ONE_LABEL

    def baseline(self) -> Result | None:
        return next((each for each in self.results if each["loss"] == BASELINE), None)


def of_set(table: Table, splits: Splits, results: list[Result]) -> SetReport:
    """What was measured on a table, with what it was measured on."""
    described = f"{table}; {len(splits.train)} splits of {splits.train.shape[1]} rows to train on"
    overlap = splits.test.shape[1] / (splits.train.shape[1] + splits.validation.shape[1])
    return SetReport(table.name, described, table.labels.shape[1], overlap, results)


def publish(reports: Sequence[SetReport], settings: Any, out: Path, console: Console) -> None:
    """Tables, what they say as the last lines, JSON and a figure."""
    written = [
        study.Table(report.described, ("loss", *report.columns.values()), lines, len(lines))
        for report in reports
        for lines in [list(cells(report))]
    ]
    content = {
        "settings": dataclasses.asdict(settings),
        "seconds": sum(result["seconds"] for report in reports for result in report.results),
        "sets": [dataclasses.asdict(report) for report in reports],
        "differences": {
            report.name: [d._asdict() for d in differences(report)] for report in reports
        },
    }
    notes = [NOTES, *_conclusions(reports)]
    study.publish(out, "comparison", written, notes, content, console)
    draw(reports, out / "comparison.png")


def _conclusions(reports: Sequence[SetReport]) -> Iterator[str]:
    for report in reports:
        yield ""
        if report.baseline() is None:
            yield f"{report.name}: without {BASELINE} among the losses nothing is compared"
            continue
        yield f"{report.name}, against {BASELINE} on the same splits:"
        yield from (f"  {line}" for line in verdicts(report))
        corrected = prior_correction(report)
        if corrected:
            yield f"  {corrected}"
    told = conclusion(reports)
    if told:
        yield ""
        yield told


# --- tables ---------------------------------------------------------------------------------------


def cells(report: SetReport) -> Iterator[list[str]]:
    """The table as text, a line a loss."""
    for result in report.results:
        figures = [_cell(result, name) for name in report.columns]
        yield [result["loss"], *figures]


def figures(result: Result, name: str) -> np.ndarray:
    """A figure on every split; what is not finite is null in JSON, and NaN here."""
    return np.asarray(result["figures"][name], float)


def _cell(result: Result, name: str) -> str:
    if name in result["figures"]:
        return tables.cell(tables.mean(figures(result, name).tolist()), digits=3)
    return "as ½" if LOSSES[result["loss"]].prior == "true" else "-"


# --- differences ----------------------------------------------------------------------------------


class Difference(NamedTuple):
    """A figure of a loss less that of cross-entropy, both on the same splits."""

    loss: str
    column: str
    independent: tables.Mean
    """As if splits were independent."""
    sharing: tables.Mean
    """Its error allows for the rows that splits share."""

    def __str__(self) -> str:
        (mean, error), star = self.independent, "*" if tables.clear(self.sharing) else ""
        return f"{self.loss} {mean:+.3f} ±{error:.3f}{star}"


def differences(report: SetReport) -> list[Difference]:
    """Of all losses and columns. Cross-entropy is at the true prior, and needs no correction."""
    baseline = report.baseline()
    if baseline is None:
        return []
    of = dict(baseline["figures"])
    of |= {name.replace("half", "corrected"): of[name] for name in of if name.endswith("half")}

    def compared(result: Result, column: str) -> Difference:
        pair = figures(result, column), np.asarray(of[column], float)
        sharing = tables.difference(*pair, overlap=report.overlap)
        return Difference(result["loss"], column, tables.difference(*pair), sharing)

    return [
        compared(result, column)
        for column in report.columns
        for result in report.results
        if result is not baseline and column in result["figures"]
    ]


def verdicts(report: SetReport) -> Iterator[str]:
    """Which differences exceed two standard errors, and which do not: a line a column."""
    compared = differences(report)
    for column, title in report.columns.items():
        here = [each for each in compared if each.column == column]
        if not here:
            continue
        beyond = [each for each in here if tables.clear(each.independent)]
        parts = {
            "better": [str(each) for each in beyond if each.independent[0] > 0],
            "worse": [str(each) for each in beyond if each.independent[0] < 0],
            "not finite": [each.loss for each in here if math.isnan(each.independent[0])],
        }
        known = {each.loss for each in beyond} | set(parts["not finite"])
        parts["within two standard errors"] = [each.loss for each in here if each.loss not in known]
        told = "; ".join(f"{what}: {', '.join(which)}" for what, which in parts.items() if which)
        yield f"{title}: {told}"


def conclusion(reports: Sequence[SetReport]) -> str:
    """How many differences there are, and how many chance alone would make."""
    told = []
    for report in reports:
        compared = [each for each in differences(report) if math.isfinite(each.independent[1])]
        if not compared:
            continue
        splits = len(report.results[0]["figures"]["roc_auc"])
        chance = 2.0 * stats.t.sf(2.0, splits - 1)
        beyond = sum(tables.clear(each.independent) for each in compared)
        surely = sum(tables.clear(each.sharing) for each in compared)
        told.append(
            f"{report.name}: {beyond} of {len(compared)} differences to {BASELINE} exceed two "
            f"standard errors; if no loss differed, about {chance * len(compared):.0f} would by "
            f"chance, one in {1 / chance:.0f}. {surely} (*) exceed two of the larger errors that "
            "allow for the rows that splits share."
        )
    return "\n".join(told)


def prior_correction(report: SetReport) -> str | None:
    """What correcting the prior did to the probabilities, which is what it is for."""
    base = report.baseline()
    told = [
        f"{result['loss']} {figures(result, 'log_loss').mean():.3f} → "
        f"{figures(result, 'log_loss_corrected').mean():.3f}"
        for result in report.results
        if "log_loss_corrected" in result["figures"]
    ]
    if not told:
        return None
    of_base = f" ({BASELINE}: {figures(base, 'log_loss').mean():.3f})" if base else ""
    return f"log loss before → after prior correction: {', '.join(told)}{of_base}"


# --- figure ---------------------------------------------------------------------------------------


def draw(reports: Sequence[SetReport], path: Path) -> None:
    """Differences to cross-entropy with two standard errors; hollow where they are within them."""
    shown = [report for report in reports if report.baseline() and len(report.results) > 1]
    if not shown:
        return
    titles = {
        "average_precision": "average precision",
        "f1_half": "F1 at probability ½",
        "f1_tuned": "F1 at the tuned threshold",
    }
    names = [n for n in LOSSES if any(n == result["loss"] for r in shown for result in r.results)]
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
                    if name not in of or not math.isfinite(of[name].independent[0]):
                        continue
                    mean, error = of[name].independent
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
