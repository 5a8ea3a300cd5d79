"""Sound losses of 0/1 labels and of classes, as textbooks and people write them."""

from __future__ import annotations

import jax
import jax.numpy as jnp

Array = jax.Array


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
