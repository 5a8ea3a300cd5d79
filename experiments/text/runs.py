"""One run: trained, judged once more, and used for the probabilities of other texts."""

from __future__ import annotations

import contextlib
import csv
import functools
import sys
import time
from pathlib import Path

import jax
import numpy as np
from rich.console import Console

from experiments.shared import study, training
from experiments.shared.settings import require_known, require_within
from experiments.text import report
from experiments.text.corpus import decode
from experiments.text.data import open_texts, pose
from experiments.text.experiment import Settings, initialize, judge, prepare, train_and_judge
from experiments.text.losses import LOSSES
from experiments.text.side_by_side import Trained
from experiments.text.words import Words


def train(
    settings: Settings,
    loss: str,
    seed: int,
    together: int,
    directory: Path,
    console: Console,
    *,
    resume: bool,
) -> None:
    """Train one loss with `together` seeds from `seed` on, in a directory that can be used again.

    Raises:
      ValueError: for a loss or texts that cannot be used, or a loss that becomes NaN or infinite.
    """
    require_known("loss", [loss], LOSSES)
    require_within({"seed": seed, "together": together}, seed="[0, inf)", together="[1, inf)")
    settings, corpus = open_texts(settings, console)
    problem = pose(settings, corpus, range(seed, seed + together))
    material = functools.partial(prepare, problem)
    find = functools.partial(train_and_judge, problem, material, loss, console)
    study.result(directory, problem.describe(loss), find, resume=resume)
    report.publish_one(loss, study.found(directory), problem, directory, console)


def load(directory: Path) -> tuple[Settings, str, list[int], Trained]:
    """A trained run: its settings, loss, seeds, and networks.

    Raises:
      FileNotFoundError: if there is no run or no checkpoint.
      ValueError: if there is no network in it.
    """
    settings, described = study.settings_of(directory, Settings)
    seeds = described["seeds"]
    if described["loss"] not in LOSSES:
        raise ValueError(f"{directory} is of {described['loss']}, which has no network")
    words = Words.load(directory / "words.npz")
    vectors = np.zeros((len(seeds), len(words.words), settings.size), np.float32)
    model, state = initialize(settings, vectors, seeds)
    trained = Trained(model, training.restore(state, directory), words)
    return settings, described["loss"], seeds, trained


def evaluate(directory: Path, console: Console) -> None:
    """Judge a run anew; table, JSON and figures go into its directory."""
    begun = time.perf_counter()
    settings, loss, seeds, trained = load(directory)
    study.found(directory)
    settings, corpus = open_texts(settings, console)
    problem = pose(settings, corpus, seeds)
    result = judge(problem, loss, trained(trained.words.rows(corpus.texts)))
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
    *_, trained = load(directory)
    threshold = tuned_threshold(directory) if threshold is None else threshold
    lines = (decode(texts) if texts else sys.stdin.read()).split("\n")
    lines = lines[:-1] if lines[-1] == "" else lines
    if not lines:
        raise ValueError(f"{texts or 'standard input'} holds no text: expected one a line")
    probabilities = np.asarray(jax.nn.sigmoid(trained(trained.words.rows(lines)).mean(0)))
    rows = [(k, f"{p:.6f}", int(p > threshold)) for k, p in enumerate(probabilities, 1)]
    with contextlib.ExitStack() as stack:
        file = sys.stdout
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(out.open("w", newline=""))
        csv.writer(file, lineterminator="\n").writerows([("line", "probability", "rare"), *rows])
    if out is not None:
        rare = sum(probabilities > threshold)
        console.print(f"{rare} of {len(rows)} texts above {threshold:.3f}: {out}")
