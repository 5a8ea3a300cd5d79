"""Sums over all pairs of a positive and a negative, in O(n log n) time and O(n) memory.

After one sort a sum over pairs is a running sum over the gaps between neighbours. Every term is ≥ 0
and depends only on differences, so a common offset costs no digits. Each formula returns the value
of a set and the slope in every logit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from diffmetrics._core import numbers, slopes
from diffmetrics._core.masses import shares
from diffmetrics._core.order import earlier, from_here, later, undone, up_to
from diffmetrics._losses.rankings import two_classes

Surrogate = Literal["hinge", "squared_hinge", "square", "exponential", "logistic"]

# Takes logits, masses of positives and of negatives that each sum to 1, and a margin; returns the
# value of a set and the slope in every logit.
_Formula = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def pair_loss(surrogate: str, *, partial: bool = False) -> Callable[..., jax.Array]:
    """The loss ``f(z, one, other, margin, parts, limit)`` over the given parts of both classes.

    `limit` bounds a slope: the largest number of the type that the logits came in.
    """
    if surrogate not in _FORMULAS:
        raise ValueError(f"surrogate must be one of {', '.join(_FORMULAS)}, got {surrogate!r}.")
    formula, in_order, shifted = _FORMULAS[surrogate]

    def both(
        z: Any, one: Any, other: Any, margin: Any, parts: Any, limit: Any
    ) -> tuple[jax.Array, jax.Array]:
        present = two_classes.both_present(one, other)
        one, other = shares(one), shares(other)
        if in_order is None and not partial:
            value, slope = formula(z, one, other, margin)
        else:
            moved = z + jnp.where(other > 0.0, margin, 0.0) if shifted else z
            sort = in_order or two_classes.in_order
            place, origin, one, other = sort(numbers.held(moved), one, other)
            if partial:
                one, other = _lowest(place, one, parts[0]), _highest(place, other, parts[1])
            value, slope = formula(place, one, other, margin)
            slope = undone(origin, slope)
        slope = jnp.where(present, numbers.held(slope, limit), 0.0)
        return jnp.where(present[..., 0], value, 0.0), slope

    return slopes.with_slopes(both)


def _lowest(place: jax.Array, mass: jax.Array, share: jax.Array) -> jax.Array:
    """The lowest `share` of a mass of 1 at sorted places, rescaled to a mass of 1.

    What lies together at its border is taken in equal parts, not in the order of the data.
    """
    reached = up_to(mass) >= share
    border = jnp.min(jnp.where(reached, place, jnp.inf), -1, keepdims=True)
    return _within(place < border, place == border, mass, share)


def _highest(place: jax.Array, mass: jax.Array, share: jax.Array) -> jax.Array:
    reached = from_here(mass) >= share
    border = jnp.max(jnp.where(reached, place, -jnp.inf), -1, keepdims=True)
    return _within(place > border, place == border, mass, share)


def _within(whole: jax.Array, partly: jax.Array, mass: jax.Array, share: jax.Array) -> jax.Array:
    """The part of a mass that is within a `share`, which takes from what lies at its border."""
    taken, there = (jnp.sum(jnp.where(x, mass, 0.0), -1, keepdims=True) for x in (whole, partly))
    part = jnp.clip(numbers.divide(share - taken, there), 0.0, 1.0)
    return mass * jnp.where(whole, 1.0, jnp.where(partly, part, 0.0)) / share


class _Gaps(NamedTuple):
    """What lies on both sides of each gap between sorted neighbours."""

    gap: jax.Array
    """Distance to the next place; 0 after the last."""
    one_up_to: jax.Array
    """Mass of positives up to here, inclusive."""
    other_from: jax.Array
    """Mass of negatives from here on, inclusive."""

    def overlap(self) -> jax.Array:
        """The sum of how far negatives lie above positives: each gap counts for all around it."""
        return weighted(self.one_up_to * earlier(self.other_from), self.gap)


def _gaps(v: jax.Array, one: jax.Array, other: jax.Array) -> _Gaps:
    gap = numbers.capped(jnp.diff(v, axis=-1, append=v[..., -1:]))
    return _Gaps(gap, up_to(one), from_here(other))


def weighted(mass: jax.Array, x: jax.Array) -> jax.Array:
    return numbers.capped(jnp.sum(mass * x, -1))


def _hinge(v: jax.Array, one: jax.Array, other: jax.Array, _: Any) -> tuple[jax.Array, jax.Array]:
    """Places `v` have the negatives raised by the margin: a pair costs the overlap.

    A pair exactly at its margin has a gradient, so of equal places the positives come first.
    """
    gaps = _gaps(v, one, other)
    value = gaps.overlap()
    value = jnp.where(value < 0.0, 0.0, value)  # by a rounding, if places are not quite in order
    return value, other * gaps.one_up_to - one * gaps.other_from


def _squared_hinge(
    v: jax.Array, one: jax.Array, other: jax.Array, _: Any
) -> tuple[jax.Array, jax.Array]:
    """The square of a distance d grows by gap · (2 d + gap) from one place to the next."""
    gap, up, other_from = _gaps(v, one, other)
    lag = numbers.capped(later(up_to(numbers.capped(up * gap))))
    lead = numbers.capped(from_here(numbers.capped(earlier(other_from) * gap)))
    growth = numbers.capped(gap * numbers.capped(numbers.capped(2.0 * lag) + up * gap))
    value = weighted(earlier(other_from), growth)
    return value, other * numbers.capped(2.0 * lag) - one * numbers.capped(2.0 * lead)


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
    wanted = ((0, _LOG1P), (0, _ODDS), (1, _ODDS))
    (log_below, one_below, other_below), (log_above, one_above, other_above) = decayed(
        gaps.gap, jnp.stack([one, other]), wanted
    )
    value = gaps.overlap() + weighted(other, log_below + log_above)
    pushed = gaps.one_up_to - one_below + one_above
    pulled = gaps.other_from - other_above + other_below
    return numbers.capped(value), other * pushed - one * pulled


_FORMULAS: dict[str, tuple[_Formula, Callable[..., Any] | None, bool]] = {
    # The order it needs, and whether the margin is added to the negatives before sorting.
    "hinge": (_hinge, two_classes.positives_first, True),
    "squared_hinge": (_squared_hinge, two_classes.in_order, True),
    "square": (_square, None, False),
    "exponential": (_exponential, None, False),
    "logistic": (_logistic, two_classes.in_order, False),
}


_Wanted = tuple[tuple[int, tuple[float, ...]], ...]
"""For each sum, which mass, and the coefficients of the first, second … power."""


def decayed(gap: jax.Array, masses: jax.Array, wanted: _Wanted) -> tuple[jax.Array, jax.Array]:
    r"""Sums over all places before, and after, of mass times a polynomial in exp(-distance).

    Args:
      gap: distance to the next place ``[..., n]``.
      masses: ``[M, ..., n]``.
      wanted: W sums.

    Returns:
      Two of ``[W, ..., n]``.
    """
    # One scan for both directions: it takes as many steps as one for either.
    ways = jnp.stack([gap, jnp.flip(later(gap), -1)])
    found = jax.lax.platform_dependent(
        ways,
        jnp.stack([masses, jnp.flip(masses, -1)], 1),
        cpu=functools.partial(_decayed, wanted=wanted),
        default=functools.partial(_decayed, wanted=wanted, length=_BLOCK, across=_across_at_once),
    )
    return found[:, 0], jnp.flip(found[:, 1], -1)


def _across_in_turn(held: jax.Array, reach: jax.Array) -> jax.Array:
    """What enters each block, from what each of them holds at its end and how far it reaches."""

    def across(carry: jax.Array, block: Any) -> tuple[jax.Array, jax.Array]:
        left, reach = block
        return left + carry * _powers(reach, len(held))[:, None], carry

    over = (jnp.moveaxis(held, -1, 0), jnp.moveaxis(reach, -1, 0))
    _, carried = jax.lax.scan(across, jnp.zeros_like(held[..., 0]) * held[..., 0], over)
    return jnp.moveaxis(carried, 0, -1)


def _across_at_once(held: jax.Array, reach: jax.Array) -> jax.Array:
    """`_across_in_turn` in as many steps as the number of blocks has digits."""

    def join(one: Any, other: Any) -> tuple[jax.Array, jax.Array]:
        (left, reach), (right, further) = one, other
        return right + left * _powers(further[0, 0], len(held))[:, None], reach * further

    both = (held, reach[None, None])
    return later(jax.lax.associative_scan(join, both, axis=held.ndim - 1)[0])


def _powers(x: jax.Array, number: int) -> jax.Array:
    return jnp.stack([x ** (k + 1) for k in range(number)])


# An accelerator runs some kernels for each step of a scan. At a million scores blocks of a thousand
# took an H100 8,000 of them and a TPU 20,000; of this length they take 214 and 1,027.
_BLOCK = 32


def _decayed(
    gap: jax.Array,
    masses: jax.Array,
    *,
    wanted: _Wanted,
    length: int | None = None,
    across: Callable[[jax.Array, jax.Array], jax.Array] = _across_in_turn,
) -> jax.Array:
    """The sums over all places before, in blocks of `length`, by default as many as it has."""
    n = gap.shape[-1]
    length = max(int(n**0.5), 1) if length is None else length
    decay = jnp.exp(-later(gap))

    def blocks(x: jax.Array, fill: float) -> jax.Array:
        """``[..., n]`` as ``[length, ..., number]``: the place in a block first, for the scan."""
        padding = [(0, 0)] * (x.ndim - 1) + [(0, -n % length)]
        padded = jnp.pad(x, padding, constant_values=fill)
        return jnp.moveaxis(padded.reshape(*x.shape[:-1], -(-n // length), length), -1, 0)

    decays, inside = blocks(decay, 1.0), blocks(masses, 0.0)
    powers = range(len(wanted[0][1]))
    # Made from the data, because a scan in `shard_map` may not start from a replicated array.
    nothing = 0.0 * inside[0] * decays[0][None]
    zeros = jnp.stack([nothing] * len(powers))

    def along(state: Any, here: Any) -> Any:
        """One place further in all blocks at once, without what came before each block."""
        held, reach = state
        step, mass = here
        reach = reach * step
        found = held * _powers(step, len(powers))[:, None]
        sums = jnp.stack([_polynomial(c, found[:, m]) for m, c in wanted])
        return (found + mass[None], reach), (sums, reach)

    first = (zeros, 0.0 * decays[0] + 1.0)
    (held, reach), (sums, reaches) = jax.lax.scan(along, first, (decays, inside))

    carried = across(held, reach)
    # What enters a block decays within it: a polynomial in exp(-distance from its border).
    reaches = reaches[:, None]
    rest = jnp.zeros_like(sums)
    for k in reversed(powers):
        added = jnp.stack([c[k] * carried[k, m] for m, c in wanted])
        rest = (rest + added[None]) * reaches
    found = jnp.moveaxis(sums + rest, 0, -1)
    return found.reshape(*found.shape[:-2], -(-n // length) * length)[..., :n]


def _polynomial(coefficients: tuple[float, ...], powers: jax.Array) -> jax.Array:
    return sum(
        (c * x for c, x in zip(coefficients, powers, strict=True)), jnp.zeros_like(powers[0])
    )
