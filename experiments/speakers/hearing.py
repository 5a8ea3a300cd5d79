"""Embeddings of what speakers have said, segment by segment."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.typing import ArrayLike

from experiments.speakers import features, protocol
from experiments.speakers.measure import FEW, Heard, spread_evenly
from experiments.speakers.protocol import Voice

Embed = Callable[[ArrayLike], jax.Array]  # log-mel segments [n, frames, bands] -> [n, D]
AT_ONCE = 256  # segments in a program


def embeddings(embed: Embed, utterances: Sequence[np.ndarray], frames: int) -> list[np.ndarray]:
    """Embeddings [segments, D] of each utterance, given as mel power [frames, bands]."""
    cut = [protocol.segments(features.log_mel(power), frames) for power in utterances]
    ends = np.cumsum([len(segments) for segments in cut])[:-1]
    return np.split(features.in_chunks(embed, np.concatenate(cut), AT_ONCE), ends)


def hear(embed: Embed, voices: Sequence[Voice], frames: int) -> Heard:
    """Embeddings of the two utterances of each speaker, and of a few of their segments."""
    spoken = embeddings(
        embed, [power for voice in voices for power in (voice.first, voice.second)], frames
    )
    speakers = np.repeat(np.arange(len(voices)), 2)
    few = [spread_evenly(segments, FEW) for segments in spoken]
    owners = np.repeat(speakers, [len(segments) for segments in few])
    utterances = np.stack([segments.mean(0) for segments in spoken])
    return Heard(utterances, speakers, np.concatenate(few), owners)
