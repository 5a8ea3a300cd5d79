"""Class ids: the confusion matrix, and the counts of each class without a matrix."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffmetrics._core import calls, doors, numbers, order
from diffmetrics._core.class_labels import is_class
from diffmetrics._metrics.counts import Counts


@calls.compiled("num_classes")
def confusion(
    predicted_ids: ArrayLike,
    labels: ArrayLike,
    num_classes: int,
    *,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> jax.Array:
    r"""The confusion matrix: how often class i was predicted as class j.

    Use it for scores of all classes at once, `multiclass_mcc` and `multiclass_kappa`; `one_vs_rest`
    turns it into counts of each class. Matrices of batches add up to that of the whole data set.
    `jax.vmap` makes one matrix per image.

    .. math:: M_{ij} = \sum_n w_n [y_n = i][\hat y_n = j]

    Args:
      predicted_ids: integer class ids ``[...]``.
      labels: integer class ids of the same shape.
      num_classes: number of classes C, at most 46,340. Static.
      where: boolean, broadcasts to `predicted_ids`.
      weights: broadcast to `predicted_ids`.

    Returns:
      Matrix ``[C, C]``, true classes in rows, predicted classes in columns; int32 without weights,
      else float32. An element with either id outside [0, C), such as a void label, is not counted.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> dm.confusion(jnp.array([0, 2, 1, 1]), jnp.array([0, 1, 1, 255]), 3).tolist()
      [[1, 0, 0], [0, 1, 1], [0, 0, 0]]
    """
    cells = _require_number(num_classes) ** 2
    if cells > jnp.iinfo(jnp.int32).max:
        raise ValueError(
            f"num_classes of confusion is at most 46340, got {num_classes}: a matrix of {cells:,} "
            "cells has no index of 32 bits. counts_per_class takes any number of classes."
        )
    seen = _matched(predicted_ids, labels, num_classes, where, weights)
    return _matrix(seen, num_classes)


@calls.compiled("num_classes")
def counts_per_class(
    predicted_ids: ArrayLike,
    labels: ArrayLike,
    num_classes: int,
    *,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> Counts:
    r"""Counts of each class against all others (one-vs-rest), from class ids, without a matrix.

    Use it for F1 per class and its macro and micro averages, also with very many classes: it takes
    the memory of C numbers, not of C². It equals `one_vs_rest` of `confusion`, and adds up over
    batches like it.

    .. math::
       TP_c &= \sum_n w_n [y_n = c][\hat y_n = c], \\
       FP_c &= \sum_n w_n [y_n \ne c][\hat y_n = c], \\
       FN_c &= \sum_n w_n [y_n = c][\hat y_n \ne c]

    Args:
      predicted_ids: integer class ids ``[...]``.
      labels: integer class ids of the same shape.
      num_classes: number of classes C. Static.
      where: boolean, broadcasts to `predicted_ids`.
      weights: broadcast to `predicted_ids`.

    Returns:
      `Counts` ``[C]``; int32 without weights, else floating. `fbeta(c).mean()` is the macro
      average, `fbeta(c.to_host().sum())` the micro average. An element with either id outside [0,
      C), such as a void label, is not counted, not even as a true negative.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> predicted, labels = jnp.array([0, 2, 1, 1]), jnp.array([0, 1, 1, -1])
      >>> c = dm.counts_per_class(predicted, labels, 50_000)
      >>> print(c.tp[:3], c.fp[:3], c.fn[:3], c.tn[:3])
      [1 1 0] [0 0 1] [0 1 0] [2 1 2]
    """
    seen = _matched(predicted_ids, labels, _require_number(num_classes), where, weights)
    if weights is not None and num_classes <= SMALL:
        return one_vs_rest(_matrix(seen, num_classes))
    right = seen.predicted == seen.true
    found = jnp.where(right, seen.true, seen.predicted + num_classes)
    tp, fp = jnp.split(order.totals(seen.mass, found, 2 * num_classes), 2)
    fn = order.totals(jnp.where(right, 0, seen.mass), seen.true, num_classes)
    # What is right elsewhere, and what is mistaken among others: no difference of large sums.
    tn = _of_others(tp) + jnp.maximum(_of_others(fn) - fp, 0)
    return Counts(tp=tp, fp=fp, fn=fn, tn=tn)


def _of_others(x: jax.Array) -> jax.Array:
    """The sum of all entries of the last axis but each, without a subtraction."""
    return order.later(jnp.cumsum(x, -1, dtype=x.dtype)) + order.earlier(order.from_here(x))


# So many classes have a matrix of a few megabytes, of which each cell is known to its last digits.
SMALL = 1000


def _matrix(seen: _Matched, number: int) -> jax.Array:
    cells = seen.true * number + seen.predicted
    return order.totals(seen.mass, cells, number**2).reshape(number, number)


class _Matched(NamedTuple):
    """Predicted and true ids in one row, and what each pair counts for; 0, 0, 0 if for nothing."""

    predicted: jax.Array
    true: jax.Array
    mass: jax.Array


def _matched(
    predicted_ids: ArrayLike,
    labels: ArrayLike,
    num_classes: int,
    where: ArrayLike | None,
    weights: ArrayLike | None,
) -> _Matched:
    predicted, true = jnp.asarray(predicted_ids), jnp.asarray(labels)
    for name, ids in (("predicted_ids", predicted), ("labels", true)):
        if not jnp.issubdtype(ids.dtype, jnp.integer):
            raise TypeError(f"{name} must be integer class ids, got {ids.dtype} of {ids.shape}.")
    doors.require_shape("labels", true, predicted.shape, "predicted_ids")
    mask = doors.select(where, predicted.shape, "predicted_ids")
    factors = doors.check_weights(weights, predicted.shape, "predicted_ids")

    # Widened, so that ids of 8 bits overflow neither in a product nor against num_classes; what no
    # longer fits, of unsigned ids, becomes negative, and names no class either way.
    wide = any(ids.dtype.itemsize == 8 for ids in (predicted, true))
    predicted, true = (ids.astype(jnp.int64 if wide else jnp.int32) for ids in (predicted, true))
    counted = is_class(predicted, num_classes) & is_class(true, num_classes)
    if mask is not None:
        counted &= jnp.broadcast_to(mask, counted.shape)
    mass = counted.astype(jnp.int32)
    if factors is not None:
        mass = jnp.where(counted, jnp.broadcast_to(numbers.as_float(factors), counted.shape), 0.0)
    predicted, true = (jnp.where(counted, x, 0).ravel() for x in (predicted, true))
    return _Matched(predicted, true, mass.ravel())


def one_vs_rest(matrix: ArrayLike) -> Counts:
    """Counts of each class against all others (one-vs-rest), from a confusion matrix.

    Use it for precision, recall or F1 per class, and for their macro and micro averages:
    `fbeta(one_vs_rest(m)).mean()` is macro-F1. From class ids, `counts_per_class` needs no matrix.

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
    m = _exact(matrix)
    require_square(m)
    others = np.broadcast_to(1 - np.eye(m.shape[-1], dtype=m.dtype), m.shape)
    mistaken = m * others
    tp, fp, fn = m.diagonal(0, -2, -1), *(mistaken.sum(a, dtype=m.dtype) for a in (-2, -1))
    if isinstance(m, np.ndarray):  # of 64 bits
        rest = m.sum((-2, -1))[..., None] - tp - fp - fn
    else:  # without a difference of large sums
        rest = jnp.sum(_of_others(m) * others, -2, dtype=m.dtype)
    return Counts(tp=tp, fp=fp, fn=fn, tn=rest)


def _exact(matrix: ArrayLike) -> Any:
    """A matrix in a type that holds its sums: 64 bits on the host, 32 bits or more elsewhere."""
    if isinstance(matrix, Counts):
        raise TypeError("a confusion matrix is expected, got Counts: see diffmetrics.confusion.")
    if isinstance(matrix, np.ndarray):
        return matrix.astype(np.float64)
    m = jnp.asarray(matrix)
    if jnp.issubdtype(m.dtype, jnp.floating):
        return numbers.as_float(m)
    return m.astype(jnp.int32) if m.dtype.itemsize < 4 else m


def _require_number(num_classes: int) -> int:
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, got {num_classes}.")
    return num_classes


def require_square(matrix: Any) -> None:
    """Raise `ValueError` unless `matrix` is [..., C, C]."""
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise ValueError(f"matrix must have shape [..., C, C], got {matrix.shape}.")
