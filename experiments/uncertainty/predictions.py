"""What trained networks predict: a Normal for each row, of every member and draw."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from experiments.shared import processes
from experiments.uncertainty.methods import Recipe


class Normals(NamedTuple):
    """Predictions of K members or draws, of one split or of S."""

    mean: Any  # [S, K, n] or [K, n]
    scale: Any


def draw(graph: Any, draws: int, params: Any, key: jax.Array, x: jax.Array) -> Normals:
    """What every member and draw of one split predicts [members x draws, n]."""

    def draw_one(params: Any, key: jax.Array) -> Normals:
        return Normals(*nnx.merge(graph, nnx.State(params))(x, key))

    members = jax.tree.leaves(params)[0].shape[0]
    keys = jax.random.split(key, (members, draws))
    normals = jax.vmap(jax.vmap(draw_one, in_axes=(None, 0)))(params, keys)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, len(x)), normals)


class Trained(NamedTuple):
    """What training leaves."""

    graph: Any
    params: Any  # leaves [S, M, ...], of the kept period
    kept: np.ndarray  # [S], the period that was kept, from 1; 0 if no likelihood was finite
    scores: np.ndarray  # [S, looks], log-likelihood of the held-out rows


_predict = jax.jit(jax.vmap(draw, in_axes=(None, None, 0, 0, 0)), static_argnums=(0, 1))


def predict(recipe: Recipe, trained: Trained, x: np.ndarray, *, seed: int) -> Normals:
    """Normals [S, K, n] of every member and draw for inputs [S, n, d]."""
    keys = jax.random.split(jax.random.key(seed + 1), len(x))
    keys, inputs = jax.device_put((keys, x), processes.places(len(x)).batch)
    normals = _predict(trained.graph, recipe.draws, trained.params, keys, inputs)
    return Normals(*map(np.asarray, normals))
