"""Four cells that add up: the statistics behind every score of decisions.

What is counted decides whether counts are hard or soft. Boolean predictions give the exact metric.
Probabilities give its differentiable twin: the *expected* counts of decisions drawn with them.
"""

from __future__ import annotations

import dataclasses
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from diffmetrics._core import doors, numbers
from diffmetrics._core.doors import Axis


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Counts:
    """True and false positives and negatives: the whole state of a count-based metric.

    A frozen pytree with `+`. Counts of batches, microbatches, hosts (`jax.lax.psum`) and
    pseudo-counts add up *before* a score divides. Cells have any shape, such as images or classes.

    A cell is a JAX array, or float64 NumPy after `to_host`. NumPy and Python integers become 64-bit
    floats (exact to 9e15), because JAX would silently cut them to 32 bits.

    Attributes:
      tp: true positives.
      fp: false positives, the false alarms.
      fn: false negatives, the misses.
      tn: true negatives.

    Example:
      >>> import diffmetrics as dm
      >>> seen = dm.Counts(tp=3, fp=1) + dm.Counts(tp=1, fn=4)
      >>> print(dm.precision(seen), dm.recall(seen))
      0.8 0.5
    """

    tp: ArrayLike = 0.0
    fp: ArrayLike = 0.0
    fn: ArrayLike = 0.0
    tn: ArrayLike = 0.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            cell: Any = getattr(self, field.name)
            if isinstance(cell, int):
                object.__setattr__(self, field.name, float(cell))
            elif isinstance(cell, np.ndarray | np.integer) and cell.dtype.kind in "iu":
                object.__setattr__(self, field.name, cell.astype(np.float64))

    def __add__(self, other: Counts) -> Counts:
        if not isinstance(other, Counts):
            raise TypeError(
                f"Counts add up with Counts, got {type(other).__name__}. "
                "A smoothing of one pseudo-count is Counts(tp=1.0)."
            )
        return jax.tree.map(_add, self, other)

    def to_host(self) -> Counts:
        """The cells as float64 NumPy, for totals over many batches.

        Device counts added to them are exact to 9e15; a float32 total stops growing at 16,777,216.

        Example:
          >>> import diffmetrics as dm, numpy as np
          >>> total = dm.Counts().to_host()
          >>> for _ in range(3):
          ...     total += dm.counts(np.array([True, False]), np.array([1, 1]))
          >>> print(total.tp, total.fn)
          3.0 3.0
        """
        return jax.tree.map(lambda cell: np.asarray(cell, np.float64)[()], self)


def _add(a: Any, b: Any) -> Any:
    """Add two cells; a host total keeps its 64 bits when a concrete device array is added."""
    on_host = isinstance(a, np.ndarray | np.generic) or isinstance(b, np.ndarray | np.generic)
    if on_host and not isinstance(a, Tracer) and not isinstance(b, Tracer):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    plus: Any = operator.add  # NumPy, JAX and Python numbers at once: more than a type can say
    return plus(a, b)


@doors.compiled("axis")
def counts(
    predictions: ArrayLike,
    labels: ArrayLike,
    *,
    axis: Axis = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> Counts:
    r"""Count true and false positives and negatives, hard or soft.

    Use boolean predictions (`logits > 0`) for the exact metric and probabilities
    (`jax.nn.sigmoid(logits)`) for its differentiable twin:

    .. math:: TP = \sum_i w_i p_i y_i,\quad FP = \sum_i w_i p_i (1 - y_i),\quad
       FN = \sum_i w_i (1 - p_i) y_i,\quad TN = \sum_i w_i (1 - p_i)(1 - y_i)

    These are expected counts, so with *soft labels* even p = y has FP = FN = p (1 - p).

    Args:
      predictions: ``[...]``, boolean, or floating in [0, 1].
      labels: 0/1 or soft, of the shape of `predictions`; for floating predictions ``[..., C]``,
        C ≥ 2, also class ids ``[...]``, without a one-hot array. Void ids match no class.
      axis: axes that are counted together; ``(1, 2)`` of ``[B, H, W]`` counts each image.
      where: boolean, broadcasts to `predictions`.
      weights: broadcast to `predictions`.

    Returns:
      `Counts` of the shape of `predictions` without `axis`. Boolean predictions with labels that
      are not floating and no weights give int32, exact to 2³¹ per call; others float32 or float64.

    Raises:
      TypeError: if predictions are integers: class ids go to `confusion`.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> c = dm.counts(jnp.array([0.9, 0.2, 0.6]) > 0.5, jnp.array([1, 1, 0]))
      >>> print(c.tp, c.fp, c.fn, c.tn)
      1 1 1 0
    """
    p, y = jnp.asarray(predictions), jnp.asarray(labels)
    if jnp.issubdtype(p.dtype, jnp.integer):
        raise TypeError(
            f"predictions must be boolean (hard) or floating (soft), got {p.dtype} of shape "
            f"{p.shape}. For class ids use diffmetrics.confusion; for 0/1 pass astype(bool)."
        )
    mask = doors.select(where, p.shape, "predictions")
    y = doors.match_labels(y, p.shape, "predictions")
    return count(
        p, y, doors.normalize_axis(axis, p.ndim), mask, doors.check_weights(weights, p.shape)
    )


def count(
    p: jax.Array,
    y: jax.Array,
    axis: tuple[int, ...],
    where: jax.Array | None,
    weights: jax.Array | None,
) -> Counts:
    """The four sums of checked arrays: the only place where anything is counted."""
    hard = p.dtype == jnp.bool_ and not jnp.issubdtype(y.dtype, jnp.floating) and weights is None
    dtype = jnp.int32 if hard else numbers.floats(p, y)[0].dtype
    p = p.astype(dtype)
    w = jnp.ones((), dtype) if weights is None else weights.astype(dtype)
    if where is not None:  # select before multiplying: NaN times zero is NaN
        p, y, w = (jnp.where(where, x, jnp.zeros((), x.dtype)) for x in (p, y, w))

    (tp, fp), (fn, tn) = doors.split(w * p, y), doors.split(w * (1 - p), y)
    return Counts(*numbers.sums((tp, fp, fn, tn), axis))


@doors.compiled("num_classes")
def confusion(
    predicted_ids: ArrayLike,
    labels: ArrayLike,
    num_classes: int,
    *,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> jax.Array:
    r"""The confusion matrix: how often class i was predicted as class j.

    Use it for scores of all classes at once, `multiclass_mcc` and `multiclass_kappa`. Matrices of
    parts add up to that of the whole; `jax.vmap` makes one per image.

    .. math:: M_{ij} = \sum_n w_n [y_n = i][\hat y_n = j]

    Args:
      predicted_ids: integer class ids ``[...]``.
      labels: integer class ids of the same shape.
      num_classes: C. Static.
      where: boolean, broadcasts to `predicted_ids`.
      weights: broadcast to `predicted_ids`.

    Returns:
      Matrix ``[C, C]``, true classes in rows; int32 without weights, else float32. An element with
      either id outside [0, C), such as a void label, is not counted.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> dm.confusion(jnp.array([0, 2, 1, 1]), jnp.array([0, 1, 1, 255]), 3).tolist()
      [[1, 0, 0], [0, 1, 1], [0, 0, 0]]
    """
    predicted, true = jnp.asarray(predicted_ids), jnp.asarray(labels)
    for name, ids in (("predicted_ids", predicted), ("labels", true)):
        if not jnp.issubdtype(ids.dtype, jnp.integer):
            raise TypeError(f"{name} must be integer class ids, got {ids.dtype} of {ids.shape}.")
    doors.require_shape("labels", true, predicted.shape, "predicted_ids")
    mask = doors.select(where, predicted.shape, "predicted_ids")
    factors = doors.check_weights(weights, predicted.shape, "predicted_ids")

    # Widened, so that ids of 8 bits overflow neither in the product nor against num_classes.
    predicted, true = (x.astype(jnp.promote_types(x.dtype, jnp.int32)) for x in (predicted, true))
    counted = (predicted >= 0) & (predicted < num_classes) & (true >= 0) & (true < num_classes)
    if mask is not None:
        counted &= mask
    cell = jnp.where(counted, true * num_classes + predicted, num_classes**2)
    w = jnp.ones((), jnp.int32) if factors is None else numbers.as_float(factors)
    matrix = jnp.zeros(num_classes**2, w.dtype)
    matrix = matrix.at[cell.ravel()].add(jnp.broadcast_to(w, cell.shape).ravel(), mode="drop")
    return matrix.reshape(num_classes, num_classes)


def one_vs_rest(matrix: ArrayLike) -> Counts:
    """Counts of each class against all others, from a confusion matrix.

    Use it for scores per class, macro and micro: `fbeta(one_vs_rest(m)).mean()` is macro-F.

    Args:
      matrix: ``[..., C, C]``, true classes in rows (see `confusion`).

    Returns:
      `Counts` ``[..., C]``, on the host if `matrix` is NumPy (see `Counts.to_host`).

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> c = dm.one_vs_rest(jnp.array([[5, 1], [2, 4]]))
      >>> print(c.tp.tolist(), c.fp.tolist(), c.fn.tolist(), c.tn.tolist())
      [5, 4] [2, 1] [1, 2] [4, 5]
    """
    m: Any = matrix if isinstance(matrix, np.ndarray) else jnp.asarray(matrix)
    require_square(m)
    tp = m.diagonal(0, -2, -1)
    fp, fn = m.sum(-2) - tp, m.sum(-1) - tp
    return Counts(tp=tp, fp=fp, fn=fn, tn=m.sum((-2, -1))[..., None] - tp - fp - fn)


def require_square(matrix: Any) -> None:
    """Raise `ValueError` unless `matrix` is [..., C, C]."""
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise ValueError(f"matrix must have shape [..., C, C], got {matrix.shape}.")
