"""Many networks trained side by side: splits x members are two axes of one compiled program."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

import diffmetrics as dm
from experiments.uncertainty.networks import Design, graph_of, initialize

Report = Callable[[float], None]  # is told which share of the work is done


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a predictor is made: design, loss, members, budget."""

    design: Design = dataclasses.field(default_factory=Design)
    loss: Literal["nll", "beta_nll", "crps"] = "nll"
    members: int = 1
    draws: int = 1  # of mean-field weights or dropout masks, to predict with
    kl_per: Literal["row", "batch"] = "row"  # batch: a mistake that is often made
    periods: int = 50  # after each, the held-out rows are looked at
    period: int = 60  # updates
    batch_size: int = 32
    learning_rate: float = 1e-2


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Normals for every input: K members x draws of S splits."""

    mean: np.ndarray  # [S, K, n]
    scale: np.ndarray  # [S, K, n]


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a run of `train` leaves."""

    graph: Any
    params: Any  # leaves [S, M, ...], of the kept period
    kept: np.ndarray  # [S], the period that was kept, from 1
    scores: np.ndarray  # [S, periods], log-likelihood of the held-out rows


def train(
    recipe: Recipe,
    x: np.ndarray,
    y: np.ndarray,
    *,
    held_out: int,
    seed: int,
    until: np.ndarray | None = None,
    report: Report = lambda _: None,
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
      report: told of the progress.
    """
    count, rows, inputs = x.shape
    keys = jax.random.split(jax.random.key(seed), count)
    graph = graph_of(recipe.design, inputs)
    members = jax.vmap(functools.partial(jax.random.split, num=recipe.members))(keys)
    params = initialize(recipe.design, inputs, members)
    optimizer = _optimizer(recipe)
    state = {
        "params": params,
        "memory": jax.vmap(jax.vmap(optimizer.init))(params),
        "best": params,
        "score": jnp.full(count, -jnp.inf, jnp.float32),
        "kept": jnp.zeros(count, jnp.int32),
    }
    target = jnp.zeros(count, jnp.int32) if until is None else jnp.asarray(until, jnp.int32)
    used = rows - held_out if until is None else rows
    place = _spread(count)
    state, target, x_, y_, keys = jax.device_put(
        (state, target, jnp.asarray(x), jnp.asarray(y), keys), place
    )
    last = recipe.periods if until is None else int(np.max(until))
    patience = max(10, recipe.periods // 4)
    chunk = max(1, min(10, recipe.periods // 10))
    scores = []
    for start in range(0, last, chunk):
        state, score = _run(
            state, keys, x_, y_, target, used, start,
            graph=graph, recipe=recipe, held_out=held_out, chunk=chunk,
        )  # fmt: skip
        scores.append(score)
        # Until no split has improved for a while.
        if until is None and start + chunk - int(np.max(state["kept"])) > patience:
            break
        report(min(1.0, (start + chunk) / last))
    scores = np.concatenate(jax.device_get(scores), axis=1)
    return Trained(graph, state["best"], np.asarray(state["kept"]), scores)


def _optimizer(recipe: Recipe) -> optax.GradientTransformation:
    return optax.adam(recipe.learning_rate)


def _spread(count: int) -> NamedSharding:
    """Splits over as many devices as divide them; nothing is ever sent between two."""
    devices = jax.devices()
    used = max(n for n in range(1, len(devices) + 1) if count % n == 0)
    mesh = jax.sharding.Mesh(np.array(devices[:used]), ("split",))
    return NamedSharding(mesh, PartitionSpec("split"))


LOSSES: dict[str, Callable[..., jax.Array]] = {
    "nll": dm.gaussian_nll,
    "beta_nll": functools.partial(dm.beta_nll, beta=0.5),
    "crps": dm.crps_gaussian,
}


@functools.partial(jax.jit, static_argnames=("graph", "recipe", "held_out", "chunk"))
def _run(
    state: Any,
    keys: jax.Array,
    x: jax.Array,
    y: jax.Array,
    target: jax.Array,
    used: jax.Array,
    start: jax.Array,
    *,
    graph: Any,
    recipe: Recipe,
    held_out: int,
    chunk: int,
) -> tuple[Any, jax.Array]:
    """`chunk` periods of all splits, on the first `used` rows of each."""
    optimizer = _optimizer(recipe)
    loss = LOSSES[recipe.loss]
    num_data = used if recipe.kl_per == "row" else recipe.batch_size

    def objective(params: Any, key: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
        net = nnx.merge(graph, nnx.State(params))
        mean, scale = net(x, key)
        return dm.elbo_loss(loss(mean, scale, y), net.kl(), num_data=num_data)

    def member(params: Any, memory: Any, key: jax.Array, x: jax.Array, y: jax.Array) -> Any:
        gradient = jax.grad(objective)(params, key, x, y)
        change, memory = optimizer.update(gradient, memory, params)
        return optax.apply_updates(params, change), memory

    def split(state: Any, key: jax.Array, x: jax.Array, y: jax.Array, target: jax.Array) -> Any:
        def update(carry: Any, key: jax.Array) -> Any:
            # Members share batches and differ in their start, as one matrix product likes it.
            pick, noise = jax.random.split(key)
            rows = jax.random.randint(pick, (recipe.batch_size,), 0, used)
            noises = jax.random.split(noise, recipe.members)
            each = jax.vmap(member, in_axes=(0, 0, 0, None, None))
            params, memory = carry
            return each(params, memory, noises, x[rows], y[rows]), None

        def period(state: Any, number: jax.Array) -> Any:
            fresh, look = jax.random.split(jax.random.fold_in(key, number))
            carry = state["params"], state["memory"]
            (params, memory), _ = jax.lax.scan(
                update, carry, jax.random.split(fresh, recipe.period)
            )
            score = jnp.zeros(())
            if held_out:
                mean, scale = draw(graph, params, look, x[-held_out:], min(5, recipe.draws))
                score = dm.mixture_log_likelihood(mean, scale, y[-held_out:]).mean()
            # A run with a target keeps the period of that number, whatever its score.
            rank = jnp.where(target > 0, -jnp.abs(number - target).astype(score.dtype), score)
            better = rank > state["score"]
            keep = functools.partial(jnp.where, better)
            state = {
                "params": params,
                "memory": memory,
                "best": jax.tree.map(keep, params, state["best"]),
                "score": keep(rank, state["score"]),
                "kept": keep(number, state["kept"]),
            }
            return state, score

        return jax.lax.scan(period, state, start + 1 + jnp.arange(chunk))

    return jax.vmap(split)(state, keys, x, y, target)


def draw(graph: Any, params: Any, key: jax.Array, x: jax.Array, draws: int) -> Any:
    """Means and deviations [members x draws, n] of one split."""

    def one(params: Any, key: jax.Array) -> Any:
        return nnx.merge(graph, nnx.State(params))(x, key)

    members = jax.tree.leaves(params)[0].shape[0]
    keys = jax.random.split(key, (members, draws))
    mean, scale = jax.vmap(jax.vmap(one, in_axes=(None, 0)))(params, keys)
    return mean.reshape(-1, len(x)), scale.reshape(-1, len(x))


@functools.partial(jax.jit, static_argnames=("graph", "draws"))
def _predict(params: Any, keys: jax.Array, x: jax.Array, *, graph: Any, draws: int) -> Any:
    return jax.vmap(lambda p, key, x: draw(graph, p, key, x, draws))(params, keys, x)


def predict(recipe: Recipe, trained: Trained, x: np.ndarray, *, seed: int) -> Predictions:
    """Normals of every member and draw for inputs [S, n, d]."""
    keys = jax.random.split(jax.random.key(seed + 1), len(x))
    keys, x_ = jax.device_put((keys, jnp.asarray(x)), _spread(len(x)))
    mean, scale = _predict(trained.params, keys, x_, graph=trained.graph, draws=recipe.draws)
    return Predictions(np.asarray(mean), np.asarray(scale))


def inner_rows(rows: int, share: float = 0.2) -> int:
    """How many rows of a training set are held out to choose the period."""
    return max(1, math.floor(share * rows))
