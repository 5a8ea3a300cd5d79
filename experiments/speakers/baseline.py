"""What can be had without a network: mean and deviation of mel-frequency cepstral coefficients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from experiments.speakers import features, measure
from experiments.speakers.measure import FEW, Heard, spread_evenly
from experiments.speakers.protocol import Deal, Voice

Hear = Callable[[Sequence[Voice]], Heard]


def judge(deal: Deal, frames: int) -> dict[str, Any]:
    """Figures of the test speakers, as of embeddings, which these are not."""
    hear = fit(deal.train, frames)
    return measure.judge(hear(deal.dev), hear(deal.test))


def fit(train: Sequence[Voice], frames: int) -> Hear:
    """How MFCC hear speakers, in units of the training speakers.

    Args:
      train: their voices.
      frames: in a segment.
    """
    utterances, segments = zip(*(_describe(each, frames) for each in train), strict=True)
    scales = [_scale(np.concatenate(each)) for each in (utterances, segments)]

    def hear(voices: Sequence[Voice]) -> Heard:
        found = [_describe(each, frames) for each in voices]
        speakers = np.arange(len(voices))
        whole, parts = (
            (np.concatenate(some) - mean) / deviation
            for some, (mean, deviation) in zip(zip(*found, strict=True), scales, strict=True)
        )
        owners = np.repeat(speakers, [len(parts) for _, parts in found])
        return Heard(whole, np.repeat(speakers, 2), parts, owners)

    return hear


def _scale(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x.mean(0), x.std(0) + 1e-6


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
