"""Losses with an activation, an epsilon or a reduction in the wrong place.

Each is written as people write it; `Case` is that of `broken_losses`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

import diffmetrics as dm
from tests.diagnose.broken_losses import Case

# --- activations ----------------------------------------------------------------------------------


def sigmoid_twice(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.sigmoid_binary_cross_entropy(jax.nn.sigmoid(logits), labels).mean()


def sigmoid_of_probabilities(probabilities: jax.Array, labels: jax.Array) -> jax.Array:
    """`from_logits=True` of a network that ends in a sigmoid."""
    return optax.sigmoid_binary_cross_entropy(probabilities, labels).mean()


def sigmoid_twice_by_hand(logits: jax.Array, labels: jax.Array) -> jax.Array:
    p = 1 / (1 + jnp.exp(-logits))
    return (jnp.maximum(p, 0) - p * labels + jnp.log1p(jnp.exp(-jnp.abs(p)))).mean()


def sigmoid_before_ours(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return dm.sigmoid_cross_entropy(jax.nn.sigmoid(logits), labels).mean()


def sigmoid_before_dice(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return dm.dice_loss(jax.nn.sigmoid(logits), labels)


def softmax_twice(logits: jax.Array, labels: jax.Array) -> jax.Array:
    p = jax.nn.softmax(logits)
    return optax.softmax_cross_entropy_with_integer_labels(p, labels).mean()


def softmax_twice_by_hand(logits: jax.Array, labels: jax.Array) -> jax.Array:
    p = jax.nn.softmax(logits)
    log_p = jax.nn.log_softmax(p)
    return -jnp.take_along_axis(log_p, labels[:, None], 1).mean()


def softmax_before_ours(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return dm.softmax_cross_entropy(jax.nn.softmax(logits), labels).mean()


def sigmoid_of_softmax(logits: jax.Array, labels: jax.Array) -> jax.Array:
    p, y = jax.nn.softmax(logits), jax.nn.one_hot(labels, logits.shape[-1])
    return optax.sigmoid_binary_cross_entropy(p, y).sum(-1).mean()


def squeezed_by_tanh(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.sigmoid_binary_cross_entropy(jnp.tanh(logits), labels).mean()


def cosines_without_temperature(logits: jax.Array, labels: jax.Array) -> jax.Array:
    z = logits / jnp.linalg.norm(logits, axis=-1, keepdims=True)
    return optax.softmax_cross_entropy_with_integer_labels(z, labels).mean()


def softmax_over_the_batch(logits: jax.Array, labels: jax.Array) -> jax.Array:
    p = jax.nn.softmax(logits, axis=0)
    return -jnp.log(jnp.take_along_axis(p, labels[:, None], 1)).mean()


def log_softmax_over_the_batch(logits: jax.Array, labels: jax.Array) -> jax.Array:
    log_p = jax.nn.log_softmax(logits, axis=0)
    return -jnp.take_along_axis(log_p, labels[:, None], 1).mean()


def softmax_of_single_outputs(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Of outputs ``[B, 1]`` it is 1, and of ``[B]`` it compares examples."""
    return -(labels * jnp.log(jax.nn.softmax(logits) + 1e-7)).mean()


# --- epsilons -------------------------------------------------------------------------------------


def large_epsilon(logits: jax.Array, labels: jax.Array) -> jax.Array:
    p = jax.nn.sigmoid(logits)
    return -(labels * jnp.log(p + 1e-2) + (1 - labels) * jnp.log(1 - p + 1e-2)).mean()


def large_epsilon_of_classes(logits: jax.Array, labels: jax.Array) -> jax.Array:
    p = jax.nn.softmax(logits)
    return -jnp.log(jnp.take_along_axis(p, labels[:, None], 1) + 0.05).mean()


def notable_epsilon(logits: jax.Array, labels: jax.Array) -> jax.Array:
    p, y = jax.nn.softmax(logits), jax.nn.one_hot(labels, logits.shape[-1])
    return -(y * jnp.log(p + 1e-3)).sum(-1).mean()


def logarithm_of_a_mean(logits: jax.Array, labels: jax.Array) -> jax.Array:
    p, y = jax.nn.softmax(logits), jax.nn.one_hot(labels, logits.shape[-1])
    return -jnp.log((p * y).sum(-1).mean())


# --- reductions and smoothing ---------------------------------------------------------------------


def worst_of_batch(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.sigmoid_binary_cross_entropy(logits, labels).max()


def first_of_batch(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)[0]


def all_but_the_last(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.sigmoid_binary_cross_entropy(logits[:-1], labels[:-1]).mean()


def smoothed_means(logits: jax.Array, labels: jax.Array) -> jax.Array:
    p = jax.nn.sigmoid(logits)
    return 1 - (2 * (p * labels).mean() + 1) / (p.mean() + labels.mean() + 1)


def smoothed_below_only(logits: jax.Array, labels: jax.Array) -> jax.Array:
    p = jax.nn.sigmoid(logits)
    return 1 - 2 * (p * labels).sum() / (p.sum() + labels.sum() + 1.0)


def smoothed_above_only(logits: jax.Array, labels: jax.Array) -> jax.Array:
    p = jax.nn.sigmoid(logits)
    return 1 - (2 * (p * labels).sum() + 1.0) / (p.sum() + labels.sum() + 1e-7)


# --- what is wrong behind what is right -----------------------------------------------------------


def hinge_of_the_mean(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return jax.nn.relu(1 - ((2 * labels - 1) * logits).mean())


def hinge_of_the_mean_of_classes(logits: jax.Array, labels: jax.Array) -> jax.Array:
    true = jnp.take_along_axis(logits, labels[:, None], 1)[:, 0]
    rival = jnp.where(jnp.eye(logits.shape[1], dtype=bool)[labels], -jnp.inf, logits).max(1)
    return jax.nn.relu(1 - (true - rival).mean())


def triplets_in_the_mean(
    anchors: jax.Array, positives: jax.Array, negatives: jax.Array
) -> jax.Array:
    near, far = (((anchors - x) ** 2).sum(-1) for x in (positives, negatives))
    return jax.nn.relu(near.mean() - far.mean() + 1.0)


def most_of_the_batch(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The median, so that half of the batch may be wrong."""
    return jnp.median(optax.sigmoid_binary_cross_entropy(logits, labels))


def smoothed_without_count(logits: jax.Array, one_hot: jax.Array) -> jax.Array:
    smoothed = 0.9 * one_hot + 0.1
    return optax.softmax_cross_entropy(logits, smoothed).mean()


def precision_of_a_batch(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """A Tversky score in which the misses are the false alarms once more."""
    p = jax.nn.sigmoid(logits)
    hits, alarms = (p * labels).sum(), (p * (1 - labels)).sum()
    return 1 - (hits + 1e-3) / (hits + 0.3 * alarms + 0.7 * alarms + 1e-3)


CASES = [
    Case(precision_of_a_batch, "smoothing", "misses cost next to nothing"),
    Case(smoothed_without_count, "smoothing", "sum to 1, but to 1.3", "multiclass", "note"),
    Case(sigmoid_twice, "activation", "a sigmoid is applied twice"),
    Case(sigmoid_of_probabilities, "activation", "of its argument probabilities"),
    Case(sigmoid_twice_by_hand, "activation", "a sigmoid is applied twice"),
    Case(sigmoid_before_ours, "activation", "a sigmoid is applied twice"),
    Case(sigmoid_before_dice, "activation", "a sigmoid is applied twice"),
    Case(softmax_twice, "activation", "a softmax is applied twice", "multiclass"),
    Case(softmax_twice_by_hand, "activation", "a softmax is applied twice", "multiclass"),
    Case(softmax_before_ours, "activation", "a softmax is applied twice", "multiclass"),
    Case(sigmoid_of_softmax, "activation", "a softmax stands before the sigmoid", "multiclass"),
    Case(squeezed_by_tanh, "activation", "a tanh stands before the sigmoid"),
    Case(cosines_without_temperature, "activation", "scaling to length 1", "multiclass"),
    Case(softmax_over_the_batch, "activation", "runs over the examples", "multiclass"),
    Case(log_softmax_over_the_batch, "activation", "runs over the examples", "multiclass"),
    Case(softmax_of_single_outputs, "activation", "runs over the examples", status="note"),
    Case(large_epsilon, "logarithm", "log(p + 0.01)"),
    Case(large_epsilon_of_classes, "logarithm", "log(p + 0.05)", "multiclass"),
    Case(notable_epsilon, "logarithm", "log(p + 0.001)", "multiclass", status="note"),
    Case(logarithm_of_a_mean, "logarithm", "the logarithm of a mean", "multiclass"),
    Case(worst_of_batch, "examples", "only 1 of the"),
    Case(first_of_batch, "examples", "only 1 of the", "multiclass"),
    Case(all_but_the_last, "examples", "1 of 64 examples never"),
    Case(hinge_of_the_mean, "hidden", "hides behind"),
    Case(hinge_of_the_mean_of_classes, "hidden", "hides behind", "multiclass"),
    Case(triplets_in_the_mean, "hidden", "hides behind", "triplet"),
    Case(most_of_the_batch, "examples", "only 2 of the"),
    Case(smoothed_means, "smoothing", "outweighs what it counts"),
    Case(smoothed_below_only, "smoothing", "a set without a positive", status="note"),
    Case(smoothed_above_only, "smoothing", "scores more than 1", status="note"),
]
