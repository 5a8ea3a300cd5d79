"""Tables of numbers whose last column is the target, and the splits of the published protocol."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.datasets import load_diabetes

# A column whose spread is below this share of its largest magnitude is constant: in the naval set a
# constant column has a deviation of 2e-13, and dividing by that makes a feature of rounding noise.
CONSTANT = 1e-9
SUFFIXES = (".txt", ".csv", ".tsv", ".data", ".dat")


class UnusableTable(ValueError):  # noqa: N818 - what it is called in the message
    """A file that cannot be trained on; the message names file, row and column."""


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
    found: Any = load_diabetes(scaled=False)
    return _checked("diabetes", found.data, found.target, tuple(found.feature_names))


def open_tables(path: Path | None) -> list[Table]:
    """The table in a file, or every table in a folder; without either, scikit-learn's diabetes.

    Raises:
      FileNotFoundError: if there is none.
      UnusableTable: naming the first file, row and column that cannot be used.
    """
    if path is None:
        return [diabetes()]
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    inside = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES) if path.is_dir() else [path]
    if not inside:
        raise FileNotFoundError(f"{path} holds no table (looked for {', '.join(SUFFIXES)})")
    return [read_table(each) for each in inside]


def read_table(path: Path) -> Table:
    """Read numbers separated by blanks, tabs, commas or semicolons; the last column is the target.

    A first row without any number is a header.

    Raises:
      UnusableTable: for text, NaN, infinity, missing cells, rows of unequal length, no rows, a
        constant target, or no feature that varies; the message names the place.
    """
    try:
        lines = path.read_text().splitlines()
    except UnicodeDecodeError as error:
        raise UnusableTable(f"{path} is not a text file: {error}") from error
    rows = [(number, cells) for number, line in enumerate(lines, 1) if (cells := _cells(line))]
    if not rows:
        raise UnusableTable(f"{path} is empty")
    width = len(rows[0][1])
    header = [f"column {k}" for k in range(1, width + 1)]
    if all(_number(cell) is None for cell in rows[0][1]):
        header = [f"column {k} ({cell.strip()})" for k, cell in enumerate(rows.pop(0)[1], 1)]
    if not rows or width < 2:
        raise UnusableTable(
            f"{path} must have rows of at least one feature and a target, "
            f"got {len(rows)} rows of {width} columns"
        )
    values = np.empty((len(rows), width))
    for k, (number, cells) in enumerate(rows):
        if len(cells) != width:
            raise UnusableTable(f"{path}, line {number}: {len(cells)} columns, expected {width}")
        for column, cell in enumerate(cells):
            value = _number(cell)
            if value is None or not np.isfinite(value):
                raise UnusableTable(
                    f"{path}, line {number}: {header[column]} must be a finite number, "
                    f"got {cell.strip()!r}"
                )
            values[k, column] = value
    return _checked(path.stem, values[:, :-1], values[:, -1], tuple(header[:-1]), str(path))


def _cells(line: str) -> list[str]:
    for separator in ";,":
        if separator in line:
            return next(csv.reader([line.strip()], delimiter=separator))
    return line.split()  # some of the published files mix blanks and tabs


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _checked(
    name: str, features: np.ndarray, target: np.ndarray, columns: tuple[str, ...], source: str = ""
) -> Table:
    source = source or name
    if is_constant(target[:, None])[0]:
        raise UnusableTable(f"{source}: the target, its last column, is {target[0]} in every row")
    constant = is_constant(features)
    if constant.all():
        raise UnusableTable(f"{source}: every feature is constant")
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


def folds(table: Table, count: int) -> Folds:
    """The first `count` published splits of a table.

    Raises:
      UnusableTable: if there are fewer rows than splits, or too few to hold any out.
    """
    if len(table) < max(count, 20):
        raise UnusableTable(
            f"{table.name} has {len(table)} rows; {count} seeds need at least {max(count, 20)}"
        )
    each = [_fold(table, *rows) for rows in splits(len(table), count)]
    return Folds(*map(np.stack, zip(*each, strict=True)))


def _fold(table: Table, train: np.ndarray, test: np.ndarray) -> Folds:
    x, y = table.features[train], table.target[train]
    if is_constant(y[:, None])[0]:
        raise UnusableTable(f"{table.name}: the target is constant in a training split")
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
