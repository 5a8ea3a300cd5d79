"""Class imbalance: cross-entropy with class weights, focusing, class frequencies or margins.

All of them move the decision, and most distort the probabilities. Tune the threshold first.
"""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import doors, examples, numbers, slopes
from diffmetrics._core.calls import ClassOptions, ElementOptions
from diffmetrics._core.class_labels import at_label, of_classes
from diffmetrics._core.softmax import cross_entropy, cross_entropy_after, expected_over_ids

# --- weights --------------------------------------------------------------------------------------


@examples.per_element()
def weighted_sigmoid_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, *, positive_weight: ArrayLike, **_: Unpack[ElementOptions]
) -> jax.Array:
    r"""Weighted binary cross-entropy: a positive counts as `positive_weight` examples.

    Use it when a miss costs w times as much as a false alarm and the threshold has to stay at 0. If
    the network can fit the data it decides like cross-entropy with a threshold of -log w: logits
    are larger by log w, so their sigmoid is not calibrated. Large weights make gradients noisy.
    Nothing is divided by the sum of the weights.

    .. math:: -w y \log \sigma(z) - (1-y) \log \sigma(-z)

    Args:
      logits: real scores ``[...]`` of any shape.
      labels: 0/1 or probabilities ``[...]``.
      positive_weight: w ≥ 0, ``pos_weight`` in PyTorch; the number of negatives over that of
        positives gives both classes the same total weight.

    Returns:
      Loss ≥ 0 of each element ``[...]``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -1.0, 0.5]), jnp.array([1, 0, 1])
      >>> print(dm.weighted_sigmoid_cross_entropy(z, y, positive_weight=3.0).round(2))
      [0.38 0.31 1.42]

    References:
      Elkan, The foundations of cost-sensitive learning, IJCAI 2001.
    """
    z, y = doors.binary(logits, labels)
    weight = doors.parameter("positive_weight", positive_weight, z)
    return _weighted_sigmoid(z, y, weight)


def _weighted(z: jax.Array, y: jax.Array, weight: jax.Array) -> jax.Array:
    loss_zero, loss_one = slopes.softpluses(z)
    # Each product is capped, so that XLA does not multiply an infinite one by a label of 0.
    return numbers.capped(y * numbers.capped(weight * loss_one) + (1.0 - y) * loss_zero)


def _weighted_slope(z: jax.Array, y: jax.Array, weight: jax.Array) -> jax.Array:
    p_one, p_zero = slopes.sigmoids(z)
    return (1.0 - y) * p_one - (weight * y) * p_zero


_weighted_sigmoid = slopes.of_logit(_weighted, _weighted_slope)


@examples.per_example()
def weighted_softmax_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    class_weights: ArrayLike,
    **options: Unpack[ClassOptions],
) -> jax.Array:
    r"""Weighted cross-entropy: every example has the weight of its class.

    Use it when errors in some classes matter more, whatever is predicted instead; if that matters,
    too, use `expected_cost_loss`. As in `weighted_sigmoid_cross_entropy`, probabilities are not
    calibrated, and large weights make gradients noisy. Nothing is divided by the sum of the
    weights: for PyTorch's mean, divide the sum of this loss by the sum of the labels' weights, with
    0 for void ids.

    .. math:: -\sum_k y_k w_k \log \mathrm{softmax}(z)_k

    Args:
      logits: real scores ``[..., C]``, one per class.
      labels: class ids ``[...]``, or one-hot or probabilities ``[..., C]``.
      class_weights: weights w ≥ 0 ``[C]``.

    Returns:
      Loss ≥ 0 of each example ``[...]``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z = jnp.array([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
      >>> y, weights = jnp.array([0, 2]), jnp.array([1.0, 1.0, 4.0])
      >>> print(dm.weighted_softmax_cross_entropy(z, y, class_weights=weights).round(2))
      [0.17 6.21]

    References:
      Elkan, The foundations of cost-sensitive learning, IJCAI 2001.
    """
    z, y, axis = doors.classes(logits, labels, **options)
    weights = doors.one_for_each_class("class_weights", class_weights, z, axis)
    if jnp.issubdtype(y.dtype, jnp.floating):
        y, weights = numbers.floats(y, weights)
        return cross_entropy(z, of_classes(weights, z.ndim, axis) * y, axis)
    return _scaled(cross_entropy(z, y, axis), at_label(weights, y, axis))


def _product(loss: jax.Array, weight: jax.Array) -> jax.Array:
    return numbers.capped(weight * loss)


# Only the value is capped: a loss beyond the largest number still needs its gradient.
_scaled = slopes.with_slope(_product, lambda loss, weight: weight)


# --- focus ----------------------------------------------------------------------------------------


@examples.per_element()
def asymmetric_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    gamma_positive: ArrayLike = 1.0,
    gamma_negative: ArrayLike = 4.0,
    shift: ArrayLike = 0.05,
    **_: Unpack[ElementOptions],
) -> jax.Array:
    r"""Asymmetric loss (ASL): a focal loss that weighs easy negatives down more than positives.

    Use it for multi-label problems, so that the many absent labels of an example do not outweigh
    the few present ones. By design a negative with a probability below `shift` has no gradient:
    such probabilities are not ranked, and those above are not calibrated. A confidently wrong
    positive keeps its gradient; implementations that clip the logarithm at 1e-8 have none below
    logit -18.4. A confidently wrong negative loses it: its loss is at most ``-log(shift)``, as in
    the paper.

    .. math::
       L &= -y (1-p)^{\gamma_+} \log p

       &\quad {} - (1-y)\, p_m^{\gamma_-} \log(1 - p_m)

       p_m &= \max(p - m, 0), \quad p = \sigma(z)

    Args:
      logits: real scores ``[...]`` of any shape.
      labels: 0/1 ``[...]``; probabilities mix the two terms.
      gamma_positive: focusing exponent γ₊ ≥ 0 of the positives.
      gamma_negative: focusing exponent γ₋ ≥ 0 of the negatives.
      shift: m in [0, 1), the probability up to which a negative costs nothing.

    Returns:
      Loss ≥ 0 of each element ``[...]``.

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
        doors.parameter("gamma_positive", gamma_positive, z),
        doors.parameter("gamma_negative", gamma_negative, z),
        doors.parameter("shift", shift, z),
    )


def _shifted(p: jax.Array, loss_zero: jax.Array, shift: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A negative's shifted probability p_m, and -log(1 - p_m), which is at least p_m.

    exp(-80) is about the smallest probability whose logarithm can be taken. Beyond it the loss
    keeps growing without a shift, and is -log(shift) with one. Nothing of the size of z goes
    through a `where` in front of a sum (see `slopes`).
    """
    excess = jnp.maximum(p - shift, 0.0)
    has_end = shift > 0.0
    end = jnp.where(has_end, -jnp.log(jnp.where(has_end, shift, 1.0)), jnp.finfo(p.dtype).max)
    loss = -jnp.log(jnp.exp(-jnp.minimum(loss_zero, 80.0)) + shift) + jnp.maximum(
        loss_zero - 80.0, 0.0
    )
    return excess, jnp.maximum(jnp.minimum(loss, end), excess)


def _asymmetric(
    z: jax.Array, y: jax.Array, positive: jax.Array, negative: jax.Array, shift: jax.Array
) -> jax.Array:
    loss_zero, loss_one = slopes.softpluses(z)
    excess, loss = _shifted(jax.nn.sigmoid(z), loss_zero, shift)
    if_negative = jnp.exp(negative * numbers.log(excess)) * loss
    return y * jnp.exp(-positive * loss_zero) * loss_one + (1.0 - y) * if_negative


def _asymmetric_slope(
    z: jax.Array, y: jax.Array, positive: jax.Array, negative: jax.Array, shift: jax.Array
) -> jax.Array:
    loss_zero, loss_one = slopes.softpluses(z, True)
    p, q = slopes.sigmoids(z)
    excess, loss = _shifted(p, loss_zero, shift)
    if_positive = -jnp.exp(-positive * loss_zero) * (positive * p * loss_one + q)
    # exp(loss - loss_zero) is (1 - p) / (1 - p_m), finite where both are 0.
    change = p * jnp.exp(loss - loss_zero) + negative * p * q * (
        loss / jnp.maximum(excess, numbers.NOTHING)
    )
    if_negative = jnp.where(excess > 0.0, jnp.exp(negative * numbers.log(excess)) * change, 0.0)
    return y * if_positive + (1.0 - y) * if_negative


_asymmetric_loss = slopes.of_logit(_asymmetric, _asymmetric_slope)


# --- class frequencies ----------------------------------------------------------------------------


@examples.per_element()
def logit_adjusted_sigmoid_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    prevalence: ArrayLike,
    tau: ArrayLike = 1.0,
    **_: Unpack[ElementOptions],
) -> jax.Array:
    r"""Logit adjustment, binary: cross-entropy of the logits plus the log-odds of the prevalence.

    Use it to learn scores that do not contain the prevalence, so that a threshold of 0 balances
    sensitivity and specificity. Predict from `logits`, without the adjustment. For a network that
    fits the data it equals cross-entropy with the threshold ``logits > log(π / (1 - π))``, which
    needs no training. It differs if the network is too small to fit both classes, or if training
    stops early. ``sigmoid(logits + tau * log-odds)`` is the calibrated probability.

    .. math::
       & -y \log \sigma(z') - (1-y) \log \sigma(-z')

       & z' = z + \tau \log \frac{\pi}{1-\pi}

    Args:
      logits: real scores ``[...]`` of any shape.
      labels: 0/1 or probabilities ``[...]``.
      prevalence: share π of positives in the training data, in (0, 1); a number, or one per label.
        At 0 or 1 the absent class counts as 1e-18; an output that is never positive then has no
        gradient.
      tau: τ, how much of the log-odds to take out; 0 is cross-entropy.

    Returns:
      Loss ≥ 0 of each element ``[...]``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -1.0, 0.5]), jnp.array([1, 0, 1])
      >>> print(dm.logit_adjusted_sigmoid_loss(z, y, prevalence=0.1).round(1))
      [0.8 0.  1.9]

    References:
      Menon et al., Long-tail learning via logit adjustment, 2020, arXiv:2007.07314, eq. 10.
    """
    z, y = doors.binary(logits, labels)
    prior = doors.parameter("prevalence", prevalence, z)
    log_odds = numbers.log(prior) - numbers.log(1.0 - prior)
    return _offset_sigmoid(z, y, doors.parameter("tau", tau, z) * log_odds)


def _offset(z: jax.Array, y: jax.Array, offset: jax.Array) -> jax.Array:
    return slopes.softpluses(z + offset)[0] - y * (z + offset)


def _offset_slope(z: jax.Array, y: jax.Array, offset: jax.Array) -> jax.Array:
    return jax.nn.sigmoid(z + offset) - y


_offset_sigmoid = slopes.of_logit(_offset, _offset_slope)


@examples.per_example()
def logit_adjusted_softmax_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    prevalence: ArrayLike,
    tau: ArrayLike = 1.0,
    **options: Unpack[ClassOptions],
) -> jax.Array:
    r"""Logit adjustment: cross-entropy of the logits plus the logarithm of the class frequencies.

    Use it for a long tail of classes if you are judged by balanced accuracy, the mean of their
    accuracies. Predict the largest of `logits`, without the adjustment. For a network that fits the
    data it equals cross-entropy and the largest of ``logits - tau * log(prevalence)``; try that
    first.

    .. math:: -\sum_k y_k \log \mathrm{softmax}(z + \tau \log \pi)_k

    Args:
      logits: real scores ``[..., C]``, one per class.
      labels: class ids ``[...]``, or one-hot or probabilities ``[..., C]``.
      prevalence: share π of each class in the training data, or its count ``[C]``. 0 counts as
        1e-18: such a class hardly competes in training, so exclude it from prediction.
      tau: τ, how much of the class frequencies to take out, a number or ``[...]``; 0 is
        cross-entropy.

    Returns:
      Loss ≥ 0 of each example ``[...]``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z = jnp.array([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
      >>> y, counts = jnp.array([0, 2]), jnp.array([900, 90, 10])
      >>> print(dm.logit_adjusted_softmax_loss(z, y, prevalence=counts).round(2))
      [0.01 4.75]

    References:
      Menon et al., Long-tail learning via logit adjustment, 2020, arXiv:2007.07314, eq. 10.
    """
    z, y, axis = doors.classes(logits, labels, **options)
    prior = doors.one_for_each_class("prevalence", prevalence, z, axis)
    tau = doors.parameter("tau", tau, doors.example(z, axis), "the examples")
    tau = jnp.expand_dims(tau, axis) if tau.ndim else tau
    offset = tau * of_classes(numbers.log(prior), z.ndim, axis)
    return cross_entropy(numbers.as_float(z) + offset, y, axis)


# --- a margin -------------------------------------------------------------------------------------


@examples.per_example()
def ldam_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    class_counts: ArrayLike,
    max_margin: ArrayLike = 0.5,
    scale: ArrayLike = 30.0,
    **options: Unpack[ClassOptions],
) -> jax.Array:
    r"""LDAM loss (label-distribution-aware margin): a larger margin for rarer classes.

    Use it for a long tail of classes, with logits that are cosines: features and the last layer's
    weights have length 1. Logits that can grow freely make a margin of ½ meaningless. Its authors
    switch on class weights for the last epochs, which brings much of their gain.

    .. math::
       L &= -\log \mathrm{softmax}(s (z - m_y e_y))_y

       m_j &= m_{\max} \left( \frac{\min_i n_i}{n_j} \right)^{1/4}

    It is cross-entropy: :math:`e_y` is 1 at the true class y and 0 elsewhere.

    Args:
      logits: cosines ``[..., C]``.
      labels: class ids ``[...]`` or one-hot ``[..., C]``.
      class_counts: number n of training examples of each class, or its share ``[C]``. A class of
        count 0 has the largest margin; it is left out of the minimum.
      max_margin: margin of the rarest class, in units of the cosines; a number.
      scale: factor s > 0 on the logits; a number.

    Returns:
      Loss ≥ 0 of each example ``[...]``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z = jnp.array([[0.8, 0.1, -0.1], [0.2, 0.3, 0.4]])
      >>> counts = jnp.array([1000, 100, 10])
      >>> print(dm.ldam_loss(z, jnp.array([0, 2]), class_counts=counts).round(2))
      [ 0.   12.05]

    References:
      Cao et al., Label-distribution-aware margin loss, 2019, arXiv:1906.07413, eq. 13.
    """
    z, y, axis = doors.classes(logits, labels, **options)
    counts = doors.one_for_each_class("class_counts", class_counts, z, axis)
    largest, scale = (
        doors.parameter(name, value, z, shape=())
        for name, value in (("max_margin", max_margin), ("scale", scale))
    )
    seen = counts > 0.0
    rarest = jnp.min(jnp.where(seen, counts, jnp.max(counts)))
    margins = largest * numbers.power(numbers.divide(rarest, jnp.where(seen, counts, rarest)), 0.25)

    def loss(ids: jax.Array) -> jax.Array:
        margin = at_label(margins, ids, axis)
        return cross_entropy_after(lambda own: own - margin, z, ids, scale, axis)

    return expected_over_ids(loss, y, axis)
