"""Why is the predicted deviation stuck at 0.693? The same network with and without one ReLU."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

import diffmetrics as dm
from experiments.shared import records, tables
from experiments.uncertainty import pictures
from experiments.uncertainty.fit import Recipe, predict, train
from experiments.uncertainty.networks import MIN_SCALE, Design

LOG_2 = math.log(2.0)
# The asker's network had variational layers; Normal output, plain softplus.
ASKED = Design(hidden=(50, 50), init_scale=LOG_2 + MIN_SCALE)
ROWS, TEST_ROWS = 400, 500


def noise(x: np.ndarray) -> np.ndarray:
    """The true deviation, which the network should find: 0.02 to 0.20."""
    return 0.11 + 0.09 * np.sin(x)


def collapse(
    seeds: int, periods: int, layers: Sequence[str], out: Path, console: Console, *, resume: bool
) -> dict[str, Any]:
    """Train the network with and without the ReLU; say how many are stuck, and why."""
    if seeds < 1 or not layers:
        raise ValueError(f"seeds and layers must be at least 1, got {seeds} and {len(layers)}")
    records.claim(out, {"seeds": seeds, "periods": periods, "layers": layers}, resume=resume)
    begun = time.perf_counter()
    rng = np.random.default_rng(0)
    x = rng.uniform(-math.pi, math.pi, (seeds, ROWS, 1)).astype(np.float32)
    y = (np.sin(x) + noise(x) * rng.normal(size=x.shape))[..., 0].astype(np.float32)
    grid = np.linspace(-math.pi, math.pi, TEST_ROWS, dtype=np.float32)[None, :, None]
    grid = np.repeat(grid, seeds, axis=0)
    target = np.sin(grid[..., 0]) + noise(grid[..., 0]) * rng.normal(size=grid.shape[:2])
    rows = []
    for layer, before in itertools.product(layers, ("relu", "linear")):
        recipe = Recipe(
            dataclasses.replace(ASKED, before_scale=before, layer=layer),
            draws=1 if layer == "plain" else 25,
            periods=periods, period=60, batch_size=64, learning_rate=3e-3,
        )  # fmt: skip
        until = np.full(seeds, periods)
        trained = train(recipe, x, y, held_out=0, seed=0, until=until)
        found = predict(recipe, trained, grid, seed=0)
        rows.append(
            {
                "layer": layer,
                "before": before,
                **_report(found.mean, found.scale, target, noise(grid[0, :, 0])),
                "curves": {"mean": found.mean.mean(1)[:3], "deviation": found.scale.mean(1)[:3]},
            }
        )
    result = {
        "seeds": seeds,
        "updates": periods * 60,
        "x": grid[0, :, 0],
        "true_deviation": noise(grid[0, :, 0]),
        "rows": rows,
        "seconds": time.perf_counter() - begun,
        **records.environment(),
    }
    records.write_json(out / "collapse.json", result)
    lines = [_line(row, seeds) for row in rows]
    title = f"sin(x) with a deviation of 0.02 to 0.20, {seeds} seeds, {periods * 60} updates"
    tables.show(COLUMNS, lines, title, console, section=2)
    (out / "collapse.md").write_text(tables.markdown(COLUMNS, lines, title))
    console.print(
        "Cause: softplus(relu(a)) >= softplus(0) = log 2 = 0.6931, whatever a is. Data that ask "
        "for less push a below 0, where the ReLU has no gradient, and it never comes back; of "
        "the mean it cuts off all that is negative. Let the last layer be linear."
    )
    pictures.collapse(out / "collapse.json", out / "collapse.png")
    return result


def _report(
    means: np.ndarray, scales: np.ndarray, target: np.ndarray, truth: np.ndarray
) -> dict[str, Any]:
    """Figures for each seed of predictions [S, K, n]: predicted noise is the aleatoric part."""
    floor = LOG_2 + MIN_SCALE
    mean, deviation = means.mean(1), scales.mean(1)
    error = np.abs(target - mean)
    truths = np.broadcast_to(truth, deviation.shape)
    return {
        # At every input: the median draw, which of plain weights is the only one.
        "stuck": np.all(np.abs(np.median(scales, 1) - floor) < 1e-3, axis=1),
        "smallest": scales.min((1, 2)),
        "average": deviation.mean(1),
        "rmse": np.sqrt(np.square(target - mean).mean(1)),
        "rank_error": jax.device_get(dm.rank_correlation(deviation, error, axis=1)),
        "rank_truth": jax.device_get(dm.rank_correlation(deviation, truths, axis=1)),
    }


COLUMNS = (
    "layers, before the softplus", "stuck at log 2", "smallest", "average deviation", "RMSE",
    "rank corr. with error size", "with true deviation",
)  # fmt: skip


def _line(row: dict[str, Any], seeds: int) -> list[str]:
    keys = ("average", "rmse", "rank_error", "rank_truth")
    return [
        f"{row['layer']}, {row['before']}",
        f"{int(np.sum(row['stuck']))} of {seeds}",
        f"{float(np.min(row['smallest'])):.3f}",
        *(tables.cell(tables.mean(list(row[key]))) for key in keys),
    ]
