"""Negative log-likelihoods (NLL): for a network that predicts a mean and a standard deviation.

The network has two linear outputs, without activation::

    mean, raw = model(x)
    scale = dm.scale_from_raw(raw)
    loss = dm.gaussian_nll(mean, scale, y).mean()
"""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import calls, doors, examples, numbers, slopes
from diffmetrics._core.calls import ElementOptions
from diffmetrics._core.predictions import (
    HALF_LOG_2PI,
    from_error,
    gaussian,
    gaussian_in_scale,
    gaussian_value,
    positive,
    prediction,
    standardized,
)


@calls.compiled()
def scale_from_raw(
    raw: ArrayLike, *, min_scale: ArrayLike = 1e-3, init_scale: ArrayLike = 1.0
) -> jax.Array:
    r"""Softplus head: a positive standard deviation from the raw output of a *linear* layer.

    Use it for every head that predicts a deviation. A network whose first outputs are about 0
    starts with deviations of `init_scale`. Set it near the spread of the targets, 1 if they are
    standardised; if it is too small, the first gradients are enormous.

    **Put no activation before it.** After a ReLU the raw output is never negative, so no deviation
    is less than `init_scale`, and once the data need less the gradient stays 0; with a plain
    ``softplus(relu(x))`` that floor is log 2 = 0.6931.

    .. math::
       \sigma &= \sigma_{\min} + \mathrm{softplus}(r + r_0)

       r_0 &= \mathrm{softplus}^{-1}(\sigma_{\mathrm{init}} - \sigma_{\min})

    Args:
      raw: output r of a linear layer ``[...]``.
      min_scale: the least deviation, ≥ 0, in the units of the target. Deviations below the rounding
        of the targets let the likelihood diverge. Broadcasts to `raw`.
      init_scale: the deviation at raw output 0, > `min_scale`. Broadcasts to `raw`.

    Returns:
      Deviations ≥ `min_scale` ``[...]``, and > 0. Far below 0 the gradient vanishes, as for `exp`.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> raw = jnp.array([-1e4, -2.0, 0.0, 2.0])
      >>> print(dm.scale_from_raw(raw, min_scale=0.25).round(2))
      [0.25 0.39 1.   2.48]

    References:
      Seitzer et al., On the pitfalls of heteroscedastic uncertainty estimation, 2022,
      arXiv:2203.09168, whose code makes the first variance a parameter.
    """
    r = jnp.asarray(raw)
    doors.require_float("raw", r, "It is the output of a linear layer.")
    least = doors.parameter("min_scale", min_scale, r, "raw")
    first = doors.parameter("init_scale", init_scale, r, "raw")
    above = positive(first - least)
    shift = above + jnp.log(-jnp.expm1(-above))
    return positive(least + slopes.softpluses(numbers.as_float(r) + shift)[0])


@examples.per_element()
def gaussian_nll(
    mean: ArrayLike, scale: ArrayLike, target: ArrayLike, **_: Unpack[ElementOptions]
) -> jax.Array:
    r"""Gaussian negative log-likelihood (NLL): minus the log-density, for every target.

    Use it to learn a mean and a deviation together. It is a proper scoring rule, and published test
    log-likelihoods are minus its mean. Its gradient in the mean is divided by the variance: a
    region that fits badly at first gets a large deviation, hence a small gradient, and may stay
    that way. There `beta_nll` or `faithful_nll` fit the mean better, and `crps_gaussian` is robust
    to the few points that dominate this loss. Long training without early stopping makes the
    network over-confident. For a target that was divided by s, add log s to get the value in the
    original units.

    .. math::
       L &= \tfrac12 z^2 + \log \sigma + \tfrac12 \log 2\pi

       z &= (y - \mu) / \sigma

    Args:
      mean: predicted mean ``[...]``.
      scale: predicted standard deviation, broadcasts to `mean`.
      target: observation ``[...]``.

    Returns:
      Loss of each target ``[...]``, negative where the density exceeds 1.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> mean, scale = jnp.array([0.0, 1.0, 2.0]), jnp.array([1.0, 0.1, 1e-30])
      >>> print(dm.gaussian_nll(mean, scale, jnp.array([1.0, 1.0, 2.0])).round(4))
      [  1.4189  -1.3836 -68.1586]

    References:
      Nix and Weigend, Estimating the mean and variance of the target probability distribution,
      ICNN 1994.
    """
    return gaussian(*prediction(mean, scale, target))


@examples.per_element()
def beta_nll(
    mean: ArrayLike,
    scale: ArrayLike,
    target: ArrayLike,
    *,
    beta: ArrayLike = 0.5,
    **_: Unpack[ElementOptions],
) -> jax.Array:
    r"""Beta-NLL: a Gaussian NLL whose gradient is divided by less than the variance.

    Use it where `gaussian_nll` explains a badly fitted region by a large deviation and stops
    fitting the mean. With `beta` 0 it is that loss; with 1 the mean is fitted as by the squared
    error. Its value is not a likelihood: report `gaussian_nll`.

    .. math:: \lfloor \sigma^{2\beta} \rfloor \,
              \big(\tfrac12 z^2 + \log \sigma + \tfrac12 \log 2\pi\big)

    where z = (y - μ) / σ, and ⌊·⌋ has no gradient.

    Args:
      mean: predicted mean ``[...]``.
      scale: predicted standard deviation, broadcasts to `mean`.
      target: observation ``[...]``.
      beta: β in [0, 1].

    Returns:
      Loss of each target ``[...]``.

    Example:
      >>> import diffmetrics as dm, jax, jax.numpy as jnp
      >>> def loss(mean): return dm.beta_nll(mean, 0.1, 1.0, beta=1.0)
      >>> print(jax.grad(loss)(3.0).round(4))
      2.0

    References:
      Seitzer et al., On the pitfalls of heteroscedastic uncertainty estimation, 2022,
      arXiv:2203.09168.
    """
    given = prediction(mean, scale, target)
    return _beta(*given, doors.parameter("beta", beta, given.mean, "mean"))


def _factor(scale: jax.Array, beta: jax.Array) -> jax.Array:
    """The root of the factor, σ^β, because its square may be beyond the largest number."""
    return jax.lax.stop_gradient(numbers.held(jnp.exp(beta * jnp.log(positive(scale)))))


def _beta_value(e: jax.Array, s: jax.Array, _limit: jax.Array, beta: jax.Array) -> jax.Array:
    w = _factor(s, beta)
    scaled = numbers.held(numbers.held(e) * (w / positive(s)))
    rest = w * (w * (jnp.log(positive(s)) + HALF_LOG_2PI))
    return numbers.held(numbers.capped(0.5 * scaled * scaled) + numbers.held(rest))


def _beta_in_error(e: jax.Array, s: jax.Array, limit: jax.Array, beta: jax.Array) -> jax.Array:
    w = _factor(s, beta) * (1.0 / positive(s))  # a quotient would be shared with the value
    return numbers.held(numbers.held(numbers.held(e) * w) * w, limit)


def _beta_in_scale(e: jax.Array, s: jax.Array, limit: jax.Array, beta: jax.Array) -> jax.Array:
    """w² (1 - z²) / σ, in which z² overflows long before the product does."""
    z, w = standardized(e, s), _factor(s, beta)
    near, far = jnp.clip(z, -1.0, 1.0), 1.0 / jnp.maximum(jnp.abs(z), 1.0)
    inner = numbers.held(w * (1.0 - near)) * numbers.held(w * ((1.0 + near) / positive(s)))
    scaled = numbers.held(numbers.held(e) * (w / positive(s)))
    outer = scaled * numbers.held(scaled / positive(s)) * (1.0 - far * far)
    return numbers.held(
        jnp.where(jnp.abs(z) > 1.0, -numbers.held(outer), numbers.held(inner)), limit
    )


_beta = from_error(_beta_value, _beta_in_error, _beta_in_scale)


@examples.per_element()
def faithful_nll(
    mean: ArrayLike, scale: ArrayLike, target: ArrayLike, **_: Unpack[ElementOptions]
) -> jax.Array:
    r"""Faithful NLL: squared error of the mean, plus the Gaussian NLL of the deviation alone.

    Use it to add a deviation to a mean that must not get worse: the gradient of the mean is exactly
    that of half the squared error. So that shared layers do not disturb it, feed the deviation's
    head ``jax.lax.stop_gradient(features)``. Its value is not a likelihood: report `gaussian_nll`.

    .. math::
       L &= \tfrac12 (y - \mu)^2 + \tfrac12 \big((y - \lfloor\mu\rfloor) / \sigma\big)^2

       &\quad {} + \log \sigma + \tfrac12 \log 2\pi

    where ⌊·⌋ has no gradient.

    Args:
      mean: predicted mean ``[...]``.
      scale: predicted standard deviation, broadcasts to `mean`.
      target: observation ``[...]``. Its gradient is that of the first term only.

    Returns:
      Loss of each target ``[...]``.

    Example:
      >>> import diffmetrics as dm, jax, jax.numpy as jnp
      >>> print(jax.grad(dm.faithful_nll)(3.0, 0.01, 1.0))
      2.0

    References:
      Stirn et al., Faithful heteroscedastic regression with neural networks, 2022,
      arXiv:2212.09184.
    """
    return _faithful(*prediction(mean, scale, target))


def _faithful_value(e: jax.Array, s: jax.Array, limit: jax.Array) -> jax.Array:
    return numbers.capped(0.5 * e * e + gaussian_value(e, s, limit))


def _faithful_in_error(e: jax.Array, _scale: jax.Array, limit: jax.Array) -> jax.Array:
    return numbers.held(e, limit)


_faithful = from_error(_faithful_value, _faithful_in_error, gaussian_in_scale)


@examples.per_element()
def laplace_nll(
    mean: ArrayLike, scale: ArrayLike, target: ArrayLike, **_: Unpack[ElementOptions]
) -> jax.Array:
    r"""Laplace negative log-likelihood (NLL): minus the log-density, for every target.

    Use it if targets have outliers: it predicts the median, for which an outlier has the same
    gradient as any other point. The gradient in the mean does not shrink with the error.

    .. math:: |y - \mu| / b + \log 2b

    Args:
      mean: predicted median ``[...]``.
      scale: b, the mean absolute deviation, broadcasts to `mean`; the standard deviation is √2 b.
      target: observation ``[...]``. Where it equals `mean` the gradient in both is 0.

    Returns:
      Loss of each target ``[...]``, negative where the density exceeds 1.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(dm.laplace_nll(jnp.array([0.0, 1.0]), 0.5, jnp.array([2.0, 1.0])).round(4))
      [4. 0.]

    References:
      Laplace, Mémoire sur la probabilité des causes par les événements, 1774.
    """
    return _laplace(*prediction(mean, scale, target))


def _laplace_value(e: jax.Array, s: jax.Array, _limit: jax.Array) -> jax.Array:
    return numbers.capped(jnp.abs(standardized(e, s)) + jnp.log(2.0 * positive(s)))


def _laplace_in_error(e: jax.Array, s: jax.Array, limit: jax.Array) -> jax.Array:
    return numbers.held(jnp.sign(e) / positive(s), limit)


def _laplace_in_scale(e: jax.Array, s: jax.Array, limit: jax.Array) -> jax.Array:
    return numbers.held((1.0 - jnp.abs(standardized(e, s))) / positive(s), limit)


_laplace = from_error(_laplace_value, _laplace_in_error, _laplace_in_scale)


@examples.per_element()
def student_t_nll(
    mean: ArrayLike,
    scale: ArrayLike,
    target: ArrayLike,
    *,
    df: ArrayLike,
    **_: Unpack[ElementOptions],
) -> jax.Array:
    r"""Student's t negative log-likelihood (NLL): minus the log-density, for every target.

    Use it if targets have outliers that the predicted deviation cannot explain: beyond √df
    deviations the gradient of an outlier falls again. It is the Cauchy likelihood at `df` 1 and
    approaches the Gaussian one as `df` grows. `df` can be learnt, for example by `scale_from_raw`.

    .. math::
       & \frac{\nu+1}{2} \log\Big(1 + \frac{z^2}{\nu}\Big) + \log\sigma

       & {} + \tfrac12 \log \nu\pi + \log\Gamma\big(\tfrac{\nu}{2}\big)
       - \log\Gamma\big(\tfrac{\nu+1}{2}\big)

       & z = (y - \mu) / \sigma

    Args:
      mean: predicted location ``[...]``.
      scale: σ, broadcasts to `mean`; the standard deviation is σ √(ν / (ν - 2)), for ν > 2.
      target: observation ``[...]``.
      df: degrees of freedom ν > 0.

    Returns:
      Loss of each target ``[...]``, negative where the density exceeds 1.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> mean, target = jnp.zeros(3), jnp.array([0.0, 2.0, 100.0])
      >>> print(dm.student_t_nll(mean, 1.0, target, df=3.0).round(4))
      [ 1.0009  2.6955 17.2249]

    References:
      Student, The probable error of a mean, Biometrika 6, 1908. Lange, Little and Taylor, Robust
      statistical modeling using the t distribution, JASA 1989.
    """
    given = prediction(mean, scale, target)
    return _student(*given, doors.parameter("df", df, given.mean, "mean"))


def _student_value(e: jax.Array, s: jax.Array, _limit: jax.Array, df: jax.Array) -> jax.Array:
    # log(1 + t²) with the larger of 1 and t² outside: t², and even t itself, could overflow. By
    # maxima, because XLA's CPU backend writes out what a `where` puts in front of a sum.
    size = jnp.abs(standardized(e, s)) / jnp.sqrt(df)
    smaller = slopes.at_most(size, 1.0) / jnp.maximum(size, 1.0)  # of |t| and 1 / |t|
    growth = jnp.maximum(2.0 * (jnp.log(jnp.abs(e)) - jnp.log(positive(s))) - jnp.log(df), 0.0)
    log_of_t = growth + jnp.log1p(smaller * smaller)
    normalized = jnp.log(positive(s)) + HALF_LOG_2PI + _wider(0.5 * df)
    return numbers.capped(0.5 * (df + 1.0) * log_of_t + normalized)


def _parts(e: jax.Array, s: jax.Array, df: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """For t = z / √ν: t clipped to ±1, 1 / max(|t|, 1), and whether |t| > 1."""
    t = standardized(e, s) / jnp.sqrt(df)
    return jnp.clip(t, -1.0, 1.0), 1.0 / jnp.maximum(jnp.abs(t), 1.0), jnp.abs(t) > 1.0


def _wider(a: jax.Array) -> jax.Array:
    """½ log a + log Γ(a) - log Γ(a + ½), which vanishes for large a.

    There the difference of the two would lose all digits; a series keeps them.
    """
    large = a > 10.0
    r = 1.0 / jnp.where(large, a, 10.0)
    series = r * (1 / 8 - r * r * (1 / 192 - r * r / 640))
    small = jnp.where(large, 1.0, a)
    gammas = jax.lax.lgamma(small) - jax.lax.lgamma(small + 0.5)
    return jnp.where(large, series, 0.5 * jnp.log(small) + gammas)


def _student_in_error(e: jax.Array, s: jax.Array, limit: jax.Array, df: jax.Array) -> jax.Array:
    near, far, outside = _parts(e, s, df)
    inner = near / (1.0 + near * near) / positive(s) / jnp.sqrt(df)
    outer = 1.0 / (jnp.where(outside, e, 1.0) * (1.0 + far * far))
    return numbers.held((df + 1.0) * jnp.where(outside, outer, inner), limit)


def _student_in_scale(e: jax.Array, s: jax.Array, limit: jax.Array, df: jax.Array) -> jax.Array:
    """(1 - z²) / (1 + t²) / σ, or the same with numerator and denominator divided by t²."""
    near, far, outside = _parts(e, s, df)
    z = jnp.abs(standardized(e, s))
    inner = jnp.where(outside, 0.0, z)
    inner = (1.0 - inner) * (1.0 + inner) / (1.0 + near * near)
    inverse = 1.0 / jnp.where(outside, z, 1.0)
    outer = df * (inverse - 1.0) * (inverse + 1.0) / (1.0 + far * far)
    return numbers.held(jnp.where(outside, outer, inner) / positive(s), limit)


_student = from_error(_student_value, _student_in_error, _student_in_scale)
