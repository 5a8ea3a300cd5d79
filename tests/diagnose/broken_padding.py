"""Losses of sequences that get their padding wrong, and of counts that get their rates wrong."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from tests.diagnose.broken_losses import Case

Array = jax.Array


def _entropy(logits: Array, labels: Array) -> Array:
    return jnp.logaddexp(0.0, logits) - labels * logits


# --- masks ----------------------------------------------------------------------------------------


def mean_over_padding(logits: Array, labels: Array, mask: Array) -> Array:
    return (_entropy(logits, labels) * mask).mean()


def mask_after_mean(logits: Array, labels: Array, mask: Array) -> Array:
    return (_entropy(logits, labels).mean() * mask).sum() / jnp.maximum(mask.sum(), 1)


def mask_of_sequences(logits: Array, labels: Array, mask: Array) -> Array:
    """A sequence is real if any of its tokens is."""
    return (_entropy(logits, labels).mean(-1) * mask.any(-1)).mean()


def inverted_mask(logits: Array, labels: Array, mask: Array) -> Array:
    ignored = 1.0 - mask
    return (_entropy(logits, labels) * ignored).sum() / jnp.maximum(ignored.sum(), 1)


def forgotten_mask(logits: Array, labels: Array, mask: Array) -> Array:
    return _entropy(logits, labels).mean() + 0.0 * mask.sum()


def masked_logits(logits: Array, labels: Array, mask: Array) -> Array:
    """A logit of 0 costs log 2."""
    return _entropy(logits * mask, labels).sum() / jnp.maximum(mask.sum(), 1)


def half_masked_dice(logits: Array, labels: Array, mask: Array) -> Array:
    """The predictions are masked, the labels are not."""
    p = jax.nn.sigmoid(logits) * mask
    return 1 - (2 * (p * labels).sum() + 1) / (p.sum() + labels.sum() + 1)


def empty_sequence(logits: Array, labels: Array, mask: Array) -> Array:
    return ((_entropy(logits, labels) * mask).sum(-1) / mask.sum(-1)).mean()


def empty_batch(logits: Array, labels: Array, mask: Array) -> Array:
    return (_entropy(logits, labels) * mask).sum() / mask.sum()


def late_mask_of_tokens(logits: Array, labels: Array, mask: Array) -> Array:
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return (loss.mean(-1, keepdims=True) * mask).sum() / jnp.maximum(mask.sum(), 1)


def weights_that_change_nothing(predictions: Array, targets: Array, weights: Array) -> Array:
    return ((predictions - targets) ** 2).mean() + 0.0 * weights.sum()


def selected_by_mask(logits: Array, labels: Array, mask: Array) -> Array:
    """Whose result has a shape that depends on the mask."""
    return _entropy(logits, labels)[mask].mean()


# --- counts ---------------------------------------------------------------------------------------


def likelihood_as_loss(log_rate: Array, counts: Array) -> Array:
    """It is to be minimised, and its sign was not turned."""
    return (counts * log_rate - jnp.exp(log_rate)).mean()


def no_second_term(log_rate: Array, counts: Array) -> Array:
    return (-counts * log_rate).mean()


def logarithm_of_no_counts(rate: Array, counts: Array) -> Array:
    return (counts * jnp.log(counts / rate) - counts + rate).mean()


def xlogy_of_a_ratio(rate: Array, counts: Array) -> Array:
    """The value is right at a count of 0, its slope is 0/0."""
    return (jax.scipy.special.xlogy(counts, counts / rate) - counts + rate).mean()


def clipped_rate(log_rate: Array, counts: Array) -> Array:
    z = jnp.clip(log_rate, -2.0, 2.0)
    return (jnp.exp(z) - counts * z).mean()


def squared_logarithms(rate: Array, counts: Array) -> Array:
    return ((jnp.log1p(rate) - jnp.log1p(counts)) ** 2).mean()


def logarithm_of_counts(log_rate: Array, counts: Array) -> Array:
    return (jnp.exp(log_rate) - jnp.log1p(counts) * log_rate).mean()


CASES = [
    Case(selected_by_mask, "jit", "cannot be compiled", "multilabel"),
    Case(inverted_mask, "padding", "the mask is inverted", "multilabel"),
    Case(mask_after_mean, "padding", "padding is learnt like real places", "multilabel"),
    Case(mask_of_sequences, "padding", "is not used", "multilabel"),
    Case(forgotten_mask, "padding", "is not used", "multilabel"),
    Case(masked_logits, "padding", "the mask multiplies the logits", "multilabel"),
    Case(logarithm_of_counts, "direction", "logarithms twice", "counts"),
    Case(half_masked_dice, "padding", "labels at padded places", "multilabel"),
    Case(empty_sequence, "padding", "nothing but padding makes", "multilabel"),
    Case(
        empty_batch, "padding", "a batch that is nothing but padding", "multilabel", status="note"
    ),
    Case(mean_over_padding, "padding", "its mean is over padding too", "multilabel", status="note"),
    Case(late_mask_of_tokens, "padding", "padding is learnt like real places", "multiclass"),
    Case(
        weights_that_change_nothing,
        "padding",
        "does not take an element out",
        "regression",
        status="note",
    ),
    Case(likelihood_as_loss, "direction", "pushes rates away", "counts"),
    Case(no_second_term, "direction", "pushes rates away", "counts"),
    Case(logarithm_of_no_counts, "finite", "a count of 0", "counts"),
    Case(xlogy_of_a_ratio, "finite", "a count of 0", "counts"),
    Case(clipped_rate, "alive", "a rate that is far off", "counts"),
    Case(squared_logarithms, "minimum", "not the mean of the counts", "counts", status="note"),
]
