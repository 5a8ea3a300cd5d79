"""Every edge of a gradient and every precision decision, once, with its reason.

A function here is used by at least one family above; nothing here knows what a loss is.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike, DTypeLike

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


# --- closed-form derivatives ----------------------------------------------------------------------


def with_slope(
    value: Callable[..., jax.Array], *slopes: Callable[..., jax.Array]
) -> Callable[..., jax.Array]:
    """The elementwise `value(x, ..., *rest)`, whose derivatives in x, ... are the `slopes`.

    There is a slope for each of the first arguments, and it is called as `value` is. All get their
    arguments in the accumulator type, and none makes an array besides its result. `rest` are labels
    and hyper-parameters that broadcast to `x`; in them, and beyond the first derivative, autodiff
    of the formulas applies.
    """

    @jax.custom_jvp
    def function(*arguments: jax.Array) -> jax.Array:
        return value(*map(as_float, arguments))

    def rule(primals: Any, tangents: Any) -> tuple[jax.Array, Any]:
        moving = [i for i, t in enumerate(tangents) if not isinstance(t, SymbolicZero)]
        out = function(*primals)
        tangent = jnp.zeros_like(out)
        for i in moving:
            if i < len(slopes):
                slope = apart(lambda *a, i=i: slopes[i](*map(as_float, a)), *primals)
                tangent += slope * as_float(tangents[i])
        others = [i for i in moving if i >= len(slopes)]
        if others:

            def of(*some: jax.Array) -> jax.Array:
                filled: dict[int, Any] = dict(zip(others, some, strict=True))
                return value(*(as_float(filled.get(i, x)) for i, x in enumerate(primals)))

            at, along = (tuple(values[i] for i in others) for values in (primals, tangents))
            tangent += jax.jvp(of, at, along)[1]
        return out, tangent

    function.defjvp(rule, symbolic_zeros=True)
    return function


def apart(function: Callable[..., jax.Array], *arguments: jax.Array) -> jax.Array:
    """`function(*arguments)`, elementwise, compiled as if nothing else needed the same numbers.

    XLA's CPU backend writes to memory whatever two of its fusions share, were it a broadcast zero;
    for a hinge and its gradient that is three arrays of the size of the logits, and two and a half
    times the time. The barrier keeps the inputs apart, and the additional axis the constants.
    """
    barred = jax.lax.optimization_barrier(tuple(jnp.asarray(x)[None] for x in arguments))
    return function(*barred)[0]


# Minimax in the relative error (3e-8) of log(1 + e) / e on [0, 1], lowest power first.
_LOG1P = (
    0.99999997, -0.49999493, 0.33319096, -0.24842978, 0.19105988, -0.13663207, 0.07822549,
    -0.02950496, 0.00523262,
)  # fmt: skip


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def softpluses(x: jax.Array, in_slope: bool = False) -> tuple[jax.Array, jax.Array]:
    """log(1 + exp(x)) and log(1 + exp(-x)): minus the log-probabilities of 0 and of 1.

    Without overflow or cancellation, with the sigmoid as derivative. `jax.nn.softplus` is ten
    times slower on XLA's CPU backend. There log1p is quick in a sum, but in a loop that writes its
    result costs as much as all the rest, so slopes take a polynomial.
    """
    e = jnp.exp(-jnp.abs(x))
    if in_slope and x.dtype == jnp.float32:
        log1p = e * functools.reduce(lambda p, c: p * e + c, reversed(_LOG1P))
    else:
        log1p = jnp.log1p(e)
    return jnp.maximum(x, 0.0) + log1p, jnp.maximum(-x, 0.0) + log1p


@softpluses.defjvp
def _(in_slope: bool, primals: Any, tangents: Any) -> tuple[Any, Any]:
    (x,), (dx,) = primals, tangents
    return softpluses(x, in_slope), (jax.nn.sigmoid(x) * dx, -jax.nn.sigmoid(-x) * dx)


@jax.custom_jvp
def sigmoids(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The probabilities of 1 and of 0, each to its last digit, from one exponential.

    For slopes: in a loop that writes its result this takes two thirds of the time of two calls of
    `jax.nn.sigmoid`; in front of a reduction XLA's CPU backend would write out every step.
    """
    e = jnp.exp(-jnp.abs(x))
    larger = 1.0 / (1.0 + e)
    smaller = e * larger
    positive = x >= 0.0
    return jnp.where(positive, larger, smaller), jnp.where(positive, smaller, larger)


@sigmoids.defjvp
def _(primals: Any, tangents: Any) -> tuple[Any, Any]:
    of_one, of_zero = sigmoids(*primals)
    slope = of_one * of_zero * tangents[0]
    return (of_one, of_zero), (slope, -slope)


def capped(x: jax.Array) -> jax.Array:
    """`x`, held at the largest finite number where the true value exceeds it."""
    return jnp.minimum(x, jnp.finfo(x.dtype).max)


def held(x: jax.Array, limit: ArrayLike | None = None) -> jax.Array:
    """`x`, held within ± `limit`, which is the largest finite number where nothing else is said."""
    top = jnp.asarray(jnp.finfo(x.dtype).max if limit is None else limit, x.dtype)
    return jnp.clip(x, -top, top)


def hinge(gap: jax.Array, sharpness: jax.Array | None = None) -> jax.Array:
    """max(0, gap), whose slope at 0 is 1; with a sharpness b, log(1 + exp(b · gap)) / b."""
    if sharpness is not None:
        return _soft_hinge(gap, sharpness)
    # `where` and not `maximum`, whose slope in the kink is a half.
    return capped(jnp.where(gap >= 0.0, gap, 0.0))


def _softened(gap: jax.Array, sharpness: jax.Array) -> jax.Array:
    """The product with `sharpness` stays out of the part that grows, where it would overflow."""
    return capped(jnp.maximum(gap, 0.0) + jnp.log1p(jnp.exp(-sharpness * jnp.abs(gap))) / sharpness)


def _softened_slope(gap: jax.Array, sharpness: jax.Array) -> jax.Array:
    return jax.nn.sigmoid(sharpness * gap)


_soft_hinge = with_slope(_softened, _softened_slope)


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
