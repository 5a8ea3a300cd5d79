"""Several losses at the same budget: train, judge, tabulate."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.shared import plots, records, tables, training
from experiments.ships import pictures, run
from experiments.ships.losses import require_known
from experiments.ships.measure import Predict, report
from experiments.ships.pipeline import Images

FIGURES = ("precision", "recall", "f1", "f2", "airbus_f2", "airbus_f2_ships", "predicted_share")


def compare_losses(
    settings: run.Settings,
    losses: Sequence[str],
    seeds: int,
    out: Path,
    console: Console,
    *,
    resume: bool,
) -> list[dict[str, Any]]:
    """Train every loss with every seed in its own directory under `out`, then report on all.

    Returns:
      One row a loss, as written to `comparison.json`.

    Raises:
      ValueError: for a loss that does not exist, or no seed.
    """
    require_known(losses)
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {seeds}")
    images = run.open_images(settings, console)
    results: dict[str, list[dict[str, Any]]] = {loss: [] for loss in losses}
    for seed in range(seeds):
        for loss in losses:
            directory = out / f"{loss}-{seed}"
            results[loss].append(
                _one(settings, images, loss, seed, directory, console, resume=resume)
            )
    rows = [summarize(loss, results[loss]) for loss in losses]
    minutes = sum(result.get("seconds", 0.0) for each in results.values() for result in each) / 60
    source = ", ".join(map(str, settings.data)) or "generated scenes"
    where = records.environment()
    title = f"U-Net on {source}: {settings.steps} steps, {seeds} seed(s), {where['device']}"
    records.write_json(
        out / "comparison.json",
        {
            "source": source,
            "settings": vars(settings),
            "seeds": seeds,
            "minutes": minutes,
            **where,
            "rows": rows,
        },
    )
    heading = f"{title}, {minutes:.0f} minutes"
    (out / "comparison.md").write_text(tables.markdown(COLUMNS, cells(rows), heading))
    show(rows, title, console)
    console.print(
        "± is the standard error over seeds; differences within two of them are ties, and it does "
        "not contain the luck of the test images.\n"
        "The tuned threshold has the best pixel F1 on validation images. Airbus F2 is of objects.\n"
        f"{minutes:.1f} minutes; runs, comparison.json and figures in {out}"
    )
    pictures.comparison(rows, out / "comparison.png", title=title)
    _draw_runs(settings, images, losses, out)
    return rows


def _one(
    settings: run.Settings,
    images: Images,
    loss: str,
    seed: int,
    directory: Path,
    console: Console,
    *,
    resume: bool,
) -> dict[str, Any]:
    """Train and judge one loss and seed, or read what a finished run has found."""
    path = directory / "result.json"
    records.claim(directory, run.describe(settings, loss, seed), resume=resume)
    if path.exists():
        return json.loads(path.read_text())
    begun = time.perf_counter()
    try:
        predict = run.fit(settings, images, loss, seed, directory, console, resume=True)
        found = judge(settings, images, seed, predict)
    except training.NonFiniteLossError as error:
        console.print(str(error), style="yellow", markup=False)
        found = {"verdict": str(error)}
    seconds = time.perf_counter() - begun
    result = {"loss": loss, "seed": seed, **found, "seconds": seconds, **records.environment()}
    records.write_json(path, result)
    return result


def judge(settings: run.Settings, images: Images, seed: int, predict: Predict) -> dict[str, Any]:
    """The figures of a trained model on its test images."""
    members = run.parts(settings, images, seed)
    return report(predict, images, members.validation, members.test)


def summarize(loss: str, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means and standard errors over seeds; a run that became non-finite counts as NaN."""
    counted = Counter(result["verdict"] for result in results)
    verdict = "; ".join(
        f"{n} x {words}" if n < len(results) else words for words, n in counted.items()
    )
    row: dict[str, Any] = {"loss": loss, "verdict": verdict}
    for when in ("at_half", "at_tuned"):
        keys = (*FIGURES, "threshold")
        row[when] = {
            key: tables.mean([result.get(when, {}).get(key, math.nan) for result in results])
            for key in keys
        }
    row["average_precision"] = tables.mean(
        [result.get("average_precision", math.nan) for result in results]
    )
    return row


COLUMNS = ("loss", "p >", "prec.", "recall", "F1", "F2", "AP", "Airbus", "ships", "verdict")


def cells(rows: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    """The comparison as text, two lines a loss: at one half and at the tuned threshold."""
    for row in rows:
        for when in ("at_half", "at_tuned"):
            half = when == "at_half"
            figures = row[when]
            yield [
                row["loss"] if half else "",
                f"{figures['threshold'][0]:.2f}",
                *(tables.cell(figures[key]) for key in ("precision", "recall", "f1", "f2")),
                tables.cell(row["average_precision"]) if half else "",
                *(tables.cell(figures[key]) for key in ("airbus_f2", "airbus_f2_ships")),
                row["verdict"] if half else "",
            ]


def show(rows: Sequence[dict[str, Any]], title: str, console: Console) -> None:
    """The comparison for a terminal; what became of each loss stands below, where it has room."""
    lines = [line[:-1] for line in cells(rows)]
    tables.show(COLUMNS[:-1], lines, title, console, section=2)
    for row in rows:
        console.print(f"[bold]{row['loss']:>14}[/bold]  {row['verdict']}")
    console.print()


def _draw_runs(settings: run.Settings, images: Images, losses: Sequence[str], out: Path) -> None:
    """Training curves and predictions of the first seed."""
    finished = [loss for loss in losses if training.has_checkpoint(out / f"{loss}-0")]
    if not finished:
        return
    logs = {loss: out / f"{loss}-0" / "metrics.jsonl" for loss in finished}
    plots.training_curves(logs, out / "curves.png")
    examples = pictures.choose(images, run.parts(settings, images, 0).test)
    masks = {}
    for loss in finished:
        predict = run.load(out / f"{loss}-0")[-1]
        masks[loss] = [predict(example.image) > 0 for example in examples]
    pictures.predictions(examples, masks, out / "predictions.png", note="pixels with p > ½")
