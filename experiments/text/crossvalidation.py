"""Cross-validated accuracy beside published figures, all folds trained in one program."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from experiments.shared import records, tables
from experiments.text import baselines, run
from experiments.text.corpus import Parts, folds
from experiments.text.settings import Settings, name_corpus, open_corpus
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
) -> list[dict[str, Any]]:
    """Train each variant on every fold with cross-entropy; accuracy at ½, nothing tuned."""
    if together < 1:
        raise ValueError(f"together must be at least 1, got {together}")
    found = open_corpus(settings, console)
    parts = folds(found, number, seed)
    rows: list[dict[str, Any]] = []
    for name in baselines.PROBABILITIES:
        begun = time.perf_counter()
        logits = baselines.logits(name, found, parts)
        accuracies = _accuracies(logits, found.labels, parts)
        rows.append(_row(name, accuracies, time.perf_counter() - begun))
    for variant in variants:
        accuracies, seconds = [], 0.0
        for first in range(0, number, together):
            group = list(range(first, min(first + together, number)))
            directory = out / f"{variant}-{first}"
            result = _group(
                dataclasses.replace(settings, variant=variant),
                found,
                [parts[k] for k in group],
                group,
                directory,
                console,
                resume=resume,
            )
            accuracies += result["accuracies"]
            seconds += result["seconds"]
        rows.append(_row(f"TextCNN, {variant}", accuracies, seconds))
    where = records.environment()
    source = name_corpus(settings)
    title = f"{number}-fold cross-validation on {source}, {where['device']}"
    published = PUBLISHED if settings.layout == "mr" else {}
    minutes = sum(row["seconds"] for row in rows) / 60
    content = {
        "source": source,
        "settings": vars(settings),
        "folds": number,
        "seed": seed,
        "minutes": minutes,
        **where,
        "rows": rows,
        "published": published,
    }
    records.write_json(out / "crossvalidation.json", content)
    columns = ("method", "accuracy, %", "minutes")
    lines = [
        [row["method"], _percent(row["accuracy"]), f"{row['seconds'] / 60:.1f}"] for row in rows
    ] + [[name, f"{100 * value:.1f}", ""] for name, value in published.items()]
    (out / "crossvalidation.md").write_text(
        tables.markdown(columns, lines, f"{title}, {minutes:.1f} minutes")
    )
    tables.show(columns, lines, title, console)
    console.print(f"± is the standard error over folds; crossvalidation.json in {out}")
    return rows


def _group(
    settings: Settings,
    found: Any,
    parts: Sequence[Parts],
    seeds: Sequence[int],
    directory: Path,
    console: Console,
    *,
    resume: bool,
) -> dict[str, Any]:
    path = directory / "result.json"
    if path.exists() and resume:
        return json.loads(path.read_text())
    with records.stopwatch(directory / "seconds.json") as seconds:
        material = run.prepare(settings, found, parts, seeds)
        trained = run.fit(settings, material, "cross-entropy", directory, console, resume=resume)
        logits = trained(material.rows)
    result = {
        "accuracies": _accuracies(logits, found.labels, parts),
        "seconds": seconds(),
        **records.environment(),
    }
    records.write_json(path, result)
    return result


def _accuracies(logits: np.ndarray, labels: np.ndarray, parts: Sequence[Parts]) -> list[float]:
    return [
        float(np.mean((z[part.test] > 0) == labels[part.test]))
        for z, part in zip(logits, parts, strict=True)
    ]


def _row(name: str, accuracies: Sequence[float], seconds: float) -> dict[str, Any]:
    return {
        "method": name,
        "accuracy": tables.mean(accuracies),
        "each_fold": list(accuracies),
        "seconds": seconds,
    }


def _percent(mean: tables.Mean) -> str:
    return f"{100 * mean[0]:.1f} ±{100 * mean[1]:.1f}"
