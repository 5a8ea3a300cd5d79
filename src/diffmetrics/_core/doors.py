"""Who is let in, and in which shape: every admission of an argument.

Shapes and types are checked at trace time, values never. An error names the argument, what came and
what was expected.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffmetrics._core import numbers

Axis = int | tuple[int, ...] | None
Activation = Callable[[jax.Array], jax.Array]

P = ParamSpec("P")
R = TypeVar("R")


def compiled(*static: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """`jax.jit` with the named arguments static, and the wrapped signature kept for readers.

    `jax.jit` is typed as returning an opaque callable, which would hide every keyword of the
    public API from editors and from pyright.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        jitted: Any = jax.jit(function, static_argnames=static)
        return jitted

    return decorate


# --- shapes, at trace time ------------------------------------------------------------------------


def require_float(name: str, x: jax.Array, hint: str) -> None:
    """Raise `TypeError` unless `x` is floating; `hint` says what to pass instead."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{name} must be floating, got {x.dtype} of shape {x.shape}. {hint}")


def require_shape(name: str, x: jax.Array, shape: tuple[int, ...], of: str) -> None:
    """Raise `ValueError` unless `x` has exactly `shape`, which is the shape of `of`."""
    chex.assert_shape(
        x,
        shape,
        custom_message=(
            f"{name} must have the shape of {of}: {name} is {x.shape}, {of} is {shape}. "
            "Nothing is broadcast here, because (B,) against (B, 1) would silently become (B, B)."
        ),
        include_default_message=False,
        exception_type=ValueError,
    )


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


def normalize_axis(axis: Axis, ndim: int) -> tuple[int, ...]:
    """`axis` as a sorted tuple of non-negative axes; None means all. Raises `ValueError`."""
    if axis is None:
        return tuple(range(ndim))
    axes = (axis,) if isinstance(axis, int) else axis
    for a in axes:
        if not isinstance(a, int) or not -ndim <= a < ndim:
            raise ValueError(
                f"axis must lie in [-{ndim}, {ndim}) for {ndim} dimensions, got {axis}."
            )
    normalized = tuple(sorted(a % ndim for a in axes))
    if len(set(normalized)) != len(normalized):
        raise ValueError(f"axis names a dimension twice: {axis} of {ndim} dimensions.")
    return normalized


def sets_last(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """`x` with the elements of a set, which lie along `axes`, flattened into a new last axis."""
    kept = [a for a in range(x.ndim) if a not in axes]
    rest = tuple(x.shape[a] for a in kept)
    return jnp.transpose(x, (*kept, *axes)).reshape(*rest, math.prod(x.shape[a] for a in axes))


def class_axes(axis: Axis, shape: tuple[int, ...]) -> tuple[int, ...]:
    """`axis` of logits whose last axis holds classes, which it may not name; None: all others."""
    if not shape:
        raise ValueError("logits must have a last axis of classes, got shape ().")
    last = len(shape) - 1
    axes = normalize_axis(tuple(range(last)) if axis is None else axis, len(shape))
    if last in axes:
        raise ValueError(
            f"axis must not name the last axis, which holds the classes: got axis={axis} for "
            f"logits of shape {shape}."
        )
    return axes


def select(where: ArrayLike | None, shape: tuple[int, ...], of: str) -> jax.Array | None:
    """`where` as a checked boolean array that broadcasts to `shape`, or None. Raises."""
    if where is None:
        return None
    where = jnp.asarray(where)
    if where.dtype != jnp.bool_:
        raise TypeError(
            f"where must be boolean, got {where.dtype}: it selects elements. "
            "For factors use weights=; for a 0/1 mask pass mask.astype(bool)."
        )
    require_broadcast("where", where, shape, of)
    return where


def binary(logits: ArrayLike, labels: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Checked logits and labels of one shape, in the types they came in."""
    z, y = jnp.asarray(logits), jnp.asarray(labels)
    require_float("logits", z, "Losses take raw scores, not decisions.")
    require_shape("labels", y, z.shape, "logits")
    return z, y


def classes(logits: ArrayLike, labels: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Checked logits ``[..., C]``, and labels as integer ids ``[...]`` or float ``[..., C]``."""
    z, y = jnp.asarray(logits), jnp.asarray(labels)
    require_float("logits", z, "Losses take raw scores, not decisions.")
    if z.ndim == 0 or z.shape[-1] < 2:
        raise ValueError(f"logits must have a last axis of two or more classes, got {z.shape}.")
    if y.shape == z.shape[:-1] and jnp.issubdtype(y.dtype, jnp.integer):
        return z, y.astype(jnp.promote_types(y.dtype, jnp.int32))  # 8 bits may not count to C
    if y.shape == z.shape[:-1]:
        raise ValueError(f"labels of shape {y.shape} are class ids and must be integers: {y.dtype}")
    require_shape("labels", y, z.shape, "logits")
    return z, numbers.as_float(y)


def parameter(name: str, value: ArrayLike, shape: tuple[int, ...], of: str = "logits") -> jax.Array:
    """A hyper-parameter as a float array that broadcasts to the `shape` of `of`. Raises."""
    x = numbers.as_float(value)
    require_broadcast(name, x, shape, of)
    return x


def rows(axis: Axis, **arrays: ArrayLike) -> list[jax.Array]:
    """Arrays of one shape as float rows ``[..., n]``, the elements of `axis` last. Raises."""
    found = {name: numbers.as_float(x) for name, x in arrays.items()}
    (first, x), *rest = found.items()
    for name, other in rest:
        require_shape(name, other, x.shape, first)
    axes = normalize_axis(axis, x.ndim)
    flat = [sets_last(x, axes) for x in found.values()]
    if flat[0].shape[-1] == 0:
        raise ValueError(f"{first} must not be empty, got shape {x.shape} and axis={axis}.")
    return flat


def match_labels(
    labels: jax.Array, shape: tuple[int, ...], of: str, *, ids: bool = True
) -> jax.Array:
    """Labels in the full `shape` of `of`; with `ids`, class ids become a comparison that fuses.

    At least two classes are asked for, so that labels (B,) against (B, 1) stay an error.
    """
    integer = jnp.issubdtype(labels.dtype, jnp.integer)
    if ids and integer and labels.shape == shape[:-1] and len(shape) > 0 and shape[-1] > 1:
        return labels[..., None] == jnp.arange(shape[-1])
    require_shape("labels", labels, shape, of)
    return labels


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
    return weights


def admit(
    logits: ArrayLike,
    labels: ArrayLike,
    where: ArrayLike | None,
    weights: ArrayLike | None,
    *,
    ids: bool,
) -> tuple[jax.Array, jax.Array, jax.Array | None, jax.Array | None]:
    """Checked logits, labels, mask and weights: the door of every set loss."""
    z, y = jnp.asarray(logits), jnp.asarray(labels)
    require_float("logits", z, "Losses take raw scores; probabilities need activation=.")
    y = match_labels(y, z.shape, "logits", ids=ids)
    mask = select(where, z.shape, "logits")
    z = z.astype(numbers.accumulator(z.dtype))
    if mask is not None:
        # Only what is not finite is replaced: a masked class still takes part in the softmax.
        z = jnp.where(mask | jnp.isfinite(z), z, 0.0)
    return z, y, mask, check_weights(weights, z.shape, "logits")


def two_classes(
    logits: ArrayLike,
    labels: ArrayLike,
    axis: Axis,
    where: ArrayLike | None,
    weights: ArrayLike | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What `admit` lets in, sets on the last axis: logits, mass of positives, mass of negatives.

    An element is of one class here: floating labels are positive above ½.
    """
    z, y, mask, w = admit(logits, labels, where, weights, ids=False)
    axes = normalize_axis(axis, z.ndim)
    w = jnp.ones((), z.dtype) if w is None else numbers.as_float(w).astype(z.dtype)
    kept = jnp.broadcast_to(w if mask is None else jnp.where(mask, w, 0.0), z.shape)
    positive = y > 0.5 if jnp.issubdtype(y.dtype, jnp.floating) else y != 0
    if mask is not None:
        z = jnp.where(mask, z, 0.0)
    masses = (jnp.where(positive, kept, 0.0), jnp.where(positive, 0.0, kept))
    z, one, other = (sets_last(x, axes) for x in (z, *masses))
    return z, one, other


def activate(
    logits: ArrayLike,
    labels: ArrayLike,
    where: ArrayLike | None,
    weights: ArrayLike | None,
    activation: Activation,
) -> tuple[jax.Array, jax.Array, jax.Array | None, jax.Array | None]:
    """What `admit` lets in, with probabilities for logits."""
    # Class ids mean something only where the classes compete, which a sigmoid's do not.
    ids = activation is not jax.nn.sigmoid
    z, y, mask, w = admit(logits, labels, where, weights, ids=ids)
    p = activation(z)
    if p.shape != z.shape:
        raise ValueError(f"activation must keep the shape of logits {z.shape}, it made {p.shape}.")
    return p, y, mask, w
