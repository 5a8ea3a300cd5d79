"""Why does my siamese network never get over one half? Train voices on every loss and see.

    python -m experiments.speakers                      the tour: generated voices, three losses
    python -m experiments.speakers labels               which losses see their labels at all
    python -m experiments.speakers compare --data DIR   every loss on the same splits, in one table
    python -m experiments.speakers train --loss NAME    one loss, with --resume
    python -m experiments.speakers evaluate RUN         figures of a trained run
    python -m experiments.speakers cluster RUN FOLDER   who speaks in a folder of recordings

DIR holds a folder for each speaker with recordings, or an index.csv with the columns file,speaker.
"""

from __future__ import annotations

import csv
import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console

from experiments.shared import commands
from experiments.speakers import comparison, diarize, labels, pictures, run
from experiments.speakers.clustering import Linkage
from experiments.speakers.comparison import Bench, compare_losses
from experiments.speakers.losses import LOSSES, require_known
from experiments.speakers.run import Settings

CONSOLE = Console()
Shared = tyro.conf.OmitArgPrefixes[Settings]


@dataclasses.dataclass(frozen=True)
class Tour:
    """The question's loss, what was meant, and plain cross-entropy, on generated voices."""

    settings: Shared = dataclasses.field(default_factory=lambda: Settings(steps=300))
    losses: tuple[str, ...] = ("asked", "kl-hinge", "cross-entropy")
    """Losses by name."""
    splits: tuple[int, ...] = (0,)
    """Seeds of the deal of speakers and of the network; from two on, standard errors are shown."""
    out: Path = Path("runs/speakers-tour")
    """Folder for runs, table and figures."""
    resume: bool = False
    """Keep finished runs and continue the unfinished one."""

    def __call__(self) -> None:
        labels.demonstrate(self.out, CONSOLE)
        self.compare()

    def compare(self) -> None:
        compare_losses(
            self.settings, self.losses, self.splits, self.out, CONSOLE, resume=self.resume
        )


@dataclasses.dataclass(frozen=True)
class Compare(Tour):
    """Train every loss on several splits; a table, JSON and figures."""

    settings: Shared = dataclasses.field(default_factory=Settings)
    losses: tuple[str, ...] = tuple(LOSSES)
    """Losses by name."""
    splits: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Seeds of the deal of speakers and of the network."""
    out: Path = Path("runs/speakers-compare")
    """Folder for runs, table and figures."""

    def __call__(self) -> None:
        self.compare()


@dataclasses.dataclass(frozen=True)
class Labels:
    """Shuffle the labels of every loss: the question's does not notice."""

    out: Path = Path("runs/speakers-labels")
    """Folder for labels.json."""

    def __call__(self) -> None:
        labels.demonstrate(self.out, CONSOLE)


@dataclasses.dataclass(frozen=True)
class Train:
    """Train one loss; Ctrl-C leaves a checkpoint, --resume continues it to the same parameters."""

    settings: Shared = dataclasses.field(default_factory=Settings)
    loss: str = "angular-margin"
    """A loss by name."""
    split: int = 0
    """Seed of the deal of speakers and of the network."""
    out: Path | None = None
    """Run directory; default runs/speakers-LOSS."""
    resume: bool = False
    """Continue the run that is there."""

    def __call__(self) -> None:
        require_known([self.loss])
        directory = self.out or Path(f"runs/speakers-{self.loss}")
        voices = run.open_voices(self.settings, CONSOLE)
        bench = Bench(self.settings, voices, self.split, CONSOLE, self.resume)
        show(directory, self.settings, bench.one(self.loss, directory))


def show(directory: Path, settings: Settings, result: dict[str, Any]) -> None:
    """Print what a trained network is worth, and draw it."""
    loss = result["loss"]
    rows = [comparison.summarize(loss, [result])]
    comparison.report(settings, rows, [result["seed"]], directory, CONSOLE)
    pictures.draw(rows, {loss: directory}, directory)


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Figures of a trained run on the speakers that it has never heard."""

    directory: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(name="run")]]
    """Directory of a run."""

    def __call__(self) -> None:
        loss, seed, trained = run.load(self.directory)
        voices = run.open_voices(trained.settings, CONSOLE)
        found = Bench(trained.settings, voices, seed, CONSOLE).judge(trained, self.directory)
        show(self.directory, trained.settings, {"loss": loss, "seed": seed, **found})


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Which recordings of a folder are of one speaker, as CSV; nobody has to be known."""

    directory: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(name="run")]]
    """Directory of a trained run."""
    folder: tyro.conf.Positional[Path]
    """Recordings anywhere below; the names of its folders are not looked at."""
    linkage: Linkage = "complete"
    """How clusters are merged."""
    threshold: float | None = None
    """Cosine distance of whitened embeddings up to which clusters merge; default: the tuned one."""
    speakers: int | None = None
    """Their number, if it is known; no threshold is used then."""
    out: Path | None = None
    """CSV to write; default: standard output."""

    def __call__(self) -> None:
        rows = diarize.cluster(
            self.directory, self.folder, self.linkage, self.threshold, self.speakers, CONSOLE
        )
        lines = [("file", "cluster"), *rows]
        if self.out is None:
            csv.writer(sys.stdout, lineterminator="\n").writerows(lines)
            return
        self.out.parent.mkdir(parents=True, exist_ok=True)
        with self.out.open("w", newline="") as file:
            csv.writer(file).writerows(lines)
        count = len(np.unique([cluster for _, cluster in rows]))
        CONSOLE.print(f"{len(rows)} recordings of {count} speakers: {self.out}", markup=False)


COMMANDS: dict[str, Any] = {
    "labels": Labels,
    "compare": Compare,
    "train": Train,
    "evaluate": Evaluate,
    "cluster": Cluster,
}


def main(arguments: list[str]) -> int:
    """Run a command; an error that a user can mend is one line, not a traceback."""
    return commands.run(
        COMMANDS,
        Tour,
        arguments,
        program="python -m experiments.speakers",
        description=__doc__,
        console=CONSOLE,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
