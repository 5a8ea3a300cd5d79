"""Losses of others are examined as their owners run them; ours as strictly as the suite is."""

from collections.abc import Iterator

import jax
import pytest

from diffmetrics.diagnose import _programs

# The doctor asks XLA for little, the suite for still less: a third of the time of these tests.
_programs.SHORT.clear()


@pytest.fixture(autouse=True)
def _as_their_owners_run_them(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.node.name.startswith("test_ours"):
        yield
        return
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield
