"""Settings for the whole suite: they must precede the first use of a device."""

import gc
import os
from pathlib import Path

import jax
import numpy as np
import pytest

# Eight virtual devices on any machine, so that what is said of many devices is tested everywhere.
jax.config.update("jax_num_cpu_devices", 8)

# What a user may switch on, and nothing here may stumble over. The one place to do so.
STRICT = {
    "jax_numpy_rank_promotion": "allow",
    "jax_numpy_dtype_promotion": "standard",
    "jax_debug_nans": False,
}
for option, value in STRICT.items():
    jax.config.update(option, value)

# LLVM's expensive passes are for programs that run for long. Ours are small and run once: level 1
# is twice as fast, and 0 saves another quarter. At 0 XLA makes NaN of gradients of convolutions
# (jax 0.10.2, CPU, 2026-11-25), so files that train a network have 1. XLA fuses at any level.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=1"
NETWORKS = {f"test_{name}.py" for name in ("ships", "unet", "text", "speakers")}

# XLA keeps about four memory maps for each program that it compiled for a CPU. Linux gives a
# process 65,530 (vm.max_map_count), and one too many is a segmentation fault.
MOST_MAPS = 50_000
MAPS = Path("/proc/self/maps")


class EveryFile:
    """What holds for files of doctests too, which lie outside of this folder."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        jax.config.update("jax_disable_most_optimizations", item.path.name not in NETWORKS)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        """Give back what XLA holds for the programs of a file once its last test is done."""
        if nextitem is not None and nextitem.path == item.path:
            return
        if MAPS.exists():
            maps = MAPS.read_bytes().count(b"\n")
            assert maps < MOST_MAPS, (
                f"{item.path.name} compiled so many programs that the process has {maps} memory"
                f" maps; near 65,530 it would crash: split the file, or compile less"
            )
        jax.clear_caches()
        gc.collect()


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(EveryFile(), "diffmetrics-every-file")


@pytest.fixture(autouse=True)
def _same_numbers_in_any_order(request: pytest.FixtureRequest) -> None:
    """A module's `rng` starts afresh for every test, wherever and after whatever it runs."""
    if hasattr(request.module, "rng"):
        request.module.rng = np.random.default_rng(0)
