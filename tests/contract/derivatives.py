"""A judge of derivatives at the ends of the numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chex
import jax


def assert_derivatives_finite(f: Callable[[jax.Array], jax.Array], batch: Any) -> None:
    """Value, gradient and second derivatives, of every example of the batch."""

    def everything(x: jax.Array) -> Any:
        return *jax.value_and_grad(f)(x), jax.hessian(f)(x)

    chex.assert_tree_all_finite(jax.jit(jax.vmap(everything))(batch))
