"""Whether embeddings collapse while they are trained, step by step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from experiments.shared.training import Step
from experiments.speakers import measure
from experiments.speakers.losses import Loss
from experiments.speakers.networks import Outputs

NEAR = 0.02  # of the loss at rest
PATIENCE = 4  # logged steps


class Last(NamedTuple):
    """A batch and what became of it: in the state, and so in checkpoints, for `Watch` alone."""

    outputs: Outputs
    speakers: jax.Array


class Watch:
    """Writes `watch.jsonl`, and warns of a loss that stays where one point would put it.

    A pair loss of embeddings that all are one point is its margin, twice its margin, log 2: it
    depends on the loss and on the batch, so it is not written down here but computed, by giving
    the loss the mean of the batch in every row.

    Args:
      loss: that is trained on.
      directory: of the run.
      console: where warnings go.
    """

    def __init__(self, loss: Loss, directory: Path, console: Console):
        self.path, self.console = directory / "watch.jsonl", console
        self.rested = 0
        self.warned = 0

        @jax.jit
        def at_rest(outputs: Outputs, speakers: jax.Array) -> tuple[jax.Array, jax.Array | None]:
            point = Outputs(*(jnp.broadcast_to(x.mean(0, keepdims=True), x.shape) for x in outputs))
            share = None if loss.active is None else loss.active(outputs, speakers)
            return loss.value(point, speakers), share

        self._at_rest = at_rest

    def __call__(self, step: Step) -> None:
        """Look at the batch of a logged step."""
        if not np.isfinite(step.loss):  # a finished run, resumed
            return
        last: Last = jax.device_get(step.state["last"])
        resting, active = jax.tree.map(float, self._at_rest(*last))
        entry: dict[str, Any] = {"step": step.number, "loss": step.loss, "resting": resting}
        entry |= measure.spread(np.asarray(last.outputs.embedding), np.asarray(last.speakers))
        if active is not None:
            entry["active"] = active
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")
        self.rested = self.rested + 1 if abs(step.loss - resting) <= NEAR * resting else 0
        if self.rested == PATIENCE:
            self.warned += 1
            self.console.print(
                f"step {step.number}: the loss stays at {resting:.3f}, its value when all "
                f"embeddings are one point; distance same {entry['same']:.3f}, different "
                f"{entry['different']:.3f}, effective rank {entry['effective_rank']:.1f}",
                style="yellow",
                markup=False,
            )
