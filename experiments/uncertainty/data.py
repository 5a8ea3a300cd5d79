"""Tables of numbers whose last column is the target, and the splits of the published protocol."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def open_tables(path: Path) -> list[Table]:
    """The table in a file, or every table in a folder, by name.

    Raises:
      FileNotFoundError: if there is none.
      UnusableTable: naming the first file, row and column that cannot be used.
    """
    if path.is_dir():
        files = sorted(each for each in path.iterdir() if each.suffix in SUFFIXES)
        if not files:
            raise FileNotFoundError(f"{path} holds no table (looked for {', '.join(SUFFIXES)})")
        return [read_table(each) for each in files]
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    return [read_table(path)]


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
            if value is None:
                raise UnusableTable(
                    f"{path}, line {number}: {header[column]} must be a number, "
                    f"got {cell.strip()!r}"
                )
            if not np.isfinite(value):
                raise UnusableTable(
                    f"{path}, line {number}: {header[column]} must be finite, got {cell.strip()}"
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

    Raises:
      ValueError: if there are fewer rows than splits, or too few to hold any out.
    """
    if count < 1:
        raise ValueError(f"splits must be at least 1, got {count}")
    if rows < max(count, 20):
        raise ValueError(
            f"{rows} rows are too few: {count} splits need at least {max(count, 20)} rows"
        )
    generator = np.random.RandomState(1)
    for _ in range(count):
        order = generator.choice(rows, rows, replace=False)
        kept = round(rows * 9 / 10)
        yield order[:kept], order[kept:]


@dataclasses.dataclass(frozen=True)
class Folds:
    """Every split of a table, stacked, standardised by its own training rows."""

    name: str
    train_x: np.ndarray  # float32 [S, n, d]
    train_y: np.ndarray  # float32 [S, n]
    test_x: np.ndarray  # float32 [S, m, d]
    test_y: np.ndarray  # float64 [S, m], in the units of the file
    center: np.ndarray  # float64 [S], mean of the training targets
    scale: np.ndarray  # float64 [S], their deviation


def folds(table: Table, count: int) -> Folds:
    """The first `count` published splits of a table."""
    parts: dict[str, list] = {name: [] for name in ("x", "y", "test_x", "test_y", "mean", "scale")}
    for train, test in splits(len(table), count):
        x, y = table.features[train], table.target[train]
        center, spread = x.mean(axis=0), x.std(axis=0)
        # Constant among the training rows of this split: no information, so all zeros.
        same = is_constant(x)
        spread = np.where(same, 1.0, spread)
        keep = ~same
        parts["x"].append((x - center) / spread * keep)
        parts["test_x"].append((table.features[test] - center) / spread * keep)
        scale = y.std()
        if is_constant(y[:, None])[0]:
            raise UnusableTable(f"{table.name}: the target is constant in a training split")
        parts["y"].append((y - y.mean()) / scale)
        parts["test_y"].append(table.target[test])
        parts["mean"].append(y.mean())
        parts["scale"].append(scale)
    stacked = {key: np.stack(value) for key, value in parts.items()}
    return Folds(
        name=table.name,
        train_x=stacked["x"].astype(np.float32),
        train_y=stacked["y"].astype(np.float32),
        test_x=stacked["test_x"].astype(np.float32),
        test_y=stacked["test_y"],
        center=stacked["mean"],
        scale=stacked["scale"],
    )
