"""Sound losses of numbers, counts, pairs and embeddings, and of sequences of uneven length."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

Array = jax.Array


def _entropy(logits: Array, labels: Array) -> Array:
    return jnp.logaddexp(0.0, logits) - labels * logits


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


def gamma_deviance(rate: Array, counts: Array) -> Array:
    """Of amounts above 0."""
    return (jnp.log(rate) - jnp.log(counts) + counts / rate - 1).mean()


COUNTS = [
    poisson, poisson_of_rates, poisson_deviance, negative_binomial, nameless_poisson,
    poisson_of_softplus, tweedie, zero_inflated, squared_logarithms,
    gamma_deviance,
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
    """Two views of an image are told from those of others, as SimCLR and CLIP do."""
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


PAIRS = [contrastive, of_cosines]
TRIPLETS = [triplet, soft_triplet, softplus_of_products]
EMBEDDINGS = [info_nce, hardest]
DIVERGENCES = [kl, jensen_shannon, two_views, predicted_view, symmetric_kl]


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


MASKED = {
    "multilabel": [
        masked_mean,
        masked_by_where,
        masked_by_keyword,
        mean_of_sequences,
        masked_sum,
        masked_dice,
        masked_inputs,
        weighted_examples,
    ],
    "multiclass": [
        tokens,
        padded_tokens,
        weighted_tokens,
        masked_one_hot,
        weights_of_classes,
    ],
    "regression": [
        masked_square,
    ],
    "counts": [
        masked_poisson,
    ],
}
