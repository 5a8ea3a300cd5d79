"""Class weights against scikit-learn and the paper's formula; priors against Bayes' theorem."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

import diffmetrics as dm

rng = np.random.default_rng(0)

# --- weights --------------------------------------------------------------------------------------


def test_balanced_weights_are_those_of_sklearn():
    labels = rng.choice(4, p=[0.7, 0.2, 0.08, 0.02], size=1000)
    expected = compute_class_weight("balanced", classes=np.arange(4), y=labels)
    weights = dm.balanced_class_weights(np.bincount(labels))
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    np.testing.assert_allclose(jnp.mean(weights[labels]), 1.0, rtol=1e-5)


def test_a_class_without_examples_weighs_nothing_and_changes_no_other_weight():
    counts = np.array([90, 0, 10])
    for weigh in (dm.balanced_class_weights, dm.effective_number_weights):
        chex.assert_trees_all_close(weigh(counts)[jnp.array([0, 2])], weigh(counts[[0, 2]]))
        assert weigh(counts)[1] == 0.0
        np.testing.assert_array_equal(weigh(np.zeros(3)), np.zeros(3))


def effective(counts: list[int], beta: float) -> np.ndarray:
    """The formula of the paper, by the sum that (1 - beta^n) / (1 - beta) stands for."""
    number = [sum(beta**i for i in range(n)) for n in counts]
    weights = np.array([1 / e for e in number])
    return weights / weights.sum() * len(counts)


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 0.999, 0.9999, 1 - 1e-6, 1 - 2**-24, 1.0])
def test_effective_numbers_match_the_sum(beta: float):
    counts = [1, 3, 250, 6000]
    rounded = float(np.float32(beta))
    weights = dm.effective_number_weights(np.array(counts), beta=beta)
    np.testing.assert_allclose(weights, effective(counts, rounded), rtol=2e-6)


def test_effective_numbers_end_in_balanced_weights():
    counts = np.array([5000, 40, 7])
    balanced = dm.balanced_class_weights(counts)
    chex.assert_trees_all_close(
        dm.effective_number_weights(counts, beta=1.0), balanced / balanced.mean(), rtol=1e-6
    )


def test_beta_has_a_gradient():
    counts = np.array([5000.0, 40.0, 7.0])
    slope_at = jax.jit(jax.jacobian(lambda b: dm.effective_number_weights(counts, beta=b)))
    for beta in (0.0, 0.9, 1.0):
        chex.assert_tree_all_finite(slope_at(beta))
    slope = slope_at(0.9)
    ahead, behind = (effective([5000, 40, 7], b) for b in (0.9 + 1e-5, 0.9 - 1e-5))
    np.testing.assert_allclose(slope, (ahead - behind) / 2e-5, rtol=1e-4, atol=1e-5)


def test_weights_name_a_wrong_shape():
    with pytest.raises(ValueError, match="class_counts must have a last axis of classes"):
        dm.balanced_class_weights(3.0)
    with pytest.raises(ValueError, match="beta must broadcast to class_counts"):
        dm.effective_number_weights(np.ones(3), beta=np.ones(2))


# --- correcting a known prior ---------------------------------------------------------------------


def normal_logits(x: np.ndarray, prior: float) -> np.ndarray:
    """The true logit of class 1 of N(1, 1), against class 0 of N(-1, 1)."""
    return 2 * x + np.log(prior / (1 - prior))


def test_correction_is_bayes_theorem():
    x = rng.normal(size=50)
    corrected = dm.correct_prior(normal_logits(x, 0.5), trained_prior=0.5, true_prior=0.003)
    np.testing.assert_allclose(corrected, normal_logits(x, 0.003), rtol=1e-5, atol=1e-5)


def test_undersampling_negatives_is_a_shift_by_the_log_of_its_rate():
    prior, rate = 0.02, 0.1
    trained = prior / (prior + rate * (1 - prior))
    z = rng.normal(size=20)
    corrected = dm.correct_prior(z, trained_prior=trained, true_prior=prior)
    np.testing.assert_allclose(corrected, z + np.log(rate), rtol=1e-5, atol=1e-5)
    p = 1 / (1 + np.exp(-z))
    np.testing.assert_allclose(jax.nn.sigmoid(corrected), rate * p / (rate * p - p + 1), rtol=1e-5)


def test_softmax_of_two_classes_is_the_sigmoid():
    z = rng.normal(size=30).astype(np.float32)
    two = dm.correct_class_priors(
        np.stack([0 * z, z], -1), trained_priors=np.array([3, 1]), true_priors=np.array([99, 1])
    )
    one = dm.correct_prior(z, trained_prior=0.25, true_prior=0.01)
    np.testing.assert_allclose(two[:, 1] - two[:, 0], one, rtol=1e-5, atol=1e-5)


def test_priors_may_differ_by_label():
    z = rng.normal(size=(5, 2))
    both = dm.correct_prior(z, trained_prior=np.array([0.5, 0.1]), true_prior=np.array([0.2, 0.3]))
    second = dm.correct_prior(z[:, 1], trained_prior=0.1, true_prior=0.3)
    chex.assert_trees_all_close(both[:, 1], second, rtol=1e-6)


def test_corrections_are_finite_and_name_wrong_arguments():
    z = np.array([-3e38, 0.0, 3e38], np.float32)
    for prior in (0.0, 1.0):
        chex.assert_tree_all_finite(dm.correct_prior(z, trained_prior=prior, true_prior=0.5))
        chex.assert_tree_all_finite(dm.correct_prior(z, trained_prior=0.5, true_prior=prior))
    assert dm.correct_prior(jnp.ones(3, jnp.bfloat16), trained_prior=0.5, true_prior=0.1).dtype == (
        jnp.float32
    )
    with pytest.raises(TypeError, match="logits must be floating"):
        dm.correct_prior(np.array([1, 2]), trained_prior=0.5, true_prior=0.5)
    with pytest.raises(ValueError, match="true_prior must broadcast to logits"):
        dm.correct_prior(z, trained_prior=0.5, true_prior=np.ones((3, 1)))
    with pytest.raises(ValueError, match="trained_priors must broadcast to logits"):
        dm.correct_class_priors(z, trained_priors=np.ones(2), true_priors=np.ones(3))
    with pytest.raises(ValueError, match="logits must have an axis of classes"):
        dm.correct_class_priors(1.0, trained_priors=1.0, true_priors=1.0)


# --- estimating an unknown prior ------------------------------------------------------------------


def sample(prior: float, size: int) -> np.ndarray:
    """Logits, of a model trained at prior ½, for data in which class 1 has `prior`."""
    labels = rng.random(size) < prior
    return normal_logits(rng.normal(size=size) + np.where(labels, 1.0, -1.0), 0.5)


def most_likely_prior(z: np.ndarray, trained: float) -> float:
    """The maximum of the likelihood on a grid."""
    ratio = np.exp(z) * (1 - trained) / trained
    grid = np.linspace(0, 1, 20_001)
    likelihood = [np.sum(np.log(g * ratio + 1 - g)) for g in grid[1:-1]]
    return grid[1 + int(np.argmax(likelihood))]


@pytest.mark.parametrize("prior", [0.02, 0.3, 0.9])
def test_estimate_is_the_most_likely_prior_and_near_the_true_one(prior: float):
    z = sample(prior, 4000)
    estimate = dm.estimate_prior(z, trained_prior=0.5)
    np.testing.assert_allclose(estimate, most_likely_prior(z, 0.5), atol=1e-4)
    np.testing.assert_allclose(estimate, prior, atol=0.03)


def test_estimate_allows_for_the_prior_of_the_training():
    z = sample(0.1, 4000)
    shifted = dm.correct_prior(z, trained_prior=0.5, true_prior=0.8)
    chex.assert_trees_all_close(
        dm.estimate_prior(shifted, trained_prior=0.8),
        dm.estimate_prior(z, trained_prior=0.5),
        atol=1e-4,
    )


def test_two_classes_are_the_binary_case():
    z = sample(0.2, 500)
    classes = dm.estimate_class_priors(np.stack([0 * z, z], -1), trained_priors=np.array([2, 1]))
    np.testing.assert_allclose(
        classes[1], dm.estimate_prior(z, trained_prior=1 / 3), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(jnp.sum(classes), 1.0, rtol=1e-5)


def test_estimate_of_three_classes_is_near_the_true_priors():
    true, centres = np.array([0.7, 0.25, 0.05]), 2.0 * np.eye(3)
    x = rng.normal(size=(20_000, 3)) + centres[rng.choice(3, p=true, size=20_000)]
    logits = x @ centres.T  # equal norms, trained on equal priors
    found = dm.estimate_class_priors(logits, trained_priors=np.ones(3))
    np.testing.assert_allclose(found, true, atol=0.01)


ESTIMATES: dict[str, Any] = {
    "binary": lambda z, **options: dm.estimate_prior(z, trained_prior=0.3, **options),
    "classes": lambda z, **options: dm.estimate_class_priors(
        jnp.stack([z, 0 * z, 0.5 - z], -1), trained_priors=jnp.array([0.3, 0.3, 0.4]), **options
    ),
}
over_estimates = pytest.mark.parametrize("estimate", ESTIMATES.values(), ids=ESTIMATES)


@over_estimates
@jax.debug_nans(False)
def test_hidden_examples_are_absent_and_weights_are_multiplicities(estimate: Any):
    z = sample(0.2, 12).astype(np.float32)
    keep, times = np.arange(12) % 3 != 0, rng.integers(0, 4, 12)
    holes = np.where(keep, z, np.nan)
    chex.assert_trees_all_close(estimate(holes, where=keep), estimate(z[keep]), rtol=1e-5)
    chex.assert_trees_all_close(
        estimate(z, weights=times), estimate(np.repeat(z, times)), rtol=1e-4, atol=1e-6
    )
    gradient = jax.grad(lambda x: jnp.ravel(estimate(x, where=keep))[0])(holes)
    chex.assert_tree_all_finite(gradient)


@over_estimates
def test_every_column_may_be_a_set(estimate: Any):
    z = np.stack([sample(0.1, 50), sample(0.6, 50)], -1).astype(np.float32)
    each = jnp.stack([estimate(z[:, 0]), estimate(z[:, 1])])
    chex.assert_trees_all_close(estimate(z, axis=0), each, rtol=1e-5)


@over_estimates
def test_without_evidence_the_estimate_stays_where_it_began(estimate: Any):
    trained = {0: 0.3, 1: [0.3, 0.3, 0.4]}
    none = estimate(np.ones(4, np.float32), where=np.zeros(4, bool))
    np.testing.assert_allclose(none, trained[none.ndim], rtol=1e-6)


def test_logits_that_are_all_alike_say_nothing():
    same = np.full(10, np.log(0.3 / 0.7), np.float32)
    np.testing.assert_allclose(dm.estimate_prior(same, trained_prior=0.3), 0.3, rtol=1e-3)


@over_estimates
def test_estimates_are_finite_for_every_finite_logit(estimate: Any):
    for z in (np.array([3e38, -3e38, 1.0]), np.array([1e4, 1e4]), np.array([-1e4, -1e4])):
        value, slope = jax.value_and_grad(lambda x: jnp.ravel(estimate(x))[0])(z.astype(np.float32))
        chex.assert_tree_all_finite((value, slope))


def test_estimates_name_wrong_arguments():
    z = np.zeros((4, 3), np.float32)
    with pytest.raises(ValueError, match="where must broadcast to the examples"):
        dm.estimate_class_priors(z, trained_priors=np.ones(3), where=np.ones(3, bool))
    with pytest.raises(ValueError, match="axis must not name the axis that holds the classes"):
        dm.estimate_class_priors(z, trained_priors=np.ones(3), axis=-1)
    with pytest.raises(ValueError, match="trained_prior must broadcast to the sets"):
        dm.estimate_prior(z, trained_prior=np.ones(4), axis=0)
    with pytest.raises(TypeError, match="where must be boolean"):
        dm.estimate_prior(z, trained_prior=0.5, where=np.ones((4, 3)))
