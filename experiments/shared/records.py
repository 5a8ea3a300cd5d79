"""What was measured, written down: plain JSON, beside the device and the versions it ran on."""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np


def write_json(path: Path, content: Any) -> None:
    """Write `content` at once or not at all: a run that is killed leaves no half file.

    NaN, which JSON does not know, becomes null.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".partial")
    plain = _finite(json.loads(json.dumps(content, default=_plain)))
    try:
        scratch.write_text(json.dumps(plain, indent=1, allow_nan=False) + "\n")
        scratch.replace(path)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def stopwatch(path: Path) -> Iterator[Callable[[], float]]:
    """Seconds spent within, those of earlier calls that were interrupted included.

    They are kept in the file at `path`; what is yielded reads the sum.
    """
    before = json.loads(path.read_text()) if path.exists() else 0.0
    begun = time.perf_counter()
    try:
        yield lambda: before + time.perf_counter() - begun
    finally:
        write_json(path, before + time.perf_counter() - begun)


def environment(device: Any = None) -> dict[str, Any]:
    """Device, version, commit and day, to stand beside every recorded figure."""
    device = device or jax.devices()[0]
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "devices": jax.device_count(),
        "jax": jax.__version__,
        "commit": _commit(),
        "date": time.strftime("%Y-%m-%d"),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return np.asarray(value).tolist()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    here = Path(__file__).parent
    try:
        found = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
