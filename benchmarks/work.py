"""What is measured on: the arrays of each kind of loss, at the sizes of three kinds of task."""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# What a loss of each kind takes by position; the gradient is that of the first.
ARGUMENTS = {
    "binary": ("logits", "labels"),
    "ranking": ("logits", "labels"),
    "softmax": ("logits", "ids"),
    "divergence": ("logits", "others"),
    "probabilities": ("p", "q"),
    "related": ("logits", "others", "same"),
    "pair": ("first", "second", "same"),
    "triplet": ("anchors", "positives", "negatives"),
    "batch": ("vectors", "identities"),
    "cosines": ("cosines", "ids"),
    "distribution": ("mean", "scale", "target"),
    "quantile": ("quantile", "target"),
}
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

Arrays = dict[str, jax.Array]
Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Workload:
    """Losses of these kinds meet arrays of this shape."""

    name: str
    kinds: tuple[str, ...]
    shape: Shape


SCORES = ("binary", "ranking")  # a logit and a label each
CLASSES = ("softmax", "divergence", "probabilities")
TARGETS = ("distribution", "quantile")  # numbers that are predicted
EMBEDDINGS = ("related", "pair", "triplet", "batch", "cosines")

FULL = (
    Workload("masks", ("binary",), (16, 768, 768)),
    Workload("class masks", CLASSES, (8, 512, 512, 21)),
    Workload("labels", ("binary",), (2**20,)),
    Workload("class labels", CLASSES, (65_536, 1_000)),
    Workload("embeddings", EMBEDDINGS, (4_096, 512)),
    Workload("scores", ("ranking",), (10**6,)),
    Workload("few scores", ("ranking",), (20_000,)),
    Workload("targets", TARGETS, (2**22,)),
    # What fits in a cache: most batches do.
    Workload("65,536 labels", ("binary",), (2**16,)),
    Workload("4,096 labels", ("binary",), (2**12,)),
    Workload("few class labels", CLASSES, (1_024, 64)),
    Workload("few embeddings", EMBEDDINGS, (128, 128)),
    Workload("few targets", TARGETS, (2**16,)),
)
QUICK = (
    Workload("masks", ("binary",), (4, 256, 256)),
    Workload("class masks", CLASSES, (2, 64, 64, 21)),
    Workload("labels", ("binary",), (2**16,)),
    Workload("class labels", CLASSES, (1_024, 100)),
    Workload("embeddings", EMBEDDINGS, (512, 128)),
    Workload("scores", ("ranking",), (2**16,)),
    Workload("few scores", ("ranking",), (1_000,)),
    Workload("targets", TARGETS, (2**16,)),
)


def of_size(kind: str, n: int) -> Workload:
    """About `n` logits for a loss of this `kind`."""
    if kind in SCORES + TARGETS:
        return Workload("n", (kind,), (n,))
    columns = 10 if kind in CLASSES else 100
    return Workload("n", (kind,), (max(n // columns, 4), columns))


def draw(kind: str, shape: Shape, dtype: str) -> Arrays:
    """Random arrays for losses of this `kind`; 1 % of binary labels are positive.

    Beside what the losses take by position there are class-wise hyper-parameters where classes are.
    """
    rng = np.random.default_rng(0)
    kept = DTYPES[dtype]

    def normal(scale: float = 2.0) -> jax.Array:
        return jnp.asarray(scale * rng.standard_normal(shape, np.float32), kept)

    def integers(below: int) -> jax.Array:
        return jnp.asarray(rng.integers(0, below, shape[:-1]), jnp.int32)

    if kind in SCORES:
        labels = rng.random(shape, np.float32) < 0.01
        return {"logits": normal(), "labels": jnp.asarray(labels, kept)}
    if kind == "distribution":
        spread = jnp.exp(normal(0.5).astype(jnp.float32)).astype(kept)
        return {"mean": normal(), "scale": spread, "target": normal()}
    if kind == "quantile":
        return {"quantile": normal(), "target": normal()}
    if kind == "softmax":
        return {"logits": normal(), "ids": integers(shape[-1]), **_of_classes(rng, shape[-1])}
    if kind == "divergence":
        return {"logits": normal(), "others": normal()}
    if kind == "probabilities":
        return {name: jax.nn.softmax(normal(1.0).astype(jnp.float32)).astype(kept) for name in "pq"}
    if kind in ("related", "pair"):
        # Distances lie about the margin, so that every branch of the losses is taken.
        scale = 2.0 if kind == "related" else 0.7 / math.sqrt(shape[-1])
        first, second = ARGUMENTS[kind][:2]
        same = jnp.asarray(rng.random(shape[:-1]) < 0.5)
        return {first: normal(scale), second: normal(scale), "same": same}
    if kind == "triplet":
        return {name: normal() for name in ARGUMENTS[kind]}
    if kind == "batch":  # eight examples of each identity
        return {"vectors": normal(), "identities": integers(max(shape[0] // 8, 2))}
    cosines = jnp.tanh(normal(0.5).astype(jnp.float32)).astype(kept)
    return {"cosines": cosines, "ids": integers(shape[-1])}


def _of_classes(rng: np.random.Generator, number: int) -> Arrays:
    """Hyper-parameters that differ between classes, in float32 as a user has them."""
    counts = np.round(1e4 / (1.0 + np.arange(number)) + 10.0).astype(np.float32)
    cost = rng.random((number, number), np.float32)
    np.fill_diagonal(cost, 0.0)
    found = {
        "class_counts": counts,
        "prevalence": counts / counts.sum(),
        "class_weights": counts.mean() / counts / np.mean(counts.mean() / counts),
        "cost": cost,
    }
    return {name: jnp.asarray(x) for name, x in found.items()}


def product(kind: str, a: Mapping[str, Any]) -> Any:
    """The product of all that a loss of this `kind` reads: the work of the yardstick."""
    first, *rest = (a[name] for name in ARGUMENTS[kind])
    alike = (x[..., None] if x.ndim < first.ndim else x for x in rest)
    return functools.reduce(operator.mul, (x.astype(first.dtype) for x in alike), first)


def bytes_moved(kind: str, arrays: Arrays, *, forward: bool) -> int:
    """A value reads every array once; a gradient reads all again and writes one like the first."""
    read = [arrays[name].nbytes for name in ARGUMENTS[kind]]
    return sum(read) if forward else 2 * sum(read) + read[0]


def elements(shape: Shape) -> int:
    return math.prod(shape)
