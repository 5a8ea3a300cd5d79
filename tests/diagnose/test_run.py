"""What only a batch shows: `run` names what is wrong with a batch of the user's, and no more."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import diffmetrics as dm
from diffmetrics import diagnose
from tests.diagnose.trials import Trial, is_told, named

CLASSES = 5
N = 60
rng = np.random.default_rng(0)
LABELS = (rng.random(N) < 0.3).astype(np.float32)
LOGITS = (3.0 * LABELS - 1.0 + rng.normal(size=N)).astype(np.float32)
IDS = np.arange(N) % CLASSES
SCORES = (2.0 * np.eye(CLASSES)[IDS] + rng.normal(size=(N, CLASSES))).astype(np.float32)
RARE = (np.arange(N) % 20 == 3).astype(np.float32)
SKEWED = np.searchsorted([40, 54, N], np.arange(N), side="right")
LEFT_OUT = np.arange(N) % 3 == 0

binary = optax.sigmoid_binary_cross_entropy
of_ids = optax.softmax_cross_entropy_with_integer_labels


# --- ids of classes -------------------------------------------------------------------------------


def multiplied(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return -(labels * jax.nn.log_softmax(logits)).sum(-1).mean()


def clamped(logits: jax.Array, ids: jax.Array) -> jax.Array:
    return -jax.nn.log_softmax(logits)[jnp.arange(len(ids)), ids].mean()


def looked_up(logits: jax.Array, ids: jax.Array) -> jax.Array:
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), ids, -1).mean()


FROM_ONE = "class ids go from 1 to 5, and the loss counts from 0"
MULTIPLIED = "labels are ids of classes, and the loss multiplies with them"
WRONG_IDS = [
    Trial("from one", of_ids, SCORES, IDS + 1, "inputs", FROM_ONE),
    Trial("from one, void", dm.softmax_cross_entropy, SCORES, IDS + 1, "inputs", FROM_ONE),
    Trial("from one, clamped", clamped, SCORES, IDS + 1, "inputs", FROM_ONE),
    Trial("a column", multiplied, SCORES, IDS[:, None].astype("f"), "inputs", MULTIPLIED),
    Trial("of sigmoids", binary, SCORES, IDS[:, None], "inputs", MULTIPLIED),
    Trial("a square", multiplied, SCORES[:5], IDS[:5].astype("f"), "inputs", MULTIPLIED),
    Trial(
        "one-hot", looked_up, SCORES, np.eye(CLASSES, dtype=int)[IDS], "inputs",
        "labels are one-hot, and the loss takes ids",
    ),
    Trial(
        "too large", of_ids, SCORES, np.where(LEFT_OUT, 7, IDS), "inputs",
        "labels of 7 name no class, and they make the loss, or its gradient, NaN",
    ),
    Trial(
        "void, not marked", dm.softmax_cross_entropy, SCORES, np.where(LEFT_OUT, 7, IDS), "inputs",
        "labels of 7 name no class, and the loss leaves them out without a word", "note",
    ),
    Trial("one sigmoid", binary, LOGITS, IDS, "inputs", "labels are whole numbers from 0 to 4"),
]  # fmt: skip


@named(WRONG_IDS)
def test_ids_that_name_other_classes_or_are_multiplied(trial: Trial):
    is_told(trial)


# --- labels of 0 and 1 ----------------------------------------------------------------------------

SHADES = np.where(LABELS > 0, 250, np.arange(N) % 7)
COMPUTES = "the loss computes with these numbers as if they were 0 and 1"
WRONG_LABELS = [
    Trial("percent", binary, LOGITS, 100 * LABELS, "inputs", "0 and 100, like percentages"),
    Trial(
        "shares", binary, LOGITS, np.linspace(0, 99.5, N).astype("f"), "inputs",
        "between 0 and 99.5, like percentages",
    ),
    Trial("shades", binary, LOGITS, SHADES.astype("f"), "inputs", "like shades of an image"),
    Trial("integer shades", binary, LOGITS, SHADES, "inputs", COMPUTES),
    Trial(
        "shades above 0", dm.dice_loss, LOGITS, SHADES, "inputs",
        "labels have 8 values from 0 to 250, and all above 0 count as positive", "note",
    ),
    Trial("counted from one", binary, LOGITS, LABELS.astype(int) + 1, "inputs", "are 1 and 2"),
    Trial(
        "all positive", dm.sigmoid_cross_entropy, LOGITS, LABELS.astype(int) + 1, "labels",
        "labels are 1 and 2: both are above 0, and all count as positive",
    ),
    Trial(
        "inverted integers", dm.dice_loss, LOGITS, ~LABELS.astype(int), "labels",
        "labels are -2 and -1: both are not above 0, and all count as negative",
    ),
    Trial("no signs", optax.hinge_loss, LOGITS, LABELS, "alive", "the loss takes -1 and +1"),
    Trial("constant", binary, LOGITS, 0 * LABELS, "labels", "all labels are the same", "note"),
    Trial(
        "mixed scales", binary, LOGITS.reshape(6, 10),
        LABELS.reshape(6, 10) * np.array([[1], [255]] * 3, "f"), "inputs",
        "some of the masks are 0 and 1, and others 0 and 255",
    ),
]  # fmt: skip


@named(WRONG_LABELS)
def test_labels_that_are_no_zeros_and_ones(trial: Trial):
    is_told(trial)


# --- what is to be left out -----------------------------------------------------------------------


def leaving_out(mark: int, mean: bool = True) -> Callable[..., Any]:
    """Cross-entropy of ids, of which some mark what is to be left out."""

    def loss(logits: jax.Array, ids: jax.Array) -> jax.Array:
        known = ids != mark
        each = of_ids(logits, jnp.where(known, ids, 0)) * known
        return each.sum() / known.sum() if mean else each.mean()

    return loss


def afterwards(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """A where that comes too late for the gradient."""
    return jnp.where(jnp.isnan(labels), 0.0, jnp.sqrt((logits - labels) ** 2)).mean()


def beforehand(logits: jax.Array, labels: jax.Array) -> jax.Array:
    known = ~jnp.isnan(labels)
    return (binary(logits, jnp.where(known, labels, 0.0)) * known).sum() / known.sum()


MARKED = {mark: np.where(LEFT_OUT, mark, IDS) for mark in (-1, 255, -100)}
FLAGS = {mark: np.where(LEFT_OUT, mark, LABELS) for mark in (-1, 255, -100)}
LOST = np.where(LEFT_OUT[:, None], np.nan, SCORES).astype(np.float32)
MISSING = np.where(LEFT_OUT, np.nan, LABELS).astype(np.float32)
NOT_LEFT_OUT = [
    Trial(
        "-1", of_ids, SCORES, MARKED[-1], "inputs",
        "labels of -1 mark what is to be left out, and the loss counts them as class 4",
    ),
    Trial(
        "255", of_ids, SCORES, MARKED[255], "inputs",
        "labels of 255 mark what is to be left out, and they make the loss, or its gradient",
    ),
    Trial("-100", of_ids, SCORES, MARKED[-100], "inputs", "labels of -100 mark what is"),
    Trial(
        "counted by the mean", leaving_out(-1, mean=False), SCORES, MARKED[-1], "inputs",
        "the mean counts what is ignored: labels of -1 cost nothing", "note",
    ),
    Trial(
        "NaN beside marks", leaving_out(-1), LOST, MARKED[-1], "inputs",
        "predictions are not numbers where nothing is to be learnt",
    ),
    Trial(
        "NaN of a model", binary, np.where(LEFT_OUT, np.nan, LOGITS), LABELS, "inputs",
        "predictions are not numbers: the model or its inputs are at fault",
    ),
    Trial(
        "NaN labels", optax.squared_error, LOGITS, MISSING, "inputs",
        "labels are not numbers, and the loss does not leave them out",
    ),
    Trial(
        "a late where", afterwards, LOGITS, MISSING, "inputs",
        "labels are not numbers: the value leaves them out, and the gradient is NaN",
    ),
    Trial(
        "floating flags", binary, LOGITS, FLAGS[255].astype("f"), "inputs",
        "some labels are 255, beside 0 and 1, as a mark of what is to be left out, and they get",
    ),
    Trial(
        "flags", dm.dice_loss, LOGITS, FLAGS[255].astype(int), "inputs",
        "as a mark of what is to be left out, and the loss counts them as positive",
    ),
    Trial(
        "negative flags", dm.dice_loss, LOGITS, FLAGS[-1].astype(int), "inputs",
        "as a mark of what is to be left out, and the loss counts them as negative",
    ),
    Trial("-100 flags", binary, LOGITS, FLAGS[-100].astype("f"), "inputs", "labels are -100"),
]  # fmt: skip


@named(NOT_LEFT_OUT)
def test_marks_and_missing_numbers_that_a_loss_does_not_leave_out(trial: Trial):
    is_told(trial)


# --- predictions ----------------------------------------------------------------------------------


def of_probabilities(p: jax.Array, labels: jax.Array) -> jax.Array:
    return -(labels * jnp.log(p) + (1 - labels) * jnp.log(1 - p)).mean()


def soft_dice(p: jax.Array, labels: jax.Array) -> jax.Array:
    return 1 - 2 * (p * labels).sum() / (p + labels).sum()


DECIDED = (LOGITS > 0).astype(np.float32)
PROBABILITIES = np.asarray(jax.nn.sigmoid(LOGITS))


@named(
    [
        Trial(
            "percent", of_probabilities, 100 * PROBABILITIES, LABELS, "inputs", "like percentages"
        ),
        Trial(
            "decided", soft_dice, DECIDED, LABELS, "inputs", "are all 0 or 1: a threshold", "note"
        ),
        Trial("decided logits", binary, DECIDED, LABELS, "inputs", "are all 0 or 1", "note"),
    ]
)
def test_predictions_that_are_percentages_or_decisions(trial: Trial):
    is_told(trial)


# --- weights, sums --------------------------------------------------------------------------------


def weighted(positive: float, negative: float) -> Callable[..., Any]:
    return lambda z, y: (jnp.where(y > 0, positive, negative) * binary(z, y)).mean()


def by_class(*weights: float) -> Callable[..., Any]:
    return lambda z, ids: (jnp.asarray(weights)[ids] * of_ids(z, ids)).mean()


def by_row(*weights: float) -> Callable[..., Any]:
    return lambda z, y: -(y * jnp.asarray(weights) * jax.nn.log_softmax(z)).sum(-1).mean()


def pairs(z: jax.Array, y: jax.Array) -> jax.Array:
    """A sum over all pairs."""
    return ((z[:, None] - z[None] - y[:, None] + y[None]) ** 2).sum()


focal = functools.partial(optax.sigmoid_focal_loss, alpha=0.25)
SHARES = (0.67, 0.23, 0.1)
ONE_HOT = np.eye(3, dtype="f")[SKEWED]
OF_SHARE = "an example of class 2, which is rarer, weighs 6.7 times less than an example of class 0"
WRONG_WAY = [
    Trial(
        "negatives", weighted(1, 30), LOGITS, RARE, "weights",
        "a positive, which is rarer, weighs 30 times less than a negative",
    ),
    Trial("classes", by_class(*SHARES), SCORES[:, :3], SKEWED, "weights", OF_SHARE),
    Trial("one-hot", by_row(*SHARES), SCORES[:, :3], ONE_HOT, "weights", OF_SHARE),
    Trial("focal", focal, LOGITS, RARE, "weights", "3 times less than a negative, as in", "note"),
    Trial(
        "a sum", lambda z, y: binary(z, y).sum(), LOGITS, LABELS, "reduction",
        "the loss is a sum over the examples", "note",
    ),
    Trial(
        "a sum of an odd number", lambda z, y: binary(z, y).sum(), LOGITS[1:], LABELS[1:],
        "reduction", "the loss is a sum over the examples", "note",
    ),
    Trial("pairs", pairs, LOGITS, LABELS, "reduction", "a sum over all pairs", "note"),
]  # fmt: skip


@named(WRONG_WAY)
def test_weights_of_the_wrong_class_and_sums(trial: Trial):
    is_told(trial)


def test_a_mean_in_bfloat16_is_a_mean():
    z, y = (jnp.asarray(a, jnp.bfloat16) for a in (LOGITS, LABELS))
    assert not diagnose.run(lambda z, y: binary(z, y).mean(), z, y).findings


def test_a_sum_is_no_loss_of_the_whole_batch():
    report = diagnose.run(lambda z, y: binary(z, y).sum(), LOGITS, LABELS)
    assert [f.probe for f in report.findings] == ["reduction"]
    assert "its loss is the sum over its halves" in str(report)


# --- no false alarm -------------------------------------------------------------------------------


def of_bins(logits: jax.Array, targets: jax.Array) -> jax.Array:
    return ((jax.nn.softmax(logits) @ jnp.arange(CLASSES, dtype="f") - targets) ** 2).mean()


def of_one_size(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return binary(logits.reshape(N), labels.reshape(N)).mean()


def choosy(logits: Any, labels: Any) -> Any:
    """Looks at its labels, and so cannot be compiled."""
    if not np.isin(np.asarray(labels), (0, 1)).all():
        raise ValueError("labels must be 0 or 1")
    return binary(logits, labels).mean()


def absolute(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    return jnp.abs(predictions - targets).mean()


def critic(scores: jax.Array, signs: jax.Array) -> jax.Array:
    return (scores * signs).mean()


def distilled(logits: jax.Array, teacher: jax.Array) -> jax.Array:
    return -(jax.nn.softmax(teacher) * jax.nn.log_softmax(logits)).sum(-1).mean()


SOUND = [
    Trial("regression of ids", optax.squared_error, LOGITS, IDS.astype("f")),
    Trial("ordered ids", absolute, LOGITS, IDS),
    Trial("counts", lambda z, y: (jnp.exp(z) - y * z).mean(), LOGITS, IDS),
    Trial("bins", of_bins, SCORES, IDS.astype("f")),
    Trial("targets above", absolute, LOGITS, LOGITS[::-1] + 50),
    Trial("members", absolute, SCORES + 50, IDS[:, None]),
    Trial("a critic", critic, LOGITS, 2 * LABELS - 1),
    Trial("a hinge", optax.hinge_loss, LOGITS, 2 * LABELS - 1),
    Trial("a teacher", distilled, SCORES, SCORES[::-1]),
    Trial("soft labels", binary, LOGITS, PROBABILITIES[::-1]),
    Trial("smoothed", optax.softmax_cross_entropy, SCORES, 0.9 * np.eye(5, dtype="f")[IDS] + 0.02),
    Trial("the last class is absent", of_ids, SCORES, np.minimum(IDS, 3)),
    Trial("the first class is absent", of_ids, SCORES, np.maximum(IDS, 1)),
    Trial("left out", leaving_out(255), SCORES, MARKED[255]),
    Trial("as many examples as classes", of_ids, SCORES[:5], IDS[:5]),
    Trial("void", dm.softmax_cross_entropy, SCORES, MARKED[-1]),
    Trial("one-hot", multiplied, SCORES, np.eye(CLASSES, dtype="f")[IDS]),
    Trial("above one-hot", absolute, SCORES + 9, np.eye(CLASSES, dtype="f")[IDS]),
    Trial("one-hot sigmoids", binary, SCORES, np.eye(CLASSES, dtype="f")[IDS]),
    Trial("missing", beforehand, LOGITS, MISSING),
    Trial("heavy positives", weighted(30, 1), LOGITS, RARE),
    Trial("focal", focal, LOGITS, RARE),
    Trial("a ranking", dm.roc_auc_loss, LOGITS, RARE),
    Trial("a margin of one rival", dm.crammer_singer_loss, SCORES, np.eye(5, dtype="f")[IDS]),
    Trial("two", binary, np.array([1.0, -1.0], "f"), np.array([0.0, 1.0], "f")),
    Trial("one", binary, np.array([1.0], "f"), np.array([1.0], "f")),
    Trial("none on an axis", binary, np.float32(1.0), np.float32(1.0)),
    Trial("one size", of_one_size, LOGITS, LABELS),
    Trial(
        "identities", functools.partial(dm.pairwise_kl_hinge_loss, margin=2.0), SCORES, 3 * IDS
    ),
]  # fmt: skip


@named(SOUND)
def test_nothing_is_named_that_is_right(trial: Trial):
    report = diagnose.run(trial.loss, trial.predictions, trial.labels)
    assert report.healthy, str(report)
    told = {found.probe for found in report.findings}
    assert not told & {"inputs", "masks", "inverted"}, str(report)


def test_a_loss_may_refuse_the_numbers_that_are_made_up():
    report = diagnose.run(choosy, LOGITS, LABELS)
    assert {found.probe for found in report.defects} == {"jit"}
