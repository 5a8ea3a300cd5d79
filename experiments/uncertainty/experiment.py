"""The published protocol: every method on the same splits of a table, judged in the table's units.

All splits and all members of an ensemble are trained side by side in one compiled program, which is
why there is neither a log nor a checkpoint. A fifth of the training rows is held out to choose how
long to train, and to fit the recalibration factor and quantile; then the same networks are trained
anew on all training rows, for as long. The test rows are looked at once.

A method is a row of `methods.METHODS`: which network, which loss, how many members or draws. Your
own data: `--data`, tables of numbers with the target in the last column. Your own network: another
`networks.Design`, or another `networks.Network`, which gives mean and deviation of one draw, and a
`kl` of its weights that is 0 where they are plain numbers. Your own loss: a row of `methods.LOSSES`
and a method that names it. There are no thresholds; factor and quantile are chosen in
`measure.judge_split` on held-out data.
"""

from __future__ import annotations

import dataclasses
import itertools
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
from rich.console import Console
from rich.progress import track

import diffmetrics as dm
from experiments.shared import processes, study, training
from experiments.shared.settings import require_known, require_within
from experiments.uncertainty import report
from experiments.uncertainty.data import Folds, folds, open_tables
from experiments.uncertainty.measure import judge
from experiments.uncertainty.methods import LOSSES, METHODS, Recipe
from experiments.uncertainty.networks import graph_of, initialize
from experiments.uncertainty.predictions import Trained, draw, predict

# --- settings -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is the same for all methods."""

    seeds: int = 20
    """How many divisions into 90 % training and 10 % test rows; the first 20 are published."""
    periods: int = 80
    """Most looks at the held-out fifth; the parameters of the best look are kept."""
    period: int = 60
    """Updates between two looks."""
    seed: int = 0
    """Of parameters, batches and draws."""

    def __post_init__(self) -> None:
        require_within(self, seeds="[1, inf)", periods="[1, inf)", period="[1, inf)")


def recipe_of(settings: Settings, rows: Folds, method: str) -> Recipe:
    """How a method is trained on a table."""
    train, test = rows.train_y.shape[1], rows.test_y.shape[1]
    # There are as many updates whatever the table, so those of a large one take more of its rows.
    batch_size = min(64, max(32, (train + test) // 64), train - rows.held_out)
    return Recipe(
        **vars(METHODS[method]),
        periods=settings.periods,
        period=settings.period,
        batch_size=batch_size,
    )


# --- data -----------------------------------------------------------------------------------------


class Split(NamedTuple):
    """What one split is trained on; of all splits, with an axis [S] before the others."""

    key: jax.Array  # of batches and draws
    x: Any  # [n, d]
    y: Any  # [n]
    target: Any  # periods to train for; 0: the best is to be found


# --- loss and step --------------------------------------------------------------------------------


def make_update(graph: Any, recipe: Recipe, used: jax.Array, split: Split) -> Callable[..., Any]:
    """The training step of all members, on the first `used` rows of a split."""
    optimizer = optax.adam(recipe.learning_rate)
    num_data = recipe.batch_size if recipe.kl_per == "batch" else used

    def objective(params: Any, key: jax.Array, rows: jax.Array) -> jax.Array:
        """The loss of a batch and its share of the weights' divergence from their prior."""
        network = nnx.merge(graph, nnx.State(params))
        mean, scale = network(split.x[rows], key)
        loss = LOSSES[recipe.loss](mean, scale, split.y[rows])
        return dm.elbo_loss(loss, network.kl(), num_data=num_data)

    def update_member(params: Any, memory: Any, key: jax.Array, rows: jax.Array) -> tuple[Any, Any]:
        gradient = jax.grad(objective)(params, key, rows)
        change, memory = optimizer.update(gradient, memory, params)
        return optax.apply_updates(params, change), memory

    def update_all(carry: Any, key: jax.Array) -> tuple[Any, None]:
        # Members share batches and differ in their start, so that they are one batched product.
        pick, noise = jax.random.split(key)
        rows = jax.random.randint(pick, (recipe.batch_size,), 0, used)
        noises = jax.random.split(noise, recipe.members)
        params, memory = carry
        return jax.vmap(update_member, in_axes=(0, 0, 0, None))(params, memory, noises, rows), None

    return update_all


# --- loop -----------------------------------------------------------------------------------------


class _State(NamedTuple):
    params: Any
    memory: Any
    best: Any  # parameters of the best period
    score: jax.Array
    kept: jax.Array


def fit(
    recipe: Recipe,
    x: np.ndarray,
    y: np.ndarray,
    *,
    held_out: int,
    seed: int,
    until: np.ndarray | None = None,
    title: str,
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
    target = np.zeros(count, np.int32) if until is None else np.asarray(until, np.int32)
    state, splits = jax.device_put(  # over devices, between which nothing is ever sent
        (_State(params, memory, params, *none), Split(keys, x, y, target)),
        processes.places(count).batch,
    )
    used = rows - held_out if until is None else rows
    last = recipe.periods if until is None else int(np.max(until))
    patience = max(10, recipe.periods // 4)
    scores = []
    for start in track(range(0, last, recipe.chunk), title, transient=True):
        state, score = _fit_chunk(graph, recipe, held_out, used, start, state, splits)
        scores.append(score)
        # Until no split has improved for a while.
        if until is None and start + recipe.chunk - int(np.max(state.kept)) > patience:
            break
    scores = np.concatenate(jax.device_get(scores), axis=1)
    return Trained(graph, state.best, np.asarray(state.kept), scores)


@partial(jax.jit, static_argnums=(0, 1, 2))
@partial(jax.vmap, in_axes=(None,) * 5 + (0, 0))
def _fit_chunk(
    graph: Any,
    recipe: Recipe,
    held_out: int,
    used: jax.Array,
    start: jax.Array,
    state: _State,
    split: Split,
) -> tuple[_State, jax.Array]:
    """A chunk of periods of one split, on the first `used` of its rows."""
    update_all = make_update(graph, recipe, used, split)

    def one_period(state: _State, number: jax.Array) -> tuple[_State, jax.Array]:
        fresh, look = jax.random.split(jax.random.fold_in(split.key, number))
        keys = jax.random.split(fresh, recipe.period)
        (params, memory), _ = jax.lax.scan(update_all, (state.params, state.memory), keys)
        score = jnp.zeros(())
        if held_out:
            normals = draw(graph, min(5, recipe.draws), params, look, split.x[-held_out:])
            score = dm.mixture_log_likelihood(*normals, split.y[-held_out:]).mean()
        improves, is_within = score > state.score, number <= split.target
        best, *kept = jax.tree.map(
            partial(jnp.where, jnp.where(split.target > 0, is_within, improves)),
            (params, score, number),
            (state.best, state.score, state.kept),
        )
        return _State(params, memory, best, *kept), score

    return jax.lax.scan(one_period, state, start + 1 + jnp.arange(recipe.chunk))


# --- judge ----------------------------------------------------------------------------------------


def train_and_judge(
    recipe: Recipe, rows: Folds, seed: int, title: str, console: Console, directory: Path
) -> dict[str, Any]:
    """Train one method on all splits of a table, judge it, and keep its predictions.

    What stands beside the figures is a record; no table shows it.
    """
    training.examine(LOSSES[recipe.loss], "mean_scale", console)
    cpu, held_out = time.process_time(), rows.held_out
    train = partial(
        fit, recipe, rows.train_x, rows.train_y, held_out=held_out, seed=seed, title=title
    )
    first = train()
    if not first.kept.all():
        raise training.NonFiniteLossError(
            f"{title} never had a finite likelihood in split {first.kept.argmin()}"
        )
    again = train(until=first.kept)
    inner = predict(recipe, first, rows.train_x[:, -held_out:], seed=seed)
    test = predict(recipe, again, rows.test_x, seed=seed)
    figures, predicted = judge(rows, test, inner, seed=seed)
    np.savez_compressed(directory / "predictions.npz", **predicted)
    record = {
        "updates": first.kept * recipe.period,
        "held_out_log_likelihood": first.scores.max(axis=1) - np.log(rows.scale),
        "cpu_seconds": time.process_time() - cpu,
    }
    return {"figures": figures, **record}


# --- table ----------------------------------------------------------------------------------------


def compare(
    settings: Settings,
    data: Path | None,
    methods: Sequence[str],
    out: Path,
    console: Console,
    *,
    resume: bool,
) -> report.Results:
    """Train and judge every method on every table; the results, kept in `out`, by table.

    Raises:
      ValueError: for a method or a table that cannot be used; nothing is written then.
    """
    require_known("method", methods, METHODS)
    tables = [(table, folds(table, settings.seeds)) for table in open_tables(data)]
    work = list(itertools.product(tables, methods))
    results: dict[str, list[dict[str, Any]]] = {table.name: [] for table, _ in tables}
    for table, _ in tables:
        if table.left_out:
            console.print(f"  {table.name}: left out as constant: {', '.join(table.left_out)}")
    for done, ((table, rows), name) in enumerate(work):
        recipe = recipe_of(settings, rows, name)
        described = {
            **dataclasses.asdict(settings),
            "method": name,
            "recipe": dataclasses.asdict(recipe),
            # A table is the same one alone and in its folder.
            "data": [table.name, len(table), *table.columns],
        }
        title = f"{name} on {table.name}"
        find = partial(train_and_judge, recipe, rows, settings.seed, title, console)
        try:
            result = study.result(out / f"{table.name}-{name}", described, find, resume=resume)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"{done} of {len(work)} studies are kept") from None
        results[table.name].append({"method": name, **result})
    return results
