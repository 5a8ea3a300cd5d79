"""Losses of others are examined as their owners run them; ours as strictly as the suite is."""

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(autouse=True)
def _as_their_owners_run_them(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.node.name.startswith("test_ours"):
        yield
        return
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield
