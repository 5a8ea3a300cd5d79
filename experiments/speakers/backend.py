"""What speaker verification does to embeddings before it compares them.

`Whitening` takes away what differs between segments of one speaker (within-class covariance
normalisation: Hatch, Kajarekar and Stolcke, 2006). It is learnt from the training speakers, so it
may be applied to any network; and to embeddings that have collapsed it gives no more than they
hold.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.speakers.measure import Heard


class Whitening(NamedTuple):
    mean: np.ndarray
    """[D], subtracted first."""
    matrix: np.ndarray
    """[D, D], multiplied from the right."""

    def __call__(self, embeddings: np.ndarray) -> np.ndarray:
        return (embeddings - self.mean) @ self.matrix

    def of(self, heard: Heard) -> Heard:
        return heard._replace(utterances=self(heard.utterances), segments=self(heard.segments))

    def save(self, path: Path) -> None:
        np.savez_compressed(path, **self._asdict())

    @classmethod
    def load(cls, path: Path) -> Whitening:
        with np.load(path) as file:
            return cls(**file)


RIDGE = 1e-3  # of the mean variance, added to every direction


def whitening(embeddings: np.ndarray, speakers: np.ndarray) -> Whitening:
    """The whitening in which segments of one speaker vary as much in every direction.

    Args:
      embeddings: [n, D] of segments.
      speakers: ids [n].
    """
    x = np.asarray(embeddings, np.float64)
    ids, places = np.unique(speakers, return_inverse=True)
    sums = np.zeros((len(ids), x.shape[1]))
    np.add.at(sums, places, x)
    within = x - (sums / np.bincount(places)[:, None])[places]
    covariance = within.T @ within / max(len(x) - len(ids), 1)
    level = np.trace(covariance) / len(covariance)
    values, directions = np.linalg.eigh(covariance)
    values = np.maximum(values, 0.0) + RIDGE * level + 1e-12
    return Whitening(x.mean(0), directions / np.sqrt(values))
