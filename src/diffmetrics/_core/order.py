"""Sorted rows: an order to apply and undo, and averages over ties.

The order among ties would be that of the data set, and the metric would depend on it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def sort_by(keys: jax.Array, values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Rows of `values` in rising order of `keys`, averaged over ties, and the sorted keys."""
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
    """Place of each number in its row, from 0; ties share their mean place."""
    place = jnp.broadcast_to(jnp.arange(x.shape[-1]), x.shape)
    ordered, whose = jax.lax.sort((x, place), num_keys=1)
    shared = average_ties(ordered, place.astype(x.dtype))
    return jnp.take_along_axis(shared, jnp.argsort(whose, -1), -1)


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
