"""All losses and decisions on the same texts: train, judge, tabulate."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import diffmetrics as dm
from experiments.shared import plots, records, tables, training
from experiments.text import baselines, pictures, run
from experiments.text.corpus import Corpus, split
from experiments.text.losses import OVERSAMPLED, of_problem, require_known
from experiments.text.measure import DECISIONS, judge
from experiments.text.run import Material
from experiments.text.settings import Settings, name_corpus, open_corpus

CORRECTED = "oversampled, corrected"
IDEAL = "the true probabilities"
REFERENCE = "cross-entropy"
FIGURES = ("precision", "recall", "f1", "macro_f1", "mcc", "cost")
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
Runs = list[dict[str, Any]]  # one a seed, as `measure.judge` returns


def compare_losses(
    settings: Settings,
    losses: Sequence[str],
    seeds: int,
    together: int,
    out: Path,
    console: Console,
    *,
    resume: bool,
) -> list[dict[str, Any]]:
    """Train every loss with every seed, several seeds side by side, then report on all.

    Returns:
      One row a method, as written to `comparison.json`.

    Raises:
      ValueError: for a loss that does not exist, or no seed.
    """
    require_known(losses)
    for name, value in (("seeds", seeds), ("together", together)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    found = open_corpus(settings, console)
    judged: dict[str, Runs] = {}
    seconds = 0.0
    for first in range(0, seeds, together):
        group = range(first, min(first + together, seeds))
        bench = Bench(settings, found, list(group), out, console, resume)
        for name, runs, took in bench.results(losses):
            judged.setdefault(name, []).extend(runs)
            seconds += took
    rows = [summarize(name, runs) for name, runs in judged.items()]
    report(settings, found, rows, seeds, seconds, out, console)
    finished = [loss for loss in losses if training.has_checkpoint(out / f"{loss}-0")]
    if finished:
        logs = {loss: out / f"{loss}-0" / "metrics.jsonl" for loss in finished}
        plots.training_curves(logs, out / "curves.png")
    return rows


@dataclasses.dataclass
class Bench:
    """A group of seeds on which methods are tried one after the other."""

    settings: Settings
    corpus: Corpus
    seeds: list[int]
    out: Path
    console: Console
    resume: bool = False
    material: Material | None = None

    def __post_init__(self) -> None:
        shares = {"dev_share": self.settings.dev_share, "test_share": self.settings.test_share}
        self.parts = [split(self.corpus, seed, **shares) for seed in self.seeds]
        self.prevalence = np.array(
            [self.corpus.labels[part.train].mean() for part in self.parts], np.float32
        )

    def results(self, losses: Sequence[str]) -> Iterator[tuple[str, Runs, float]]:
        """Each method's name, figures and seconds."""
        if self.corpus.posterior is not None:
            true = np.log(self.corpus.posterior) - np.log1p(-self.corpus.posterior)
            yield IDEAL, self.judge(np.tile(true, (len(self.seeds), 1))), 0.0
        for name in baselines.PROBABILITIES:
            result = self.baseline(name)
            yield name, result["runs"], result["seconds"]
        for loss in losses:
            result = self.one(loss, self.out / f"{loss}-{self.seeds[0]}")
            yield loss, result["runs"], result["seconds"]
            if loss in OVERSAMPLED:
                yield CORRECTED, result["corrected"], 0.0

    def judge(self, logits: np.ndarray, probabilities: bool = True) -> Runs:
        miss, alarm = run.costs(self.settings, self.prevalence)
        labels = self.corpus.labels
        return judge(
            logits.astype(np.float32), labels, self.parts, miss, alarm, probabilities=probabilities
        )

    def baseline(self, name: str) -> dict[str, Any]:
        """Fit and judge a baseline, or read what was found."""
        directory = self.out / f"{name.replace(', ', '-').lower()}-{self.seeds[0]}"
        described = run.describe(self.settings, name, self.seeds, self.settings.size)
        records.claim(directory, described, resume=self.resume)
        path = directory / "result.json"
        if not path.exists():
            begun = time.perf_counter()
            logits = baselines.logits(name, self.corpus, self.parts)
            runs = self.judge(logits, baselines.PROBABILITIES[name])
            seconds = time.perf_counter() - begun
            records.write_json(path, {"runs": runs, "seconds": seconds, **records.environment()})
        return json.loads(path.read_text())

    def one(self, loss: str, directory: Path) -> dict[str, Any]:
        """Train and judge one loss, or read what a finished run has found."""
        path = directory / "result.json"
        described = run.describe(self.settings, loss, self.seeds, self.size())
        records.claim(directory, described, resume=self.resume)
        if path.exists():
            return json.loads(path.read_text())
        with records.stopwatch(directory / "seconds.json") as seconds:
            self.examine(loss)
            logits = self.fit(loss, directory)
        return self.write(loss, directory, logits, seconds())

    def examine(self, loss: str) -> None:
        """What the loss doctor says of it, in one line."""
        miss, alarm = (float(each.mean()) for each in run.costs(self.settings, self.prevalence))
        examined = of_problem(loss, float(self.prevalence.mean()), miss, alarm)
        training.examine(examined, "binary", self.console)

    def fit(self, loss: str, directory: Path) -> np.ndarray:
        """Train one loss, or go on with it, and predict all texts."""
        if self.material is None:
            self.material = run.prepare(self.settings, self.corpus, self.parts, self.seeds)
        trained = run.fit(
            self.settings,
            self.material,
            loss,
            directory,
            self.console,
            resume=True,
        )
        return trained(self.material.rows)

    def write(
        self, loss: str, directory: Path, logits: np.ndarray, seconds: float
    ) -> dict[str, Any]:
        """Judge the logits [R, n] of all texts, and record it as `result.json`."""
        result: dict[str, Any] = {"loss": loss, "seeds": self.seeds, "runs": self.judge(logits)}
        if loss in OVERSAMPLED:
            prior = self.prevalence[:, None]
            shifted = dm.correct_prior(logits, trained_prior=0.5, true_prior=prior)
            result["corrected"] = self.judge(np.asarray(shifted))
        path = directory / "result.json"
        records.write_json(path, result | {"seconds": seconds, **records.environment()})
        return json.loads(path.read_text())

    def size(self) -> int:
        """Numbers in a word's vector, which a file of vectors decides."""
        if self.settings.vectors is None or self.settings.variant == "rand":
            return self.settings.size
        if self.material is None:
            self.material = run.prepare(self.settings, self.corpus, self.parts, self.seeds)
        return self.material.vectors.shape[-1]


def tuned_threshold(directory: Path) -> float:
    """The probability above which a run's networks together take a text for rare.

    Raises:
      FileNotFoundError: if the run was not judged.
    """
    path = directory / "result.json"
    if not path.exists():
        raise FileNotFoundError(
            f"{directory} has no {path.name}: finish its training, or give --threshold"
        )
    p = np.array([each["at_tuned"]["threshold"] for each in json.loads(path.read_text())["runs"]])
    # Networks vote by the mean of their logits, and so do their thresholds.
    odds = np.mean(np.log(p) - np.log1p(-p))
    return float(1.0 / (1.0 + np.exp(-odds)))


# --- the report -----------------------------------------------------------------------------------


def summarize(name: str, runs: Runs) -> dict[str, Any]:
    """Means and standard errors over seeds, and the figures of every seed."""

    def figure(*path: str) -> list[float]:
        values: list[Any] = list(runs)
        for key in path:
            values = [value[key] for value in values]
        return [np.nan if value is None else float(value) for value in values]

    row: dict[str, Any] = {"method": name}
    each: dict[str, Any] = {}
    for when in DECISIONS:
        keys = (*FIGURES, "accuracy", "threshold", "tp", "fp", "fn", "tn", "dev_f1", "dev_macro_f1")
        each[when] = {key: figure(when, key) for key in keys}
        row[when] = {key: tables.mean(values) for key, values in each[when].items()}
    for key in ("average_precision", "calibration_error"):
        each[key] = figure(key)
        row[key] = tables.mean(each[key])
    row["each_seed"] = each
    bins = [each["reliability"] for each in runs]
    row["reliability"] = {
        key: np.sum([each[key] for each in bins], axis=0).tolist() for key in bins[0]
    }
    row["curve"] = runs[0]["curve"]
    return row


def choose(rows: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], str]:
    """The method and decision with the best F1 on the development texts; of equals the first."""
    tried = [(row, when) for row in rows for when in DECISIONS]
    return max(tried, key=lambda each: each[0][each[1]]["dev_f1"][0])


COMPARED = {
    "F1 at ½": ("at_half", "f1"),
    "F1 tuned": ("at_tuned", "f1"),
    "cost at ½": ("at_half", "cost"),
    "cost tuned": ("at_tuned", "cost"),
    "cost at Bayes": ("at_bayes", "cost"),
    "AP": ("average_precision",),
}


def differences(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, tables.Mean]]:
    """Each method less cross-entropy, seed by seed on the same texts."""
    by_name = {row["method"]: row["each_seed"] for row in rows}
    if REFERENCE not in by_name:
        return {}

    def values(each: dict[str, Any], path: tuple[str, ...]) -> np.ndarray:
        for key in path:
            each = each[key]
        return np.array(each, float)

    return {
        name: {
            label: tables.mean(list(values(each, path) - values(by_name[REFERENCE], path)))
            for label, path in COMPARED.items()
        }
        for name, each in by_name.items()
        if name not in (REFERENCE, IDEAL)
    }


def clear(found: dict[str, dict[str, tables.Mean]]) -> list[str]:
    """The differences that exceed two standard errors, in words."""
    lines = []
    for name, figures in found.items():
        told = [
            f"{label} {mean:+.3f} ±{error:.3f}"
            for label, (mean, error) in figures.items()
            if abs(mean) > 2 * error
        ]
        lines.append(f"{name}: {', '.join(told) if told else 'nothing'}")
    return lines


COLUMNS = (
    "method",
    "p >",
    "prec.",
    "recall",
    "F1",
    "macro-F1",
    "MCC",
    "cost",
    "AP",
    "ECE",
    "found",
    "alarms",
    "missed",
)


def cells(rows: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    """The comparison as text, a line for each decision of a method."""
    for row in rows:
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


def report(
    settings: Settings,
    found: Corpus,
    rows: Sequence[dict[str, Any]],
    seeds: int,
    seconds: float,
    out: Path,
    console: Console,
) -> None:
    """Print and write the table, what is clear from it, and the figures."""
    source = name_corpus(settings)
    where = records.environment()
    minutes = seconds / 60
    title = (
        f"TextCNN ({settings.variant}) on {source}: {settings.epochs} epochs, {seeds} "
        f"seed{'s' * (seeds > 1)}, {where['device']}"
    )
    differ = differences(rows)
    others = (IDEAL, *baselines.PROBABILITIES)
    networks = [row for row in rows if row["method"] not in others]
    best, when = choose(networks)
    content = {
        "source": source,
        "settings": vars(settings),
        "seeds": seeds,
        "minutes": minutes,
        **where,
        "classes": found.classes,
        "rare_share": found.labels.mean(),
        "chosen": {"method": best["method"], "decision": when},
        "differences": differ,
        "rows": rows,
    }
    records.write_json(out / "comparison.json", content)
    figures = best[when]
    chosen = (
        f"chosen on the development texts: {best['method']}, {DECISIONS[when]}: on test texts "
        + ", ".join(f"{key} {tables.cell(figures[key])}" for key in FIGURES[:4])
    )
    notes = [chosen, *PUBLISHED.get(settings.layout, ())]
    if seeds > 1 and differ:
        notes += [
            "beyond two standard errors of the paired difference to cross-entropy:",
            *(f"  {line}" for line in clear(differ)),
        ]
    table = tables.markdown(COLUMNS, cells(rows), f"{title}, {minutes:.1f} minutes")
    (out / "comparison.md").write_text(table + "\n" + "\n".join(notes) + "\n")
    tables.show(COLUMNS, list(cells(rows)), title, console)
    for note in notes:
        console.print(note, markup=False)
    console.print(
        "± is the standard error over seeds, which draw the parts, the first weights and the order "
        "of the texts. Thresholds are tuned for F1 on development texts. Cost is per text.\n"
        f"{minutes:.1f} minutes; runs, comparison.json and figures in {out}",
        markup=False,
    )
    pictures.draw(rows, (best["method"], when), found.classes, out, title=title)
