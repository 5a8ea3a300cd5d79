"""The softmax over the classes on the last axis, and its cross-entropy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from diffmetrics._core import numbers, slopes


def is_class(ids: jax.Array, number: int) -> jax.Array:
    """Which ids name one of `number` classes."""
    return (ids >= 0) & (ids < number)


def is_true(y: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Whether an entry of `shape` ``[..., C]`` is its example's class.

    Void ids have none; in labels ``[..., C]`` it is what exceeds ½.
    """
    if jnp.issubdtype(y.dtype, jnp.floating):
        return y > 0.5
    return jax.lax.broadcasted_iota(y.dtype, shape, len(shape) - 1) == y[..., None]


def at_label(x: jax.Array, y: jax.Array) -> jax.Array:
    """The entry of `x`, ``[..., C]`` or ``[C]``, for the class of each example; 0 for a void id.

    For labels ``[..., C]`` it is the labels' mean of `x`.
    """
    if jnp.issubdtype(y.dtype, jnp.floating):
        return jnp.sum(of_last(x, y) * y, -1)
    found = x.at[y].get(mode="clip") if x.ndim == 1 else _take(x, y)
    return jnp.where(is_class(y, x.shape[-1]), found, 0.0)


def of_last(x: jax.Array, like: jax.Array) -> jax.Array:
    """`x` ``[C]`` with as many axes as `like`; a number stays one."""
    return x.reshape((1,) * (like.ndim - 1) + x.shape) if x.ndim else x


def _take(x: jax.Array, ids: jax.Array) -> jax.Array:
    return jnp.take_along_axis(x, ids[..., None], -1, mode="clip")[..., 0]


def softmax_parts(z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Logits in the accumulator type, their maximum, and the sum of exponentials relative to it."""
    wide = slopes.finite(numbers.as_float(z))
    # The softmax does not depend on where it is centred, so neither do its derivatives.
    top = jax.lax.stop_gradient(slopes.alone(jnp.max(wide, -1)))
    return wide, top, slopes.finished(jnp.sum(jnp.exp(wide - top[..., None]), -1))


def _cross_entropy(
    z: jax.Array, wide: jax.Array, top: jax.Array, total: jax.Array, y: jax.Array
) -> jax.Array:
    if jnp.issubdtype(y.dtype, jnp.integer):
        true = slopes.finite(numbers.as_float(_take(z, y)))
        loss = numbers.capped(top - true) + jnp.log(total)
        return jnp.where(is_class(y, wide.shape[-1]), numbers.capped(loss), 0.0)
    below = numbers.capped(top[..., None] - wide)
    return numbers.capped(jnp.sum(y * below, -1) + jnp.log(total) * jnp.sum(y, -1))


def _rule(primals: Any, moved: Any) -> tuple[jax.Array, list[jax.Array]]:
    (z, y), (dz, dy) = primals, moved
    wide, top, total = softmax_parts(z)
    terms: list[jax.Array] = []
    if dz is not None:
        slope = slopes.apart(_cross_entropy_slope, z, y, top, total)
        terms.append(jnp.sum(slope * numbers.as_float(dz), -1))
    if dy is not None and jnp.issubdtype(y.dtype, jnp.floating):
        below = numbers.capped(top[..., None] - wide)
        terms.append(jnp.sum(dy * (below + jnp.log(total)[..., None]), -1))
    return _cross_entropy(z, wide, top, total, y), terms


def _cross_entropy_slope(z: jax.Array, y: jax.Array, top: jax.Array, total: jax.Array) -> jax.Array:
    """The softmax minus the labels."""
    over = 1.0 / total
    if jnp.issubdtype(y.dtype, jnp.integer):
        # One select per example: one per logit would take two thirds as long as all the rest.
        over = jnp.where(is_class(y, z.shape[-1]), over, 0.0)
    p = jnp.exp(slopes.finite(numbers.as_float(z)) - top[..., None]) * over[..., None]
    if jnp.issubdtype(y.dtype, jnp.floating):
        return p * jnp.sum(y, -1, keepdims=True) - y
    return jnp.where(is_true(y, p.shape), p - 1.0, p)


_cross_entropy_of_logits = slopes.with_rule(
    lambda z, y: _cross_entropy(z, *softmax_parts(z), y), _rule, 2
)


def cross_entropy(z: jax.Array, y: jax.Array) -> jax.Array:
    """Minus the log-probability of each example's class, for what `doors.classes` returns.

    Each pass over the logits makes its own exponentials: an array of them takes longer to move.
    """
    if jnp.issubdtype(y.dtype, jnp.floating):
        _, y = numbers.floats(z, y)
    return _cross_entropy_of_logits(z, y)


def cross_entropies(z: jax.Array) -> jax.Array:
    """Minus the log-probability of every class, ``[..., C]``."""
    wide, top, total = softmax_parts(z)
    return numbers.capped(numbers.capped(top[..., None] - wide) + jnp.log(total)[..., None])


def of_cross_entropy(
    f: Callable[..., jax.Array],
    z: jax.Array,
    y: jax.Array,
    *rest: jax.Array,
    each: jax.Array | None = None,
) -> jax.Array:
    """The loss ``f(cross-entropy, *rest, weight)`` of each example; for soft labels the expected.

    `rest` are numbers of the examples, and `each` holds a weight for each class.
    """
    if not jnp.issubdtype(y.dtype, jnp.floating):
        own = [] if each is None else [at_label(jnp.broadcast_to(each, z.shape[-1:]), y)]
        return f(cross_entropy(z, y), *rest, *own)
    every = [x[..., None] if x.ndim else x for x in rest]
    every += [] if each is None else [of_last(each, z)]
    found, y = numbers.floats(f(cross_entropies(z), *every), y)
    return numbers.capped(jnp.sum(y * found, -1))


def expected_over_ids(
    loss: Callable[[jax.Array], jax.Array], y: jax.Array, number: int
) -> jax.Array:
    """``loss(ids)``; for labels ``[..., C]`` its mean over the classes, one after another."""
    if not jnp.issubdtype(y.dtype, jnp.floating):
        return loss(y)
    first = jnp.zeros_like(y[..., 0])

    def add(total: jax.Array, k: jax.Array) -> tuple[jax.Array, None]:
        share = jax.lax.dynamic_index_in_dim(y, k, -1, keepdims=False)
        ids = jnp.full_like(share, 0, jnp.int32) + k
        total, found, share = numbers.floats(total, loss(ids), share)
        return total + numbers.capped(share * found), None

    return jax.lax.scan(jax.checkpoint(add), first, jnp.arange(number, dtype=jnp.int32))[0]
