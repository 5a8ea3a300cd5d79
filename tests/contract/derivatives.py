"""Numerical judges of derivatives, in float64 and along one random direction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chex
import jax
import numpy as np


def assert_derivatives_match_numerical(
    f: Callable[[jax.Array], jax.Array], x: Any, *, step: float, atol: float
) -> None:
    """The first two derivatives; `step` and `atol` are as small as the curvature of `f` allows."""
    with jax.enable_x64(True):
        at = np.asarray(x, np.float64)
        along = np.random.default_rng(0).normal(size=at.shape)

        @jax.jit
        def everything(x: jax.Array) -> tuple[jax.Array, ...]:
            gradient = jax.grad(lambda x: f(x).sum())
            forward = jax.jvp(lambda x: f(x).sum(), (x,), (along,))
            return *forward, *jax.jvp(gradient, (x,), (along,))

        _, slope, gradient, bend = everything(at)
        before, after = everything(at - step * along), everything(at + step * along)
        span = 2 * step
        np.testing.assert_allclose(slope, (after[0] - before[0]) / span, rtol=1e-6, atol=atol)
        np.testing.assert_allclose(slope, np.sum(gradient * along), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(bend, (after[2] - before[2]) / span, rtol=1e-6, atol=atol)


def assert_derivatives_finite(f: Callable[[jax.Array], jax.Array], batch: Any) -> None:
    """Value, gradient and second derivatives, of every example of the batch."""

    def everything(x: jax.Array) -> Any:
        return *jax.value_and_grad(f)(x), jax.hessian(f)(x)

    chex.assert_tree_all_finite(jax.jit(jax.vmap(everything))(batch))
