"""Operating points, Lagrangian form: multipliers keep one rate at its target, at logit 0.

For when to use which form, see docs/operating_points.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import calls, doors, numbers
from diffmetrics._core.calls import SetOptions
from diffmetrics._losses.rankings.multipliers import Constraint
from diffmetrics._losses.rankings.operating_point import AT_ZERO, Surrogate, cost, share_of
from diffmetrics._losses.rankings.two_classes import Sets, given, relative, sets_of


@calls.compiled("axis", "surrogate")
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
    r"""Precision at a fixed recall: fewest false alarms with the threshold at logit 0.

    Use it to keep `target_recall` of the positives above logit 0, where batches are too small for
    the quantile of `precision_at_recall_loss`, or the threshold has to be logit 0. For a fixed
    multiplier λ it is cross-entropy with positives weighted by λ; `dual_update` finds the weight
    that gives the recall.

    .. math::
       L &= \frac{1}{n} \Big(\lambda \sum_{i \in P} \ell(-s_i) + \sum_{i \in N} \ell(s_i)\Big)

       &\quad {} - \lambda (1 - \rho) \pi c

    P are the positives, N the negatives, and n is the number of both.

    Args:
      logits: real scores s ``[...]`` of any shape.
      labels: 0/1 ``[...]``.
      multipliers: λ ≥ 0, of the loss's shape; it gets no gradient.
      target_recall: ρ, in [0, 1].
      prevalence: π, the share of positives; default: the batch's. It shifts the value, not the
        gradient.
      surrogate: ℓ, ``"logistic"`` or ``"hinge"``; c is its value at 0. Static.
      **options: `axis`, `where`, `weights`: see docs/arguments.md.

    Returns:
      The loss and its `Constraint`. The loss has the shape of `logits` without `axis`; it can be
      negative, so do not monitor it. The violation is ρ minus the exact recall, 0 if
      no label is positive.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -1.0, 0.5, -2.0]), jnp.array([1, 0, 1, 1])
      >>> m = jnp.ones(())  # the multiplier
      >>> loss, constraint = dm.precision_at_recall_lagrangian(z, y, m, target_recall=0.9)
      >>> print(loss, dm.dual_update(m, constraint.violation, 1.0))
      0.7083 1.2333

    References:
      Eban et al., Scalable learning of non-decomposable objectives, 2017, arXiv:1608.04802.
    """
    sets = sets_of(logits, labels, **options)
    recall = given("target_recall", target_recall, sets[0])
    return _lagrangian(_RECALL, sets, multipliers, recall, prevalence, surrogate)


@calls.compiled("axis", "surrogate")
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
    r"""TPR at a fixed FPR: most positives found with the threshold at logit 0.

    Use it to keep at most `target_fpr` of the negatives above logit 0, where batches are too small
    for the quantile of `tpr_at_fpr_loss`, or the threshold has to be logit 0. A rate of 1/1000
    takes thousands of negatives to measure: if batches hold fewer, add the `Counts` of many before
    a `dual_update`.

    .. math::
       L &= \frac{1}{n} \Big(\sum_{i \in P} \ell(-s_i) + \lambda \sum_{i \in N} \ell(s_i)\Big)

       &\quad {} - \lambda r (1 - \pi) c

    P are the positives, N the negatives, and n is the number of both.

    Args:
      logits: real scores s ``[...]`` of any shape.
      labels: 0/1 ``[...]``.
      multipliers: λ ≥ 0, of the loss's shape; it gets no gradient.
      target_fpr: r, the largest false positive rate allowed.
      prevalence: π, the share of positives; default: the batch's. It shifts the value, not the
        gradient.
      surrogate: ℓ, ``"logistic"`` or ``"hinge"``; c is its value at 0. Static.
      **options: `axis`, `where`, `weights`: see docs/arguments.md.

    Returns:
      The loss and its `Constraint`. The loss has the shape of `logits` without `axis`; it can be
      negative, so do not monitor it. The violation is the exact FPR minus r, 0 if no
      label is negative.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -1.0, 0.5, -2.0]), jnp.array([1, 0, 0, 1])
      >>> loss, constraint = dm.tpr_at_fpr_lagrangian(z, y, 1.0, target_fpr=0.1)
      >>> print(loss, constraint.violation)
      0.8506 0.4

    References:
      Eban et al., Scalable learning of non-decomposable objectives, 2017, arXiv:1608.04802.
    """
    sets = sets_of(logits, labels, **options)
    fpr = given("target_fpr", target_fpr, sets[0])
    return _lagrangian(_FPR, sets, multipliers, fpr, prevalence, surrogate)


@calls.compiled("axis", "surrogate")
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
    r"""Recall at a fixed precision: most positives found with the threshold at logit 0.

    Use it when `target_precision` of what is above logit 0 must be positive. For a fixed multiplier
    λ it is weighted cross-entropy; as λ grows it approaches cross-entropy with its threshold at
    probability α, so it is never much worse than that, nor much better.

    .. math::
       L &= \frac{1 + \lambda (1 - \alpha)}{n} \sum_{i \in P} \ell(-s_i)

       &\quad {} + \frac{\lambda \alpha}{n} \sum_{i \in N} \ell(s_i) - \lambda (1 - \alpha) \pi c

    P are the positives, N the negatives, and n is the number of both.

    Args:
      logits: real scores s ``[...]`` of any shape.
      labels: 0/1 ``[...]``.
      multipliers: λ ≥ 0, of the loss's shape; it gets no gradient.
      target_precision: α, in (0, 1].
      prevalence: π, the share of positives; default: the batch's. It shifts the value, not the
        gradient.
      surrogate: ℓ, ``"logistic"`` or ``"hinge"``; c is its value at 0. Static.
      **options: `axis`, `where`, `weights`: see docs/arguments.md.

    Returns:
      The loss and its `Constraint`. The loss has the shape of `logits` without `axis`; it can be
      negative, so do not monitor it. The violation is α minus the exact precision, 0
      if no label is positive. If nothing exceeds 0, precision is 1, so the multiplier falls until
      something does.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -1.0, 0.5, -2.0]), jnp.array([1, 0, 0, 1])
      >>> m = jnp.ones(())  # the multiplier
      >>> loss, constraint = dm.recall_at_precision_lagrangian(z, y, m, target_precision=0.9)
      >>> print(loss, constraint.violation)
      0.8748 0.4

    References:
      Eban et al., Scalable learning of non-decomposable objectives, 2017, arXiv:1608.04802.
    """
    sets = sets_of(logits, labels, **options)
    precision = given("target_precision", target_precision, sets[0])
    return _lagrangian(_PRECISION, sets, multipliers, precision, prevalence, surrogate)


@calls.compiled("axis", "surrogate")
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
    r"""PR AUC loss, Lagrangian form: the mean of K losses of recall at a fixed precision.

    Use it when no operating point is given, or only a range of them. Each of the K losses has its
    own threshold and multiplier. The thresholds are minus the biases, which the optimiser learns
    with the model's weights.

    .. math::
       L &= \frac{1}{K} \sum_{k=1}^{K} R(s + b_k;\ \lambda_k, \alpha_k)

       \alpha_k &= \mathrm{lo} + k \frac{\mathrm{hi} - \mathrm{lo}}{K + 1}

    where R is `recall_at_precision_lagrangian`.

    Args:
      logits: real scores s ``[...]`` of any shape.
      labels: 0/1 ``[...]``.
      multipliers: λ ≥ 0, of the loss's shape and a last axis ``[K]``; it gets no gradient.
      biases: b, of the shape of `multipliers`; start with zeros, and train them.
      precision_range: lo and hi, the range of target precisions.
      prevalence: π, the share of positives; default: the batch's. It shifts the value, not the
        gradient.
      surrogate: ℓ, ``"logistic"`` or ``"hinge"``; c is its value at 0. Static.
      **options: `axis`, `where`, `weights`: see docs/arguments.md.

    Returns:
      The loss and its `Constraint`. The loss has the shape of `logits` without `axis`; it can be
      negative, so do not monitor it. The constraint has the shape of `multipliers`,
      each entry at its own threshold.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -1.0, 0.5, -2.0]), jnp.array([1, 0, 0, 1])
      >>> loss, constraint = dm.pr_auc_lagrangian(z, y, jnp.ones(3), biases=jnp.zeros(3))
      >>> print(loss, constraint.violation.tolist())
      0.8328 [-0.25, 0.0, 0.25]

    References:
      Eban et al., Scalable learning of non-decomposable objectives, 2017, arXiv:1608.04802.
    """
    z, positive, negative = sets = sets_of(logits, labels, **options)
    factors, shifts = (jnp.asarray(x, z.dtype) for x in (multipliers, biases))
    anchors = factors.shape[-1] if factors.ndim else 0
    if anchors == 0 or factors.shape[:-1] != z.shape[:-1]:
        raise ValueError(
            f"multipliers must have the shape of the loss and a last axis of anchors: the loss is "
            f"{z.shape[:-1]}, multipliers are {factors.shape}."
        )
    doors.require_shape("biases", shifts, factors.shape, "multipliers")
    low, high = (jnp.asarray(x, z.dtype) for x in precision_range)
    steps = jnp.broadcast_to(jnp.arange(1, anchors + 1, dtype=z.dtype), factors.shape)
    precisions = low + (high - low) * steps / (anchors + 1)
    shares = [share[..., None] for share in _class_shares(sets, prevalence)]
    anchored = (z[..., None, :] + shifts[..., None], positive[..., None, :], negative[..., None, :])
    factors = jax.lax.stop_gradient(factors)
    losses, constraint = _relaxed(_PRECISION, anchored, factors, precisions, shares, surrogate)
    return numbers.capped(jnp.sum(losses / anchors, -1)), constraint


# --- the engine -----------------------------------------------------------------------------------


class _Trade(NamedTuple):
    """A constraint with multiplier λ and target t, among shares π and 1 - π of the classes."""

    factors: Callable[[Any, Any], tuple[Any, Any]]
    """What a miss and a false alarm cost, as a function of λ and t."""
    slack: Callable[[Any, Any, Any, Any], jax.Array]
    """What the target allows, in units of the surrogate at 0, given λ, t, π and 1 - π."""
    violation: Callable[[Any, Any, Any, Any, Any], jax.Array]
    """By how much the exact rate misses t, given t, hits, false alarms, positives, negatives."""


_RECALL = _Trade(
    lambda factor, target: (factor, 1.0),
    lambda factor, target, share, _: factor * (1.0 - target) * share,
    lambda target, hits, alarms, p, n: numbers.divide(target * p - hits, p),
)
_FPR = _Trade(
    lambda factor, target: (1.0, factor),
    lambda factor, target, _, share: factor * target * share,
    lambda target, hits, alarms, p, n: numbers.divide(alarms - target * n, n),
)
_PRECISION = _Trade(
    lambda factor, target: (1.0 + factor * (1.0 - target), factor * target),
    lambda factor, target, share, _: factor * (1.0 - target) * share,
    lambda target, hits, alarms, p, n: jnp.where(
        p > 0, numbers.divide(alarms, hits + alarms) - (1.0 - target), 0.0
    ),
)


def _lagrangian(
    trade: _Trade,
    sets: Sets,
    multipliers: ArrayLike,
    target: jax.Array,
    prevalence: ArrayLike | None,
    surrogate: Surrogate,
) -> tuple[jax.Array, Constraint]:
    factor = jax.lax.stop_gradient(given("multipliers", multipliers, sets[0]))
    shares = _class_shares(sets, prevalence)
    return _relaxed(trade, sets, factor, target, shares, surrogate)


def _relaxed(
    trade: _Trade,
    sets: Sets,
    factor: jax.Array,
    target: jax.Array,
    shares: Sequence[jax.Array],
    surrogate: Surrogate,
) -> tuple[jax.Array, Constraint]:
    """The mean cost of an example minus what the target allows, and the constraint."""
    z, positive, negative = shared = relative(*sets)
    objective = _objective(shared, *trade.factors(factor, target), surrogate)
    slack = trade.slack(factor, target, *shares) * AT_ZERO[surrogate]
    # A NaN counts as wrong: not as a hit, but as a false alarm.
    hits = jnp.sum(jnp.where(z > 0.0, positive, 0.0), -1)
    alarms = jnp.sum(jnp.where(z <= 0.0, 0.0, negative), -1)
    totals = jnp.sum(positive, -1), jnp.sum(negative, -1)
    violation = trade.violation(target, hits, alarms, *totals)
    return objective - slack, _constraint(sets, violation, surrogate)


def _class_shares(sets: Sets, prevalence: ArrayLike | None) -> tuple[jax.Array, jax.Array]:
    """π and 1 - π, given or from the batch; both are 0 for an empty batch."""
    if prevalence is not None:
        share = given("prevalence", prevalence, sets[0])
        return share, 1.0 - share
    p, n = (jnp.sum(mass, -1) for mass in relative(*sets)[1:])
    return numbers.divide(p, p + n), numbers.divide(n, p + n)


def _objective(sets: Sets, on_misses: Any, on_alarms: Any, surrogate: Surrogate) -> jax.Array:
    """The mean cost per example, with a factor on each class."""
    z, positive, negative = sets
    total = jnp.sum(positive + negative, -1)
    misses = jnp.sum(share_of(positive, total) * cost(-z, surrogate), -1)
    alarms = jnp.sum(share_of(negative, total) * cost(z, surrogate), -1)
    # Each sum is capped, too, because a factor may be 0.
    return numbers.capped(on_misses * numbers.capped(misses) + on_alarms * numbers.capped(alarms))


def _constraint(sets: Sets, violation: jax.Array, surrogate: Surrogate) -> Constraint:
    z, positive, negative = sets
    unit = AT_ZERO[surrogate]
    misses = numbers.capped(jnp.sum(positive * cost(-z, surrogate), -1) / unit)
    alarms = numbers.capped(jnp.sum(negative * cost(z, surrogate), -1) / unit)
    return jax.lax.stop_gradient(Constraint(jnp.sum(positive, -1) - misses, alarms, violation))
