"""Sums over all pairs of a positive and a negative, in O(n log n) time and O(n) memory.

After one sort a sum over pairs is a running sum over the gaps between neighbours. Every term is ≥ 0
and depends only on differences, so a common offset costs no digits. Each formula returns the value
of a set and the slope in every logit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from diffmetrics._core import numbers, slopes
from diffmetrics._core.masses import shares
from diffmetrics._core.order import Order, earlier, from_here, later
from diffmetrics._losses.rankings import two_classes

Surrogate = Literal["hinge", "squared_hinge", "square", "exponential", "logistic"]

# Takes logits, masses of positives and of negatives that each sum to 1, and a margin; returns the
# value of a set and the slope in every logit.
_Formula = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def pair_loss(surrogate: str, *, partial: bool = False) -> Callable[..., jax.Array]:
    """The loss ``f(z, one, other, margin, parts)`` over the given parts of both classes."""
    if surrogate not in _FORMULAS:
        raise ValueError(f"surrogate must be one of {', '.join(_FORMULAS)}, got {surrogate!r}.")
    formula, needs_order, shifted = _FORMULAS[surrogate]

    def both(z: Any, one: Any, other: Any, margin: Any, parts: Any) -> tuple[jax.Array, jax.Array]:
        present = two_classes.both_present(one, other)
        one, other = shares(one), shares(other)
        if not (needs_order or partial):
            value, slope = formula(z, one, other, margin)
        else:
            moved = z + jnp.where(other > 0.0, margin, 0.0) if shifted else z
            order = Order(numbers.held(moved))
            one, other = order.put(one), order.put(other)
            if partial:
                one = _lowest(order.sorted, one, parts[0])
                other = _highest(order.sorted, other, parts[1])
            place = order.sorted if needs_order else order.put(z)
            value, slope = formula(place, one, other, margin)
            slope = order.back(slope)
        return jnp.where(present[..., 0], value, 0.0), jnp.where(present, slope, 0.0)

    return slopes.with_slopes(both)


def _lowest(place: jax.Array, mass: jax.Array, share: jax.Array) -> jax.Array:
    """The lowest `share` of a mass of 1 at sorted places, rescaled to a mass of 1.

    What lies together at its border is taken in equal parts, not in the order of the data.
    """
    first, last = _ends(place)
    through, axis = jnp.cumsum(mass, -1), mass.ndim - 1
    below = jax.lax.cummax(jnp.where(first, through - mass, 0.0), axis=axis)
    through = jax.lax.cummin(jnp.where(last, through, jnp.inf), axis=axis, reverse=True)
    together = jnp.maximum(through - below, mass)
    return mass * jnp.clip(numbers.divide(share - below, together), 0.0, 1.0) / share


def _highest(place: jax.Array, mass: jax.Array, share: jax.Array) -> jax.Array:
    return jnp.flip(_lowest(jnp.flip(place, -1), jnp.flip(mass, -1), share), -1)


def _ends(place: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Which are the first, and which the last, of those that share a sorted place."""
    differ = place[..., 1:] != place[..., :-1]
    end = jnp.ones_like(place[..., :1], bool)
    return jnp.concatenate([end, differ], -1), jnp.concatenate([differ, end], -1)


class _Gaps(NamedTuple):
    """Running sums over a sorted axis, of which all hinges are made."""

    gap: jax.Array
    """Distance to the next place; 0 after the last."""
    one_up_to: jax.Array
    """Mass of positives up to here, inclusive."""
    other_from: jax.Array
    """Mass of negatives from here on, inclusive."""
    lag: jax.Array
    """Sum of the distances to all positives before."""


def _gaps(v: jax.Array, one: jax.Array, other: jax.Array) -> _Gaps:
    gap = numbers.capped(jnp.diff(v, axis=-1, append=v[..., -1:]))
    up_to = jnp.cumsum(one, -1)
    return _Gaps(gap, up_to, from_here(other), _before(numbers.capped(up_to * gap)))


def _before(x: jax.Array) -> jax.Array:
    """Running sum over everything before."""
    return numbers.capped(jnp.cumsum(later(x), -1))


def weighted(mass: jax.Array, x: jax.Array) -> jax.Array:
    return numbers.capped(jnp.sum(mass * x, -1))


def _hinge(v: jax.Array, one: jax.Array, other: jax.Array, _: Any) -> tuple[jax.Array, jax.Array]:
    """Places `v` have the negatives raised by the margin: a pair costs the overlap."""
    gaps = _gaps(v, one, other)
    # A pair exactly at its margin has a gradient, so equal places share their last count.
    (first, last), axis = _ends(v), v.ndim - 1
    pulled = jax.lax.cummin(jnp.where(last, gaps.one_up_to, jnp.inf), axis=axis, reverse=True)
    pulling = jax.lax.cummin(jnp.where(first, gaps.other_from, jnp.inf), axis=axis)
    return weighted(other, gaps.lag), other * pulled - one * pulling


def _squared_hinge(
    v: jax.Array, one: jax.Array, other: jax.Array, _: Any
) -> tuple[jax.Array, jax.Array]:
    """The sum of squares grows by 2 · gap · lag + mass · gap² from one place to the next."""
    gap, up_to, other_from, lag = _gaps(v, one, other)
    twice = numbers.capped(2.0 * lag)
    square = _before(numbers.capped(gap * twice) + up_to * numbers.capped(gap * gap))
    lead = numbers.capped(from_here(earlier(other_from) * gap))
    slope = other * twice - one * numbers.capped(2.0 * lead)
    return weighted(other, square), slope


def _square(
    z: jax.Array, one: jax.Array, other: jax.Array, margin: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The variances of both classes, and the squared shortfall between their means."""
    limit = 0.25 * float(jnp.finfo(z.dtype).max)
    # Around the positives, so that a common offset costs the means no digits.
    z = jnp.clip(z - jax.lax.stop_gradient(jnp.sum(one * z, -1, keepdims=True)), -limit, limit)
    mean_one, mean_other = (jnp.sum(mass * z, -1, keepdims=True) for mass in (one, other))
    missing = jnp.clip(margin - mean_one + mean_other, -limit, limit)
    spread = [
        weighted(mass, numbers.capped(jnp.square(jnp.where(mass > 0.0, z - mean, 0.0))))
        for mass, mean in ((one, mean_one), (other, mean_other))
    ]
    value = numbers.capped(spread[0] + spread[1] + numbers.capped(jnp.square(missing[..., 0])))
    pull = jnp.clip(margin - z + mean_other, -limit, limit)
    push = jnp.clip(margin - mean_one + z, -limit, limit)
    return value, 2.0 * (other * push - one * pull)


def _exponential(
    z: jax.Array, one: jax.Array, other: jax.Array, _: Any
) -> tuple[jax.Array, jax.Array]:
    """A product of two sums, each in units of its largest term; the units' product is halved."""
    limit = float(jnp.finfo(z.dtype).max)
    down, up = jnp.where(one > 0.0, -z, -limit), jnp.where(other > 0.0, z, -limit)
    tops = [jax.lax.stop_gradient(jnp.max(x, -1, keepdims=True)) for x in (down, up)]
    # Each sum gets half of the exponent: alone exp(tops) may overflow though the product fits.
    half = numbers.capped(jnp.exp(0.5 * tops[0] + 0.5 * tops[1]))
    terms = [
        mass * jnp.exp(x - top) for mass, x, top in ((one, down, tops[0]), (other, up, tops[1]))
    ]
    sums = [numbers.capped(half * jnp.sum(x, -1, keepdims=True)) for x in terms]
    pushed, pulled = (numbers.capped(half * terms[i] * sums[1 - i]) for i in (1, 0))
    return numbers.capped(sums[0] * sums[1])[..., 0], pushed - pulled


# Minimax in both log(1 + u) and, each coefficient times its power, u / (1 + u), for u in [0, 1]:
# errors 2.2e-7 and 3.1e-7.
_LOG1P = (0.999985, -0.499673, 0.330344, -0.235441, 0.157038, -0.083399, 0.029047, -0.004754)
_ODDS = tuple(k * c for k, c in enumerate(_LOG1P, 1))


def _logistic(
    z: jax.Array, one: jax.Array, other: jax.Array, _: Any
) -> tuple[jax.Array, jax.Array]:
    """log(1 + exp(x)) is max(0, x) plus a polynomial in exp(-|x|), summed with decay over the gaps.

    x is how far a negative lies above a positive; with u = exp(-|x|) its sigmoid is u / (1 + u) or
    1 minus that.
    """
    gaps = _gaps(z, one, other)
    masses = jnp.stack([one, other])
    (log_one, log_other), (one_below, other_below) = decayed(gaps.gap, masses, (_LOG1P, _ODDS))
    one_above, other_above = decayed(gaps.gap, masses, (_ODDS,), reverse=True)[0]
    value = weighted(other, gaps.lag + log_one) + weighted(one, log_other)
    pushed = gaps.one_up_to - one_below + one_above
    pulled = gaps.other_from - other_above + other_below
    return numbers.capped(value), other * pushed - one * pulled


_FORMULAS: dict[str, tuple[_Formula, bool, bool]] = {
    # Whether it needs an order, and whether the margin is added to the negatives before sorting.
    "hinge": (_hinge, True, True),
    "squared_hinge": (_squared_hinge, True, True),
    "square": (_square, False, False),
    "exponential": (_exponential, False, False),
    "logistic": (_logistic, True, False),
}


def decayed(
    gap: jax.Array,
    masses: jax.Array,
    polynomials: tuple[tuple[float, ...], ...],
    *,
    reverse: bool = False,
) -> jax.Array:
    r"""Sums over all places before (or after) of mass times a polynomial in exp(-distance).

    Args:
      gap: distance to the next place ``[..., n]``.
      masses: ``[M, ..., n]``.
      polynomials: coefficients of the first, second … power.
      reverse: sum over everything after.

    Returns:
      ``[P, M, ..., n]``.
    """
    if reverse:
        flipped = decayed(jnp.flip(later(gap), -1), jnp.flip(masses, -1), polynomials)
        return jnp.flip(flipped, -1)
    n = gap.shape[-1]
    length = max(int(n**0.5), 1)
    decay = jnp.exp(-later(gap))

    def blocks(x: jax.Array, fill: float) -> jax.Array:
        """``[..., n]`` as ``[length, ..., number]``: the place in a block first, for the scan."""
        padding = [(0, 0)] * (x.ndim - 1) + [(0, -n % length)]
        padded = jnp.pad(x, padding, constant_values=fill)
        return jnp.moveaxis(padded.reshape(*x.shape[:-1], -(-n // length), length), -1, 0)

    decays, inside = blocks(decay, 1.0), blocks(masses, 0.0)
    powers = range(len(polynomials[0]))
    # Made from the data, because a scan in `shard_map` may not start from a replicated array.
    nothing = 0.0 * inside[0] * decays[0][None]
    zeros = jnp.stack([nothing] * len(powers))

    def along(state: Any, here: Any) -> Any:
        """One place further in all blocks at once, without what came before each block."""
        held, reach = state
        step, mass = here
        reach = reach * step
        found = held * jnp.stack([step ** (k + 1) for k in powers])[:, None]
        sums = jnp.stack([_polynomial(c, found) for c in polynomials])
        return (found + mass[None], reach), (sums, reach)

    first = (zeros, 0.0 * decays[0] + 1.0)
    (held, reach), (sums, reaches) = jax.lax.scan(along, first, (decays, inside))

    def across(carry: jax.Array, block: Any) -> tuple[jax.Array, jax.Array]:
        left, reach = block
        return left + carry * jnp.stack([reach ** (k + 1) for k in powers])[:, None], carry

    over = (jnp.moveaxis(held, -1, 0), jnp.moveaxis(reach, -1, 0))
    _, carried = jax.lax.scan(across, zeros[..., 0], over)
    carried = jnp.moveaxis(carried, 0, -1)
    # What enters a block decays within it: a polynomial in exp(-distance from its border).
    reaches = jnp.expand_dims(reaches, (1, 2))
    rest = jnp.zeros_like(sums)
    for k in reversed(powers):
        added = jnp.stack([c[k] * carried[k] for c in polynomials])
        rest = (rest + added[None]) * reaches
    found = jnp.moveaxis(sums + rest, 0, -1)
    return found.reshape(*found.shape[:-2], -(-n // length) * length)[..., :n]


def _polynomial(coefficients: tuple[float, ...], powers: jax.Array) -> jax.Array:
    return sum(
        (c * x for c, x in zip(coefficients, powers, strict=True)), jnp.zeros_like(powers[0])
    )
