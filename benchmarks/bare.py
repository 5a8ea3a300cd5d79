"""What a bare machine lacks, and the benchmarks on it can do without.

Experiments and tests import at their top what reads sound and images, draws and collects. Their
networks, steps and definitions use none of it; where it is not installed a module stands in that
has every name. Only `benchmarks.device` asks for this, before it imports them.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from typing import Any
from unittest import mock

DISPENSABLE = ("PIL", "cycler", "grain", "matplotlib", "pytest", "sklearn", "soundfile")
# Without these there is nothing: flax brings rich and orbax, and jax brings scipy.
NEEDED = ("jax", "numpy", "scipy", "chex", "flax", "optax", "orbax", "rich")


class StandIn(types.ModuleType):
    """A module that has every name."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return mock.MagicMock(name=f"{self.__name__}.{name}")


class Finder:
    """Finds stand-ins for some packages and all that is in them."""

    def __init__(self, packages: Sequence[str]):
        self.packages = set(packages)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        found = name.partition(".")[0] in self.packages
        return ModuleSpec(name, self, is_package=True) if found else None  # pyright: ignore

    def create_module(self, spec: ModuleSpec) -> StandIn:
        return StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing is in it."""


def missing(packages: Sequence[str]) -> list[str]:
    """Those that are not installed."""
    return [name for name in packages if importlib.util.find_spec(name) is None]


def stand_in() -> list[str]:
    """Let what is dispensable and not installed be imported all the same; its names."""
    names = missing(DISPENSABLE)
    if names:
        sys.meta_path.append(Finder(names))  # pyright: ignore[reportArgumentType]
    return names
