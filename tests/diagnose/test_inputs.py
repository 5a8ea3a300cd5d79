"""The doctor names numbers that are not what a loss takes them for, and nothing that is right."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import diffmetrics as dm
from diffmetrics import diagnose
from tests.diagnose import broken_losses
from tests.rows import Row, over

rng = np.random.default_rng(0)
Z = 2.0 * rng.normal(size=64).astype(np.float32)
Y = (rng.random(64) < 0.3).astype(np.float32)
P = 1 / (1 + np.exp(-Z))
SCORES = 2.0 * rng.normal(size=(32, 4)).astype(np.float32)
IDS = np.arange(32) % 4
SHARES = np.asarray(jax.nn.softmax(SCORES))

MASKS = "labels are 0 and 255, as a mask is read from an image"
SIGNS = "labels are -1 and +1: as floats they count as probabilities"
OUTSIDE = "labels lie outside of [0, 1]"
LOGITS = "predictions are logits, and the loss takes probabilities"
SWAPPED = "predictions and labels stand in each other's place"
LIKE = "logits look like probabilities: none is below 0 or above 1"
SUMS = "logits are probabilities already: those of each example add up to 1"

bce = optax.sigmoid_binary_cross_entropy


def naive(p: Any, y: Any) -> Any:
    return -(y * jnp.log(p) + (1 - y) * jnp.log(1 - p)).mean()


def clipped(p: Any, y: Any) -> Any:
    return naive(jnp.clip(p, 1e-7, 1 - 1e-6), y)


def soft_dice(p: Any, y: Any) -> Any:
    return 1 - dm.dice(dm.counts(p, y))


def soft_dice_of_numbers(p: Any, y: Any) -> Any:
    y = y.astype(p.dtype)
    return 1 - 2 * (p * y).sum() / (p + y).sum()


def of_classes(p: Any, ids: Any) -> Any:
    return -jnp.log(jnp.take_along_axis(p, ids[:, None], 1)).sum()


def brier(z: Any, y: Any) -> Any:
    return (jax.nn.sigmoid(z) - y) ** 2


WRONG: list[tuple[Callable[..., Any], Any, Any, str]] = [
    (bce, Z, 255 * Y, MASKS),
    (dm.dice_loss, Z, 255 * Y, MASKS),
    (brier, Z, (255 * Y).astype(np.float16), MASKS),
    (soft_dice, P, 255 * Y, MASKS),
    (naive, P, 255 * Y, MASKS),
    (bce, Z, 2 * Y - 1, SIGNS),
    (dm.dice_loss, Z, 2 * Y - 1, SIGNS),
    (clipped, P, 2 * Y - 1, SIGNS),
    (bce, Z, Y * 3.5 - 0.5, OUTSIDE),
    (bce, Z, np.where(Y > 0, np.nan, 1 - Y), "labels are not numbers"),
    (
        bce,
        Z,
        (255 * Y).astype(np.uint8),
        "labels are 0 and 255, as a mask is read from an image, and the loss computes with",
    ),
    (bce, Z, (2 * Y - 1).astype(int), "labels are -1 and +1, and the loss computes with these"),
    (
        soft_dice_of_numbers,
        P,
        (255 * Y).astype(np.uint8),
        "labels are 0 and 255, as a mask is read",
    ),
    (bce, Y, Z, SWAPPED),
    (optax.softmax_cross_entropy, np.eye(4, dtype="f")[IDS], SCORES, SWAPPED),
    (naive, Z, Y, LOGITS),
    (clipped, Z, Y.astype(int), LOGITS),
    (soft_dice, Z, Y, LOGITS),
    (soft_dice, Z, Y > 0, LOGITS),
    (of_classes, SCORES, IDS, LOGITS),
    (bce, P, Y, LIKE),
    (dm.dice_loss, P, Y.astype(np.uint8), LIKE),
    (bce, jnp.asarray(P, jnp.bfloat16), Y, LIKE),
    (dm.softmax_cross_entropy, SHARES, IDS, SUMS),
    (optax.softmax_cross_entropy, SHARES, np.eye(4, dtype="f")[IDS], SUMS),
]


def _about_inputs(report: diagnose.Report) -> list[diagnose.Finding]:
    return [f for f in report.findings if f.probe == "inputs"]


def _name(case: Any) -> str:
    return f"{getattr(case[0], '__name__', 'loss')}-{case[3]}"


@pytest.mark.parametrize(("loss", "predictions", "labels", "cause"), WRONG, ids=map(_name, WRONG))
def test_run_names_inputs_that_the_loss_does_not_take(
    loss: Any, predictions: Any, labels: Any, cause: str
):
    report = diagnose.run(loss, predictions, labels)
    (found,) = _about_inputs(report)
    assert cause in found.cause
    assert found.status == "defect"
    assert found.evidence
    assert found.advice
    assert max(map(len, str(report).splitlines())) <= 100


RARE = (np.arange(256) % 16 == 0).astype(np.float32)
FITTING = (0.6 * RARE + 0.01 * np.arange(256) / 256).astype(np.float32)


@pytest.mark.parametrize(
    ("predictions", "status"), [(FITTING, "defect"), (FITTING[::-1] / 2 + 0.1, "note")]
)
def test_numbers_within_0_and_1_are_probabilities_if_they_fit_as_such(
    predictions: np.ndarray, status: str
):
    (of_run,) = _about_inputs(diagnose.run(bce, predictions, RARE))
    (of_batch,) = _about_inputs(diagnose.batch(predictions, RARE))
    assert of_run.cause == of_batch.cause
    assert of_run.cause.endswith("and as such they fit the labels") == (status == "defect")
    assert of_run.status == of_batch.status == status


def test_decisions_beside_probabilities_may_have_been_exchanged():
    for report in (diagnose.run(bce, Y, P), diagnose.batch(Y, P)):
        (found,) = _about_inputs(report)
        assert found.advice.startswith("have predictions and labels been exchanged?")


def test_what_follows_from_probabilities_is_not_told_of_them():
    report = diagnose.batch(P, Y)
    assert {found.probe for found in report.findings} <= {"inputs", "ranking"}
    assert "then ask again" in report.findings[0].advice


def _ignoring(z: Any, y: Any) -> Any:
    return jnp.where(y == 255, 0.0, bce(z, jnp.where(y == 255, 0.0, y))).sum() / (y != 255).sum()


def _contrastive(distance: Any, different: Any) -> Any:
    return (1 - different) * distance**2 + different * jnp.maximum(1 - distance, 0) ** 2


def _of_pixels(z: Any, image: Any) -> Any:
    return (255 * jax.nn.sigmoid(z) - image) ** 2


def _log_error(z: Any, y: Any) -> Any:
    return (jnp.log1p(z) - jnp.log1p(y)) ** 2


TARGETS = 100 * rng.normal(size=64).astype(np.float32)
RIGHT: list[tuple[Callable[..., Any], Any, Any, str]] = [
    (bce, Z, Y, "0/1"),
    (bce, Z, 0.9 * Y + 0.05, "soft labels"),
    (bce, 0.5 + 0.4 * Z, Y > 0, "booleans"),
    (bce, P[:16], Y[:16], "few"),
    (bce, np.zeros(64, "f"), Y, "zeros"),
    (dm.dice_loss, Z, (255 * Y).astype(np.uint8), "integers 0 and 255"),
    (soft_dice, P, (255 * Y).astype(np.uint8), "a soft count of integers"),
    (optax.hinge_loss, Z, (2 * Y - 1).astype(int), "integers -1 and 1 of a hinge"),
    (optax.squared_error, Z, (2 * Y - 1).astype(int), "integers -1 and 1 of least squares"),
    (optax.squared_error, Z, (255 * Y).astype(int), "regression of integers"),
    (optax.hinge_loss, Z, 2 * Y - 1, "signs of a hinge"),
    (lambda z, y: jnp.log1p(jnp.exp(-y * z)), Z, 2 * Y - 1, "signs of a logistic loss"),
    (lambda z, y: (z * y).mean(), Z, 2 * Y - 1, "signs of a critic"),
    (lambda z, y: (z - y) ** 2, Z, 2 * Y - 1, "signs of least squares"),
    (lambda z, y: (jnp.tanh(z) - y) ** 2, Z, 2 * Y - 1, "signs of a tangent"),
    (optax.squared_error, TARGETS + Z, TARGETS, "regression"),
    (optax.squared_error, Z, Y, "regression of 0/1"),
    (optax.squared_error, Z, Y > 0, "regression of booleans"),
    (optax.squared_error, Y, Z, "regression by 0/1"),
    (lambda z, y: (z * y).mean(), Y, Z, "a critic of 0/1"),
    (optax.huber_loss, Z, 255 * Y, "regression of masks"),
    (functools.partial(dm.pinball_loss, level=0.8), Z, TARGETS, "quantile"),
    (_log_error, abs(TARGETS), abs(TARGETS[::-1]), "logarithmic error"),
    (dm.kl_divergence, SCORES, SCORES[::-1], "two logits"),
    (_of_pixels, Z, 255 * Y, "pixels"),
    (_contrastive, abs(Z), Y, "distances"),
    (_ignoring, Z, np.where(np.arange(64) % 5, Y, 255), "a void label"),
    (dm.roc_auc_loss, Z, Y, "ranking"),
    (naive, P, Y, "probabilities"),
    (soft_dice, P, Y, "soft counts"),
    (of_classes, SHARES, IDS, "shares"),
    (dm.softmax_cross_entropy, SCORES, IDS, "ids"),
    (dm.softmax_cross_entropy, SCORES, np.where(IDS == 1, 255, IDS), "void ids"),
    (broken_losses.naive_cross_entropy, 200 * Z, Y, "large logits"),
]


@pytest.mark.parametrize(
    ("loss", "predictions", "labels", "what"), RIGHT, ids=[case[3] for case in RIGHT]
)
def test_run_names_nothing_that_is_right(loss: Any, predictions: Any, labels: Any, what: str):
    assert not _about_inputs(diagnose.run(loss, predictions, labels)), what


def _is_asked(row: Row) -> bool:
    return row.engine and row.family in ("elements", "sets") and len(row.batch) == 2


@over(_is_asked, once=True)
def test_run_names_nothing_of_our_own_batches(row: Row):
    assert not _about_inputs(diagnose.run(row.loss, *row.batch))


N = 5000
FLAGS = np.arange(N) % 2
LOGIT = rng.normal(size=N) + FLAGS
OF_BATCHES: list[tuple[Any, Any, str, str]] = [
    (LOGIT, 255.0 * FLAGS, MASKS, "defect"),
    (LOGIT, (2.0 * FLAGS - 1).astype(np.float32), SIGNS, "defect"),
    (LOGIT, jnp.asarray(3.0 * FLAGS - 1, jnp.bfloat16), OUTSIDE, "defect"),
    (LOGIT, np.full(N, 255.0), MASKS, "defect"),
    (1 / (1 + np.exp(-LOGIT)), FLAGS, f"{LIKE}, and they reach from one to the other", "defect"),
    (0.2 / (1 + np.exp(-3 * LOGIT)), FLAGS, LIKE, "note"),
    (FLAGS, LOGIT, SWAPPED, "defect"),
    (np.tile(SHARES, (10, 1)), np.tile(IDS, 10), SUMS, "defect"),
]


AS_INTEGERS = "and a loss that computes with these numbers takes them for something else"
MASK_OF_INTEGERS = f"from an image: here 255 counts as 1 and 0 as 0, {AS_INTEGERS}"
SIGNS_OF_INTEGERS = f"labels are -1 and +1: here 1 counts as 1 and -1 as 0, {AS_INTEGERS}"
OF_BATCHES += [
    (LOGIT, 255 * FLAGS.astype(np.uint8), MASK_OF_INTEGERS, "note"),
    (LOGIT, 2 * FLAGS - 1, SIGNS_OF_INTEGERS, "note"),
]


@pytest.mark.parametrize(("logits", "labels", "cause", "status"), OF_BATCHES)
def test_batch_names_what_is_no_logit_or_no_label(
    logits: Any, labels: Any, cause: str, status: str
):
    report = diagnose.batch(logits, labels)
    (found,) = _about_inputs(report)
    assert cause in found.cause
    assert found.status == status
    assert report.healthy == (status == "note")
    assert report.findings[0] is found


@pytest.mark.parametrize(
    "labels",
    [FLAGS, FLAGS > 0, FLAGS.astype(np.float32), 0.9 * FLAGS + 0.05],
    ids=["int", "bool", "float", "soft"],
)
def test_batch_names_no_label_that_is_right(labels: Any):
    report = diagnose.batch(LOGIT, labels)
    assert not _about_inputs(report)
    assert report.healthy, str(report)


TEXT = np.full(64, "a")
REFUSED: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: diagnose.run(bce, None, Y), TypeError, "predictions must be numbers, got None"),
    (lambda: diagnose.run(bce, (), Y), ValueError, "predictions must hold something"),
    (lambda: diagnose.run(bce, Z, None), TypeError, "labels must be numbers, got None"),
    (lambda: diagnose.run(bce, [1, 2], [1, 0]), TypeError, "got int64 of shape (2,)"),
    (
        lambda: diagnose.run(bce, Y > 0, Z),
        TypeError,
        "got bool of shape (64,); or have predictions",
    ),
    (lambda: diagnose.run(bce, TEXT, Y), TypeError, "predictions must be numbers, got text"),
    (lambda: diagnose.run(bce, Z, ["a"]), TypeError, "labels must be numbers, got text"),
    (lambda: diagnose.run(bce, Z[:0], Y[:0]), ValueError, "must hold something, got shape (0,)"),
    (lambda: diagnose.batch(Z, TEXT), TypeError, "labels must be numbers, got text"),
    (lambda: diagnose.batch(None, Y), TypeError, "logits must be numbers, got None"),
    (lambda: diagnose.batch(Z, [[1, 0], [1]]), ValueError, "labels must be an array, got lists"),
    (lambda: diagnose.batch(Z, Y, beta=-1), ValueError, "beta must not be negative, got -1"),
]


@pytest.mark.parametrize(("call", "error", "text"), REFUSED, ids=[row[2] for row in REFUSED])
def test_what_holds_no_numbers_is_refused_by_its_name(
    call: Callable[[], Any], error: type[Exception], text: str
):
    with pytest.raises(error, match=re.escape(text)):
        call()


def test_lists_of_numbers_are_arrays():
    assert diagnose.run(bce, [[1.0, 2.0], [-1.0, 3.0]], [[1, 1], [0, 0]]).healthy
    two = diagnose.run(lambda z, y: bce(z[0] + z[1], y), [Z, Z], Y)
    assert two.kind.startswith("predictions (64,) and (64,)")
