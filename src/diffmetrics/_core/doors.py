"""Doors: the checks of arguments, and the form in which functions get them.

Shapes and types are checked at trace time, values never. An error names the argument, what came and
what was expected. docs/arguments.md says what the arguments mean.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Annotated, Any, ParamSpec, TypedDict, TypeVar, get_args, get_type_hints

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

# --- keywords -------------------------------------------------------------------------------------


class SetOptions(TypedDict, total=False):
    """The keywords of functions that reduce a set; each type is followed by the default."""

    axis: Annotated[Axis, None]
    where: Annotated[ArrayLike | None, None]
    weights: Annotated[ArrayLike | None, None]


def compiled(*static: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """`jax.jit` with the named arguments static, and the signature kept and spelled out.

    The type of `jax.jit` would hide every public keyword from editors and pyright.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        jitted: Any = jax.jit(spelled_out(function), static_argnames=static)
        return jitted

    return decorate


def spelled_out(function: Callable[P, R]) -> Callable[P, R]:
    """Show ``**options: Unpack[Options]`` keyword by keyword, in `help` and in editors."""
    own = inspect.signature(function)
    shown: list[inspect.Parameter] = []
    for p in own.parameters.values():
        if str(p.annotation).startswith("Unpack["):
            (options,) = get_args(get_type_hints(function, include_extras=True)[p.name])
            shown += _keywords(options)
        else:
            shown.append(p)
    documented: Any = function
    documented.__signature__ = own.replace(parameters=shown)
    return function


def _keywords(options: Any) -> list[inspect.Parameter]:
    """Keyword parameters of a `TypedDict`: the types as written, and the defaults."""
    found = []
    for name, hint in get_type_hints(options, include_extras=True).items():
        written = options.__annotations__[name].__forward_arg__
        kind = written.removeprefix("Annotated[").rpartition(",")[0]
        default = get_args(hint)[1]
        keyword = inspect.Parameter.KEYWORD_ONLY
        found.append(inspect.Parameter(name, keyword, default=default, annotation=kind))
    return found


# --- types and shapes -----------------------------------------------------------------------------


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


def require_classes(name: str, x: jax.Array) -> None:
    """Raise `ValueError` unless `x` has a last axis of two or more classes."""
    if x.ndim == 0 or x.shape[-1] < 2:
        raise ValueError(f"{name} must have a last axis of two or more classes, got {x.shape}.")


def parameter(name: str, value: ArrayLike, shape: tuple[int, ...], of: str = "logits") -> jax.Array:
    """A hyper-parameter as a float array that broadcasts to the `shape` of `of`. Raises."""
    x = numbers.as_float(value)
    require_broadcast(name, x, shape, of)
    return x


def optional(
    name: str, value: ArrayLike | None, shape: tuple[int, ...], of: str = "logits"
) -> jax.Array | None:
    """A hyper-parameter that may be absent. Raises as `parameter` does."""
    return None if value is None else parameter(name, value, shape, of)


def identities(ids: ArrayLike, shape: tuple[int, ...], of: str) -> jax.Array:
    """Integers of `shape`, which is the shape of `of`; only which are equal counts. Raises."""
    ids = jnp.asarray(ids)
    require_shape("identities", ids, shape, of)
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise ValueError(f"identities must be integers, got {ids.dtype}.")
    return ids


# --- axes -----------------------------------------------------------------------------------------


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


def class_axes(axis: Axis, shape: tuple[int, ...]) -> tuple[int, ...]:
    """`axis` of logits whose last axis holds classes and may not be named; None: all others."""
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


def mass_of(
    mask: jax.Array | None, w: jax.Array | None, shape: tuple[int, ...], dtype: Any
) -> jax.Array:
    """What each element of `shape` counts for: its checked weight, or 0 if the mask hides it."""
    w = jnp.ones((), dtype) if w is None else w.astype(dtype)
    return jnp.broadcast_to(w if mask is None else jnp.where(mask, w, 0), shape)


# --- labels ---------------------------------------------------------------------------------------


def is_positive(y: jax.Array) -> jax.Array:
    """Which labels are positive: floating ones above ½, others if not 0."""
    if y.dtype == jnp.bool_:
        return y
    return y > 0.5 if jnp.issubdtype(y.dtype, jnp.floating) else y != 0


def split(mass: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The mass of the positives and the mass of the negatives.

    Floating labels are shares. Others select, so class ids never become C numbers each.
    """
    if jnp.issubdtype(y.dtype, jnp.floating):
        share = y.astype(mass.dtype)
        return mass * share, mass * (1 - share)
    positive = is_positive(y)
    return jnp.where(positive, mass, 0), jnp.where(positive, 0, mass)


def match_labels(
    labels: jax.Array, shape: tuple[int, ...], of: str, *, ids: bool = True
) -> jax.Array:
    """Labels in the full `shape` of `of`; with `ids`, class ids become a comparison that fuses.

    At least two classes are required, so that labels (B,) against (B, 1) stay an error.
    """
    integer = jnp.issubdtype(labels.dtype, jnp.integer)
    if ids and integer and labels.shape == shape[:-1] and len(shape) > 0 and shape[-1] > 1:
        return labels[..., None] == jnp.arange(shape[-1])
    require_shape("labels", labels, shape, of)
    return labels


# --- the doors of the losses of elements ----------------------------------------------------------

LOGITS = "Losses take raw scores, not decisions."


def binary(logits: ArrayLike, labels: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Checked logits and labels of one shape, in the types they came in."""
    z, y = jnp.asarray(logits), jnp.asarray(labels)
    require_float("logits", z, LOGITS)
    require_shape("labels", y, z.shape, "logits")
    return z, y


def classes(logits: ArrayLike, labels: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Checked logits ``[..., C]``, and labels as integer ids ``[...]`` or float ``[..., C]``."""
    z, y = jnp.asarray(logits), jnp.asarray(labels)
    require_float("logits", z, LOGITS)
    require_classes("logits", z)
    if y.shape == z.shape[:-1] and jnp.issubdtype(y.dtype, jnp.integer):
        return z, y.astype(jnp.promote_types(y.dtype, jnp.int32))  # 8 bits may not count to C
    if y.shape == z.shape[:-1]:
        raise ValueError(f"labels of shape {y.shape} are class ids and must be integers: {y.dtype}")
    require_shape("labels", y, z.shape, "logits")
    return z, numbers.as_float(y)


# --- the doors of sets ----------------------------------------------------------------------------


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

    Masses are integers unless labels are floating or weighted. NaN and what is left out are least.
    """
    s, y = jnp.asarray(scores), jnp.asarray(labels)
    if jnp.issubdtype(s.dtype, jnp.complexfloating):
        raise TypeError(f"scores must be real, got {s.dtype} of shape {s.shape}.")
    require_shape("labels", y, s.shape, "scores")
    mask, w = select(where, s.shape, "scores"), check_weights(weights, s.shape, "scores")
    hard = w is None and not jnp.issubdtype(y.dtype, jnp.floating)
    counted = [numbers.as_float(x) for x in (y, w) if x is not None]
    mass = mass_of(mask, w, s.shape, jnp.int32 if hard else jnp.result_type(*counted))
    s = numbers.as_float(scores)
    s = jnp.where(jnp.isnan(s) if mask is None else jnp.isnan(s) | ~mask, -jnp.inf, s)
    y = y if mask is None else jnp.where(mask, y, jnp.zeros_like(y))
    return labelled_rows(s, y, mass, normalize_axis(axis, s.ndim))


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


def activate(
    logits: ArrayLike,
    labels: ArrayLike,
    where: ArrayLike | None,
    weights: ArrayLike | None,
    activation: Activation,
) -> tuple[jax.Array, jax.Array, jax.Array | None, jax.Array | None]:
    """What `admit` returns, with probabilities instead of logits."""
    # Class ids mean something only where the classes compete, which a sigmoid's do not.
    ids = activation is not jax.nn.sigmoid
    z, y, mask, w = admit(logits, labels, where, weights, ids=ids)
    p = activation(z)
    if p.shape != z.shape:
        raise ValueError(f"activation must keep the shape of logits {z.shape}, it made {p.shape}.")
    return p, y, mask, w


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
    z = z if mask is None else jnp.where(mask, z, 0.0)
    mass = mass_of(mask, w, z.shape, z.dtype)
    return labelled_rows(z, is_positive(y), mass, normalize_axis(axis, z.ndim))
