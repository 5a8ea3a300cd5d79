"""Sorted rows: averages over ties, sums by place, and an order to apply and undo.

The order among ties would be that of the data set, and the metric would depend on it.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from diffmetrics._core import numbers


def sort_by(
    keys: jax.Array, values: jax.Array, mass: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Rows of `values` in rising order of `keys`, averaged over ties, the sorted keys, `mass`."""
    ordered, carried, mass = jax.lax.sort((keys, values, mass), num_keys=1)
    return average_ties(ordered, carried, mass), ordered, mass


def sort_alike(keys: jax.Array, values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`sort_by`, where all masses are 1."""
    ordered, carried = jax.lax.sort((keys, values), num_keys=1)
    return average_ties(ordered, carried), ordered


def average_ties(keys: jax.Array, values: jax.Array, mass: jax.Array | None = None) -> jax.Array:
    """`values` ``[..., n]`` averaged, by `mass`, over runs of equal sorted `keys`."""
    place = jnp.cumsum(is_new(keys), -1, dtype=jnp.int32) - 1
    m = jnp.ones(values.shape, jnp.int32) if mass is None else mass.astype(values.dtype)
    sums = (totals(x, place, keys.shape[-1]) for x in (m.astype(values.dtype) * values, m))
    total, number = (jnp.take_along_axis(x, place, -1).astype(values.dtype) for x in sums)
    # A run without mass counts for nothing, but its values must not become NaN.
    return numbers.quotient(total, number, values)


def is_new(keys: jax.Array) -> jax.Array:
    """Which of sorted `keys` differ from the one before."""
    first = jnp.ones_like(keys[..., :1], bool)
    return jnp.concatenate([first, keys[..., 1:] != keys[..., :-1]], -1)


def is_last(keys: jax.Array) -> jax.Array:
    """Which of sorted `keys` differ from the one after."""
    last = jnp.ones_like(keys[..., :1], bool)
    return jnp.concatenate([keys[..., 1:] != keys[..., :-1], last], -1)


def running(mass: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The mass before each place of a row, and the mass up to and with it."""
    # Else XLA sums constant masses, a million ones, while it compiles, which takes it a minute.
    after = jnp.cumsum(jax.lax.optimization_barrier(mass), -1, dtype=mass.dtype)
    return later(after), after


def ranks(x: jax.Array, mass: jax.Array) -> jax.Array:
    """The mass that lies below each number of a row; ties share the middle of theirs."""
    order = Order(x)
    before, after = running(order.put(mass))
    new, last, axis = is_new(order.sorted), is_last(order.sorted), x.ndim - 1
    low = jax.lax.cummax(jnp.where(new, before, 0), axis=axis)
    high = jax.lax.cummin(jnp.where(last, after, after[..., -1:]), axis=axis, reverse=True)
    return order.back(0.5 * (low + high))


# --- sums by place --------------------------------------------------------------------------------

# A float32 sum of so many equal terms, one after another, is right to 5e-6 at worst.
TERMS = 256


def totals(mass: jax.Array, place: jax.Array, number: int) -> jax.Array:
    """The sums ``[..., number]`` of `mass` ``[..., n]`` at each integer `place` ``[..., n]``.

    What lies outside of [0, number) is left out. A scatter adds one element after another, which
    stops counting at 16,777,216 in float32, so floats are first added in small groups.
    """
    rows, n = math.prod(mass.shape[:-1]), mass.shape[-1]
    place = place.astype(jnp.int32).reshape(rows, n)
    inside = (place >= 0) & (place < number)
    row = jax.lax.broadcasted_iota(place.dtype, place.shape, 0)
    cells = jnp.where(inside, row * number + place, rows * number).ravel()
    flat = mass.reshape(-1)
    if jnp.issubdtype(mass.dtype, jnp.inexact):
        found = _float_totals(flat, cells, rows, number)
    else:
        found = _scattered(flat, cells, rows * number)
    return found.reshape(*mass.shape[:-1], number)


def _scattered(mass: jax.Array, cells: jax.Array, number: int) -> jax.Array:
    return jnp.zeros(number, mass.dtype).at[cells].add(mass, mode="drop")


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _float_totals(mass: jax.Array, cells: jax.Array, rows: int, number: int) -> jax.Array:
    n = mass.size // max(rows, 1)
    if n <= TERMS:
        return _scattered(mass, cells, rows * number)
    if number <= 4 * TERMS:
        return _in_blocks(mass, cells, rows, number)
    return _in_lanes(mass, cells, rows * number, n)


@_float_totals.defjvp
def _(rows: int, number: int, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    # Sums are linear, and the transpose of a scatter is one gather.
    (mass, cells), (moved, _) = primals, tangents
    found = _float_totals(mass, cells, rows, number)
    return found, _scattered(moved, cells, rows * number)


def _in_blocks(mass: jax.Array, cells: jax.Array, rows: int, number: int) -> jax.Array:
    """A table for each block of a row. Few places have few cells, so the tables are small."""
    n = mass.size // rows
    length = min(max(number, TERMS), 2 * TERMS)
    blocks = -(-n // length)
    place = jax.lax.iota(cells.dtype, mass.size)
    block = place % n // length
    # From (row, place) to (block, row, place).
    left_out = cells >= rows * number
    cells = jnp.where(left_out, blocks * rows * number, cells + block * (rows * number))
    table = _scattered(mass, cells, blocks * rows * number)
    return jnp.sum(table.reshape(blocks, rows * number), 0)


def _in_lanes(mass: jax.Array, cells: jax.Array, number: int, longest: int) -> jax.Array:
    """A cell gets a lane for every `TERMS` of its elements; then the lanes are added alike.

    `longest` is the most elements that a cell may have.
    """
    if longest <= TERMS:
        return _scattered(mass, cells, number)
    elements = _scattered(jnp.ones_like(cells), cells, number)
    lanes = jnp.maximum(-(-elements // TERMS), 1)
    first = jnp.cumsum(lanes, dtype=lanes.dtype) - lanes
    size = number + mass.size // TERMS
    of = jnp.minimum(cells, number - 1)
    lane = first[of] + _spread(lanes[of])
    table = _scattered(mass, jnp.where(cells < number, lane, size), size)
    whose = jnp.cumsum(_scattered(jnp.ones_like(first), first, size), dtype=first.dtype) - 1
    return _in_lanes(table, whose, number, -(-longest // TERMS))


def _spread(lanes: jax.Array) -> jax.Array:
    """One of so many lanes for each element: multiples of the golden ratio fill them evenly."""
    turn = jax.lax.iota(jnp.uint32, lanes.size) * jnp.uint32(2654435769)
    share = (turn >> 8).astype(jnp.float32) * 2.0**-24
    return jnp.minimum((share * lanes.astype(jnp.float32)).astype(lanes.dtype), lanes - 1)


# --- an order to apply and undo -------------------------------------------------------------------


class Order:
    """Rising order along the last axis: `put` sorts an array by it, and `back` undoes that."""

    def __init__(self, x: jax.Array) -> None:
        position = jax.lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1)
        self.sorted, self.origin = jax.lax.sort((x, position), num_keys=1)

    def put(self, x: jax.Array) -> jax.Array:
        return jnp.take_along_axis(x, self.origin, -1)

    def back(self, x: jax.Array) -> jax.Array:
        return jnp.put_along_axis(jnp.zeros_like(x), self.origin, x, axis=-1, inplace=False)


def from_here(x: jax.Array) -> jax.Array:
    """Running sum from the end, inclusive."""
    return jax.lax.cumsum(x, axis=x.ndim - 1, reverse=True)


def later(x: jax.Array) -> jax.Array:
    """`x` shifted to the next place, with a 0 first."""
    return jnp.concatenate([jnp.zeros_like(x[..., :1]), x[..., :-1]], -1)


def earlier(x: jax.Array) -> jax.Array:
    """`x` shifted to the previous place, with a 0 last."""
    return jnp.concatenate([x[..., 1:], jnp.zeros_like(x[..., :1])], -1)
