"""What a network hears: mel spectrograms, computed in JAX and equal to librosa's.

A frame is 64 ms under a Hann window, one every 10 ms; its power is summed in triangles on Slaney's
mel scale, each of area 1. Frames are centred, so the signal is padded with half a frame of zeros.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import fft

BANDS = 128
COEFFICIENTS = 20
HOP_SECONDS = 0.01
WINDOW_SECONDS = 0.064
AT_ONCE = 1024  # frames in a program


def mel_power(signal: np.ndarray, rate: int) -> np.ndarray:
    """Power in each band [frames, bands] of a signal [samples].

    Equal to ``librosa.feature.melspectrogram(y=signal, sr=rate, n_fft=…, hop_length=…).T``.

    Raises:
      ValueError: if the signal is not one-dimensional, or is empty.
    """
    if signal.ndim != 1 or not signal.size:
        raise ValueError(f"signal must be a non-empty [samples], got {signal.shape}")
    hop, size = round(HOP_SECONDS * rate), 2 * round(WINDOW_SECONDS * rate / 2)
    padded = np.pad(signal.astype(np.float32), size // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    filters, window = mel_filters(rate, size), _hann(size)
    return in_chunks(lambda chunk: _power(chunk, window, filters), frames, AT_ONCE)


def in_chunks(program: Callable[..., Any], rows: np.ndarray, size: int) -> np.ndarray:
    """``program(rows)``, row by row the same, so many at once: any number needs one compilation."""
    results = []
    for first in range(0, len(rows), size):
        chunk = rows[first : first + size]
        full = np.zeros((size, *rows.shape[1:]), np.float32)
        full[: len(chunk)] = chunk
        results.append(np.asarray(program(full))[: len(chunk)])
    return np.concatenate(results)


@jax.jit
def _power(frames: jax.Array, window: jax.Array, filters: jax.Array) -> jax.Array:
    spectrum = jnp.fft.rfft(frames * window[None])
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    return jnp.matmul(power, filters.T, precision=jax.lax.Precision.HIGHEST)


def log_mel(power: np.ndarray) -> np.ndarray:
    """The compression of Lukic et al., which hears silence as 0."""
    return np.log10(1.0 + 10_000.0 * power)


def mfcc(power: np.ndarray) -> np.ndarray:
    """Mel-frequency cepstral coefficients [frames, 20], as librosa has them.

    Decibels, at most 80 below the loudest, under an orthonormal cosine transform.
    """
    decibels = 10.0 * np.log10(np.maximum(power, 1e-10))
    decibels = np.maximum(decibels, decibels.max() - 80.0)
    return np.asarray(fft.dct(decibels, axis=-1, norm="ortho"))[:, :COEFFICIENTS]


@functools.lru_cache
def mel_filters(rate: int, size: int) -> np.ndarray:
    """Triangles [bands, size // 2 + 1] from 0 Hz to half the rate, each of area 1 in Hz."""
    edges = _hertz(np.linspace(0.0, _mel(0.5 * rate), BANDS + 2))
    lower, middle, upper = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    frequencies = np.fft.rfftfreq(size, 1.0 / rate)
    rising = (frequencies - lower) / (middle - lower)
    falling = (upper - frequencies) / (upper - middle)
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return (triangles * 2.0 / (upper - lower)).astype(np.float32)


@functools.lru_cache
def _hann(size: int) -> np.ndarray:
    return (0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(size) / size)).astype(np.float32)


# Slaney's scale: 3 mels in 200 Hz up to 1 kHz, 27 in each factor of 6.4 above.
_LINEAR, _KNEE, _STEP = 200.0 / 3.0, 1000.0, np.log(6.4) / 27.0


def _mel(hertz: float) -> float:
    if hertz < _KNEE:
        return hertz / _LINEAR
    return float(_KNEE / _LINEAR + np.log(hertz / _KNEE) / _STEP)


def _hertz(mel: np.ndarray) -> np.ndarray:
    above = np.maximum(mel - _KNEE / _LINEAR, 0.0)
    return np.where(above > 0.0, _KNEE * np.exp(_STEP * above), mel * _LINEAR)
