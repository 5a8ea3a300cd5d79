"""Submission files read back."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from experiments.ships.run_length import paint, read_runs


def read_submission(path: Path, shape: tuple[int, int]) -> Iterator[tuple[str, np.ndarray]]:
    """Each image's name and instance map."""
    for name, objects in read_runs(path, shape).items():
        yield name, paint(objects, shape)
