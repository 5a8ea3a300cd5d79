"""From logits to objects by a rule, and the rule with the best object F2 on validation images.

The score of an image needs only the number of its objects and how many IoU thresholds each passes,
and what one object passes does not depend on the others. So all smallest areas are tried at the
cost of one sort, and the fit is exact over them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.ships.objects import components, f2, keep, matches


@dataclass(frozen=True)
class Rule:
    """Connected pixels above `threshold` are an object if it is large and sure enough."""

    threshold: float
    """Of the logit."""
    min_area: int = 0
    """Objects with fewer pixels are dropped."""
    peak: float = -np.inf
    """Objects without a logit above it are dropped: foam and specks are large, or sure, not both.
    Also known as hysteresis."""

    def __str__(self) -> str:
        above, sure = (1 / (1 + np.exp(-logit)) for logit in (self.threshold, self.peak))
        return f"p > {above:.3f}, somewhere p > {sure:.3f}, at least {self.min_area} pixels"


def objects(logits: np.ndarray, rule: Rule) -> np.ndarray:
    """The instance map (H, W) that the rule makes of the logits (H, W)."""
    labels = components(logits > rule.threshold)
    areas = np.bincount(labels.ravel())
    return keep(labels, (areas >= rule.min_area) & (_peaks(logits, labels) > rule.peak))


@dataclass(frozen=True)
class Candidates:
    """The objects of an image at one threshold, before any is dropped."""

    areas: np.ndarray  # [objects]
    levels: np.ndarray  # [objects] IoU thresholds that each passes with a true object
    peaks: np.ndarray  # [objects] the largest logit in each
    n_true: int


def candidates(logits: np.ndarray, true_instances: np.ndarray, threshold: float) -> Candidates:
    """What `best_rule` must know of an image's objects above a threshold."""
    labels = components(logits > threshold)
    areas, levels, n_true = matches(labels, true_instances)
    return Candidates(areas[1:], levels[1:], _peaks(logits, labels)[1:], n_true)


def best_rule(tables: Mapping[float, Sequence[Candidates]]) -> tuple[Rule, float]:
    """The rule with the best mean score of the images, and that score.

    Exact over the thresholds given, all of them that are larger as peaks, and every area. An area
    lies midway between the smallest object kept and the next that is not; ties go to the rule that
    drops more.

    Args:
      tables: threshold to what `candidates` says of each validation image.
    """
    fits = []
    for threshold in sorted(tables, reverse=True):
        images = tables[threshold]
        n_true = np.array([each.n_true for each in images])
        image = np.repeat(np.arange(len(images)), [len(each.areas) for each in images])
        areas, levels, sure = (
            np.concatenate([getattr(each, name) for each in images])
            for name in ("areas", "levels", "peaks")
        )
        for peak in (p for p in sorted(tables, reverse=True) if p >= threshold):
            chosen = sure > peak
            total, area = _best_area(areas[chosen], levels[chosen], image[chosen], n_true)
            fits.append((Rule(threshold, area, peak), total / len(images)))
    return max(fits, key=lambda each: each[1])


def _best_area(
    areas: np.ndarray, levels: np.ndarray, image: np.ndarray, n_true: np.ndarray
) -> tuple[float, int]:
    """The best sum of the images' scores over all smallest areas, and that area.

    Args:
      areas: [objects], of all images.
      levels: [objects].
      image: [objects], the image of each.
      n_true: [images].
    """
    # In each image, from the largest object to the smallest: the score with the first, the first
    # two, ... of them, and what each of them adds.
    order = np.lexsort((-areas, image))
    areas, levels, image = areas[order], levels[order], image[order]
    first = np.searchsorted(image, image)
    rank = np.arange(len(image)) - first
    summed = np.append(0, levels.cumsum())
    true = n_true[image]
    after = f2(summed[1:] - summed[first], rank + 1, true)
    before = f2(summed[:-1] - summed[first], rank, true)
    # Over all images from the largest object to the smallest; equal areas come together.
    cuts, place = np.unique(-areas, return_inverse=True)
    gains = np.bincount(place, after - before, minlength=len(cuts))
    totals = np.append(0.0, gains).cumsum() + np.count_nonzero(n_true == 0)
    best = int(np.argmax(totals > totals.max() - 1e-9))
    # The smallest object that is kept, and the largest that is not.
    smallest, next_one = np.concatenate([[2 * cuts.min(initial=-1)], cuts, [0]])[best : best + 2]
    return float(totals[best]), int(-(smallest + next_one) + 1) // 2


def _peaks(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The largest logit of each object, by number; that of the background is not looked for."""
    pixels = np.flatnonzero(labels)
    numbers = labels.ravel()[pixels]
    peaks = np.full(numbers.max(initial=0) + 1, -np.inf, np.float32)
    np.maximum.at(peaks, numbers, logits.ravel()[pixels])
    return peaks
