"""The rows of a table divided into parts to train, to choose and to judge on, by strata."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

import diffmetrics as dm
from experiments.tabular.data import Table

DRAWS = 16  # of an oversampled training set, for each split


class Splits(NamedTuple):
    """Rows of the three parts, a line a split; every split has parts of the same size."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    weights: np.ndarray
    """[splits, test, 1]: where a table is thinned, all further positives are tested on, and weigh
    together as much as the thinned ones would."""


def make_splits(table: Table, number: int) -> Splits:
    """Divide the rows anew `number` times, each time half, a quarter and a quarter.

    A stratum is the rarest label that a row has. Each is divided in the same proportions, so that
    rare labels are in every part.

    Raises:
      ValueError: if a part has no positive, or no negative, of a label all the same.
    """
    y = table.labels
    rarest_first = np.argsort(y.sum(0), kind="stable")
    strata = np.where(y.any(1), rarest_first[np.argmax(y[:, rarest_first], 1)], -1)
    members = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    ends = [_ends(len(rows)) for rows in members]
    odds = 1.0
    if table.thinned:  # the positives are the second stratum
        odds = table.thinned / (1.0 - table.thinned)
        sizes = np.round(odds * np.diff(ends[0], prepend=0)).astype(int)
        ends[1] = np.cumsum(np.maximum(sizes, 2))

    def once(split: int) -> list[np.ndarray]:
        rng = np.random.default_rng((0, split))
        parts = [np.split(rng.permutation(r), e) for r, e in zip(members, ends, strict=True)]
        return [np.concatenate(part) for part in zip(*parts, strict=True)]

    train, validation, test = map(np.stack, zip(*map(once, range(number)), strict=True))
    for part, rows in (("training", train), ("validation", validation), ("test", test)):
        positive = y[rows].sum(1)
        lacking = ((positive == 0) | (positive == rows.shape[1])).any(0)
        if lacking.any():
            raise ValueError(
                f"{table.name}: a {part} part has only one class of "
                f"{table.label_names[np.argmax(lacking)]}, which has too few examples to be divided"
            )
    positive = y[test]
    weights = np.ones(positive.shape, np.float32)
    if table.thinned:
        ratio = (~positive).sum(1, keepdims=True) / positive.sum(1, keepdims=True)
        weights = np.where(positive, odds * ratio, 1.0).astype(np.float32)
    return Splits(train, validation, test, weights)


def _ends(n: int) -> np.ndarray:
    """Where the first two of three parts of n rows end; each part of six rows has two."""
    rest = max(round(n / 4), min(2, n // 3))
    return np.array([n - 2 * rest, n - rest])


def balanced(table: Table, splits: Splits) -> np.ndarray:
    """Balanced batches [splits, draws, training], drawn beforehand for each split."""
    size = splits.train.shape[1]
    drawn = []
    for split, rows in enumerate(splits.train):
        batches = dm.balanced_batches(table.labels[rows, 0], size, steps=DRAWS, seed=split)
        drawn.append(np.stack([rows[batches[k]] for k in range(DRAWS)]))
    return np.stack(drawn)
