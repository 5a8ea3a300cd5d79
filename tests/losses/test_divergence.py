"""Divergences, and the loss over all pairs that is made of one of them."""

from __future__ import annotations

import functools
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
from tests.rows import IDENTITIES as IDS, P, Q

rng = np.random.default_rng(0)
MAX = float(np.finfo(np.float32).max)
EXTREMES = np.array([0.0, 1.0, -30.0, 104.0, -1e4, 1e19, -1e38, MAX, -MAX], np.float32)
# Pairs of distributions whose logits are extreme: any two logits each, with any third.
PAIRS = np.array([
    [(*p, rng.choice(EXTREMES)), (*q, rng.choice(EXTREMES))]
    for p, q in itertools.product(itertools.product(EXTREMES, repeat=2), repeat=2)
])  # fmt: skip

FROM_LOGITS = [dm.kl_divergence, dm.symmetric_kl_divergence, dm.js_divergence]
FROM_PROBABILITIES = [
    dm.kl_divergence_from_probabilities,
    dm.symmetric_kl_divergence_from_probabilities,
    dm.js_divergence_from_probabilities,
]


def over(functions: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("function", functions, ids=lambda f: f.__name__)


# --- divergences ----------------------------------------------------------------------------------


@over([*FROM_LOGITS, *FROM_PROBABILITIES])
def test_divergence_of_equals_is_zero_without_gradient(function: Any):
    p = jnp.asarray(P) if function in FROM_LOGITS else jax.nn.softmax(P)
    chex.assert_trees_all_equal(function(p, p), jnp.zeros(6))
    if function in FROM_LOGITS:
        gradients = jax.jit(jax.grad(lambda *a: function(*a).sum(), (0, 1)))(p, p)
        np.testing.assert_allclose(gradients, 0.0, atol=3e-7)


@over([*FROM_LOGITS, dm.symmetric_kl_divergence_from_probabilities])
def test_divergence_is_never_negative(function: Any):
    p = rng.normal(size=(20_000, 4)).astype(np.float32)
    q = p + 1e-4 * rng.normal(size=p.shape).astype(np.float32)
    if function in FROM_PROBABILITIES:
        p, q = jax.nn.softmax(p), jax.nn.softmax(q)
    assert function(p, q).min() >= 0


def test_kl_held_at_zero_keeps_its_gradient():
    p = jnp.asarray(rng.normal(size=(2000, 4)), jnp.float32)
    q = p + 1e-4 * jnp.asarray(rng.normal(size=p.shape), jnp.float32)
    value = dm.kl_divergence(p, q)
    gradient = jax.grad(lambda q: dm.kl_divergence(p, q).sum())(q)
    assert (value == 0).sum() > 100
    expected = jax.nn.softmax(q) - jax.nn.softmax(p)
    np.testing.assert_allclose(gradient, expected, atol=2e-7)


def test_js_lies_below_log_two():
    p, q = PAIRS[:, 0], PAIRS[:, 1]
    assert dm.js_divergence(p, q).max() <= np.log(2) * (1 + 1e-6)
    np.testing.assert_allclose(dm.js_divergence(99 * np.eye(2), 99 * np.eye(2)[::-1]), np.log(2))
    disjoint = np.array([1, 0]), np.array([0, 1])
    np.testing.assert_allclose(dm.js_divergence_from_probabilities(*disjoint), np.log(2), rtol=1e-5)


@over([*FROM_LOGITS])
def test_adding_a_constant_to_the_logits_changes_nothing(function: Any):
    np.testing.assert_allclose(function(P + 64.0, Q - 64.0), function(P, Q), rtol=1e-4, atol=1e-5)


@over([*FROM_LOGITS])
def test_divergence_and_derivatives_are_finite_at_every_logit(function: Any):
    assert_derivatives_finite(lambda pair: function(pair[0], pair[1]), PAIRS)


def test_kl_of_opposite_extremes_is_held():
    p, q = jnp.array([MAX, -MAX]), jnp.array([-MAX, MAX])
    assert 2.9e38 < dm.kl_divergence(p, q) <= MAX
    np.testing.assert_allclose(dm.kl_divergence(p / 4, q / 4), MAX / 2, rtol=1e-6)


@over([*FROM_PROBABILITIES])
def test_divergence_of_zero_probabilities_has_finite_derivatives(function: Any):
    cases = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5], [0.0, 0.0], [1e-30, 1.0]], np.float32)
    pairs = np.array(list(itertools.product(cases, cases)))
    assert_derivatives_finite(lambda pair: function(pair[0], pair[1]), pairs)


@over([*FROM_PROBABILITIES])
@pytest.mark.parametrize("which", [0, 1])
def test_epsilon_leaves_a_gradient_where_a_clip_takes_it(function: Any, which: int):
    # The distribution that learns has lost the class on which the other one insists.
    lost, target = np.array([[0.0, 1.0]], np.float32), np.array([[0.9, 0.1]], np.float32)
    pair = (lost, target) if which == 0 else (target, lost)

    def clipped(*pair: jax.Array) -> jax.Array:
        return function(*(jnp.clip(each, 1e-7, 1.0) for each in pair)).sum()

    gradient = jax.jit(jax.grad(lambda *pair: function(*pair).sum(), which))(*pair)[0]
    assert gradient[0] < gradient[1] - 1  # more of the lost class would help
    beyond = (each - np.float32(1e-6) for each in pair)
    assert jax.jit(jax.grad(clipped, which))(*beyond)[0, 0] == 0


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_epsilon_counts_beside_narrow_probabilities(dtype: Any):
    p, q = jnp.array([0.0, 1.0], dtype), jnp.array([1.0, 0.0], dtype)
    value = dm.kl_divergence_from_probabilities(p, q)
    np.testing.assert_allclose(value, np.log(1e7), rtol=1e-3)


@over([*FROM_LOGITS, *FROM_PROBABILITIES])
def test_a_distribution_has_two_classes_or_more(function: Any):
    for shape in [(), (3, 1)]:
        with pytest.raises(ValueError, match="two or more classes"):
            function(np.ones(shape, np.float32), np.ones(shape, np.float32))


# --- given pairs ----------------------------------------------------------------------------------


def test_slope_at_the_kink_still_pushes():
    p, q = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])  # both directions are equally long

    def loss(p: jax.Array, margin: jax.Array) -> jax.Array:
        return dm.kl_hinge_loss(p, q, 0, margin=margin)

    margin = dm.kl_divergence(p, q)
    assert loss(p, margin) == pytest.approx(0.0, abs=1e-6)
    chex.assert_trees_all_close(
        jax.grad(loss)(p, margin), jax.grad(loss)(p, 1.1 * margin), rtol=1e-5
    )
    assert jnp.all(jax.grad(loss)(p, 0.9 * margin) == 0)


@pytest.mark.parametrize("sharpness", [None, 3.0])
def test_kl_hinge_and_derivatives_are_finite_at_every_logit(sharpness: float | None):
    both = np.array([0, 1])  # as the same and as different
    function: Any = functools.partial(dm.kl_hinge_loss, margin=2.0, sharpness=sharpness)
    assert_derivatives_finite(
        lambda pair: jnp.mean(jax.vmap(lambda same: 0.5 * function(*pair, same))(both)), PAIRS
    )


# --- all pairs ------------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnames="detach_target")
def value_and_gradient(z: Any, ids: Any = IDS, **options: Any) -> tuple[jax.Array, jax.Array]:
    return jax.value_and_grad(dm.pairwise_kl_hinge_loss)(z, ids, margin=2.0, **options)


MASK = np.triu(rng.random((6, 6)) < 0.6)
MASK |= MASK.T


@pytest.mark.parametrize("where", [None, MASK, MASK & (rng.random((6, 6)) < 0.7)])
@pytest.mark.parametrize("sharpness", [None, 2.0])
def test_pairwise_is_its_definition(sharpness: float | None, where: Any):
    options = {"margin": 3.0, "sharpness": sharpness, "where": where}
    expected = reference.pairwise_kl_hinge_loss((2 * P).tolist(), IDS.tolist(), **options)
    np.testing.assert_allclose(dm.pairwise_kl_hinge_loss(2 * P, IDS, **options), expected, 1e-5)
    # Which side is a constant to the gradient does not change the value.
    value = dm.pairwise_kl_hinge_loss(2 * P, IDS, detach_target=True, **options)
    np.testing.assert_allclose(value, expected, 1e-5)


def test_equal_rows_cost_nothing_if_the_same_and_twice_the_margin_if_not():
    z = np.tile(P[:1], (7, 1))
    assert value_and_gradient(z, np.zeros(7, int))[0] == pytest.approx(0.0, abs=1e-6)
    assert value_and_gradient(z, np.arange(7))[0] == pytest.approx(4.0, abs=1e-5)


def test_detached_target_moves_only_the_second_distribution():
    def one_sided(z: jax.Array) -> jax.Array:
        total = jnp.zeros(())
        for i, j in itertools.permutations(range(6), 2):
            divergence = dm.kl_divergence(jax.lax.stop_gradient(z[i]), z[j])
            total += divergence if IDS[i] == IDS[j] else jnp.maximum(2.0 - divergence, 0.0)
        return total / 15

    expected = jax.jit(jax.value_and_grad(one_sided))(P)
    found = value_and_gradient(P, detach_target=True)
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-6)
    assert jnp.abs(found[1] - value_and_gradient(P)[1]).max() > 1e-3


@pytest.mark.parametrize(("poison", "detach_target"), [(jnp.nan, False), (jnp.inf, True)])
def test_hidden_examples_are_as_good_as_absent(poison: float, detach_target: bool):
    visible = np.array([True, True, False, True, True, False])
    z = np.where(visible[:, None], P, poison)
    where = visible[:, None] & visible
    value, gradient = value_and_gradient(z, where=where, detach_target=detach_target)
    alone = value_and_gradient(P[visible], IDS[visible], detach_target=detach_target)
    chex.assert_trees_all_close((value, gradient[visible]), alone, rtol=1e-5, atol=1e-6)
    assert jnp.all(gradient[~visible] == 0)


@pytest.mark.parametrize("where", [False, np.eye(6, dtype=bool)])
def test_no_pair_costs_nothing_and_moves_nothing(where: Any):
    for z in (P, np.full_like(P, np.nan)):
        chex.assert_trees_all_equal(value_and_gradient(z, where=where), (0.0, jnp.zeros((6, 5))))
    alone = value_and_gradient(P[:1], IDS[:1])
    chex.assert_trees_all_equal(alone, (0.0, jnp.zeros((1, 5))))


@pytest.mark.parametrize(
    "options",
    [{}, {"sharpness": 2.0}, {"detach_target": True}],
    ids=["hinge", "sharpness", "detach"],
)
def test_pairwise_and_derivatives_are_finite_at_every_logit(options: Any):
    all_ids = np.array([[0, 1, 2, 3], [0, 0, 0, 0], [0, 1, 0, 1]])
    # The pairs count as one batch of two, whose mean no further pair makes smaller, or of four.
    where = np.stack([np.arange(4) < 2, np.ones(4, bool)])
    where = where[:, :, None] & where[:, None, :]

    def loss(z: jax.Array) -> jax.Array:
        def one(ids: Any, where: Any) -> jax.Array:
            return 0.1 * dm.pairwise_kl_hinge_loss(z, ids, margin=2.0, where=where, **options)

        return jax.vmap(jax.vmap(one, (0, None)), (None, 0))(all_ids, where).sum()

    assert_derivatives_finite(loss, rng.choice(EXTREMES, (2000, 4, 3)))


def test_large_logits_keep_their_small_divergences():
    z = 1e4 * P
    z[2] = z[0] + 1e-3
    i, j = np.triu_indices(6, 1)
    expected = dm.kl_hinge_loss(z[i], z[j], IDS[i] == IDS[j], margin=2.0).mean()
    np.testing.assert_allclose(value_and_gradient(z)[0], expected, rtol=1e-5)


def test_almost_equal_rows_of_one_identity_still_attract():
    z = P[:1] + 1e-3 * P
    _, gradient = value_and_gradient(z, np.zeros(6, int))
    with jax.enable_x64(True):
        _, exact = value_and_gradient(z.astype(np.float64), np.zeros(6, int))
    np.testing.assert_allclose(gradient, exact, atol=3e-7)
    assert np.abs(exact).max() > 3e-5


def test_no_array_of_all_pairs_and_classes_is_made():
    n, classes = 37, 29
    z = jnp.zeros((n, classes))
    loss = jax.grad(lambda z: dm.pairwise_kl_hinge_loss(z, jnp.arange(n), margin=2.0))
    assert f"{n},{n},{classes}" not in str(jax.make_jaxpr(loss)(z)).replace(" ", "")
