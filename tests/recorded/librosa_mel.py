# pyright: reportMissingImports=false
"""Record librosa's mel spectrogram and MFCC as `librosa_mel.npz`, with librosa installed.

python tests/recorded/librosa_mel.py
"""

import importlib.metadata
from pathlib import Path
from typing import Any

import librosa
import numpy as np

SECONDS, BANDS, COEFFICIENTS = 0.3, 128, 20


def record(rate: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(rate)
    t = np.arange(round(SECONDS * rate)) / rate
    voice = np.sign(np.sin(2 * np.pi * (120 + 40 * t) * t)) * np.exp(-3 * t)
    signal = (2000 * voice + 300 * rng.normal(size=t.size)).astype(np.int16)
    # 64 ms under a Hann window every 10 ms, and librosa's defaults otherwise.
    options = {"sr": rate, "n_fft": 64 * rate // 1000, "hop_length": rate // 100, "n_mels": BANDS}
    y = signal / np.float32(2**15)
    mel = librosa.feature.melspectrogram(y=y, **options)
    mfcc = librosa.feature.mfcc(y=y, n_mfcc=COEFFICIENTS, **options)
    found = {"signal": signal, "mel": mel.T, "mfcc": mfcc.T}
    return {f"{name}_{rate}": value for name, value in found.items()}


if __name__ == "__main__":
    path = Path(__file__).with_suffix(".npz")
    version = importlib.metadata.version("librosa")
    found: dict[str, Any] = {"version": version, **record(8000), **record(16000)}
    np.savez_compressed(path, **found)
