"""Thresholds against trying them all, and expected F-beta against trying all labels."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffmetrics as dm
from diffmetrics._decisions import expected_fbeta

rng = np.random.default_rng(0)
SCORES = {
    "F2": (dm.fbeta, {"beta": 2.0}),
    "accuracy": (dm.accuracy, {}),
    "MCC": (dm.mcc, {}),
    "precision": (dm.precision, {}),
}
over_scores = pytest.mark.parametrize(("score", "hyper"), SCORES.values(), ids=SCORES)
fit_f1 = partial(dm.fit_threshold, score=dm.fbeta)


def tied(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Few distinct scores, which tell a little."""
    labels = rng.integers(0, 2, size)
    return np.round(rng.normal(size=size) + labels, 1).astype(np.float32), labels


def tried(s: Any, y: Any, score: Any, where: Any = True, weights: Any = 1.0) -> np.ndarray:
    """The best value of a threshold at every score, and beyond the last."""
    positive, negative = (np.where(where, weights * x, 0.0) for x in (y, 1 - y))
    predicted = s >= np.array([*np.unique(s), np.inf])[:, None]
    cells = [np.sum(p * mass, -1) for p in (predicted, ~predicted) for mass in (positive, negative)]
    tp, fp, fn, tn = cells
    return np.max(np.asarray(score(dm.Counts(tp=tp, fp=fp, fn=fn, tn=tn))))


# --- thresholds -----------------------------------------------------------------------------------


@over_scores
@pytest.mark.parametrize("size", [1, 40])
def test_no_threshold_is_better_and_both_comparisons_attain_it(score: Any, hyper: Any, size: int):
    s, y = tied(size)
    best, threshold = dm.fit_threshold(s, y, score=score, **hyper)
    np.testing.assert_allclose(best, tried(s, y, partial(score, **hyper)), rtol=1e-6)
    for decided in (s > threshold, s >= threshold):
        np.testing.assert_allclose(score(dm.counts(decided, y), **hyper), best, rtol=1e-6)
    assert not np.any(s == threshold)


@over_scores
def test_it_is_the_best_of_weighted_and_hidden_examples(score: Any, hyper: Any):
    s, y = tied(40)
    options = {"where": rng.random(40) < 0.7, "weights": rng.uniform(0.1, 3.0, 40)}
    best, threshold = dm.fit_threshold(s, y, score=score, **options, **hyper)
    expected = tried(s, y, partial(score, **hyper), **options)
    np.testing.assert_allclose(best, expected, rtol=1e-5)
    attained = score(dm.counts(s > threshold, y, **options), **hyper)
    np.testing.assert_allclose(attained, best, rtol=1e-5)


def test_what_is_hidden_or_weighs_nothing_moves_no_threshold():
    s, y = tied(30)
    keep = np.arange(30) % 3 > 0
    alone = fit_f1(s[keep], y[keep])
    chex.assert_trees_all_close(fit_f1(np.where(keep, s, np.nan), y, where=keep), alone)
    chex.assert_trees_all_close(fit_f1(s, y, weights=keep.astype(float)), alone)
    times = rng.integers(0, 4, 30)
    repeated = fit_f1(np.repeat(s, times), np.repeat(y, times))
    chex.assert_trees_all_close(fit_f1(s, y, weights=times), repeated, rtol=1e-6)


def test_a_threshold_for_every_label():
    s, y = (np.stack(x, -1) for x in zip(*[tied(50) for _ in range(3)], strict=True))
    each = jax.tree.map(lambda *x: jnp.stack(x), *[fit_f1(s[:, i], y[:, i]) for i in range(3)])
    chex.assert_trees_all_close(fit_f1(s, y, axis=0), each)
    chex.assert_shape(each.threshold, (3,))


def test_at_both_ends_the_threshold_is_finite_and_just_beyond():
    s = np.array([3.0, 1.0, 0.0, -2.0], np.float32)
    _, none = dm.fit_threshold(s, np.zeros(4, int), score=dm.accuracy)
    value, everything = dm.fit_threshold(s, np.arange(4) == 3, score=dm.recall)
    assert 3.0 < none < 3.001
    assert (value, everything < -2.0, everything > -2.001) == (1.0, True, True)
    _, above_zero = dm.fit_threshold(np.zeros(3, np.float32), np.zeros(3, int), score=dm.accuracy)
    assert 0.0 < above_zero < 1e-30


def test_without_a_positive_nothing_is_predicted():
    s, _ = tied(20)
    value, threshold = fit_f1(s, np.zeros(20, int))
    assert value == 0.0
    assert not np.any(s >= threshold)


def test_without_an_example_the_threshold_is_inf():
    assert fit_f1(np.ones(3), np.ones(3, int), where=np.zeros(3, bool)) == (0.0, np.inf)
    assert fit_f1(np.ones(0), np.ones(0, int)) == (0.0, np.inf)


def test_infinite_scores_and_nan_are_the_last_in_their_direction():
    inf = np.inf
    s = np.array([inf, inf, 2.0, -1.0, -inf, np.nan], np.float32)
    for y in map(np.array, itertools.product((0, 1), repeat=6)):
        value, threshold = dm.fit_threshold(s, y, score=dm.mcc)
        ordered = np.where(np.isnan(s), np.where(y > 0, -inf, inf), s)
        np.testing.assert_allclose(value, tried(ordered, y, dm.mcc), atol=1e-6)
        decided = ordered >= threshold if threshold < inf else ordered > inf
        np.testing.assert_allclose(dm.mcc(dm.counts(decided, y)), value, atol=1e-6)


def test_between_neighbouring_floats_the_larger_is_taken():
    y, low = np.array([1, 0]), np.float32(1.0)
    high = np.nextafter(low, np.float32(2.0))
    value, threshold = fit_f1(np.array([high, low]), y)
    assert (value, threshold) == (1.0, high)
    big = np.array([3e38, -3e38], np.float32)
    assert fit_f1(big, y) == (1.0, 0.0)


def ratio_of_hits(c: dm.Counts, price: float = 1.0) -> jax.Array:
    """A score of someone's own, which is 0/0 where nothing is predicted."""
    return jnp.asarray(c.tp / (c.tp + price * c.fp))


def test_a_score_of_ones_own_may_be_undefined_somewhere():
    s, y = np.array([3.0, 2.0, 1.0]), np.array([0, 1, 1])
    value, threshold = dm.fit_threshold(s, y, score=ratio_of_hits, price=2.0)
    assert (value, threshold < 1.0) == (0.5, True)


def test_narrow_scores_are_decided_in_float32():
    s, y = tied(40)
    narrow = jnp.asarray(s, jnp.bfloat16)
    value, threshold = fit_f1(narrow, y)
    assert threshold.dtype == jnp.float32
    chex.assert_trees_all_close(
        dm.fbeta(dm.counts(narrow.astype(jnp.float32) > threshold, y)), value
    )


def test_thresholds_name_wrong_arguments():
    with pytest.raises(ValueError, match="labels must have the shape of scores"):
        fit_f1(np.ones(3), np.ones((3, 1)))
    with pytest.raises(ValueError, match="the score must have the shape of the counts"):
        dm.fit_threshold(np.ones(3), np.ones(3, int), score=_mean_precision)


def _mean_precision(c: dm.Counts) -> jax.Array:
    return dm.precision(c).mean()


# --- their standard errors ------------------------------------------------------------------------


def overlapping(size: int) -> tuple[np.ndarray, np.ndarray]:
    labels = (np.arange(size) % 5 == 0).astype(int)
    return rng.normal(size=size) + 2.0 * labels, labels


def test_bootstrap_errors_are_those_of_resampling_by_hand():
    s, y = overlapping(200)
    fitted, error = dm.bootstrap_threshold(
        jax.random.key(0), s, y, score=dm.fbeta, resamples=1000, beta=2.0
    )
    chex.assert_trees_all_close(fitted, fit_f1(s, y, beta=2.0))
    again = [rng.integers(0, 200, 200) for _ in range(300)]
    by_hand = [fit_f1(s[rows], y[rows], beta=2.0) for rows in again]
    spread = np.std(np.asarray(by_hand), 0, ddof=1)
    np.testing.assert_allclose(np.asarray(error), spread, rtol=0.15)


def test_the_error_of_a_share_is_binomial_and_hidden_examples_are_never_drawn():
    s, y = overlapping(100)
    keep = np.arange(100) < 50
    _, error = dm.bootstrap_threshold(
        jax.random.key(2),
        np.where(keep, s, np.nan),
        y,
        score=dm.prevalence,
        resamples=2000,
        where=keep,
    )
    np.testing.assert_allclose(error.value, np.sqrt(0.2 * 0.8 / 50), rtol=0.05)


def test_bootstrap_is_reproducible_and_runs_for_every_label():
    s, y = (np.stack(x, -1) for x in zip(*[overlapping(60) for _ in range(2)], strict=True))
    key = jax.random.key(3)
    fit = partial(dm.bootstrap_threshold, score=dm.fbeta, resamples=20)
    both = jax.vmap(lambda a, b: fit(key, a, b), (1, 1))(s, y)
    each = [fit(key, s[:, i], y[:, i]) for i in range(2)]
    chex.assert_trees_all_close(both, jax.tree.map(lambda *x: jnp.stack(x), *each), rtol=1e-5)
    other = fit(jax.random.key(4), s[:, 0], y[:, 0])
    assert other[1].threshold != each[0][1].threshold


def test_tied_scores_are_resampled_together():
    s, y = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0]), np.array([1, 1, 0, 1, 0, 0])
    fitted, error = dm.bootstrap_threshold(
        jax.random.key(5), s, y, score=dm.balanced_accuracy, resamples=500
    )
    by_hand = [
        dm.fit_threshold(s[rows], y[rows], score=dm.balanced_accuracy).value
        for rows in rng.integers(0, 6, (500, 6))
    ]
    np.testing.assert_allclose(fitted.threshold, 0.5)
    np.testing.assert_allclose(error.value, np.std(by_hand), rtol=0.12)


# --- known costs ----------------------------------------------------------------------------------


def test_bayes_threshold_is_where_the_cheaper_decision_changes():
    cost = np.array([[-1.0, 2.0], [9.0, 1.0]])
    threshold = dm.bayes_threshold(cost)
    p = np.linspace(0, 1, 101)
    expected = np.stack([1 - p, p], -1) @ cost
    np.testing.assert_array_equal(p > threshold, expected[:, 1] < expected[:, 0])
    np.testing.assert_allclose(threshold, 3 / 11, rtol=1e-6)


def test_costs_broadcast_and_are_differentiable():
    cost = jnp.array([[[0.0, 1.0], [1.0, 0.0]], [[0.0, 1.0], [3.0, 0.0]]])
    np.testing.assert_allclose(dm.bayes_threshold(cost), [0.5, 0.25])
    assert jax.scipy.special.logit(dm.bayes_threshold(cost)[0]) == 0.0
    chex.assert_tree_all_finite(jax.grad(dm.bayes_threshold)(jnp.zeros((2, 2))))
    assert dm.bayes_threshold(np.zeros((2, 2))) == 0.0
    with pytest.raises(ValueError, match=r"cost must have shape \[..., 2, 2\], got \(3, 3\)"):
        dm.bayes_threshold(np.ones((3, 3)))


# --- expected F-beta ------------------------------------------------------------------------------


def fbeta(chosen: Any, labels: Any, beta: float) -> float:
    hits = sum(a and b for a, b in zip(chosen, labels, strict=True))
    below = sum(chosen) + beta**2 * sum(labels)
    return (1 + beta**2) * hits / below if below else 0.0


def expectation(p: Any, chosen: Any, beta: float) -> float:
    """The mean over all 2ⁿ labels."""
    total = 0.0
    for labels in itertools.product((0, 1), repeat=len(p)):
        chance = np.prod([q if y else 1 - q for q, y in zip(p, labels, strict=True)])
        total += float(chance) * fbeta(chosen, labels, beta)
    return total


def programme(p: Any, chosen: Any, beta: float) -> float:
    """Dynamic programming over the positives so far; after Ye et al."""
    value = 1 / (chosen.sum() + beta**2 * np.maximum(np.arange(len(p) + 1), 1e-300))
    for q in p[~chosen]:
        value = np.append((1 - q) * value[:-1] + q * value[1:], value[-1])
    value *= np.arange(len(p) + 1)
    for q in p[chosen]:
        value = np.append((1 - q) * value[:-1] + q * value[1:], value[-1])
    return (1 + beta**2) * value[0]


BETAS = [0.0, 0.5, 1.0, 2.0]
over_betas = pytest.mark.parametrize("beta", BETAS)
EXTREMES = np.array([0.0, 1.0, 0.5, 1e-6, 1 - 1e-6, 0.2, 0.9])


@over_betas
def test_expectation_matches_all_labels(beta: float):
    for p in (rng.random(7), EXTREMES, np.array([0.3]), np.array([1.0, 1.0])):
        for chosen in [*(rng.random((2, len(p))) < 0.5).tolist(), [True] * len(p)]:
            value = dm.expected_fbeta(p, chosen, beta=beta)
            np.testing.assert_allclose(value, expectation(p, chosen, beta), rtol=2e-6, atol=1e-12)


@over_betas
def test_no_other_set_has_a_larger_expectation(beta: float):
    for p in (rng.random(6), rng.random(6) ** 4, np.array([0.1, 0.1, 0.1]), EXTREMES[:6]):
        chosen, value = dm.maximize_expected_fbeta(p, beta=beta)
        sets = itertools.product((False, True), repeat=len(p))
        best = max(expectation(p, s, beta) for s in sets)
        np.testing.assert_allclose(value, best, rtol=2e-6)
        np.testing.assert_allclose(expectation(p, chosen.tolist(), beta), best, rtol=2e-6)


@pytest.mark.parametrize("scale", [0.001, 0.05, 1.0])
def test_large_sets_match_dynamic_programming(scale: float):
    p = scale * rng.random(3000).astype(np.float32)
    chosen, value = dm.maximize_expected_fbeta(p, beta=1.5)
    exact = programme(p.astype(float), np.asarray(chosen), 1.5)
    np.testing.assert_allclose(value, exact, rtol=2e-5)
    np.testing.assert_allclose(dm.expected_fbeta(p, chosen, beta=1.5), exact, rtol=2e-5)


def test_the_rule_is_exact_in_float64():
    for largest in (1, 30, 10**6):
        nodes, weights = expected_fbeta._rule(largest)
        for a in np.geomspace(1, largest, 200):
            np.testing.assert_allclose(np.sum(weights * np.exp(-a * nodes)), 1 / a, rtol=1e-9)


def test_any_axes_may_form_a_set():
    p = rng.random((3, 2, 4)).astype(np.float32)
    some = rng.random((3, 2, 4)) < 0.5
    chosen, value = dm.maximize_expected_fbeta(p, axis=(0, 2), beta=jnp.array([1.0, 2.0]))
    expected = dm.expected_fbeta(p, some, axis=(0, 2), beta=jnp.array([1.0, 2.0]))
    chex.assert_shape((value, expected), (2,))
    for i, beta in enumerate((1.0, 2.0)):
        alone, best = dm.maximize_expected_fbeta(p[:, i], beta=beta)
        np.testing.assert_array_equal(chosen[:, i], alone)
        np.testing.assert_allclose(value[i], best, rtol=1e-6)
        one = dm.expected_fbeta(p[:, i], some[:, i], beta=beta)
        np.testing.assert_allclose(expected[i], one, rtol=1e-6)


def test_hidden_elements_are_absent_from_expectations():
    p = np.array([0.4, np.nan, 0.7, 0.1], np.float32)
    keep, some = ~np.isnan(p), np.array([True, True, False, True])
    chex.assert_trees_all_close(
        dm.expected_fbeta(p, some, where=keep), dm.expected_fbeta(p[keep], some[keep]), rtol=1e-6
    )
    chosen, value = dm.maximize_expected_fbeta(p, where=keep, beta=100.0)
    assert chosen.tolist() == [True, False, True, True]
    gradient = jax.grad(lambda q: dm.expected_fbeta(q, some, where=keep))(p)
    chex.assert_tree_all_finite((value, gradient))


def test_where_nothing_can_be_positive_nothing_is_chosen():
    chosen, value = dm.maximize_expected_fbeta(np.zeros(5))
    assert not jnp.any(chosen)
    assert value == 0.0
    assert dm.expected_fbeta(np.full(3, 0.5), np.zeros(3, bool)) == 0.0
    assert dm.expected_fbeta(np.zeros(0), np.zeros(0, bool)) == 0.0


def test_expectation_is_linear_in_every_probability_and_so_is_its_gradient():
    p, some = rng.random(6), np.array([True, False, True, True, False, False])
    gradient = jax.grad(dm.expected_fbeta)(p.astype(np.float32), some)
    for i in range(6):
        one, zero = (np.where(np.arange(6) == i, x, p) for x in (1.0, 0.0))
        slope = expectation(one, some, 1.0) - expectation(zero, some, 1.0)
        np.testing.assert_allclose(gradient[i], slope, rtol=1e-4, atol=1e-6)
    for q in (np.zeros(3), np.ones(3), np.array([0.0, 1.0, 0.5])):
        some = np.array([True, False, True])
        of = partial(dm.expected_fbeta, chosen=some)
        chex.assert_tree_all_finite((jax.grad(of)(q), jax.hessian(of)(q)))
        best = jax.grad(lambda q: dm.maximize_expected_fbeta(q)[1])
        chex.assert_tree_all_finite(best(q))


def test_expectations_name_wrong_arguments():
    p = np.full(3, 0.5)
    with pytest.raises(TypeError, match="chosen must be boolean"):
        dm.expected_fbeta(p, p)
    with pytest.raises(ValueError, match="chosen must have the shape of probabilities"):
        dm.expected_fbeta(p, np.ones((3, 1), bool))
    with pytest.raises(TypeError, match="probabilities must be floating"):
        dm.maximize_expected_fbeta(np.array([0, 1]))
