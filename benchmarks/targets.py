"""Accelerators that are not here: XLA's compilers for them need none, only to be installed."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
from pathlib import Path
from typing import Any

import jax
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

# What installs a compiler.
CUDA = ("jax-cuda12-plugin", "jax-cuda12-pjrt", "nvidia-cuda-nvcc-cu12")
TPU = ("libtpu",)

# A host without a TPU says what it would be: nothing is looked for on the network. Several
# processes may compile at a time, since none of them holds a chip.
ALONE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


@dataclasses.dataclass(frozen=True)
class Target:
    """What programs are compiled for."""

    platform: str
    topology: str
    packages: tuple[str, ...] = ()
    description: str | None = None
    """A file beside this one that describes a card which the compiler does not know by name."""


TARGETS = {
    "h100": Target("cuda", "h100", CUDA, "h100.txtpb"),
    "v5e": Target("tpu", "v5e:2x2", TPU),
    "v6e": Target("tpu", "v6e:2x2", TPU),
    "cpu": Target("cpu", ""),
}


def missing(name: str) -> list[str]:
    """The packages that the compiler for the target `name` needs and that are not installed."""
    return [package for package in TARGETS[name].packages if package not in versions(name)]


def versions(name: str) -> dict[str, str]:
    """Which of the packages that the target `name` needs are here."""
    found = {}
    for package in TARGETS[name].packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def use(name: str) -> Any:
    """The device called `name`, to compile for; JAX itself stays on the CPU.

    Raises:
      ValueError: if its compiler is not installed.
    """
    if absent := missing(name):
        raise ValueError(
            f"--target {name} needs {', '.join(absent)}: pip install -e '.[accelerators]'"
        )
    # Before the first use of a device, so that none is looked for. What was compiled before would
    # seem to have cost nothing.
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)
    target = TARGETS[name]
    if target.platform == "cpu":
        return jax.devices("cpu")[0]
    os.environ.update({key: os.environ.get(key, value) for key, value in ALONE.items()})
    options = {}
    if target.description:
        card = Path(__file__).with_name(target.description).read_text()
        options = {"target_config": card, "topology": "1x1x1"}
    return topologies.get_topology_desc(target.topology, target.platform, **options).devices[0]


def abstract(tree: Any, device: Any) -> Any:
    """The shapes and types of the arrays in `tree`, placed on a device that need not exist."""
    place = SingleDeviceSharding(device)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), tree)
