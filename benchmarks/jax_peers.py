"""What JAX libraries, and two lines of jax.numpy, make of the same rows.

Functions map a namespace of arrays to the mean loss. What they want in another form, as labels of
±1 or one-hot, is made inside, where the compiler fuses it and it costs nothing.
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import losses as of

Functions = dict[str, Callable[[Any], Any]]


def signs(a: Any) -> jax.Array:
    return 2 * a.labels - 1


def few(a: Any) -> None:
    """Raise `ValueError` unless all pairs of the scores fit in memory."""
    n = a.logits.shape[0]
    if n > of.MOST_IN_PAIRS:
        raise ValueError(f"{n} scores have {n**2:.0e} pairs")


def one_hot(a: Any) -> jax.Array:
    return jax.nn.one_hot(a.ids, a.logits.shape[-1], dtype=a.logits.dtype)


def plain() -> Functions:
    """What a user writes."""

    def bce(a: Any) -> jax.Array:
        return jax.nn.softplus(a.logits) - a.labels * a.logits

    def picked(log_p: jax.Array, ids: jax.Array) -> jax.Array:
        return jnp.take_along_axis(log_p, ids[..., None], -1)[..., 0]

    def right(a: Any) -> jax.Array:
        return jax.nn.sigmoid(signs(a) * a.logits)

    def focal(a: Any) -> jax.Array:
        weight = of.ALPHA * a.labels + (1 - of.ALPHA) * (1 - a.labels)
        return weight * (1 - right(a)) ** of.GAMMA * bce(a)

    def adjusted(a: Any) -> jax.Array:
        return a.logits + jnp.broadcast_to(jnp.log(a.prevalence), a.logits.shape)

    def log_p(a: Any) -> jax.Array:
        return picked(jax.nn.log_softmax(a.logits), a.ids)

    def shares(a: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        p = jax.nn.sigmoid(a.logits).astype(jnp.float32)
        y = a.labels.astype(jnp.float32)
        return (p * y).sum(), p.sum(), y.sum()

    def fbeta(beta: float) -> Callable[[Any], jax.Array]:
        def loss(a: Any) -> jax.Array:
            both, predicted, true = shares(a)
            return 1 - (1 + beta**2) * both / (predicted + beta**2 * true)

        return loss

    def jaccard(a: Any) -> jax.Array:
        both, predicted, true = shares(a)
        return 1 - both / (predicted + true - both)

    def dice_of_classes(a: Any) -> jax.Array:
        p, y, axis = jax.nn.softmax(a.logits), one_hot(a), tuple(range(a.ids.ndim))
        return (1 - 2 * (p * y).sum(axis) / (p.sum(axis) + y.sum(axis))).mean()

    def margin(a: Any) -> jax.Array:
        return signs(a) * a.logits

    def divergence(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
        return (jnp.exp(log_p) * (log_p - log_q)).sum(-1)

    def both(a: Any) -> tuple[jax.Array, jax.Array]:
        return jax.nn.log_softmax(a.logits), jax.nn.log_softmax(a.others)

    def jensen_shannon(a: Any) -> jax.Array:
        log_p, log_q = both(a)
        log_m = jnp.logaddexp(log_p, log_q) - jnp.log(2.0).astype(log_p.dtype)
        return (divergence(log_p, log_m) + divergence(log_q, log_m)).mean() / 2

    def violations(a: Any) -> jax.Array:
        return a.logits + 1 - one_hot(a) - picked(a.logits, a.ids)[..., None]

    def kl_hinge(a: Any) -> jax.Array:
        log_p, log_q = both(a)
        kls = jnp.stack([divergence(log_p, log_q), divergence(log_q, log_p)])
        return jnp.where(a.same, kls, jax.nn.relu(of.KL_MARGIN - kls)).sum(0).mean()

    def contrastive(a: Any) -> jax.Array:
        d = jnp.linalg.norm(a.first - a.second, axis=-1)
        return jnp.where(a.same, d**2, jax.nn.relu(of.MARGIN - d) ** 2).mean() / 2

    def further(a: Any) -> jax.Array:
        distance = jnp.linalg.norm(a.anchors - a.positives, axis=-1)
        return distance - jnp.linalg.norm(a.anchors - a.negatives, axis=-1)

    def of_pairs(cost: Callable[[jax.Array], jax.Array]) -> Callable[[Any], jax.Array]:
        """The mean cost of a positive's distance above a negative."""

        def loss(a: Any) -> jax.Array:
            few(a)
            pairs = (a.labels[:, None] > 0) & (a.labels[None] <= 0)
            costs = cost((a.logits[:, None] - a.logits[None]).astype(jnp.float32))
            return jnp.where(pairs, costs, 0.0).sum() / pairs.sum(dtype=jnp.float32)

        return loss

    def soft_ap(a: Any) -> jax.Array:
        """Smooth-AP, the rank of each score from its distance to all others."""
        few(a)
        positive = a.labels > 0

        def above(z: jax.Array, other: jax.Array) -> jax.Array:
            near = 0.5 * jnp.exp(-jnp.abs(other - z))
            return jnp.where(other < z, near, 1 - near)

        apart = above(a.logits[:, None], a.logits[None])
        ranks = 0.5 + apart.sum(1)
        among = 0.5 + jnp.where(positive[None], apart, 0.0).sum(1)
        return 1 - jnp.where(positive, among / ranks, 0.0).sum() / positive.sum(dtype=jnp.float32)

    def standardized(a: Any) -> jax.Array:
        return (a.target - a.mean) / a.scale

    def gaussian(a: Any) -> jax.Array:
        constant = 0.5 * math.log(2 * math.pi)
        return (0.5 * standardized(a) ** 2 + jnp.log(a.scale) + constant).mean()

    def crps(a: Any) -> jax.Array:
        z, normal = standardized(a), jax.scipy.stats.norm
        inner = z * (2 * normal.cdf(z) - 1) + 2 * normal.pdf(z) - 1 / math.sqrt(math.pi)
        return (a.scale * inner).mean()

    def pinball(a: Any) -> jax.Array:
        error = a.target - a.quantile
        return jnp.maximum(of.LEVEL * error, (of.LEVEL - 1) * error).mean()

    def hard_dice(a: Any) -> jax.Array:
        p, y = a.logits > 0, a.labels > 0
        return 2 * (p & y).sum() / (p.sum() + y.sum())

    return {
        "gaussian_nll": gaussian,
        "crps_gaussian": crps,
        "pinball_loss": pinball,
        "sigmoid_cross_entropy": lambda a: bce(a).mean(),
        "sigmoid_focal_loss": lambda a: focal(a).mean(),
        "weighted_sigmoid_cross_entropy": lambda a: (
            jnp.where(a.labels > 0, of.POSITIVE_WEIGHT, 1.0) * bce(a)
        ).mean(),
        "sigmoid_poly_loss": lambda a: (bce(a) + of.EPSILON * (1 - right(a))).mean(),
        "brier_loss": lambda a: ((jax.nn.sigmoid(a.logits) - a.labels) ** 2).mean(),
        "hinge_loss": lambda a: jax.nn.relu(1 - margin(a)).mean(),
        "squared_hinge_loss": lambda a: (jax.nn.relu(1 - margin(a)) ** 2).mean(),
        "softplus_hinge_loss": lambda a: jax.nn.softplus(1 - margin(a)).mean(),
        "exponential_loss": lambda a: jnp.exp(-margin(a)).mean(),
        "perceptron_loss": lambda a: jax.nn.relu(-margin(a)).mean(),
        "softmax_cross_entropy": lambda a: -log_p(a).mean(),
        "softmax_focal_loss": lambda a: (-((1 - jnp.exp(log_p(a))) ** of.GAMMA) * log_p(a)).mean(),
        "weighted_softmax_cross_entropy": lambda a: (-a.class_weights[a.ids] * log_p(a)).mean(),
        "logit_adjusted_softmax_loss": lambda a: (
            -picked(jax.nn.log_softmax(adjusted(a)), a.ids).mean()
        ),
        "softmax_poly_loss": lambda a: (-log_p(a) + of.EPSILON * (1 - jnp.exp(log_p(a)))).mean(),
        "generalized_cross_entropy": lambda a: ((1 - jnp.exp(log_p(a)) ** of.Q) / of.Q).mean(),
        "expected_cost_loss": lambda a: (jax.nn.softmax(a.logits) * a.cost[a.ids]).sum(-1).mean(),
        "crammer_singer_loss": lambda a: violations(a).max(-1).mean(),
        "weston_watkins_loss": lambda a: jax.nn.relu(violations(a)).sum(-1).mean(),
        "kl_divergence": lambda a: divergence(*both(a)).mean(),
        "js_divergence": jensen_shannon,
        "symmetric_kl_divergence": lambda a: (
            divergence(*both(a)) + divergence(*reversed(both(a)))
        ).mean(),
        "kl_divergence_from_probabilities": lambda a: divergence(jnp.log(a.p), jnp.log(a.q)).mean(),
        "kl_hinge_loss": kl_hinge,
        "contrastive_loss": contrastive,
        "triplet_loss": lambda a: jax.nn.relu(further(a) + of.MARGIN).mean(),
        "triplet_loss (softplus)": lambda a: jax.nn.softplus(further(a)).mean(),
        "dice_loss": fbeta(1.0),
        "fbeta_loss": fbeta(of.BETA),
        "jaccard_loss": jaccard,
        "dice_loss (softmax)": dice_of_classes,
        "dice of counts": hard_dice,
        "roc_auc_loss (hinge)": of_pairs(lambda d: jax.nn.relu(of.MARGIN - d)),
        "roc_auc_loss (squared_hinge)": of_pairs(lambda d: jax.nn.relu(of.MARGIN - d) ** 2),
        "roc_auc_loss (square)": of_pairs(lambda d: (of.MARGIN - d) ** 2),
        "roc_auc_loss (exponential)": of_pairs(lambda d: jnp.exp(-d)),
        "roc_auc_loss (logistic)": of_pairs(lambda d: jax.nn.softplus(-d)),
        "average_precision_loss": soft_ap,
    }


def of_optax() -> Functions:
    optax = importlib.import_module("optax")

    def dice(a: Any, **prices: float) -> jax.Array:
        axis = tuple(range(a.labels.ndim))
        z, y = a.logits[..., None], a.labels[..., None]
        return optax.losses.dice_loss(z, y, smooth=0.0, axis=axis, **prices)

    def dice_of_classes(a: Any, **prices: float) -> jax.Array:
        axis = tuple(range(a.ids.ndim))
        return optax.losses.dice_loss(a.logits, one_hot(a), smooth=0.0, axis=axis, **prices)

    prices = {"alpha": of.FP_WEIGHT, "beta": of.FN_WEIGHT}
    ids = optax.softmax_cross_entropy_with_integer_labels
    return {
        "sigmoid_cross_entropy": lambda a: optax.sigmoid_binary_cross_entropy(
            a.logits, a.labels
        ).mean(),
        "sigmoid_focal_loss": lambda a: optax.sigmoid_focal_loss(
            a.logits, a.labels, alpha=of.ALPHA, gamma=of.GAMMA
        ).mean(),
        "softmax_cross_entropy": lambda a: ids(a.logits, a.ids).mean(),
        "logit_adjusted_softmax_loss": lambda a: ids(
            a.logits + jnp.log(a.prevalence), a.ids
        ).mean(),
        "weighted_softmax_cross_entropy": lambda a: (
            a.class_weights[a.ids] * ids(a.logits, a.ids)
        ).mean(),
        "softmax_poly_loss": lambda a: optax.losses.poly_loss_cross_entropy(
            a.logits, one_hot(a), epsilon=of.EPSILON
        ).mean(),
        "hinge_loss": lambda a: optax.hinge_loss(a.logits, signs(a)).mean(),
        "perceptron_loss": lambda a: optax.losses.perceptron_loss(a.logits, signs(a)).mean(),
        "crammer_singer_loss": lambda a: _rows(optax.losses.multiclass_hinge_loss, a).mean(),
        "dice_loss": dice,
        "tversky_loss": lambda a: dice(a, **prices),
        "dice_loss (softmax)": dice_of_classes,
        "tversky_loss (softmax)": lambda a: dice_of_classes(a, **prices),
        "kl_divergence": lambda a: optax.losses.kl_divergence_with_log_targets(
            jax.nn.log_softmax(a.others), jax.nn.log_softmax(a.logits)
        ).mean(),
        "kl_divergence_from_probabilities": lambda a: optax.losses.kl_divergence(
            jnp.log(a.q), a.p
        ).mean(),
        "triplet_loss": lambda a: optax.losses.triplet_margin_loss(
            a.anchors, a.positives, a.negatives, margin=of.MARGIN
        ).mean(),
    }


def _rows(loss: Callable[..., jax.Array], a: Any) -> jax.Array:
    """For functions of one example after another."""
    return loss(a.logits.reshape(-1, a.logits.shape[-1]), a.ids.reshape(-1))


def of_keras() -> Functions:
    os.environ.setdefault("KERAS_BACKEND", "jax")  # read once, at the import
    keras = importlib.import_module("keras")
    if keras.backend.backend() != "jax":
        raise ValueError(f"Keras runs on {keras.backend.backend()}; set KERAS_BACKEND=jax")
    loss = keras.losses
    sides = {"alpha": of.FP_WEIGHT, "beta": of.FN_WEIGHT}

    def of_logits(function: Callable[..., Any], a: Any) -> Any:
        return function(a.labels[..., None], a.logits[..., None], from_logits=True)

    return {
        "sigmoid_cross_entropy": lambda a: of_logits(loss.binary_crossentropy, a).mean(),
        "sigmoid_focal_loss": lambda a: loss.binary_focal_crossentropy(
            a.labels[..., None],
            a.logits[..., None],
            apply_class_balancing=True,
            alpha=of.ALPHA,
            gamma=of.GAMMA,
            from_logits=True,
        ).mean(),
        "brier_loss": lambda a: loss.mean_squared_error(a.labels, jax.nn.sigmoid(a.logits)).mean(),
        "hinge_loss": lambda a: loss.hinge(signs(a), a.logits).mean(),
        "squared_hinge_loss": lambda a: loss.squared_hinge(signs(a), a.logits).mean(),
        "softmax_cross_entropy": lambda a: loss.sparse_categorical_crossentropy(
            a.ids, a.logits, from_logits=True
        ).mean(),
        "softmax_focal_loss": lambda a: loss.categorical_focal_crossentropy(
            one_hot(a), a.logits, alpha=1.0, gamma=of.GAMMA, from_logits=True
        ).mean(),
        "generalized_cross_entropy": lambda a: loss.categorical_generalized_cross_entropy(
            a.ids, jax.nn.softmax(a.logits), of.Q
        ).mean(),
        "dice_loss": lambda a: loss.dice(a.labels, jax.nn.sigmoid(a.logits)).mean(),
        "tversky_loss": lambda a: loss.tversky(a.labels, jax.nn.sigmoid(a.logits), **sides).mean(),
        "dice_loss (softmax)": lambda a: loss.dice(
            one_hot(a), jax.nn.softmax(a.logits), axis=tuple(range(a.ids.ndim))
        ).mean(),
        "kl_divergence": lambda a: loss.kl_divergence(
            jax.nn.softmax(a.logits), jax.nn.softmax(a.others)
        ).mean(),
        "kl_divergence_from_probabilities": lambda a: loss.kl_divergence(a.p, a.q).mean(),
    }


def of_rax() -> Functions:
    rax = importlib.import_module("rax")

    def of_pairs(loss: Callable[..., jax.Array]) -> Callable[[Any], jax.Array]:
        """Its own mean goes over pairs of one class, too."""

        def mean(a: Any) -> jax.Array:
            few(a)
            z, y = a.logits.astype(jnp.float32), a.labels.astype(jnp.float32)
            return loss(z, y, reduce_fn=jnp.sum) / (y.sum() * (1 - y).sum())

        return mean

    return {
        "sigmoid_cross_entropy": lambda a: rax.pointwise_sigmoid_loss(a.logits, a.labels),
        "roc_auc_loss (hinge)": of_pairs(rax.pairwise_hinge_loss),
        "roc_auc_loss (logistic)": of_pairs(rax.pairwise_logistic_loss),
    }
