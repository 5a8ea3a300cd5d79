"""What metrics that sort have in common: equal keys share what they stand for.

An order among equal keys would be that of the data set, and the metric would depend on it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics import _math
from diffmetrics._math import Axis


def rows(axis: Axis, **arrays: ArrayLike) -> list[jax.Array]:
    """Arrays of one shape as float rows ``[..., n]``, the elements of `axis` last. Raises."""
    found = {name: _math.as_float(x) for name, x in arrays.items()}
    (first, x), *rest = found.items()
    for name, other in rest:
        _math.require_shape(name, other, x.shape, first)
    axes = _math.normalize_axis(axis, x.ndim)
    flat = [_math.sets_last(x, axes) for x in found.values()]
    if flat[0].shape[-1] == 0:
        raise ValueError(f"{first} must not be empty, got shape {x.shape} and axis={axis}.")
    return flat


def sort_by(keys: jax.Array, values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Rows of `values` in the order of rising `keys`, averaged over equal ones, and their keys."""
    ordered, carried = jax.lax.sort((keys, values), num_keys=1)
    return average_ties(ordered, carried), ordered


def average_ties(keys: jax.Array, values: jax.Array) -> jax.Array:
    """`values` ``[..., n]`` averaged over runs of equal sorted `keys`."""
    n = keys.shape[-1]

    def one(keys: jax.Array, values: jax.Array) -> jax.Array:
        new = jnp.concatenate([jnp.zeros(1, bool), keys[1:] != keys[:-1]])
        run = jnp.cumsum(new.astype(jnp.int32))
        pairs = jnp.stack([values, jnp.ones_like(values)], -1)
        total = jax.ops.segment_sum(pairs, run, n, indices_are_sorted=True)[run]
        return total[:, 0] / total[:, 1]

    flat = jax.vmap(one)(keys.reshape(-1, n), values.reshape(-1, n))
    return flat.reshape(values.shape)


def ranks(x: jax.Array) -> jax.Array:
    """Place of each number in its row, from 0; equal ones share the mean of their places."""
    place = jnp.broadcast_to(jnp.arange(x.shape[-1]), x.shape)
    ordered, whose = jax.lax.sort((x, place), num_keys=1)
    shared = average_ties(ordered, place.astype(x.dtype))
    return jnp.take_along_axis(shared, jnp.argsort(whose, -1), -1)
