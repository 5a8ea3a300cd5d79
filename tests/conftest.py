"""Settings for the whole suite: they must precede the first use of a device."""

import jax
import numpy as np
import pytest

# Eight virtual devices on any machine, so that what is said of many devices is tested everywhere.
jax.config.update("jax_num_cpu_devices", 8)

# Those that train a network: without its optimisations XLA makes NaN of gradients of convolutions
# (jax 0.10.2, CPU, 2026-11-25).
NETWORKS = {
    f"test_{name}.py"
    for name in ("ships", "unet", "text", "tabular", "uncertainty", "speakers", "training")
}


@pytest.fixture(autouse=True, scope="module")
def _compile_quickly(request: pytest.FixtureRequest) -> None:
    """Leave out LLVM's expensive passes, for programs that are small and run once.

    A quarter of the suite's time. XLA fuses all the same, so memory is what users have.
    """
    jax.config.update("jax_disable_most_optimizations", request.path.name not in NETWORKS)


@pytest.fixture(autouse=True)
def _same_numbers_in_any_order(request: pytest.FixtureRequest) -> None:
    """A module's `rng` starts afresh for every test, wherever and after whatever it runs."""
    if hasattr(request.module, "rng"):
        request.module.rng = np.random.default_rng(0)
