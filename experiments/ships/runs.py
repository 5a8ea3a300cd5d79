"""One run: trained and judged, judged again, and its figures."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from experiments.shared import processes, records, study
from experiments.shared.settings import require_known, require_within
from experiments.ships import experiment, measure, pictures, report
from experiments.ships.data import Reading, open_images
from experiments.ships.experiment import Settings
from experiments.ships.losses import LOSSES
from experiments.ships.pipeline import Images
from experiments.ships.splits import split
from experiments.ships.tuning import objects


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
    experiment.result_of(settings, reading, images, loss, seed, directory, console, resume=resume)
    if processes.first():
        show(directory, images, console)


def evaluate(directory: Path, reading: Reading, console: Console) -> None:
    """Judge a trained run anew on the images that it was not trained on.

    What is tuned is written down: `predict` takes the rule from there.
    """
    run = experiment.load(directory)
    images = open_images(run.settings, reading, console)
    parts = split(images, run.seed)
    judged = measure.judge(run.predict, images, parts.validation, parts.test)
    path = directory / study.RESULT
    before = study.found(directory) if path.exists() else {}
    records.write_json(path, {**before, **judged, **records.environment()})
    show(directory, images, console)


def show(directory: Path, images: Images, console: Console) -> None:
    """Print what a run has found, and draw it.

    Raises:
      ValueError: if its loss was not finite.
    """
    result, run = study.found(directory), experiment.load(directory)
    console.print_json(data={key: result[key] for key in result if key != "image_scores"})
    members = split(images, run.seed).test
    console.print(f"{result['verdict']}; figures and JSON in {directory}")
    report.draw({run.loss: directory}, {run.loss: run.predict}, images, members, directory)
    rule, scores = measure.rule_of(result), result["image_scores"]
    examples = pictures.best_and_worst(images, members, scores)
    if not examples:
        console.print("no test image with a ship, so best-and-worst.png is not drawn")
        return
    masks = {run.loss: [objects(run.predict(example.image), rule) > 0 for example in examples]}
    path, note = directory / "best-and-worst.png", "tuned objects: the best images, then the worst"
    pictures.predictions(examples, masks, path, scores=scores, note=note)
