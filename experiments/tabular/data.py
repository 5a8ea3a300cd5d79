"""Tables of numbers with one or several yes-or-no labels, read with care."""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.shared import number_tables
from experiments.shared.number_tables import Row, TableError, bare

SUFFIXES = (".csv", ".dat", ".arff")
LEAST = 6  # examples of either class: two for each of three parts


@dataclasses.dataclass(frozen=True)
class Table:
    """Features, and labels of which the rare side is positive."""

    name: str
    features: np.ndarray
    """float64 [n, d]"""
    labels: np.ndarray
    """bool [n, L]"""
    label_names: tuple[str, ...]
    repeated: int = 0
    """Rows that were left out because they repeat another, label included."""
    thinned: float | None = None
    """Share of positives in training and validation, where there are more than that."""

    def __str__(self) -> str:
        n, d = self.features.shape
        what = f"{self.labels.mean():.1%} positive"
        if self.thinned:
            what += f", thinned to {self.thinned:.0%}"
        if self.labels.shape[1] > 1:
            what = f"{self.labels.shape[1]} labels, on average {what}"
        left = f"; {self.repeated} rows that repeat another left out" if self.repeated else ""
        return f"{self.name}: {n} rows, {d} features, {what}{left}"


def breast_cancer() -> Table:
    """Wisconsin's breast-cancer set, which scikit-learn brings along, with 2 % malignant."""
    from sklearn.datasets import load_breast_cancer

    features, benign = load_breast_cancer(return_X_y=True)
    malignant = np.asarray(benign)[:, None] == 0
    return Table("breast_cancer", np.asarray(features), malignant, ("malignant",), thinned=0.02)


def open_tables(paths: Sequence[Path], labels: int | None) -> list[Table]:
    """The tables of files and of folders of them; without any, the built-in one.

    Raises:
      FileNotFoundError: for what is not there, or a folder without tables.
      TableError: naming file, row and column.
      ValueError: if two tables have the same name.
    """
    files = number_tables.find(paths, SUFFIXES)
    return [read_table(path, labels) for path in files] or [breast_cancer()]


def read_table(path: Path, labels: int | None = None) -> Table:
    """Read a CSV, a KEEL .dat or an ARFF file; its last columns are the labels.

    Args:
      path: file. A CSV may have a header, and all of its columns but the last are numbers. In the
        other two, nominal features become an indicator for each value.
      labels: number of label columns; default 1, in an ARFF file all of its last 0/1 columns.

    Raises:
      TableError: if a value is missing, not a number or not finite, if a row has another
        number of columns, or a label other than two values or fewer than six rows of one of them.
    """
    if path.suffix not in SUFFIXES:
        raise TableError(f"{path} is none of {', '.join(SUFFIXES)}")
    text = number_tables.text(path)
    if path.suffix == ".csv":
        names, rows = number_tables.delimited(text)
        columns = [_Column(name) for name in names]
    else:
        columns, rows = _arff(path, text)
    if not rows:
        raise TableError(f"{path} has no rows")
    number_tables.require_width(path, rows, len(columns))
    number = labels or (_trailing_flags(columns) if path.suffix == ".arff" else 1)
    if not 0 < number < len(columns):
        raise TableError(f"{path} has {len(columns)} columns, which leaves no {number} labels")
    features = np.concatenate(
        [_feature(path, column, rows, k) for k, column in enumerate(columns[:-number])], 1
    )
    first = len(columns) - number
    flags = np.stack([_label(path, columns[k], rows, k) for k in range(first, len(columns))], 1)
    _, kept = np.unique(np.column_stack([features, flags]), axis=0, return_index=True)
    kept.sort()
    table = Table(
        path.stem,
        features[kept],
        flags[kept],
        tuple(column.name for column in columns[-number:]),
        repeated=len(rows) - len(kept),
    )
    for name, flag in zip(table.label_names, table.labels.T, strict=True):
        few = min(flag.sum(), (~flag).sum())
        if few < LEAST:
            raise TableError(
                f"{path}: {name} has {few} different rows of its rarer class; {LEAST} is the least "
                "with which training, validation and test can have two each"
            )
    return table


@dataclasses.dataclass(frozen=True)
class _Column:
    name: str
    values: tuple[str, ...] | None = None
    """Of a nominal attribute."""


def _arff(path: Path, text: str) -> tuple[list[_Column], list[Row]]:
    """ARFF, sparse rows included, and KEEL's dialect, which adds ranges and other `@` lines."""
    columns: list[_Column] = []
    rows: list[Row] = []
    data = False
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("%"):
            continue
        word = line.split(maxsplit=1)[0].lower()
        if data:
            rows.append(Row(number, _cells(path, number, line, columns)))
        elif word == "@data":
            data = True
        elif word == "@attribute":
            found = re.match(r"@\w+\s+('[^']*'|\"[^\"]*\"|[^\s{]+)\s*(.+)", line)
            if not found:
                raise TableError(f"{path}, line {number}: not an attribute: {line}")
            name, kind = bare(found[1]), found[2].strip()
            nominal = kind.startswith("{")
            if not nominal and kind.split()[0].lower() not in ("numeric", "real", "integer"):
                raise TableError(f"{path}, line {number}: {name} is {kind}, not a number")
            values = kind.strip("{} ").split(",")
            columns.append(_Column(name, tuple(map(bare, values)) if nominal else None))
    if not data or not columns:
        raise TableError(f"{path} has no {'attributes' if data else '@data'}")
    return columns, rows


def _cells(path: Path, number: int, line: str, columns: Sequence[_Column]) -> list[str]:
    if not line.startswith("{"):
        return [bare(cell) for cell in next(csv.reader([line], quotechar="'"))]
    cells = [column.values[0] if column.values else "0" for column in columns]
    for pair in filter(None, line.strip("{} ").split(",")):
        place, _, value = pair.strip().partition(" ")
        if not (place.isdigit() and int(place) < len(cells)):
            raise TableError(f"{path}, line {number}: no attribute has the number {place}")
        cells[int(place)] = bare(value)
    return cells


def _trailing_flags(columns: Sequence[_Column]) -> int:
    number = 0
    for column in reversed(columns):
        if not column.values or set(column.values) != {"0", "1"}:
            break
        number += 1
    return max(number, 1)


def _feature(path: Path, column: _Column, rows: Sequence[Row], k: int) -> np.ndarray:
    """One column of numbers, or an indicator for each nominal value."""
    if column.values is not None:
        for row in rows:
            if row.cells[k] not in column.values:
                raise number_tables.wrong(
                    path, row, column.name, f"{row.cells[k]!r} is none of {column.values}"
                )
        cells = np.array([row.cells[k] for row in rows])
        return np.stack([cells == value for value in column.values], 1).astype(np.float64)
    return number_tables.numbers(path, column.name, rows, k)[:, None]


def _label(path: Path, column: _Column, rows: Sequence[Row], k: int) -> np.ndarray:
    """Which rows are positive: of 0 and 1 those with 1, of other values the rarer."""
    cells = np.array([row.cells[k] for row in rows])
    values, counts = np.unique(cells, return_counts=True)
    if len(values) != 2:
        shown = ", ".join(map(str, values[:5])) + (", …" if len(values) > 5 else "")
        raise TableError(
            f"{path}, {column.name}: a label has two values, this has {len(values)}: {shown}"
        )
    if set(values) == {"0", "1"}:
        return cells == "1"
    return cells == values[::-1][np.argmin(counts[::-1])]
