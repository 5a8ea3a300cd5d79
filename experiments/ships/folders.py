"""Several folders as one set of images, and which of their images show the same scene."""

from __future__ import annotations

import csv
import dataclasses
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from experiments.ships.images import (
    AIRBUS_CSV,
    AIRBUS_FOLDER,
    Example,
    ImageFolder,
    open_airbus,
    open_masks,
)

SCENES_CSV = "scenes.csv"
COLUMNS = ("ImageId", "BigImageId")


@dataclasses.dataclass(frozen=True)
class Folders:
    """The images of several folders, one after the other."""

    parts: list[ImageFolder]
    ends: list[int]  # where the images of each folder end
    scenes: list[str]  # of every image; crops of one scene, which may overlap, name the same
    labelled: int  # how many images may be tested on; those after them are trained on only

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int, /) -> Example:
        part, place = self._find(index)
        return part[place]

    def has_ships(self, index: int, /) -> bool:
        part, place = self._find(index)
        return part.has_ships(place)

    def _find(self, index: int) -> tuple[ImageFolder, int]:
        number = bisect_right(self.ends, index)
        return self.parts[number], index - (self.ends[number - 1] if number else 0)


def open_folders(
    data: Sequence[Path],
    weak: Sequence[Path] = (),
    *,
    strict: bool = False,
    cache: Path | None = None,
) -> Folders:
    """Opens folders of images, each in the layout that it turns out to have.

    Where there are several, the name of an image begins with that of its folder. Images are of one
    scene if `scenes.csv` (`ImageId,BigImageId`) in their folder says so, else each is its own.

    Args:
      data: folders of images to train and to test on.
      weak: folders of images to train on only, since their masks are not to be trusted.
      strict: raise for the first file that would be skipped.
      cache: folder in which decoded images are kept.

    Raises:
      FileNotFoundError: a folder, or a part of it, is missing.
      ValueError: a folder is named twice or has no image to use, or a CSV has a bad row.
      UnreadableImage: if strict, a file of no use.
    """
    roots = [*data, *weak]
    times = Counter(root.resolve() for root in roots)
    if twice := [str(root) for root, count in times.items() if count > 1]:
        raise ValueError(f"data and weak must name a folder once, and name {twice[0]} more often")
    shorts = Counter(root.resolve().name for root in roots)
    parts, scenes = [], []
    for root in roots:
        part = _open(root, strict=strict, cache=cache)
        short = root.resolve().name
        label = short if shorts[short] == 1 else str(root)
        known = _scenes(root)
        scenes += (known.get(name, f"{label}/{name}") for name in part.names)
        parts.append(dataclasses.replace(part, prefix=f"{label}/") if len(roots) > 1 else part)
    ends = list(accumulate(map(len, parts)))
    return Folders(parts, ends, scenes, labelled=ends[len(data) - 1])


def _open(root: Path, *, strict: bool, cache: Path | None) -> ImageFolder:
    airbus = (root / AIRBUS_CSV).exists() or (root / AIRBUS_FOLDER).exists()
    return (open_airbus if airbus else open_masks)(root, strict=strict, cache=cache)


def _scenes(root: Path) -> dict[str, str]:
    """The scene of each image that the folder's CSV knows one of.

    Equal numbers are one scene across folders too: a set that was cut in two must not leak.
    """
    path = root / SCENES_CSV
    if not path.exists():
        return {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        if missing := [column for column in COLUMNS if column not in (rows.fieldnames or ())]:
            raise ValueError(f"{path} has no column {', '.join(missing)}, but {rows.fieldnames}")
        return {row["ImageId"]: f"scene {row['BigImageId']}" for row in rows}
