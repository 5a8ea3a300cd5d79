"""Image sets on disk: the Airbus challenge's folder, or any folder of images with mask files.

Opening a set lists its files and reads its labels, but no image: the challenge has 192,556 of them,
and their headers alone take minutes on a slow disk. What the listing shows to be of no use is left
out and told in `skipped`. Damage within a file shows when its image is asked for: `[i]` then raises
`UnreadableImage`.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

from experiments.ships.cache import kept, stamp
from experiments.ships.objects import components
from experiments.ships.run_length import Runs, paint, read_runs

AIRBUS_SHAPE = (768, 768)
AIRBUS_CSV = "train_ship_segmentations_v2.csv"
AIRBUS_FOLDER = "train_v2"

_LOSSY = {".jpg", ".jpeg"}
_LOSSLESS = {".png", ".bmp", ".tif", ".tiff", ".gif"}
_EIGHT_BIT = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}


@dataclass(frozen=True)
class Example:
    """One image and the objects in it."""

    name: str  # file name, e.g. "000155de5.jpg"
    image: np.ndarray  # uint8 (H, W, 3)
    instances: np.ndarray  # integer (H, W): 0 background, k = 1..n the k-th object, no overlaps


class ImageSet(Protocol):
    """What training needs of a set of images: random access, and which images are empty."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Example: ...

    def has_ships(self, index: int, /) -> bool: ...


class UnreadableImage(Exception):  # noqa: N818 - the name says what is wrong
    """A file that cannot serve as an example; a pipeline can leave it out, and say why."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)  # all arguments, so that it crosses process borders
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


@dataclass(frozen=True)
class ImageFolder:
    """Images in a folder and the objects in them, decoded when they are asked for."""

    root: Path
    names: list[str]  # relative to root
    full: list[bool]  # whether the image has objects
    draw: Callable[[int], np.ndarray]  # the instance map of an image; may read a file
    skipped: list[tuple[str, str]]  # file name, reason
    cache: Path | None = None  # where decoded images are kept
    prefix: str = ""  # before every name, where several folders serve together

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int, /) -> Example:
        name = self.prefix + self.names[index]
        path = self.root / self.names[index]
        with _unreadable(name):
            pixels = kept(self.cache, stamp(path), partial(_read_pixels, path))
            instances = self.draw(index)
            if pixels.shape[:2] != instances.shape:
                came, wanted = (f"{a.shape[1]}x{a.shape[0]}" for a in (pixels, instances))
                raise ValueError(f"is {came} pixels (width x height), and its mask {wanted}")
            return Example(name, pixels, instances)

    def has_ships(self, index: int, /) -> bool:
        return self.full[index]


def open_airbus(
    directory: str | Path, *, strict: bool = False, cache: Path | None = None
) -> ImageFolder:
    """Opens the Airbus Ship Detection data: `train_ship_segmentations_v2.csv` and `train_v2/*.jpg`.

    Args:
        directory: where both lie.
        strict: raise for the first image that would be skipped.
        cache: folder in which decoded images are kept.

    Raises:
        FileNotFoundError: there is no such directory, CSV or folder.
        ValueError: a bad row of the CSV, by its number; or no image can be used.
        UnreadableImage: if strict, an image without a row in the CSV, or in the CSV only.
    """
    root = Path(directory)
    _require(root, AIRBUS_CSV, AIRBUS_FOLDER)
    labelled = read_runs(root / AIRBUS_CSV, AIRBUS_SHAPE)
    files = {
        path.name for path in (root / AIRBUS_FOLDER).iterdir() if path.suffix.lower() in _LOSSY
    }
    skipped = [
        *(
            (name, f"is in {AIRBUS_CSV}, but not in {AIRBUS_FOLDER}/")
            for name in labelled.keys() - files
        ),
        *((name, f"has no row in {AIRBUS_CSV}") for name in files - labelled.keys()),
    ]
    names = sorted(files & labelled.keys())
    objects = [labelled[name] for name in names]
    draw = partial(_paint, objects, cache)
    return _checked(
        ImageFolder(
            root / AIRBUS_FOLDER, names, [bool(o) for o in objects], draw, sorted(skipped), cache
        ),
        strict,
    )


def open_masks(
    directory: str | Path, *, strict: bool = False, cache: Path | None = None
) -> ImageFolder:
    """Opens a folder, with its subfolders, of 8-bit images and their masks.

    The mask of `x.jpg` is `x.png` or `x_mask.*` beside it; that of `images/x.*` may also be
    `masks/x.*`. What is not black is object: non-zero in a mask of 0 and 1, above 127 in a grey
    one, because many masks in circulation went through lossy compression and carry values of 1 to
    30 around their objects. Connected pixels are one object. Masks are read at once, since only
    they tell which images are empty.

    Args:
        directory: searched recursively, also where a folder in it is a link.
        strict: raise for the first image that would be skipped.
        cache: folder in which decoded images are kept.

    Raises:
        FileNotFoundError: there is no such directory.
        ValueError: no image can be used.
        UnreadableImage: if strict, a file that has no partner, or a mask that cannot be read or is
            neither 0 and 1 nor reaches above 127.
    """
    root = Path(directory)
    _require(root)
    names, masks, full, skipped = [], [], [], []
    walk = os.walk(root, followlinks=True)
    files = (Path(folder, file).relative_to(root) for folder, _, inside in walk for file in inside)
    for name, partner in sorted(_pairs(files)):
        try:
            if isinstance(partner, str):
                raise UnreadableImage(name, partner)
            with _unreadable(partner.as_posix()):
                full.append(bool(_read_mask(root / partner).any()))
        except UnreadableImage as error:
            skipped.append((error.name, error.reason))
        else:
            names.append(name)
            masks.append(partner.as_posix())
    draw = partial(_split, root, masks, cache)
    return _checked(ImageFolder(root, names, full, draw, skipped, cache), strict)


def _checked(folder: ImageFolder, strict: bool) -> ImageFolder:
    if strict and folder.skipped:
        raise UnreadableImage(*folder.skipped[0])
    if not folder.names:
        first = f", first {': '.join(folder.skipped[0])}" if folder.skipped else ""
        raise ValueError(
            f"{folder.root} has no image to use; {len(folder.skipped)} skipped{first}. Expected "
            f"{AIRBUS_FOLDER}/ and {AIRBUS_CSV}, or images with masks: x.jpg with x.png or "
            "x_mask.png, or images/ and masks/"
        )
    return folder


def _require(root: Path, *parts: str) -> None:
    if not root.is_dir():
        what = "is a file" if root.exists() else "is not there"
        raise FileNotFoundError(f"expected a folder of images, and {root} {what}")
    found = {path.name for path in root.iterdir()}
    if missing := [part for part in parts if part not in found]:
        listing = ", ".join(sorted(found)[:5]) + (", ..." if len(found) > 5 else "")
        raise FileNotFoundError(
            f"no {' and no '.join(missing)} in {root}, expected {' and '.join(parts)}; "
            f"found {listing or 'nothing'}"
        )


@contextmanager
def _unreadable(name: str) -> Iterator[None]:
    """Turns what Pillow raises for damaged files into an error that names the file."""
    try:
        yield
    except UnidentifiedImageError:
        raise UnreadableImage(name, "is not an image that can be read") from None
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise UnreadableImage(name, str(error)) from error


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    with Image.open(path) as image:
        if image.mode not in _EIGHT_BIT:
            raise ValueError(f"has pixels of mode {image.mode}, expected 8-bit grey or colour")
        yield image


def _read_pixels(path: Path) -> np.ndarray:
    with _opened(path) as image:
        return np.asarray(image.convert("RGB"))


def _pairs(files: Iterable[PurePath]) -> Iterator[tuple[str, PurePath | str]]:
    """Yields (image, its mask), or (file, the reason why it has no partner)."""
    groups = defaultdict[PurePath, list[PurePath]](list)
    for file in files:
        hidden = any(part.startswith(".") for part in file.parts)
        if file.suffix.lower() in _LOSSY | _LOSSLESS and not hidden:
            folders = (part for part in file.parts[:-1] if part not in ("images", "masks"))
            groups[PurePath(*folders, file.stem.removesuffix("_mask"))].append(file)
    for group in groups.values():
        masks = [f for f in group if f.stem.endswith("_mask") or "masks" in f.parts[:-1]]
        images = [f for f in group if f not in masks]
        if not masks and any(f.suffix.lower() in _LOSSY for f in images):
            masks = [f for f in images if f.suffix.lower() in _LOSSLESS]
            images = [f for f in images if f not in masks]
        if len(images) == len(masks) == 1:
            yield images[0].as_posix(), masks[0]
            continue
        if not masks and len(images) == 1:
            stem = images[0].stem
            reason = f"has no mask: {stem}.png or {stem}_mask.png beside it, or masks/{stem}.png"
        elif not images:
            reason = "is a mask without an image"
        else:
            names = ", ".join(sorted(f.as_posix() for f in group))
            reason = f"is one of {names}: expected one image and one mask"
        yield from ((file.as_posix(), reason) for file in group)


def _read_mask(path: Path) -> np.ndarray:
    with _opened(path) as image:
        if image.mode in ("P", "PA"):  # numbers of colours, in any order
            return np.asarray(image.convert("RGB")).max(axis=-1) > 0
        grey = np.asarray(image.convert("L"))
    if 1 < grey.max() <= 127:
        # Numbered classes or objects, or a faint grey: a guess would lose objects unnoticed.
        raise ValueError(f"is a mask with values up to {grey.max()}, expected 0/1 or 0/255")
    return grey > (127 if grey.max() > 1 else 0)


def _split(root: Path, masks: list[str], cache: Path | None, index: int) -> np.ndarray:
    path = root / masks[index]
    with _unreadable(masks[index]):
        return kept(cache, stamp(path), lambda: _small(components(_read_mask(path))))


def _paint(objects: list[list[Runs]], cache: Path | None, index: int) -> np.ndarray:
    runs = objects[index]
    if not runs:
        return np.broadcast_to(np.uint8(0), AIRBUS_SHAPE)
    key = b"".join(each.tobytes() + b";" for each in runs)
    return kept(cache, key, lambda: _small(paint(runs, AIRBUS_SHAPE)))


def _small(instances: np.ndarray) -> np.ndarray:
    """The same numbers in the fewest bytes: a decoded image is kept, and 255 objects are rare."""
    return instances.astype(np.min_scalar_type(int(instances.max(initial=0))))
