"""Binary hinges: losses that ask a logit to be right by a margin.

The margin of an element is m = (2y - 1) z: the logit for label 1, minus the logit for label 0. At a
kink the slope is that of the side that still pulls.

A slope beyond the largest number of the logits' type is that number, so that float16 gradients are
finite, too. Subnormal float32 logits count as 0, which is what XLA makes of them.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffmetrics._core import doors, numbers, slopes


@doors.compiled()
def hinge_loss(logits: ArrayLike, labels: ArrayLike, *, margin: ArrayLike = 1.0) -> jax.Array:
    r"""Hinge of every element: what is missing to the margin.

    Use it when only the decision counts and elements that are safely right should be left alone.
    Its minimiser tells which label is likelier, not how likely: for probabilities, or where
    positives are so rare that they are never the likelier label, use `sigmoid_cross_entropy` and
    tune the threshold.

    .. math:: \max(0, \rho - m), \qquad m = (2y - 1) z

    Args:
      logits: real scores ``[...]``.
      labels: 0/1 ``[...]``, never -1/1.
      margin: ρ ≥ 0, in logits; 0 is the perceptron loss. Traced.

    Returns:
      Loss ≥ 0 ``[...]``, in logits. The slope at m = ρ is -1.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(dm.hinge_loss(jnp.array([2.0, -1.0, 0.5]), jnp.array([1, 0, 1])))
      [0.  0.  0.5]

    References:
      Cortes and Vapnik, Support-vector networks, 1995.
    """
    z, y = doors.binary(logits, labels)
    return _hinge(z, y, doors.parameter("margin", margin, z.shape))


def _missing(z: jax.Array, y: jax.Array, margin: jax.Array | float = 1.0) -> jax.Array:
    """How far an element is below the margin; negative beyond it."""
    return margin - slopes.margins(z, y)


def _hinge_value(z: jax.Array, y: jax.Array, margin: jax.Array | float) -> jax.Array:
    return jnp.maximum(_missing(z, y, margin), 0.0)


def _hinge_slope(z: jax.Array, y: jax.Array, margin: jax.Array | float) -> jax.Array:
    return jnp.where(slopes.margins(z, y) <= margin, 1.0 - 2.0 * y, 0.0)


_hinge = slopes.with_slope(_hinge_value, _hinge_slope)


@doors.compiled()
def squared_hinge_loss(
    logits: ArrayLike, labels: ArrayLike, *, margin: ArrayLike = 1.0
) -> jax.Array:
    r"""Square of the hinge of every element.

    Use it for a hinge without a kink, when labels are clean: one badly wrong element outweighs many
    that are slightly wrong. With doubtful labels prefer `modified_huber_loss`.

    .. math:: \max(0, \rho - m)^2, \qquad m = (2y - 1) z

    Args:
      logits: real scores ``[...]``.
      labels: 0/1 ``[...]``, never -1/1.
      margin: ρ ≥ 0, in logits. Traced.

    Returns:
      Loss ≥ 0 ``[...]``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(dm.squared_hinge_loss(jnp.array([2.0, -1.0, 0.5]), jnp.array([1, 0, 1])))
      [0.   0.   0.25]

    References:
      Chang, Hsieh and Lin, Coordinate descent method for large-scale L2-loss linear support vector
      machines, JMLR 2008.
    """
    z, y = doors.binary(logits, labels)
    return _squared_hinge(z, y, doors.parameter("margin", margin, z.shape), numbers.largest(z))


def _squared_hinge_value(
    z: jax.Array, y: jax.Array, margin: jax.Array, largest: jax.Array
) -> jax.Array:
    del largest  # it bounds the slope
    # Held before it is squared: a derivative in `margin` would multiply an infinite square by 0.
    root = float(np.sqrt(jnp.finfo(z.dtype).max))
    held = slopes.at_most(_hinge_value(z, y, margin), root)
    return held * held


def _squared_hinge_slope(
    z: jax.Array, y: jax.Array, margin: jax.Array, largest: jax.Array
) -> jax.Array:
    return (1.0 - 2.0 * y) * jnp.minimum(2.0 * _hinge_value(z, y, margin), largest)


_squared_hinge = slopes.with_slope(_squared_hinge_value, _squared_hinge_slope)


@doors.compiled()
def smooth_hinge_loss(logits: ArrayLike, labels: ArrayLike, *, width: ArrayLike = 1.0) -> jax.Array:
    r"""Hinge of every element whose kink is a piece of a parabola.

    Use it instead of the hinge where the optimiser wants a continuous gradient, or second order.

    .. math:: \begin{cases}
       0 & m \ge 1 \\ (1 - m)^2 / 2w & 1 - w < m < 1 \\ 1 - w/2 - m & m \le 1 - w
       \end{cases}, \qquad m = (2y - 1) z

    Args:
      logits: real scores ``[...]``.
      labels: 0/1 ``[...]``, never -1/1.
      width: w ≥ 0, of the parabola, in logits; 1 is Rennie and Srebro's smooth hinge, 0 the hinge,
        and 2 a quarter of `modified_huber_loss`. Traced.

    Returns:
      Loss ≥ 0 ``[...]``, in logits.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(dm.smooth_hinge_loss(jnp.array([2.0, 1.0, 0.5]), jnp.array([1, 0, 1])))
      [0.    1.5   0.125]

    References:
      Rennie and Srebro, Loss functions for preference levels: regression with discrete ordered
      labels, 2005; Shalev-Shwartz and Zhang, Stochastic dual coordinate ascent methods for
      regularized loss minimization, 2013, arXiv:1209.1873.
    """
    z, y = doors.binary(logits, labels)
    return _smooth_hinge(z, y, doors.parameter("width", width, z.shape))


def _smooth_hinge_value(z: jax.Array, y: jax.Array, width: jax.Array) -> jax.Array:
    missing = jnp.maximum(_missing(z, y), 0.0)
    curved = slopes.at_most(missing, width)
    return (missing - curved) + 0.5 * curved * (curved * numbers.divide(1.0, width))


def _smooth_hinge_slope(z: jax.Array, y: jax.Array, width: jax.Array) -> jax.Array:
    missing = _missing(z, y)
    curved = jnp.clip(missing, 0.0, width) * numbers.divide(1.0, width)
    return (1.0 - 2.0 * y) * jnp.where(missing >= width, 1.0, curved)


_smooth_hinge = slopes.with_slope(_smooth_hinge_value, _smooth_hinge_slope)


@doors.compiled()
def softplus_hinge_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    sharpness: ArrayLike = 1.0,
    margin: ArrayLike = 1.0,
) -> jax.Array:
    r"""Softplus of what every element is missing to the margin.

    Use it for a hinge that never quite lets go: an element beyond the margin is still pulled,
    exponentially less. With a large sharpness it is the hinge, and with sharpness 1 and margin 0
    `sigmoid_cross_entropy`, the only one of these whose sigmoid is a probability.

    .. math:: \frac{1}{b} \log(1 + e^{b (\rho - m)}), \qquad m = (2y - 1) z

    Args:
      logits: real scores ``[...]``.
      labels: 0/1 ``[...]``, never -1/1.
      sharpness: b > 0, per logit. Traced.
      margin: ρ ≥ 0, in logits. Traced.

    Returns:
      Loss ≥ 0 ``[...]``, in logits; above the hinge by (log 2) / b at most.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -1.0, 0.5]), jnp.array([1, 0, 1])
      >>> print(dm.softplus_hinge_loss(z, y, margin=0.0).round(2))
      [0.13 0.31 0.47]

    References:
      Zhang, Jin, Yang and Hauptmann, Modified logistic regression: an approximation to SVM and its
      applications in large-scale text categorization, ICML 2003.
    """
    z, y = doors.binary(logits, labels)
    return _softplus_hinge(
        z,
        y,
        doors.parameter("sharpness", sharpness, z.shape),
        doors.parameter("margin", margin, z.shape),
    )


def _softplus_hinge_value(
    z: jax.Array, y: jax.Array, sharpness: jax.Array, margin: jax.Array
) -> jax.Array:
    missing = _missing(z, y, margin)
    # The hinge and what is above it, because `sharpness * missing` may overflow.
    above = slopes.softpluses(-sharpness * jnp.abs(missing))[0] / sharpness
    return jnp.maximum(missing, 0.0) + above


def _softplus_hinge_slope(
    z: jax.Array, y: jax.Array, sharpness: jax.Array, margin: jax.Array
) -> jax.Array:
    return (1.0 - 2.0 * y) * jax.nn.sigmoid(sharpness * _missing(z, y, margin))


_softplus_hinge = slopes.with_slope(_softplus_hinge_value, _softplus_hinge_slope)


@doors.compiled()
def modified_huber_loss(logits: ArrayLike, labels: ArrayLike) -> jax.Array:
    r"""Squared hinge of every element that grows linearly where it is badly wrong.

    Use it for a squared hinge that survives wrong labels. Its minimiser gives a probability,
    (1 + clip(z, -1, 1)) / 2, though one of exactly 0 or 1 outside the margin.

    .. math:: \begin{cases} \max(0, 1 - m)^2 & m \ge -1 \\ -4 m & m < -1 \end{cases},
       \qquad m = (2y - 1) z

    Args:
      logits: real scores ``[...]``.
      labels: 0/1 ``[...]``, never -1/1.

    Returns:
      Loss ≥ 0 ``[...]``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(dm.modified_huber_loss(jnp.array([2.0, 3.0, 0.5]), jnp.array([1, 0, 1])))
      [ 0.   12.    0.25]

    References:
      Zhang, Solving large scale linear prediction problems using stochastic gradient descent
      algorithms, ICML 2004.
    """
    return _modified_huber(*doors.binary(logits, labels))


def _modified_huber_value(z: jax.Array, y: jax.Array) -> jax.Array:
    # Held where the loss is the largest number, so that nothing on the way is larger.
    m = jnp.maximum(slopes.margins(z, y), -0.25 * jnp.finfo(z.dtype).max)
    missing = jnp.maximum(1.0 - m, 0.0)
    squared = slopes.at_most(missing, 2.0)
    return squared * (2.0 * missing - squared)


def _modified_huber_slope(z: jax.Array, y: jax.Array) -> jax.Array:
    return (2.0 - 4.0 * y) * jnp.clip(_missing(z, y), 0.0, 2.0)


_modified_huber = slopes.with_slope(_modified_huber_value, _modified_huber_slope)


@doors.compiled()
def ramp_loss(logits: ArrayLike, labels: ArrayLike) -> jax.Array:
    r"""Hinge of every element that is held at 1: the error rate with a ramp for a step.

    Use it to fine-tune a model on doubtful labels: what is wrong costs 1, however wrong. From
    scratch it hardly learns, because an element on the wrong side has no slope.

    .. math:: \min(1, \max(0, 1 - m)), \qquad m = (2y - 1) z

    Args:
      logits: real scores ``[...]``.
      labels: 0/1 ``[...]``, never -1/1.

    Returns:
      Loss in [0, 1] ``[...]``. The slope at m = 0 and at m = 1 is -1.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(dm.ramp_loss(jnp.array([2.0, 3.0, 0.5]), jnp.array([1, 0, 1])))
      [0.  1.  0.5]

    References:
      Collobert, Sinz, Weston and Bottou, Trading convexity for scalability, ICML 2006.
    """
    return _ramp(*doors.binary(logits, labels))


def _ramp_value(z: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.maximum(1.0 - jnp.maximum(slopes.margins(z, y), 0.0), 0.0)


def _ramp_slope(z: jax.Array, y: jax.Array) -> jax.Array:
    m = slopes.margins(z, y)
    return jnp.where((m >= 0.0) & (m <= 1.0), 1.0 - 2.0 * y, 0.0)


_ramp = slopes.with_slope(_ramp_value, _ramp_slope)


@doors.compiled()
def exponential_loss(logits: ArrayLike, labels: ArrayLike) -> jax.Array:
    r"""Exponential loss of every element, which AdaBoost minimises.

    Use it for comparison with boosting; for networks `sigmoid_cross_entropy` is almost always
    better. Its minimiser is half the log-odds, but one mislabelled element at m = -10 weighs as
    much as 22,000 at m = 0.

    .. math:: e^{-m}, \qquad m = (2y - 1) z

    Args:
      logits: real scores ``[...]``.
      labels: 0/1 ``[...]``, never -1/1.

    Returns:
      Loss ≥ 0 ``[...]``. Where it is held at the largest number, its slope is held too.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(dm.exponential_loss(jnp.array([2.0, -1.0, 0.5]), jnp.array([1, 0, 1])).round(2))
      [0.14 0.37 0.61]

    References:
      Friedman, Hastie and Tibshirani, Additive logistic regression: a statistical view of boosting,
      Annals of Statistics 2000.
    """
    z, y = doors.binary(logits, labels)
    return _exponential(z, y, numbers.largest(z))


def _exponential_value(z: jax.Array, y: jax.Array, largest: jax.Array) -> jax.Array:
    del largest  # it bounds the slope
    return numbers.capped(jnp.exp(-slopes.margins(z, y)))


def _exponential_slope(z: jax.Array, y: jax.Array, largest: jax.Array) -> jax.Array:
    # Held before the exponential, whose infinite derivative would be multiplied by 0; and lower
    # than the logarithm, which may be rounded upwards.
    top = np.log(jnp.finfo(z.dtype).max)
    held = jnp.minimum(-slopes.margins(z, y), np.nextafter(top, np.zeros_like(top)))
    return (1.0 - 2.0 * y) * jnp.minimum(jnp.exp(held), largest)


_exponential = slopes.with_slope(_exponential_value, _exponential_slope)


@doors.compiled()
def perceptron_loss(logits: ArrayLike, labels: ArrayLike) -> jax.Array:
    r"""Distance of every misclassified element from the decision: a hinge without a margin.

    Use it as the classic that it is. It asks for no margin, so logits that shrink to zero are as
    good a minimum as any, and `hinge_loss` usually does better.

    .. math:: \max(0, -m), \qquad m = (2y - 1) z

    Args:
      logits: real scores ``[...]``.
      labels: 0/1 ``[...]``, never -1/1.

    Returns:
      Loss ≥ 0 ``[...]``, in logits. The slope at logit 0 is -1 in m, so zero weights learn.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(dm.perceptron_loss(jnp.array([2.0, 1.0, -0.5]), jnp.array([1, 0, 1])))
      [0.  1.  0.5]

    References:
      Rosenblatt, The perceptron: a probabilistic model for information storage and organization in
      the brain, 1958.
    """
    return _perceptron(*doors.binary(logits, labels))


def _perceptron_value(z: jax.Array, y: jax.Array) -> jax.Array:
    return _hinge_value(z, y, 0.0)


def _perceptron_slope(z: jax.Array, y: jax.Array) -> jax.Array:
    return _hinge_slope(z, y, 0.0)


_perceptron = slopes.with_slope(_perceptron_value, _perceptron_slope)
