"""Why does my TextCNN find only 40 % of the true texts? Train it on the losses and see.

    python -m experiments.text                      the tour: generated messages, five seeds
    python -m experiments.text compare              every loss and decision in one table
    python -m experiments.text train --loss focal   one loss, with --resume
    python -m experiments.text evaluate RUN         figures of a trained run on its test texts
    python -m experiments.text predict RUN          probabilities for a file, or standard input
    python -m experiments.text crossvalidate        accuracy beside the published figures

The commands that train take --data FILE for a CSV or TSV file with named columns of texts and
labels; --layout sms, mr or olid reads those corpora.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Annotated

from rich.console import Console
from tyro.conf import Positional

from experiments.shared import commands
from experiments.text import crossvalidation, experiment, runs
from experiments.text.experiment import Settings
from experiments.text.losses import LOSSES
from experiments.text.textcnn import Variant

CONSOLE = Console()
# `asked-…` are the losses of a question on Stack Overflow, reproduced literally, errors included.
TOUR = ("cross-entropy", "class-weighted", "asked-mask", "asked-swapped", "expected-cost")


def compare(
    settings: commands.Flat[Settings] = Settings(),  # noqa: B008 - frozen
    *,
    losses: Annotated[tuple[str, ...], commands.choices(LOSSES)] = tuple(LOSSES),
    seeds: int = 5,
    together: int = 5,
    out: Path = Path("runs/text-compare"),
    resume: bool = False,
) -> None:
    """Train every loss with several seeds; a table, JSON and figures.

    Args:
      settings: of every run.
      losses: by name.
      seeds: how often everything is done anew; from two on, standard errors are shown.
      together: seeds that are trained side by side in one program; fewer take less memory.
      out: folder for runs, table and figures.
      resume: keep finished runs and continue the unfinished one.
    """
    experiment.compare(settings, losses, seeds, together, out, CONSOLE, resume=resume)


def train(
    settings: commands.Flat[Settings] = Settings(),  # noqa: B008 - frozen
    *,
    loss: Annotated[str, commands.choice(LOSSES)] = "cross-entropy",
    seed: int = 0,
    together: int = 1,
    out: Path | None = None,
    resume: bool = False,
) -> None:
    """Train one loss; Ctrl-C leaves a checkpoint, --resume continues it to the same parameters.

    Args:
      settings: of the run.
      loss: by name.
      seed: of the parts, the first parameters and the order of the texts.
      together: networks that are trained side by side, with this seed and the next ones; several
        predict by the mean of their logits.
      out: directory of the run; default runs/text-LOSS-SEED.
      resume: continue the run that is there.
    """
    directory = out or Path(f"runs/text-{loss}-{seed}")
    runs.train(settings, loss, seed, together, directory, CONSOLE, resume=resume)


def evaluate(run: Positional[Path]) -> None:
    """Figures of a trained run on the texts that it was not trained on.

    Args:
      run: directory of a run.
    """
    runs.evaluate(run, CONSOLE)


def predict(
    run: Positional[Path],
    *,
    texts: Path | None = None,
    out: Path | None = None,
    threshold: float | None = None,
) -> None:
    """Probabilities of the rare class for texts, as CSV; the texts are not repeated.

    Args:
      run: directory of a trained run.
      texts: file with a text in each line; default: standard input.
      out: CSV to write; default: standard output.
      threshold: probability above which a text is taken for rare; default: the one tuned in
        training.
    """
    runs.predict(run, texts, out, threshold, CONSOLE)


def crossvalidate(
    settings: commands.Flat[Settings] = Settings(),  # noqa: B008 - frozen
    *,
    variants: tuple[Variant, ...] = ("rand", "multichannel"),
    folds: int = 10,
    seed: int = 0,
    together: int = 10,
    out: Path = Path("runs/text-crossvalidation"),
    resume: bool = False,
) -> None:
    """Accuracy of the network's variants in a cross-validation, beside published figures for MR.

    Args:
      settings: of every run; --variant, --dev-share, --test-share, --miss-cost and --alarm-cost
        are not used: the folds are the parts, and nothing is tuned.
      variants: to train.
      folds: parts, each of which is tested on once.
      seed: of the folds.
      together: folds that are trained side by side in one program; fewer take less memory.
      out: folder for runs and table.
      resume: keep finished runs and continue the unfinished one.
    """
    crossvalidation.cross_validate(
        settings, variants, folds, seed, together, out, CONSOLE, resume=resume
    )


COMMANDS = {
    "tour": functools.partial(compare, losses=TOUR, out=Path("runs/text-tour")),
    "compare": compare,
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "crossvalidate": crossvalidate,
}


def main(arguments: list[str]) -> int:
    """Run a command; an error that a user can mend is one line, not a traceback."""
    program = "python -m experiments.text"
    aside = Console(stderr=True)  # what predict writes to standard output is a CSV file
    return commands.run(COMMANDS, arguments, program=program, description=__doc__, console=aside)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
