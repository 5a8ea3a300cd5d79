"""The papers' protocol: two utterances of each speaker, unknown speakers to test on, segments.

    100 speakers to train on · 40 to choose thresholds on · 40 to test on, all unlike each other

A speaker's first utterance is 80 % of what there is, the second the rest: of the recordings if
there are several, as for TIMIT with its ten sentences, else of the time of the only one. In the
second case both are of one session, whose room and microphone help to tell speakers apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from scipy.signal import resample_poly

from experiments.shared import commands
from experiments.speakers import features, recordings, voices as generated
from experiments.speakers.recordings import Collection, UnusableRecordings

FIRST = 0.8  # share of the first utterance


class Voice(NamedTuple):
    """A speaker, with two utterances as mel power [frames, bands]."""

    speaker: str
    first: np.ndarray
    second: np.ndarray
    signals: tuple[np.ndarray, ...]
    """The recordings themselves."""
    rate: int

    def at_speed(self, speed: float) -> np.ndarray:
        """All that was said as mel power, played so much faster, which raises its pitch too."""
        if speed == 1.0:
            return np.concatenate([self.first, self.second])
        ratio = Fraction(speed).limit_denominator(100)
        played = (resample_poly(x, ratio.denominator, ratio.numerator) for x in self.signals)
        return np.concatenate([features.mel_power(x, self.rate) for x in played])


def voices(collection: Collection, frames: int) -> list[Voice]:
    """Two utterances of every speaker, by name.

    Args:
      collection: of recordings.
      frames: in a segment; each utterance has at least one.

    Raises:
      UnusableRecordings: if a speaker has not two utterances.
    """
    by_speaker: dict[str, list[np.ndarray]] = {}
    for each in sorted(collection.recordings, key=lambda each: (each.speaker, each.name)):
        by_speaker.setdefault(each.speaker, []).append(each.signal)
    rate = collection.rate
    return [_voice(speaker, signals, rate, frames) for speaker, signals in by_speaker.items()]


def _voice(speaker: str, signals: list[np.ndarray], rate: int, frames: int) -> Voice:
    spoken = [features.mel_power(each, rate) for each in signals]
    if len(spoken) > 1:
        count = min(max(round(FIRST * len(spoken)), 1), len(spoken) - 1)
        first, second = np.concatenate(spoken[:count]), np.concatenate(spoken[count:])
    else:
        first, second = np.split(spoken[0], [round(FIRST * len(spoken[0]))])
    shorter = min(len(first), len(second))
    if shorter < frames:
        hop = features.HOP_SECONDS
        needed = frames * hop / (1.0 - FIRST)
        raise UnusableRecordings(
            f"speaker {speaker} has {len(spoken)} recording{'s' * (len(spoken) > 1)} of "
            f"{sum(map(len, spoken)) * hop:.2f} s in all, which makes an utterance of "
            f"{shorter * hop:.2f} s: a speaker needs two utterances of at least "
            f"{frames * hop:.2f} s, so two recordings, or one of at least {needed:.2f} s"
        )
    return Voice(speaker, first, second, tuple(signals), rate)


def open_voices(
    data: Path | None, count: int, seconds: float, rate: int, frames: int, console: Console
) -> list[Voice]:
    """The voices of a folder, with a word on what was left out, or generated ones.

    Args:
      data: folder of recordings; None generates voices.
      count: of generated voices.
      seconds: of each of those.
      rate: samples a second to which sound is brought.
      frames: in a segment.
      console: where it is told what was found.
    """
    if data is None:
        return voices(generated.generate(count, seconds, rate=rate), frames)
    found = recordings.read_folder(data, rate=rate, shortest=frames * features.HOP_SECONDS)
    speech = voices(found, frames)
    minutes = sum(len(each.signal) for each in found.recordings) / rate / 60
    said = f"{len(speech)} speakers, {len(found.recordings)} recordings, {minutes:.0f} minutes in"
    console.print(f"{said} {data}", markup=False)
    commands.tell_left_out(found.skipped, console)
    return speech


class Deal(NamedTuple):
    """Speakers in three parts, unlike each other."""

    seed: int
    train: list[Voice]
    dev: list[Voice]
    test: list[Voice]


def deal(speakers: Sequence[Voice], sizes: tuple[int, int, int], seed: int) -> Deal:
    """Deal speakers to train, dev and test.

    Raises:
      UnusableRecordings: if there are too few.
    """
    if len(speakers) < sum(sizes):
        train, dev, test = sizes
        raise UnusableRecordings(
            f"{len(speakers)} speakers are there, but {train} + {dev} + {test} = {sum(sizes)} are "
            "needed: pass --train-speakers, --dev-speakers and --test-speakers"
        )
    order = np.random.default_rng(seed).permutation(len(speakers))
    parts = np.split(order, np.cumsum(sizes))[:3]
    return Deal(seed, *([speakers[k] for k in places] for places in parts))


class Speech(NamedTuple):
    """What a network is trained on."""

    frames: list[np.ndarray]
    """Log-mel frames of each training speaker at each speed."""
    scale: dict[str, Any]
    """Their mean and deviation in each band."""


def training_speech(speakers: Sequence[Voice], speeds: Sequence[float]) -> Speech:
    """The training speakers at every speed: seconds of work, and the same for every loss."""
    frames = [features.log_mel(each.at_speed(speed)) for speed in speeds for each in speakers]
    every = np.concatenate(frames)
    return Speech(frames, {"mean": every.mean(0), "deviation": every.std(0) + 1e-3})


@dataclasses.dataclass(frozen=True)
class Batches:
    """Random segments of some speakers, a pure function of the seed and the step.

    So a resumed run sees what an uninterrupted one would have seen.
    """

    speech: list[np.ndarray]
    """Log-mel frames [frames, bands] of each training speaker."""
    speakers: int
    """In a batch."""
    segments: int
    """Of each of them, one speaker after another."""
    frames: int
    """In a segment."""
    steps: int
    seed: int

    def __call__(self, start: int) -> Iterator[dict[str, Any]]:
        for step in range(start, self.steps):
            yield self.one(step)

    def one(self, step: int) -> dict[str, Any]:
        """Segments [B, frames, bands] and ids [B] of their speakers."""
        rng = np.random.default_rng([self.seed, step])
        chosen = rng.permutation(len(self.speech))[: self.speakers]
        ids = np.repeat(chosen, self.segments).astype(np.int32)
        at = rng.random(len(ids))
        return {
            "segments": np.stack([self._cut(int(k), u) for k, u in zip(ids, at, strict=True)]),
            "speakers": ids,
        }

    def _cut(self, speaker: int, at: float) -> np.ndarray:
        spoken = self.speech[speaker]
        start = int(at * (len(spoken) - self.frames + 1))
        return spoken[start : start + self.frames]


def segments(spoken: np.ndarray, frames: int) -> np.ndarray:
    """Segments [n, frames, bands] of an utterance, each half over the next."""
    windows = np.lib.stride_tricks.sliding_window_view(spoken, frames, axis=0)
    return np.moveaxis(windows[:: max(frames // 2, 1)], -1, 1)
