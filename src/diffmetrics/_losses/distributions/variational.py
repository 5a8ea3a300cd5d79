"""Distributions over weights: the KL divergence from the prior, and the ELBO."""

from __future__ import annotations

import functools
from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import calls, doors, examples, numbers, set_doors, slopes
from diffmetrics._core.calls import ElementOptions
from diffmetrics._core.predictions import positive


@examples.per_element()
def kl_normal(
    mean: ArrayLike,
    scale: ArrayLike,
    *,
    prior_mean: ArrayLike = 0.0,
    prior_scale: ArrayLike = 1.0,
    **_: Unpack[ElementOptions],
) -> jax.Array:
    r"""KL divergence of a normal distribution from a normal prior, for every weight.

    Use it for the weights of a variational layer. The bound needs the **sum** over all weights of
    all layers, which `elbo_loss` takes; with a mean over weights or layers the model changes with
    width and depth. Keep the prior fixed: a trainable mean for each weight regularises nothing.

    .. math:: \log\frac{\sigma_p}{\sigma_q}
              + \frac{\sigma_q^2 + (\mu_q - \mu_p)^2}{2 \sigma_p^2} - \frac12

    Args:
      mean: means of the weights ``[...]``.
      scale: standard deviations of the weights, broadcast to `mean`.
      prior_mean: mean of the prior, broadcasts to `mean`.
      prior_scale: standard deviation of the prior, > 0, broadcasts to `mean`.

    Returns:
      Divergence ≥ 0 of each weight ``[...]``, in nats.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> mean, scale = jnp.array([0.0, 1.0, 0.0]), jnp.array([1.0, 1.0, 0.1])
      >>> print(dm.kl_normal(mean, scale).round(2))
      [0.   0.5  1.81]

    References:
      Kingma and Welling, Auto-encoding variational Bayes, ICLR 2014, arXiv:1312.6114.
    """
    m, s = jnp.asarray(mean), jnp.asarray(scale)
    doors.require_float("mean", m, "It is that of a weight.")
    doors.require_float("scale", s, "It is a positive number.")
    doors.require_broadcast("scale", s, m.shape, "mean")
    center = doors.parameter("prior_mean", prior_mean, m, "mean")
    width = doors.parameter("prior_scale", prior_scale, m, "mean")
    m, s, limit = *numbers.floats(m, s), numbers.largest(m, s)
    return _kl(numbers.finite(m) - center, s, width, limit)


def _kl_value(d: jax.Array, s: jax.Array, p: jax.Array, _limit: jax.Array) -> jax.Array:
    z = numbers.held(d / positive(p))
    return numbers.capped(_width_divergence(positive(s), positive(p)) + numbers.capped(0.5 * z * z))


def _width_divergence(s: jax.Array, p: jax.Array) -> jax.Array:
    """½ (r² - 1) - log r for the ratio r = s / p.

    Near 1 both terms are nearly the same. There, with r = 1 + u, the logarithm is the series of
    2 artanh(v), v = u / (2 + u), whose first term and ½ (r² - 1) differ by ½ u² + u v.
    """
    u = numbers.held((s - p) / p)
    near = jnp.abs(u) < 0.25
    x = jnp.where(near, u, 0.0)
    v = x / (2.0 + x)
    series = functools.reduce(lambda total, k: total * v * v + 1.0 / k, range(19, 1, -2), 0.0 * v)
    close = 0.5 * x * x + x * v - 2.0 * v * v * v * series
    apart = numbers.capped(0.5 * u * (2.0 + u)) - (jnp.log(s) - jnp.log(p))
    return jnp.where(near, close, apart)


def _kl_in_mean(d: jax.Array, _s: jax.Array, p: jax.Array, limit: jax.Array) -> jax.Array:
    return numbers.held(numbers.held(d / positive(p)) / positive(p), limit)


def _kl_in_scale(_d: jax.Array, s: jax.Array, p: jax.Array, limit: jax.Array) -> jax.Array:
    s, p = positive(s), positive(p)
    r = numbers.held(s / p)
    return numbers.held((r - 1.0) * ((r + 1.0) / s), limit)


def _kl_in_prior(d: jax.Array, s: jax.Array, p: jax.Array, limit: jax.Array) -> jax.Array:
    p = positive(p)
    r, z = numbers.held(positive(s) / p), numbers.held(d / p)
    return numbers.held(
        numbers.held((1.0 - r) * ((1.0 + r) / p)) - numbers.held(z * numbers.held(z / p)), limit
    )


_kl = slopes.with_slope(_kl_value, _kl_in_mean, _kl_in_scale, _kl_in_prior)


@calls.compiled()
def elbo_loss(
    nll: ArrayLike,
    kl: Any,
    *,
    num_data: ArrayLike,
    beta: ArrayLike = 1.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""ELBO loss: minus the evidence lower bound, per training example.

    A variational network minimises it. Use it on batches of any size: `num_data` is the number of
    examples in the whole training set, **not in the batch**, and not the number of batches. Both
    mistakes weigh the prior many times too much; the usual symptom is a network that predicts only
    the mean.

    .. math:: \frac1B \sum_{i=1}^B \mathrm{nll}_i + \frac{\beta}{N} \sum_w \mathrm{KL}_w

    Args:
      nll: minus the log-likelihood ``[B]``: a *sum* over outputs, and a mean over draws of weights.
      kl: divergences from the prior, as from `kl_normal`; all entries of the pytree are summed.
      num_data: N, the number of training examples; a scalar.
      beta: factor of the divergence, a scalar: 1 is the bound, less is a tempered posterior, and an
        increase from 0 to 1 over the first epochs is a warm-up.
      where: boolean, broadcasts to `nll`; the mean is over what it selects.

    Returns:
      The loss, a scalar; NaN for an empty batch.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> kl = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(4)}
      >>> print(dm.elbo_loss(jnp.array([1.0, 3.0]), kl, num_data=100))
      2.1

    References:
      Graves, Practical variational inference for neural networks, NIPS 2011. Blundell et al.,
      Weight uncertainty in neural networks, 2015, arXiv:1505.05424.
    """
    losses = numbers.as_float(nll)
    if losses.ndim != 1:
        raise ValueError(
            f"nll must have one value for each example, (B,), got shape {losses.shape}. Add up the "
            "outputs of an example and take the mean over draws first: nll.sum(-1)."
        )
    n, factor = (
        doors.parameter(name, value, losses, "a scalar", ())
        for name, value in (("num_data", num_data), ("beta", beta))
    )
    losses, *divergences = numbers.floats(losses, *jax.tree.leaves(kl))
    mask = doors.select(where, losses.shape, "nll")
    weight = set_doors.mass_of(mask, None, losses.shape, losses.dtype)
    shown = losses if mask is None else jnp.where(mask, losses, 0.0)
    mean = jnp.sum(shown) / jnp.sum(weight)
    total = sum((jnp.sum(x) for x in divergences), jnp.zeros_like(mean))
    return mean + factor.astype(mean.dtype) * (total / n.astype(mean.dtype))
