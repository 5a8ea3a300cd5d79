"""Every edge of a gradient and every precision decision, once, with its reason."""

from __future__ import annotations

import functools
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

# --- precision ------------------------------------------------------------------------------------


def accumulator(dtype: DTypeLike) -> np.dtype:
    """The float type in which values of `dtype` are summed: float32, or float64 if it came so.

    A float16 sum overflows at 65,504 pixels and a bfloat16 sum of ones stops at 256, so the narrow
    types are widened before the first addition. The widening fuses into the pass that reads the
    input and costs no memory.
    """
    return np.dtype(jnp.promote_types(dtype, jnp.float32))


def as_float(x: ArrayLike) -> jax.Array:
    """`x` as an array of its accumulator type; integers become the default float type.

    64-bit NumPy integers pass through float64, because `jnp.asarray` would cut them to 32 bits.
    """
    if isinstance(x, np.ndarray | np.generic) and x.dtype.kind in "iu":
        x = x.astype(np.float64)
    x = jnp.asarray(x)
    if jnp.issubdtype(x.dtype, jnp.floating):
        return x.astype(accumulator(x.dtype))
    return x.astype(jnp.result_type(float))


# A float32 sum may add so many numbers one after the other before its error shows.
RUN = 1024


def sums(terms: tuple[jax.Array, ...], axis: tuple[int, ...]) -> tuple[jax.Array, ...]:
    """The sums of several arrays of one shape and type over `axis`, in one pass that makes none.

    XLA's CPU backend writes out whatever enters a lone `jnp.sum`, so four sums of four products
    cost four arrays; a reduction of several operands it fuses with what makes them.
    """
    if not axis:
        return terms
    if jnp.issubdtype(terms[0].dtype, jnp.integer):
        return _fused_sums(terms, axis)  # exact, and without derivatives
    return _float_sums(terms, axis)


def _fused_sums(terms: tuple[jax.Array, ...], axis: tuple[int, ...]) -> tuple[jax.Array, ...]:
    """Runs along the last of `axis` go first: a fused reduction adds one element after another."""
    *rest, last = axis
    length = terms[0].shape[last]
    if length > RUN:
        terms = tuple(_in_runs(t, last) for t in terms)
        rest, last = [*rest, last], last + 1
    zeros = tuple(jnp.zeros((), t.dtype) for t in terms)
    runs = jax.lax.reduce(terms, zeros, lambda a, b: tuple(map(operator.add, a, b)), (last,))
    return tuple(jnp.sum(r, tuple(rest), dtype=r.dtype) for r in runs)


def _in_runs(x: jax.Array, axis: int) -> jax.Array:
    """`x` with `axis` split in two, the second of length RUN, filled up with zeros."""
    padding = [(0, -x.shape[axis] % RUN if a == axis else 0) for a in range(x.ndim)]
    return jnp.pad(x, padding).reshape(*x.shape[:axis], -1, RUN, *x.shape[axis + 1 :])


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _float_sums(terms: tuple[jax.Array, ...], axis: tuple[int, ...]) -> tuple[jax.Array, ...]:
    return _fused_sums(terms, axis)


@_float_sums.defjvp
def _(axis: tuple[int, ...], primals: Any, tangents: Any) -> tuple[Any, Any]:
    # A reduction of several operands has no derivative in JAX; the sum of a sum is a sum.
    (terms,), (moved,) = primals, tangents
    return _float_sums(terms, axis), tuple(jnp.sum(t, axis) for t in moved)


# --- edges of gradients ---------------------------------------------------------------------------

# Less than this much of an example is no example. It is far below any count or rate that data can
# give (one in 1e10 is 1e-10) and far enough above zero that its inverse square is still finite in
# float32, so second derivatives are finite too.
NOTHING = 1e-18


def divide(numerator: ArrayLike, denominator: ArrayLike) -> jax.Array:
    """`numerator / denominator`, where x / 0 is 0 with zero gradient.

    The inner `where` is the point: without it the branch that is not taken still divides by
    zero, and its NaN derivative times the outer zero is NaN.
    """
    numerator, denominator = as_float(numerator), as_float(denominator)
    empty = jnp.abs(denominator) <= NOTHING
    return jnp.where(empty, 0.0, numerator / jnp.where(empty, 1.0, denominator))


def sqrt(x: ArrayLike) -> jax.Array:
    """Square root of x ≥ 0, whose infinite derivative at 0 is taken as 0.

    One infinite entry would destroy a whole batch's gradient.
    """
    x = as_float(x)
    empty = x <= NOTHING
    return jnp.where(empty, 0.0, jnp.sqrt(jnp.where(empty, 1.0, x)))


def root_mean_square(x: jax.Array) -> jax.Array:
    """Over the last axis, in units of the largest, whose square may be beyond all numbers."""
    unit = jnp.maximum(jnp.max(jnp.abs(x), -1), jnp.finfo(x.dtype).tiny)
    unit = jax.lax.stop_gradient(unit)
    return unit * sqrt(jnp.mean((x / unit[..., None]) ** 2, -1))


def power(x: ArrayLike, exponent: ArrayLike) -> jax.Array:
    """`x ** exponent` for x ≥ 0 and a real, traced exponent; 0 with zero gradient at x = 0.

    Written as `exp(exponent * log(x))`, which XLA's CPU backend runs some ten times faster than a
    float power, and which has no 0 · log(0) in its derivative.
    """
    x = as_float(x)
    empty = x <= NOTHING
    return jnp.where(empty, 0.0, jnp.exp(exponent * jnp.log(jnp.where(empty, 1.0, x))))


def log(x: jax.Array) -> jax.Array:
    """The logarithm of x ≥ 0, and of NOTHING where there is less.

    So exp(exponent · log(x)) is a power that is 1 for exponent 0 even at 0, and a class that was
    never seen has a prior that can be added to a logit.
    """
    return jnp.log(jnp.maximum(x, NOTHING))


def largest(*arrays: jax.Array) -> jax.Array:
    """The largest number that is finite in the type of every floating one of `arrays`.

    A slope beyond it would become infinite on its way back into that type.
    """
    types = [x.dtype for x in arrays if jnp.issubdtype(x.dtype, jnp.floating)]
    top = min(float(jnp.finfo(t).max) for t in types)
    return jnp.asarray(top, accumulator(jnp.result_type(*types)))


def capped(x: jax.Array) -> jax.Array:
    """`x`, held at the largest finite number where the true value exceeds it."""
    return jnp.minimum(x, jnp.finfo(x.dtype).max)


def held(x: jax.Array, limit: ArrayLike | None = None) -> jax.Array:
    """`x`, held within ± `limit`, which is the largest finite number where nothing else is said."""
    top = jnp.asarray(jnp.finfo(x.dtype).max if limit is None else limit, x.dtype)
    return jnp.clip(x, -top, top)
