"""Binary hinges: losses that want every logit to be right by a margin.

The margin of an element is m = (2y - 1) z, which is positive if the decision is right. At a kink
the slope is the one below the margin.

A slope is clamped at the largest number of the logits' type, so that float16 gradients are finite,
too. Subnormal float32 logits count as 0, as in XLA.
"""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffmetrics._core import doors, examples, numbers, slopes
from diffmetrics._core.calls import ElementOptions


@examples.per_element()
def hinge_loss(
    logits: ArrayLike, labels: ArrayLike, *, margin: ArrayLike = 1.0, **_: Unpack[ElementOptions]
) -> jax.Array:
    r"""Hinge loss (SVM): how far every element falls short of the margin.

    Use it when only the decision counts and elements beyond the margin should have no gradient. Its
    minimiser tells which label is likelier, not how likely: for probabilities, or for positives so
    rare that they are never likelier, use `sigmoid_cross_entropy` and tune the threshold.

    .. math:: \max(0, \rho - m), \quad m = (2y - 1) z

    Args:
      logits: real scores ``[...]`` of any shape.
      labels: 0/1 or -1/1, or probabilities ``[...]``.
      margin: ρ ≥ 0, in units of the logits; 0 is the perceptron loss.

    Returns:
      Loss ≥ 0 of each element ``[...]``, in units of the logits. The slope at m = ρ is -1.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(dm.hinge_loss(jnp.array([2.0, -1.0, 0.5]), jnp.array([1, 0, 1])))
      [0.  0.  0.5]

    References:
      Cortes and Vapnik, Support-vector networks, 1995.
    """
    z, y = doors.binary(logits, labels)
    return _hinge(z, y, doors.parameter("margin", margin, z))


def _hinge_value(m: jax.Array, margin: jax.Array | float) -> jax.Array:
    return jnp.maximum(margin - m, 0.0)


def _hinge_slope(m: jax.Array, margin: jax.Array | float) -> jax.Array:
    return jnp.where(m <= margin, -1.0, 0.0)


_hinge = slopes.of_margin(_hinge_value, _hinge_slope, bounded=True)


@examples.per_element()
def squared_hinge_loss(
    logits: ArrayLike, labels: ArrayLike, *, margin: ArrayLike = 1.0, **_: Unpack[ElementOptions]
) -> jax.Array:
    r"""Squared hinge loss (L2-SVM), for every element.

    Use it for a hinge without a kink when labels are clean: one badly wrong element outweighs many
    slightly wrong ones. With doubtful labels prefer `modified_huber_loss`.

    .. math:: \max(0, \rho - m)^2, \quad m = (2y - 1) z

    Args:
      logits: real scores ``[...]`` of any shape.
      labels: 0/1 or -1/1, or probabilities ``[...]``.
      margin: ρ ≥ 0, in units of the logits.

    Returns:
      Loss ≥ 0 of each element ``[...]``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(dm.squared_hinge_loss(jnp.array([2.0, -1.0, 0.5]), jnp.array([1, 0, 1])))
      [0.   0.   0.25]

    References:
      Chang, Hsieh and Lin, Coordinate descent method for large-scale L2-loss SVMs, JMLR 2008.
    """
    z, y = doors.binary(logits, labels)
    return _squared_hinge(z, y, doors.parameter("margin", margin, z), numbers.largest(z))


def _squared_hinge_value(m: jax.Array, margin: jax.Array, largest: jax.Array) -> jax.Array:
    del largest  # it bounds the slope
    # Clamped before it is squared: a derivative in `margin` would multiply an infinite square by 0.
    root = float(np.sqrt(jnp.finfo(m.dtype).max))
    held = slopes.at_most(_hinge_value(m, margin), root)
    return held * held


def _squared_hinge_slope(m: jax.Array, margin: jax.Array, largest: jax.Array) -> jax.Array:
    return -jnp.minimum(2.0 * _hinge_value(m, margin), largest)


_squared_hinge = slopes.of_margin(_squared_hinge_value, _squared_hinge_slope)


@examples.per_element()
def smooth_hinge_loss(
    logits: ArrayLike, labels: ArrayLike, *, width: ArrayLike = 1.0, **_: Unpack[ElementOptions]
) -> jax.Array:
    r"""Smooth hinge loss: the hinge of every element, with a parabola in place of the kink.

    Use it instead of the hinge if the optimiser needs a continuous gradient or second derivatives.

    .. math:: \begin{cases}
       0 & m \ge 1 \\ (1 - m)^2 / 2w & 1 - w < m < 1 \\ 1 - w/2 - m & m \le 1 - w
       \end{cases}

    with the margin m = (2y - 1) z.

    Args:
      logits: real scores ``[...]`` of any shape.
      labels: 0/1 or -1/1, or probabilities ``[...]``.
      width: w ≥ 0 of the parabola, in units of the logits; 0 is the hinge, 2 gives a quarter of
        `modified_huber_loss`.

    Returns:
      Loss ≥ 0 of each element ``[...]``, in units of the logits.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(dm.smooth_hinge_loss(jnp.array([2.0, 1.0, 0.5]), jnp.array([1, 0, 1])))
      [0.    1.5   0.125]

    References:
      Width 1: Rennie and Srebro, Loss functions for preference levels, 2005. Any width:
      Shalev-Shwartz and Zhang, Stochastic dual coordinate ascent methods, 2013, arXiv:1209.1873.
    """
    z, y = doors.binary(logits, labels)
    return _smooth_hinge(z, y, doors.parameter("width", width, z))


def _smooth_hinge_value(m: jax.Array, width: jax.Array) -> jax.Array:
    missing = jnp.maximum(1.0 - m, 0.0)
    curved = slopes.at_most(missing, width)
    return (missing - curved) + 0.5 * curved * (curved * numbers.divide(1.0, width))


def _smooth_hinge_slope(m: jax.Array, width: jax.Array) -> jax.Array:
    missing = 1.0 - m
    curved = jnp.clip(missing, 0.0, width) * numbers.divide(1.0, width)
    return -jnp.where(missing >= width, 1.0, curved)


_smooth_hinge = slopes.of_margin(_smooth_hinge_value, _smooth_hinge_slope, bounded=True)


@examples.per_element()
def softplus_hinge_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    sharpness: ArrayLike = 1.0,
    margin: ArrayLike = 1.0,
    **_: Unpack[ElementOptions],
) -> jax.Array:
    r"""Softplus hinge loss: a smooth hinge whose gradient never reaches 0.

    Use it if elements beyond the margin should keep a gradient; it decays exponentially there. The
    loss is the softplus of how far an element falls short of the margin, and approaches the hinge
    as sharpness grows. With sharpness 1 and margin 0 it is `sigmoid_cross_entropy`, the only case
    in which the sigmoid of the logit is a probability.

    .. math:: \tfrac{1}{b} \log(1 + e^{b (\rho - m)}), \quad m = (2y - 1) z

    Args:
      logits: real scores ``[...]`` of any shape.
      labels: 0/1 or -1/1, or probabilities ``[...]``.
      sharpness: b > 0, per unit of the logits.
      margin: ρ ≥ 0, in units of the logits.

    Returns:
      Loss ≥ 0 of each element ``[...]``, in units of the logits; at most (log 2) / b above the
      hinge.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -1.0, 0.5]), jnp.array([1, 0, 1])
      >>> print(dm.softplus_hinge_loss(z, y, margin=0.0).round(2))
      [0.13 0.31 0.47]

    References:
      Zhang et al., Modified logistic regression: an approximation to SVM, ICML 2003.
    """
    z, y = doors.binary(logits, labels)
    return _softplus_hinge(
        z,
        y,
        doors.parameter("sharpness", sharpness, z),
        doors.parameter("margin", margin, z),
    )


def _softplus_hinge_value(m: jax.Array, sharpness: jax.Array, margin: jax.Array) -> jax.Array:
    missing = margin - m
    # The hinge plus the rest, because `sharpness * missing` may overflow.
    above = slopes.softpluses(-sharpness * jnp.abs(missing))[0] / sharpness
    return jnp.maximum(missing, 0.0) + above


def _softplus_hinge_slope(m: jax.Array, sharpness: jax.Array, margin: jax.Array) -> jax.Array:
    return -jax.nn.sigmoid(sharpness * (margin - m))


_softplus_hinge = slopes.of_margin(_softplus_hinge_value, _softplus_hinge_slope)


@examples.per_element()
def modified_huber_loss(
    logits: ArrayLike, labels: ArrayLike, **_: Unpack[ElementOptions]
) -> jax.Array:
    r"""Modified Huber loss: a squared hinge that grows linearly where the logit is badly wrong.

    Use it for a squared hinge that is robust to wrong labels. Its minimiser gives a probability,
    ``(1 + clip(z, -1, 1)) / 2``, which is exactly 0 or 1 outside the margin.

    .. math:: \begin{cases} \max(0, 1 - m)^2 & m \ge -1 \\ -4 m & m < -1 \end{cases}

    with the margin m = (2y - 1) z.

    Args:
      logits: real scores ``[...]`` of any shape.
      labels: 0/1 or -1/1, or probabilities ``[...]``.

    Returns:
      Loss ≥ 0 of each element ``[...]``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(dm.modified_huber_loss(jnp.array([2.0, 3.0, 0.5]), jnp.array([1, 0, 1])))
      [ 0.   12.    0.25]

    References:
      Zhang, Solving large scale linear prediction problems using SGD algorithms, ICML 2004.
    """
    return _modified_huber(*doors.binary(logits, labels))


def _modified_huber_value(m: jax.Array) -> jax.Array:
    # Clamped where the loss is the largest number, so that no intermediate value is larger.
    m = jnp.maximum(m, -0.25 * jnp.finfo(m.dtype).max)
    missing = jnp.maximum(1.0 - m, 0.0)
    squared = slopes.at_most(missing, 2.0)
    return squared * (2.0 * missing - squared)


def _modified_huber_slope(m: jax.Array) -> jax.Array:
    return -2.0 * jnp.clip(1.0 - m, 0.0, 2.0)


_modified_huber = slopes.of_margin(_modified_huber_value, _modified_huber_slope, bounded=True)


@examples.per_element()
def ramp_loss(logits: ArrayLike, labels: ArrayLike, **_: Unpack[ElementOptions]) -> jax.Array:
    r"""Ramp loss: a hinge clamped at 1, which is the error rate with a ramp in place of the step.

    Use it to fine-tune a model on doubtful labels: an error costs 1, however wrong it is. From
    scratch it hardly learns, because an element on the wrong side has no gradient.

    .. math::
       L &= \min(1, \max(0, 1 - m))

       m &= (2y - 1) z

    Args:
      logits: real scores ``[...]`` of any shape.
      labels: 0/1 or -1/1, or probabilities ``[...]``.

    Returns:
      Loss in [0, 1] of each element ``[...]``. The slope at m = 0 and at m = 1 is -1.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(dm.ramp_loss(jnp.array([2.0, 3.0, 0.5]), jnp.array([1, 0, 1])))
      [0.  1.  0.5]

    References:
      Collobert et al., Trading convexity for scalability, ICML 2006.
    """
    return _ramp(*doors.binary(logits, labels))


def _ramp_value(m: jax.Array) -> jax.Array:
    return jnp.maximum(1.0 - jnp.maximum(m, 0.0), 0.0)


def _ramp_slope(m: jax.Array) -> jax.Array:
    return jnp.where((m >= 0.0) & (m <= 1.0), -1.0, 0.0)


_ramp = slopes.of_margin(_ramp_value, _ramp_slope, bounded=True)


@examples.per_element()
def exponential_loss(
    logits: ArrayLike, labels: ArrayLike, **_: Unpack[ElementOptions]
) -> jax.Array:
    r"""Exponential loss of every element, which AdaBoost minimises.

    Use it to compare with boosting; for networks `sigmoid_cross_entropy` is almost always better.
    Its minimiser is half the log-odds. One element at m = -10 weighs as much as 22,000 at m = 0.

    .. math:: e^{-m}, \quad m = (2y - 1) z

    Args:
      logits: real scores ``[...]`` of any shape.
      labels: 0/1 or -1/1, or probabilities ``[...]``.

    Returns:
      Loss ≥ 0 of each element ``[...]``. Value and slope are clamped at the largest number.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -1.0, 0.5]), jnp.array([1, 0, 1])
      >>> print(dm.exponential_loss(z, y).round(2))
      [0.14 0.37 0.61]

    References:
      Friedman et al., Additive logistic regression, Annals of Statistics 2000.
    """
    z, y = doors.binary(logits, labels)
    return _exponential(z, y, numbers.largest(z))


def _exponential_value(m: jax.Array, largest: jax.Array) -> jax.Array:
    del largest  # it bounds the slope
    return numbers.capped(jnp.exp(-m))


def _exponential_slope(m: jax.Array, largest: jax.Array) -> jax.Array:
    # Clamped before the exponential, whose infinite derivative would be multiplied by 0; and below
    # the logarithm, which may be rounded upwards.
    top = np.log(jnp.finfo(m.dtype).max)
    held = jnp.minimum(-m, float(np.nextafter(top, np.zeros_like(top))))
    return -jnp.minimum(jnp.exp(held), largest)


_exponential = slopes.of_margin(_exponential_value, _exponential_slope)


@examples.per_element()
def perceptron_loss(logits: ArrayLike, labels: ArrayLike, **_: Unpack[ElementOptions]) -> jax.Array:
    r"""Perceptron loss: a hinge without a margin, how far a misclassified logit is from 0.

    Use it for comparison; `hinge_loss` usually does better. Shrinking all logits to 0 minimises it.

    .. math:: \max(0, -m), \quad m = (2y - 1) z

    Args:
      logits: real scores ``[...]`` of any shape.
      labels: 0/1 or -1/1, or probabilities ``[...]``.

    Returns:
      Loss ≥ 0 of each element ``[...]``, in units of the logits. The slope in m at logit 0 is -1,
      so zero weights learn.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(dm.perceptron_loss(jnp.array([2.0, 1.0, -0.5]), jnp.array([1, 0, 1])))
      [0.  1.  0.5]

    References:
      Rosenblatt, The perceptron: a probabilistic model for information storage, 1958.
    """
    return _perceptron(*doors.binary(logits, labels))


_perceptron = slopes.of_margin(
    lambda m: _hinge_value(m, 0.0), lambda m: _hinge_slope(m, 0.0), bounded=True
)
