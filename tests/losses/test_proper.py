"""What is special about proper scoring rules: that they are, their kin, and their integrals."""

from __future__ import annotations

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

import diffmetrics as dm

MAX = float(np.finfo(np.float32).max)
GRID = np.linspace(0.01, 0.99, 99)
LOGITS = np.log(GRID / (1 - GRID))
FAMILY = [(0.0, 0.0), (1.0, 1.0), (-0.5, -0.5), (0.0, 1.0), (2.0, 0.5), (-0.9, 0.3), (3.0, 4.0)]


def beta(a: float, b: float) -> Callable[[jax.Array, jax.Array], jax.Array]:
    return lambda z, y: dm.beta_family_loss(z, y, alpha=a, beta=b)


def winkler(c: float) -> Callable[[jax.Array, jax.Array], jax.Array]:
    return lambda z, y: dm.winkler_loss(z, y, center=c)


RULES = [dm.brier_loss, *(winkler(c) for c in (0.02, 0.3, 0.5, 0.9)), *(beta(*f) for f in FAMILY)]


@pytest.mark.parametrize("rule", RULES)
def test_the_true_probability_costs_least_on_average(rule: Callable[..., jax.Array]):
    with jax.enable_x64(True):
        of_zero, of_one = (np.asarray(rule(LOGITS, np.full(99, k))) for k in (0.0, 1.0))
    for truth, p in enumerate(GRID):
        assert np.argmin((1 - p) * of_zero + p * of_one) == truth


def test_brier_of_a_soft_label_is_the_square_and_the_noise_of_the_label():
    z, y = np.array([-2.0, 0.3, 4.0], np.float32), np.array([0.2, 0.5, 0.9], np.float32)
    expected = (1 / (1 + np.exp(-z)) - y) ** 2 + y * (1 - y)
    chex.assert_trees_all_close(dm.brier_loss(z, y), expected, rtol=1e-5)


@pytest.mark.parametrize("c", [0.01, 0.3, 0.9])
def test_winkler_of_the_center_is_one(c: float):
    at = np.log(c / (1 - c)) + np.array([-1e-9, 0.0, 1e-9])
    with jax.enable_x64(True):
        for y in (0, 1):
            value = dm.winkler_loss(at, np.full(3, y), center=c)
            chex.assert_trees_all_close(value, jnp.ones(3), atol=1e-6)


@pytest.mark.parametrize(("a", "b"), [*FAMILY, (1e-4, -1e-4), (1e-12, 0.0), (5.0, 5.0)])
def test_beta_family_is_its_integral(a: float, b: float):
    def of_one(t: float) -> float:  # in the logit, where no end is singular
        return np.exp(-a * np.logaddexp(0, -t) - (b + 1) * np.logaddexp(0, t))

    z = np.linspace(-6.0, 6.0, 13)
    ends = np.maximum(z, 0.0) + 50.0 / (b + 1)
    pairs = zip(z, ends, strict=True)
    exact = [quad(of_one, *pair, limit=200, epsabs=0.0, epsrel=1e-9)[0] for pair in pairs]
    value = beta(a, b)(jnp.asarray(z, jnp.float32), jnp.ones(13))
    chex.assert_trees_all_close(value, jnp.asarray(exact, jnp.float32), rtol=3e-5, atol=1e-6)
    mirrored = beta(b, a)(jnp.asarray(-z, jnp.float32), jnp.zeros(13))
    chex.assert_trees_all_close(mirrored, value, rtol=3e-5, atol=1e-6)


@pytest.mark.parametrize("rule", [dm.brier_loss, winkler(0.3), beta(0.5, 2.0), beta(-0.5, 0.0)])
def test_soft_labels_have_the_gradient_of_the_mixture(rule: Callable[..., jax.Array]):
    z, y = jnp.array([-2.0, 0.3, 4.0]), jnp.array([0.2, 0.5, 0.9])
    of = jax.vmap(jax.grad(rule))
    mixture = y * of(z, jnp.ones(3)) + (1 - y) * of(z, jnp.zeros(3))
    chex.assert_trees_all_close(of(z, y), mixture, rtol=1e-4, atol=1e-6)


def test_beta_family_that_grows_exponentially_is_held_in_every_type():
    for dtype in (jnp.float16, jnp.bfloat16, jnp.float32):
        z = jnp.array([-6e4, 6e4], dtype)
        result = jax.vmap(jax.value_and_grad(beta(-0.5, -0.5)))(z, jnp.array([1, 0]))
        chex.assert_tree_all_finite(result)
        assert jnp.all(jnp.abs(result[1]) > 6e4)


def test_beta_family_has_the_slope_of_its_integral_in_its_shape():
    """In alpha; beta is alpha of the other label."""
    z, y = jnp.array([-2.0, 0.3, 4.0]), jnp.array([0, 1, 0])

    @jax.jit
    @jax.value_and_grad
    def both(a: jax.Array) -> jax.Array:
        return dm.beta_family_loss(z, y, alpha=a, beta=2.0).sum()

    change = both(1.01)[0] - both(0.99)[0]
    np.testing.assert_allclose(both(1.0)[1], change / 0.02, rtol=1e-3)
