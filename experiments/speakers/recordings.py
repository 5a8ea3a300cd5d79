"""Recordings of speakers, from a folder of sound files.

A folder holds either an `index.csv` with the columns `file` and `speaker`, or a folder for each
speaker with its recordings anywhere below. Sound of any rate that soundfile reads is brought to
one; channels are averaged.
"""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample_poly

SUFFIXES = {".wav", ".flac", ".ogg", ".aif", ".aiff"}


class UnusableRecordings(ValueError):  # noqa: N818 - reads as what it is
    """The folder as a whole cannot be used; the message says what is needed."""


@dataclasses.dataclass(frozen=True)
class Recording:
    name: str
    speaker: str
    signal: np.ndarray
    """float32 [samples]."""


@dataclasses.dataclass(frozen=True)
class Collection:
    """Recordings at one rate, and what was left out, with the reason."""

    recordings: tuple[Recording, ...]
    rate: int
    skipped: tuple[tuple[str, str], ...] = ()


def read_folder(folder: Path, *, rate: int, shortest: float) -> Collection:
    """Every recording of every speaker in a folder, as float32 at `rate`.

    Args:
      folder: with an `index.csv`, or a folder for each speaker.
      rate: samples a second.
      shortest: seconds; shorter recordings are left out.

    Raises:
      UnusableRecordings: if nothing can be read.
      FileNotFoundError: if there is no such folder.
    """
    _require_folder(folder)
    return _read(folder, _listed(folder), rate, shortest)


def read_flat(folder: Path, *, rate: int, shortest: float) -> Collection:
    """Every recording below a folder, each of a speaker of its own; otherwise as `read_folder`."""
    _require_folder(folder)
    paths = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES)
    return _read(folder, ((path, str(path.relative_to(folder))) for path in paths), rate, shortest)


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder of recordings")


def _read(
    folder: Path, listed: Iterable[tuple[Path, str]], rate: int, shortest: float
) -> Collection:
    usable: list[Recording] = []
    skipped: list[tuple[str, str]] = []
    for path, speaker in listed:
        name = str(path.relative_to(folder))
        try:
            signal = read_sound(path, rate)
        except (OSError, soundfile.LibsndfileError) as error:
            skipped.append((name, f"cannot be read: {' '.join(str(error).split())}"))
            continue
        if not np.isfinite(signal).all():
            skipped.append((name, "holds values that are not finite"))
        elif len(signal) < shortest * rate:
            seconds = len(signal) / rate
            skipped.append((name, f"{seconds:.2f} s, shorter than {shortest:.2f} s"))
        elif not signal.any():
            skipped.append((name, "is silent"))
        else:
            usable.append(Recording(name, speaker, signal))
    if not usable:
        raise UnusableRecordings(f"{folder} holds no recording that can be used{_first(skipped)}")
    return Collection(tuple(usable), rate, tuple(skipped))


def _first(skipped: list[tuple[str, str]]) -> str:
    if not skipped:
        kinds = ", ".join(sorted(SUFFIXES))
        return f": expected index.csv with the columns file,speaker, or speaker/name with {kinds}"
    return f": {len(skipped)} were left out, the first, {skipped[0][0]}: {skipped[0][1]}"


def _listed(folder: Path) -> Iterator[tuple[Path, str]]:
    """Files and their speakers, in the order of their names."""
    index = folder / "index.csv"
    if not index.exists():
        for speaker in sorted(below for below in folder.iterdir() if below.is_dir()):
            for path in sorted(speaker.rglob("*")):
                if path.suffix.lower() in SUFFIXES:
                    yield path, speaker.name
        return
    with index.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        missing = {"file", "speaker"} - set(rows.fieldnames or ())
        if missing:
            raise UnusableRecordings(
                f"{index} must have the columns file and speaker, has "
                f"{', '.join(rows.fieldnames or ['none'])}"
            )
        for number, row in enumerate(rows, 2):
            if not row["file"] or not row["speaker"]:
                raise UnusableRecordings(f"{index} line {number}: file or speaker is empty")
            yield folder / row["file"], row["speaker"]


def read_sound(path: Path, rate: int) -> np.ndarray:
    """One channel at `rate`, float32.

    Raises:
      OSError, soundfile.LibsndfileError: if the file cannot be read.
    """
    sound, own = soundfile.read(path, dtype="float32", always_2d=True)
    signal = sound.mean(axis=1)
    if own != rate and len(signal):
        common = math.gcd(own, rate)
        signal = resample_poly(signal, rate // common, own // common)
    return np.asarray(signal, np.float32)
