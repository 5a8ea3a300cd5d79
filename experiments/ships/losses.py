"""The losses by name, each ``f(logits, labels) -> scalar`` for one batch of crops [B, H, W].

Every one is optimised with the same Adam, whose steps do not depend on a loss's scale, so they can
be compared at one learning rate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

import diffmetrics as dm

Loss = Callable[[jax.Array, jax.Array], jax.Array]

# Half the odds of a background pixel in the training crops, which are 56 to 1: at the full odds a
# false alarm costs a 56th of a miss.
POSITIVE_WEIGHT = 30.0
# Of a small boat. So many are taken as found in every crop, so that one without ships teaches too.
FOUND_PIXELS = dm.Counts(tp=20.0)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean binary cross-entropy."""
    return dm.sigmoid_cross_entropy(logits, labels).mean()


def class_weighted(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropy with the weight where it belongs: on the ships."""
    weighted = dm.weighted_sigmoid_cross_entropy(logits, labels, positive_weight=POSITIVE_WEIGHT)
    return weighted.mean()


def focal(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Focal loss with the constants of the paper (Lin et al., 2017, arXiv:1708.02002)."""
    return dm.sigmoid_focal_loss(logits, labels, alpha=0.25, gamma=2.0).mean()


def soft_f2(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Soft F2, since the challenge weighs recall so."""
    return dm.fbeta_loss(logits, labels, beta=2.0)


def tversky(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Tversky with the weights of the paper: a miss costs more than a false alarm."""
    return dm.tversky_loss(logits, labels, fp_weight=0.3, fn_weight=0.7)


def cross_entropy_and_dice(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The sum that most challenge solutions used."""
    return cross_entropy(logits, labels) + dm.dice_loss(logits, labels)


def cross_entropy_and_dice_per_crop(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Dice of each crop: a boat of 50 pixels weighs as much as a tanker of 5000.

    Dice of a batch, or of all pixels, is a matter of its largest ships alone.
    """
    dice = dm.dice_loss(logits, labels, axis=(1, 2), prior=FOUND_PIXELS)
    return cross_entropy(logits, labels) + dice.mean()


# --- the question's own three, as they were asked -------------------------------------------------
# Kaggle's challenge, as it was asked on Stack Overflow: a Keras U-Net whose masks became all zeros.
# Masks had a channel axis of size one, and Keras means what is left over all pixels.


def _keras_cross_entropy(probability: jax.Array, labels: jax.Array) -> jax.Array:
    """What `K.binary_crossentropy` computes of probabilities, clipping included."""
    p = jnp.clip(probability, 1e-7, 1.0 - 1e-7)
    return -(labels * jnp.log(p) + (1.0 - labels) * jnp.log(1.0 - p))


def asked_iou(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """IoU summed over the last axis, which has size one: every pixel is its own ratio.

    A background pixel's intersection is 0, so its loss is 1 whatever is predicted, and nothing
    ever opposes a false alarm. (Where a probability underflows to 0 it is 0/0, as it was asked.)
    """
    p, y = jax.nn.sigmoid(logits)[..., None], labels[..., None]
    intersection = jnp.sum(y * p, axis=-1)
    both = jnp.sum(y + p, axis=-1)
    return jnp.mean(1.0 - intersection / (both - intersection))


def asked_focal(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Focal loss with gamma 8: once a pixel is on the right side of ½ its gradient is gone.

    At probability 0.3 of a ship, a background pixel weighs 0.3⁸ = 0.00007.
    """
    p = jax.nn.sigmoid(logits)
    t1 = _keras_cross_entropy(p, labels)
    return jnp.mean(jnp.where(labels == 0, t1 * p**8, t1 * (1.0 - p) ** 8))


def asked_weighted(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Asked for as "1000 times heavier" on ships, but the weight sits on the background."""
    t1 = _keras_cross_entropy(jax.nn.sigmoid(logits), labels)
    return jnp.mean(jnp.where(labels == 0, t1 * 1000.0, t1))


# To add one: a function of logits and labels above, and a line here.
LOSSES: dict[str, Loss] = {
    "cross-entropy": cross_entropy,
    "class-weighted": class_weighted,
    "focal": focal,
    "jaccard": dm.jaccard_loss,
    "dice": dm.dice_loss,
    "soft-f2": soft_f2,
    "tversky": tversky,
    "lovasz": dm.lovasz_hinge_loss,
    "cross-entropy+dice": cross_entropy_and_dice,
    "cross-entropy+dice-per-crop": cross_entropy_and_dice_per_crop,
    "asked-iou": asked_iou,
    "asked-focal": asked_focal,
    "asked-weighted": asked_weighted,
}
ASKED = ("asked-iou", "asked-focal", "asked-weighted")
# Those for which a label is ship or not, and no share of ship.
DECISIONS = ("lovasz", *ASKED)


def at_all_scales(loss: Loss, scales: Sequence[jax.Array], mask: jax.Array) -> jax.Array:
    """The loss of logits, and of coarser ones against the shares of ship in their squares.

    Args:
      loss: of one scale.
      scales: logits [B, H, W], then those of squares of pixels, ever larger.
      mask: boolean [B, H, W].
    """
    total = jnp.zeros(())
    for level, logits in enumerate(scales):
        edge = mask.shape[1] // logits.shape[1]
        squares = mask.reshape(-1, logits.shape[1], edge, logits.shape[2], edge)
        total += 0.5**level * loss(logits, squares.mean((2, 4), dtype=jnp.float32))
    return total
