"""The promises of every loss that counts or ranks a set of elements, over the rows of them.

Masks, weights, axes, shapes and types are questions to the engines, each of which is asked once; a
face of one of them is asked for its value and gradient, its limit and its ends.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffmetrics as dm
from diffmetrics import testing
from tests.references import along_axes, sets as reference
from tests.rows import BINARY, Row, of, over, the

rng = np.random.default_rng(0)
SHAPE = (2, 5, 4)
LOGITS = rng.normal(scale=2.0, size=SHAPE)
PROBABILITIES = rng.uniform(0.05, 0.95, SHAPE)
LABELS = rng.integers(0, 2, SHAPE)
SOFT = rng.uniform(size=SHAPE)
IDS = np.array([[0, 3, 255, 2, 1], [1, 0, 2, 3, 3]])
ONE_HOT = np.eye(4, dtype=int)[np.minimum(IDS, 3)]
KEEP = rng.random(SHAPE) < 0.8
FACTORS = rng.uniform(0.5, 2.0, SHAPE)
CELLS = {"tp": 0.5, "fp": 0.25, "fn": 0.75, "tn": 2.0}
ACTIVATIONS = {  # the library's, and the reference's
    jax.nn.sigmoid: along_axes.sigmoid,
    jax.nn.softmax: along_axes.softmax,
}
# They keep the last axis, of classes.
OVER_CLASSES = ("generalized_dice_loss", "lovasz_softmax_loss")
FAMILIES = ("sets", "rankings")
over_losses = over(lambda row: row.family in FAMILIES)

# Every loss is asked the first, which has the gradient beside the value; the engines are asked all.
CASES: dict[str, dict[str, Any]] = {
    "masked and weighted": {"axis": (0, 1), "where": KEEP[:, :, :1], "weights": FACTORS[0]},
    "tied": {"logits": np.round(LOGITS), "weights": FACTORS},
    "sets": {"axis": (-2, 0)},
    "prior": {"axis": 1, "where": KEEP, "weights": FACTORS, "prior": CELLS},
    "soft labels": {"labels": SOFT, "weights": FACTORS},
    "one-hot": {"labels": ONE_HOT, "axis": (0, 1), "activation": jax.nn.softmax},
    "class ids": {"labels": IDS, "axis": 1, "activation": jax.nn.softmax, "where": KEEP},
    "probabilities": {"logits": PROBABILITIES, "activation": along_axes.identity},
}


def applies(row: Row, case: str) -> bool:
    if row.reference is None or (row.softmax and row.options):
        return False
    if row.family == "rankings":  # of two classes, without activation and prior
        return case == "masked and weighted" or (case == "tied" and row.engine)
    if "lovasz" in row.name and case in ("soft labels", "tied"):
        return False  # of hard labels, and in a tie one of several slopes
    if row.name == "lovasz_hinge_loss" and "activation" in CASES[case]:
        return False
    return case == "masked and weighted" or row.engine


ASKED = [(row, case) for row in of(*FAMILIES) for case in CASES if applies(row, case)]


@pytest.mark.parametrize(("row", "case"), ASKED, ids=[f"{row.id}-{case}" for row, case in ASKED])
def test_value_and_gradient_match_the_loops(row: Row, case: str):
    options = {**CASES[case]}
    logits, labels = options.pop("logits", LOGITS), options.pop("labels", LABELS)
    ours, theirs = {**options}, {**options, **row.options, **row.traced}
    if "prior" in options:
        ours["prior"], theirs["prior"] = dm.Counts(**CELLS), reference.Counts(**CELLS)
    if "activation" in options:
        theirs["activation"] = ACTIVATIONS.get(options["activation"], along_axes.identity)
    loss, plain = first_of(row), first_of(row.reference)
    expected = plain(logits, labels, **theirs)
    if case != "masked and weighted":
        value = loss(logits, labels, **ours)
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
        return
    # Sets are told apart by their own factor, so that one gradient checks them all.
    factor = np.linspace(1.0, 2.0, expected.size).reshape(expected.shape)

    def total(z: jax.Array) -> tuple[jax.Array, jax.Array]:
        value = loss(z, labels, **ours)
        return jnp.sum(factor * value), value

    gradient, value = jax.jit(jax.grad(total, has_aux=True))(LOGITS)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    for seed in range(2):
        along, step = np.random.default_rng(seed).normal(size=SHAPE), 1e-6
        ends = [np.sum(factor * plain(logits + s * along, labels, **theirs)) for s in (step, -step)]
        slope = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(np.sum(gradient * along), slope, rtol=2e-4, atol=1e-6)


def first_of(loss: Callable[..., Any] | None) -> Callable[..., Any]:
    """A Lagrangian's loss without what it reports, and any other as it is."""
    assert loss is not None

    def alone(*arguments: Any, **options: Any) -> Any:
        found = loss(*arguments, **options)
        return found[0] if isinstance(found, tuple | list) else found

    return alone


MAX = float(np.finfo(np.float32).max)
EXTREMES = np.array([0.0, 1.0, -104.0, 1e4, 1e19, -1e38, MAX, -MAX], np.float32)


@over_losses
def test_value_and_gradient_are_finite_for_every_finite_logit_and_a_missing_class(row: Row):
    """Three hundred sets of any of these numbers, some of them without a positive or a negative."""
    shape = (300, 6, 4) if row.softmax or row.name in OVER_CLASSES else (300, 6)
    logits = rng.choice(EXTREMES, shape)
    alike = EXTREMES.repeat(5)  # sets of one number, with labels of five draws
    logits[: len(alike)] = alike.reshape(-1, *[1] * (len(shape) - 1))
    labels = rng.integers(0, 4, (300, 6)) if row.softmax else rng.integers(0, 2, shape)
    both = jax.jit(jax.vmap(lambda z, y: jax.value_and_grad(row.total)(z, y)))
    chex.assert_tree_all_finite(both(logits, labels))


@over(lambda row: row.family == "sets")
def test_perfect_prediction_costs_nothing(row: Row):
    labels = row.batch[1]
    right = labels[:, None] == np.arange(4) if row.softmax else labels == 1
    perfect = np.where(right, 100.0, -100.0).astype(np.float32)
    worst, best = row(-perfect, labels), row(perfect, labels)
    chex.assert_trees_all_close(best, jnp.zeros_like(best), atol=1e-6)
    assert jnp.all(worst > 0.45)


@over(lambda row: row.metric is not None)
def test_soft_tends_to_hard(row: Row):
    metric = row.metric
    assert metric is not None
    testing.assert_tends_to_metric(row.loss, lambda p, y: metric(dm.counts(p, y)), *BINARY)


# To the Lovász hinge the empty set is a lesson already.
@over(lambda r: r.family == "sets" and not r.softmax and "lovasz" not in r.name, once=True)
def test_no_positive_is_the_constant_one_until_a_prior_teaches_emptiness(row: Row):
    logits, labels = BINARY[0], np.zeros_like(BINARY[1])

    @jax.jit
    def both(prior: dm.Counts) -> tuple[jax.Array, jax.Array]:
        return jax.value_and_grad(lambda z: row(z, labels, prior=prior))(logits)

    if row.name not in ("balanced_accuracy_loss", "score_loss"):  # which see the negatives
        value, gradient = both(dm.Counts(tp=0.0, tn=0.0))
        assert value == 1
        assert not gradient.any()
    if row.name not in OVER_CLASSES:  # which leave an absent class out
        assert jnp.all(both(dm.Counts(tp=1.0, tn=1.0))[1] > 0)


# --- engines and doors ----------------------------------------------------------------------------

# One behind each door, `admit`, `activate` and `two_classes`, and each form of result.
DOORS = ("dice_loss", "lovasz_softmax_loss", "roc_auc_loss", "recall_at_precision_loss",
         "pr_auc_lagrangian")  # fmt: skip
over_doors = over(lambda row: row.name in DOORS and row is the(row.name))


@over_doors
def test_the_public_assertions_hold(row: Row):
    testing.assert_where_selects(first_of(row), *row.batch)
    testing.assert_weights_count(first_of(row), *row.batch)
    testing.assert_accumulates_in_float32(first_of(row), *row.batch)


# The multipliers of a curve's Lagrangian are those of one shape of sets.
@over(lambda row: row.name in DOORS and row is the(row.name) and "biases" not in row.traced)
def test_axis_keeps_the_rest_and_lists_are_accepted(row: Row):
    logits, labels = row.batch
    images = np.stack([logits, -logits])
    masks = np.stack([labels, labels[::-1]])
    axis = (0,) if row.softmax else (0, 1)
    loss = first_of(row)
    alone = [loss(z.tolist(), y.tolist(), axis=axis) for z, y in zip(images, masks, strict=True)]
    together = loss(images, masks, axis=tuple(a + 1 for a in axis))
    chex.assert_trees_all_close(together, jnp.stack(alone), rtol=1e-5, atol=1e-6)


@over_losses
def test_bad_arguments_are_named(row: Row):
    """By every face, since a door compiles nothing."""
    logits, labels = row.batch

    def asked(logits: Any, labels: Any, **options: Any) -> Any:
        return jax.eval_shape(lambda: row(logits, labels, **options))

    testing.assert_shapes_checked(first_of(row), logits, labels)
    if not row.softmax and row.name not in OVER_CLASSES:
        testing.assert_shapes_checked(first_of(row), logits[:, 0], labels[:, 0])
    with pytest.raises(TypeError, match="logits must be floating"):
        asked(logits.astype(int), labels)
    with pytest.raises(TypeError, match="where must be boolean"):
        asked(logits, labels, where=np.ones(logits.shape))
    with pytest.raises(ValueError, match=r"where must broadcast to logits: where is \(5,\)"):
        asked(logits, labels, where=np.ones(5, bool))
    with pytest.raises(ValueError, match="weights must broadcast to logits"):
        asked(logits, labels, weights=np.ones(5))
    with pytest.raises(TypeError, match="weights must be numbers"):
        asked(logits, labels, weights=np.ones(logits.shape, bool))
    with pytest.raises(ValueError, match="axis must lie in"):
        asked(logits, labels, axis=7)
    with pytest.raises(ValueError, match="labels must have the shape of logits"):
        asked(logits, np.eye(5)[np.zeros(12, int)])
    if row.family == "sets":
        with pytest.raises(TypeError, match=r"Counts\(tp=1.0\)"):
            asked(logits, labels, prior=1.0)
    if "surrogate" in inspect.signature(row.public).parameters:
        with pytest.raises(ValueError, match=r"surrogate must be .*hinge.* got 'xent'"):
            asked(logits, labels, surrogate="xent")
