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


@over_surrogates
def test_what_ties_at_the_border_of_a_range_shares_its_gradient(surrogate: Any):
    """So that the order of the data, which no score knows, does not matter."""
    ranges = {"max_fpr": 0.3, "min_tpr": 0.4, "surrogate": surrogate}
    pull = jax.jit(jax.grad(lambda z, y, w: dm.partial_roc_auc_loss(z, y, weights=w, **ranges)))
    tied, other = np.round(LOGITS / 2), rng.permutation(N)
    first, second = (pull(*(x[o] for x in (tied, LABELS, WEIGHTS))) for o in (np.arange(N), other))
    assert np.unique(tied).size < 8
    np.testing.assert_allclose(first[other], second, rtol=1e-4, atol=1e-7)
    alike = np.asarray(pull(jnp.zeros(N), LABELS, np.ones(N, np.float32)))
    for label in (0, 1):
        np.testing.assert_allclose(alike[label == LABELS], alike[label == LABELS][0], rtol=1e-5)


def test_exponential_is_right_while_it_fits():
    """Of rare scores whose difference overflows the exponential: exp(100) is 2.7e43."""
    z, y = np.array([-50.0, 1.0, 50.0, 0.0]), np.array([1, 1, 0, 0])
    weights = np.array([1e-8, 1.0, 1e-8, 1.0])
    loss = partial(dm.roc_auc_loss, labels=y, weights=weights, surrogate="exponential")
    share = weights / (1.0 + 1e-8)
    costs = share[:2, None] * share[2:] * np.exp(z[2:] - z[:2, None])
    value, gradient = jax.value_and_grad(loss)(z.astype(np.float32))
    np.testing.assert_allclose(value, costs.sum(), rtol=1e-5)
    np.testing.assert_allclose(gradient, [*-costs.sum(1), *costs.sum(0)], rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "hyper"), [("roc_auc_loss", "margin"), ("average_precision_loss", "temperature")]
)
def test_numbers_may_be_one_per_set(name: str, hyper: str):
    z, y, several = LOGITS.reshape(4, 10), LABELS.reshape(4, 10), np.array([0.2, 0.5, 1.0, 3.0])
    loss = getattr(dm, name)
    together = loss(z, y, axis=1, **{hyper: several})
    alone = [loss(*one, **{hyper: x}) for *one, x in zip(z, y, several, strict=True)]
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    with pytest.raises(ValueError, match=rf"{hyper} must broadcast to the loss: .* is \(4,\)"):
        loss(z, y, **{hyper: several})


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


# --- what all losses that sort promise, the Lovász losses among them ------------------------------

over_sorted = over(lambda row: row.family == "rankings" or "lovasz" in row.name, once=True)
KEEP = np.arange(12) % 5 > 0
FACTORS = (0.5 + np.arange(12) % 7).astype(np.float32)
BAD = (np.nan, np.inf, -np.inf)


def arguments(row: Row) -> dict[str, np.ndarray]:
    """Logits, floating labels, a mask and weights, all of one rank."""
    logits, labels = row.batch
    labels = np.eye(4)[labels] if row.softmax else labels
    full = np.ones((1, logits.shape[1]), np.float32)
    keep, factors = KEEP[:, None] & (full > 0), FACTORS[:, None] * full
    return {"z": logits, "y": labels.astype(np.float32), "where": keep, "weights": factors}


@functools.lru_cache(1)
def asked(row: Row) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Value and gradient in one program."""
    return jax.jit(
        jax.value_and_grad(lambda z, y, where, w: row.total(z, y, where=where, weights=w))
    )


def ask(row: Row, **changed: np.ndarray) -> tuple[jax.Array, jax.Array]:
    return asked(row)(*{**arguments(row), **changed}.values())


@over_sorted
def test_masks_nan_and_weights(row: Row):
    expected = ask(row)
    nothing_that_a_mask_hides_reaches_value_or_gradient(row, expected)
    a_logit_that_is_nan_makes_the_loss_nan(row)
    for scale in (1e-20, 1e20):  # only the ratios matter
        scaled = ask(row, weights=(scale * arguments(row)["weights"]).astype(np.float32))
        chex.assert_trees_all_close(scaled, expected, rtol=2e-5, atol=1e-7)
    an_empty_batch_costs_what_a_hidden_one_does(row)


def nothing_that_a_mask_hides_reaches_value_or_gradient(row: Row, expected: Any) -> None:
    assert expected[1][KEEP].any()
    assert not expected[1][~KEEP].any()
    for name in ("z", "y", "weights"):
        spoilt = arguments(row)[name].copy()
        for i, bad in enumerate(BAD):
            spoilt[~KEEP, i] = bad
        chex.assert_trees_all_equal(ask(row, **{name: spoilt}), expected)


def a_logit_that_is_nan_makes_the_loss_nan(row: Row) -> None:
    labels = row.batch[1]
    with jax.debug_nans(False):
        for place in (1, 2, 3, 4):  # positives and negatives
            spoilt = row.batch[0].copy()
            spoilt[place, 1] = np.nan
            assert jnp.isnan(ask(row, z=spoilt)[0])
            if not row.softmax:
                assert jnp.isnan(ask(row, z=spoilt, y=np.zeros(labels.shape, np.float32))[0])


def an_empty_batch_costs_what_a_hidden_one_does(row: Row) -> None:
    shape = (0, 4) if row.softmax else (0,)
    empty = np.zeros(shape, np.float32), np.zeros(shape[:1], int)
    value, gradient = jax.jit(lambda z, y: jax.value_and_grad(row.total)(z, y))(*empty)
    hidden, _ = ask(row, where=np.zeros_like(arguments(row)["where"]))
    np.testing.assert_array_equal(value, hidden)
    assert gradient.shape == shape
    if not row.name.endswith("lagrangian"):  # which has a slack
        assert value == 0


@over(lambda row: row.name in ("average_precision_loss", "lovasz_softmax_loss"), once=True)
def test_every_device_of_a_mesh_has_its_own_set(row: Row):
    mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    part = jax.sharding.PartitionSpec("d")
    z, y, where, weights = arguments(row).values()
    several = [
        (np.float32(0.5) * k * z, y[::-1] if k % 2 else 0 * y if k == 2 else y) for k in range(8)
    ]
    alone = [ask(row, z=z, y=y) for z, y in several]

    def of(z: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        """One set, without the axis of devices."""
        value, slope = jax.value_and_grad(row.total)(z[0], y[0], where=where, weights=weights)
        return value[None], slope[None]

    sharded = jax.jit(jax.shard_map(of, mesh=mesh, in_specs=part, out_specs=part))
    found = sharded(*(np.stack(x) for x in zip(*several, strict=True)))
    expected = tuple(jnp.stack(x) for x in zip(*alone, strict=True))
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-6)
