"""Divergences of pairs of softmax distributions in closed form, and the checks of their inputs."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

from diffmetrics._core import doors, numbers, slopes
from diffmetrics._core.calls import ClassOptions
from diffmetrics._core.readings import below, movable, or_all, softmax_parts, wide_logits


def pair(
    logits_p: ArrayLike, logits_q: ArrayLike, **options: Unpack[ClassOptions]
) -> tuple[jax.Array, jax.Array, int]:
    """The checked logits of two distributions, and the axis of the classes from the end."""
    p, q = jnp.asarray(logits_p), jnp.asarray(logits_q)
    hint = "Pass raw scores; for probabilities there are the functions ..._from_probabilities."
    doors.require_float("logits_p", p, hint)
    doors.require_float("logits_q", q, hint)
    axis = doors.require_classes("logits_p", p, options.get("class_axis", -1))
    doors.require_shape("logits_q", q, p.shape, "logits_p")
    p, q = (p, q) if p.dtype == q.dtype else numbers.floats(p, q)
    return p, q, axis


def held_at_zero(x: jax.Array) -> jax.Array:
    """`x`, or 0 where rounding made it negative, with the derivatives of `x`.

    `jnp.maximum` would remove the gradient of pairs that are almost equal.
    """
    return x + jax.lax.stop_gradient(jnp.maximum(x, 0.0) - x)


def log_softmax(z: jax.Array, axis: int) -> jax.Array:
    """Log-probabilities, all finite."""
    return _log_of(z, *_norm(z, axis), axis)


def _norm(z: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """The maximum of logits, and the logarithm of the sum of their exponentials below it."""
    _, top, total = softmax_parts(z, axis)
    return top, jnp.log(total)


def _log_of(z: jax.Array, top: jax.Array, log_total: jax.Array, axis: int) -> jax.Array:
    """Log-probabilities, with a floor.

    A probability of 0 is multiplied by its logarithm, and 0 · inf is NaN. The floor is far enough
    above the lowest float that neither a sum weighted by probabilities, whose total may round to
    more than 1, nor the bfloat16 parts in which a TPU multiplies overflow.
    """
    found = below(z, top, axis)
    return jnp.maximum(found, -0.875 * float(jnp.finfo(found.dtype).max)) - jnp.expand_dims(
        log_total, axis
    )


# --- one reading of a pair ------------------------------------------------------------------------


def _widest(x: jax.Array) -> jax.Array:
    """A difference of logits with a bound, of which a mean over classes cannot overflow."""
    bound = 0.875 * float(jnp.finfo(x.dtype).max)
    return -jnp.maximum(-jnp.maximum(x, -bound), -bound)


@functools.cache
def _means_over(axis: int, both: bool) -> Callable[[jax.Array, jax.Array], tuple[jax.Array, ...]]:
    """For two arrays of logits, the maximum and the sum of exponentials of each, and two means.

    The means are those of half of d, by how much more the first logit is below its maximum than the
    second, under the first softmax and, if `both`, under the second. KL(P ‖ Q) is twice the first
    mean minus the difference of the logarithms of the sums. Halves can be subtracted if d cannot.
    """

    @jax.custom_jvp
    def read(p: jax.Array, q: jax.Array) -> tuple[jax.Array, ...]:
        found = jax.lax.platform_dependent(
            p,
            q,
            cpu=functools.partial(_means_in_three_readings, axis, both),
            default=functools.partial(_means_in_one_reading, axis),
        )
        return tuple(found)

    def jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
        (p, q), (dp, dq) = primals, (numbers.as_float(t) for t in tangents)
        top_p, total_p, mean_p, _, total_q, mean_q = out = read(p, q)
        twice_p, twice_q, half = _pair(axis, p, q, *out)
        one, other = 0.5 * twice_p, 0.5 * twice_q
        zero = jnp.zeros_like(top_p)

        def mean(share: jax.Array, mean: jax.Array, step: jax.Array) -> jax.Array:
            excess = share * (half - jnp.expand_dims(mean, axis))
            return jnp.sum(excess * step + 0.5 * share * (dp - dq), axis)

        of_p, of_q = mean(one, mean_p, dp), mean(other, mean_q, dq) if both else zero
        of_totals = total_p * jnp.sum(one * dp, axis), total_q * jnp.sum(other * dq, axis)
        return out, (zero, of_totals[0], of_p, zero, of_totals[1], of_q)

    read.defjvp(jvp)
    return read


def _pair(
    axis: int, p: jax.Array, q: jax.Array, *parts: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Twice both probabilities of every class, and half of d, from what `_means_over` returns.

    XLA moves a constant factor of a product to where it overflows, and leaves that of a quotient.
    """
    below_p, below_q = below(p, parts[0], axis), below(q, parts[3], axis)
    total_p, total_q = (jnp.expand_dims(x, axis) for x in (parts[1], parts[4]))
    half = 0.5 * _widest(_widest(below_p) - _widest(below_q))
    return jnp.exp(below_p) * (2.0 / total_p), jnp.exp(below_q) * (2.0 / total_q), half


def _means_in_three_readings(
    axis: int, both: bool, p: jax.Array, q: jax.Array
) -> tuple[jax.Array, ...]:
    _, top_p, total_p = softmax_parts(p, axis)
    _, top_q, total_q = softmax_parts(q, axis)
    zero = jnp.zeros_like(top_p)

    def term(i: int, *arguments: jax.Array) -> jax.Array:
        found = _pair(axis, *arguments)
        return found[i] * (0.5 * found[2])

    def mean(i: int) -> jax.Array:
        given = (p, q, top_p, total_p, zero, top_q, total_q, zero)
        return jnp.sum(slopes.apart(functools.partial(term, i), *given), axis)

    return top_p, total_p, mean(0), top_q, total_q, mean(1) if both else zero


def _means_in_one_reading(axis: int, p: jax.Array, q: jax.Array) -> tuple[jax.Array, ...]:
    """An accelerator waits for its memory: see `softmax`.

    The sums are kept so small that as many as there are classes do not overflow.
    """
    p, q = wide_logits(p), wide_logits(q)
    unit = 2.0 ** -(8 * p.shape[axis] - 1).bit_length()
    zero, least = (jnp.asarray(x, p.dtype) for x in (0.0, -float(jnp.finfo(p.dtype).max)))
    operands = [(z, movable(1.0, z), movable(0.0, z)) for z in (p, q)]
    top_p, total_p, sum_p, top_q, total_q, sum_q = jax.lax.reduce(
        (*operands[0], *operands[1]),
        (least, zero, zero) * 2,
        functools.partial(_merged, unit),
        (p.ndim + axis,),
    )
    full_p, full_q = (or_all(total, p.shape[axis]) for total in (total_p, total_q))
    means = (1.0 / unit) * (sum_p / full_p), (1.0 / unit) * (sum_q / full_q)
    half_p, half_q = (0.5 * _widest(x) for x in means)
    return top_p, full_p, half_p, top_q, full_q, half_q


def _merged(unit: float, one: Any, other: Any) -> Any:
    """What two parts of a row have: maximum, sum of exponentials, and sum of d, for P and for Q."""
    top_p, top_q = jnp.maximum(one[0], other[0]), jnp.maximum(one[3], other[3])

    def moved(part: Any) -> tuple[jax.Array, ...]:
        part_p, total_p, sum_p, part_q, total_q, sum_q = part
        below_p, below_q = part_p - top_p, part_q - top_q
        step = unit * _widest(_widest(below_p) - _widest(below_q))
        weight_p, weight_q = jnp.exp(below_p), jnp.exp(below_q)
        return (
            weight_p * total_p,
            weight_p * (sum_p + total_p * step),
            weight_q * total_q,
            weight_q * (sum_q + total_q * step),
        )

    total_p, sum_p, total_q, sum_q = map(operator.add, moved(one), moved(other))
    return top_p, total_p, sum_p, top_q, total_q, sum_q


# --- divergences of logits ------------------------------------------------------------------------

# From twice both probabilities, half of d and its means: the slope in a logit of P, or of Q.
_Slope = Callable[..., jax.Array]


class _Kind(NamedTuple):
    """A divergence by the means of `_means_over` and the difference of the logarithms."""

    value: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    in_p: _Slope
    in_q: _Slope


_KL = _Kind(
    lambda mean_p, mean_q, logs: 2.0 * mean_p - logs,
    lambda p, q, half, mean_p, mean_q: p * (half - mean_p),
    lambda p, q, half, mean_p, mean_q: 0.5 * (q - p),
)
_REVERSE_KL = _Kind(
    lambda mean_p, mean_q, logs: logs - 2.0 * mean_q,
    lambda p, q, half, mean_p, mean_q: 0.5 * (p - q),
    lambda p, q, half, mean_p, mean_q: q * (mean_q - half),
)
_SYMMETRIC_KL = _Kind(
    lambda mean_p, mean_q, logs: numbers.below_inf(2.0 * (mean_p - mean_q)),
    lambda p, q, half, mean_p, mean_q: p * (half - mean_p) + 0.5 * (p - q),
    lambda p, q, half, mean_p, mean_q: q * (mean_q - half) + 0.5 * (q - p),
)


@functools.cache
def _divergences_over(
    axis: int, kinds: tuple[_Kind, ...], both: bool
) -> Callable[[jax.Array, jax.Array], tuple[jax.Array, ...]]:
    """The divergences of some `kinds`, from one reading of the logits.

    Autodiff would write an array of the size of the logits per step.
    """
    means = _means_over(axis, both)

    def values(parts: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        _, total_p, mean_p, _, total_q, mean_q = parts
        logs = jnp.log(total_p) - jnp.log(total_q)
        return tuple(held_at_zero(kind.value(mean_p, mean_q, logs)) for kind in kinds)

    def slope(of: _Slope, p: jax.Array, q: jax.Array, *parts: jax.Array) -> jax.Array:
        both_means = (jnp.expand_dims(x, axis) for x in (parts[2], parts[5]))
        return of(*_pair(axis, p, q, *parts), *both_means)

    @jax.custom_jvp
    def read(p: jax.Array, q: jax.Array) -> tuple[jax.Array, ...]:
        return values(means(p, q))

    def jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
        parts = means(*primals)
        out = values(parts)
        moved = [jnp.zeros_like(x) for x in out]
        for i, kind in enumerate(kinds):
            for of, step in zip((kind.in_p, kind.in_q), tangents, strict=True):
                if not isinstance(step, SymbolicZero):
                    found = slopes.apart(functools.partial(slope, of), *primals, *parts)
                    moved[i] += jnp.sum(found * step.astype(found.dtype), axis)
        return out, tuple(moved)

    read.defjvp(jvp, symbolic_zeros=True)
    return read


def kl(p: jax.Array, q: jax.Array, axis: int) -> jax.Array:
    """KL(P ‖ Q)."""
    return _divergences_over(axis, (_KL,), False)(p, q)[0]


def both_kls(p: jax.Array, q: jax.Array, axis: int) -> tuple[jax.Array, ...]:
    """KL(P ‖ Q) and KL(Q ‖ P)."""
    return _divergences_over(axis, (_KL, _REVERSE_KL), True)(p, q)


def symmetric_kl(p: jax.Array, q: jax.Array, axis: int) -> jax.Array:
    """The sum of both."""
    return _divergences_over(axis, (_SYMMETRIC_KL,), True)(p, q)[0]


def js(p: jax.Array, q: jax.Array, axis: int) -> jax.Array:
    """The Jensen–Shannon divergence."""
    return held_at_zero(_js_over(axis)(p, q))


@functools.cache
def _js_over(axis: int) -> Callable[[jax.Array, jax.Array], jax.Array]:
    def halves(p: jax.Array, q: jax.Array, norms: Any, in_slope: bool) -> Any:
        """Both probabilities, and half the logarithm of how much each exceeds their mean."""
        (top_p, log_p), (top_q, log_q) = norms
        log_p, log_q = _log_of(p, top_p, log_p, axis), _log_of(q, top_q, log_q, axis)
        q_above, p_above = slopes.softpluses(log_q - log_p, in_slope)
        # As softpluses rounds it, so that equal distributions have 0.
        log_two = slopes.softpluses(jnp.zeros((1,) * p.ndim, q_above.dtype), in_slope)[0]
        shares = jnp.exp(log_p), jnp.exp(log_q)
        return shares, (0.5 * (log_two - q_above), 0.5 * (log_two - p_above))

    def term(i: int, p: jax.Array, q: jax.Array, *norms: jax.Array) -> jax.Array:
        shares, logs = halves(p, q, (norms[:2], norms[2:]), False)
        return shares[i] * logs[i]

    def parts(p: jax.Array, q: jax.Array, norms: Any) -> list[jax.Array]:
        """The two terms of the divergence."""
        of = (functools.partial(term, i) for i in range(2))
        return [jnp.sum(slopes.apart(f, p, q, *norms[0], *norms[1]), axis) for f in of]

    def slope(i: int, p: jax.Array, q: jax.Array, part: jax.Array, *norms: jax.Array) -> jax.Array:
        shares, logs = halves(p, q, (norms[:2], norms[2:]), True)
        return shares[i] * (logs[i] - jnp.expand_dims(part, axis))

    def value(p: jax.Array, q: jax.Array) -> jax.Array:
        one, other = parts(p, q, (_norm(p, axis), _norm(q, axis)))
        return one + other

    def rule(primals: Any, moved: Any) -> tuple[jax.Array, list[jax.Array]]:
        norms, terms = [_norm(z, axis) for z in primals], []
        both = parts(primals[0], primals[1], norms)
        for i, step in enumerate(moved):
            if step is not None:
                of = functools.partial(slope, i)
                found = slopes.apart(of, *primals, both[i], *norms[0], *norms[1])
                terms.append(jnp.sum(found * step.astype(found.dtype), axis))
        return both[0] + both[1], terms

    return slopes.with_rule(value, rule, 2)
