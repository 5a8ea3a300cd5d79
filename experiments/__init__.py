"""Runnable experiments, a package each: `python -m experiments.NAME`."""

import importlib.util
import sys

_NEEDED = ("flax", "grain", "matplotlib", "optax", "orbax.checkpoint", "PIL", "rich", "sklearn")
_NEEDED += ("scipy", "soundfile", "tyro")


def _is_missing(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is None
    except ModuleNotFoundError:
        return True


if _missing := [name for name in _NEEDED if _is_missing(name)]:
    sys.exit(f"error: {', '.join(_missing)} not found: pip install -e '.[experiments]'")
