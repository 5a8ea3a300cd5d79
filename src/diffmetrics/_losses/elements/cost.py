"""Losses of a cost matrix, for when it matters what is mistaken for what.

Where the probabilities are good, no loss is needed: predict the class of the least expected cost,
``jnp.argmin(p @ cost, -1)``.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import doors, numbers, slopes
from diffmetrics._core.softmax import cross_entropy, is_class


@doors.compiled()
def expected_cost_loss(logits: ArrayLike, labels: ArrayLike, *, cost: ArrayLike) -> jax.Array:
    r"""What an example costs on average, if its prediction is drawn from the softmax.

    Use it when the costs themselves are what is judged: as the logits sharpen it is the mean cost
    that the test set will report. It is bounded, so a confidently wrong example hardly moves it.
    Train with cross-entropy first, or with the sum of both throughout. Its minimiser puts all
    probability on the cheapest class, so the probabilities are decisions and not risks.

    With two classes and a zero diagonal it is a weight for each class: ``cost[y, 1 - y]`` times
    the missing probability.

    .. math:: \sum_t y_t \sum_j C_{tj} \mathrm{softmax}(z)_j

    Args:
      logits: real scores ``[..., C]``.
      labels: class ids ``[...]``, or one-hot or probabilities ``[..., C]``.
      cost: what it costs to predict class j when class t is true, ``cost[t, j]``, ``[C, C]``, in
        any unit; usually 0 on the diagonal. Adding a constant to a row adds it to the loss, and
        changes no gradient. Traced.

    Returns:
      Expected cost ``[...]``, in the unit of `cost`.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z = jnp.array([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
      >>> cost = jnp.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [10.0, 5.0, 0.0]])
      >>> print(dm.expected_cost_loss(z, jnp.array([0, 2]), cost=cost).round(2))
      [0.16 5.  ]

    References:
      Elkan, The foundations of cost-sensitive learning, IJCAI 2001.
    """
    z, y = doors.classes(logits, labels)
    return _expected(z, _costs(cost, z, y))


def _costs(cost: ArrayLike, z: jax.Array, y: jax.Array) -> jax.Array:
    """What every prediction would cost each example, ``[..., C]``; 0 for no class. Raises."""
    cost = numbers.as_float(cost)
    number = z.shape[-1]
    doors.require_shape("cost", cost, (number, number), "the pairs of classes")
    if jnp.issubdtype(y.dtype, jnp.floating):
        return jnp.matmul(y, cost, precision=jax.lax.Precision.HIGHEST)
    known = is_class(y, number)[..., None]
    return jnp.where(known, cost.at[y].get(mode="clip"), 0.0)


def _expected(z: jax.Array, costs: jax.Array) -> jax.Array:
    return jnp.sum(jax.nn.softmax(numbers.as_float(z), -1) * costs, -1)


@doors.compiled()
def cost_sensitive_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, *, cost: ArrayLike
) -> jax.Array:
    r"""Cross-entropy times what the example costs on average at present.

    Use it where `expected_cost_loss` does not start, because a confidently wrong example has the
    gradient of cross-entropy here. It is a heuristic: its minimiser is neither the probability
    nor the cheapest decision. The sum of both losses is the sounder choice.

    The usual form multiplies by ``cost[y, argmax(logits)]``. That weight jumps where the largest
    logit changes, and its derivative is zero everywhere else: the gradient never learns that
    crossing to a cheaper error would help, and on the right side of the boundary the weight falls
    at once to the diagonal's, so nothing builds a margin. Here the weight is the softmax's mean of
    the costs, which changes smoothly, and takes part in the gradient.

    The diagonal decides what is left for examples that are right. With ones on it, and more
    elsewhere, the loss ends as cross-entropy. With zeros the weight shrinks with the missing
    probability, as focal loss for gamma 1 does (it is that loss if all errors cost 1), and the
    gradient vanishes faster than that of cross-entropy.

    .. math:: -\log p_y \sum_j C_{yj} p_j, \quad p = \mathrm{softmax}(z)

    Args:
      logits: real scores ``[..., C]``.
      labels: class ids ``[...]`` or one-hot ``[..., C]``.
      cost: factor ≥ 0 when class j is predicted and class t is true, ``cost[t, j]``, ``[C, C]``.
        Traced.

    Returns:
      Loss ≥ 0 ``[...]``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z = jnp.array([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
      >>> cost = jnp.array([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [10.0, 5.0, 1.0]])
      >>> print(dm.cost_sensitive_cross_entropy(z, jnp.array([0, 2]), cost=cost).round(2))
      [0.17 8.09]

    References:
      Kukar and Kononenko, Cost-sensitive learning with neural networks, ECAI 1998.
    """
    z, y = doors.classes(logits, labels)
    return _weighted(cross_entropy(z, y), _expected(z, _costs(cost, z, y)))


def _product(loss: jax.Array, weight: jax.Array) -> jax.Array:
    # The weight moves by what the loss is, held far enough below the largest number for a
    # product with a matrix of costs; the value is held at it.
    moved = jnp.minimum(loss, 1e30) * (weight - jax.lax.stop_gradient(weight))
    return numbers.capped(jax.lax.stop_gradient(weight) * loss) + moved


_weighted = slopes.with_slope(_product, lambda loss, weight: weight)
