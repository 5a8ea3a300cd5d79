"""One output, several losses: MSE + alpha * Huber where one target in seven is wrong.

All values of alpha and all seeds are trained in one compiled program; the parts are logged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from rich.console import Console

import diffmetrics as dm
from experiments.shared import study, tables
from experiments.shared.settings import require_within
from experiments.uncertainty import pictures, report
from experiments.uncertainty.networks import Design, graph_of, initialize

ALPHAS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
ROWS, WRONG, DELTA = 200, 1 / 7, 0.3
NAMES = ("mse", "huber")
Losses = dict[str, Callable[[jax.Array], jax.Array]]
Weigh = Callable[[Any, Losses, jax.Array, jax.Array], tuple[Any, Any]]


def _losses(y: jax.Array) -> Losses:
    """The losses by name, as functions of the output: optax's own, which are exact and fast."""
    return {
        "mse": lambda output: optax.squared_error(output, y).mean(),
        "huber": lambda output: optax.huber_loss(output, y, delta=DELTA).mean(),
    }


def _fixed(state: Any, losses: Losses, output: jax.Array, alpha: jax.Array) -> Any:
    return {"mse": 1.0, "huber": alpha}, state


def _huber_only(state: Any, losses: Losses, output: jax.Array, alpha: jax.Array) -> Any:
    return {"mse": 0.0, "huber": 1.0}, state  # a 0 that is no array drops the term


def _by_value(rule: Callable[..., Any]) -> Weigh:
    return lambda state, losses, output, alpha: rule(
        state, {name: loss(output) for name, loss in losses.items()}
    )


def _gradient_norm(state: Any, losses: Losses, output: jax.Array, alpha: jax.Array) -> Any:
    return dm.gradient_norm_weights(state, losses, output)


ADAPTIVE: dict[str, Weigh] = {
    "uncertainty weights": _by_value(dm.uncertainty_weights),
    "dynamic average": _by_value(dm.dynamic_average_weights),
    "gradient norm": _gradient_norm,
}


def world(rng: np.random.Generator, seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs [S, n, 1] and targets [S, n], a share of which is 4 too high."""
    x = rng.uniform(-2.0, 2.0, (seeds, ROWS))
    y = np.sin(2.0 * x) + 0.1 * rng.normal(size=x.shape)
    y += 4.0 * (rng.random(x.shape) < WRONG)
    return x[..., None].astype(np.float32), y.astype(np.float32)


@partial(jax.jit, static_argnames=("graph", "weigh", "steps"))
def _train(
    params: Any, x: jax.Array, y: jax.Array, alpha: jax.Array, *, graph: Any, weigh: Weigh,
    steps: int,
) -> Any:  # fmt: skip
    """Every seed and alpha: parameters [S, ...], data [S, n, ...], alphas [A] -> [S, A, ...]."""
    optimizer = optax.adam(5e-3)
    key = jax.random.key(0)  # nothing in these networks is random

    def train_one(params: Any, x: jax.Array, y: jax.Array, alpha: jax.Array) -> Any:
        losses = _losses(y)

        def objective(params: Any, memory: Any) -> Any:
            output, _ = nnx.merge(graph, nnx.State(params))(x, key)
            weights, memory = weigh(memory, losses, output, alpha)
            parts = {name: partial(f, output) for name, f in losses.items()}
            total, _ = dm.combine(parts, weights)
            return total, (memory, {name: f(output) for name, f in losses.items()}, weights)

        def step(carry: Any, _: Any) -> Any:
            params, adam, memory = carry
            gradient, (memory, parts, weights) = jax.grad(objective, has_aux=True)(params, memory)
            change, adam = optimizer.update(gradient, adam, params)
            logged = parts, jax.tree.map(jnp.asarray, weights)
            return (optax.apply_updates(params, change), adam, memory), logged

        memory = dict.fromkeys(NAMES, jnp.zeros(()))
        carry = params, optimizer.init(params), memory
        (params, *_), logged = jax.lax.scan(step, carry, length=steps)
        grid = jnp.linspace(-2.0, 2.0, 200)
        output, _ = nnx.merge(graph, nnx.State(params))(grid[:, None], key)
        return output, logged

    over_alphas = jax.vmap(train_one, in_axes=(None, None, None, 0))
    return jax.vmap(over_alphas, in_axes=(0, 0, 0, None))(params, x, y, alpha)


def multiloss(
    alphas: Sequence[float], seeds: int, steps: int, out: Path, console: Console, *, resume: bool
) -> dict[str, Any]:
    """Sweep alpha, and put adaptive weights beside; errors are to the truth, without outliers."""
    described = {"alphas": tuple(alphas), "seeds": seeds, "steps": steps}
    require_within(described, seeds="[1, inf)", steps="[1, inf)")
    if not alphas or min(alphas) < 0.0:
        raise ValueError(f"alphas must be one or several numbers from 0 on, got {alphas}")
    find = partial(train_and_judge, alphas, seeds, steps)
    result = study.result(out, described, find, resume=resume)
    lines = [_line(row) for row in result["rows"]]
    title = f"sin(2x), one target in seven 4 too high; {steps} steps, {report.told(seeds)}"
    table = study.Table(title, COLUMNS, lines, section=len(alphas))
    study.publish(out, "multiloss", [table], [NOTE], result, console)
    pictures.multiloss(out / "multiloss.json", out / "multiloss.png")
    return result


def train_and_judge(
    alphas: Sequence[float], seeds: int, steps: int, _directory: Path
) -> dict[str, Any]:
    x, y = world(np.random.default_rng(0), seeds)
    design = Design(deviation="constant")
    graph = graph_of(design, 1)
    params = initialize(design, 1, jax.random.split(jax.random.key(0), seeds))
    grid = np.linspace(-2.0, 2.0, 200)
    runs: list[tuple[Weigh, Sequence[float], list[str]]] = [
        (_fixed, alphas, [f"mse + {alpha:g} huber" for alpha in alphas]),
        (_huber_only, [0.0], ["huber alone"]),
        *((weigh, [0.0], [name]) for name, weigh in ADAPTIVE.items()),
    ]
    rows = []
    for weigh, swept, names in runs:
        arguments = params, x, y, jnp.asarray(swept, jnp.float32)
        output, (parts, weights) = jax.device_get(
            _train(*arguments, graph=graph, weigh=weigh, steps=steps)
        )
        error = np.sqrt(np.square(output - np.sin(2.0 * grid)).mean(-1))  # [S, A]
        rows += [
            {
                "name": name,
                "alpha": swept[k] if weigh is _fixed else None,
                "rmse": error[:, k],
                "parts": {key: value[0, k] for key, value in parts.items()},
                "last": {key: value[:, k, -1] for key, value in parts.items()},
                "weights": {key: value[:, k, -1] for key, value in weights.items()},
                "output": output[0, k],
            }
            for k, name in enumerate(names)
        ]
    return {
        "steps": steps, "seeds": seeds, "delta": DELTA, "wrong": WRONG,
        "x": grid, "data": (x[0, :, 0], y[0]), "rows": rows,
    }  # fmt: skip


NOTE = (
    "mse + 0 huber is what Keras trains on when it is given a list of the two for one output. "
    "Both are losses of the same error, so the sum is one robust loss, and alpha says how "
    "robust; weights that balance units have nothing to balance here."
)
COLUMNS = (
    "loss", "RMSE to the truth", "mse at the end", "huber at the end", "weight of mse", "of huber"
)  # fmt: skip


def _line(row: dict[str, Any]) -> list[str]:
    last, weights = row["last"], row["weights"]
    figures = row["rmse"], last["mse"], last["huber"], weights["mse"], weights["huber"]
    return [row["name"], *(tables.cell(tables.mean(values), digits=3) for values in figures)]
