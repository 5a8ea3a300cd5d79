"""Cross-entropy for classes of unequal size: by weights, by focus, by the prior, by a margin.

All of them move the decision, and most distort the probabilities; before training anew, try the
threshold.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import doors, numbers, slopes
from diffmetrics._core.softmax import at_label, cross_entropy, is_true

# --- weights --------------------------------------------------------------------------------------


@doors.compiled()
def weighted_sigmoid_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, *, positive_weight: ArrayLike
) -> jax.Array:
    r"""Binary cross-entropy in which a positive counts as `positive_weight` examples.

    Use it when a missed positive costs that many times a false alarm and the threshold has to stay
    at 0. With a network that can fit the data it does what a threshold of -log w does to plain
    cross-entropy: the logits come out larger by log w, and are no longer those of the true
    probability. Large weights make the few positives' gradients noisy.

    Unlike a weighted mean, nothing is divided by the sum of the weights.

    .. math:: -w y \log \sigma(z) - (1-y) \log \sigma(-z)

    Args:
      logits: real scores ``[...]``.
      labels: 0/1 or probabilities ``[...]``.
      positive_weight: weight w ≥ 0 of label 1; negatives over positives weighs both classes alike.
        Traced.

    Returns:
      Loss ≥ 0 ``[...]``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -1.0, 0.5]), jnp.array([1, 0, 1])
      >>> print(dm.weighted_sigmoid_cross_entropy(z, y, positive_weight=3.0).round(2))
      [0.38 0.31 1.42]

    References:
      Elkan, The foundations of cost-sensitive learning, IJCAI 2001.
    """
    z, y = doors.binary(logits, labels)
    weight = doors.parameter("positive_weight", positive_weight, z.shape)
    return _weighted_sigmoid(z, y, weight)


def _weighted(z: jax.Array, y: jax.Array, weight: jax.Array) -> jax.Array:
    loss_zero, loss_one = slopes.softpluses(z)
    return numbers.capped((weight * y) * loss_one + (1.0 - y) * loss_zero)


def _weighted_slope(z: jax.Array, y: jax.Array, weight: jax.Array) -> jax.Array:
    p_one, p_zero = slopes.sigmoids(z)
    return (1.0 - y) * p_one - (weight * y) * p_zero


_weighted_sigmoid = slopes.with_slope(_weighted, _weighted_slope)


@doors.compiled()
def weighted_softmax_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, *, class_weights: ArrayLike
) -> jax.Array:
    r"""Cross-entropy in which an example counts as the weight of its class says.

    Use it when the classes' errors matter unequally, whatever they are confused with; when it
    matters with what, use `expected_cost_loss`. What is said of probabilities and noise at
    `weighted_sigmoid_cross_entropy` holds here too.

    Nothing is divided by the sum of the weights. PyTorch's mean is: for that, divide the sum of
    this loss by the sum of ``class_weights[labels]``.

    .. math:: -\sum_k y_k w_k \log \mathrm{softmax}(z)_k

    Args:
      logits: real scores ``[..., C]``.
      labels: class ids ``[...]``, or one-hot or probabilities ``[..., C]``.
      class_weights: weight ≥ 0 of each class ``[C]``. Traced.

    Returns:
      Loss ≥ 0 ``[...]``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z = jnp.array([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
      >>> y, weights = jnp.array([0, 2]), jnp.array([1.0, 1.0, 4.0])
      >>> print(dm.weighted_softmax_cross_entropy(z, y, class_weights=weights).round(2))
      [0.17 6.21]

    References:
      Elkan, The foundations of cost-sensitive learning, IJCAI 2001.
    """
    z, y = doors.classes(logits, labels)
    weights = _per_class("class_weights", class_weights, z)
    if jnp.issubdtype(y.dtype, jnp.floating):
        return cross_entropy(z, weights * y)
    return _scaled(cross_entropy(z, y), at_label(weights, y))


def _per_class(name: str, value: ArrayLike, z: jax.Array) -> jax.Array:
    """A hyper-parameter ``[C]`` as floats. Raises `ValueError` for any other shape."""
    x = numbers.as_float(value)
    doors.require_shape(name, x, z.shape[-1:], "the classes")
    return x


def _product(loss: jax.Array, weight: jax.Array) -> jax.Array:
    return numbers.capped(weight * loss)


# The cap holds the value alone: a loss beyond the largest number still has to come down.
_scaled = slopes.with_slope(_product, lambda loss, weight: weight)


# --- focus ----------------------------------------------------------------------------------------


@doors.compiled()
def asymmetric_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    gamma_positive: ArrayLike = 1.0,
    gamma_negative: ArrayLike = 4.0,
    shift: ArrayLike = 0.05,
) -> jax.Array:
    r"""Focal loss that forgets easy negatives sooner than easy positives, for every element.

    Use it for many labels of which an example has few: the hundred absent ones would drown the
    three present ones. A negative of probability below `shift` costs nothing at all, by design;
    so probabilities below it are never sorted, and those above are not calibrated.

    A confident error keeps its gradient. Implementations that hold the logarithm at 1e-8 have none
    for a positive of logit below -18.4, which is the one that needs it most. Only a confidently
    wrong negative relents, if `shift` > 0: its loss ends at -log(`shift`), in the paper too.

    .. math::
        -y (1-p)^{\gamma_+} \log p - (1-y) p_m^{\gamma_-} \log(1 - p_m), \quad
        p_m = \max(p - m, 0)

    with p the sigmoid of the logit and m = `shift`.

    Args:
      logits: real scores ``[...]``.
      labels: 0/1 ``[...]``; probabilities mix the two terms.
      gamma_positive: focusing of the positives, real and ≥ 0. Traced.
      gamma_negative: focusing of the negatives, real and ≥ 0. Traced.
      shift: the probability that a negative has for free, in [0, 1). Traced.

    Returns:
      Loss ≥ 0 ``[...]``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, 1.0, -0.5, -3.0]), jnp.array([1, 0, 1, 0])
      >>> print(dm.asymmetric_loss(z, y).round(2))
      [0.02 0.25 0.61 0.  ]

    References:
      Ridnik et al., Asymmetric loss for multi-label classification, 2020, arXiv:2009.14119, eq. 7.
    """
    z, y = doors.binary(logits, labels)
    return _asymmetric_loss(
        z,
        y,
        doors.parameter("gamma_positive", gamma_positive, z.shape),
        doors.parameter("gamma_negative", gamma_negative, z.shape),
        doors.parameter("shift", shift, z.shape),
    )


def _shifted(z: jax.Array, loss_zero: jax.Array, shift: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A negative's probability p_m less its free part, and -log(1 - p_m), which is at least that.

    exp(-80) is about the smallest probability whose logarithm can be taken. Beyond it the loss
    grows on if there is no shift, and ends at -log(shift) if there is one. Nothing of the size of z
    goes through a `where` in front of a sum (see `slopes`).
    """
    excess = jnp.maximum(jax.nn.sigmoid(z) - shift, 0.0)
    has_end = shift > 0.0
    end = jnp.where(has_end, -jnp.log(jnp.where(has_end, shift, 1.0)), jnp.finfo(z.dtype).max)
    loss = -jnp.log(jnp.exp(-jnp.minimum(loss_zero, 80.0)) + shift) + jnp.maximum(
        loss_zero - 80.0, 0.0
    )
    return excess, jnp.maximum(jnp.minimum(loss, end), excess)


def _asymmetric(
    z: jax.Array, y: jax.Array, positive: jax.Array, negative: jax.Array, shift: jax.Array
) -> jax.Array:
    loss_zero, loss_one = slopes.softpluses(z)
    excess, loss = _shifted(z, loss_zero, shift)
    if_negative = jnp.exp(negative * numbers.log(excess)) * loss
    return y * jnp.exp(-positive * loss_zero) * loss_one + (1.0 - y) * if_negative


def _asymmetric_slope(
    z: jax.Array, y: jax.Array, positive: jax.Array, negative: jax.Array, shift: jax.Array
) -> jax.Array:
    loss_zero, loss_one = slopes.softpluses(z, True)
    p, q = jnp.exp(-loss_one), jnp.exp(-loss_zero)
    excess, loss = _shifted(z, loss_zero, shift)
    if_positive = -jnp.exp(-positive * loss_zero) * (positive * p * loss_one + q)
    # exp(loss - loss_zero) is (1 - p) / (1 - p_m), finite where both are 0.
    change = p * jnp.exp(loss - loss_zero) + negative * p * q * (
        loss / jnp.maximum(excess, numbers.NOTHING)
    )
    if_negative = jnp.where(excess > 0.0, jnp.exp(negative * numbers.log(excess)) * change, 0.0)
    return y * if_positive + (1.0 - y) * if_negative


_asymmetric_loss = slopes.with_slope(_asymmetric, _asymmetric_slope)


# --- the prior ------------------------------------------------------------------------------------


@doors.compiled()
def logit_adjusted_sigmoid_loss(
    logits: ArrayLike, labels: ArrayLike, *, prevalence: ArrayLike, tau: ArrayLike = 1.0
) -> jax.Array:
    r"""Binary cross-entropy of what the logits add to the log-odds of the prior.

    Use it to learn scores that do not contain the prevalence, so that a threshold of 0 balances
    sensitivity and specificity: predict from `logits` as they are, without the adjustment. On a
    network that fits the data it is the same as plain cross-entropy with the threshold moved to
    the prior, ``logits > log(π / (1 - π))``, which needs no training; it differs where the network
    is too small to fit both classes, or training stops early. ``sigmoid(logits + tau * log-odds)``
    is the calibrated probability.

    .. math:: \ell(z + \tau \log \frac{\pi}{1-\pi}, y)

    with :math:`\ell` the binary cross-entropy.

    Args:
      logits: real scores ``[...]``.
      labels: 0/1 or probabilities ``[...]``.
      prevalence: share π of positives in the training data, in (0, 1); a number, or one per label.
        0 and 1 count as 1e-18 away: an output that is never positive is then satisfied from the
        start, and is not trained. Traced.
      tau: how much of the prior to take out, real; 0 is cross-entropy. Traced.

    Returns:
      Loss ≥ 0 ``[...]``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -1.0, 0.5]), jnp.array([1, 0, 1])
      >>> print(dm.logit_adjusted_sigmoid_loss(z, y, prevalence=0.1).round(1))
      [0.8 0.  1.9]

    References:
      Menon et al., Long-tail learning via logit adjustment, 2020, arXiv:2007.07314, eq. 10.
    """
    z, y = doors.binary(logits, labels)
    prior = doors.parameter("prevalence", prevalence, z.shape)
    log_odds = numbers.log(prior) - numbers.log(1.0 - prior)
    return _offset_sigmoid(z, y, doors.parameter("tau", tau, z.shape) * log_odds)


def _offset(z: jax.Array, y: jax.Array, offset: jax.Array) -> jax.Array:
    return slopes.softpluses(z + offset)[0] - y * (z + offset)


def _offset_slope(z: jax.Array, y: jax.Array, offset: jax.Array) -> jax.Array:
    return jax.nn.sigmoid(z + offset) - y


_offset_sigmoid = slopes.with_slope(_offset, _offset_slope)


@doors.compiled()
def logit_adjusted_softmax_loss(
    logits: ArrayLike, labels: ArrayLike, *, prevalence: ArrayLike, tau: ArrayLike = 1.0
) -> jax.Array:
    r"""Cross-entropy of what the logits add to the logarithm of the prior.

    Use it for a long tail of classes that are judged by the mean of their accuracies: predict the
    largest of `logits` as they are, without the adjustment. On a network that fits the data it is
    the same as plain cross-entropy and the largest of ``logits - tau * log(prevalence)``, which
    needs no training: try that first.

    .. math:: -\sum_k y_k \log \mathrm{softmax}(z + \tau \log \pi)_k

    Args:
      logits: real scores ``[..., C]``.
      labels: class ids ``[...]``, or one-hot or probabilities ``[..., C]``.
      prevalence: share of each class in the training data ``[C]``; counts do as well, because a
        common factor cancels. A class of 0 counts as 1e-18: it hardly competes in training, so do
        not let it in prediction. Traced.
      tau: how much of the prior to take out, a real number or one per example ``[...]``; 0 is
        cross-entropy. Traced.

    Returns:
      Loss ≥ 0 ``[...]``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z = jnp.array([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
      >>> counts = jnp.array([900, 90, 10])
      >>> print(dm.logit_adjusted_softmax_loss(z, jnp.array([0, 2]), prevalence=counts).round(2))
      [0.01 4.75]

    References:
      Menon et al., Long-tail learning via logit adjustment, 2020, arXiv:2007.07314, eq. 10.
    """
    z, y = doors.classes(logits, labels)
    prior = _per_class("prevalence", prevalence, z)
    tau = doors.parameter("tau", tau, z.shape[:-1], "the examples")
    return cross_entropy(numbers.as_float(z) + tau[..., None] * numbers.log(prior), y)


# --- a margin -------------------------------------------------------------------------------------


@doors.compiled()
def ldam_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    class_counts: ArrayLike,
    max_margin: ArrayLike = 0.5,
    scale: ArrayLike = 30.0,
) -> jax.Array:
    r"""Cross-entropy that asks of rare classes a larger margin: label-distribution-aware margin.

    Use it for a long tail of classes, with logits that are cosines: features and the last layer's
    weights of length 1. A margin of ½ means nothing to logits that can grow at will. Its authors
    switch on class weights for the last epochs, and much of their gain comes from that.

    .. math:: -\log \mathrm{softmax}(s (z - m_y e_y))_y, \quad
              m_j = m_{max} \left( \frac{\min_i n_i}{n_j} \right)^{1/4}

    A class without examples neither sets the smallest count nor has a margin beyond the largest.

    Args:
      logits: cosines ``[..., C]``.
      labels: class ids ``[...]`` or one-hot ``[..., C]``.
      class_counts: number of training examples of each class ``[C]``; shares do as well. Traced.
      max_margin: margin of the rarest class, in units of the logits; a number. Traced.
      scale: factor s > 0 on the logits; a number. Traced.

    Returns:
      Loss ≥ 0 ``[...]``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z = jnp.array([[0.8, 0.1, -0.1], [0.2, 0.3, 0.4]])
      >>> counts = jnp.array([1000, 100, 10])
      >>> print(dm.ldam_loss(z, jnp.array([0, 2]), class_counts=counts).round(2))
      [ 0.   12.05]

    References:
      Cao et al., Learning imbalanced datasets with label-distribution-aware margin loss, 2019,
      arXiv:1906.07413, eq. 13.
    """
    z, y = doors.classes(logits, labels)
    counts = _per_class("class_counts", class_counts, z)
    largest, scale = (
        doors.parameter("max_margin", max_margin, ()),
        doors.parameter("scale", scale, ()),
    )
    seen = counts > 0.0
    rarest = jnp.min(jnp.where(seen, counts, jnp.max(counts)))
    margins = largest * numbers.power(numbers.divide(rarest, jnp.where(seen, counts, rarest)), 0.25)
    z = numbers.as_float(z) - is_true(y, z.shape) * margins
    # The softmax does not depend on where it is centred. Below the largest logit, scaling cannot
    # overflow to infinities that cancel.
    top = jax.lax.stop_gradient(jnp.max(z, -1, keepdims=True))
    return cross_entropy(_stretched(z, top, scale), y)


def _below(z: jax.Array, top: jax.Array, scale: jax.Array) -> jax.Array:
    return -numbers.capped(scale * numbers.capped(top - z))


# As for `_scaled`, the cap holds the value alone.
_stretched = slopes.with_slope(_below, lambda z, top, scale: scale)
