"""The engine of closed-form derivatives, and what a loss made with it goes through in training."""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import diffmetrics as dm
from diffmetrics._core import numbers, slopes

rng = np.random.default_rng(0)
LOGITS = jnp.asarray(rng.normal(0, 2, (16, 6)), jnp.float32)
LABELS = jnp.asarray(rng.integers(0, 2, (16, 6)), jnp.float32)
IDS = jnp.asarray(rng.integers(0, 6, 16))
LOSSES = {
    "binary": lambda z: dm.sigmoid_focal_loss(z, LABELS[: len(z)], alpha=0.25).sum(),
    "softmax": lambda z: dm.softmax_cross_entropy(z, IDS[: len(z)]).sum(),
}
over_losses = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def square(x: jax.Array, factor: jax.Array) -> jax.Array:
    return factor * x * x


def slope_of_square(x: jax.Array, factor: jax.Array) -> jax.Array:
    return 2.0 * factor * x


def test_slope_is_used_and_differentiated():
    marked = slopes.with_slope(square, lambda x, factor: slope_of_square(x, factor) + 1.0)
    assert jax.jit(jax.grad(marked))(3.0, 2.0) == 13.0
    assert jax.jit(jax.grad(jax.grad(marked)))(3.0, 2.0) == 4.0
    assert jax.jit(jax.jacfwd(jax.jacrev(marked)))(3.0, 2.0) == 4.0


def test_hyper_parameters_have_the_gradient_of_the_formula():
    f = slopes.with_slope(square, slope_of_square)
    x, factor = jnp.array([1.0, 2.0]), jnp.array(3.0)
    value, (dx, dfactor) = jax.jit(jax.value_and_grad(lambda *a: f(*a).sum(), (0, 1)))(x, factor)
    chex.assert_trees_all_close((value, dx, dfactor), (15.0, jnp.array([6.0, 12.0]), 5.0))
    tangent = jax.jvp(lambda c: f(x, c), (factor,), (1.0,))[1]
    chex.assert_trees_all_close(tangent, x * x)


def test_integers_and_booleans_ride_along():
    f = slopes.with_slope(square, slope_of_square)
    for factor in (jnp.array([1, 0]), jnp.array([True, False])):
        gradient = jax.grad(lambda x, c=factor: f(x, c).sum())(jnp.array([3.0, 4.0]))
        chex.assert_trees_all_close(gradient, jnp.array([6.0, 0.0]))


@pytest.mark.parametrize("in_slope", [False, True])
def test_softpluses_are_log_probabilities(in_slope: bool):
    x = jnp.linspace(-110, 110, 20_001, dtype=jnp.float32)
    exact = np.logaddexp(0, np.asarray(x, np.float64))
    up, down = slopes.softpluses(x, in_slope)
    normal = exact > np.finfo(np.float32).tiny  # XLA flushes what is smaller
    np.testing.assert_allclose(np.asarray(up)[normal], exact[normal], rtol=5e-7)
    chex.assert_trees_all_equal((down, up), slopes.softpluses(-x, in_slope))


def test_sigmoids_are_probabilities_to_the_last_digit():
    x = jnp.linspace(-80, 80, 20_001, dtype=jnp.float32)
    exact = 1.0 / (1.0 + np.exp(-np.asarray(x, np.float64)))
    of_one, of_zero = slopes.sigmoids(x)
    np.testing.assert_allclose(of_one, exact, rtol=5e-7)
    chex.assert_trees_all_equal((of_zero, of_one), slopes.sigmoids(-x))


def test_sigmoids_have_a_derivative_where_their_halves_meet():
    chex.assert_trees_all_close(jax.jvp(slopes.sigmoids, (0.0,), (1.0,))[1], (0.25, -0.25))
    assert jax.grad(jax.grad(lambda x: slopes.sigmoids(x)[0]))(0.0) == 0.0


def test_capped_holds_what_overflows():
    largest = jnp.finfo(jnp.float32).max
    chex.assert_trees_all_equal(
        numbers.capped(jnp.array([1.0, jnp.inf])), jnp.array([1.0, largest])
    )


@over_losses
def test_loss_goes_through_checkpoint_scan_and_vmap(loss: Callable[[jax.Array], jax.Array]):
    expected = jax.jit(jax.grad(loss))(LOGITS)
    found = jax.jit(jax.grad(jax.checkpoint(loss)))(LOGITS)
    chex.assert_trees_all_close(found, expected, rtol=1e-6)

    def step(total: jax.Array, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        return total + 1.0, jax.grad(loss)(z)

    stack = jnp.stack([LOGITS, -LOGITS])
    scanned = jax.lax.scan(step, jnp.zeros(()), stack)[1]
    chex.assert_trees_all_close(scanned[0], expected, rtol=1e-6)
    chex.assert_trees_all_close(jax.jit(jax.vmap(jax.grad(loss)))(stack), scanned, rtol=1e-6)


@over_losses
def test_loss_goes_through_hessian_vector_products(loss: Callable[[jax.Array], jax.Array]):
    direction = np.cos(np.arange(LOGITS.size, dtype=np.float32)).reshape(LOGITS.shape)

    @jax.jit
    def products(z: jax.Array) -> tuple[jax.Array, jax.Array]:
        backward = jax.grad(lambda z: jnp.vdot(jax.grad(loss)(z), direction))(z)
        return jax.jvp(jax.grad(loss), (z,), (direction,))[1], backward

    forward, backward = products(LOGITS)
    chex.assert_trees_all_close(forward, backward, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("axes", [("x", None), (None, "x")], ids=["examples", "columns"])
def test_sharded_loss_and_gradient_equal_the_whole(axes: tuple[str | None, ...]):
    mesh = Mesh(np.array(jax.devices()[:2]), ("x",))
    spec = PartitionSpec(*axes)

    def loss(z: jax.Array, y: jax.Array) -> jax.Array:
        return dm.sigmoid_focal_loss(z, y, alpha=0.25).mean()

    both = jax.jit(jax.value_and_grad(loss))
    expected = both(LOGITS, LABELS)
    sharded = jax.device_put((LOGITS, LABELS), NamedSharding(mesh, spec))
    value, gradient = both(*sharded)
    assert gradient.sharding.is_equivalent_to(NamedSharding(mesh, spec), 2)
    chex.assert_trees_all_close((value, gradient), expected, rtol=1e-5, atol=1e-7)

    def part(z: jax.Array, y: jax.Array) -> jax.Array:
        return jax.lax.pmean(loss(z, y), "x")

    mapped = jax.shard_map(part, mesh=mesh, in_specs=(spec, spec), out_specs=PartitionSpec())
    found = jax.jit(jax.value_and_grad(mapped))(LOGITS, LABELS)
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-7)
