"""The softmax over classes, and its cross-entropy.

`axis` is that of the classes, counted from the end. None is ever moved to the last place: channels
first is a convention of many, and a transposed copy costs as much as all the rest.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from diffmetrics._core import numbers, slopes


def is_class(ids: jax.Array, number: int) -> jax.Array:
    """Which ids name one of `number` classes."""
    return (ids >= 0) & (ids < number)


def is_true(y: jax.Array, shape: tuple[int, ...], axis: int) -> jax.Array:
    """Whether an entry of `shape` is of its example's class.

    Void ids have none; in labels of that shape it is what exceeds ½.
    """
    if jnp.issubdtype(y.dtype, jnp.floating):
        return y > 0.5
    place = jax.lax.broadcasted_iota(y.dtype, shape, len(shape) + axis)
    return place == jnp.expand_dims(y, axis)


def at_label(x: jax.Array, y: jax.Array, axis: int) -> jax.Array:
    """The entry of `x`, one for each entry or for each class, of the class of each example.

    It is 0 for a void id. For labels of the shape of the logits it is the labels' mean of `x`.
    """
    if jnp.issubdtype(y.dtype, jnp.floating):
        return jnp.sum(of_classes(x, y.ndim, axis) * y, axis)
    found = x.at[y].get(mode="clip") if x.ndim == 1 else take(x, y, axis)
    number = x.shape[0] if x.ndim == 1 else x.shape[axis]
    return jnp.where(is_class(y, number), found, 0.0)


def of_classes(x: jax.Array, ndim: int, axis: int) -> jax.Array:
    """`x` ``[C]`` on the axis of the classes of `ndim`; what has that many axes, or none, stays."""
    if x.ndim in (0, ndim):
        return x
    return x.reshape((1,) * (ndim + axis) + x.shape + (1,) * (-1 - axis))


def rows(matrix: jax.Array, ids: jax.Array, axis: int) -> jax.Array:
    """The row of `matrix` of the class of each example, that of the nearest class for a void id.

    A TPU writes out what it gathers. There a product with one-hot rows, exact in bfloat16, joins
    the pass that uses it: 3.5 times the least bytes for 6.0 (1,000 classes).
    """

    def gathered(matrix: jax.Array, ids: jax.Array) -> jax.Array:
        return matrix.at[ids].get(mode="clip")

    def product(matrix: jax.Array, ids: jax.Array) -> jax.Array:
        near = jnp.clip(ids, 0, len(matrix) - 1)
        hot = jax.nn.one_hot(near, len(matrix), dtype=matrix.dtype)
        exact = (jax.lax.Precision.DEFAULT, jax.lax.Precision.HIGHEST)
        return jnp.matmul(hot, matrix, precision=exact)

    found = jax.lax.platform_dependent(matrix, ids, tpu=product, default=gathered)
    return jnp.moveaxis(found, -1, axis)


def take(x: jax.Array, ids: jax.Array, axis: int) -> jax.Array:
    """The entry of `x` of the class of each example, that of the nearest class for a void id."""
    taken = jnp.take_along_axis(x, jnp.expand_dims(ids, axis), axis, mode="clip")
    return jnp.squeeze(taken, axis)


def softmax_parts(z: jax.Array, axis: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Logits in the accumulator type, their maximum, and the sum of exponentials relative to it.

    The maximum is finite. A logit of -inf adds nothing to the sum; if all are, they are equal.
    """
    top, total = _top_and_total(z, axis)
    return _logits(z), top, _or_all(total, z.shape[axis])


def _top_and_total(z: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    return jax.lax.platform_dependent(
        z,
        cpu=functools.partial(_in_two_readings, axis=axis),
        default=lambda z: _in_one_reading((_logits(z),), z.ndim + axis),
    )


def _logits(z: jax.Array) -> jax.Array:
    """Logits in the accumulator type; those of +inf are the largest number."""
    return numbers.below_inf(numbers.as_float(z))


def _or_all(total: jax.Array, number: int) -> jax.Array:
    """The sum of exponentials; if all logits are -inf, each counts as the largest."""
    return jnp.where(total == 0.0, float(number), total)


def _in_two_readings(z: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    # The softmax does not depend on where it is centred, so neither do its derivatives. The maximum
    # is bounded after it is taken: the CPU would write out bounded logits that two readings share.
    top = jax.lax.stop_gradient(slopes.alone(numbers.as_float(jnp.max(z, axis))))
    top = numbers.finite(top)
    return top, slopes.finished(jnp.sum(jnp.exp(below(z, top, axis)), axis))


def below(z: jax.Array, top: jax.Array, axis: int) -> jax.Array:
    """Logits minus a finite `top` of each example, its maximum unless that is infinite."""
    return _up_to(numbers.as_float(z), jnp.expand_dims(top, axis))


@jax.custom_jvp
def _up_to(z: jax.Array, top: jax.Array) -> jax.Array:
    # Bounded by what is at hand: XLA's CPU backend writes out a constant that two sums share.
    return jnp.minimum(z, top) - top


@_up_to.defjvp
def _(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    return _up_to(*primals), tangents[0] - tangents[1]


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _in_one_reading(
    operands: tuple[jax.Array, ...], axis: int, factor: jax.Array | None = None
) -> tuple[jax.Array, ...]:
    """The maximum of the first operand, its sum of exponentials, and the sums of the others.

    The exponents are those of `factor` > 0 times the first operand. An accelerator waits for its
    memory: there, two more exponentials for each logit cost less than a second reading of all. An
    H100 moves 1.7 times the least bytes for 2.2 (21 classes), and 1.5 for 2.5 (1,000).
    """
    wide, *others = operands
    zero = jnp.zeros((), wide.dtype)
    given, merged = (wide, movable(1.0, wide if factor is None else factor), *others), _merged
    if factor is not None:
        given, merged = (*given, factor), _merged_at_scale
    starts = (jnp.full_like(zero, _least(zero)), *[zero] * (len(given) - 1))
    return tuple(jax.lax.reduce(given, starts, merged, (axis,))[: len(operands) + 1])


def movable(value: jax.Array | float, like: jax.Array) -> jax.Array:
    """`value` in the shape of `like`, as if it depended on that.

    JAX cannot differentiate a reduction of several operands with a constant among them, and does so
    where it takes a scan apart for second derivatives: there closed forms are lost.
    """
    bound = jnp.broadcast_to(value, like.shape).astype(like.dtype)
    return jax.lax.clamp(bound, like, bound)


def _merged(one: Any, other: Any, scale: Any = 1.0) -> Any:
    """A maximum, a sum relative to it, and plain sums, of two parts of a row."""
    (top, total, *sums), (other_top, other_total, *other_sums) = one, other
    higher = jnp.maximum(top, other_top)
    below, other_below = (scale * (x - higher) for x in (top, other_top))
    total = total * jnp.exp(below) + other_total * jnp.exp(other_below)
    return higher, total, *map(operator.add, sums, other_sums)


def _merged_at_scale(one: Any, other: Any) -> Any:
    """`_merged`, where the last operand, the same everywhere, is the factor of exponents."""
    scale = jnp.maximum(one[-1], other[-1])
    return *_merged(one[:-1], other[:-1], scale), scale


@_in_one_reading.defjvp
def _(axis: int, primals: Any, tangents: Any) -> tuple[Any, Any]:
    ((wide, *_), *factor), ((moved, *others), *_) = primals, tangents
    out = _in_one_reading(primals[0], axis, *factor)
    below = wide - jnp.expand_dims(out[0], axis)
    if factor and factor[0] is not None:
        moved = factor[0] * moved + numbers.finite(below) * tangents[1]
        below *= factor[0]
    of_total = jnp.sum(jnp.exp(below) * moved, axis)
    return out, (jnp.zeros_like(out[0]), of_total, *(jnp.sum(t, axis) for t in others))


def _parts_of_ids(z: jax.Array, y: jax.Array, axis: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The maximum, the sum of exponentials relative to it, and the logit of the class `y`."""

    def on_cpu(z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        # Alone it has its constant to itself, which is a tenth faster than `below`.
        top = jnp.max(_logits(z), axis)
        top = numbers.finite(jax.lax.stop_gradient(slopes.alone(top)))
        terms = jnp.exp(_logits(z) - jnp.expand_dims(top, axis))
        return top, slopes.finished(jnp.sum(terms, axis)), numbers.as_float(take(z, y, axis))

    def elsewhere(z: jax.Array) -> tuple[jax.Array, ...]:
        wide = _logits(z)
        own = jnp.where(is_true(y, z.shape, axis), wide, 0.0)
        return _in_one_reading((wide, own), z.ndim + axis)

    top, total, true = jax.lax.platform_dependent(z, cpu=on_cpu, default=elsewhere)
    return top, _or_all(total, z.shape[axis]), numbers.finite(true)


def _of_ids(z: jax.Array, y: jax.Array, axis: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """The cross-entropy of ids, and the two parts of which the slope is made."""
    top, total, true = _parts_of_ids(z, y, axis)
    loss = numbers.capped(numbers.capped(top - true) + jnp.log(total))
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
            wide = _logits(z)
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
    below = _logits(z) - jnp.expand_dims(top, axis)
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
    own, top, total = _rivals_over(axis)(z, y, jnp.broadcast_to(scale, y.shape))
    gap = numbers.finite(scale * numbers.finite(top - change(own)))
    loss = numbers.below_inf(slopes.softpluses(gap + jnp.log(total))[0])
    return jnp.where(is_class(y, z.shape[axis]), loss, 0.0)


@functools.cache
def _rivals_over(axis: int) -> Callable[..., tuple[jax.Array, jax.Array, jax.Array]]:
    """The logit of the class `y`, the largest of the others, and the sum of these in exponentials.

    The sum is that of ``exp(scale * (z - top))``, of which `top`, the largest, is a constant. An
    accelerator reads the logits once for all three.
    """
    on_cpu, elsewhere = (
        functools.partial(f, axis) for f in (_rivals_in_two_readings, _rivals_in_one_reading)
    )

    @jax.custom_jvp
    def read(
        z: jax.Array, y: jax.Array, scale: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        own, top, total = jax.lax.platform_dependent(z, y, scale, cpu=on_cpu, default=elsewhere)
        # If all others are -inf, each counts as the largest.
        total = jnp.where(top == _least(top), z.shape[axis] - 1.0, total)
        return numbers.finite(own), top, total

    def jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
        (z, y, scale), (dz, _, dscale) = primals, tangents
        own, top, total = out = read(*primals)
        of_own, of_total = jnp.zeros_like(own), jnp.zeros_like(total)
        if not isinstance(dz, SymbolicZero):
            dz = numbers.as_float(dz)
            of_own += jnp.sum(jnp.where(is_true(y, z.shape, axis), dz, 0.0), axis)
            slope = slopes.apart(functools.partial(_pull, axis), z, y, scale, top)
            of_total += jnp.sum(slope * dz, axis) * scale
        if not isinstance(dscale, SymbolicZero):
            below = numbers.finite(numbers.as_float(z)) - jnp.expand_dims(top, axis)
            of_total += jnp.sum(_pull(axis, z, y, scale, top) * below, axis) * dscale
        return out, (of_own, jnp.zeros_like(top), of_total)

    read.defjvp(jvp, symbolic_zeros=True)
    return read


def _pull(axis: int, z: jax.Array, y: jax.Array, scale: jax.Array, top: jax.Array) -> jax.Array:
    """The exponentials of all but the class `y`, relative to the largest."""
    below = _others(z, y, axis) - jnp.expand_dims(top, axis)
    return jnp.exp(jnp.expand_dims(scale, axis) * below)


def _others(z: jax.Array, y: jax.Array, axis: int) -> jax.Array:
    """Logits in the accumulator type, the least number for the class `y`."""
    wide = _logits(z)
    return jnp.where(is_true(y, z.shape, axis), _least(wide), wide)


def _least(x: jax.Array) -> float:
    return -float(jnp.finfo(x.dtype).max)


def _rivals_in_two_readings(
    axis: int, z: jax.Array, y: jax.Array, scale: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    wide = _others(z, y, axis)
    top = slopes.alone(jnp.max(wide, axis))
    top = jnp.maximum(top, _least(top))
    total = slopes.finished(jnp.sum(_pull(axis, z, y, scale, top), axis))
    return numbers.as_float(take(z, y, axis)), top, total


def _rivals_in_one_reading(
    axis: int, z: jax.Array, y: jax.Array, scale: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    wide = numbers.as_float(z)
    operands = (_others(z, y, axis), jnp.where(is_true(y, z.shape, axis), wide, 0.0))
    factor = movable(jnp.expand_dims(scale, axis), wide)
    top, total, own = _in_one_reading(operands, z.ndim + axis, factor)
    return own, top, total


def cross_entropies(z: jax.Array, axis: int) -> jax.Array:
    """Minus the log-probability of every class."""
    wide, top, total = softmax_parts(z, axis)
    below = numbers.capped(jnp.expand_dims(top, axis) - wide)
    return numbers.capped(below + jnp.expand_dims(jnp.log(total), axis))


def softmax(z: jax.Array, axis: int) -> jax.Array:
    """The probabilities, in the accumulator type.

    A derivative computes them again, in another way, so that no backend writes them to memory. On a
    CPU that takes a quarter of the time at 4096 x 1000, but what stays in the cache is better kept.
    """
    again = _softmax_over(axis)
    if z.size > numbers.IN_CACHE:
        return again(z)

    def kept(z: jax.Array) -> jax.Array:
        return jax.nn.softmax(numbers.finite(numbers.as_float(z)), axis)

    return jax.lax.platform_dependent(z, cpu=kept, default=again)


@functools.cache
def _softmax_over(axis: int) -> Callable[[jax.Array], jax.Array]:
    def held(z: jax.Array) -> jax.Array:
        return numbers.held(numbers.as_float(z))

    def parts(z: jax.Array) -> tuple[jax.Array, jax.Array]:
        top, total = _top_and_total(held(z), axis)
        return jnp.expand_dims(top, axis), jnp.expand_dims(total, axis)

    def value(z: jax.Array, top: jax.Array, total: jax.Array) -> jax.Array:
        return jnp.exp(held(z) - top) * (1.0 / total)

    def again(z: jax.Array, top: jax.Array, log_total: jax.Array) -> jax.Array:
        return jnp.exp(-((top - held(z)) + log_total))

    def rule(primals: Any, moved: Any) -> tuple[jax.Array, list[jax.Array]]:
        (z,), (dz,) = primals, moved
        top, total = parts(z)
        # One for what is written and one for what is summed: see `slopes.apart`.
        p, also_p = (slopes.apart(again, z, top, jnp.log(total)) for _ in range(2))
        step = dz.astype(p.dtype)
        slope = p * step - also_p * jnp.sum(p * step, axis, keepdims=True)
        return value(z, top, total), [slope]

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
