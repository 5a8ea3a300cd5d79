"""The training steps of the experiments compile for accelerators, where their compilers are."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from benchmarks import step_sizes
from diffmetrics.diagnose import _targets as targets

TEXT = "text, 50 x 24 words"
SPEAKERS = "speakers, width 128, 100 x 40 frames"
SHIPS = "ships, width 8, depth 3, 8 x 96²"  # for a v5e it takes minutes


@pytest.mark.parametrize(
    ("target", "name"),
    [("h100", TEXT), ("h100", SPEAKERS), ("h100", SHIPS), ("v5e", TEXT), ("v5e", SPEAKERS)],
)
def test_the_default_steps_fit_into_an_accelerator(target: str, name: str):
    if absent := targets.missing(target):
        pytest.skip(f"not installed: {', '.join(absent)}")
    with jax.numpy_dtype_promotion("standard"), jax.debug_nans(False):  # of optax's Adam
        size = step_sizes.measured(name, targets.device(target))
    assert size.flops > 1e9
    assert size.argument_mib is not None
    assert size.peak_mib is not None
    assert 0 < size.argument_mib < size.peak_mib < 100


def test_a_step_that_is_too_large_for_the_device_says_so(monkeypatch: pytest.MonkeyPatch):
    target = "v5e"
    if absent := targets.missing(target):
        pytest.skip(f"not installed: {', '.join(absent)}")
    numbers: Any = jax.ShapeDtypeStruct((100_000,), jnp.float32)
    huge = step_sizes.steps.Training(
        lambda state, batch: (state, jnp.sort(jnp.outer(state, batch["x"]), axis=0).sum()),
        numbers,
        {"x": numbers},
    )
    monkeypatch.setitem(step_sizes.SIZES, "huge", lambda: huge)
    size = step_sizes.measured("huge", targets.device(target))
    assert size.peak_mib is None
    assert "RESOURCE_EXHAUSTED" in size.too_large
