"""Losses that are broken in ways that people asked about, and what the doctor must say of each.

The three of the ship question are in `experiments.ships.losses`. Each is written as it was asked,
for JAX, and so are their names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffmetrics.diagnose._forms import name_of
from experiments.ships import losses as ships

LITTLE = 1e-7  # Keras's epsilon


@dataclasses.dataclass(frozen=True)
class Case:
    """A broken loss, the probe that must tell, and words that its cause must hold."""

    loss: Callable[..., Any]
    probe: str
    cause: str
    kind: str = "binary"
    status: str = "defect"

    @property
    def name(self) -> str:
        return name_of(self.loss)


# --- F-beta, as asked -----------------------------------------------------------------------------


def swapped_fbeta(logits: jax.Array, labels: jax.Array, beta: float = 2.0) -> jax.Array:
    """FP and FN change places, so that it is F of 1/beta; and a clamp ends the gradient."""
    p, little = jax.nn.sigmoid(logits), 1e-7
    tp = (p * labels).sum(-1)
    fp = ((1 - p) * labels).sum(-1)
    fn = (p * (1 - labels)).sum(-1)
    score = (1 + beta**2) * tp / ((1 + beta**2) * tp + beta**2 * fn + fp + little)
    return 1 - jnp.clip(score, little, 1 - little).mean()


def swapped_f1(logits: jax.Array, labels: jax.Array, beta: float = 1.0) -> jax.Array:
    """At its default nobody sees it."""
    return swapped_fbeta(logits, labels, beta)


# --- w[c_true, c_pred], as asked ------------------------------------------------------------------

COSTS = np.array([[1, 1, 1, 1], [5, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]], np.float32)


def _hard_mask(y_true: jax.Array, p: jax.Array) -> jax.Array:
    """For each pair of classes its weight, where the prediction is the maximum."""
    is_top = (p == p.max(-1, keepdims=True)).astype(p.dtype)
    return jnp.einsum("bi,bj,ij->b", y_true, is_top, COSTS)


def hard_mask(y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
    p = jax.nn.softmax(y_pred)
    cross_entropy = -(y_true * jnp.log(jnp.clip(p, LITTLE, 1.0))).sum(-1)
    return cross_entropy * _hard_mask(y_true, p)


def swapped_hard_mask(y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
    """`K.categorical_crossentropy(y_pred, y_true)`, the order of Keras 1."""
    p = jax.nn.softmax(y_pred)
    cross_entropy = -(p * jnp.log(jnp.clip(y_true, LITTLE, 1.0))).sum(-1)
    return cross_entropy * _hard_mask(y_true, p)


def swapped_arguments(logits: jax.Array, labels: jax.Array) -> jax.Array:
    p, y = jax.nn.sigmoid(logits), jnp.clip(labels, LITTLE, 1 - LITTLE)
    return -(p * jnp.log(y) + (1 - p) * jnp.log(1 - y)).mean()


# --- the siamese KL hinge, as asked ---------------------------------------------------------------


def _keras_kl(p: jax.Array, q: jax.Array) -> jax.Array:
    p, q = jnp.clip(p, LITTLE, 1.0), jnp.clip(q, LITTLE, 1.0)
    return (p * jnp.log(p / q)).sum(-1)


def broadcast_kl_hinge(a: jax.Array, b: jax.Array, same: jax.Array) -> jax.Array:
    """Keras hands labels (B, 1) to distances (B,): every pair meets every label."""
    distance = _keras_kl(jax.nn.softmax(a), jax.nn.softmax(b))
    hinge = jnp.maximum(1.0 - distance, 0.0).mean(-1)
    labels = same[:, None]
    return (labels * distance + (1 - labels) * hinge).mean()


def averaged_hinge(a: jax.Array, b: jax.Array, same: jax.Array) -> jax.Array:
    """Labels as (B,), and still the hinge is that of the batch and not of the pair."""
    distance = _keras_kl(jax.nn.softmax(a), jax.nn.softmax(b))
    hinge = jnp.maximum(1.0 - distance, 0.0).mean(-1)
    return (same * distance + (1 - same) * hinge).mean()


def clipped_kl(logits_p: jax.Array, logits_q: jax.Array) -> jax.Array:
    return _keras_kl(jax.nn.softmax(logits_p), jax.nn.softmax(logits_q))


def asymmetric_kl(logits_p: jax.Array, logits_q: jax.Array) -> jax.Array:
    """Of sigmoids, which are no distribution."""
    p, q = jax.nn.log_sigmoid(logits_p), jax.nn.log_sigmoid(logits_q)
    return (jnp.exp(p) * (p - q)).sum(-1)


def inverted_pairs(a: jax.Array, b: jax.Array, same: jax.Array) -> jax.Array:
    """1 means same, the code thinks of 1 as different."""
    distance = ((a - b) ** 2).sum(-1)
    return (1 - same) * distance + same * jnp.maximum(4.0 - distance, 0.0)


def distance_without_care(a: jax.Array, b: jax.Array, same: jax.Array) -> jax.Array:
    distance = jnp.sqrt(((a - b) ** 2).sum(-1))
    return same * distance**2 + (1 - same) * jnp.maximum(1.0 - distance, 0.0) ** 2


# --- flat ones ------------------------------------------------------------------------------------


def flat_hinge(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Of labels 0 and 1: the hinge of a negative is 1 whatever is predicted."""
    return jnp.maximum(0.0, 1.0 - labels * logits)


def behind_relu(logits: jax.Array, labels: jax.Array) -> jax.Array:
    z = jax.nn.relu(logits)
    return (jnp.logaddexp(0.0, z) - labels * z).mean()


def hard_dice(logits: jax.Array, labels: jax.Array) -> jax.Array:
    p = jnp.round(jax.nn.sigmoid(logits))
    return 1 - 2 * (p * labels).sum() / (p.sum() + labels.sum() + 1e-7)


def naive_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    p = jax.nn.sigmoid(logits)
    return -(labels * jnp.log(p) + (1 - labels) * jnp.log(1 - p)).mean()


# --- deviation behind a ReLU, as asked ------------------------------------------------------------


def _normal(outputs: jax.Array, target: jax.Array, floor: float) -> jax.Array:
    mean, sigma = outputs[..., 0], floor + jax.nn.softplus(outputs[..., 1])
    return (jnp.log(sigma) + 0.5 * ((target - mean) / sigma) ** 2).mean()


def relu_softplus(outputs: jax.Array, target: jax.Array) -> jax.Array:
    return _normal(jax.nn.relu(outputs), target, 1e-3)


def no_floor(outputs: jax.Array, target: jax.Array) -> jax.Array:
    return _normal(outputs, target, 0.0)


def variance_as_deviation(mean: jax.Array, scale: jax.Array, target: jax.Array) -> jax.Array:
    return 0.5 * jnp.log(scale) + 0.5 * (target - mean) ** 2 / scale**2


def no_penalty(mean: jax.Array, scale: jax.Array, target: jax.Array) -> jax.Array:
    return ((target - mean) / scale) ** 2


# --- the wrong way round --------------------------------------------------------------------------


def score_as_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """A score is larger for better, and minimised."""
    p = jax.nn.sigmoid(logits)
    return 2 * (p * labels).sum() / (p + labels).sum()


def alpha_on_negatives(
    logits: jax.Array, labels: jax.Array, alpha: float = 0.25, gamma: float = 2.0
) -> jax.Array:
    p = jax.nn.sigmoid(logits)
    right = labels * p + (1 - labels) * (1 - p)
    entropy = jnp.logaddexp(0.0, jnp.where(labels > 0, -logits, logits))
    return jnp.where(labels > 0, 1 - alpha, alpha) * (1 - right) ** gamma * entropy


def absent_class_rules(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Generalised Dice with weights 1 / (count + epsilon)², normalised."""
    p, y = jax.nn.softmax(logits), jax.nn.one_hot(labels, logits.shape[-1])
    weight = 1 / (y.sum(0) ** 2 + 1e-7)
    dice = (2 * (p * y).sum(0) + 1e-7) / (p.sum(0) + y.sum(0) + 1e-7)
    return 1 - (weight / weight.sum() * dice).sum()


@jax.custom_vjp
def _doubled(x: jax.Array) -> jax.Array:
    return x


def _forward(x: jax.Array) -> tuple[jax.Array, None]:
    return x, None


_doubled.defvjp(_forward, lambda _, g: (2 * g,))


def wrong_slope(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return _doubled((jnp.logaddexp(0.0, logits) - labels * logits).mean())


def looks_at_values(logits: jax.Array, labels: jax.Array) -> jax.Array:
    if (labels > 1).any():
        raise ValueError("labels must be 0 or 1")
    return (jnp.logaddexp(0.0, logits) - labels * logits).mean()


def in_numpy(logits: Any, labels: Any) -> Any:
    z = np.asarray(logits, np.float64)
    return (np.logaddexp(0.0, z) - np.asarray(labels) * z).mean()


def shift_into_itself(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean of an outer product, for a batch whose shapes are right."""
    return (jnp.logaddexp(0.0, logits)[:, None] - labels[None] * logits[:, None]).mean()


CASES = [
    Case(ships.asked_iou, "alive", "ratio of its own"),
    Case(ships.asked_focal, "alive", "focusing exponent of about 8"),
    Case(ships.asked_weighted, "weights", "inverted: a negative weighs 1000 times"),
    Case(swapped_fbeta, "weights", "swapped: it is F-0.5", "multilabel"),
    Case(swapped_f1, "weights", "swapped: it is F-0.5", "multilabel"),
    Case(hard_mask, "continuity", "jumps where the decision changes", "multiclass"),
    Case(swapped_hard_mask, "arguments", "swapped inside", "multiclass"),
    Case(swapped_arguments, "arguments", "swapped inside"),
    Case(broadcast_kl_hinge, "labels", "broadcast against (B, 1)", "pair"),
    Case(averaged_hinge, "direction", "averaged over the batch", "pair"),
    Case(clipped_kl, "alive", "clipped", "divergence"),
    Case(asymmetric_kl, "minimum", "no distributions", "divergence"),
    Case(clipped_kl, "symmetric", "asymmetric", "divergence", status="note"),
    Case(inverted_pairs, "direction", "pulls different ones together", "pair"),
    Case(distance_without_care, "finite", "where the distance is 0", "pair"),
    Case(flat_hinge, "alive", "labels -1 and +1"),
    Case(behind_relu, "alive", "ReLU"),
    Case(hard_dice, "alive", "no gradient at all"),
    Case(naive_cross_entropy, "finite", "rounds to 0 or 1"),
    Case(relu_softplus, "scale", "ReLU stands in front of the softplus", "mean_scale"),
    Case(no_floor, "scale", "NaN or infinity", "mean_scale"),
    Case(variance_as_deviation, "proper", "deviation of 1.4", "mean_scale", status="note"),
    Case(no_penalty, "proper", "only grows", "mean_scale"),
    Case(score_as_loss, "direction", "sign of the loss"),
    Case(alpha_on_negatives, "weights", "alpha = 0.25 weighs the negatives"),
    Case(absent_class_rules, "minimum", "absent from the batch", "multiclass"),
    Case(wrong_slope, "gradient", "custom derivative"),
    Case(looks_at_values, "jit", "cannot be compiled"),
    Case(in_numpy, "jit", "no gradient flows"),
    Case(shift_into_itself, "labels", "(B, 1)"),
]
