"""Whether masks lie as the images that they belong to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from diffmetrics.diagnose._report import Finding, defect, note

TIMES, LEAST = 2.0, 0.35  # of the IoU, by which another place of the masks fits better
FEW_IMAGES, LEAST_OF_FEW = 4, 0.6
MOST_IMAGES = 32
MORE = 1.5  # times as well as with masks of other images, or with masks that were moved
SHORTEST, SMALLEST = 4, 64  # of the side of an image, and of its area
LONGEST = 100  # side of what is compared all with all
CHANNELS, MOST_CLASSES = 4, 256


class Turned(NamedTuple):
    """Masks that were laid otherwise, what is wrong with them if they fit, and what to do."""

    masks: np.ndarray
    how: str
    cause: str
    advice: str


def decisions(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """What is predicted of 0/1 masks, and the masks, as integers ``[N, H, W]``.

    As many pixels are predicted as there are, so that neither a threshold nor a bias matters.
    """
    positive = _positive(labels)
    if positive is None or not 0 < positive.sum() < positive.size or not np.isfinite(logits).all():
        return None
    both = [_stacked(a) for a in (logits, positive)]
    if both[0] is None or both[1] is None:
        return None
    return _as_many(both[0], int(positive.sum())).astype(int), both[1].astype(int)


def classes(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The same of ids, of which the most frequent is the background and becomes 0."""
    number = logits.shape[-1]
    known = (labels >= 0) & (labels < number)
    true = _stacked(np.where(known, labels.astype(int), number))
    top = _stacked(np.where(known, logits.argmax(-1), number))
    if true is None or top is None or not 0 < len(np.unique(labels[known])) <= MOST_CLASSES:
        return None
    of_none = {number, int(np.bincount(labels[known].astype(int)).argmax())}
    return tuple(np.where(np.isin(a, list(of_none)), 0, a + 1) for a in (top, true))  # type: ignore[return-value]


def misplaced(predicted: np.ndarray, masks: np.ndarray) -> Finding | None:
    """Whether the masks fit far better if they are laid otherwise, or are given to others.

    Args:
      predicted: whole numbers ``[N, H, W]``, 0 where nothing is.
      masks: the same.
    """
    some = np.flatnonzero((masks > 0).any((1, 2)))[:MOST_IMAGES]
    if not some.size:
        return None
    predicted, masks = predicted[some], masks[some]
    best = max(_turned(masks), key=lambda turned: _iou(predicted, turned.masks))
    if _fits_better(predicted, masks, best.masks):
        evidence = (
            f"IoU with the predictions {_iou(predicted, masks):.3g} as they are, "
            f"{_iou(predicted, best.masks):.3g} {best.how}"
        )
        # Of a single image an object may come to lie so by chance.
        told = defect if len(masks) >= FEW_IMAGES else note
        return told(best.cause, evidence, best.advice)
    return _of_others(predicted, masks)


def _positive(labels: np.ndarray) -> np.ndarray | None:
    """Which labels are positive, if they are decisions or probabilities."""
    if labels.dtype == bool:
        return labels
    y = labels.astype(np.float64)
    if ((y >= 0) & (y <= 1)).all():
        return y > 0.5
    return y > 0 if len(np.unique(y)) == 2 else None


def _stacked(images: np.ndarray) -> np.ndarray | None:
    """Images ``[..., H, W]``, or with channels last, on one axis; None if they are none."""
    if (images.ndim >= 4 and images.shape[-1] <= CHANNELS) or images.shape[2:] == (1,):
        images = np.moveaxis(images, -1, 0)
    if images.ndim < 2:
        return None
    height, width = images.shape[-2:]
    if min(height, width) < SHORTEST or height * width < SMALLEST:
        return None
    return images.reshape(-1, height, width)


def _as_many(scores: np.ndarray, number: int) -> np.ndarray:
    """The elements of the highest scores, as many as are asked for, but for ties."""
    least = np.partition(scores.ravel(), -number)[-number]
    ties, above = scores >= least, scores > least
    return ties if ties.sum() - number <= number - above.sum() else above


def _turned(masks: np.ndarray) -> Iterator[Turned]:
    """The ways in which masks come to lie wrong."""
    yield from _rows_for_columns(masks)
    if masks.shape[1] == masks.shape[2]:
        turn = (
            "turn image and mask alike; some image readers heed the camera's tag (EXIF), some not"
        )
        for turns, way in ((1, "to the left"), (-1, "to the right")):
            cause = f"masks are rotated by 90 degrees: turned {way} they fit the predictions"
            yield Turned(np.rot90(masks, turns, (1, 2)), f"turned {way}", cause, turn)
    alike = "flip image and mask alike, or neither; look at the origin of coordinates"
    for flipped, how, cause in (
        (masks[:, ::-1], "flipped", "masks lie upside down"),
        (masks[:, :, ::-1], "mirrored", "masks are flipped left to right"),
        (masks[:, ::-1, ::-1], "turned back", "masks are turned by 180 degrees"),
    ):
        yield Turned(flipped, how, f"{cause}: {how} they fit the predictions", alike)


def _rows_for_columns(masks: np.ndarray) -> Iterator[Turned]:
    """What run lengths become that are decoded in the wrong order."""
    number, height, width = masks.shape
    down = "decode run lengths that go down the columns by flat.reshape(width, height).T"
    if height == width:
        cause = "masks lie transposed: with rows and columns exchanged they fit the predictions"
        advice = f"labels.swapaxes(-1, -2), of masks [..., H, W]; or, where they come from, {down}"
        yield Turned(masks.swapaxes(1, 2), "transposed", cause, advice)
        return
    how = "read in the other order"
    cause = f"masks were read along the wrong axis: {how} they fit the predictions"
    yield Turned(masks.reshape(number, width, height).swapaxes(1, 2), how, cause, down)
    along = "decode run lengths that go along the rows by flat.reshape(height, width)"
    yield Turned(masks.swapaxes(1, 2).reshape(masks.shape), how, cause, along)


def _iou(predicted: np.ndarray, masks: np.ndarray) -> float:
    """Of all images together."""
    either = ((predicted > 0) | (masks > 0)).sum()
    return float(((predicted == masks) & (masks > 0)).sum() / max(either, 1))


def _each_with_each(predicted: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """IoU of every prediction with every mask ``[N, N]``, by some of the pixels of large images."""
    every = -(-max(masks.shape[1:]) // LONGEST)
    p, m = (a[:, ::every, ::every].reshape(len(a), -1) for a in (predicted, masks))

    def both(of_p: np.ndarray, of_m: np.ndarray) -> np.ndarray:
        return of_p.astype(np.float32) @ of_m.astype(np.float32).T

    same = sum(both(p == c, m == c) for c in np.unique(m[m > 0]))
    either = np.add.outer((p > 0).sum(1), (m > 0).sum(1)) - both(p > 0, m > 0)
    return same / np.maximum(either, 1)


def _fits_better(predicted: np.ndarray, masks: np.ndarray, turned: np.ndarray) -> bool:
    """Whether turned masks fit clearly better, neither by chance nor as any road does."""
    theirs, few = _iou(predicted, turned), len(masks) < FEW_IMAGES
    if theirs < (LEAST_OF_FEW if few else LEAST) or theirs <= TIMES * _iou(predicted, masks):
        return False
    if theirs <= MORE * max(_iou(predicted, moved) for moved in _moved(turned)):
        return False
    table = _each_with_each(predicted, turned)
    each, own = np.diag(table), np.diag(_each_with_each(predicted, masks))
    of_others = (table.sum() - each.sum()) / max(table.size - each.size, 1)
    most = (each > own).sum() >= 0.75 * max((each != own).sum(), 1)
    return bool(most and (few or each.mean() > MORE * of_others))


def _moved(masks: np.ndarray) -> Iterator[np.ndarray]:
    """Masks that lie elsewhere, by quarters of the image: what fits so fits by chance."""
    quarters = [side * np.arange(4) // 4 for side in masks.shape[1:]]
    for down in quarters[0]:
        for right in quarters[1]:
            if down or right:
                yield np.roll(masks, (down, right), (1, 2))


def _of_others(predicted: np.ndarray, masks: np.ndarray) -> Finding | None:
    """Whether each image has the mask of another one."""
    number = len(masks)
    if number < FEW_IMAGES:
        return None
    table = _each_with_each(predicted, masks)
    fitting, own = table.argmax(1), np.diag(table)
    others = fitting != np.arange(number)
    if others.mean() < 0.5 or len(set(fitting)) < 0.75 * number:
        return None
    second, best = np.sort(table[others], 1)[:, -2:].mean(0)
    own = own[others].mean()
    if best < LEAST_OF_FEW or best <= TIMES * own or best <= MORE * second:
        return None
    steps = np.unique((fitting - np.arange(number)) % number)
    whose = "another image"
    if len(steps) == 1:
        whose = {1: "the image before", number - 1: "the next image"}.get(int(steps[0]), whose)
    return defect(
        f"masks belong to other images: each image has the mask of {whose}",
        f"mean IoU of the predictions {own:.3g} with their own masks, {best:.3g} "
        f"with the best other one, in {others.sum()} of {number} images",
        "sort files of images and masks alike, and shuffle both by one permutation",
    )
