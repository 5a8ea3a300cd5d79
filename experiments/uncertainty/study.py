"""One method on one table: the published protocol from splits to figures, written down."""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.shared import records, training
from experiments.uncertainty.data import Table, diabetes, folds, open_tables
from experiments.uncertainty.fit import LOSSES, Predictions, Recipe, inner_rows, predict, train
from experiments.uncertainty.measure import judge
from experiments.uncertainty.networks import Design

DRAWS = 50
CONSTANT = Design(deviation="constant")
MEAN_FIELD = Design(layer="mean-field")
METHODS: dict[str, Recipe] = {
    "single": Recipe(),
    "ensemble": Recipe(members=5),
    "ensemble-beta": Recipe(loss="beta_nll", members=5),
    "ensemble-crps": Recipe(loss="crps", members=5),
    "ensemble-constant": Recipe(CONSTANT, members=5),
    "dropout": Recipe(Design(layer="dropout"), draws=DRAWS),
    "dropout-constant": Recipe(Design(layer="dropout", deviation="constant"), draws=DRAWS),
    "vi": Recipe(MEAN_FIELD, draws=DRAWS, learning_rate=5e-3),
    "vi-constant": Recipe(
        dataclasses.replace(MEAN_FIELD, deviation="constant"), draws=DRAWS, learning_rate=5e-3
    ),
    "vi-batch": Recipe(MEAN_FIELD, draws=DRAWS, learning_rate=5e-3, kl_per="batch"),
}
# All but two whose point the table makes with others.
USUAL = tuple(name for name in METHODS if name not in ("ensemble-constant", "dropout-constant"))


@dataclasses.dataclass(frozen=True)
class Settings:
    """What makes two studies the same study."""

    data: Path | None = None
    """File or folder of tables, the target in the last column; without it scikit-learn's diabetes.
    """
    splits: int = 20
    """Random 90/10 splits."""
    periods: int = 80
    """Looks at the held-out fifth of the training rows; training stops at the best."""
    period: int = 60
    """Updates between two looks."""
    seed: int = 0
    """Of parameters, batches and draws; the splits are those of the published tables."""

    def __post_init__(self) -> None:
        for name in ("splits", "periods", "period"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclasses.dataclass(frozen=True)
class Study:
    """What a study has written: figures, and predictions of the test rows of every split."""

    table: str
    method: str
    figures: dict[str, np.ndarray]  # each [S]
    target: np.ndarray  # [S, n]
    mean: np.ndarray  # [S, n]
    deviation: np.ndarray  # [S, n]
    seconds: float


def require_known(methods: Sequence[str]) -> None:
    """Raise a ValueError that names the unknown methods and the known ones."""
    unknown = [name for name in methods if name not in METHODS]
    if unknown or not methods:
        raise ValueError(f"no such method: {', '.join(unknown)}; there are {', '.join(METHODS)}")


def tables_of(settings: Settings, console: Console) -> list[Table]:
    """The tables that the settings name, with a word on what was left out."""
    found = [diabetes()] if settings.data is None else open_tables(settings.data)
    for table in found:
        if len(table) < max(20, settings.splits):
            raise ValueError(
                f"{table.name} has {len(table)} rows; {settings.splits} splits need at least "
                f"{max(20, settings.splits)}"
            )
        if table.left_out:
            console.print(f"  {table.name}: left out as constant: {', '.join(table.left_out)}")
    return found


def run_all(
    settings: Settings, methods: Sequence[str], out: Path, console: Console, *, resume: bool
) -> Iterator[Study]:
    """Every method on every table; what is finished in `out` is read, with `resume`."""
    require_known(methods)
    opened = tables_of(settings, console)
    for table in opened:
        for method in methods:
            directory = out / f"{table.name}-{method}"
            described = {"method": method, **dataclasses.asdict(settings)}
            # A table is the same one alone and in its folder.
            described["data"] = [table.name, len(table), *table.columns]
            described["recipe"] = dataclasses.asdict(METHODS[method])
            records.claim(directory, described, resume=resume)
            if not (directory / "result.json").exists():
                try:
                    run(settings, table, method, directory, console)
                except KeyboardInterrupt as stopped:
                    where = f"stopped in {method} on {table.name}; what is finished is in {out}"
                    raise KeyboardInterrupt(where) from stopped
            yield load(directory)


def run(settings: Settings, table: Table, method: str, directory: Path, console: Console) -> None:
    """Train on all splits at once, twice, and write `result.json` and `predictions.npz`.

    First a fifth of the training rows is held out, to choose the length of the training and to fit
    what recalibrates; then all of them are trained on for that long. Test rows are only judged.
    """
    training.examine(LOSSES[METHODS[method].loss], "mean_scale", console)
    begun, cpu = time.perf_counter(), time.process_time()
    data = folds(table, settings.splits)
    held_out = inner_rows(data.train_x.shape[1])
    recipe = dataclasses.replace(
        METHODS[method],
        periods=settings.periods,
        period=settings.period,
        batch_size=min(64, max(32, len(table) // 64), data.train_x.shape[1] - held_out),
    )
    with _progress(console) as progress:
        bar = progress.add_task(f"{table.name}, {method}", total=1.0)
        learn = functools.partial(
            train, recipe, data.train_x, data.train_y, held_out=held_out, seed=settings.seed
        )
        first = learn(report=lambda share: progress.update(bar, completed=share / 2))
        if not first.kept.all():
            raise training.NonFiniteLossError(
                f"{method} on {table.name} never had a finite likelihood in split "
                f"{int(np.argmin(first.kept))}"
            )
        again = learn(
            until=first.kept,
            report=lambda share: progress.update(bar, completed=0.5 + share / 2),
        )
    center, unit = (each[:, None, None] for each in (data.center, data.scale))

    def in_units(predictions: Predictions) -> Predictions:
        return Predictions(predictions.mean * unit + center, predictions.scale * unit)

    seed = settings.seed
    inner_y = data.train_y[:, -held_out:] * unit[..., 0] + center[..., 0]
    inner = in_units(predict(recipe, first, data.train_x[:, -held_out:], seed=seed))
    test = in_units(predict(recipe, again, data.test_x, seed=seed))
    figures, predicted = judge(test, data.test_y, inner, inner_y, seed=seed)
    np.savez_compressed(
        directory / "predictions.npz",
        target=data.test_y,
        mean=predicted["mean"],
        deviation=predicted["deviation"],
    )
    records.write_json(
        directory / "result.json",
        {
            "table": table.name,
            "method": method,
            "rows": len(table),
            "features": table.features.shape[1],
            "left_out": table.left_out,
            "recipe": dataclasses.asdict(recipe),
            "updates": first.kept * recipe.period,
            "held_out_log_likelihood": first.scores.max(axis=1) - np.log(data.scale),
            "figures": figures,
            "seconds": time.perf_counter() - begun,
            "cpu_seconds": time.process_time() - cpu,
            **records.environment(),
        },
    )


def load(directory: Path) -> Study:
    """What a finished study has written."""
    result = json.loads((directory / "result.json").read_text())
    with np.load(directory / "predictions.npz") as arrays:
        return Study(
            table=result["table"],
            method=result["method"],
            figures={k: np.array(v, float) for k, v in result["figures"].items()},
            seconds=result["seconds"],
            **{name: arrays[name] for name in ("target", "mean", "deviation")},
        )


def _progress(console: Console) -> Progress:
    columns: list[Any] = [TextColumn("{task.description:>32}"), BarColumn(), TimeElapsedColumn()]
    return Progress(*columns, console=console, transient=True)
