"""Class weights: balanced, or milder, from the number of examples of each class.

Try the threshold first (`fit_threshold`): on tabular data it usually does as much for a decision,
and leaves the probabilities alone.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import calls, doors, numbers


@calls.compiled()
def balanced_class_weights(class_counts: ArrayLike) -> jax.Array:
    r"""Balanced class weights: every class counts alike, however many examples it has.

    Use them in `weighted_softmax_cross_entropy`. They are scikit-learn's `class_weight="balanced"`:
    an example's mean weight is 1, so the learning rate can stay. If a class has ten examples in a
    million, its weight makes the gradient noisy; `effective_number_weights` limits it.

    .. math:: w_c = \frac{n}{C\, n_c}

    Args:
      class_counts: number of examples of each class ``[..., C]``, such as
        ``jnp.bincount(labels, length=C)``.

    Returns:
      Weights ``[..., C]``. A class without examples gets 0 and is not counted in C.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(*dm.balanced_class_weights(jnp.array([90, 10])))
      0.556 5.0

    References:
      King and Zeng, Logistic regression in rare events data, Political Analysis 9, 2001.
    """
    n = _class_counts(class_counts)
    return _mean_one(numbers.divide(1.0, n), n)


@calls.compiled()
def effective_number_weights(class_counts: ArrayLike, *, beta: ArrayLike = 0.999) -> jax.Array:
    r"""Class-balanced weights from the effective number of examples, which saturates.

    Use them if weights of one over the count are too large. `beta` leads from equal weights at 0 to
    `balanced_class_weights`, up to a factor, at 1. The weight falls with the count up to about
    ``1 / (1 - beta)`` examples, and is level beyond.

    .. math:: w_c \propto \frac{1 - \beta}{1 - \beta^{n_c}}, \qquad \sum_c w_c = C

    Args:
      class_counts: number of examples of each class ``[..., C]``.
      beta: in [0, 1]. float32 cannot tell 1 - 1e-8 from 1, where the limit 1 / n holds.

    Returns:
      Weights ``[..., C]`` with mean 1. A class without examples gets 0 and is not counted in C.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(*dm.effective_number_weights(jnp.array([9000, 100]), beta=0.999))
      0.174 1.826

    References:
      Cui et al., Class-balanced loss based on effective number of samples, CVPR 2019,
      arXiv:1901.05555.
    """
    n = _class_counts(class_counts)
    rate = -numbers.log(doors.parameter("beta", beta, n, of="class_counts"))
    weight = numbers.divide(_over_saturation(rate * n), n)
    return _mean_one(weight, (n > 0).astype(n.dtype))


def _class_counts(class_counts: ArrayLike) -> jax.Array:
    n = numbers.as_float(class_counts)
    if n.ndim == 0:
        raise ValueError("class_counts must have a last axis of classes, got shape ().")
    return n


def _mean_one(weight: jax.Array, frequency: jax.Array) -> jax.Array:
    """`weight`, scaled to mean 1 over classes of the given `frequency`."""
    mean = numbers.divide(jnp.sum(weight * frequency, -1), jnp.sum(frequency, -1))
    return numbers.divide(weight, mean[..., None])


def _over_saturation(x: jax.Array) -> jax.Array:
    """X / (1 - exp(-x)) for x ≥ 0, by its series if both are nearly 0."""
    small = x < 1e-2
    large = jnp.where(small, 1.0, x)
    return jnp.where(small, 1.0 + x / 2 + x**2 / 12, large / -jnp.expm1(-large))
