"""One run: trained and judged, judged again, and its figures."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rich.console import Console

from experiments.shared import records, study
from experiments.shared.settings import require_known, require_within
from experiments.ships import experiment, measure, report
from experiments.ships.data import Reading, open_images
from experiments.ships.experiment import Settings
from experiments.ships.losses import LOSSES
from experiments.ships.pipeline import Images
from experiments.ships.splits import split


def train(
    settings: Settings,
    reading: Reading,
    loss: str,
    seed: int,
    directory: Path,
    console: Console,
    *,
    resume: bool,
) -> None:
    """Train one loss with one seed, in a directory that can be used again, and judge it."""
    require_known("loss", [loss], LOSSES)
    require_within({"seed": seed}, seed="[0, inf)")
    images = open_images(settings, reading, console)
    find = partial(experiment.find, settings, reading, images, loss, seed, console)
    described = experiment.describe(settings, loss, seed)
    study.result(directory, described, find, resume=resume)
    show(directory, images, console)


def evaluate(directory: Path, reading: Reading, console: Console) -> None:
    """Judge a trained run anew on the images that it was not trained on."""
    settings, _, seed, predict = experiment.load(directory)
    images = open_images(settings, reading, console)
    parts = split(images, seed)
    found = measure.report(predict, images, parts.validation, parts.test)
    path = directory / study.RESULT
    before = study.found(directory) if path.exists() else {}
    records.write_json(path, {**before, **found, **records.environment()})
    show(directory, images, console)


def show(directory: Path, images: Images, console: Console) -> None:
    """Print what a run has found, and draw it.

    Raises:
      ValueError: if its loss was not finite.
    """
    found = study.found(directory)
    described = study.described(directory)
    loss, seed = described["loss"], described["seed"]
    console.print_json(data={key: found[key] for key in found if key != "image_scores"})
    members = split(images, seed).test
    report.draw(
        {loss: directory}, images, members, lambda each: experiment.load(each).predict, directory
    )
    console.print(f"{found['verdict']}; figures and JSON in {directory}")
