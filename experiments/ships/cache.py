"""Decoded images kept on disk, so that a crop reads its rows instead of decoding a whole file.

An array is a plain `.npy` file that is mapped into memory: only the pages that are touched are
read, and all processes share them through the operating system's cache.
"""

from __future__ import annotations

import hashlib
import shutil
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

FREE = 0.05  # of the disk is left for others: the run's own checkpoints may lie there

_full: set[Path] = set()  # folders that took no more


def stamp(path: Path) -> bytes:
    """What changes when the file does: where it lies, how long it is, when it was written."""
    found = path.stat()
    return f"{path.absolute()} {found.st_size} {found.st_mtime_ns}".encode()


def kept(folder: Path | None, key: bytes, make: Callable[[], np.ndarray]) -> np.ndarray:
    """The array that `make()` returns, made once and then mapped from a file in `folder`.

    A folder that takes no more files is one warning a process; what lies there still serves.

    Args:
      folder: where arrays are kept; None makes it every time.
      key: names the array; another key for another content.
      make: reads or draws it.
    """
    if folder is None:
        return make()
    path = folder / f"{hashlib.blake2b(key, digest_size=16).hexdigest()}.npy"
    try:
        return np.asarray(np.load(path, mmap_mode="r"))
    except (OSError, ValueError, EOFError):  # not there, or not whole after a power cut
        array = make()
    if folder not in _full:
        try:
            _write(path, array)
        except OSError as error:
            _full.add(folder)
            warnings.warn(f"{folder} takes no more images, going on without: {error}", stacklevel=2)
    return array


def _write(path: Path, array: np.ndarray) -> None:
    """At once or not at all: other processes read and write the same files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    disk = shutil.disk_usage(path.parent)
    if disk.free < FREE * disk.total:
        raise OSError(f"less than {FREE:.0%} of the disk is free")
    scratch = path.with_name(f"{uuid.uuid4().hex}.partial")
    try:
        with scratch.open("wb") as file:
            np.save(file, array)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
