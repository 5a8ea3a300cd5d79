"""Losses that nothing is wrong with: the doctor must not complain of them.

Textbook formulas as people write them, and those of other libraries. A false alarm costs more than
a defect that is not found, because nobody believes the next one.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax

partial = functools.partial
Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Healthy:
    """A sound loss, what the doctor must take it for, and whether it has to be told so."""

    name: str
    loss: Callable[..., Any]
    kind: str
    told: bool = False


# --- 0/1 labels -----------------------------------------------------------------------------------


def _entropy(logits: Array, labels: Array) -> Array:
    return jnp.logaddexp(0.0, logits) - labels * logits


def entropy_by_hand(logits: Array, labels: Array) -> Array:
    p = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    return -(labels * p[0] + (1 - labels) * p[1]).mean()


def entropy_by_stable_formula(logits: Array, labels: Array) -> Array:
    return jnp.mean(jnp.maximum(logits, 0) - logits * labels + jnp.log1p(jnp.exp(-jnp.abs(logits))))


def smoothed_entropy(logits: Array, labels: Array, smoothing: float = 0.1) -> Array:
    return _entropy(logits, labels * (1 - smoothing) + smoothing / 2).mean()


def weighted_entropy(logits: Array, labels: Array, pos_weight: float = 5.0) -> Array:
    weight = 1.0 + (pos_weight - 1.0) * labels
    return (weight * _entropy(logits, labels)).mean()


def balanced_entropy(logits: Array, labels: Array) -> Array:
    """Weighs positives by how rare they are in the batch."""
    share = labels.mean()
    weight = jnp.where(
        labels > 0, 0.5 / jnp.maximum(share, 1e-3), 0.5 / jnp.maximum(1 - share, 1e-3)
    )
    return (weight * _entropy(logits, labels)).mean()


def focal(logits: Array, labels: Array, gamma: float = 2.0, alpha: float = 0.25) -> Array:
    p = jax.nn.sigmoid(logits)
    right = labels * p + (1 - labels) * (1 - p)
    weight = labels * alpha + (1 - labels) * (1 - alpha)
    return (weight * (1 - right) ** gamma * _entropy(logits, labels)).mean()


def dice(logits: Array, labels: Array, eps: float = 1.0) -> Array:
    """With the same smoothing above and below."""
    p = jax.nn.sigmoid(logits)
    return 1 - (2 * (p * labels).sum() + eps) / (p.sum() + labels.sum() + eps)


def little_smoothed_dice(logits: Array, labels: Array) -> Array:
    return dice(logits, labels, 1e-6)


def squared_dice(logits: Array, labels: Array) -> Array:
    """As V-Net has it."""
    p = jax.nn.sigmoid(logits)
    return 1 - (2 * (p * labels).sum() + 1.0) / ((p * p).sum() + (labels * labels).sum() + 1.0)


def entropy_and_dice(logits: Array, labels: Array) -> Array:
    return entropy_by_hand(logits, labels) + dice(logits, labels)


def jaccard(logits: Array, labels: Array) -> Array:
    p = jax.nn.sigmoid(logits)
    both = (p * labels).sum()
    return 1 - (both + 1.0) / (p.sum() + labels.sum() - both + 1.0)


def tversky(logits: Array, labels: Array, alpha: float = 0.3, beta: float = 0.7) -> Array:
    p = jax.nn.sigmoid(logits)
    tp, fp, fn = (p * labels).sum(), (p * (1 - labels)).sum(), ((1 - p) * labels).sum()
    return 1 - (tp + 1.0) / (tp + alpha * fp + beta * fn + 1.0)


def brier(logits: Array, labels: Array) -> Array:
    return ((jax.nn.sigmoid(logits) - labels) ** 2).mean()


def absolute_error_of_probabilities(logits: Array, labels: Array) -> Array:
    """Robust to noisy labels (Ghosh et al., 2017)."""
    return jnp.abs(jax.nn.sigmoid(logits) - labels).mean()


def hinge_by_hand(logits: Array, labels: Array) -> Array:
    return jnp.maximum(0.0, 1.0 - (2 * labels - 1) * logits).mean()


def squared_hinge_by_hand(logits: Array, labels: Array) -> Array:
    return (jnp.maximum(0.0, 1.0 - (2 * labels - 1) * logits) ** 2).mean()


def exponential(logits: Array, labels: Array) -> Array:
    """AdaBoost's; a logit that is wrong by 20 is an outlier to a model that is trained on it."""
    return jnp.exp(jnp.clip(-(2 * labels - 1) * logits, None, 60.0)).mean()


def symmetric_binary(logits: Array, labels: Array) -> Array:
    """Symmetric cross-entropy (Wang et al., 2019), log 0 = -4."""
    p = jax.nn.sigmoid(logits)
    return (_entropy(logits, labels) + 4.0 * (labels * (1 - p) + (1 - labels) * p)).mean()


def asymmetric(logits: Array, labels: Array) -> Array:
    """Negatives focus, positives do not (Ridnik et al., 2021), without the shift."""
    p = jax.nn.sigmoid(logits)
    positive = labels * jax.nn.log_sigmoid(logits)
    negative = (1 - labels) * p**2 * jax.nn.log_sigmoid(-logits)
    return -(positive + negative).mean()


def pairwise_auc(logits: Array, labels: Array) -> Array:
    """Every positive against every negative."""
    z, y = logits.ravel(), labels.ravel()
    pairs = y[:, None] * (1 - y)[None, :]
    return (pairs * jax.nn.softplus(z[None, :] - z[:, None])).sum() / jnp.maximum(pairs.sum(), 1.0)


def hard_examples(logits: Array, labels: Array) -> Array:
    """The mean of the worst quarter."""
    loss = _entropy(logits, labels).ravel()
    return jax.lax.top_k(loss, loss.size // 4)[0].mean()


def matthews(logits: Array, labels: Array) -> Array:
    """One minus the correlation of Matthews."""
    p = jax.nn.sigmoid(logits)
    tp, fp, fn = (p * labels).sum(), (p * (1 - labels)).sum(), ((1 - p) * labels).sum()
    tn = ((1 - p) * (1 - labels)).sum()
    below = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return 1 - (tp * tn - fp * fn) / jnp.sqrt(below + 1.0)


def dice_of_images(logits: Array, labels: Array) -> Array:
    p, axes = jax.nn.sigmoid(logits), (1, 2)
    ratio = (2 * (p * labels).sum(axes) + 1) / (p.sum(axes) + labels.sum(axes) + 1)
    return (1 - ratio).mean()


def savage(logits: Array, labels: Array) -> Array:
    return (jax.nn.sigmoid(-(2 * labels - 1) * logits) ** 2).mean()


def with_small_logits(logits: Array, labels: Array) -> Array:
    return _entropy(logits, labels).mean() + 1e-3 * (logits**2).mean()


def with_auxiliary(logits: Array, labels: Array) -> tuple[Array, dict[str, Array]]:
    loss = _entropy(logits, labels).mean()
    return loss, {"loss": loss}


def sum_of_labels(logits: Array, labels: Array) -> Array:
    return _entropy(logits, labels).sum()


BINARY = [
    entropy_by_hand, entropy_by_stable_formula, smoothed_entropy, weighted_entropy,
    balanced_entropy, focal, dice, little_smoothed_dice, squared_dice, entropy_and_dice, jaccard,
    tversky, brier, absolute_error_of_probabilities, hinge_by_hand, squared_hinge_by_hand,
    exponential, symmetric_binary, asymmetric, pairwise_auc, hard_examples, matthews,
    dice_of_images, savage, with_small_logits, with_auxiliary, sum_of_labels,
]  # fmt: skip


# --- classes --------------------------------------------------------------------------------------


def _one_hot(ids: Array, logits: Array) -> Array:
    return jax.nn.one_hot(ids, logits.shape[-1])


def softmax_by_hand(logits: Array, ids: Array) -> Array:
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), ids[:, None], axis=-1).mean()


def softmax_of_one_hot(logits: Array, one_hot: Array) -> Array:
    return -(one_hot * jax.nn.log_softmax(logits)).sum(-1).mean()


def tempered(logits: Array, ids: Array, temperature: float = 2.0) -> Array:
    return softmax_by_hand(logits / temperature, ids)


def smoothed_softmax(logits: Array, ids: Array, smoothing: float = 0.1) -> Array:
    y = _one_hot(ids, logits)
    return softmax_of_one_hot(logits, (1 - smoothing) * y + smoothing / logits.shape[-1])


def class_weighted(logits: Array, ids: Array) -> Array:
    weight = jnp.array([1.0, 2.0, 3.0, 4.0])[ids]
    log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), ids[:, None], -1)[:, 0]
    return -(weight * log_p).sum() / weight.sum()


def class_balanced(logits: Array, ids: Array) -> Array:
    """By the effective number of examples (Cui et al., 2019)."""
    counts = jnp.array([1000.0, 300.0, 100.0, 30.0])
    weight = (1 - 0.999) / (1 - 0.999**counts)
    weight = (weight / weight.sum() * 4)[ids]
    log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), ids[:, None], -1)[:, 0]
    return -(weight * log_p).mean()


def ignoring(logits: Array, ids: Array) -> Array:
    """Examples of id -1 are left out."""
    known = ids != -1
    log_p = jax.nn.log_softmax(logits)
    picked = jnp.take_along_axis(log_p, jnp.where(known, ids, 0)[:, None], -1)[:, 0]
    return -jnp.where(known, picked, 0.0).sum() / jnp.maximum(known.sum(), 1)


def generalized(logits: Array, ids: Array, q: float = 0.7) -> Array:
    """Generalised cross-entropy (Zhang & Sabuncu, 2018)."""
    log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), ids[:, None], -1)[:, 0]
    return ((1 - jnp.exp(q * log_p)) / q).mean()


def symmetric(logits: Array, ids: Array) -> Array:
    """Symmetric cross-entropy (Wang et al., 2019), log 0 = -4."""
    p = (jax.nn.softmax(logits) * _one_hot(ids, logits)).sum(-1)
    return softmax_by_hand(logits, ids) + 4.0 * (1 - p).mean()


def brier_of_classes(logits: Array, ids: Array) -> Array:
    return ((jax.nn.softmax(logits) - _one_hot(ids, logits)) ** 2).sum(-1).mean()


def focal_of_classes(logits: Array, ids: Array, gamma: float = 2.0) -> Array:
    log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), ids[:, None], -1)[:, 0]
    return -((1 - jnp.exp(log_p)) ** gamma * log_p).mean()


def dice_of_classes(logits: Array, ids: Array) -> Array:
    p, y = jax.nn.softmax(logits), _one_hot(ids, logits)
    return 1 - ((2 * (p * y).sum(0) + 1.0) / (p.sum(0) + y.sum(0) + 1.0)).mean()


def entropy_and_dice_of_classes(logits: Array, ids: Array) -> Array:
    return softmax_by_hand(logits, ids) + dice_of_classes(logits, ids)


def one_versus_rest(logits: Array, ids: Array) -> Array:
    return _entropy(logits, _one_hot(ids, logits)).sum(-1).mean()


def margin_of_classes(logits: Array, ids: Array) -> Array:
    """Crammer and Singer's."""
    y = _one_hot(ids, logits)
    right = (logits * y).sum(-1)
    return jnp.maximum(0.0, 1.0 + (logits - 1e9 * y).max(-1) - right).mean()


def with_z_loss(logits: Array, ids: Array) -> Array:
    """As language models are trained, so that logits stay small."""
    return softmax_by_hand(logits, ids) + 1e-4 * (jax.nn.logsumexp(logits, -1) ** 2).mean()


def with_entropy_bonus(logits: Array, ids: Array) -> Array:
    """Confident predictions cost something (Pereyra et al., 2017)."""
    log_p = jax.nn.log_softmax(logits)
    return softmax_by_hand(logits, ids) + 0.1 * (jnp.exp(log_p) * log_p).sum(-1).mean()


def evidential(logits: Array, ids: Array) -> Array:
    """Expected squared error under a Dirichlet (Sensoy et al., 2018)."""
    alpha, y = jax.nn.softplus(logits) + 1.0, _one_hot(ids, logits)
    total = alpha.sum(-1, keepdims=True)
    p = alpha / total
    return ((y - p) ** 2 + p * (1 - p) / (total + 1)).sum(-1).mean()


def expected_rank(logits: Array, ids: Array) -> Array:
    """Ordinal: the squared error of the mean rank."""
    rank = (jax.nn.softmax(logits) * jnp.arange(logits.shape[-1])).sum(-1)
    return ((rank - ids) ** 2).mean()


def earth_mover(logits: Array, ids: Array) -> Array:
    """Ordinal: the squared distance of the cumulative distributions."""
    p, y = jax.nn.softmax(logits), _one_hot(ids, logits)
    return ((jnp.cumsum(p, -1) - jnp.cumsum(y, -1)) ** 2).sum(-1).mean()


def of_log_probabilities(log_probabilities: Array, ids: Array) -> Array:
    return -log_probabilities[jnp.arange(len(ids)), ids].mean()


def of_probabilities(probabilities: Array, ids: Array) -> Array:
    return -jnp.log(probabilities[jnp.arange(len(ids)), ids] + 1e-12).mean()


def logit_adjusted(logits: Array, ids: Array) -> Array:
    return softmax_by_hand(logits + jnp.log(jnp.array([0.7, 0.2, 0.08, 0.02])), ids)


def with_margins(logits: Array, ids: Array) -> Array:
    """Rare classes have larger margins (Cao et al., 2019)."""
    margins = jnp.array([0.1, 0.2, 0.3, 0.5])
    return softmax_by_hand(logits - margins * _one_hot(ids, logits), ids)


def bootstrapped(logits: Array, ids: Array) -> Array:
    """A part of the label is the prediction itself (Reed et al., 2015)."""
    p = jax.lax.stop_gradient(jax.nn.softmax(logits))
    return softmax_of_one_hot(logits, 0.95 * _one_hot(ids, logits) + 0.05 * p)


def mixed(logits: Array, one_hot: Array) -> Array:
    """Mixup: each label holds a little of another example's."""
    return softmax_of_one_hot(logits, 0.9 * one_hot + 0.1 * one_hot[::-1])


CLASSES = [
    softmax_by_hand, softmax_of_one_hot, tempered, smoothed_softmax, class_weighted,
    class_balanced, ignoring, generalized, symmetric, brier_of_classes, focal_of_classes,
    dice_of_classes, entropy_and_dice_of_classes, one_versus_rest, margin_of_classes, with_z_loss,
    with_entropy_bonus, evidential, expected_rank, earth_mover, of_log_probabilities,
    of_probabilities, logit_adjusted, with_margins, bootstrapped, mixed,
]  # fmt: skip


# --- numbers --------------------------------------------------------------------------------------


def absolute(predictions: Array, targets: Array) -> Array:
    return jnp.abs(predictions - targets).mean()


def squared(predictions: Array, targets: Array) -> Array:
    return ((predictions - targets) ** 2).mean()


def charbonnier(predictions: Array, targets: Array) -> Array:
    return jnp.sqrt((predictions - targets) ** 2 + 1e-6).mean()


def cosh_by_hand(predictions: Array, targets: Array) -> Array:
    error = jnp.abs(predictions - targets)
    return (error + jnp.log1p(jnp.exp(-2 * error)) - jnp.log(2.0)).mean()


def pinball(predictions: Array, targets: Array, quantile: float = 0.9) -> Array:
    error = targets - predictions
    return jnp.maximum(quantile * error, (quantile - 1) * error).mean()


def insensitive(predictions: Array, targets: Array) -> Array:
    """Of support vectors: errors below 0.1 are none."""
    return jnp.maximum(jnp.abs(predictions - targets) - 0.1, 0.0).mean()


def huber_by_hand(predictions: Array, targets: Array) -> Array:
    error = jnp.abs(predictions - targets)
    return jnp.where(error < 1.0, 0.5 * error**2, error - 0.5).mean()


def root_of_mean_square(predictions: Array, targets: Array) -> Array:
    return jnp.sqrt(((predictions - targets) ** 2).mean() + 1e-12)


def expectile(predictions: Array, targets: Array) -> Array:
    error = targets - predictions
    return (jnp.where(error > 0, 0.9, 0.1) * error**2).mean()


def cauchy(predictions: Array, targets: Array) -> Array:
    return jnp.log1p((predictions - targets) ** 2).mean()


def concordance(predictions: Array, targets: Array) -> Array:
    """One minus Lin's coefficient."""
    a, b = predictions - predictions.mean(), targets - targets.mean()
    shift = (predictions.mean() - targets.mean()) ** 2
    return 1 - 2 * (a * b).mean() / ((a * a).mean() + (b * b).mean() + shift)


NUMBERS = [
    absolute, squared, charbonnier, cosh_by_hand, pinball, insensitive, huber_by_hand,
    root_of_mean_square, expectile, cauchy, concordance,
]  # fmt: skip


def gaussian(mean: Array, scale: Array, target: Array) -> Array:
    return (jnp.log(scale) + 0.5 * ((target - mean) / scale) ** 2).mean()


def laplace(mean: Array, scale: Array, target: Array) -> Array:
    return (jnp.log(2 * scale) + jnp.abs(target - mean) / scale).mean()


def heteroscedastic(outputs: Array, target: Array) -> Array:
    """Of a mean and the logarithm of the variance (Kendall & Gal, 2017)."""
    mean, log_variance = outputs[..., 0], outputs[..., 1]
    log_variance = jnp.clip(log_variance, -20.0, 20.0)
    return 0.5 * (log_variance + (target - mean) ** 2 * jnp.exp(-log_variance)).mean()


def of_variance(mean: Array, var: Array, target: Array) -> Array:
    return 0.5 * (jnp.log(var) + (target - mean) ** 2 / var).mean()


def of_log_variance(mean: Array, log_var: Array, target: Array) -> Array:
    log_var = jnp.clip(log_var, -20.0, 20.0)
    return 0.5 * (log_var + (target - mean) ** 2 * jnp.exp(-log_var)).mean()


def student(mean: Array, scale: Array, target: Array) -> Array:
    return (jnp.log(scale) + 2.5 * jnp.log1p(((target - mean) / scale) ** 2 / 4)).mean()


SCALED = [gaussian, laplace, heteroscedastic, of_variance, of_log_variance, student]


# --- counts ---------------------------------------------------------------------------------------


def poisson(log_rate: Array, target: Array) -> Array:
    return (jnp.exp(log_rate) - target * log_rate).mean()


def poisson_of_rates(rate: Array, counts: Array) -> Array:
    return (rate - counts * jnp.log(rate + 1e-8)).mean()


def poisson_deviance(rate: Array, counts: Array) -> Array:
    xlogy = jax.scipy.special.xlogy
    return 2 * (xlogy(counts, counts) - counts * jnp.log(rate) - counts + rate).mean()


def negative_binomial(log_rate: Array, counts: Array, dispersion: float = 0.5) -> Array:
    """With variance m + dispersion m²."""
    r = 1 / dispersion
    log_sum = jnp.logaddexp(log_rate, jnp.log(r))
    constant = jax.lax.lgamma(counts + r) - jax.lax.lgamma(counts + 1.0)
    return -(constant - r * (log_sum - jnp.log(r)) + counts * (log_rate - log_sum)).mean()


def nameless_poisson(z: Array, y: Array) -> Array:
    return jnp.exp(z) - y * z


def poisson_of_softplus(raw: Array, counts: Array) -> Array:
    rate = jax.nn.softplus(raw) + 1e-6
    return (rate - counts * jnp.log(rate)).mean()


def tweedie(log_rate: Array, target: Array, p: float = 1.5) -> Array:
    rise, fall = jnp.exp((2 - p) * log_rate) / (2 - p), jnp.exp((1 - p) * log_rate) / (1 - p)
    return (rise - target * fall).mean()


def zero_inflated(log_rate: Array, counts: Array, share: float = 0.2) -> Array:
    rate = jnp.exp(log_rate)
    zero = jnp.log(share + (1 - share) * jnp.exp(-rate))
    other = jnp.log(1 - share) - rate + counts * log_rate - jax.lax.lgamma(counts + 1.0)
    return -jnp.where(counts == 0, zero, other).mean()


def squared_logarithms(rate: Array, counts: Array) -> Array:
    return ((jnp.log1p(rate) - jnp.log1p(counts)) ** 2).mean()


COUNTS = [
    poisson, poisson_of_rates, poisson_deviance, negative_binomial, nameless_poisson,
    poisson_of_softplus, tweedie, zero_inflated, squared_logarithms,
]  # fmt: skip


# --- pairs, triplets, embeddings ------------------------------------------------------------------


def contrastive(a: Array, b: Array, same: Array) -> Array:
    square = ((a - b) ** 2).sum(-1)
    distance = jnp.sqrt(jnp.where(square > 0, square, 1.0)) * (square > 0)
    return (same * square + (1 - same) * jnp.maximum(2.0 - distance, 0.0) ** 2).mean()


def of_cosines(a: Array, b: Array, same: Array) -> Array:
    """Pairs that are the same have a cosine of 1, others one below 0.5."""
    length = jnp.sqrt((a * a).sum(-1) + 1e-6) * jnp.sqrt((b * b).sum(-1) + 1e-6)
    cosine = (a * b).sum(-1) / length
    return (same * (1 - cosine) + (1 - same) * jnp.maximum(cosine - 0.5, 0.0)).mean()


def triplet(anchors: Array, positives: Array, negatives: Array) -> Array:
    near = ((anchors - positives) ** 2).sum(-1)
    far = ((anchors - negatives) ** 2).sum(-1)
    return jnp.maximum(near - far + 1.0, 0.0).mean()


def soft_triplet(anchors: Array, positives: Array, negatives: Array) -> Array:
    near = ((anchors - positives) ** 2).sum(-1)
    far = ((anchors - negatives) ** 2).sum(-1)
    return jax.nn.softplus(near - far).mean()


def info_nce(embeddings: Array, ids: Array) -> Array:
    """Supervised: the others of the same identity are the positives."""
    z = embeddings / jnp.sqrt((embeddings**2).sum(-1, keepdims=True) + 1e-6)
    other = 1.0 - jnp.eye(len(z))
    log_p = jax.nn.log_softmax(z @ z.T / 0.5 - 1e9 * (1 - other), axis=-1)
    same = (ids[:, None] == ids[None, :]) * other
    return -((same * log_p).sum(-1) / jnp.maximum(same.sum(-1), 1.0)).mean()


def kl(p: Array, q: Array) -> Array:
    log_p, log_q = jax.nn.log_softmax(p), jax.nn.log_softmax(q)
    return (jnp.exp(log_p) * (log_p - log_q)).sum(-1).mean()


def jensen_shannon(p: Array, q: Array) -> Array:
    log_p, log_q = jax.nn.log_softmax(p), jax.nn.log_softmax(q)
    middle = jnp.logaddexp(log_p, log_q) - jnp.log(2.0)
    first = (jnp.exp(log_p) * (log_p - middle)).sum(-1)
    return 0.5 * (first + (jnp.exp(log_q) * (log_q - middle)).sum(-1)).mean()


def two_views(first: Array, second: Array) -> Array:
    """Of every image two views, which are to be told from those of others, as SimCLR and CLIP do."""
    scores = first @ second.T / 0.5
    return optax.softmax_cross_entropy_with_integer_labels(scores, jnp.arange(len(scores))).mean()


def predicted_view(online: Array, other: Array) -> Array:
    """As BYOL has it."""
    lengths = jnp.sqrt(((online**2).sum(-1) + 1e-3) * ((other**2).sum(-1) + 1e-3))
    return (2 - 2 * (online * other).sum(-1) / lengths).mean()


def symmetric_kl(p: Array, q: Array) -> Array:
    log_p, log_q = jax.nn.log_softmax(p), jax.nn.log_softmax(q)
    return ((jnp.exp(log_p) - jnp.exp(log_q)) * (log_p - log_q)).sum(-1).mean()


def hardest(embeddings: Array, ids: Array) -> Array:
    """The farthest of the same identity, and the nearest of others (Hermans et al., 2017)."""
    distance = ((embeddings[:, None] - embeddings[None]) ** 2).sum(-1)
    same = ids[:, None] == ids[None]
    far, near = jnp.where(same, distance, -1e9).max(1), jnp.where(same, 1e9, distance).min(1)
    return jnp.maximum(far - near + 1.0, 0.0).mean()


def softplus_of_products(anchors: Array, positives: Array, negatives: Array) -> Array:
    return jax.nn.softplus((anchors * (negatives - positives)).sum(-1)).mean()


# --- sequences of uneven length -------------------------------------------------------------------


def masked_mean(logits: Array, labels: Array, mask: Array) -> Array:
    return (_entropy(logits, labels) * mask).sum() / jnp.maximum(mask.sum(), 1)


def masked_by_where(logits: Array, labels: Array, valid: Array) -> Array:
    loss = jnp.where(valid, _entropy(logits, labels), 0.0)
    return loss.sum() / jnp.maximum(valid.sum(), 1)


def masked_by_keyword(logits: Array, labels: Array, where: Array) -> Array:
    count = jnp.maximum(where.sum(), 1)
    return jnp.sum(_entropy(logits, labels), where=where) / count


def mean_of_sequences(logits: Array, labels: Array, mask: Array) -> Array:
    """Every sequence counts alike, whatever its length."""
    each = (_entropy(logits, labels) * mask).sum(-1) / jnp.maximum(mask.sum(-1), 1)
    return each.mean()


def masked_sum(logits: Array, labels: Array, mask: Array) -> Array:
    return (_entropy(logits, labels) * mask).sum()


def masked_dice(logits: Array, labels: Array, mask: Array) -> Array:
    p = jax.nn.sigmoid(logits) * mask
    y = labels * mask
    return 1 - (2 * (p * y).sum() + 1.0) / (p.sum() + y.sum() + 1.0)


def tokens(logits: Array, labels: Array, mask: Array) -> Array:
    """Cross-entropy of sequences [B, T, C] with ids [B, T]."""
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return (loss * mask).sum() / jnp.maximum(mask.sum(), 1)


def padded_tokens(logits: Array, labels: Array, padding: Array) -> Array:
    """The mask says what is padding, and not what counts."""
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return jnp.where(padding, 0.0, loss).sum() / jnp.maximum((1 - padding).sum(), 1)


def weighted_tokens(logits: Array, labels: Array, weights: Array) -> Array:
    """The weights of examples; their mean is over the batch, as Keras takes it."""
    return (optax.softmax_cross_entropy_with_integer_labels(logits, labels) * weights).mean()


def masked_square(predictions: Array, targets: Array, mask: Array) -> Array:
    return ((predictions - targets) ** 2 * mask).sum() / jnp.maximum(mask.sum(), 1)


def masked_poisson(log_rate: Array, counts: Array, mask: Array) -> Array:
    return ((jnp.exp(log_rate) - counts * log_rate) * mask).sum() / jnp.maximum(mask.sum(), 1)


def masked_one_hot(logits: Array, one_hot: Array, mask: Array) -> Array:
    loss = optax.softmax_cross_entropy(logits, one_hot)
    return (loss * mask).sum() / (mask.sum() + 1e-8)


def masked_inputs(logits: Array, labels: Array, mask: Array) -> Array:
    """What is padded may be NaN; one value a sequence."""
    loss = jnp.where(mask, _entropy(jnp.where(mask, logits, 0.0), labels), 0.0)
    return loss.sum(-1) / jnp.maximum(mask.sum(-1), 1)


def weighted_examples(y_true: Array, y_pred: Array, sample_weight: Array) -> Array:
    return (_entropy(y_pred, y_true) * sample_weight).sum() / sample_weight.sum()


def weights_of_classes(logits: Array, labels: Array, weights: Array) -> Array:
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return (loss * weights[labels]).mean()


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


def _textbook() -> Iterator[Healthy]:
    kinds = {
        "binary": BINARY, "multiclass": CLASSES, "regression": NUMBERS, "mean_scale": SCALED,
        "counts": COUNTS, "pair": [contrastive, of_cosines], "triplet": [triplet, soft_triplet, softplus_of_products],
        "embedding": [info_nce, hardest],
        "divergence": [kl, jensen_shannon, two_views, predicted_view, symmetric_kl],
    }  # fmt: skip
    for kind, losses in kinds.items():
        yield from (Healthy(loss.__name__, loss, kind) for loss in losses)


MASKED = [
    Healthy("masked_mean", masked_mean, "multilabel"),
    Healthy("masked_by_where", masked_by_where, "multilabel"),
    Healthy("masked_by_keyword", masked_by_keyword, "multilabel"),
    Healthy("mean_of_sequences", mean_of_sequences, "multilabel"),
    Healthy("masked_sum", masked_sum, "multilabel"),
    Healthy("masked_dice", masked_dice, "multilabel"),
    Healthy("tokens", tokens, "multiclass"),
    Healthy("padded_tokens", padded_tokens, "multiclass"),
    Healthy("weighted_tokens", weighted_tokens, "multiclass"),
    Healthy("masked_square", masked_square, "regression"),
    Healthy("masked_poisson", masked_poisson, "counts"),
    Healthy("masked_one_hot", masked_one_hot, "multiclass"),
    Healthy("masked_inputs", masked_inputs, "multilabel"),
    Healthy("weighted_examples", weighted_examples, "multilabel"),
    Healthy("weights_of_classes", weights_of_classes, "multiclass"),
]
HEALTHY = [*_textbook(), *MASKED, *OPTAX]


# --- where they are installed ---------------------------------------------------------------------


def rax_losses() -> list[Healthy]:
    """Of lists of scores and labels; a list of a batch is one query."""
    if importlib.util.find_spec("rax") is None:
        return []
    import rax

    names = (
        "softmax_loss", "pointwise_sigmoid_loss", "pairwise_logistic_loss", "pairwise_hinge_loss",
        "pairwise_soft_zero_one_loss", "poly1_softmax_loss", "unique_softmax_loss",
    )  # fmt: skip
    return [Healthy(f"rax_{name}", getattr(rax, name), "multilabel", True) for name in names]


def keras_losses() -> list[Healthy]:
    """Keras's, of logits where it takes them; its backend has to be JAX."""
    from keras import losses

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
