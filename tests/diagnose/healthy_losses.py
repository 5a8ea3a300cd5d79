"""Losses that nothing is wrong with: the doctor must not complain of them.

Textbook formulas as people write them, and those of other libraries. A false alarm costs more than
a defect that is not found, because nobody believes the next one.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tests.diagnose import healthy_classes as classes, healthy_numbers as numbers

partial = functools.partial
Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Healthy:
    """A sound loss, and what the doctor must take it for."""

    name: str
    loss: Callable[..., Any]
    kind: str


# --- optax ----------------------------------------------------------------------------------------

theirs = optax.losses


def _of_signs(loss: Callable[..., Array]) -> Callable[..., Array]:
    return lambda logits, labels: loss(logits, 2 * labels - 1)


def kl_of_optax(logits: Array, one_hot: Array) -> Array:
    return theirs.kl_divergence(jax.nn.log_softmax(logits), one_hot)


def convex_kl_of_optax(logits: Array, one_hot: Array) -> Array:
    return theirs.convex_kl_divergence(jax.nn.log_softmax(logits), one_hot)


def cosine_of_optax(a: Array, b: Array, same: Array) -> Array:
    distance = theirs.cosine_distance(a, b, epsilon=1e-3)
    return same * distance + (1 - same) * jnp.maximum(1.0 - distance, 0.0)


OPTAX = [
    Healthy("optax_sigmoid", theirs.sigmoid_binary_cross_entropy, "binary"),
    Healthy("optax_focal", partial(theirs.sigmoid_focal_loss, alpha=0.25), "binary"),
    Healthy("optax_hinge", _of_signs(theirs.hinge_loss), "binary"),
    Healthy("optax_perceptron", _of_signs(theirs.perceptron_loss), "binary"),
    Healthy("optax_sparsemax", theirs.sparsemax_loss, "binary"),
    Healthy("optax_softmax_ids", theirs.softmax_cross_entropy_with_integer_labels, "multiclass"),
    Healthy("optax_softmax", theirs.softmax_cross_entropy, "multiclass"),
    Healthy("optax_safe_softmax", theirs.safe_softmax_cross_entropy, "multiclass"),
    Healthy("optax_poly", theirs.poly_loss_cross_entropy, "multiclass"),
    Healthy("optax_multiclass_hinge", theirs.multiclass_hinge_loss, "multiclass"),
    Healthy("optax_multiclass_perceptron", theirs.multiclass_perceptron_loss, "multiclass"),
    Healthy("optax_multiclass_sparsemax", theirs.multiclass_sparsemax_loss, "multiclass"),
    Healthy("optax_kl", kl_of_optax, "multiclass"),
    Healthy("optax_convex_kl", convex_kl_of_optax, "multiclass"),
    Healthy("optax_squared", theirs.squared_error, "regression"),
    Healthy("optax_l2", theirs.l2_loss, "regression"),
    Healthy("optax_huber", theirs.huber_loss, "regression"),
    Healthy("optax_log_cosh", theirs.log_cosh, "regression"),
    Healthy("optax_triplet", theirs.triplet_margin_loss, "triplet"),
    Healthy("optax_cosine", cosine_of_optax, "pair"),
]


# --- all of them ---------------------------------------------------------------------------------


def _textbook() -> Iterator[Healthy]:
    kinds = {
        "binary": classes.BINARY, "multiclass": classes.CLASSES, "regression": numbers.NUMBERS,
        "mean_scale": numbers.SCALED,
        "counts": numbers.COUNTS, "pair": numbers.PAIRS, "triplet": numbers.TRIPLETS,
        "embedding": numbers.EMBEDDINGS,
        "divergence": numbers.DIVERGENCES,
    }  # fmt: skip
    for kind, losses in kinds.items():
        yield from (Healthy(loss.__name__, loss, kind) for loss in losses)


MASKED = [
    Healthy(loss.__name__, loss, kind) for kind, losses in numbers.MASKED.items() for loss in losses
]
HEALTHY = [*_textbook(), *MASKED, *OPTAX]


# --- where they are installed ---------------------------------------------------------------------


def rax_losses() -> list[Healthy]:
    """Of lists of scores and labels; a list of a batch is one query."""
    if importlib.util.find_spec("rax") is None:
        return []
    rax = importlib.import_module("rax")
    names = (
        "softmax_loss", "pointwise_sigmoid_loss", "pairwise_logistic_loss", "pairwise_hinge_loss",
        "pairwise_soft_zero_one_loss", "poly1_softmax_loss", "unique_softmax_loss",
    )  # fmt: skip
    return [Healthy(f"rax_{name}", getattr(rax, name), "multilabel") for name in names]


def keras_losses() -> list[Healthy]:
    """Keras's, of logits where it takes them; its backend has to be JAX."""
    losses = importlib.import_module("keras").losses
    return [
        Healthy("keras_binary", losses.BinaryCrossentropy(from_logits=True), "binary"),
        Healthy(
            "keras_smoothed",
            losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1),
            "binary",
        ),
        Healthy("keras_classes", losses.CategoricalCrossentropy(from_logits=True), "multiclass"),
        Healthy("keras_ids", losses.SparseCategoricalCrossentropy(from_logits=True), "multiclass"),
        Healthy("keras_squared", losses.MeanSquaredError(), "regression"),
        Healthy("keras_absolute", losses.MeanAbsoluteError(), "regression"),
        Healthy("keras_huber", losses.Huber(), "regression"),
        Healthy("keras_log_cosh", losses.LogCosh(), "regression"),
        Healthy("keras_hinge", losses.Hinge(), "binary"),
        Healthy("keras_squared_hinge", losses.SquaredHinge(), "binary"),
        Healthy("keras_dice", losses.Dice(), "binary"),
        Healthy("keras_poisson", losses.Poisson(), "counts"),
    ]
