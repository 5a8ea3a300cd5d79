"""The training steps of the experiments compile for accelerators, where their compilers are."""

import jax
import pytest

from benchmarks import step_sizes
from diffmetrics.diagnose import _targets as targets

SMALL = [name for name in step_sizes.SIZES if "width 8" in name or "50" in name or "128, " in name]


@pytest.mark.parametrize("target", ["h100", "v5e"])
def test_the_default_steps_fit_into_an_accelerator(target: str):
    if absent := targets.missing(target):
        pytest.skip(f"not installed: {', '.join(absent)}")
    device = targets.device(target)
    with jax.numpy_dtype_promotion("standard"), jax.debug_nans(False):  # of optax's Adam
        for name in SMALL:
            size = step_sizes.measured(name, device)
            assert size.flops > 1e9
            assert 0 < size.argument_mib < size.peak_mib < 100
