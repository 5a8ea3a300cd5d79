"""Sums by place, averages over ties and ranks: against NumPy in 64 bits, and on many terms."""

from __future__ import annotations

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from diffmetrics._core import order

rng = np.random.default_rng(0)
# Few places, many, and more than elements: each is added in another way.
over_numbers = pytest.mark.parametrize("number", [1, 300, 3_000])


def in_64_bits(mass: np.ndarray, place: np.ndarray, number: int) -> np.ndarray:
    inside = (place >= 0) & (place < number)
    return np.bincount(place[inside], np.float64(mass[inside]), number)


@over_numbers
@pytest.mark.parametrize("shape", [(3, 700), (2, 2, 5)])
def test_totals_are_those_of_numpy(number: int, shape: tuple[int, ...]):
    place = rng.integers(-2, number + 2, shape)
    mass = rng.normal(size=shape).astype(np.float32)
    found = order.totals(jnp.asarray(mass), jnp.asarray(place), number)
    rows = zip(mass.reshape(-1, shape[-1]), place.reshape(-1, shape[-1]), strict=True)
    expected = np.reshape([in_64_bits(m, p, number) for m, p in rows], (*shape[:-1], number))
    np.testing.assert_allclose(found, expected, atol=2e-5)
    exact = order.totals(jnp.ones(shape, jnp.int32), jnp.asarray(place), number)
    chex.assert_type(exact, jnp.int32)
    assert exact.sum() == ((place >= 0) & (place < number)).sum()


@pytest.mark.parametrize("number", [15, 3_000])
def test_totals_do_not_stop_counting(number: int):
    """Half of the elements lie at one place; a plain scatter is off by a hundredth."""
    n, value = 4_000_000, 0.1
    place = jnp.where(jax.lax.iota(jnp.int32, n) % 2 == 0, 0, jax.lax.iota(jnp.int32, n) % number)
    exact = np.asarray(order.totals(jnp.ones(n, jnp.int32), place, number), np.float64)
    found = jax.jit(partial(order.totals, number=number))(jnp.full(n, value, jnp.float32), place)
    np.testing.assert_allclose(found, exact * np.float64(np.float32(value)), rtol=1e-5)


@over_numbers
def test_totals_have_the_derivatives_of_a_sum(number: int):
    place = jnp.asarray(rng.integers(-1, number + 1, 2_000))
    mass, slope = rng.normal(size=2_000).astype(np.float32), rng.normal(size=number)
    found = jax.grad(
        lambda m: jnp.sum(order.totals(m, place, number) * jnp.asarray(slope, jnp.float32))
    )(jnp.asarray(mass))
    inside = (place >= 0) & (place < number)
    np.testing.assert_allclose(found, np.where(inside, slope[np.clip(place, 0, number - 1)], 0.0))
    _, moved = jax.jvp(partial(order.totals, place=place, number=number), (mass,), (mass,))
    np.testing.assert_allclose(moved, in_64_bits(mass, np.asarray(place), number), atol=2e-5)


@pytest.mark.parametrize("number", [3_000])
def test_totals_run_anywhere(number: int):
    """Under vmap, on shards, in strict modes and in 64 bits."""
    place = rng.integers(0, number, (8, 600)).astype(np.uint16)
    mass = rng.normal(size=(8, 600)).astype(np.float32)
    expected = order.totals(jnp.asarray(mass), jnp.asarray(place), number)
    one = partial(order.totals, number=number)
    chex.assert_trees_all_close(
        jax.vmap(one)(jnp.asarray(mass), jnp.asarray(place)), expected, atol=1e-5
    )
    spec = jax.sharding.PartitionSpec("x")
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    shards = jax.shard_map(one, mesh=mesh, in_specs=(spec, spec), out_specs=spec)
    chex.assert_trees_all_close(jax.jit(shards)(mass, place), expected, atol=1e-5)
    with (
        jax.enable_x64(True),
        jax.numpy_rank_promotion("raise"),
        jax.numpy_dtype_promotion("strict"),
    ):
        found = one(jnp.asarray(mass), jnp.asarray(place, jnp.int64))
        chex.assert_type(found, jnp.float32)
        chex.assert_trees_all_close(found, expected, atol=1e-5)


def test_ties_share_the_mean_of_their_masses():
    keys = np.sort(rng.integers(0, 9, (3, 2_000)), -1).astype(np.float32)
    values, mass = rng.random((2, 3, 2_000)).astype(np.float32)
    for m in (None, mass):
        found = np.asarray(jax.jit(order.average_ties)(keys, values, m))
        for row in range(3):
            for key in range(9):
                tied = keys[row] == key
                w = None if m is None else np.float64(m[row][tied])
                expected = np.average(np.float64(values[row][tied]), weights=w)
                np.testing.assert_allclose(found[row][tied], expected, rtol=1e-5)


def test_ranks_are_middles_and_a_mass_of_two_is_two_elements():
    x = rng.integers(0, 9, 200).astype(np.float32)
    found = order.ranks(jnp.asarray(x), jnp.ones(200))
    np.testing.assert_allclose(found, scipy.stats.rankdata(x) - 0.5)
    times = rng.integers(0, 4, 200)
    found = np.repeat(order.ranks(jnp.asarray(x), jnp.asarray(times, jnp.float32)), times)
    np.testing.assert_allclose(found, scipy.stats.rankdata(np.repeat(x, times)) - 0.5)
