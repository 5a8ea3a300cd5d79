"""Does a loss look at its labels? Shuffle them, and see whether its value changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

import diffmetrics as dm
from experiments.shared import records, tables
from experiments.speakers.losses import LOSSES, asked

PAIRS, CLASSES, SPEAKERS, EACH = 6, 10, 5, 4
SHUFFLES = 50


class Shuffled(NamedTuple):
    loss: str
    value: float
    lowest: float
    highest: float

    @property
    def blind(self) -> bool:
        """Whether no shuffle changes more than rounding does."""
        return self.highest - self.lowest <= 1e-5 * abs(self.value)


def shuffled(name: str, value: Callable[..., Any], x: tuple[Any, ...], labels: Any) -> Shuffled:
    """A loss ``value(*x, labels)`` under its labels and under shuffles of them."""
    rng = np.random.default_rng(1)
    orders = [np.arange(len(labels)), *(rng.permutation(len(labels)) for _ in range(SHUFFLES))]
    mean = jax.jit(lambda y: jnp.mean(value(*x, y)))
    first, *others = (float(mean(jnp.asarray(labels)[order])) for order in orders)
    return Shuffled(name, first, min(others), max(others))


def of_every_loss() -> list[Shuffled]:
    """All losses of the experiment, on the outputs of no network in particular."""
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(2, SPEAKERS * EACH, CLASSES)), jnp.float32)
    ids = jnp.asarray(np.repeat(np.arange(SPEAKERS), EACH))
    same = jnp.asarray(np.arange(len(ids)) % 4 == 0, jnp.float32)
    return [
        shuffled(name, loss.examined, (logits[0], logits[1]), same)
        if loss.kind == "pair"
        else shuffled(name, loss.examined, (logits[0],), ids)
        for name, loss in LOSSES.items()
    ]


def shapes(console: Console) -> None:
    """What happens in the question's loss, and what this library does with its shapes."""
    rng = np.random.default_rng(0)
    p, q = jax.nn.softmax(jnp.asarray(rng.normal(size=(2, PAIRS, CLASSES)), jnp.float32))
    same = jnp.asarray([[1.0], [0.0], [1.0], [0.0], [0.0], [1.0]])
    turned = jnp.roll(same, 1, axis=0)
    divergence = jnp.sum(p * jnp.log(p / q), axis=-1)
    console.print(
        f"divergences {divergence.shape}, labels {same.shape}, their product "
        f"{np.broadcast_shapes(same.shape, divergence.shape)}\n"
        f"the question's loss {asked(p, q, same):.7f}, with its labels shuffled "
        f"{asked(p, q, turned):.7f}",
        highlight=False,
    )
    try:
        dm.kl_hinge_loss(jnp.log(p), jnp.log(q), same, margin=1.0)
    except ValueError as refused:
        said = " ".join(str(refused).split())
        console.print(f"dm.kl_hinge_loss: {said}", markup=False, highlight=False)


def demonstrate(out: Path, console: Console) -> None:
    """Print which losses are blind to their labels, and write `labels.json`."""
    shapes(console)
    losses = of_every_loss()
    columns = ("loss", "value", "lowest of shuffles", "highest of shuffles", "sees its labels")
    lines = [
        [loss.loss, *(f"{x:.6f}" for x in loss[1:]), "no" if loss.blind else "yes"]
        for loss in losses
    ]
    tables.show(columns, lines, f"labels shuffled {SHUFFLES} times", console, section=100)
    records.write_json(
        out / "labels.json",
        {"losses": [loss._asdict() for loss in losses], **records.environment()},
    )
