"""The published protocol: every method on the same splits of a table, judged in the table's units.

All splits and all members of an ensemble are trained side by side in one compiled program. A fifth
of the training rows is held out to choose how long to train, and to fit what recalibrates; then the
same networks are trained anew on all training rows, for as long. The test rows are looked at once.

A method is a row of `methods.METHODS`: which network, which loss, how many members or draws.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from rich.console import Console
from rich.progress import track

import diffmetrics as dm
from experiments.shared import study, training
from experiments.shared.settings import require_known, require_within
from experiments.uncertainty import report
from experiments.uncertainty.data import Folds, Table, folds, open_tables
from experiments.uncertainty.measure import Normals, judge
from experiments.uncertainty.methods import METHODS, Recipe
from experiments.uncertainty.networks import graph_of, initialize

LOSSES: dict[str, Callable[..., jax.Array]] = {
    "nll": dm.gaussian_nll,
    "beta-nll": partial(dm.beta_nll, beta=0.5),
    "crps": dm.crps_gaussian,
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is the same for all methods."""

    seeds: int = 20
    """How often the rows are divided anew, 90 to 10, and networks are trained; the first 20 splits
    are the published ones."""
    periods: int = 80
    """Looks at the held-out fifth of the training rows; training stops at the best."""
    period: int = 60
    """Updates between two looks."""
    seed: int = 0
    """Of all parameters, batches and draws; it does not change the splits."""

    def __post_init__(self) -> None:
        require_within(self, seeds="[1, inf)", periods="[1, inf)", period="[1, inf)")


def compare(
    settings: Settings,
    data: Path | None,
    methods: Sequence[str],
    out: Path,
    console: Console,
    *,
    resume: bool,
) -> dict[str, list[report.Row]]:
    """What every method reaches on every table, by the table's name; found once, kept in `out`.

    Raises:
      ValueError: for a method or a table that cannot be used; nothing is written then.
    """
    require_known("method", methods, METHODS)
    tables = open_tables(data)
    work = [
        (table, rows, name)
        for table, rows in [(table, folds(table, settings.seeds)) for table in tables]
        for name in methods
    ]
    found: dict[str, list[report.Row]] = {table.name: [] for table in tables}
    for table in tables:
        if table.left_out:
            console.print(f"  {table.name}: left out as constant: {', '.join(table.left_out)}")
    for done, (table, rows, name) in enumerate(work):
        described = {
            **dataclasses.asdict(settings),
            "method": name,
            "recipe": dataclasses.asdict(METHODS[name]),
            # A table is the same one alone and in its folder.
            "data": [table.name, len(table), *table.columns],
        }
        find = partial(_find, settings, table, rows, name, console)
        try:
            one = study.result(out / f"{table.name}-{name}", described, find, resume=resume)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"{done} of {len(work)} studies are kept") from None
        found[table.name].append({"method": name, **one})
    return found


def _find(
    settings: Settings, table: Table, rows: Folds, name: str, console: Console, directory: Path
) -> report.Row:
    """Train one method on all splits of a table, judge it, and keep its predictions."""
    training.examine(LOSSES[METHODS[name].loss], "mean_scale", console)
    cpu = time.process_time()
    held_out = max(1, rows.train_x.shape[1] // 5)
    recipe = dataclasses.replace(
        METHODS[name],
        periods=settings.periods,
        period=settings.period,
        batch_size=min(64, max(32, len(table) // 64), rows.train_x.shape[1] - held_out),
    )
    learn = partial(
        train, recipe, rows.train_x, rows.train_y,
        held_out=held_out, seed=settings.seed, title=f"{table.name}, {name}",
    )  # fmt: skip
    first = learn()
    if not first.kept.all():
        raise training.NonFiniteLossError(
            f"{name} on {table.name} never had a finite likelihood in split {first.kept.argmin()}"
        )
    again = learn(until=first.kept)
    inner = predict(recipe, first, rows.train_x[:, -held_out:], seed=settings.seed)
    test = predict(recipe, again, rows.test_x, seed=settings.seed)
    figures, predicted = judge(rows, test, inner, seed=settings.seed)
    np.savez_compressed(directory / "predictions.npz", **predicted)
    return {
        "table": table.name,
        "method": name,
        "rows": len(table),
        "features": table.features.shape[1],
        "left_out": table.left_out,
        "recipe": dataclasses.asdict(recipe),
        "updates": first.kept * recipe.period,
        "held_out_log_likelihood": first.scores.max(axis=1) - np.log(rows.scale),
        "figures": figures,
        "cpu_seconds": time.process_time() - cpu,
    }


# --- training -------------------------------------------------------------------------------------


class Trained(NamedTuple):
    """What a run of `train` leaves."""

    graph: Any
    params: Any  # leaves [S, M, ...], of the kept period
    kept: np.ndarray  # [S], the period that was kept, from 1; 0 if no likelihood was finite
    scores: np.ndarray  # [S, periods], log-likelihood of the held-out rows


class _State(NamedTuple):
    params: Any
    memory: Any
    best: Any  # parameters of the best period
    score: jax.Array
    kept: jax.Array


def train(
    recipe: Recipe,
    x: np.ndarray,
    y: np.ndarray,
    *,
    held_out: int,
    seed: int,
    until: np.ndarray | None = None,
    title: str = "training",
) -> Trained:
    """Train all members on all splits at once.

    Args:
      recipe: what to train.
      x: inputs [S, n, d], standardised.
      y: targets [S, n], standardised.
      held_out: how many rows at the end are kept out of the training; the period in which the
        mixture's log-likelihood of them is best is the one that is kept.
      seed: of parameters, batches and draws.
      until: periods [S] to train for on *all* rows, instead of choosing one.
      title: of the progress display.
    """
    count, rows, inputs = x.shape
    keys = jax.random.split(jax.random.key(seed), count)
    graph = graph_of(recipe.design, inputs)
    members = jax.vmap(partial(jax.random.split, num=recipe.members))(keys)
    params = initialize(recipe.design, inputs, members)
    memory = jax.vmap(jax.vmap(optax.adam(recipe.learning_rate).init))(params)
    none = jnp.full(count, -jnp.inf, jnp.float32), jnp.zeros(count, jnp.int32)
    state = _State(params, memory, params, *none)
    target = np.zeros(count, np.int32) if until is None else np.asarray(until, np.int32)
    state, *of_splits = jax.device_put((state, keys, x, y, target), _spread(count))
    used = rows - held_out if until is None else rows
    last = recipe.periods if until is None else int(np.max(until))
    patience = max(10, recipe.periods // 4)
    chunk = max(1, min(10, recipe.periods // 10))
    scores = []
    for start in track(range(0, last, chunk), title, transient=True):
        state, score = _train(graph, recipe, held_out, chunk, used, start, state, *of_splits)
        scores.append(score)
        # Until no split has improved for a while.
        if until is None and start + chunk - int(np.max(state.kept)) > patience:
            break
    scores = np.concatenate(jax.device_get(scores), axis=1)
    return Trained(graph, state.best, np.asarray(state.kept), scores)


def _spread(count: int) -> NamedSharding:
    """Splits over as many devices as divide them; nothing is ever sent between two."""
    devices = jax.devices()
    used = max(n for n in range(1, len(devices) + 1) if count % n == 0)
    return NamedSharding(Mesh(np.array(devices[:used]), ("split",)), PartitionSpec("split"))


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
@partial(jax.vmap, in_axes=(None, None, None, None, None, None, 0, 0, 0, 0, 0))
def _train(
    graph: Any,
    recipe: Recipe,
    held_out: int,
    chunk: int,
    used: jax.Array,
    start: jax.Array,
    state: _State,
    key: jax.Array,
    x: jax.Array,
    y: jax.Array,
    target: jax.Array,
) -> tuple[_State, jax.Array]:
    """`chunk` periods of one split, on the first `used` of its rows."""
    optimizer = optax.adam(recipe.learning_rate)
    num_data = recipe.batch_size if recipe.kl_per == "batch" else used

    def objective(params: Any, key: jax.Array, rows: jax.Array) -> jax.Array:
        network = nnx.merge(graph, nnx.State(params))
        mean, scale = network(x[rows], key)
        value = LOSSES[recipe.loss](mean, scale, y[rows])
        return dm.elbo_loss(value, network.kl(), num_data=num_data)

    def step(params: Any, memory: Any, key: jax.Array, rows: jax.Array) -> tuple[Any, Any]:
        gradient = jax.grad(objective)(params, key, rows)
        change, memory = optimizer.update(gradient, memory, params)
        return optax.apply_updates(params, change), memory

    def update(carry: Any, key: jax.Array) -> tuple[Any, None]:
        # Members share batches and differ in their start, as one matrix product likes it.
        pick, noise = jax.random.split(key)
        rows = jax.random.randint(pick, (recipe.batch_size,), 0, used)
        noises = jax.random.split(noise, recipe.members)
        params, memory = carry
        return jax.vmap(step, in_axes=(0, 0, 0, None))(params, memory, noises, rows), None

    def period(state: _State, number: jax.Array) -> tuple[_State, jax.Array]:
        fresh, look = jax.random.split(jax.random.fold_in(key, number))
        carry = state.params, state.memory
        (params, memory), _ = jax.lax.scan(update, carry, jax.random.split(fresh, recipe.period))
        score = jnp.zeros(())
        if held_out:
            normals = _draw(graph, min(5, recipe.draws), params, look, x[-held_out:])
            score = dm.mixture_log_likelihood(*normals, y[-held_out:]).mean()
        # A run with a target keeps the period of that number, whatever its score.
        rank = jnp.where(target > 0, -jnp.abs(number - target).astype(score.dtype), score)
        best, *kept = jax.tree.map(
            partial(jnp.where, rank > state.score),
            (params, rank, number),
            (state.best, state.score, state.kept),
        )
        return _State(params, memory, best, *kept), score

    return jax.lax.scan(period, state, start + 1 + jnp.arange(chunk))


def _draw(graph: Any, draws: int, params: Any, key: jax.Array, x: jax.Array) -> Normals:
    """What every member and draw of one split predicts [members x draws, n]."""

    def one(params: Any, key: jax.Array) -> Normals:
        return Normals(*nnx.merge(graph, nnx.State(params))(x, key))

    members = jax.tree.leaves(params)[0].shape[0]
    keys = jax.random.split(key, (members, draws))
    drawn = jax.vmap(jax.vmap(one, in_axes=(None, 0)))(params, keys)
    return jax.tree.map(lambda each: each.reshape(-1, len(x)), drawn)


_predict = jax.jit(jax.vmap(_draw, in_axes=(None, None, 0, 0, 0)), static_argnums=(0, 1))


def predict(recipe: Recipe, trained: Trained, x: np.ndarray, *, seed: int) -> Normals:
    """Normals [S, K, n] of every member and draw for inputs [S, n, d]."""
    keys = jax.random.split(jax.random.key(seed + 1), len(x))
    keys, x_ = jax.device_put((keys, x), _spread(len(x)))
    found = _predict(trained.graph, recipe.draws, trained.params, keys, x_)
    return Normals(*map(np.asarray, found))
