"""Doors: the checks of arguments, and the form in which functions get them.

Shapes and types are checked at trace time, values never. An error names the argument, what came and
what was expected. docs/arguments.md says what the arguments mean.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, Unpack

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffmetrics._core import numbers
from diffmetrics._core.calls import (  # noqa: F401
    Axis,
    ClassOptions,
    SetOptions,
    compiled,
    explained,
)

Activation = Callable[[jax.Array], jax.Array]

# --- types and shapes -----------------------------------------------------------------------------


def require_float(name: str, x: jax.Array, hint: str) -> None:
    """Raise `TypeError` unless `x` is floating; `hint` says what to pass instead."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{name} must be floating, got {x.dtype} of shape {x.shape}. {hint}")


def require_shape(name: str, x: jax.Array, shape: tuple[int, ...], of: str) -> None:
    """Raise `ValueError` unless `x` has exactly `shape`, which is the shape of `of`."""
    try:
        chex.assert_shape(x, shape)
    except AssertionError:
        raise ValueError(
            f"{name} must have the shape of {of}: {name} is {x.shape}, {of} is {shape}. "
            "Nothing is broadcast here, because (B,) against (B, 1) would silently become (B, B)."
        ) from None


def require_broadcast(name: str, x: jax.Array, shape: tuple[int, ...], of: str) -> None:
    """Raise `ValueError` unless `x` broadcasts to `shape`, which is the shape of `of`."""
    try:
        fits = np.broadcast_shapes(x.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        per_example = x.shape == shape[:-1]
        hint = f" Did you mean {name}[..., None]?" if per_example else ""
        raise ValueError(
            f"{name} must broadcast to {of}: {name} is {x.shape}, {of} is {shape}.{hint}"
        )


def require_classes(name: str, x: jax.Array, class_axis: int = -1) -> int:
    """The axis of two or more classes, counted from the end; raises if there is none."""
    if x.ndim == 0 or (class_axis == -1 and x.shape[-1] < 2):
        raise ValueError(f"{name} must have a last axis of two or more classes, got {x.shape}.")
    axis = axis_of_classes(class_axis, x.shape, name)
    if x.shape[axis] < 2:
        raise ValueError(
            f"{name} must have two or more classes on class_axis={class_axis}, got {x.shape}."
        )
    return axis - x.ndim


def parameter(
    name: str,
    value: ArrayLike,
    like: jax.Array,
    of: str = "logits",
    shape: tuple[int, ...] | None = None,
) -> jax.Array:
    """A hyper-parameter in the float type of `like`, that broadcasts to `shape` or that of `like`.

    A number stays one; others have the rank of what they broadcast to. Raises.
    """
    x, shape = jnp.asarray(value), like.shape if shape is None else shape
    require_broadcast(name, x, shape, of)
    x = x.astype(numbers.accumulator(like.dtype))
    return _of_rank(x, shape)


def _of_rank(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """`x`, which broadcasts to `shape`, with as many axes; a number stays one."""
    return x.reshape((1,) * (len(shape) - x.ndim) + x.shape) if x.ndim else x


def optional(
    name: str,
    value: ArrayLike | None,
    like: jax.Array,
    of: str = "logits",
    shape: tuple[int, ...] | None = None,
) -> jax.Array | None:
    """A hyper-parameter that may be absent. Raises as `parameter` does."""
    return None if value is None else parameter(name, value, like, of, shape)


def identities(ids: ArrayLike, shape: tuple[int, ...], of: str) -> jax.Array:
    """Integers of `shape`, which is the shape of `of`; only which are equal counts. Raises."""
    ids = jnp.asarray(ids)
    require_shape("identities", ids, shape, of)
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise TypeError(f"identities must be integers, got {ids.dtype}.")
    return ids


# --- axes -----------------------------------------------------------------------------------------


def normalize_axis(axis: Axis, ndim: int) -> tuple[int, ...]:
    """`axis` as a sorted tuple of non-negative axes; None means all. Raises."""
    if axis is None:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, tuple) else (axis,)
    normalized = tuple(sorted(_axis("axis", a, ndim) for a in axes))
    if len(set(normalized)) != len(normalized):
        raise ValueError(f"axis names a dimension twice: {axis} of {ndim} dimensions.")
    return normalized


def _axis(name: str, axis: Any, ndim: int) -> int:
    """One axis as a non-negative number. Raises."""
    try:
        place = operator.index(axis)
    except TypeError:
        raise TypeError(f"{name} must be an integer, or a tuple of them, got {axis!r}.") from None
    if not -ndim <= place < ndim:
        raise ValueError(f"{name} must lie in [-{ndim}, {ndim}) for {ndim} dimensions, got {axis}.")
    return place % ndim


def axis_of_classes(class_axis: int, shape: tuple[int, ...], of: str = "logits") -> int:
    """The axis of `shape`, the shape of `of`, that holds the classes. Raises."""
    if not shape:
        raise ValueError(f"{of} must have an axis of classes, got shape ().")
    return _axis("class_axis", class_axis, len(shape))


def class_axes(axis: Axis, shape: tuple[int, ...], class_axis: int = -1) -> tuple[int, ...]:
    """`axis` of logits, which may not name that of the classes; None: all others. Raises."""
    classes = axis_of_classes(class_axis, shape)
    others = tuple(a for a in range(len(shape)) if a != classes)
    axes = others if axis is None else normalize_axis(axis, len(shape))
    if classes in axes:
        raise ValueError(
            f"axis must not name the axis that holds the classes, {class_axis}: got axis={axis} "
            f"for logits of shape {shape}."
        )
    return axes


def classes_last(kept: Any, axes: tuple[int, ...], class_axis: int, ndim: int) -> Any:
    """Arrays of what `axes` of `ndim` leave, with the classes moved to the last axis."""
    classes = class_axis % ndim
    place = classes - sum(a < classes for a in axes)
    return jax.tree.map(lambda x: jnp.moveaxis(x, place, -1), kept)


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


# --- masks and weights ----------------------------------------------------------------------------


def select(where: ArrayLike | None, shape: tuple[int, ...], of: str) -> jax.Array | None:
    """`where` as a checked boolean array that broadcasts to `shape`, or None. Raises."""
    return None if where is None else _of_rank(_checked_mask(where, shape, of), shape)


def selected(where: ArrayLike, shape: tuple[int, ...], of: str) -> jax.Array:
    """`where` as a checked boolean array of `shape`. Raises."""
    return jnp.broadcast_to(_checked_mask(where, shape, of), shape)


def _checked_mask(where: ArrayLike, shape: tuple[int, ...], of: str) -> jax.Array:
    where = jnp.asarray(where)
    if where.dtype != jnp.bool_:
        raise TypeError(
            f"where must be boolean, got {where.dtype}: it selects elements. "
            "For factors use weights=; for a 0/1 mask pass mask.astype(bool)."
        )
    require_broadcast("where", where, shape, of)
    return where


def check_weights(
    weights: ArrayLike | None, shape: tuple[int, ...], of: str = "predictions"
) -> jax.Array | None:
    """Weights as an array that broadcasts to `shape`, or None. Raises."""
    if weights is None:
        return None
    weights = jnp.asarray(weights)
    if weights.dtype == jnp.bool_:
        raise TypeError("weights must be numbers that multiply, got bool. To select use where=.")
    require_broadcast("weights", weights, shape, of)
    return _of_rank(weights, shape)


def require_effect(w: jax.Array | None, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    """Raise `ValueError` if weights are constant over all that a ratio counts together, `axes`."""
    if w is None or w.size < 2:
        return
    full = (1,) * (len(shape) - w.ndim) + w.shape
    if all(full[a] == 1 for a in axes) and any(shape[a] > 1 for a in axes):
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


# --- labels ---------------------------------------------------------------------------------------


def is_positive(y: jax.Array) -> jax.Array:
    """Which labels are positive: floating ones above ½, integers above 0.

    So masks of 0/255 and labels -1/+1 mean what their owners mean.
    """
    if y.dtype == jnp.bool_:
        return y
    return y > (0.5 if jnp.issubdtype(y.dtype, jnp.floating) else 0)


def shares(y: jax.Array, dtype: Any) -> jax.Array:
    """Labels as probabilities: floating ones as they are, others 1 if positive.

    Integers are clipped, because XLA's CPU backend writes out three arrays if they are compared.
    """
    return (jnp.clip(y, 0, 1) if jnp.issubdtype(y.dtype, jnp.integer) else y).astype(dtype)


def split(mass: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The mass of the positives and the mass of the negatives.

    Floating labels are shares. Others select, so class ids never become C numbers each.
    """
    if jnp.issubdtype(y.dtype, jnp.floating):
        share = y.astype(mass.dtype)
        return mass * share, mass * (1 - share)
    positive, nothing = is_positive(y), jnp.zeros_like(mass)
    return jnp.where(positive, mass, nothing), jnp.where(positive, nothing, mass)


def match_labels(
    labels: jax.Array, shape: tuple[int, ...], of: str, *, ids: bool = True, class_axis: int = -1
) -> jax.Array:
    """Labels in the full `shape` of `of`; with `ids`, class ids become a comparison that fuses.

    At least two classes are required, so that labels (B,) against (B, 1) stay an error.
    """
    if ids and shape and jnp.issubdtype(labels.dtype, jnp.integer):
        place = axis_of_classes(class_axis, shape, of)
        if labels.shape == without(shape, place) and shape[place] > 1:
            wide = jnp.expand_dims(as_ids(labels), place)
            return wide == jax.lax.broadcasted_iota(wide.dtype, shape, place)
    require_shape("labels", labels, shape, of)
    return labels


def as_ids(y: jax.Array) -> jax.Array:
    """Integers of at least 32 bits, because those of 8 bits may not count to the classes."""
    return y if y.dtype.itemsize >= 4 else y.astype(jnp.int32)


# --- the doors of the losses of elements ----------------------------------------------------------

LOGITS = "Losses take raw scores, not decisions."


def binary(logits: ArrayLike, labels: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Checked logits and labels of one shape, in the types they came in."""
    z, y = jnp.asarray(logits), jnp.asarray(labels)
    require_float("logits", z, LOGITS)
    require_shape("labels", y, z.shape, "logits")
    return z, y


def classes(
    logits: ArrayLike, labels: ArrayLike, **options: Unpack[ClassOptions]
) -> tuple[jax.Array, jax.Array, int]:
    """Checked logits, labels as integer ids or floats, and the axis of the classes from the end."""
    z, y = jnp.asarray(logits), jnp.asarray(labels)
    require_float("logits", z, LOGITS)
    axis = require_classes("logits", z, options.get("class_axis", -1))
    if y.shape == without(z.shape, axis):
        if not jnp.issubdtype(y.dtype, jnp.integer):
            raise TypeError(
                f"labels of shape {y.shape} are class ids and must be integers, got {y.dtype}."
            )
        return z, as_ids(y), axis
    require_shape("labels", y, z.shape, "logits")
    floating = jnp.issubdtype(y.dtype, jnp.floating)
    return z, shares(y, numbers.accumulator(y.dtype if floating else z.dtype)), axis


def example(z: jax.Array, axis: int) -> jax.Array:
    """One number for each example, to tell the shape and type of those that belong to it."""
    return jax.lax.index_in_dim(z, 0, axis, keepdims=False)


def of_each_class(name: str, value: ArrayLike, z: jax.Array, axis: int) -> jax.Array:
    """A number, or one for each class ``[C]``, in the float type of logits. Raises."""
    return parameter(name, value, z, "the classes", (z.shape[axis],))


def without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """`shape` without one of its axes."""
    return tuple(n for a, n in enumerate(shape) if a != axis % len(shape))


# --- the doors of sets ----------------------------------------------------------------------------


def rows(axis: Axis, **arrays: ArrayLike) -> list[jax.Array]:
    """Arrays of one shape as float rows ``[..., n]``, the elements of `axis` last. Raises."""
    (first, _), *_ = arrays.items()
    x, *others = numbers.floats(*arrays.values())
    for name, other in zip(list(arrays)[1:], others, strict=True):
        require_shape(name, other, x.shape, first)
    axes = normalize_axis(axis, x.ndim)
    flat = [sets_last(x, axes) for x in (x, *others)]
    if flat[0].shape[-1] == 0:
        raise ValueError(f"{first} must not be empty, got shape {x.shape} and axis={axis}.")
    return flat


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
    require_shape("labels", y, s.shape, "scores")
    mask, w = select(where, s.shape, "scores"), check_weights(weights, s.shape, "scores")
    hard = w is None and not jnp.issubdtype(y.dtype, jnp.floating)
    counted = numbers.floats(*(x for x in (y, w) if x is not None))
    mass = mass_of(mask, w, s.shape, jnp.int32 if hard else counted[0].dtype)
    s = numbers.as_float(scores)
    s = jnp.where(jnp.isnan(s), jnp.where(is_positive(y), -jnp.inf, jnp.inf), s)
    if mask is not None:
        s, y = jnp.where(mask, s, -jnp.inf), jnp.where(mask, y, jnp.zeros_like(y))
    return labelled_rows(s, y, mass, normalize_axis(axis, s.ndim))


def admit(
    logits: ArrayLike,
    labels: ArrayLike,
    where: ArrayLike | None,
    weights: ArrayLike | None,
    *,
    ids: bool,
    class_axis: int = -1,
) -> tuple[jax.Array, jax.Array, jax.Array | None, jax.Array | None]:
    """Checked logits, labels, mask and weights: the door of every set loss.

    An infinite logit counts as the largest number, which can be subtracted.
    """
    z, y = jnp.asarray(logits), jnp.asarray(labels)
    require_float("logits", z, "Losses take raw scores; probabilities need activation=.")
    y = match_labels(y, z.shape, "logits", ids=ids, class_axis=class_axis)
    mask = select(where, z.shape, "logits")
    z = numbers.finite(z.astype(numbers.accumulator(z.dtype)))
    if mask is not None:
        # Only NaN is replaced in logits: a masked class still takes part in the softmax.
        z, y = jnp.where(mask | ~jnp.isnan(z), z, 0.0), jnp.where(mask, y, jnp.zeros_like(y))
    return z, y, mask, check_weights(weights, z.shape, "logits")


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
    z, y, mask, w = admit(logits, labels, where, weights, ids=ids, class_axis=class_axis)
    p = activation(z) if not ids else _activated(activation, z, class_axis)
    if p.shape != z.shape:
        raise ValueError(f"activation must keep the shape of logits {z.shape}, it made {p.shape}.")
    return p, y, mask, w


def _activated(activation: Activation, z: jax.Array, class_axis: int) -> jax.Array:
    """`activation` over the axis of the classes, mapped over what lies behind it."""
    behind = z.shape[axis_of_classes(class_axis, z.shape) + 1 :]
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
    axes = normalize_axis(axis, z.ndim)
    require_effect(w, z.shape, axes)
    z = z if mask is None else jnp.where(mask, z, 0.0)
    mass = mass_of(mask, w, z.shape, z.dtype)
    return labelled_rows(z, is_positive(y), mass, axes)
