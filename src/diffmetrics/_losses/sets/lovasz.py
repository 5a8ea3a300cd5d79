r"""Lovász losses: the convex closure of the Jaccard loss, piecewise linear in the errors.

The Jaccard loss is a function of the set of mispredicted elements. Sorting extends it to real
errors: with e₁ ≥ e₂ ≥ … it is Σₖ eₖ (Δₖ - Δₖ₋₁), where Δₖ is the Jaccard loss if exactly the k
largest errors were mistakes. `Counts` with an axis of k give Δₖ.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import doors, numbers, slopes
from diffmetrics._core.doors import Activation, Axis
from diffmetrics._metrics.counts import Counts


@doors.compiled("axis")
def lovasz_hinge_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: Axis = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    prior: Counts = Counts(),  # noqa: B008 - frozen
) -> jax.Array:
    r"""Lovász hinge: a convex surrogate of the Jaccard loss of ``logits > 0``.

    Use it to fine-tune a binary mask that is judged by IoU. From scratch it is often slower than
    Dice or cross-entropy, because elements beyond the margin have no gradient. It works on
    margins, so it has no `activation`. It sorts once, for all images together.

    .. math:: \sum_k \max(0, e_{(k)}) (\Delta_k - \Delta_{k-1}), \qquad
       e_i = 1 - \text{logit}_i (2 y_i - 1)

    Args:
      logits: ``[...]``; positive predicts the foreground.
      labels: 0/1 ``[...]``.
      axis: axes that form one set; ``(1, 2)`` of ``[B, H, W]`` is per image. Static.
      where: boolean; False leaves an element out.
      weights: factors ≥ 0.
      prior: pseudo-counts in the Jaccard index.

    Returns:
      Loss ≥ 0, the shape of `logits` without `axis`: an upper bound of the exact Jaccard loss, or,
      without a positive label, the hinge of the largest error. The gradient at the kink is 0.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(dm.lovasz_hinge_loss(jnp.array([2.0, -1.0, 0.5]), jnp.array([1, 0, 1])))
      0.25

    References:
      Yu and Blaschko, The Lovász hinge, 2015, arXiv:1512.07797. Berman et al., arXiv:1705.08790.
    """
    z, y, mask, w = doors.admit(logits, labels, where, weights, ids=False)
    # relu rather than maximum: at the kink its derivative is 0, not ½.
    errors = jax.nn.relu(1.0 - slopes.margins(z, y.astype(z.dtype)))
    axes = doors.normalize_axis(axis, z.ndim)
    return _extension(errors, y, axes, mask, w, prior)[0]


@doors.compiled("axis", "activation")
def lovasz_softmax_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: Axis = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    activation: Activation = jax.nn.softmax,
    prior: Counts = Counts(),  # noqa: B008 - frozen
) -> jax.Array:
    r"""Lovász-Softmax: a surrogate of the mean Jaccard loss over the classes that are present.

    Use it to fine-tune a multi-class mask that is judged by mean IoU. The errors are ``|y - p|``.

    Args:
      logits: ``[..., C]``.
      labels: class ids ``[...]`` or one-hot ``[..., C]``.
      axis: axes that form one set; ``(1, 2)`` is per image. Default: all but the last. Static.
      where: boolean; to leave out pixels pass ``mask[..., None]``.
      weights: factors ≥ 0.
      activation: logits to probabilities. Static.
      prior: pseudo-counts in each class's Jaccard index.

    Returns:
      Mean over the classes with a label, in [0, 1], the shape of `logits` without `axis` and the
      last axis; 0 with zero gradient if no class has a label.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z = jnp.array([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
      >>> print(dm.lovasz_softmax_loss(z, jnp.array([0, 0, 1])))
      0.2440

    References:
      Berman et al., The Lovász-Softmax loss, CVPR 2018, arXiv:1705.08790.
    """
    p, y, mask, w = doors.activate(logits, labels, where, weights, activation)
    axes = doors.class_axes(axis, p.shape)
    loss, positives = _extension(jnp.abs(y - p), y, axes, mask, w, prior)
    present = (positives > 0).astype(p.dtype)
    return numbers.divide(jnp.sum(present * loss, -1), jnp.sum(present, -1))


def _extension(
    errors: jax.Array,
    labels: jax.Array,
    axes: tuple[int, ...],
    mask: jax.Array | None,
    w: jax.Array | None,
    prior: Counts,
) -> tuple[jax.Array, jax.Array]:
    """The Lovász extension of the Jaccard loss at `errors`, and the positives of each set."""
    mass = doors.mass_of(mask, w, errors.shape, errors.dtype)
    if mask is not None:
        errors, labels = (jnp.where(mask, x, jnp.zeros_like(x)) for x in (errors, labels))
    e, positive, negative = doors.labelled_rows(errors, labels, mass, axes)
    slope = _slopes(jax.lax.stop_gradient(e), positive, negative, prior)
    # Every coefficient depends on the errors only through their order, so it is a constant
    # almost everywhere, and the gradient needs neither a gather nor a second sort.
    loss = jnp.sum(e * jax.lax.stop_gradient(slope), -1)
    return loss, jnp.sum(positive, -1)


def _slopes(
    errors: jax.Array, positive: jax.Array, negative: jax.Array, prior: Counts
) -> jax.Array:
    """How much each element raises the Jaccard loss when it joins the larger errors."""
    position = jax.lax.broadcasted_iota(jnp.int32, errors.shape, errors.ndim - 1)
    _, miss, alarm, origin = jax.lax.sort((-errors, positive, negative, position), num_keys=1)
    pseudo = jax.tree.map(lambda cell: jnp.asarray(cell)[..., None], prior)
    # Counts just before each element: all larger errors are mistakes, the rest are not.
    misses, alarms = jnp.cumsum(miss, -1) - miss, jnp.cumsum(alarm, -1) - alarm
    found = jnp.flip(jnp.cumsum(jnp.flip(miss, -1), -1), -1)
    before = Counts(tp=found, fp=alarms, fn=misses) + pseudo
    union = before.tp + before.fp + before.fn
    # 1 - tp / union grows by this much. As a difference of two losses near 1 it would lose most of
    # its digits, and among a million elements most slopes would round to zero.
    rise = numbers.divide(miss + alarm * numbers.divide(before.tp, union), union + alarm)
    # If both sets are empty, the first mistake costs the whole loss.
    first = (union <= numbers.NOTHING) & (alarm > 0)
    rise = jnp.where(first, 1.0, rise)
    return jnp.put_along_axis(jnp.zeros_like(rise), origin, rise, axis=-1, inplace=False)
