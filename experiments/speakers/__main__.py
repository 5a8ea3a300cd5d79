"""Why does my siamese network never get over one half? Train voices on every loss and see.

    python -m experiments.speakers                      the tour: generated voices, three losses
    python -m experiments.speakers labels               which losses see their labels at all
    python -m experiments.speakers compare --data DIR   every loss in one table
    python -m experiments.speakers train --loss NAME    one loss, with --resume
    python -m experiments.speakers evaluate RUN         figures of a trained run
    python -m experiments.speakers cluster RUN FOLDER   who speaks in a folder of recordings

DIR holds a folder for each speaker with recordings, or an index.csv with the columns file,speaker.
"""

from __future__ import annotations

import csv
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

from rich.console import Console
from tyro.conf import Positional

from experiments.shared import commands, processes
from experiments.shared.settings import require_known, require_within
from experiments.speakers import experiment, labels, protocol, runs
from experiments.speakers.clustering import Linkage
from experiments.speakers.experiment import Settings
from experiments.speakers.losses import LOSSES

CONSOLE = Console()


def compare(
    settings: commands.Flat[Settings] = Settings(),  # noqa: B008 - frozen
    others: commands.Flat[processes.Others] = processes.Others(),  # noqa: B008
    *,
    losses: Annotated[tuple[str, ...], commands.choices(LOSSES)] = tuple(LOSSES),
    seeds: int = 5,
    out: Path = Path("runs/speakers-compare"),
    resume: bool = False,
    shuffle: bool = False,
) -> None:
    """Train every loss on the same speakers; a table, JSON and figures.

    Args:
      settings: of every run.
      others: processes that share each run.
      losses: by name.
      seeds: how often the speakers are dealt anew and a network is trained.
      out: folder for runs, table and figures.
      resume: keep finished runs and continue the unfinished one.
      shuffle: first shuffle the labels of every loss, and see which of them notice.
    """
    others.join(CONSOLE)
    require_within({"seeds": seeds}, seeds="[1, inf)")
    require_known("loss", losses, LOSSES)
    deals = protocol.open_deals(settings, range(seeds), CONSOLE)
    if shuffle:
        labels.demonstrate(out, CONSOLE)
    experiment.compare(settings, losses, deals, out, CONSOLE, resume=resume)


# The loss of the question, the library's, and plain cross-entropy.
tour = partial(
    compare,
    settings=Settings(steps=300),
    losses=("asked", "kl-hinge", "cross-entropy"),
    seeds=1,
    out=Path("runs/speakers-tour"),
    shuffle=True,
)


def train(
    settings: commands.Flat[Settings] = Settings(),  # noqa: B008 - frozen
    others: commands.Flat[processes.Others] = processes.Others(),  # noqa: B008
    *,
    loss: Annotated[str, commands.choice(LOSSES)] = "angular-margin",
    seed: int = 0,
    out: Path | None = None,
    resume: bool = False,
) -> None:
    """Train one loss; Ctrl-C leaves a checkpoint, --resume continues it to the same parameters.

    Args:
      settings: of the run.
      others: processes that share the run.
      loss: by name.
      seed: of the deal of speakers and of the first parameters.
      out: directory of the run; default runs/speakers-LOSS-SEED.
      resume: continue the run that is there.
    """
    others.join(CONSOLE)
    require_within({"seed": seed}, seed="[0, inf)")
    require_known("loss", [loss], LOSSES)
    directory = out or Path(f"runs/speakers-{loss}-{seed}")
    runs.train(settings, loss, seed, directory, CONSOLE, resume=resume)


def evaluate(run: Positional[Path]) -> None:
    """Figures of a trained run on the speakers that it has never heard.

    Args:
      run: directory of a run.
    """
    runs.evaluate(run, CONSOLE)


def cluster(
    run: Positional[Path],
    folder: Positional[Path],
    *,
    linkage: Linkage = "complete",
    threshold: float | None = None,
    speakers: int | None = None,
    out: Path | None = None,
) -> None:
    """Which recordings of a folder are of one speaker, as CSV; nobody has to be known.

    Args:
      run: directory of a trained run.
      folder: recordings anywhere below; the names of its folders are not looked at.
      linkage: how clusters are merged.
      threshold: cosine distance of embeddings, whitened as the run chose, up to which clusters
        merge; default: the tuned one.
      speakers: their number, if it is known; no threshold is used then.
      out: CSV to write; default: standard output.
    """
    if out is not None and out.is_dir():
        raise IsADirectoryError(f"out must be a file, {out} is a folder")
    clusters = runs.cluster(run, folder, linkage, threshold, speakers, CONSOLE)
    lines = [("file", "cluster"), *clusters]
    if out is None:
        csv.writer(sys.stdout, lineterminator="\n").writerows(lines)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    count = len({number for _, number in clusters})
    CONSOLE.print(f"{len(clusters)} recordings of {count} speakers: {out}", markup=False)


def show_labels(*, out: Path = Path("runs/speakers-labels")) -> None:
    """Shuffle the labels of every loss: the question's does not notice.

    Args:
      out: folder for labels.json.
    """
    labels.demonstrate(out, CONSOLE)


COMMANDS = {
    "tour": tour,
    "labels": show_labels,
    "compare": compare,
    "train": train,
    "evaluate": evaluate,
    "cluster": cluster,
}


def main(arguments: list[str]) -> int:
    """Run a command; an error that a user can mend is one line, not a traceback."""
    program = "python -m experiments.speakers"
    return commands.run(COMMANDS, arguments, program=program, description=__doc__, console=CONSOLE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
