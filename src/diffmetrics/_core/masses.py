"""Sets of examples: rows of what is known of each, what it counts for, and means over them.

A row ``[..., n]`` is a set; its mass ``[..., n]`` is the weight of each example, 0 if it is hidden.
What is hidden is replaced at once, so that it reaches neither a value nor a gradient.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import calls, doors, numbers, order, set_doors
from diffmetrics._core.calls import Axis
from diffmetrics._core.class_labels import is_class
from diffmetrics._core.predictions import prediction, standardized

# --- rows -----------------------------------------------------------------------------------------


def rows(
    arrays: dict[str, ArrayLike],
    *,
    axis: Axis = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    hidden: float = 0.0,
) -> tuple[jax.Array, ...]:
    """Arrays of one shape as rows of one float type, `hidden` where they are, and their mass."""
    (first, *names), (x, *others) = arrays, numbers.floats(*arrays.values())
    for name, other in zip(names, others, strict=True):
        doors.require_shape(name, other, x.shape, first)
    mask, mass = of(where, weights, x, first)
    axes = doors.normalize_axis(axis, x.ndim)
    shown = (t if mask is None else jnp.where(mask, t, hidden) for t in (x, *others))
    found = tuple(set_doors.sets_last(t, axes) for t in (*shown, mass))
    if found[0].shape[-1] == 0:
        raise ValueError(f"{first} must not be empty, got shape {x.shape} and axis={axis}.")
    return found


def of(
    where: ArrayLike | None, weights: ArrayLike | None, x: jax.Array, of: str
) -> tuple[jax.Array | None, jax.Array]:
    """Checked `where` in the shape of `x`, which is called `of`, and the mass of its elements."""
    mask, w = doors.select(where, x.shape, of), doors.check_weights(weights, x.shape, of)
    mask = None if mask is None else jnp.broadcast_to(mask, x.shape)
    w = None if w is None else jnp.broadcast_to(w, x.shape)
    return mask, set_doors.mass_of(mask, w, x.shape, x.dtype)


def predicted(
    mean: ArrayLike,
    scale: ArrayLike,
    target: ArrayLike,
    *,
    axis: Axis = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Rows of errors and deviations, the deviation 1 where hidden, and their mass."""
    m, s, y, _ = prediction(mean, scale, target)
    s = jnp.broadcast_to(s, m.shape)
    given: dict[str, ArrayLike] = {"mean": m, "scale": s, "target": y}
    m, s, y, mass = rows(given, axis=axis, where=where, weights=weights, hidden=1.0)
    return y - m, s, mass


def are_plain(options: calls.SetOptions) -> bool:
    """Whether all masses are 1, so that they need not be carried along in a sort."""
    return options.get("where") is None and options.get("weights") is None


def in_order(x: jax.Array, mass: jax.Array, plain: bool) -> tuple[jax.Array, jax.Array]:
    """Rows in rising order, what counts for nothing last, and their mass."""
    if plain:
        return jnp.sort(x, -1), mass
    x, mass = jax.lax.sort((jnp.where(mass == 0, jnp.inf, x), mass), num_keys=1)
    return x, mass


def averaged(
    keys: jax.Array, values: jax.Array, mass: jax.Array, plain: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`values` in rising order of `keys`, averaged over ties; the sorted keys; and the mass."""
    if plain:
        values, keys = order.sort_alike(keys, values)
        return values, keys, mass
    return order.sort_by(jnp.where(mass == 0, jnp.inf, keys), values, mass)


def in_deviations(error: jax.Array, scale: jax.Array) -> jax.Array:
    """Errors in units of their deviations, finite."""
    return numbers.held(standardized(error, scale))


# --- means ----------------------------------------------------------------------------------------


def largest(mass: jax.Array) -> jax.Array:
    """The largest mass of each row, or 1 if all are 0: a constant, because it cancels."""
    top = jax.lax.stop_gradient(jnp.max(mass, -1, keepdims=True, initial=0))
    return jnp.where(top > 0, top, jnp.ones_like(top))


def relative(mass: jax.Array) -> jax.Array:
    """Masses relative to the largest of their row, which are not small however small all are."""
    return mass / largest(mass)


def shares(mass: jax.Array) -> jax.Array:
    """What part of its row each mass is; 0 in a row without any."""
    mass = relative(mass)
    return numbers.divide(mass, jnp.sum(mass, -1, keepdims=True))


def mean(x: jax.Array, mass: jax.Array, empty: float = 0.0) -> jax.Array:
    """The mean of rows by mass; `empty` without any."""
    found = jnp.sum(x * shares(mass), -1)
    return found if empty == 0.0 else jnp.where(jnp.any(mass != 0, -1), found, empty)


def root_mean_square(x: jax.Array, mass: jax.Array) -> jax.Array:
    """Over rows, by mass."""
    return numbers.root_mean_square(x, lambda squares: mean(squares, mass))


def over_bins(mass: jax.Array, bins: int, of: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """`of` the mass of a row that lies in each of `bins` of equal mass, on a new first axis.

    An example on an edge lies in both bins, in part. So a mass of two is two examples.
    """
    before, after = order.running(mass)
    total = after[..., -1:]

    def one(number: jax.Array) -> jax.Array:
        low, high = number * total / bins, (number + 1) * total / bins
        part = jnp.minimum(after, high) - jnp.maximum(before, low)
        # The difference of two large running totals is not a small mass, to the last digit.
        whole = (low <= before) & (after <= high)
        return of(jnp.where(whole, mass, jnp.maximum(part, 0)))

    return jax.lax.map(jax.checkpoint(one), jnp.arange(bins, dtype=mass.dtype))


def spoilt(*given: jax.Array) -> jax.Array:
    """NaN for a row that holds a NaN, else 0: an order or a comparison would hide it."""
    bad = jnp.any(jnp.stack([jnp.isnan(x).any(-1) for x in given]), 0)
    return jnp.where(bad, jnp.nan, jnp.zeros_like(given[0], shape=bad.shape))


# --- classes --------------------------------------------------------------------------------------


def example_axes(axis: Axis, place: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """`axis` of an array of `shape` with classes at `place`, as axes of its examples. Raises."""
    return tuple(a - (a > place) for a in doors.class_axes(axis, shape, place))


def class_ids(
    labels: ArrayLike, shape: tuple[int, ...], place: int, of: str, or_else: str = ""
) -> jax.Array:
    """Class ids for predictions of `shape` with classes at `place`, in 32 bits or more. Raises."""
    y = jnp.asarray(labels)
    expected = doors.without(shape, place)
    if y.shape != expected:
        raise ValueError(
            f"labels must be integer class ids of shape {expected} for {of} {shape}{or_else}, got "
            f"{y.dtype} of shape {y.shape}."
        )
    if not jnp.issubdtype(y.dtype, jnp.integer):
        raise TypeError(f"labels must be integer class ids, got {y.dtype} of shape {y.shape}.")
    return doors.as_ids(y)


def known(ids: jax.Array, classes: int, where: ArrayLike | None) -> jax.Array:
    """Which ids name a class and are not hidden."""
    found = is_class(ids, classes)
    mask = doors.select(where, ids.shape, "labels")
    return found if mask is None else found & jnp.broadcast_to(mask, ids.shape)
