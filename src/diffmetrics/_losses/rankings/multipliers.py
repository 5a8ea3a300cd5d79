"""Multipliers of the Lagrangian form: what a loss says of its constraint, and the dual step.

They are arrays of the caller, beside the optimiser's state; see docs/operating_points.md.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import doors, numbers


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Constraint:
    r"""How far a batch is from the constraint of a Lagrangian loss; it has no gradient.

    It is a frozen pytree whose leaves have the loss's shape (``[..., K]`` with K anchors).

    Attributes:
      tp_lower: the surrogate's lower bound of the true positives, perhaps negative. Log it beside
        the exact ``counts(logits > 0, labels).tp``: a large gap means a loose surrogate.
      fp_upper: the surrogate's upper bound of the false positives.
      violation: by how much the *exact* rate at ``logits > 0`` misses its target, for
        `dual_update`; positive if it does. The bounds would overstate it. A logit that is NaN
        counts as a miss or as a false alarm.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -1.0, 0.5, -2.0]), jnp.array([1, 0, 1, 1])
      >>> _, constraint = dm.precision_at_recall_lagrangian(z, y, 1.0, target_recall=0.9)
      >>> print(constraint.tp_lower, constraint.violation)      # two of three were found
      -0.936 0.2333
    """

    tp_lower: jax.Array
    fp_upper: jax.Array
    violation: jax.Array


def dual_update(multipliers: Any, violation: Any, rate: ArrayLike) -> Any:
    r"""Dual ascent step of a Lagrangian loss: multipliers grow while their constraint is violated.

    Use it after each optimiser step, outside the optimiser. The *exact* violation drives it, so a
    multiplier stops growing when the constraint holds, however loose the bound. Over devices or
    batches add `Counts` and take the violation of the sum, such as ``target - dm.recall(total)``.
    If a target is out of reach, its multiplier grows without end: watch it, or cap it with
    ``jnp.minimum``. If the metric oscillates about its target, lower `rate`.

    .. math:: \lambda \leftarrow \max(0, \lambda + \text{rate} \cdot \text{violation})

    Args:
      multipliers: array, or a pytree of arrays; start with ``jnp.ones`` of the loss's shape.
      violation: `Constraint.violation`, with the same structure and shapes.
      rate: step size; start with 1, because violations are differences of rates.

    Returns:
      The new multipliers, ≥ 0.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> dm.dual_update(jnp.array([1.0, 1.0]), jnp.array([0.25, -0.75]), 2.0).tolist()
      [1.5, 0.0]

    References:
      On exact rates: Narasimhan et al., Optimizing generalized rate metrics with three players,
      2019, arXiv:1909.02939; Cotter et al., Two-player games, 2019, arXiv:1804.06500.
    """

    def step(multiplier: Any, exceeded: Any) -> jax.Array:
        multiplier, exceeded = numbers.as_float(multiplier), numbers.as_float(exceeded)
        doors.require_shape("violation", exceeded, multiplier.shape, "multipliers")
        return jnp.maximum(multiplier + rate * exceeded, 0.0)

    return jax.tree.map(step, multipliers, violation)
