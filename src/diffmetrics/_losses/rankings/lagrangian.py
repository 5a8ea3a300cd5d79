r"""The Lagrangian form of losses at an operating point: multipliers, and the step that moves them.

The arguments and errors are described once, at the top of `_operating_points`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import doors, numbers
from diffmetrics._core.doors import SetOptions
from diffmetrics._losses.rankings.operating_point import AT_ZERO, Surrogate, cost, given, share_of


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Constraint:
    r"""How a batch stands towards the constraint of a Lagrangian loss; it has no gradient.

    A frozen pytree, each leaf of the loss's shape (``[..., K]`` with K anchors).

    Attributes:
      tp_lower: the surrogate's lower bound on the true positives, perhaps negative: to be logged
        beside the exact ``counts(logits > 0, labels).tp``, which it tells how far to trust.
      fp_upper: the surrogate's upper bound on the false positives.
      violation: by how much the *exact* rate at ``logits > 0`` misses its target, positive if it
        does; what `dual_update` wants. The bounds would overstate it, and the multiplier with it.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -1.0, 0.5, -2.0]), jnp.array([1, 0, 1, 1])
      >>> _, constraint = dm.precision_at_recall_lagrangian(z, y, 1.0, target_recall=0.9)
      >>> print(constraint.tp_lower, constraint.violation)      # two of three were found
      -0.936 0.2333
    """

    tp_lower: jax.Array
    fp_upper: jax.Array
    violation: jax.Array


def dual_update(multipliers: Any, violation: Any, rate: ArrayLike) -> Any:
    r"""One step of projected ascent: multipliers grow while their constraint is violated.

    Use it after each optimiser step, outside the optimiser. It is driven by the *exact* violation,
    so a multiplier is at rest when the constraint holds, however loose the surrogate's bound. Over
    devices or several batches add `Counts` and take the violation of the sum, for a recall
    ``target - dm.recall(total)``. A target that cannot be reached lets its multiplier grow without
    end: watch it, or hold it with ``jnp.minimum(dual_update(...), cap)``. If recall swings about
    its target, the rate is too large.

    .. math:: \lambda \leftarrow \max(0, \lambda + \text{rate} \cdot \text{violation})

    Args:
      multipliers: array, or a pytree of arrays; start with ``jnp.ones`` of the loss's shape.
      violation: the same structure and shapes, `Constraint.violation`.
      rate: step size; 1 is a fair start, since violations are differences of rates.

    Returns:
      The new multipliers, ≥ 0.

    Raises:
      ValueError: if structures or shapes differ.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> dm.dual_update(jnp.array([1.0, 1.0]), jnp.array([0.25, -0.75]), 2.0).tolist()
      [1.5, 0.0]

    References:
      Narasimhan, Cotter and Gupta, Optimizing generalized rate metrics with three players, NeurIPS
      2019, arXiv:1909.02939, and Cotter et al., Two-player games for efficient non-convex
      constrained optimization, ALT 2019, arXiv:1804.06500, on driving multipliers by exact rates.
    """

    def step(multiplier: Any, exceeded: Any) -> jax.Array:
        multiplier, exceeded = numbers.as_float(multiplier), numbers.as_float(exceeded)
        doors.require_shape("violation", exceeded, multiplier.shape, "multipliers")
        return jnp.maximum(multiplier + rate * exceeded, 0.0)

    return jax.tree.map(step, multipliers, violation)


@doors.compiled("axis", "surrogate")
def precision_at_recall_lagrangian(
    logits: ArrayLike,
    labels: ArrayLike,
    multipliers: ArrayLike,
    *,
    target_recall: ArrayLike,
    prevalence: ArrayLike | None = None,
    surrogate: Surrogate = "logistic",
    **options: Unpack[SetOptions],
) -> tuple[jax.Array, Constraint]:
    r"""Fewest false alarms at logit 0 while `target_recall` of the positives are above it.

    Use it where batches are too small for the quantile of `precision_at_recall_loss`, or where the
    threshold has to be logit 0. For a fixed multiplier λ it is cross-entropy with positives
    weighted by λ; the multiplier finds the weight that gives the recall.

    .. math:: \frac{1}{n} \Big(\lambda \sum_{i \in P} \ell(-s_i) + \sum_{i \in N} \ell(s_i)\Big)
       - \lambda (1 - \rho) \pi c

    Args:
      logits: real scores s ``[...]``.
      labels: 0/1 of the same shape.
      multipliers: λ ≥ 0 of the loss's shape; no gradient flows into it.
      target_recall: ρ.
      prevalence: π, the share of positives; by default the batch's. It shifts the value only.
      surrogate: ``"logistic"`` or ``"hinge"``. Static.
      axis: axes that form one set. Static.
      where: boolean, broadcasts to `logits`.
      weights: non-negative factors, broadcast to `logits`.

    Returns:
      The loss, the shape of `logits` without `axis`, perhaps negative and not to be monitored; and
      its `Constraint`, whose violation is ρ less the exact recall, 0 where no label is positive.

    Raises:
      TypeError, ValueError: as described at the top of this module.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -1.0, 0.5, -2.0]), jnp.array([1, 0, 1, 1])
      >>> multiplier = jnp.ones(())
      >>> loss, constraint = dm.precision_at_recall_lagrangian(z, y, multiplier, target_recall=0.9)
      >>> print(loss, dm.dual_update(multiplier, constraint.violation, 1.0))
      0.7083 1.2333

    References:
      Eban et al., Scalable learning of non-decomposable objectives, AISTATS 2017,
      arXiv:1608.04802.
    """
    z, positive, negative = doors.two_classes(logits, labels, **options)
    factor, recall = _multiplier(multipliers, z), given("target_recall", target_recall, z)
    share, _ = _class_shares(positive, negative, prevalence)
    objective = _objective(z, positive, negative, factor, jnp.ones_like(factor), surrogate)
    slack = factor * (1.0 - recall) * share * AT_ZERO[surrogate]
    found, total = _above(z, positive), jnp.sum(positive, -1)
    violation = numbers.divide(recall * total - found, total)
    return objective - slack, _constraint(z, positive, negative, violation, surrogate)


@doors.compiled("axis", "surrogate")
def tpr_at_fpr_lagrangian(
    logits: ArrayLike,
    labels: ArrayLike,
    multipliers: ArrayLike,
    *,
    target_fpr: ArrayLike,
    prevalence: ArrayLike | None = None,
    surrogate: Surrogate = "logistic",
    **options: Unpack[SetOptions],
) -> tuple[jax.Array, Constraint]:
    r"""Most positives above logit 0 while at most `target_fpr` of the negatives are.

    Use it where batches are too small for the quantile of `tpr_at_fpr_loss`, or where the
    threshold has to be logit 0. A rate of one in a thousand is seen only by thousands of
    negatives: with fewer in a batch, add up `Counts` of many before a `dual_update`.

    .. math:: \frac{1}{n} \Big(\sum_{i \in P} \ell(-s_i) + \lambda \sum_{i \in N} \ell(s_i)\Big)
       - \lambda r (1 - \pi) c

    Args:
      logits: real scores s ``[...]``.
      labels: 0/1 of the same shape.
      multipliers: λ ≥ 0 of the loss's shape; no gradient flows into it.
      target_fpr: r, the false positive rate that is allowed.
      prevalence: π, the share of positives; by default the batch's. It shifts the value only.
      surrogate: ``"logistic"`` or ``"hinge"``. Static.
      axis: axes that form one set. Static.
      where: boolean, broadcasts to `logits`.
      weights: non-negative factors, broadcast to `logits`.

    Returns:
      The loss, the shape of `logits` without `axis`, perhaps negative and not to be monitored; and
      its `Constraint`, whose violation is the exact false positive rate less r, 0 where no label is
      negative.

    Raises:
      TypeError, ValueError: as described at the top of this module.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -1.0, 0.5, -2.0]), jnp.array([1, 0, 0, 1])
      >>> loss, constraint = dm.tpr_at_fpr_lagrangian(z, y, 1.0, target_fpr=0.1)
      >>> print(loss, constraint.violation)
      0.8506 0.4

    References:
      Eban et al., Scalable learning of non-decomposable objectives, AISTATS 2017,
      arXiv:1608.04802.
    """
    z, positive, negative = doors.two_classes(logits, labels, **options)
    factor, fpr = _multiplier(multipliers, z), given("target_fpr", target_fpr, z)
    _, share = _class_shares(positive, negative, prevalence)
    objective = _objective(z, positive, negative, jnp.ones_like(factor), factor, surrogate)
    slack = factor * fpr * share * AT_ZERO[surrogate]
    alarms, total = _above(z, negative), jnp.sum(negative, -1)
    violation = numbers.divide(alarms - fpr * total, total)
    return objective - slack, _constraint(z, positive, negative, violation, surrogate)


@doors.compiled("axis", "surrogate")
def recall_at_precision_lagrangian(
    logits: ArrayLike,
    labels: ArrayLike,
    multipliers: ArrayLike,
    *,
    target_precision: ArrayLike,
    prevalence: ArrayLike | None = None,
    surrogate: Surrogate = "logistic",
    **options: Unpack[SetOptions],
) -> tuple[jax.Array, Constraint]:
    r"""Most positives above logit 0 while `target_precision` of what is above it is positive.

    Use it when what is flagged must be right at least so often. For a fixed multiplier λ it is
    weighted cross-entropy, and as λ grows, cross-entropy with its threshold at probability α: it
    cannot go far wrong, nor far beyond.

    .. math:: \frac{1}{n} \Big((1 + \lambda (1 - \alpha)) \sum_{i \in P} \ell(-s_i)
       + \lambda \alpha \sum_{i \in N} \ell(s_i)\Big) - \lambda (1 - \alpha) \pi c

    Args:
      logits: real scores s ``[...]``.
      labels: 0/1 of the same shape.
      multipliers: λ ≥ 0 of the loss's shape; no gradient flows into it.
      target_precision: α.
      prevalence: π, the share of positives; by default the batch's. It shifts the value only.
      surrogate: ``"logistic"`` or ``"hinge"``. Static.
      axis: axes that form one set. Static.
      where: boolean, broadcasts to `logits`.
      weights: non-negative factors, broadcast to `logits`.

    Returns:
      The loss, the shape of `logits` without `axis`, perhaps negative and not to be monitored; and
      its `Constraint`, whose violation is α less the exact precision. Of nothing above 0 the
      precision is 1, so that the multiplier falls until something is; where no label is positive
      the violation is 0.

    Raises:
      TypeError, ValueError: as described at the top of this module.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -1.0, 0.5, -2.0]), jnp.array([1, 0, 0, 1])
      >>> loss, constraint = dm.recall_at_precision_lagrangian(z, y, 1.0, target_precision=0.9)
      >>> print(loss, constraint.violation)
      0.8748 0.4

    References:
      Eban et al., Scalable learning of non-decomposable objectives, AISTATS 2017,
      arXiv:1608.04802.
    """
    z, positive, negative = doors.two_classes(logits, labels, **options)
    factor, precision = _multiplier(multipliers, z), given("target_precision", target_precision, z)
    share, _ = _class_shares(positive, negative, prevalence)
    return _recall_at_precision(z, positive, negative, factor, precision, share, surrogate)


@doors.compiled("axis", "surrogate")
def pr_auc_lagrangian(
    logits: ArrayLike,
    labels: ArrayLike,
    multipliers: ArrayLike,
    *,
    biases: ArrayLike,
    precision_range: tuple[ArrayLike, ArrayLike] = (0.0, 1.0),
    prevalence: ArrayLike | None = None,
    surrogate: Surrogate = "logistic",
    **options: Unpack[SetOptions],
) -> tuple[jax.Array, Constraint]:
    r"""The mean of K losses of recall at precision, each with its own threshold and multiplier.

    Use it when no single operating point is given, or (`precision_range`) only a range of them.
    The thresholds are minus the biases, which the optimiser learns with the model's weights.

    .. math:: \frac{1}{K} \sum_{k=1}^{K} \text{recall at precision}(s + b_k;\ \lambda_k, \alpha_k),
       \qquad \alpha_k = lo + k \frac{hi - lo}{K + 1}

    Args:
      logits: real scores s ``[...]``.
      labels: 0/1 of the same shape.
      multipliers: λ ≥ 0, the loss's shape and ``[K]``; no gradient flows into it.
      biases: b of the same shape; start with zeros, and train them.
      precision_range: lo and hi. Traced.
      prevalence: π, the share of positives; by default the batch's. It shifts the value only.
      surrogate: ``"logistic"`` or ``"hinge"``. Static.
      axis: axes that form one set. Static.
      where: boolean, broadcasts to `logits`.
      weights: non-negative factors, broadcast to `logits`.

    Returns:
      The loss, the shape of `logits` without `axis`, perhaps negative and not to be monitored; and
      its `Constraint`, the loss's shape and ``[K]``, each entry at its own threshold.

    Raises:
      TypeError, ValueError: as described at the top of this module; `ValueError` too if
        `multipliers` has no last axis of anchors, or `biases` another shape.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -1.0, 0.5, -2.0]), jnp.array([1, 0, 0, 1])
      >>> loss, constraint = dm.pr_auc_lagrangian(z, y, jnp.ones(3), biases=jnp.zeros(3))
      >>> print(loss, constraint.violation.tolist())
      0.8328 [-0.25, 0.0, 0.25]

    References:
      Eban et al., Scalable learning of non-decomposable objectives, AISTATS 2017,
      arXiv:1608.04802.
    """
    z, positive, negative = doors.two_classes(logits, labels, **options)
    factors, shifts = jax.lax.stop_gradient(numbers.as_float(multipliers)), numbers.as_float(biases)
    anchors = factors.shape[-1] if factors.ndim else 0
    if anchors == 0 or factors.shape[:-1] != z.shape[:-1]:
        raise ValueError(
            f"multipliers must have the shape of the loss and a last axis of anchors: the loss is "
            f"{z.shape[:-1]}, multipliers are {factors.shape}."
        )
    doors.require_shape("biases", shifts, factors.shape, "multipliers")
    low, high = map(numbers.as_float, precision_range)
    precisions = low + (high - low) * jnp.arange(1, anchors + 1, dtype=z.dtype) / (anchors + 1)
    share, _ = _class_shares(positive, negative, prevalence)
    positive, negative = positive[..., None, :], negative[..., None, :]
    shifted, share = z[..., None, :] + shifts[..., None], share[..., None]
    losses, constraint = _recall_at_precision(
        shifted, positive, negative, factors, precisions, share, surrogate
    )
    return numbers.capped(jnp.sum(losses / anchors, -1)), constraint


def _multiplier(multipliers: ArrayLike, z: jax.Array) -> jax.Array:
    return jax.lax.stop_gradient(given("multipliers", multipliers, z))


def _class_shares(
    positive: jax.Array, negative: jax.Array, prevalence: ArrayLike | None
) -> tuple[jax.Array, jax.Array]:
    """π and 1 - π, as given or of the batch; both 0 of an empty batch."""
    if prevalence is not None:
        share = given("prevalence", prevalence, positive)
        return share, 1.0 - share
    p, n = jnp.sum(positive, -1), jnp.sum(negative, -1)
    return numbers.divide(p, p + n), numbers.divide(n, p + n)


def _objective(
    z: jax.Array,
    positive: jax.Array,
    negative: jax.Array,
    on_misses: jax.Array,
    on_alarms: jax.Array,
    surrogate: Surrogate,
) -> jax.Array:
    """The mean cost per example, with a factor on each class."""
    total = jnp.sum(positive + negative, -1)
    misses = jnp.sum(share_of(positive, total) * cost(-z, surrogate), -1)
    alarms = jnp.sum(share_of(negative, total) * cost(z, surrogate), -1)
    # Capped one by one too, for a factor may be 0.
    return numbers.capped(on_misses * numbers.capped(misses) + on_alarms * numbers.capped(alarms))


def _recall_at_precision(
    z: jax.Array,
    positive: jax.Array,
    negative: jax.Array,
    factor: jax.Array,
    precision: jax.Array,
    prevalence: jax.Array,
    surrogate: Surrogate,
) -> tuple[jax.Array, Constraint]:
    alike = 1.0 + factor * (1.0 - precision)
    objective = _objective(z, positive, negative, alike, factor * precision, surrogate)
    slack = factor * (1.0 - precision) * prevalence * AT_ZERO[surrogate]
    hits, alarms = _above(z, positive), _above(z, negative)
    exceeded = numbers.divide(alarms, hits + alarms) - (1.0 - precision)
    violation = jnp.where(jnp.sum(positive, -1) > 0, exceeded, 0.0)
    return objective - slack, _constraint(z, positive, negative, violation, surrogate)


def _above(z: jax.Array, mass: jax.Array) -> jax.Array:
    """How much is above the threshold, exactly."""
    return jnp.sum(jnp.where(z > 0, mass, 0.0), -1)


def _constraint(
    z: jax.Array,
    positive: jax.Array,
    negative: jax.Array,
    violation: jax.Array,
    surrogate: Surrogate,
) -> Constraint:
    misses = numbers.capped(jnp.sum(positive * cost(-z, surrogate), -1) / AT_ZERO[surrogate])
    alarms = numbers.capped(jnp.sum(negative * cost(z, surrogate), -1) / AT_ZERO[surrogate])
    found = jnp.sum(positive, -1) - misses
    return jax.lax.stop_gradient(Constraint(found, alarms, violation))
