"""Batches: indices with given shares of the classes, for `grain` or a plain loop.

A batch depends only on the seed and its step: training resumes with the step's number, and workers
may read in any order. It is plain NumPy, on the host.

The order of *classes* is fixed: each class is spread as evenly as possible over all draws. The
order of a class's *examples* is random: each pass takes all of them, in a new order, before the
next begins. So how often two examples of a class were drawn never differs by more than 1.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterator

import numpy as np
from jax.typing import ArrayLike


@dataclasses.dataclass(frozen=True, eq=False)
class Batches:
    """A random-access data source, as `grain` reads them, whose elements are batches of indices.

    Attributes:
      steps: number of batches, the length.
      batch_size: indices in each.
      seed: of the order of examples.
      examples: indices of all examples ``[n]``, class after class.
      sizes: number of examples of each class ``[C]``.
      pattern: class of every draw ``[P]``, repeated.
      turns: number of earlier draws of the same class in `pattern` ``[P]``.
      per_round: number of draws of each class in `pattern` ``[C]``.
    """

    steps: int
    batch_size: int
    seed: int
    examples: np.ndarray = dataclasses.field(repr=False)
    sizes: np.ndarray = dataclasses.field(repr=False)
    pattern: np.ndarray = dataclasses.field(repr=False)
    turns: np.ndarray = dataclasses.field(repr=False)
    per_round: np.ndarray = dataclasses.field(repr=False)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[np.ndarray]:
        return map(self.__getitem__, range(self.steps))

    def __getitem__(self, index: int) -> np.ndarray:
        """Indices ``[batch_size]`` of the batch of a step in [0, steps)."""
        step = operator.index(index)
        if not 0 <= step < self.steps:
            raise IndexError(f"step must lie in [0, {self.steps}), got {step}.")
        draws = step * self.batch_size + np.arange(self.batch_size)
        rounds, place = np.divmod(draws, len(self.pattern))
        of = self.pattern[place]
        before = rounds * self.per_round[of] + self.turns[place]
        passes, turn = np.divmod(before, self.sizes[of])
        first = np.cumsum(self.sizes) - self.sizes
        return self.examples[first[of] + _shuffled(turn, self.sizes[of], (self.seed, of, passes))]


def balanced_batches(
    labels: ArrayLike, batch_size: int, *, steps: int | None = None, seed: int = 0
) -> Batches:
    """Balanced batches (oversampling): equally many examples of each class, rare ones repeated.

    Use them if a batch of the data as they are has no example of a class, or too few for a loss
    that compares examples (contrastive, triplet, AUC, soft F-beta). The price of oversampling: the
    model learns the few rare examples by heart sooner, and its probabilities are those of equally
    frequent classes. `correct_prior` (``trained_prior=0.5``) or `correct_class_priors` undo that.
    For a decision alone `fit_threshold` mostly does as well.

    Args:
      labels: integer or boolean class of every example ``[n]``. Negative ones are never drawn.
      batch_size: number of examples in a batch. If it is no multiple of the number of classes,
        their counts differ by 1, in turns.
      steps: number of batches of the whole training, because a repeated source begins anew.
        Default: ceil(n / batch_size).
      seed: of the order of examples.

    Returns:
      A sequence of `steps` integer arrays ``[batch_size]``, a `grain` data source. Batch i depends
      only on the labels, batch size, seed and i.

    Raises:
      ValueError: if the labels name no class.

    Example:
      >>> import diffmetrics as dm, numpy as np
      >>> labels = np.array([0] * 95 + [1] * 5)
      >>> batches = dm.balanced_batches(labels, 8, steps=1000)
      >>> print(len(batches), labels[batches[999]])
      1000 [0 1 0 1 0 1 0 1]

      With grain: ``grain.MapDataset.source(batches).map(lambda rows: (x[rows], labels[rows]))``.
    """
    examples, sizes = _by_class(labels)
    return _batches(examples, sizes, np.arange(len(sizes)), batch_size, steps, seed)


def stratified_batches(
    labels: ArrayLike, batch_size: int, *, steps: int | None = None, seed: int = 0
) -> Batches:
    """Stratified batches: the class frequencies of the data in each; every example once an epoch.

    Use them in place of a random order, in which every other batch of 64 has no example of a class
    of 1 %: the gradient varies less, and no probability needs correcting. Every n draws contain
    every example once. If n does not fill the last batch, it continues into the next epoch: no
    example is dropped, and all batches have one shape.

    Args:
      labels: integer or boolean class of every example ``[n]``. Negative ones are never drawn.
      batch_size: number of examples in a batch. Each of two classes gets its share of it, rounded
        up or down, each of many classes within about 2. A class with fewer examples than batches is
        spread over them.
      steps: number of batches of the whole training, because a repeated source begins anew.
        Default: ceil(n / batch_size).
      seed: of the order of examples.

    Returns:
      A sequence of `steps` integer arrays ``[batch_size]``, a `grain` data source. Batch i depends
      only on the labels, batch size, seed and i.

    Raises:
      ValueError: if the labels name no class.

    Example:
      >>> import diffmetrics as dm, numpy as np
      >>> labels = np.array([0] * 90 + [1] * 10)
      >>> batches = dm.stratified_batches(labels, 20)
      >>> print([int(labels[rows].sum()) for rows in batches])
      [2, 2, 2, 2, 2]
    """
    examples, sizes = _by_class(labels)
    return _batches(examples, sizes, _interleaved(sizes), batch_size, steps, seed)


def _by_class(labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the examples, class after class, and how many each class has."""
    y = np.asarray(labels)
    if y.dtype.kind not in "iub":
        raise TypeError(f"labels must be integer class ids, got {y.dtype} of shape {y.shape}.")
    if y.ndim != 1 or not np.any(y >= 0):
        raise ValueError(f"labels must be one class id for each example, got shape {y.shape}.")
    order = np.argsort(y, kind="stable")
    order = order[y[order] >= 0]
    return order, np.unique(y[order], return_counts=True)[1]


def _batches(
    examples: np.ndarray,
    sizes: np.ndarray,
    pattern: np.ndarray,
    batch_size: int,
    steps: int | None,
    seed: int,
) -> Batches:
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    steps = -(-len(examples) // batch_size) if steps is None else steps
    order = np.argsort(pattern, kind="stable")
    per_round = np.bincount(pattern)
    turns = np.empty_like(order)
    turns[order] = np.arange(len(order)) - np.repeat(np.cumsum(per_round) - per_round, per_round)
    return Batches(steps, batch_size, seed, examples, sizes, pattern, turns, per_round)


def _interleaved(sizes: np.ndarray) -> np.ndarray:
    """Every class as often as its size, evenly spread among the smaller ones, one after another."""
    pattern = np.empty(0, np.int64)
    for c in np.argsort(sizes, kind="stable"):
        size, total = int(sizes[c]), len(pattern) + int(sizes[c])
        places = (2 * np.arange(size) + 1) * total // (2 * size)
        rest = np.ones(total, bool)
        rest[places] = False
        spread = np.full(total, c)
        spread[rest] = pattern
        pattern = spread
    return pattern


# --- random order without memory ------------------------------------------------------------------


def _shuffled(turn: np.ndarray, size: np.ndarray, keys: tuple[int | np.ndarray, ...]) -> np.ndarray:
    """Where the permutation of range(size) that `keys` choose sends `turn`; elementwise.

    A Feistel network permutes numbers with an even number of bits. Results beyond `size` are
    permuted again until they fall below it, which leaves a permutation of range(size).
    """
    key = np.zeros(turn.shape, np.uint64)
    for k in keys:
        key = _mixed(key ^ np.asarray(k & 0xFFFFFFFF, np.uint64))
    half = np.maximum((np.frexp(np.asarray(size - 1, np.float64))[1] + 1) // 2, 1).astype(np.uint64)
    out, size = _feistel(turn.astype(np.uint64), half, key), size.astype(np.uint64)
    while np.any(out >= size):
        out = np.where(out >= size, _feistel(out, half, key), out)
    return out.astype(np.int64)


def _feistel(x: np.ndarray, half: np.ndarray, key: np.ndarray) -> np.ndarray:
    low = (np.uint64(1) << half) - np.uint64(1)
    left, right = x >> half, x & low
    for _ in range(6):
        key = _mixed(key)
        left, right = right, left ^ (_mixed(key ^ right) & low)
    return (left << half) | right


def _mixed(x: np.ndarray) -> np.ndarray:
    """Make each of 64 bits depend on all: the finaliser of SplitMix64 (Steele et al., 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
