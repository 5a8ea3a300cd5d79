"""What can be had without training; here, mean and deviation of cepstral coefficients."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.speakers import features, measure
from experiments.speakers.measure import FEW, Heard, spread_evenly
from experiments.speakers.protocol import Deal, Voice

BASELINES = MFCC, UNTRAINED = "mfcc", "untrained"


def figures(deal: Deal, frames: int) -> dict[str, Any]:
    """Figures of mean and deviation of cepstral coefficients, with `frames` a segment.

    They are in units of the training speakers.
    """
    train, dev, test = (
        _hear([_describe(voice, frames) for voice in voices])
        for voices in (deal.train, deal.dev, deal.test)
    )
    return measure.figures(_scaled(dev, train), _scaled(test, train))


def _hear(described: list[tuple[np.ndarray, np.ndarray]]) -> Heard:
    utterances, segments = zip(*described, strict=True)
    speakers = np.arange(len(described))
    owners = np.repeat(speakers, [len(parts) for parts in segments])
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
        mfcc = features.mfcc(power)
        whole.append(_statistics(mfcc))
        starts = np.arange(0, len(mfcc) - frames + 1, max(frames // 2, 1))
        parts += [_statistics(mfcc[k : k + frames]) for k in spread_evenly(starts, FEW)]
    return np.stack(whole), np.stack(parts)


def _statistics(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x.mean(0), x.std(0)])
