"""Sets, weights and classes of the metrics of predictions; and numbers that once were wrong."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import diffmetrics as dm

rng = np.random.default_rng(0)
N, LABELS, C = 24, 3, 4
P = rng.uniform(0.05, 0.95, (N, LABELS)).astype(np.float32)
Y = rng.integers(0, 2, (N, LABELS))
LOGITS = (3.0 * rng.normal(size=(N, LABELS, C))).astype(np.float32)
IDS = rng.integers(0, C, (N, LABELS))
SHARES = np.asarray(scipy.special.softmax(LOGITS, -1), np.float32)
MEAN, NOISE = rng.normal(size=(2, N, LABELS)).astype(np.float32)
SCALE = np.round(2 * np.exp(0.5 * rng.normal(size=(N, LABELS))) + 1).astype(np.float32) / 2
TARGET = MEAN + SCALE * NOISE
ERROR = np.round(TARGET - MEAN, 1)  # with ties

Case = tuple[Callable[..., Any], tuple[np.ndarray, ...]]

# Metrics of which the number of examples decides, and not only their shares.
COUNTING: dict[str, Case] = {
    "reliability_bins": (partial(dm.reliability_bins, bins=4), (P, Y)),
    "debiased_calibration_error": (partial(dm.debiased_calibration_error, bins=4), (P, Y)),
    "conformal_quantile": (partial(dm.conformal_quantile, coverage=0.7), (ERROR,)),
}
OF_SHARES: dict[str, Case] = {
    "expected_calibration_error": (partial(dm.expected_calibration_error, bins=4), (P, Y)),
    "adaptive_calibration_error": (partial(dm.adaptive_calibration_error, bins=4), (P, Y)),
    "brier_decomposition": (partial(dm.brier_decomposition, bins=4), (P, Y)),
    "confidence": (partial(dm.adaptive_calibration_error, bins=4), (SHARES, IDS)),
    "log_loss": (dm.log_loss, (P, Y)),
    "log_loss of ids": (dm.log_loss, (SHARES, IDS)),
    "top_k_accuracy": (partial(dm.top_k_accuracy, k=2), (LOGITS, IDS)),
    "interval_coverage": (dm.interval_coverage, (MEAN - SCALE, MEAN + SCALE, TARGET)),
    "regression_calibration_error": (dm.regression_calibration_error, (MEAN, SCALE, TARGET)),
    "normalized_calibration_error": (
        partial(dm.normalized_calibration_error, bins=3),
        (MEAN, SCALE, TARGET),
    ),
    "sharpness": (dm.sharpness, (SCALE,)),
    "ause": (dm.ause, (SCALE, ERROR)),
    "risk_at_coverage": (partial(dm.risk_at_coverage, coverage=0.6), (SCALE, ERROR)),
    "rank_correlation": (dm.rank_correlation, (SCALE, ERROR)),
    "fit_scale": (dm.fit_scale, (MEAN, SCALE, TARGET)),
    "fit_temperature": (dm.fit_temperature, (LOGITS[..., 0], Y)),
    "fit_temperature of ids": (dm.fit_temperature, (LOGITS, IDS)),
}
CASES = COUNTING | OF_SHARES
over_cases = pytest.mark.parametrize("name", CASES)


# --- weights and sets -----------------------------------------------------------------------------


@over_cases
def test_an_example_of_weight_two_is_two_examples(name: str):
    of, batch = CASES[name]
    times = rng.integers(0, 4, N)
    alone = [x[:, 0] for x in batch]
    repeated = of(*(np.repeat(x, times, 0) for x in alone))
    chex.assert_trees_all_close(of(*alone, weights=times.astype(np.float32)), repeated, rtol=1e-4)
    if name in OF_SHARES:
        tiny = of(*alone, weights=(1e-20 * times).astype(np.float32))
        chex.assert_trees_all_close(tiny, repeated, rtol=1e-4)


@pytest.mark.parametrize("name", [k for k, v in CASES.items() if v[1][-1] is Y or v[1][-1] is IDS])
def test_an_axis_keeps_the_others(name: str):
    of, batch = CASES[name]
    kept = np.arange(N * LABELS).reshape(N, LABELS) % 5 != 2
    found = of(*batch, axis=0, where=kept)
    each = [of(*(x[:, i] for x in batch), where=kept[:, i]) for i in range(LABELS)]
    looped = jax.tree.map(lambda *x: jnp.stack(x), *each)
    chex.assert_trees_all_close(found, looped, rtol=1e-4, atol=1e-6)


def test_a_sparsification_curve_of_weights_passes_through_that_of_copies():
    times = rng.integers(1, 4, N)
    found = dm.sparsification_curve(SCALE[:, 0], ERROR[:, 0], weights=times)
    copies = dm.sparsification_curve(*(np.repeat(x[:, 0], times) for x in (SCALE, ERROR)))
    for ours, theirs in ((found.error, copies.error), (found.oracle, copies.oracle)):
        total, kept = np.asarray(theirs * copies.kept)[::-1], np.asarray(copies.kept)[::-1]
        expected = np.interp(found.kept, np.append(0, kept), np.append(0, total)) / found.kept
        np.testing.assert_allclose(ours, expected, rtol=1e-4)


def test_conformal_weights_are_those_of_a_covariate_shift():
    scores, weights = np.abs(ERROR[:, 0]), rng.uniform(0.1, 3.0, N).astype(np.float32)
    for coverage in (0.3, 0.8):
        order = np.argsort(scores)
        reached = np.cumsum(np.float64(weights[order]))
        expected = scores[order][np.argmax(reached >= coverage * (1 + reached[-1]))]
        found = dm.conformal_quantile(scores, coverage=coverage, weights=weights)
        assert found == expected


def test_without_examples_nothing_is_wrong_and_nothing_is_corrected():
    expected = {"conformal_quantile": np.inf, "fit_scale": 1.0, "fit_temperature": 1.0}
    for name in (*expected, "interval_coverage", "ause", "adaptive_calibration_error"):
        of, batch = CASES[name]
        for found in jax.tree.leaves(of(*batch, where=np.zeros((N, LABELS), bool))):
            np.testing.assert_array_equal(found, expected.get(name, 0.0), name)


def test_an_input_of_size_0_is_named():
    for of, batch in CASES.values():
        with pytest.raises(ValueError, match="must not be empty"):
            of(*(x[:0] for x in batch))


# --- classes --------------------------------------------------------------------------------------

OF_CLASSES: dict[str, Case] = {
    "reliability_bins": (partial(dm.reliability_bins, bins=4), (SHARES, IDS)),
    **{k: v for k, v in OF_SHARES.items() if v[1][-1] is IDS},
}


@pytest.mark.parametrize("name", OF_CLASSES)
def test_classes_come_first_and_ids_in_any_type(name: str):
    of, (x, ids) = OF_CLASSES[name]
    expected = of(x, ids)
    first = np.moveaxis(x, -1, 1)
    chex.assert_trees_all_close(of(first, ids, class_axis=1), expected, rtol=1e-5)
    chex.assert_trees_all_close(of(x, ids.astype(np.uint8)), expected)
    with pytest.raises(TypeError, match="labels must be integer class ids, got float32"):
        of(x, ids.astype(np.float32))
    with pytest.raises(ValueError, match="axis must not name the axis that holds the classes"):
        of(first, ids, class_axis=1, axis=1)


def test_ids_of_8_bits_name_more_classes_than_they_count():
    scores = np.zeros((2, 300), np.float32)
    scores[0, 100], scores[1, 5] = 9.0, 9.0
    for dtype in (np.int8, np.uint8):
        ids = np.array([100, 7], dtype)
        assert dm.top_k_accuracy(scores, ids, k=1) == 0.5
        p = scipy.special.softmax(scores, -1)
        expected = -np.log(p[[0, 1], [100, 7]]).mean()
        np.testing.assert_allclose(dm.log_loss(p, ids), expected, rtol=1e-5)
        assert dm.reliability_bins(p, ids).examples.sum() == 2


# --- numbers that once were wrong -----------------------------------------------------------------


def test_a_calibrated_classifier_has_no_error_however_large_the_set():
    n = 4_000_000
    p, y = jnp.full(n, 0.95, jnp.float32), jnp.arange(n) % 20 != 0
    assert dm.expected_calibration_error(p, y) < 1e-5
    assert dm.reliability_bins(p, y).examples.sum() == n
    assert dm.debiased_calibration_error(p, y) < 1e-5
    assert dm.brier_decomposition(p, y).reliability < 1e-5
    assert dm.adaptive_calibration_error(p[:200_000], y[:200_000]) < 1e-5


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16, jnp.bfloat16])
def test_a_probability_on_an_edge_is_in_the_lower_bin(dtype: Any):
    p = jnp.asarray(np.arange(1, 50) / 50, dtype)
    bins = dm.reliability_bins(p, np.ones(49, int), bins=50)
    np.testing.assert_array_equal(bins.examples, [1] * 49 + [0])


@jax.debug_nans(False)
def test_a_network_of_nan_is_not_perfect():
    lost = np.full(N, np.nan, np.float32)
    ids = np.zeros(N, int)
    assert dm.top_k_accuracy(np.full((N, 3), np.nan, np.float32), ids, k=3) == 0.0
    for value in (
        dm.adaptive_calibration_error(lost, ids),
        dm.rank_correlation(np.arange(N), lost),
        dm.ause(lost, np.arange(N)),
        dm.fit_temperature(lost, ids),
        dm.fit_temperature(np.full((N, 3), np.nan, np.float32), ids),
    ):
        assert jnp.isnan(value)


@pytest.mark.parametrize("impossible", [-np.inf, np.finfo(np.float32).min])
def test_a_temperature_is_fitted_beside_a_class_that_is_impossible(impossible: float):
    z = np.array([[3, 0, impossible], [0, 3, impossible], [3, 0, impossible]], np.float32)
    np.testing.assert_allclose(dm.fit_temperature(z, np.array([0, 1, 1])), 3 / np.log(2), rtol=1e-4)


def test_areas_do_not_depend_on_the_unit_of_weights():
    scores, labels = rng.normal(size=200).astype(np.float32), rng.random(200) < 0.3
    for area in (dm.average_precision, dm.roc_auc, partial(dm.partial_roc_auc, max_fpr=0.3)):
        expected = area(dm.curve(scores, labels))
        for weight in (1e-20, 1e20):
            weights = np.full(200, weight, np.float32)
            found = area(dm.curve(scores, labels, weights=weights))
            np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_parts_of_a_brier_score_of_soft_labels_add_up():
    soft = rng.random(200).astype(np.float32)
    p = rng.random(200).astype(np.float32)
    found = dm.brier_decomposition(p, soft, bins=7)
    total = found.reliability - found.resolution + found.uncertainty + found.within
    expected = soft * (1 - p) ** 2 + (1 - soft) * p**2  # of labels drawn with these shares
    np.testing.assert_allclose(total, expected.mean(), rtol=1e-5)


def test_threshold_counts_of_weights_do_not_stop_counting():
    n = 4_000_000
    labels, scores = jnp.arange(n) % 2, jnp.asarray(jnp.arange(n) % 3, jnp.float32)
    found = dm.threshold_counts(scores, labels, jnp.ones(1), weights=jnp.full(n, 0.1)).counts
    expected = [0.0, 0.1 * n / 3, 0.1 * n / 2]
    np.testing.assert_allclose(found.tp, expected, rtol=1e-5)
