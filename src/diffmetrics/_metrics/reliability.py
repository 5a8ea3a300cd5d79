r"""Whether the probabilities of a classifier are right: bins of similar ones, and what happened.

`probabilities` are those of label 1, ``[...]`` with 0/1 `labels` of the same shape, or of each
class ``[..., C]`` with class ids ``[...]``. Then the probability of the most probable class, the
confidence, is compared with how often that class is the true one. Void ids are left out. Everything
is reduced; `jax.vmap` judges groups. From logits: ``jax.nn.sigmoid(logits)``,
``jax.nn.softmax(logits)``.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import doors, numbers
from diffmetrics._core.order import sort_by
from diffmetrics._core.softmax import is_class


class Reliability(NamedTuple):
    """Predicted probability and observed frequency in bins: what `reliability_bins` makes.

    Attributes:
      confidence: mean probability ``[bins]``; 0 in an empty bin.
      accuracy: observed frequency ``[bins]``; 0 in an empty bin.
      examples: their number ``[bins]``, as floats.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> bins = dm.reliability_bins(jnp.array([0.1, 0.3, 0.8]), jnp.array([0, 1, 1]), bins=2)
      >>> print(bins.accuracy, bins.examples)
      [0.5 1. ] [2. 1.]
    """

    confidence: jax.Array
    accuracy: jax.Array
    examples: jax.Array


class BrierDecomposition(NamedTuple):
    """The parts of a Brier score: what `brier_decomposition` makes.

    Attributes:
      reliability: squared distance of the bins from the diagonal; less is better.
      resolution: variance of the observed frequency between the bins; more is better.
      uncertainty: variance of the labels, which no forecaster changes.
      within: variation within the bins; 0 if all probabilities in a bin are equal.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> p, y = jnp.array([0.2, 0.2, 0.9, 0.9]), jnp.array([0, 1, 1, 1])
      >>> print(dm.brier_decomposition(p, y).resolution)
      0.0625
    """

    reliability: jax.Array
    resolution: jax.Array
    uncertainty: jax.Array
    within: jax.Array


@doors.compiled("bins")
def reliability_bins(probabilities: ArrayLike, labels: ArrayLike, *, bins: int = 15) -> Reliability:
    r"""Mean probability and observed frequency in bins of equal width.

    Use it to draw `accuracy` against `confidence`, a reliability diagram, with `examples` beside
    it: a bin of three may lie anywhere.

    Args:
      probabilities: of label 1 ``[...]``, or of each class ``[..., C]``.
      labels: 0/1 of the same shape, or class ids ``[...]``.
      bins: their number; a probability on an edge is in the lower one. Static.

    Returns:
      `Reliability` (confidence, accuracy, examples).

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> p = jnp.array([[0.75, 0.25], [0.25, 0.75], [0.75, 0.25]])
      >>> print(dm.reliability_bins(p, jnp.array([0, 1, 1]), bins=2).examples)
      [0. 3.]

    References:
      Murphy and Winkler, Reliability of subjective probability forecasts of precipitation and
      temperature, Applied Statistics 26, 1977.
    """
    return _summary(*_equal_width(*_forecasts(probabilities, labels), bins))


@doors.compiled("bins")
def expected_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, *, bins: int = 15
) -> jax.Array:
    r"""Mean gap between probability and observed frequency, in bins of equal width (ECE).

    Use it because others report it, with the same number of bins. It is too large for a calibrated
    classifier, the more so the fewer examples a bin has (see `debiased_calibration_error`), and
    blind to errors that cancel within a bin.

    .. math:: \sum_b \frac{n_b}{n} |\mathrm{accuracy}_b - \mathrm{confidence}_b|

    Args:
      probabilities: of label 1 ``[...]``, or of each class ``[..., C]``.
      labels: 0/1 of the same shape, or class ids ``[...]``.
      bins: their number. Static.

    Returns:
      Error in [0, 1], a scalar; 0 if there are no examples.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> p, y = jnp.array([0.9, 0.8, 0.7, 0.2]), jnp.array([1, 1, 0, 0])
      >>> print(dm.expected_calibration_error(p, y, bins=2).round(3))
      0.15

    References:
      Naeini, Cooper and Hauskrecht, Obtaining well calibrated probabilities using Bayesian binning,
      AAAI 2015; Guo et al., On calibration of modern neural networks, ICML 2017, arXiv:1706.04599.
    """
    return _absolute(_summary(*_equal_width(*_forecasts(probabilities, labels), bins)))


@doors.compiled("bins")
def adaptive_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, *, bins: int = 15
) -> jax.Array:
    r"""Mean gap between probability and observed frequency, in bins of equal size.

    Use it if most probabilities are near 1 or 0: bins of equal width put nearly all into one.

    .. math:: \frac1B \sum_b |\mathrm{accuracy}_b - \mathrm{confidence}_b|

    Args:
      probabilities: of label 1 ``[...]``, or of each class ``[..., C]``. Ties share their labels.
      labels: 0/1 of the same shape, or class ids ``[...]``.
      bins: their number. Static.

    Returns:
      Error in [0, 1], a scalar; 0 if there are no examples.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> p, y = jnp.array([0.01, 0.02, 0.03, 0.9]), jnp.array([0, 0, 0, 1])
      >>> print(dm.adaptive_calibration_error(p, y, bins=2).round(3))
      0.025

    References:
      Nixon et al., Measuring calibration in deep learning, CVPR workshops 2019, arXiv:1904.01685
      (which averages over classes as well).
    """
    p, y, kept = _forecasts(probabilities, labels)
    # What is left out goes to the end, beyond the last bin.
    y, p = sort_by(jnp.where(kept, p, jnp.inf), jnp.where(kept, y, 0.0))
    n = jnp.sum(kept)
    number = jnp.arange(p.shape[-1]) * bins // jnp.maximum(n, 1)
    _require_bins(bins)
    kept = jnp.isfinite(p)
    return _absolute(_summary(jnp.where(kept, p, 0.0), y, kept, number, bins))


@doors.compiled("bins")
def debiased_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, *, bins: int = 15
) -> jax.Array:
    r"""Root mean squared gap between probability and observed frequency, less what chance adds.

    Use it to compare classifiers on test sets of different size. Chance adds to the squared gap of
    a bin; that variance is estimated and subtracted. For accuracy a and confidence c it is

    .. math:: \sqrt{\max\Big(0, \sum_b \frac{n_b}{n} \Big[(a_b - c_b)^2
              - \frac{a_b (1 - a_b)}{n_b - 1}\Big]\Big)}

    Args:
      probabilities: of label 1 ``[...]``, or of each class ``[..., C]``.
      labels: 0/1 of the same shape, or class ids ``[...]``.
      bins: their number, of equal width. A bin of one example is left out. Static.

    Returns:
      Error in [0, 1], a scalar; 0 if there are no examples, or chance explains all.

    Example:
      >>> import diffmetrics as dm, jax, jax.numpy as jnp
      >>> p = jax.random.uniform(jax.random.key(0), (500,))
      >>> y = jax.random.bernoulli(jax.random.key(1), p)
      >>> print(dm.expected_calibration_error(p, y).round(2))       # calibrated, and not 0
      0.05
      >>> print(dm.debiased_calibration_error(p, y).round(2))
      0.0

    References:
      Kumar, Liang and Ma, Verified uncertainty calibration, NeurIPS 2019, arXiv:1909.10155.
    """
    c, a, n = _summary(*_equal_width(*_forecasts(probabilities, labels), bins))
    n = jnp.where(n > 1.0, n, 0.0)
    chance = numbers.divide(a * (1.0 - a), n - 1.0)
    return numbers.sqrt(numbers.divide(jnp.sum(n * ((a - c) ** 2 - chance)), jnp.sum(n)))


@doors.compiled("bins")
def brier_decomposition(
    probabilities: ArrayLike, labels: ArrayLike, *, bins: int = 15
) -> BrierDecomposition:
    r"""The Brier score as reliability, resolution and uncertainty.

    Use it to see whether probabilities are wrong (recalibrate) or say little (try another model).

    .. math:: \mathrm{Brier} = \mathrm{reliability} - \mathrm{resolution} + \mathrm{uncertainty}
              + \mathrm{within}

    Args:
      probabilities: of label 1 ``[...]``, or of each class ``[..., C]``, then of its confidence.
      labels: 0/1 of the same shape, or class ids ``[...]``.
      bins: their number, of equal width. Static.

    Returns:
      `BrierDecomposition` of scalars, all 0 if there are no examples.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> p, y = jnp.array([0.25, 0.25, 0.75, 0.75]), jnp.array([0, 0, 1, 0])
      >>> print(*(x.round(4) for x in dm.brier_decomposition(p, y)))
      0.0625 0.0625 0.1875 0.0

    References:
      Murphy, A new vector partition of the probability score, Journal of Applied Meteorology 12,
      1973; Stephenson, Coelho and Jolliffe, Two extra components in the Brier score decomposition,
      Weather and Forecasting 23, 2008.
    """
    p, y, kept, number, bins = _equal_width(*_forecasts(probabilities, labels), bins)
    c, a, n = _summary(p, y, kept, number, bins)
    total = jnp.sum(n)
    base = numbers.divide(jnp.sum(n * a), total)

    def mean(x: jax.Array) -> jax.Array:
        return numbers.divide(jnp.sum(n * x), total)

    from_mean, happened = p - c[number], y - a[number]
    apart = jnp.sum(jnp.where(kept, from_mean * (from_mean - 2.0 * happened), 0.0))
    return BrierDecomposition(
        mean((c - a) ** 2), mean((a - base) ** 2), base * (1.0 - base), numbers.divide(apart, total)
    )


def _forecasts(
    probabilities: ArrayLike, labels: ArrayLike
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Flat probabilities of an event, whether it happened, and which of them count."""
    p, y = jnp.asarray(probabilities), jnp.asarray(labels)
    doors.require_float("probabilities", p, "They are numbers in [0, 1], not decisions.")
    p = numbers.as_float(p)
    if y.shape == p.shape:
        return p.ravel(), numbers.as_float(y).ravel(), jnp.ones(p.size, bool)
    if y.shape != p.shape[:-1] or not jnp.issubdtype(y.dtype, jnp.integer):
        raise ValueError(
            f"labels must be 0/1 of the shape of probabilities, {p.shape}, or integer class ids of "
            f"shape {p.shape[:-1]}, got {y.dtype} of shape {y.shape}."
        )
    right = jnp.argmax(p, -1).astype(y.dtype) == y
    return jnp.max(p, -1).ravel(), numbers.as_float(right).ravel(), is_class(y, p.shape[-1]).ravel()


def _require_bins(bins: int) -> None:
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}.")


def _equal_width(
    p: jax.Array, y: jax.Array, kept: jax.Array, bins: int
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, int]:
    """Add the number of the bin of each probability."""
    _require_bins(bins)
    edges = jnp.linspace(0.0, 1.0, bins + 1, dtype=p.dtype)[1:-1]
    return p, y, kept, jnp.searchsorted(edges, p), bins


def _summary(
    p: jax.Array, y: jax.Array, kept: jax.Array, number: jax.Array, bins: int
) -> Reliability:
    terms = jnp.where(kept[:, None], jnp.stack([p, y, jnp.ones_like(p)], -1), 0.0)
    confidence, happened, n = jax.ops.segment_sum(terms, number, bins).T
    return Reliability(numbers.divide(confidence, n), numbers.divide(happened, n), n)


def _absolute(bins: Reliability) -> jax.Array:
    distance = jnp.abs(bins.accuracy - bins.confidence)
    return numbers.divide(jnp.sum(bins.examples * distance), jnp.sum(bins.examples))
