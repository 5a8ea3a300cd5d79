"""Several networks side by side: their arrays, and what they predict."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.shared import training
from experiments.text.textcnn import Frozen, TextCNN
from experiments.text.words import Rows, Words

State = dict[str, Any]  # "params", "frozen", "optimizer", "seed", "task" [R, ...]; "loss", "step"


class Model(NamedTuple):
    """A network without its arrays, how it is trained, and how it predicts."""

    graph: Any  # nnx.GraphDef
    optimizer: optax.GradientTransformation
    update: training.Update[State]
    forward: Any  # jitted (params, frozen, ids [R, B, L]) -> logits [R, B]


class Trained(NamedTuple):
    """Networks after training."""

    model: Model
    state: State
    words: Words

    def __call__(self, rows: Rows) -> np.ndarray:
        """Logits [R, n] of texts."""
        return predict(self.model, self.state, rows, self.words.edges)


def side_by_side(
    vectors: np.ndarray, seeds: Sequence[int], **options: Any
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """A network for each seed and its vectors [R, V, D]: their graph, parameters, frozen arrays.

    Args:
      vectors: with which they begin.
      seeds: of their other parameters.
      options: of `TextCNN`.
    """
    graph, params, frozen = None, [], []
    for seed, own in zip(seeds, vectors, strict=True):
        net = TextCNN(*own.shape, vectors=own, rngs=nnx.Rngs(seed), **options)
        graph, *states = nnx.split(net, nnx.Param, Frozen)
        for each, state in zip((params, frozen), states, strict=True):
            each.append(nnx.to_pure_dict(state))
    stacked = (jax.tree.map(lambda *xs: jnp.stack(xs), *each) for each in (params, frozen))
    return graph, *stacked


@functools.lru_cache
def make_forward(graph: Any) -> Any:
    """Logits [R, B] of ids [R, B, L], by each network its own."""

    @jax.jit
    def forward(params: Any, frozen: Any, ids: np.ndarray) -> jax.Array:
        def one(params: Any, frozen: Any, ids: Any) -> jax.Array:
            return nnx.merge(graph, nnx.State(params), nnx.State(frozen))(ids)

        return jax.vmap(one)(params, frozen, ids)

    return forward


AT_ONCE = 200  # texts of one length in a prediction, so that any number needs few compilations


def predict(model: Model, state: State, rows: Rows, edges: np.ndarray) -> np.ndarray:
    """Logits [R, n] of n texts, by each network."""
    logits = np.empty(rows.ids.shape[:2], np.float32)
    bucket = np.searchsorted(edges, rows.lengths)
    for k, edge in enumerate(edges):
        members = np.flatnonzero(bucket == k)
        for first in range(0, len(members), AT_ONCE):
            some = members[first : first + AT_ONCE]
            ids = rows.ids[:, np.resize(some, AT_ONCE), :edge]
            found = np.asarray(model.forward(state["params"], state["frozen"], ids))
            logits[:, some] = found[:, : len(some)]
    return logits
