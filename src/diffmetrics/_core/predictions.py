"""Checks for the losses of predicted distributions, and the density that they share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import doors, numbers, slopes

Function = Callable[..., jax.Array]
HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


class Prediction(NamedTuple):
    """The arguments of a loss, in the types they came in."""

    mean: jax.Array
    scale: jax.Array
    target: jax.Array
    limit: jax.Array
    """The largest slope that fits the narrowest type among them."""


def prediction(mean: ArrayLike, scale: ArrayLike, target: ArrayLike) -> Prediction:
    """Checked predictions and targets."""
    m, y = located("mean", mean, target)
    s = jnp.asarray(scale)
    doors.require_float("scale", s, "It is a positive number in the units of the target.")
    doors.require_broadcast("scale", s, m.shape, "mean")
    return Prediction(m, s, y, numbers.largest(m, s, y))


def errors(mean: ArrayLike, scale: ArrayLike, target: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Checked errors, and the errors in units of `scale`, finite, with the shape of `mean`."""
    m, s, y = numbers.floats(*prediction(mean, scale, target)[:3])
    error = y - m
    return error, numbers.held(standardized(error, jnp.broadcast_to(s, m.shape)))


def members(
    means: ArrayLike, scales: ArrayLike, target: ArrayLike
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Checked `means` and `scales` ``[K, ...]`` and `target` ``[...]``, and the limit of slopes."""
    m, s, y = jnp.asarray(means), jnp.asarray(scales), jnp.asarray(target)
    require_members("means", m)
    doors.require_float("scales", s, "They are positive numbers in the units of the target.")
    doors.require_broadcast("scales", s, m.shape, "means")
    doors.require_shape("target", y, m.shape[1:], "means[0]")
    top = numbers.largest(m, s, y)
    m, s, y = numbers.floats(m, s, y)
    return m, jnp.broadcast_to(s, m.shape), y, top


def require_members(name: str, x: jax.Array) -> None:
    """Raise unless `x` is floating and has a leading axis of one or more members."""
    doors.require_float(name, x, "It is what the network predicts.")
    if x.ndim == 0 or x.shape[0] == 0:
        raise ValueError(f"{name} must have a leading axis of members, got shape {x.shape}.")


def shares(weights: ArrayLike | None, members: jax.Array) -> jax.Array:
    """The weight of each member, ``[K, 1, ...]`` or ``[K, ...]``; they add up to 1. Raises."""
    shape = members.shape
    if weights is None:
        return jnp.full((shape[0], *[1] * (len(shape) - 1)), 1.0 / shape[0], members.dtype)
    w = jnp.asarray(weights).astype(members.dtype)
    if w.shape == shape[:1]:
        w = w.reshape(-1, *[1] * (len(shape) - 1))
    if w.shape != shape and w.shape != (shape[0], *[1] * (len(shape) - 1)):
        raise ValueError(
            f"weights must have one number a member, {shape[:1]}, or the shape of the members, "
            f"{shape}: weights are {w.shape}."
        )
    return numbers.divide(w, jnp.sum(w, 0, keepdims=True))


def located(name: str, location: ArrayLike, target: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """A predicted location called `name`, and its target, of one shape, as they came. Raises."""
    x, y = jnp.asarray(location), jnp.asarray(target)
    doors.require_float(name, x, "It is what the network predicts.")
    doors.require_shape("target", y, x.shape, name)
    return x, y


def positive(scale: jax.Array) -> jax.Array:
    """`scale`, or the least positive number that XLA does not take for 0 if it is less."""
    return jnp.maximum(scale, jnp.finfo(scale.dtype).tiny)


def standardized(error: jax.Array, scale: jax.Array) -> jax.Array:
    """The error in units of `scale`; infinite if it exceeds the largest number.

    It is not clipped here, because XLA's CPU backend writes out what is clamped and used twice.
    """
    return error / positive(scale)


def from_error(value: Function, in_error: Function, in_scale: Function) -> Function:
    """The loss ``f(mean, scale, target, *rest)`` of ``value(error, scale, *rest)`` and its slopes.

    Each of them computes the error: computed once outside, it would be an array of its own.
    """

    def of(function: Function, sign: float = 1.0) -> Function:
        return lambda m, s, y, *rest: sign * function(y - m, s, *rest)

    return slopes.with_slope(of(value), of(in_error, -1.0), of(in_scale), of(in_error))


def gaussian_value(error: jax.Array, scale: jax.Array, _limit: jax.Array) -> jax.Array:
    """Minus the log-density of a normal distribution."""
    z = standardized(error, scale)
    return numbers.capped(0.5 * z * z + jnp.log(positive(scale)) + HALF_LOG_2PI)


def _gaussian_in_error(error: jax.Array, scale: jax.Array, limit: jax.Array) -> jax.Array:
    # Held in between: else XLA divides by σ², which is 0 long before σ is.
    return numbers.held(numbers.held(standardized(error, scale)) / positive(scale), limit)


def gaussian_in_scale(error: jax.Array, scale: jax.Array, limit: jax.Array) -> jax.Array:
    """(1 - z²) / σ, without a square that overflows and without cancellation at z = 1."""
    z = standardized(error, scale)
    return numbers.held((1.0 - z) * ((1.0 + z) / positive(scale)), limit)


gaussian = from_error(gaussian_value, _gaussian_in_error, gaussian_in_scale)
"""Minus the log-density of a normal distribution: of mean, scale, target and limit."""
