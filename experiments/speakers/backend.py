"""What speaker verification does to embeddings before it compares them.

`Whitening` takes away what differs between segments of one speaker (within-class covariance
normalisation: Hatch, Kajarekar and Stolcke, 2006). It is learnt from the training speakers, so it
may be applied to any network; and to embeddings that have collapsed it gives no more than they
hold. A loss that has made the embeddings alike in all directions by itself does not need it, so
the development speakers say how much of it there should be.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.speakers import measure
from experiments.speakers.measure import Heard

SHRINKAGES = (1.0, 0.5, 0.2, 0.1, 0.05, 0.0)  # none, then more and more
RIDGE = 1e-3  # of the mean variance, added to every direction


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


def whitening(embeddings: np.ndarray, speakers: np.ndarray, shrinkage: float = 0.0) -> Whitening:
    """The whitening in which segments of one speaker vary as much in every direction.

    Args:
      embeddings: [n, D] of segments.
      speakers: ids [n].
      shrinkage: from 0 to 1, how far the covariance within speakers, in units of its mean variance,
        is drawn towards the identity. At 1 it is that, and embeddings stay as they are.
    """
    x = np.asarray(embeddings, np.float64)
    ids, places = np.unique(speakers, return_inverse=True)
    sums = np.zeros((len(ids), x.shape[1]))
    np.add.at(sums, places, x)
    within = x - (sums / np.bincount(places)[:, None])[places]
    covariance = within.T @ within / max(len(x) - len(ids), 1)
    values, directions = np.linalg.eigh(covariance)
    values = np.maximum(values, 0.0) / (values.mean() + 1e-12) + RIDGE
    values = (1.0 - shrinkage) * values + shrinkage
    mean = x.mean(0) if shrinkage < 1.0 else np.zeros(x.shape[1])
    return Whitening(mean, directions / np.sqrt(values) @ directions.T)


class Tuned(NamedTuple):
    whitening: Whitening
    shrinkage: float
    dev_eer: dict[float, float]
    """Of each shrinkage."""


def tune(train: Heard, dev: Heard) -> Tuned:
    """As much whitening as has the least equal error rate of the development speakers.

    That rate looks at all pairs, so one choice serves verification and every linkage, and it has no
    threshold. The misclassification rate is of one linkage, has been minimised over thresholds
    already, and moves in steps of an utterance. Of equals, the least whitening is taken.
    """
    made = {share: whitening(train.segments, train.segment_speakers, share) for share in SHRINKAGES}
    rates = {
        share: measure.verify(white(dev.utterances), dev.speakers)["eer"]
        for share, white in made.items()
    }
    best = min(SHRINKAGES, key=rates.__getitem__)
    return Tuned(made[best], best, rates)
