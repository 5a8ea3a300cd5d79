"""Which images are for training, for tuning thresholds, and for the report."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.ships.folders import Folders
from experiments.ships.pipeline import Images

FOLDS = 5  # of a folder; five seeds in a row test every image once
VALIDATION = 0.15  # of what is not tested
DRAWN = (0.10, 0.10)  # validation and test, of generated scenes


@dataclass(frozen=True)
class Split:
    """Image numbers for training, for tuning thresholds, and for the report."""

    train: list[int]
    validation: list[int]
    test: list[int]


def split(images: Images, seed: int) -> Split:
    """Divide images, not crops, into parts with the same share of empty images.

    Generated scenes are divided once, since there is no end of them. The images of folders are
    divided by scene, so that crops which overlap stay together: seed s tests on fold s mod 5 of
    the division number s // 5 into five, and the error over seeds contains the luck of the split.
    Weak images are trained on, but for those of a scene that is held out.

    Args:
      images: the whole set.
      seed: a number from 0.

    Raises:
      ValueError: if a part would have no image with ships.
    """
    full = np.array([images.has_ships(i) for i in range(len(images))], bool)
    source = images.source
    parts = _fold(source, full, seed) if isinstance(source, Folders) else _once(full)
    for name, part in zip(("training", "validation", "test"), parts, strict=True):
        if not full[part].any():
            raise ValueError(
                f"the {name} part of seed {seed} would have no image with ships: "
                f"{int(full.sum())} of {len(images)} images have some"
            )
    return Split(*(part.tolist() for part in parts))


def _once(full: np.ndarray) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    parts: tuple[list[int], ...] = ([], [], [])
    for members in (np.flatnonzero(full), np.flatnonzero(~full)):
        order = rng.permutation(members)
        first, second = (round(len(order) * share) for share in DRAWN)
        pieces = (order[first + second :], order[:first], order[first : first + second])
        for part, piece in zip(parts, pieces, strict=True):
            part.extend(piece)
    return [np.array(sorted(part), int) for part in parts]


def _fold(folders: Folders, full: np.ndarray, seed: int) -> list[np.ndarray]:
    names, scene = np.unique(folders.scenes, return_inverse=True)
    labelled = np.arange(len(full)) < folders.labelled
    has_ships = np.zeros(len(names), bool)
    has_ships[scene[full & labelled]] = True

    division, fold = divmod(seed, FOLDS)
    order = _shuffled(np.unique(scene[labelled]), has_ships, np.random.default_rng([division, 0]))
    tested = np.arange(len(order)) % FOLDS == fold
    rest = _shuffled(order[~tested], has_ships, np.random.default_rng([seed, 1]))
    # Evenly spread over an order in which scenes with ships come first.
    validated = np.diff(np.round(VALIDATION * np.arange(len(rest) + 1))) > 0

    side = np.zeros(len(names), int)
    side[rest[validated]], side[order[tested]] = 1, 2
    return [np.flatnonzero((side[scene] == k) & (labelled | (k == 0))) for k in range(3)]


def _shuffled(scenes: np.ndarray, has_ships: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """In random order, those with ships first."""
    order = rng.permutation(scenes)
    return np.concatenate([order[has_ships[order]], order[~has_ships[order]]])
