"""The papers' protocol: two utterances of each speaker, unknown speakers to test on, segments.

    100 speakers to train on · 40 to choose thresholds on · 40 to test on, all unlike each other

A speaker's first utterance is 80 % of what there is, the second the rest: of the recordings if
there are several, as for TIMIT with its ten sentences, else of the time of the only one. In the
second case both are of one session, whose room and microphone help to tell speakers apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from scipy.signal import resample_poly

from experiments.speakers import features
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


class Parts(NamedTuple):
    """Places of speakers."""

    train: np.ndarray
    dev: np.ndarray
    test: np.ndarray


def split(speakers: int, sizes: tuple[int, int, int], seed: int) -> Parts:
    """Deal speakers to train, dev and test.

    Raises:
      UnusableRecordings: if there are too few.
    """
    if speakers < sum(sizes):
        train, dev, test = sizes
        raise UnusableRecordings(
            f"{speakers} speakers are there, but {train} + {dev} + {test} = {sum(sizes)} are "
            "needed: pass --train-speakers, --dev-speakers and --test-speakers"
        )
    order = np.random.default_rng(seed).permutation(speakers)
    train, dev, test, _ = np.split(order, np.cumsum(sizes))
    return Parts(train, dev, test)


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
