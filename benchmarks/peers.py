"""Who else computes the same: which libraries there are, which are wanted, and what each offers."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks import jax_peers, torch_peers

Function = Callable[[Any], Any]
"""Mean loss of a namespace of arrays, as `Loss.__call__`."""

# A name on the command line and in the table, and what installs it.
INSTALL = {
    "jnp": "",
    "optax": "pip install optax",
    "keras": "pip install keras",
    "rax": "pip install rax",
    "torch": "pip install torch==2.13.0",
    "torch.compile": "pip install torch==2.13.0",
    "torchvision": "pip install torchvision",
    "monai": "pip install monai",
    "smp": "pip install segmentation-models-pytorch",
}
MODULE = {"jnp": "jax", "torch.compile": "torch", "smp": "segmentation_models_pytorch"}
# PyTorch's own functions and those of libraries on it, all run as they are called.
EAGER = ("torch", "torchvision", "monai", "smp")
OFFERS: dict[str, Callable[[], Mapping[str, Function]]] = {
    "jnp": jax_peers.plain,
    "optax": jax_peers.of_optax,
    "keras": jax_peers.of_keras,
    "rax": jax_peers.of_rax,
    "torch": torch_peers.of_torch,
    "torchvision": torch_peers.of_torchvision,
    "monai": torch_peers.of_monai,
    "smp": torch_peers.of_smp,
}


@dataclasses.dataclass(frozen=True)
class Peers:
    """The peers of a run."""

    functions: Mapping[str, Mapping[str, Function]]
    """Library to row label to function."""
    absent: tuple[str, ...] = ()
    """Libraries that were asked for and are not here, with what installs them."""

    def of(self, label: str) -> dict[str, Function]:
        """Every peer of a row."""
        return {name: offer[label] for name, offer in self.functions.items() if label in offer}


def names(asked: str) -> list[str]:
    """The libraries that `asked` names: all, none, or a list with commas between.

    Raises:
      ValueError: naming what is unknown and what exists.
    """
    if asked in ("all", "none"):
        return list(INSTALL) if asked == "all" else []
    wanted = [name.strip() for name in asked.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in INSTALL]
    if unknown or not wanted:
        exist = ", ".join(INSTALL)
        raise ValueError(
            f"no such peer: {', '.join(unknown) or repr(asked)}; all, none, or of {exist}"
        )
    return wanted


def load(asked: str) -> Peers:
    """Import the wanted libraries that are installed; nothing else is imported."""
    functions: dict[str, Mapping[str, Function]] = {}
    absent = []
    for name in names(asked):
        offer = _compiled() if name == "torch.compile" else _offer(name)
        if isinstance(offer, str):
            absent.append(offer)
        else:
            functions[name] = offer
    return Peers(functions, tuple(absent))


def _offer(name: str) -> Mapping[str, Function] | str:
    """What a library computes, or why it is not there."""
    # Everything on PyTorch needs it too.
    needed = {MODULE.get(name, name), *(["torch"] if on_torch(name) else [])}
    if not all(map(importlib.util.find_spec, needed)):
        return f"{name} ({INSTALL[name]})"
    try:
        return OFFERS[name]()
    except Exception as error:  # built for another release of what it stands on, say
        return f"{name} (fails at its import: {error})"


def _compiled() -> Mapping[str, Function] | str:
    """For each row the first function that PyTorch or a library on it offers."""
    found: dict[str, Function] = {}
    for name in EAGER:
        offer = _offer(name)
        if not isinstance(offer, str):
            found = {**offer, **found}
    return found or f"torch.compile ({INSTALL['torch.compile']})"


def on_torch(name: str) -> bool:
    return name in EAGER or name == "torch.compile"
