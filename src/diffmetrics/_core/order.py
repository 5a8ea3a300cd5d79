"""Sorted rows: averages over ties, sums by place, and an order to apply and undo.

The order among ties would be that of the data set, and the metric would depend on it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffmetrics._core import numbers


def sort_by(
    keys: jax.Array, values: jax.Array, mass: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Rows of `values` in rising order of `keys`, averaged over ties, the sorted keys, `mass`."""
    ordered, _, carried, mass = rising(keys, values, mass)
    return average_ties(ordered, carried, mass), ordered, mass


def sort_alike(keys: jax.Array, values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`sort_by`, where all masses are 1."""
    ordered, _, carried = rising(keys, values)
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
    after = up_to(jax.lax.optimization_barrier(mass))
    return later(after), after


def ranks(x: jax.Array, mass: jax.Array) -> jax.Array:
    """The mass that lies below each number of a row; ties share the middle of theirs."""
    ordered, origin, mass = rising(x, mass)
    before, after = running(mass)
    new, last, axis = is_new(ordered), is_last(ordered), x.ndim - 1
    low = jax.lax.cummax(jnp.where(new, before, 0), axis=axis)
    high = jax.lax.cummin(jnp.where(last, after, after[..., -1:]), axis=axis, reverse=True)
    return undone(origin, 0.5 * (low + high))


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


def follows_order(
    primal: Callable[..., tuple[jax.Array, ...]],
) -> Callable[..., tuple[jax.Array, ...]]:
    """`primal(x, *along)`, which returns all in order with the origins second, and its tangents."""
    function = jax.custom_jvp(primal)

    @function.defjvp
    def _(primals: Any, tangents: Any) -> tuple[Any, Any]:
        out = function(*primals)
        first, *others = (_taken(t, out[1]) for t in tangents)
        return out, (first, np.zeros(out[1].shape, jax.dtypes.float0), *others)

    return function


@follows_order
def rising(x: jax.Array, *along: jax.Array) -> tuple[jax.Array, ...]:
    """Rows of `x` in rising order, NaN last; the places they come from; `along` in that order.

    The order among ties is not that of the data on every backend.
    """
    keys, *others = by_keys(bits(x), *along)
    return number(keys, x.dtype), *others


def by_keys(keys: jax.Array, *along: jax.Array) -> tuple[jax.Array, ...]:
    """`rising` of unsigned integers, without derivatives."""
    return jax.lax.platform_dependent(keys, *along, cpu=_by_digits, tpu=_carried, default=_gathered)


def _carried(keys: jax.Array, *along: jax.Array) -> tuple[jax.Array, ...]:
    """All in one sort: a gather by a permutation of a million moves 4 GB on a TPU, this 44 MB.

    A stable sort would sort by place, too, which takes twice as long to compile.
    """
    return tuple(jax.lax.sort((keys, _places(keys), *along), num_keys=1, is_stable=False))


def _gathered(keys: jax.Array, *along: jax.Array) -> tuple[jax.Array, ...]:
    """A GPU's radix sort takes an integer key and one value, so the others are gathered."""
    keys, origin = jax.lax.sort((keys, _places(keys)), num_keys=1, is_stable=False)
    return keys, origin, *(_taken(x, origin) for x in along)


def _by_digits(keys: jax.Array, *along: jax.Array) -> tuple[jax.Array, ...]:
    """XLA's CPU backend sorted lone integers six times as fast as pairs before jax 0.12.

    So each of a few sorts orders by some digits of the key, before the place in the order so far.
    """
    n, places = keys.shape[-1], _places(keys)
    taken = max(n - 1, 1).bit_length()
    digits = 32 - taken
    passes = -(-8 * keys.dtype.itemsize // max(digits, 1))
    if passes > _PASSES or keys.dtype.itemsize > 4:
        origin = jax.lax.sort((keys, places), num_keys=1)[1]
        return _taken(keys, origin), origin, *(_taken(x, origin) for x in along)
    origin, left = places, keys.astype(jnp.uint32)
    for done in range(passes):
        here = left if done == 0 else _taken(left, origin)
        word = (here >> (done * digits) << taken) | places
        found = jax.lax.sort(word) & ((1 << taken) - 1)
        origin = found if done == 0 else _taken(origin, found)
    return _taken(keys, origin), origin, *(_taken(x, origin) for x in along)


# With more, a sort of pairs is as fast: it takes 16 million elements to need so many. From jax 0.12
# on, XLA sorts pairs of integers faster than that, too: 82 ms for 2^20, by digits 124.
_PASSES = 4 if jax.__version_info__ < (0, 12) else 0


def bits(x: jax.Array) -> jax.Array:
    """Unsigned integers that rise as floats do: both zeros are one, and NaN is the last."""
    found = jax.lax.bitcast_convert_type(x, _unsigned(x.dtype))
    top = _top(found.dtype)
    found = jnp.where(found == top, jnp.zeros_like(found), found)
    rising = jnp.where(found >= top, ~found, found | top)
    return jnp.where(jnp.isnan(x), ~jnp.zeros_like(found), rising)


def number(keys: jax.Array, dtype: Any) -> jax.Array:
    """The numbers of which `keys` are the `bits`."""
    top = _top(keys.dtype)
    return jax.lax.bitcast_convert_type(jnp.where(keys >= top, keys ^ top, ~keys), dtype)


def _unsigned(dtype: Any) -> Any:
    return {2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint64}[dtype.itemsize]


def _top(dtype: Any) -> jax.Array:
    return jnp.asarray(1 << (8 * dtype.itemsize - 1), dtype)


def _places(x: jax.Array) -> jax.Array:
    """Unsigned, because an index that might be negative costs an array."""
    return jax.lax.broadcasted_iota(jnp.uint32, x.shape, x.ndim - 1)


def _taken(x: jax.Array, origin: jax.Array) -> jax.Array:
    return jnp.take_along_axis(x, origin, -1, mode="promise_in_bounds")


@jax.custom_jvp
def undone(origin: jax.Array, x: jax.Array) -> jax.Array:
    """`x`, which is in order, where it comes from."""
    # As in `_carried`: a sort by the place moves less than a scatter.
    return jax.lax.platform_dependent(
        origin,
        x,
        tpu=lambda *pair: jax.lax.sort(pair, num_keys=1, is_stable=False)[1],
        default=_scattered_back,
    )


def _scattered_back(origin: jax.Array, x: jax.Array) -> jax.Array:
    def row(origin: jax.Array, x: jax.Array) -> jax.Array:
        # A scatter to places that might not be unique has no transpose.
        nothing = jnp.zeros_like(x)
        return nothing.at[origin].set(x, unique_indices=True, mode="promise_in_bounds")

    for _ in range(x.ndim - 1):
        row = jax.vmap(row)
    return row(origin, x)


@undone.defjvp
def _(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    # A scatter has a transpose, which a sort has not.
    return undone(*primals), _scattered_back(primals[0], tangents[1])


# --- running sums ---------------------------------------------------------------------------------


def up_to(x: jax.Array) -> jax.Array:
    """Running sum, inclusive."""
    return _running_sum(x, reverse=False)


def from_here(x: jax.Array) -> jax.Array:
    """Running sum from the end, inclusive."""
    return _running_sum(x, reverse=True)


# A running sum of fewer takes less than a second to compile for a TPU.
_LONG = 2**15


def _running_sum(x: jax.Array, *, reverse: bool) -> jax.Array:
    """`sum_in_rows` on a TPU, for which a million in one row take 17 seconds to compile, so one."""
    plain, in_rows = (functools.partial(f, reverse=reverse) for f in (_sum_in_one, sum_in_rows))
    if x.shape[-1] <= _LONG:
        return plain(x)
    return jax.lax.platform_dependent(x, tpu=in_rows, default=plain)


def _sum_in_one(x: jax.Array, *, reverse: bool) -> jax.Array:
    return jax.lax.cumsum(x, axis=x.ndim - 1, reverse=reverse)


def sum_in_rows(x: jax.Array, *, reverse: bool) -> jax.Array:
    """A running sum within rows of a thousand, and one over their totals."""
    n, lead = x.shape[-1], x.shape[:-1]
    padded = jnp.pad(x, [(0, 0)] * len(lead) + [(0, -n % numbers.RUN)])
    rows = _sum_in_one(padded.reshape(*lead, -1, numbers.RUN), reverse=reverse)
    total = _sum_in_one(rows[..., 0] if reverse else rows[..., -1], reverse=reverse)
    over = earlier(total) if reverse else later(total)
    return (rows + over[..., None]).reshape(padded.shape)[..., :n]


def later(x: jax.Array) -> jax.Array:
    """`x` shifted to the next place, with a 0 first."""
    return jnp.concatenate([jnp.zeros_like(x[..., :1]), x[..., :-1]], -1)


def earlier(x: jax.Array) -> jax.Array:
    """`x` shifted to the previous place, with a 0 last."""
    return jnp.concatenate([x[..., 1:], jnp.zeros_like(x[..., :1])], -1)
