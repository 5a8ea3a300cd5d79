"""Cross-validated accuracy beside published figures, all folds trained in one program."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from experiments.shared import study, tables
from experiments.shared.settings import require_within
from experiments.text import baselines
from experiments.text.corpus import folds
from experiments.text.data import Problem, open_texts
from experiments.text.experiment import Settings, fit, prepare
from experiments.text.textcnn import Variant

# Accuracy in 10-fold cross-validation on MR. Kim's vectors are word2vec's, of 100 billion words.
PUBLISHED = {
    "Kim 2014, CNN-rand": 0.761,
    "Kim 2014, CNN-static, word2vec": 0.810,
    "Kim 2014, CNN-non-static, word2vec": 0.815,
    "Kim 2014, CNN-multichannel, word2vec": 0.811,
    "harvardnlp/sent-conv-torch, rand": 0.759,
    "harvardnlp/sent-conv-torch, multichannel, word2vec": 0.808,
}


def cross_validate(
    settings: Settings,
    variants: Sequence[Variant],
    number: int,
    seed: int,
    together: int,
    out: Path,
    console: Console,
    *,
    resume: bool,
) -> None:
    """Train each variant on every fold with cross-entropy; accuracy at ½, nothing tuned."""
    require_within({"together": together}, together="[1, inf)")
    settings, corpus = open_texts(settings, console)
    parts = folds(corpus, number, seed)
    groups = [range(number)[first : first + together] for first in range(0, number, together)]
    methods: dict[str, tuple[Settings, str]] = {
        **{name: (settings, name) for name in baselines.PROBABILITIES},
        **{
            f"TextCNN, {variant}": (dataclasses.replace(settings, variant=variant), variant)
            for variant in variants
        },
    }
    rows = []
    for method, (own, name) in methods.items():
        results = []
        for group in groups:
            problem = Problem(own, corpus, list(group), [parts[k] for k in group])
            find = functools.partial(_train_and_judge, problem, name, console)
            described = {**problem.describe("cross-entropy"), "folds": number, "seed": seed}
            directory = problem.directory(out, name)
            results.append(study.result(directory, described, find, resume=resume))
        rows.append(_row(method, results))
    _publish(rows, settings, number, seed, out, console)


def _train_and_judge(
    problem: Problem[Settings], name: str, console: Console, directory: Path
) -> dict[str, list[float]]:
    """The accuracy of a baseline, or of a network, on the test texts of every fold."""
    if name in baselines.PROBABILITIES:
        logits = baselines.logits(name, problem.corpus, problem.parts)
    else:
        material = prepare(problem)
        logits = fit(problem, material, "cross-entropy", directory, console)(material.rows)
    return {
        "accuracies": [
            float(np.mean((z[part.test] > 0) == problem.corpus.labels[part.test]))
            for z, part in zip(logits, problem.parts, strict=True)
        ]
    }


def _row(method: str, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    row = {"method": method, "seconds": sum(result["seconds"] for result in results)}
    for result in results:
        if "failed" in result:
            return {**row, "failed": result["failed"]}
    accuracies = [accuracy for result in results for accuracy in result["accuracies"]]
    return {**row, "accuracy": tables.mean(accuracies), "each_fold": accuracies}


def _publish(
    rows: Sequence[dict[str, Any]],
    settings: Settings,
    number: int,
    seed: int,
    out: Path,
    console: Console,
) -> None:
    published = PUBLISHED if settings.layout == "mr" else {}
    content = {
        "source": settings.name,
        "settings": dataclasses.asdict(settings),
        "folds": number,
        "seed": seed,
        "seconds": sum(row["seconds"] for row in rows),
        "rows": rows,
        "published": published,
    }
    lines = [[row["method"], _percent(row), f"{row['seconds'] / 60:.1f}"] for row in rows]
    lines += [[name, f"{100 * value:.1f}", ""] for name, value in published.items()]
    title = f"{number}-fold cross-validation on {settings.name}"
    table = study.Table(title, ("method", "accuracy, %", "minutes"), lines)
    notes = ["± is the standard error over folds."]
    notes += [f"{row['method']} failed: {row['failed']}" for row in rows if "failed" in row]
    study.publish(out, "crossvalidation", [table], notes, content, console)


def _percent(row: dict[str, Any]) -> str:
    if "failed" in row:
        return "failed"
    mean, error = row["accuracy"]
    return tables.cell((100 * mean, 100 * error), digits=1)
