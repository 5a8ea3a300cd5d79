"""What a trained model is worth on the test part: its ranking, and at three decisions."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import diffmetrics as dm
from experiments.tabular.data import Splits, Table
from experiments.tabular.fit import Fitted
from experiments.tabular.losses import RATE, Loss


def measure(loss: Loss, table: Table, splits: Splits, fitted: Fitted) -> dict[str, np.ndarray]:
    """Each figure for each split [splits]; NaN where the loss was never finite.

    With several labels, figures are means over labels, but for micro-F1, whose counts are those of
    all labels, with one threshold for all of them. After prior correction only models are judged
    whose outputs have a prior to correct.
    """
    y = table.labels
    found = _figures(
        loss.prior == "one half",
        fitted.validation,
        y[splits.validation],
        fitted.test,
        y[splits.test],
        splits.weights,
        y[splits.train].mean(1),
    )
    trained = np.isfinite(fitted.average_precision)
    return {name: np.where(trained, np.asarray(each), np.nan) for name, each in found.items()}


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


def difference(
    of: dict[str, Any], baseline: dict[str, Any], name: str, overlap: float
) -> tuple[float, float, float]:
    """Mean over splits of a figure less the baseline's on the same split, and two standard errors.

    The first error takes the splits for independent. They are not, as they share rows; the second
    allows for it.

    Args:
      of: figures of a loss [splits].
      baseline: those of the loss to compare with.
      name: of the figure.
      overlap: number of test rows for each row of training and validation.

    References:
      Nadeau and Bengio, Inference for the generalization error, Machine Learning 52, 2003.
    """
    change = np.asarray(of[name], float) - np.asarray(baseline[name], float)
    spread = change.std(ddof=1) if len(change) > 1 else np.nan
    splits = 1.0 / len(change)
    return (
        float(change.mean()),
        float(spread * np.sqrt(splits)),
        float(spread * np.sqrt(splits + overlap)),
    )
