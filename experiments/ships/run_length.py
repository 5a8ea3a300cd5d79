"""The challenge's masks: text such as "3 2 11 4", and the CSV files made of them.

"start length" pairs count pixels from 1, **down the columns, then right**. A file has the columns
`ImageId,EncodedPixels`, one row an object, and one blank row for an image without objects.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np

COLUMNS = ("ImageId", "EncodedPixels")

# Runs are int32 (n, 2): 0-based first pixel and length, in the order of the pixels.
Runs = np.ndarray


def encode(mask: np.ndarray) -> str:
    """Writes the non-zero pixels of a mask (H, W) as "start length ..."; blank if there are none.

    >>> encode(np.array([[0, 1], [1, 1]]))
    '2 3'
    """
    if mask.ndim != 2:
        raise ValueError(f"mask has shape {mask.shape}, expected (height, width)")
    columns = np.pad((mask != 0).ravel(order="F"), 1)
    edges = np.flatnonzero(columns[1:] != columns[:-1])
    starts, ends = edges[::2], edges[1::2]
    return " ".join(map(str, np.stack([starts + 1, ends - starts], axis=1).ravel().tolist()))


def decode(text: str, shape: tuple[int, int]) -> np.ndarray:
    """Reads "start length ..." into a boolean mask of shape (H, W).

    Raises:
        ValueError: an odd count, no integer, a run outside of the image, or runs that overlap.
    """
    return paint([parse(text, shape)], shape) > 0


def parse(text: str, shape: tuple[int, int]) -> Runs:
    """Reads and checks "start length ..." without making a mask; blank gives no runs."""
    if not text.strip():  # two thirds of the challenge's rows
        return np.zeros((0, 2), np.int32)
    try:
        numbers = np.array(text.split(), dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"expected whole numbers 'start length ...': {error}") from None
    if numbers.size % 2:
        raise ValueError(f"{numbers.size} numbers, expected pairs 'start length ...'")
    runs = numbers.reshape(-1, 2)[np.argsort(numbers[::2])]
    starts, lengths = runs.T
    size = shape[0] * shape[1]

    def refuse(bad: np.ndarray, problem: str) -> None:
        if bad.any():
            start, length = runs[bad.argmax()]
            raise ValueError(f"run '{start} {length}' {problem}")

    refuse(starts < 1, "starts before pixel 1")
    refuse(lengths < 1, "has no pixels, expected a length of 1 or more")
    # `starts + lengths` could overflow; the right-hand side cannot.
    refuse(lengths > size + 1 - starts, f"ends after the last pixel, {size}")
    refuse(starts[1:] < (starts + lengths)[:-1], "overlaps the run that follows it")
    return np.stack([starts - 1, lengths], axis=1).astype(np.int32)


def paint(objects: Iterable[Runs], shape: tuple[int, int]) -> np.ndarray:
    """Draws objects into an int32 map (H, W): 0 background, k the k-th object.

    Where objects overlap, the pixel stays with the first. One that is hidden entirely gets no
    number, so that the numbers are 1..n without a gap.
    """
    flat = np.zeros(shape[0] * shape[1], np.int32)
    count = 0
    for runs in objects:
        starts, lengths = runs.T
        # Pixel j of all runs laid end to end, moved to where its own run starts.
        pixels = np.arange(lengths.sum()) + np.repeat(starts - lengths.cumsum() + lengths, lengths)
        free = pixels[flat[pixels] == 0]
        if free.size:
            count += 1
            flat[free] = count
    return np.ascontiguousarray(flat.reshape(shape[::-1]).T)


def read_runs(path: str | Path, shape: tuple[int, int]) -> dict[str, list[Runs]]:
    """Reads a CSV of run lengths: image name to its objects, in the order of the file.

    Raises:
        ValueError: a column is missing or a row is bad; the message names the row as an editor
            counts it (the header is row 1), the image and the problem.
    """
    images: dict[str, list[Runs]] = {}
    # The module's default of 128 KiB a field is less than one ragged mask; the setting is global.
    csv.field_size_limit(max(csv.field_size_limit(), 8 * shape[0] * shape[1]))
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file)
        try:
            header = next(rows, [])
            if missing := [column for column in COLUMNS if column not in header]:
                raise ValueError(f"no column {', '.join(missing)}; the header is {header}")
            name_at, runs_at = map(header.index, COLUMNS)
            for row in rows:
                if not row:  # an empty line, usually the last
                    continue
                if len(row) != len(header):
                    raise ValueError(f"{len(row)} fields, expected {len(header)}: {row[:4]}")
                _add(images, row[name_at], row[runs_at], shape)
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{path}, row {rows.line_num}: {error}") from None
    return images


def _add(images: dict[str, list[Runs]], name: str, text: str, shape: tuple[int, int]) -> None:
    if not name:
        raise ValueError("no image name")
    try:
        runs = parse(text, shape)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if name in images and bool(images[name]) != bool(runs.size):
        raise ValueError(f"{name}: has a blank row (no objects) and a row with an object")
    images.setdefault(name, []).extend([runs] if runs.size else [])


def write_submission(path: str | Path, rows: Iterable[tuple[str, np.ndarray]]) -> None:
    """Writes (image name, instance map) pairs: a row an object, a blank row where there is none."""
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for name, instances in rows:
            numbers = np.unique(instances[instances > 0])
            table.writerows((name, encode(instances == number)) for number in numbers)
            if not numbers.size:
                table.writerow((name, ""))
