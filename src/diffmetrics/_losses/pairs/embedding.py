"""Embedding losses (contrastive, triplet, angular margin): one value per pair or example.

Embeddings are compared by distance or angle. The gradient of a Euclidean distance is the unit
vector between the two. Where they coincide it is 0, so a pair that should be apart does not
separate by itself.
"""

from __future__ import annotations

from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import calls, doors, examples, numbers, slopes
from diffmetrics._core.calls import ClassOptions, ElementOptions
from diffmetrics._core.softmax import cross_entropy_after, expected_over_ids


@examples.per_element(vectors=-1)
def contrastive_loss(
    a: ArrayLike,
    b: ArrayLike,
    same: ArrayLike,
    *,
    margin: ArrayLike = 1.0,
    **_: Unpack[ElementOptions],
) -> jax.Array:
    r"""Contrastive loss: pulls pairs of the same identity together, others at least `margin` apart.

    Use it to learn from "same or not" alone. Sample as many different pairs as same ones and prefer
    hard ones; most random different pairs are soon beyond the margin, without a gradient. If there
    are identities, `batch_hard_triplet_loss` or `angular_margin_loss` usually does better.

    .. math::
       & \tfrac12 s\, d^2 + \tfrac12 (1-s) \max(0, m - d)^2

       & d = \lVert a - b \rVert

    Args:
      a: embeddings ``[..., D]``.
      b: embeddings ``[..., D]``.
      same: s ``[...]``, 1 or True where a pair belongs together, else 0.
      margin: distance m > 0 of different pairs, in the embeddings' units. Broadcasts to the pairs.

    Returns:
      Loss ≥ 0 of each pair ``[...]``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> a, b = jnp.zeros((3, 2)), jnp.array([[0.3, 0.4], [0.3, 0.4], [3.0, 4.0]])
      >>> print(dm.contrastive_loss(a, b, jnp.array([1, 0, 0])).round(4))
      [0.125 0.125 0.   ]

    References:
      Hadsell, Chopra and LeCun, Dimensionality reduction by learning an invariant mapping, 2006.
    """
    a, b = _embeddings(a=a, b=b)
    same = jnp.asarray(same)
    doors.require_shape("same", same, a.shape[:-1], "a[..., 0]")
    margin = doors.parameter("margin", margin, a[..., 0], "a[..., 0]")
    return _contrastive(_distance(a, b), doors.shares(same, a.dtype), margin)


def _square(d: jax.Array, same: jax.Array, margin: jax.Array) -> jax.Array:
    gap = jnp.maximum(margin - d, 0.0)
    return numbers.capped(0.5 * (same * d * d + (1.0 - same) * gap * gap))


def _square_slope(d: jax.Array, same: jax.Array, margin: jax.Array) -> jax.Array:
    return same * d - (1.0 - same) * jnp.maximum(margin - d, 0.0)


_contrastive = slopes.with_slope(_square, _square_slope)


@examples.per_element(vectors=-1)
def triplet_loss(
    anchors: ArrayLike,
    positives: ArrayLike,
    negatives: ArrayLike,
    *,
    margin: ArrayLike = 1.0,
    sharpness: ArrayLike | None = None,
    **_: Unpack[ElementOptions],
) -> jax.Array:
    r"""Triplet loss: the negative must be further from the anchor than the positive, by `margin`.

    Use it for triplets of your own choice. Most random ones soon cost nothing: see
    `batch_hard_triplet_loss`. A loss that stays at `margin` means that the embeddings collapsed.

    .. math:: \max(0, \lVert a - p \rVert - \lVert a - n \rVert + m)

    Args:
      anchors: embeddings ``[..., D]``.
      positives: embeddings of the anchors' identities ``[..., D]``.
      negatives: embeddings of other identities ``[..., D]``.
      margin: m ≥ 0, how much further, in the units of the embeddings. Broadcasts to the triplets.
      sharpness: b > 0 of the softplus :math:`\log(1 + e^{b x}) / b`, which replaces
        :math:`\max(0, x)` and always has a gradient; None, the default, is the hinge. The paper's
        soft margin is ``margin=0.0, sharpness=1.0``; embeddings of length 1, whose distances are at
        most 2, need a larger sharpness. Broadcasts to the triplets.

    Returns:
      Loss ≥ 0 of each triplet ``[...]``.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> a, p = jnp.zeros((2, 2)), jnp.array([[0.3, 0.4], [0.3, 0.4]])
      >>> n = jnp.array([[0.0, 1.0], [3.0, 4.0]])
      >>> print(dm.triplet_loss(a, p, n).round(4))
      [0.5 0. ]
      >>> print(dm.triplet_loss(a, p, n, margin=0.0, sharpness=1.0).round(4))
      [0.4741 0.011 ]

    References:
      Schroff et al., FaceNet, 2015, arXiv:1503.03832, with squared distances. Hermans et al., In
      defense of the triplet loss for person re-identification, 2017, arXiv:1703.07737.
    """
    a, p, n = _embeddings(anchors=anchors, positives=positives, negatives=negatives)
    margin = doors.parameter("margin", margin, a[..., 0], "anchors[..., 0]")
    sharpness = doors.optional("sharpness", sharpness, a[..., 0], "anchors[..., 0]")
    return slopes.hinge(_distance(a, p) - _distance(a, n) + margin, sharpness)


@calls.compiled()
def batch_hard_triplet_loss(
    embeddings: ArrayLike,
    identities: ArrayLike,
    *,
    margin: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    sharpness: ArrayLike | None = None,
) -> jax.Array:
    r"""Batch-hard triplet loss: every example with its farthest positive and closest negative.

    Use it with batches that hold several examples of each of many identities (in the paper, 4 of
    each of 18). Only the hardest count, so wrong labels hurt, and at a high learning rate the
    embeddings collapse: then the loss stays at `margin`.

    .. math:: \max\bigl(0, \max_{j \ne i,\, y_j = y_i} d_{ij} - \min_{y_j \ne y_i} d_{ij} + m\bigr)

    An example is never its own positive, even if another one equals it. One matrix product gives
    the distances for the choice; there, distances below about 3e-4 of the extent of the batch are
    lost in float32. The two chosen distances are computed from the embeddings. Ties go to the
    first.

    Args:
      embeddings: ``[n, D]``.
      identities: integer ids ``[n]``.
      margin: m ≥ 0, how much further negatives should be, in units of distance; a number or
        ``[n]``.
      where: boolean ``[n]``; False leaves an example out, as anchor, positive and negative.
      sharpness: b > 0 of a softplus instead of the hinge, as in `triplet_loss`; the paper's soft
        margin is 1, with `margin` 0. Broadcasts to ``[n]``.

    Returns:
      Loss ≥ 0 of each example ``[n]``; 0 with zero gradient if it is left out, or has no positive
      or no negative.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> x, ids = jnp.array([[0.0, 0.0], [0.6, 0.8], [0.0, 1.5], [9.0, 9.0]]), [1, 1, 2, 3]
      >>> print(dm.batch_hard_triplet_loss(x, jnp.array(ids)).round(4))
      [0.5   1.078 0.    0.   ]

    References:
      Hermans et al., In defense of the triplet loss for person re-identification, 2017,
      arXiv:1703.07737, batch hard.
    """
    x = jnp.asarray(embeddings)
    doors.require_float("embeddings", x, "Distances are between real vectors.")
    if x.ndim != 2:
        raise ValueError(f"embeddings must be [n, D], got {x.shape}.")
    ids = doors.identities(identities, x.shape[:1], "embeddings[:, 0]")
    margin = doors.parameter("margin", margin, x[:, 0], "identities")
    sharpness = doors.optional("sharpness", sharpness, x[:, 0], "identities")
    if x.size == 0:
        raise ValueError(f"embeddings must hold one or more examples, got {x.shape}.")
    where = doors.select(where, ids.shape, "identities")
    taking_part = jnp.broadcast_to(True if where is None else where, ids.shape)
    x = numbers.as_float(jnp.where(taking_part[:, None], x, 0.0))

    pairs = taking_part[:, None] & taking_part[None] & ~jnp.eye(len(ids), dtype=bool)
    same = ids[:, None] == ids[None]
    squares = _squared_distances(x, taking_part)
    positive = jnp.argmax(jnp.where(pairs & same, squares, -jnp.inf), 1)
    negative = jnp.argmin(jnp.where(pairs & ~same, squares, jnp.inf), 1)
    gap = _distance(x, x[positive]) - _distance(x, x[negative]) + margin
    # If a partner is missing, the example that stands in for it still has a finite gradient.
    complete = jnp.any(pairs & same, 1) & jnp.any(pairs & ~same, 1)
    return jnp.where(complete, slopes.hinge(gap, sharpness), 0.0)


def _squared_distances(x: jax.Array, where: jax.Array) -> jax.Array:
    """Squared distances of all rows up to a factor, for comparisons and without a gradient.

    They are centred and divided by their extent, so that a common offset costs no digits and no
    square overflows.
    """
    x = jax.lax.stop_gradient(x)
    x = x / jnp.maximum(jnp.max(jnp.abs(x)), jnp.finfo(x.dtype).tiny)
    x = jnp.where(where[:, None], x - jnp.mean(x, 0, keepdims=True, where=where[:, None]), 0.0)
    product = jnp.matmul(x, x.T, precision=jax.lax.Precision.HIGHEST)
    lengths = jnp.diagonal(product)
    return lengths[:, None] + lengths[None] - 2.0 * product


@examples.per_example()
def angular_margin_loss(
    cosines: ArrayLike,
    labels: ArrayLike,
    *,
    scale: ArrayLike = 64.0,
    angular_margin: ArrayLike = 0.5,
    cosine_margin: ArrayLike = 0.0,
    **options: Unpack[ClassOptions],
) -> jax.Array:
    r"""Angular margin loss (ArcFace, CosFace): cross-entropy over angles, with a margin.

    Use it to train an embedding for verification or retrieval on many identities, where it is
    usually the best choice: ArcFace by default, CosFace with ``angular_margin=0.0,
    cosine_margin=0.35``. Tune the scale and the margin: start with a smaller margin if the loss
    does not decrease. Its probabilities are not calibrated.

    .. math::
       L &= -\log \frac{e^{s c'_y}}{e^{s c'_y} + \sum_{k \ne y} e^{s c_k}}

       c'_y &= \cos(\theta_y + m_\angle) - m_{\cos}

       c_k &= \cos \theta_k

    Where :math:`\theta_y + m_\angle > \pi`, and the cosine would rise again,
    :math:`c_y - m_\angle \sin m_\angle` replaces it, as in the usual implementations: it is lower
    and still falls, but with a step. The slope of :math:`c'_y`, which is infinite at
    :math:`c_y = \pm 1`, is taken at an angle of at least 0.001.

    Args:
      cosines: products of embeddings and class centres of length 1 ``[..., C]``; rounding may take
        them beyond ±1.
      labels: class ids ``[...]`` or one-hot ``[..., C]``.
      scale: inverse temperature s > 0. Broadcasts to the examples.
      angular_margin: added to the true class's angle, in radians, in [0, 2.3]; beyond, the
        replacement would not be lower. Broadcasts to the examples.
      cosine_margin: subtracted from the true class's cosine, ≥ 0. Broadcasts to the examples.

    Returns:
      Loss ≥ 0 of each example ``[...]``, in nats.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> c = jnp.array([[0.8, 0.1, -0.3], [0.2, 0.5, 0.1]])
      >>> print(dm.angular_margin_loss(c, jnp.array([0, 0]), scale=8.0).round(4))
      [0.0808 6.3954]

    References:
      Deng et al., ArcFace, 2018, arXiv:1801.07698. Wang et al., CosFace, 2018, arXiv:1801.09414.
    """
    z, y, axis = doors.classes(cosines, labels, **options)
    scale, angle, offset = (
        doors.parameter(name, value, doors.example(z, axis), "cosines[..., 0]")
        for name, value in (
            ("scale", scale),
            ("angular_margin", angular_margin),
            ("cosine_margin", cosine_margin),
        )
    )

    def loss(ids: jax.Array) -> jax.Array:
        return cross_entropy_after(lambda own: _turned(own, angle) - offset, z, ids, scale, axis)

    return expected_over_ids(loss, y, axis)


# The smallest sine to divide by. Near ±1 the cosines of float32 are 6e-8 apart, so angles below
# 2e-4 cannot be told from 0.
SINE = 1e-3


def _turn(cosine: jax.Array, angle: jax.Array) -> jax.Array:
    """cos(θ + angle) of cos θ, falling over all θ in [0, π]."""
    sine = jnp.sqrt(jnp.maximum((1.0 - cosine) * (1.0 + cosine), 0.0))
    turned = cosine * jnp.cos(angle) - sine * jnp.sin(angle)
    return jnp.where(cosine >= -jnp.cos(angle), turned, cosine - angle * jnp.sin(angle))


def _turn_slope(cosine: jax.Array, angle: jax.Array) -> jax.Array:
    inside = jnp.clip(cosine, -1.0, 1.0)
    sine = jnp.sqrt(jnp.maximum((1.0 - inside) * (1.0 + inside), SINE**2))
    slope = jnp.cos(angle) + inside / sine * jnp.sin(angle)
    return jnp.where(cosine >= -jnp.cos(angle), slope, 1.0)


_turned = slopes.with_slope(_turn, _turn_slope)


def _embeddings(**embeddings: ArrayLike) -> tuple[jax.Array, ...]:
    """Checked embeddings of one shape, in the accumulator type."""
    arrays = {name: jnp.asarray(x) for name, x in embeddings.items()}
    first = next(iter(arrays))
    for name, x in arrays.items():
        doors.require_float(name, x, "Distances are between real vectors.")
        doors.require_shape(name, x, arrays[first].shape, first)
    if arrays[first].ndim == 0:
        raise ValueError(f"{first} must have a last axis that holds the embedding, got shape ().")
    return numbers.floats(*arrays.values())


def _distance_value(a: jax.Array, b: jax.Array) -> jax.Array:
    unit, length = _length(a, b)
    return numbers.capped(length / unit)


def _distance_rule(primals: Any, moved: Any) -> tuple[jax.Array, list[jax.Array]]:
    unit, length = _length(*primals)
    slope = slopes.apart(_direction, *primals, unit, length)
    steps = [sign * step for sign, step in zip((1.0, -1.0), moved, strict=True) if step is not None]
    return _distance(*primals), [jnp.sum(slope * step, -1) for step in steps]


# The Euclidean distance over the last axis, finite even if its square is not.
_distance = slopes.with_rule(_distance_value, _distance_rule, 2)


def _direction(a: jax.Array, b: jax.Array, unit: jax.Array, length: jax.Array) -> jax.Array:
    """The unit vector from `b` to `a`, 0 if they are equal."""
    over = numbers.divide(1.0, length)[..., None]
    return _scaled(a, b, unit[..., None]) * over


def _scaled(a: jax.Array, b: jax.Array, unit: jax.Array | float) -> jax.Array:
    return a * unit - b * unit


def _units(dtype: Any) -> tuple[float, float]:
    """A power of 2 by which to multiply large differences, and from where they are large."""
    return (2.0**-600, 2.0**400) if dtype == jnp.float64 else (2.0**-70, 2.0**50)


@jax.custom_jvp
def _length(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A unit, and the length of `a` - `b` times that unit, whose squares do not overflow."""
    return jax.lax.platform_dependent(a, b, cpu=_length_on_cpu, default=_length_in_one_reading)


def _length_on_cpu(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    down, large = _units(a.dtype)
    most = slopes.alone(jnp.max(jnp.abs(a - b), -1))
    unit = jnp.where(most > large, down, 1.0).astype(a.dtype)
    return unit, jnp.sqrt(jnp.sum(_scaled(a, b, unit[..., None]) ** 2, -1))


def _length_in_one_reading(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """With both units at once: an accelerator waits for its memory."""
    down, large = _units(a.dtype)
    squares = tuple(_scaled(a, b, unit) ** 2 for unit in (down, 1.0))
    in_large, plain = numbers.together(squares, (a.ndim - 1,))
    is_large = in_large > (large * down) ** 2
    unit = jnp.where(is_large, down, 1.0).astype(a.dtype)
    return unit, jnp.sqrt(jnp.where(is_large, in_large, plain))


@_length.defjvp
def _(primals: Any, tangents: Any) -> tuple[Any, Any]:
    (a, b), (da, db) = primals, tangents
    unit, length = _length(a, b)
    along = jnp.sum(_direction(a, b, unit, length) * (da - db), -1)
    return (unit, length), (jnp.zeros_like(unit), unit * along)
