"""Proper scoring rules besides cross-entropy: least, on average, at the true probability.

They differ in the probabilities at which they want to be right. All are calibrated if the network
can fit the data; where it cannot, the choice says where it may be wrong.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import doors, numbers, slopes


@doors.compiled()
def brier_loss(logits: ArrayLike, labels: ArrayLike) -> jax.Array:
    r"""Squared error of the probability, for every element.

    Use it where the Brier score is judged, or where a few wrong labels must not dominate: no
    element costs more than 1. The gradient of a confidently wrong one vanishes, so a badly
    initialised network starts more slowly than with cross-entropy.

    .. math:: (\sigma(z) - y)^2

    A label in between is compared as it is, so that the loss is 0 where the probability equals it.
    That is less by y (1 - y) than the mixture of the losses of 0 and 1, and has the same gradient.

    Args:
      logits: real scores ``[...]``.
      labels: 0/1 or probabilities ``[...]``.

    Returns:
      Loss in [0, 1] ``[...]``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(dm.brier_loss(jnp.array([2.0, -1.0, 0.5]), jnp.array([1, 0, 1])).round(2))
      [0.01 0.07 0.14]

    References:
      Brier, Verification of forecasts expressed in terms of probability, Monthly Weather Review,
      1950 (whose score sums over both classes and is twice this).
    """
    return _brier_loss(*doors.binary(logits, labels))


def _brier(z: jax.Array, y: jax.Array) -> jax.Array:
    return (jax.nn.sigmoid(z) - y) ** 2


def _brier_slope(z: jax.Array, y: jax.Array) -> jax.Array:
    p_one, p_zero = slopes.sigmoids(z)
    # The first factor is the probability minus the label, without cancellation where they agree.
    return 2.0 * ((1.0 - y) * p_one - y * p_zero) * (p_one * p_zero)


_brier_loss = slopes.with_slope(_brier, _brier_slope)


@doors.compiled()
def winkler_loss(logits: ArrayLike, labels: ArrayLike, *, center: ArrayLike) -> jax.Array:
    r"""Brier score measured against a constant forecast on either side of it, for every element.

    Use it for rare events, whose Brier score is small for every forecast: with the base rate as
    `center`, forecasting the base rate costs 1, perfect forecasts cost 0, and those worse than the
    base rate more than 1 on average. It is the Brier score times ``1 / center**2`` for forecasts
    below `center` and ``1 / (1 - center)**2`` above, put together at 1, so that for a small
    `center` a missed event weighs most. It stays proper. The slope in the probability jumps by the
    ratio of the two factors at `center`, where the one from above is taken.

    .. math:: 1 - \frac{(y - c)^2 - (y - q)^2}{T}, \quad
              T = (1-c)^2 \text{ if } q \ge c \text{ else } c^2

    with q the sigmoid of the logit and c = `center`.

    Args:
      logits: real scores ``[...]``.
      labels: 0/1 ``[...]``; probabilities mix the losses of 0 and 1.
      center: the forecast without skill, in (0, 1), usually the base rate. Traced.

    Returns:
      Loss ≥ 0 ``[...]``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -3.0, -3.0]), jnp.array([1, 0, 1])
      >>> print(dm.winkler_loss(z, y, center=0.1).round(2))
      [ 0.02  0.22 10.74]

    References:
      Winkler, Evaluating probabilities: asymmetric scoring rules, Management Science, 1994.
    """
    z, y = doors.binary(logits, labels)
    center = doors.parameter("center", center, z.shape)
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


_winkler_loss = slopes.with_slope(_winkler, _winkler_slope)


@doors.compiled()
def beta_family_loss(
    logits: ArrayLike, labels: ArrayLike, *, alpha: ArrayLike, beta: ArrayLike
) -> jax.Array:
    r"""The proper scoring rule that weighs thresholds by a beta distribution, for every element.

    Use it when the decision will be made near one threshold and the network is too small to be
    right everywhere. A proper loss is a mixture of the costs of all thresholds t; this one weighs
    them by :math:`t^{\alpha-1} (1-t)^{\beta-1}`, which concentrates about α / (α + β), the more
    the larger both are. It stays calibrated where cross-entropy with class weights does not.

    (0, 0) is cross-entropy, (1, 1) half the Brier loss, (-½, -½) that of boosting, 2 exp(∓z/2).
    The larger α and β, the flatter the loss far from its threshold, the slower the start,
    and the smaller the numbers, because nothing is divided by the beta function. Below 0 the loss
    grows exponentially with the logit.

    .. math:: y \int_q^1 t^{\alpha-1} (1-t)^\beta dt + (1-y) \int_0^q t^\alpha (1-t)^{\beta-1} dt

    with q the sigmoid of the logit. The derivative is closed; the value takes two power series per
    element, a hundred multiplications or so, which is nothing beside a network and a lot beside
    cross-entropy.

    Args:
      logits: real scores ``[...]``.
      labels: 0/1 ``[...]``; probabilities mix the losses of 0 and 1.
      alpha: exponent at 0, real and > -1. Beyond 5 or so the value loses digits in float32; its
        gradient does not. Traced.
      beta: exponent at 1, alike. Traced.

    Returns:
      Loss ≥ 0 ``[...]``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -1.0, 0.5]), jnp.array([1, 0, 1])
      >>> print(dm.beta_family_loss(z, y, alpha=0.5, beta=1.0).round(2))
      [0.01 0.09 0.08]

    References:
      Buja, Stuetzle and Shen, Loss functions for binary class probability estimation and
      classification: structure and applications, 2005.
    """
    z, y = doors.binary(logits, labels)
    alpha, beta = doors.parameter("alpha", alpha, z.shape), doors.parameter("beta", beta, z.shape)
    # A slope beyond the largest number of the logits' own type would become infinite in it.
    limit = jnp.log(jnp.asarray(jnp.finfo(z.dtype).max, numbers.accumulator(z.dtype))) - 1e-4
    return _beta_family_loss(z, y, alpha, beta, limit)


def _beta(
    z: jax.Array, y: jax.Array, alpha: jax.Array, beta: jax.Array, _limit: jax.Array
) -> jax.Array:
    """Power series in twice the smaller probability, w = 2 min(q, 1 - q) ≤ 1.

    The loss of 0 at q is that of 1 at 1 - q with α and β swapped. So the label that is the more
    probable has an integral from 0 to w/2, and the other one that from w/2 to ½ and then to 1.
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

    By the binomial series of the second factor; as many as the type of `like` can see.
    """
    s, r = jnp.broadcast_arrays(s, r)
    n = jnp.arange(jnp.finfo(like.dtype).nmant + 5, dtype=like.dtype)
    n = n.reshape(-1, *[1] * s.ndim)
    binomial = jnp.cumprod(jnp.where(n > 0.0, (n - 1.0 - r) / jnp.maximum(n, 1.0), 1.0), 0)
    n, binomial = n[first:], binomial[first:]
    return binomial * jnp.exp(-(s + n) * jnp.log(2.0)) / (s + n)


def _decayed(decay: jax.Array, s: jax.Array) -> jax.Array:
    """The integral of exp(-s t) over t from 0 to `decay`, for s of either sign and 0.

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
    # The exponents are held, not the powers, whose derivative would be infinity times zero.
    if_positive = jnp.minimum(-alpha * loss_one - (beta + 1.0) * loss_zero, limit)
    if_negative = jnp.minimum(-(alpha + 1.0) * loss_one - beta * loss_zero, limit)
    return (1.0 - y) * jnp.exp(if_negative) - y * jnp.exp(if_positive)


_beta_family_loss = slopes.with_slope(_beta, _beta_slope)
