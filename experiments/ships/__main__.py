"""Why does my U-Net predict all zeros? Train it on the losses and see.

    python -m experiments.ships                      the tour: five losses side by side, minutes
    python -m experiments.ships train --loss dice    one run, with --resume
    python -m experiments.ships compare              every loss, several seeds
    python -m experiments.ships evaluate RUN         figures and pictures of a trained run
    python -m experiments.ships predict RUN          a submission for a folder of images

Every command takes --data DIR for real images; --layout masks reads any images with mask files.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from experiments.shared import commands, plots, records, training
from experiments.ships import measure, pictures, run
from experiments.ships.comparison import compare_losses, judge
from experiments.ships.images import UnreadableImage
from experiments.ships.losses import LOSSES, require_known
from experiments.ships.measure import Predict as Predictor
from experiments.ships.pipeline import Images
from experiments.ships.run import Settings
from experiments.ships.submission import write_predictions
from experiments.ships.tuning import objects

CONSOLE = Console()
ASKED = ("asked-iou", "asked-focal", "asked-weighted")


@dataclasses.dataclass(frozen=True)
class Tour:
    """Train cross-entropy, Dice and the question's three losses, and see what becomes of each."""

    settings: tyro.conf.OmitArgPrefixes[Settings] = dataclasses.field(default_factory=Settings)
    losses: tuple[str, ...] = ("dice", "bce", *ASKED)
    """Losses by name."""
    seeds: int = 1
    """Runs for each loss; from two on, standard errors are shown."""
    out: Path = Path("runs/ships-tour")
    """Folder for runs, table and figures."""
    resume: bool = False
    """Keep finished runs and continue the unfinished one."""

    def __call__(self) -> None:
        compare_losses(
            self.settings, self.losses, self.seeds, self.out, CONSOLE, resume=self.resume
        )


@dataclasses.dataclass(frozen=True)
class Compare(Tour):
    """Train every loss at the same budget with several seeds; a table, JSON and figures."""

    losses: tuple[str, ...] = tuple(LOSSES)
    """Losses by name."""
    seeds: int = 3
    """Runs for each loss."""
    out: Path = Path("runs/ships-compare")
    """Folder for runs, table and figures."""


@dataclasses.dataclass(frozen=True)
class Train:
    """Train one loss; Ctrl-C leaves a checkpoint, --resume continues it to the same parameters."""

    settings: tyro.conf.OmitArgPrefixes[Settings] = dataclasses.field(default_factory=Settings)
    loss: str = "dice"
    """A loss by name."""
    seed: int = 0
    """Seed of parameters, crops and (for a folder) the split."""
    out: Path | None = None
    """Run directory; default runs/ships-LOSS-SEED."""
    resume: bool = False
    """Continue the run that is there."""

    def __call__(self) -> None:
        directory = self.out or Path(f"runs/ships-{self.loss}-{self.seed}")
        require_known([self.loss])
        images = run.open_images(self.settings, CONSOLE)
        arguments = (self.settings, images, self.loss, self.seed, directory, CONSOLE)
        predict = run.fit(*arguments, resume=self.resume)
        evaluate(directory, self.settings, images, self.loss, self.seed, predict)


def evaluate(
    directory: Path, settings: Settings, images: Images, loss: str, seed: int, predict: Predictor
) -> None:
    """Write and print what a trained model is worth, with curves and pictures."""
    result = judge(settings, images, seed, predict)
    record = {"loss": loss, "seed": seed, **result, **records.environment()}
    records.write_json(directory / "result.json", record)
    plots.training_curves({loss: directory / "metrics.jsonl"}, directory / "curves.png")
    examples = pictures.choose(images, run.parts(settings, images, seed).test)
    masks = {loss: [predict(example.image) > 0 for example in examples]}
    pictures.predictions(examples, masks, directory / "predictions.png", note="pixels with p > ½")
    scores, rule = result["image_scores"], measure.rule_of(result)
    examples = pictures.best_and_worst(images, run.parts(settings, images, seed).test, scores)
    masks = {loss: [objects(predict(example.image), rule) > 0 for example in examples]}
    path, note = directory / "best-and-worst.png", "tuned objects: the best images, then the worst"
    pictures.predictions(examples, masks, path, scores=scores, note=note)
    CONSOLE.print_json((directory / "result.json").read_text())
    CONSOLE.print(f"{result['verdict']}; figures and JSON in {directory}")


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Figures of a trained run on the images that it was not trained on."""

    directory: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(name="run")]]
    """Directory of a run."""

    def __call__(self) -> None:
        settings, loss, seed, predict = run.load(self.directory)
        images = run.open_images(settings, CONSOLE)
        evaluate(self.directory, settings, images, loss, seed, predict)


@dataclasses.dataclass(frozen=True)
class Predict:
    """Predict a folder of images and write them in the challenge's run-length format."""

    directory: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(name="run")]]
    """Directory of a trained run."""
    images: Path | None = None
    """Folder of images; default: the run's own test images."""
    out: Path = Path("submission.csv")
    """CSV to write."""
    threshold: float | None = None
    """Probability above which a pixel is ship; default: the rule tuned on validation."""
    min_area: int | None = None
    """Drop objects of fewer pixels; default: that of the rule, or none beside --threshold."""

    def __call__(self) -> None:
        write_predictions(
            self.directory, self.images, self.out, self.threshold, self.min_area, CONSOLE
        )


COMMANDS: dict[str, Any] = {
    "train": Train,
    "compare": Compare,
    "evaluate": Evaluate,
    "predict": Predict,
}


def main(arguments: list[str]) -> int:
    """Run a command; an error that a user can mend is one line, not a traceback."""
    return commands.run(
        COMMANDS,
        Tour,
        arguments,
        program="python -m experiments.ships",
        description=__doc__,
        console=CONSOLE,
        mendable=(UnreadableImage,),
    )


if __name__ == "__main__":
    training.use_every_core()
    sys.exit(main(sys.argv[1:]))
