"""Losses over all pairs against loops over all pairs, and against the metrics they stand for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffmetrics as dm
from diffmetrics import testing
from tests.contract.derivatives import assert_derivatives_match_numerical
from tests.references import rankings as reference

rng = np.random.default_rng(0)
N = 40
LABELS = (np.arange(N) % 3 == 0).astype(int)
LOGITS = (2.0 * rng.normal(size=N) + LABELS).astype(np.float32)
TIED = np.round(LOGITS)
WEIGHTS = rng.uniform(0.2, 3.0, N).astype(np.float32)
KEEP = rng.random(N) < 0.7
MAX = float(np.finfo(np.float32).max)


@dataclasses.dataclass(frozen=True)
class Row:
    """A loss with its hyper-parameters, and the loops that define it."""

    loss: Callable[..., jax.Array]
    reference: Callable[..., float]
    traced: dict[str, Any] = dataclasses.field(default_factory=dict)
    # Between kinks the first derivative of some does not change.
    kinks: bool = False

    def __call__(self, logits: Any, labels: Any = LABELS, **options: Any) -> jax.Array:
        return self.loss(logits, labels, **{**self.traced, **options})

    def loops(self, logits: Any, weights: Any = None, **options: float) -> float:
        w = np.ones(len(logits)) if weights is None else weights
        arrays = (np.asarray(x, np.float64).tolist() for x in (logits, LABELS, w))
        return self.reference(*arrays, **{**self.traced, **options})


SURROGATES: tuple[Any, ...] = tuple(reference.PAIRS)
MARGIN = {"margin": 0.7}
RANGE = {"max_fpr": 0.33, "min_tpr": 0.4}
ROWS = {
    **{
        surrogate: Row(
            partial(dm.roc_auc_loss, surrogate=surrogate),
            partial(reference.roc_auc, surrogate=surrogate),
            MARGIN,
            kinks=surrogate == "hinge",
        )
        for surrogate in SURROGATES
    },
    **{
        f"{surrogate} of a range": Row(
            partial(dm.partial_roc_auc_loss, surrogate=surrogate),
            partial(reference.roc_auc, surrogate=surrogate),
            MARGIN | RANGE,
            kinks=surrogate == "hinge",
        )
        for surrogate in SURROGATES
    },
    "average precision": Row(
        dm.average_precision_loss, reference.average_precision, {"temperature": 0.8}
    ),
    "aucm": Row(dm.aucm_loss, reference.aucm, MARGIN),
    "aum": Row(dm.aum_loss, reference.aum, kinks=True),
}
over_rows = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
# One of each way to sum over pairs is asked for all that is promised, and one range.
CONTRACT = {
    name: ROWS[name]
    for name in (
        "hinge",
        "square",
        "logistic",
        "squared_hinge of a range",
        "average precision",
        "aucm",
        "aum",
    )
}
over_contract = pytest.mark.parametrize("row", CONTRACT.values(), ids=CONTRACT)
over_surrogates = pytest.mark.parametrize("surrogate", SURROGATES)


@over_rows
@pytest.mark.parametrize(
    ("logits", "weights"), [(LOGITS, None), (TIED, WEIGHTS)], ids=["plain", "tied and weighted"]
)
def test_value_equals_the_loops(row: Row, logits: np.ndarray, weights: Any):
    np.testing.assert_allclose(
        row(logits, weights=weights), row.loops(logits, weights=weights), rtol=3e-6
    )


@over_contract
def test_derivatives_match_numerical(row: Row):
    if row.kinks:
        testing.assert_gradient_matches_numerical(row.loss, LOGITS, LABELS, **row.traced)
        return
    # The polynomial of the logistic is good for 3e-7, also in the slopes.
    atol = 1e-6 if row is ROWS["logistic"] or row is ROWS["logistic of a range"] else 1e-8
    with jax.enable_x64(True):
        assert_derivatives_match_numerical(row, LOGITS, step=1e-6, atol=1e-6 + atol)


@over_rows
def test_gradient_is_that_of_the_loops(row: Row):
    step = 1e-6
    gradient = jax.grad(row)(LOGITS)
    for i in range(0, N, 7):
        moved = np.asarray(LOGITS, np.float64)
        moved[i] += step
        high = row.loops(moved)
        moved[i] -= 2 * step
        np.testing.assert_allclose(
            gradient[i], (high - row.loops(moved)) / (2 * step), rtol=1e-4, atol=1e-6
        )


@over_contract
def test_contract_of_set_losses(row: Row):
    loss, options = row.loss, row.traced
    testing.assert_jit_and_vmap_agree(loss, LOGITS, LABELS, **options)
    testing.assert_order_invariant(loss, LOGITS, LABELS, **options)
    testing.assert_shapes_checked(loss, LOGITS, LABELS, **options)
    testing.assert_where_selects(loss, LOGITS, LABELS, **options)
    testing.assert_weights_count(loss, LOGITS, LABELS, **options)
    testing.assert_accumulates_in_float32(loss, LOGITS, LABELS, **options)


@over_rows
def test_loss_is_finite_for_every_finite_logit(row: Row):
    extremes = np.array([0.0, 1.0, -104.0, 1e4, 1e19, -1e38, MAX, -MAX], np.float32)
    batch = rng.choice(extremes, (300, 6))
    labels = rng.integers(0, 2, (300, 6))

    def everything(z: jax.Array, y: jax.Array) -> Any:
        return jax.value_and_grad(row)(z, y)

    chex.assert_tree_all_finite(jax.jit(jax.vmap(everything))(batch, labels))


@over_rows
def test_a_set_of_one_class_costs_nothing(row: Row):
    for labels in (np.zeros(N, int), np.ones(N, int)):
        value, gradient = jax.value_and_grad(row)(LOGITS, labels)
        if labels[0] and row is ROWS["average precision"]:
            chex.assert_trees_all_close(value, 0.0, atol=1e-6)
        else:
            chex.assert_trees_all_equal((value, gradient), (0.0, jnp.zeros(N)))
    nothing = row(LOGITS, where=np.zeros(N, bool))
    chex.assert_trees_all_equal(nothing, jnp.zeros(()))


@over_contract
def test_axis_keeps_the_rest(row: Row):
    logits, labels = LOGITS.reshape(20, 2), LABELS.reshape(20, 2)
    alone = jnp.stack([row(logits[:, i], labels[:, i]) for i in range(2)])
    chex.assert_trees_all_close(row(logits, labels, axis=0), alone, rtol=1e-5)


@over_contract
def test_hyper_parameters_are_traced_and_can_be_swept(row: Row):
    for name, value in row.traced.items():
        values = jnp.array([value, 1.3 * value])
        swept = jax.vmap(lambda x, name=name: row(LOGITS, **{name: x}))(values)
        alone = jnp.stack([row(LOGITS, **{name: x}) for x in values])
        chex.assert_trees_all_close(swept, alone, rtol=1e-5)
        sloped = jax.grad(lambda x, name=name: row(LOGITS, **{name: x}))(value)
        step = 1e-4
        change = [row.loops(LOGITS, **{name: value + s}) for s in (step, -step)]
        np.testing.assert_allclose(
            sloped, (change[0] - change[1]) / (2 * step), rtol=2e-3, atol=1e-4
        )


@over_contract
def test_an_offset_of_the_scores_costs_no_digits(row: Row):
    if row is ROWS["aucm"]:
        return  # of probabilities, which an offset changes
    margin = {"margin": 0.75} if "margin" in row.traced else {}  # exact beside the offset
    grid = np.round(LOGITS * 64) / 64  # so that the offset is exact
    near, far = (
        jax.value_and_grad(partial(row, **margin))(grid + offset) for offset in (0.0, 4096.0)
    )
    chex.assert_trees_all_close(near, far, rtol=2e-5, atol=1e-6)


@over_surrogates
def test_a_range_of_everything_is_the_whole(surrogate: Any):
    options = {"surrogate": surrogate, "margin": 0.7}
    whole = jax.value_and_grad(partial(dm.roc_auc_loss, **options))(LOGITS, LABELS)
    part = partial(dm.partial_roc_auc_loss, max_fpr=1.0, min_tpr=0.0, **options)
    chex.assert_trees_all_close(
        jax.value_and_grad(part)(LOGITS, LABELS), whole, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("surrogate", ["hinge", "squared_hinge", "square", "exponential"])
def test_surrogates_bound_the_error_of_ranking(surrogate: Any):
    for scale in (0.1, 1.0, 10.0):
        auc = dm.roc_auc(dm.curve(scale * LOGITS, LABELS))
        assert dm.roc_auc_loss(scale * LOGITS, LABELS, surrogate=surrogate) >= 1.0 - auc


def test_logistic_is_the_loss_of_all_pairs_of_a_large_set():
    z = rng.normal(size=3000).astype(np.float32) * 10 + 50
    y = rng.random(3000) < 0.1
    gap = z[y][:, None].astype(np.float64) - z[~y]
    expected = np.logaddexp(0.0, -gap).mean()
    slopes = -1.0 / (1.0 + np.exp(gap))
    value, gradient = jax.value_and_grad(partial(dm.roc_auc_loss, surrogate="logistic"))(z, y)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient[y], slopes.sum(1) / gap.size, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(gradient[~y], -slopes.sum(0) / gap.size, rtol=1e-4, atol=1e-9)


def test_average_precision_tends_to_the_exact_one():
    exact = 1.0 - dm.average_precision(dm.curve(LOGITS, LABELS))
    np.testing.assert_allclose(
        dm.average_precision_loss(LOGITS, LABELS, temperature=1e-4), exact, atol=1e-6
    )


def test_a_pair_at_its_margin_still_pulls():
    """All logits are zero when training begins, and so is the margin of the perceptron."""
    z, y = jnp.zeros(4), np.array([1, 1, 0, 0])
    gradient = jax.grad(partial(dm.roc_auc_loss, surrogate="hinge", margin=0.0))(z, y)
    chex.assert_trees_all_close(gradient, jnp.array([-0.5, -0.5, 0.5, 0.5]))


def test_aum_knows_no_margin():
    z, y = jnp.array([0.1, 0.0]), np.array([1, 0])
    chex.assert_trees_all_equal(jax.value_and_grad(dm.aum_loss)(z, y), (0.0, jnp.zeros(2)))


def test_aucm_is_the_square_loss_while_the_means_are_too_close():
    p = jax.nn.sigmoid(LOGITS)
    chex.assert_trees_all_close(
        dm.aucm_loss(LOGITS, LABELS),
        dm.roc_auc_loss(p, LABELS, surrogate="square"),
        rtol=1e-5,
    )


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"surrogate must be one of hinge, .*, got 'log'"):
        dm.roc_auc_loss(LOGITS, LABELS, surrogate="log")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"max_fpr must be a number, got shape \(2,\)"):
        dm.partial_roc_auc_loss(LOGITS, LABELS, max_fpr=np.ones(2))
    with pytest.raises(TypeError, match="logits must be floating"):
        dm.aum_loss(LABELS, LABELS)
    with pytest.raises(TypeError, match="where must be boolean"):
        dm.average_precision_loss(LOGITS, LABELS, where=np.ones(N))
    with pytest.raises(ValueError, match="weights must broadcast to logits"):
        dm.aucm_loss(LOGITS, LABELS, weights=np.ones(7))
