"""Sets: arrays as rows with the masses of their elements, and the doors of what reduces them.

docs/arguments.md says what the arguments mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import doors, numbers
from diffmetrics._core.calls import Axis
from diffmetrics._core.softmax import softmax

Activation = Callable[[jax.Array], jax.Array]


def sets_last(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """`x` with the axes of a set flattened into a new last axis."""
    kept = [a for a in range(x.ndim) if a not in axes]
    rest = tuple(x.shape[a] for a in kept)
    return jnp.transpose(x, (*kept, *axes)).reshape(*rest, math.prod(x.shape[a] for a in axes))


def sets_back(x: jax.Array, shape: tuple[int, ...], axes: tuple[int, ...]) -> jax.Array:
    """The inverse of `sets_last` for an array of `shape`."""
    order = [*(a for a in range(len(shape)) if a not in axes), *axes]
    back = [order.index(a) for a in range(len(shape))]
    return jnp.transpose(x.reshape([shape[a] for a in order]), back)


def require_effect(w: jax.Array | None, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    """Raise `ValueError` if weights are constant over all that a ratio counts together, `axes`."""
    if w is None or w.size < 2:
        return
    if all(w.shape[a] == 1 for a in axes) and any(shape[a] > 1 for a in axes):
        raise ValueError(
            f"weights are constant over what is counted together, axes {axes} "
            f"of {shape}, so they cancel and cannot matter. To weight the sets, such as classes, "
            "weight their losses: (w * loss).sum() / w.sum()."
        )


def mass_of(
    mask: jax.Array | None, w: jax.Array | None, shape: tuple[int, ...], dtype: Any
) -> jax.Array:
    """What each element of `shape` counts for: its checked weight, or 0 if the mask hides it."""
    w = jnp.broadcast_to(jnp.ones((), dtype) if w is None else w.astype(dtype), shape)
    return w if mask is None else jnp.where(jnp.broadcast_to(mask, shape), w, jnp.zeros_like(w))


def split(mass: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The mass of the positives and the mass of the negatives.

    Floating labels are shares. Others select, so class ids never become C numbers each.
    """
    if jnp.issubdtype(y.dtype, jnp.floating):
        share = y.astype(mass.dtype)
        return mass * share, mass * (1 - share)
    nothing = jnp.zeros_like(mass)
    if doors.are_ids(y, mass.shape):
        classes = doors.classes_of(y, mass.shape)
        return jnp.where(y == classes, mass, nothing), jnp.where(y != classes, mass, nothing)
    positive = doors.is_positive(y)
    return jnp.where(positive, mass, nothing), jnp.where(positive, nothing, mass)


def split_again(mass: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`split`, which a derivative writes in another way.

    XLA's GPU backend writes a comparison with class ids to memory if two of its kernels need it.
    """
    if not doors.are_ids(y, mass.shape):
        return split(mass, y)
    negative, nothing = jnp.abs(y - doors.classes_of(y, mass.shape)) > 0, jnp.zeros_like(mass)
    return jnp.where(negative, nothing, mass), jnp.where(negative, mass, nothing)


def labelled_rows(
    x: jax.Array, y: jax.Array, mass: jax.Array, axes: tuple[int, ...]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Sets as rows ``[..., n]``: `x`, the mass of its positives, the mass of its negatives."""
    positive, negative = split(mass, y)
    return sets_last(x, axes), sets_last(positive, axes), sets_last(negative, axes)


def scored(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    axis: Axis = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Rows of scores, and of the masses of positives and negatives: the door of curves.

    Masses are integers unless labels are floating or weighted. What is left out is least. NaN is
    wrong: the least score of a positive, and the greatest of a negative.
    """
    s, y = jnp.asarray(scores), jnp.asarray(labels)
    if jnp.issubdtype(s.dtype, jnp.complexfloating):
        raise TypeError(f"scores must be real, got {s.dtype} of shape {s.shape}.")
    doors.require_shape("labels", y, s.shape, "scores")
    mask = doors.select(where, s.shape, "scores")
    w = doors.check_weights(weights, s.shape, "scores")
    hard = w is None and not jnp.issubdtype(y.dtype, jnp.floating)
    counted = numbers.floats(*(x for x in (y, w) if x is not None))
    mass = mass_of(mask, w, s.shape, jnp.int32 if hard else counted[0].dtype)
    s = numbers.as_float(scores)
    s = jnp.where(jnp.isnan(s), jnp.where(doors.is_positive(y), -jnp.inf, jnp.inf), s)
    if mask is not None:
        s, y = jnp.where(mask, s, -jnp.inf), jnp.where(mask, y, jnp.zeros_like(y))
    return labelled_rows(s, y, mass, doors.normalize_axis(axis, s.ndim))


def admit(
    logits: ArrayLike,
    labels: ArrayLike,
    where: ArrayLike | None,
    weights: ArrayLike | None,
    *,
    ids: bool,
    class_axis: int = -1,
    held: bool = True,
) -> tuple[jax.Array, jax.Array, jax.Array | None, jax.Array | None]:
    """Checked logits, labels, mask and weights: the door of every set loss.

    If they are `held`, an infinite logit counts as the largest number, which can be subtracted.
    """
    z, y = jnp.asarray(logits), jnp.asarray(labels)
    doors.require_float("logits", z, "Losses take raw scores; probabilities need activation=.")
    y = doors.match_labels(y, z.shape, "logits", ids=ids, class_axis=class_axis)
    mask = doors.select(where, z.shape, "logits")
    z = z.astype(numbers.accumulator(z.dtype))
    z = numbers.finite(z) if held else z
    if mask is not None:
        # Only NaN is replaced in logits: a masked class still takes part in the softmax.
        z = jnp.where(mask | ~jnp.isnan(z), z, 0.0)
        y = y if doors.are_ids(y, z.shape) else jnp.where(mask, y, jnp.zeros_like(y))
    return z, y, mask, doors.check_weights(weights, z.shape, "logits")


def activate(
    logits: ArrayLike,
    labels: ArrayLike,
    where: ArrayLike | None,
    weights: ArrayLike | None,
    activation: Activation,
    class_axis: int = -1,
) -> tuple[jax.Array, jax.Array, jax.Array | None, jax.Array | None]:
    """What `admit` returns, with probabilities instead of logits."""
    if not callable(activation):
        raise TypeError(
            f"activation must be a function, got {activation!r}. For probabilities define "
            "`identity = lambda p: p` once and pass activation=identity."
        )
    # Class ids mean something only where the classes compete, which a sigmoid's do not.
    ids = activation is not jax.nn.sigmoid
    # The softmax holds its logits itself; held twice, an H100 would write them to memory.
    held = activation is not jax.nn.softmax
    z, y, mask, w = admit(logits, labels, where, weights, ids=ids, class_axis=class_axis, held=held)
    p = _activated(activation, z, class_axis)
    if p.shape != z.shape:
        raise ValueError(f"activation must keep the shape of logits {z.shape}, it made {p.shape}.")
    return p, y, mask, w


def _activated(activation: Activation, z: jax.Array, class_axis: int) -> jax.Array:
    """`activation` over the axis of the classes, mapped over what lies behind it."""
    if activation is jax.nn.sigmoid:
        return activation(z)
    place = doors.axis_of_classes(class_axis, z.shape)
    if activation is jax.nn.softmax:
        return softmax(z, place - z.ndim)
    behind = z.shape[place + 1 :]
    if not behind:
        return activation(z)
    flat = z.reshape(*z.shape[: z.ndim - len(behind)], math.prod(behind))
    return jax.vmap(activation, in_axes=-1, out_axes=-1)(flat).reshape(z.shape)


def two_classes(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: Axis = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Rows of what `admit` returns, and of the masses of positives and negatives.

    Each element has one class here: floating labels are positive above ½.
    """
    z, y, mask, w = admit(logits, labels, where, weights, ids=False)
    axes = doors.normalize_axis(axis, z.ndim)
    require_effect(w, z.shape, axes)
    z = z if mask is None else jnp.where(mask, z, 0.0)
    mass = mass_of(mask, w, z.shape, z.dtype)
    return labelled_rows(z, doors.is_positive(y), mass, axes)
