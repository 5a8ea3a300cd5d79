r"""Recalibration: one number that corrects probabilities, deviations or intervals after training.

Fit it on data that neither the network nor its early stopping has seen; seen data look calibrated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import calls, doors, masses, numbers, order
from diffmetrics._core.calls import Axis, SetOptions
from diffmetrics._core.class_labels import take


@calls.compiled("axis")
def fit_scale(
    mean: ArrayLike,
    scale: ArrayLike,
    target: ArrayLike,
    **options: Unpack[SetOptions],
) -> jax.Array:
    r"""Scale factor that recalibrates predicted standard deviations.

    Use it on validation data, then predict with ``factor * scale``. It is the factor of the largest
    Gaussian likelihood; 2 means that errors are twice what was predicted. It does not change which
    predictions are uncertain, and a few large errors decide it. For intervals take
    `conformal_quantile`.

    .. math:: \sqrt{\tfrac1n \textstyle\sum_i z_i^2}, \quad z = (y - \mu) / \sigma

    Args:
      mean: μ ``[...]``.
      scale: standard deviation σ; broadcasts to `mean`.
      target: y ``[...]``.
      **options: `axis` (axes that share a factor), `where`, `weights`; see docs/arguments.md.

    Returns:
      Factor ≥ 0, of the shape without `axis`; 1 if there are no examples, NaN for a NaN.

    Raises:
      ValueError: if there are no predictions.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> y = jnp.array([1.0, -1.0, 3.0, -3.0])
      >>> print(dm.fit_scale(jnp.zeros(4), 0.5, y).round(3))
      4.472

    References:
      Laves, Ihler, Fast, Kahrs and Ortmaier, Well-calibrated regression uncertainty in medical
      imaging with deep learning, MIDL 2020.
    """
    error, scale, mass = masses.predicted(mean, scale, target, **options)
    factor = masses.root_mean_square(masses.in_deviations(error, scale), mass)
    return jnp.where(jnp.any(mass != 0, -1), factor, 1.0)


# So many bisections of the logarithm of the inverse temperature exhaust float32.
STEPS = 40
COLDEST, HOTTEST = 1e-3, 1e3


@calls.compiled("axis", "class_axis")
def fit_temperature(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    class_axis: int = -1,
    **options: Unpack[SetOptions],
) -> jax.Array:
    r"""Temperature scaling: the temperature that makes the labels most likely.

    Use it on validation data, then predict with ``jax.nn.softmax(logits / temperature)``, or with
    ``jax.nn.sigmoid`` if there are two classes. More than 1 means that the classifier was
    over-confident. The most probable class stays the same. The likelihood has one maximum in 1 / T,
    which bisection finds without a learning rate.

    .. math:: \arg\min_T\; \mathrm{cross\text{-}entropy}(z / T,\, y)

    Args:
      logits: z of one class ``[...]``, or of each class ``[..., C]``. A class that is masked by
        ``-inf`` stays impossible.
      labels: 0/1, or soft, of the same shape, or class ids ``[...]``; void ids are left out.
      class_axis: axis of the classes, if `labels` are ids; 1 for ``[B, C, H, W]``. Static.
      **options: `axis` (axes of the logits that share a temperature, not `class_axis`), `where` and
        `weights` (which broadcast to the labels); see docs/arguments.md.

    Returns:
      Temperature, of the shape without `axis`, from 0.001 (all logits are right) to 1000 (they are
      worse than none); 1 if there are no examples, NaN if a logit is.

    Raises:
      ValueError: if there are no logits.

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
    doors.require_float("logits", z, doors.LOGITS)
    if y.shape == z.shape:
        return _temperature(*_binary_slope(z, y, **options))
    return _temperature(*_class_slope(z, y, class_axis, **options))


# The slope of the loss in 1 / T, of each example, at an inverse temperature; what the examples
# count; and their axes that share a temperature.
Slopes = tuple[Callable[[jax.Array], jax.Array], jax.Array, tuple[int, ...]]


def _binary_slope(
    z: jax.Array,
    y: jax.Array,
    *,
    axis: Axis = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> Slopes:
    z = numbers.as_float(z)
    y = doors.shares(y, z.dtype)
    mask, mass = masses.of(where, weights, z, "logits")
    if mask is not None:
        z, y = (jnp.where(mask, x, 0.0) for x in (z, y))

    def slope(inverse: jax.Array) -> jax.Array:
        gap = jax.nn.sigmoid(z * inverse) - y
        return jnp.where(gap == 0.0, 0.0, gap * z)

    return slope, mass, doors.normalize_axis(axis, z.ndim)


def _class_slope(
    z: jax.Array,
    y: jax.Array,
    class_axis: int,
    *,
    axis: Axis = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> Slopes:
    place = doors.axis_of_classes(class_axis, z.shape, "logits")
    ids = masses.class_ids(y, z.shape, place, "logits", ", or 0/1 of the same shape")
    axes = masses.example_axes(axis, place, z.shape)
    z = numbers.as_float(z)
    kept = masses.known(ids, z.shape[place], where)
    below = jnp.where(jnp.expand_dims(kept, place), z, 0.0)
    below -= jnp.max(below, place, keepdims=True)
    true = take(below, ids, place)
    _, mass = masses.of(kept, weights, true, "labels")

    def slope(inverse: jax.Array) -> jax.Array:
        p = jax.nn.softmax(below * jnp.expand_dims(inverse, place), place)
        # An impossible class is expected never, at no temperature: 0 · inf is 0.
        terms = jnp.where(p == 0.0, 0.0, p * below)
        return jnp.where(kept, jnp.sum(terms, place) - true, 0.0)

    return slope, mass, axes


def _temperature(
    slope: Callable[[jax.Array], jax.Array], mass: jax.Array, axes: tuple[int, ...]
) -> jax.Array:
    """Where the mean slope over `axes` is 0."""
    if mass.size == 0:
        raise ValueError("logits must not be empty.")
    relative = mass / jnp.maximum(jnp.max(mass, axes, keepdims=True), jnp.finfo(mass.dtype).tiny)

    def total(log_inverse: jax.Array) -> jax.Array:
        found = relative * slope(jnp.exp(log_inverse))
        return jnp.sum(jnp.where(relative == 0, 0.0, found), axes, keepdims=True)

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        cold = total(middle) > 0.0
        return jnp.where(cold, low, middle), jnp.where(cold, middle, high)

    # Made from the data, so that a loop's carry keeps its type in shard_map, too.
    at_one = total(jnp.zeros_like(jnp.max(mass, axes, keepdims=True)))
    ends = (jnp.full_like(at_one, -math.log(x)) for x in (HOTTEST, COLDEST))
    low, high = jax.lax.fori_loop(0, STEPS, halve, tuple(ends))
    found = jnp.where(jnp.isnan(at_one), jnp.nan, jnp.exp(-0.5 * (low + high)))
    return jnp.squeeze(jnp.where(jnp.any(mass != 0, axes, keepdims=True), found, 1.0), axes)


@calls.compiled("axis")
def conformal_quantile(
    scores: ArrayLike, *, coverage: ArrayLike, **options: Unpack[SetOptions]
) -> jax.Array:
    r"""Conformal prediction: the score bound for intervals that keep their promised coverage.

    Use it on validation data, with one of these scores:

    * ``abs(y - mean) / scale``: the interval is ``mean ± quantile * scale``.
    * ``jnp.maximum(lower - y, y - upper)``: the quantile is how far to widen predicted intervals.

    The interval then holds a new target with at least the given probability, for any distribution
    and however wrong the deviations are, if new examples are like those of the validation set. This
    holds on average over all examples, not for every kind of them. Without weights it is the
    ⌈(n + 1) c⌉-th smallest score.

    Weights correct for new examples of another distribution. The weight of a validation example
    says how much more frequent its like is there than here, relative to the new example, whose
    weight is 1. The result is the least q with

    .. math:: \sum_{i:\, s_i \le q} w_i \ge c\, \Big(1 + \sum_i w_i\Big)

    Args:
      scores: of the validation examples ``[...]``, larger for the less expected. NaN is the
        largest.
      coverage: probability c in (0, 1). A scalar.
      **options: `axis`, `where`, `weights`; see docs/arguments.md.

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
      Conformalized quantile regression, NeurIPS 2019, arXiv:1905.03222; Tibshirani et al.,
      Conformal prediction under covariate shift, NeurIPS 2019, arXiv:1904.06019 (weights).
    """
    s, mass = masses.rows({"scores": scores}, **options)
    c = doors.parameter("coverage", coverage, s, "a scalar", ())
    s, mass = masses.in_order(s, mass, masses.are_plain(options))
    _, reached = order.running(mass)
    # The rounding of c must not lift an integer (n + 1) c to the next rank.
    least = (reached[..., -1:] + 1.0) * (c - 2.0 * float(jnp.finfo(c.dtype).eps))
    rank = jnp.sum(reached < least, -1, keepdims=True, dtype=jnp.int32)
    beyond = jnp.full_like(s[..., :1], jnp.inf)
    return jnp.take_along_axis(jnp.concatenate([s, beyond], -1), rank, -1)[..., 0]
