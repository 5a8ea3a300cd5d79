"""What a call says that cannot be right: in words, of the argument, and what to write instead."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import chex
import jax
import numpy as np
import pytest

import diffmetrics
from tests.rows import BINARY, CLASSES, ROWS, Row, over

dm: Any = diffmetrics  # not all that is called here is well typed
Z, Y = BINARY
LOGITS, IDS = CLASSES
CLASS_WEIGHTS = np.arange(1.0, 5.0, dtype=np.float32)

# A call; the error; what it says.
SAID: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: dm.hinge_loss(Z, Y, reduction="mean"),
     TypeError, "hinge_loss has no argument 'reduction': nothing is averaged here: call .mean()"),
    (lambda: dm.dice_loss(Z, Y, smooth=1.0),
     TypeError, "dice_loss has no argument 'smooth': pass prior=diffmetrics.Counts(tp=1.0)"),
    (lambda: dm.dice_loss(Z, Y, from_logits=False),
     TypeError, "'from_logits': losses take logits, and those of sets take activation="),
    (lambda: dm.fbeta_loss(Z, Y, average="macro"),
     TypeError, "'average': axis= says what is counted together: for macro keep the axis of"),
    (lambda: dm.softmax_cross_entropy(LOGITS, IDS, ignore_index=255),
     TypeError, "'ignore_index': ids outside [0, C) are void; else pass where=labels != index"),
    (lambda: dm.softmax_cross_entropy(LOGITS, IDS, num_classes=4),
     TypeError, "'num_classes': the number of classes is the length of their axis"),
    (lambda: dm.softmax_cross_entropy(LOGITS, IDS, label_smoothing=0.1),
     TypeError, "'label_smoothing': smooth the labels: (1 - a) * one_hot + a / C"),
    (lambda: dm.hinge_loss(Z, Y, axis=0),
     TypeError, "'axis': it returns one value for each element or example: call .mean(axis)"),
    (lambda: dm.hinge_loss(Z, Y, margn=1.0),
     TypeError, "hinge_loss has no argument 'margn'; did you mean margin?"),
    (lambda: dm.expected_calibration_error(Z, Y, n_bins=5),
     TypeError, "has no argument 'n_bins'; did you mean bins?"),
    (lambda: dm.score_loss(dm.fbeta)(Z, Y, reduction="mean"),
     TypeError, "score_loss(fbeta) has no argument 'reduction': nothing is averaged here"),
    (lambda: dm.curve(Z, Y, steps=4),
     TypeError, "curve has no argument 'steps': it takes scores, labels, axis, where, weights"),
    (lambda: dm.hinge_loss(y_true=Y, y_pred=Z),
     TypeError, "predictions come first and labels second, both by position"),
    (lambda: dm.sigmoid_focal_loss(Z, Y, 2.0),
     TypeError, "takes 2 arguments by position (logits, labels), got 3; write gamma="),
    (lambda: dm.hinge_loss(Z), TypeError, "hinge_loss needs labels: it takes logits, labels,"),
    (lambda: dm.hinge_loss(Z, Y, labels=Y),
     TypeError, "hinge_loss got labels twice, by position and by name"),
    (lambda: dm.dice_loss(Z, Y, activation=None),
     TypeError, "activation must be a function, got None. For probabilities define `identity"),
    (lambda: dm.dice_loss(Z, Y, axis="macro"),
     TypeError, "axis must be an integer or a tuple of them, got 'macro'"),
    (lambda: dm.dice_loss(Z, Y, axis=1.0), TypeError, "axis must be an integer"),
    (lambda: dm.hinge_loss(Z, None), TypeError, "labels must be an array of numbers, got None"),
    (lambda: dm.hinge_loss("mask.png", Y),
     TypeError, "logits must be an array of numbers, got str"),
    (lambda: dm.hinge_loss(Z.astype(object), Y),
     TypeError, "logits must be an array of numbers, got an array of object"),
    (lambda: dm.hinge_loss(Z, Y, margin="big"),
     TypeError, "margin must be an array of numbers, got str"),
    (lambda: dm.dice_loss(LOGITS, IDS, activation=jax.nn.softmax, axis=0, weights=CLASS_WEIGHTS),
     ValueError, "weights are constant over what is counted together, axes (0,) of (12, 4), so "
     "they cancel and cannot matter. To weight the sets, such as classes, weight their losses: "
     "(w * loss).sum() / w.sum()"),
    (lambda: dm.softmax_cross_entropy(LOGITS, IDS.astype(np.float32)),
     TypeError, "labels of shape (12,) are class ids and must be integers, got float32"),
    (lambda: dm.softmax_cross_entropy(LOGITS, IDS, class_axis=2),
     ValueError, "class_axis must lie in [-2, 2) for 2 dimensions, got 2"),
    (lambda: dm.softmax_cross_entropy(LOGITS, IDS[:5]),
     ValueError, "labels are class ids of shape (5,), and logits of shape (12, 4) have"),
    (lambda: dm.softmax_cross_entropy(np.zeros((4, 3, 2), np.float32), np.zeros((4, 2), int)),
     ValueError, "Did you mean class_axis=1?"),
    (lambda: dm.softmax_cross_entropy(LOGITS, IDS, class_axis=[1]),
     TypeError, "class_axis must be an integer, got (1,)"),
    (lambda: dm.dice_loss(Z, Y, axis=True), TypeError, "axis must be an integer or a tuple of"),
    (lambda: dm.dice_loss(Z, Y, prior=1.0),
     TypeError, "Counts add up with Counts, got float32 of shape ()"),
    (lambda: dm.roc_auc(Z, Y), TypeError, "roc_auc takes a Curve: roc_auc(curve(scores, labels))"),
    (lambda: dm.roc_auc(Z), TypeError, "expected a Curve, got float32 of shape (12, 3)"),
    (lambda: dm.one_vs_rest(dm.Counts()), TypeError, "a confusion matrix is expected, got Counts"),
    (lambda: dm.score_loss("dice"),
     TypeError, "score must be a function of Counts, such as diffmetrics.fbeta, got 'dice'"),
    (lambda: dm.fit_threshold(Z, Y, score="f1"), TypeError, "score must be a function of Counts"),
    (lambda: dm.confusion(IDS, IDS, 4.0), TypeError, "num_classes must be an integer, got 4.0"),
    (lambda: dm.confusion(IDS, IDS, 0), ValueError, "num_classes must be at least 1, got 0"),
    (lambda: dm.expected_calibration_error(Y / 2, Y, bins=1.5),
     TypeError, "bins must be an integer, got 1.5"),
    (lambda: dm.batch_hard_triplet_loss(np.zeros((0, 3), np.float32), np.zeros(0, int)),
     ValueError, "embeddings must hold one or more examples, got (0, 3)"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "text"), SAID, ids=[text[:40] for *_, text in SAID])
def test_an_error_says_what_to_write(call: Callable[[], Any], error: type[Exception], text: str):
    with pytest.raises(error) as found:
        call()
    said = str(found.value)
    assert text in said
    assert "[Chex]" not in said
    assert "abstract array" not in said


def is_callable(row: Row) -> bool:
    return row.call is None and row.family != "scores"


@over(is_callable, once=True)
def test_no_function_ignores_a_keyword(row: Row):
    with pytest.raises(TypeError, match="reduction"):
        row(*row.batch, reduction="mean")


def test_axes_may_be_lists_and_numbers_of_numpy():
    for axis in ([0, 1], (np.int64(0), 1), [np.int32(-1), 0]):
        chex.assert_trees_all_equal(dm.dice_loss(Z, Y, axis=axis), dm.dice_loss(Z, Y))
        chex.assert_trees_all_equal(
            dm.counts(Z > 0, Y, axis=axis), dm.counts(Z > 0, Y, axis=(0, 1))
        )
    chex.assert_trees_all_equal(dm.dice_loss(Z, Y, axis=np.int64(1)), dm.dice_loss(Z, Y, axis=1))


def test_an_error_of_ones_own_score_is_not_rewritten():
    def broken(counts: diffmetrics.Counts) -> jax.Array:
        raise TypeError("this score is not finished")

    with pytest.raises(TypeError, match="this score is not finished"):
        dm.score_loss(broken)(Z, Y)


def test_functions_may_be_sent_to_other_processes():
    for row in ROWS:
        if row.name != "score_loss":
            assert pickle.loads(pickle.dumps(row.public)) is row.public
