"""Curves against scikit-learn and a plain loop, at ties, weights and masks; and streaming ones."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as judge

import diffmetrics as dm
from tests.rows import Row, of, over, the

rng = np.random.default_rng(0)
LEVELS = rng.integers(-3, 4, 60).astype(np.float32)  # many ties
DISTINCT = rng.permutation(60).astype(np.float32)
LABELS = (rng.random(60) < 0.3).astype(int)
# The first and the last threshold add a positive and a negative: an off-by-one shows at both ends.
LABELS[DISTINCT.argmax()], LABELS[DISTINCT.argmin()] = 1, 0
WEIGHTS = rng.uniform(0.0, 3.0, 60).astype(np.float32)
KEEP = rng.random(60) < 0.7
FIXED = jnp.linspace(-4.0, 4.0, 33)

over_scores = pytest.mark.parametrize("scores", [LEVELS, DISTINCT], ids=["ties", "distinct"])
over_weights = pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])

AREAS: dict[str, tuple[Callable[..., jax.Array], Callable[..., float]]] = {
    "roc_auc": (dm.roc_auc, judge.roc_auc_score),
    "partial": (
        partial(dm.partial_roc_auc, max_fpr=0.23),
        partial(judge.roc_auc_score, max_fpr=0.23),
    ),
    "whole as partial": (partial(dm.partial_roc_auc, max_fpr=1.0), judge.roc_auc_score),
    "average_precision": (dm.average_precision, judge.average_precision_score),
}
over_areas = pytest.mark.parametrize(("ours", "theirs"), AREAS.values(), ids=AREAS)

# Rows of curves take scores and labels, and make the curve themselves.
NUMBERS = [row for row in of("curves") if not row.name.endswith("_curve")]
over_numbers = over(lambda row: row in NUMBERS)
FEW = [the(name) for name in ("roc_auc", "average_precision")]


def number(row: Row, curve: dm.Curve) -> Any:
    """Of a curve that is there already."""
    return row.public(curve, **row.options, **row.traced)


# --- counts ---------------------------------------------------------------------------------------


@over_scores
@over_weights
def test_every_count_is_that_of_its_threshold(scores: np.ndarray, weights: np.ndarray | None):
    c = dm.curve(scores, LABELS, weights=weights)
    thresholds = np.asarray(c.thresholds)
    assert thresholds[0] == np.inf
    assert np.all(np.diff(thresholds) <= 0)
    for k, threshold in enumerate(thresholds):
        expected = dm.counts(scores >= threshold, LABELS, weights=weights)
        found = jax.tree.map(lambda cell, k=k: cell[k], c.counts)
        chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-5)


def test_unweighted_counts_are_integers_and_soft_labels_are_shares():
    chex.assert_type(dm.curve(LEVELS, LABELS).counts.tp, jnp.int32)
    chex.assert_type(dm.curve(LEVELS, LABELS.astype(bool)).counts.tp, jnp.int32)
    soft = dm.curve(np.array([1.0, 0.0], np.float32), np.array([0.75, 0.5], np.float32)).counts
    np.testing.assert_allclose(soft.tp, [0.0, 0.75, 1.25])
    np.testing.assert_allclose(soft.fp, [0.0, 0.25, 0.75])


@over_weights
def test_given_thresholds_count_like_all_of_them(weights: np.ndarray | None):
    c = dm.threshold_counts(LEVELS, LABELS, rng.permutation(FIXED), weights=weights)
    for k, threshold in enumerate(np.asarray(c.thresholds)):
        expected = dm.counts(threshold <= LEVELS, LABELS, weights=weights)
        found = jax.tree.map(lambda cell, k=k: cell[k], c.counts)
        chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-5)


def test_hidden_elements_are_absent():
    """Of a few numbers: all are read off the same counts."""
    dirty = np.where(KEEP, LEVELS, np.nan)
    for row in FEW:
        alone = row(LEVELS[KEEP], LABELS[KEEP])
        chex.assert_trees_all_close(row(dirty, LABELS, where=KEEP), alone, rtol=1e-6)
    chex.assert_trees_all_equal(
        dm.threshold_counts(dirty, LABELS, FIXED, where=KEEP),
        dm.threshold_counts(LEVELS[KEEP], LABELS[KEEP], FIXED),
    )


def test_weights_are_multiplicities():
    times = rng.integers(0, 4, 60)
    weights, scores, labels = (
        times.astype(np.float32),
        *(np.repeat(x, times) for x in (LEVELS, LABELS)),
    )
    for row in FEW:
        weighted = row(LEVELS, LABELS, weights=weights)
        chex.assert_trees_all_close(weighted, row(scores, labels), rtol=1e-5)
    chex.assert_trees_all_close(
        dm.threshold_counts(LEVELS, LABELS, FIXED, weights=weights).counts,
        jax.tree.map(jnp.float32, dm.threshold_counts(scores, labels, FIXED).counts),
    )


@over_numbers
def test_axis_makes_a_curve_for_every_label(row: Row):
    scores, labels = LEVELS.reshape(20, 3), LABELS.reshape(20, 3)
    alone = [row(scores[:, i], labels[:, i]) for i in range(3)]
    stacked = jax.tree.map(lambda *each: jnp.stack(each), *alone)
    chex.assert_trees_all_close(row(scores, labels, axis=0), stacked, rtol=1e-6)


def test_axes_are_counted_together():
    whole = dm.curve(LEVELS.reshape(3, 4, 5), LABELS.reshape(3, 4, 5))
    chex.assert_trees_all_equal(whole, dm.curve(LEVELS, LABELS))
    halves = dm.curve(LEVELS.reshape(2, 6, 5), LABELS.reshape(2, 6, 5), axis=(1, 2))
    chex.assert_shape(halves.counts.tp, (2, 31))


def test_infinite_scores_are_scores_and_nan_is_the_least():
    scores = np.array([np.inf, np.nan, -np.inf, 1.0], np.float32)
    c = dm.curve(scores, np.array([1, 1, 0, 0])).counts
    np.testing.assert_array_equal(c.tp, [0, 1, 1, 2, 2])
    np.testing.assert_array_equal(c.fp, [0, 0, 1, 2, 2])


# --- against scikit-learn -------------------------------------------------------------------------


@over_scores
@over_weights
@over_areas
def test_areas_equal_scikit_learn(scores: Any, weights: Any, ours: Any, theirs: Any):
    found = ours(dm.curve(scores, LABELS, weights=weights))
    np.testing.assert_allclose(found, theirs(LABELS, scores, sample_weight=weights), atol=1e-6)


def test_areas_equal_scikit_learn_on_a_million_scores():
    labels = rng.random(1_000_000) < 0.01
    scores = np.round(rng.normal(size=labels.size) + 2.0 * labels, 4).astype(np.float32)
    curve = dm.curve(scores, labels)
    for ours, theirs in AREAS.values():
        np.testing.assert_allclose(ours(curve), theirs(labels, scores), atol=1e-6)


@over_scores
@over_weights
def test_points_of_the_curves_equal_scikit_learn(scores: np.ndarray, weights: np.ndarray | None):
    c = dm.curve(scores, LABELS, weights=weights)

    def places(thresholds: np.ndarray) -> np.ndarray:
        return np.array([np.flatnonzero(np.asarray(c.thresholds) == t)[-1] for t in thresholds])

    fpr, tpr, thresholds = judge.roc_curve(
        LABELS, scores, sample_weight=weights, drop_intermediate=False
    )
    at = places(thresholds)
    chex.assert_trees_all_close([x[at] for x in dm.roc_curve(c)[:2]], [fpr, tpr], atol=1e-6)
    fpr, fnr, thresholds = judge.det_curve(LABELS, scores, sample_weight=weights)
    at = places(thresholds)
    found = [x[at] for x in dm.detection_error_curve(c)[:2]]
    chex.assert_trees_all_close(found, [fpr, fnr], atol=1e-6)
    precision, recall, thresholds = judge.precision_recall_curve(
        LABELS, scores, sample_weight=weights
    )
    at = places(thresholds)
    found = [x[at] for x in dm.precision_recall_curve(c)[:2]]
    chex.assert_trees_all_close(found, [precision[:-1], recall[:-1]], atol=1e-6)


@over_weights
def test_log_loss_equals_scikit_learn(weights: np.ndarray | None):
    p = rng.random(60).astype(np.float32)
    p[:2] = 0.0, 1.0
    np.testing.assert_allclose(
        dm.log_loss(p, LABELS, weights=weights),
        judge.log_loss(LABELS, p, sample_weight=weights),
        rtol=1e-6,
    )
    of_classes = rng.dirichlet(np.ones(4), 60).astype(np.float32)
    ids = np.arange(60) % 4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sums that are 1 but for rounding
        expected = judge.log_loss(ids, of_classes, sample_weight=weights)
    np.testing.assert_allclose(dm.log_loss(of_classes, ids, weights=weights), expected, rtol=1e-6)
    hidden = np.where(KEEP, p, np.nan)
    np.testing.assert_allclose(
        dm.log_loss(hidden, LABELS, where=KEEP), dm.log_loss(p[KEEP], LABELS[KEEP]), rtol=1e-6
    )


@pytest.mark.parametrize("k", [1, 2, 3])
@over_weights
def test_top_k_accuracy_equals_scikit_learn(k: int, weights: np.ndarray | None):
    scores, ids = rng.integers(0, 3, (60, 4)).astype(np.float32), np.arange(60) % 4
    expected = judge.top_k_accuracy_score(ids, scores, k=k, sample_weight=weights)
    found = dm.top_k_accuracy(scores, ids, k=k, weights=weights)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    unknown = np.where(KEEP, ids, -1)
    np.testing.assert_allclose(
        dm.top_k_accuracy(scores, unknown, k=k), dm.top_k_accuracy(scores[KEEP], ids[KEEP], k=k)
    )


# --- operating points, against a loop over all thresholds -----------------------------------------


def every_point(scores: np.ndarray, weights: Any) -> list[tuple[float, Any]]:
    thresholds = [np.inf, *sorted(set(scores.tolist()), reverse=True)]
    return [(t, dm.counts(scores >= t, LABELS, weights=weights)) for t in thresholds]


def precision(c: Any) -> float:
    return float(dm.precision(c)) if float(c.tp) + float(c.fp) else 1.0


@over_scores
@over_weights
def test_operating_points_equal_a_loop(scores: np.ndarray, weights: np.ndarray | None):
    c, points = dm.curve(scores, LABELS, weights=weights), every_point(scores, weights)
    false_alarms = [float(p.fp) / (float(p.fp) + float(p.tn)) for _, p in points]

    def expect(found: dm.OperatingPoint, pairs: list[tuple[float, float]]) -> None:
        value, threshold = max(pairs, key=lambda pair: (round(pair[0], 6), pair[1]))
        np.testing.assert_allclose(found, (value, threshold), rtol=1e-6)

    for target in (0.21, 0.43, 0.61):
        expect(
            dm.recall_at_precision(c, precision=target),
            [(float(dm.recall(p)), t) for t, p in points if precision(p) >= target],
        )
        expect(
            dm.precision_at_recall(c, recall=target),
            [(precision(p), t) for t, p in points if float(dm.recall(p)) >= target],
        )
        expect(
            dm.tpr_at_fpr(c, fpr=target),
            [
                (float(dm.recall(p)), t)
                for (t, p), alarms in zip(points, false_alarms, strict=True)
                if alarms <= target
            ],
        )
    for beta in (0.5, 1.0, 2.0):
        expect(dm.best_fbeta(c, beta=beta), [(float(dm.fbeta(p, beta)), t) for t, p in points])
    costs = [
        (-(0.3 * (1 - float(dm.recall(p))) + 1.4 * alarms) / 0.3, t)
        for (t, p), alarms in zip(points, false_alarms, strict=True)
    ]
    value, threshold = dm.min_detection_cost(
        c, target_prior=0.3, miss_cost=1.0, false_alarm_cost=2.0
    )
    expect(dm.OperatingPoint(-value, threshold), costs)


def test_cost_without_normalisation_is_that_of_use():
    c = dm.curve(DISTINCT, LABELS)
    raw = dm.min_detection_cost(c, target_prior=0.01, miss_cost=10.0, normalized=False)
    relative = dm.min_detection_cost(c, target_prior=0.01, miss_cost=10.0)
    chex.assert_trees_all_close(raw.value, 0.1 * relative.value, rtol=1e-6)
    assert raw.threshold == relative.threshold


# --- equal error rate -----------------------------------------------------------------------------


def hull_by_brute_force(fpr: np.ndarray, fnr: np.ndarray) -> float:
    """The lowest crossing of the diagonal by a chord between any two points."""
    lowest = np.inf
    for f0, m0 in zip(fpr, fnr, strict=True):
        for f1, m1 in zip(fpr, fnr, strict=True):
            if m0 >= f0 and f1 >= m1 and (m0 - f0) + (f1 - m1) > 0:
                share = (m0 - f0) / ((m0 - f0) + (f1 - m1))
                lowest = min(lowest, f0 + share * (f1 - f0))
    return lowest


@over_scores
@over_weights
def test_equal_error_rates(scores: np.ndarray, weights: np.ndarray | None):
    c = dm.curve(scores, LABELS, weights=weights)
    fpr, fnr, _ = (np.asarray(x, np.float64) for x in dm.detection_error_curve(c))
    along = np.linspace(0, len(fpr) - 1, 200_001)
    steps = np.arange(len(fpr))
    gap = np.abs(np.interp(along, steps, fpr) - np.interp(along, steps, fnr))
    crossing = np.interp(along[gap.argmin()], steps, fpr)
    np.testing.assert_allclose(dm.equal_error_rate(c), crossing, atol=1e-4)
    nearest = np.abs(fpr - fnr).argmin()
    np.testing.assert_allclose(
        dm.equal_error_rate(c, method="nearest"), (fpr[nearest] + fnr[nearest]) / 2, atol=1e-6
    )
    np.testing.assert_allclose(
        dm.equal_error_rate(c, method="convex_hull"), hull_by_brute_force(fpr, fnr), atol=1e-6
    )


def test_equal_error_rate_at_the_extremes():
    labels = np.array([1, 1, 0, 0])
    for method in ("interpolate", "nearest", "convex_hull"):
        rate = partial(dm.equal_error_rate, method=method)
        assert rate(dm.curve(np.array([4.0, 3.0, 2.0, 1.0]), labels)) == 0.0
        assert rate(dm.curve(np.ones(4), labels)) == 0.5
    reversed_scores = dm.curve(np.array([1.0, 2.0, 3.0, 4.0]), labels)
    assert dm.equal_error_rate(reversed_scores) == 1.0
    assert dm.equal_error_rate(reversed_scores, method="convex_hull") == 0.5


# --- an absent class ------------------------------------------------------------------------------


@jax.debug_nans(False)
def test_an_absent_class_is_nan_where_it_is_needed():
    no_positive, no_negative = (dm.curve(LEVELS, np.full(60, y)) for y in (0, 1))
    empty = dm.curve(LEVELS, LABELS, where=np.zeros(60, bool))
    for row in NUMBERS:
        for c in (no_positive, empty):
            value = number(row, c)
            value = value.value if isinstance(value, dm.OperatingPoint) else value
            assert jnp.isnan(value) or row.name == "best_fbeta", row.id
    assert dm.best_fbeta(no_positive) == (0.0, np.inf)
    assert jnp.isnan(dm.roc_auc(no_negative))
    assert jnp.isnan(dm.tpr_at_fpr(no_negative, fpr=0.1).value)
    assert dm.average_precision(no_negative) == 1.0
    assert jnp.isnan(dm.log_loss(np.ones(3), np.ones(3), where=np.zeros(3, bool)))


@jax.debug_nans(False)  # of which NaN is the answer
def test_a_label_without_positives_leaves_the_others_alone():
    labels = LABELS.reshape(20, 3).copy()
    labels[:, 1] = 0
    value = dm.average_precision(dm.curve(LEVELS.reshape(20, 3), labels, axis=0))
    np.testing.assert_array_equal(np.isnan(value), [False, True, False])


def test_no_prediction_that_is_precise_enough_has_recall_0():
    c = dm.curve(np.array([2.0, 1.0]), np.array([0, 1]))
    assert dm.recall_at_precision(c, precision=0.9) == (0.0, np.inf)


# --- streaming ------------------------------------------------------------------------------------


def test_curves_of_batches_add_up_to_that_of_all():
    total = dm.threshold_counts(LEVELS[:20], LABELS[:20], FIXED).to_host()
    for part in np.split(np.arange(20, 60), 4):
        total += dm.threshold_counts(LEVELS[part], LABELS[part], FIXED)
    assert isinstance(total.counts.tp, np.ndarray)
    assert total.counts.tp.dtype == np.float64
    for row in NUMBERS:
        # The grid has every score, though not only those: thresholds may differ, values may not.
        found, exact = number(row, total), row(LEVELS, LABELS)
        if isinstance(found, dm.OperatingPoint):
            found, exact = found.value, exact.value
        chex.assert_trees_all_close(found, exact, rtol=1e-6)


def test_logit_thresholds_are_right_for_a_rare_class():
    """A calibrated model at a prevalence of 0.1 %: even bins on [0, 1] are off by 0.13 there."""
    logits = rng.normal(-8.5, 1.9, 400_000).astype(np.float32)
    probability = 1 / (1 + np.exp(-logits))
    labels = rng.random(logits.size) < probability
    exact = judge.roc_auc_score(labels, logits)
    on_logits = dm.threshold_counts(logits, labels, jnp.linspace(-12.0, 12.0, 400))
    quantiles = jnp.quantile(logits[labels], jnp.linspace(0.0, 1.0, 200))
    at_positives = dm.threshold_counts(logits, labels, quantiles)
    even = dm.threshold_counts(probability, labels, jnp.linspace(0.0, 1.0, 200))
    assert labels.mean() < 0.002
    np.testing.assert_allclose(dm.roc_auc(on_logits), exact, atol=1e-3)
    np.testing.assert_allclose(dm.roc_auc(at_positives), exact, atol=2e-3)
    assert abs(float(dm.roc_auc(even)) - exact) > 0.05


# --- errors ---------------------------------------------------------------------------------------


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="labels must have the shape of scores"):
        dm.curve(LEVELS, LABELS[:, None])
    with pytest.raises(ValueError, match="weights must broadcast to scores"):
        dm.curve(LEVELS, LABELS, weights=np.ones(7))
    with pytest.raises(TypeError, match="where must be boolean"):
        dm.curve(LEVELS, LABELS, where=np.ones(60))
    with pytest.raises(TypeError, match="scores must be real"):
        dm.curve(LEVELS.astype(np.complex64), LABELS)
    with pytest.raises(ValueError, match=r"thresholds must be a vector, got shape \(1, 33\)"):
        dm.threshold_counts(LEVELS, LABELS, FIXED[None])
    with pytest.raises(ValueError, match="method must be one of interpolate, nearest, convex_hull"):
        dm.equal_error_rate(dm.curve(LEVELS, LABELS), method="exact")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"call it on curve\(scores, labels\)"):
        dm.roc_auc(LEVELS)  # type: ignore[arg-type]
    given = dm.threshold_counts(LEVELS, LABELS, FIXED)
    with pytest.raises(TypeError, match="a Curve adds up with a Curve"):
        _ = given + 1.0  # type: ignore[operator]
    with pytest.raises(TypeError, match="add up only at given thresholds"):
        _ = dm.curve(LEVELS, LABELS) + dm.curve(LEVELS, LABELS)
    with pytest.raises(ValueError, match=r"same thresholds, got \(35,\) and \(5,\)"):
        _ = given + dm.threshold_counts(LEVELS, LABELS, FIXED[:3])
    with pytest.raises(TypeError, match="probabilities must be floating"):
        dm.log_loss(LABELS, LABELS)
    with pytest.raises(ValueError, match="labels must be integer class ids of shape"):
        dm.log_loss(LEVELS, LABELS[:3])
    with pytest.raises(ValueError, match="labels must be integer class ids of shape"):
        dm.top_k_accuracy(LEVELS[:, None], LABELS[:, None], k=1)
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        dm.top_k_accuracy(LEVELS.reshape(20, 3), np.zeros(20, int), k=0)
