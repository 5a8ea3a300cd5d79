"""Calibration: against counting, scikit-learn and scipy, and what the truth itself would score."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats
from sklearn.calibration import calibration_curve

import diffmetrics as dm
from tests.references import calibration as ref
from tests.rows import PREDICTED, Row, over, the

rng = np.random.default_rng(0)
N = 40
MEAN, SCALE, TARGET = PREDICTED
ERROR = TARGET - MEAN
TIED = np.round(2 * SCALE) / 2  # few different ones
P = np.asarray(rng.beta(0.7, 0.7, size=200), np.float32)
Y = (rng.uniform(size=200) < P**1.5).astype(int)
LOGITS = np.asarray(rng.normal(size=(150, 4)) * 2, np.float32)
IDS = np.array([rng.choice(4, p=p) for p in scipy.special.softmax(LOGITS / 2, -1)])
FEW = (rng.uniform(size=200) < P**4).astype(int)  # farther from P than chance


def takes(row: Row, name: str) -> bool:
    return row.family == "calibration" and name in inspect.signature(row.public).parameters


over_predictions = over(lambda row: takes(row, "axis") and not takes(row, "labels"))
over_classifiers = over(lambda row: takes(row, "bins") and takes(row, "labels"))


# --- what all promise -----------------------------------------------------------------------------


@over_predictions
def test_axis_keeps_the_rest_and_order_does_not_matter(row: Row):
    """With many equal deviations, among which an order would show."""
    tied = [np.round(2 * x) / 2 for x in row.batch]
    columns = [np.stack([x, x[::-1] + i], -1) for i, x in enumerate(tied)]

    def of(*columns: Any, **options: Any) -> Any:
        found = row(*columns, **options)  # all columns keep the same shares
        return found[1:] if isinstance(found, dm.Sparsification) else found

    found = of(*columns, axis=0)
    each = [of(*(c[:, i] for c in columns)) for i in range(2)]
    looped = jax.tree.map(lambda *x: jnp.stack(x), *each)
    chex.assert_trees_all_close(found, looped, rtol=1e-5, atol=1e-6)
    order = np.random.default_rng(1).permutation(N)
    shuffled = of(*(c[order] for c in columns), axis=0)
    chex.assert_trees_all_close(shuffled, found, rtol=1e-5, atol=1e-6)


@over_predictions
@pytest.mark.parametrize("size", [1e-30, 0.0, 1.0, 1e30])
def test_metrics_are_finite_at_the_extremes(row: Row, size: float):
    ends = np.asarray([-1e15, -1.0, 0.0, 1.0, 1e15, 0.0], np.float32)
    sizes = np.full(6, size, np.float32)
    given = dict.fromkeys(("scale", "uncertainty", "a", "upper"), sizes)
    given |= {"mean": np.zeros(6, np.float32), "lower": -sizes}
    chex.assert_tree_all_finite(row(*(given.get(name, ends) for name in row.names)))


@pytest.mark.parametrize("name", ["ause", "fit_scale", "normalized_calibration_error"])
def test_narrow_floats_are_computed_in_float32(name: str):
    row = the(name)
    half = [jnp.asarray(x, jnp.bfloat16) for x in row.batch]
    chex.assert_type(row(*half), jnp.float32)
    wide = row(*(x.astype(jnp.float32) for x in half))
    chex.assert_trees_all_close(row(*half), wide, rtol=1e-5)


@over_classifiers
def test_order_does_not_matter_to_classifiers(row: Row):
    p, order = np.round(P, 1), np.random.default_rng(1).permutation(len(P))
    chex.assert_trees_all_close(row(p[order], Y[order]), row(p, Y), rtol=1e-5, atol=1e-6)


@over_classifiers
def test_bad_arguments_of_classifiers_are_named(row: Row):
    with pytest.raises(
        ValueError, match=r"labels must be integer class ids of shape .* or 0/1 of the shape"
    ):
        row(P, Y[:, None])
    with pytest.raises(TypeError, match="probabilities must be floating"):
        row(Y, Y)
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        row(P, Y, bins=0)


@pytest.mark.parametrize("metric", [dm.reliability_bins, dm.adaptive_calibration_error])
def test_class_ids_mean_the_confidence_of_the_top_class(metric: Callable[..., Any]):
    p = scipy.special.softmax(LOGITS, -1)
    unlabelled = np.where(np.arange(150) % 5 == 0, -1, IDS)
    kept = unlabelled >= 0
    top, right = p.max(-1)[kept], (p.argmax(-1) == IDS)[kept]
    chex.assert_trees_all_close(metric(p, unlabelled), metric(top, right), rtol=1e-5, atol=1e-6)
    nothing = metric(p, np.full(150, -1))
    chex.assert_trees_all_close(nothing, jax.tree.map(jnp.zeros_like, nothing))


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"target must have the shape of mean.*\(40, 1\)"):
        dm.regression_calibration_error(MEAN, SCALE, TARGET[:, None])
    with pytest.raises(ValueError, match="error must have the shape of uncertainty"):
        dm.ause(SCALE, ERROR[:5])
    with pytest.raises(ValueError, match="uncertainty must not be empty"):
        dm.ause(np.zeros(0), np.zeros(0))
    with pytest.raises(ValueError, match="axis must lie in"):
        dm.sharpness(SCALE, axis=3)
    with pytest.raises(ValueError, match="bins must lie between 1 and the 40 predictions, got 41"):
        dm.normalized_calibration_error(MEAN, SCALE, TARGET, bins=41)
    with pytest.raises(ValueError, match="coverage must broadcast to a scalar"):
        dm.risk_at_coverage(SCALE, ERROR, coverage=np.ones(3))
    with pytest.raises(ValueError, match="coverage must broadcast to a scalar"):
        dm.conformal_quantile(SCALE, coverage=np.ones(3))
    with pytest.raises(ValueError, match="draws must be at least 1"):
        dm.attainable(jax.random.key(0), SCALE, metric=dm.ause, draws=0)


# --- predicted distributions ----------------------------------------------------------------------


def test_calibration_error_is_what_counting_at_many_levels_gives():
    found = dm.regression_calibration_error(MEAN, SCALE, TARGET)
    expected = ref.regression_calibration_error(MEAN.tolist(), SCALE.tolist(), TARGET.tolist())
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_calibration_error_of_nothing_but_hits_and_misses_is_one_half():
    zero, one = np.zeros(9), np.ones(9)
    np.testing.assert_allclose(dm.regression_calibration_error(zero, one, zero), 0.5, rtol=1e-6)
    found = dm.regression_calibration_error(zero, one, 1e9 * one)
    np.testing.assert_allclose(found, 0.5, rtol=1e-6)


def test_normalized_calibration_error_is_its_definition():
    found = dm.normalized_calibration_error(MEAN, SCALE, TARGET, bins=7)
    lists = [x.tolist() for x in (MEAN, SCALE, TARGET)]
    np.testing.assert_allclose(found, ref.normalized_calibration_error(*lists, bins=7), rtol=1e-5)
    constant = dm.normalized_calibration_error(MEAN, np.full(N, 2.0, np.float32), TARGET, bins=7)
    rmse = math.sqrt(np.mean(np.float64(ERROR) ** 2))
    np.testing.assert_allclose(constant, abs(2.0 - rmse) / 2.0, rtol=1e-5)


def test_intervals_and_probabilities_are_those_of_scipy():
    for coverage in (0.1, 0.5, 0.95, 0.999):
        low, high = dm.normal_interval(MEAN, SCALE, coverage=coverage)
        expected = scipy.stats.norm.interval(coverage, MEAN, SCALE)
        np.testing.assert_allclose((low, high), expected, rtol=1e-4, atol=1e-4)
        share, width = dm.interval_coverage(low, high, TARGET)
        inside = (expected[0] <= TARGET) & (expected[1] >= TARGET)
        np.testing.assert_allclose(share, inside.mean(), rtol=1e-6)
        np.testing.assert_allclose(width, np.mean(expected[1] - expected[0]), rtol=1e-4)
    pit = dm.probability_integral_transform(MEAN, SCALE, TARGET)
    np.testing.assert_allclose(pit, scipy.stats.norm.cdf(TARGET, MEAN, SCALE), rtol=1e-5)
    chex.assert_tree_all_finite(
        jax.grad(lambda m: dm.probability_integral_transform(m, 0.0, 1.0))(0.0)
    )


# --- filtering ------------------------------------------------------------------------------------


@pytest.mark.parametrize("uncertainty", [SCALE, TIED, np.ones(N)], ids=["all", "ties", "constant"])
def test_filtering_is_its_definition_averaged_over_orders(uncertainty: np.ndarray):
    curve, oracle = ref.sparsification(uncertainty.tolist(), ERROR.tolist())
    found = dm.sparsification_curve(uncertainty, ERROR)
    np.testing.assert_allclose(found.error, curve, rtol=1e-5)
    np.testing.assert_allclose(found.oracle, oracle, rtol=1e-5)
    np.testing.assert_allclose(found.kept, (N - np.arange(N)) / N, rtol=1e-6)
    expected = ref.ause(uncertainty.tolist(), ERROR.tolist())
    np.testing.assert_allclose(dm.ause(uncertainty, ERROR), expected, rtol=1e-4)
    for kept in (1, 8, 39, 40):  # whole numbers of predictions
        risk = dm.risk_at_coverage(uncertainty, ERROR, coverage=kept / N)
        np.testing.assert_allclose(risk, curve[N - kept], rtol=1e-5)


def test_an_oracle_has_no_area_and_a_constant_that_of_chance():
    np.testing.assert_allclose(dm.ause(abs(ERROR), ERROR), 0.0, atol=1e-6)
    np.testing.assert_allclose(dm.ause(np.ones(N), ERROR), 1.0, rtol=1e-5)
    np.testing.assert_allclose(dm.ause(np.ones(100_000), np.arange(1e5)), 1.0, rtol=1e-4)
    assert dm.ause(SCALE, np.ones(N)) == 0.0
    assert dm.ause(-SCALE, ERROR) > 1.0


def test_rank_correlation_is_spearmans():
    for a, b in ((SCALE, abs(ERROR)), (TIED, abs(ERROR)), (TIED, np.round(ERROR))):
        expected: Any = scipy.stats.spearmanr(a, b)[0]
        np.testing.assert_allclose(dm.rank_correlation(a, b), expected, rtol=1e-5)
    assert dm.rank_correlation(np.ones(N), ERROR) == 0.0


def filtered(scale: jax.Array, error: jax.Array) -> tuple[jax.Array, jax.Array]:
    return dm.ause(scale, error), dm.rank_correlation(scale, jnp.abs(error))


def calibrated(scale: jax.Array, error: jax.Array) -> jax.Array:
    return dm.regression_calibration_error(jnp.zeros_like(error), scale, error)


def test_even_the_truth_is_far_from_perfect():
    """Lognormal deviations of spread ½ and 1: figures found by another program."""
    key, noise = jax.random.key(0), np.random.default_rng(0).normal(size=20_000)
    for spread, area, correlation in ((0.5, 0.396, 0.456), (1.0, 0.146, 0.694)):
        scale = np.asarray(np.exp(spread * noise), np.float32)
        found = dm.attainable(key, scale, metric=filtered, draws=3)
        chex.assert_shape(found, (3,))
        np.testing.assert_allclose(np.mean(found, 1), (area, correlation), atol=0.015)


def test_a_finite_set_is_never_calibrated_and_the_docstring_says_how_little():
    found = dm.attainable(jax.random.key(0), np.ones(400, np.float32), metric=calibrated, draws=400)
    np.testing.assert_allclose(found.mean(), 0.313 / 20, rtol=0.05)


# --- classifiers ----------------------------------------------------------------------------------


def test_bins_are_those_of_scikit_learn():
    found = dm.reliability_bins(P, Y, bins=10)
    seen = np.asarray(found.examples) > 0
    share, mean = calibration_curve(Y, P, n_bins=10)
    np.testing.assert_allclose(np.asarray(found.accuracy)[seen], share, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(found.confidence)[seen], mean, rtol=1e-5)
    edges = dm.reliability_bins(jnp.array([0.0, 0.5, 1.0]), np.zeros(3, int), bins=2)
    np.testing.assert_array_equal(edges.examples, [2, 1])


@pytest.mark.parametrize("labels", [Y, FEW], ids=["near", "far"])
def test_calibration_errors_of_classifiers_are_their_definitions(labels: np.ndarray):
    p, y = P.tolist(), labels.tolist()
    members = ref.bins_of(p, 15)
    for metric, definition in (
        (dm.expected_calibration_error, ref.expected_calibration_error),
        (dm.debiased_calibration_error, ref.debiased_calibration_error),
    ):
        np.testing.assert_allclose(metric(P, labels), definition(p, y, members), rtol=1e-4)
    expected = ref.adaptive_calibration_error(p, y, 15)
    np.testing.assert_allclose(dm.adaptive_calibration_error(P, labels), expected, rtol=1e-4)


def test_the_parts_of_a_brier_score_add_up():
    for bins in (1, 15):
        found = dm.brier_decomposition(P, Y, bins=bins)
        total = found.reliability - found.resolution + found.uncertainty + found.within
        np.testing.assert_allclose(total, np.mean((P - Y) ** 2), rtol=1e-5)
    rounded = np.round(P, 1)
    np.testing.assert_allclose(dm.brier_decomposition(rounded, Y, bins=10).within, 0.0, atol=2e-2)
    np.testing.assert_allclose(found.uncertainty, np.var(Y), rtol=1e-5)


# --- what one number can mend ---------------------------------------------------------------------


def test_a_fitted_scale_is_the_most_likely_one_and_leaves_nothing_to_fit():
    factor = dm.fit_scale(MEAN, SCALE, TARGET)
    again = dm.fit_scale(MEAN, factor * SCALE, TARGET)
    np.testing.assert_allclose(again, 1.0, rtol=1e-5)
    slope = jax.grad(lambda c: dm.gaussian_nll(MEAN, c * SCALE, TARGET).sum())(factor)
    np.testing.assert_allclose(slope, 0.0, atol=1e-4)
    assert dm.fit_scale(MEAN, SCALE, MEAN) == 0.0


def test_a_fitted_temperature_is_that_of_an_optimiser():
    def of_ids(t: float) -> float:
        log_p = scipy.special.log_softmax(np.float64(LOGITS) / t, -1)
        return -log_p[np.arange(150), IDS].mean()

    expected = scipy.optimize.minimize_scalar(of_ids, bounds=(0.1, 10), method="bounded").x
    np.testing.assert_allclose(dm.fit_temperature(LOGITS, IDS), expected, rtol=1e-4)
    unlabelled = np.concatenate([IDS, np.full(20, -1)])
    more = np.concatenate([LOGITS, 50 * np.ones((20, 4), np.float32)])
    np.testing.assert_allclose(dm.fit_temperature(more, unlabelled), expected, rtol=1e-4)

    z = np.asarray(np.log(P / (1 - P)), np.float32)

    def of_binary(t: float) -> float:
        return np.mean(np.logaddexp(0, np.float64(z) / t) - Y * z / t)

    expected = scipy.optimize.minimize_scalar(of_binary, bounds=(0.1, 10), method="bounded").x
    np.testing.assert_allclose(dm.fit_temperature(z, Y), expected, rtol=1e-4)


def test_a_temperature_has_ends():
    z = np.asarray([3.0, -2.0, 1.0], np.float32)
    np.testing.assert_allclose(dm.fit_temperature(z, z > 0), 1e-3, rtol=1e-4)
    np.testing.assert_allclose(dm.fit_temperature(z, z < 0), 1e3, rtol=1e-4)
    chex.assert_tree_all_finite(dm.fit_temperature(1e38 * z, np.array([1, 1, 0])))


def test_a_conformal_quantile_is_its_rank():
    scores = abs(ERROR)
    for coverage in (0.1, 0.5, 0.6, 0.8, 0.9, 0.95, 0.97, 0.98, 0.999):
        expected = ref.conformal_quantile(scores.tolist(), coverage)
        assert dm.conformal_quantile(scores, coverage=coverage) == np.float32(expected)
    swept = jax.vmap(lambda c: dm.conformal_quantile(scores, coverage=c))(jnp.array([0.5, 0.9]))
    assert swept[0] < swept[1]
