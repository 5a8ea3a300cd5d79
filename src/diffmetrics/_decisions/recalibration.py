r"""Deviations, probabilities and intervals corrected by one number, fitted on held-out data.

Fit on data that neither the network nor its early stopping has seen; seen data look calibrated.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import doors, numbers
from diffmetrics._core.doors import Axis
from diffmetrics._core.predictions import errors
from diffmetrics._core.softmax import at_label, is_class


@doors.compiled("axis")
def fit_scale(
    mean: ArrayLike, scale: ArrayLike, target: ArrayLike, *, axis: Axis = None
) -> jax.Array:
    r"""The most likely factor by which predicted deviations are too small.

    Use it on validation data, then predict with ``factor * scale``. It has the largest Gaussian
    likelihood, and 2 means that errors are twice what was predicted. It does not change which
    predictions are uncertain, and a few large errors decide it; for intervals take
    `conformal_quantile`.

    .. math:: \sqrt{\tfrac1n \textstyle\sum_i z_i^2}, \quad z = (y - \mu) / \sigma

    Args:
      mean: ``[...]``.
      scale: standard deviation; broadcasts to `mean`.
      target: ``[...]``.
      axis: axes that share a factor.

    Returns:
      Factor ≥ 0, of the shape without `axis`.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> y = jnp.array([1.0, -1.0, 3.0, -3.0])
      >>> print(dm.fit_scale(jnp.zeros(4), 0.5, y).round(3))
      4.472

    References:
      Laves, Ihler, Fast, Kahrs and Ortmaier, Well-calibrated regression uncertainty in medical
      imaging with deep learning, MIDL 2020.
    """
    (z,) = doors.rows(axis, mean=errors(mean, scale, target)[1])
    return numbers.root_mean_square(z)


# So many bisections of the logarithm of the inverse temperature exhaust float32.
STEPS = 40
COLDEST, HOTTEST = 1e-3, 1e3


@doors.compiled()
def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> jax.Array:
    r"""The temperature that makes labels most likely if logits are divided by it.

    Use it on validation data, then predict with ``jax.nn.softmax(logits / temperature)``. More than
    1 means that the classifier was over-confident. The most probable class stays the same. The
    likelihood has one maximum in 1 / T, which bisection finds without a learning rate.

    .. math:: \arg\min_T\; \mathrm{cross\text{-}entropy}(z / T,\, y)

    Args:
      logits: of one class ``[...]``, or of each class ``[..., C]``.
      labels: 0/1 of the same shape, or class ids ``[...]``; void ids are left out.

    Returns:
      Temperature, a scalar from 0.001 (all logits are right) to 1000 (they are worse than none).

    Example:
      >>> import diffmetrics as dm, jax, jax.numpy as jnp
      >>> z = 2.0 * jax.random.normal(jax.random.key(0), (4000,))
      >>> y = jax.random.bernoulli(jax.random.key(1), jax.nn.sigmoid(z / 3))
      >>> print(dm.fit_temperature(z, y).round(1))
      3.0

    References:
      Guo et al., On calibration of modern neural networks, ICML 2017, arXiv:1706.04599.
    """
    z, y = jnp.asarray(logits), jnp.asarray(labels)
    if y.shape == z.shape:
        z, y = doors.binary(z, y)
        # A binary decision is one between a logit and 0.
        z, y = jnp.stack([jnp.zeros_like(z), z], -1), numbers.as_float(y)
        y = jnp.stack([1.0 - y, y], -1)
    else:
        z, y, _ = doors.classes(z, y)
    wide = numbers.as_float(z)
    unit = jnp.maximum(jnp.max(jnp.abs(wide)), 1.0)  # so that no sum of logits overflows
    below = (wide - jnp.max(wide, -1, keepdims=True)) / unit
    true = at_label(below, y, -1)
    known = is_class(y, z.shape[-1]) if y.ndim < z.ndim else jnp.ones(true.shape, bool)

    def too_cold(log_inverse: jax.Array) -> jax.Array:
        """The slope of the loss in 1 / T: expected less true logit."""
        p = jax.nn.softmax(below * (unit * jnp.exp(log_inverse)), -1)
        expected = jnp.sum(p * below, -1)
        return jnp.mean(jnp.where(known, expected - true, 0.0)) > 0.0

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        cold = too_cold(middle)
        return jnp.where(cold, low, middle), jnp.where(cold, middle, high)

    # Made from the data, so that a loop's carry keeps its type in shard_map, too.
    ends = (jnp.full_like(unit, -math.log(x)) for x in (HOTTEST, COLDEST))
    low, high = jax.lax.fori_loop(0, STEPS, halve, tuple(ends))
    return jnp.exp(-0.5 * (low + high))


@doors.compiled("axis")
def conformal_quantile(scores: ArrayLike, *, coverage: ArrayLike, axis: Axis = None) -> jax.Array:
    r"""The score bound for intervals that keep their promised coverage.

    Use it on validation data. With scores ``abs(y - mean) / scale``, ``mean ± quantile * scale``
    holds a new target with at least the given probability, for any distribution and however wrong
    the deviations, if new examples are like those of the validation set. It is so on average over
    all examples, not for every kind of them. With ``jnp.maximum(lower - y, y - upper)`` it is how
    far to widen intervals of quantiles. It is the ⌈(n + 1) c⌉-th smallest score.

    Args:
      scores: of the validation examples ``[...]``, larger for the less expected.
      coverage: probability c in (0, 1). A scalar.
      axis: axes that form one set.

    Returns:
      Quantile, of the shape without `axis`; inf if there are fewer than c / (1 - c) scores.

    Raises:
      ValueError: if there are no scores.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> scores = jnp.arange(1.0, 20.0)
      >>> print(dm.conformal_quantile(scores, coverage=0.9))
      18.0
      >>> print(dm.conformal_quantile(scores, coverage=0.99))
      inf

    References:
      Papadopoulos et al., Inductive confidence machines for regression, ECML 2002; Romano et al.,
      Conformalized quantile regression, NeurIPS 2019, arXiv:1905.03222.
    """
    (s,) = doors.rows(axis, scores=scores)
    n = s.shape[-1]
    c = doors.parameter("coverage", coverage, (), "a scalar")
    # The rounding of c must not lift an integer (n + 1) c to the next rank.
    rank = jnp.ceil((n + 1) * (c - 2.0 * jnp.finfo(c.dtype).eps)).astype(jnp.int32)
    ordered = jnp.concatenate([jnp.sort(s, -1), jnp.full((*s.shape[:-1], 1), jnp.inf)], -1)
    return jnp.take(ordered, jnp.clip(rank - 1, 0, n), -1)
