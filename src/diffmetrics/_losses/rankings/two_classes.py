"""Sets of two classes as all losses of a ranking take them: how much there is of each class.

Only shares of a mass matter to them, so that weights of 1e-20 rank as weights of 1 do.
"""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import doors, masses, order, set_doors
from diffmetrics._core.calls import SetOptions

Sets = tuple[jax.Array, jax.Array, jax.Array]
"""Logits, mass of positives and mass of negatives, as rows ``[..., n]``."""


def sets_of(logits: ArrayLike, labels: ArrayLike, **options: Unpack[SetOptions]) -> Sets:
    """`set_doors.two_classes`; an empty set is one element that counts for nothing."""
    rows = set_doors.two_classes(logits, labels, **options)
    if rows[0].shape[-1] > 0:
        return rows
    z, one, other = (jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, 1)]) for x in rows)
    return z, one, other


def relative(z: jax.Array, one: jax.Array, other: jax.Array) -> Sets:
    """The same sets with masses in units of the largest: sums of less than 1e-18 count as 0."""
    unit = masses.largest(one + other)
    return z, one / unit, other / unit


def both_present(one: jax.Array, other: jax.Array) -> jax.Array:
    """Whether a set ``[..., 1]`` holds both classes; a weight that is NaN is one."""
    tops = [jnp.max(mass, -1, keepdims=True) for mass in (one, other)]
    return ~(tops[0] <= 0.0) & ~(tops[1] <= 0.0)


def given(name: str, value: ArrayLike, z: jax.Array) -> jax.Array:
    """A hyper-parameter in the type and shape of the loss of the sets `z`."""
    loss = z.shape[:-1]
    return jnp.broadcast_to(doors.parameter(name, value, z, "the loss", loss), loss)


def unless_nan(value: jax.Array, z: jax.Array) -> jax.Array:
    """The loss of sets `z`, or NaN where a logit is NaN: sorted to an end, it may not show."""
    return value + jax.lax.stop_gradient(0.0 * jnp.max(z, -1))


@order.follows_order
def in_order(z: jax.Array, one: jax.Array, other: jax.Array) -> tuple[jax.Array, ...]:
    """Rising logits, the places that they come from, and the masses of both classes there."""
    keys, origin, mass = order.by_keys(order.bits(z), _signed(one, other))
    return order.number(keys, z.dtype), origin, *_unsigned(mass)


@order.follows_order
def positives_first(z: jax.Array, one: jax.Array, other: jax.Array) -> tuple[jax.Array, ...]:
    """`in_order`, with the positives first among logits that differ at most in their last bit.

    That bit of the key tells the class. So two logits may be in the wrong order by a rounding.
    """
    keys = order.bits(z)
    keys = jnp.where(other > 0, keys | 1, keys & ~jnp.ones_like(keys))
    _, origin, z, mass = order.by_keys(keys, z, _signed(one, other))
    return z, origin, *_unsigned(mass)


def _signed(one: jax.Array, other: jax.Array) -> jax.Array:
    """Both masses as one array to carry along: an element has one class."""
    return jnp.where(one == 0, -other, one)


def _unsigned(mass: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.maximum(mass, 0), jnp.maximum(-mass, 0)
