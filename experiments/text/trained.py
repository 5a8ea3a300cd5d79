"""What a trained run is used for: its figures once more, and probabilities of other texts."""

from __future__ import annotations

import contextlib
import csv
import sys
import time
from pathlib import Path

import jax
import numpy as np
from rich.console import Console

from experiments.shared import study, training
from experiments.text import report
from experiments.text.corpus import decode
from experiments.text.data import open_texts, pose
from experiments.text.experiment import Settings, initialize, judge
from experiments.text.networks import Trained
from experiments.text.words import Words


def load(directory: Path) -> tuple[Settings, str, list[int], Trained]:
    """A trained run: its settings, loss, seeds, and networks.

    Raises:
      FileNotFoundError: if there is no run or no checkpoint.
    """
    described = study.described(directory)
    loss, seeds = described.pop("loss"), described.pop("seeds")
    for name in ("data", "vectors"):
        described[name] = described[name] and Path(described[name])
    described["widths"] = tuple(described["widths"])
    settings = Settings(**described)
    words = Words.load(directory / "words.npz")
    model, state = initialize(settings, (len(words.words), settings.size), seeds)
    return settings, loss, seeds, Trained(model, training.restore(state, directory), words)


def evaluate(directory: Path, console: Console) -> None:
    """Judge a run anew; table, JSON and figures go into its directory."""
    begun = time.perf_counter()
    settings, loss, seeds, trained = load(directory)
    settings, corpus = open_texts(settings, console)
    logits = trained(trained.words.rows(corpus.texts))
    problem = pose(settings, corpus, seeds)
    result = judge(problem, loss, logits)
    result["seconds"] = time.perf_counter() - begun
    report.publish_one(loss, result, problem, directory, console)


def tuned_threshold(directory: Path) -> float:
    """The probability above which a run's networks together take a text for rare.

    Raises:
      FileNotFoundError: if the run was not finished.
    """
    p = np.array([run["at_tuned"]["threshold"] for run in study.found(directory)["runs"]])
    # Networks vote by the mean of their logits, and so do their thresholds.
    odds = np.mean(np.log(p) - np.log1p(-p))
    return float(1.0 / (1.0 + np.exp(-odds)))


def predict(
    directory: Path, texts: Path | None, out: Path | None, threshold: float | None, console: Console
) -> None:
    """Write the probability of every line of `texts`, or of standard input, as CSV."""
    if threshold is None:
        threshold = tuned_threshold(directory)
    *_, trained = load(directory)
    lines = (decode(texts) if texts else sys.stdin.read()).split("\n")
    lines = lines[:-1] if lines[-1] == "" else lines
    if not lines:
        raise ValueError(f"{texts or 'standard input'} holds no text: expected one a line")
    with contextlib.ExitStack() as stack:
        file = sys.stdout
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(out.open("w", newline=""))
        p = np.asarray(jax.nn.sigmoid(trained(trained.words.rows(lines)).mean(0)))
        rows = [(k, f"{each:.6f}", int(each > threshold)) for k, each in enumerate(p, 1)]
        csv.writer(file, lineterminator="\n").writerows([("line", "probability", "rare"), *rows])
    if out is not None:
        console.print(f"{sum(p > threshold)} of {len(p)} texts above {threshold:.3f}: {out}")
