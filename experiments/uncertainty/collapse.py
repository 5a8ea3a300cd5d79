"""Why is the predicted deviation stuck at 0.693? The same network with and without one ReLU."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import diffmetrics as dm
from experiments.shared import study, tables
from experiments.shared.settings import require_known, require_within
from experiments.uncertainty import pictures, report
from experiments.uncertainty.experiment import fit
from experiments.uncertainty.methods import Recipe
from experiments.uncertainty.networks import MIN_SCALE, Design
from experiments.uncertainty.predictions import predict

LOG_2 = math.log(2.0)
# The network of a question on Stack Overflow, whose layers were variational: Normal output, plain
# softplus.
ASKED = Design(hidden=(50, 50), init_scale=LOG_2 + MIN_SCALE)
ROWS, TEST_ROWS = 400, 500
LAYERS = ("plain", "mean-field", "dropout")


def noise(x: np.ndarray) -> np.ndarray:
    """The true deviation, which the network should find: 0.02 to 0.20."""
    return 0.11 + 0.09 * np.sin(x)


def collapse(
    seeds: int, periods: int, layers: Sequence[str], out: Path, console: Console, *, resume: bool
) -> list[dict[str, Any]]:
    """Train the network with and without the ReLU; say how many are stuck, and why."""
    require_within({"seeds": seeds, "periods": periods}, seeds="[1, inf)", periods="[1, inf)")
    require_known("layer", layers, LAYERS)
    rows = []
    for layer, before in itertools.product(layers, ("relu", "linear")):
        design = dataclasses.replace(ASKED, before_scale=before, layer=layer)
        find = partial(train_and_judge, design, seeds, periods)
        described = {"seeds": seeds, "periods": periods, "design": dataclasses.asdict(design)}
        result = study.result(out / f"{layer}-{before}", described, find, resume=resume)
        rows.append({"layer": layer, "before": before, **result})
    updates = periods * Recipe.period
    title = f"sin(x) with a deviation of 0.02 to 0.20, {updates} updates, {report.told(seeds)}"
    table = study.Table(title, COLUMNS, [_line(row) for row in rows], section=2)
    grid = np.linspace(-math.pi, math.pi, TEST_ROWS)
    content = {
        "seeds": seeds, "updates": updates, "x": grid, "true_deviation": noise(grid),
        "rows": rows, "seconds": sum(row["seconds"] for row in rows),
    }  # fmt: skip
    study.publish(out, "collapse", [table], [CAUSE], content, console)
    pictures.collapse(out / "collapse.json", out / "collapse.png")
    return rows


def train_and_judge(design: Design, seeds: int, periods: int, _directory: Path) -> dict[str, Any]:
    """Figures for each seed: predicted noise is the aleatoric part."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-math.pi, math.pi, (seeds, ROWS, 1)).astype(np.float32)
    y = (np.sin(x) + noise(x) * rng.normal(size=x.shape))[..., 0].astype(np.float32)
    grid = np.linspace(-math.pi, math.pi, TEST_ROWS, dtype=np.float32)
    grid = np.broadcast_to(grid[:, None], (seeds, TEST_ROWS, 1))
    truth = noise(grid[..., 0])
    target = np.sin(grid[..., 0]) + truth * rng.normal(size=truth.shape)
    draws = 1 if design.layer == "plain" else 25
    recipe = Recipe(design, draws=draws, periods=periods, batch_size=64, learning_rate=3e-3)
    until = np.full(seeds, periods)
    trained = fit(recipe, x, y, held_out=0, seed=0, until=until, title=design.before_scale)
    means, scales = predict(recipe, trained, grid, seed=0)
    mean, deviation = means.mean(1), scales.mean(1)
    error = np.abs(target - mean)
    return {
        # At every input: the median draw, which of plain weights is the only one.
        "stuck": np.all(np.abs(np.median(scales, 1) - LOG_2 - MIN_SCALE) < 1e-3, axis=1),
        "smallest": scales.min((1, 2)),
        "average": deviation.mean(1),
        "rmse": np.sqrt(np.square(error).mean(1)),
        "rank_error": dm.rank_correlation(deviation, error, axis=1),
        "rank_truth": dm.rank_correlation(deviation, truth, axis=1),
        "curves": {"mean": mean[:3], "deviation": deviation[:3]},
    }


CAUSE = (
    "Cause: softplus(relu(a)) >= softplus(0) = log 2 = 0.6931, whatever a is. Data that ask "
    "for less push a below 0, where the ReLU has no gradient, and it never comes back; of "
    "the mean it cuts off all that is negative. Let the last layer be linear."
)
COLUMNS = (
    "layers, before the softplus", "stuck at log 2", "smallest", "average deviation", "RMSE",
    "rank corr. with error size", "with true deviation",
)  # fmt: skip


def _line(row: dict[str, Any]) -> list[str]:
    figures = (row[key] for key in ("average", "rmse", "rank_error", "rank_truth"))
    return [
        f"{row['layer']}, {row['before']}",
        f"{sum(row['stuck'])} of {len(row['stuck'])}",
        f"{min(row['smallest']):.3f}",
        *(tables.cell(tables.mean(values)) for values in figures),
    ]
