"""Ranking losses: AUC and average precision, over all pairs of a positive and a negative.

Each is a mean over the n₊ n₋ pairs of a set, or a function of soft ranks. No pair is formed: they
take O(n log n) time and O(n) memory. A pair has the product of the weights of its two examples.

**A ranking loss does not determine the offset**: a constant added to all logits changes nothing, so
no threshold is given and probabilities are not calibrated. Train it together with cross-entropy
(``sigmoid_cross_entropy(z, y).mean() + roc_auc_loss(z, y)``), or tune the threshold. Expect little:
on tabular data none of them beats a tuned cross-entropy by more than noise.

A set in which a class is absent has no pair: loss and gradient are 0. If batches are too small for
a rare class, docs/microbatches.md makes one loss of many. At a kink, and between equal scores, the
gradient is the one of a pair within its margin.
"""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import calls, numbers, set_doors, slopes
from diffmetrics._core.calls import Axis, SetOptions
from diffmetrics._core.masses import shares
from diffmetrics._core.order import earlier, from_here, later, undone, up_to
from diffmetrics._core.set_doors import Activation
from diffmetrics._losses.rankings import two_classes
from diffmetrics._losses.rankings.sums_over_pairs import Surrogate, decayed, pair_loss, weighted
from diffmetrics._losses.rankings.two_classes import given, sets_of, unless_nan


@calls.compiled("surrogate", "axis")
def roc_auc_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    surrogate: Surrogate = "squared_hinge",
    margin: ArrayLike = 1.0,
    **options: Unpack[SetOptions],
) -> jax.Array:
    r"""ROC AUC loss: over all pairs, how far the positive fails to score above the negative.

    Use it beside cross-entropy when you are judged by ROC AUC. It is the mean over all pairs. It
    bounds 1 - AUC from above with
    ``"exponential"``, with the hinges and ``"square"`` at margin 1, and with ``"logistic"`` divided
    by log 2.

    .. math:: \frac{1}{n_+ n_-} \sum_{i \in P} \sum_{j \in N} \ell(z_i - z_j)

    P are the n₊ positives, N the n₋ negatives. The surrogates ℓ(d) are

    * ``"hinge"``: :math:`\max(0, m - d)`; ``"squared_hinge"``: its square;
    * ``"square"``: :math:`(m - d)^2`, which also penalises pairs that are further apart than m;
    * ``"exponential"``: :math:`e^{-d}` (RankBoost), dominated by the worst pair;
    * ``"logistic"``: :math:`\log(1 + e^{-d})` (RankNet), to within 3e-7.

    Args:
      logits: real scores ``[...]`` of any shape.
      labels: 0/1 ``[...]``.
      surrogate: ℓ, one of the five. Static.
      margin: m > 0, in units of the logits, of the hinges and of ``"square"``; one, or one per
        set.
      **options: `axis`, `where`, `weights`: see docs/arguments.md.

    Returns:
      Loss ≥ 0, the shape of `logits` without `axis`; 0 with zero gradient if a class is absent.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, 0.5, 1.0, -1.0]), jnp.array([1, 1, 0, 0])
      >>> print(dm.roc_auc_loss(z, y), dm.roc_auc_loss(z, y, surrogate="hinge"))
      0.5625 0.375

    References:
      Rust and Hocking, A log-linear gradient descent algorithm, 2023, arXiv:2302.11062. Logistic:
      Burges et al., RankNet, ICML 2005. Exponential: Freund et al., RankBoost, JMLR 2003.
    """
    z, one, other = sets_of(logits, labels, **options)
    gap, whole = given("margin", margin, z)[..., None], jnp.ones(2, z.dtype)
    limit = numbers.largest(jnp.asarray(logits))
    return unless_nan(pair_loss(surrogate)(z, one, other, gap, whole, limit), z)


@calls.compiled("surrogate", "axis")
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
    r"""Partial AUC loss: `roc_auc_loss` of the highest negatives and the lowest positives.

    Use it when only one corner of the ROC curve counts: FPR up to `max_fpr` and, perhaps, TPR from
    `min_tpr`. Fewer pairs make a noisier gradient, and wrong labels are among the hard negatives.
    The mean goes over the share `max_fpr` of the negatives, the highest, and the share
    ``1 - min_tpr`` of the positives, the lowest; an element at the border counts in part. This is
    the CVaR form of the loss at its optimum, without state. With ``max_fpr=1, min_tpr=0`` it is
    `roc_auc_loss`.

    Args:
      logits: real scores ``[...]`` of any shape.
      labels: 0/1 ``[...]``.
      max_fpr: a number in (0, 1].
      min_tpr: a number in [0, 1).
      surrogate: as in `roc_auc_loss`. Static.
      margin: as in `roc_auc_loss`.
      **options: `axis`, `where`, `weights`: see docs/arguments.md.

    Returns:
      Loss ≥ 0, the shape of `logits` without `axis`; 0 with zero gradient if a class is absent.

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
    z, one, other = sets_of(logits, labels, **options)
    for name, rate in (("max_fpr", max_fpr), ("min_tpr", min_tpr)):
        if jnp.ndim(rate):
            raise ValueError(f"{name} must be a number, got shape {jnp.shape(rate)}.")
    largest, least = (jnp.asarray(x, z.dtype) for x in (max_fpr, min_tpr))
    gap, parts = given("margin", margin, z)[..., None], jnp.stack([1.0 - least, largest])
    limit = numbers.largest(jnp.asarray(logits))
    return unless_nan(pair_loss(surrogate, partial=True)(z, one, other, gap, parts, limit), z)


# --- average precision ----------------------------------------------------------------------------


@calls.compiled("axis")
def average_precision_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    **options: Unpack[SetOptions],
) -> jax.Array:
    r"""Average precision loss (Smooth-AP): one minus AP, with soft ranks.

    Use it beside cross-entropy when you are judged by AP and positives are rare. A low temperature
    is close to AP with hardly any gradient; a high one is smooth and far from AP. Start at or above
    the usual distance between neighbouring scores: 1 for logits, 0.01 to 0.1 for cosines.

    .. math::
       L &= 1 - \frac{1}{n_+} \sum_{i \in P} \frac{r^P_i}{r_i}

       r_i &= \frac{w_i}2 + \sum_j w_j F\Bigl(\frac{z_j - z_i}{\tau}\Bigr)

    where :math:`r^P` is the same sum over the n₊ positives P. The paper's F is a sigmoid. Here F is
    the Laplace distribution function, which running sums can add up. Only the ratios of the weights
    w matter; two copies of an element are a tie, which is not quite the same as a weight of 2.

    Args:
      logits: real scores ``[...]`` of any shape.
      labels: 0/1 ``[...]``.
      temperature: τ > 0, in units of the logits, one or one per set; at τ → 0 the loss is one minus
        exact AP, if no scores tie.
      **options: `axis`, `where`, `weights`: see docs/arguments.md.

    Returns:
      Loss in [0, 1], the shape of `logits` without `axis`; 0 with zero gradient if no label is
      positive.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, 0.5, 1.0, -1.0]), jnp.array([1, 1, 0, 0])
      >>> print(dm.average_precision_loss(z, y))
      0.2289
      >>> print(dm.average_precision_loss(z, y, temperature=0.01))
      0.1667

    References:
      Brown et al., Smooth-AP, 2020, arXiv:2007.12163.
    """
    z, one, other = two_classes.relative(*sets_of(logits, labels, **options))
    return unless_nan(_smooth_ap(z, one, other, given("temperature", temperature, z)[..., None]), z)


# Of two masses, each times exp(-distance).
_NEIGHBOURS = ((0, (1.0,)), (1, (1.0,)))


def _smooth_ap_and_slope(
    z: jax.Array, one: jax.Array, other: jax.Array, temperature: jax.Array
) -> tuple[jax.Array, jax.Array]:
    place, origin, one, other = two_classes.in_order(z, one, other)
    gap = numbers.capped(jnp.diff(place, axis=-1, append=place[..., -1:]))
    gap = numbers.capped(gap / temperature)
    sets = jnp.stack([one, one + other])
    before, after = decayed(gap, sets, _NEIGHBOURS)
    # Shifted after the sum: a GPU takes a shift before it for a wider window, and adds n² terms.
    above = earlier(from_here(sets))
    ranks = 0.5 * (one[None] + sets) + above + 0.5 * (before - after)
    precision, share = numbers.divide(ranks[0], ranks[1]), shares(one)
    value = jnp.sum(share * (1.0 - precision), -1)
    # The loss's derivative in each rank, passed on to the two sums that make the rank.
    gain = numbers.divide(share, ranks[1])
    gains = jnp.stack([-gain, precision * gain])
    pulls = sum(decayed(gap, gains, _NEIGHBOURS))
    slope = jnp.sum(sets * pulls - gains * (before + after), 0) * (0.5 / temperature)
    return value, undone(origin, slope)


_smooth_ap = slopes.with_slopes(_smooth_ap_and_slope)


# --- other losses of a ranking --------------------------------------------------------------------


@calls.compiled("axis", "activation")
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
    r"""AUC margin loss (AUCM): variances of both classes, and how far their means miss a margin.

    Use it instead of ``roc_auc_loss(surrogate="square")``: it does not penalise means that are
    further apart than the margin. The published form is a minimax problem with three more variables
    and its own optimiser; at the optimum of these variables for a batch it is this loss.

    .. math:: \mathrm{V}_+ + \mathrm{V}_- + \max(0, m + \mu_- - \mu_+)^2

    where V and μ are the variance and the mean of the activated scores of a class.

    Args:
      logits: real scores ``[...]`` of any shape.
      labels: 0/1 ``[...]``.
      margin: m, in units of the activated scores; one, or one per set.
      axis: axes that form one set. Static.
      where: boolean; False leaves an element out.
      weights: factors ≥ 0.
      activation: logits to scores; a sigmoid as published. Static.

    Returns:
      Loss ≥ 0, the shape of `logits` without `axis`; 0 with zero gradient if a class is absent.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, 0.5, 1.0, -1.0]), jnp.array([1, 1, 0, 0])
      >>> print(dm.aucm_loss(z, y))
      0.6301

    References:
      Yuan et al., Large-scale robust deep AUC maximization, ICCV 2021, arXiv:2012.03173.
    """
    p, *_ = set_doors.activate(logits, labels, where, weights, activation)
    p, one, other = sets_of(p, labels, axis=axis, where=where, weights=weights)
    least = given("margin", margin, p)
    means = [jnp.sum(shares(mass) * p, -1, keepdims=True) for mass in (one, other)]
    spreads = [
        jnp.sum(shares(mass) * jnp.square(p - mean), -1)
        for mass, mean in zip((one, other), means, strict=True)
    ]
    missing = jax.nn.relu(least + (means[1] - means[0])[..., 0])
    present = two_classes.both_present(one, other)[..., 0]
    value = jnp.where(present, spreads[0] + spreads[1] + jnp.square(missing), 0.0)
    return unless_nan(value, p)


@calls.compiled("axis")
def aum_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    **options: Unpack[SetOptions],
) -> jax.Array:
    r"""AUM loss: the area under the minimum of both error rates, over all thresholds.

    Use it with full batches of a linear model, for which it was made. It has no margin: a perfect
    ranking has no gradient. Of sixteen losses it came last by AP on small tabular sets.

    .. math:: \int \min(\mathrm{FPR}(t), \mathrm{FNR}(t))\, dt

    Args:
      logits: real scores ``[...]`` of any shape.
      labels: 0/1 ``[...]``.
      **options: `axis`, `where`, `weights`: see docs/arguments.md.

    Returns:
      Loss ≥ 0 in units of the logits, the shape of `logits` without `axis`; 0 with zero gradient if
      a class is absent.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z, y = jnp.array([2.0, 0.5, 1.0, -1.0]), jnp.array([1, 1, 0, 0])
      >>> print(dm.aum_loss(z, y))
      0.25

    References:
      Hillman and Hocking, Optimizing ROC curves with a sort-based surrogate, 2021,
      arXiv:2107.01285.
    """
    z, one, other = two_classes.relative(*sets_of(logits, labels, **options))
    return unless_nan(_aum(z, one, other), z)


def _aum_and_slope(z: jax.Array, one: jax.Array, other: jax.Array) -> tuple[jax.Array, jax.Array]:
    place, origin, one, other = two_classes.in_order(z, one, other)
    missed = numbers.divide(up_to(one), jnp.sum(one, -1, keepdims=True))
    alarms = numbers.divide(from_here(other) - other, jnp.sum(other, -1, keepdims=True))
    # Between a place and the next.
    least = jnp.minimum(missed, alarms).at[..., -1].set(0.0)
    gap = numbers.capped(jnp.diff(place, axis=-1, append=place[..., -1:]))
    return weighted(least, gap), undone(origin, later(least) - least)


_aum = slopes.with_slopes(_aum_and_slope)
