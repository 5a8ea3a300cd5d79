"""A world whose noise is known: what is learnt of it, and what is admitted where there is no data.

Inputs lie in [-4, -1] and [1, 4]; between them is a gap, beyond them nothing.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

import diffmetrics as dm
from experiments.shared import records, tables
from experiments.uncertainty import pictures
from experiments.uncertainty.fit import Recipe, predict, train
from experiments.uncertainty.networks import Design

HIDDEN = (50, 50)
METHODS = {
    "ensemble": Recipe(Design(hidden=HIDDEN), members=5),
    "dropout": Recipe(Design(hidden=HIDDEN, layer="dropout"), draws=50),
    # With two hidden layers it fits worse, by the held-out likelihood: most of its weights stay at
    # the prior.
    "vi": Recipe(Design(hidden=(50,), layer="mean-field"), draws=50, learning_rate=2e-2),
}
ROWS = 600


def truth(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation at x."""
    return np.sin(1.5 * x), 0.05 + 0.15 * (1.0 + np.sin(x))


def synthetic(
    seeds: int, periods: int, out: Path, console: Console, *, resume: bool
) -> dict[str, Any]:
    """Train each method with `seeds` seeds; bands, rank correlations, what grows off the data."""
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {seeds}")
    records.claim(out, {"seeds": seeds, "periods": periods}, resume=resume)
    begun = time.perf_counter()
    rng = np.random.default_rng(0)
    x = rng.uniform(1.0, 4.0, (seeds, ROWS)) * rng.choice([-1.0, 1.0], (seeds, ROWS))
    mean, deviation = truth(x)
    y = (mean + deviation * rng.normal(size=x.shape)).astype(np.float32)
    grid = np.linspace(-6.0, 6.0, 481)
    inputs = np.repeat((grid / 2.5)[None, :, None], seeds, axis=0).astype(np.float32)
    found = {}
    for name, method in METHODS.items():
        recipe = dataclasses.replace(method, periods=periods, batch_size=64)
        scaled = (x / 2.5)[..., None].astype(np.float32)
        trained = train(recipe, scaled, y, held_out=ROWS // 5, seed=0)
        trained = train(recipe, scaled, y, held_out=ROWS // 5, seed=0, until=trained.kept)
        predictions = predict(recipe, trained, inputs, seed=0)
        found[name] = _report(grid, predictions.mean, predictions.scale)
    result = {
        "seeds": seeds,
        "x": grid,
        "truth": truth(grid),
        "data": (x[0], y[0]),
        "found": found,
        "seconds": time.perf_counter() - begun,
        **records.environment(),
    }
    records.write_json(out / "synthetic.json", result)
    keys = ("rank", "rmse", "noise_ratio", "inside", "gap", "outside")
    lines = [
        [name, *(tables.cell(tables.mean(list(found[name][key]))) for key in keys)]
        for name in found
    ]
    title = f"a known deviation of 0.05 to 0.35, {seeds} seeds"
    tables.show(COLUMNS, lines, title, console, section=1)
    (out / "synthetic.md").write_text(tables.markdown(COLUMNS, lines, title))
    pictures.synthetic(out / "synthetic.json", out / "synthetic.png")
    return result


COLUMNS = (
    "method", "rank corr. with true deviation", "RMSE to true mean", "noise / truth",
    "epistemic inside", "in the gap", "outside",
)  # fmt: skip


def _report(x: np.ndarray, means: np.ndarray, scales: np.ndarray) -> dict[str, Any]:
    """Figures for each seed of predictions [S, K, n], and the curves of the first."""
    parts = jax.vmap(dm.decompose_variance)(means, scales)
    aleatoric, epistemic = (np.sqrt(np.asarray(part)) for part in parts)
    mean, deviation = truth(x)
    away = np.abs(x)
    inside, gap, outside = (away >= 1.0) & (away <= 4.0), away < 0.75, away > 4.5
    truths = np.broadcast_to(deviation[inside], (len(means), inside.sum()))
    rank = dm.rank_correlation(aleatoric[:, inside], truths, axis=1)
    return {
        "rank": jax.device_get(rank),
        "rmse": np.sqrt(np.square(means.mean(1) - mean)[:, inside].mean(1)),
        "noise_ratio": (aleatoric / deviation)[:, inside].mean(1),
        "inside": epistemic[:, inside].mean(1),
        "gap": epistemic[:, gap].mean(1),
        "outside": epistemic[:, outside].mean(1),
        "curves": {
            "mean": means.mean(1)[0],
            "aleatoric": aleatoric[0],
            "epistemic": epistemic[0],
        },
    }
