"""Why is my network's deviation stuck at 0.693, and do its error bars mean anything?

    python -m experiments.uncertainty                all questions in short, two minutes
    python -m experiments.uncertainty collapse       ReLU against linear before the softplus
    python -m experiments.uncertainty synthetic      known noise, a gap, an outside
    python -m experiments.uncertainty uci --data DIR the published protocol on six sets
    python -m experiments.uncertainty filter         |error| against deviation; what may be kept
    python -m experiments.uncertainty multiloss      MSE + alpha * Huber, and adaptive weights
    python -m experiments.uncertainty recalibrate    coverage before and after one number is fitted

--data takes a file or a folder of tables of numbers, the target in the last column; without it,
scikit-learn's diabetes. Finished studies are kept, and --resume reads them.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console

from experiments.shared import commands, training
from experiments.uncertainty import multiloss as several, reports
from experiments.uncertainty.collapse import collapse
from experiments.uncertainty.study import USUAL, Settings, run_all
from experiments.uncertainty.synthetic import synthetic

CONSOLE = Console()
Shared = tyro.conf.OmitArgPrefixes[Settings]


@dataclasses.dataclass(frozen=True)
class Tour:
    """Every question in short."""

    out: Path = Path("runs/uncertainty")
    """Folder for JSON, tables and figures."""
    resume: bool = False
    """Keep finished studies."""

    def __call__(self) -> None:
        collapse(4, 40, ("plain",), self.out / "collapse", CONSOLE, resume=self.resume)
        synthetic(2, 60, self.out / "synthetic", CONSOLE, resume=self.resume)
        settings = Settings(splits=6, periods=20)
        methods = ("single", "ensemble-beta", "vi", "vi-constant")
        found = list(run_all(settings, methods, self.out, CONSOLE, resume=self.resume))
        reports.uci(found, self.out, CONSOLE)
        reports.filtering([s for s in found if s.method in FILTERED], self.out, CONSOLE)
        reports.recalibration(found, self.out, CONSOLE)
        several.multiloss(
            several.ALPHAS, 5, 1000, self.out / "multiloss", CONSOLE, resume=self.resume
        )
        CONSOLE.print(f"JSON, tables and figures in {self.out}")


FILTERED = ("ensemble-beta", "vi-constant")


@dataclasses.dataclass(frozen=True)
class Collapse:
    """Train the asker's network with and without a ReLU before the softplus; name the cause."""

    seeds: int = 10
    """Networks of each kind."""
    periods: int = 50
    """Of 60 updates each."""
    layers: tuple[Literal["plain", "mean-field", "dropout"], ...] = ("plain", "mean-field")
    """Plain weights, and variational layers as in the question: the cause is the same."""
    out: Path = Path("runs/uncertainty-collapse")
    """Folder for JSON, table and figure."""
    resume: bool = False
    """Run again in the same folder."""

    def __call__(self) -> None:
        collapse(self.seeds, self.periods, self.layers, self.out, CONSOLE, resume=self.resume)


@dataclasses.dataclass(frozen=True)
class Synthetic:
    """Known noise: aleatoric and epistemic bands beside the truth, in a gap and outside."""

    seeds: int = 10
    """Data sets, and networks of each method."""
    periods: int = 150
    """Of 60 updates each, at most."""
    out: Path = Path("runs/uncertainty-synthetic")
    """Folder for JSON, table and figure."""
    resume: bool = False
    """Run again in the same folder."""

    def __call__(self) -> None:
        synthetic(self.seeds, self.periods, self.out, CONSOLE, resume=self.resume)


@dataclasses.dataclass(frozen=True)
class Uci:
    """The published protocol: 20 splits, standard errors, original units, published columns."""

    settings: Shared = dataclasses.field(default_factory=Settings)
    methods: tuple[str, ...] = USUAL
    """Methods by name; ensemble-constant and dropout-constant are there, too."""
    out: Path = Path("runs/uncertainty-uci")
    """Folder for studies, JSON, tables and figures; the three commands may share one."""
    resume: bool = False
    """Keep finished studies."""

    def __call__(self) -> None:
        found = run_all(self.settings, self.methods, self.out, CONSOLE, resume=self.resume)
        self.report(list(found))
        CONSOLE.print(f"JSON, tables and figures in {self.out}")

    def report(self, found: list[Any]) -> None:
        reports.uci(found, self.out, CONSOLE)


@dataclasses.dataclass(frozen=True)
class Filter(Uci):
    """|error| against predicted deviation, and which share may be kept for a given error."""

    methods: tuple[str, ...] = FILTERED
    """Methods by name."""

    def report(self, found: list[Any]) -> None:
        reports.filtering(found, self.out, CONSOLE)


@dataclasses.dataclass(frozen=True)
class Recalibrate(Uci):
    """One factor or one conformal quantile, fitted on held-out rows: coverage before and after."""

    methods: tuple[str, ...] = ("single", "ensemble", "ensemble-beta", "vi", "dropout")
    """Methods by name."""

    def report(self, found: list[Any]) -> None:
        reports.recalibration(found, self.out, CONSOLE)


@dataclasses.dataclass(frozen=True)
class Multiloss:
    """MSE + alpha * Huber with outliers: a sweep in one program, adaptive weights beside."""

    alphas: tuple[float, ...] = several.ALPHAS
    """Weights of Huber's loss; that of the squared error is 1."""
    seeds: int = 10
    """Data sets and networks."""
    steps: int = 1500
    """Full-batch updates."""
    out: Path = Path("runs/uncertainty-multiloss")
    """Folder for JSON, table and figure."""
    resume: bool = False
    """Run again in the same folder."""

    def __call__(self) -> None:
        arguments = self.alphas, self.seeds, self.steps, self.out, CONSOLE
        several.multiloss(*arguments, resume=self.resume)


COMMANDS: dict[str, Any] = {
    "collapse": Collapse,
    "synthetic": Synthetic,
    "uci": Uci,
    "filter": Filter,
    "multiloss": Multiloss,
    "recalibrate": Recalibrate,
}


def main(arguments: list[str]) -> int:
    """Run a command; an error that a user can mend is one line, not a traceback."""
    return commands.run(
        COMMANDS,
        Tour,
        arguments,
        program="python -m experiments.uncertainty",
        description=__doc__,
        console=CONSOLE,
    )


if __name__ == "__main__":
    training.use_every_core()
    sys.exit(main(sys.argv[1:]))
