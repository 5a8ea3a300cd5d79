"""What is special about losses over all pairs: their limits, kin, kinks and lost digits."""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffmetrics as dm
from tests.references import rankings as reference
from tests.rows import Row, over

rng = np.random.default_rng(0)
N = 40
LABELS = (np.arange(N) % 3 == 0).astype(int)
LOGITS = (2.0 * rng.normal(size=N) + LABELS).astype(np.float32)
ALL = np.ones(N, bool)
WEIGHTS = rng.uniform(0.2, 3.0, N).astype(np.float32)
SURROGATES: tuple[Any, ...] = tuple(reference.PAIRS)
over_rows = over(lambda row: row.family == "rankings" and hasattr(reference, row.name))
over_surrogates = pytest.mark.parametrize("surrogate", SURROGATES)


@functools.cache
def both(row: Row) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Value and gradient of logits, labels and a mask, in one program for several tests."""
    margin = {"margin": 0.75} if "margin" in row.traced else {}  # exact beside an offset
    return jax.jit(jax.value_and_grad(lambda z, y, where: row(z, y, where=where, **margin)))


@over_rows
def test_a_set_of_one_class_or_of_nothing_costs_nothing(row: Row):
    for labels in (np.zeros(N, int), np.ones(N, int)):
        value, gradient = both(row)(LOGITS, labels, ALL)
        if labels[0] and row.name == "average_precision_loss":
            chex.assert_trees_all_close(value, 0.0, atol=1e-6)
        else:
            chex.assert_trees_all_equal((value, gradient), (0.0, jnp.zeros(N)))
    chex.assert_trees_all_equal(both(row)(LOGITS, LABELS, ~ALL), (0.0, jnp.zeros(N)))


@over_rows
def test_an_offset_of_the_scores_costs_no_digits(row: Row):
    if row.name == "aucm_loss":
        return  # of probabilities, which an offset changes
    grid = np.round(LOGITS * 64) / 64  # so that the offset is exact
    near, far = (both(row)(grid + np.float32(offset), LABELS, ALL) for offset in (0.0, 4096.0))
    chex.assert_trees_all_close(near, far, rtol=2e-5, atol=1e-6)


@over_surrogates
def test_a_range_of_everything_is_the_whole_and_a_part_is_that_of_the_loops(surrogate: Any):
    options = {"surrogate": surrogate, "margin": 0.7}

    @jax.jit
    @jax.value_and_grad
    def part(z: jax.Array, weights: Any, max_fpr: Any, min_tpr: Any) -> jax.Array:
        shares = {"max_fpr": max_fpr, "min_tpr": min_tpr}
        return dm.partial_roc_auc_loss(z, LABELS, weights=weights, **shares, **options)

    whole = dm.roc_auc_loss(LOGITS, LABELS, weights=WEIGHTS, **options)
    np.testing.assert_allclose(part(LOGITS, WEIGHTS, 1.0, 0.0)[0], whole, rtol=1e-5)

    shares = {"max_fpr": 0.33, "min_tpr": 0.4}
    loops = partial(
        reference.partial_roc_auc_loss, labels=LABELS, weights=WEIGHTS, **shares, **options
    )
    value, gradient = part(LOGITS, WEIGHTS, 0.33, 0.4)
    np.testing.assert_allclose(value, loops(LOGITS), rtol=1e-5)
    along, step = rng.normal(size=N), 1e-6
    change = loops(LOGITS + step * along) - loops(LOGITS - step * along)
    np.testing.assert_allclose(gradient @ along, change / (2 * step), rtol=1e-4)


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
    pull = jax.jit(jax.grad(partial(dm.roc_auc_loss, surrogate="hinge", margin=0.0)))
    for y in ([1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 1, 1]):  # in whatever order they are tied
        np.testing.assert_allclose(pull(jnp.zeros(4), np.array(y)), 0.5 - np.array(y))


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


def test_shares_of_another_shape_are_named():
    with pytest.raises(ValueError, match=r"max_fpr must be a number, got shape \(2,\)"):
        dm.partial_roc_auc_loss(LOGITS, LABELS, max_fpr=np.ones(2))
