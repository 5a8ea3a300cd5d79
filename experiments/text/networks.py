"""Several networks side by side: their arrays, a pure training step, and what they predict."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.shared import training
from experiments.text.losses import LOSSES, Task
from experiments.text.settings import Settings
from experiments.text.textcnn import Frozen, TextCNN
from experiments.text.words import Rows

State = dict[str, Any]  # "params", "frozen", "optimizer", "seed" [R, ...]; "task"; the "step"


@dataclasses.dataclass(frozen=True)
class Model:
    """A network without its arrays, how it is trained, and how it predicts."""

    graph: Any  # nnx.GraphDef
    optimizer: optax.GradientTransformation
    update: training.Update[State]
    forward: Any  # jitted (params, frozen, ids [R, B, L]) -> logits [R, B]


def initialize(
    settings: Settings,
    shape: tuple[int, int],
    seeds: Sequence[int],
    tables: np.ndarray | None = None,
    *,
    steps: int = 1,
) -> tuple[Model, State]:
    """Fresh networks, one for each seed, and the state in which their training begins.

    Args:
      settings: of the network.
      shape: number of words, and of numbers in a vector.
      seeds: R of them.
      tables: vectors [R, *shape]; default zeros, to be overwritten by a checkpoint.
      steps: length of the training.
    """
    if tables is None:
        tables = np.zeros((len(seeds), *shape), np.float32)
    graph, params, frozen = None, [], []
    for run, seed in enumerate(seeds):
        net = TextCNN(
            *shape,
            variant=settings.variant,
            vectors=tables[run],
            widths=settings.widths,
            maps=settings.maps,
            dropout=settings.dropout,
            rngs=nnx.Rngs(seed),
        )
        graph, *states = nnx.split(net, nnx.Param, Frozen)
        for each, state in zip((params, frozen), states, strict=True):
            each.append(nnx.to_pure_dict(state))
    params, frozen = (jax.tree.map(lambda *xs: jnp.stack(xs), *each) for each in (params, frozen))
    rate, norm = settings.learning_rate, settings.max_norm
    model = make_model(graph, settings.optimizer, rate, steps, norm)
    return model, {
        "params": params,
        "frozen": frozen,
        "optimizer": jax.vmap(model.optimizer.init)(params),
        "seed": jnp.asarray(seeds, jnp.uint32),
        "step": jnp.zeros((), jnp.int32),
        "task": {
            "loss": jnp.zeros((), jnp.int32),
            "known": {name: jnp.ones(len(seeds)) for name in Task.__annotations__},
        },
    }


@functools.lru_cache
def make_model(graph: Any, optimizer: str, rate: float, steps: int, max_norm: float) -> Model:
    """Programs of a network; the same ones for the same arguments, so that they compile once."""
    schedule = optax.linear_schedule(rate, 0.0, steps)
    chosen = optax.adam(schedule) if optimizer == "adam" else optax.adadelta(schedule, rho=0.95)
    return Model(graph, chosen, make_update(graph, chosen, max_norm), make_forward(graph))


def make_update(
    graph: Any, optimizer: optax.GradientTransformation, max_norm: float
) -> training.Update[State]:
    """The training step of all networks: one compiled, pure program for each length of text.

    Which loss it is, is traced, so that a comparison compiles once.
    """
    losses = list(LOSSES.values())

    def one(
        params: Any, frozen: Any, memory: Any, key: jax.Array, task: Any, batch: Any, loss: Any
    ) -> tuple[Any, Any, jax.Array]:
        def objective(params: Any) -> jax.Array:
            net = nnx.merge(graph, nnx.State(params), nnx.State(frozen))
            logits = net(batch["ids"], key)
            return jax.lax.switch(loss, losses, logits, batch["labels"], task)

        value, gradient = jax.value_and_grad(objective)(params)
        change, memory = optimizer.update(gradient, memory, params)
        params = optax.apply_updates(params, change)
        kernel = params["head"]["kernel"]
        params["head"]["kernel"] = optax.projections.projection_l2_ball(kernel, max_norm)
        # A gradient that is not finite shows in the loss, so that it stops the run unsaved.
        return params, memory, value + 0.0 * optax.tree.norm(gradient)

    @functools.partial(jax.jit, donate_argnums=0)
    def update(state: State, batch: Any) -> tuple[State, jax.Array]:
        keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), state["step"]))
        params, memory, value = jax.vmap(one, in_axes=(0, 0, 0, 0, 0, 0, None))(
            state["params"],
            state["frozen"],
            state["optimizer"],
            keys(state["seed"]),
            state["task"]["known"],
            batch,
            state["task"]["loss"],
        )
        changed = {"params": params, "optimizer": memory, "step": state["step"] + 1}
        return {**state, **changed}, value.mean()

    return update


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
