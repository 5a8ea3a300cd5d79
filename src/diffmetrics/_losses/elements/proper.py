"""Proper scoring rules besides cross-entropy: on average they are least at the true probability.

All are calibrated if the network can fit the data. If not, they differ in where errors matter most.
"""

from __future__ import annotations

import functools
from typing import Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import doors, examples, numbers, slopes
from diffmetrics._core.calls import ElementOptions


@examples.per_element()
def brier_loss(logits: ArrayLike, labels: ArrayLike, **_: Unpack[ElementOptions]) -> jax.Array:
    r"""Brier loss: the squared error of the probability, for every element.

    Use it if you are judged by the Brier score, or where a few wrong labels must not dominate: no
    element costs more than 1. The gradient of a confidently wrong element vanishes, so a badly
    initialised network starts more slowly than with cross-entropy. A soft label y has the mixture
    of the losses of 0 and 1. That is y (1 - y) even at probability y; its gradient is the one of
    the square alone.

    .. math:: (\sigma(z) - y)^2 + y (1 - y)

    Args:
      logits: real scores ``[...]`` of any shape.
      labels: 0/1 or probabilities ``[...]``.

    Returns:
      Loss in [0, 1] of each element ``[...]``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(dm.brier_loss(jnp.array([2.0, -1.0, 0.5]), jnp.array([1, 0, 1])).round(2))
      [0.01 0.07 0.14]

    References:
      Brier, Verification of forecasts expressed in terms of probability, Monthly Weather Review,
      1950. That score sums over both classes and is twice this one.
    """
    return _brier_loss(*doors.binary(logits, labels))


def _brier(z: jax.Array, y: jax.Array) -> jax.Array:
    return (jax.nn.sigmoid(z) - y) ** 2 + y * (1.0 - y)


def _brier_slope(z: jax.Array, y: jax.Array) -> jax.Array:
    p_one, p_zero = slopes.sigmoids(z)
    # The first factor is the probability minus the label, without cancellation where they agree.
    return 2.0 * ((1.0 - y) * p_one - y * p_zero) * (p_one * p_zero)


_brier_loss = slopes.of_logit(_brier, _brier_slope, bounded=True)


@examples.per_element()
def winkler_loss(
    logits: ArrayLike, labels: ArrayLike, *, center: ArrayLike, **_: Unpack[ElementOptions]
) -> jax.Array:
    r"""Winkler loss: a Brier score relative to a constant forecast, scaled on each side of it.

    Use it for rare events, whose Brier score is small for every forecast. If c is the base rate, a
    perfect forecast costs 0, the base rate costs 1, and a worse forecast costs more than 1 on
    average. It is the Brier score times 1/c² for forecasts below c and 1/(1-c)² above, shifted to 1
    at c; a small c makes a missed event weigh most. It is proper. Its slope jumps at c; at c it is
    the one from above.

    .. math::
       L &= 1 - \frac{(y - c)^2 - (y - q)^2}{T}

       T &= (1-c)^2 \text{ if } q \ge c \text{ else } c^2

       q &= \sigma(z)

    Args:
      logits: real scores ``[...]`` of any shape.
      labels: 0/1 ``[...]``; probabilities mix the losses of 0 and 1.
      center: c in (0, 1), the forecast without skill; usually the base rate.

    Returns:
      Loss ≥ 0 of each element ``[...]``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -3.0, -3.0]), jnp.array([1, 0, 1])
      >>> print(dm.winkler_loss(z, y, center=0.1).round(2))
      [ 0.02  0.22 10.74]

    References:
      Winkler, Evaluating probabilities: asymmetric scoring rules, Management Science, 1994.
    """
    z, y = doors.binary(logits, labels)
    center = doors.parameter("center", center, z)
    above, below = (numbers.divide(1.0, c * c) for c in (1.0 - center, center))
    return _winkler_loss(z, y, center, above, below)


def _winkler(
    z: jax.Array, y: jax.Array, center: jax.Array, above: jax.Array, below: jax.Array
) -> jax.Array:
    q = jax.nn.sigmoid(z)
    # Not a `where` in front of a sum: see `slopes`.
    gap = above * jnp.maximum(q - center, 0.0) + below * jnp.minimum(q - center, 0.0)
    return 1.0 - gap * (2.0 * y - q - center)


def _winkler_slope(
    z: jax.Array, y: jax.Array, center: jax.Array, above: jax.Array, below: jax.Array
) -> jax.Array:
    q, _ = slopes.sigmoids(z)  # not `jax.nn.sigmoid`, which would be one more exponential
    return jnp.where(q >= center, above, below) * _brier_slope(z, y)


_winkler_loss = slopes.of_logit(_winkler, _winkler_slope)


@examples.per_element()
def beta_family_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: ArrayLike,
    beta: ArrayLike,
    **_: Unpack[ElementOptions],
) -> jax.Array:
    r"""Beta-family loss: the proper scoring rule that weighs thresholds by a beta distribution.

    Use it when the decision will be made near one threshold and the network is too small to be
    right everywhere. A proper loss is a mixture of the costs at all thresholds t; this one weighs
    them by :math:`t^{\alpha-1} (1-t)^{\beta-1}`, which concentrates about α / (α + β), more so
    for larger α and β. It stays calibrated where cross-entropy with class weights does not.

    With (α, β) = (0, 0) it is cross-entropy, with (1, 1) half the Brier loss, with (-½, -½) the
    loss of boosting, 2 exp(∓z/2). With larger α and β the loss is flatter far from its threshold,
    starts more slowly, and is smaller, because nothing is divided by the beta function. With α and
    β below 0 it grows exponentially with z.

    .. math::
       L &= y \int_q^1 t^{\alpha-1} (1-t)^\beta dt

       &\quad {} + (1-y) \int_0^q t^\alpha (1-t)^{\beta-1} dt

    where :math:`q = \sigma(z)`. The value takes two power series, about a hundred multiplications
    per element; the derivative has a closed form.

    Args:
      logits: real scores ``[...]`` of any shape.
      labels: 0/1 ``[...]``; probabilities mix the losses of 0 and 1.
      alpha: exponent α > -1, at 0. Beyond about 5 the value, not the slope, loses digits in
        float32.
      beta: exponent β > -1, at 1, with the same limits.

    Returns:
      Loss ≥ 0 of each element ``[...]``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -1.0, 0.5]), jnp.array([1, 0, 1])
      >>> print(dm.beta_family_loss(z, y, alpha=0.5, beta=1.0).round(2))
      [0.01 0.09 0.08]

    References:
      Buja et al., Loss functions for binary class probability estimation, 2005.
    """
    z, y = doors.binary(logits, labels)
    alpha, beta = doors.parameter("alpha", alpha, z), doors.parameter("beta", beta, z)
    # A slope beyond the largest number of the logits' own type would become infinite in it.
    limit = jnp.log(jnp.asarray(jnp.finfo(z.dtype).max, numbers.accumulator(z.dtype))) - 1e-4
    return _beta_family_loss(z, y, alpha, beta, limit)


def _beta(
    z: jax.Array, y: jax.Array, alpha: jax.Array, beta: jax.Array, _limit: jax.Array
) -> jax.Array:
    """Power series in twice the smaller probability, w = 2 min(q, 1 - q) ≤ 1.

    The loss of 0 at q is that of 1 at 1 - q with α and β swapped. So the more probable label has
    an integral from 0 to w/2, and the other one an integral from w/2 to ½ and on to 1.
    """
    positive = jnp.asarray(z >= 0.0, z.dtype)
    decay = jnp.maximum(slopes.softpluses(jnp.abs(z))[0] - jnp.log(2.0), 0.0)
    w = jnp.exp(-decay)
    right_of_1, wrong_of_1 = _terms(beta + 1.0, alpha - 1.0, 0, z), _terms(alpha, beta, 1, z)
    right_of_0, wrong_of_0 = _terms(alpha + 1.0, beta - 1.0, 0, z), _terms(beta, alpha, 1, z)

    def chosen(if_positive: jax.Array, if_negative: jax.Array) -> jax.Array:
        # Not a `where` in front of a sum: see `slopes`.
        return if_negative + (if_positive - if_negative) * positive

    def series(if_positive: jax.Array, if_negative: jax.Array) -> jax.Array:
        pairs = list(zip(if_positive, if_negative, strict=True))
        return functools.reduce(
            lambda total, pair: total * w + chosen(*pair), reversed(pairs), 0.0 * w
        )

    exponent = chosen(beta, alpha)
    whole = chosen(
        jnp.sum(right_of_0, 0) + jnp.sum(wrong_of_0, 0),
        jnp.sum(right_of_1, 0) + jnp.sum(wrong_of_1, 0),
    )
    share = jnp.exp(-(exponent + 1.0) * decay)
    right = share * series(right_of_1, right_of_0)
    first = jnp.exp(-exponent * jnp.log(2.0)) * _decayed(decay, exponent)
    wrong = numbers.capped(first + (whole - share * series(wrong_of_0, wrong_of_1)))
    is_right = chosen(y, 1.0 - y)
    return is_right * right + (1.0 - is_right) * wrong


def _terms(s: jax.Array, r: jax.Array, first: int, like: jax.Array) -> jax.Array:
    """The terms from the `first` on, at x = ½, of the integral of u^(s-1) (1-u)^r from 0 to x.

    They come from the binomial series of the second factor, as many as the type of `like` resolves.
    """
    s, r = jnp.broadcast_arrays(s, r)
    n = jnp.arange(jnp.finfo(like.dtype).nmant + 5, dtype=like.dtype)
    n = n.reshape(-1, *[1] * s.ndim)
    s, r = s[None], r[None]
    binomial = jnp.cumprod(jnp.where(n > 0.0, (n - 1.0 - r) / jnp.maximum(n, 1.0), 1.0), 0)
    n, binomial = n[first:], binomial[first:]
    return binomial * jnp.exp(-(s + n) * jnp.log(2.0)) / (s + n)


def _decayed(decay: jax.Array, s: jax.Array) -> jax.Array:
    """The integral of exp(-s t) over t from 0 to `decay`, for any real s.

    With x = s · decay it is decay · (1 - exp(-x)) / x, and for -x that times exp(x). Numerator and
    denominator are kept small, because the inverse of a large x would underflow.
    """
    small = 2.0**-32
    part = (small * s) * decay
    size = jnp.maximum(jnp.abs(part), 1e-9 * small)
    mean = (small * decay) * (-jnp.expm1(-size / small) / size)
    top = jnp.log(jnp.finfo(decay.dtype).max)
    return jnp.exp(jnp.minimum(jnp.maximum(-part / small, 0.0), top)) * mean


def _beta_slope(
    z: jax.Array, y: jax.Array, alpha: jax.Array, beta: jax.Array, limit: jax.Array
) -> jax.Array:
    loss_zero, loss_one = slopes.softpluses(z, True)
    # The exponents are clamped, not the powers, whose derivative would be infinity times zero.
    if_positive = jnp.minimum(-alpha * loss_one - (beta + 1.0) * loss_zero, limit)
    if_negative = jnp.minimum(-(alpha + 1.0) * loss_one - beta * loss_zero, limit)
    return (1.0 - y) * jnp.exp(if_negative) - y * jnp.exp(if_positive)


_beta_family_loss = slopes.of_logit(_beta, _beta_slope)
