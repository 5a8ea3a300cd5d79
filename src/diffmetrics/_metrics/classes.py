"""Class probabilities and ranks: log loss and top-k accuracy, which counts cannot express.

`axis` names axes of the predictions that form one set, never `class_axis`; the result keeps the
others. `where` and `weights` broadcast to `labels`. An input of size 0 raises `ValueError`.
"""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import calls, doors, masses, numbers
from diffmetrics._core.calls import SetOptions
from diffmetrics._core.class_labels import take


@calls.compiled("axis", "class_axis")
def log_loss(
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    class_axis: int = -1,
    **options: Unpack[SetOptions],
) -> jax.Array:
    r"""Log loss: the mean negative logarithm of the probability of the true class, in nats.

    Use it to report probabilities that come from elsewhere. From logits take
    ``sigmoid_cross_entropy(logits, labels).mean()``, which neither rounds nor clips. Here, as in
    scikit-learn, probabilities are clipped to [ε, 1 - ε], where ε is the resolution of their type
    (1.2e-7 in float32), so one example costs at most 16. Values are not checked: logits would give
    nonsense.

    Args:
      probabilities: of label 1 ``[...]``, or of each class ``[..., C]``.
      labels: 0/1, or soft, of the shape of `probabilities`, or class ids ``[...]``; void ids are
        left out.
      class_axis: axis of the classes, if `labels` are ids; 1 for ``[B, C, H, W]``. Static.
      **options: `axis`, `where`, `weights`; see docs/arguments.md.

    Returns:
      The mean, of the shape without `axis`; NaN if there are no examples.

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
    if y.shape == p.shape:
        y = doors.shares(y, p.dtype)
        mask = doors.select(options.get("where"), y.shape, "labels")
        return _mean(_binary(*(_shown(x, mask) for x in (p, y))), **options)
    ids, place = _ids(labels, p.shape, class_axis, "probabilities", ", or 0/1 of the same shape")
    known = masses.known(ids, p.shape[place], options.get("where"))
    loss = -jnp.log(_held(_shown(take(p, ids, place), known)))
    return _mean(loss, **_of_examples(options, place, p.shape, known))


def _held(p: jax.Array) -> jax.Array:
    resolution = float(jnp.finfo(p.dtype).eps)
    return jnp.clip(p, resolution, 1.0 - resolution)


def _binary(p: jax.Array, y: jax.Array) -> jax.Array:
    held = _held(p)
    return -(y * jnp.log(held) + (1.0 - y) * jnp.log1p(-held))


def _shown(x: jax.Array, mask: jax.Array | None) -> jax.Array:
    return x if mask is None else jnp.where(jnp.broadcast_to(mask, x.shape), x, 0.5)


@calls.compiled("k", "axis", "class_axis")
def top_k_accuracy(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    k: int,
    class_axis: int = -1,
    **options: Unpack[SetOptions],
) -> jax.Array:
    r"""Top-k accuracy: the share of examples whose class is among the k highest scores.

    Use it if several guesses are allowed; k = 1 is the accuracy. Ties go to the later class, as in
    scikit-learn, so that equal scores gain nothing if class 0 is frequent. A NaN counts as the
    highest score, but as a wrong guess if it is that of the true class.

    Args:
      scores: ``[..., C]``.
      labels: class ids ``[...]``; void ids are left out.
      k: number of guesses. Static.
      class_axis: axis of the classes; 1 for ``[B, C, H, W]``. Static.
      **options: `axis`, `where`, `weights`; see docs/arguments.md.

    Returns:
      Share in [0, 1], of the shape without `axis`; NaN if there are no examples.

    Raises:
      ValueError: if k is less than 1.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> z = jnp.array([[3.0, 2.0, 1.0], [0.0, 2.0, 1.0]])
      >>> print(dm.top_k_accuracy(z, jnp.array([1, 0]), k=2))
      0.5
    """
    z = numbers.as_float(scores)
    ids, place = _ids(labels, z.shape, class_axis, "scores")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}.")
    known = masses.known(ids, z.shape[place], options.get("where"))
    labelled = jnp.expand_dims(take(z, ids, place), place)
    earlier = jax.lax.broadcasted_iota(ids.dtype, z.shape, place) <= jnp.expand_dims(ids, place)
    below = (z < labelled) | ((z == labelled) & earlier)  # itself among them, unless it is NaN
    above = z.shape[place] - jnp.sum(below, place, dtype=jnp.int32)
    right = (above < k) & ~jnp.isnan(jnp.squeeze(labelled, place))
    return _mean(right.astype(z.dtype), **_of_examples(options, place, z.shape, known))


def _ids(
    labels: ArrayLike, shape: tuple[int, ...], class_axis: int, of: str, or_else: str = ""
) -> tuple[jax.Array, int]:
    """Class ids, and where the classes lie."""
    place = doors.axis_of_classes(class_axis, shape, of)
    return masses.class_ids(labels, shape, place, of, or_else), place


def _of_examples(
    options: SetOptions, place: int, shape: tuple[int, ...], known: jax.Array
) -> SetOptions:
    """`options` for one value per example, of those that are `known`."""
    axes = masses.example_axes(options.get("axis"), place, shape)
    return {"axis": axes, "where": known, "weights": options.get("weights")}


def _mean(x: jax.Array, **options: Unpack[SetOptions]) -> jax.Array:
    return masses.mean(*masses.rows({"labels": x}, **options), empty=jnp.nan)
