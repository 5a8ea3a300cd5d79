"""Small inputs of people's reports, with the right values beside what was found once."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

import diffmetrics as dm


def test_a_void_id_whose_classes_are_all_masked_moves_nothing():
    z = np.array([[-np.inf, -np.inf], [1.0, 2.0]], np.float32)
    ids = np.array([255, 0])
    value, slope = jax.value_and_grad(lambda z: dm.softmax_cross_entropy(z, ids).sum())(z)
    np.testing.assert_allclose(value, np.log1p(np.e), rtol=1e-6)
    assert not slope[0].any()


def test_a_masked_class_costs_its_example_nothing():
    z, two = np.array([[3.0, 0.0, -np.inf]], np.float32), np.array([[3.0, 0.0]], np.float32)
    for name in ("softmax_cross_entropy", "softmax_focal_loss", "generalized_cross_entropy"):
        loss = getattr(dm, name)
        chex.assert_trees_all_close(loss(z, np.array([1])), loss(two, np.array([1])), rtol=1e-6)


def test_focal_loss_of_a_soft_label_is_the_expected_loss():
    z = np.array([2.0], np.float32)
    one, zero = (dm.sigmoid_focal_loss(z, np.array([k])) for k in (1, 0))
    soft = dm.sigmoid_focal_loss(z, np.array([0.3], np.float32))
    np.testing.assert_allclose(soft, 0.3 * one + 0.7 * zero, rtol=1e-6)
    np.testing.assert_allclose(soft, 1.156, atol=1e-3)  # was 0.557
    slope = jax.grad(lambda z: dm.sigmoid_focal_loss(z, np.array([0.5], np.float32)).sum())(z)
    assert slope > 0.1  # was 0


def test_masks_of_images_are_masks():
    z = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    mask = np.random.default_rng(1).random((8, 8)) < 0.3
    png = np.where(mask, 255, 0).astype(np.uint8)
    for name in ("dice_loss", "squared_dice_loss", "brier_loss", "sigmoid_focal_loss",
                 "sigmoid_cross_entropy", "lovasz_hinge_loss", "hinge_loss"):  # fmt: skip
        chex.assert_trees_all_close(getattr(dm, name)(z, png), getattr(dm, name)(z, mask))


def test_what_is_hidden_may_have_no_label():
    z, y = np.array([2.0, -1.0, 0.5], np.float32), np.array([1.0, 0.0, np.nan], np.float32)
    kept = np.array([True, True, False])
    for name in ("squared_dice_loss", "lovasz_hinge_loss", "dice_loss", "roc_auc_loss"):
        slope = jax.grad(lambda z, n=name: getattr(dm, n)(z, y, where=kept))(z)
        assert np.all(np.isfinite(slope))
        assert slope[2] == 0


def test_hinges_of_a_network_that_diverged_are_not_zero():
    nan, zero = np.full((2, 3), np.nan, np.float32), np.zeros((2, 3), np.float32)
    with jax.debug_nans(False):
        assert np.all(np.isnan(dm.triplet_loss(nan, zero, zero)))
        assert np.all(np.isnan(dm.interval_score(zero, zero, nan, coverage=0.9)))
        rows = np.array([[0.0, 0.0], [1.0, 0.0], [np.nan, 0.0], [3.0, 1.0]], np.float32)
        loss = dm.batch_hard_triplet_loss(rows, np.array([0, 0, 1, 1]))
        assert np.all(np.isnan(loss))


def test_a_prior_teaches_emptiness_to_one_empty_channel():
    z, y = np.array([[1.0], [0.5]], np.float32), np.zeros((2, 1), int)

    def loss(z: jax.Array) -> jax.Array:
        return dm.generalized_dice_loss(z, y, prior=dm.Counts(tp=1.0))

    assert np.all(jax.grad(loss)(z) > 0)


def test_a_weighted_loss_of_the_largest_narrow_logit_is_finite():
    """XLA multiplies an infinite product by a label of 0 where it may reorder factors."""
    z = jnp.full((3,), -3.39e38, jnp.bfloat16)

    def every(z: jax.Array, y: jax.Array) -> jax.Array:
        return dm.weighted_sigmoid_cross_entropy(z, y, positive_weight=3.0)

    labels = jnp.arange(3) % 2
    chex.assert_tree_all_finite(jax.jit(jax.vmap(every))(z, labels))


def test_few_true_negatives_are_no_difference_of_many_others():
    labels = np.ones(2_000_000, int)
    labels[:100] = 0
    predicted = np.where(np.arange(labels.size) < 50, 1, labels)
    weights = np.full(labels.size, 1.7, np.float32)
    for number in (2, 2_000):  # by a matrix, and without one
        counts = dm.counts_per_class(predicted, labels, number, weights=weights)
        np.testing.assert_allclose(counts[1].tn, 85.0, rtol=1e-5)  # was 3


def test_scores_do_not_depend_on_how_small_all_weights_are():
    z, y = np.array([1.0, -1.0, 2.0], np.float32), np.array([1, 0, 0])
    for name in ("dice_loss", "mcc_loss", "squared_dice_loss", "generalized_dice_loss"):
        loss = getattr(dm, name)

        def both(z: Any, w: np.ndarray, loss: Any = loss) -> Any:
            return jax.value_and_grad(lambda z: loss(z[:, None], y[:, None], weights=w).sum())(z)

        one, tiny = (both(z, np.full((3, 1), x, np.float32)) for x in (1.0, 1e-20))
        chex.assert_trees_all_close(tiny, one, rtol=1e-5)
    np.testing.assert_allclose(dm.fbeta(dm.Counts(tp=6e-20, fp=4e-20, fn=1e-20)), 12 / 17)


def test_a_forecast_that_is_nan_resolves_nothing():
    with jax.debug_nans(False):
        found = dm.brier_decomposition(np.array([0.5, np.nan], np.float32), np.array([1, 0]))
        assert np.all(np.isnan(found))
