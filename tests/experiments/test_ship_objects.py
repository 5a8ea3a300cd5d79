"""Objects of a mask, and the Airbus score, against the published definition in plain loops."""

import csv

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from experiments.ships.images import AIRBUS_CSV, open_airbus
from experiments.ships.objects import airbus_f2, components, keep
from experiments.ships.tuning import Rule, best_rule, candidates, objects
from tests import DATA

AIRBUS = DATA / "airbus"

instance_maps = hnp.arrays(np.int32, (4, 5), elements=st.integers(0, 4))


def plain_f2(predicted: np.ndarray, true: np.ndarray) -> float:
    """The text of the competition page, word for word: a list of masks against a list of masks."""
    predicted_masks = [predicted == k for k in set(predicted.ravel().tolist()) - {0}]
    true_masks = [true == k for k in set(true.ravel().tolist()) - {0}]
    if not true_masks:
        return 0.0 if predicted_masks else 1.0
    scores = []
    for k in range(10, 20):
        matched = set()
        tp = 0
        for p in predicted_masks:
            for i, t in enumerate(true_masks):
                if 20 * np.sum(p & t) > k * np.sum(p | t) and i not in matched:
                    matched.add(i)
                    tp += 1
                    break
        fp, fn = len(predicted_masks) - tp, len(true_masks) - tp
        scores.append(5 * tp / (5 * tp + 4 * fn + fp))
    return float(np.mean(scores))


def bar(length: int, *, width: int = 20) -> np.ndarray:
    """One object of `length` pixels."""
    instances = np.zeros((3, width), np.int32)
    instances[1, :length] = 1
    return instances


@given(instance_maps, instance_maps)
def test_score_is_the_published_one(predicted, true):
    assert airbus_f2(predicted, true) == pytest.approx(plain_f2(predicted, true), abs=1e-12)
    assert airbus_f2(true, true) == 1
    for one, other in ((true, 0 * true), (0 * true, true)):
        assert airbus_f2(one, other) == (not true.any())


@pytest.mark.parametrize(
    ("length", "passed"),
    # IoU = length / 20 must be above .50, .55, ...: at .50, .55, .60 or .95 itself it fails.
    [(9, 0), (10, 0), (11, 1), (12, 2), (13, 3), (18, 8), (19, 9), (20, 10)],
)
def test_iou_must_be_above_the_threshold(length, passed):
    assert airbus_f2(bar(length), bar(20)) == pytest.approx(passed / 10)
    assert airbus_f2(bar(20), bar(length)) == pytest.approx(passed / 10)


def test_numbers_of_objects_do_not_matter():
    true, predicted = bar(4), bar(5)
    true[1, 10:14], predicted[1, 10:13] = 2, 7
    renamed = np.choose(true, [0, 30, 5])
    assert airbus_f2(predicted, true) == airbus_f2(predicted, renamed)
    assert airbus_f2(predicted.astype(np.uint64), true.astype(np.uint8)) == airbus_f2(
        predicted, true
    )


def test_what_has_no_score_or_components_is_refused():
    with pytest.raises(ValueError, match=r"predicted_instances \(3, 20\) .* \(3, 21\)"):
        airbus_f2(bar(4), bar(4, width=21))
    with pytest.raises(TypeError, match="predicted_instances is bool"):
        airbus_f2(bar(4) > 0, bar(4))
    with pytest.raises(ValueError, match=r"shape \(4, 4, 1\), expected \(height, width\)"):
        components(np.ones((4, 4, 1)))


def test_components_are_numbered_from_one_and_diagonal_neighbours_are_two():
    mask = np.array([[1, 1, 0, 1], [0, 0, 0, 1], [1, 0, 0, 0]])
    expected = np.array([[1, 1, 0, 2], [0, 0, 0, 2], [3, 0, 0, 0]])
    np.testing.assert_array_equal(components(mask), expected)
    assert components(mask > 0).dtype == np.int32
    assert components(np.eye(2)).max() == 2


def test_objects_that_are_dropped_leave_no_gap():
    labels = components(np.array([[1, 0, 1, 1, 0, 1, 1, 1]]))
    kept = keep(labels, np.array([False, False, True, True]))
    np.testing.assert_array_equal(kept, [[0, 0, 1, 1, 0, 2, 2, 2]])
    assert components(np.zeros((2, 2))).max() == 0


@pytest.mark.skipif(not AIRBUS.is_dir(), reason="the Airbus sample is not there")
def test_the_airbus_sample_is_what_its_file_says_and_scores_as_published():
    with (AIRBUS / AIRBUS_CSV).open() as file:
        rows = list(csv.DictReader(file))
    images = open_airbus(AIRBUS, strict=True)
    assert images.names == sorted({row["ImageId"] for row in rows})
    for i in range(0, len(images), 5):
        name = images.names[i]
        runs = [row["EncodedPixels"] for row in rows if row["ImageId"] == name]
        ships, true = len([each for each in runs if each]), images[i].instances
        assert true.max() == ships
        assert images.has_ships(i) == (ships > 0)
        assert np.count_nonzero(true) == sum(int(n) for each in runs for n in each.split()[1::2])
        assert airbus_f2(np.zeros_like(true), true) == (ships == 0)
        # Not always 1: ships touch.
        perfect = components(true > 0)
        assert airbus_f2(perfect, true) == pytest.approx(plain_f2(perfect, true))


@pytest.mark.parametrize("seed", range(2))
def test_the_rule_is_the_best_of_all_thresholds_areas_and_peaks(seed):
    rng = np.random.default_rng(seed)
    shape, thresholds = (4, 5, 6), [-0.5, 0.5]
    logits = rng.normal(size=shape) + 2 * (rng.random(shape) > 0.7)
    truth = np.array([components(x > 1.5) for x in logits[:3]] + [np.zeros(shape[1:], int)])
    logits[:3] += 0.5 * rng.normal(size=(3, *shape[1:]))

    def score(rule: Rule) -> float:
        pairs = zip(logits, truth, strict=True)
        return float(np.mean([plain_f2(objects(each, rule), true) for each, true in pairs]))

    tables = {
        t: [candidates(each, true, t) for each, true in zip(logits, truth, strict=True)]
        for t in thresholds
    }
    rule, value = best_rule(tables)
    assert score(rule) == pytest.approx(value, abs=1e-12)
    every = [
        score(Rule(t, area, peak))
        for t in thresholds
        for peak in thresholds
        for area in range(32)
        if peak >= t
    ]
    assert value == pytest.approx(max(every), abs=1e-12)


def test_without_ships_the_best_rule_predicts_nothing():
    logits = np.array([[3.0, -1.0, 2.0, 2.0]])
    rule, value = best_rule({0.0: [candidates(logits, np.zeros((1, 4), int), 0.0)]})
    assert value == 1
    assert not objects(logits, rule).any()
