"""Programs for a device, compiled and read, never run; the device need not be here.

XLA's compilers for a GPU and a TPU need none of them, only to be installed. Nothing that is changed
for them stays changed: this process goes on with the devices, the cache and the environment that it
had.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from jax.experimental import topologies
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import SingleDeviceSharding

from diffmetrics.diagnose import _traffic

OURS = "jax-diffmetrics"  # as an index knows this library
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

    title: str
    platform: str
    topology: str = ""
    packages: tuple[str, ...] = ()
    description: str | None = None
    """A file beside this one that describes a card which the compiler does not know by name."""


TARGETS = {
    "h100": Target("NVIDIA H100", "cuda", "h100", CUDA, "h100.txtpb"),
    "v5e": Target("TPU v5e", "tpu", "v5e:2x2", TPU),
    "v6e": Target("TPU v6e", "tpu", "v6e:2x2", TPU),
    "cpu": Target("CPU", "cpu"),
}


def missing(name: str) -> list[str]:
    """The packages that the compiler for the target `name` needs and that are not installed."""
    return [package for package in TARGETS[name].packages if package not in versions(name)]


def _wanted(packages: list[str]) -> str:
    """What to ask pip for: our extra where we come from an index ourselves, else the packages."""
    try:
        ours = importlib.metadata.distribution(OURS)
    except importlib.metadata.PackageNotFoundError:
        return " ".join(packages)
    from_index = ours.read_text("direct_url.json") is None  # which a folder and a URL have
    return f"'{OURS}[accelerators]'" if from_index else " ".join(packages)


def versions(name: str) -> dict[str, str]:
    """Which of the packages that the target `name` needs are here."""
    found = {}
    for package in TARGETS[name].packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def device(name: str) -> Any:
    """The device called `name`, to compile for.

    Raises:
      ValueError: if there is no such target, or its compiler is not installed or cannot be loaded.
    """
    if name not in TARGETS:
        raise ValueError(f"target must be one of {', '.join(TARGETS)}, got {name!r}")
    if absent := missing(name):
        raise ValueError(f"target {name} needs {', '.join(absent)}: pip install {_wanted(absent)}")
    match TARGETS[name].platform:
        case "cpu":
            return jax.devices("cpu")[0]
        case "cuda":
            return _gpu(TARGETS[name])
    return _tpu(TARGETS[name])


def _tpu(target: Target) -> Any:
    jax.devices()  # a TPU that is here is found as ever, before another is made up
    before = {key: os.environ.get(key) for key in ALONE}
    os.environ.update({key: before[key] or value for key, value in ALONE.items()})
    try:
        return topologies.get_topology_desc(target.topology, target.platform).devices[0]
    finally:
        for key in (key for key, value in before.items() if value is None):
            del os.environ[key]


def _gpu(target: Target) -> Any:
    assert target.description is not None
    card = Path(__file__).with_name(target.description).read_text()
    # The plugin is loaded once, and refuses to be where there is no driver, unless JAX is told
    # to leave GPUs alone.
    before = jax.config.jax_platforms  # pyright: ignore[reportAttributeAccessIssue]
    jax.config.update("jax_platforms", "cpu")
    try:
        options = {"target_config": card, "topology": "1x1x1"}
        made = topologies.get_topology_desc(target.topology, target.platform, **options)
    except NotImplementedError as error:
        raise ValueError(
            "JAX has looked for a GPU before, found none and put its compiler away: "
            "start Python with JAX_PLATFORMS=cpu"
        ) from error
    finally:
        jax.config.update("jax_platforms", before)
    return made.devices[0]


def abstract(tree: Any, device: Any) -> Any:
    """The shapes and types of the arrays in `tree`, placed on a device that need not exist."""
    place = SingleDeviceSharding(device)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), tree)


# --- programs -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Program:
    """What was read off one compiled program."""

    bytes: int
    """Between memory and chip."""
    kernels: int
    temp_bytes: int
    memory_bytes: int
    """With what it takes and gives, which may lie in the same place."""
    compile_s: float
    """Of processor time, which a busy machine hardly changes."""
    endless: int = 0
    """Loops that were counted once, because nothing says how often they run."""


def compiled(function: Callable[..., Any], *arguments: Any) -> Program:
    """Compile a function for the device on which its abstract arguments lie, and read it."""
    lowered = jax.jit(function).lower(*arguments)
    with _uncached():
        begun = _processor_seconds()
        made = lowered.compile()
        seconds = _processor_seconds() - begun
    return read(made, seconds)


def read(made: Any, seconds: float = 0.0) -> Program:
    """What a compiled program, which took so many `seconds` to compile, moves and needs."""
    memory, text = made.memory_analysis(), made.as_text()
    assert memory is not None  # XLA has both for every target here
    assert text is not None
    moved, temporary = _traffic.count(text), memory.temp_size_in_bytes
    around = memory.argument_size_in_bytes + memory.output_size_in_bytes
    whole = temporary + around - memory.alias_size_in_bytes
    return Program(moved.bytes, moved.kernels, temporary, whole, seconds, endless=moved.endless)


@contextlib.contextmanager
def _uncached() -> Iterator[None]:
    """What was compiled before would seem to have cost nothing: no cache on disk is asked."""
    before = jax.config.jax_enable_compilation_cache  # pyright: ignore[reportAttributeAccessIssue]
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # whether there is one is asked once
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


def _processor_seconds() -> float:
    """Of this process and of those it started: assemblers are programs of their own."""
    return sum(os.times()[:4])
