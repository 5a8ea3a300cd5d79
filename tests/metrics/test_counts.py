"""Counting: exact where it can be, equal to the plain loops, and the sum of its parts."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

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
    message = r"Counts add up with Counts, got (float|int|bool).*Counts\(tp=1.0\)"
    for other in (1.0, 1, 0.0, False):
        with pytest.raises(TypeError, match=message):
            _ = dm.Counts() + other  # pyright: ignore[reportOperatorIssue]
        with pytest.raises(TypeError, match=message):
            _ = other + dm.Counts()


def test_a_sum_of_counts_keeps_their_integers():
    hard = dm.counts(PROBABILITIES > 0.5, LABELS, axis=0)
    total = sum([hard, hard, hard])
    assert isinstance(total, dm.Counts)
    chex.assert_type(jax.tree.leaves(total), jnp.int32)
    assert cells(total) == [(3 * np.array(cell)).tolist() for cell in cells(hard)]
    assert cells(sum([dm.Counts(tp=1), dm.Counts(fn=2)], dm.Counts())) == [1, 0, 2, 0]


def test_counts_of_different_types_are_added_in_the_wider():
    hard, soft = (dm.counts(p, LABELS, axis=0) for p in (PROBABILITIES > 0.5, PROBABILITIES))
    for some in (hard + dm.Counts(tp=1.0), dm.Counts(tp=1.0) + hard, hard + soft):
        chex.assert_type(jax.tree.leaves(some), jnp.float32)
    np.testing.assert_array_equal((hard + dm.Counts(tp=1.0)).tp, hard.tp + 1)
    with jax.enable_x64(True):
        wide = dm.Counts.zeros(dtype=jnp.int64) + dm.Counts.zeros(dtype=jnp.int32)
        chex.assert_type(jax.tree.leaves(wide), jnp.int64)
        chex.assert_type(jax.tree.leaves(soft + dm.Counts(tp=1.0)), jnp.float32)
        prior = jax.jit(lambda a, b: a + b)(soft, dm.Counts(tp=1.0))
        chex.assert_type(jax.tree.leaves(prior), jnp.float32)


@pytest.mark.parametrize("x64", [False, True])
def test_a_scan_from_zeros_keeps_integers_exact(x64: bool):
    with jax.enable_x64(x64):
        start = dm.Counts.zeros() + dm.Counts(*[jnp.int32(FLOAT32_STOPS)] * 4)
        total, _ = jax.lax.scan(
            lambda total, batch: (total + dm.counts(*batch), None),
            start,
            (jnp.asarray(PROBABILITIES > 0.5), jnp.asarray(LABELS)),
        )
    chex.assert_type(jax.tree.leaves(total), jnp.int32)
    whole = cells(dm.counts(PROBABILITIES > 0.5, LABELS))
    assert cells(total) == [FLOAT32_STOPS + cell for cell in whole]


def test_zeros_have_a_shape_and_a_type():
    chex.assert_shape(jax.tree.leaves(dm.Counts.zeros((2, 3))), (2, 3))
    chex.assert_type(jax.tree.leaves(dm.Counts.zeros(5, jnp.float32)), jnp.float32)
    soft = dm.counts(PROBABILITIES, LABELS, axis=1)
    chex.assert_trees_all_equal(dm.Counts.zeros((2, 4), jnp.float32) + soft, soft)


def test_counts_are_indexed_like_arrays():
    c = dm.counts(PROBABILITIES > 0.5, LABELS, axis=0)
    for index in (1, -1, (..., slice(2)), (slice(None), 3), None, np.array([0, 2]), jnp.array(1)):
        for some in (c, c.to_host()):
            found = some[index]
            for name in reference.Counts._fields:
                np.testing.assert_array_equal(getattr(found, name), getattr(c, name)[index])
    assert cells(dm.Counts(tp=jnp.arange(3), fp=1.0)[2]) == [2, 1, 0, 0]  # fp holds for each
    assert cells(jax.jit(lambda c, i: c[i])(c, 2)) == cells(c[2])


def test_an_index_out_of_range_is_an_error():
    c = dm.counts(PROBABILITIES > 0.5, LABELS, axis=0)
    for some in (c, c.to_host()):
        for index in (3, -4, (0, 4), (0, 0, 0)):
            with pytest.raises(IndexError):
                _ = some[index]


def test_counts_are_no_sequence():
    """Who unpacks four cells would get those of four classes, and JAX has no end of an index."""
    c: Any = dm.counts(PROBABILITIES > 0.5, LABELS, axis=0)
    for use in (len, iter, list, sum, lambda c: dict(*c)):
        with pytest.raises(TypeError):
            use(c)
    with pytest.raises(TypeError):
        _, _, _, _ = c


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 1)])
def test_counts_are_added_up_over_axes(axis: Any):
    for c in (dm.counts(PROBABILITIES > 0.5, LABELS, axis=0), dm.counts(PROBABILITIES, LABELS)):
        if axis is not None and not np.ndim(c.tp):
            continue
        for some in (c, c.to_host()):
            found = some.sum(axis)
            for name in reference.Counts._fields:
                here, there = getattr(found, name), np.sum(np.asarray(getattr(c, name)), axis)
                np.testing.assert_allclose(here, there, rtol=1e-6)
                assert here.dtype == getattr(some, name).dtype
    with pytest.raises(ValueError, match=r"axis must lie in \[-2, 2\)"):
        dm.counts(PROBABILITIES, LABELS, axis=0).sum(2)


def test_integers_stop_instead_of_wrapping():
    """What wraps may be any number, such as a good one."""
    most = 2**31 - 1
    for times, expected in (
        (2, 2 * 2**29),
        (3, 3 * 2**29),
        (4, most),
        (7, most),
        (8, most),
        (12, most),
    ):
        many = dm.Counts(tp=jnp.full(times, 2**29, jnp.int32))
        assert cells(many.sum())[0] == expected
        assert cells(sum([many[i] for i in range(times)], dm.Counts.zeros()))[0] == expected
        assert cells(many.to_host().sum())[0] == times * 2**29
    window = dm.Counts(*[jnp.array([5, -3])] * 4)  # what falls out of a window is taken away
    assert cells(window.sum()) == [2] * 4
    assert cells(window[0] + window[1]) == [2] * 4


def test_a_cell_that_is_one_number_counts_for_every_set():
    assert cells(dm.Counts(tp=jnp.ones(3), fp=2.0).sum()) == [3, 6, 0, 0]
    assert cells(dm.Counts(tp=np.ones(3), fp=2).sum()) == [3, 6, 0, 0]


def test_host_totals_are_what_json_takes():
    total = dm.counts(PROBABILITIES > 0.5, LABELS).to_host()
    written = json.loads(json.dumps(dataclasses.asdict(total)))
    assert dm.Counts(**written) == total


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


def test_classes_of_ids_may_lie_on_any_axis():
    draw = np.random.default_rng(0)
    p, ids = draw.random((2, 5, 3, 4), np.float32), draw.integers(-1, 4, (2, 5, 3))
    expected = dm.counts(p, ids, axis=(0, 1, 2))
    first = np.moveaxis(p, -1, 1)
    chex.assert_trees_all_close(dm.counts(first, ids, axis=(0, 2, 3), class_axis=1), expected)
