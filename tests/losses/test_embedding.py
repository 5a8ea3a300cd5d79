"""Losses of distances and angles between embeddings."""

from __future__ import annotations

import itertools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffmetrics as dm
from tests.contract.derivatives import assert_derivatives_finite
from tests.references import divergence as reference
from tests.rows import COSINES, IDENTITIES as IDS, SAME, P as A, Q as B, R as C

rng = np.random.default_rng(0)
MAX = float(np.finfo(np.float32).max)
EXTREMES = np.array([0.0, 1.0, -1e-30, 1e-18, -1e4, 1e19, -1e38, MAX, -MAX], np.float32)
LABELS = np.array([0, 1, 2, 3, 1, 0])


# --- distances ------------------------------------------------------------------------------------


def test_distances_keep_their_precision_at_every_size():
    for factor in (1e-15, 1e-3, 1e20, 1e37):
        value = dm.triplet_loss(factor * A, factor * B, factor * C, margin=0.0) / factor
        np.testing.assert_allclose(value, dm.triplet_loss(A, B, C, margin=0.0), rtol=1e-5)
    far = np.float32(1000.0)  # no cancellation beyond that of the difference itself
    np.testing.assert_allclose(
        dm.contrastive_loss(A[0] + far, B[0] + far, 1),
        dm.contrastive_loss((A[0] + far) - far, (B[0] + far) - far, 1),
        rtol=1e-6,
    )


def test_equal_embeddings_have_a_finite_gradient():
    gradients = jax.jit(jax.grad(lambda a: dm.contrastive_loss(a, a, SAME).sum()))(A)
    chex.assert_trees_all_equal(gradients, jnp.zeros_like(A))
    assert_derivatives_finite(lambda x: dm.contrastive_loss(x[0], x[1], 0), np.ones((1, 2, 3)))
    assert float(dm.triplet_loss(A[0], A[0], A[0], margin=0.7)) == pytest.approx(0.7)
    assert float(dm.triplet_loss(A[0], A[0], A[0], margin=0.0, sharpness=1.0)) == pytest.approx(
        np.log(2)
    )


def test_distance_losses_are_finite_at_every_embedding():
    pairs = np.array(list(itertools.product(itertools.product(EXTREMES, repeat=2), repeat=2)))

    def as_both(x: jax.Array) -> jax.Array:  # as the same and as different
        return sum((0.5 * dm.contrastive_loss(x[0], x[1], s) for s in (0, 1)), jnp.zeros(()))

    assert_derivatives_finite(as_both, pairs)
    triplets = rng.choice(EXTREMES, (3000, 3, 2))
    assert_derivatives_finite(lambda x: dm.triplet_loss(*x), triplets)
    assert_derivatives_finite(lambda x: dm.triplet_loss(*x, margin=0.0, sharpness=1.0), triplets)


def test_slopes_at_the_kinks():
    # The triplet's still pulls; the contrastive loss has no corner.
    a, p, n = jnp.zeros(2), jnp.array([1.0, 0.0]), jnp.array([0.0, 3.0])
    gradient = jax.grad(lambda p: dm.triplet_loss(a, p, n, margin=2.0))(p)
    chex.assert_trees_all_close(gradient, jnp.array([1.0, 0.0]))
    assert jnp.all(jax.grad(lambda p: dm.triplet_loss(a, p, n, margin=1.9))(p) == 0)
    assert jnp.all(jax.grad(lambda p: dm.contrastive_loss(a, p, 0, margin=1.0))(p) == 0)


def test_an_embedding_has_an_axis():
    with pytest.raises(ValueError, match="last axis"):
        dm.contrastive_loss(1.0, 2.0, True)


# --- batch hard -----------------------------------------------------------------------------------

WHERE = np.array([True, True, True, False, True, True])


@pytest.mark.parametrize("where", [None, WHERE, ~WHERE, np.array([True] * 4 + [False] * 2)])
@pytest.mark.parametrize("sharpness", [None, 2.0])
def test_batch_hard_is_its_definition(where: Any, sharpness: float | None):
    for ids in (IDS, np.array([0, 0, 0, 1, 1, 1]), np.zeros(6, int), np.arange(6)):
        expected = reference.batch_hard_triplet_loss(
            A.tolist(), ids.tolist(), 0.5, where, sharpness
        )
        value = dm.batch_hard_triplet_loss(A, ids, margin=0.5, where=where, sharpness=sharpness)
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


def test_batch_hard_of_a_large_batch_is_its_definition():
    x = rng.normal(size=(120, 8)).astype(np.float32) + 1000  # far from the origin
    ids = rng.integers(0, 12, 120)
    expected = reference.batch_hard_triplet_loss(x.tolist(), ids.tolist(), 1.0)
    np.testing.assert_allclose(dm.batch_hard_triplet_loss(x, ids), expected, rtol=1e-5, atol=1e-4)


def test_hardest_are_differentiated_and_the_others_not_moved():
    x = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [5.0, 0.0]])
    ids = np.array([0, 0, 0, 1, 1])
    gradient = jax.grad(lambda x: dm.batch_hard_triplet_loss(x, ids, margin=5.0)[0])(x)
    # Farthest of identity 0 from the first: the third; closest of 1: the fourth.
    expected = jnp.array([[1.0, -1.0], [0.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, 0.0]])
    chex.assert_trees_all_close(gradient, expected, atol=1e-6)


def test_a_twin_is_a_positive_and_oneself_is_not():
    x = jnp.array([[1.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    chex.assert_trees_all_close(
        dm.batch_hard_triplet_loss(x, jnp.array([0, 0, 1]), margin=1.5), jnp.array([0.5, 0.5, 0.0])
    )
    chex.assert_trees_all_equal(
        dm.batch_hard_triplet_loss(x, jnp.array([0, 2, 1]), margin=1.5), jnp.zeros(3)
    )


@pytest.mark.parametrize("sharpness", [None, 2.0])
def test_anchor_without_positive_or_negative_costs_nothing(sharpness: float | None):
    for ids in (np.zeros(6, int), np.arange(6)):

        def loss(x: jax.Array, ids: np.ndarray = ids) -> jax.Array:
            return dm.batch_hard_triplet_loss(x, ids, sharpness=sharpness).sum()

        chex.assert_trees_all_equal(
            jax.value_and_grad(loss)(jnp.asarray(A)), (0.0, jnp.zeros_like(A))
        )


def test_hidden_examples_are_as_good_as_absent():
    @jax.jit
    def loss(x: jax.Array, ids: Any, where: Any) -> tuple[jax.Array, jax.Array]:
        return jax.value_and_grad(
            lambda x: dm.batch_hard_triplet_loss(x, ids, margin=3.0, where=where).sum()
        )(x)

    alone = loss(jnp.asarray(A[WHERE]), IDS[WHERE], None)
    for poison in (np.nan, np.inf, MAX):
        strange = np.where(WHERE[:, None], A, np.float32(poison))
        value, gradient = loss(strange, IDS, WHERE)
        chex.assert_trees_all_close((value, gradient[WHERE]), alone, rtol=1e-5)
        assert jnp.all(gradient[~WHERE] == 0)
        nothing = loss(np.full_like(A, poison), IDS, np.zeros(6, bool))
        chex.assert_trees_all_equal(nothing, (0.0, jnp.zeros_like(A)))


@pytest.mark.parametrize("sharpness", [None, 2.0])
def test_batch_hard_is_finite_at_every_embedding(sharpness: float | None):
    x = rng.choice(EXTREMES, (2000, 4, 2))
    ids = np.array([0, 0, 1, 1])
    assert_derivatives_finite(
        lambda x: 0.1 * dm.batch_hard_triplet_loss(x, ids, sharpness=sharpness).max(), x
    )


def test_no_array_of_all_pairs_and_dimensions_is_made():
    n, d = 37, 29
    loss = jax.grad(lambda x: dm.batch_hard_triplet_loss(x, jnp.arange(n) // 2).sum())
    assert f"{n},{n},{d}" not in str(jax.make_jaxpr(loss)(jnp.zeros((n, d)))).replace(" ", "")


# --- angles ---------------------------------------------------------------------------------------

MARGINS = [(64.0, 0.5, 0.0), (30.0, 0.0, 0.35), (8.0, 0.3, 0.1), (1.0, 0.0, 0.0), (4.0, 2.0, 0.0)]


@pytest.mark.parametrize("margins", MARGINS)
def test_angular_margin_is_its_definition(margins: tuple[float, float, float]):
    cosines = np.concatenate([COSINES, [[-0.99, 0.2, 0.0, -1.0]], [[1.0, 0.9, -1.0, 0.0]]])
    labels = np.concatenate([LABELS, [0, 0]])
    names = ("scale", "angular_margin", "cosine_margin")
    options = dict(zip(names, margins, strict=True))
    expected = reference.angular_margin_loss(cosines.astype(np.float32), labels, **options)
    for of in (labels, np.eye(4, dtype=np.float32)[labels], np.eye(4, dtype=int)[labels]):
        value = dm.angular_margin_loss(cosines.astype(np.float32), of, **options)
        np.testing.assert_allclose(value, expected, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("margin", [0.1, 0.5, 1.5, 2.3])
def test_loss_falls_with_the_true_cosine_also_beyond_pi(margin: float):
    cosines = np.stack([np.linspace(-1, 1, 2001), np.zeros(2001)], -1).astype(np.float32)

    def loss(c: Any) -> jax.Array:
        return dm.angular_margin_loss(c, jnp.zeros(2001, int), scale=4.0, angular_margin=margin)

    assert jnp.all(jnp.diff(loss(cosines)) <= 1e-6)
    assert jnp.all(jax.grad(lambda c: loss(c).sum())(jnp.asarray(cosines))[:, 0] <= 0)


@pytest.mark.parametrize("options", [{}, {"angular_margin": 0.0, "cosine_margin": 0.35}])
def test_angular_margin_is_finite_at_every_cosine(options: Any):
    edges = np.array([0, 1, -1, 1 + 1e-7, 1 - 6e-8, -1 + 6e-8, -np.cos(0.5), 0.3, 1e4, MAX, -MAX])
    cases = np.array(list(itertools.product(edges.astype(np.float32), repeat=3)))
    label = 1 if options else np.array([0.0, 1.0, 0.0])
    assert_derivatives_finite(lambda c: dm.angular_margin_loss(c, label, **options), cases)


def test_gradient_at_the_ends_is_bounded_and_pulls():
    for end in (1.0, 1.0 + 1e-7, -1.0):
        cosines = jnp.array([end, 0.99])
        gradient = jax.grad(lambda c: dm.angular_margin_loss(c, 0, scale=1.0))(cosines)
        assert -1000 < gradient[0] < 0 < gradient[1]


def test_an_id_of_no_class_costs_nothing():
    labels = np.where(LABELS == 1, -1, LABELS)
    value, gradient = jax.value_and_grad(lambda c: dm.angular_margin_loss(c, labels).sum())(
        jnp.asarray(COSINES)
    )
    known = LABELS != 1
    np.testing.assert_allclose(
        value, dm.angular_margin_loss(COSINES[known], LABELS[known]).sum(), rtol=1e-6
    )
    assert jnp.all(gradient[~known] == 0)
    assert dm.angular_margin_loss(COSINES[0], 4) == 0
