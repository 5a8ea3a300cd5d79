"""How do I use the F-score as a loss, with few positives? Train on it, and see what changes.

    python -m experiments.tabular                                  breast cancer, 2 % malignant
    python -m experiments.tabular --data FILE_OR_FOLDER ...        CSV, KEEL .dat, ARFF
    python -m experiments.tabular --losses cross-entropy soft-f1   some of the losses

A small network is trained with every loss on the same splits of the rows: half to train, a quarter
to choose learning rate, steps and thresholds, a quarter to judge. Ctrl-C keeps the losses that are
finished; --resume goes on with the others.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from rich.console import Console

from experiments.shared import commands
from experiments.tabular import experiment
from experiments.tabular.experiment import Settings
from experiments.tabular.losses import LOSSES

CONSOLE = Console()


def compare(
    settings: commands.Flat[Settings] = Settings(),  # noqa: B008 - frozen
    *,
    data: tuple[Path, ...] = (),
    losses: Annotated[tuple[str, ...], commands.choices(LOSSES)] = tuple(LOSSES),
    out: Path = Path("runs/tabular"),
    resume: bool = False,
) -> None:
    """Train every loss on the same splits; a table, JSON and a figure.

    Args:
      settings: of every run.
      data: CSV, KEEL .dat or ARFF files, or folders of them; the last columns are the labels.
        Default: scikit-learn's breast-cancer set, thinned to 2 % malignant.
      losses: by name.
      out: folder for results, table and figure.
      resume: keep what is finished there.
    """
    experiment.compare(settings, data, losses, out, CONSOLE, resume=resume)


def main(arguments: list[str]) -> int:
    """Run; an error that a user can mend is one line, not a traceback."""
    program = "python -m experiments.tabular"
    known = {"compare": compare}
    return commands.run(known, arguments, program=program, description=__doc__, console=CONSOLE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
