"""Precision, and gradients at the awkward points: each decided once, with its reason."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

# --- precision ------------------------------------------------------------------------------------


def accumulator(dtype: DTypeLike) -> np.dtype:
    """The float type in which values of `dtype` are summed: float32, or float64 for float64.

    A float16 sum overflows at 65,504 pixels and a bfloat16 sum of ones stops at 256, so narrow
    types are widened first. That fuses into the pass that reads the input and costs no memory.
    """
    return np.dtype(np.float64 if np.dtype(dtype) == np.float64 else np.float32)


def as_float(x: ArrayLike) -> jax.Array:
    """`x` as an array of its accumulator type; integers become the default float type.

    64-bit NumPy integers pass through float64, because `jnp.asarray` would cut them to 32 bits.
    """
    if _is_wide(x):
        x = np.asarray(x, np.float64)
    x = jnp.asarray(x)
    if jnp.issubdtype(x.dtype, jnp.floating):
        return x.astype(accumulator(x.dtype))
    return x.astype(jnp.result_type(float))


def floats(*arrays: ArrayLike) -> tuple[jax.Array, ...]:
    """The arrays in one type: the accumulator of those that are floating.

    Integers, booleans and Python numbers do not decide; alone they become the default float type.
    """
    found = [as_float(x) if _is_wide(x) else jnp.asarray(x) for x in arrays]
    deciding = [accumulator(x.dtype) for x in found if _decides(x)]
    dtype = max(deciding, key=lambda t: t.itemsize) if deciding else jnp.result_type(float)
    return tuple(x.astype(dtype) for x in found)


def _is_wide(x: ArrayLike) -> bool:
    """Whether `jnp.asarray` could cut it to 32 bits."""
    return isinstance(x, np.ndarray | np.generic) and x.dtype.kind in "iu"


def _decides(x: jax.Array) -> bool:
    return bool(jnp.issubdtype(x.dtype, jnp.floating)) and not x.weak_type


def with_rank(x: jax.Array, rank: int) -> jax.Array:
    """`x` with so many axes, the new ones first: where ranks must not be promoted."""
    return x.reshape((1,) * (rank - x.ndim) + x.shape)


# XLA's CPU backend unrolls a reduction of so few floats, and makes many of them side by side. In a
# longer one it adds element after element: 3 times slower, and less precise. Integers it reorders.
STEP, LANES, RUN = 16, 64, 1024


def sums(terms: tuple[jax.Array, ...], axis: tuple[int, ...]) -> tuple[jax.Array, ...]:
    """The sums of several arrays of one shape and type over `axis`, in one pass that makes none.

    XLA's CPU backend writes out whatever enters a lone `jnp.sum`: four sums of four products cost
    four arrays. It fuses a reduction of several operands with what makes them. Those for an H100
    and a TPU do the opposite.
    """
    if not axis:
        return terms
    return jax.lax.platform_dependent(
        terms,
        cpu=lambda terms: together(terms, axis),
        default=lambda terms: tuple(jnp.sum(t, axis, dtype=t.dtype) for t in terms),
    )


def together(terms: tuple[jax.Array, ...], axis: tuple[int, ...]) -> tuple[jax.Array, ...]:
    """`sums` in a reduction of several operands on every backend: rows are then read once."""
    if jnp.issubdtype(terms[0].dtype, jnp.integer):
        return _fused_sums(terms, axis)  # exact, and without derivatives
    return _float_sums(terms, axis)


def _fused_sums(terms: tuple[jax.Array, ...], axis: tuple[int, ...]) -> tuple[jax.Array, ...]:
    """Sum steps along the last of `axis` together, and then what is left, one after the other."""
    *rest, last = axis
    shape = terms[0].shape
    exact = jnp.issubdtype(terms[0].dtype, jnp.integer)
    many_rows = not rest and last == len(shape) - 1 and math.prod(shape[:-1]) >= LANES
    step = RUN if exact or many_rows else STEP
    if shape[last] > step:
        # Floats need an axis behind them to be added side by side.
        lanes = (
            min(LANES, -(-shape[last] // STEP)) if step == STEP and last == len(shape) - 1 else 1
        )
        terms = tuple(_in_steps(t, last, step, lanes) for t in terms)
        rest, last = [*rest, last, last + 2], last + 1
    zeros = tuple(jnp.zeros((), t.dtype) for t in terms)
    steps = jax.lax.reduce(terms, zeros, lambda a, b: tuple(map(operator.add, a, b)), (last,))
    rest = [a - (a > last) for a in rest]
    return tuple(jnp.sum(x, tuple(rest), dtype=x.dtype) for x in steps)


def _in_steps(x: jax.Array, axis: int, step: int, lanes: int) -> jax.Array:
    """`x` with `axis` split in three: steps, what each of them adds up, lanes; zeros at its end."""
    padding = [(0, -x.shape[a] % (step * lanes) if a == axis else 0) for a in range(x.ndim)]
    return jnp.pad(x, padding).reshape(*x.shape[:axis], -1, step, lanes, *x.shape[axis + 1 :])


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _float_sums(terms: tuple[jax.Array, ...], axis: tuple[int, ...]) -> tuple[jax.Array, ...]:
    return _fused_sums(terms, axis)


@_float_sums.defjvp
def _(axis: tuple[int, ...], primals: Any, tangents: Any) -> tuple[Any, Any]:
    # A reduction of several operands has no derivative in JAX; here it sums tangents.
    (terms,), (moved,) = primals, tangents
    return _float_sums(terms, axis), tuple(jnp.sum(t, axis) for t in moved)


# --- edges of gradients ---------------------------------------------------------------------------

# Less than this counts as 0. It is far below any count or rate of data (one in 1e10 is 1e-10), and
# its inverse square is still finite in float32, so second derivatives are finite, too.
NOTHING = 1e-18


def divide(numerator: ArrayLike, denominator: ArrayLike) -> jax.Array:
    """`numerator / denominator`, where x / 0 is 0 with zero gradient.

    Without the inner `where` the branch that is not taken divides by zero, too, and its NaN
    derivative times the outer zero is NaN.
    """
    numerator, denominator = floats(numerator, denominator)
    empty = jnp.abs(denominator) <= NOTHING
    return jnp.where(empty, 0.0, numerator / jnp.where(empty, 1.0, denominator))


def quotient(numerator: jax.Array, denominator: jax.Array, empty: ArrayLike) -> jax.Array:
    """`divide`, with `empty` where the denominator is not above 0, however small it is."""
    some = denominator > 0
    return jnp.where(some, numerator / jnp.where(some, denominator, 1), empty)


def sqrt(x: ArrayLike) -> jax.Array:
    """Square root of x ≥ 0, with slope 0 at 0: an infinite one would spoil a batch's gradient."""
    x = as_float(x)
    empty = x <= NOTHING
    return jnp.where(empty, 0.0, jnp.sqrt(jnp.where(empty, 1.0, x)))


def root_mean_square(x: jax.Array, mean: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """Over the last axis, by a `mean` over it, in units of the largest: squares may overflow."""
    unit = jnp.maximum(jnp.max(jnp.abs(x), -1, keepdims=True), jnp.finfo(x.dtype).tiny)
    unit = jax.lax.stop_gradient(unit)
    return unit[..., 0] * sqrt(mean((x / unit) ** 2))


def power(x: ArrayLike, exponent: ArrayLike) -> jax.Array:
    """`x ** exponent` for x ≥ 0 and a real, traced exponent; 0 with zero gradient at x = 0.

    `exp(exponent * log(x))` runs some ten times faster than a float power on XLA's CPU backend, and
    its derivative has no 0 · log(0).
    """
    x, exponent = floats(x, exponent)
    empty = x <= NOTHING
    return jnp.where(empty, 0.0, jnp.exp(exponent * jnp.log(jnp.where(empty, 1.0, x))))


def log(x: jax.Array) -> jax.Array:
    """The logarithm of x ≥ 0, or of NOTHING if x is less.

    So exp(0 · log(0)) is 1, and a class without examples has a finite log-frequency.
    """
    return jnp.log(jnp.maximum(x, NOTHING))


def largest(*arrays: jax.Array) -> jax.Array:
    """The largest number that is finite in the type of every floating one of `arrays`.

    A larger slope would become infinite on its way back into that type.
    """
    types = [x.dtype for x in arrays if _decides(x)] or [jnp.result_type(float)]
    top = min(float(jnp.finfo(t).max) for t in types)
    return jnp.asarray(top, max(map(accumulator, types), key=lambda t: t.itemsize))


def capped(x: jax.Array) -> jax.Array:
    """`x`, or the largest finite number if the true value exceeds it."""
    return jnp.minimum(x, jnp.finfo(x.dtype).max)


def held(x: jax.Array, limit: ArrayLike | None = None) -> jax.Array:
    """`x` clipped to ± `limit`, by default the largest finite number."""
    top = jnp.asarray(jnp.finfo(x.dtype).max if limit is None else limit, x.dtype)
    return jnp.clip(x, -top, top)


def _with_slope_one(f: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
    function = jax.custom_jvp(f)
    function.defjvp(lambda primals, tangents: (function(*primals), tangents[0]))
    return function


@_with_slope_one
def finite(x: jax.Array) -> jax.Array:
    """`x` with infinities as the largest numbers, and slope 1 everywhere.

    Written with maxima alone: a clamp XLA's CPU backend would write to memory before a sum.
    """
    top = float(jnp.finfo(x.dtype).max)
    return jnp.maximum(-jnp.maximum(-x, -top), -top)


@_with_slope_one
def below_inf(x: jax.Array) -> jax.Array:
    """`capped`, with slope 1 everywhere: for logits, of which -inf does no harm."""
    return capped(x)
