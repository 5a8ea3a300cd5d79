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
# As the library calls it, and one program for all that ask the same.
totals = jax.jit(order.totals, static_argnums=2)
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
    found = totals(mass, place, number)
    rows = zip(mass.reshape(-1, shape[-1]), place.reshape(-1, shape[-1]), strict=True)
    expected = np.reshape([in_64_bits(m, p, number) for m, p in rows], (*shape[:-1], number))
    np.testing.assert_allclose(found, expected, atol=2e-5)
    exact = totals(np.ones(shape, np.int32), place, number)
    chex.assert_type(exact, jnp.int32)
    assert exact.sum() == ((place >= 0) & (place < number)).sum()


@pytest.mark.parametrize("number", [15, 3_000])
def test_totals_do_not_stop_counting(number: int):
    """Half of the elements lie at one place; a plain scatter is off by a hundredth."""
    n, value = 4_000_000, 0.1
    place = np.where(np.arange(n) % 2 == 0, 0, np.arange(n) % number).astype(np.int32)
    exact = np.asarray(totals(np.ones(n, np.int32), place, number), np.float64)
    found = totals(np.full(n, value, np.float32), place, number)
    np.testing.assert_allclose(found, exact * np.float64(np.float32(value)), rtol=1e-5)


@over_numbers
def test_totals_have_the_derivatives_of_a_sum(number: int):
    place = rng.integers(-1, number + 1, 2_000)
    mass, slope = rng.normal(size=2_000).astype(np.float32), rng.normal(size=number)

    @jax.jit
    def derivatives(m: jax.Array) -> tuple[jax.Array, jax.Array]:
        of = partial(order.totals, place=jnp.asarray(place), number=number)
        gradient = jax.grad(lambda m: jnp.sum(of(m) * jnp.asarray(slope, jnp.float32)))(m)
        return gradient, jax.jvp(of, (m,), (m,))[1]

    found, moved = derivatives(mass)
    inside = (place >= 0) & (place < number)
    np.testing.assert_allclose(found, np.where(inside, slope[np.clip(place, 0, number - 1)], 0.0))
    np.testing.assert_allclose(moved, in_64_bits(mass, place, number), atol=2e-5)


@pytest.mark.parametrize("number", [3_000])
def test_totals_run_anywhere(number: int):
    """Under vmap, on shards, in strict modes and in 64 bits."""
    place = rng.integers(0, number, (8, 600)).astype(np.uint16)
    mass = rng.normal(size=(8, 600)).astype(np.float32)
    expected = totals(mass, place, number)
    one = partial(order.totals, number=number)
    chex.assert_trees_all_close(jax.jit(jax.vmap(one))(mass, place), expected, atol=1e-5)
    spec = jax.sharding.PartitionSpec("x")
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    shards = jax.shard_map(one, mesh=mesh, in_specs=(spec, spec), out_specs=spec)
    chex.assert_trees_all_close(jax.jit(shards)(mass, place), expected, atol=1e-5)
    with (
        jax.enable_x64(True),
        jax.numpy_rank_promotion("raise"),
        jax.numpy_dtype_promotion("strict"),
    ):
        found = jax.jit(one)(mass, place.astype(np.int64))
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
    ranks = jax.jit(order.ranks)
    found = ranks(x, np.ones(200, np.float32))
    np.testing.assert_allclose(found, scipy.stats.rankdata(x) - 0.5)
    times = rng.integers(0, 4, 200)
    found = np.repeat(ranks(x, times.astype(np.float32)), times)
    np.testing.assert_allclose(found, scipy.stats.rankdata(np.repeat(x, times)) - 0.5)


# --- an order to apply and undo -------------------------------------------------------------------

WAYS = ["_by_digits", "_carried", "_gathered"]  # of a CPU, a TPU and a GPU
over_ways = pytest.mark.parametrize("way", WAYS)


@over_ways
@pytest.mark.parametrize("n", [1, 2, 1_000, 70_000])
def test_every_backend_sorts_alike(way: str, n: int):
    x = rng.normal(size=(2, n)).astype(np.float32)
    y = x * 2

    @jax.jit
    def ordered(x: jax.Array, y: jax.Array) -> tuple[jax.Array, ...]:
        keys, *others = getattr(order, way)(order.bits(x), y)
        return order.number(keys, x.dtype), *others

    found, origin, along = ordered(x, y)
    np.testing.assert_array_equal(found, np.sort(x, -1))
    np.testing.assert_array_equal(np.take_along_axis(x, np.asarray(origin), -1), np.sort(x, -1))
    np.testing.assert_array_equal(along, np.sort(y, -1))


@over_ways
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_every_backend_sorts_other_widths(way: str, dtype: str):
    with jax.enable_x64(dtype == "float64"):
        x = jnp.asarray(rng.normal(size=300), dtype)

        @jax.jit
        def ordered(x: jax.Array) -> tuple[jax.Array, jax.Array]:
            keys, origin = getattr(order, way)(order.bits(x))
            return order.number(keys, x.dtype), x[origin]

        chex.assert_trees_all_equal(ordered(x), (jnp.sort(x),) * 2)


def test_zeros_are_one_and_nan_is_last():
    x = np.asarray([np.nan, 0.0, np.inf, -0.0, -np.nan, -np.inf, -1e-45, 1e-45], np.float32)
    with jax.debug_nans(False):
        found, origin = jax.jit(order.rising)(x)
    np.testing.assert_array_equal(found, np.sort(x))
    np.testing.assert_array_equal(origin, [5, 6, 1, 3, 7, 2, 0, 4])


def test_an_order_is_undone_and_derivatives_follow_it():
    x, y, t = rng.normal(size=(3, 2, 500)).astype(np.float32)

    @jax.jit
    def there_and_back(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        found, origin, along = order.rising(x, y)
        return order.undone(origin, found), along

    back, along = there_and_back(x, y)
    np.testing.assert_array_equal(back, x)

    def twice(x: jax.Array, y: jax.Array) -> jax.Array:
        ordered, origin, along = order.rising(x, y)
        return order.undone(origin, ordered * along)

    @jax.jit
    def derivatives(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        slope = jax.grad(lambda x: jnp.sum(twice(x, y) * t))(x)
        return jax.jvp(twice, (x, y), (jnp.asarray(t), jnp.asarray(t)))[1], slope

    moved, slope = derivatives(x, y)
    np.testing.assert_allclose(moved, t * (x + y), atol=1e-6)
    np.testing.assert_allclose(slope, t * y, rtol=1e-6)
    np.testing.assert_array_equal(along, np.take_along_axis(y, np.argsort(x, -1), -1))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("n", [5, 1_024, 40_000, 1_000_000])
def test_running_sums_in_rows_lose_no_digits(reverse: bool, n: int):
    x = rng.random((2, n)).astype(np.float32)
    sums = jax.jit(partial(order.sum_in_rows, reverse=reverse))
    expected = np.cumsum(np.float64(x[:, ::-1] if reverse else x), -1)
    np.testing.assert_allclose(sums(x), expected[:, ::-1] if reverse else expected, rtol=2e-6)
    integers = np.ones((2, n), np.int32)
    expected = np.cumsum(integers, -1)[:, :: -1 if reverse else 1]
    np.testing.assert_array_equal(sums(integers), expected)
