"""Overlap losses: one minus a score of soft counts, such as Dice, IoU, F-beta or MCC.

Soft counts add up probabilities instead of decisions; see docs/idea.md. `squared_dice_loss` and
`generalized_dice_loss` are variants of Dice that need more than the four counts of one set.
"""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import calls, doors, masses, numbers, set_doors
from diffmetrics._core.calls import Axis
from diffmetrics._core.set_doors import Activation
from diffmetrics._losses.sets.score_loss import Options, score_loss
from diffmetrics._metrics import scores
from diffmetrics._metrics.counts import Counts, count


@calls.explained("axis", "activation", "class_axis")
def fbeta_loss(
    logits: ArrayLike, labels: ArrayLike, *, beta: ArrayLike = 1.0, **options: Unpack[Options]
) -> jax.Array:
    r"""F-beta loss: one minus the soft F-beta score; by default the F1 loss.

    Use it when you are judged by F-beta at a fixed threshold, or by macro-F of rare labels
    (``axis=0`` of ``[examples, labels]``, then the mean). It is not a proper scoring rule: it
    pushes probabilities to 0 and 1. Cross-entropy with a tuned threshold often does as well;
    measure both.

    .. math:: 1 - \frac{(1+\beta^2) TP}{(1+\beta^2) TP + FP + \beta^2 FN}

    Args:
      logits: real scores ``[...]`` of any shape.
      labels: 0/1 or probabilities ``[...]``; with a softmax also class ids (no class axis).
      beta: β > 0; a miss weighs as much as β² false alarms.
      **options: `axis`, `where`, `weights`, `activation`, `prior`, `class_axis`: see
        docs/arguments.md.

    Returns:
      Loss in [0, 1], the shape of `logits` without `axis`; 1 with zero gradient if no label is
      positive and there is no prior.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(dm.fbeta_loss(jnp.array([2.0, -1.0, 0.5]), jnp.array([1, 0, 1]), beta=2.0))
      0.2309

    References:
      Pastor-Pellicer et al., F-measure as the error function to train neural networks, 2013.
    """
    return score_loss(scores.fbeta)(logits, labels, beta=beta, **options)


@calls.explained("axis", "activation", "class_axis")
def dice_loss(logits: ArrayLike, labels: ArrayLike, **options: Unpack[Options]) -> jax.Array:
    r"""Dice loss: one minus the soft Dice coefficient, which is the soft F1 score.

    Use it for masks of rare foreground. By default the whole batch is one set, and an empty image
    costs its false alarms. With one set per image (`axis` without the batch axis) an empty image
    has a gradient only with a `prior`. Libraries compute at least seven different "Dice" losses:
    see docs/coming_from/index.md.

    .. math:: 1 - \frac{2 TP}{2 TP + FP + FN}

    Args:
      logits: real scores ``[...]`` of any shape.
      labels: 0/1 or probabilities ``[...]``; with a softmax also class ids (no class axis).
      **options: `axis`, `where`, `weights`, `activation`, `prior`, `class_axis`: see
        docs/arguments.md. ``prior=Counts(tp=s / 2)`` is the smoothing s of MONAI.

    Returns:
      Loss in [0, 1], the shape of `logits` without `axis`; 1 with zero gradient if no label is
      positive and there is no prior.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(dm.dice_loss(jnp.array([2.0, -1.0, 0.5]), jnp.array([1, 0, 1])))
      0.2030

    References:
      Sudre et al., Generalised Dice overlap, 2017, arXiv:1707.03237. See also `squared_dice_loss`.
    """
    return score_loss(scores.dice)(logits, labels, **options)


@calls.explained("axis", "activation", "class_axis")
def jaccard_loss(logits: ArrayLike, labels: ArrayLike, **options: Unpack[Options]) -> jax.Array:
    r"""Jaccard loss (IoU loss): one minus the soft intersection over union.

    Use it when you are judged by IoU. It is a monotone function of the Dice loss, so both gradients
    have the same direction; that of the Jaccard loss is half as long far from the optimum and twice
    as long near it.

    .. math:: 1 - \frac{TP}{TP + FP + FN}

    Args:
      logits: real scores ``[...]`` of any shape.
      labels: 0/1 or probabilities ``[...]``; with a softmax also class ids (no class axis).
      **options: `axis`, `where`, `weights`, `activation`, `prior`, `class_axis`: see
        docs/arguments.md.

    Returns:
      Loss in [0, 1], the shape of `logits` without `axis`; 1 with zero gradient if no label is
      positive and there is no prior.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(dm.jaccard_loss(jnp.array([2.0, -1.0, 0.5]), jnp.array([1, 0, 1])))
      0.3375

    References:
      Rahman and Wang, Optimizing intersection-over-union in deep neural networks, ISVC 2016.
    """
    return score_loss(scores.jaccard)(logits, labels, **options)


@calls.explained("axis", "activation", "class_axis")
def tversky_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    fp_weight: ArrayLike = 0.5,
    fn_weight: ArrayLike = 0.5,
    **options: Unpack[Options],
) -> jax.Array:
    r"""Tversky loss: a Dice loss that weighs false alarms and misses differently.

    Use it when a miss and a false alarm do not cost the same. The weights a = b = ½ give the Dice
    loss, a = b = 1 the Jaccard loss, and a = 1 / (1 + β²) with b = β² / (1 + β²) the F-beta loss.
    Libraries differ in which weight they call alpha.

    .. math:: 1 - \frac{TP}{TP + a\,FP + b\,FN}

    Args:
      logits: real scores ``[...]`` of any shape.
      labels: 0/1 or probabilities ``[...]``; with a softmax also class ids (no class axis).
      fp_weight: weight a of a false alarm.
      fn_weight: weight b of a miss.
      **options: `axis`, `where`, `weights`, `activation`, `prior`, `class_axis`: see
        docs/arguments.md.

    Returns:
      Loss in [0, 1], the shape of `logits` without `axis`; 1 with zero gradient if no label is
      positive and there is no prior.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -1.0, 0.5]), jnp.array([1, 0, 1])
      >>> print(dm.tversky_loss(z, y, fp_weight=0.3, fn_weight=0.7))
      0.2218

    References:
      Salehi et al., Tversky loss, 2017, arXiv:1706.05721, eq. 3; its alpha is the
      weight of false alarms.
    """
    loss = score_loss(scores.tversky)
    return loss(logits, labels, fp_weight=fp_weight, fn_weight=fn_weight, **options)


def _focal_tversky(
    counts: Counts, fp_weight: ArrayLike, fn_weight: ArrayLike, gamma: ArrayLike
) -> jax.Array:
    return 1.0 - numbers.power(1.0 - scores.tversky(counts, fp_weight, fn_weight), gamma)


@calls.explained("axis", "activation", "class_axis")
def focal_tversky_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    fp_weight: ArrayLike = 0.3,
    fn_weight: ArrayLike = 0.7,
    gamma: ArrayLike = 0.75,
    **options: Unpack[Options],
) -> jax.Array:
    r"""Focal Tversky loss: the Tversky loss of each image or class, to a power.

    Use it with an `axis` that keeps images or classes: gamma < 1 gives more weight to those with a
    small loss, gamma > 1 to those with a large one. For a single set it only rescales the gradient.

    .. math:: \Big(1 - \frac{TP}{TP + a\,FP + b\,FN}\Big)^\gamma

    Args:
      logits: real scores ``[...]`` of any shape.
      labels: 0/1 or probabilities ``[...]``; with a softmax also class ids (no class axis).
      fp_weight: weight a of a false alarm.
      fn_weight: weight b of a miss.
      gamma: positive exponent; the paper writes it 1/γ with γ = 4/3.
      **options: `axis`, `where`, `weights`, `activation`, `prior`, `class_axis`: see
        docs/arguments.md.

    Returns:
      Loss in [0, 1], the shape of `logits` without `axis`; 1 with zero gradient where no label is
      positive and there is no prior. A perfect prediction has loss and gradient 0, although the
      power has an infinite slope there if gamma < 1.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(dm.focal_tversky_loss(jnp.array([2.0, -1.0, 0.5]), jnp.array([1, 0, 1])))
      0.3232

    References:
      Abraham and Khan, A novel focal Tversky loss function, 2018, arXiv:1810.07842, eq. 4.
    """
    loss = score_loss(_focal_tversky)
    return loss(logits, labels, fp_weight=fp_weight, fn_weight=fn_weight, gamma=gamma, **options)


@calls.explained("axis", "activation", "class_axis")
def mcc_loss(logits: ArrayLike, labels: ArrayLike, **options: Unpack[Options]) -> jax.Array:
    r"""MCC loss: one minus the soft Matthews correlation coefficient.

    Use it when both classes must be right and true negatives count, too. A prediction by chance has
    loss 1.

    .. math:: 1 - \frac{TP\,TN - FP\,FN}{\sqrt{(TP + FP)(TP + FN)(TN + FP)(TN + FN)}}

    Args:
      logits: real scores ``[...]`` of any shape.
      labels: 0/1 or probabilities ``[...]``; with a softmax also class ids (no class axis).
      **options: `axis`, `where`, `weights`, `activation`, `prior`, `class_axis`: see
        docs/arguments.md.

    Returns:
      Loss in [0, 2], the shape of `logits` without `axis`; 1 with zero gradient if one of the
      classes has no example.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(dm.mcc_loss(jnp.array([2.0, -1.0, 0.5]), jnp.array([1, 0, 1])))
      0.5372

    References:
      Abhishek and Hamarneh, Matthews correlation coefficient loss, 2020, arXiv:2010.13454.
    """
    return score_loss(scores.mcc)(logits, labels, **options)


@calls.explained("axis", "activation", "class_axis")
def balanced_accuracy_loss(
    logits: ArrayLike, labels: ArrayLike, **options: Unpack[Options]
) -> jax.Array:
    r"""Balanced accuracy loss: the mean of the soft error rates of both classes.

    Use it when both classes matter equally, however rare one is. It is linear in the
    probabilities, so it pushes them to 0 and 1, and they are not calibrated.

    .. math:: 1 - \frac12 \Big(\frac{TP}{TP + FN} + \frac{TN}{TN + FP}\Big)

    Args:
      logits: real scores ``[...]`` of any shape.
      labels: 0/1 or probabilities ``[...]``; with a softmax also class ids (no class axis).
      **options: `axis`, `where`, `weights`, `activation`, `prior`, `class_axis`: see
        docs/arguments.md.

    Returns:
      Loss in [0, 1], the shape of `logits` without `axis`; a class without examples contributes ½
      with zero gradient.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(dm.balanced_accuracy_loss(jnp.array([2.0, -1.0, 0.5]), jnp.array([1, 0, 1])))
      0.2587

    References:
      Brodersen et al., The balanced accuracy and its posterior distribution, ICPR 2010.
    """
    return score_loss(scores.balanced_accuracy)(logits, labels, **options)


@calls.compiled("axis", "activation", "class_axis")
def squared_dice_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: Axis = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    activation: Activation = jax.nn.sigmoid,
    prior: Counts = Counts(),  # noqa: B008 - frozen
    class_axis: int = -1,
) -> jax.Array:
    r"""Squared Dice loss, as in V-Net: with squared probabilities in the denominator.

    Use it for soft labels: unlike `dice_loss` it is 0 at p = y for any y, because its errors are
    squared differences. The gradient of a false alarm vanishes with its probability.

    .. math::
       L &= 1 - \frac{2 \sum p y}{\sum p^2 + \sum y^2}

       &= 1 - \frac{2 \sum p y}{2 \sum p y + \sum (p - y)^2}

    Args:
      logits: real scores ``[...]`` of any shape.
      labels: 0/1 or probabilities ``[...]``; with a softmax also class ids (no class axis).
      axis: axes that form one set. Static.
      where: boolean; False leaves an element out.
      weights: factors ≥ 0.
      activation: logits to probabilities. Static.
      prior: pseudo-counts, added to the overlap (`tp`) and to the squared error (`fp`, `fn`).
      class_axis: where the classes lie.

    Returns:
      Loss in [0, 1], the shape of `logits` without `axis`; 1 with zero gradient if no label is
      positive and there is no prior.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(dm.squared_dice_loss(jnp.array([2.0, -1.0, 0.5]), jnp.array([1, 0, 1])))
      0.0708

    References:
      Milletari et al., V-Net, 2016, arXiv:1606.04797, section 3.
    """
    p, y, mask, w = set_doors.activate(logits, labels, where, weights, activation, class_axis)
    y = doors.shares(doors.one_hot(y, p.shape), p.dtype)
    axes = doors.normalize_axis(axis, p.ndim)
    set_doors.require_effect(w, p.shape, axes)
    # The overlap is Σ w·p·y and the error Σ w·(p - y)²: `count` takes both sums.
    overlap = count(p, y, axes, mask, w).tp
    error = count((p - y) ** 2, jnp.ones_like(p), axes, mask, w).tp
    return 1.0 - scores.dice(Counts(tp=overlap, fp=error) + prior)


@calls.compiled("axis", "activation", "class_axis")
def generalized_dice_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: Axis = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    activation: Activation = jax.nn.sigmoid,
    prior: Counts = Counts(),  # noqa: B008 - frozen
    class_axis: int = -1,
) -> jax.Array:
    r"""Generalized Dice loss: one Dice over all classes, weighted by 1 / volume².

    Use it when classes differ in size by orders of magnitude and small ones must count as much as
    large ones. A class without a label is left out; in other libraries it has a weight of 1e7 or
    infinity, which dominates the loss.

    .. math::
       & 1 - \frac{2 \sum_c v_c TP_c}{\sum_c v_c (2 TP_c + FP_c + FN_c)}

       & v_c = \Big(\sum_i w_i y_{ic}\Big)^{-2}

    Args:
      logits: real scores ``[..., C]``, one per class.
      labels: 0/1 or soft ``[..., C]``, or class ids ``[...]``.
      axis: axes that form one set. Default: all but that of the classes. Static.
      where: boolean; False leaves an element out.
      weights: factors ≥ 0.
      activation: logits to probabilities; `jax.nn.softmax` for exclusive classes. Static.
      prior: pseudo-counts added to each class, after the volumes were taken.
      class_axis: where the classes, or channels, lie.

    Returns:
      Loss in [0, 1], the shape of `logits` without `axis` and that of the classes; 1 with zero
      gradient if no class has a label.

    Example:
      >>> import diffmetrics as dm, jax, jax.numpy as jnp
      >>> z = jnp.array([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
      >>> print(dm.generalized_dice_loss(z, jnp.array([0, 0, 1]), activation=jax.nn.softmax))
      0.2659

    References:
      Sudre et al., Generalised Dice overlap, 2017, arXiv:1707.03237, eq. 4. Volumes: Crum et al.,
      IEEE TMI 25, 2006.
    """
    p, y, mask, w = set_doors.activate(logits, labels, where, weights, activation, class_axis)
    axes = doors.class_axes(axis, p.shape, class_axis)
    c = doors.classes_last(count(p, y, axes, mask, w), axes, class_axis, p.ndim)
    # The volumes are labels, not predictions: a change of weights must not lower the loss.
    volume = jax.lax.stop_gradient(numbers.as_float(c.tp) + numbers.as_float(c.fn))
    # Only ratios of weights matter. Relative to the largest class none underflows. If all classes
    # are empty they are alike, so that a prior can teach emptiness.
    relative = masses.relative(volume)
    some = jnp.max(relative, -1, keepdims=True) > 0
    importance = jnp.where(some, numbers.divide(1.0, relative) ** 2, 1.0)
    pooled = jax.tree.map(lambda cell: jnp.sum(importance * cell, -1), c + prior)
    return 1.0 - scores.dice(pooled)
