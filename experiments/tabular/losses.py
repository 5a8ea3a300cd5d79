"""The losses by name: each a scalar of logits [n, L] and labels [n, L], L = 1 for two classes.

A loss of counts or ranks is computed for each label and averaged, unless its name says otherwise.
Every one is optimised with the same Adam, whose steps do not depend on a loss's scale. `asked-f2`
is the loss of a question on Stack Overflow, reproduced literally, errors included.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

import diffmetrics as dm

Value = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Loss:
    """How to train, and what the outputs mean afterwards."""

    value: Value
    """``(logits [n, L], labels [n, L], prevalence [L]) -> scalar``."""
    prior: Literal["true", "one half", None] = None
    """The share of positives for which the sigmoid of the output is a probability, if it is one.

    Only then does `correct_prior` mean anything; at the true prior it changes nothing. The outputs
    begin at probability ½ if it is one half, and else at the share of positives in the data.
    """
    from_half: bool = False
    """Begin at probability ½ although the loss trains for another prior."""
    oversampled: bool = False
    """Train on as many positives as negatives, each positive repeated."""
    labels: Literal["any", "one", "many"] = "any"
    """How many labels an example may have for the loss to mean something of its own."""


def elements(loss: Callable[..., jax.Array], **options: Any) -> Value:
    """The mean of a loss of one value per element."""
    return lambda z, y, _: loss(z, y, **options).mean()


def labels(loss: Callable[..., jax.Array], **options: Any) -> Value:
    """The mean over labels of a loss of sets."""
    return lambda z, y, _: loss(z, y, axis=0, **options).mean()


def both(first: Value, second: Value) -> Value:
    return lambda z, y, prevalence: first(z, y, prevalence) + second(z, y, prevalence)


def weighted(z: jax.Array, y: jax.Array, prevalence: jax.Array) -> jax.Array:
    """Cross-entropy in which both classes weigh the same: positives count by the odds."""
    odds = (1.0 - prevalence) / prevalence
    return dm.weighted_sigmoid_cross_entropy(z, y, positive_weight=odds).mean()


def logit_adjusted(z: jax.Array, y: jax.Array, prevalence: jax.Array) -> jax.Array:
    return dm.logit_adjusted_sigmoid_loss(z, y, prevalence=prevalence).mean()


def winkler(z: jax.Array, y: jax.Array, prevalence: jax.Array) -> jax.Array:
    """The proper score in which a forecast is measured against the base rate."""
    return dm.winkler_loss(z, y, center=prevalence).mean()


def asked_f2(z: jax.Array, y: jax.Array, _: jax.Array) -> jax.Array:
    """The F-beta of the question's answer, literally, for beta = 2: fp and fn have changed places.

    So it is F-beta of 1 / beta, which prefers precision where recall was asked for.
    """
    beta, p = 2.0, jax.nn.sigmoid(z)
    tp, fp, fn = ((part).sum(0) for part in (p * y, (1.0 - p) * y, p * (1.0 - y)))
    fbeta = (1 + beta**2) * tp / ((1 + beta**2) * tp + beta**2 * fn + fp + 1e-7)
    return 1.0 - jnp.clip(fbeta, 1e-7, 1.0 - 1e-7).mean()


cross_entropy = elements(dm.sigmoid_cross_entropy)
average_precision = labels(dm.average_precision_loss)
roc_auc = labels(dm.roc_auc_loss)
soft_f1 = labels(dm.fbeta_loss)

BASELINE = "cross-entropy"
RATE = 0.8  # the recall, and the precision, at which the other is trained for and reported
LOSSES: dict[str, Loss] = {
    BASELINE: Loss(cross_entropy, prior="true"),
    "cross-entropy-from-half": Loss(cross_entropy, prior="true", from_half=True),
    "winkler": Loss(winkler, prior="true"),
    "class-weighted": Loss(weighted, prior="one half"),
    "oversampled": Loss(cross_entropy, prior="one half", oversampled=True, labels="one"),
    "logit-adjusted": Loss(logit_adjusted, prior="one half"),
    "focal": Loss(elements(dm.sigmoid_focal_loss, alpha=0.25, gamma=2.0)),
    "asymmetric": Loss(elements(dm.asymmetric_loss)),
    "soft-f1": Loss(soft_f1),  # the same as dice
    "soft-f2": Loss(labels(dm.fbeta_loss, beta=2.0)),
    "asked-f2": Loss(asked_f2),
    "soft-f1-micro": Loss(lambda z, y, _: dm.fbeta_loss(z, y), labels="many"),
    "soft-f1-examples": Loss(lambda z, y, _: dm.fbeta_loss(z, y, axis=1).mean(), labels="many"),
    "jaccard": Loss(labels(dm.jaccard_loss)),
    "mcc": Loss(labels(dm.mcc_loss)),
    "cross-entropy+dice": Loss(both(cross_entropy, labels(dm.dice_loss))),
    "roc-auc": Loss(roc_auc),
    "partial-roc-auc": Loss(labels(dm.partial_roc_auc_loss, max_fpr=0.1)),
    "aucm": Loss(labels(dm.aucm_loss)),
    "average-precision": Loss(average_precision),
    "cross-entropy+roc-auc": Loss(both(cross_entropy, roc_auc)),
    "cross-entropy+average-precision": Loss(both(cross_entropy, average_precision)),
    "precision-at-recall": Loss(labels(dm.precision_at_recall_loss, target_recall=RATE)),
    "recall-at-precision": Loss(labels(dm.recall_at_precision_loss, target_precision=RATE)),
    "pr-auc": Loss(labels(dm.pr_auc_loss)),
}


@functools.cache
def at_prevalence(name: str, prevalence: float) -> Callable[..., jax.Array]:
    """The named loss as ``f(logits, labels)``, under its own name."""

    def loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
        return LOSSES[name].value(logits, labels, jnp.float32(prevalence))

    loss.__name__ = loss.__qualname__ = name
    return loss


def for_labels(names: Sequence[str], number: int) -> list[str]:
    """The losses of `names` that mean something of their own for so many labels."""
    return [
        name for name in names if LOSSES[name].labels in ("any", "many" if number > 1 else "one")
    ]
