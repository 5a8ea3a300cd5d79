"""Batches of given class shares: exact counts, whole epochs, and any order of reading."""

from __future__ import annotations

import itertools
import pickle

import grain
import numpy as np
import pytest

import diffmetrics as dm
from diffmetrics._training import batches

rng = np.random.default_rng(0)
LABELS = np.array([0] * 70 + [1] * 25 + [2] * 5)


def class_counts(rows: np.ndarray) -> list[int]:
    return np.bincount(LABELS[rows], minlength=3).tolist()


def test_every_balanced_batch_has_every_class_equally_often():
    for rows in dm.balanced_batches(LABELS, 12, steps=50):
        assert class_counts(rows) == [4, 4, 4]


def test_classes_take_turns_where_they_do_not_divide_a_batch():
    batches = [class_counts(rows) for rows in dm.balanced_batches(LABELS, 8, steps=30)]
    assert {n for counts in batches for n in counts} == {2, 3}
    assert np.sum(batches, 0).tolist() == [80, 80, 80]


def test_examples_of_a_class_are_used_equally_often():
    drawn = np.concatenate([*dm.balanced_batches(LABELS, 6, steps=101)])
    for c in range(3):
        times = np.bincount(drawn, minlength=len(LABELS))[c == LABELS]
        assert times.max() - times.min() <= 1
    assert np.bincount(drawn)[LABELS == 2].min() > 30


@pytest.mark.parametrize("batch_size", [1, 7, 10, 64])
def test_stratified_batches_have_every_example_once_an_epoch(batch_size: int):
    drawn = np.concatenate([*dm.stratified_batches(LABELS, batch_size, steps=400 // batch_size)])
    for epoch in range(len(drawn) // 100):
        assert sorted(drawn[100 * epoch : 100 * (epoch + 1)]) == list(range(100))


def test_stratified_batches_have_the_proportions_of_the_data():
    for rows in dm.stratified_batches(LABELS, 20, steps=23):
        assert class_counts(rows) == [14, 5, 1]
    two = (LABELS == 2).astype(int)
    for size in (7, 30, 33):
        for rows in dm.stratified_batches(two, size, steps=50):
            assert abs(two[rows].sum() - 0.05 * size) < 1


def test_many_classes_are_within_two_of_their_share():
    labels = np.repeat(np.arange(60), rng.integers(1, 200, 60))
    share = np.bincount(labels) / len(labels)
    for size in (16, 100):
        for rows in dm.stratified_batches(labels, size, steps=2 * len(labels) // size):
            assert np.all(np.abs(np.bincount(labels[rows], minlength=60) - size * share) < 2)


def test_a_rare_class_is_spread_over_the_epoch():
    labels = np.arange(1000) == 0
    labels[1:10] = True
    steps = [i for i, rows in enumerate(dm.stratified_batches(labels, 10)) if labels[rows].any()]
    assert set(np.diff(steps)) == {10}


def test_a_batch_depends_on_seed_and_step_alone():
    for make in (dm.balanced_batches, dm.stratified_batches):
        once, again = make(LABELS, 9, steps=40, seed=3), make(LABELS, 9, steps=90, seed=3)
        for step in rng.permutation(40):
            np.testing.assert_array_equal(once[step], again[step])
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(once))[7], again[7])
        assert not np.array_equal(once[7], make(LABELS, 9, seed=4)[7])
        assert not np.array_equal(np.sort(once[7]), np.sort(once[8]))


def test_epochs_have_different_orders_which_are_all_alike_likely():
    orders = [tuple(rows) for rows in dm.stratified_batches(np.zeros(3, int), 3, steps=3000)]
    times = [orders.count(order) for order in itertools.permutations(range(3))]
    assert min(times) > 400
    assert max(times) < 600


@pytest.mark.parametrize("size", [1, 2, 3, 16, 17, 1000])
def test_shuffling_is_a_permutation_without_a_trace_of_the_order(size: int):
    turn, sizes = np.arange(size), np.full(size, size)
    order = batches._shuffled(turn, sizes, (5, np.full(size, 1), np.full(size, 2)))
    np.testing.assert_array_equal(np.sort(order), turn)
    if size == 1000:
        assert abs(np.corrcoef(order, turn)[0, 1]) < 0.1
        assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 0.1


def test_grain_reads_them_and_resumes_at_any_step():
    features = rng.normal(size=len(LABELS))
    source = dm.balanced_batches(LABELS, 6, steps=20)
    data = grain.MapDataset.source(source).map(lambda rows: (features[rows], LABELS[rows]))
    assert len(data) == 20
    x, y = next(iter(data[13:14]))
    np.testing.assert_array_equal(x, features[source[13]])
    assert np.bincount(y).tolist() == [2, 2, 2]

    whole = [x for x, _ in data.to_iter_dataset()]
    iterator = iter(data.to_iter_dataset())
    for _ in range(5):
        next(iterator)
    state = iterator.get_state()
    resumed = iter(data.to_iter_dataset())
    resumed.set_state(state)
    np.testing.assert_array_equal([x for x, _ in resumed], whole[5:])


def test_examples_without_a_class_are_never_drawn():
    labels = np.where(np.arange(30) % 3 == 0, -1, np.arange(30) % 2)
    for make in (dm.balanced_batches, dm.stratified_batches):
        drawn = np.unique(np.concatenate([*make(labels, 4, steps=50)]))
        np.testing.assert_array_equal(drawn, np.flatnonzero(labels >= 0))


def test_length_is_one_pass_unless_given_and_ends_there():
    batches = dm.balanced_batches(LABELS, 8)
    assert (len(batches), len(dm.stratified_batches(LABELS, 10, steps=7))) == (13, 7)
    assert str(batches) == "Batches(steps=13, batch_size=8, seed=0)"
    for step in (-1, 13):
        with pytest.raises(IndexError, match=r"step must lie in \[0, 13\)"):
            batches[step]


def test_batches_name_wrong_arguments():
    with pytest.raises(TypeError, match="labels must be integer class ids"):
        dm.balanced_batches(np.zeros(3), 2)
    for labels in (np.zeros((3, 1), int), np.full(3, -1), np.zeros(0, int)):
        with pytest.raises(ValueError, match="labels must be one class id for each example"):
            dm.stratified_batches(labels, 2)
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        dm.stratified_batches(LABELS, 0)
