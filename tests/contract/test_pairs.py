"""The promises of every loss of pairs of distributions or embeddings, over the rows of them."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.rows import Row, over, the

over_pairs = over(lambda row: row.family == "pairs")


def moved(row: Row, how: Any) -> list[Any]:
    """Its arrays, with `how` done to those that hold numbers."""
    return [how(x) if jnp.issubdtype(x.dtype, jnp.floating) else x for x in row.batch]


@over_pairs
def test_value_is_its_definition(row: Row):
    assert row.reference is not None
    bounded = {"p", "cosines"} & set(row.names)
    for factor in (0.1, 0.5, 1.0) if bounded else (0.01, 1.0, 2.5):
        arrays = moved(row, lambda x, factor=factor: factor * x)
        for share in (1.0, 0.3):
            # A sharpness or a scale of 0 is none.
            traced = {n: share * x if n == "margin" else x for n, x in row.traced.items()}
            expected = row.reference(*arrays, **traced)
            np.testing.assert_allclose(row(*arrays, **traced), expected, rtol=2e-5, atol=2e-6)


@over(lambda row: row.family == "pairs" and "same" in row.names)
def test_whether_a_pair_is_the_same_may_be_any_type(row: Row):
    *arrays, same = row.batch
    for dtype in (bool, np.float32):
        chex.assert_trees_all_equal(row(*arrays, same.astype(dtype)), row(*row.batch))


@over_pairs
def test_one_value_a_pair_whatever_the_leading_axes(row: Row):
    if {"identities", "labels"} & set(row.names):
        return  # of all pairs of a batch; of classes, whose door asks it
    whole = row(*row.batch)
    cut = [np.reshape(x, (2, 3, *x.shape[1:])) for x in row.batch]
    chex.assert_shape(row(*cut), (2, 3))
    chex.assert_trees_all_close(row(*cut).ravel(), whole, rtol=1e-6)
    # One number for each pair.
    for name, value in row.traced.items():
        if name == "epsilon":
            continue
        each = row(*row.batch, **{name: np.linspace(value, 2 * value + 1, 6, dtype=np.float32)})
        last = row(*row.batch, **{name: np.float32(2 * value + 1)})
        chex.assert_trees_all_close(each[0], whole[0], rtol=1e-5, atol=1e-6)
        chex.assert_trees_all_close(each[5], last[5], rtol=1e-5, atol=1e-6)


@over(lambda row: row.family == "pairs" and row is the(row.name))
def test_narrow_numbers_are_computed_in_float32(row: Row):
    dtype = jnp.float16 if len(row.name) % 2 else jnp.bfloat16
    narrow = moved(row, lambda x: jnp.asarray(x, dtype))
    value, gradient = jax.jit(jax.value_and_grad(row.total))(*narrow)
    chex.assert_type([row(*narrow), value, gradient], [jnp.float32, jnp.float32, dtype])
    wide = row(*(x.astype(jnp.float32) if x.dtype == dtype else x for x in narrow))
    chex.assert_trees_all_close(row(*narrow), wide, rtol=1e-6, atol=1e-7)


@over_pairs
def test_what_does_not_fit_is_named(row: Row):
    def asked(*arrays: Any, **options: Any) -> Any:
        return jax.eval_shape(lambda: row(*arrays, **options))

    if "p" not in row.names:  # probabilities may be 0 and 1
        with pytest.raises(TypeError, match="must be floating"):
            asked(*(x.astype(np.int32) for x in row.batch))
    shape = row.batch[0].shape
    for place, (name, x) in enumerate(zip(row.names, row.batch, strict=False)):
        if place == 0:
            continue
        n = shape[0]
        numbers = [(5,), (1, 5), (n, 1, 5), (n, 4), (n, 1), (n,)]
        flags = [(n, 1), (1, n), (1,), (), (5,), (n, 5)]
        for wrong in numbers if x.ndim > 1 else flags:
            others = [np.ones(wrong, x.dtype) if i == place else o for i, o in enumerate(row.batch)]
            with pytest.raises(ValueError, match=name) as error:
                asked(*others)
            assert str(wrong) in str(error.value)
    of_pairs = row.name != "pairwise_kl_hinge_loss" and "epsilon" not in row.traced
    for name in row.traced:
        # (6, 1) beside (6,) would become (6, 6); where it is that already, or (6, 5), it may.
        with pytest.raises(ValueError, match=f"{name} must broadcast to"):
            asked(*row.batch, **{name: np.ones((6, 1) if of_pairs else (7, 1))})
    if "identities" in row.names:
        x, ids = row.batch
        with pytest.raises(ValueError, match=r"must be \[n, [CD]\].* got \(2, 3, 5\)"):
            asked(x.reshape(2, 3, 5), ids)
        with pytest.raises(TypeError, match="identities must be integers, got float32"):
            asked(x, ids.astype(np.float32))
        with pytest.raises(ValueError, match=r"where must broadcast to"):
            asked(x, ids, where=np.ones((5, 5), bool))
        with pytest.raises(TypeError, match="where must be boolean"):
            asked(x, ids, where=np.ones(6))
