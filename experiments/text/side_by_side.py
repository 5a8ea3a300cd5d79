"""Several networks side by side in one program: their arrays, their step, and what they predict."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.shared import training
from experiments.text.losses import Loss, Task
from experiments.text.textcnn import Frozen
from experiments.text.words import Rows, Words

State = dict[str, Any]  # "params", "frozen", "optimizer", "seed" of R networks; "step"
# Of one network: (params, frozen, memory, key, task, batch, loss) -> (params, memory, value).
Step = Callable[..., tuple[Any, Any, jax.Array]]


class Model(NamedTuple):
    """Networks without their arrays, how they are trained, and how they predict."""

    losses: tuple[str, ...]
    optimizer: optax.GradientTransformation
    update: Callable[[State, Any, jax.Array, Task], tuple[State, jax.Array]]
    forward: Any  # jitted (params, frozen, ids [R, B, L]) -> logits [R, B]

    def update_with(self, loss: str, task: Task) -> training.Update[State]:
        """The training step with one loss; no state holds which, so that others may be added."""
        index, task = jnp.int32(self.losses.index(loss)), jax.tree.map(jnp.float32, task)
        return lambda state, batch: self.update(state, batch, index, task)


class Trained(NamedTuple):
    """Networks after training."""

    model: Model
    state: State
    words: Words

    def __call__(self, rows: Rows) -> np.ndarray:
        """Logits [R, n] of texts."""
        return predict(self.model, self.state, rows, self.words.edges)


def stack(networks: Sequence[nnx.Module]) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Networks of one form: their graph, and stacked their parameters and their frozen arrays."""
    graph, params, frozen = None, [], []
    for network in networks:
        graph, *states = nnx.split(network, nnx.Param, Frozen)
        for arrays, state in zip((params, frozen), states, strict=True):
            arrays.append(nnx.to_pure_dict(state))
    stacked = (jax.tree.map(lambda *xs: jnp.stack(xs), *arrays) for arrays in (params, frozen))
    return graph, *stacked


@functools.lru_cache
def make_model(
    make_step: Callable[..., Step],
    graph: Any,
    losses: tuple[tuple[str, Loss], ...],
    optimizer: str,
    rate: float,
    steps: int,
    max_norm: float,
) -> Model:
    """Programs of networks; the same ones for the same arguments, so that they compile once.

    Args:
      make_step: `experiment.make_step`.
      graph: of one network, an `nnx.GraphDef`.
      losses: with their names.
      optimizer: adam or adadelta.
      rate: at which it begins.
      steps: after which its rate is zero.
      max_norm: of the weights of the last layer.
    """
    schedule = optax.linear_schedule(rate, 0.0, steps)
    chosen = optax.adam(schedule) if optimizer == "adam" else optax.adadelta(schedule, rho=0.95)
    names, values = zip(*losses, strict=True)
    update = make_update(make_step(graph, values, chosen, max_norm))
    return Model(names, chosen, update, make_forward(graph))


def make_update(step: Step) -> Callable[..., tuple[State, jax.Array]]:
    """The training step of all networks: one compiled, pure program for each length of text."""

    @functools.partial(jax.jit, donate_argnums=0)
    def update(state: State, batch: Any, loss: jax.Array, task: Task) -> tuple[State, jax.Array]:
        keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), state["step"]))
        params, memory, values = jax.vmap(step, in_axes=(0, 0, 0, 0, 0, 0, None))(
            state["params"],
            state["frozen"],
            state["optimizer"],
            keys(state["seed"]),
            task,
            batch,
            loss,
        )
        changed = {"params": params, "optimizer": memory, "step": state["step"] + 1}
        return {**state, **changed}, values.mean()

    return update


@functools.lru_cache
def make_forward(graph: Any) -> Any:
    """Logits [R, B] of ids [R, B, L], by each network its own."""

    def of_network(params: Any, frozen: Any, ids: jax.Array) -> jax.Array:
        return nnx.merge(graph, nnx.State(params), nnx.State(frozen))(ids)

    return jax.jit(jax.vmap(of_network))


AT_ONCE = 200  # texts of one length in a prediction, so that any number needs few compilations


def predict(model: Model, state: State, rows: Rows, edges: np.ndarray) -> np.ndarray:
    """Logits [R, n] of n texts, by each network."""
    logits = np.empty(rows.ids.shape[:2], np.float32)
    bucket = np.searchsorted(edges, rows.lengths)
    for k, edge in enumerate(edges):
        members = np.flatnonzero(bucket == k)
        for first in range(0, len(members), AT_ONCE):
            chosen = members[first : first + AT_ONCE]
            ids = rows.ids[:, np.resize(chosen, AT_ONCE), :edge]
            predicted = np.asarray(model.forward(state["params"], state["frozen"], ids))
            logits[:, chosen] = predicted[:, : len(chosen)]
    return logits
