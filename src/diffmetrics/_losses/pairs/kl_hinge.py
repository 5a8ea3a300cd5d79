"""KL hinges: contrastive losses of pairs of softmax distributions, to learn identities."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import calls, doors, examples, numbers, slopes
from diffmetrics._core.calls import ClassOptions
from diffmetrics._losses.pairs.softmax_pairs import both_kls, held_at_zero, log_softmax, pair


@examples.per_example()
def kl_hinge_loss(
    logits_p: ArrayLike,
    logits_q: ArrayLike,
    same: ArrayLike,
    *,
    margin: ArrayLike,
    sharpness: ArrayLike | None = None,
    **options: Unpack[ClassOptions],
) -> jax.Array:
    r"""Contrastive KL loss: pulls distributions of the same identity together, others apart.

    Use it to learn from "same or not" alone, for given pairs; `pairwise_kl_hinge_loss` takes all
    pairs of a batch, which learns more from each. If identities are known, cross-entropy over them
    is hard to beat. Two equal distributions have no gradient even if they should differ. So a
    network with constant output stays constant; there, different pairs cost 2 · `margin`.

    .. math:: L = \ell(P \| Q) + \ell(Q \| P)

    .. math:: \ell = \begin{cases} \mathrm{KL} & \text{same} \\
       \max(0, m - \mathrm{KL}) & \text{different} \end{cases}

    Each direction has its own hinge, whose slope at KL = m is the one below it.

    Args:
      logits_p: logits of P ``[..., C]``.
      logits_q: logits of Q ``[..., C]``.
      same: 1 or True where a pair belongs together, else 0 ``[...]``.
      margin: m ≥ 0 in nats, per direction; 2 and 3 are published. Broadcasts to the pairs.
      sharpness: b > 0 of the softplus :math:`\log(1 + e^{b x}) / b` with x = m - KL, which
        always has a gradient; None, the default, is the hinge. Broadcasts to the pairs.

    Returns:
      Loss ≥ 0 of each pair ``[...]``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> p, q = jnp.array([[2.0, 0.0, 0.0]] * 2), jnp.array([[0.0, 1.0, 0.0]] * 2)
      >>> print(dm.kl_hinge_loss(p, q, jnp.array([True, False]), margin=2.0).round(4))
      [1.6197 2.3803]

    References:
      Hsu and Kira, Neural network-based clustering using pairwise constraints, 2015,
      arXiv:1511.06321.
      Lukic et al., Learning embeddings for speaker clustering based on voice equality, MLSP 2017.
    """
    p, q, axis = pair(logits_p, logits_q, **options)
    same, pairs = jnp.asarray(same), doors.example(p, axis)
    doors.require_shape("same", same, pairs.shape, "logits_p[..., 0]")
    margin = doors.parameter("margin", margin, pairs, "logits_p[..., 0]")
    sharpness = doors.optional("sharpness", sharpness, pairs, "logits_p[..., 0]")
    both = [
        _pull_or_push(divergence, doors.shares(same, divergence.dtype), margin, sharpness)
        for divergence in both_kls(p, q, axis)
    ]
    return numbers.capped(both[0] + both[1])


@calls.compiled("detach_target")
def pairwise_kl_hinge_loss(
    logits: ArrayLike,
    identities: ArrayLike,
    *,
    margin: ArrayLike,
    where: ArrayLike | None = None,
    sharpness: ArrayLike | None = None,
    detach_target: bool = False,
) -> jax.Array:
    r"""Pairwise contrastive KL loss: the mean of `kl_hinge_loss` over all pairs of a batch.

    Use it to learn an embedding for clustering, with batches that hold several examples of each
    identity. The classes need no meaning. Expect a slow start: at first all outputs are alike, and
    the gradient is small (see `kl_hinge_loss`). If the identities are few enough to be classes,
    cross-entropy over them is faster and hard to beat.

    .. math:: \tfrac{2}{n (n-1)} \sum_{i<j} \big(\ell_{ij}(P_i \| P_j) + \ell_{ij}(P_j \| P_i)\big)

    One matrix product gives all divergences; no array is larger than ``[n, n]`` or ``[n, C]``. The
    error is about 1e-6 times the largest −log-probability that counts; a divergence that rounding
    makes negative becomes 0 and keeps its gradient.

    Args:
      logits: real scores ``[n, C]``.
      identities: integer ids ``[n]``.
      margin: m ≥ 0 in nats, per direction; 2 and 3 are published. Broadcasts to ``[n, n]``.
      where: boolean, broadcasts to ``[n, n]``: which pairs count. ``where[i, j]`` selects the
        direction :math:`\ell(P_i \| P_j)`, so an asymmetric mask selects single directions; the sum
        is divided by half their number. The diagonal never counts. To leave out examples pass
        ``m[:, None] & m``.
      sharpness: as in `kl_hinge_loss`. Broadcasts to ``[n, n]``.
      detach_target: True gives the first distribution of every KL no gradient, as in the code of
        Hsu and Kira; False gives it one, as in Lukic et al. The value is the same. Static.

    Returns:
      Loss ≥ 0, a scalar; 0 with zero gradient if there is no pair.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z = jnp.array([[2.0, 0.0, 0.0], [2.0, 0.5, 0.0], [0.0, 1.0, 0.0]])
      >>> print(dm.pairwise_kl_hinge_loss(z, jnp.array([7, 7, 4]), margin=2.0).round(4))
      1.7183
      >>> print(dm.pairwise_kl_hinge_loss(z, jnp.array([7, 4, 4]), margin=2.0).round(4))
      2.5352

    References:
      Hsu and Kira, Neural network-based clustering using pairwise constraints, 2015,
      arXiv:1511.06321.
      Lukic et al., Learning embeddings for speaker clustering based on voice equality, MLSP 2017.
    """
    z = jnp.asarray(logits)
    doors.require_float("logits", z, "Losses take raw scores, not decisions.")
    if z.ndim != 2 or z.shape[1] < 2:
        raise ValueError(f"logits must be [n, C] with two or more classes, got {z.shape}.")
    ids = doors.identities(identities, z.shape[:1], "logits[:, 0]")
    pairs = (len(z), len(z))
    margin = doors.parameter("margin", margin, z, "the matrix of pairs", pairs)
    sharpness = doors.optional("sharpness", sharpness, z, "the matrix of pairs", pairs)
    chosen = ~jnp.eye(len(z), dtype=bool)
    where = doors.select(where, pairs, "the matrix of pairs")
    if where is not None:
        chosen &= where
    paired = chosen.any(0) | chosen.any(1)
    log_p = log_softmax(jnp.where(paired[:, None], z, 0.0), -1)
    same = (ids[:, None] == ids[None]).astype(log_p.dtype)
    loss = _pull_or_push(_kl_matrix(log_p, detach_target), same, margin, sharpness)
    # Divided before summing: a sum of n² large divergences would overflow.
    loss *= 2.0 / jnp.maximum(chosen.sum(dtype=loss.dtype), 1)
    return numbers.capped(jnp.where(chosen, loss, 0.0).sum())


def _kl_matrix(log_p: jax.Array, detach_target: bool) -> jax.Array:
    """KL(P_i ‖ P_j) of all rows i and j."""
    p = jnp.exp(log_p)
    if detach_target:
        p = jax.lax.stop_gradient(p)
    # By default a GPU or TPU multiplies in fewer bits than the difference of two entries needs.
    crossed = jnp.matmul(p, log_p.T, precision=jax.lax.Precision.HIGHEST)
    # From the same product, so that equal rows cancel up to its rounding.
    own = jnp.diagonal(crossed)
    if detach_target:
        own = jax.lax.stop_gradient(own)
    return held_at_zero(own[:, None] - crossed)


def _pull_or_push(
    divergence: jax.Array, same: jax.Array, margin: jax.Array, sharpness: jax.Array | None
) -> jax.Array:
    """One direction of the loss."""
    return same * divergence + (1.0 - same) * slopes.hinge(margin - divergence, sharpness)
