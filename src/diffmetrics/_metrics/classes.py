"""Exact metrics of class probabilities and rankings, which counts of decisions cannot express."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import doors, numbers


@doors.compiled()
def log_loss(
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> jax.Array:
    r"""Mean negative logarithm of the probability of the true class, in nats.

    Use it to report probabilities that come from elsewhere. From logits take
    ``sigmoid_cross_entropy(logits, labels).mean()``, which neither rounds nor clips. Here, as in
    scikit-learn, probabilities are clipped to [ε, 1 - ε], where ε is the resolution of their type
    (1.2e-7 in float32), so one example costs at most 16.

    Args:
      probabilities: of label 1 ``[...]``, or of each class ``[..., C]``.
      labels: 0/1 of the shape of `probabilities`, or class ids ``[...]``; void ids are left out.
      where: boolean, broadcasts to `labels`.
      weights: ≥ 0, broadcast to `labels`.

    Returns:
      The mean, a scalar; NaN if there are no elements.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> print(dm.log_loss(jnp.array([0.9, 0.2]), jnp.array([1, 0])).round(4))
      0.1643
      >>> print(dm.log_loss(jnp.array([[0.7, 0.2, 0.1]]), jnp.array([1])).round(4))
      1.6094

    References:
      Good, Rational decisions, Journal of the Royal Statistical Society B 14, 1952.
    """
    p, y = jnp.asarray(probabilities), jnp.asarray(labels)
    doors.require_float("probabilities", p, "For class ids use top_k_accuracy.")
    p = numbers.as_float(p)
    if y.shape != p.shape:
        _require_ids(y, p.shape, "probabilities")
        known = (y >= 0) & (y < p.shape[-1])
        ids = jnp.clip(y, 0, p.shape[-1] - 1)[..., None]
        labelled = jnp.take_along_axis(p, ids, -1)[..., 0]
    else:
        known = jnp.ones(y.shape, bool)
        y = numbers.as_float(y)
        labelled = p
    kept = _kept(where, known, y.shape)
    resolution = jnp.finfo(p.dtype).eps
    held = jnp.clip(jnp.where(kept, labelled, 0.5), resolution, 1.0 - resolution)
    if y.dtype == held.dtype:
        loss = -(y * jnp.log(held) + (1.0 - y) * jnp.log1p(-held))
    else:
        loss = -jnp.log(held)
    return _mean(loss, kept, weights)


@doors.compiled("k")
def top_k_accuracy(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    k: int,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> jax.Array:
    r"""Share of the examples whose class is among the k highest scores.

    Ties go to the later class, as in scikit-learn, so that equal scores gain nothing if class 0 is
    frequent.

    Args:
      scores: ``[..., C]``.
      labels: class ids ``[...]``; void ids are left out.
      k: how many classes are guessed. Static.
      where: boolean, broadcasts to `labels`.
      weights: ≥ 0, broadcast to `labels`.

    Returns:
      Share in [0, 1], a scalar; NaN if there are no examples.

    Raises:
      ValueError: if k is less than 1.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z = jnp.array([[3.0, 2.0, 1.0], [0.0, 2.0, 1.0]])
      >>> print(dm.top_k_accuracy(z, jnp.array([1, 0]), k=2))
      0.5
    """
    z, y = numbers.as_float(scores), jnp.asarray(labels)
    _require_ids(y, z.shape, "scores")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}.")
    kept = _kept(where, (y >= 0) & (y < z.shape[-1]), y.shape)
    ids = jnp.clip(y, 0, z.shape[-1] - 1)[..., None]
    labelled = jnp.take_along_axis(z, ids, -1)
    later = jax.lax.broadcasted_iota(ids.dtype, z.shape, z.ndim - 1) > ids
    above = jnp.sum((z > labelled) | ((z == labelled) & later), -1)
    return _mean(numbers.as_float(above < k), kept, weights)


def _require_ids(y: jax.Array, shape: tuple[int, ...], of: str) -> None:
    if y.shape != shape[:-1] or not shape or not jnp.issubdtype(y.dtype, jnp.integer):
        raise ValueError(
            f"labels must be integer class ids of shape {shape[:-1]} for {of} {shape}, got "
            f"{y.dtype} of shape {y.shape}."
        )


def _kept(where: ArrayLike | None, known: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    mask = doors.select(where, shape, "labels")
    return known if mask is None else known & mask


def _mean(x: jax.Array, kept: jax.Array, weights: ArrayLike | None) -> jax.Array:
    w = doors.check_weights(weights, x.shape, "labels")
    factor = jnp.where(kept, 1.0 if w is None else numbers.as_float(w), 0.0)
    return jnp.sum(jnp.where(kept, x, 0.0) * factor) / jnp.sum(factor)
