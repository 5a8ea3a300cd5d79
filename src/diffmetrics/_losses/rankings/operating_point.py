"""Operating points, quantile form: the threshold is a quantile of the scores of one class.

For a comparison with the Lagrangian form, see docs/operating_points.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import calls, numbers, slopes
from diffmetrics._core.calls import SetOptions
from diffmetrics._losses.rankings.order_statistics import thresholds
from diffmetrics._losses.rankings.two_classes import given, relative, sets_of, unless_nan

Surrogate = Literal["logistic", "hinge"]

# The surrogates' values at 0: divided by them, they are upper bounds of the step.
AT_ZERO: dict[str, float] = {"logistic": math.log(2.0), "hinge": 1.0}


def share_of(mass: jax.Array, total: jax.Array) -> jax.Array:
    """Each element's share of a total. Divided before summing, as large logits would overflow."""
    return numbers.divide(mass, total[..., None])


def cost(x: jax.Array, surrogate: Surrogate) -> jax.Array:
    """The surrogate of x ≥ 0."""
    if surrogate == "logistic":
        return numbers.capped(slopes.softpluses(x)[0])
    if surrogate == "hinge":
        return slopes.hinge(1.0 + x)
    raise ValueError(f'surrogate must be "logistic" or "hinge", got {surrogate!r}.')


def steepness(x: jax.Array, surrogate: Surrogate) -> jax.Array:
    """The derivative of `cost`."""
    if surrogate == "logistic":
        return slopes.sigmoids(x)[0]
    return (1.0 + x >= 0.0).astype(x.dtype)


@calls.compiled("axis", "surrogate")
def precision_at_recall_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    target_recall: ArrayLike,
    surrogate: Surrogate = "logistic",
    **options: Unpack[SetOptions],
) -> jax.Array:
    r"""Precision at a fixed recall: false alarms per positive where `target_recall` are found.

    Use it when a given share of the positives must be found with few false alarms. Compare with
    cross-entropy whose threshold is at that quantile, which is as good if the model fits the data.

    .. math::
       L &= \frac{1}{c\,n_+} \sum_{i \in N} \ell(s_i - q)

       q &= \max_{j \in P} \{s_j : \mathrm{recall}[s \ge s_j] \ge \rho\}

    P are the n₊ positives, N the n₋ negatives.

    Args:
      logits: real scores s ``[...]`` of any shape.
      labels: 0/1 ``[...]``.
      target_recall: ρ, in [0, 1].
      surrogate: ℓ, ``"logistic"`` or ``"hinge"``; c is its value at 0. Static.
      **options: `axis`, `where`, `weights`: see docs/arguments.md.

    Returns:
      Loss L ≥ 0, the shape of `logits` without `axis`; 0 with zero gradient if no label is
      positive. The exact precision at recall ρ is at least ρ / (ρ + L).

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -1.0, 0.5, -2.0]), jnp.array([1, 0, 1, 0])
      >>> print(dm.precision_at_recall_loss(z, y, target_recall=1.0))
      0.2022

    References:
      Mackey et al., Constrained classification and ranking via quantiles, 2018, arXiv:1803.00067.
    """
    z, positive, negative = relative(*sets_of(logits, labels, **options))
    recall = given("target_recall", target_recall, z)[..., None]
    share = share_of(negative, jnp.sum(positive, -1))
    return _overtaken(-z, positive, share, 1.0 - recall, surrogate)


@calls.compiled("axis", "surrogate")
def fpr_at_tpr_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    target_tpr: ArrayLike,
    surrogate: Surrogate = "logistic",
    **options: Unpack[SetOptions],
) -> jax.Array:
    r"""FPR at a fixed TPR: an upper bound of the false positive rate where `target_tpr` are found.

    Use it where errors are reported as rates, as in verification. It is `precision_at_recall_loss`
    times n₊ / n₋: false alarms per negative instead of per positive. For one set the minimum is the
    same; with several sets, each counts by its own rate.

    .. math::
       L &= \frac{1}{c\,n_-} \sum_{i \in N} \ell(s_i - q)

       q &= \max_{j \in P} \{s_j : \mathrm{TPR}[s \ge s_j] \ge \rho\}

    P are the n₊ positives, N the n₋ negatives.

    Args:
      logits: real scores s ``[...]`` of any shape.
      labels: 0/1 ``[...]``.
      target_tpr: ρ, the true positive rate (recall).
      surrogate: ℓ, ``"logistic"`` or ``"hinge"``; c is its value at 0. Static.
      **options: `axis`, `where`, `weights`: see docs/arguments.md.

    Returns:
      Loss ≥ the exact false positive rate at that true positive rate, the shape of `logits`
      without `axis`; 0 with zero gradient if a class is absent.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -1.0, 0.5, -2.0]), jnp.array([1, 0, 1, 0])
      >>> print(dm.fpr_at_tpr_loss(z, y, target_tpr=1.0))
      0.2022

    References:
      Mackey et al., Constrained classification and ranking via quantiles, 2018, arXiv:1803.00067.
    """
    z, positive, negative = relative(*sets_of(logits, labels, **options))
    tpr = given("target_tpr", target_tpr, z)[..., None]
    share = share_of(negative, jnp.sum(negative, -1))
    return _overtaken(-z, positive, share, 1.0 - tpr, surrogate)


@calls.compiled("axis", "surrogate")
def tpr_at_fpr_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    target_fpr: ArrayLike,
    surrogate: Surrogate = "logistic",
    **options: Unpack[SetOptions],
) -> jax.Array:
    r"""TPR at a fixed FPR: an upper bound of the miss rate where FPR is at most `target_fpr`.

    Use it when false alarms are limited: one in a thousand negatives may pass, and as many
    positives as possible should. The gradient raises the positives and lowers a single negative, so
    a positive that is labelled as negative does harm if it is among the r n₋ highest.

    .. math::
       L &= \frac{1}{c\,n_+} \sum_{i \in P} \ell(q - s_i)

       q &= \min_{j \in N} \{s_j : \mathrm{FPR}[s > s_j] \le r\}

    P are the n₊ positives, N the n₋ negatives.

    Args:
      logits: real scores s ``[...]`` of any shape.
      labels: 0/1 ``[...]``.
      target_fpr: r, the largest false positive rate allowed.
      surrogate: ℓ, ``"logistic"`` or ``"hinge"``; c is its value at 0. Static.
      **options: `axis`, `where`, `weights`: see docs/arguments.md.

    Returns:
      Loss ≥ one minus the exact true positive rate of ``logits > q``, the shape of `logits`
      without `axis`; 0 with zero gradient if a class is absent.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -1.0, 0.5, -2.0]), jnp.array([1, 0, 1, 0])
      >>> print(dm.tpr_at_fpr_loss(z, y, target_fpr=0.5))
      0.0700

    References:
      Mackey et al., Constrained classification and ranking via quantiles, 2018, arXiv:1803.00067.
    """
    z, positive, negative = relative(*sets_of(logits, labels, **options))
    fpr = given("target_fpr", target_fpr, z)[..., None]
    share = share_of(positive, jnp.sum(positive, -1))
    return _overtaken(z, negative, share, fpr, surrogate)


@calls.compiled("axis", "surrogate")
def recall_at_precision_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    target_precision: ArrayLike,
    surrogate: Surrogate = "logistic",
    **options: Unpack[SetOptions],
) -> jax.Array:
    r"""Recall at a fixed precision: an upper bound of the miss rate with few enough false alarms.

    Use it when a given share of what is flagged must be right. A precision is not a quantile of
    either class. But if all n₊ positives are found, α allows n₊ (1 - α) / α false alarms among the
    n₋ negatives, so this is `tpr_at_fpr_loss` at the false positive rate

    .. math:: r = \frac{(1 - \alpha)\, n_+}{\alpha\, n_-}

    At recall R its threshold has precision αR / (αR + 1 - α), less than α, so tune the threshold
    afterwards. If α is out of reach, or labels are noisy, cross-entropy or
    `recall_at_precision_lagrangian` is better.

    Args:
      logits: real scores s ``[...]`` of any shape.
      labels: 0/1 ``[...]``.
      target_precision: α, in (0, 1].
      surrogate: ℓ, ``"logistic"`` or ``"hinge"``; c is its value at 0. Static.
      **options: `axis`, `where`, `weights`: see docs/arguments.md.

    Returns:
      Loss ≥ one minus the exact recall at that many false alarms, the shape of `logits` without
      `axis`; 0 with zero gradient if a class is absent.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -1.0, 0.5, -2.0]), jnp.array([1, 0, 1, 0])
      >>> print(dm.recall_at_precision_loss(z, y, target_precision=0.7))
      0.1803

    References:
      Quantiles: Mackey et al., Constrained classification and ranking via quantiles, 2018,
      arXiv:1803.00067; the one for a precision is ours. The threshold at which the current ranking
      has precision α would be exact, but it jumps when two neighbours change places, and it
      trained worse.
    """
    z, positive, negative = relative(*sets_of(logits, labels, **options))
    precision = given("target_precision", target_precision, z)
    found = jnp.sum(positive, -1)
    allowed = numbers.divide((1.0 - precision) * found, precision * jnp.sum(negative, -1))
    share = share_of(positive, found)
    return _overtaken(z, negative, share, allowed[..., None], surrogate)


@calls.compiled("num_anchors", "axis", "surrogate")
def pr_auc_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    num_anchors: int = 20,
    surrogate: Surrogate = "logistic",
    **options: Unpack[SetOptions],
) -> jax.Array:
    r"""PR AUC loss: an upper bound of one minus the area under the precision-recall curve.

    Use it when no operating point is given but false alarms at the top matter most. It takes K
    points of the curve, and K times the work and memory of one point.

    .. math:: 1 - \frac{1}{K} \sum_{k=1}^{K} \frac{\rho_k}{\rho_k + L(\rho_k)}

    where L is `precision_at_recall_loss` and :math:`\rho_k = (k - \tfrac12) / K`. (The mean of L
    would be a loss of the *ROC* curve.)

    Args:
      logits: real scores ``[...]`` of any shape.
      labels: 0/1 ``[...]``.
      num_anchors: the number K of points. Static.
      surrogate: ℓ, ``"logistic"`` or ``"hinge"``; c is its value at 0. Static.
      **options: `axis`, `where`, `weights`: see docs/arguments.md.

    Returns:
      Loss in [0, 1], the shape of `logits` without `axis`; 0 with zero gradient if no label is
      positive. With one anchor per positive it is an upper bound of one minus average precision.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -1.0, 0.5, -2.0]), jnp.array([1, 0, 1, 0])
      >>> print(dm.pr_auc_loss(z, y, num_anchors=2))
      0.1869

    References:
      Anchors: Eban et al., Scalable learning of non-decomposable objectives, 2017,
      arXiv:1608.04802. Quantiles: Mackey et al., 2018, arXiv:1803.00067.
    """
    z, positive, negative = relative(*sets_of(logits, labels, **options))
    recalls = (jnp.arange(num_anchors, dtype=z.dtype) + 0.5) / num_anchors
    share = share_of(negative, jnp.sum(positive, -1))
    recalls = jnp.broadcast_to(recalls, (*z.shape[:-1], num_anchors))
    return _overtaken(-z, positive, share, 1.0 - recalls, surrogate, _beyond_precision)


def _beyond_precision(alarms: jax.Array, rates: jax.Array) -> jax.Array:
    """One minus the mean precision at recalls that miss these `rates`."""
    recalls = 1.0 - rates
    return jnp.mean(1.0 - recalls / (recalls + alarms), -1)


def _overtaken(
    z: jax.Array,
    reference: jax.Array,
    share: jax.Array,
    rates: jax.Array,
    surrogate: Surrogate,
    of: Callable[[jax.Array, jax.Array], jax.Array] = lambda alarms, _: alarms[..., 0],
) -> jax.Array:
    """The loss `of` upper bounds ``[..., K]`` of the `share` that lies at or below K thresholds.

    `rates` ``[..., K]`` of the reference pass them. Negated logits make a threshold that few
    positives may fall below one that few may pass.
    """

    def both(z: Any, reference: Any, share: Any, rates: Any) -> tuple[jax.Array, jax.Array]:
        q = thresholds(z, reference, rates)
        present = jnp.any(reference != 0.0, -1, keepdims=True)

        def loss(errors: jax.Array) -> jax.Array:
            return of(jnp.where(present, numbers.capped(errors / AT_ZERO[surrogate]), 0.0), rates)

        errors, *others = _sums(z, q, reference, share, surrogate)
        value, transposed = jax.vjp(loss, errors)
        (gains,) = transposed(jnp.ones_like(value))
        return value, _slope(z, q, reference, share, gains, others, surrogate)

    return unless_nan(slopes.with_slopes(both)(z, reference, share, rates), z)


def _sums(
    z: jax.Array, q: jax.Array, reference: jax.Array, share: jax.Array, surrogate: Surrogate
) -> tuple[jax.Array, ...]:
    """For each threshold: the cost of the share, its derivative, and the mass exactly there."""
    level = (q[..., None], z[..., None, :], reference[..., None, :], share[..., None, :])
    terms = (
        slopes.apart(lambda q, z, _, share: share * cost(q - z, surrogate), *level),
        slopes.apart(lambda q, z, _, share: share * steepness(q - z, surrogate), *level),
        slopes.apart(lambda q, z, mass, _: jnp.where(q == z, mass, 0.0), *level),
    )
    # One by one: XLA's CPU backend computes logarithms singly in a reduction of several operands.
    return tuple(jnp.sum(term, -1) for term in terms)


def _slope(
    z: jax.Array,
    q: jax.Array,
    reference: jax.Array,
    share: jax.Array,
    gains: jax.Array,
    sums: Sequence[jax.Array],
    surrogate: Surrogate,
) -> jax.Array:
    """The derivative in each logit of costs that have these `gains`; thresholds pull, too."""
    gap, share = q[..., None] - z[..., None, :], share[..., None, :]
    there = jnp.where(q[..., None] == z[..., None, :], reference[..., None, :], 0.0)
    pulls = numbers.divide(gains * sums[0], sums[1])[..., None] * there
    pushes = gains[..., None] * share * steepness(gap, surrogate)
    pulled, pushed = numbers.sums((pulls, pushes), (gap.ndim - 2,))
    return pulled - pushed
