"""What `run` tells of predictions: nothing to learn, nothing finite, or all on the wrong side."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

import diffmetrics as dm
from diffmetrics import diagnose
from tests.diagnose.test_run import IDS, LABELS, LOGITS, SCORES, binary, of_ids
from tests.diagnose.trials import Trial, is_told, named

# --- nothing to learn -----------------------------------------------------------------------------


def test_a_softmax_of_one_output_has_no_gradient_and_is_not_said_to_be_broadcast():
    def loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
        return ((jax.nn.softmax(logits) - labels) ** 2).mean()

    (found,) = diagnose.run(loss, LOGITS[:, None], LABELS[:, None]).findings
    assert found.cause == "no prediction gets a gradient"
    assert "take a sigmoid, or two outputs" in found.advice


def test_a_hinge_that_is_met_has_nothing_left_to_learn():
    (found,) = diagnose.run(optax.hinge_loss, 9 * LABELS - 3, 2 * LABELS - 1).findings
    assert found.cause.startswith("nothing is left to learn on this batch")


def test_a_loss_that_is_blind_in_one_shape_was_not_broadcast():
    (found,) = (
        found
        for found in diagnose.run(lambda z, y: z.mean() * y.mean(), LOGITS, LABELS).findings
        if found.probe == "labels"
    )
    assert found.advice == "look for means over the batch before the labels come in"


@named(
    [
        Trial(
            "the loss", lambda z, y: binary(z, y).mean() + jnp.nan, LOGITS, LABELS, "finite",
            "the loss is NaN on this batch, though its gradient is finite",
        ),
        Trial(
            "the gradient", lambda z, y: binary(z, y).mean() + jnp.sqrt(((z - z) ** 2).sum()),
            LOGITS, LABELS, "finite", "the gradient is not finite on this batch, though the loss",
        ),
        Trial(
            "both", lambda z, y: binary(z, y).mean() + jnp.log(z - z).sum(), LOGITS, LABELS,
            "finite", "the loss is infinite on this batch, and its gradient is not finite either",
        ),
    ]
)  # fmt: skip
def test_what_is_not_finite_is_told_apart(trial: Trial):
    is_told(trial)


def test_a_few_ids_from_one_are_asked_whether_they_are():
    few = np.array([1, 5, 3, 2, 4, 4])
    of_run = diagnose.run(of_ids, SCORES[:6], few).findings[0]
    of_batch = diagnose.batch(SCORES[:6], few).findings[0]
    for found in (of_run, of_batch):
        assert "labels of 5 name no class" in found.cause
        assert found.advice.startswith("do they count from 1? then labels - 1; if not, check")
    many = diagnose.run(of_ids, SCORES, IDS + 1).findings[0]
    assert many.evidence.startswith("of 60 labels none is 0, and 12 are 5: they make the loss")


# --- the wrong way round --------------------------------------------------------------------------

MANY = (np.arange(240) % 3 == 0).astype(np.float32)
INVERTED = (2.0 - 5.0 * MANY + np.random.default_rng(1).normal(size=240)).astype(np.float32)
WRONG_SIDE = "most predictions are wrong, and positives are ranked below negatives"


@named(
    [
        Trial("inverted", binary, INVERTED, MANY, "inverted", WRONG_SIDE),
        Trial("inverted counts", dm.dice_loss, INVERTED, MANY, "inverted", WRONG_SIDE),
        Trial("badly", binary, INVERTED + 3.9 * MANY, MANY, "inverted", WRONG_SIDE, "note"),
    ]
)
def test_predictions_that_are_the_wrong_way_round(trial: Trial):
    is_told(trial)


def test_a_loss_of_differences_of_logits_has_no_wrong_side():
    report = diagnose.run(dm.roc_auc_loss, INVERTED, MANY)
    assert not [found for found in report.findings if found.probe == "inverted"]
    (moved,) = (found for found in report.results if found.probe == "labels")
    assert moved.evidence.endswith("(0.00001 is enough)")


def contrastive(distances: jax.Array, same: jax.Array) -> jax.Array:
    return (same * distances**2 + (1 - same) * jnp.maximum(1 - distances, 0) ** 2).mean()


RIGHT = [
    Trial("a hinge that is met", optax.hinge_loss, 9 * LABELS - 3, 2 * LABELS - 1),
    Trial("young logits above 0", dm.perceptron_loss, 0.3 + 0.02 * LOGITS, LABELS),
    Trial("a critic of 0 and 1", lambda z, y: (z * (1 - 2 * y)).mean(), INVERTED, MANY),
    Trial("a regression of 0 and 1", optax.squared_error, INVERTED, MANY),
    Trial("distances", contrastive, np.abs(INVERTED), MANY),
    Trial("untrained", binary, INVERTED + 5 * MANY, MANY),
    Trial("few", binary, INVERTED[:60], MANY[:60]),
]


@named(RIGHT)
def test_nothing_is_inverted_that_has_no_wrong_side(trial: Trial):
    report = diagnose.run(trial.loss, trial.predictions, trial.labels)
    assert report.healthy, str(report)
    assert not [found for found in report.findings if found.probe == "inverted"]
