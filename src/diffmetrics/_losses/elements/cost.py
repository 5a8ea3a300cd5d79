"""Cost matrices: losses for mistakes that do not all cost the same.

With calibrated probabilities p you need neither: predict ``jnp.argmin(p @ cost, -1)``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import doors, examples, numbers, slopes
from diffmetrics._core.calls import ClassOptions
from diffmetrics._core.class_labels import is_class, is_true, rows
from diffmetrics._core.readings import minus_log_share, movable
from diffmetrics._core.softmax import cross_entropies, cross_entropy, softmax


@examples.per_example()
def expected_cost_loss(
    logits: ArrayLike, labels: ArrayLike, *, cost: ArrayLike, **options: Unpack[ClassOptions]
) -> jax.Array:
    r"""Cost-sensitive loss: the expected cost of a prediction that is drawn from the softmax.

    Use it when you are judged by the mean cost; as the logits grow, the loss becomes that cost. It
    is bounded, so a confidently wrong example hardly has a gradient: train with cross-entropy
    first, or with the sum of both. Its minimiser puts all probability on the cheapest class, so the
    probabilities are not calibrated.

    With two classes and a zero diagonal it is ``cost[y, 1 - y]`` times one minus the probability of
    the true class.

    .. math:: \sum_t y_t \sum_j C_{tj} \mathrm{softmax}(z)_j

    Args:
      logits: real scores ``[..., C]``, one per class.
      labels: class ids ``[...]``, or one-hot or probabilities ``[..., C]``.
      cost: ``[C, C]``, in any unit; ``cost[t, j]`` is the cost of predicting class j when t is
        true. The diagonal is usually 0. A constant added to a row changes no gradient.

    Returns:
      Expected cost of each example ``[...]``, in the unit of `cost`.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z = jnp.array([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
      >>> cost = jnp.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [10.0, 5.0, 0.0]])
      >>> print(dm.expected_cost_loss(z, jnp.array([0, 2]), cost=cost).round(2))
      [0.16 5.  ]

    References:
      Elkan, The foundations of cost-sensitive learning, IJCAI 2001.
    """
    z, y, axis = doors.classes(logits, labels, **options)
    matrix = _pairs(cost, z, axis)

    def in_steps(z: jax.Array, y: jax.Array, matrix: jax.Array) -> jax.Array:
        p = softmax(z, axis)
        return jnp.sum(p * _costs(matrix, y, axis).astype(p.dtype), axis)

    return _by_backend(in_steps, _mean, z, y, matrix, axis)


def _pairs(cost: ArrayLike, z: jax.Array, axis: int) -> jax.Array:
    """A checked matrix of costs ``[C, C]``."""
    matrix = jnp.asarray(cost)
    doors.require_shape("cost", matrix, 2 * (z.shape[axis],), "the pairs of classes")
    return matrix.astype(numbers.accumulator(z.dtype))


def _costs(cost: jax.Array, y: jax.Array, axis: int) -> jax.Array:
    """What every prediction would cost each example, 0 for void ids."""
    if jnp.issubdtype(y.dtype, jnp.floating):
        y, cost = numbers.floats(y, cost)
        return _times(y, cost, axis)
    known = jnp.expand_dims(is_class(y, cost.shape[0]), axis)
    return jnp.where(known, rows(cost, y, axis), 0.0)


def _times(x: jax.Array, matrix: jax.Array, axis: int) -> jax.Array:
    """The classes of `x` times a matrix."""
    exact = jax.lax.Precision.HIGHEST
    return jnp.moveaxis(jnp.tensordot(x, matrix, axes=(axis, 0), precision=exact), -1, axis)


@examples.per_example()
def cost_sensitive_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, *, cost: ArrayLike, **options: Unpack[ClassOptions]
) -> jax.Array:
    r"""Cost-sensitive cross-entropy: cross-entropy times the expected cost of the example.

    Use it where training with `expected_cost_loss` does not start: here a confidently wrong example
    has the gradient of cross-entropy. It is a heuristic: its minimiser is neither the probability
    nor the cheapest decision. The sum of cross-entropy and expected cost is sounder.

    The usual weight, ``cost[y, argmax(logits)]``, is constant between jumps: no gradient leads to a
    cheaper error, and as soon as the decision is right the weight falls to that of the diagonal, so
    nothing builds a margin. Here the weight is the mean of the costs under the softmax, which is
    smooth and has a gradient.

    The diagonal weighs examples that are right. With ones on it, and more elsewhere, their loss
    approaches cross-entropy. With zeros the gradient vanishes faster than that of cross-entropy; if
    all errors cost 1, it is then focal loss with gamma 1.

    .. math:: -\log p_y \sum_j C_{yj} p_j, \quad p = \mathrm{softmax}(z)

    Args:
      logits: real scores ``[..., C]``, one per class.
      labels: class ids ``[...]`` or one-hot ``[..., C]``.
      cost: factors ≥ 0 ``[C, C]``; ``cost[t, j]`` is the one for predicting class j when t is
        true.

    Returns:
      Loss ≥ 0 of each example ``[...]``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z = jnp.array([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
      >>> cost = jnp.array([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [10.0, 5.0, 1.0]])
      >>> print(dm.cost_sensitive_cross_entropy(z, jnp.array([0, 2]), cost=cost).round(2))
      [0.17 8.09]

    References:
      Kukar and Kononenko, Cost-sensitive learning with neural networks, ECAI 1998.
    """
    z, y, axis = doors.classes(logits, labels, **options)
    matrix = _pairs(cost, z, axis)

    def in_steps(z: jax.Array, y: jax.Array, matrix: jax.Array) -> jax.Array:
        p = softmax(z, axis)
        if jnp.issubdtype(y.dtype, jnp.integer):
            expected = jnp.sum(p * _costs(matrix, y, axis), axis)
            return _weighted(cross_entropy(z, y, axis), expected)
        expected = _times(p, matrix.T, axis)
        found, y = numbers.floats(_weighted(cross_entropies(z, axis), expected), y)
        return numbers.capped(jnp.sum(y * found, axis))

    return _by_backend(in_steps, _mean_times_loss, z, y, matrix, axis)


def _product(loss: jax.Array, weight: jax.Array) -> jax.Array:
    # The derivative in the weight is the loss, clamped far enough below the largest number for a
    # product with a matrix of costs. The value is clamped at the largest number.
    moved = jnp.minimum(loss, 1e30) * (weight - jax.lax.stop_gradient(weight))
    return numbers.capped(jax.lax.stop_gradient(weight) * loss) + moved


_weighted = slopes.with_slope(_product, lambda loss, weight: weight)


# --- one reading, for accelerators ----------------------------------------------------------------

# From an example's cross-entropy and mean cost: the loss, and its derivatives in both.
_Kind = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array, jax.Array]]


def _mean(loss: jax.Array, mean: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    return mean, jnp.zeros_like(mean), jnp.ones_like(mean)


def _mean_times_loss(loss: jax.Array, mean: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    return numbers.capped(mean * loss), mean, jnp.minimum(loss, 1e30)  # as in `_product`


def _by_backend(
    in_steps: Callable[..., jax.Array],
    kind: _Kind,
    z: jax.Array,
    y: jax.Array,
    cost: jax.Array,
    axis: int,
) -> jax.Array:
    """The loss; of ids an accelerator makes it `_in_one_reading`, if it is of that kind.

    A CPU, whose exponentials take as long as its memory, keeps probabilities and costs: making them
    again takes up to twice the time.
    """
    if jnp.issubdtype(y.dtype, jnp.floating):
        return in_steps(z, y, cost)

    def elsewhere(z: jax.Array, y: jax.Array, cost: jax.Array) -> jax.Array:
        return jnp.where(is_class(y, len(cost)), _in_one_reading(axis, kind)(z, y, cost), 0.0)

    return jax.lax.platform_dependent(z, y, cost, cpu=in_steps, default=elsewhere)


@functools.cache
def _in_one_reading(axis: int, kind: _Kind) -> Callable[..., jax.Array]:
    read = _parts_over(axis)

    def found(parts: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array, jax.Array]:
        top, total, true, mean = parts
        return kind(minus_log_share(top, total, true), mean)

    def value(z: jax.Array, y: jax.Array, cost: jax.Array) -> jax.Array:
        return found(read(z, y, rows(cost, y, axis)))[0]

    def rule(primals: Any, moved: Any) -> tuple[jax.Array, list[jax.Array]]:
        (z, y, cost), (dz, _, dcost) = primals, moved
        top, total, _, mean = parts = read(z, y, rows(cost, y, axis))
        loss, *both = found(parts)
        in_loss, in_mean, mean = (jnp.expand_dims(x, axis) for x in (*both, mean))
        p, terms = _shares(z, top, total, axis), list[jax.Array]()
        if dz is not None:
            # Looked up again: a TPU would write out what both passes share.
            costs = rows(cost, jax.lax.optimization_barrier(y), axis)
            over = jnp.where(is_true(y, z.shape, axis), p - 1.0, p)
            slope = in_loss * over + in_mean * (p * (costs - mean))
            terms.append(jnp.sum(slope * numbers.as_float(dz), axis))
        if dcost is not None:
            terms.append(jnp.sum(in_mean * p * rows(dcost, y, axis), axis))
        return loss, terms

    return slopes.with_rule(value, rule, 3)


def _shares(z: jax.Array, top: jax.Array, total: jax.Array, axis: int) -> jax.Array:
    below = numbers.finite(numbers.as_float(z)) - jnp.expand_dims(top, axis)
    return jnp.exp(below) * jnp.expand_dims(1.0 / total, axis)


@functools.cache
def _parts_over(axis: int) -> Callable[..., tuple[jax.Array, ...]]:
    """Of logits, ids and costs ``[..., C]``, what one reading finds.

    That is the maximum, the sum of exponentials relative to it, the logit of the class, and the
    mean of the costs under the softmax.
    """

    @jax.custom_jvp
    def read(z: jax.Array, y: jax.Array, costs: jax.Array) -> tuple[jax.Array, ...]:
        wide = numbers.finite(numbers.as_float(z))
        own = jnp.where(is_true(y, z.shape, axis), wide, 0.0)
        zero = jnp.zeros((), wide.dtype)
        starts = (jnp.full_like(zero, jnp.finfo(wide.dtype).min), zero, zero, zero)
        operands = (wide, movable(1.0, wide), costs, own)
        top, total, weighted, own = jax.lax.reduce(operands, starts, _merged, (z.ndim + axis,))
        return top, total, own, weighted / total

    def jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
        (z, y, costs), (dz, _, dcosts) = primals, tangents
        top, total, _, mean = out = read(*primals)
        p, dz = _shares(z, top, total, axis), numbers.as_float(dz)
        excess = p * (costs - jnp.expand_dims(mean, axis))
        of_own = jnp.sum(jnp.where(is_true(y, z.shape, axis), dz, 0.0), axis)
        of_mean = jnp.sum(excess * dz + p * dcosts, axis)
        return out, (jnp.zeros_like(top), total * jnp.sum(p * dz, axis), of_own, of_mean)

    read.defjvp(jvp)
    return read


def _merged(one: Any, other: Any) -> Any:
    """A maximum, two sums relative to it, and a plain sum, of two parts of a row."""
    top = jnp.maximum(one[0], other[0])
    weight, other_weight = jnp.exp(one[0] - top), jnp.exp(other[0] - top)
    total, weighted = (weight * one[i] + other_weight * other[i] for i in (1, 2))
    return top, total, weighted, one[3] + other[3]
