"""Image sets on disk: the Airbus challenge's folder, or any folder of images with mask files.

Opening a set reads the two ends of each image file only, since decoding the challenge's 192,556
images takes a quarter of an hour: the header gives size and pixel mode, the last bytes tell whether
the file is complete, and a file in doubt is decoded. What cannot serve is left out and listed in
`skipped`. Damage in between shows when an image is asked for: `[i]` then raises `UnreadableImage`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

from experiments.ships.objects import components
from experiments.ships.run_length import paint, read_runs

AIRBUS_SHAPE = (768, 768)
AIRBUS_CSV = "train_ship_segmentations_v2.csv"
AIRBUS_FOLDER = "train_v2"

_LOSSY = {".jpg", ".jpeg"}
_LOSSLESS = {".png", ".bmp", ".tif", ".tiff", ".gif"}
_EIGHT_BIT = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}

# What a complete file ends with, but for a few bytes of padding. A JPEG that is cut cannot end so
# by chance, because FF is escaped in its pixel data.
_END = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
_TAIL = 64


@dataclass(frozen=True)
class Example:
    """One image and the objects in it."""

    name: str  # file name, e.g. "000155de5.jpg"
    image: np.ndarray  # uint8 (H, W, 3)
    instances: np.ndarray  # int32 (H, W): 0 background, k = 1..n the k-th object, no overlaps


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
class _Objects:
    """An image's objects; `draw` returns the instance map, and may read a file to do so."""

    any: bool
    draw: Callable[[], np.ndarray]


@dataclass(frozen=True)
class ImageFolder:
    """Images in a folder and the objects in them, decoded when they are asked for."""

    root: Path
    names: list[str]  # relative to root
    objects: list[_Objects]
    skipped: list[tuple[str, str]]  # file name, reason

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int, /) -> Example:
        name = self.names[index]
        with _unreadable(name):
            with Image.open(self.root / name) as image:
                pixels = np.asarray(image.convert("RGB"))
            return Example(name, pixels, self.objects[index].draw())

    def has_ships(self, index: int, /) -> bool:
        return self.objects[index].any


def open_airbus(directory: str | Path, *, strict: bool = False) -> ImageFolder:
    """Opens the Airbus Ship Detection data: `train_ship_segmentations_v2.csv` and `train_v2/*.jpg`.

    Args:
        directory: where both lie.
        strict: raise for the first image that would be skipped.

    Raises:
        FileNotFoundError: there is no such directory, CSV or folder.
        ValueError: a bad row of the CSV, by its number; or no image can be used.
        UnreadableImage: if strict, an image that is not 768x768, cut short, not an image at all,
            without a row in the CSV, or in the CSV only.
    """
    root = Path(directory)
    _require(root, AIRBUS_CSV, AIRBUS_FOLDER)
    labelled = read_runs(root / AIRBUS_CSV, AIRBUS_SHAPE)
    files = {
        path.name for path in (root / AIRBUS_FOLDER).iterdir() if path.suffix.lower() in _LOSSY
    }

    def objects(name: str) -> _Objects:
        if name not in files:
            raise UnreadableImage(name, f"is in {AIRBUS_CSV}, but not in {AIRBUS_FOLDER}/")
        if name not in labelled:
            raise UnreadableImage(name, f"has no row in {AIRBUS_CSV}")
        _check_shape(name, _inspect(root / AIRBUS_FOLDER / name, name), AIRBUS_SHAPE)
        return _Objects(bool(labelled[name]), partial(paint, labelled[name], AIRBUS_SHAPE))

    return _gather(root / AIRBUS_FOLDER, files | labelled.keys(), objects, strict)


def open_masks(directory: str | Path, *, strict: bool = False) -> ImageFolder:
    """Opens a folder, with its subfolders, of 8-bit images and their masks.

    The mask of `x.jpg` is `x.png` or `x_mask.*` beside it; that of `images/x.*` may also be
    `masks/x.*`. What is not black is object: non-zero in a mask of 0 and 1, above 127 in a grey
    one, because many masks in circulation went through lossy compression and carry values of 1 to
    30 around their objects. Connected pixels are one object.

    Args:
        directory: searched recursively.
        strict: raise for the first image that would be skipped.

    Raises:
        FileNotFoundError: there is no such directory.
        ValueError: no image can be used.
        UnreadableImage: if strict, a file that cannot be read, has no partner or another size
            than its partner, or a mask that is neither 0 and 1 nor reaches above 127.
    """
    root = Path(directory)
    _require(root)
    pairs = dict(_pairs(path.relative_to(root) for path in root.rglob("*")))

    def objects(name: str) -> _Objects:
        partner = pairs[name]
        if isinstance(partner, str):
            raise UnreadableImage(name, partner)
        shape = _inspect(root / name, name)
        mask_name = partner.as_posix()
        _check_shape(mask_name, _inspect(root / partner, mask_name), shape)
        with _unreadable(mask_name):
            return _Objects(bool(_read_mask(root / partner).any()), partial(_split, root / partner))

    return _gather(root, pairs, objects, strict)


def _gather(
    root: Path, names: Iterable[str], objects: Callable[[str], _Objects], strict: bool
) -> ImageFolder:
    folder = ImageFolder(root, [], [], [])
    for name in sorted(names):
        try:
            found = objects(name)
        except UnreadableImage as error:
            if strict:
                raise
            folder.skipped.append((error.name, error.reason))
        else:
            folder.names.append(name)
            folder.objects.append(found)
    if not folder.names:
        first = f", first {': '.join(folder.skipped[0])}" if folder.skipped else ""
        raise ValueError(f"{root} has no image to use; {len(folder.skipped)} skipped{first}")
    return folder


def _require(root: Path, *parts: str) -> None:
    if not root.is_dir():
        raise FileNotFoundError(f"no directory {root}")
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


def _inspect(path: Path, name: str) -> tuple[int, int]:
    """Returns (height, width) of a file that can be decoded, as far as a cheap look can tell."""
    with _unreadable(name), path.open("rb") as file:
        image = Image.open(file)
        if image.mode not in _EIGHT_BIT:
            raise ValueError(f"has pixels of mode {image.mode}, expected 8-bit grey or colour")
        file.seek(max(0, path.stat().st_size - _TAIL))
        end = _END.get(image.format or "")
        if end is None or end not in file.read():
            image.load()
        return image.height, image.width


def _check_shape(name: str, shape: tuple[int, int], expected: tuple[int, int]) -> None:
    if shape != expected:
        came, wanted = (f"{width}x{height}" for height, width in (shape, expected))
        raise UnreadableImage(name, f"is {came} pixels (width x height), expected {wanted}")


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
    with Image.open(path) as image:
        if image.mode in ("P", "PA"):  # numbers of colours, in any order
            return np.asarray(image.convert("RGB")).max(axis=-1) > 0
        grey = np.asarray(image.convert("L"))
    if 1 < grey.max() <= 127:
        # Numbered classes or objects, or a faint grey: a guess would lose objects unnoticed.
        raise ValueError(f"is a mask with values up to {grey.max()}, expected 0/1 or 0/255")
    return grey > (127 if grey.max() > 1 else 0)


def _split(path: Path) -> np.ndarray:
    return components(_read_mask(path))
