"""What a trained model is worth on the test part: its ranking, and at three decisions."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import diffmetrics as dm
from experiments.tabular.data import Table
from experiments.tabular.losses import RATE, Loss
from experiments.tabular.splits import Splits


class Fitted(NamedTuple):
    """The chosen model of every split, as logits; and how it was chosen."""

    validation: jax.Array
    """[splits, validation, L]"""
    test: jax.Array
    """[splits, test, L]"""
    average_precision: jax.Array
    """On validation data, [splits]; -inf if the loss was never finite."""
    steps: jax.Array
    learning_rate: jax.Array


def judge(loss: Loss, table: Table, splits: Splits, fitted: Fitted) -> dict[str, np.ndarray]:
    """Each figure for each split [splits]; NaN where the loss was never finite.

    With several labels, figures are means over labels, but for micro-F1, whose counts are those of
    all labels, with one threshold for all of them. After prior correction only models are judged
    whose outputs have a prior to correct.
    """
    y = table.labels
    figures = _figures(
        loss.prior == "one half",
        fitted.validation,
        y[splits.validation],
        fitted.test,
        y[splits.test],
        splits.weights,
        y[splits.train].mean(1),
    )
    trained = np.isfinite(fitted.average_precision)
    return {name: np.where(trained, values, np.nan) for name, values in figures.items()}


@partial(jax.jit, static_argnums=0)
@partial(jax.vmap, in_axes=(None, 0, 0, 0, 0, 0, 0))
def _figures(
    balanced: bool,
    validation: jax.Array,
    validation_labels: jax.Array,
    test: jax.Array,
    labels: jax.Array,
    weights: jax.Array,
    prevalence: jax.Array,
) -> dict[str, jax.Array]:
    """Figures of one split; thresholds are those of the best F on its validation part."""
    curve = dm.curve(test, labels, axis=0, weights=weights)
    figures = {
        "average_precision": dm.average_precision(curve).mean(),
        "roc_auc": dm.roc_auc(curve).mean(),
        "precision_at_recall": dm.precision_at_recall(curve, recall=RATE).value.mean(),
        "recall_at_precision": dm.recall_at_precision(curve, precision=RATE).value.mean(),
        "log_loss": _log_loss(test, labels, weights),
    }

    def decide(name: str, predicted: jax.Array, beta: float) -> None:
        counted = dm.counts(predicted, labels, axis=0, weights=weights)
        figures[f"f{beta:.0f}_{name}"] = dm.fbeta(counted, beta=beta).mean()

    def decide_micro(name: str, predicted: jax.Array) -> None:
        figures[f"micro_f1_{name}"] = dm.fbeta(dm.counts(predicted, labels, weights=weights))

    for beta in (1.0, 2.0):
        decide("half", test > 0, beta)
        best = dm.fit_threshold(validation, validation_labels, score=dm.fbeta, axis=0, beta=beta)
        decide("tuned", test >= best.threshold[None], beta)
    decide_micro("half", test > 0)
    best = dm.fit_threshold(validation, validation_labels, score=dm.fbeta)
    decide_micro("tuned", test >= best.threshold)
    if balanced:
        right = dm.correct_prior(test, trained_prior=0.5, true_prior=prevalence)
        figures["log_loss_corrected"] = _log_loss(right, labels, weights)
        for beta in (1.0, 2.0):
            decide("corrected", right > 0, beta)
        decide_micro("corrected", right > 0)
    return figures


def _log_loss(logits: jax.Array, labels: jax.Array, weights: jax.Array) -> jax.Array:
    """Mean cross-entropy, in nats: what a wrong probability costs."""
    loss = dm.sigmoid_cross_entropy(logits, labels)
    return jnp.sum(loss * weights) / jnp.sum(weights)
