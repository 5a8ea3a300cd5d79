"""Scores of a confusion matrix: MCC and kappa of all its classes at once; larger is better."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffmetrics._core import calls, numbers
from diffmetrics._metrics.class_counts import require_square
from diffmetrics._metrics.counts import Counts


def _joint(name: str, matrix: ArrayLike) -> jax.Array:
    """A confusion matrix as shares of its total; 64-bit NumPy integers keep their value."""
    if isinstance(matrix, Counts):
        raise TypeError(
            f"{name} takes a confusion matrix [..., C, C], as of `confusion`, got Counts, which "
            "hold two classes of each set. score_loss takes scores of Counts, such as mcc."
        )
    m = numbers.as_float(matrix)
    require_square(m)
    return numbers.divide(m, m.sum((-2, -1), keepdims=True))


def multiclass_mcc(matrix: ArrayLike) -> jax.Array:
    r"""Matthews correlation coefficient (MCC) of a confusion matrix, for any number of classes.

    It is Gorodkin's statistic :math:`R_K`, and `mcc` for two classes.

    .. math:: \frac{\sum_k (p_{kk} - t_k s_k)}{\sqrt{1 - \sum_k s_k^2}\sqrt{1 - \sum_k t_k^2}}

    Args:
      matrix: ``[..., C, C]``, true classes in rows (see `confusion`). Divided by its total, it has
        entries p, row sums t and column sums s.

    Returns:
      Correlation in [-1, 1] ``[...]``; 0 if predictions or labels are constant.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(dm.multiclass_mcc(jnp.array([[9, 1, 0], [1, 8, 1], [0, 2, 8]])))
      0.7513

    References:
      Gorodkin, Comparing two K-category assignments by a K-category correlation coefficient,
      Computational Biology and Chemistry 28, 2004.
    """
    return _multiclass_mcc(_joint("multiclass_mcc", matrix))


@calls.compiled()
def _multiclass_mcc(joint: jax.Array) -> jax.Array:
    # Σ_k (p_kk - t_k s_k) is Σ_k (tp_k tn_k - fp_k fn_k). Sums over `rest` keep the digits that
    # 1 - (class k) loses if one class holds nearly everything.
    rest = 1.0 - jnp.eye(joint.shape[-1], dtype=joint.dtype)
    exact = jax.lax.Precision.HIGHEST
    tp = jnp.diagonal(joint, axis1=-2, axis2=-1)
    fp = jnp.einsum("ik,...ik->...k", rest, joint, precision=exact)
    fn = jnp.einsum("kj,...kj->...k", rest, joint, precision=exact)
    tn = jnp.einsum("ki,...ij,jk->...k", rest, joint, rest, precision=exact)
    true_spread = jnp.sum((tp + fn) * (tn + fp), -1)
    predicted_spread = jnp.sum((tp + fp) * (tn + fn), -1)
    covariance = jnp.sum(tp * tn - fp * fn, -1)
    return numbers.divide(covariance, numbers.sqrt(true_spread) * numbers.sqrt(predicted_spread))


def multiclass_kappa(
    matrix: ArrayLike,
    *,
    weighting: Literal["unweighted", "linear", "quadratic"] = "unweighted",
) -> jax.Array:
    r"""Cohen's kappa of a confusion matrix, also linearly or quadratically weighted (QWK).

    Use weights if the classes are ordered, such as grades: a disagreement then costs its distance
    or its square.

    .. math:: 1 - \frac{\sum_{ij} d_{ij}\,p_{ij}}{\sum_{ij} d_{ij}\,t_i s_j}, \qquad
       d_{ij} = [i \ne j],\ |i - j| \text{ or } (i - j)^2

    Args:
      matrix: ``[..., C, C]``, true classes in rows (see `confusion`). Divided by its total, it has
        entries p, row sums t and column sums s.
      weighting: "unweighted", "linear" or "quadratic", in the order of d above. Static.

    Returns:
      Agreement beyond chance, at most 1, ``[...]``; 0 if chance never disagrees.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> m = jnp.array([[9, 1, 0], [1, 8, 1], [0, 2, 8]])
      >>> print(dm.multiclass_kappa(m), dm.multiclass_kappa(m, weighting="quadratic"))
      0.75 0.8718

    References:
      Cohen, Weighted kappa, Psychological Bulletin 70, 1968.
    """
    distances = {"unweighted": np.sign, "linear": np.abs, "quadratic": np.square}
    if weighting not in distances:
        raise ValueError(f"weighting must be one of {list(distances)}, got {weighting!r}.")
    joint = _joint("multiclass_kappa", matrix)
    order = np.arange(joint.shape[-1])
    disagreement = distances[weighting](np.abs(order[:, None] - order[None, :]))
    return _weighted_kappa(joint, jnp.asarray(disagreement, joint.dtype))


@calls.compiled()
def _weighted_kappa(joint: jax.Array, disagreement: jax.Array) -> jax.Array:
    chance = joint.sum(-1)[..., :, None] * joint.sum(-2)[..., None, :]
    disagreement = jnp.broadcast_to(disagreement, joint.shape)
    observed = jnp.sum(disagreement * joint, (-2, -1))
    expected = jnp.sum(disagreement * chance, (-2, -1))
    return numbers.divide(expected - observed, expected)
