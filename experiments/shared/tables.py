"""Tables of measured figures, for a terminal and for a README."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from scipy import stats

Mean = tuple[float, float]  # mean, standard error


def mean(values: Sequence[float]) -> Mean:
    """Mean and standard error; the error of one value is NaN."""
    error = np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return float(np.mean(values)), float(error)


def difference(values: ArrayLike, reference: ArrayLike, *, overlap: float = 0.0) -> Mean:
    """Mean of the paired differences of two methods on the same splits, and its standard error.

    Args:
      values: of a method [splits].
      reference: of the one to compare with [splits].
      overlap: test rows for each other row, where splits are drawn anew from the same rows: they
        share rows, so they are not independent, and the error is larger (Nadeau and Bengio,
        Inference for the generalization error, Machine Learning 52, 2003).
    """
    change = np.asarray(values, float) - np.asarray(reference, float)
    spread = change.std(ddof=1) if len(change) > 1 else math.nan
    return float(change.mean()), float(spread * math.sqrt(1.0 / len(change) + overlap))


def clear(figure: Mean) -> bool:
    """Whether a difference exceeds two of its standard errors."""
    return abs(figure[0]) > 2.0 * figure[1]


def differences(
    found: Sequence[dict[str, Any]],
    reference: Sequence[dict[str, Any]],
    compared: Mapping[str, tuple[str, ...]],
    *,
    overlap: float = 0.0,
) -> dict[str, Mean]:
    """Paired differences of some figures of two methods, by what they are called.

    Args:
      found: results of a method, one a split.
      reference: those of the other, on the same splits.
      compared: what a figure is called, to the keys under which it lies in a result.
      overlap: as in `difference`.
    """

    def values(results: Sequence[dict[str, Any]], path: tuple[str, ...]) -> list[float]:
        listed: list[Any] = list(results)
        for key in path:
            listed = [each.get(key) if each else None for each in listed]
        return [math.nan if each is None else float(each) for each in listed]

    return {
        name: difference(values(found, path), values(reference, path), overlap=overlap)
        for name, path in compared.items()
    }


FEW = 5  # splits, with fewer than which two standard errors mean little


def against(
    results: Mapping[str, Sequence[dict[str, Any]]],
    reference: str,
    compared: Mapping[str, tuple[str, ...]],
    *,
    overlap: float = 0.0,
) -> Iterator[str]:
    """In words, which methods differ from one of them by more than two standard errors.

    Args:
      results: of each method, one a split; a split that failed for either is left out.
      reference: the method to compare with.
      compared: what a figure is called, to the keys under which it lies in a result.
      overlap: as in `difference`.
    """
    base = results.get(reference, ())
    if base and len(base) < FEW:
        yield f"{count(len(base), 'seed')}: too few to tell differences from chance"
        return
    beyond, chance = [], 0.0
    for method, found in results.items():
        pairs = [
            pair
            for pair in zip(found, base, strict=False)
            if not any("failed" in result for result in pair)
        ]
        if method == reference or len(pairs) < FEW:
            continue
        ours, theirs = zip(*pairs, strict=True)
        differ = differences(ours, theirs, compared, overlap=overlap)
        told = [
            f"{name} {mean:+.3f} ±{error:.3f}"
            for name, (mean, error) in differ.items()
            if clear((mean, error))
        ]
        beyond += told
        chance += len(differ) * 2.0 * stats.t.sf(2.0, len(pairs) - 1)
        said = ", ".join(told) or "nothing beyond two standard errors"
        yield f"{method} less {reference}, same seeds: {said}"
    if chance:
        yield f"{count(len(beyond), 'difference')} in all; about {chance:.0f} would be chance"


def means(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard error of every number in dictionaries of one form, nested ones included.

    What one of them lacks is NaN there; what is no number is left out.
    """
    row: dict[str, Any] = {}
    for key in dict.fromkeys(key for each in found for key in each):
        values = [each.get(key) for each in found]
        if any(isinstance(value, dict) for value in values):
            row[key] = means([value or {} for value in values])
        elif all(value is None or isinstance(value, (int, float)) for value in values):
            row[key] = mean([math.nan if value is None else value for value in values])
    return row


def count(number: int, what: str) -> str:
    """A number with its noun: 1 seed, 2 seeds."""
    return f"{number} {what}{'s' * (number != 1)}"


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
