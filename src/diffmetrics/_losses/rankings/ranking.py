"""Losses over all pairs of a positive and a negative, without all pairs.

Each is a mean over the n₊ n₋ pairs of a set, or a function of soft ranks, in O(n log n) time and
O(n) memory. A weight weighs an example, and a pair by the product of its two.

**A ranking loss leaves the offset free**: adding a constant to all logits changes nothing, so the
threshold is anywhere and probabilities mean nothing. Train it together with a cross-entropy
(``sigmoid_cross_entropy(z, y).mean() + roc_auc_loss(z, y)``), or tune the threshold. And expect
little: on tabular data none of them beats a tuned cross-entropy by more than noise.

A set in which a class is absent has no pair: loss and gradient are 0. Small batches of a rare class
teach nothing then; docs/microbatches.md makes one loss of many of them. At a kink, and between
equal scores, gradients are those of the side that still pulls.
"""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import doors, numbers, slopes
from diffmetrics._core.doors import Activation, Axis, SetOptions
from diffmetrics._core.order import Order, earlier, from_here, later
from diffmetrics._losses.rankings.sums_over_pairs import Surrogate, decayed, pair_loss, weighted


@doors.compiled("surrogate", "axis")
def roc_auc_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    surrogate: Surrogate = "squared_hinge",
    margin: ArrayLike = 1.0,
    **options: Unpack[SetOptions],
) -> jax.Array:
    r"""Mean over all pairs of how far the positive fails to score above the negative.

    Use it, beside a cross-entropy, when the ranking is judged by its ROC AUC. With "hinge" or
    "squared_hinge" and a margin of 1, with "square", or with "exponential" it bounds 1 - AUC from
    above; "logistic" does so when divided by log 2.

    .. math:: \frac{1}{n_+ n_-} \sum_{i \in P} \sum_{j \in N} \ell(z_i - z_j)

    * "hinge": :math:`\max(0, m - d)`; "squared_hinge": its square; "square": :math:`(m - d)^2`,
      which also pulls back pairs that are further apart than m.
    * "exponential": :math:`e^{-d}` (RankBoost), ruled by the worst pair.
    * "logistic": :math:`\log(1 + e^{-d})` (RankNet), to 3e-7.

    Args:
      logits: real scores ``[...]``.
      labels: 0/1 of the same shape.
      surrogate: ℓ, one of the five. Static.
      margin: m > 0, in logits, of the hinges and of "square". Traced.
      **options: `axis`, `where`, `weights`: see docs/arguments.md.

    Returns:
      Loss ≥ 0, of the shape of `logits` without `axis`; 0 with zero gradient if a class is absent.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, 0.5, 1.0, -1.0]), jnp.array([1, 1, 0, 0])
      >>> print(dm.roc_auc_loss(z, y), dm.roc_auc_loss(z, y, surrogate="hinge"))
      0.5625 0.375

    References:
      Rust and Hocking, A log-linear gradient descent algorithm for unbalanced binary
      classification, 2023, arXiv:2302.11062. Burges et al., Learning to rank using gradient
      descent, ICML 2005 (logistic). Freund et al., RankBoost, JMLR 2003 (exponential).
    """
    z, one, other = doors.two_classes(logits, labels, **options)
    return pair_loss(surrogate)(z, one, other, numbers.as_float(margin), jnp.ones(2, z.dtype))


@doors.compiled("surrogate", "axis")
def partial_roc_auc_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    max_fpr: ArrayLike,
    min_tpr: ArrayLike = 0.0,
    surrogate: Surrogate = "squared_hinge",
    margin: ArrayLike = 1.0,
    **options: Unpack[SetOptions],
) -> jax.Array:
    r"""`roc_auc_loss` of the negatives that score highest, and of the positives that score lowest.

    Use it when only few false alarms can be afforded (`max_fpr`), and perhaps no less than so many
    positives may be missed (`min_tpr`): only the corner of the ROC curve counts. The fewer pairs
    remain, the noisier the gradient; and the hard negatives that are left are where wrong labels
    are, too.

    The mean goes over the share `max_fpr` of the negatives and the share ``1 - min_tpr`` of the
    positives; an element at the border counts in part. This is the CVaR form of the loss, at its
    optimum, with no state to keep. ``max_fpr=1, min_tpr=0`` is `roc_auc_loss`.

    Args:
      logits: real scores ``[...]``.
      labels: 0/1 of the same shape.
      max_fpr: in (0, 1]. Traced.
      min_tpr: in [0, 1). Traced.
      surrogate: as in `roc_auc_loss`. Static.
      margin: as in `roc_auc_loss`. Traced.
      **options: `axis`, `where`, `weights`: see docs/arguments.md.

    Returns:
      Loss ≥ 0, of the shape of `logits` without `axis`; 0 with zero gradient if a class is absent.

    Raises:
      ValueError: if a rate is not a number.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, 0.5, 1.0, -1.0]), jnp.array([1, 1, 0, 0])
      >>> print(dm.partial_roc_auc_loss(z, y, max_fpr=0.5))
      1.125
      >>> print(dm.partial_roc_auc_loss(z, y, max_fpr=0.5, min_tpr=0.5))
      2.25

    References:
      Zhu et al., When AUC meets DRO, ICML 2022, arXiv:2203.00176.
    """
    z, one, other = doors.two_classes(logits, labels, **options)
    largest, least = numbers.as_float(max_fpr), numbers.as_float(min_tpr)
    for name, rate in (("max_fpr", largest), ("min_tpr", least)):
        if rate.ndim:
            raise ValueError(f"{name} must be a number, got shape {rate.shape}.")
    shares = jnp.stack([1.0 - least, largest])
    return pair_loss(surrogate, partial=True)(z, one, other, numbers.as_float(margin), shares)


# --- average precision ----------------------------------------------------------------------------


@doors.compiled("axis")
def average_precision_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    **options: Unpack[SetOptions],
) -> jax.Array:
    r"""One minus average precision, with soft ranks: Smooth-AP.

    Use it, beside a cross-entropy, when the ranking is judged by AP and positives are rare. A small
    temperature is close to AP and has hardly any gradient; a large one is smooth and far from it.
    Start at the usual distance between neighbouring scores or above: 1 for logits, 0.01 to 0.1 for
    cosines.

    .. math:: 1 - \frac{1}{n_+} \sum_{i \in P} \frac{r^P_i}{r_i}, \quad
       r_i = \tfrac12 + \sum_j F\Bigl(\frac{z_j - z_i}{\tau}\Bigr)

    with :math:`r^P` the same sum over the positives, and F the distribution function of Laplace,
    which a running sum can add up, where the paper has a sigmoid.

    Args:
      logits: real scores ``[...]``.
      labels: 0/1 of the same shape.
      temperature: τ > 0, in logits; towards 0 the loss is one minus the exact AP of scores that
        differ. Traced.
      **options: `axis`, `where`, `weights`: see docs/arguments.md.

    Returns:
      Loss in [0, 1], of the shape of `logits` without `axis`; 0 with zero gradient without a
      positive.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, 0.5, 1.0, -1.0]), jnp.array([1, 1, 0, 0])
      >>> print(dm.average_precision_loss(z, y))
      0.2289
      >>> print(dm.average_precision_loss(z, y, temperature=0.01))
      0.1667

    References:
      Brown et al., Smooth-AP: smoothing the path towards large-scale image retrieval, 2020,
      arXiv:2007.12163.
    """
    z, one, other = doors.two_classes(logits, labels, **options)
    return _smooth_ap(z, one, other, numbers.as_float(temperature))


def _smooth_ap_and_slope(
    z: jax.Array, one: jax.Array, other: jax.Array, temperature: jax.Array
) -> tuple[jax.Array, jax.Array]:
    order = Order(z)
    gap = numbers.capped(jnp.diff(order.sorted, axis=-1, append=order.sorted[..., -1:]))
    gap = numbers.capped(gap / temperature)
    one = order.put(one)
    masses = jnp.stack([one, one + order.put(other)])
    near = (_neighbour_sums(gap, masses, reverse=False), _neighbour_sums(gap, masses, reverse=True))
    above = from_here(earlier(masses))
    ranks = 0.5 + 0.5 * masses + above + 0.5 * (near[0] - near[1])
    precision = ranks[0] / ranks[1]
    share = numbers.divide(one, jnp.sum(one, -1, keepdims=True))
    value = jnp.sum(share * (1.0 - precision), -1)
    # What the loss gains from each rank, and where the two sums of the rank come from.
    gains = jnp.stack([-share / ranks[1], share * precision / ranks[1]])
    pulls = _neighbour_sums(gap, gains, reverse=False) + _neighbour_sums(gap, gains, reverse=True)
    slope = jnp.sum(masses * pulls - gains * (near[0] + near[1]), 0) * (0.5 / temperature)
    return value, order.back(slope)


def _neighbour_sums(gap: jax.Array, masses: jax.Array, *, reverse: bool) -> jax.Array:
    """Sums of what lies before (or after), each times exp(-distance)."""
    return decayed(gap, masses, ((1.0,),), reverse=reverse)[0]


_smooth_ap = slopes.with_slopes(_smooth_ap_and_slope)


# --- other losses of a ranking --------------------------------------------------------------------


@doors.compiled("axis", "activation")
def aucm_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    margin: ArrayLike = 1.0,
    axis: Axis = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    activation: Activation = jax.nn.sigmoid,
) -> jax.Array:
    r"""AUC margin loss: the variances of both classes, and what is missing between their means.

    Use it in the place of ``roc_auc_loss(surrogate="square")``, whose easy pairs it lets be: it
    bounds the distance of the means from one side only. The published form is a minimax problem
    with three more variables and an optimiser of its own; at their optimum, for a batch, it is
    this.

    .. math:: \mathrm{Var}_+ + \mathrm{Var}_- + \max(0, m + \mu_- - \mu_+)^2

    Args:
      logits: real scores ``[...]``.
      labels: 0/1 of the same shape.
      margin: m, in units of the activated scores. Traced.
      axis: axes that form one set; the others remain. Default: all. Static.
      where: boolean, broadcasts to `logits`; False leaves an element out, even a NaN.
      weights: factor ≥ 0 per element, broadcasts to `logits`.
      activation: of the logits, as published a sigmoid. Static.

    Returns:
      Loss ≥ 0, of the shape of `logits` without `axis`; 0 with zero gradient if a class is absent.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, 0.5, 1.0, -1.0]), jnp.array([1, 1, 0, 0])
      >>> print(dm.aucm_loss(z, y))
      0.6301

    References:
      Yuan et al., Large-scale robust deep AUC maximization, ICCV 2021, arXiv:2012.03173.
    """
    p, *_ = doors.activate(logits, labels, where, weights, activation)
    p, one, other = doors.two_classes(p, labels, axis=axis, where=where, weights=weights)
    total = [jnp.sum(mass, -1, keepdims=True) for mass in (one, other)]
    shares = [numbers.divide(mass, whole) for mass, whole in zip((one, other), total, strict=True)]
    means = [jnp.sum(share * p, -1, keepdims=True) for share in shares]
    spreads = [
        jnp.sum(share * jnp.square(p - mean), -1) for share, mean in zip(shares, means, strict=True)
    ]
    missing = jax.nn.relu(margin + means[1] - means[0])[..., 0]
    present = (total[0] > 0.0) & (total[1] > 0.0)
    return jnp.where(present[..., 0], spreads[0] + spreads[1] + jnp.square(missing), 0.0)


@doors.compiled("axis")
def aum_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    **options: Unpack[SetOptions],
) -> jax.Array:
    r"""Area under the minimum of both error rates, as the threshold moves.

    Use it with full batches of a linear model, for which it was made. It knows no margin: once the
    ranking is perfect it is 0 and has no gradient. Of sixteen losses it came last by AP on small
    tabular sets.

    .. math:: \int \min(\mathrm{FPR}(t), \mathrm{FNR}(t))\, dt

    Args:
      logits: real scores ``[...]``.
      labels: 0/1 of the same shape.
      **options: `axis`, `where`, `weights`: see docs/arguments.md.

    Returns:
      Loss ≥ 0, in logits, of the shape of `logits` without `axis`; 0 with zero gradient if a class
      is absent.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, 0.5, 1.0, -1.0]), jnp.array([1, 1, 0, 0])
      >>> print(dm.aum_loss(z, y))
      0.25

    References:
      Hillman and Hocking, Optimizing ROC curves with a sort-based surrogate loss for binary
      classification and changepoint detection, JMLR 2023, arXiv:2107.01285.
    """
    z, one, other = doors.two_classes(logits, labels, **options)
    return _aum(z, one, other)


def _aum_and_slope(z: jax.Array, one: jax.Array, other: jax.Array) -> tuple[jax.Array, jax.Array]:
    order = Order(z)
    one, other = order.put(one), order.put(other)
    missed = numbers.divide(jnp.cumsum(one, -1), jnp.sum(one, -1, keepdims=True))
    alarms = numbers.divide(from_here(other) - other, jnp.sum(other, -1, keepdims=True))
    # Between a place and the next.
    least = jnp.minimum(missed, alarms).at[..., -1].set(0.0)
    gap = numbers.capped(jnp.diff(order.sorted, axis=-1, append=order.sorted[..., -1:]))
    return weighted(least, gap), order.back(later(least) - least)


_aum = slopes.with_slopes(_aum_and_slope)
