"""Why is my network's deviation stuck at 0.693, and do its error bars mean anything?

    python -m experiments.uncertainty                all questions in short, two minutes
    python -m experiments.uncertainty collapse       ReLU against linear before the softplus
    python -m experiments.uncertainty synthetic      known noise, a gap, an outside
    python -m experiments.uncertainty uci --data DIR the published protocol on six sets
    python -m experiments.uncertainty filter         |error| against deviation; what may be kept
    python -m experiments.uncertainty multiloss      MSE + alpha * Huber, and adaptive weights
    python -m experiments.uncertainty recalibrate    coverage before and after one number is fitted

--data takes a file or a folder of tables of numbers, the target in the last column; without it,
scikit-learn's diabetes. Results that are already in --out are read with
--resume.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from experiments.shared import commands, training
from experiments.uncertainty import experiment, multiloss as several, report
from experiments.uncertainty.collapse import LAYERS, collapse as find_stuck
from experiments.uncertainty.experiment import Settings
from experiments.uncertainty.methods import METHODS, USUAL
from experiments.uncertainty.synthetic import synthetic as learn_noise

CONSOLE = Console()
Methods = Annotated[
    tuple[str, ...], commands.choices(METHODS), tyro.conf.arg(aliases=("--losses",))
]
RUNS = Path("runs")


def tour(*, out: Path = RUNS / "uncertainty", resume: bool = False) -> None:
    """Every question in short.

    Args:
      out: folder for results, tables and figures.
      resume: read the results that are already there.
    """
    collapse(seeds=4, periods=40, layers=("plain",), out=out / "collapse", resume=resume)
    synthetic(seeds=2, periods=60, out=out / "synthetic", resume=resume)
    settings = Settings(seeds=6, periods=20)
    methods = ("single", "ensemble-beta", "vi", "vi-constant")
    uci(settings, methods=methods, out=out, resume=resume)
    filtering(settings, methods=FILTERED, out=out, resume=True)
    recalibrate(settings, methods=methods, out=out, resume=True)
    multiloss(seeds=5, steps=1000, out=out / "multiloss", resume=resume)


def collapse(
    *,
    seeds: int = 10,
    periods: int = 50,
    layers: Annotated[tuple[str, ...], commands.choices(LAYERS)] = LAYERS[:2],
    out: Path = RUNS / "uncertainty-collapse",
    resume: bool = False,
) -> None:
    """Train the asker's network with and without a ReLU before the softplus; name the cause.

    Args:
      seeds: networks of each kind.
      periods: of 60 updates each.
      layers: plain weights, and variational layers as in the question: the cause is the same.
      out: folder for results, table and figure.
      resume: read the results that are already there.
    """
    find_stuck(seeds, periods, layers, out, CONSOLE, resume=resume)


def synthetic(
    *,
    seeds: int = 10,
    periods: int = 150,
    out: Path = RUNS / "uncertainty-synthetic",
    resume: bool = False,
) -> None:
    """Known noise: aleatoric and epistemic bands beside the truth, in a gap and outside.

    Args:
      seeds: data sets, and networks of each method.
      periods: of 60 updates each, at most.
      out: folder for results, table and figure.
      resume: read the results that are already there.
    """
    learn_noise(seeds, periods, out, CONSOLE, resume=resume)


def _protocol(read: Any, usual: tuple[str, ...], does: str) -> Callable[..., None]:
    """A command that does or reads studies of the published protocol, and publishes `read`."""

    def command(
        settings: commands.Flat[Settings] = Settings(),  # noqa: B008 - frozen
        *,
        data: Path | None = None,
        methods: Methods = usual,
        out: Path = RUNS / "uncertainty-uci",
        resume: bool = False,
    ) -> None:
        results = experiment.compare(settings, data, methods, out, CONSOLE, resume=resume)
        read(results, settings.seeds, out, CONSOLE)

    command.__doc__ = f"""{does}

    Args:
      settings: of every study.
      data: file or folder of tables, the target in the last column. Default: scikit-learn's
        diabetes.
      methods: by name.
      out: folder for studies, tables and figures; uci, filter and recalibrate may share one.
      resume: read the results that are already there.
    """
    return command


FILTERED = ("ensemble-beta", "vi-constant")
uci = _protocol(
    report.uci,
    USUAL,
    "The published protocol: 20 splits, standard errors, original units, published columns.",
)
filtering = _protocol(
    report.filtering,
    FILTERED,
    "|error| against predicted deviation, and which share may be kept for a given error.",
)
recalibrate = _protocol(
    report.recalibration,
    ("single", "ensemble", "ensemble-beta", "vi", "dropout"),
    "One factor or one conformal quantile, fitted on held-out rows: coverage before and after.",
)


def multiloss(
    *,
    alphas: tuple[float, ...] = several.ALPHAS,
    seeds: int = 10,
    steps: int = 1500,
    out: Path = RUNS / "uncertainty-multiloss",
    resume: bool = False,
) -> None:
    """MSE + alpha * Huber with outliers: a sweep in one program, adaptive weights beside.

    Args:
      alphas: weights of Huber's loss; that of the squared error is 1.
      seeds: data sets and networks.
      steps: full-batch updates.
      out: folder for results, table and figure.
      resume: read the results that are already there.
    """
    several.multiloss(alphas, seeds, steps, out, CONSOLE, resume=resume)


COMMANDS: dict[str, Any] = {
    "tour": tour,
    "collapse": collapse,
    "synthetic": synthetic,
    "uci": uci,
    "filter": filtering,
    "multiloss": multiloss,
    "recalibrate": recalibrate,
}


def main(arguments: list[str]) -> int:
    """Run a command; an error that a user can mend is one line, not a traceback."""
    program = "python -m experiments.uncertainty"
    return commands.run(COMMANDS, arguments, program=program, description=__doc__, console=CONSOLE)


if __name__ == "__main__":
    training.use_every_core()
    sys.exit(main(sys.argv[1:]))
