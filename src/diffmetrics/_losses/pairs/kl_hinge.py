"""Losses that learn identities from divergences between pairs of softmax distributions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import doors, numbers, slopes
from diffmetrics._losses.pairs.softmax_pairs import held_at_zero, kl, log_softmax, pair


@doors.compiled()
def kl_hinge_loss(
    logits_p: ArrayLike,
    logits_q: ArrayLike,
    same: ArrayLike,
    *,
    margin: ArrayLike,
    sharpness: ArrayLike | None = None,
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
      sharpness: b > 0 of :math:`\log(1 + e^{b (\mathrm{margin} - \mathrm{KL})}) / b`,
        which takes the place of the hinge and never loses its gradient; None, the default, is the
        hinge. Broadcasts to the pairs. Traced.

    Returns:
      Loss ≥ 0 ``[...]``.

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
    p, q = pair(logits_p, logits_q)
    pairs = p.shape[:-1]
    same = jnp.asarray(same)
    doors.require_shape("same", same, pairs, "logits_p[..., 0]")
    margin = doors.parameter("margin", margin, pairs, "logits_p[..., 0]")
    if sharpness is not None:
        sharpness = doors.parameter("sharpness", sharpness, pairs, "logits_p[..., 0]")
    both = [
        _pull_or_push(divergence, numbers.as_float(same), margin, sharpness)
        for divergence in (held_at_zero(kl(p, q)), held_at_zero(kl(q, p)))
    ]
    return numbers.capped(both[0] + both[1])


@doors.compiled("detach_target")
def pairwise_kl_hinge_loss(
    logits: ArrayLike,
    identities: ArrayLike,
    *,
    margin: ArrayLike,
    where: ArrayLike | None = None,
    sharpness: ArrayLike | None = None,
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
      sharpness: b > 0 of the softplus that takes the place of the hinge, as in
        `kl_hinge_loss`; None, the default, is the hinge. Broadcasts to ``[n, n]``. Traced.
      detach_target: whether the first distribution of every KL, its target, is a constant to the
        gradient, as in the code of Hsu and Kira. The value is the same; False, the default, is the
        loss of Lukic et al.

    Returns:
      Loss ≥ 0, a scalar. Without any pair it is 0 with zero gradient.

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
    doors.require_float("logits", z, "Losses take raw scores, not decisions.")
    if z.ndim != 2 or z.shape[1] < 2:
        raise ValueError(f"logits must be [n, C] with two or more classes, got {z.shape}.")
    doors.require_shape("identities", ids, z.shape[:1], "logits[:, 0]")
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise ValueError(f"identities must be integers, got {ids.dtype}.")
    pairs = (len(z), len(z))
    margin = doors.parameter("margin", margin, pairs, "the matrix of pairs")
    if sharpness is not None:
        sharpness = doors.parameter("sharpness", sharpness, pairs, "the matrix of pairs")
    chosen = ~jnp.eye(len(z), dtype=bool)
    where = doors.select(where, pairs, "the matrix of pairs")
    if where is not None:
        chosen &= where
    paired = chosen.any(0) | chosen.any(1)
    log_p = log_softmax(jnp.where(paired[:, None], z, 0.0))
    same = numbers.as_float(ids[:, None] == ids)
    loss = _pull_or_push(_kl_matrix(log_p, detach_target), same, margin, sharpness)
    # Divided first and summed then: a sum of n² large divergences overflows before their mean.
    loss *= 2.0 / jnp.maximum(chosen.sum(), 1)
    return numbers.capped(jnp.where(chosen, loss, 0.0).sum())


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
    return held_at_zero(own[:, None] - crossed)


def _pull_or_push(
    divergence: jax.Array, same: jax.Array, margin: jax.Array, sharpness: jax.Array | None
) -> jax.Array:
    """One direction of the loss."""
    return same * divergence + (1.0 - same) * slopes.hinge(margin - divergence, sharpness)
