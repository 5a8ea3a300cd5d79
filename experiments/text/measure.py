"""What logits are worth: three decisions, the ranking, and the probabilities.

A threshold is chosen on development texts and applied to test texts, never the same.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import diffmetrics as dm
from experiments.text.corpus import Parts
from experiments.text.losses import cost_matrix

POINTS = 200  # of a precision-recall curve that are kept
DECISIONS = {"at_half": "½", "at_tuned": "tuned", "at_bayes": "Bayes"}


def judge(
    logits: np.ndarray,
    labels: np.ndarray,
    parts: Sequence[Parts],
    miss: np.ndarray,
    alarm: np.ndarray,
    *,
    probabilities: bool = True,
) -> list[dict[str, Any]]:
    """All figures of R runs, each on its own texts.

    Args:
      logits: [R, n] of all n texts; 0 is where the model itself decides.
      labels: boolean [n].
      parts: of each run.
      miss: cost of a miss, for each run [R].
      alarm: cost of a false alarm, for each run [R].
      probabilities: whether a sigmoid of the logits is meant as a probability; if not, it is not
        compared with frequencies or costs.

    Returns:
      A dictionary of plain numbers for each run.
    """
    dev, test = (
        _gather(logits, labels, [getattr(part, name) for part in parts]) for name in ("dev", "test")
    )
    cost = jnp.stack([cost_matrix(m, a) for m, a in zip(miss, alarm, strict=True)])
    thresholds = {
        "at_half": np.zeros(len(parts)),
        "at_tuned": dm.fit_threshold(
            dev["logits"], dev["labels"], score=dm.fbeta, axis=-1, where=dev["where"]
        ).threshold,
        "at_bayes": jax.scipy.special.logit(dm.bayes_threshold(cost)),
    }
    curve = dm.curve(test["logits"], test["labels"], axis=-1, where=test["where"])
    columns: dict[str, Any] = {"average_precision": dm.average_precision(curve)}
    for when, threshold in thresholds.items():
        threshold = jnp.asarray(threshold, jnp.float32)
        tuned, tested = (
            dm.counts(
                part["logits"] > threshold[:, None], part["labels"], axis=-1, where=part["where"]
            )
            for part in (dev, test)
        )
        columns[when] = {
            "threshold": jax.nn.sigmoid(threshold),
            **_scores(tested, miss, alarm),
            "dev_f1": dm.fbeta(tuned),
        }
    columns = jax.tree.map(np.asarray, columns)
    runs = []
    for r, part in enumerate(parts):
        run = jax.tree.map(float, jax.tree.map(operator.itemgetter(r), columns))
        p, y = jax.nn.sigmoid(logits[r, part.test]), labels[part.test]
        run["calibration_error"] = float(dm.expected_calibration_error(p, y))
        bins = dm.reliability_bins(p, y)
        # As sums, which add up over runs.
        run["reliability"] = {
            "texts": bins.examples,
            "probability": bins.examples * bins.confidence,
            "rare": bins.examples * bins.accuracy,
        }
        if not probabilities:
            run["calibration_error"] = np.nan
            run["at_bayes"] = dict.fromkeys(run["at_bayes"], np.nan)
        run["curve"] = _thin(curve, r) if r == 0 else None
        runs.append(run)
    return runs


def _gather(
    logits: np.ndarray, labels: np.ndarray, members: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    """Each run's texts in a row, of one length so that all are judged in one compiled call."""
    longest = max(map(len, members))
    where = np.arange(longest) < np.array(list(map(len, members)))[:, None]
    chosen = np.stack([np.resize(texts, longest) for texts in members])
    return {
        "logits": np.take_along_axis(logits, chosen, axis=1),
        "labels": labels[chosen],
        "where": where,
    }


def _scores(cells: dm.Counts, miss: np.ndarray, alarm: np.ndarray) -> dict[str, Any]:
    missed, alarms, total = (
        jnp.asarray(x, jnp.float32)
        for x in (cells.fn, cells.fp, cells.tp + cells.fp + cells.fn + cells.tn)
    )
    return {
        "precision": dm.precision(cells),
        "recall": dm.recall(cells),
        "f1": dm.fbeta(cells),
        "macro_f1": macro_f1(cells),
        "mcc": dm.mcc(cells),
        "cost": (miss * missed + alarm * alarms) / total,
        **{name: getattr(cells, name) for name in ("tp", "fp", "fn", "tn")},
    }


def macro_f1(cells: dm.Counts) -> jax.Array:
    """Mean of the F1 of both classes."""
    other = dm.Counts(tp=cells.tn, fp=cells.fn, fn=cells.fp, tn=cells.tp)
    return (dm.fbeta(cells) + dm.fbeta(other)) / 2


def _thin(curve: dm.Curve, run: int) -> dict[str, list[float]]:
    """The precision-recall curve of one run, at some of its thresholds."""
    precision, recall = (
        np.asarray(f(curve.counts)[run], np.float64) for f in (dm.precision, dm.recall)
    )
    kept = np.unique(np.linspace(1, len(recall) - 1, POINTS).astype(int))
    return {"precision": precision[kept].tolist(), "recall": recall[kept].tolist()}
