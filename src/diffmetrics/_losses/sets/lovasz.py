r"""Lovász losses: the convex closure of the Jaccard (IoU) loss, piecewise linear in the errors.

The Jaccard loss is a function of the set of mispredicted elements. Sorting extends it to real
errors: with e₁ ≥ e₂ ≥ … it is Σₖ eₖ (Δₖ - Δₖ₋₁), where Δₖ is the Jaccard loss if exactly the k
largest errors were mistakes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import calls, doors, masses, numbers, order, set_doors, slopes
from diffmetrics._core.calls import Axis
from diffmetrics._core.set_doors import Activation
from diffmetrics._metrics.counts import Counts


@calls.compiled("axis")
def lovasz_hinge_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: Axis = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    prior: Counts = Counts(),  # noqa: B008 - frozen
) -> jax.Array:
    r"""Lovász hinge loss: a convex surrogate of the Jaccard (IoU) loss of ``logits > 0``.

    Use it to fine-tune a binary mask that is judged by IoU. From scratch it is often slower than
    Dice or cross-entropy, because elements beyond the margin have no gradient. It works on
    margins, so it has no `activation`. It sorts once, for all images together.

    .. math::
       L &= \sum_k \max(0, e_{(k)}) (\Delta_k - \Delta_{k-1})

       e_i &= 1 - \text{logit}_i (2 y_i - 1)

    where :math:`e_{(1)} \ge e_{(2)} \ge \dots` are the sorted errors, and Δₖ is the Jaccard loss if
    exactly the k largest were mistakes.

    Args:
      logits: real scores ``[...]``; a positive one predicts the foreground.
      labels: 0/1 ``[...]``.
      axis: axes that form one set; ``(1, 2)`` of ``[B, H, W]`` is per image. Static.
      where: boolean; False leaves an element out.
      weights: factors ≥ 0.
      prior: pseudo-counts in the Jaccard index.

    Returns:
      Loss ≥ 0, the shape of `logits` without `axis`. It is an upper bound of the exact Jaccard loss
      or, without a positive label, the hinge of the largest error. The gradient at the kink is 0.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(dm.lovasz_hinge_loss(jnp.array([2.0, -1.0, 0.5]), jnp.array([1, 0, 1])))
      0.25

    References:
      Yu and Blaschko, The Lovász hinge, 2015, arXiv:1512.07797. Berman et al., The Lovász-Softmax
      loss, 2018, arXiv:1705.08790.
    """
    z, y, mask, w = set_doors.admit(logits, labels, where, weights, ids=False)
    axes = doors.normalize_axis(axis, z.ndim)
    set_doors.require_effect(w, z.shape, axes)
    z, y, mass = _rows(z, y, mask, w, axes)
    # relu rather than maximum: at the kink its derivative is 0, not ½.
    errors = jax.nn.relu(1.0 - slopes.margins(z, y.astype(z.dtype)))
    return _extension(errors, y, mass, *_cells(prior, z.shape[:-1], z.dtype))


@calls.compiled("axis", "activation", "class_axis")
def lovasz_softmax_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: Axis = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    activation: Activation = jax.nn.softmax,
    prior: Counts = Counts(),  # noqa: B008 - frozen
    class_axis: int = -1,
) -> jax.Array:
    r"""Lovász-Softmax loss: a surrogate of one minus mean IoU, over the classes that are present.

    Use it to fine-tune a multi-class mask that is judged by mean IoU. It is the mean over the
    classes of the sum in `lovasz_hinge_loss`, with other errors:

    .. math:: e_i = |y_i - p_i|

    Args:
      logits: real scores ``[..., C]``, one per class.
      labels: class ids ``[...]`` or one-hot ``[..., C]``.
      axis: axes that form one set; ``(1, 2)`` is per image. Default: all but that of the classes.
        Static.
      where: boolean; to leave out pixels pass ``mask[..., None]``.
      weights: factors ≥ 0.
      activation: logits to probabilities. Static.
      prior: pseudo-counts in each class's Jaccard index.
      class_axis: where the classes lie.

    Returns:
      Mean over the classes with a label, in [0, 1], the shape of `logits` without `axis` and that
      of the classes; 0 with zero gradient if no class has a label.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z = jnp.array([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
      >>> print(dm.lovasz_softmax_loss(z, jnp.array([0, 0, 1])))
      0.2440

    References:
      Berman et al., The Lovász-Softmax loss, CVPR 2018, arXiv:1705.08790.
    """
    p, y, mask, w = set_doors.activate(logits, labels, where, weights, activation, class_axis)
    axes = doors.class_axes(axis, p.shape, class_axis)
    set_doors.require_effect(w, p.shape, axes)
    rows = doors.classes_last(_rows(p, y, mask, w, axes), axes, class_axis, p.ndim)
    p, y, mass = jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), rows)
    cells = _cells(prior, (*p.shape[1:-1], p.shape[0]), p.dtype)
    cells = [jnp.moveaxis(cell, -2, 0) for cell in cells]
    loss = _of_classes(p, y, mass, *cells)
    positive, _ = _split(y, mass)
    present = jnp.any(positive > 0, -1).astype(p.dtype)
    return numbers.divide(jnp.sum(present * loss, 0), jnp.sum(present, 0))


_Mass = jax.Array | None
"""What each element counts for: boolean if it is shown or hidden, None if all count the same."""


def _rows(
    x: jax.Array, y: jax.Array, mask: jax.Array | None, w: jax.Array | None, axes: tuple[int, ...]
) -> tuple[jax.Array, jax.Array, _Mass]:
    """Sets as rows ``[..., n]``: `x`, its labels, boolean or in its type, and what they count."""
    y = doors.one_hot(y, x.shape)
    soft = jnp.issubdtype(y.dtype, jnp.floating)
    y = y.astype(x.dtype) if soft else doors.is_positive(y)
    if w is not None:
        mask = set_doors.mass_of(mask, w, x.shape, x.dtype)
    mass = None if mask is None else set_doors.sets_last(jnp.broadcast_to(mask, x.shape), axes)
    return set_doors.sets_last(x, axes), set_doors.sets_last(y, axes), mass


def _cells(prior: Counts, shape: tuple[int, ...], dtype: Any) -> list[jax.Array]:
    """Pseudo-counts of tp, fp and fn, for sets of `shape`, as ``[..., 1]``."""
    prior = Counts() + prior  # which says so, if it is something else
    cells = (jnp.asarray(cell, dtype) for cell in (prior.tp, prior.fp, prior.fn))
    return [jnp.broadcast_to(cell, shape)[..., None] for cell in cells]


def _split(y: jax.Array, mass: _Mass) -> tuple[jax.Array, jax.Array]:
    """What is positive and what is negative, in integers where nothing is weighted."""
    floating = [x.dtype for x in (y, mass) if x is not None and x.dtype != jnp.bool_]
    dtype = floating[0] if floating else jnp.int32
    return set_doors.split(jnp.ones(y.shape, dtype) if mass is None else mass.astype(dtype), y)


def _linear_between_kinks(
    both: Callable[..., tuple[jax.Array, jax.Array]],
) -> Callable[..., jax.Array]:
    """`slopes.with_slopes` of a function whose slopes do not change between two kinks.

    So `both`, which returns value and slope, needs no derivative in its first argument of its own.
    """
    along = slopes.with_rule(
        lambda x, value, slope: value,
        lambda at, moved: (along(*at), [jnp.sum(at[2] * t, -1) for t in moved if t is not None]),
        known=1,
    )

    def rule(primals: Any, moved: Any) -> tuple[jax.Array, list[jax.Array]]:
        fixed = (jax.lax.stop_gradient(primals[0]), *primals[1:])
        value, slope = both(*fixed)
        terms = [jnp.sum(slope * t, -1) for t in moved if t is not None]
        return along(primals[0], value, slope), terms

    return slopes.with_rule(lambda *arguments: both(*arguments)[0], rule, known=1)


def _extension_and_slope(
    errors: jax.Array, y: jax.Array, mass: _Mass, *pseudo: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The Lovász extension of the Jaccard loss at `errors` ≥ 0, and its derivative in each."""
    negated, origin, y, *rest = order.rising(-errors, y, *([] if mass is None else [mass]))
    prior: Sequence[jax.Array] = pseudo
    if mass is not None:
        mass, prior = _in_units(rest[0], prior)
    miss, alarm = _split(y, mass)
    place = jax.lax.broadcasted_iota(miss.dtype, miss.shape, miss.ndim - 1)
    before = place if mass is None else _before(miss + alarm)
    rise = _rise(miss, alarm, before, prior, errors.dtype)
    return numbers.capped(jnp.sum(-negated * rise, -1)), order.undone(origin, rise)


_extension = _linear_between_kinks(_extension_and_slope)


def _of_classes_and_slope(p: jax.Array, *others: Any) -> tuple[jax.Array, jax.Array]:
    """The extension for each class ``[C, ...]`` at errors ``|y - p|``, one class after another.

    So the sort and the running sums need memory for one class only. An accelerator takes some small
    ones at once: for each of a thousand it would launch 13 kernels.
    """

    def one(row: Any) -> tuple[jax.Array, jax.Array]:
        p, y, *others = row
        gap = p - y.astype(p.dtype)
        value, rise = _extension_and_slope(jnp.abs(gap), y, *others)
        return value, jnp.sign(gap) * rise

    in_turn = functools.partial(jax.lax.map, one)
    if p.size == 0:  # of which no batch can be made
        return in_turn((p, *others))
    some = min(max(_TOGETHER // p[0].size, 1), p.shape[0])
    together = functools.partial(jax.lax.map, one, batch_size=some)
    return jax.lax.platform_dependent((p, *others), cpu=in_turn, default=together)


# So many elements are 16 MiB in float32.
_TOGETHER = 2**22

_of_classes = _linear_between_kinks(_of_classes_and_slope)


def _rise(
    miss: jax.Array, alarm: jax.Array, before: jax.Array, prior: Sequence[jax.Array], dtype: Any
) -> jax.Array:
    """How much each element raises the Jaccard loss when it joins those `before`, all mistakes."""
    positives = jnp.sum(miss, -1, keepdims=True, dtype=miss.dtype)
    found = jnp.maximum(positives - _before(miss), 0)
    cells = (miss, alarm, found, found + before)
    miss, alarm, found, union = (x.astype(dtype) for x in cells)
    found, union = found + prior[0], union + sum(prior, jnp.zeros_like(prior[0]))
    # 1 - found / union grows by this much. As a difference of two losses near 1 it would lose most
    # of its digits, and among a million elements most slopes would round to zero.
    rise = numbers.divide(miss + alarm * numbers.divide(found, union), union + alarm)
    # If both sets are empty, the first mistake costs the whole loss.
    return jnp.where((union <= numbers.NOTHING) & (alarm > 0), 1.0, rise)


def _before(mass: jax.Array) -> jax.Array:
    return order.up_to(mass) - mass


def _in_units(mass: jax.Array, prior: Sequence[jax.Array]) -> tuple[jax.Array, Sequence[jax.Array]]:
    """Weights, and pseudo-counts beside them, in units of a set's largest: it may be tiny."""
    if mass.dtype == jnp.bool_:
        return mass, prior
    unit = masses.largest(mass)
    return mass / unit, [numbers.capped(cell / unit) for cell in prior]
