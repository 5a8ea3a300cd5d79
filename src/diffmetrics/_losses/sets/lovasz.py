r"""Lovász losses: the convex closure of the Jaccard loss, piecewise linear in the errors.

The set function "Jaccard loss of a set of mispredicted elements" is extended from sets to real
errors by sorting: with errors e₁ ≥ e₂ ≥ … it is Σₖ eₖ (Δₖ - Δₖ₋₁), where Δₖ is the Jaccard loss if
just the k largest errors were mistakes. Δₖ is read off `Counts` with an axis of k.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import doors, numbers
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

    Use it to fine-tune a binary mask that is judged by IoU; from scratch it is often slower than
    Dice or cross-entropy, since only the hinge's active elements teach. It works on margins, so
    it has no `activation`. One sort and cumulative sums, for all images at once.

    .. math:: \sum_k \max(0, e_{(k)}) (\Delta_k - \Delta_{k-1}), \qquad
       e_i = 1 - \text{logit}_i (2 y_i - 1)

    Args:
      logits: real scores ``[...]``; positive predicts the foreground.
      labels: 0/1 of the same shape.
      axis: axes that form one set; per image is ``axis=(1, 2)`` of ``[B, H, W]``. Default: all.
        Static.
      where: boolean, broadcasts to `logits`; False leaves an element out, even a NaN.
      weights: non-negative factor per element, broadcasts to `logits`.
      prior: pseudo-counts in the Jaccard index.

    Returns:
      Loss ≥ 0, the shape of `logits` without `axis`; with a positive label it bounds the exact
      Jaccard loss from above. The gradient at the hinge's kink is 0. Without a positive label it
      is the largest error's hinge.

    Raises:
      TypeError, ValueError: as in every set loss.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(dm.lovasz_hinge_loss(jnp.array([2.0, -1.0, 0.5]), jnp.array([1, 0, 1])))
      0.25

    References:
      Berman et al., The Lovász-Softmax loss, CVPR 2018, arXiv:1705.08790; Yu and Blaschko, The
      Lovász hinge, 2015, arXiv:1512.07797.
    """
    z, y, mask, w = doors.admit(logits, labels, where, weights, ids=False)
    y = y.astype(z.dtype)
    # relu rather than maximum: at the kink its derivative is 0, not ½.
    errors = jax.nn.relu(1.0 - z * (2.0 * y - 1.0))
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

    Use it to fine-tune a multi-class mask that is judged by mean IoU. Classes lie on the last
    axis; the errors are ``|y - p|``.

    Args:
      logits: real scores ``[..., C]``.
      labels: one-hot of the same shape, or class ids ``[...]``.
      axis: axes that form one set, without the last; ``(1, 2)`` of ``[B, H, W, C]`` is per image.
        Default: all but the last. Static.
      where: boolean, broadcasts to `logits`. To leave out pixels pass ``mask[..., None]``.
      weights: non-negative factors, broadcast to `logits`.
      activation: logits to probabilities. Static.
      prior: pseudo-counts in each class's Jaccard index.

    Returns:
      Mean over the classes with a label, in [0, 1]; the shape of `logits` without `axis` and the
      last axis. 0 with zero gradient where no class has a label.

    Raises:
      TypeError, ValueError: as in every set loss; `ValueError` too if `axis` names the last axis.

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
    y = y.astype(p.dtype)
    loss, positives = _extension(jnp.abs(y - p), y, axes, mask, w, prior)
    present = (positives > 0).astype(p.dtype)
    return numbers.divide(jnp.sum(present * loss, -1), jnp.sum(present, -1))


def _extension(
    errors: jax.Array,
    labels: jax.Array,
    axes: tuple[int, ...],
    where: jax.Array | None,
    weights: jax.Array | None,
    prior: Counts,
) -> tuple[jax.Array, jax.Array]:
    """The Lovász extension of the Jaccard loss at `errors`, and the positives of each set."""
    w = jnp.ones_like(errors) if weights is None else jnp.broadcast_to(weights, errors.shape)
    if where is not None:
        errors, w, labels = (jnp.where(where, x, 0.0) for x in (errors, w, labels))

    e, y, w = (doors.sets_last(x.astype(errors.dtype), axes) for x in (errors, labels, w))
    slope = _slopes(jax.lax.stop_gradient(e), y, w, prior)
    # Every coefficient depends on the errors only through their order, so it is a constant
    # almost everywhere, and the gradient needs neither a gather nor a second sort.
    loss = jnp.sum(e * jax.lax.stop_gradient(slope), -1)
    return loss, jnp.sum(w * y, -1)


def _slopes(errors: jax.Array, labels: jax.Array, weights: jax.Array, prior: Counts) -> jax.Array:
    """By how much each element raises the Jaccard loss when it joins the larger errors."""
    position = jax.lax.broadcasted_iota(jnp.int32, errors.shape, errors.ndim - 1)
    _, y, w, origin = jax.lax.sort((-errors, labels, weights, position), num_keys=1)
    miss, alarm = w * y, w * (1.0 - y)
    pseudo = jax.tree.map(lambda cell: jnp.asarray(cell)[..., None], prior)
    # Counts just before each element: everything larger is mistaken, the rest is not.
    misses, alarms = jnp.cumsum(miss, -1) - miss, jnp.cumsum(alarm, -1) - alarm
    found = jnp.flip(jnp.cumsum(jnp.flip(miss, -1), -1), -1)
    before = Counts(tp=found, fp=alarms, fn=misses) + pseudo
    union = before.tp + before.fp + before.fn
    # 1 - tp / union grows by this much. As a difference of two losses near 1 it would lose most of
    # its digits, and among a million elements most slopes would round to zero.
    rise = numbers.divide(miss + alarm * numbers.divide(before.tp, union), union + alarm)
    first = (union <= numbers.NOTHING) & (
        alarm > 0
    )  # a mistake between empty sets costs everything
    slopes = jnp.where(first, 1.0, rise)
    return jnp.put_along_axis(jnp.zeros_like(slopes), origin, slopes, axis=-1, inplace=False)
