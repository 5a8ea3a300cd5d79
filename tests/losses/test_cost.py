"""What is special about losses of a cost matrix."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffmetrics as dm
from tests.rows import BINARY, CLASSES, FREE_DIAGONAL

MAX = float(np.finfo(np.float32).max)
Z, Y = BINARY[0].ravel(), BINARY[1].ravel()
PAIRS = np.stack([np.zeros_like(Z), Z], -1)
COST = np.array([[0.0, 1.0], [5.0, 0.0]], np.float32)


def test_two_classes_with_a_free_diagonal_are_class_weights():
    weights = np.array([1.0, 5.0])
    missing = 1.0 - jax.nn.softmax(PAIRS)[np.arange(len(Y)), Y]
    expected = weights[Y] * missing
    chex.assert_trees_all_close(
        dm.expected_cost_loss(PAIRS, Y, cost=COST), expected, rtol=1e-5, atol=1e-6
    )
    expected = expected * dm.softmax_cross_entropy(PAIRS, Y)
    value = dm.cost_sensitive_cross_entropy(PAIRS, Y, cost=COST)
    chex.assert_trees_all_close(value, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("p", [0.05, 0.16, 0.18, 0.6])
def test_expected_cost_decides_as_bayes(p: float):
    """Positive if p > 1 / (1 + 5), whichever way the loss is lower."""
    soft = jnp.array([1.0 - p, p])
    never, always = (
        dm.expected_cost_loss(jnp.array([-z, z]), soft, cost=COST) for z in (-9.0, 9.0)
    )
    assert (always < never) == (p > 1 / 6)


def test_expected_cost_tends_to_the_cost_of_the_decision():
    logits, ids = CLASSES
    decision = jnp.argmax(logits, -1)
    value = dm.expected_cost_loss(1e4 * logits, ids, cost=FREE_DIAGONAL)
    chex.assert_trees_all_close(value, jnp.asarray(FREE_DIAGONAL)[ids, decision], rtol=1e-5)


def test_a_constant_in_a_row_moves_no_gradient():
    logits, ids = CLASSES
    other = FREE_DIAGONAL + np.arange(4.0)[:, None]
    one, two = (
        jax.grad(lambda z, c=c: dm.expected_cost_loss(z, ids, cost=c).sum())(jnp.asarray(logits))
        for c in (FREE_DIAGONAL, other)
    )
    chex.assert_trees_all_close(one, two, rtol=1e-4, atol=1e-6)


def test_cost_sensitive_contains_cross_entropy_and_focal():
    ones = np.ones((4, 4))
    chex.assert_trees_all_close(
        dm.cost_sensitive_cross_entropy(*CLASSES, cost=ones),
        dm.softmax_cross_entropy(*CLASSES),
        rtol=1e-5,
    )
    chex.assert_trees_all_close(
        dm.cost_sensitive_cross_entropy(*CLASSES, cost=ones - np.eye(4)),
        dm.softmax_focal_loss(*CLASSES, gamma=1.0),
        rtol=1e-5, atol=1e-6,
    )  # fmt: skip


def test_only_the_loss_with_cross_entropy_moves_what_is_confidently_wrong():
    z, ids = jnp.array([-50.0, 50.0]), jnp.array(0)
    gone = jax.grad(lambda z: dm.expected_cost_loss(z, ids, cost=COST))(z)
    left = jax.grad(lambda z: dm.cost_sensitive_cross_entropy(z, ids, cost=COST))(z)
    chex.assert_trees_all_close(gone, jnp.zeros(2), atol=1e-20)
    chex.assert_trees_all_close(left, jnp.array([-1.0, 1.0]), rtol=1e-5)


def test_a_loss_held_at_the_largest_number_still_comes_down():
    cost, ids = 5.0 * np.ones((2, 2)), jnp.array(1)
    value, gradient = jax.value_and_grad(
        lambda z: dm.cost_sensitive_cross_entropy(z, ids, cost=cost)
    )(jnp.array([0.0, -MAX]))
    assert value == MAX
    chex.assert_trees_all_close(gradient, jnp.array([5.0, -5.0]), rtol=1e-5)
