"""`batch` names what logits and labels alone show, and holds the model against a constant."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from diffmetrics import diagnose
from tests.diagnose.test_masks import KINDS, KINDS_SEEN, SEEN, SHIPS, TRANSPOSED

N = 2000  # one size for all, which is one compilation
rng = np.random.default_rng(0)
LOGITS = 2.0 * rng.normal(size=N)
LABELS = (rng.random(N) < 1 / (1 + np.exp(-LOGITS))).astype(int)
SHARES = np.array([0.5, 0.3, 0.2])
IDS = rng.choice(3, N, p=SHARES)
SCORES = rng.gumbel(size=(N, 3)) + 3.0 * np.eye(3)[IDS] + np.log(SHARES)
SOME = np.arange(N) % 10 == 0


def _told(report: diagnose.Report, probe: str) -> diagnose.Finding:
    (found,) = [found for found in report.findings if found.probe == probe]
    assert found.evidence
    assert found.advice
    assert max(map(len, str(report).splitlines())) <= 100
    return found


NUMBERS: list[tuple[str, Any, Any, str, str]] = [
    ("percentages", LOGITS, 100.0 * LABELS, "labels are 0 and 100, like percentages", "defect"),
    ("shades", LOGITS, 3.0 * SOME + 252.0 * LABELS, "like shades of an image", "defect"),
    ("from one", LOGITS, LABELS + 1.0, "labels are 1 and 2, counted from 1", "defect"),
    ("floating marks", LOGITS, np.where(SOME, 255.0, LABELS), "as a mark of what", "defect"),
    ("marks", LOGITS, np.where(SOME, -1, LABELS), "here they count as negative", "note"),
    ("ids of a sigmoid", LOGITS, IDS, "so does every class but 0", "note"),
    ("noise", LOGITS, 3 * SOME + 252 * LABELS, "saved as JPEG", "note"),
    ("percent", 100 / (1 + np.exp(-LOGITS)), LABELS, "logits look like percentages", "note"),
    ("decisions", LABELS.astype("f"), LABELS, "predictions are all 0 or 1", "note"),
    ("one-hot", SCORES, np.eye(3)[IDS], "labels are one-hot, each row holds one 1", "note"),
    ("ids from one", SCORES, IDS + 1, "class ids go from 1 to 3", "defect"),
    ("void", SCORES, np.where(SOME, 255, IDS), "labels of 255 are taken as marks", "note"),
    ("no class", SCORES, np.where(SOME, 7, IDS), "labels of 7 name no class", "note"),
]


@pytest.mark.parametrize(
    ("what", "logits", "labels", "cause", "status"), NUMBERS, ids=[row[0] for row in NUMBERS]
)
def test_labels_and_logits_that_are_something_else(
    what: str, logits: Any, labels: Any, cause: str, status: str
):
    report = diagnose.batch(logits, labels)
    found = _told(report, "inputs")
    assert cause in found.cause, what
    assert found.status == status
    assert status == "note" or report.findings[0] is found


def test_labels_on_one_side_of_zero_are_all_the_same():
    found = _told(diagnose.batch(LOGITS, LABELS + 1), "prevalence")
    assert "labels are 1 and 2: both are above 0, and all count as positive" in found.cause


@pytest.mark.parametrize(
    ("logits", "labels", "cause"),
    [
        (SEEN, TRANSPOSED, "masks lie transposed"),
        (SEEN[..., None], TRANSPOSED[..., None].astype("f"), "masks lie transposed"),
        (KINDS_SEEN, KINDS.swapaxes(1, 2), "masks lie transposed"),
        (SEEN, SHIPS[:, ::-1], "masks lie upside down"),
        (SEEN, np.roll(SHIPS, 1, 0), "masks belong to other images"),
    ],
)
def test_masks_that_lie_otherwise_than_their_predictions(logits: Any, labels: Any, cause: str):
    report = diagnose.batch(logits, labels)
    assert cause in _told(report, "masks").cause
    assert report.findings[0].probe == "masks"


def test_masks_that_lie_right_are_not_complained_of():
    for logits, labels in ((SEEN, SHIPS), (KINDS_SEEN, KINDS)):
        assert diagnose.batch(logits, labels).healthy


def _passed(report: diagnose.Report, probe: str) -> str:
    (found,) = [found for found in report.results if found.probe == probe]
    assert found.status == "ok"
    return found.evidence


def test_a_model_is_held_against_a_constant():
    evidence = _passed(diagnose.batch(LOGITS, LABELS), "baseline")
    model, constant = np.logaddexp(0, LOGITS) - LABELS * LOGITS, np.log(2)
    assert evidence.startswith(f"log loss {model.mean():.3g}; that of a constant is {constant:.3g}")
    worse = _told(diagnose.batch(2.0 * LOGITS + 6.0, LABELS), "baseline")
    assert "its probabilities are worse than a constant" in worse.cause
    assert worse.status == "note"


def test_soft_labels_leave_a_loss_that_nobody_gets_below():
    p = 1 / (1 + np.exp(-LOGITS))
    entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p)).mean()
    evidence = _passed(diagnose.batch(LOGITS, p), "baseline")
    assert evidence.startswith(f"log loss {entropy:.3g}")
    assert evidence.endswith(f"the best possible {entropy:.2g}")


def test_classes_are_held_against_their_frequencies():
    evidence = _passed(diagnose.batch(SCORES, IDS), "baseline")
    shares = np.bincount(IDS) / N
    assert f"a constant is {-(shares * np.log(shares)).sum():.3g}" in evidence


@pytest.mark.parametrize(
    ("logits", "labels"),
    [(10.0 * LABELS - 5 + 0.1 * LOGITS, LABELS), (SCORES + 20 * np.eye(3)[IDS], IDS)],
)
def test_what_makes_no_error_may_have_seen_the_labels(logits: Any, labels: Any):
    report = diagnose.batch(logits, labels)
    assert report.healthy
    assert "too good to be true of new data" in _told(report, "leak").cause
    few = diagnose.batch(logits[:100], labels[:100])
    assert not [found for found in few.findings if found.probe == "leak"]


def test_labels_that_follow_from_the_logits_are_no_leak():
    report = diagnose.batch(LOGITS, 1 / (1 + np.exp(-LOGITS)))
    assert not report.findings, str(report)


@pytest.mark.parametrize(
    ("logits", "labels"),
    [([1.0, -1.0], [1, 0]), ([[1.0, -1.0]], [0]), ([[0.0], [1.0]], [[0.0], [1.0]])],
)
def test_tiny_batches_are_healthy(logits: Any, labels: Any):
    assert diagnose.batch(logits, labels).healthy


@pytest.mark.parametrize(
    ("positive", "threshold"), [(0.0, "logit >= 0"), (30.0, "logit >= 30"), (-1.0, "p >= 0.269")]
)
def test_a_threshold_is_told_so_that_it_can_be_set(positive: float, threshold: str):
    report = diagnose.batch(np.where(LABELS > 0, positive, -3.0), LABELS)
    (found,) = (found for found in report.results if found.probe == "threshold")
    assert found.evidence.endswith(f"1.000 at {threshold}")


def test_floating_marks_are_left_out_by_asking_again():
    found = _told(diagnose.batch(LOGITS, np.where(SOME, -1.0, LABELS)), "inputs")
    assert found.advice == "known = labels != -1; ask again with logits[known], labels[known]"


@pytest.mark.parametrize(
    ("ids", "cause"),
    [(np.minimum(IDS, 1), "class 2 does not occur"), (0 * IDS, "classes 1, 2 do not occur")],
)
def test_classes_that_do_not_occur_are_named(ids: Any, cause: str):
    assert _told(diagnose.batch(SCORES, ids), "prevalence").cause == cause
