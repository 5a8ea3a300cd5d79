r"""Distributions over weights, and what their draws, or the members of an ensemble, say together.

Members lead, ``[K, ...]``, and the target comes last, as said in `_distribution`:

    means, scales = jax.vmap(network)(draws_of_weights)       # [K, B], or an ensemble's parameters
    aleatoric, epistemic = dm.decompose_variance(means, scales)
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics import _math
from diffmetrics._distribution import (
    gaussian,
    limit,
    members,
    positive,
    require_members,
    shares,
)
from diffmetrics._math import held
from diffmetrics._per_example import parameter


@_math.compiled()
def kl_normal(
    mean: ArrayLike,
    scale: ArrayLike,
    *,
    prior_mean: ArrayLike = 0.0,
    prior_scale: ArrayLike = 1.0,
) -> jax.Array:
    r"""Kullback-Leibler divergence of normal distributions, for every number they are about.

    Use it for the weights of a variational layer. What the bound needs is the **sum** over all
    weights of all layers, which `elbo_loss` takes; a mean over weights or layers is another model
    for every width and depth. Keep the prior fixed: one with a mean of its own for each weight
    follows the weights, and nothing draws them anywhere.

    .. math:: \log\frac{\sigma_p}{\sigma_q}
              + \frac{\sigma_q^2 + (\mu_q - \mu_p)^2}{2 \sigma_p^2} - \frac12

    Args:
      mean: of the weights ``[...]``.
      scale: their standard deviation, > 0; broadcasts to `mean`.
      prior_mean: broadcasts to `mean`. Traced.
      prior_scale: > 0; broadcasts to `mean`. Traced.

    Returns:
      Divergence ≥ 0 ``[...]``, in nats.

    Raises:
      TypeError: if `mean` or `scale` are not floating.
      ValueError: if another one does not broadcast to `mean`.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(dm.kl_normal(jnp.array([0.0, 1.0, 0.0]), jnp.array([1.0, 1.0, 0.1])).round(2))
      [0.   0.5  1.81]

    References:
      Kingma and Welling, Auto-encoding variational Bayes, ICLR 2014, arXiv:1312.6114.
    """
    m, s = jnp.asarray(mean), jnp.asarray(scale)
    _math.require_float("mean", m, "It is that of a weight.")
    _math.require_float("scale", s, "It is a positive number.")
    _math.require_broadcast("scale", s, m.shape, "mean")
    center = parameter("prior_mean", prior_mean, m.shape, "mean")
    width = parameter("prior_scale", prior_scale, m.shape, "mean")
    return _kl(_math.as_float(m) - center, _math.as_float(s), width, limit(m, s))


def _kl_value(d: jax.Array, s: jax.Array, p: jax.Array, _limit: jax.Array) -> jax.Array:
    z = held(d / positive(p))
    return _math.capped(_of_widths(positive(s), positive(p)) + _math.capped(0.5 * z * z))


def _of_widths(s: jax.Array, p: jax.Array) -> jax.Array:
    """½ (r² - 1) - log r of the ratio r = s / p.

    Near 1 both terms are nearly the same. There, with r = 1 + u, the logarithm is the series of
    2 artanh(v), v = u / (2 + u), whose first term and ½ (r² - 1) differ by ½ u² + u v.
    """
    u = held((s - p) / p)
    near = jnp.abs(u) < 0.25
    x = jnp.where(near, u, 0.0)
    v = x / (2.0 + x)
    series = functools.reduce(lambda total, k: total * v * v + 1.0 / k, range(19, 1, -2), 0.0 * v)
    close = 0.5 * x * x + x * v - 2.0 * v * v * v * series
    apart = _math.capped(0.5 * u * (2.0 + u)) - (jnp.log(s) - jnp.log(p))
    return jnp.where(near, close, apart)


def _kl_in_mean(d: jax.Array, _s: jax.Array, p: jax.Array, limit: jax.Array) -> jax.Array:
    return held(held(d / positive(p)) / positive(p), limit)


def _kl_in_scale(_d: jax.Array, s: jax.Array, p: jax.Array, limit: jax.Array) -> jax.Array:
    s, p = positive(s), positive(p)
    r = held(s / p)
    return held((r - 1.0) * ((r + 1.0) / s), limit)


def _kl_in_prior(d: jax.Array, s: jax.Array, p: jax.Array, limit: jax.Array) -> jax.Array:
    p = positive(p)
    r, z = held(positive(s) / p), held(d / p)
    return held(held((1.0 - r) * ((1.0 + r) / p)) - held(z * held(z / p)), limit)


_kl = _math.with_slope(_kl_value, _kl_in_mean, _kl_in_scale, _kl_in_prior)


@_math.compiled()
def elbo_loss(nll: ArrayLike, kl: Any, *, num_data: ArrayLike, beta: ArrayLike = 1.0) -> jax.Array:
    r"""Minus the evidence lower bound, per training example: what a variational network minimises.

    Use it on every batch, whatever its size: `num_data` is the number of examples in the whole
    training set. **Not in the batch**, and not the number of batches: both weigh the prior many
    times too much, and a network that predicts nothing but the mean is the usual sign.

    .. math:: \frac1B \sum_{i=1}^B \mathrm{nll}_i + \frac{\beta}{N} \sum_w \mathrm{KL}_w

    Args:
      nll: minus the log-likelihood of each example of the batch ``[B]``: a *sum* over its outputs,
        and a mean over draws of the weights.
      kl: divergences of the weights from their prior, as `kl_normal` returns them: a pytree of
        arrays of any shapes, all of whose entries are added up.
      num_data: N, the number of training examples. Traced.
      beta: factor of the divergence: 1 is the bound, less a tempered posterior, and growing from 0
        to 1 over the first epochs a warm-up. Traced.

    Returns:
      The loss, a scalar; NaN for an empty batch.

    Raises:
      ValueError: if `nll` has not one axis, or `num_data` or `beta` are not scalars.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> kl = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(4)}
      >>> print(dm.elbo_loss(jnp.array([1.0, 3.0]), kl, num_data=100))
      2.1

    References:
      Graves, Practical variational inference for neural networks, NIPS 2011; Blundell et al.,
      Weight uncertainty in neural networks, ICML 2015, arXiv:1505.05424.
    """
    losses = _math.as_float(nll)
    if losses.ndim != 1:
        raise ValueError(
            f"nll must have one value for each example, (B,), got shape {losses.shape}. Add up the "
            "outputs of an example and take the mean over draws first: nll.sum(-1)."
        )
    n, factor = parameter("num_data", num_data, (), "a scalar"), parameter("beta", beta, (), "one")
    total = sum((jnp.sum(_math.as_float(x)) for x in jax.tree.leaves(kl)), jnp.zeros(()))
    return jnp.mean(losses) + factor * (total / n)


@_math.compiled()
def mixture_log_likelihood(
    means: ArrayLike, scales: ArrayLike, target: ArrayLike, *, weights: ArrayLike | None = None
) -> jax.Array:
    r"""Log-density of a mixture of normal distributions, for every target; larger is better.

    Use it to report ensembles and draws of the weights, as papers on dropout do, or, negated, to
    train a mixture density network. It is the logarithm of the mean *density*; the one of the mean
    and total variance is `moment_matched_log_likelihood`, and the two can differ by a hundred
    nats, so say which one is reported.

    .. math:: \log \sum_k w_k \mathcal N(y \mid \mu_k, \sigma_k)

    Args:
      means: predicted means ``[K, ...]``, members first.
      scales: predicted standard deviations, > 0; broadcast to `means`.
      target: what happened ``[...]``.
      weights: shares of the members, ≥ 0, ``[K]`` or the shape of `means`; divided by their sum.
        Default: equal.

    Returns:
      Log-density ``[...]``.

    Raises:
      TypeError: if `means` or `scales` are not floating.
      ValueError: if there is no member, `target` has not the shape of one, or `scales` or `weights`
        do not fit.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> means, y = jnp.array([[0.0], [4.0]]), jnp.array([0.0])
      >>> print(dm.mixture_log_likelihood(means, 1.0, y).round(4))
      [-1.6118]
      >>> print(dm.moment_matched_log_likelihood(means, 1.0, y).round(4))
      [-2.1237]

    References:
      Gal and Ghahramani, Dropout as a Bayesian approximation, ICML 2016, arXiv:1506.02142; Bishop,
      Mixture density networks, 1994.
    """
    m, s, y, top = members(means, scales, target)
    log_share = _math.log(shares(weights, m.shape))
    return jax.nn.logsumexp(log_share - gaussian(m, s, y, top), 0)


@_math.compiled()
def moment_matched_log_likelihood(
    means: ArrayLike, scales: ArrayLike, target: ArrayLike, *, weights: ArrayLike | None = None
) -> jax.Array:
    r"""Log-density of the normal distribution with a mixture's mean and variance; larger is better.

    Use it to report ensembles as papers on deep ensembles do, or where a mean and a deviation are
    all that is handed on. See `mixture_log_likelihood` for the other one.

    .. math:: \log \mathcal N\Big(y \,\Big|\, \bar\mu, \sqrt{\overline{\sigma^2}
              + \overline{(\mu - \bar\mu)^2}}\Big)

    Args:
      means: predicted means ``[K, ...]``, members first.
      scales: predicted standard deviations, > 0; broadcast to `means`.
      target: what happened ``[...]``.
      weights: shares of the members, ≥ 0, ``[K]`` or the shape of `means`; divided by their sum.
        Default: equal.

    Returns:
      Log-density ``[...]``.

    Raises:
      TypeError: if `means` or `scales` are not floating.
      ValueError: if there is no member, `target` has not the shape of one, or `scales` or `weights`
        do not fit.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> means = jnp.array([[0.0], [4.0]])
      >>> print(dm.moment_matched_log_likelihood(means, 1.0, jnp.array([2.0])).round(4))
      [-1.7237]

    References:
      Lakshminarayanan, Pritzel and Blundell, Simple and scalable predictive uncertainty estimation
      using deep ensembles, NIPS 2017, arXiv:1612.01474.
    """
    m, s, y, top = members(means, scales, target)
    w = shares(weights, m.shape)
    mean = jnp.sum(w * m, 0)
    apart, s = held(m - mean), positive(s)
    # In units of the largest, because the squares may be beyond all numbers or vanish.
    unit = jax.lax.stop_gradient(jnp.maximum(jnp.max(jnp.abs(apart), 0), jnp.max(s, 0)))
    total = jnp.sum(w * ((apart / unit) ** 2 + (s / unit) ** 2), 0)
    return -gaussian(mean, unit * _math.sqrt(total), y, top)


@_math.compiled()
def decompose_variance(
    means: ArrayLike, scales: ArrayLike, *, weights: ArrayLike | None = None
) -> tuple[jax.Array, jax.Array]:
    r"""The variance of a mixture as what its members expect, and what they disagree about.

    Use it to tell noise that no data would remove (aleatoric) from ignorance that more data would
    (epistemic). Their sum is the variance of the prediction, whose mean is ``means.mean(0)``. Both
    are those of the model: an ensemble that agrees outside of its data is sure there, and wrong.

    .. math:: \sum_k w_k \sigma_k^2 \quad\text{and}\quad
              \sum_k w_k (\mu_k - \bar\mu)^2, \quad \bar\mu = \sum_k w_k \mu_k

    The second is a mean of squares about the mean and not a difference of means of squares, which
    in float32 is noise, and negative half of the time, for members that agree on 1000 ± 0.01. It
    divides by K, as the variance of the mixture does; for members that are draws from a posterior,
    K / (K - 1) times as much is the unbiased variance of the latter.

    Args:
      means: predicted means ``[K, ...]``, members first.
      scales: predicted standard deviations, ≥ 0; broadcast to `means`.
      weights: shares of the members, ≥ 0, ``[K]`` or the shape of `means`; divided by their sum.
        Default: equal.

    Returns:
      Aleatoric and epistemic variance ``[...]``, both ≥ 0.

    Raises:
      TypeError: if `means` or `scales` are not floating.
      ValueError: if there is no member, or `scales` or `weights` do not fit.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> means, scales = jnp.array([[1000.0], [1000.02]]), jnp.array([[0.1], [0.3]])
      >>> aleatoric, epistemic = dm.decompose_variance(means, scales)
      >>> print(aleatoric.round(4), epistemic.round(5))
      [0.05] [0.0001]

    References:
      Kendall and Gal, What uncertainties do we need in Bayesian deep learning for computer vision?,
      NIPS 2017, arXiv:1703.04977.
    """
    m, s = jnp.asarray(means), jnp.asarray(scales)
    require_members("means", m)
    _math.require_float("scales", s, "They are positive numbers in the units of the target.")
    _math.require_broadcast("scales", s, m.shape, "means")
    w, m = shares(weights, m.shape), _math.as_float(m)
    apart = held(m - jnp.sum(w * m, 0))
    s = jnp.broadcast_to(_math.as_float(s), m.shape)
    aleatoric, epistemic = (jnp.sum(w * _square(x), 0) for x in (s, apart))
    return _math.capped(aleatoric), _math.capped(epistemic)


_square = _math.with_slope(lambda x: _math.capped(x * x), lambda x: held(2.0 * x))
