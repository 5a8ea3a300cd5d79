"""Ensembles: their members, or draws of the weights, as one predicted distribution.

Members lie on a leading axis, as `jax.vmap` returns them::

    means, scales = jax.vmap(network)(draws_of_weights)       # [K, B]
    aleatoric, epistemic = dm.decompose_variance(means, scales)
"""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import doors, examples, numbers, slopes
from diffmetrics._core.calls import ElementOptions
from diffmetrics._core.predictions import gaussian, members, positive, require_members, shares


@examples.per_element(vectors=0)
def mixture_log_likelihood(
    means: ArrayLike,
    scales: ArrayLike,
    target: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    **_: Unpack[ElementOptions],
) -> jax.Array:
    r"""Log-likelihood of an ensemble, a mixture of normal distributions, at each target.

    Larger is better. Use it to report ensembles and draws of the weights, as papers on dropout do,
    or, negated, to train a mixture density network. It is the logarithm of the mean *density*.
    `moment_matched_log_likelihood` can differ by a hundred nats, so say which one you report.

    .. math:: \log \sum_k w_k \mathcal N(y \mid \mu_k, \sigma_k)

    Args:
      means: ``[K, ...]``, members first.
      scales: standard deviations; broadcast to `means`.
      target: ``[...]``.
      weights: of members, ≥ 0, ``[K]`` or the shape of `means`; normalised. Default: equal.

    Returns:
      Log-density ``[...]``, in nats.

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
    log_share = numbers.log(shares(weights, m))
    return jax.nn.logsumexp(log_share - gaussian(m, s, y, top), 0)


@examples.per_element(vectors=0)
def moment_matched_log_likelihood(
    means: ArrayLike,
    scales: ArrayLike,
    target: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    **_: Unpack[ElementOptions],
) -> jax.Array:
    r"""Log-likelihood of one normal distribution with an ensemble's mean and variance.

    Larger is better. Use it to report ensembles as papers on deep ensembles do, or if only a mean
    and a deviation are passed on. `mixture_log_likelihood` is that of the mixture itself.

    .. math:: \log \mathcal N\Big(y \,\Big|\, \bar\mu, \sqrt{\overline{\sigma^2}
              + \overline{(\mu - \bar\mu)^2}}\Big)

    Args:
      means: ``[K, ...]``, members first.
      scales: standard deviations; broadcast to `means`.
      target: ``[...]``.
      weights: of members, ≥ 0, ``[K]`` or the shape of `means`; normalised. Default: equal.

    Returns:
      Log-density ``[...]``, in nats.

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
    w = shares(weights, m)
    mean = jnp.sum(w * m, 0)
    apart, s = numbers.held(m - mean[None]), positive(s)
    # In units of the largest, because squares may overflow or vanish.
    unit = jax.lax.stop_gradient(jnp.maximum(jnp.max(jnp.abs(apart), 0), jnp.max(s, 0)))
    total = jnp.sum(w * ((apart / unit[None]) ** 2 + (s / unit[None]) ** 2), 0)
    return -gaussian(mean, unit * numbers.sqrt(total), y, top)


@examples.per_element(vectors=0)
def decompose_variance(
    means: ArrayLike,
    scales: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    **_: Unpack[ElementOptions],
) -> tuple[jax.Array, jax.Array]:
    r"""Aleatoric and epistemic uncertainty: an ensemble's variance as noise plus disagreement.

    Use it to tell noise that no data would remove (aleatoric, the mean variance of the members)
    from ignorance that more data would remove (epistemic, the variance of their means). Their sum
    is the variance of the prediction, whose mean is ``means.mean(0)``. Both are the model's view:
    an ensemble that agrees outside its data is sure there, and may be wrong.

    .. math:: \sum_k w_k \sigma_k^2 \quad\text{and}\quad
              \sum_k w_k (\mu_k - \bar\mu)^2, \quad \bar\mu = \sum_k w_k \mu_k

    Epistemic variance is a mean of squares about the mean. A difference of mean squares would be
    float32 noise, negative half of the time, for members that agree on 1000 ± 0.01. The divisor is
    K, as for the mixture's variance; for draws from a posterior, K / (K - 1) times as much is the
    unbiased variance.

    Args:
      means: ``[K, ...]``, members first.
      scales: standard deviations, ≥ 0; broadcast to `means`.
      weights: of members, ≥ 0, ``[K]`` or the shape of `means`; normalised. Default: equal.

    Returns:
      Aleatoric and epistemic variance, each ``[...]``, both ≥ 0.

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
    doors.require_float("scales", s, "They are positive numbers in the units of the target.")
    doors.require_broadcast("scales", s, m.shape, "means")
    m, s = numbers.floats(m, s)
    w, s = shares(weights, m), jnp.broadcast_to(s, m.shape)
    apart = numbers.held(m - jnp.sum(w * m, 0, keepdims=True))
    aleatoric, epistemic = (jnp.sum(w * _square(x), 0) for x in (s, apart))
    return numbers.capped(aleatoric), numbers.capped(epistemic)


_square = slopes.with_slope(lambda x: numbers.capped(x * x), lambda x: numbers.held(2.0 * x))
