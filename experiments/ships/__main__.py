"""Why does my U-Net predict all zeros? Train it on the losses and see.

    python -m experiments.ships                      the tour: five losses side by side, minutes
    python -m experiments.ships train --loss dice    one run, with --resume
    python -m experiments.ships compare              every loss, several seeds
    python -m experiments.ships evaluate RUN         figures and pictures of a trained run
    python -m experiments.ships predict RUN          a submission for a folder of images
    python -m experiments.ships input --data DIR     how fast images are read

--data takes folders of real images, in the challenge's layout or with mask files; --weak others,
whose masks are not to be trusted, to train on only. Seed s tests on the fold s mod 5 of their
scenes, so that --seeds 5 tests on every image once.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Annotated

from rich.console import Console
from tyro.conf import Positional

from experiments.shared import commands, processes, training
from experiments.ships import experiment, runs, submission, throughput
from experiments.ships.data import Reading
from experiments.ships.experiment import Settings
from experiments.ships.images import UnreadableImage
from experiments.ships.losses import ASKED, LOSSES

CONSOLE = Console()


def compare(
    settings: commands.Flat[Settings] = Settings(),  # noqa: B008 - frozen
    reading: commands.Flat[Reading] = Reading(),  # noqa: B008
    others: commands.Flat[processes.Others] = processes.Others(),  # noqa: B008
    *,
    losses: Annotated[tuple[str, ...], commands.choices(LOSSES)] = tuple(LOSSES),
    seeds: int = 3,
    out: Path = Path("runs/ships-compare"),
    resume: bool = False,
) -> None:
    """Train every loss at the same budget with several seeds; a table, JSON and figures.

    Args:
      settings: of every run.
      reading: of images.
      others: processes that share each run.
      losses: by name.
      seeds: runs for each loss; from two on, standard errors are shown.
      out: folder for runs, table and figures.
      resume: keep finished runs and continue the unfinished one.
    """
    others.join(CONSOLE)
    experiment.compare(settings, reading, losses, seeds, out, CONSOLE, resume=resume)


def train(
    settings: commands.Flat[Settings] = Settings(),  # noqa: B008 - frozen
    reading: commands.Flat[Reading] = Reading(),  # noqa: B008
    others: commands.Flat[processes.Others] = processes.Others(),  # noqa: B008
    *,
    loss: Annotated[str, commands.choice(LOSSES)] = "dice",
    seed: int = 0,
    out: Path | None = None,
    resume: bool = False,
) -> None:
    """Train one loss; Ctrl-C leaves a checkpoint, --resume continues it to the same parameters.

    Args:
      settings: of the run.
      reading: of images.
      others: processes that share the run.
      loss: by name.
      seed: of parameters, crops and (for folders) the split.
      out: directory of the run; default runs/ships-LOSS-SEED.
      resume: continue the run that is there.
    """
    others.join(CONSOLE)
    directory = out or Path(f"runs/ships-{loss}-{seed}")
    runs.train(settings, reading, loss, seed, directory, CONSOLE, resume=resume)


def evaluate(run: Positional[Path], reading: commands.Flat[Reading] = Reading()) -> None:  # noqa: B008
    """Figures of a trained run on the images that it was not trained on.

    Args:
      run: directory of a run.
      reading: of images.
    """
    runs.evaluate(run, reading, CONSOLE)


def predict(
    run: Positional[Path],
    *,
    images: Path | None = None,
    out: Path = Path("submission.csv"),
    threshold: float | None = None,
    min_area: int | None = None,
) -> None:
    """Predict a folder of images and write them in the challenge's run-length format.

    Args:
      run: directory of a trained run.
      images: folder of images; default: the run's own test images.
      out: CSV to write.
      threshold: probability above which a pixel is ship; default: the rule tuned on validation.
      min_area: drop objects of fewer pixels; default: that of the rule, or none beside --threshold.
    """
    submission.write_predictions(run, images, out, threshold, min_area, CONSOLE)


def measure_input(
    settings: commands.Flat[Settings] = Settings(),  # noqa: B008 - frozen
    reading: commands.Flat[Reading] = Reading(),  # noqa: B008
) -> None:
    """Crops a second that are read, without a network, pass by pass over the training images.

    Args:
      settings: of the run to read for.
      reading: of images.
    """
    throughput.tell(settings, reading, CONSOLE)


COMMANDS = {
    "tour": functools.partial(
        compare,
        losses=("dice", "cross-entropy", *ASKED),
        seeds=1,
        out=Path("runs/ships-tour"),
    ),
    "compare": compare,
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "input": measure_input,
}


def main(arguments: list[str]) -> int:
    """Run a command; an error that a user can mend is one line, not a traceback."""
    return commands.run(
        COMMANDS,
        arguments,
        program="python -m experiments.ships",
        description=__doc__,
        console=CONSOLE,
        mendable=(UnreadableImage,),
    )


if __name__ == "__main__":
    training.use_every_core()
    sys.exit(main(sys.argv[1:]))
