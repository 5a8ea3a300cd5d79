"""A world whose noise is known: what is learnt of it, and what is admitted where there is no data.

Inputs lie in [-4, -1] and [1, 4]; between them is a gap, beyond them nothing.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

import diffmetrics as dm
from experiments.shared import study, tables
from experiments.shared.settings import require_within
from experiments.uncertainty import pictures, report
from experiments.uncertainty.experiment import fit
from experiments.uncertainty.methods import Method, Recipe
from experiments.uncertainty.networks import Design
from experiments.uncertainty.predictions import predict

HIDDEN = (50, 50)
METHODS = {
    "ensemble": Method(Design(hidden=HIDDEN), members=5),
    "dropout": Method(Design(hidden=HIDDEN, layer="dropout"), draws=50),
    # With two hidden layers it fits worse, by the held-out likelihood: most of its weights stay at
    # the prior.
    "vi": Method(Design(hidden=(50,), layer="mean-field"), draws=50, learning_rate=2e-2),
}
ROWS = 600
GRID = np.linspace(-6.0, 6.0, 481)


def truth(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation at x."""
    return np.sin(1.5 * x), 0.05 + 0.15 * (1.0 + np.sin(x))


def world(seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets [S, n]."""
    rng = np.random.default_rng(0)
    x = rng.uniform(1.0, 4.0, (seeds, ROWS)) * rng.choice([-1.0, 1.0], (seeds, ROWS))
    mean, deviation = truth(x)
    return x, mean + deviation * rng.normal(size=x.shape)


def synthetic(
    seeds: int, periods: int, out: Path, console: Console, *, resume: bool
) -> dict[str, Any]:
    """Train each method with `seeds` seeds; bands, rank correlations, what grows off the data."""
    require_within({"seeds": seeds, "periods": periods}, seeds="[1, inf)", periods="[1, inf)")
    results = {}
    for name, method in METHODS.items():
        recipe = Recipe(**vars(method), periods=periods, batch_size=64)
        described = {"seeds": seeds, "recipe": dataclasses.asdict(recipe)}
        find = partial(train_and_judge, recipe, seeds, name)
        results[name] = study.result(out / name, described, find, resume=resume)
    x, y = world(seeds)
    lines = [
        [name, *(tables.cell(tables.mean(result[key])) for key in COLUMNS.values())]
        for name, result in results.items()
    ]
    title = f"a known deviation of 0.05 to 0.35, {report.told(seeds)}"
    table = study.Table(title, ("method", *COLUMNS), lines, section=1)
    content = {
        "seeds": seeds, "x": GRID, "truth": truth(GRID), "data": (x[0], y[0]), "found": results,
        "seconds": sum(result["seconds"] for result in results.values()),
    }  # fmt: skip
    study.publish(out, "synthetic", [table], [], content, console)
    pictures.synthetic(out / "synthetic.json", out / "synthetic.png")
    return results


COLUMNS = {
    "rank corr. with true deviation": "rank",
    "RMSE to true mean": "rmse",
    "noise / truth": "noise_ratio",
    "epistemic inside": "inside",
    "in the gap": "gap",
    "outside": "outside",
}


def train_and_judge(recipe: Recipe, seeds: int, name: str, _directory: Path) -> dict[str, Any]:
    """Figures for each seed, and the curves of the first."""
    x, y = world(seeds)
    scaled, inputs = (
        (each / 2.5)[..., None].astype(np.float32)
        for each in (x, np.broadcast_to(GRID, (seeds, len(GRID))))
    )
    train = partial(
        fit, recipe, scaled, y.astype(np.float32), held_out=ROWS // 5, seed=0, title=name
    )
    means, scales = predict(recipe, train(until=train().kept), inputs, seed=0)
    parts = jax.vmap(dm.decompose_variance)(means, scales)
    aleatoric, epistemic = (np.sqrt(np.asarray(part)) for part in parts)
    mean, deviation = truth(GRID)
    away = np.abs(GRID)
    inside, gap, outside = (away >= 1.0) & (away <= 4.0), away < 0.75, away > 4.5
    truths = np.broadcast_to(deviation[inside], (seeds, inside.sum()))
    return {
        "rank": dm.rank_correlation(aleatoric[:, inside], truths, axis=1),
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
