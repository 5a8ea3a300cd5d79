"""Losses at an operating point: the threshold is an order statistic of one class.

docs/operating_points.md says when to take this form, and when the Lagrangian one.
"""

from __future__ import annotations

import math
from typing import Literal, Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import doors, numbers, slopes
from diffmetrics._core.doors import SetOptions

Surrogate = Literal["logistic", "hinge"]

# The surrogates at 0, by which they are divided to bound the step.
AT_ZERO: dict[str, float] = {"logistic": math.log(2.0), "hinge": 1.0}


def given(name: str, value: ArrayLike, z: jax.Array) -> jax.Array:
    """A hyper-parameter in the shape of the loss of the sets `z`."""
    x = numbers.as_float(value)
    doors.require_broadcast(name, x, z.shape[:-1], "the loss")
    return jnp.broadcast_to(x, z.shape[:-1])


def share_of(mass: jax.Array, total: jax.Array) -> jax.Array:
    """Each element's share of a total, taken before summing: large logits would overflow."""
    return numbers.divide(mass, total[..., None])


def cost(x: jax.Array, surrogate: Surrogate) -> jax.Array:
    """The surrogate of x ≥ 0."""
    if surrogate == "logistic":
        return numbers.capped(slopes.softpluses(x)[0])
    if surrogate == "hinge":
        return slopes.hinge(1.0 + x)
    raise ValueError(f'surrogate must be "logistic" or "hinge", got {surrogate!r}.')


@doors.compiled("axis", "surrogate")
def precision_at_recall_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    target_recall: ArrayLike,
    surrogate: Surrogate = "logistic",
    **options: Unpack[SetOptions],
) -> jax.Array:
    r"""False alarms per positive, at the threshold that finds `target_recall` of the positives.

    Use it when a given share of the positives must be found and false alarms are what that costs.
    The baseline to beat is cross-entropy with its threshold at that quantile, which is as good
    where the model can fit the data.

    .. math:: \frac{1}{c\,n_+} \sum_{i \in N} \ell(s_i - q), \qquad
       q = \max \{s_j : j \in P,\ \text{recall of } [s \ge s_j] \text{ is at least } \rho\}

    Args:
      logits: real scores s ``[...]``.
      labels: 0/1 of the same shape.
      target_recall: ρ.
      surrogate: ``"logistic"`` or ``"hinge"``. Static.
      **options: `axis`, `where`, `weights`: see docs/arguments.md.

    Returns:
      Loss L ≥ 0, the shape of `logits` without `axis`. The exact precision at recall ρ is at least
      ρ / (ρ + L). 0 with zero gradient where no label is positive.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -1.0, 0.5, -2.0]), jnp.array([1, 0, 1, 0])
      >>> print(dm.precision_at_recall_loss(z, y, target_recall=1.0))
      0.2022

    References:
      Mackey, Luo and Eban, Constrained classification and ranking via quantiles, 2018,
      arXiv:1803.00067.
    """
    z, positive, negative = doors.two_classes(logits, labels, **options)
    recall = given("target_recall", target_recall, z)[..., None]
    share = share_of(negative, jnp.sum(positive, -1))
    return _overtaken(-z, positive, share, 1.0 - recall, surrogate)[..., 0]


@doors.compiled("axis", "surrogate")
def fpr_at_tpr_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    target_tpr: ArrayLike,
    surrogate: Surrogate = "logistic",
    **options: Unpack[SetOptions],
) -> jax.Array:
    r"""A bound on the false positive rate where `target_tpr` of the positives are found.

    Use it where errors are told as rates, as in verification. It is `precision_at_recall_loss`
    times n₊ / n₋: the same false alarms, counted per negative and not per positive. With one set
    the minimum is the same; with many sets each counts by its own rate.

    .. math:: \frac{1}{c\,n_-} \sum_{i \in N} \ell(s_i - q), \qquad
       q = \max \{s_j : j \in P,\ \text{TPR of } [s \ge s_j] \text{ is at least } \rho\}

    Args:
      logits: real scores s ``[...]``.
      labels: 0/1 of the same shape.
      target_tpr: ρ, the true positive rate (recall).
      surrogate: ``"logistic"`` or ``"hinge"``. Static.
      **options: `axis`, `where`, `weights`: see docs/arguments.md.

    Returns:
      Loss ≥ the exact false positive rate at that true positive rate, the shape of `logits`
      without `axis`. 0 with zero gradient where a class is absent.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -1.0, 0.5, -2.0]), jnp.array([1, 0, 1, 0])
      >>> print(dm.fpr_at_tpr_loss(z, y, target_tpr=1.0))
      0.2022

    References:
      Mackey, Luo and Eban, Constrained classification and ranking via quantiles, 2018,
      arXiv:1803.00067.
    """
    z, positive, negative = doors.two_classes(logits, labels, **options)
    tpr = given("target_tpr", target_tpr, z)[..., None]
    share = share_of(negative, jnp.sum(negative, -1))
    return _overtaken(-z, positive, share, 1.0 - tpr, surrogate)[..., 0]


@doors.compiled("axis", "surrogate")
def tpr_at_fpr_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    target_fpr: ArrayLike,
    surrogate: Surrogate = "logistic",
    **options: Unpack[SetOptions],
) -> jax.Array:
    r"""A bound on the share of positives missed at the threshold that lets `target_fpr` pass.

    Use it when false alarms are rationed: one in a thousand negatives may pass, and as many
    positives as possible should. The gradient pulls one negative down for all positives that it
    pushes up, so a negative that is in truth a positive does harm if it is among the r n₋ highest.

    .. math:: \frac{1}{c\,n_+} \sum_{i \in P} \ell(q - s_i), \qquad
       q = \min \{s_j : j \in N,\ \text{FPR of } [s > s_j] \text{ is at most } r\}

    Args:
      logits: real scores s ``[...]``.
      labels: 0/1 of the same shape.
      target_fpr: r, the false positive rate that is allowed.
      surrogate: ``"logistic"`` or ``"hinge"``. Static.
      **options: `axis`, `where`, `weights`: see docs/arguments.md.

    Returns:
      Loss ≥ one minus the exact true positive rate of ``logits > q``, the shape of `logits`
      without `axis`. 0 with zero gradient where a class is absent.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -1.0, 0.5, -2.0]), jnp.array([1, 0, 1, 0])
      >>> print(dm.tpr_at_fpr_loss(z, y, target_fpr=0.5))
      0.0700

    References:
      Mackey, Luo and Eban, Constrained classification and ranking via quantiles, 2018,
      arXiv:1803.00067.
    """
    z, positive, negative = doors.two_classes(logits, labels, **options)
    fpr = given("target_fpr", target_fpr, z)[..., None]
    share = share_of(positive, jnp.sum(positive, -1))
    return _overtaken(z, negative, share, fpr, surrogate)[..., 0]


@doors.compiled("axis", "surrogate")
def recall_at_precision_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    target_precision: ArrayLike,
    surrogate: Surrogate = "logistic",
    **options: Unpack[SetOptions],
) -> jax.Array:
    r"""A bound on the share of positives missed among the false alarms that a precision allows.

    Use it when what is flagged must be right at least so often. A precision is no quantile of
    either class; but once all positives are found, precision α allows :math:`n_+ (1 - α) / α`
    false alarms, and at that threshold the misses are counted: it is `tpr_at_fpr_loss` at the
    false positive rate :math:`(1 - α)\, n_+ / (α\, n_-)`. At recall R its threshold has precision
    :math:`αR / (αR + 1 - α)`, less than α, so choose the threshold to decide by afterwards. Where
    precision α is far from reach, or labels are noisy, `recall_at_precision_lagrangian` or
    cross-entropy is better.

    Args:
      logits: real scores s ``[...]``.
      labels: 0/1 of the same shape.
      target_precision: α > 0.
      surrogate: ``"logistic"`` or ``"hinge"``. Static.
      **options: `axis`, `where`, `weights`: see docs/arguments.md.

    Returns:
      Loss ≥ one minus the exact recall at that many false alarms, the shape of `logits` without
      `axis`. 0 with zero gradient where a class is absent.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -1.0, 0.5, -2.0]), jnp.array([1, 0, 1, 0])
      >>> print(dm.recall_at_precision_loss(z, y, target_precision=0.7))
      0.1803

    References:
      The quantiles are those of Mackey, Luo and Eban, 2018, arXiv:1803.00067; that a precision
      becomes one by way of all positives is ours. The threshold at which the current ranking has
      precision α would be exact, but it jumps when two neighbours change places, and trained worse.
    """
    z, positive, negative = doors.two_classes(logits, labels, **options)
    precision = given("target_precision", target_precision, z)
    found = jnp.sum(positive, -1)
    allowed = numbers.divide((1.0 - precision) * found, precision * jnp.sum(negative, -1))
    share = share_of(positive, found)
    return _overtaken(z, negative, share, allowed[..., None], surrogate)[..., 0]


@doors.compiled("num_anchors", "axis", "surrogate")
def pr_auc_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    num_anchors: int = 20,
    surrogate: Surrogate = "logistic",
    **options: Unpack[SetOptions],
) -> jax.Array:
    r"""A bound on one minus the area under the precision-recall curve, from K of its points.

    Use it when no single operating point is given but false alarms at the top matter most. Work
    and memory are K times those of one point.

    .. math:: 1 - \frac{1}{K} \sum_{k=1}^{K} \frac{\rho_k}{\rho_k + L(\rho_k)}, \qquad
       \rho_k = \frac{k - 1/2}{K}

    with the `precision_at_recall_loss` L. (The mean of the L themselves would be the area under the
    *ROC* curve: false alarms averaged over recalls.)

    Args:
      logits: real scores ``[...]``.
      labels: 0/1 of the same shape.
      num_anchors: K. Static.
      surrogate: ``"logistic"`` or ``"hinge"``. Static.
      **options: `axis`, `where`, `weights`: see docs/arguments.md.

    Returns:
      Loss in [0, 1], the shape of `logits` without `axis`; with as many anchors as positives it
      bounds one minus the average precision. 0 with zero gradient where no label is positive.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, -1.0, 0.5, -2.0]), jnp.array([1, 0, 1, 0])
      >>> print(dm.pr_auc_loss(z, y, num_anchors=2))
      0.1869

    References:
      The anchors: Eban et al., Scalable learning of non-decomposable objectives, AISTATS 2017,
      arXiv:1608.04802. The quantiles: Mackey, Luo and Eban, 2018, arXiv:1803.00067.
    """
    z, positive, negative = doors.two_classes(logits, labels, **options)
    recalls = (jnp.arange(num_anchors, dtype=z.dtype) + 0.5) / num_anchors
    share = share_of(negative, jnp.sum(positive, -1))
    every = jnp.broadcast_to(recalls, (*z.shape[:-1], num_anchors))
    alarms = _overtaken(-z, positive, share, 1.0 - every, surrogate)
    return jnp.mean(1.0 - recalls / (recalls + alarms), -1)


def _overtaken(
    z: jax.Array,
    reference: jax.Array,
    share: jax.Array,
    rates: jax.Array,
    surrogate: Surrogate,
) -> jax.Array:
    """How much of `share` is not above the thresholds that `rates` of the reference pass: a bound.

    One side serves both: a threshold that few positives may fall below is, of negated logits, one
    that few may pass. Shapes ``[..., n]``; rates and result ``[..., K]``.
    """
    gap = _thresholds(z, reference, rates)[..., None] - z[..., None, :]
    errors = jnp.sum(share[..., None, :] * cost(gap, surrogate), -1)
    bound = numbers.capped(errors / AT_ZERO[surrogate])
    return jnp.where(jnp.any(reference > 0, -1, keepdims=True), bound, 0.0)


def _thresholds(z: jax.Array, mass: jax.Array, rates: jax.Array) -> jax.Array:
    """The lowest logits that have at most `rates` ``[..., K]`` of the mass strictly above them.

    The gradient goes to the elements that lie there, by their mass, and so does not depend on the
    order in which ties are sorted.
    """
    present = mass > 0
    held = jax.lax.stop_gradient(z)
    key = jnp.where(present, -held, jnp.inf)
    key, sorted_mass = jax.lax.sort((key, jax.lax.stop_gradient(mass)), num_keys=1)
    through = jnp.cumsum(sorted_mass, -1)
    above = jnp.pad(through[..., :-1], [(0, 0)] * (z.ndim - 1) + [(1, 0)])
    # A rate such as 1 - 0.98 is rounded, and 2 % of 550 must not become 10.99999 of them.
    allowed = (rates + jnp.finfo(z.dtype).eps) * through[..., -1:]
    passed = jnp.sum(above[..., None, :] <= allowed[..., None], -1)
    last = jnp.minimum(passed, jnp.sum(present, -1, keepdims=True)) - 1
    q = -jnp.take_along_axis(key, jnp.maximum(last, 0), -1)
    q = jnp.where(jnp.isfinite(q), q, 0.0)[..., None]  # there is nothing, so no threshold

    there = present[..., None, :] & (held[..., None, :] == q)
    part = jnp.where(there, jax.lax.stop_gradient(mass)[..., None, :], 0.0)
    part = share_of(part, jnp.sum(part, -1))
    return q[..., 0] + jnp.sum(part * jnp.where(there, z[..., None, :] - q, 0.0), -1)
