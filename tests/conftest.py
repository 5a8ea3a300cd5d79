"""Settings for the whole suite: they must precede the first use of a device."""

import jax
import numpy as np
import pytest

# Eight virtual devices on any machine, so that what is said of many devices is tested everywhere.
jax.config.update("jax_num_cpu_devices", 8)
# The suite compiles thousands of small programs and runs each once. Without LLVM's expensive passes
# that takes a quarter less; XLA fuses all the same, so memory is what users have.
jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(autouse=True)
def _same_numbers_in_any_order(request: pytest.FixtureRequest) -> None:
    """A module's `rng` starts afresh for every test, wherever and after whatever it runs."""
    if hasattr(request.module, "rng"):
        request.module.rng = np.random.default_rng(0)
