"""Settings for the whole suite: they must precede the first use of a device."""

import ctypes
import gc
import os
from pathlib import Path

import jax
import numpy as np
import pytest

# Eight virtual devices on any machine, so that what is said of many devices is tested everywhere.
jax.config.update("jax_num_cpu_devices", 8)

# What a user may switch on, and nothing here may stumble over. The one place to do so.
STRICT: dict[str, str | bool] = {
    "jax_numpy_rank_promotion": "raise",
    "jax_numpy_dtype_promotion": "strict",
    "jax_debug_nans": True,
}

# Pages, and the examples of the doctor and of the assertions, show code as other people write it.
AS_PEOPLE_WRITE: dict[str, str | bool] = {
    "jax_numpy_rank_promotion": "allow",
    "jax_numpy_dtype_promotion": "standard",
    "jax_debug_nans": False,
}


def is_of_people(path: Path) -> bool:
    example = path.name == "testing.py" or "diagnose" in path.parts
    return path.suffix == ".md" or (example and "src" in path.parts)


def set_options(options: dict[str, str | bool]) -> None:
    for option, value in options.items():
        jax.config.update(option, value)


set_options(STRICT)  # before the first array is made

# Hundreds of tests ask for an error, and JAX takes a millisecond to strike its own lines from each.
jax.config.update("jax_traceback_filtering", os.environ.get("JAX_TRACEBACK_FILTERING", "off"))

# LLVM's expensive passes are for programs that run for long. Ours are small and run once: level 1
# is twice as fast, and 0 saves another quarter. At 0 XLA makes NaN of gradients of convolutions
# (jax 0.10.2, CPU, 2026-11-25), so files that train a network have 1. XLA fuses at any level.
# In jax 0.10 the older of its two generators of code compiles in half the time; 0.12 has only the
# newer, and is asked with it.
FLAGS = ["--xla_backend_optimization_level=1", "--xla_cpu_parallel_codegen_split_count=1"]
FLAGS += ["--xla_cpu_use_fusion_emitters=false"] if jax.__version_info__ < (0, 11) else []
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *FLAGS])
NETWORKS = {f"test_{name}.py" for name in ("ships", "unet", "text", "speakers")}

# XLA keeps about 400 KB and four memory maps for each program that it compiled for a CPU. Linux has
# 65,530 maps for a process (vm.max_map_count), and one too many is a segmentation fault.
MOST_MAPS, MOST_GROWTH, ENOUGH = 50_000, 600 * 2**20, 200 * 2**20
PROCESS = Path("/proc/self")  # on Linux

# Python looks for garbage in all that lives, after the imports half a million objects: a sixth of
# the suite's time. What lives once the tests are collected is set aside, and new objects are looked
# through after 20,000, not 700.
gc.set_threshold(20_000, 20, 20)


def memory() -> int:
    """Bytes that this process holds; 0 where that is not known."""
    statm = PROCESS / "statm"
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGESIZE") if statm.exists() else 0


def forget_programs() -> None:
    """Give back what compiled programs hold; the C library keeps what is freed until asked."""
    jax.clear_caches()
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


class EveryFile:
    """What holds for files of doctests too, which lie outside of this folder."""

    at_first = memory()

    def pytest_collection_finish(self) -> None:
        gc.collect()
        gc.freeze()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        jax.config.update("jax_disable_most_optimizations", item.path.name not in NETWORKS)
        set_options(AS_PEOPLE_WRITE if is_of_people(item.path) else STRICT)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        """Forget programs once they hold much, and sooner where a file ends: it takes a second."""
        ends = nextitem is None or nextitem.path != item.path
        grown = memory() - self.at_first
        if grown < (ENOUGH if ends else MOST_GROWTH):
            return
        maps = (PROCESS / "maps").read_bytes().count(b"\n") if PROCESS.exists() else 0
        assert maps < MOST_MAPS, (
            f"{item.nodeid}: this process has {maps} memory maps, and near 65,530 it would crash:"
            f" compile fewer programs, or keep fewer of them"
        )
        forget_programs()
        self.at_first = memory()


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(EveryFile(), "diffmetrics-every-file")


@pytest.fixture(autouse=True)
def _same_numbers_in_any_order(request: pytest.FixtureRequest) -> None:
    """A module's `rng` starts afresh for every test, wherever and after whatever it runs."""
    if hasattr(request.module, "rng"):
        request.module.rng = np.random.default_rng(0)
