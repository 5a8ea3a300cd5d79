r"""Divergences between distributions, one per pair, and the loss that learns identities from them.

A distribution lies along the last axis, as logits ``[..., C]`` of which the softmax is taken here,
or as probabilities ``[..., C]``; what is left, ``[...]``, are pairs. Logits are the better door:
their log-probabilities are exact and finite, so no epsilon is needed.

Both distributions of a pair come in exactly the same shape, and what is said of a pair has their
shape without the last axis: nothing is broadcast. float16 and bfloat16 are computed, and values
returned, in float32. A divergence beyond 3e38 is held there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

from diffmetrics import _math
from diffmetrics._per_example import parameter


@_math.compiled()
def kl_divergence(logits_p: ArrayLike, logits_q: ArrayLike) -> jax.Array:
    r"""Kullback–Leibler divergence of Q from P, of every pair of softmax distributions.

    Use it where P is the truth or the teacher, and Q follows: Q pays for being small where P is
    large, and hardly for the reverse. If both move, take a symmetric one.

    .. math:: \mathrm{KL}(P \| Q) = \sum_k p_k \log \frac{p_k}{q_k}

    A value that rounding made negative is held at 0, without touching the gradient. In float32
    expect an absolute error of some 1e-7, so smaller values carry no information.

    Args:
      logits_p: scores of the distributions P ``[..., C]``.
      logits_q: scores of the distributions Q ``[..., C]``.

    Returns:
      Divergence ≥ 0 ``[...]``, in nats; without upper bound.

    Raises:
      TypeError: if the logits are not floating.
      ValueError: if the shapes differ, or there are fewer than two classes.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> p, q = jnp.array([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0]]), jnp.array([[0.0, 1.0, 0.0]] * 2)
      >>> print(dm.kl_divergence(p, q).round(4))
      [0.7794 0.1118]

    References:
      Kullback and Leibler, On information and sufficiency, 1951.
    """
    return _held_at_zero(_kl(*_pair(logits_p, logits_q)))


@_math.compiled()
def symmetric_kl_divergence(logits_p: ArrayLike, logits_q: ArrayLike) -> jax.Array:
    r"""Jeffreys divergence of every pair of softmax distributions: KL in both directions, added.

    Use it to compare two distributions of equal standing. Like KL it has no upper bound, so one
    pair that disagrees beyond doubt can outweigh a batch; `js_divergence` is bounded.

    .. math:: \mathrm{KL}(P \| Q) + \mathrm{KL}(Q \| P) = \sum_k (p_k - q_k) \log \frac{p_k}{q_k}

    Args:
      logits_p: scores of the distributions P ``[..., C]``.
      logits_q: scores of the distributions Q ``[..., C]``.

    Returns:
      Divergence ≥ 0 ``[...]``, in nats; the sum, not the mean, of the two directions.

    Raises:
      TypeError: if the logits are not floating.
      ValueError: if the shapes differ, or there are fewer than two classes.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> p, q = jnp.array([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0]]), jnp.array([[0.0, 1.0, 0.0]] * 2)
      >>> print(dm.symmetric_kl_divergence(p, q).round(4))
      [1.6197 0.2104]

    References:
      Jeffreys, An invariant form for the prior probability in estimation problems, 1946.
    """
    return _math.capped(_symmetric_kl(*_pair(logits_p, logits_q)))


@_math.compiled()
def js_divergence(logits_p: ArrayLike, logits_q: ArrayLike) -> jax.Array:
    r"""Jensen–Shannon divergence of every pair of softmax distributions.

    Use it where single pairs must not dominate: it lies between 0 (equal) and log 2 (disjoint),
    and its square root is a metric. The price of the bound is that the gradient fades as the
    distributions come apart.

    .. math:: \tfrac12 \mathrm{KL}(P \| M) + \tfrac12 \mathrm{KL}(Q \| M), \quad M = \tfrac12 (P+Q)

    A value that rounding made negative is held at 0, without touching the gradient.

    Args:
      logits_p: scores of the distributions P ``[..., C]``.
      logits_q: scores of the distributions Q ``[..., C]``.

    Returns:
      Divergence in [0, log 2] ``[...]``, in nats.

    Raises:
      TypeError: if the logits are not floating.
      ValueError: if the shapes differ, or there are fewer than two classes.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> p, q = jnp.array([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0]]), jnp.array([[0.0, 1.0, 0.0]] * 2)
      >>> print(dm.js_divergence(p, q).round(4))
      [0.1857 0.0259]

    References:
      Lin, Divergence measures based on the Shannon entropy, 1991.
    """
    return _held_at_zero(_js(*map(_log_softmax, _pair(logits_p, logits_q))))


@_math.compiled()
def kl_divergence_from_probabilities(
    p: ArrayLike, q: ArrayLike, *, epsilon: ArrayLike = 1e-7
) -> jax.Array:
    r"""Kullback–Leibler divergence of Q from P, of every pair given by probabilities.

    Use `kl_divergence` where you have logits. `epsilon` is added to both, never a bound to clip
    at: below the bound a clipped probability has no gradient, so exactly the class that ought to
    come back from 0 never does. Added, it leaves a slope of :math:`-p_k / \epsilon` there.

    .. math:: \sum_k (p_k + \epsilon) \log \frac{p_k + \epsilon}{q_k + \epsilon}

    The sums stay as they are; nothing is normalised again. If those of `p` and `q` differ, the
    value can be negative.

    Args:
      p: probabilities of the distributions P ``[..., C]``; zeros are fine.
      q: probabilities of the distributions Q ``[..., C]``; zeros are fine.
      epsilon: added to every probability, > 0. Traced.

    Returns:
      Divergence ``[...]``, in nats.

    Raises:
      ValueError: if the shapes differ, there are fewer than two classes, or `epsilon` does not
        broadcast to `p`.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> p, q = jnp.array([[1.0, 0.0], [0.5, 0.5]]), jnp.array([[0.5, 0.5], [0.6, 0.4]])
      >>> print(dm.kl_divergence_from_probabilities(p, q).round(4))
      [0.6931 0.0204]

    References:
      Kullback and Leibler, On information and sufficiency, 1951.
    """
    return jnp.sum(_kl_term(*_logs_of(p, q, epsilon)), -1)


@_math.compiled()
def symmetric_kl_divergence_from_probabilities(
    p: ArrayLike, q: ArrayLike, *, epsilon: ArrayLike = 1e-7
) -> jax.Array:
    r"""Jeffreys divergence of every pair given by probabilities: KL in both directions, added.

    Use `symmetric_kl_divergence` where you have logits. `epsilon` is added to both, not a bound to
    clip at, so that no probability loses its gradient.

    .. math:: \sum_k (p_k - q_k) \log \frac{p_k + \epsilon}{q_k + \epsilon}

    Args:
      p: probabilities of the distributions P ``[..., C]``; zeros are fine.
      q: probabilities of the distributions Q ``[..., C]``; zeros are fine.
      epsilon: added to every probability, > 0. Traced.

    Returns:
      Divergence ≥ 0 ``[...]``, in nats.

    Raises:
      ValueError: if the shapes differ, there are fewer than two classes, or `epsilon` does not
        broadcast to `p`.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> p, q = jnp.array([[1.0, 0.0], [0.5, 0.5]]), jnp.array([[0.5, 0.5], [0.75, 0.25]])
      >>> print(dm.symmetric_kl_divergence_from_probabilities(p, q).round(4))
      [8.059  0.2747]

    References:
      Jeffreys, An invariant form for the prior probability in estimation problems, 1946.
    """
    return _math.capped(jnp.sum(_symmetric_kl_term(*_logs_of(p, q, epsilon)), -1))


@_math.compiled()
def js_divergence_from_probabilities(
    p: ArrayLike, q: ArrayLike, *, epsilon: ArrayLike = 1e-7
) -> jax.Array:
    r"""Jensen–Shannon divergence of every pair given by probabilities.

    Use `js_divergence` where you have logits. `epsilon` is added to both, not a bound to clip at,
    so that no probability loses its gradient.

    .. math:: \tfrac12 \sum_k p'_k \log \frac{p'_k}{m_k} + \tfrac12 \sum_k q'_k \log
       \frac{q'_k}{m_k}, \quad p' = p + \epsilon,\ q' = q + \epsilon,\ m = \tfrac12 (p' + q')

    Args:
      p: probabilities of the distributions P ``[..., C]``; zeros are fine.
      q: probabilities of the distributions Q ``[..., C]``; zeros are fine.
      epsilon: added to every probability, > 0. Traced.

    Returns:
      Divergence ≥ 0 ``[...]``, in nats; at most log 2 up to `C` times `epsilon`.

    Raises:
      ValueError: if the shapes differ, there are fewer than two classes, or `epsilon` does not
        broadcast to `p`.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> p, q = jnp.array([[1.0, 0.0], [0.5, 0.5]]), jnp.array([[0.0, 1.0], [0.75, 0.25]])
      >>> print(dm.js_divergence_from_probabilities(p, q).round(4))
      [0.6931 0.0338]

    References:
      Lin, Divergence measures based on the Shannon entropy, 1991.
    """
    return _held_at_zero(_js(*_logs_of(p, q, epsilon)))


@_math.compiled()
def kl_hinge_loss(
    logits_p: ArrayLike,
    logits_q: ArrayLike,
    same: ArrayLike,
    *,
    margin: ArrayLike,
    softplus: ArrayLike | None = None,
) -> jax.Array:
    r"""Pulls the distributions of a same pair together, and others at least `margin` nats apart.

    Use it to learn from "same or not" alone, for given pairs; `pairwise_kl_hinge_loss` takes all
    pairs of a batch, which learns more from each. Where identities are known, plain cross-entropy
    over them is hard to beat. Two distributions that are equal have no gradient even if they
    should differ: the loss cannot leave a network that answers everything alike, where it stands
    at 2 · `margin` for different pairs.

    .. math:: L = \ell(P \| Q) + \ell(Q \| P), \quad \ell(P \| Q) = \begin{cases}
       \mathrm{KL}(P \| Q) & \text{same} \\ \max(0, \mathrm{margin} - \mathrm{KL}(P \| Q)) &
       \text{different} \end{cases}

    Each direction has its own hinge. At the kink, KL = margin, the slope is that of the side that
    still pushes apart.

    Args:
      logits_p: scores of the first distributions ``[..., C]``.
      logits_q: scores of the second distributions ``[..., C]``.
      same: 1 or True where a pair belongs together, else 0 ``[...]``.
      margin: nats per direction that different pairs should be apart, ≥ 0; published with 2 and 3.
        Broadcasts to the pairs. Traced.
      softplus: sharpness b > 0 of :math:`\log(1 + e^{b (\mathrm{margin} - \mathrm{KL})}) / b`,
        which takes the place of the hinge and never loses its gradient; None, the default, is the
        hinge. Broadcasts to the pairs. Traced.

    Returns:
      Loss ≥ 0 ``[...]``.

    Raises:
      TypeError: if the logits are not floating.
      ValueError: if the shapes of the logits differ, `same` has not their shape without the last
        axis, or a hyper-parameter does not broadcast to it.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> p, q = jnp.array([[2.0, 0.0, 0.0]] * 2), jnp.array([[0.0, 1.0, 0.0]] * 2)
      >>> print(dm.kl_hinge_loss(p, q, jnp.array([True, False]), margin=2.0).round(4))
      [1.6197 2.3803]

    References:
      Hsu and Kira, Neural network-based clustering using pairwise constraints, 2016,
      arXiv:1511.06321. Lukic, Vogt, Dürr and Stadelmann, Learning embeddings for speaker clustering
      based on voice equality, MLSP 2017.
    """
    p, q = _pair(logits_p, logits_q)
    pairs = p.shape[:-1]
    same = jnp.asarray(same)
    _math.require_shape("same", same, pairs, "logits_p[..., 0]")
    margin = parameter("margin", margin, pairs, "logits_p[..., 0]")
    if softplus is not None:
        softplus = parameter("softplus", softplus, pairs, "logits_p[..., 0]")
    both = [
        _pull_or_push(divergence, _math.as_float(same), margin, softplus)
        for divergence in (_held_at_zero(_kl(p, q)), _held_at_zero(_kl(q, p)))
    ]
    return _math.capped(both[0] + both[1])


@_math.compiled("detach_target")
def pairwise_kl_hinge_loss(
    logits: ArrayLike,
    identities: ArrayLike,
    *,
    margin: ArrayLike,
    where: ArrayLike | None = None,
    softplus: ArrayLike | None = None,
    detach_target: bool = False,
) -> jax.Array:
    r"""The mean of `kl_hinge_loss` over all pairs of a batch.

    Use it to learn an embedding for clustering, with batches that hold several examples of each
    identity. The classes need not mean anything. Expect a slow start: at first all examples look
    alike, and near there the gradient is small (see `kl_hinge_loss`); cross-entropy over the
    identities, where they are few enough to be classes, is faster and hard to beat.

    .. math:: \frac{2}{n (n-1)} \sum_{i<j} \ell_{ij}(P_i \| P_j) + \ell_{ij}(P_j \| P_i)

    All divergences come from one matrix product, :math:`p \log p^\top`, and no array is larger
    than ``[n, n]`` or ``[n, C]``. What should cancel in it cancels up to some 1e-6 times the
    largest −log-probability that counts; a divergence that comes out negative is held at 0,
    without touching the gradient.

    Args:
      logits: scores ``[n, C]``.
      identities: integer ids ``[n]``; any two that are equal are the same, whatever the number.
      margin: nats per direction that different pairs should be apart, ≥ 0; published with 2 and 3.
        Broadcasts to ``[n, n]``. Traced.
      where: boolean, broadcasts to ``[n, n]``: which pairs count, e.g. because it is known whether
        they are the same. ``where[i, j]`` selects the direction :math:`\ell(P_i \| P_j)`, so a
        mask that is not symmetric selects single directions; the sum is divided by half their
        number. The diagonal never counts. What an example without any pair holds, NaN included,
        reaches neither value nor gradient; to hide examples pass ``m[:, None] & m``.
      softplus: sharpness b > 0 of the softplus that takes the place of the hinge, as in
        `kl_hinge_loss`; None, the default, is the hinge. Broadcasts to ``[n, n]``. Traced.
      detach_target: whether the first distribution of every KL, its target, is a constant to the
        gradient, as in the code of Hsu and Kira. The value is the same; False, the default, is the
        loss of Lukic et al.

    Returns:
      Loss ≥ 0, a scalar. Without any pair it is 0 with zero gradient.

    Raises:
      TypeError: if `logits` are not floating or `where` is not boolean.
      ValueError: if `logits` are not ``[n, C]`` with two or more classes, `identities` are not
        integers ``[n]``, or another argument does not broadcast to ``[n, n]``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z = jnp.array([[2.0, 0.0, 0.0], [2.0, 0.5, 0.0], [0.0, 1.0, 0.0]])
      >>> print(dm.pairwise_kl_hinge_loss(z, jnp.array([7, 7, 4]), margin=2.0).round(4))
      1.7183
      >>> print(dm.pairwise_kl_hinge_loss(z, jnp.array([7, 4, 4]), margin=2.0).round(4))
      2.5352

    References:
      Hsu and Kira, Neural network-based clustering using pairwise constraints, 2016,
      arXiv:1511.06321. Lukic, Vogt, Dürr and Stadelmann, Learning embeddings for speaker clustering
      based on voice equality, MLSP 2017.
    """
    z, ids = jnp.asarray(logits), jnp.asarray(identities)
    _math.require_float("logits", z, "Losses take raw scores, not decisions.")
    if z.ndim != 2 or z.shape[1] < 2:
        raise ValueError(f"logits must be [n, C] with two or more classes, got {z.shape}.")
    _math.require_shape("identities", ids, z.shape[:1], "logits[:, 0]")
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise ValueError(f"identities must be integers, got {ids.dtype}.")
    pairs = (len(z), len(z))
    margin = parameter("margin", margin, pairs, "the matrix of pairs")
    if softplus is not None:
        softplus = parameter("softplus", softplus, pairs, "the matrix of pairs")
    chosen = ~jnp.eye(len(z), dtype=bool)
    where = _math.select(where, pairs, "the matrix of pairs")
    if where is not None:
        chosen &= where
    paired = chosen.any(0) | chosen.any(1)
    log_p = _log_softmax(jnp.where(paired[:, None], z, 0.0))
    same = _math.as_float(ids[:, None] == ids)
    loss = _pull_or_push(_kl_matrix(log_p, detach_target), same, margin, softplus)
    # Divided first and summed then: a sum of n² large divergences overflows before their mean.
    loss *= 2.0 / jnp.maximum(chosen.sum(), 1)
    return _math.capped(jnp.where(chosen, loss, 0.0).sum())


def _pair(logits_p: ArrayLike, logits_q: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """The checked logits of two distributions."""
    p, q = jnp.asarray(logits_p), jnp.asarray(logits_q)
    hint = "Pass raw scores; for probabilities there are the functions ..._from_probabilities."
    _math.require_float("logits_p", p, hint)
    _math.require_float("logits_q", q, hint)
    _require_classes("logits_p", p)
    _math.require_shape("logits_q", q, p.shape, "logits_p")
    return p, q


def _logs_of(p: ArrayLike, q: ArrayLike, epsilon: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """The checked pair of distributions plus `epsilon`, as logarithms."""
    p, q = _math.as_float(p), _math.as_float(q)
    _require_classes("p", p)
    _math.require_shape("q", q, p.shape, "p")
    epsilon = parameter("epsilon", epsilon, p.shape, "p")
    return jnp.log(p + epsilon), jnp.log(q + epsilon)


def _require_classes(name: str, x: jax.Array) -> None:
    if x.ndim == 0 or x.shape[-1] < 2:
        raise ValueError(f"{name} must have a last axis of two or more classes, got {x.shape}.")


def _log_softmax(z: jax.Array) -> jax.Array:
    """Log-probabilities, none of them infinite."""
    return _log_of(z, *_norm(z))


def _norm(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The maximum of logits, and the logarithm of the sum of their exponentials below it."""
    top = jax.lax.stop_gradient(jnp.max(_math.as_float(z), -1))
    return top, jnp.log(jnp.sum(jnp.exp(_below(z, top)), -1))


def _below(z: jax.Array, top: jax.Array) -> jax.Array:
    """How far logits are below `top`, within limits.

    A probability of 0 meets its logarithm in a product, and 0 · inf is NaN. The floor is so far
    above the lowest float that neither a sum weighted by probabilities, whose own sum may round to
    more than 1, nor the bfloat16 parts in which a TPU multiplies overflow.
    """
    below = _math.as_float(z) - top[..., None]
    return jnp.maximum(below, -0.875 * float(jnp.finfo(below.dtype).max))


def _log_of(z: jax.Array, top: jax.Array, log_total: jax.Array) -> jax.Array:
    return _below(z, top) - log_total[..., None]


Term = Callable[[jax.Array, jax.Array], jax.Array]


def _of_logits(term: Term, *slopes: tuple[Term, Callable[[jax.Array], Any] | None]) -> Term:
    """The sum of `term(log p, log q)` over the classes of two softmax distributions, by logits.

    Of each of the two there is the derivative of `term` in its log-probability (up to a multiple
    of the probability, which falls out), and that derivative's sum over the classes where the value
    tells it. Autodiff would write an array of the size of the logits for every step.
    """

    def logs(p: jax.Array, q: jax.Array, *norms: jax.Array) -> tuple[jax.Array, jax.Array]:
        return _log_of(p, *norms[:2]), _log_of(q, *norms[2:])

    @jax.custom_jvp
    def divergence(p: jax.Array, q: jax.Array) -> jax.Array:
        return jnp.sum(term(*logs(p, q, *_norm(p), *_norm(q))), -1)

    def rule(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
        norms = [x for z in primals for x in _norm(z)]
        out = divergence(*primals)
        tangent = jnp.zeros_like(out)
        for i, (slope, known) in enumerate(slopes):
            if isinstance(tangents[i], SymbolicZero):
                continue
            if known is None:
                total = _math.apart(lambda *a, f=slope: jnp.sum(f(*logs(*a)), -1), *primals, *norms)
            else:
                total = jnp.broadcast_to(jnp.asarray(known(out), out.dtype), out.shape)

            def of(
                p: jax.Array, q: jax.Array, total: jax.Array, *norms: jax.Array,
                i: int = i, slope: Term = slope,
            ) -> jax.Array:  # fmt: skip
                both = logs(p, q, *norms)
                return slope(*both) - jnp.exp(both[i]) * total[..., None]

            moved = _math.as_float(tangents[i])
            tangent += jnp.sum(_math.apart(of, *primals, total, *norms) * moved, -1)
        return out, tangent

    divergence.defjvp(rule, symbolic_zeros=True)
    return divergence


def _kl_term(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    return jnp.exp(log_p) * (log_p - log_q)


def _symmetric_kl_term(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """Of the two sums of KL only this is left, whose every term is ≥ 0."""
    return (jnp.exp(log_p) - jnp.exp(log_q)) * (log_p - log_q)


def _symmetric_kl_slope(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    p = jnp.exp(log_p)
    return p * (log_p - log_q) + (p - jnp.exp(log_q))


_kl = _of_logits(
    _kl_term, (_kl_term, lambda kl: kl), (lambda log_p, _: -jnp.exp(log_p), lambda _: -1.0)
)
_symmetric_kl = _of_logits(
    _symmetric_kl_term,
    (_symmetric_kl_slope, None),
    (lambda log_p, log_q: _symmetric_kl_slope(log_q, log_p), None),
)


def _js(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """With log(p / m) = log 2 - log(1 + q / p), which needs no logarithm of m."""
    q_above, p_above = _math.softpluses(log_q - log_p)
    log_two = jnp.log1p(jnp.ones_like(q_above))  # as softpluses rounds it, so that equals give 0
    terms = jnp.exp(log_p) * (log_two - q_above) + jnp.exp(log_q) * (log_two - p_above)
    return 0.5 * jnp.sum(terms, -1)


def _kl_matrix(log_p: jax.Array, detach_target: bool) -> jax.Array:
    """KL(P_i ‖ P_j) of all rows i and j."""
    p = jnp.exp(log_p)
    if detach_target:
        p = jax.lax.stop_gradient(p)
    # A GPU or TPU would multiply in fewer bits than the difference of two entries needs.
    crossed = jnp.matmul(p, log_p.T, precision=jax.lax.Precision.HIGHEST)
    # From the same product, so that equal rows cancel as well as its rounding allows.
    own = jnp.diagonal(crossed)
    if detach_target:
        own = jax.lax.stop_gradient(own)
    return _held_at_zero(own[:, None] - crossed)


def _held_at_zero(x: jax.Array) -> jax.Array:
    """`x`, or 0 where rounding made it negative, with the derivatives of `x`.

    A `maximum` would take the gradient from the pairs that are almost equal.
    """
    return x + jax.lax.stop_gradient(jnp.maximum(x, 0.0) - x)


def _pull_or_push(
    divergence: jax.Array, same: jax.Array, margin: jax.Array, softplus: jax.Array | None
) -> jax.Array:
    """One direction of the loss."""
    return same * divergence + (1.0 - same) * _math.hinge(margin - divergence, softplus)
