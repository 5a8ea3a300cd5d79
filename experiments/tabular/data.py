"""Tables of numbers with one or several yes-or-no labels, read with care and split by strata."""

from __future__ import annotations

import csv
import dataclasses
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

SUFFIXES = (".csv", ".dat", ".arff")
LEAST = 6  # examples of either class: two for each of three parts


class TableError(ValueError):
    """What is wrong with a file, and where."""


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


# --- reading --------------------------------------------------------------------------------------


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
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"there is no file or folder {path}")
        inside = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES) if path.is_dir() else []
        if path.is_dir() and not inside:
            raise FileNotFoundError(f"{path} holds no {', '.join(SUFFIXES)} file")
        files += inside or [path]
    names = [path.stem for path in files]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{names.count(name)} files are called {name}; give them one by one")
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
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise TableError(f"{path} is not text in UTF-8: {error}") from error
    columns, rows = _csv(path, text) if path.suffix == ".csv" else _arff(path, text)
    if not rows:
        raise TableError(f"{path} has no rows")
    for row in rows:
        if len(row.cells) != len(columns):
            raise TableError(
                f"{path}, line {row.line}: {len(row.cells)} columns, where there should be "
                f"{len(columns)}"
            )
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


@dataclasses.dataclass(frozen=True)
class _Row:
    line: int
    cells: list[str]


def _csv(path: Path, text: str) -> tuple[list[_Column], list[_Row]]:
    lines = csv.reader(text.splitlines(), skipinitialspace=True)
    rows = [_Row(lines.line_num, [_bare(cell) for cell in cells]) for cells in lines if any(cells)]
    header = rows and not any(_is_number(cell) for cell in rows[0].cells)
    names = (
        rows[0].cells
        if header
        else [f"column {k + 1}" for k in range(len(rows[0].cells))]
        if rows
        else []
    )
    return [_Column(name) for name in names], rows[1:] if header else rows


def _arff(path: Path, text: str) -> tuple[list[_Column], list[_Row]]:
    """ARFF, sparse rows included, and KEEL's dialect, which adds ranges and other `@` lines."""
    columns: list[_Column] = []
    rows: list[_Row] = []
    data = False
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("%"):
            continue
        word = line.split(maxsplit=1)[0].lower()
        if data:
            rows.append(_Row(number, _cells(path, number, line, columns)))
        elif word == "@data":
            data = True
        elif word == "@attribute":
            found = re.match(r"@\w+\s+('[^']*'|\"[^\"]*\"|[^\s{]+)\s*(.+)", line)
            if not found:
                raise TableError(f"{path}, line {number}: not an attribute: {line}")
            name, kind = _bare(found[1]), found[2].strip()
            nominal = kind.startswith("{")
            if not nominal and kind.split()[0].lower() not in ("numeric", "real", "integer"):
                raise TableError(f"{path}, line {number}: {name} is {kind}, not a number")
            values = kind.strip("{} ").split(",")
            columns.append(_Column(name, tuple(map(_bare, values)) if nominal else None))
    if not data or not columns:
        raise TableError(f"{path} has no {'attributes' if data else '@data'}")
    return columns, rows


def _cells(path: Path, number: int, line: str, columns: Sequence[_Column]) -> list[str]:
    if not line.startswith("{"):
        return [_bare(cell) for cell in next(csv.reader([line], quotechar="'"))]
    cells = [column.values[0] if column.values else "0" for column in columns]
    for pair in filter(None, line.strip("{} ").split(",")):
        place, _, value = pair.strip().partition(" ")
        if not (place.isdigit() and int(place) < len(cells)):
            raise TableError(f"{path}, line {number}: no attribute has the number {place}")
        cells[int(place)] = _bare(value)
    return cells


def _bare(cell: str) -> str:
    return cell.strip().strip("'\"").strip()


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _trailing_flags(columns: Sequence[_Column]) -> int:
    number = 0
    for column in reversed(columns):
        if not column.values or set(column.values) != {"0", "1"}:
            break
        number += 1
    return max(number, 1)


def _feature(path: Path, column: _Column, rows: Iterable[_Row], k: int) -> np.ndarray:
    """One column of numbers, or an indicator for each nominal value."""
    if column.values is not None:
        for row in rows:
            if row.cells[k] not in column.values:
                raise _wrong(path, row, column, f"{row.cells[k]!r} is none of {column.values}")
        cells = np.array([row.cells[k] for row in rows])
        return np.stack([cells == value for value in column.values], 1).astype(np.float64)
    numbers = []
    for row in rows:
        cell = row.cells[k]
        if cell in ("", "?"):
            raise _wrong(path, row, column, "a value is missing; fill it in, or leave the row out")
        if not _is_number(cell):
            raise _wrong(path, row, column, f"{cell!r} is not a number")
        if not math.isfinite(float(cell)):
            raise _wrong(path, row, column, f"{cell} is not finite")
        numbers.append(float(cell))
    return np.array(numbers)[:, None]


def _label(path: Path, column: _Column, rows: Sequence[_Row], k: int) -> np.ndarray:
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


def _wrong(path: Path, row: _Row, column: _Column, what: str) -> TableError:
    return TableError(f"{path}, line {row.line}, {column.name}: {what}")


# --- splitting ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Splits:
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
