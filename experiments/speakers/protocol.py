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
from experiments.shared.settings import require_within
from experiments.speakers import features, recordings, voices as generated
from experiments.speakers.recordings import Collection, UnusableRecordings

FIRST = 0.8  # share of the first utterance


@dataclasses.dataclass(frozen=True)
class Source:
    """Whose voices, and how they are dealt and cut."""

    data: Path | None = None
    """Folder of recordings: speaker/name.wav, or index.csv with file,speaker; without it voices are
    generated."""
    rate: int = 8000
    """Samples a second to which sound is brought."""
    seconds: float = 8.0
    """Length of each generated voice."""
    train_speakers: int = 100
    """To train on."""
    dev_speakers: int = 40
    """To choose thresholds and whitening on."""
    test_speakers: int = 40
    """To test on, unknown to the network."""
    speeds: tuple[float, ...] = (0.9, 1.0, 1.1)
    """Each training speaker is also heard at other speeds, as further voices to be told apart."""
    frames: int = 40
    """In a segment, 10 ms each."""

    def __post_init__(self) -> None:
        two = dict.fromkeys(("train_speakers", "dev_speakers", "test_speakers"), "[2, inf)")
        require_within(self, rate="[1000, inf)", seconds="(0, inf)", **two)
        different = len(set(self.speeds)) == len(self.speeds) > 0
        if not different or not all(0.5 <= speed <= 2.0 for speed in self.speeds):
            raise ValueError(f"speeds must be different and lie in [0.5, 2], got {self.speeds}")

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Speakers to train on, to tune on, to test on."""
        return self.train_speakers, self.dev_speakers, self.test_speakers

    @property
    def voices(self) -> int:
        """To be told apart in training."""
        return self.train_speakers * len(self.speeds)


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
    """Two utterances of every speaker, by name, each of at least a segment of `frames`.

    Raises:
      UnusableRecordings: if a speaker has not two utterances.
    """
    by_speaker: dict[str, list[np.ndarray]] = {}
    for recording in sorted(collection.recordings, key=lambda made: (made.speaker, made.name)):
        by_speaker.setdefault(recording.speaker, []).append(recording.signal)
    rate = collection.rate
    return [_voice(speaker, signals, rate, frames) for speaker, signals in by_speaker.items()]


def _voice(speaker: str, signals: list[np.ndarray], rate: int, frames: int) -> Voice:
    spoken = [features.mel_power(signal, rate) for signal in signals]
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


def open_deals(source: Source, seeds: Sequence[int], console: Console) -> list[Deal]:
    """The voices of a folder, or generated ones, dealt anew for each seed."""
    speakers = _open_voices(source, console)
    return [deal(speakers, source.sizes, seed) for seed in seeds]


def _open_voices(source: Source, console: Console) -> list[Voice]:
    rate, frames = source.rate, source.frames
    if source.data is None:
        return voices(generated.generate(sum(source.sizes), source.seconds, rate), frames)
    shortest = frames * features.HOP_SECONDS
    collection = recordings.read_folder(source.data, rate=rate, shortest=shortest)
    speakers, count = voices(collection, frames), len(collection.recordings)
    minutes = sum(len(recording.signal) for recording in collection.recordings) / rate / 60
    counted = f"{len(speakers)} speakers, {count} recordings, {minutes:.0f} minutes"
    console.print(f"{counted} in {source.data}", markup=False)
    commands.tell_left_out(collection.skipped, console)
    return speakers


class Speech(NamedTuple):
    """What a network is trained on."""

    frames: list[np.ndarray]
    """Log-mel frames of each training speaker at each speed."""
    scale: dict[str, Any]
    """Their mean and deviation in each band."""


def training_speech(speakers: Sequence[Voice], speeds: Sequence[float]) -> Speech:
    """The training speakers at every speed: seconds of work, and the same for every loss."""
    frames = [features.log_mel(voice.at_speed(speed)) for speed in speeds for voice in speakers]
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
            yield self.batch(step)

    def batch(self, step: int) -> dict[str, Any]:
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
