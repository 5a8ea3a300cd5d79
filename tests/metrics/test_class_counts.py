"""Counting class ids: confusion matrices, and the counts of each class without one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

import diffmetrics as dm
from tests.references import sets as reference

rng = np.random.default_rng(0)
FLOAT32_STOPS = 2**24  # float32(2**24) + 1 is 2**24 again


def cells(c: dm.Counts) -> list[Any]:
    return [np.asarray(cell).tolist() for cell in (c.tp, c.fp, c.fn, c.tn)]


IDS_TRUE, IDS_PREDICTED = rng.integers(0, 5, (2, 6, 7))


def test_confusion_matches_sklearn_and_reference():
    ours = dm.confusion(IDS_PREDICTED, IDS_TRUE, 5)
    chex.assert_type(ours, jnp.int32)
    np.testing.assert_array_equal(ours, confusion_matrix(IDS_TRUE.ravel(), IDS_PREDICTED.ravel()))
    np.testing.assert_array_equal(ours, reference.confusion(IDS_PREDICTED, IDS_TRUE, 5))


@pytest.mark.parametrize(("void", "dtype"), [(255, np.uint8), (-1, np.int8), (255, np.int32)])
def test_void_ids_are_not_counted(void: int, dtype: Any):
    true, predicted = IDS_TRUE.astype(dtype), IDS_PREDICTED.astype(dtype)
    true[0, :4], predicted[0, 3:] = void, void
    keep = (true != void) & (predicted != void)
    theirs = confusion_matrix(true[keep], predicted[keep], labels=range(5))
    np.testing.assert_array_equal(dm.confusion(predicted, true, 5), theirs)


def test_narrow_ids_do_not_overflow_in_a_product():
    # 180 * 200 + 190 does not fit uint8.
    true, predicted = np.array([[180, 255], [190, 0]], np.uint8)
    ours = dm.confusion(predicted, true, 200)
    np.testing.assert_array_equal(ours, reference.confusion(predicted, true, 200))


def test_confusion_takes_weights_and_where():
    keep, factors = rng.random((6, 1)) < 0.7, rng.uniform(size=7).astype(np.float32)
    ours = dm.confusion(IDS_PREDICTED, IDS_TRUE, 5, where=keep, weights=factors)
    chex.assert_type(ours, jnp.float32)
    everywhere = np.broadcast_to(keep, (6, 7)).ravel()
    theirs = confusion_matrix(
        IDS_TRUE.ravel()[everywhere],
        IDS_PREDICTED.ravel()[everywhere],
        sample_weight=np.broadcast_to(factors, (6, 7)).ravel()[everywhere],
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_confusion_is_exact_where_float32_stops():
    many = FLOAT32_STOPS + 3
    ids = np.ones(many, np.uint8)
    assert dm.confusion(ids, ids, 2).tolist() == [[0, 0], [0, many]]


@pytest.mark.parametrize(
    ("dtype", "num_classes"),
    [(np.int8, 200), (np.uint8, 200), (np.uint8, 300), (np.uint32, 3), (np.int64, 3)],
)
def test_ids_of_any_width_are_the_numbers_that_they_are(dtype: Any, num_classes: int):
    true = np.array([0, 2, 127, 127, 1, 2]).astype(dtype)
    predicted = np.array([0, 127, 127, 2, 0, -1]).astype(dtype)  # -1, or 255, or larger yet
    wide = np.array([[int(x) for x in ids] for ids in (predicted, true)])
    kept = ((wide >= 0) & (wide < num_classes)).all(0)
    expected = reference.confusion(wide[0], wide[1], num_classes)
    assert expected.sum() == kept.sum()
    for x64 in (False, True):
        with jax.enable_x64(x64):
            matrix = dm.confusion(predicted, true.astype(np.int32), num_classes)
            of_classes = dm.counts_per_class(predicted, true.astype(np.int32), num_classes)
        chex.assert_type([matrix, *jax.tree.leaves(of_classes)], jnp.int32)
        np.testing.assert_array_equal(matrix, expected)
        assert cells(of_classes) == cells(dm.one_vs_rest(np.asarray(matrix)))  # on the host


CLASSIFIED: tuple[tuple[Callable[..., Any], Callable[..., Any]], ...] = (
    (lambda *a, **k: dm.one_vs_rest(dm.confusion(*a, **k)), reference.counts_per_class),
    (dm.counts_per_class, reference.counts_per_class),
)


@pytest.mark.parametrize(("ours", "theirs"), CLASSIFIED, ids=["confusion", "per class"])
@pytest.mark.parametrize("weighted", [False, True])
def test_counts_of_classes_match_reference(ours: Any, theirs: Any, weighted: bool):
    true, predicted = IDS_TRUE.copy(), IDS_PREDICTED.copy()
    true[0, :3], predicted[1, 2:4] = 255, -1
    options: dict[str, Any] = {"where": rng.random((6, 1)) < 0.7}
    if weighted:
        options["weights"] = rng.uniform(size=7).astype(np.float32)
    found = ours(predicted, true, 5, **options)
    chex.assert_type(jax.tree.leaves(found), jnp.float32 if weighted else jnp.int32)
    expected = theirs(predicted, true, 5, **options)
    for name in reference.Counts._fields:
        each = [getattr(c, name) for c in expected]
        np.testing.assert_allclose(getattr(found, name), each, 1e-6 * weighted, 1e-6 * weighted)


MANY_CLASSES = 50_000


def test_counts_of_very_many_classes():
    ids = np.arange(100_000) % MANY_CLASSES
    predicted = np.where(ids % 10 == 0, (ids + 1) % MANY_CLASSES, ids)
    c = dm.counts_per_class(predicted, ids, MANY_CLASSES)
    assert [x[:3] for x in cells(c)] == [[0, 2, 2], [0, 2, 0], [2, 0, 0], [99_998, 99_996, 99_998]]
    np.testing.assert_allclose(dm.recall(c).mean(), 0.9, rtol=1e-6)
    assert cells(c.to_host().sum()) == [90_000, 10_000, 10_000, 100_000 * MANY_CLASSES - 110_000]
    analysis = (
        jax.jit(dm.counts_per_class, static_argnums=2)
        .lower(*[jax.ShapeDtypeStruct((10_000,), jnp.int32)] * 2, MANY_CLASSES)
        .compile()
        .memory_analysis()
    )
    assert analysis is not None
    assert analysis.temp_size_in_bytes < 16 * 4 * MANY_CLASSES


def test_a_matrix_of_too_many_classes_is_refused():
    ids = np.arange(3)
    message = r"num_classes of confusion is at most 46340, got 50000: .*counts_per_class"
    with pytest.raises(ValueError, match=message):
        dm.confusion(ids, ids, MANY_CLASSES)


@pytest.mark.parametrize("weight", [0.1, 1.0])
def test_weighted_counts_of_classes_do_not_stop(weight: float):
    """A sum of one after another is 100,958 for 100,000, and ends at 16,777,216."""
    many = 10**6 if weight < 1 else FLOAT32_STOPS + 2**20
    ids, weights = np.zeros(many, np.uint8), np.full(many, weight, np.float32)
    right = many * weight
    np.testing.assert_allclose(dm.confusion(ids, ids, 2, weights=weights)[0, 0], right, 1e-5)
    c = dm.counts_per_class(ids, ids + np.uint8(1), 2, weights=weights)
    np.testing.assert_allclose([cells(c)[1][0], cells(c)[2][1]], right, 1e-5)


def test_weights_of_what_is_not_counted_may_be_anything():
    ids, weights = np.array([0, 1, 255, 1]), np.array([1, 2, np.nan, np.inf], np.float32)
    options = {"where": np.array([True, True, True, False])}
    assert dm.confusion(ids, ids, 2, weights=weights, **options).tolist() == [[1, 0], [0, 2]]
    total = dm.counts_per_class(ids, ids, 2, weights=weights, **options)
    assert cells(total) == [[1, 2], [0, 0], [0, 0], [2, 1]]


def test_weights_of_class_counts_have_a_gradient():
    def cost(weights: jax.Array) -> jax.Array:
        c = dm.counts_per_class(IDS_PREDICTED[0], IDS_TRUE[0], 5, weights=weights)
        m = dm.confusion(IDS_PREDICTED[0], IDS_TRUE[0], 5, weights=weights)
        return jnp.sum(c.tp) + 3.0 * jnp.trace(m)

    slope = jax.grad(cost)(np.ones(7, np.float32))
    np.testing.assert_array_equal(slope, 4.0 * (IDS_PREDICTED[0] == IDS_TRUE[0]))


@pytest.mark.parametrize("of_classes", [dm.confusion, dm.counts_per_class])
def test_class_counts_of_devices_add_up(of_classes: Any):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("data")
    weights = rng.uniform(size=(6, 7)).astype(np.float32)
    for options in ((), (weights,)):

        def summed(predicted: Any, true: Any, *weights: Any) -> Any:
            found = of_classes(predicted, true, 5, **dict(zip(["weights"], weights, strict=False)))
            return jax.lax.psum(found, "data")

        whole = jax.sharding.PartitionSpec()
        over = jax.jit(jax.shard_map(summed, mesh=mesh, in_specs=spec, out_specs=whole))
        found = over(IDS_PREDICTED, IDS_TRUE, *options)
        named = dict(zip(["weights"], options, strict=False))
        whole = of_classes(IDS_PREDICTED, IDS_TRUE, 5, **named)
        chex.assert_trees_all_close(found, whole, rtol=1e-6)


@pytest.mark.parametrize("of_classes", [dm.confusion, dm.counts_per_class])
def test_bad_arguments_of_class_counts_are_named(of_classes: Any):
    ids = IDS_TRUE
    with pytest.raises(TypeError, match="predicted_ids must be integer class ids, got float32"):
        of_classes(ids.astype(np.float32), ids, 2)
    with pytest.raises(TypeError, match="labels must be integer class ids, got bool"):
        of_classes(ids, ids > 0, 2)
    with pytest.raises(ValueError, match="labels must have the shape of predicted_ids"):
        of_classes(ids, ids[0], 2)


def test_one_vs_rest_matches_reference():
    stack = rng.integers(0, 9, (2, 4, 4))
    ours = dm.one_vs_rest(jnp.asarray(stack))
    theirs = [reference.one_vs_rest(matrix) for matrix in stack]
    for name in reference.Counts._fields:
        expected = [[getattr(c, name) for c in classes] for classes in theirs]
        np.testing.assert_array_equal(getattr(ours, name), expected, name)


def test_one_vs_rest_of_a_host_matrix_stays_exact():
    matrix = np.array([[2**40 + 1, 3], [5, 2**41 + 1]])
    assert cells(dm.one_vs_rest(matrix)) == [
        [2**40 + 1, 2**41 + 1],
        [5, 3],
        [3, 5],
        [2**41 + 1, 2**40 + 1],
    ]
    with pytest.raises(ValueError, match=r"matrix must have shape \[..., C, C\], got \(3,\)"):
        dm.one_vs_rest(np.ones(3))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(jnp.int8, jnp.int32), (jnp.int32, jnp.int32), (jnp.float32, jnp.float32)],
)
@pytest.mark.parametrize("x64", [False, True])
def test_one_vs_rest_has_the_type_of_sums_of_the_matrix(dtype: Any, expected: Any, x64: bool):
    with jax.enable_x64(x64):
        c = jax.jit(dm.one_vs_rest)(np.array([[100, 100], [3, 100]], dtype))
        chex.assert_type(jax.tree.leaves(c), expected)
        assert cells(c) == [[100, 100], [3, 100], [100, 3], [100, 100]]
