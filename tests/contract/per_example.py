"""The table of the losses with one value per element or example, with what distinguishes each.

`test_contract_per_example.py` asks the same of every row. `reference` is the definition of one
element or example in plain floats.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import diffmetrics as dm
from tests.references import entropy as ref, hinge as reference_margin

rng = np.random.default_rng(0)
BINARY = (rng.normal(size=(12, 3)).astype(np.float32), rng.integers(0, 2, (12, 3)))
CLASSES = (rng.normal(size=(12, 4)).astype(np.float32), np.tile(np.arange(4), 3))
WEIGHTS = np.array([1.0, 2.0, 3.0, 4.0], np.float32)
FREE_DIAGONAL = (rng.uniform(0.5, 4.0, (4, 4)) * (1 - np.eye(4))).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Row:
    """One loss with what distinguishes it; everything else is asked of all alike."""

    loss: Callable[..., jax.Array]
    # f(logit: float, label: int, **traced) or f(logits: list[float], label: int, **traced) -> float
    reference: Callable[..., float]
    batch: tuple[np.ndarray, np.ndarray] = BINARY
    # Hyper-parameters, all of them traced.
    traced: dict[str, Any] = dataclasses.field(default_factory=dict)
    # Labels in between are taken, and mix the losses of 0 and 1 (of the classes).
    soft_labels: bool = False
    # The loss of logits that are right beyond doubt (±100).
    perfect: float = 0.0
    # How many temporary arrays of the logits' size value and gradient may take: none, but for
    # what XLA's CPU backend writes out around a `where` or a clamp in the value.
    arrays: float = 0.0
    # Absolute error of the gradient at a loss of 65,504, where it is a difference.
    atol: float = 1e-5

    @property
    def name(self) -> str:
        return getattr(self.loss, "__name__", "")

    @property
    def softmax(self) -> bool:
        return self.batch is CLASSES


ENTROPY = [
    Row(dm.sigmoid_cross_entropy, ref.sigmoid_cross_entropy, soft_labels=True),
    Row(dm.softmax_cross_entropy, ref.softmax_cross_entropy, CLASSES, soft_labels=True),
    Row(
        dm.sigmoid_focal_loss,
        ref.sigmoid_focal_loss,
        traced={"gamma": 2.0, "alpha": 0.25},
    ),
    Row(dm.sigmoid_focal_loss, ref.sigmoid_focal_loss, traced={"gamma": 0.5}),
    Row(dm.sigmoid_focal_loss, ref.sigmoid_focal_loss, traced={"gamma": 0.0}),
    Row(
        dm.softmax_focal_loss,
        ref.softmax_focal_loss,
        CLASSES,
        {"gamma": 2.0, "alpha": WEIGHTS},
        arrays=0.1,
    ),
    Row(dm.softmax_focal_loss, ref.softmax_focal_loss, CLASSES, {"gamma": 0.5}),
    Row(dm.softmax_focal_loss, ref.softmax_focal_loss, CLASSES, {"gamma": 0.0}),
    Row(dm.sigmoid_poly_loss, ref.sigmoid_poly_loss, traced={"epsilon": 1.0}),
    Row(dm.softmax_poly_loss, ref.softmax_poly_loss, CLASSES, {"epsilon": 1.0}),
    Row(dm.generalized_cross_entropy, ref.generalized_cross_entropy, CLASSES, {"q": 0.7}),
    Row(dm.generalized_cross_entropy, ref.generalized_cross_entropy, CLASSES, {"q": 0.0}),
]
IMBALANCED = [
    Row(
        dm.weighted_sigmoid_cross_entropy,
        ref.weighted_sigmoid_cross_entropy,
        traced={"positive_weight": 3.0},
        soft_labels=True,
    ),
    Row(
        dm.weighted_softmax_cross_entropy,
        ref.weighted_softmax_cross_entropy,
        CLASSES,
        {"class_weights": WEIGHTS},
        True,
    ),
    Row(
        dm.asymmetric_loss,
        ref.asymmetric_loss,
        traced={"gamma_positive": 1.0, "gamma_negative": 4.0, "shift": 0.05},
        arrays=2.0,
    ),
    Row(
        dm.asymmetric_loss,
        ref.asymmetric_loss,
        traced={"gamma_positive": 0.0, "gamma_negative": 2.0, "shift": 0.0},
    ),
    Row(
        dm.logit_adjusted_sigmoid_loss,
        ref.logit_adjusted_sigmoid_loss,
        traced={"prevalence": 0.1, "tau": 1.0},
        soft_labels=True,
    ),
    Row(
        dm.logit_adjusted_softmax_loss,
        ref.logit_adjusted_softmax_loss,
        CLASSES,
        {"prevalence": WEIGHTS / 10, "tau": 1.0},
        True,
        arrays=1.0,
    ),
    Row(
        dm.ldam_loss,
        ref.ldam_loss,
        CLASSES,
        {"class_counts": 50 * WEIGHTS, "max_margin": 0.5, "scale": 30.0},
        arrays=1.0,
    ),
]
COST = [
    Row(
        dm.expected_cost_loss,
        ref.expected_cost_loss,
        CLASSES,
        {"cost": FREE_DIAGONAL},
        soft_labels=True,
        arrays=2.0,
    ),
    Row(
        dm.cost_sensitive_cross_entropy,
        ref.cost_sensitive_cross_entropy,
        CLASSES,
        {"cost": FREE_DIAGONAL},
        arrays=3.1,
        atol=5e-3,
    ),
]
PROPER = [
    Row(dm.brier_loss, ref.brier_loss),
    Row(dm.winkler_loss, ref.winkler_loss, traced={"center": 0.3}),
    Row(dm.beta_family_loss, ref.beta_family_loss, traced={"alpha": 1.0, "beta": 2.0}, arrays=24.0),
    Row(dm.beta_family_loss, ref.beta_family_loss, traced={"alpha": 0.0, "beta": 0.0}),
    Row(dm.beta_family_loss, ref.beta_family_loss, traced={"alpha": -0.5, "beta": -0.5}),
]
PAIR_COSTS = rng.uniform(0.5, 4.0, (4, 4)).astype(np.float32)
MARGIN = [
    Row(dm.hinge_loss, reference_margin.hinge_loss, traced={"margin": 1.0}),
    Row(dm.squared_hinge_loss, reference_margin.squared_hinge_loss, traced={"margin": 0.75}),
    Row(dm.smooth_hinge_loss, reference_margin.smooth_hinge_loss, traced={"width": 1.0}),
    Row(dm.smooth_hinge_loss, reference_margin.smooth_hinge_loss, traced={"width": 0.1}),
    Row(
        dm.softplus_hinge_loss,
        reference_margin.softplus_hinge_loss,
        traced={"sharpness": 2.0, "margin": 1.0},
    ),
    Row(dm.modified_huber_loss, reference_margin.modified_huber_loss),
    Row(dm.ramp_loss, reference_margin.ramp_loss),
    Row(dm.exponential_loss, reference_margin.exponential_loss),
    Row(dm.perceptron_loss, reference_margin.perceptron_loss),
    Row(dm.crammer_singer_loss, reference_margin.crammer_singer_loss, CLASSES),
    Row(
        dm.crammer_singer_loss,
        reference_margin.crammer_singer_loss,
        CLASSES,
        traced={"cost": PAIR_COSTS},
    ),
    Row(dm.weston_watkins_loss, reference_margin.weston_watkins_loss, CLASSES),
    Row(
        dm.weston_watkins_loss,
        reference_margin.weston_watkins_loss,
        CLASSES,
        traced={"cost": PAIR_COSTS},
    ),
]
ROWS = ENTROPY + IMBALANCED + COST + PROPER + MARGIN
