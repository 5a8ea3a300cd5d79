"""From a trained run to a submission file in the challenge's run-length format."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from rich.console import Console

from experiments.shared import study
from experiments.ships import experiment, measure
from experiments.ships.data import Reading, open_images
from experiments.ships.run_length import write_submission
from experiments.ships.splits import split
from experiments.ships.tuning import Rule, objects

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"}


def write_predictions(
    directory: Path,
    folder: Path | None,
    out: Path,
    threshold: float | None,
    min_area: int | None,
    console: Console,
) -> None:
    """Predict every image and write one row an object, or an empty row for an empty image.

    Args:
      directory: a trained run.
      folder: images to predict; None predicts the run's own test images.
      out: the CSV.
      threshold: probability above which a pixel is ship; None takes the rule that was tuned on
        validation images when the run was evaluated.
      min_area: objects with fewer pixels are dropped; None leaves it to the rule, if that was
        tuned, and drops none otherwise.
      console: for progress and what is left out.

    Raises:
      FileNotFoundError: if there is no run, no such folder, or no image in it.
      ValueError: if the threshold is not a probability.
    """
    run = experiment.load(directory)
    rule = measure.rule_of(study.found(directory)) if threshold is None else Rule(_logit(threshold))
    if min_area is not None:
        rule = dataclasses.replace(rule, min_area=min_area)
    pictures = _own(run, console) if folder is None else _read(_files(folder), console)

    counts = {"images": 0, "objects": 0}

    def rows() -> Iterator[tuple[str, np.ndarray]]:
        for name, image in pictures:
            instances = objects(run.predict(image), rule)
            counts["images"] += 1
            counts["objects"] += int(instances.max(initial=0))
            yield name, instances

    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = out.with_suffix(".partial")  # Ctrl-C must not leave what looks like a submission
    try:
        write_submission(scratch, rows())
        scratch.replace(out)
    finally:
        scratch.unlink(missing_ok=True)
    console.print(f"{counts['objects']} objects in {counts['images']} images at {rule}: {out}")


def _logit(threshold: float) -> float:
    if not 0.0 < threshold < 1.0:
        raise ValueError(f"threshold must lie between 0 and 1, got {threshold}")
    return math.log(threshold / (1.0 - threshold))


def _own(run: experiment.Run, console: Console) -> Iterator[tuple[str, np.ndarray]]:
    images = open_images(run.settings, Reading(), console)
    for example in images.readable(split(images, run.seed).test):
        yield example.name, example.image


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"images must be a folder, and {folder} is none")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise FileNotFoundError(f"{folder} holds no image ({', '.join(sorted(SUFFIXES))})")
    return paths


def _read(paths: Sequence[Path], console: Console) -> Iterator[tuple[str, np.ndarray]]:
    for path in paths:
        try:
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
        except (UnidentifiedImageError, OSError) as error:
            console.print(f"left out: {path.name}: {error}", style="yellow", markup=False)
            continue
        yield path.name, pixels
