"""Counting: exact where it can be, equal to the plain loops, and the sum of its parts."""

import dataclasses
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.metrics import confusion_matrix

import diffmetrics as dm
from tests.references import sets as reference

rng = np.random.default_rng(0)
SHAPE = (2, 3, 4)
PROBABILITIES = rng.uniform(size=SHAPE).astype(np.float32)
LABELS = rng.integers(0, 2, SHAPE)
IDS = np.array([[0, 3, 255], [1, -1, 1]])
KEEP = rng.random(SHAPE) < 0.6
FACTORS = rng.uniform(0.5, 2.0, SHAPE).astype(np.float32)
FLOAT32_STOPS = 2**24  # float32(2**24) + 1 is 2**24 again

over_axes = pytest.mark.parametrize("axis", [None, 0, -1, (0, 2), (0, 1, 2)])


def assert_equals_reference(ours: dm.Counts, theirs: reference.Counts, rtol: float = 1e-6):
    for name in reference.Counts._fields:
        np.testing.assert_allclose(
            getattr(ours, name), getattr(theirs, name), rtol, 1e-6, err_msg=name
        )


def cells(c: dm.Counts) -> list[Any]:
    return [np.asarray(cell).tolist() for cell in (c.tp, c.fp, c.fn, c.tn)]


# --- counts ---------------------------------------------------------------------------------------


@over_axes
@pytest.mark.parametrize("where", [None, KEEP], ids=["all", "where"])
def test_hard_counts_are_integers(axis: Any, where: Any):
    hard = dm.counts(PROBABILITIES > 0.5, LABELS, axis=axis, where=where)
    chex.assert_type([hard.tp, hard.fp, hard.fn, hard.tn], jnp.int32)
    theirs = reference.counts(PROBABILITIES > 0.5, LABELS, axis=axis, where=where)
    assert_equals_reference(hard, theirs, rtol=0)


def test_hard_counts_are_exact_where_float32_stops():
    many = FLOAT32_STOPS + 3
    ones, zeros = np.ones(many, bool), np.zeros(many, bool)
    assert cells(dm.counts(ones, ones)) == [many, 0, 0, 0]
    assert cells(dm.counts(ones, zeros)) == [0, many, 0, 0]
    assert cells(dm.counts(zeros, ones)) == [0, 0, many, 0]
    assert cells(dm.counts(zeros, zeros)) == [0, 0, 0, many]


OPTIONS = {
    "plain": {},
    "where": {"where": KEEP},
    "weights": {"weights": FACTORS},
    "broadcast": {"where": KEEP[:, :1], "weights": FACTORS[0, 0]},
}


@over_axes
@pytest.mark.parametrize(
    ("labels", "options"),
    [(LABELS, "where"), (LABELS > 0, "weights"), (PROBABILITIES[::-1], "plain"),
     (IDS, "broadcast")],
    ids=["int", "bool", "soft", "ids"],
)  # fmt: skip
def test_soft_counts_are_expected_counts(labels: Any, axis: Any, options: str):
    assert_soft_counts(labels, axis, **OPTIONS[options])


@pytest.mark.parametrize("options", OPTIONS)
def test_soft_counts_of_ids_are_expected_counts(options: str):
    assert_soft_counts(IDS, 1, **OPTIONS[options])


def assert_soft_counts(labels: Any, axis: Any, **options: Any) -> None:
    soft = dm.counts(PROBABILITIES, labels, axis=axis, **options)
    chex.assert_type([soft.tp, soft.fp, soft.fn, soft.tn], jnp.float32)
    assert_equals_reference(soft, reference.counts(PROBABILITIES, labels, axis=axis, **options))


def test_weighted_hard_counts_are_sums_of_weights():
    hard = dm.counts(PROBABILITIES > 0.5, LABELS, weights=FACTORS, axis=1)
    chex.assert_type(hard.tp, jnp.float32)
    theirs = reference.counts(PROBABILITIES > 0.5, LABELS, weights=FACTORS, axis=1)
    assert_equals_reference(hard, theirs)


def test_double_precision_is_kept():
    with jax.enable_x64(True):
        soft = dm.counts(PROBABILITIES.astype(np.float64), LABELS)
        chex.assert_type(soft.tp, jnp.float64)
        assert_equals_reference(soft, reference.counts(PROBABILITIES, LABELS), rtol=1e-14)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_narrow_probabilities_are_summed_in_float32(dtype: Any):
    many = 70_000  # float16 ends at 65,504 and a bfloat16 sum of ones at 256
    soft = dm.counts(jnp.ones(many, dtype), jnp.ones(many, dtype))
    chex.assert_type(soft.tp, jnp.float32)
    assert cells(soft) == [many, 0, 0, 0]


def test_what_where_hides_may_hold_anything():
    predictions, labels = PROBABILITIES.copy(), LABELS.astype(np.float32)
    predictions[~KEEP], labels[~KEEP] = np.nan, np.inf
    hidden = dm.counts(predictions, labels, where=KEEP)
    assert_equals_reference(hidden, reference.counts(PROBABILITIES, LABELS, where=KEEP))


def test_nothing_counts_as_nothing():
    assert cells(dm.counts(np.zeros((0,), bool), np.zeros((0,), int))) == [0, 0, 0, 0]
    assert cells(dm.counts(np.zeros((0, 2), np.float32), np.zeros(0, int), axis=0)) == [[0, 0]] * 4


@settings(deadline=None, max_examples=40)
@given(
    bits=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=12), data=st.data()
)
def test_counts_of_parts_add_up_to_the_whole(bits: list[tuple[bool, bool]], data: st.DataObject):
    split = data.draw(st.integers(0, len(bits)))
    p, y = np.array(bits).T
    parts = dm.counts(p[:split], y[:split]) + dm.counts(p[split:], y[split:])
    assert cells(parts) == cells(dm.counts(p, y))
    table = [int(np.sum(cell)) for cell in (p & y, p & ~y, ~p & y, ~p & ~y)]
    assert cells(parts) == table


def temporary_floats(f: Callable[..., Any], *shapes: Any) -> float:
    """Temporary memory of `f`, in arrays of 32-bit floats of the first shape."""
    analysis = jax.jit(f).lower(*shapes).compile().memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes / (4 * shapes[0].size)


# Room for the softmax itself; and in the gradient for what enters its own sum. A one-hot array of
# floats would be one more.
@pytest.mark.parametrize(
    ("transform", "arrays"), [(lambda f: f, 1), (jax.value_and_grad, 4)], ids=["value", "gradient"]
)
def test_class_ids_make_no_one_hot_array(transform: Any, arrays: int):
    logits = jax.ShapeDtypeStruct((2**12, 64), jnp.float32)
    ids = jax.ShapeDtypeStruct((2**12,), jnp.int32)

    def macro_dice(z: jax.Array, y: jax.Array) -> jax.Array:
        return 1 - dm.dice(dm.counts(jax.nn.softmax(z), y, axis=0)).mean()

    assert temporary_floats(transform(macro_dice), logits, ids) < arrays + 0.2


@pytest.mark.parametrize(
    ("predictions", "labels", "options", "error", "message"),
    [
        (LABELS, LABELS, {}, TypeError, r"predictions must be boolean.*confusion"),
        (PROBABILITIES, LABELS[0], {}, ValueError, "labels must have the shape of predictions"),
        (np.ones(3), np.ones((3, 1)), {}, ValueError, r"labels is \(3, 1\), predictions is \(3,\)"),
        (np.ones((3, 1)), np.ones(3, int), {}, ValueError, "labels must have the shape"),
        (LABELS > 0, LABELS, {"where": FACTORS}, TypeError, "where must be boolean, got float32"),
        (LABELS > 0, LABELS, {"weights": KEEP}, TypeError, "weights must be numbers"),
        (LABELS > 0, LABELS, {"weights": np.ones((2, 3))}, ValueError, r"weights\[..., None\]"),
        (LABELS > 0, LABELS, {"axis": 3}, ValueError, r"axis must lie in \[-3, 3\)"),
        (LABELS > 0, LABELS, {"axis": (0, -3)}, ValueError, "axis names a dimension twice"),
    ],
)
def test_bad_arguments_of_counts_are_named(
    predictions: Any, labels: Any, options: dict[str, Any], error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        dm.counts(predictions, labels, **options)


# --- Counts ---------------------------------------------------------------------------------------


def test_counts_are_a_pytree():
    c = dm.counts(PROBABILITIES, LABELS, axis=0)
    chex.assert_trees_all_equal(jax.jit(lambda c: c)(c), c)
    assert len(jax.tree.leaves(c)) == 4
    gradient = jax.grad(lambda c: dm.dice(c).sum())(c)
    assert isinstance(gradient, dm.Counts)
    summed = jax.vmap(lambda c: c + c)(c)
    chex.assert_trees_all_close(summed, jax.tree.map(lambda cell: 2 * cell, c))


def test_counts_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        dm.Counts().tp = 1.0  # pyright: ignore[reportAttributeAccessIssue]


def test_only_counts_are_added():
    with pytest.raises(TypeError, match=r"Counts add up with Counts, got float.*Counts\(tp=1.0\)"):
        _ = dm.Counts() + 1.0  # pyright: ignore[reportOperatorIssue]
    assert cells(sum([dm.Counts(tp=1), dm.Counts(fn=2)], dm.Counts())) == [1, 0, 2, 0]


def test_host_totals_are_exact_where_float32_stops():
    one = dm.counts(np.array([True]), np.array([1]))
    on_device = dm.Counts(tp=jnp.float32(FLOAT32_STOPS)) + one
    assert on_device.tp == FLOAT32_STOPS  # the reason for to_host
    total = dm.Counts(tp=FLOAT32_STOPS).to_host()
    for _ in range(3):
        total += one
    assert total.tp == FLOAT32_STOPS + 3
    assert (one + total).tp == FLOAT32_STOPS + 4
    assert isinstance(total.tp, np.float64)


def test_host_totals_are_exact_where_int32_ends():
    largest = 2**31 - 1
    full = dm.Counts(tp=jnp.array([largest, 1], jnp.int32))
    total = dm.Counts(tp=np.zeros(2)).to_host()
    for _ in range(5):
        total += full
    assert cells(total)[0] == [5 * largest, 5]


def test_large_integers_are_not_cut_to_32_bits():
    for large in (2**40 + 1, np.int64(2**40 + 1), np.array(2**40 + 1)):
        assert dm.Counts(tn=large).tn == 2**40 + 1


# --- confusion ------------------------------------------------------------------------------------

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


def test_narrow_ids_do_not_overflow():
    # 180 * 200 + 190 does not fit uint8, nor does C = 300 itself.
    true, predicted = np.array([[180, 255], [190, 0]], np.uint8)
    for num_classes in (200, 300):
        ours = dm.confusion(predicted, true, num_classes)
        np.testing.assert_array_equal(ours, reference.confusion(predicted, true, num_classes))


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


def test_bad_arguments_of_confusion_are_named():
    with pytest.raises(TypeError, match="predicted_ids must be integer class ids, got float32"):
        dm.confusion(PROBABILITIES, LABELS, 2)
    with pytest.raises(TypeError, match="labels must be integer class ids, got bool"):
        dm.confusion(LABELS, LABELS > 0, 2)
    with pytest.raises(ValueError, match="labels must have the shape of predicted_ids"):
        dm.confusion(LABELS, LABELS[0], 2)


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
