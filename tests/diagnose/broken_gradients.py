"""Losses whose gradient, weights or keywords give away what is wrong, and what must be said.

Each is what somebody writes in a hurry, with one mistake.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from tests.diagnose.broken_losses import Case

stopped = jax.lax.stop_gradient
partial = functools.partial


def _entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return jnp.logaddexp(0.0, logits) - labels * logits


def _right(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The logarithm of the probability of the true side."""
    return jax.nn.log_sigmoid(jnp.where(labels > 0, logits, -logits))


# --- a part without a gradient --------------------------------------------------------------------


def dice_stopped_below(logits: jax.Array, labels: jax.Array) -> jax.Array:
    p = jax.nn.sigmoid(logits)
    return 1 - 2 * (p * labels).sum() / stopped(p.sum() + labels.sum())


def dice_stopped_above(logits: jax.Array, labels: jax.Array) -> jax.Array:
    p = jax.nn.sigmoid(logits)
    return 1 - 2 * stopped((p * labels).sum()) / (p.sum() + labels.sum())


def stopped_positives(logits: jax.Array, labels: jax.Array) -> jax.Array:
    p, q = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    return -(labels * stopped(p) + (1 - labels) * q).mean()


def stopped_scale(mean: jax.Array, scale: jax.Array, target: jax.Array) -> jax.Array:
    return jnp.log(stopped(scale)) + 0.5 * ((target - mean) / stopped(scale)) ** 2


def stopped_mean(mean: jax.Array, scale: jax.Array, target: jax.Array) -> jax.Array:
    """Which hides behind the deviation, whose gradient is the larger one."""
    return jnp.log(scale) + 0.5 * ((target - stopped(mean)) / scale) ** 2


def stopped_sum(logits: jax.Array, labels: jax.Array) -> jax.Array:
    true = jnp.take_along_axis(logits, labels[:, None], -1)[:, 0]
    return (stopped(jax.nn.logsumexp(logits, -1)) - true).mean()


def stopped_false_alarms(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Most of what opposes a false alarm has no gradient."""
    p = jax.nn.sigmoid(logits)
    alarms = (1 - labels) * (0.02 * p + 0.98 * stopped(p))
    return ((1 - p) * labels + alarms).mean()


def stopped_focus(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """As some do on purpose: the factor is a weight and not a part of the loss."""
    right = _right(logits, labels)
    return -(stopped(1 - jnp.exp(right)) ** 2 * right).mean()


def stopped_teacher(logits_p: jax.Array, logits_q: jax.Array) -> jax.Array:
    return optax.losses.kl_divergence(
        jax.nn.log_softmax(logits_q), stopped(jax.nn.softmax(logits_p))
    )


def straight_through(logits: jax.Array, labels: jax.Array) -> jax.Array:
    p = jax.nn.sigmoid(logits)
    p += stopped(jnp.round(p) - p)
    return 1 - 2 * (p * labels).sum() / (p.sum() + labels.sum())


# --- a weight on the wrong class ------------------------------------------------------------------

POS_WEIGHT = 5.0
ALPHA = 0.25


def weight_of_a_module(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return (jnp.where(labels == 0, POS_WEIGHT, 1.0) * _entropy(logits, labels)).mean()


def alpha_of_a_module(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return (jnp.where(labels > 0, 1 - ALPHA, ALPHA) * _entropy(logits, labels)).mean()


def _weighted(w_pos: float) -> Callable[..., jax.Array]:
    def weight_of_a_closure(logits: jax.Array, labels: jax.Array) -> jax.Array:
        return (jnp.where(labels > 0, 1.0, w_pos) * _entropy(logits, labels)).mean()

    return weight_of_a_closure


weight_of_a_closure = _weighted(7.0)


def negatives_first(
    logits: jax.Array, labels: jax.Array, pos_weight: float, neg_weight: float = 1.0
) -> jax.Array:
    weights = jnp.where(labels > 0, neg_weight, pos_weight)
    return (weights * _entropy(logits, labels)).mean()


bound_weight = partial(negatives_first, pos_weight=9.0)


def heavier_negatives(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return (jnp.where(labels > 0, 1.0, 5.0) * _entropy(logits, labels)).mean()


# --- a label that is off by one -------------------------------------------------------------------


def one_less(logits: jax.Array, labels: jax.Array) -> jax.Array:
    y = jax.nn.one_hot(labels - 1, logits.shape[-1])
    return -(y * jax.nn.log_softmax(logits)).sum(-1).mean()


def one_more(logits: jax.Array, labels: jax.Array) -> jax.Array:
    log_p = jax.nn.log_softmax(logits)
    return -log_p[jnp.arange(len(labels)), labels + 1].mean()


def counted_from_one(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels + 1).mean()


# --- attention, margins, clips --------------------------------------------------------------------


def focal_of_the_right(logits: jax.Array, labels: jax.Array) -> jax.Array:
    right = _right(logits, labels)
    return -(jnp.exp(right) ** 2.0 * right).mean()


def one_factor_for_both(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """(1 - p)**gamma for negatives too, whose factor is p**gamma."""
    factor = (1 - jax.nn.sigmoid(logits)) ** 2
    return (factor * _entropy(logits, labels)).mean()


def hinge_less_margin(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return jnp.maximum(0.0, -1.0 - (2 * labels - 1) * logits).mean()


def unclamped_squared_hinge(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return ((1 - (2 * labels - 1) * logits) ** 2).mean()


def triplet_less_margin(
    anchors: jax.Array, positives: jax.Array, negatives: jax.Array
) -> jax.Array:
    near, far = (((anchors - other) ** 2).sum(-1) for other in (positives, negatives))
    return jnp.maximum(near - far - 0.5, 0.0).mean()


def swapped_triplet(anchors: jax.Array, positives: jax.Array, negatives: jax.Array) -> jax.Array:
    near, far = (((anchors - other) ** 2).sum(-1) for other in (positives, negatives))
    return jnp.maximum(far - near + 0.5, 0.0).mean()


def contrastive_less_margin(a: jax.Array, b: jax.Array, same: jax.Array) -> jax.Array:
    distance = ((a - b) ** 2).sum(-1)
    return (same * distance + (1 - same) * jnp.maximum(-1.0 - distance, 0.0)).mean()


def positives_of_triplets(
    anchors: jax.Array, positives: jax.Array, negatives: jax.Array
) -> jax.Array:
    return ((anchors - positives) ** 2).sum(-1).mean()


def clusters_less_margin(embeddings: jax.Array, labels: jax.Array) -> jax.Array:
    distance = ((embeddings[:, None] - embeddings) ** 2).sum(-1)
    same = labels[:, None] == labels
    return jnp.where(same, distance, jnp.maximum(-1.0 - distance, 0.0)).mean()


def never_more_than_five(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return jnp.minimum(_entropy(logits, labels), 5.0).mean()


def positives_only(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return -(labels * jax.nn.log_sigmoid(logits)).mean()


def negatives_only(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return -((1 - labels) * jax.nn.log_sigmoid(-logits)).mean()


# --- regression -----------------------------------------------------------------------------------


def swapped_huber(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    error = predictions - targets
    size = jnp.abs(error)
    return jnp.where(size <= 1.0, size - 0.5, 0.5 * error**2).mean()


def berhu(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    size = jnp.abs(predictions - targets)
    return jnp.where(size <= 1.0, size, 0.5 * (size**2 + 1)).mean()


def bare_error(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    return (predictions - targets).mean()


def square_of_the_mean(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    return (predictions - targets).mean() ** 2


def root_of_each(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    return jnp.sqrt((predictions - targets) ** 2).mean()


def root_mean_square(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    return jnp.sqrt(((predictions - targets) ** 2).mean())


def outliers_cut_off(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    return jnp.minimum((predictions - targets) ** 2, 4.0).mean()


# --- a mean and its deviation ---------------------------------------------------------------------


def turned_logarithm(mean: jax.Array, scale: jax.Array, target: jax.Array) -> jax.Array:
    return 0.5 * ((target - mean) / scale) ** 2 - jnp.log(scale)


def no_half(mean: jax.Array, scale: jax.Array, target: jax.Array) -> jax.Array:
    return jnp.log(scale) + ((target - mean) / scale) ** 2


def not_squared(mean: jax.Array, scale: jax.Array, target: jax.Array) -> jax.Array:
    return jnp.log(scale) + 0.5 * (target - mean) ** 2 / scale


def of_variance(mean: jax.Array, scale: jax.Array, target: jax.Array) -> jax.Array:
    return 0.5 * jnp.log(scale) + 0.5 * (target - mean) ** 2 / scale


def log_variance_as_deviation(outputs: jax.Array, target: jax.Array) -> jax.Array:
    mean, log_variance = outputs[..., 0], outputs[..., 1]
    return 0.5 * log_variance + 0.5 * ((target - mean) / jnp.exp(log_variance)) ** 2


def no_half_of_log_variance(outputs: jax.Array, target: jax.Array) -> jax.Array:
    mean, log_variance = outputs[..., 0], outputs[..., 1]
    return log_variance + 0.5 * (target - mean) ** 2 * jnp.exp(-log_variance)


def log_variance_left_alone(outputs: jax.Array, target: jax.Array) -> jax.Array:
    mean, log_variance = outputs[..., 0], outputs[..., 1]
    return 0.5 * (target - mean) ** 2 * jnp.exp(-log_variance)


# --- keywords -------------------------------------------------------------------------------------


def weight_over_itself(logits: jax.Array, labels: jax.Array, pos_weight: float = 3.0) -> jax.Array:
    p = jax.nn.sigmoid(logits)
    return 1 - 2 * pos_weight * (p * labels).sum() / (pos_weight * (p + labels).sum())


def forgotten_gamma(logits: jax.Array, labels: jax.Array, gamma: float = 2.0) -> jax.Array:
    right = _right(logits, labels)
    return -((1 - jnp.exp(right)) ** 2 * right).mean()


def alpha_for_all(logits: jax.Array, labels: jax.Array, alpha: float = 0.25) -> jax.Array:
    return alpha * _entropy(logits, labels).mean()


def smoothing_that_is_added(
    logits: jax.Array, labels: jax.Array, smoothing: float = 0.1
) -> jax.Array:
    return (_entropy(logits, labels) + smoothing).mean()


# --- a sum, and a mean of a mean ------------------------------------------------------------------


def a_sum(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return _entropy(logits, labels).sum()


def a_mean_of_a_mean(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return _entropy(logits, labels).mean() / len(labels)


# --- divergences ----------------------------------------------------------------------------------


def kl_of_second(logits_p: jax.Array, logits_q: jax.Array) -> jax.Array:
    log_p, log_q = jax.nn.log_softmax(logits_p), jax.nn.log_softmax(logits_q)
    return (jnp.exp(log_q) * (log_q - log_p)).sum(-1).mean()


def infonce_of_itself(embeddings: jax.Array, labels: jax.Array) -> jax.Array:
    """Every example is its own positive, and its own rival."""
    z = embeddings / jnp.linalg.norm(embeddings + 1e-6, axis=-1, keepdims=True)
    same = (labels[:, None] == labels).astype(z.dtype)
    log_p = jax.nn.log_softmax(z @ z.T / 0.1)
    return -((same * log_p).sum(-1) / same.sum(-1)).mean()


def pulled_back(a: jax.Array, b: jax.Array, same: jax.Array) -> jax.Array:
    """The square of margin - distance, without the maximum with 0."""
    distance = jnp.sqrt(((a - b) ** 2).sum(-1) + 1e-9)
    return (same * distance**2 + (1 - same) * (1.0 - distance) ** 2).mean()


def temperature_of_one(logits_p: jax.Array, logits_q: jax.Array) -> jax.Array:
    log_p, log_q = jax.nn.log_softmax(logits_p / 4.0), jax.nn.log_softmax(logits_q)
    return (jnp.exp(log_p) * (log_p - log_q)).sum(-1).mean()


CASES = [
    Case(temperature_of_one, "minimum", "a temperature divides one of the two", "divergence"),
    Case(pulled_back, "direction", "further apart than its margin", "pair"),
    Case(dice_stopped_below, "gradient", "depends on negatives, which get no gradient"),
    Case(dice_stopped_above, "gradient", "positives are pulled the wrong way"),
    Case(stopped_positives, "gradient", "depends on positives, which get no gradient"),
    Case(stopped_scale, "gradient", "the deviations, which get no gradient", "mean_scale"),
    Case(stopped_mean, "gradient", "the means, which get no gradient", "mean_scale"),
    Case(stopped_sum, "gradient", "the other logits, which get no gradient", "multiclass"),
    Case(stopped_false_alarms, "gradient", "positives pull 50 times as much against negatives"),
    Case(stopped_focus, "gradient", "a stop_gradient stands between", status="note"),
    Case(stopped_teacher, "gradient", "keeps logits_p fixed", "divergence", status="note"),
    Case(straight_through, "gradient", "straight-through estimator", status="note"),
    Case(weight_of_a_module, "weights", "pos_weight = 5 weighs the negatives"),
    Case(alpha_of_a_module, "weights", "alpha = 0.25 weighs the negatives"),
    Case(weight_of_a_closure, "weights", "w_pos = 7 weighs the negatives"),
    Case(bound_weight, "weights", "pos_weight = 9 weighs the negatives"),
    Case(heavier_negatives, "weights", "right only if negatives are the rare class", status="note"),
    Case(one_less, "direction", "off by one: a label of 2 is learnt as class 1", "multiclass"),
    Case(one_more, "direction", "off by one: a label of 2 is learnt as class 3", "multiclass"),
    Case(counted_from_one, "inputs", "the last of its classes is out of range", "multiclass"),
    Case(focal_of_the_right, "direction", "attends to what is right already"),
    Case(one_factor_for_both, "direction", "right already among the negatives"),
    Case(hinge_less_margin, "alive", "margin is on the wrong side"),
    Case(unclamped_squared_hinge, "direction", "pulls back", status="note"),
    Case(triplet_less_margin, "direction", "margin is on the wrong side", "triplet"),
    Case(swapped_triplet, "direction", "positives and negatives are swapped", "triplet"),
    Case(contrastive_less_margin, "direction", "never pushed apart", "pair"),
    Case(positives_of_triplets, "direction", "no negative is pushed away", "triplet"),
    Case(clusters_less_margin, "direction", "never pushed apart", "embedding"),
    Case(never_more_than_five, "alive", "cut off from above"),
    Case(positives_only, "alive", "like (1 - y) log(1 - p) is missing"),
    Case(negatives_only, "alive", "like y log(p) is missing"),
    Case(swapped_huber, "outliers", "branches of a Huber loss are swapped", "regression"),
    Case(berhu, "outliers", "outliers rule", "regression", status="note"),
    Case(bare_error, "cancel", "without a square or an absolute value", "regression"),
    Case(square_of_the_mean, "cancel", "the mean is taken before the square", "regression"),
    Case(root_of_each, "minimum", "a prediction meets its target", "regression"),
    Case(root_mean_square, "minimum", "all predictions of a batch", "regression", status="note"),
    Case(outliers_cut_off, "alive", "cuts it off from above", "regression"),
    Case(turned_logarithm, "proper", "has the wrong sign", "mean_scale"),
    Case(
        log_variance_left_alone,
        "proper",
        "log(scale) that should hold it down is missing",
        "mean_scale",
    ),
    Case(no_half, "proper", "1/2 is missing before the squared error", "mean_scale", "note"),
    Case(not_squared, "proper", "divided by the scale, and not by its", "mean_scale", "note"),
    Case(of_variance, "proper", "for a variance, not for a deviation", "mean_scale", "note"),
    Case(log_variance_as_deviation, "proper", "deviation of 1.41", "mean_scale", "note"),
    Case(
        no_half_of_log_variance,
        "proper",
        "1/2 were missing before a log-variance",
        "mean_scale",
        "note",
    ),
    Case(weight_over_itself, "keywords", "its pos_weight changes nothing"),
    Case(forgotten_gamma, "keywords", "its gamma changes nothing"),
    Case(alpha_for_all, "keywords", "its alpha multiplies the loss as a whole", status="note"),
    Case(smoothing_that_is_added, "keywords", "changes no gradient", status="note"),
    Case(a_sum, "reduction", "a sum over the batch", status="note"),
    Case(a_mean_of_a_mean, "reduction", "divided by the number of examples twice", status="note"),
    Case(kl_of_second, "symmetric", "it is KL(q || p)", "divergence", "note"),
    Case(infonce_of_itself, "itself", "compared with itself", "embedding", "note"),
]
