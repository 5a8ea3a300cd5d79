"""What is special about each overlap loss: who it is under another name, its ends, its prior."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffmetrics as dm
from diffmetrics import testing
from tests.references import sets as reference
from tests.rows import BINARY, Row, over

Loss = Callable[..., jax.Array]
rng = np.random.default_rng(0)
SHAPE = (2, 3, 4)
LOGITS = rng.normal(scale=2.0, size=SHAPE)
LABELS = rng.integers(0, 2, SHAPE)
SOFT = rng.uniform(size=SHAPE)
KEEP = rng.random(SHAPE) < 0.7
FACTORS = rng.uniform(0.5, 2.0, SHAPE)
OVER_CLASSES = ("generalized_dice_loss", "lovasz_softmax_loss")  # they keep the last axis


# --- identities -----------------------------------------------------------------------------------


def test_pooled_softmax_dice_is_mean_true_class_probability():
    """The documented trap: over all axes, classes included, it is blind to imbalance."""
    ids = rng.integers(0, 4, (2, 3))
    p = jax.nn.softmax(LOGITS)
    true_class = jnp.take_along_axis(p, ids[..., None], -1).mean()
    pooled = dm.dice_loss(LOGITS, ids, activation=jax.nn.softmax)
    np.testing.assert_allclose(pooled, 1 - true_class, rtol=1e-5)
    macro = dm.dice_loss(LOGITS, ids, activation=jax.nn.softmax, axis=(0, 1)).mean()
    assert abs(macro - pooled) > 0.01


@pytest.mark.parametrize("name", ["dice_loss", "balanced_accuracy_loss", "squared_dice_loss"])
def test_prior_is_pseudo_pixels(name: str):
    """All faces of `score_loss` add it in the same line; one sees the negatives, too."""
    loss = getattr(dm, name)
    labels = LABELS.ravel()
    # Two hits, one false alarm, three misses and one correct rejection, all without doubt.
    certain = 200.0 * np.array([1, 1, 1, -1, -1, -1, -1])
    longer = np.concatenate([LOGITS.ravel(), certain])
    pixels = loss(longer, np.concatenate([labels, [1, 1, 0, 1, 1, 1, 0]]))
    prior = loss(LOGITS.ravel(), labels, prior=dm.Counts(tp=2.0, fp=1.0, fn=3.0, tn=1.0))
    np.testing.assert_allclose(prior, pixels, rtol=1e-5)


# --- edges ----------------------------------------------------------------------------------------


@over(lambda row: row.family == "sets" and row.engine and row.batch is BINARY)
def test_more_foreground_than_float16_can_count(row: Row):
    logits = rng.normal(size=(300, 300, 1)).astype(np.float16)
    labels = rng.random(logits.shape) < 0.9
    assert labels.sum() > 65_504
    value, gradient = jax.jit(jax.value_and_grad(row.loss))(logits, labels)
    np.testing.assert_allclose(value, row(logits.astype(np.float32), labels), rtol=1e-5)
    chex.assert_type(gradient, jnp.float16)
    chex.assert_tree_all_finite(gradient)


@pytest.mark.parametrize("name", [*OVER_CLASSES, "lovasz_hinge_loss"])
def test_saturated_logits_match_the_loops(name: str):
    """The others tend to an exact metric."""
    logits = 1e4 * np.sign(LOGITS)
    expected = getattr(reference, name)(logits, LABELS)
    value = getattr(dm, name)(logits, LABELS)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


def test_focal_tversky_at_perfection_has_no_infinite_gradient():
    perfect = jnp.where(LABELS == 1, 200.0, -200.0)
    value, gradient = jax.value_and_grad(dm.focal_tversky_loss)(perfect, LABELS)
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize("name", OVER_CLASSES)
def test_an_absent_class_is_left_out(name: str):
    loss = getattr(dm, name)
    labels = LABELS.copy()
    labels[..., 2] = 0
    present = [0, 1, 3]
    whole = loss(LOGITS, labels, activation=jax.nn.sigmoid)
    without = loss(LOGITS[..., present], labels[..., present], activation=jax.nn.sigmoid)
    np.testing.assert_allclose(whole, without, rtol=1e-5)


@pytest.mark.parametrize("name", OVER_CLASSES)
def test_the_axis_of_classes_cannot_be_counted(name: str):
    with pytest.raises(
        ValueError, match=r"must not name the axis that holds the classes.*axis=\(0, -1\)"
    ):
        getattr(dm, name)(LOGITS, LABELS, axis=(0, -1))


def test_activation_must_keep_the_shape():
    with pytest.raises(ValueError, match=r"activation must keep the shape of logits \(2, 3, 4\)"):
        dm.dice_loss(LOGITS, LABELS, activation=lambda z: z[..., 0])


# --- Lovász ---------------------------------------------------------------------------------------


def jaccard_loss_of(mistaken: Sequence[int] | np.ndarray, labels: np.ndarray) -> float:
    wrong = np.isin(np.arange(len(labels)), mistaken)
    union = np.sum((labels == 1) | wrong)
    return float(wrong.sum() / union) if union else 0.0


SMALL = [np.array(y) for y in ([1, 0, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0], [0, 0, 0, 1, 0])]


@pytest.mark.parametrize("labels", SMALL, ids=str)
def test_lovasz_extends_the_jaccard_loss_of_every_set_of_mistakes(labels: np.ndarray):
    for mistaken in itertools.product([0, 1], repeat=5):
        errors = np.array(mistaken, float)
        logits = (1 - errors) * (2 * labels - 1)  # an error of 1 at logit 0, of 0 on the margin
        expected = jaccard_loss_of(np.flatnonzero(mistaken), labels)
        np.testing.assert_allclose(dm.lovasz_hinge_loss(logits, labels), expected, atol=1e-6)


@pytest.mark.parametrize("labels", SMALL, ids=str)
def test_lovasz_is_the_largest_over_all_orders_of_mistakes(labels: np.ndarray):
    """A submodular set function's extension is a maximum over permutations: no sorting needed."""
    logits = np.random.default_rng(1).normal(size=5)
    errors = np.maximum(0, 1 - logits * (2 * labels - 1))
    largest = -np.inf
    for order in itertools.permutations(range(5)):
        steps = np.diff([jaccard_loss_of(order[:k], labels) for k in range(6)])
        largest = max(largest, float(np.dot(errors[list(order)], steps)))
    np.testing.assert_allclose(dm.lovasz_hinge_loss(logits, labels), largest, rtol=1e-5)


def test_lovasz_hinge_without_foreground_is_the_largest_hinge():
    both = jax.jit(jax.value_and_grad(dm.lovasz_hinge_loss))
    value, gradient = both(jnp.array([-3.0, 0.5, -0.2]), np.zeros(3, int))
    np.testing.assert_allclose(value, 1.5)
    np.testing.assert_allclose(gradient, [0, 1, 0])
    # At the margin itself nothing pulls.
    assert not both(jnp.array([1.0, -1.0, 1.0]), np.array([1, 0, 1]))[1].any()


def test_lovasz_gradient_of_a_large_image_keeps_its_digits():
    draw = np.random.default_rng(0)
    labels = draw.random(2**19) < 1e-3
    logits = (draw.normal(size=2**19) + np.where(labels, 1, -2)).astype(np.float32)
    ours = np.asarray(jax.grad(dm.lovasz_hinge_loss)(logits, labels))
    with jax.enable_x64(True):
        exact = np.asarray(jax.grad(dm.lovasz_hinge_loss)(logits.astype(np.float64), labels))
    assert np.linalg.norm(ours - exact) < 1e-5 * np.linalg.norm(exact)


def test_lovasz_gradient_knows_nothing_of_a_hidden_label():
    z, y, where = jnp.array([2.0, -1.0, 0.5]), jnp.array([1.0, 0.0, np.nan]), np.arange(3) < 2
    weights = jnp.array([1.0, 2.0, np.nan])
    for options in ({}, {"weights": weights}):
        gradient = jax.grad(dm.lovasz_hinge_loss)(z, y, where=where, **options)
        alone = {k: x[:2] for k, x in options.items()}
        expected = jax.grad(dm.lovasz_hinge_loss)(z[:2], y[:2], **alone)
        np.testing.assert_allclose(gradient, [*expected, 0.0], rtol=1e-6)


@pytest.mark.parametrize("name", ["lovasz_hinge_loss", "lovasz_softmax_loss"])
def test_lovasz_of_hard_labels_of_any_type_is_the_same(name: str):
    """Integers are counted, floats are added, and weights of 1 are no weights."""
    both = jax.value_and_grad(getattr(dm, name))
    expected = both(jnp.asarray(LOGITS, jnp.float32), LABELS == 1)
    for labels in (LABELS, 255 * LABELS, 2 * LABELS - 1, LABELS.astype(np.float32)):
        chex.assert_trees_all_close(both(LOGITS.astype(np.float32), labels), expected, rtol=1e-5)
    weighted = both(LOGITS.astype(np.float32), LABELS, weights=np.ones(SHAPE, np.float32))
    chex.assert_trees_all_close(weighted, expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["lovasz_hinge_loss", "lovasz_softmax_loss"])
def test_lovasz_has_derivatives_in_weights_and_pseudo_counts(name: str):
    def loss(moved: tuple[jax.Array, jax.Array], labels: jax.Array) -> jax.Array:
        weights, extra = moved
        prior = dm.Counts(tp=extra, fn=0.5 * extra)
        return getattr(dm, name)(LOGITS, labels, weights=weights, prior=prior)

    testing.assert_gradient_matches_numerical(loss, (FACTORS, np.float64(0.7)), LABELS)
