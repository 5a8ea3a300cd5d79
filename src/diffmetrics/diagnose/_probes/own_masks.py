"""Whether the masks of a batch of the user's lie as its predictions, and belong to its images."""

from __future__ import annotations

import numpy as np

from diffmetrics.diagnose import _masks
from diffmetrics.diagnose._batch import CLASSES, DECISIONS, Batch
from diffmetrics.diagnose._forms import OWN
from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding
from diffmetrics.diagnose._subject import OwnBatch


@probe("masks", (OWN,), rank=4.5)
def masks(batch: OwnBatch) -> Finding | None:
    """Whether they are transposed, flipped, or of other images."""
    z = batch.form.predictions()
    y = np.asarray(batch.form.targets())
    return _place(np.asarray(z, np.float64), y) if hasattr(z, "shape") else None


@probe("masks", (DECISIONS, CLASSES), rank=4.5)
def masks_alone(batch: Batch) -> Finding | None:
    """The same, without a loss."""
    return _place(batch.logits, batch.labels)


def _place(logits: np.ndarray, labels: np.ndarray) -> Finding | None:
    found = None
    if logits.shape == labels.shape:
        found = _masks.decisions(logits, labels)
    elif labels.shape == logits.shape[:-1] and labels.dtype.kind in "iu":
        found = _masks.classes(logits, labels)
    return found and _masks.misplaced(*found)
