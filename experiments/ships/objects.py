"""From a mask to objects, and the challenge's score of objects."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

# IoU thresholds .50, .55, .. .95 in twentieths: whole numbers make "IoU > threshold" exact.
_TWENTIETHS = np.arange(10, 20)


def components(mask: np.ndarray, min_area: int = 0, *, connectivity: int = 1) -> np.ndarray:
    """Splits a mask into its connected objects.

    Args:
        mask: (H, W), non-zero is object.
        min_area: objects with fewer pixels are dropped.
        connectivity: 1 joins the 4 neighbours, 2 also the diagonal ones, which glues more of the
            ships that lie side by side in a harbour.

    Returns:
        int32 (H, W): 0 background, k = 1..n the k-th object.
    """
    if mask.ndim != 2:
        raise ValueError(f"mask has shape {mask.shape}, expected (height, width)")
    labels = np.empty(mask.shape, np.int32)
    ndimage.label(mask, ndimage.generate_binary_structure(2, connectivity), output=labels)
    kept = np.bincount(labels.ravel()) >= min_area
    kept[0] = False
    return (kept.cumsum(dtype=np.int32) * kept)[labels]


def airbus_f2(predicted_instances: np.ndarray, true_instances: np.ndarray) -> float:
    """Scores the objects of one image as the Airbus challenge does.

    A predicted and a true object match if their IoU is *above* t. The score is the mean over
    t = .50, .55, .. .95 of

        F2(t) = 5 TP / (5 TP + 4 FN + FP)

    An image without ships scores 1 if nothing is predicted and 0 otherwise. The challenge's score
    is the mean over images.

    Args:
        predicted_instances: integer (H, W), 0 background, each other number an object.
        true_instances: the same for the truth.

    Source: Kaggle, Airbus Ship Detection Challenge (2018), "Evaluation".
    """
    if predicted_instances.shape != true_instances.shape or true_instances.ndim != 2:
        raise ValueError(
            f"predicted_instances {predicted_instances.shape} and true_instances "
            f"{true_instances.shape} differ in shape or are not (height, width)"
        )
    predicted = _numbered(predicted_instances, "predicted_instances")
    true = _numbered(true_instances, "true_instances")
    is_predicted, is_true = predicted > 0, true > 0
    predicted_areas, true_areas = np.bincount(predicted[is_predicted]), np.bincount(true[is_true])
    n_predicted, n_true = np.count_nonzero(predicted_areas), np.count_nonzero(true_areas)
    if n_predicted == n_true == 0:
        return 1.0

    # The contingency table, sparse: an early model predicts thousands of specks.
    both = is_predicted & is_true
    pairs = predicted[both].astype(np.int64) * true_areas.size + true[both]
    pairs, shared = np.unique(pairs, return_counts=True)
    union = predicted_areas[pairs // true_areas.size] + true_areas[pairs % true_areas.size] - shared
    # Objects do not overlap, so above 1/2 a match is the only one of both its objects.
    tp = np.count_nonzero(20 * shared[:, None] > _TWENTIETHS * union[:, None], axis=0)
    return float(np.mean(5 * tp / (5 * tp + 4 * (n_true - tp) + (n_predicted - tp))))


def _numbered(instances: np.ndarray, argument: str) -> np.ndarray:
    # A boolean mask would pass as one big object.
    if not np.issubdtype(instances.dtype, np.integer):
        raise TypeError(f"{argument} is {instances.dtype}, expected integers as of components()")
    return instances.ravel()
