"""What can be had without a network: mean and deviation of mel-frequency cepstral coefficients."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.speakers import features, measure
from experiments.speakers.measure import FEW, Heard, spread_evenly
from experiments.speakers.protocol import Deal, Voice


def judge(deal: Deal, frames: int) -> dict[str, Any]:
    """Figures of the test speakers, in units of the training speakers, with `frames` a segment."""
    train, dev, test = (
        _hear([_describe(voice, frames) for voice in some])
        for some in (deal.train, deal.dev, deal.test)
    )
    return measure.judge(_scaled(dev, train), _scaled(test, train))


def _hear(described: list[tuple[np.ndarray, np.ndarray]]) -> Heard:
    utterances, segments = zip(*described, strict=True)
    speakers = np.arange(len(described))
    owners = np.repeat(speakers, [len(each) for each in segments])
    return Heard(
        np.concatenate(utterances), np.repeat(speakers, 2), np.concatenate(segments), owners
    )


def _scaled(heard: Heard, train: Heard) -> Heard:
    utterances, segments = (
        (x - of.mean(0)) / (of.std(0) + 1e-6)
        for x, of in ((heard.utterances, train.utterances), (heard.segments, train.segments))
    )
    return heard._replace(utterances=utterances, segments=segments)


def _describe(voice: Voice, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Statistics of the two utterances [2, 40], and of a few segments [n, 40]."""
    whole, parts = [], []
    for power in (voice.first, voice.second):
        found = features.mfcc(power)
        whole.append(_statistics(found))
        starts = range(0, len(found) - frames + 1, max(frames // 2, 1))
        parts += [_statistics(found[k : k + frames]) for k in spread_evenly(np.array(starts), FEW)]
    return np.stack(whole), np.stack(parts)


def _statistics(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x.mean(0), x.std(0)])
