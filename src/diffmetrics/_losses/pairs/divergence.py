"""Divergences (KL, Jeffreys, Jensen–Shannon): one value per pair of distributions.

The classes lie on the last axis. Pass logits if you have them: they need no epsilon. A divergence
is at most 3e38.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import doors, examples, numbers, slopes
from diffmetrics._core.calls import ClassOptions
from diffmetrics._losses.pairs.softmax_pairs import js, kl, pair, symmetric_kl


@examples.per_example()
def kl_divergence(
    logits_p: ArrayLike, logits_q: ArrayLike, **options: Unpack[ClassOptions]
) -> jax.Array:
    r"""KL divergence (Kullback–Leibler) of Q from P, for every pair of softmax distributions.

    Use it if P is the truth or the teacher, and Q the student, as in distillation: Q pays for being
    small where P is large, and hardly for the reverse. If both are trained, use a symmetric
    divergence. In float32 the absolute error is about 1e-7; a value that rounding makes negative
    becomes 0 and keeps its gradient.

    .. math:: \mathrm{KL}(P \| Q) = \sum_k p_k \log \frac{p_k}{q_k}

    Args:
      logits_p: logits of P ``[..., C]``.
      logits_q: logits of Q ``[..., C]``.

    Returns:
      Divergence ≥ 0 of each pair ``[...]``, in nats, without an upper bound.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> p = jnp.array([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
      >>> q = jnp.array([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
      >>> print(dm.kl_divergence(p, q).round(4))
      [0.7794 0.1118]

    References:
      Kullback and Leibler, On information and sufficiency, 1951.
    """
    return kl(*pair(logits_p, logits_q, **options))


@examples.per_example()
def symmetric_kl_divergence(
    logits_p: ArrayLike, logits_q: ArrayLike, **options: Unpack[ClassOptions]
) -> jax.Array:
    r"""Symmetric KL (Jeffreys) divergence of softmax distributions: KL in both directions, added.

    Use it to compare two distributions if neither is the reference. Like KL it has no upper bound,
    so one pair can outweigh a batch; `js_divergence` is bounded.

    .. math::
       D &= \mathrm{KL}(P \| Q) + \mathrm{KL}(Q \| P)

       &= \sum_k (p_k - q_k) \log \frac{p_k}{q_k}

    Args:
      logits_p: logits of P ``[..., C]``.
      logits_q: logits of Q ``[..., C]``.

    Returns:
      Divergence ≥ 0 of each pair ``[...]``, in nats; the sum, not the mean, of both directions.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> p = jnp.array([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
      >>> q = jnp.array([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
      >>> print(dm.symmetric_kl_divergence(p, q).round(4))
      [1.6197 0.2104]

    References:
      Jeffreys, An invariant form for the prior probability in estimation problems, 1946.
    """
    return symmetric_kl(*pair(logits_p, logits_q, **options))


@examples.per_example()
def js_divergence(
    logits_p: ArrayLike, logits_q: ArrayLike, **options: Unpack[ClassOptions]
) -> jax.Array:
    r"""JS divergence (Jensen–Shannon) of every pair of softmax distributions.

    Use it where single pairs must not dominate: it lies between 0 (equal) and log 2 (disjoint), and
    its square root is a metric. In return the gradient vanishes for distributions far apart. A
    value that rounding makes negative becomes 0 and keeps its gradient.

    .. math::
       D &= \tfrac12 \mathrm{KL}(P \| M) + \tfrac12 \mathrm{KL}(Q \| M)

       M &= \tfrac12 (P+Q)

    Args:
      logits_p: logits of P ``[..., C]``.
      logits_q: logits of Q ``[..., C]``.

    Returns:
      Divergence in [0, log 2] of each pair ``[...]``, in nats.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> p = jnp.array([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
      >>> q = jnp.array([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
      >>> print(dm.js_divergence(p, q).round(4))
      [0.1857 0.0259]

    References:
      Lin, Divergence measures based on the Shannon entropy, 1991.
    """
    return js(*pair(logits_p, logits_q, **options))


@examples.per_example()
def kl_divergence_from_probabilities(
    p: ArrayLike, q: ArrayLike, *, epsilon: ArrayLike = 1e-7, **options: Unpack[ClassOptions]
) -> jax.Array:
    r"""KL divergence (Kullback–Leibler) of Q from P, for every pair given by probabilities.

    Use `kl_divergence` if you have logits. `epsilon` is added to both; nothing is clipped. A
    clipped probability has no gradient, so a class at 0 could never come back; here its slope is
    :math:`-p_k / \epsilon`. Nothing is normalised: if sums differ, the value can be negative.

    .. math:: \sum_k (p_k + \epsilon) \log \frac{p_k + \epsilon}{q_k + \epsilon}

    Args:
      p: probabilities of P ``[..., C]``; they may be 0.
      q: probabilities of Q ``[..., C]``; they may be 0.
      epsilon: added to every probability, > 0.

    Returns:
      Divergence of each pair ``[...]``, in nats.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> p, q = jnp.array([[1.0, 0.0], [0.5, 0.5]]), jnp.array([[0.5, 0.5], [0.6, 0.4]])
      >>> print(dm.kl_divergence_from_probabilities(p, q).round(4))
      [0.6931 0.0204]

    References:
      Kullback and Leibler, On information and sufficiency, 1951.
    """
    return _sum_of(_kl, p, q, epsilon, **options)


@examples.per_example()
def symmetric_kl_divergence_from_probabilities(
    p: ArrayLike, q: ArrayLike, *, epsilon: ArrayLike = 1e-7, **options: Unpack[ClassOptions]
) -> jax.Array:
    r"""Symmetric KL (Jeffreys) divergence given probabilities: KL in both directions, added.

    Use `symmetric_kl_divergence` if you have logits. `epsilon` keeps a gradient at probability 0.

    .. math:: \sum_k (p_k - q_k) \log \frac{p_k + \epsilon}{q_k + \epsilon}

    Args:
      p: probabilities of P ``[..., C]``; they may be 0.
      q: probabilities of Q ``[..., C]``; they may be 0.
      epsilon: added to every probability, > 0.

    Returns:
      Divergence ≥ 0 of each pair ``[...]``, in nats.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> p, q = jnp.array([[1.0, 0.0], [0.5, 0.5]]), jnp.array([[0.5, 0.5], [0.75, 0.25]])
      >>> print(dm.symmetric_kl_divergence_from_probabilities(p, q).round(4))
      [8.059  0.2747]

    References:
      Jeffreys, An invariant form for the prior probability in estimation problems, 1946.
    """
    return _sum_of(_symmetric_kl, p, q, epsilon, **options)


@examples.per_example()
def js_divergence_from_probabilities(
    p: ArrayLike, q: ArrayLike, *, epsilon: ArrayLike = 1e-7, **options: Unpack[ClassOptions]
) -> jax.Array:
    r"""JS divergence (Jensen–Shannon) of every pair given by probabilities.

    Use `js_divergence` if you have logits. `epsilon` keeps a gradient at probability 0.

    .. math::
       & \tfrac12 \sum_k p'_k \log \frac{p'_k}{m_k} + \tfrac12 \sum_k q'_k \log \frac{q'_k}{m_k}

       & p' = p + \epsilon, \quad q' = q + \epsilon

       & m = \tfrac12 (p' + q')

    Args:
      p: probabilities of P ``[..., C]``; they may be 0.
      q: probabilities of Q ``[..., C]``; they may be 0.
      epsilon: added to every probability, > 0.

    Returns:
      Divergence ≥ 0 of each pair ``[...]``, in nats; at most log 2, up to C times `epsilon`.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> p, q = jnp.array([[1.0, 0.0], [0.5, 0.5]]), jnp.array([[0.0, 1.0], [0.75, 0.25]])
      >>> print(dm.js_divergence_from_probabilities(p, q).round(4))
      [0.6931 0.0338]

    References:
      Lin, Divergence measures based on the Shannon entropy, 1991.
    """
    return _sum_of(_js, p, q, epsilon, **options)


def _sum_of(
    term: Callable[..., jax.Array],
    p: ArrayLike,
    q: ArrayLike,
    epsilon: ArrayLike,
    **options: Unpack[ClassOptions],
) -> jax.Array:
    """The sum of `term(p, q, epsilon, largest)` over the classes of a checked pair.

    No sum of terms below `largest` overflows.
    """
    p, q = numbers.floats(p, q)
    axis = doors.require_classes("p", p, options.get("class_axis", -1))
    doors.require_shape("q", q, p.shape, "p")
    epsilon = doors.parameter("epsilon", epsilon, p, "p")
    largest = float(jnp.finfo(p.dtype).max) / p.shape[axis]
    return jnp.sum(term(p, q, epsilon, largest), axis)


def _term(
    value: Callable[..., jax.Array], in_p: Callable[..., jax.Array], in_q: Callable[..., jax.Array]
) -> Callable[..., jax.Array]:
    """A term of two probabilities plus epsilon, and its slopes in both."""

    def above(f: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        return lambda p, q, epsilon, *rest: f(p + epsilon, q + epsilon, *rest)

    return slopes.with_slope(above(value), above(in_p), above(in_q))


# The slopes take other logarithms than the values: an H100 would write out what both share.


def _log_ratio(p: jax.Array, q: jax.Array) -> jax.Array:
    return jnp.log(p / q)


_kl = _term(
    lambda p, q, _: p * (jnp.log(p) - jnp.log(q)),
    lambda p, q, _: _log_ratio(p, q) + 1.0,
    lambda p, q, _: -p / q,
)
_symmetric_kl = _term(
    lambda p, q, largest: jnp.minimum((p - q) * (jnp.log(p) - jnp.log(q)), largest),
    lambda p, q, _: _log_ratio(p, q) + (p - q) / p,
    lambda p, q, _: _log_ratio(q, p) + (q - p) / q,
)


def _js_value(p: jax.Array, q: jax.Array, _: jax.Array) -> jax.Array:
    # A probability that this bound changes is too small to count.
    nearest = 1.0 - float(jnp.finfo(p.dtype).epsneg)
    excess = (p - q) / (p + q)
    of_p, of_q = (jnp.log1p(jnp.maximum(x, -nearest)) for x in (excess, -excess))
    return 0.5 * jnp.maximum(p * of_p + q * of_q, 0.0)


_js = _term(
    _js_value,
    lambda p, q, _: 0.5 * _log_ratio(2.0 * p, p + q),
    lambda p, q, _: 0.5 * _log_ratio(2.0 * q, p + q),
)
