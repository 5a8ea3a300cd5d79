"""From a mask to objects, and the challenge's score of objects."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

# IoU thresholds .50, .55, .. .95 in twentieths: whole numbers make "IoU > threshold" exact.
_TWENTIETHS = np.arange(10, 20)

Numbers = np.ndarray | int


def components(mask: np.ndarray) -> np.ndarray:
    """Splits a mask into its connected objects, int32 (H, W): 0 background, 1..n the objects.

    Diagonal neighbours are two objects: fewer ships that lie side by side in a harbour are glued.

    Args:
        mask: (H, W), non-zero is object.
    """
    if mask.ndim != 2:
        raise ValueError(f"mask has shape {mask.shape}, expected (height, width)")
    labels = np.empty(mask.shape, np.int32)
    ndimage.label(mask, output=labels)
    return labels


def keep(instances: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Drops objects and numbers the others anew, without a gap.

    Args:
        instances: integer (H, W), 0 background, k = 1..n the k-th object.
        kept: boolean (n + 1,), whether object k stays; number 0 is the background whatever it says.
    """
    kept = kept.copy()
    kept[0] = False
    return (kept.cumsum(dtype=np.int32) * kept)[instances]


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
    areas, levels, n_true = matches(predicted_instances, true_instances)
    return float(f2(levels.sum(), int(np.count_nonzero(areas)), n_true))


def f2(levels: Numbers, n_predicted: Numbers, n_true: Numbers) -> np.ndarray:
    """The challenge's score from the sum of what `matches` says of the predicted objects.

    5 TP + 4 FN + FP is 4 n_true + n_predicted + TP - TP at every IoU threshold, so that the mean
    over the ten needs only the sum of their TP.
    """
    most = np.asarray(4 * n_true + n_predicted)
    return np.where(most > 0, 0.5 * levels / np.maximum(most, 1), 1.0)


def matches(predicted: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Compares the objects of one image with the true ones, both (H, W) of integers.

    Returns:
        Areas (n + 1,) of the predicted objects by number, how many of the ten IoU thresholds each
        one passes with a true object, and the number of true objects. Objects do not overlap, so
        above 1/2 a match is the only one of both its objects: whether another object is predicted
        changes none of this.
    """
    if predicted.shape != true.shape or true.ndim != 2:
        raise ValueError(
            f"predicted_instances {predicted.shape} and true_instances "
            f"{true.shape} differ in shape or are not (height, width)"
        )
    areas, true_areas = _areas(predicted, "predicted_instances"), _areas(true, "true_instances")
    # The contingency table, sparse: an early model predicts thousands of specks.
    both = (predicted > 0) & (true > 0)
    pairs = predicted[both].astype(np.int64) * true_areas.size + true[both]
    pairs, shared = np.unique(pairs, return_counts=True)
    number, partner = np.divmod(pairs, true_areas.size)
    union = areas[number] + true_areas[partner] - shared
    levels = np.zeros(areas.size, np.int64)
    np.add.at(levels, number, (20 * shared[:, None] > _TWENTIETHS * union[:, None]).sum(1))
    return areas, levels, int(np.count_nonzero(true_areas))


def _areas(instances: np.ndarray, argument: str) -> np.ndarray:
    # A boolean mask would pass as one big object.
    if not np.issubdtype(instances.dtype, np.integer):
        raise TypeError(f"{argument} is {instances.dtype}, expected integers as of components()")
    areas = np.bincount(instances[instances > 0])
    return areas if areas.size else np.zeros(1, np.int64)
