"""Divergences of pairs of softmax distributions in closed form, and the checks of their inputs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import doors, numbers
from diffmetrics._core.calls import ClassOptions
from diffmetrics._core.slopes import apart, with_rule
from diffmetrics._core.softmax import softmax_parts


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
    below = numbers.finite(numbers.as_float(z)) - jnp.expand_dims(top, axis)
    below = jnp.maximum(below, -0.875 * float(jnp.finfo(below.dtype).max))
    return below - jnp.expand_dims(log_total, axis)


Term = Callable[[jax.Array, jax.Array], jax.Array]


def _divergence_of_logits(
    term: Term, *slopes: tuple[Term, Callable[[jax.Array], Any] | None]
) -> Callable[[jax.Array, jax.Array, int], jax.Array]:
    """The sum of `term(log p, log q)` over the classes of two softmax distributions, by logits.

    `slopes` has a pair for each distribution: the derivative of `term` in its log-probability, up
    to a multiple of the probability, which cancels; and the sum of that derivative over classes, if
    the value determines it. Autodiff would write an array of the size of the logits per step.
    """

    @functools.cache
    def over(axis: int) -> Term:
        def logs(p: jax.Array, q: jax.Array, *norms: jax.Array) -> tuple[jax.Array, jax.Array]:
            (top_p, total_p, top_q, total_q) = norms
            return _log_of(p, top_p, total_p, axis), _log_of(q, top_q, total_q, axis)

        def value(p: jax.Array, q: jax.Array) -> jax.Array:
            return jnp.sum(term(*logs(p, q, *_norm(p, axis), *_norm(q, axis))), axis)

        def slope_sum(slope: Term, *arguments: jax.Array) -> jax.Array:
            return jnp.sum(slope(*logs(*arguments)), axis)

        def in_logits(
            i: int, slope: Term, total: jax.Array, p: jax.Array, q: jax.Array, *norms: jax.Array
        ) -> jax.Array:
            both = logs(p, q, *norms)
            return slope(*both) - jnp.exp(both[i]) * jnp.expand_dims(total, axis)

        def rule(primals: Any, moved: Any) -> tuple[jax.Array, list[jax.Array]]:
            given = *primals, *(x for z in primals for x in _norm(z, axis))
            out, terms = divergence(*primals), []
            for i, ((slope, known), step) in enumerate(zip(slopes, moved, strict=True)):
                if step is None:
                    continue
                if known is None:
                    total = apart(functools.partial(slope_sum, slope), *given)
                else:
                    total = jnp.broadcast_to(jnp.asarray(known(out), out.dtype), out.shape)
                found = apart(functools.partial(in_logits, i, slope), total, *given)
                terms.append(jnp.sum(found * step.astype(found.dtype), axis))
            return out, terms

        divergence = with_rule(value, rule, 2)
        return divergence

    return lambda p, q, axis: over(axis)(p, q)


def kl_term(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    return jnp.exp(log_p) * (log_p - log_q)


def symmetric_kl_term(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """The sum of both KL terms, which simplifies to terms ≥ 0."""
    return (jnp.exp(log_p) - jnp.exp(log_q)) * (log_p - log_q)


def _symmetric_kl_slope(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    p = jnp.exp(log_p)
    return p * (log_p - log_q) + (p - jnp.exp(log_q))


kl = _divergence_of_logits(
    kl_term, (kl_term, lambda value: value), (lambda log_p, _: -jnp.exp(log_p), lambda _: -1.0)
)
symmetric_kl = _divergence_of_logits(
    symmetric_kl_term,
    (_symmetric_kl_slope, None),
    (lambda log_p, log_q: _symmetric_kl_slope(log_q, log_p), None),
)
