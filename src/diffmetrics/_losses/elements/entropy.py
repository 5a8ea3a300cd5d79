"""Cross-entropy, focal and poly losses: one value per element (sigmoid) or example (softmax)."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import doors, examples, numbers, slopes
from diffmetrics._core.calls import ClassOptions, ElementOptions
from diffmetrics._core.softmax import cross_entropy, of_cross_entropy


@examples.per_element()
def sigmoid_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, **_: Unpack[ElementOptions]
) -> jax.Array:
    r"""Binary cross-entropy from logits (BCE, logistic loss), for every element.

    Use it first, and compare other losses with it: its minimiser is the true probability, and with
    a threshold tuned on validation data it often does as well as any loss for imbalance.

    .. math:: -y \log \sigma(z) - (1-y) \log \sigma(-z)

    Args:
      logits: real scores ``[...]`` of any shape.
      labels: 0/1 or probabilities ``[...]``.

    Returns:
      Loss ≥ 0 of each element ``[...]``, in nats.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -1.0, 0.5]), jnp.array([1, 0, 1])
      >>> print(dm.sigmoid_cross_entropy(z, y).round(2))
      [0.13 0.31 0.47]

    References:
      Cox, The regression analysis of binary sequences, 1958.
    """
    return _sigmoid_cross_entropy(*doors.binary(logits, labels))


def _linear(z: jax.Array, y: jax.Array) -> jax.Array:
    return slopes.softpluses(z)[0] - y * z


def _linear_slope(z: jax.Array, y: jax.Array) -> jax.Array:
    return jax.nn.sigmoid(z) - y


_sigmoid_cross_entropy = slopes.of_logit(_linear, _linear_slope, bounded=True)


@examples.per_example()
def softmax_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, **options: Unpack[ClassOptions]
) -> jax.Array:
    r"""Softmax (categorical) cross-entropy from logits, for every example.

    Use it first when exactly one class is right. If several labels of an example can be right, use
    `sigmoid_cross_entropy`.

    .. math:: -\sum_k y_k \log \mathrm{softmax}(z)_k

    Args:
      logits: real scores ``[..., C]``, one per class.
      labels: class ids ``[...]``, or one-hot or probabilities ``[..., C]``.

    Returns:
      Loss ≥ 0 of each example ``[...]``, in nats.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z = jnp.array([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
      >>> print(dm.softmax_cross_entropy(z, jnp.array([0, 2])).round(2))
      [0.17 1.55]

    References:
      Bridle, Training stochastic model recognition algorithms as networks, NIPS 1989.
    """
    return cross_entropy(*doors.classes(logits, labels, **options))


@examples.per_element()
def sigmoid_focal_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    gamma: ArrayLike = 2.0,
    alpha: ArrayLike | None = None,
    **_: Unpack[ElementOptions],
) -> jax.Array:
    r"""Focal loss: binary cross-entropy, weighted down where the prediction is already right.

    Use it where easy negatives dominate, as anchors do in object detection. It is not a proper
    scoring rule: it draws probabilities towards ½. Do not read them as risks; tune the threshold.

    .. math::
       L &= \alpha_t (1 - p_t)^\gamma (-\log p_t)

       p_t &= \sigma((2y - 1) z)

    Args:
      logits: real scores ``[...]`` of any shape.
      labels: 0/1 ``[...]``; probabilities mix the losses of 0 and 1.
      gamma: focusing exponent ≥ 0; 0 is cross-entropy.
      alpha: weight of label 1, in [0, 1]; label 0 has the weight 1 - `alpha`. The paper uses 0.25
        with gamma 2. None, the default, gives both the weight 1, not ½.

    Returns:
      Loss ≥ 0 of each element ``[...]``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -1.0, 0.5]), jnp.array([1, 0, 1])
      >>> print(dm.sigmoid_focal_loss(z, y).round(2))
      [0.   0.02 0.07]

    References:
      Lin et al., Focal loss for dense object detection, 2017, arXiv:1708.02002, eq. 5.
    """
    z, y = doors.binary(logits, labels)
    gamma = doors.parameter("gamma", gamma, z)
    if alpha is None:
        return _sigmoid_focal(z, y, gamma, 1.0, 1.0)
    alpha = doors.parameter("alpha", alpha, z)
    return _sigmoid_focal(z, y, gamma, 1.0 - alpha, alpha)


def _focal(m: jax.Array, gamma: jax.Array) -> jax.Array:
    loss_wrong, loss_right = slopes.softpluses(m)
    return numbers.capped(jnp.exp(-gamma * loss_wrong) * loss_right)


def _focal_slope(m: jax.Array, gamma: jax.Array) -> jax.Array:
    loss_wrong, loss_right = slopes.softpluses(m, True)
    _, wrong = slopes.sigmoids(m)
    return -jnp.exp(-gamma * loss_wrong) * (gamma * (1.0 - wrong) * loss_right + wrong)


_sigmoid_focal = slopes.of_margin(_focal, _focal_slope, weighted=True)


@examples.per_example()
def softmax_focal_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    gamma: ArrayLike = 2.0,
    alpha: ArrayLike | None = None,
    **options: Unpack[ClassOptions],
) -> jax.Array:
    r"""Focal loss over classes: cross-entropy, weighted down where the prediction is right.

    Use it where most examples are easy and you are judged by the accuracy on the hard ones. For
    rare classes there is `alpha`. Like `sigmoid_focal_loss` it is not a proper scoring rule, and
    its probabilities are too close to uniform.

    .. math::
       L &= \alpha_y (1 - p_y)^\gamma (-\log p_y)

       p &= \mathrm{softmax}(z)

    Args:
      logits: real scores ``[..., C]``, one per class.
      labels: class ids ``[...]`` or one-hot ``[..., C]``.
      gamma: focusing exponent ≥ 0, a number or ``[...]``; 0 is cross-entropy.
      alpha: weight ≥ 0 of each class, a number or ``[C]``. None, the default, is 1 for all.

    Returns:
      Loss ≥ 0 of each example ``[...]``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z = jnp.array([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
      >>> print(dm.softmax_focal_loss(z, jnp.array([0, 2])).round(2))
      [0.   0.96]

    References:
      Lin et al., Focal loss for dense object detection, 2017, arXiv:1708.02002, eq. 5.
    """
    z, y, axis = doors.classes(logits, labels, **options)
    gamma = doors.parameter("gamma", gamma, doors.example(z, axis), "the examples")
    each = doors.of_each_class("alpha", 1.0 if alpha is None else alpha, z, axis)
    return of_cross_entropy(_softmax_focal, z, y, axis, gamma, each=each)


def _focus(loss: jax.Array, gamma: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The missing probability 1 - exp(-loss), and its power, which is 1 for gamma 0 even at 0."""
    missing = -jnp.expm1(-loss)
    return missing, jnp.exp(gamma * numbers.log(missing))


def _focused(loss: jax.Array, gamma: jax.Array, weight: jax.Array) -> jax.Array:
    return numbers.capped(weight * _focus(loss, gamma)[1] * loss)


def _focused_slope(loss: jax.Array, gamma: jax.Array, weight: jax.Array) -> jax.Array:
    missing, focus = _focus(loss, gamma)
    return weight * focus * (1.0 + gamma * jnp.exp(-loss) * numbers.divide(loss, missing))


_softmax_focal = slopes.with_slope(_focused, _focused_slope)


@examples.per_element()
def sigmoid_poly_loss(
    logits: ArrayLike, labels: ArrayLike, *, epsilon: ArrayLike = 1.0, **_: Unpack[ElementOptions]
) -> jax.Array:
    r"""PolyLoss (Poly-1): binary cross-entropy plus a multiple of 1 - p of the true label.

    Use it as a cheap variation of cross-entropy with one number to tune: a positive `epsilon`
    raises the gradient most where the prediction is undecided, a negative one lowers it there. The
    published gains are small, and the best `epsilon` differs between data sets. It is not a proper
    scoring rule: for `epsilon` > 0 the probabilities are too close to 0 and 1.

    .. math::
       L &= -\log p_t + \epsilon (1 - p_t)

       p_t &= \sigma((2y - 1) z)

    Args:
      logits: real scores ``[...]`` of any shape.
      labels: 0/1 ``[...]``; probabilities mix the losses of 0 and 1.
      epsilon: weight of the first polynomial term, ≥ -1; 0 is cross-entropy.

    Returns:
      Loss of each element ``[...]``, ≥ 0 for `epsilon` ≥ -1.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -1.0, 0.0]), jnp.array([1, 0, 1])
      >>> print(dm.sigmoid_poly_loss(z, y).round(1))
      [0.2 0.6 1.2]

    References:
      Leng et al., PolyLoss, 2022, arXiv:2204.12511.
    """
    z, y = doors.binary(logits, labels)
    return _sigmoid_poly(z, y, doors.parameter("epsilon", epsilon, z))


def _poly(z: jax.Array, y: jax.Array, epsilon: jax.Array) -> jax.Array:
    missing = y * jax.nn.sigmoid(-z) + (1.0 - y) * jax.nn.sigmoid(z)
    return _linear(z, y) + epsilon * missing


def _poly_slope(z: jax.Array, y: jax.Array, epsilon: jax.Array) -> jax.Array:
    p = jax.nn.sigmoid(z)
    return p - y + epsilon * (1.0 - 2.0 * y) * p * (1.0 - p)


_sigmoid_poly = slopes.of_logit(_poly, _poly_slope, bounded=True)


@examples.per_example()
def softmax_poly_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    epsilon: ArrayLike = 1.0,
    **options: Unpack[ClassOptions],
) -> jax.Array:
    r"""PolyLoss (Poly-1) over classes: cross-entropy plus a multiple of 1 - p of the true class.

    Use it like `sigmoid_poly_loss`, where exactly one class is right. Labels must be hard: with
    smoothed ones the second term would take the geometric mean of the probabilities.

    .. math::
       L &= -\log p_y + \epsilon (1 - p_y)

       p &= \mathrm{softmax}(z)

    Args:
      logits: real scores ``[..., C]``, one per class.
      labels: class ids ``[...]`` or one-hot ``[..., C]``.
      epsilon: weight of the first polynomial term, ≥ -1, a number or ``[...]``; 0 is cross-entropy.

    Returns:
      Loss of each example ``[...]``, ≥ 0 for `epsilon` ≥ -1.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z = jnp.array([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
      >>> print(dm.softmax_poly_loss(z, jnp.array([0, 2])).round(1))
      [0.3 2.3]

    References:
      Leng et al., PolyLoss, 2022, arXiv:2204.12511.
    """
    z, y, axis = doors.classes(logits, labels, **options)
    epsilon = doors.parameter("epsilon", epsilon, doors.example(z, axis), "the examples")
    return of_cross_entropy(
        lambda loss, epsilon: loss - epsilon * jnp.expm1(-loss), z, y, axis, epsilon
    )


@examples.per_example()
def generalized_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, *, q: ArrayLike = 0.7, **options: Unpack[ClassOptions]
) -> jax.Array:
    r"""Generalized cross-entropy (GCE): cross-entropy that is robust to wrong labels.

    Use it where some labels are wrong and nobody knows which. It interpolates between cross-entropy
    and the absolute error: an example costs at most 1 / q, and its gradient vanishes where the
    network gives its label no probability. Hard examples with correct labels are ignored, too: with
    clean labels, or with many classes and an untrained network, it trains more slowly than
    cross-entropy and ends worse.

    .. math:: \frac{1 - p_y^q}{q}, \quad p = \mathrm{softmax}(z)

    Args:
      logits: real scores ``[..., C]``, one per class.
      labels: class ids ``[...]`` or one-hot ``[..., C]``.
      q: robustness in [0, 1], a number or one per example ``[...]``. 0 is cross-entropy; 1 is half
        the absolute error of the probabilities, which is 1 - p of the true class.

    Returns:
      Loss ≥ 0 of each example ``[...]``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z = jnp.array([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
      >>> print(dm.generalized_cross_entropy(z, jnp.array([0, 2])).round(2))
      [0.16 0.95]

    References:
      Zhang and Sabuncu, Generalized cross entropy loss, 2018, arXiv:1805.07836, eq. 6.
    """
    z, y, axis = doors.classes(logits, labels, **options)
    q = doors.parameter("q", q, doors.example(z, axis), "the examples")
    return of_cross_entropy(_generalized, z, y, axis, q)


def _decayed(loss: jax.Array, q: jax.Array) -> jax.Array:
    """The integral of exp(-q t) over t from 0 to `loss`; a series where q · loss is small.

    There rounding destroys the quotient's derivative in q, and at 0 it has none.
    """
    x = q * loss
    small = x < 1e-3
    near = jnp.where(small, x, 0.0)
    return jnp.where(
        small,
        loss * (1.0 - near / 2.0 + near * near / 6.0),
        -jnp.expm1(-x) / jnp.where(small, 1.0, q),
    )


def _decayed_slope(loss: jax.Array, q: jax.Array) -> jax.Array:
    return jnp.exp(-q * loss)


_generalized = slopes.with_slope(_decayed, _decayed_slope)
