"""Multi-class hinges: the true class has to win by a margin.

At a kink the slope is the one below the margin. Wrong classes that tie for the maximum share it
evenly.
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
from diffmetrics._core.class_labels import at_label, is_class, is_true
from diffmetrics._core.readings import movable
from diffmetrics._core.softmax import expected_over_ids


@examples.per_example()
def crammer_singer_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    cost: ArrayLike | None = None,
    **options: Unpack[ClassOptions],
) -> jax.Array:
    r"""Multi-class hinge (SVM) loss of Crammer and Singer: against the strongest wrong class.

    Use it when one class is right, only the decision counts, and some mistakes cost more: `cost` is
    the margin of each wrong class (margin rescaling), and the loss is an upper bound of the cost of
    the decision. Only one wrong class at a time has a gradient. Where no class has a probability
    above ½ it is not consistent; cross-entropy is.

    .. math:: \max_j (C_{yj} + z_j - z_y), \qquad C_{yy} = 0

    Args:
      logits: real scores ``[..., C]``, one per class.
      labels: class ids ``[...]``, or one-hot ``[..., C]``, whose largest positive entry counts.
      cost: ``[C, C]``, in units of the logits; ``cost[y, j]`` is the cost of predicting j when y is
        true. The diagonal is ignored. None, the default, is 1 for every mistake.

    Returns:
      Loss ≥ 0 of each example ``[...]``, in units of the logits. A class exactly at its margin has
      a slope; tied ones share it.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z = jnp.array([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
      >>> print(dm.crammer_singer_loss(z, jnp.array([0, 2])))
      [0. 2.]
      >>> print(dm.crammer_singer_loss(z, jnp.array([0, 2]), cost=5.0 * jnp.ones((3, 3))))
      [3. 6.]

    References:
      Crammer and Singer, On the algorithmic implementation of multiclass kernel-based vector
      machines, JMLR 2001. Margin rescaling: Tsochantaridis et al., Large margin methods for
      structured and interdependent output variables, JMLR 2005.
    """
    return _expected(_crammer_singer, logits, labels, cost, **options)


@examples.per_example()
def weston_watkins_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    cost: ArrayLike | None = None,
    **options: Unpack[ClassOptions],
) -> jax.Array:
    r"""Multi-class hinge (SVM) loss of Weston and Watkins: the sum over all wrong classes.

    Use it instead of `crammer_singer_loss` if all wrong classes within their margins need a
    gradient. It is not consistent for C ≥ 3. PyTorch's ``MultiMarginLoss`` is this divided by C.

    .. math:: \sum_{j \ne y} \max(0, C_{yj} + z_j - z_y)

    Args:
      logits: real scores ``[..., C]``, one per class.
      labels: class ids ``[...]``, or one-hot ``[..., C]``, whose largest positive entry counts.
      cost: ``[C, C]``, in units of the logits; ``cost[y, j]`` is the cost of predicting j when y is
        true. The diagonal is ignored. None, the default, is 1 for every mistake.

    Returns:
      Loss ≥ 0 of each example ``[...]``, in units of the logits. A wrong class exactly at its
      margin has a slope.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z = jnp.array([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
      >>> print(dm.weston_watkins_loss(z, jnp.array([0, 2])))
      [0. 3.]

    References:
      Weston and Watkins, Support vector machines for multi-class pattern recognition, ESANN 1999.
    """
    return _expected(_weston_watkins, logits, labels, cost, **options)


def _expected(
    loss: Callable[[int], Callable[..., jax.Array]],
    logits: ArrayLike,
    labels: ArrayLike,
    cost: ArrayLike | None,
    **options: Unpack[ClassOptions],
) -> jax.Array:
    """The loss of checked logits and ids, with costs ``[C, C]``, or ``[]`` if all are 1."""
    z, y, axis = doors.classes(logits, labels, **options)
    number, matrix = z.shape[axis], jnp.asarray(1.0 if cost is None else cost)
    if cost is not None and matrix.shape != (number, number):
        raise ValueError(
            f"cost must have shape {(number, number)}, one row per true and one column per "
            f"predicted class of logits {z.shape}, got {matrix.shape}."
        )
    if cost is not None:
        matrix = jnp.where(jnp.eye(number, dtype=bool), jnp.zeros_like(matrix), matrix)
    matrix = matrix.astype(numbers.accumulator(z.dtype))
    return expected_over_ids(lambda ids: loss(axis)(z, ids, matrix), y, axis)


def _pair_costs(z: jax.Array, ids: jax.Array, cost: jax.Array, axis: int) -> jax.Array:
    """``cost[y, j]`` for every example and class, 0 for its own."""
    if cost.ndim == 0:
        return jnp.where(is_true(ids, z.shape, axis), jnp.zeros_like(cost), cost)
    return jnp.moveaxis(cost.at[ids].get(mode="clip"), -1, axis)


def _against(
    z: jax.Array, ids: jax.Array, cost: jax.Array, axis: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Each class's violation and reach, and the true logit.

    The violation is how far a class is inside its margin to the true class, whose own is 0. Logits
    are subtracted before costs are added, because costs would lose their digits in large logits.
    The reach is the least true logit that leaves no violation. The true logit is not subtracted
    from it, because a large one would make different classes tie.
    """
    wide, costs = numbers.as_float(z), _pair_costs(z, ids, cost, axis)
    true = at_label(wide, ids, axis)
    held = jnp.expand_dims(numbers.finite(true), axis)
    return (wide - held) + costs, wide + costs, true


def _teaches(z: jax.Array, ids: jax.Array, true: jax.Array, axis: int) -> jax.Array:
    """Which examples have a class, of a logit that is not infinite: it could not be subtracted."""
    return is_class(ids, z.shape[axis]) & ~(true >= jnp.inf)


# A GPU has one thread for so many classes, and makes no array beside their sum.
_FEW = 32

# What a pass over the logits returns for each example: the loss; the least reach at which a class
# has a slope; that slope; and minus the slope of the true class.
_Parts = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


def _crammer_singer_parts(axis: int, z: jax.Array, ids: jax.Array, cost: jax.Array) -> _Parts:
    on_cpu, elsewhere = (
        functools.partial(f, axis) for f in (_largest_in_two_readings, _largest_in_one_reading)
    )
    loss, top, number, true = jax.lax.platform_dependent(
        z, ids, cost, cpu=on_cpu, default=elsewhere
    )
    known, true = _teaches(z, ids, true, axis), numbers.finite(true)
    # The true class has the largest reach itself if no other exceeds it.
    sharing = number - (true == top).astype(number.dtype)
    pulls = known & (sharing > 0)
    share = jnp.where(pulls, 1.0 / jnp.maximum(sharing, 1.0), 0.0)
    loss = numbers.capped(jnp.maximum(loss, 0.0))  # less only if all logits are -inf
    return jnp.where(known, loss, 0.0), top, share, jnp.where(pulls, 1.0, 0.0)


_Largest = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


def _largest_in_two_readings(axis: int, z: jax.Array, ids: jax.Array, cost: jax.Array) -> _Largest:
    """The largest violation, the largest reach, how many classes have that, and the true logit."""
    violation, reach, true = _against(z, ids, cost, axis)
    none = jnp.full((), -jnp.inf, reach.dtype)
    operands = (reach, movable(1.0, numbers.as_float(z)))
    top, number = jax.lax.reduce(operands, (none, jnp.zeros_like(none)), _merged, (z.ndim + axis,))
    # By itself a maximum is twice as fast as in a reduction of all three (21 classes).
    return jnp.max(violation, axis), top, number, true


def _largest_in_one_reading(axis: int, z: jax.Array, ids: jax.Array, cost: jax.Array) -> _Largest:
    """An accelerator waits for its memory: it compares two classes without the true logit."""
    wide, costs = numbers.as_float(z), _pair_costs(z, ids, cost, axis)
    own = jnp.where(is_true(ids, z.shape, axis), wide, 0.0)
    zero = jnp.zeros((), wide.dtype)
    operands = (wide, movable(costs, wide), movable(1.0, wide), own)
    starts = (jnp.full_like(zero, -jnp.inf), zero, zero, zero)
    best, at_best, number, true = jax.lax.reduce(operands, starts, _merged_pairs, (z.ndim + axis,))
    return (best - numbers.finite(true)) + at_best, best + at_best, number, true


def _merged(one: Any, other: Any) -> Any:
    """The larger reach, and how many classes have it."""
    top = jnp.maximum(one[0], other[0])
    return top, jnp.where(one[0] == top, one[1], 0.0) + jnp.where(other[0] == top, other[1], 0.0)


def _merged_pairs(one: Any, other: Any) -> Any:
    """Logit and cost of the class that reaches further, how many reach so far, and a sum."""
    reach, other_reach = one[0] + one[1], other[0] + other[1]
    # Large logits, in which costs are lost, still differ. NaN stays.
    more = (one[0] - other[0]) + (one[1] - other[1]) > 0.0
    more = jnp.where(reach == other_reach, more, (reach > other_reach) | jnp.isnan(reach))
    best, at_best = (jnp.where(more, one[i], other[i]) for i in (0, 1))
    _, number = _merged((reach, one[2]), (other_reach, other[2]))
    return best, at_best, number, one[3] + other[3]


def _weston_watkins_parts(axis: int, z: jax.Array, ids: jax.Array, cost: jax.Array) -> _Parts:
    violation, reach, true = _against(z, ids, cost, axis)
    known, true = _teaches(z, ids, true, axis), numbers.finite(true)
    pulling = (reach >= jnp.expand_dims(true, axis)).astype(reach.dtype)
    # As `movable` does it, but it leaves XLA a mask that the slope can share.
    pulling = jax.lax.select(jnp.zeros((), bool), reach, pulling)
    loss, number = _both_sums(jnp.maximum(violation, 0.0), pulling, z.ndim + axis)
    share = known.astype(reach.dtype)
    # The true class reaches itself, but is not a wrong class.
    return jnp.where(known, numbers.capped(loss), 0.0), true, share, share * (number - 1.0)


def _both_sums(one: jax.Array, other: jax.Array, axis: int) -> tuple[jax.Array, ...]:
    """The sums of both; a GPU writes out what two reductions share, and so makes them in one."""
    of = functools.partial(numbers.together, axis=(axis,))
    separate = functools.partial(numbers.sums, axis=(axis,))
    return slopes.alone(jax.lax.platform_dependent((one, other), tpu=separate, default=of))


def _with_constant_slope(
    parts: Callable[..., _Parts],
) -> Callable[[int], Callable[..., jax.Array]]:
    """The loss of `parts(axis, z, ids, cost)`, with one derivative in logits and in pair costs.

    It is constant between kinks, so it has no derivative of its own.
    """

    @functools.cache
    def over(axis: int) -> Callable[..., jax.Array]:
        def rule(primals: Any, moved: Any) -> tuple[_Parts, list[_Parts]]:
            (z, ids, cost), (dz, _, dcost) = primals, moved
            out = with_parts(*primals)
            fixed = map(jax.lax.stop_gradient, out[1:])
            of = functools.partial(_slope, axis, jax.lax.stop_gradient(cost))
            # What two passes share over few classes a GPU writes out in a third.
            again = jax.lax.optimization_barrier(ids) if z.shape[axis] <= _FEW else ids
            slope = slopes.apart(of, jax.lax.stop_gradient(z), again, *fixed)
            steps = [] if dz is None else [numbers.as_float(dz)]
            steps += [] if dcost is None else [_pair_costs(z, ids, dcost, axis)]
            none = jnp.zeros_like(out[0])
            return out, [(jnp.sum(slope * step, axis), none, none, none) for step in steps]

        with_parts = slopes.with_rule(functools.partial(parts, axis), rule, 3)
        return lambda *arguments: with_parts(*arguments)[0]

    return over


def _slope(
    axis: int,
    cost: jax.Array,
    z: jax.Array,
    ids: jax.Array,
    top: jax.Array,
    share: jax.Array,
    own: jax.Array,
) -> jax.Array:
    """The slope in each logit, from `parts`."""
    top, share, own = (jnp.expand_dims(x, axis) for x in (top, share, own))
    reach = numbers.as_float(z) + _pair_costs(z, ids, cost, axis)
    wrong = jnp.where(reach >= top, share, 0.0)
    return jnp.where(is_true(ids, z.shape, axis), -own, wrong)


_crammer_singer = _with_constant_slope(_crammer_singer_parts)
_weston_watkins = _with_constant_slope(_weston_watkins_parts)
