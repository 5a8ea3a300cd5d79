"""Closed-form derivatives, and whatever suits one backend only, each with its reason.

XLA's CPU backend writes to memory what two of its fusions share (`apart`), and what a `where` or a
clamp puts in front of a reduction: there, formulas choose by a maximum or by arithmetic, as in
`at_most`. Some reductions it fuses to its harm (`alone`, `finished`). What keeps it from doing so
would harm an accelerator, so `jax.lax.platform_dependent` decides.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

from diffmetrics._core import doors, numbers

# --- closed-form derivatives ----------------------------------------------------------------------


Rule = Callable[[Any, Any], tuple[Any, list[Any]]]


def with_rule(value: Callable[..., Any], rule: Rule, known: int) -> Callable[..., Any]:
    """`value`, one array or several, with derivatives in its first `known` arguments by `rule`.

    `rule(arguments, moved)` gets their tangents, None for a constant, and returns the value and the
    terms of its tangent. In all other arguments autodiff of `value` applies.
    """

    @jax.custom_jvp
    def function(*arguments: jax.Array) -> Any:
        return value(*arguments)

    def jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
        moved = [None if isinstance(t, SymbolicZero) else t for t in tangents]
        out, terms = rule(primals, moved[:known])
        others = [i for i, t in enumerate(moved) if i >= known and t is not None]
        if others:
            terms.append(_derivative_in(value, others, primals, moved))
        return out, jax.tree.map(lambda x, *terms: sum(terms, jnp.zeros_like(x)), out, *terms)

    function.defjvp(jvp, symbolic_zeros=True)
    return function


def _derivative_in(
    value: Callable[..., Any], places: list[int], primals: Any, tangents: Any
) -> Any:
    """The tangent from the arguments in `places` alone, by autodiff."""

    def of(*some: jax.Array) -> Any:
        filled: dict[int, Any] = dict(zip(places, some, strict=True))
        return value(*(filled.get(i, x) for i, x in enumerate(primals)))

    at, along = (tuple(values[i] for i in places) for values in (primals, tangents))
    return jax.jvp(of, at, along)[1]


def with_slope(
    value: Callable[..., jax.Array], *slopes: Callable[..., jax.Array]
) -> Callable[..., jax.Array]:
    """The elementwise `value(x, ..., *rest)`, whose derivatives in x, ... are the `slopes`.

    There is a slope for each of the first arguments, called as `value` is. All get arguments in one
    accumulator type, and none makes an array besides its result. `rest` are labels and parameters
    that broadcast to `x`; in them, and beyond the first derivative, autodiff applies.
    """

    def floats(given: Any) -> tuple[jax.Array, ...]:
        return numbers.floats(*given)

    return _with_slope(value, slopes, floats, floats)


def of_logit(
    value: Callable[..., jax.Array], slope: Callable[..., jax.Array], *, bounded: bool = False
) -> Callable[..., jax.Array]:
    """`with_slope` for a loss ``value(z, y, *rest)`` of a logit and its label.

    They get the label as a probability, and a finite logit; a slope that is `bounded` gets the
    logit as it is. XLA's CPU backend splits what has more operations than it moves bytes (12 for
    each float32 logit) between threads, which costs a batch of 4,096 more than it saves.
    """

    def wide(given: Any) -> tuple[jax.Array, ...]:
        z, y, *rest = given
        return numbers.floats(z, doors.wide_shares(y, z), *rest)

    def held(given: Any) -> tuple[jax.Array, ...]:
        z, *rest = wide(given)
        return numbers.finite(z), *rest

    return _with_slope(value, (slope,), held, wide if bounded else held)


def of_margin(
    value: Callable[..., jax.Array],
    slope: Callable[..., jax.Array],
    *,
    weighted: bool = False,
    bounded: bool = False,
) -> Callable[..., jax.Array]:
    """`of_logit` for a ``value(m, *rest)`` of how far the logit is on the right side.

    A label in between has the expected loss; one that decides needs only one of the two terms. If
    it is `weighted`, the last two arguments are the weights of the labels 0 and 1.
    """

    def terms(y: jax.Array, rest: Any) -> tuple[jax.Array, jax.Array, Any]:
        if not weighted:
            return 1.0 - y, y, rest
        return (1.0 - y) * rest[-2], y * rest[-1], rest[:-2]

    def hard_value(z: jax.Array, y: jax.Array, *rest: jax.Array) -> jax.Array:
        zero, one, rest = terms(y, rest)
        found = value(margins(z, y), *rest)
        return (zero + one) * found if weighted else found

    def hard_slope(z: jax.Array, y: jax.Array, *rest: jax.Array) -> jax.Array:
        zero, one, rest = terms(y, rest)
        return (one - zero) * slope(margins(z, y), *rest)

    def soft_value(z: jax.Array, y: jax.Array, *rest: jax.Array) -> jax.Array:
        zero, one, rest = terms(y, rest)
        return one * value(z, *rest) + zero * value(-z, *rest)

    def soft_slope(z: jax.Array, y: jax.Array, *rest: jax.Array) -> jax.Array:
        zero, one, rest = terms(y, rest)
        return one * slope(z, *rest) - zero * slope(-z, *rest)

    hard = of_logit(hard_value, hard_slope, bounded=bounded)
    soft = of_logit(soft_value, soft_slope, bounded=bounded)

    def loss(z: jax.Array, y: jax.Array, *rest: Any) -> jax.Array:
        return (soft if jnp.issubdtype(y.dtype, jnp.floating) else hard)(z, y, *rest)

    return loss


def _with_slope(
    value: Callable[..., jax.Array],
    slopes: tuple[Callable[..., jax.Array], ...],
    for_value: Callable[[Any], tuple[jax.Array, ...]],
    for_slope: Callable[[Any], tuple[jax.Array, ...]],
) -> Callable[..., jax.Array]:
    def prepared(slope: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        return lambda *arguments: slope(*for_slope(arguments))

    def rule(primals: Any, moved: Any) -> tuple[jax.Array, list[jax.Array]]:
        out, level = function(*primals), _level(*primals)
        found = ((f, t) for f, t in zip(slopes, moved, strict=True) if t is not None)
        return out, [_times(apart(prepared(f), *level), t) for f, t in found]

    def of_level(*arguments: jax.Array) -> jax.Array:
        return value(*for_value(_level(*arguments)))

    function = with_rule(of_level, rule, len(slopes))
    return function


def _times(slope: jax.Array, step: jax.Array) -> jax.Array:
    return slope * numbers.with_rank(step, slope.ndim).astype(slope.dtype)


def _level(*arrays: ArrayLike) -> list[jax.Array]:
    """The arrays with as many axes as the deepest of them has."""
    found = [jnp.asarray(x) for x in arrays]
    rank = max(x.ndim for x in found)
    return [numbers.with_rank(x, rank) for x in found]


def with_slopes(both: Callable[..., tuple[jax.Array, jax.Array]]) -> Callable[..., jax.Array]:
    """A function of rows: `both` returns its value and its derivative in the first argument.

    In every other argument, and beyond the first derivative, autodiff applies.
    """

    def rule(primals: Any, moved: Any) -> tuple[jax.Array, list[jax.Array]]:
        value, slope = both(*primals)
        return value, [jnp.sum(slope * t, -1) for t in moved if t is not None]

    return with_rule(lambda *arguments: both(*arguments)[0], rule, 1)


def apart(function: Callable[..., jax.Array], *arguments: jax.Array) -> jax.Array:
    """`function(*arguments)`, elementwise, compiled as if nothing else needed the same numbers.

    XLA's CPU backend writes to memory whatever two of its fusions share, even a broadcast zero. For
    a hinge and its gradient that is three arrays of the size of the logits and 2.5 times the time.
    The barrier keeps the inputs apart, and the additional axis the constants. On accelerators they
    would forbid the one fusion that reads everything once: 1.67 times the least bytes for 1.00.
    """

    def barred(*given: jax.Array) -> jax.Array:
        return function(*(jax.lax.optimization_barrier(x[None]) for x in given))[0]

    return jax.lax.platform_dependent(*map(jnp.asarray, arguments), cpu=barred, default=function)


def alone(x: Any) -> Any:
    """`x`, arrays that a reduction made, kept apart from what uses them.

    XLA's CPU backend fuses a maximum with the sum that is centred on it, which is slower than both.
    If a pass needs one of two sums made together, it drops the other, and writes out the terms.
    """
    return jax.lax.platform_dependent(x, cpu=jax.lax.optimization_barrier, default=lambda x: x)


def finished(total: jax.Array) -> jax.Array:
    """The sum `total`, kept out of the fusion of what follows, such as a logarithm.

    On XLA's CPU backend that fusion is three times slower at a thousand classes. No number changes.
    """
    bits = jnp.finfo(total.dtype)
    return jax.lax.platform_dependent(
        total,
        cpu=lambda x: jax.lax.reduce_precision(x, bits.nexp, bits.nmant),
        default=lambda x: x,
    )


# Minimax in the relative error (3e-8) of log(1 + e) / e on [0, 1], lowest power first.
_LOG1P = (
    0.99999997, -0.49999493, 0.33319096, -0.24842978, 0.19105988, -0.13663207, 0.07822549,
    -0.02950496, 0.00523262,
)  # fmt: skip


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def softpluses(x: jax.Array, in_slope: bool = False) -> tuple[jax.Array, jax.Array]:
    """log(1 + exp(x)) and log(1 + exp(-x)): minus the log-probabilities of 0 and of 1.

    Without overflow or cancellation, with the sigmoid as derivative. `jax.nn.softplus` is ten times
    slower on XLA's CPU backend. There log1p is fast in a sum, but costs as much as all the rest in
    a loop that writes its result, so slopes take a polynomial. They also write the exponential in
    another way than values: XLA's GPU backend would compute one for both, and write it to memory.
    Both ways are the same for -x as for x, which a loss of two labels takes; |x| XLA makes twice.
    """
    e = jnp.exp(-jnp.maximum(x, -x) if in_slope else jnp.minimum(x, -x))
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
    e = jnp.exp(-jnp.maximum(x, -x))  # not as a value writes it: see `softpluses`
    larger = 1.0 / (1.0 + e)
    smaller = e * larger
    positive = x >= 0.0
    return jnp.where(positive, larger, smaller), jnp.where(positive, smaller, larger)


@sigmoids.defjvp
def _(primals: Any, tangents: Any) -> tuple[Any, Any]:
    p_one, p_zero = sigmoids(*primals)
    slope = p_one * p_zero * tangents[0]
    return (p_one, p_zero), (slope, -slope)


def at_most(x: jax.Array, bound: jax.Array | float) -> jax.Array:
    """The minimum of `bound` and an `x` that is a maximum.

    XLA would make a clamp of the two, which its CPU backend writes to memory before a sum.
    """
    return -jnp.maximum(-x, -bound)


def hinge(gap: jax.Array, sharpness: jax.Array | None = None) -> jax.Array:
    """max(0, gap), whose slope at 0 is 1; with a sharpness b, log(1 + exp(b · gap)) / b."""
    if sharpness is not None:
        return _soft_hinge(gap, sharpness)
    # `where` and not `maximum`, whose slope in the kink is a half; so asked, NaN stays NaN.
    return numbers.capped(jnp.where(gap < 0.0, 0.0, gap))


def _softened(gap: jax.Array, sharpness: jax.Array) -> jax.Array:
    """`sharpness` multiplies only the bounded term: times the growing one it would overflow."""
    return numbers.capped(
        jnp.maximum(gap, 0.0) + jnp.log1p(jnp.exp(-sharpness * jnp.abs(gap))) / sharpness
    )


def _softened_slope(gap: jax.Array, sharpness: jax.Array) -> jax.Array:
    return jax.nn.sigmoid(sharpness * gap)


_soft_hinge = with_slope(_softened, _softened_slope)


def margins(z: jax.Array, y: jax.Array) -> jax.Array:
    """How far a logit is on the right side: ``z`` for label 1, ``-z`` for label 0."""
    return (2.0 * y - 1.0) * z
