"""Tables of measured figures, for a terminal and for a README."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

Mean = tuple[float, float]  # mean, standard error


def mean(values: Sequence[float]) -> Mean:
    """Mean and standard error; the error of one value is NaN."""
    error = np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return float(np.mean(values)), float(error)


def cell(figure: Mean, digits: int = 2) -> str:
    """A figure with its standard error, if there is one."""
    value, error = figure
    shown = f"{value:.{digits}f}"
    return shown if math.isnan(error) else f"{shown} ±{error:.{digits}f}"


def show(
    columns: Sequence[str],
    lines: Iterable[Sequence[str]],
    title: str,
    console: Console,
    *,
    section: int | None = None,
) -> None:
    """Print lines of text, a rule after every `section` of them.

    By default a rule stands before every line whose first cell is not empty.
    """
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    for k, column in enumerate(columns):
        table.add_column(column, justify="right" if k else "left", no_wrap=True)
    for k, line in enumerate(lines):
        if line[0] if section is None else k % section == 0:
            table.add_section()
        table.add_row(*line)
    # A terminal that is too narrow wraps the lines; a table that is made to fit would lose figures.
    ample = Console(file=console.file, width=200)
    needed = Measurement.get(ample, ample.options, table).maximum
    Console(file=console.file, width=max(console.width, needed)).print(table)


def markdown(columns: Sequence[str], lines: Iterable[Sequence[str]], title: str) -> str:
    """The table for a README, with what was run above it."""
    rows = [columns, ["---"] * len(columns), *lines]
    return f"{title}\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows)
