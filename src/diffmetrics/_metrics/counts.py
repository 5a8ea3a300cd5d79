"""Counts: true and false positives and negatives, from which every score of decisions follows.

What you count decides whether counts are hard or soft. Boolean predictions give the exact metric.
Probabilities give its differentiable twin: the *expected* counts, if each decision is positive
with its probability.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike, DTypeLike

from diffmetrics._core import calls, doors, numbers, set_doors, slopes
from diffmetrics._core.calls import Axis

P = ParamSpec("P")
R = TypeVar("R")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Counts:
    """True and false positives and negatives: the four numbers behind every score of decisions.

    Add the counts of batches, microbatches, hosts (`jax.lax.psum`) and pseudo-counts with `+` or
    `sum([...])`; a score divides *last*. Cells have any shape, such as one entry per image or
    class: `c[index]` takes some of them and `c.sum(axis)` their total. It is a frozen pytree.

    A cell is a JAX array, or float64 NumPy after `to_host`. NumPy and Python integers become 64-bit
    floats (exact to 9e15), because JAX would silently cut them to 32 bits. To keep the integers of
    hard counts in a loop, start it from `Counts.zeros`.

    Attributes:
      tp: true positives ``[...]``.
      fp: false positives, the false alarms ``[...]``.
      fn: false negatives, the misses ``[...]``.
      tn: true negatives ``[...]``.

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

    @classmethod
    def zeros(cls, shape: int | tuple[int, ...] = (), dtype: DTypeLike = jnp.int32) -> Counts:
        """Counts of nothing, as arrays: the start of a loop over batches.

        `jax.lax.scan` returns the types that it was given. The default int32 is for hard counts,
        which it keeps exact to 2³¹. Soft and weighted counts need ``float32``.

        Example:
          >>> import diffmetrics as dm, jax, jax.numpy as jnp
          >>> decisions = jnp.array([[True, False], [True, True]])
          >>> labels = jnp.array([[1, 1], [1, 1]])
          >>> def add(total, batch):
          ...     return total + dm.counts(*batch), None
          >>> total, _ = jax.lax.scan(add, dm.Counts.zeros(), (decisions, labels))
          >>> print(total.tp, total.fn)
          3 1
        """
        return cls(*(jnp.zeros(shape, dtype) for _ in dataclasses.fields(cls)))

    def __add__(self, other: Counts) -> Counts:
        if not isinstance(other, Counts):
            raise TypeError(
                f"Counts add up with Counts, got {kind_of(other)}. "
                "A smoothing of one pseudo-count is Counts(tp=1.0)."
            )
        return jax.tree.map(_add, self, other)

    def __radd__(self, other: object) -> Counts:
        # `sum` starts with the integer 0, which leaves hard counts the integers that they are.
        return self if type(other) is int and other == 0 else self + cast("Counts", other)

    def __getitem__(self, index: Any) -> Counts:
        full = _full(self)
        _require_inside(index, np.shape(full.tp))
        return jax.tree.map(lambda cell: cell[index], full)

    # With `[]` alone Python would iterate, and JAX clamps an index, so that there were no end. And
    # who unpacks four cells must not get those of four classes.
    __iter__ = None

    def sum(self, axis: Axis = None) -> Counts:
        """The sum of the cells over some axes, by default all.

        Over classes, it gives the counts of the micro average. Integers keep their type, and int32
        stops at 2³¹ - 1. The true negatives of 50,000 classes and as many examples are more:
        `c.to_host().sum()` has 64 bits.

        Example:
          >>> import diffmetrics as dm, jax.numpy as jnp
          >>> decisions = jnp.array([[True, True], [True, False]])
          >>> of_images = dm.counts(decisions, jnp.eye(2, dtype=int), axis=1)
          >>> print(of_images.fp, of_images[0].fp, of_images.sum().fp)
          [1 1] 1 2
        """
        full = _full(self)
        axes = doors.normalize_axis(axis, np.ndim(full.tp))
        return jax.tree.map(lambda cell: _sum(cell, axes), full)

    def to_host(self) -> Counts:
        """The cells as float64 NumPy arrays, for totals over many batches.

        Add device counts to them: the total is exact to 9e15. A float32 total stops growing at
        16,777,216.

        Example:
          >>> import diffmetrics as dm, numpy as np
          >>> total = dm.Counts().to_host()
          >>> for _ in range(3):
          ...     total += dm.counts(np.array([True, False]), np.array([1, 1]))
          >>> print(total.tp, total.fn)
          3.0 3.0
        """
        return on_host(self)


def on_host(tree: Any) -> Any:
    """Arrays as float64 NumPy; its scalars are Python floats, too, which JSON takes."""
    return jax.tree.map(lambda x: np.asarray(x, np.float64)[()], tree)


def _add(a: Any, b: Any) -> Any:
    """Add two cells; a host total keeps its 64 bits when a concrete device array is added."""
    if _is_host(a, b):
        return np.asarray(a, np.float64) + np.asarray(b, np.float64)
    if isinstance(a, float) and isinstance(b, float):
        return a + b
    a, b = jnp.asarray(a), jnp.asarray(b)
    if a.dtype != b.dtype:  # in words, because strict promotion asks for them
        integers = all(jnp.issubdtype(x.dtype, jnp.integer) for x in (a, b))
        wider = np.promote_types(a.dtype, b.dtype) if integers else None
        a, b = numbers.floats(a, b) if wider is None else (a.astype(wider), b.astype(wider))
    return _plus(*jnp.broadcast_arrays(a, b))


def _sum(cell: Any, axes: tuple[int, ...]) -> Any:
    """The sum of a cell in its own type; integers stop as they do in `_plus`."""
    total = cell.sum(axes, dtype=cell.dtype)
    if isinstance(cell, np.ndarray) or not jnp.issubdtype(cell.dtype, jnp.integer):
        return total
    roughly = jnp.sum(cell.astype(jnp.float32), axes)
    most = jnp.iinfo(cell.dtype).max
    return jnp.where(roughly - total.astype(jnp.float32) > float(most), most, total)


def _plus(a: jax.Array, b: jax.Array) -> jax.Array:
    """The sum of two arrays; integers stop at the largest one.

    What wraps may be any number, such as a good one.
    """
    if not jnp.issubdtype(a.dtype, jnp.integer):
        return a + b
    return jnp.where((a >= 0) & (b >= 0) & (a + b < 0), jnp.iinfo(a.dtype).max, a + b)


def _is_host(*cells: Any) -> bool:
    """Whether one of some cells is NumPy's, and none is being traced."""
    some = any(isinstance(cell, np.ndarray | np.generic) for cell in cells)
    return some and not any(isinstance(cell, Tracer) for cell in cells)


def _full(c: Counts) -> Counts:
    """The cells as arrays of one shape."""
    cells = (c.tp, c.fp, c.fn, c.tn)
    shape = np.broadcast_shapes(*map(np.shape, cells))
    xp: Any = np if _is_host(*cells) else jnp
    return Counts(*(xp.broadcast_to(xp.asarray(cell), shape) for cell in cells))


def _require_inside(index: Any, shape: tuple[int, ...]) -> None:
    """Raise `IndexError` of an index out of range, which JAX would take for the nearest one."""
    parts = index if isinstance(index, tuple) else (index,)
    if not any(isinstance(part, jax.Array) for part in parts):
        _ = np.broadcast_to(False, shape)[index]


@calls.compiled("axis", "class_axis")
def counts(
    predictions: ArrayLike,
    labels: ArrayLike,
    *,
    axis: Axis = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    class_axis: int = -1,
) -> Counts:
    r"""Count true and false positives and negatives, hard (exact) or soft (differentiable).

    Pass boolean predictions (`logits > 0`) for the exact metric, and probabilities
    (`jax.nn.sigmoid(logits)`) for its differentiable twin:

    .. math::
       TP &= \sum_i w_i p_i y_i, & \quad FP &= \sum_i w_i p_i (1 - y_i), \\
       FN &= \sum_i w_i (1 - p_i) y_i, & \quad TN &= \sum_i w_i (1 - p_i)(1 - y_i)

    Soft counts are expected counts. So with *soft labels* even p = y has FP = FN = p (1 - p).

    Args:
      predictions: ``[...]``, boolean, or floating in [0, 1].
      labels: 0/1 or soft, of the shape of `predictions`. For floating predictions ``[..., C]`` with
        C ≥ 2 also class ids ``[...]``, without a one-hot array. Void ids match no class.
      axis: axes that are counted together; ``(1, 2)`` of ``[B, H, W]`` counts each image.
      where: boolean, broadcasts to `predictions`.
      weights: broadcast to `predictions`.
      class_axis: axis of the classes, if `labels` are ids; 1 for ``[B, C, H, W]``. Static.

    Returns:
      `Counts` of the shape of `predictions` without `axis`. Boolean predictions with labels that
      are not floating and no weights give int32, exact to 2³¹ per call; others float32 or float64.

    Raises:
      TypeError: if predictions are integers; class ids go to `confusion` or `counts_per_class`.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp
      >>> p, y = jnp.array([0.9, 0.2, 0.6]), jnp.array([1, 1, 0])
      >>> hard = dm.counts(p > 0.5, y)
      >>> print(hard.tp, hard.fp, hard.fn, hard.tn)
      1 1 1 0
      >>> soft = dm.counts(p, y)
      >>> print(soft.tp, soft.fp, soft.fn, soft.tn)
      1.1 0.6 0.9 0.4
    """
    p, y = jnp.asarray(predictions), jnp.asarray(labels)
    if jnp.issubdtype(p.dtype, jnp.integer):
        raise TypeError(
            f"predictions must be boolean (hard) or floating (soft), got {p.dtype} of shape "
            f"{p.shape}. For class ids use diffmetrics.confusion; for 0/1 pass astype(bool)."
        )
    mask = doors.select(where, p.shape, "predictions")
    y = doors.match_labels(y, p.shape, "predictions", class_axis=class_axis)
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
    deciding = (p, y) if weights is None else (p, y, weights)
    dtype = jnp.dtype(jnp.int32) if hard else numbers.floats(*deciding)[0].dtype
    p = p.astype(dtype)
    w = jnp.ones((), dtype) if weights is None else jnp.broadcast_to(weights, p.shape).astype(dtype)
    if where is not None:  # select before multiplying: NaN times zero is NaN
        kept = jnp.broadcast_to(where, p.shape)
        p, w = (jnp.where(kept, x, jnp.zeros((), x.dtype)) for x in (p, w))
        y = y if doors.are_ids(y, p.shape) else jnp.where(kept, y, jnp.zeros((), y.dtype))

    return Counts(*_cells_over(axis)(p, y, w))


@functools.cache
def _cells_over(axis: tuple[int, ...]) -> Callable[..., tuple[jax.Array, ...]]:
    """The four sums of predictions, labels and weights.

    What a change of the predictions adds to the true positives, the false negatives lose, and so
    for the labels 0: two sums are the tangents of all four.
    """

    def cells(p: jax.Array, y: jax.Array, w: jax.Array) -> tuple[jax.Array, ...]:
        (tp, fp), (fn, tn) = set_doors.split(w * p, y), set_doors.split(w * (1 - p), y)
        return numbers.sums((tp, fp, fn, tn), axis)

    def rule(primals: Any, moved: Any) -> tuple[tuple[jax.Array, ...], list[Any]]:
        (_, y, w), (dp,) = primals, moved
        if dp is None:
            return cells(*primals), []
        tp, fp = (jnp.sum(t, axis) for t in set_doors.split_again(w * dp, y))
        return cells(*primals), [(tp, fp, -tp, -fp)]

    return slopes.with_rule(cells, rule, 1)


# --- functions of counts --------------------------------------------------------------------------


def of_counts(function: Callable[P, R]) -> Callable[P, R]:
    """`function` compiled, that says what it takes if it is called as other libraries' scores."""
    score = calls.compiled()(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        given = args[0] if args else kwargs.get("counts")
        if (args or kwargs) and not isinstance(given, Counts):
            name = function.__name__
            raise TypeError(
                f"{name} takes Counts, got {kind_of(given)}. Count first: "
                f"{name}(counts(predictions, labels)), of class ids "
                f"{name}(counts_per_class(ids, labels, num_classes)), of a confusion matrix "
                f"{name}(one_vs_rest(matrix))."
            )
        return score(*args, **kwargs)

    return call


def require_score(score: Any) -> None:
    """Raise `TypeError` for what is no function of counts, such as a name."""
    if not callable(score):
        raise TypeError(
            f"score must be a function of Counts, such as diffmetrics.fbeta, got {score!r}."
        )


def kind_of(x: Any) -> str:
    """What an argument is, for an error; not what traces it."""
    array = hasattr(x, "shape") and hasattr(x, "dtype")
    return f"{x.dtype} of shape {x.shape}" if array else type(x).__name__
