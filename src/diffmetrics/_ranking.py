r"""Losses over all pairs of a positive and a negative, without all pairs.

Each is a mean over the :math:`n_+ n_-` pairs of a set, or a function of soft ranks, in
O(n log n) time and O(n) memory: one sort, after which a sum over pairs is a running sum over the
gaps between neighbours. Every such term is ≥ 0 and knows only differences, so an offset of the
scores costs no digits.

**A ranking loss leaves the offset free**: adding a constant to all logits changes nothing, so the
threshold is anywhere and probabilities mean nothing. Train it together with a cross-entropy
(``sigmoid_cross_entropy(z, y).mean() + roc_auc_loss(z, y)``), or tune the threshold. And expect
little: on tabular data none of them beats a tuned cross-entropy by more than noise.

The arguments are those of every set loss (see `_set_loss`), but for these:

* `labels` are 0 or 1; floating ones are positive above ½.
* `weights` weigh examples, and a pair by the product of its two.
* A set in which a class is absent has no pair: loss and gradient are 0. Small batches of a rare
  class teach nothing then; see docs/microbatches.md for one loss over many of them.
* Gradients are closed forms. At a kink, and between equal scores, they are those of the side that
  still pulls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

from diffmetrics import _math
from diffmetrics._math import Activation, Axis
from diffmetrics._set_loss import activate, two_classes

Surrogate = Literal["hinge", "squared_hinge", "square", "exponential", "logistic"]


@_math.compiled("surrogate", "axis")
def roc_auc_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    surrogate: Surrogate = "squared_hinge",
    margin: ArrayLike = 1.0,
    axis: Axis = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> jax.Array:
    r"""Mean over all pairs of how far the positive fails to score above the negative.

    Use it, beside a cross-entropy, when the ranking is judged by its ROC AUC. With "hinge" or
    "squared_hinge" and a margin of 1, with "square", or with "exponential" it bounds 1 - AUC from
    above; "logistic" does so when divided by log 2.

    .. math:: \frac{1}{n_+ n_-} \sum_{i \in P} \sum_{j \in N} \ell(z_i - z_j)

    * "hinge": :math:`\max(0, m - d)`; "squared_hinge": its square; "square": :math:`(m - d)^2`,
      which also pulls back pairs that are further apart than m.
    * "exponential": :math:`e^{-d}` (RankBoost), ruled by the worst pair.
    * "logistic": :math:`\log(1 + e^{-d})` (RankNet), to 3e-7.

    Args:
      logits: real scores ``[...]``.
      labels: 0/1 of the same shape.
      surrogate: ℓ, one of the five. Static.
      margin: m > 0, in logits, of the hinges and of "square". Traced.
      axis: axes that form one set; the others remain. Default: all. Static.
      where: boolean, broadcasts to `logits`; False leaves an element out, even a NaN.
      weights: factor ≥ 0 per element, broadcasts to `logits`.

    Returns:
      Loss ≥ 0, of the shape of `logits` without `axis`; 0 with zero gradient if a class is absent.

    Raises:
      TypeError, ValueError: as in every set loss; `ValueError` for another surrogate.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, 0.5, 1.0, -1.0]), jnp.array([1, 1, 0, 0])
      >>> print(dm.roc_auc_loss(z, y), dm.roc_auc_loss(z, y, surrogate="hinge"))
      0.5625 0.375

    References:
      Rust and Hocking, A log-linear gradient descent algorithm for unbalanced binary
      classification, 2023, arXiv:2302.11062. Burges et al., Learning to rank using gradient
      descent, ICML 2005 (logistic). Freund et al., RankBoost, JMLR 2003 (exponential).
    """
    z, one, other = two_classes(logits, labels, axis, where, weights)
    return _of_pairs(surrogate)(z, one, other, _math.as_float(margin), jnp.ones(2, z.dtype))


@_math.compiled("surrogate", "axis")
def partial_roc_auc_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    max_fpr: ArrayLike,
    min_tpr: ArrayLike = 0.0,
    surrogate: Surrogate = "squared_hinge",
    margin: ArrayLike = 1.0,
    axis: Axis = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> jax.Array:
    r"""`roc_auc_loss` of the negatives that score highest, and of the positives that score lowest.

    Use it when only few false alarms can be afforded (`max_fpr`), and perhaps no less than so many
    positives may be missed (`min_tpr`): only the corner of the ROC curve counts. The fewer pairs
    remain, the noisier the gradient; and the hard negatives that are left are where wrong labels
    are, too.

    The mean goes over the share `max_fpr` of the negatives and the share ``1 - min_tpr`` of the
    positives; an element at the border counts in part. This is the CVaR form of the loss, at its
    optimum, with no state to keep. ``max_fpr=1, min_tpr=0`` is `roc_auc_loss`.

    Args:
      logits: real scores ``[...]``.
      labels: 0/1 of the same shape.
      max_fpr: in (0, 1]. Traced.
      min_tpr: in [0, 1). Traced.
      surrogate: as in `roc_auc_loss`. Static.
      margin: as in `roc_auc_loss`. Traced.
      axis: axes that form one set; the others remain. Default: all. Static.
      where: boolean, broadcasts to `logits`; False leaves an element out, even a NaN.
      weights: factor ≥ 0 per element, broadcasts to `logits`.

    Returns:
      Loss ≥ 0, of the shape of `logits` without `axis`; 0 with zero gradient if a class is absent.

    Raises:
      TypeError, ValueError: as in every set loss; `ValueError` for another surrogate, or rates
        that are not numbers.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, 0.5, 1.0, -1.0]), jnp.array([1, 1, 0, 0])
      >>> print(dm.partial_roc_auc_loss(z, y, max_fpr=0.5))
      1.125
      >>> print(dm.partial_roc_auc_loss(z, y, max_fpr=0.5, min_tpr=0.5))
      2.25

    References:
      Zhu et al., When AUC meets DRO, ICML 2022, arXiv:2203.00176.
    """
    z, one, other = two_classes(logits, labels, axis, where, weights)
    largest, least = _math.as_float(max_fpr), _math.as_float(min_tpr)
    for name, rate in (("max_fpr", largest), ("min_tpr", least)):
        if rate.ndim:
            raise ValueError(f"{name} must be a number, got shape {rate.shape}.")
    shares = jnp.stack([1.0 - least, largest])
    return _of_pairs(surrogate, partial=True)(z, one, other, _math.as_float(margin), shares)


# --- sums over pairs ------------------------------------------------------------------------------

# Value of a set, and the slope in every logit: a function of logits, masses of positives and of
# negatives that sum to 1, and a margin.
_Formula = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def _of_pairs(surrogate: str, *, partial: bool = False) -> Callable[..., jax.Array]:
    """The loss ``f(z, one, other, margin, shares)``; `shares` of positives and negatives count."""
    if surrogate not in _FORMULAS:
        raise ValueError(f"surrogate must be one of {', '.join(_FORMULAS)}, got {surrogate!r}.")
    formula, needs_order, shifted = _FORMULAS[surrogate]

    def both(z: Any, one: Any, other: Any, margin: Any, shares: Any) -> tuple[jax.Array, jax.Array]:
        total = [jnp.sum(mass, -1, keepdims=True) for mass in (one, other)]
        one, other = _math.divide(one, total[0]), _math.divide(other, total[1])
        if not (needs_order or partial):
            value, slope = formula(z, one, other, margin)
        else:
            limit = jnp.finfo(z.dtype).max
            moved = z + jnp.where(other > 0.0, margin, 0.0) if shifted else z
            order = _Order(jnp.clip(moved, -limit, limit))
            one, other = order.put(one), order.put(other)
            if partial:
                one, other = _lowest(one, shares[0]), _highest(other, shares[1])
            place = order.sorted if needs_order else order.put(z)
            value, slope = formula(place, one, other, margin)
            slope = order.back(slope)
        present = (total[0] > 0.0) & (total[1] > 0.0)
        return jnp.where(present[..., 0], value, 0.0), jnp.where(present, slope, 0.0)

    return _with_slopes(both)


def _lowest(mass: jax.Array, share: jax.Array) -> jax.Array:
    """What of a sorted mass of 1 lies in its lowest `share`, as a mass of 1."""
    below = jnp.cumsum(mass, -1) - mass
    return jnp.clip(share - below, 0.0, mass) / share


def _highest(mass: jax.Array, share: jax.Array) -> jax.Array:
    return jnp.flip(_lowest(jnp.flip(mass, -1), share), -1)


class _Order:
    """Rising order along the last axis: `put` things into it, and `back` from it."""

    def __init__(self, x: jax.Array) -> None:
        position = jax.lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1)
        self.sorted, self.origin = jax.lax.sort((x, position), num_keys=1)

    def put(self, x: jax.Array) -> jax.Array:
        return jnp.take_along_axis(x, self.origin, -1)

    def back(self, x: jax.Array) -> jax.Array:
        return jnp.put_along_axis(jnp.zeros_like(x), self.origin, x, axis=-1, inplace=False)


def _with_slopes(both: Callable[..., tuple[jax.Array, jax.Array]]) -> Callable[..., jax.Array]:
    """The first of what `both` returns, with the second as derivative in the logits.

    In everything else, and beyond the first derivative, autodiff applies.
    """

    @jax.custom_jvp
    def function(*arguments: jax.Array) -> jax.Array:
        return both(*arguments)[0]

    def rule(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
        value, slope = both(*primals)
        tangent = jnp.zeros_like(value)
        if not isinstance(tangents[0], SymbolicZero):
            tangent += jnp.sum(slope * tangents[0], -1)
        others = [i for i, t in enumerate(tangents) if i and not isinstance(t, SymbolicZero)]
        if others:

            def of(*some: jax.Array) -> jax.Array:
                filled: dict[int, Any] = dict(zip(others, some, strict=True))
                return both(*(filled.get(i, x) for i, x in enumerate(primals)))[0]

            at, along = (tuple(values[i] for i in others) for values in (primals, tangents))
            tangent += jax.jvp(of, at, along)[1]
        return value, tangent

    function.defjvp(rule, symbolic_zeros=True)
    return function


class _Gaps(NamedTuple):
    """Running sums over a sorted axis, from which all hinges are read."""

    gap: jax.Array
    """To the next; 0 after the last."""
    one_up_to: jax.Array
    """Mass of positives up to here, inclusive."""
    other_from: jax.Array
    """Mass of negatives from here on, inclusive."""
    lag: jax.Array
    """Sum over the positives before of how far they lie below."""


def _gaps(v: jax.Array, one: jax.Array, other: jax.Array) -> _Gaps:
    gap = _math.capped(jnp.diff(v, axis=-1, append=v[..., -1:]))
    up_to = jnp.cumsum(one, -1)
    return _Gaps(gap, up_to, _from_here(other), _before(_math.capped(up_to * gap)))


def _from_here(x: jax.Array) -> jax.Array:
    """Running sum from the end, inclusive."""
    return jax.lax.cumsum(x, axis=x.ndim - 1, reverse=True)


def _before(x: jax.Array) -> jax.Array:
    """Running sum over everything before."""
    return _math.capped(jnp.cumsum(_later(x), -1))


def _later(x: jax.Array) -> jax.Array:
    """`x` one place further on, after a 0."""
    return jnp.concatenate([jnp.zeros_like(x[..., :1]), x[..., :-1]], -1)


def _earlier(x: jax.Array) -> jax.Array:
    """`x` one place further back, before a 0."""
    return jnp.concatenate([x[..., 1:], jnp.zeros_like(x[..., :1])], -1)


def _weighted(mass: jax.Array, x: jax.Array) -> jax.Array:
    return _math.capped(jnp.sum(mass * x, -1))


def _hinge(v: jax.Array, one: jax.Array, other: jax.Array, _: Any) -> tuple[jax.Array, jax.Array]:
    """Of places `v`, where the negatives stand a margin too high: a pair costs what it overlaps."""
    gaps = _gaps(v, one, other)
    # A pair that is exactly at its margin still pulls, so equal places share their last count.
    last = gaps.gap > 0.0
    last = last.at[..., -1].set(True)
    first = _later(last).at[..., 0].set(True)
    axis = v.ndim - 1
    pulled = jax.lax.cummin(jnp.where(last, gaps.one_up_to, jnp.inf), axis=axis, reverse=True)
    pulling = jax.lax.cummin(jnp.where(first, gaps.other_from, jnp.inf), axis=axis)
    return _weighted(other, gaps.lag), other * pulled - one * pulling


def _squared_hinge(
    v: jax.Array, one: jax.Array, other: jax.Array, _: Any
) -> tuple[jax.Array, jax.Array]:
    """The sum of squares grows by 2 · gap · lag + mass · gap² from one place to the next."""
    gap, up_to, from_here, lag = _gaps(v, one, other)
    twice = _math.capped(2.0 * lag)
    square = _before(_math.capped(gap * twice) + up_to * _math.capped(gap * gap))
    lead = _math.capped(_from_here(_earlier(from_here) * gap))
    slope = other * twice - one * _math.capped(2.0 * lead)
    return _weighted(other, square), slope


def _square(
    z: jax.Array, one: jax.Array, other: jax.Array, margin: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The variances of both classes, and the square of what is missing between their means."""
    limit = 0.25 * float(jnp.finfo(z.dtype).max)
    # Around the positives, so that what the scores have in common costs the means no digits.
    z = jnp.clip(z - jax.lax.stop_gradient(jnp.sum(one * z, -1, keepdims=True)), -limit, limit)
    of_one, of_other = (jnp.sum(mass * z, -1, keepdims=True) for mass in (one, other))
    missing = jnp.clip(margin - of_one + of_other, -limit, limit)
    spread = [
        _weighted(mass, _math.capped(jnp.square(jnp.where(mass > 0.0, z - mean, 0.0))))
        for mass, mean in ((one, of_one), (other, of_other))
    ]
    value = _math.capped(spread[0] + spread[1] + _math.capped(jnp.square(missing[..., 0])))
    pull = jnp.clip(margin - z + of_other, -limit, limit)
    push = jnp.clip(margin - of_one + z, -limit, limit)
    return value, 2.0 * (other * push - one * pull)


def _exponential(
    z: jax.Array, one: jax.Array, other: jax.Array, _: Any
) -> tuple[jax.Array, jax.Array]:
    """A product of two sums, each taken relative to its largest term."""
    limit = float(jnp.finfo(z.dtype).max)
    down, up = jnp.where(one > 0.0, -z, -limit), jnp.where(other > 0.0, z, -limit)
    tops = [jnp.max(x, -1, keepdims=True) for x in (down, up)]
    terms = [
        mass * jnp.exp(x - jax.lax.stop_gradient(top))
        for mass, x, top in ((one, down, tops[0]), (other, up, tops[1]))
    ]
    sums = [jnp.sum(x, -1, keepdims=True) for x in terms]
    # Half the largest exponent for either factor, so that the product of three stays finite.
    scale = _math.capped(jnp.exp(jax.lax.stop_gradient(tops[0]) + jax.lax.stop_gradient(tops[1])))
    value = _math.capped(scale * sums[0] * sums[1])
    slope = scale * (terms[1] * sums[0] - terms[0] * sums[1])
    return value[..., 0], slope


# Minimax in both log(1 + u) and, each coefficient times its power, u / (1 + u), for u in [0, 1]:
# errors 2.2e-7 and 3.1e-7.
_LOG1P = (0.999985, -0.499673, 0.330344, -0.235441, 0.157038, -0.083399, 0.029047, -0.004754)
_ODDS = tuple(k * c for k, c in enumerate(_LOG1P, 1))


def _logistic(
    z: jax.Array, one: jax.Array, other: jax.Array, _: Any
) -> tuple[jax.Array, jax.Array]:
    """log(1 + exp(x)) is max(0, x) and a polynomial in exp(-|x|), whose sums decay from gap to gap.

    x is how far a negative lies above a positive; its sigmoid is 1 - u / (1 + u) or u / (1 + u).
    """
    gaps = _gaps(z, one, other)
    masses = jnp.stack([one, other])
    (log_one, log_other), (one_below, other_below) = _decayed(gaps.gap, masses, (_LOG1P, _ODDS))
    one_above, other_above = _decayed(gaps.gap, masses, (_ODDS,), reverse=True)[0]
    value = _weighted(other, gaps.lag + log_one) + _weighted(one, log_other)
    pushed = gaps.one_up_to - one_below + one_above
    pulled = gaps.other_from - other_above + other_below
    return _math.capped(value), other * pushed - one * pulled


_FORMULAS: dict[str, tuple[_Formula, bool, bool]] = {
    # Whether it needs an order, and whether the negatives stand a margin higher in it.
    "hinge": (_hinge, True, True),
    "squared_hinge": (_squared_hinge, True, True),
    "square": (_square, False, False),
    "exponential": (_exponential, False, False),
    "logistic": (_logistic, True, False),
}


def _decayed(
    gap: jax.Array,
    masses: jax.Array,
    polynomials: tuple[tuple[float, ...], ...],
    *,
    reverse: bool = False,
) -> jax.Array:
    r"""Sums over everything before (or after) of its mass times a polynomial in exp(-distance).

    Args:
      gap: distance to the next place ``[..., n]``.
      masses: ``[M, ..., n]``.
      polynomials: coefficients of the first, second … power.
      reverse: sum over everything after.

    Returns:
      ``[P, M, ..., n]``.
    """
    if reverse:
        flipped = _decayed(jnp.flip(_later(gap), -1), jnp.flip(masses, -1), polynomials)
        return jnp.flip(flipped, -1)
    n = gap.shape[-1]
    length = max(int(n**0.5), 1)
    decay = jnp.exp(-_later(gap))

    def blocks(x: jax.Array, fill: float) -> jax.Array:
        """``[..., n]`` as ``[length, ..., number]``: the place in a block first, to scan over."""
        padding = [(0, 0)] * (x.ndim - 1) + [(0, -n % length)]
        padded = jnp.pad(x, padding, constant_values=fill)
        return jnp.moveaxis(padded.reshape(*x.shape[:-1], -1, length), -1, 0)

    decays, inside = blocks(decay, 1.0), blocks(masses, 0.0)
    powers = range(len(polynomials[0]))
    # Made of the data, because a scan in `shard_map` may not start from what all devices share.
    nothing = 0.0 * inside[0]
    zeros = jnp.stack([nothing] * len(powers))

    def along(state: Any, here: Any) -> Any:
        """One place further in all blocks at once; what came before a block is not yet known."""
        held, reach = state
        step, mass = here
        reach = reach * step
        found = held * jnp.stack([step ** (k + 1) for k in powers])[:, None]
        sums = jnp.stack([_polynomial(c, found) for c in polynomials])
        return (found + mass, reach), (sums, reach)

    first = (zeros, 0.0 * decays[0] + 1.0)
    (held, reach), (sums, reaches) = jax.lax.scan(along, first, (decays, inside))

    def across(carry: jax.Array, block: Any) -> tuple[jax.Array, jax.Array]:
        left, reach = block
        return left + carry * jnp.stack([reach ** (k + 1) for k in powers])[:, None], carry

    over = (jnp.moveaxis(held, -1, 0), jnp.moveaxis(reach, -1, 0))
    _, carried = jax.lax.scan(across, zeros[..., 0], over)
    carried = jnp.moveaxis(carried, 0, -1)
    # What comes into a block decays on in it: a polynomial in the distance from its border.
    reaches = jnp.expand_dims(reaches, (1, 2))
    rest = jnp.zeros_like(sums)
    for k in reversed(powers):
        of_power = jnp.stack([c[k] * carried[k] for c in polynomials])
        rest = (rest + of_power) * reaches
    found = jnp.moveaxis(sums + rest, 0, -1)
    return found.reshape(*found.shape[:-2], -1)[..., :n]


def _polynomial(coefficients: tuple[float, ...], powers: jax.Array) -> jax.Array:
    return sum(
        (c * x for c, x in zip(coefficients, powers, strict=True)), jnp.zeros_like(powers[0])
    )


# --- average precision ----------------------------------------------------------------------------


@_math.compiled("axis")
def average_precision_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    axis: Axis = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> jax.Array:
    r"""One minus average precision, with soft ranks: Smooth-AP.

    Use it, beside a cross-entropy, when the ranking is judged by AP and positives are rare. A small
    temperature is close to AP and has hardly any gradient; a large one is smooth and far from it.
    Start at the usual distance between neighbouring scores or above: 1 for logits, 0.01 to 0.1 for
    cosines.

    .. math:: 1 - \frac{1}{n_+} \sum_{i \in P} \frac{r^P_i}{r_i}, \quad
       r_i = \tfrac12 + \sum_j F\Bigl(\frac{z_j - z_i}{\tau}\Bigr)

    with :math:`r^P` the same sum over the positives, and F the distribution function of Laplace,
    which a running sum can add up, where the paper has a sigmoid.

    Args:
      logits: real scores ``[...]``.
      labels: 0/1 of the same shape.
      temperature: τ > 0, in logits; towards 0 the loss is one minus the exact AP of scores that
        differ. Traced.
      axis: axes that form one set; the others remain. Default: all. Static.
      where: boolean, broadcasts to `logits`; False leaves an element out, even a NaN.
      weights: factor ≥ 0 per element, broadcasts to `logits`.

    Returns:
      Loss in [0, 1], of the shape of `logits` without `axis`; 0 with zero gradient without a
      positive.

    Raises:
      TypeError, ValueError: as in every set loss.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, 0.5, 1.0, -1.0]), jnp.array([1, 1, 0, 0])
      >>> print(dm.average_precision_loss(z, y))
      0.2289
      >>> print(dm.average_precision_loss(z, y, temperature=0.01))
      0.1667

    References:
      Brown et al., Smooth-AP: smoothing the path towards large-scale image retrieval, 2020,
      arXiv:2007.12163.
    """
    z, one, other = two_classes(logits, labels, axis, where, weights)
    return _smooth_ap(z, one, other, _math.as_float(temperature))


def _smooth_ap_and_slope(
    z: jax.Array, one: jax.Array, other: jax.Array, temperature: jax.Array
) -> tuple[jax.Array, jax.Array]:
    order = _Order(z)
    gap = _math.capped(jnp.diff(order.sorted, axis=-1, append=order.sorted[..., -1:]))
    gap = _math.capped(gap / temperature)
    one = order.put(one)
    masses = jnp.stack([one, one + order.put(other)])
    near = (_of_neighbours(gap, masses, reverse=False), _of_neighbours(gap, masses, reverse=True))
    above = _from_here(_earlier(masses))
    ranks = 0.5 + 0.5 * masses + above + 0.5 * (near[0] - near[1])
    precision = ranks[0] / ranks[1]
    share = _math.divide(one, jnp.sum(one, -1, keepdims=True))
    value = jnp.sum(share * (1.0 - precision), -1)
    # What the loss gains from each rank, and where the two sums of the rank come from.
    gains = jnp.stack([-share / ranks[1], share * precision / ranks[1]])
    pulls = _of_neighbours(gap, gains, reverse=False) + _of_neighbours(gap, gains, reverse=True)
    slope = jnp.sum(masses * pulls - gains * (near[0] + near[1]), 0) * (0.5 / temperature)
    return value, order.back(slope)


def _of_neighbours(gap: jax.Array, masses: jax.Array, *, reverse: bool) -> jax.Array:
    """Sums of what lies before (or after), each times exp(-distance)."""
    return _decayed(gap, masses, ((1.0,),), reverse=reverse)[0]


_smooth_ap = _with_slopes(_smooth_ap_and_slope)


# --- other losses of a ranking --------------------------------------------------------------------


@_math.compiled("axis", "activation")
def aucm_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    margin: ArrayLike = 1.0,
    axis: Axis = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    activation: Activation = jax.nn.sigmoid,
) -> jax.Array:
    r"""AUC margin loss: the variances of both classes, and what is missing between their means.

    Use it in the place of ``roc_auc_loss(surrogate="square")``, whose easy pairs it lets be: it
    bounds the distance of the means from one side only. The published form is a minimax problem
    with three more variables and an optimiser of its own; at their optimum, for a batch, it is
    this.

    .. math:: \mathrm{Var}_+ + \mathrm{Var}_- + \max(0, m + \mu_- - \mu_+)^2

    Args:
      logits: real scores ``[...]``.
      labels: 0/1 of the same shape.
      margin: m, in units of the activated scores. Traced.
      axis: axes that form one set; the others remain. Default: all. Static.
      where: boolean, broadcasts to `logits`; False leaves an element out, even a NaN.
      weights: factor ≥ 0 per element, broadcasts to `logits`.
      activation: of the logits, as published a sigmoid. Static.

    Returns:
      Loss ≥ 0, of the shape of `logits` without `axis`; 0 with zero gradient if a class is absent.

    Raises:
      TypeError, ValueError: as in every set loss.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, 0.5, 1.0, -1.0]), jnp.array([1, 1, 0, 0])
      >>> print(dm.aucm_loss(z, y))
      0.6301

    References:
      Yuan et al., Large-scale robust deep AUC maximization, ICCV 2021, arXiv:2012.03173.
    """
    p, *_ = activate(logits, labels, where, weights, activation)
    p, one, other = two_classes(p, labels, axis, where, weights)
    total = [jnp.sum(mass, -1, keepdims=True) for mass in (one, other)]
    shares = [_math.divide(mass, whole) for mass, whole in zip((one, other), total, strict=True)]
    means = [jnp.sum(share * p, -1, keepdims=True) for share in shares]
    spreads = [
        jnp.sum(share * jnp.square(p - mean), -1) for share, mean in zip(shares, means, strict=True)
    ]
    missing = jax.nn.relu(margin + means[1] - means[0])[..., 0]
    present = (total[0] > 0.0) & (total[1] > 0.0)
    return jnp.where(present[..., 0], spreads[0] + spreads[1] + jnp.square(missing), 0.0)


@_math.compiled("axis")
def aum_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: Axis = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> jax.Array:
    r"""Area under the minimum of both error rates, as the threshold moves.

    Use it with full batches of a linear model, for which it was made. It knows no margin: once the
    ranking is perfect it is 0 and has no gradient. Of sixteen losses it came last by AP on small
    tabular sets.

    .. math:: \int \min(\mathrm{FPR}(t), \mathrm{FNR}(t))\, dt

    Args:
      logits: real scores ``[...]``.
      labels: 0/1 of the same shape.
      axis: axes that form one set; the others remain. Default: all. Static.
      where: boolean, broadcasts to `logits`; False leaves an element out, even a NaN.
      weights: factor ≥ 0 per element, broadcasts to `logits`.

    Returns:
      Loss ≥ 0, in logits, of the shape of `logits` without `axis`; 0 with zero gradient if a class
      is absent.

    Raises:
      TypeError, ValueError: as in every set loss.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, 0.5, 1.0, -1.0]), jnp.array([1, 1, 0, 0])
      >>> print(dm.aum_loss(z, y))
      0.25

    References:
      Hillman and Hocking, Optimizing ROC curves with a sort-based surrogate loss for binary
      classification and changepoint detection, JMLR 2023, arXiv:2107.01285.
    """
    z, one, other = two_classes(logits, labels, axis, where, weights)
    return _aum(z, one, other)


def _aum_and_slope(z: jax.Array, one: jax.Array, other: jax.Array) -> tuple[jax.Array, jax.Array]:
    order = _Order(z)
    one, other = order.put(one), order.put(other)
    missed = _math.divide(jnp.cumsum(one, -1), jnp.sum(one, -1, keepdims=True))
    alarms = _math.divide(_from_here(other) - other, jnp.sum(other, -1, keepdims=True))
    # Between a place and the next.
    least = jnp.minimum(missed, alarms).at[..., -1].set(0.0)
    gap = _math.capped(jnp.diff(order.sorted, axis=-1, append=order.sorted[..., -1:]))
    return _weighted(least, gap), order.back(_later(least) - least)


_aum = _with_slopes(_aum_and_slope)
