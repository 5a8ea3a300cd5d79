"""What is special about losses of a cost matrix."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np

import diffmetrics as dm
from tests.rows import BINARY, CLASSES, FREE_DIAGONAL

MAX = float(np.finfo(np.float32).max)
Z, Y = BINARY[0].ravel(), BINARY[1].ravel()
PAIRS = np.stack([np.zeros_like(Z), Z], -1)
COST = np.array([[0.0, 1.0], [5.0, 0.0]], np.float32)


def test_expected_cost_tends_to_the_cost_of_the_decision():
    logits, ids = CLASSES
    decision = jnp.argmax(logits, -1)
    value = dm.expected_cost_loss(1e4 * logits, ids, cost=FREE_DIAGONAL)
    chex.assert_trees_all_close(value, jnp.asarray(FREE_DIAGONAL)[ids, decision], rtol=1e-5)


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
