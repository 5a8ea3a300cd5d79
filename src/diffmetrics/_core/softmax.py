"""The softmax over the classes on the last axis, and its cross-entropy."""

from __future__ import annotations

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
        return jnp.sum(x * y, -1)
    found = x.at[y].get(mode="clip") if x.ndim == 1 else _take(x, y)
    return jnp.where(is_class(y, x.shape[-1]), found, 0.0)


def _take(x: jax.Array, ids: jax.Array) -> jax.Array:
    return jnp.take_along_axis(x, ids[..., None], -1, mode="clip")[..., 0]


def softmax_parts(z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Logits in the accumulator type, their maximum, and the sum of exponentials relative to it."""
    wide = numbers.as_float(z)
    # The softmax does not depend on where it is centred, so neither do its derivatives.
    top = jax.lax.stop_gradient(slopes.alone(jnp.max(wide, -1)))
    return wide, top, slopes.finished(jnp.sum(jnp.exp(wide - top[..., None]), -1))


def _cross_entropy(wide: jax.Array, top: jax.Array, total: jax.Array, y: jax.Array) -> jax.Array:
    if jnp.issubdtype(y.dtype, jnp.integer):
        loss = numbers.capped(top - _take(wide, y)) + jnp.log(total)
        return jnp.where(is_class(y, wide.shape[-1]), numbers.capped(loss), 0.0)
    below = numbers.capped(top[..., None] - wide)
    return numbers.capped(jnp.sum(y * below, -1) + jnp.log(total) * jnp.sum(y, -1))


def _rule(primals: Any, moved: Any) -> tuple[jax.Array, list[jax.Array]]:
    (z, y), (dz, dy) = primals, moved
    wide, top, total = softmax_parts(z)
    terms = []
    if dz is not None:
        slope = slopes.apart(_cross_entropy_slope, z, y, top, total)
        terms.append(jnp.sum(slope * numbers.as_float(dz), -1))
    if dy is not None and jnp.issubdtype(y.dtype, jnp.floating):
        below = numbers.capped(top[..., None] - wide)
        terms.append(jnp.sum(dy * (below + jnp.log(total)[..., None]), -1))
    return _cross_entropy(wide, top, total, y), terms


def _cross_entropy_slope(z: jax.Array, y: jax.Array, top: jax.Array, total: jax.Array) -> jax.Array:
    """The softmax minus the labels."""
    over = 1.0 / total
    if jnp.issubdtype(y.dtype, jnp.integer):
        # One select per example: one per logit would take two thirds as long as all the rest.
        over = jnp.where(is_class(y, z.shape[-1]), over, 0.0)
    p = jnp.exp(numbers.as_float(z) - top[..., None]) * over[..., None]
    if jnp.issubdtype(y.dtype, jnp.floating):
        return p * jnp.sum(y, -1, keepdims=True) - y
    return jnp.where(is_true(y, p.shape), p - 1.0, p)


_cross_entropy_of_logits = slopes.with_rule(
    lambda z, y: _cross_entropy(*softmax_parts(z), y), _rule, 2
)


def cross_entropy(z: jax.Array, y: jax.Array) -> jax.Array:
    """Minus the log-probability of each example's class, for what `doors.classes` returns.

    Each pass over the logits makes its own exponentials: an array of them takes longer to move.
    """
    return _cross_entropy_of_logits(z, y)
