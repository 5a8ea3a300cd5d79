"""Doors: the checks of arguments, and the form in which functions get them.

Shapes and types are checked at trace time, values never. An error names the argument, what came and
what was expected. docs/arguments.md says what the arguments mean.
"""

from __future__ import annotations

import operator
from typing import Any, Unpack

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffmetrics._core import numbers
from diffmetrics._core.calls import Axis, ClassOptions

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
    return numbers.with_rank(x, len(shape)) if x.ndim else x


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
        place = None
    if place is None or isinstance(axis, bool):
        several = " or a tuple of them" if name == "axis" else ""
        raise TypeError(f"{name} must be an integer{several}, got {axis!r}.")
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


def wide_shares(y: jax.Array, z: jax.Array) -> jax.Array:
    """`shares` in the accumulator of floating labels, else in that of the logits `z`."""
    deciding = y if jnp.issubdtype(y.dtype, jnp.floating) else z
    return shares(y, numbers.accumulator(deciding.dtype))


def match_labels(
    labels: jax.Array, shape: tuple[int, ...], of: str, *, ids: bool = True, class_axis: int = -1
) -> jax.Array:
    """Labels in the full `shape` of `of`; with `ids`, class ids have one entry on their axis.

    At least two classes are required, so that labels (B,) against (B, 1) stay an error.
    """
    if ids and shape and jnp.issubdtype(labels.dtype, jnp.integer):
        place = axis_of_classes(class_axis, shape, of)
        if labels.shape == without(shape, place) and shape[place] > 1:
            return jnp.expand_dims(as_ids(labels), place)
    require_shape("labels", labels, shape, of)
    return labels


def are_ids(y: jax.Array, shape: tuple[int, ...]) -> bool:
    """Whether labels that `match_labels` returned are class ids."""
    return y.shape != shape


def classes_of(ids: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The class of each entry of `shape`, to compare with `ids`."""
    (place,) = (a for a in range(ids.ndim) if ids.shape[a] != shape[a])
    return jax.lax.broadcasted_iota(ids.dtype, shape, place)


def one_hot(y: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Labels of `match_labels` in the full `shape`: ids as a comparison, which fuses."""
    return y == classes_of(y, shape) if are_ids(y, shape) else y


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
    if y.ndim == z.ndim - 1 and jnp.issubdtype(y.dtype, jnp.integer):
        others = [a for a in range(z.ndim) if without(z.shape, a) == y.shape]
        hint = f" Did you mean class_axis={others[0]}?" if others else ""
        raise ValueError(
            f"labels are class ids of shape {y.shape}, and logits of shape {z.shape} have examples "
            f"of shape {without(z.shape, axis)}.{hint}"
        )
    require_shape("labels", y, z.shape, "logits")
    return z, wide_shares(y, z), axis


def example(z: jax.Array, axis: int) -> jax.Array:
    """One number for each example, to tell the shape and type of those that belong to it."""
    return jax.lax.index_in_dim(z, 0, axis, keepdims=False)


def of_each_class(name: str, value: ArrayLike, z: jax.Array, axis: int) -> jax.Array:
    """A number, or one for each class ``[C]``, in the float type of logits. Raises."""
    return parameter(name, value, z, "the classes", (z.shape[axis],))


def one_for_each_class(name: str, value: ArrayLike, z: jax.Array, axis: int) -> jax.Array:
    """A hyper-parameter ``[C]`` as floats. Raises `ValueError` for any other shape."""
    x = jnp.asarray(value)
    require_shape(name, x, (z.shape[axis],), "the classes")
    return x.astype(numbers.accumulator(z.dtype))


def without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """`shape` without one of its axes."""
    return tuple(n for a, n in enumerate(shape) if a != axis % len(shape))
