"""Which images an experiment is about, and how they are read."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from rich.console import Console

from experiments.shared.commands import tell_left_out
from experiments.shared.settings import require_within
from experiments.ships.folders import open_folders
from experiments.ships.pipeline import KEPT_IMAGES, Images
from experiments.ships.scenes import Scenes


@dataclasses.dataclass(frozen=True)
class Source:
    """Which images."""

    data: tuple[Path, ...] = ()
    """Folders of images, each in the challenge's layout or with mask files; default: generated
    scenes."""
    weak: tuple[Path, ...] = ()
    """Folders whose masks are not to be trusted: to train on only."""
    strict: bool = False
    """Stop at the first unusable file instead of leaving it out."""
    scenes: int = 1000
    """How many scenes to generate, in all three parts together."""
    size: int = 256
    """Edge of a generated scene in pixels."""

    def __post_init__(self) -> None:
        require_within(self, scenes="[1, inf)", size="[64, inf)")
        if self.weak and not self.data:
            raise ValueError(
                "weak names images to train on beside those of data, and data is empty"
            )


@dataclasses.dataclass(frozen=True)
class Reading:
    """How images are read, which changes no figure."""

    workers: int = 0
    """Processes that read images and cut crops; 0: threads of this process."""
    cache: Path | None = None
    """Folder in which decoded images are kept."""

    def __post_init__(self) -> None:
        require_within(self, workers="[0, inf)")


def open_images(source: Source, reading: Reading, console: Console) -> Images:
    """The images, with a word on what was left out."""
    if not source.data:
        return Images(Scenes(count=source.scenes, size=source.size))
    found = open_folders(source.data, source.weak, strict=source.strict, cache=reading.cache)
    for part in found.parts:
        with_ships = sum(part.full)
        console.print(f"{len(part)} images in {part.root}, {with_ships} of them with objects")
        tell_left_out(part.skipped, console)
    # Mapped files need no copy in memory, and crops of many images rarely come back to one of them.
    of_use = not reading.cache and len(found) <= 10 * KEPT_IMAGES
    kept = KEPT_IMAGES // max(1, reading.workers) if of_use else 0  # each process has its own
    return Images(found, strict=source.strict, kept=kept)
