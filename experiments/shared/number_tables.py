"""Tables in text files: where they are, what is in them, and where in them something is wrong."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np


class TableError(ValueError):
    """What is wrong with a file; the message names file, line and column."""


class Row(NamedTuple):
    line: int
    cells: list[str]  # without blanks and quotes around them


def find(paths: Sequence[Path], suffixes: Sequence[str]) -> list[Path]:
    """The files among `paths`, and those with one of the suffixes in folders among them.

    Raises:
      FileNotFoundError: for what is not there, or a folder without tables.
      ValueError: if two tables have the same name; results are kept under it.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"there is no file or folder {path}")
        inside = sorted(p for p in path.rglob("*") if p.suffix in suffixes) if path.is_dir() else []
        if path.is_dir() and not inside:
            raise FileNotFoundError(f"{path} holds no table (looked for {', '.join(suffixes)})")
        files += inside or [path]
    for name, count in Counter(path.stem for path in files).items():
        if count > 1:
            raise ValueError(f"{count} files are called {name}; give them one by one")
    return files


def text(path: Path) -> str:
    """What is in a file, or `TableError` if it is not text in UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise TableError(f"{path} is not text in UTF-8: {error}") from error


def delimited(lines: str) -> tuple[list[str], list[Row]]:
    """Names of the columns, and rows whose cells are separated by semicolons, commas or blanks.

    A first row without any number is a header.
    """
    rows = [Row(number, _cells(line)) for number, line in enumerate(lines.splitlines(), 1)]
    rows = [row for row in rows if any(row.cells)]
    first = rows[0].cells if rows else []
    header = all(_number(cell) is None for cell in first)
    names = [(header and cell) or f"column {k}" for k, cell in enumerate(first, 1)]
    return names, rows[1:] if header else rows


def _cells(line: str) -> list[str]:
    separator = next((each for each in ";," if each in line), None)
    if separator is None:
        return [bare(cell) for cell in line.split()]  # some published files mix blanks and tabs
    reader = csv.reader([line.strip()], delimiter=separator, skipinitialspace=True)
    return [bare(cell) for cell in next(reader)]


def bare(cell: str) -> str:
    """A cell without blanks and quotes around it."""
    return cell.strip().strip("'\"").strip()


def require_width(path: Path, rows: Sequence[Row], width: int) -> None:
    """Raise `TableError` for the first row that has not `width` cells."""
    for row in rows:
        if len(row.cells) != width:
            raise TableError(f"{path}, line {row.line}: {len(row.cells)} columns, expected {width}")


def numbers(path: Path, name: str, rows: Sequence[Row], place: int) -> np.ndarray:
    """The column called `name`, float64 [n]; `TableError` for a cell that is no finite number."""
    values = np.empty(len(rows))
    for k, row in enumerate(rows):
        cell = row.cells[place]
        if cell in ("", "?"):
            raise wrong(path, row, name, "a value is missing; fill it in, or leave the row out")
        value = _number(cell)
        if value is None or not math.isfinite(value):
            raise wrong(path, row, name, f"must be a finite number, got {cell!r}")
        values[k] = value
    return values


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def wrong(path: Path, row: Row, name: str, what: str) -> TableError:
    """What is wrong with a cell, with its place before it."""
    return TableError(f"{path}, line {row.line}, {name}: {what}")
