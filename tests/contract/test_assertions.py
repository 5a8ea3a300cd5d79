"""The public assertions fail where they should: a broken loss for each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffmetrics as dm
from diffmetrics import testing
from tests.rows import BINARY


def square(slope: Callable[[jax.Array], jax.Array]) -> Callable[..., jax.Array]:
    """The squared error with a derivative of one's own."""
    f = jax.custom_jvp(lambda x: x**2)
    f.defjvp(lambda primals, tangents: (f(*primals), slope(primals[0]) * tangents[0]))
    return lambda logits, labels: f(logits - labels)


def hidden_by_zero(logits: jax.Array, labels: Any, *, where: Any = True) -> jax.Array:
    return jnp.sum(jnp.asarray(where, logits.dtype) * (logits - labels) ** 2)


BROKEN: dict[str, tuple[Callable[..., None], Callable[..., jax.Array]]] = {
    "overflow": (testing.assert_gradient_finite, lambda z, y: jnp.log(1 + jnp.exp(z)) - y * z),
    "slope": (testing.assert_gradient_matches_numerical, square(lambda x: 2.001 * x)),
    "bend": (
        testing.assert_gradient_matches_numerical,
        square(lambda x: 2 * jax.lax.stop_gradient(x)),
    ),
    "order": (testing.assert_order_invariant, lambda z, y: jnp.sum(z[0] - y[0])),
    "shapes": (testing.assert_shapes_checked, lambda z, y: jnp.sum((z - y) ** 2)),
    "numpy": (testing.assert_shapes_checked, lambda z, y: jnp.asarray(np.sum(np.asarray(z) - y))),
    "mask": (testing.assert_where_selects, hidden_by_zero),
    "weights": (testing.assert_weights_count, lambda z, y, weights=1: jnp.sum(z - y)),
    "type": (testing.assert_accumulates_in_float32, lambda z, y: jnp.sum(z)),
    "metric": (
        lambda loss, *batch: testing.assert_tends_to_metric(
            loss, lambda p, y: dm.jaccard(dm.counts(p, y)), *batch
        ),
        dm.dice_loss,
    ),
}


@pytest.mark.parametrize(("assertion", "loss"), BROKEN.values(), ids=BROKEN)
def test_a_broken_loss_is_found(assertion: Callable[..., None], loss: Callable[..., jax.Array]):
    """Which is written as people write it, without regard for types or NaN."""
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.debug_nans(False),
        pytest.raises(AssertionError),
    ):
        assertion(loss, *BINARY)


def test_derivatives_may_be_those_of_a_tree():
    sound = square(lambda x: 2 * x)
    zeros = np.zeros(3, np.float32)
    with jax.numpy_dtype_promotion("standard"):
        testing.assert_gradient_matches_numerical(sound, jnp.ones(3), zeros)
        testing.assert_gradient_matches_numerical(
            lambda z, y: sound(z["one"], z["other"]), {"one": BINARY[0], "other": -BINARY[0]}, None
        )
