r"""Calibration: whether the probabilities of a classifier agree with how often things happen.

There are two forms. Pass `probabilities` of label 1 ``[...]`` with 0/1 `labels` of the same shape.
Or pass those of each class ``[..., C]`` with class ids ``[...]``: then the probability of the
most probable class, the confidence, is compared with how often that class is the true one. Void
ids are left out.

Values are not checked: logits would give nonsense. Pass ``jax.nn.sigmoid(logits)`` or
``jax.nn.softmax(logits)``. A soft label is the share of times that it happened. NaN makes a result
NaN, an input of size 0 raises `ValueError`, and without examples all results are 0.

`axis` names axes of `probabilities` that form one set, never `class_axis`; the result keeps the
others. `where` and `weights` broadcast to `labels`.
"""

from __future__ import annotations

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffmetrics._core import calls, doors, masses, numbers, order
from diffmetrics._core.calls import Axis, SetOptions


class Reliability(NamedTuple):
    """Reliability diagram: probability and observed frequency in bins, from `reliability_bins`.

    Attributes:
      confidence: mean probability in each bin ``[..., bins]``; 0 in an empty bin.
      accuracy: observed frequency in each bin ``[..., bins]``; 0 in an empty bin.
      examples: number of examples in each bin ``[..., bins]``, or the sum of their weights, as
        floats.

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
    """The parts of a Brier score, from `brier_decomposition`.

    Attributes:
      reliability: squared distance of the bins from the diagonal ``[...]``; less is better.
      resolution: variance of the observed frequency between the bins ``[...]``; more is better.
      uncertainty: variance of the labels ``[...]``, which no forecaster changes.
      within: variation within the bins ``[...]``; 0 if all probabilities in a bin are equal.

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


@calls.compiled("bins", "axis", "class_axis")
def reliability_bins(
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    bins: int = 15,
    class_axis: int = -1,
    **options: Unpack[SetOptions],
) -> Reliability:
    r"""Reliability diagram: mean probability and observed frequency in bins of equal width.

    Use it to draw the observed frequency (accuracy) against the probability (confidence). Show the
    number of examples beside it: a bin of three may lie anywhere.

    Args:
      probabilities: of label 1 ``[...]``, or of each class ``[..., C]``.
      labels: 0/1 of the same shape, or class ids ``[...]``.
      bins: number of bins; a probability on an edge is in the lower one. Static.
      class_axis: axis of the classes, if `labels` are ids; 1 for ``[B, C, H, W]``. Static.
      **options: `axis`, `where`, `weights`; see docs/arguments.md.

    Returns:
      `Reliability` (confidence, accuracy, examples), with the bins on a new last axis.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> p = jnp.array([[0.75, 0.25], [0.25, 0.75], [0.75, 0.25]])
      >>> print(dm.reliability_bins(p, jnp.array([0, 1, 1]), bins=2).examples)
      [0. 3.]

    References:
      Murphy and Winkler, Reliability of subjective probability forecasts of precipitation and
      temperature, Applied Statistics 26, 1977.
    """
    return _summary(*_forecasts(probabilities, labels, class_axis, **options), bins)[0]


@calls.compiled("bins", "axis", "class_axis")
def expected_calibration_error(
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    bins: int = 15,
    class_axis: int = -1,
    **options: Unpack[SetOptions],
) -> jax.Array:
    r"""Expected calibration error (ECE): mean gap of probability and frequency in equal-width bins.

    Use it because others report it, with the same number of bins. It is too large for a calibrated
    classifier, the more so the fewer examples a bin has (see `debiased_calibration_error`), and
    blind to errors that cancel within a bin.

    .. math:: \sum_b \frac{n_b}{n} |\mathrm{accuracy}_b - \mathrm{confidence}_b|

    Args:
      probabilities: of label 1 ``[...]``, or of each class ``[..., C]``.
      labels: 0/1 of the same shape, or class ids ``[...]``.
      bins: number of bins. Static.
      class_axis: axis of the classes, if `labels` are ids; 1 for ``[B, C, H, W]``. Static.
      **options: `axis`, `where`, `weights`; see docs/arguments.md.

    Returns:
      Error in [0, 1], of the shape without `axis`; 0 if there are no examples.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> p, y = jnp.array([0.9, 0.8, 0.7, 0.2]), jnp.array([1, 1, 0, 0])
      >>> print(dm.expected_calibration_error(p, y, bins=2).round(3))
      0.15

    References:
      Naeini, Cooper and Hauskrecht, Obtaining well calibrated probabilities using Bayesian binning,
      AAAI 2015; Guo et al., On calibration of modern neural networks, ICML 2017, arXiv:1706.04599.
    """
    found, _ = _summary(*_forecasts(probabilities, labels, class_axis, **options), bins)
    distance = jnp.abs(found.accuracy - found.confidence)
    return masses.mean(distance, found.examples)


@calls.compiled("bins", "axis", "class_axis")
def adaptive_calibration_error(
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    bins: int = 15,
    class_axis: int = -1,
    **options: Unpack[SetOptions],
) -> jax.Array:
    r"""Adaptive calibration error (ACE): mean gap of probability and frequency in equal-size bins.

    Use it if most probabilities are near 1 or 0: bins of equal width would put nearly all examples
    into one. An example on an edge counts in both bins, in part.

    .. math:: \frac1B \sum_b |\mathrm{accuracy}_b - \mathrm{confidence}_b|

    Args:
      probabilities: of label 1 ``[...]``, or of each class ``[..., C]``. Ties share their labels.
      labels: 0/1 of the same shape, or class ids ``[...]``.
      bins: number of bins B. Static.
      class_axis: axis of the classes, if `labels` are ids; 1 for ``[B, C, H, W]``. Static.
      **options: `axis`, `where`, `weights`; see docs/arguments.md.

    Returns:
      Error in [0, 1], of the shape without `axis`; 0 if there are no examples.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> p, y = jnp.array([0.01, 0.02, 0.03, 0.9]), jnp.array([0, 0, 0, 1])
      >>> print(dm.adaptive_calibration_error(p, y, bins=2).round(3))
      0.025

    References:
      Nixon et al., Measuring calibration in deep learning, CVPR workshops 2019, arXiv:1904.01685
      (which averages over classes as well).
    """
    _require_bins(bins)
    p, y, mass, _ = _forecasts(probabilities, labels, class_axis, **options)
    plain = masses.are_plain(options) and jnp.shape(labels) == jnp.shape(probabilities)
    y, p, mass = masses.averaged(p, y, masses.relative(mass), plain)
    p = jnp.where(mass == 0, 0.0, p)

    def gap(part: jax.Array) -> jax.Array:
        return jnp.abs(jnp.sum(part * (y - p), -1))

    return numbers.divide(jnp.sum(masses.over_bins(mass, bins, gap), 0), jnp.sum(mass, -1))


@calls.compiled("bins", "axis", "class_axis")
def debiased_calibration_error(
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    bins: int = 15,
    class_axis: int = -1,
    **options: Unpack[SetOptions],
) -> jax.Array:
    r"""Debiased calibration error: root mean squared gap of probability and frequency, less chance.

    Use it to compare classifiers on test sets of different size. Chance adds to the squared gap of
    a bin; that variance is estimated and subtracted. For accuracy a and confidence c it is

    .. math:: \sqrt{\max\Big(0, \sum_b \frac{n_b}{n} \Big[(a_b - c_b)^2
              - \frac{a_b (1 - a_b)}{n_b - 1}\Big]\Big)}

    Args:
      probabilities: of label 1 ``[...]``, or of each class ``[..., C]``.
      labels: 0/1 of the same shape, or class ids ``[...]``.
      bins: number of bins, of equal width. A bin of one example is left out. Static.
      class_axis: axis of the classes, if `labels` are ids; 1 for ``[B, C, H, W]``. Static.
      **options: `axis`, `where`, `weights`; see docs/arguments.md. A weight of 2 stands for two
        equal examples, so the size of weights counts.

    Returns:
      Error in [0, 1], of the shape without `axis`; 0 if there are no examples, or chance explains
      all.

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
    (c, a, n), _ = _summary(*_forecasts(probabilities, labels, class_axis, **options), bins)
    n = jnp.where(n > 1.0, n, 0.0)
    chance = numbers.divide(a * (1.0 - a), n - 1.0)
    return numbers.sqrt(masses.mean((a - c) ** 2 - chance, n))


@calls.compiled("bins", "axis", "class_axis")
def brier_decomposition(
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    bins: int = 15,
    class_axis: int = -1,
    **options: Unpack[SetOptions],
) -> BrierDecomposition:
    r"""Brier score decomposition: reliability, resolution and uncertainty.

    Use it to see whether probabilities are wrong (recalibrate) or say little (try another model).

    .. math:: \mathrm{Brier} = \mathrm{reliability} - \mathrm{resolution} + \mathrm{uncertainty}
              + \mathrm{within}

    Args:
      probabilities: of label 1 ``[...]``, or of each class ``[..., C]``; then the Brier score is
        that of the confidence.
      labels: 0/1 of the same shape, or class ids ``[...]``.
      bins: number of bins, of equal width. Static.
      class_axis: axis of the classes, if `labels` are ids; 1 for ``[B, C, H, W]``. Static.
      **options: `axis`, `where`, `weights`; see docs/arguments.md.

    Returns:
      `BrierDecomposition`, of the shape without `axis`; all 0 if there are no examples.

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
    p, y, mass, edges = _forecasts(probabilities, labels, class_axis, **options)
    (c, a, n), place = _summary(p, y, mass, edges, bins)
    base = masses.mean(a, n)
    from_mean, happened = p - _of_bin(c, place), y - _of_bin(a, place)
    bad = masses.spoilt(p)
    return BrierDecomposition(
        bad + masses.mean((c - a) ** 2, n),
        bad + masses.mean((a - base[..., None]) ** 2, n),
        bad + base * (1.0 - base),
        bad + masses.mean(from_mean * (from_mean - 2.0 * happened), mass),
    )


def _of_bin(x: jax.Array, place: jax.Array) -> jax.Array:
    return jnp.take_along_axis(x, place, -1)


def _forecasts(
    probabilities: ArrayLike,
    labels: ArrayLike,
    class_axis: int,
    *,
    axis: Axis = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array, np.dtype]:
    """Rows of probabilities, of what happened and what it counts; and the type that was given."""
    p, y = jnp.asarray(probabilities), jnp.asarray(labels)
    doors.require_float("probabilities", p, "They are numbers in [0, 1], not decisions.")
    if y.shape == p.shape:
        y = doors.shares(y, numbers.accumulator(p.dtype))
    else:
        place = doors.axis_of_classes(class_axis, p.shape, "probabilities")
        ids = masses.class_ids(y, p.shape, place, "probabilities", BINARY)
        axis = masses.example_axes(axis, place, p.shape)
        where = masses.known(ids, p.shape[place], where)
        p = jnp.where(jnp.expand_dims(where, place), p, 0.0)
        best, p = jnp.argmax(p, place), jnp.max(p, place)
        y = ((best.astype(ids.dtype) == ids) & ~jnp.isnan(p)).astype(p.dtype)
    given: dict[str, ArrayLike] = {"probabilities": p, "labels": y}
    p_rows, y_rows, mass = masses.rows(given, axis=axis, where=where, weights=weights)
    return p_rows, y_rows, mass, p.dtype


BINARY = ", or 0/1 of the shape of probabilities"


def _require_bins(bins: int) -> None:
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}.")


def _summary(
    p: jax.Array, y: jax.Array, mass: jax.Array, dtype: np.dtype, bins: int
) -> tuple[Reliability, jax.Array]:
    """The bins of equal width, and the place of each probability among them."""
    _require_bins(bins)
    # Rounded as the probabilities were, so that k / bins is on its edge.
    edges = jnp.asarray(np.arange(1, bins) / bins, dtype).astype(p.dtype)
    place = jnp.searchsorted(edges, p)
    relative = masses.relative(mass)
    n, of_p, of_y = (order.totals(relative * x, place, bins) for x in (jnp.ones_like(p), p, y))
    # Bins without mass are 0, and no bin that has any is taken for one without.
    confidence, accuracy = (numbers.quotient(total, n, 0.0) for total in (of_p, of_y))
    return Reliability(confidence, accuracy, order.totals(mass, place, bins)), place
