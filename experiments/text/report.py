"""The table of a comparison, its differences to cross-entropy, and its figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from experiments.shared import plots, study, tables
from experiments.text import baselines, pictures
from experiments.text.corpus import Corpus
from experiments.text.data import Problem
from experiments.text.measure import DECISIONS

Row = dict[str, Any]  # a method: its mean figures with errors, and "runs", those of every seed

CORRECTED = "oversampled, corrected"
IDEAL = "the true probabilities"
REFERENCE = "cross-entropy"
FIGURES = {
    "precision": "prec.",
    "recall": "recall",
    "f1": "F1",
    "macro_f1": "macro-F1",
    "mcc": "MCC",
    "cost": "cost",
}
COLUMNS = ("method", "p >", *FIGURES.values(), "AP", "ECE", "found", "alarms", "missed")
COMPARED = {
    "F1 at ½": ("at_half", "f1"),
    "F1 tuned": ("at_tuned", "f1"),
    "cost at ½": ("at_half", "cost"),
    "cost tuned": ("at_tuned", "cost"),
    "cost at Bayes": ("at_bayes", "cost"),
    "AP": ("average_precision",),
}
# OLID's own baselines, of the offensive class on the official test.
PUBLISHED = {
    "olid": [
        f"published (Zampieri et al., NAACL 2019): {name}: precision {p}, recall {r}, f1 {f}, "
        f"macro_f1 {macro}"
        for name, p, r, f, macro in (
            ("SVM", 0.66, 0.43, 0.52, 0.69),
            ("BiLSTM", 0.81, 0.48, 0.60, 0.75),
            ("two-channel CNN with FastText vectors", 0.78, 0.63, 0.70, 0.80),
        )
    ]
}


def methods_of(method: str, result: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The figures of a method, and those of its probabilities once their prior is true."""
    yield method, result
    if "corrected" in result:
        yield CORRECTED, {"runs": result["corrected"]}


def of_method(name: str, results: Sequence[dict[str, Any]]) -> Row:
    """Means and standard errors over the seeds of all groups, or why one of them failed."""
    took = sum(result.get("seconds", 0.0) for result in results)
    for result in results:
        if "failed" in result:
            return {"method": name, "failed": result["failed"], "seconds": took}
    runs = [run for result in results for run in result["runs"]]
    bins = [run["reliability"] for run in runs]
    return {
        "method": name,
        "seconds": took,
        **tables.means(runs),
        "reliability": {key: np.sum([run[key] for run in bins], axis=0) for key in bins[0]},
        "curve": runs[0]["curve"],
        "runs": runs,
    }


def publish_one(
    loss: str, result: dict[str, Any], problem: Problem[Any], directory: Path, console: Console
) -> None:
    """Print and write the figures of one trained loss, in the directory of its run."""
    results = {method: [figures] for method, figures in methods_of(loss, result)}
    settings, corpus, seeds, _ = problem
    logs = {loss: directory / "metrics.jsonl"}
    publish(results, settings, corpus, len(seeds), logs, directory, console)


def publish(
    results: Mapping[str, Sequence[dict[str, Any]]],
    settings: Any,
    corpus: Corpus,
    seeds: int,
    logs: Mapping[str, Path],
    out: Path,
    console: Console,
) -> None:
    """Print and write the table, what is clear from it, and the figures.

    `comparison.json` is a record: it holds more than is read again.

    Args:
      results: of each method, one for every group of seeds.
      settings: an `experiment.Settings`.
      corpus: on which they were judged.
      seeds: how many there were.
      logs: what each loss wrote as it was trained.
      out: folder for everything.
      console: where the table is printed.
    """
    title = (
        f"TextCNN ({settings.variant}) on {settings.name}: "
        f"{tables.count(settings.epochs, 'epoch')}, {tables.count(seeds, 'seed')}"
    )
    rows = [of_method(method, groups) for method, groups in results.items()]
    judged = [row for row in rows if "failed" not in row]
    chosen = choose(judged)
    content = {
        "source": settings.name,
        "settings": dataclasses.asdict(settings),
        "seeds": seeds,
        "seconds": sum(row["seconds"] for row in rows),
        "classes": corpus.classes,
        "rare_share": corpus.labels.mean(),
        "chosen": chosen and {"method": chosen[0]["method"], "decision": chosen[1]},
        "differences": differences(judged),
        "rows": rows,
    }
    table = study.Table(title, COLUMNS, list(cells(rows)))
    notes = [*conclusions(rows, seeds), *PUBLISHED.get(settings.layout, ())]
    study.publish(out, "comparison", [table], notes, content, console)
    best = (chosen[0]["method"], chosen[1]) if chosen else None
    pictures.draw(judged, best, corpus.classes, out, title=title)
    written = {name: log for name, log in logs.items() if log.exists() and log.stat().st_size}
    if written:
        plots.training_curves(written, out / "curves.png")


def choose(rows: Sequence[Row]) -> tuple[Row, str] | None:
    """The network and decision with the best F1 on the development texts; of equals the first."""
    others = (IDEAL, *baselines.PROBABILITIES)
    tried = [(row, when) for row in rows if row["method"] not in others for when in DECISIONS]
    return max(tried, key=lambda pair: pair[0][pair[1]]["dev_f1"][0], default=None)


def differences(rows: Sequence[Row]) -> dict[str, dict[str, tables.Mean]]:
    """Each method less cross-entropy, seed by seed on the same texts."""
    runs_of = {row["method"]: row["runs"] for row in rows}
    if REFERENCE not in runs_of:
        return {}
    return {
        method: tables.differences(runs, runs_of[REFERENCE], COMPARED)
        for method, runs in runs_of.items()
        if method not in (REFERENCE, IDEAL)
    }


def conclusions(rows: Sequence[Row], seeds: int) -> Iterator[str]:
    """What was chosen, what is clear, what failed, and what the columns are."""
    judged = [row for row in rows if "failed" not in row]
    if chosen := choose(judged):
        row, when = chosen
        told = ", ".join(f"{key} {tables.cell(row[when][key])}" for key in list(FIGURES)[:4])
        called = DECISIONS[when]
        yield f"chosen on the development texts: {row['method']}, {called}: on test texts {told}"
    for row in rows:
        if "failed" in row:
            yield f"{row['method']} failed: {row['failed']}"
    if seeds > 1:
        results = {row["method"]: row["runs"] for row in judged if row["method"] != IDEAL}
        yield from tables.against(results, REFERENCE, COMPARED)
        yield (
            "± is the standard error over seeds, which draw the parts, the first weights and the "
            "order of the texts."
        )
    else:
        yield "1 seed: no figure has a standard error, and no difference is told."
    yield "Thresholds are tuned for F1 on development texts. Cost is per text."


def cells(rows: Sequence[Row]) -> Iterator[list[str]]:
    """The comparison as text, a line for each decision of a method."""
    for row in rows:
        if "failed" in row:
            yield [row["method"], "failed", *["-"] * (len(COLUMNS) - 2)]
            continue
        for when, called in DECISIONS.items():
            figures = row[when]
            if np.isnan(figures["f1"][0]):
                continue
            first = when == "at_half"
            at = "½" if first else f"{called} {figures['threshold'][0]:.2f}"
            error = row["calibration_error"]
            yield [
                row["method"] if first else "",
                at,
                *(tables.cell(figures[key]) for key in FIGURES),
                tables.cell(row["average_precision"]) if first else "",
                tables.cell(error) if first and not np.isnan(error[0]) else "",
                *(f"{figures[key][0]:.0f}" for key in ("tp", "fp", "fn")),
            ]
