"""Tables of numbers whose last column is the target, and the splits of the published protocol."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.datasets import load_diabetes

from experiments.shared import number_tables
from experiments.shared.number_tables import TableError

# A column whose spread is below this share of its largest magnitude is constant: in the naval set a
# constant column has a deviation of 2e-13, and dividing by that makes a feature of rounding noise.
CONSTANT = 1e-9
SUFFIXES = (".txt", ".csv", ".tsv", ".data", ".dat")


@dataclasses.dataclass(frozen=True)
class Table:
    """Numeric features and target, in the units of the file."""

    name: str
    features: np.ndarray  # float64 [n, d]
    target: np.ndarray  # float64 [n]
    columns: tuple[str, ...]  # the features' names
    left_out: tuple[str, ...] = ()  # constant features, which teach nothing

    def __len__(self) -> int:
        return len(self.target)


def diabetes() -> Table:
    """442 patients, 10 measurements, disease progression a year later; ships with scikit-learn."""
    patients: Any = load_diabetes(scaled=False)
    names = tuple(patients.feature_names)
    return _checked("diabetes", patients.data, patients.target, names)


def open_tables(path: Path | None) -> list[Table]:
    """The table in a file, or every table in a folder; without either, scikit-learn's diabetes.

    Raises:
      FileNotFoundError: if there is none.
      TableError: naming the first file, row and column that cannot be used.
      ValueError: if two tables have the same name.
    """
    if path is None:
        return [diabetes()]
    return [read_table(each) for each in number_tables.find([path], SUFFIXES)]


def read_table(path: Path) -> Table:
    """Read numbers separated by blanks, tabs, commas or semicolons; the last column is the target.

    A first row without any number is a header.

    Raises:
      TableError: for text, NaN, infinity, missing cells, rows of unequal length, no rows, a
        constant target, or no feature that varies; the message names the place.
    """
    names, rows = number_tables.delimited(number_tables.text(path))
    if not rows or len(names) < 2:
        raise TableError(
            f"{path} must have rows of at least one feature and a target, "
            f"got {len(rows)} rows of {len(names)} columns"
        )
    number_tables.require_width(path, rows, len(names))
    columns = [number_tables.numbers(path, name, rows, k) for k, name in enumerate(names)]
    return _checked(path.stem, np.stack(columns[:-1], 1), columns[-1], tuple(names[:-1]), str(path))


def _checked(
    name: str, features: np.ndarray, target: np.ndarray, columns: tuple[str, ...], source: str = ""
) -> Table:
    source = source or name
    if is_constant(target[:, None])[0]:
        raise TableError(f"{source}: the target, its last column, is {target[0]} in every row")
    constant = is_constant(features)
    if constant.all():
        raise TableError(f"{source}: every feature is constant")
    return Table(
        name,
        features[:, ~constant],
        np.asarray(target, float),
        tuple(c for c, same in zip(columns, constant, strict=True) if not same),
        tuple(c for c, same in zip(columns, constant, strict=True) if same),
    )


def is_constant(values: np.ndarray) -> np.ndarray:
    """Which columns of [n, d] vary by no more than rounding."""
    return np.ptp(values, axis=0) <= CONSTANT * np.abs(values).max(axis=0)


def splits(rows: int, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The published 90/10 splits as (train, test) indices, regenerated in their order.

    One legacy generator runs through all of them, as in the files that come with Hernández-Lobato
    and Adams (2015, arXiv:1502.05336) and Gal and Ghahramani (2016, arXiv:1506.02142), which these
    equal index for index.
    """
    generator = np.random.RandomState(1)
    for _ in range(count):
        order = generator.choice(rows, rows, replace=False)
        kept = round(rows * 9 / 10)
        yield order[:kept], order[kept:]


class Folds(NamedTuple):
    """Every split of a table, stacked, standardised by its own training rows."""

    train_x: np.ndarray  # float32 [S, n, d]
    train_y: np.ndarray  # float32 [S, n]
    test_x: np.ndarray  # float32 [S, m, d]
    test_y: np.ndarray  # float64 [S, m], in the units of the file
    center: np.ndarray  # float64 [S], mean of the training targets
    scale: np.ndarray  # float64 [S], their deviation

    @property
    def held_out(self) -> int:
        """How many of the training rows, the last, choose the length of the training: a fifth."""
        return max(1, self.train_y.shape[1] // 5)


def folds(table: Table, count: int) -> Folds:
    """The first `count` published splits of a table.

    Raises:
      TableError: if there are fewer rows than splits, or too few to hold any out.
    """
    if len(table) < max(count, 20):
        raise TableError(
            f"{table.name} has {len(table)} rows; {count} seeds need at least {max(count, 20)}"
        )
    stacked = [_fold(table, *rows) for rows in splits(len(table), count)]
    return Folds(*map(np.stack, zip(*stacked, strict=True)))


def _fold(table: Table, train: np.ndarray, test: np.ndarray) -> Folds:
    x, y = table.features[train], table.target[train]
    if is_constant(y[:, None])[0]:
        raise TableError(f"{table.name}: the target is constant in a training split")
    # Constant among the training rows of this split: no information, so all zeros.
    same = is_constant(x)
    spread = np.where(same, np.inf, x.std(axis=0))
    return Folds(
        ((x - x.mean(axis=0)) / spread).astype(np.float32),
        ((y - y.mean()) / y.std()).astype(np.float32),
        ((table.features[test] - x.mean(axis=0)) / spread).astype(np.float32),
        table.target[test],
        y.mean(),
        y.std(),
    )
