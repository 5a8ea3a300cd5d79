"""What a model is worth: pixels at every threshold, objects as the challenge scores them.

Thresholds are chosen on validation images and applied to test images, never the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

import diffmetrics as dm
from experiments.ships.objects import airbus_f2, components
from experiments.ships.pipeline import Images

# Thresholds on the logit, dense around 0, which is p = ½, and out to ±1490: a count loss drives
# logits far beyond where a probability of 32 bits can tell them apart.
THRESHOLDS = np.sinh(np.linspace(-8.0, 8.0, 2001))
HALF = len(THRESHOLDS) // 2

Predict = Callable[[np.ndarray], np.ndarray]  # uint8 [H, W, 3] -> logits [H, W]


def threshold_counts(logits: np.ndarray, labels: np.ndarray) -> dm.Counts:
    """Pixel counts of ``logits > t`` for every threshold t: counts with a thresholds axis.

    They add up over images, and every curve and every choice of threshold is read off the sum.

    Args:
      logits: [H, W].
      labels: boolean [H, W].

    Returns:
      Host counts of shape [len(THRESHOLDS)].
    """
    # A logit predicts "ship" at just the thresholds below it, the first `below` of them.
    below = np.searchsorted(THRESHOLDS, logits.ravel(), side="left")
    bins = len(THRESHOLDS) + 1
    found, alarms = (
        np.bincount(below[chosen], minlength=bins)[::-1].cumsum()[::-1][1:].astype(np.float64)
        for chosen in (labels.ravel(), ~labels.ravel())
    )
    positives = float(labels.sum())
    return dm.Counts(tp=found, fp=alarms, fn=positives - found, tn=labels.size - positives - alarms)


def average_precision(curve: dm.Counts) -> float:
    """Area under the precision-recall curve, as a sum of steps.

    Logits between two thresholds tie: within 0.008 near 0, within 1 % far from it. Agrees with
    scikit-learn's to 1e-3 (a test).
    """
    precision, recall = np.asarray(dm.precision(curve)), np.asarray(dm.recall(curve))
    return float(np.sum(-np.diff(recall, append=0.0) * precision))


@dataclass(frozen=True)
class Survey:
    """What a model predicted on a set of images, in figures that add up."""

    curve: dm.Counts  # pixels, at every one of THRESHOLDS
    airbus_f2: np.ndarray  # [images, object thresholds]
    has_ships: np.ndarray  # boolean [images]
    probability_range: tuple[float, float]


def survey(
    predict: Predict, images: Images, members: Sequence[int], at: Sequence[int] = ()
) -> Survey:
    """Predict the images `members` one by one; unreadable ones are left out.

    Args:
      predict: uint8 [H, W, 3] to logits [H, W].
      images: the whole set.
      members: which of them.
      at: indices of THRESHOLDS at which objects are scored too.
    """
    curve = dm.Counts().to_host()
    airbus: list[list[float]] = []
    full: list[bool] = []
    low, high = np.inf, -np.inf
    for example in images.readable(members):
        logits, mask = predict(example.image), example.instances > 0
        curve += threshold_counts(logits, mask)
        masks = [logits > THRESHOLDS[index] for index in at]
        airbus.append([airbus_f2(components(m), example.instances) for m in masks])
        full.append(bool(mask.any()))
        low, high = min(low, float(logits.min())), max(high, float(logits.max()))
    extremes = float(jax.nn.sigmoid(low)), float(jax.nn.sigmoid(high))
    return Survey(curve, np.array(airbus), np.array(full, bool), extremes)


def tune(validation: Survey) -> int:
    """Index of the threshold with the best pixel F1; of equal ones the middle, far from edges."""
    f1 = np.asarray(dm.fbeta(validation.curve))
    return int(np.median(np.flatnonzero(f1 >= f1.max() - 1e-6)))


def report(
    predict: Predict, images: Images, validation: Sequence[int], test: Sequence[int]
) -> dict[str, Any]:
    """All figures of a trained model on `test`, at ½ and at the threshold tuned on `validation`."""
    tuned = tune(survey(predict, images, validation))
    tested = survey(predict, images, test, at=(HALF, tuned))
    result = {
        "at_half": _scores(tested, HALF, 0),
        "at_tuned": _scores(tested, tuned, 1),
        "average_precision": average_precision(tested.curve),
        "prevalence": float(np.asarray(dm.prevalence(tested.curve))[HALF]),
        "probability_range": tested.probability_range,
        "test_images": len(tested.has_ships),
        "test_images_with_ships": int(tested.has_ships.sum()),
    }
    return {**result, "verdict": verdict(result)}


def _scores(tested: Survey, threshold: int, column: int) -> dict[str, float]:
    cells = jax.tree.map(lambda cell: cell[threshold], tested.curve)
    airbus = tested.airbus_f2[:, column]
    return {
        "threshold": float(jax.nn.sigmoid(THRESHOLDS[threshold])),
        "precision": float(dm.precision(cells)),
        "recall": float(dm.recall(cells)),
        "f1": float(dm.fbeta(cells)),
        "f2": float(dm.fbeta(cells, beta=2.0)),
        "airbus_f2": float(airbus.mean()),
        "airbus_f2_ships": float(airbus[tested.has_ships].mean()),
        "predicted_share": float(
            (cells.tp + cells.fp) / (cells.tp + cells.fp + cells.fn + cells.tn)
        ),
    }


def verdict(result: dict[str, Any]) -> str:
    """What became of the model at a threshold of ½, in a few words."""
    half, (low, high) = result["at_half"], result["probability_range"]
    share, prevalence = half["predicted_share"], result["prevalence"]
    if low > 0.02 and high < 0.98:
        return f"stuck in the middle: every p in {low:.2f}-{high:.2f}"
    if half["recall"] < 0.01:
        return "predicts nothing"
    if share > 5 * prevalence:
        return f"predicts {share:.0%} of the image; {prevalence:.2%} is ship"
    if half["recall"] < 0.5:
        return "misses more than half"
    if half["precision"] < 0.5:
        return "more false alarms than ships"
    return "finds ships"
