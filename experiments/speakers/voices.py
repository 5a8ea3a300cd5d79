"""Voices to try everything on without data: who speaks is known, and what is said does not help.

A speaker has a pitch, a vocal tract of some length with a shape of its own, a breathiness and an
unsteadiness. Each says random vowels: a train of glottal pulses with jitter and some breath goes
through four resonances, which glide from vowel to vowel.
"""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter

from experiments.speakers.recordings import Collection, Recording

# The first three formants of ten American vowels, men's means in Hz (Peterson and Barney, 1952),
# and a fourth at its usual place.
VOWELS = np.array(
    [
        [270, 2290, 3010, 3500],
        [390, 1990, 2550, 3500],
        [530, 1840, 2480, 3500],
        [660, 1720, 2410, 3500],
        [730, 1090, 2440, 3500],
        [570, 840, 2410, 3500],
        [440, 1020, 2240, 3500],
        [300, 870, 2240, 3500],
        [640, 1190, 2390, 3500],
        [490, 1350, 1690, 3500],
    ],
    float,
)
BANDWIDTHS = np.array([70.0, 90.0, 130.0, 180.0])


def generate(speakers: int, seconds: float, rate: int) -> Collection:
    """A recording of each speaker."""
    streams = np.random.default_rng(0).spawn(speakers)
    return Collection(
        tuple(
            Recording(f"voice-{k:03d}", f"voice-{k:03d}", speak(stream, seconds, rate))
            for k, stream in enumerate(streams)
        ),
        rate,
    )


def speak(rng: np.random.Generator, seconds: float, rate: int) -> np.ndarray:
    """A new speaker saying random vowels, float32 [samples]."""
    pitch = rng.choice([115.0, 200.0]) * np.exp(rng.normal(0.0, 0.14))
    tract = 1.0 + 0.17 * (pitch > 150.0) + rng.normal(0.0, 0.05)
    shape = tract * (1.0 + rng.normal(0.0, 0.03, 4))
    bandwidths = BANDWIDTHS * np.exp(rng.normal(0.0, 0.2, 4))
    breath, jitter = rng.uniform(0.01, 0.08), rng.uniform(0.005, 0.03)
    tilt = rng.uniform(0.75, 0.93)

    samples = round(seconds * rate)
    source = _pulses(rng, samples, rate, pitch, jitter) + breath * rng.normal(size=samples)
    source = np.asarray(lfilter([1.0 - tilt], [1.0, -tilt], source))
    spoken = np.empty(samples)
    memory = [np.zeros(2) for _ in range(4)]
    at = 0
    formants = VOWELS[rng.integers(len(VOWELS))] * shape
    while at < samples:
        target = VOWELS[rng.integers(len(VOWELS))] * shape * (1.0 + rng.normal(0.0, 0.03, 4))
        length, glide = int(rng.uniform(0.08, 0.25) * rate), 8
        level = rng.uniform(0.4, 1.0)
        for part in range(glide):
            stop = min(at + max(length // glide, 1), samples)
            now = formants + (target - formants) * min(1.0, 2.0 * (part + 1) / glide)
            piece = source[at:stop] * level
            for k in range(4):
                piece, memory[k] = _resonate(piece, now[k], bandwidths[k], rate, memory[k])
            spoken[at:stop] = piece
            at = stop
        formants = target
    spoken += 0.003 * np.std(spoken) * rng.normal(size=samples)
    return (0.1 * spoken / np.std(spoken)).astype(np.float32)


def _pulses(
    rng: np.random.Generator, samples: int, rate: int, pitch: float, jitter: float
) -> np.ndarray:
    """Unit pulses, whose distances follow a slow melody and differ from one to the next."""
    count = int(2.0 * samples / rate * pitch) + 2
    melody = np.cumsum(rng.normal(0.0, 0.012, count))
    melody -= lfilter([0.02], [1.0, -0.98], melody)  # it comes back to the pitch
    periods = rate / (pitch * np.exp(melody)) * (1.0 + jitter * rng.normal(size=count))
    places = np.cumsum(np.maximum(periods, 2.0)).astype(int)
    source = np.zeros(samples)
    source[places[places < samples]] = 1.0
    return source


def _resonate(
    x: np.ndarray, frequency: float, bandwidth: float, rate: int, memory: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Klatt's two-pole resonator, of gain 1 at 0 Hz, and what it remembers."""
    radius = np.exp(-np.pi * bandwidth / rate)
    angle = 2.0 * np.pi * min(frequency, 0.47 * rate) / rate
    b, c = 2.0 * radius * np.cos(angle), -radius * radius
    return lfilter([1.0 - b - c], [1.0, -b, -c], x, zi=memory)
