"""Thresholds that a given mass of one class passes."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from diffmetrics._core import numbers, order, slopes


def _order_statistics(z: jax.Array, mass: jax.Array, rates: jax.Array) -> jax.Array:
    """The lowest logits that have at most `rates` ``[..., K]`` of the mass strictly above them."""
    z, mass, rates = jax.lax.stop_gradient((z, mass, rates))
    present = mass > 0
    # A rate such as 1 - 0.98 is rounded, and 2 % of 550 must not become 10.99999.
    allowed = (rates + jnp.finfo(z.dtype).eps) * jnp.sum(mass, -1, keepdims=True)
    keys = order.bits(-z)
    last = jnp.max(jnp.where(present, keys, 0), -1, keepdims=True)
    q = -order.number(jnp.minimum(_last_within(keys, mass, allowed), last), z.dtype)
    return jnp.where(jnp.isfinite(q), q, 0.0)  # an empty class has no threshold


def _by_all_at_threshold(primals: Any, moved: Any) -> tuple[jax.Array, list[jax.Array]]:
    """The gradient goes to all elements at the threshold, by their mass.

    So it does not depend on the order of ties.
    """
    q, (z, mass, _) = _order_statistics(*primals), jax.lax.stop_gradient(primals)
    there = jnp.where(z[..., None, :] == q[..., None], mass[..., None, :], 0.0)
    part = numbers.divide(there, jnp.sum(there, -1, keepdims=True))
    return q, [jnp.sum(part * t[..., None, :], -1) for t in moved if t is not None]


thresholds = slopes.with_rule(_order_statistics, _by_all_at_threshold, 1)


def _last_within(keys: jax.Array, mass: jax.Array, allowed: jax.Array) -> jax.Array:
    """The largest of `keys` below which lies at most the `allowed` mass ``[..., K]``."""
    if allowed.shape[-1] <= _FEW:
        return by_digits(keys, mass, allowed)
    return jax.lax.platform_dependent(keys, mass, allowed, cpu=in_order, default=by_digits)


# On a CPU one sort takes as long as the bits of so many.
_FEW = 4


def by_digits(keys: jax.Array, mass: jax.Array, allowed: jax.Array) -> jax.Array:
    """From the highest digit: 32 sums take a fortieth of the time of a sort, and compile at once.

    On an accelerator eight readings of 15 sums each move a quarter of the bytes of 32 of one.
    """
    return jax.lax.platform_dependent(
        keys,
        mass,
        allowed,
        cpu=functools.partial(_by_digits_of, 1),
        default=functools.partial(_by_digits_of, 4),
    )


def _by_digits_of(digits: int, keys: jax.Array, mass: jax.Array, allowed: jax.Array) -> jax.Array:
    """`by_digits` of so many bits."""
    steps = 8 * keys.dtype.itemsize // digits
    digit = jnp.arange(1, 2**digits, dtype=keys.dtype)

    def with_digit(i: jax.Array, found: jax.Array) -> jax.Array:
        shift = (digits * (steps - 1 - i)).astype(keys.dtype)
        tried = found[..., None] | numbers.with_rank(digit << shift, found.ndim + 1)
        below = (keys[..., None, None, :] < tried[..., None]).astype(mass.dtype)
        terms = below * mass[..., None, None, :]
        (sums,) = numbers.sums((terms,), (terms.ndim - 1,))
        number = jnp.sum(sums <= allowed[..., None], -1, dtype=jnp.int32)
        return found | (number.astype(keys.dtype) << shift)

    # Made from the data, because a loop in `shard_map` may not start from a replicated array.
    nothing = jnp.zeros(allowed.shape, keys.dtype) & keys[..., :1]
    return jax.lax.fori_loop(0, steps, with_digit, nothing)


def in_order(keys: jax.Array, mass: jax.Array, allowed: jax.Array) -> jax.Array:
    ordered, _, mass = order.by_keys(keys, mass)
    before = order.later(order.up_to(mass))
    rows = [x.reshape(-1, x.shape[-1]) for x in (before, allowed)]
    passed = jax.vmap(lambda a, v: jnp.searchsorted(a, v, side="right"))(*rows)
    last = jnp.maximum(passed.reshape(allowed.shape), 1) - 1
    return jnp.take_along_axis(ordered, last, -1)
