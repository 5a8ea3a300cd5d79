"""Why does my TextCNN find only 40 % of the true texts? Train it on the losses and see.

    python -m experiments.text                      the tour: generated messages, five seeds
    python -m experiments.text compare              every loss and decision in one table
    python -m experiments.text train --loss focal   one loss, with --resume
    python -m experiments.text evaluate RUN         figures of a trained run on its test texts
    python -m experiments.text predict RUN          probabilities for a file, or standard input
    python -m experiments.text crossvalidate        accuracy beside the published figures

Every command takes --data FILE for a CSV or TSV file with named columns of texts and labels;
--layout sms, mr or olid reads those corpora.
"""

from __future__ import annotations

import csv
import dataclasses
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro
from rich.console import Console

from experiments.shared import commands, plots
from experiments.text import comparison, run
from experiments.text.comparison import Bench, compare_losses
from experiments.text.corpus import decode
from experiments.text.crossvalidation import cross_validate
from experiments.text.losses import LOSSES, require_known
from experiments.text.settings import Settings, open_corpus
from experiments.text.textcnn import Variant

CONSOLE = Console()
TOUR = ("cross-entropy", "class-weighted", "asked-mask", "asked-swapped", "expected-cost")


@dataclasses.dataclass(frozen=True)
class Tour:
    """Train a few losses, the question's among them, and see what each decision makes of them."""

    settings: tyro.conf.OmitArgPrefixes[Settings] = dataclasses.field(default_factory=Settings)
    losses: tuple[str, ...] = TOUR
    """Losses by name."""
    seeds: int = 5
    """Runs for each loss; from two on, standard errors are shown."""
    together: int = 5
    """Runs that are trained side by side in one program; fewer take less memory."""
    out: Path = Path("runs/text-tour")
    """Folder for runs, table and figures."""
    resume: bool = False
    """Keep finished runs and continue the unfinished one."""

    def __call__(self) -> None:
        compare_losses(
            self.settings,
            self.losses,
            self.seeds,
            self.together,
            self.out,
            CONSOLE,
            resume=self.resume,
        )


@dataclasses.dataclass(frozen=True)
class Compare(Tour):
    """Train every loss with several seeds; a table, JSON and figures."""

    losses: tuple[str, ...] = tuple(LOSSES)
    """Losses by name."""
    out: Path = Path("runs/text-compare")
    """Folder for runs, table and figures."""


@dataclasses.dataclass(frozen=True)
class Train:
    """Train one loss; Ctrl-C leaves a checkpoint, --resume continues it to the same parameters."""

    settings: tyro.conf.OmitArgPrefixes[Settings] = dataclasses.field(default_factory=Settings)
    loss: str = "cross-entropy"
    """A loss by name."""
    seeds: int = 1
    """Networks trained side by side; several predict by the mean of their logits."""
    out: Path | None = None
    """Run directory; default runs/text-LOSS."""
    resume: bool = False
    """Continue the run that is there."""

    def __call__(self) -> None:
        require_known([self.loss])
        if self.seeds < 1:
            raise ValueError(f"seeds must be at least 1, got {self.seeds}")
        directory = self.out or Path(f"runs/text-{self.loss}")
        found = open_corpus(self.settings, CONSOLE)
        seeds = list(range(self.seeds))
        bench = Bench(self.settings, found, seeds, directory.parent, CONSOLE, self.resume)
        result = bench.one(self.loss, directory)
        show(directory, bench, result)


def show(directory: Path, bench: Bench, result: dict[str, Any]) -> None:
    """Print what trained networks are worth, and draw it."""
    rows = [comparison.summarize(result["loss"], result["runs"])]
    if "corrected" in result:
        rows.append(comparison.summarize(comparison.CORRECTED, result["corrected"]))
    plots.training_curves({result["loss"]: directory / "metrics.jsonl"}, directory / "curves.png")
    comparison.report(
        bench.settings, bench.corpus, rows, len(bench.seeds), result["seconds"], directory, CONSOLE
    )


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Figures of a trained run on the texts that it was not trained on."""

    directory: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(name="run")]]
    """Directory of a run."""

    def __call__(self) -> None:
        settings, loss, seeds, trained = run.load(self.directory)
        found = open_corpus(settings, CONSOLE)
        bench = Bench(settings, found, seeds, self.directory.parent, CONSOLE)
        begun = time.perf_counter()
        logits = trained(trained.words.rows(found.texts))
        result = bench.write(loss, self.directory, logits, time.perf_counter() - begun)
        show(self.directory, bench, result)


@dataclasses.dataclass(frozen=True)
class Predict:
    """Probabilities of the rare class for texts, as CSV; the texts are not repeated."""

    directory: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(name="run")]]
    """Directory of a trained run."""
    texts: Path | None = None
    """File with a text in each line; default: standard input."""
    out: Path | None = None
    """CSV to write; default: standard output."""
    threshold: float | None = None
    """Probability above which a text is taken for rare; default: the one tuned in training."""

    def __call__(self) -> None:
        trained = run.load(self.directory)[-1]
        threshold = self.threshold
        if threshold is None:
            threshold = comparison.tuned_threshold(self.directory)
        lines = (decode(self.texts) if self.texts else sys.stdin.read()).split("\n")
        texts = lines[:-1] if lines[-1] == "" else lines
        if not texts:
            raise ValueError(f"{self.texts or 'standard input'} holds no text: expected one a line")
        logits = trained(trained.words.rows(texts)).mean(0)
        p = np.asarray(jax.nn.sigmoid(logits))
        rows = [("line", "probability", "rare")]
        rows += [(k, f"{each:.6f}", int(each > threshold)) for k, each in enumerate(p, 1)]
        if self.out is None:
            csv.writer(sys.stdout, lineterminator="\n").writerows(rows)
            return
        self.out.parent.mkdir(parents=True, exist_ok=True)
        with self.out.open("w", newline="") as file:
            csv.writer(file).writerows(rows)
        CONSOLE.print(f"{sum(p > threshold)} of {len(p)} texts above {threshold:.3f}: {self.out}")


@dataclasses.dataclass(frozen=True)
class CrossValidate:
    """Accuracy of the network's variants in a cross-validation, beside published figures for MR."""

    settings: tyro.conf.OmitArgPrefixes[Settings] = dataclasses.field(default_factory=Settings)
    variants: tuple[Variant, ...] = ("rand", "multichannel")
    """Variants to train; --variant is not used."""
    folds: int = 10
    """Parts, each of which is tested on once."""
    seed: int = 0
    """Of the folds."""
    together: int = 10
    """Folds that are trained side by side in one program; fewer take less memory."""
    out: Path = Path("runs/text-crossvalidation")
    """Folder for runs and table."""
    resume: bool = False
    """Keep finished runs and continue the unfinished one."""

    def __call__(self) -> None:
        cross_validate(
            self.settings,
            self.variants,
            self.folds,
            self.seed,
            self.together,
            self.out,
            CONSOLE,
            resume=self.resume,
        )


COMMANDS: dict[str, Any] = {
    "compare": Compare,
    "train": Train,
    "evaluate": Evaluate,
    "predict": Predict,
    "crossvalidate": CrossValidate,
}


def main(arguments: list[str]) -> int:
    """Run a command; an error that a user can mend is one line, not a traceback."""
    return commands.run(
        COMMANDS,
        Tour,
        arguments,
        program="python -m experiments.text",
        description=__doc__,
        console=CONSOLE,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
