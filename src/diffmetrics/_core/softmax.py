"""The softmax over classes, and its cross-entropy.

`axis` is that of the classes, counted from the end. None is ever moved to the last place: channels
first is a convention of many, and a transposed copy costs as much as all the rest.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from diffmetrics._core import numbers, slopes
from diffmetrics._core.class_labels import at_label, is_class, is_true, of_classes
from diffmetrics._core.readings import (
    in_one_reading,
    minus_log_share,
    parts_of_ids,
    rivals_over,
    softmax_parts,
    wide_logits,
)


def _of_ids(z: jax.Array, y: jax.Array, axis: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """The cross-entropy of ids, and the two parts of which the slope is made."""
    top, total, true = parts_of_ids(z, y, axis)
    loss = minus_log_share(top, total, true)
    return jnp.where(is_class(y, z.shape[axis]), loss, 0.0), (top, total)


def _of_shares(
    z: jax.Array, y: jax.Array, axis: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """`_of_ids`, for labels of the shape of the logits."""
    wide, top, total = softmax_parts(z, axis)
    below = numbers.capped(jnp.expand_dims(top, axis) - wide)
    loss = jnp.sum(y * below, axis) + jnp.log(total) * jnp.sum(y, axis)
    return numbers.capped(loss), (top, total)


@functools.cache
def _cross_entropy_over(axis: int) -> Callable[..., jax.Array]:
    """The cross-entropy of logits and labels, with its slope."""

    def with_parts(z: jax.Array, y: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        return (_of_shares if jnp.issubdtype(y.dtype, jnp.floating) else _of_ids)(z, y, axis)

    def rule(primals: Any, moved: Any) -> tuple[jax.Array, list[jax.Array]]:
        (z, y), (dz, dy) = primals, moved
        value, (top, total) = with_parts(z, y)
        terms: list[jax.Array] = []
        if dz is not None:
            slope = slopes.apart(functools.partial(_slope, axis), z, y, top, total)
            terms.append(jnp.sum(slope * numbers.as_float(dz), axis))
        if dy is not None and jnp.issubdtype(y.dtype, jnp.floating):
            wide = wide_logits(z)
            below = numbers.capped(jnp.expand_dims(top, axis) - wide)
            terms.append(jnp.sum(dy * (below + jnp.expand_dims(jnp.log(total), axis)), axis))
        return value, terms

    return slopes.with_rule(lambda z, y: with_parts(z, y)[0], rule, 2)


def _slope(axis: int, z: jax.Array, y: jax.Array, top: jax.Array, total: jax.Array) -> jax.Array:
    """The softmax minus the labels."""
    over = 1.0 / total
    if jnp.issubdtype(y.dtype, jnp.integer):
        # One select per example: one per logit would take two thirds as long as all the rest.
        over = jnp.where(is_class(y, z.shape[axis]), over, 0.0)
    below = wide_logits(z) - jnp.expand_dims(top, axis)
    p = jnp.exp(below) * jnp.expand_dims(over, axis)
    if jnp.issubdtype(y.dtype, jnp.floating):
        return p * jnp.sum(y, axis, keepdims=True) - y
    return jnp.where(is_true(y, p.shape, axis), p - 1.0, p)


def cross_entropy(z: jax.Array, y: jax.Array, axis: int) -> jax.Array:
    """Minus the log-probability of each example's class, for what `doors.classes` returns.

    Each pass over the logits makes its own exponentials: an array of them takes longer to move.
    """
    if jnp.issubdtype(y.dtype, jnp.floating):
        _, y = numbers.floats(z, y)
    return _cross_entropy_over(axis)(z, y)


def cross_entropy_after(
    change: Callable[[jax.Array], jax.Array],
    z: jax.Array,
    y: jax.Array,
    scale: jax.Array,
    axis: int,
) -> jax.Array:
    """The cross-entropy of ids for ``scale * z``, if first `change` moves the logit of class `y`.

    `scale` > 0 is a number, or one for each example. Logits are subtracted before they are scaled,
    and only the value is capped: scaled logits could be infinities that cancel.
    """
    own, top, total = rivals_over(axis)(z, y, jnp.broadcast_to(scale, y.shape))
    gap = numbers.finite(scale * numbers.finite(top - change(own)))
    loss = numbers.below_inf(slopes.softpluses(gap + jnp.log(total))[0])
    return jnp.where(is_class(y, z.shape[axis]), loss, 0.0)


def cross_entropies(z: jax.Array, axis: int) -> jax.Array:
    """Minus the log-probability of every class."""
    wide, top, total = softmax_parts(z, axis)
    below = numbers.capped(jnp.expand_dims(top, axis) - wide)
    return numbers.capped(below + jnp.expand_dims(jnp.log(total), axis))


def softmax(z: jax.Array, axis: int) -> jax.Array:
    """The probabilities, in the accumulator type.

    On an accelerator a derivative computes them again, in another way, so that they are not written
    to memory. On a CPU that takes half as long again as to keep them.
    """

    def kept(z: jax.Array) -> jax.Array:
        return jax.nn.softmax(numbers.finite(numbers.as_float(z)), axis)

    return jax.lax.platform_dependent(z, cpu=kept, default=_softmax_over(axis))


@functools.cache
def _softmax_over(axis: int) -> Callable[[jax.Array], jax.Array]:
    """The softmax of an accelerator."""

    def held(z: jax.Array) -> jax.Array:
        return numbers.held(numbers.as_float(z))

    def parts(z: jax.Array) -> tuple[jax.Array, ...]:
        found = in_one_reading((held(z),), z.ndim + axis)
        return tuple(jnp.expand_dims(x, axis) for x in found)

    def value(z: jax.Array, top: jax.Array, total: jax.Array) -> jax.Array:
        return jnp.exp(held(z) - top) * (1.0 / total)

    def rule(primals: Any, moved: Any) -> tuple[jax.Array, list[jax.Array]]:
        (z,), (dz,) = primals, moved
        top, total = parts(z)
        p = jnp.exp(-((top - held(z)) + jnp.log(total)))  # not as `value` writes it
        # Times one, so that in reverse its two terms, which may cancel, meet before any others.
        step = 1.0 * dz.astype(p.dtype)
        return value(z, top, total), [p * step - p * jnp.sum(p * step, axis, keepdims=True)]

    return slopes.with_rule(lambda z: value(z, *parts(z)), rule, 1)


def of_cross_entropy(
    f: Callable[..., jax.Array],
    z: jax.Array,
    y: jax.Array,
    axis: int,
    *rest: jax.Array,
    each: jax.Array | None = None,
) -> jax.Array:
    """The loss ``f(cross-entropy, *rest, weight)`` of each example; for soft labels the expected.

    `rest` are numbers of the examples, and `each` holds a weight for each class.
    """
    number = z.shape[axis]
    if not jnp.issubdtype(y.dtype, jnp.floating):
        own = [] if each is None else [at_label(jnp.broadcast_to(each, (number,)), y, axis)]
        return f(cross_entropy(z, y, axis), *rest, *own)
    every = [jnp.expand_dims(x, axis) if x.ndim else x for x in rest]
    every += [] if each is None else [of_classes(each, z.ndim, axis)]
    found, y = numbers.floats(f(cross_entropies(z, axis), *every), y)
    return numbers.capped(jnp.sum(y * found, axis))


def expected_over_ids(loss: Callable[[jax.Array], jax.Array], y: jax.Array, axis: int) -> jax.Array:
    """``loss(ids)``; for labels of the shape of the logits its mean, one class after another."""
    if not jnp.issubdtype(y.dtype, jnp.floating):
        return loss(y)
    number = y.shape[axis]

    def add(total: jax.Array, k: jax.Array) -> tuple[jax.Array, None]:
        share = jax.lax.dynamic_index_in_dim(y, k, axis, keepdims=False)
        ids = jnp.zeros_like(share, jnp.int32) + k
        total, found, share = numbers.floats(total, loss(ids), share)
        return total + numbers.capped(share * found), None

    first = jnp.sum(jnp.zeros_like(y), axis)
    return jax.lax.scan(jax.checkpoint(add), first, jnp.arange(number, dtype=jnp.int32))[0]
