"""Losses of predicted distributions: what all promise, over their rows, then each alone."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffmetrics as dm
from tests.references import distributions as ref
from tests.rows import MEAN, SCALE, TARGET, Row, over

MAX = float(np.finfo(np.float32).max)
over_rows = over(lambda row: row.family == "distributions")
over_functions = over(lambda row: row.family == "distributions", once=True)


def over_some(*names: str) -> pytest.MarkDecorator:
    """A test of some, where all would cost more than they tell."""
    return over(lambda row: row.name in names and row.family == "distributions", once=True)


def narrow(arrays: Any, dtype: Any = np.float32) -> list[jax.Array]:
    return [jnp.asarray(x, dtype) for x in arrays]


LENGTH = 448


@functools.cache
def compiled(row: Row) -> Callable[..., Any]:
    places = tuple(range(len(row.names)))
    return jax.jit(jax.vmap(jax.value_and_grad(row.loss, argnums=places)))


def value_and_gradients(
    row: Row, *flat: Any, dtype: Any = np.float32
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """Of every element by itself, under jit and vmap; of one length, so that few are compiled."""
    n = len(flat[0])
    found = compiled(row)(*(jnp.asarray(np.resize(x, LENGTH), dtype) for x in flat))
    return jax.tree.map(lambda x: x[:n], found)


# --- what all promise -----------------------------------------------------------------------------


@over_rows
def test_value_and_gradient_are_those_of_the_definition(row: Row):
    flat = [np.ravel(x) for x in row.batch]
    value, slopes = value_and_gradients(row, *flat)
    whole = row(*narrow(row.batch))  # nothing is reduced
    chex.assert_trees_all_close(whole, value.reshape(row.batch[0].shape), rtol=1e-6, atol=1e-7)
    step = 1e-5
    assert row.reference is not None
    for i, numbers in enumerate(zip(*(x.tolist() for x in flat), strict=True)):
        constant = row.detached(*numbers)
        of = row.reference(*numbers, **row.traced)
        np.testing.assert_allclose(value[i], of, rtol=2e-5, atol=2e-6)
        for place in range(len(numbers)):
            around = []
            for sign in (-1, 1):
                moved = list(numbers)
                moved[place] += sign * step
                around.append(row.reference(*moved, **row.traced, **constant))
            slope = (around[1] - around[0]) / (2 * step)
            np.testing.assert_allclose(slopes[place][i], slope, rtol=1e-3, atol=2e-5)


# Errors and deviations whose quotients and squares are far beyond float32, and what they are worth
# in float64 is the judge.
DEVIATIONS = [1e-30, 1e-20, 1e-10, 1e-3, 1.0, 1e3, 1e10, 1e20, 1e30]
ERRORS = [0.0, 1e-30, 1e-10, 0.1, 1.0, 3.0, 1e10, 1e30]


@over_rows
def test_extremes_are_right_or_the_largest_number(row: Row):
    if "scale" in row.names:
        error, scale = (x.ravel() for x in np.meshgrid([-e for e in ERRORS] + ERRORS, DEVIATIONS))
        grid = {"mean": -error, "scale": scale, "target": np.zeros_like(error)}
    else:
        raw = np.concatenate([-np.array(ERRORS)[1:], ERRORS, [-1e4, -88.0, 88.0, 1e4]])
        grid = dict.fromkeys(("mean", "quantile", "raw"), raw) | {"target": np.zeros_like(raw)}
        grid |= {"lower": raw, "upper": raw + 1.0}
    flat = [np.asarray(grid[name], np.float32) for name in row.names]
    value, slopes = value_and_gradients(row, *flat)
    chex.assert_tree_all_finite((value, slopes))
    with jax.enable_x64(True):
        expected = value_and_gradients(row, *flat, dtype=np.float64)
        exact, exact_slopes = jax.tree.map(lambda x: np.clip(x, -MAX, MAX), expected)
    np.testing.assert_allclose(value, exact, rtol=2e-5, atol=1e-6)
    for slope, exact_slope in zip(slopes, exact_slopes, strict=True):
        # Where terms cancel, the error is that of the terms: of slopes about 1, say.
        np.testing.assert_allclose(slope, exact_slope, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
@over_functions
def test_wide_types_stay_finite_and_are_computed_in_float32(row: Row, dtype: Any):
    assert_finite_in(dtype, row)


@over_some("gaussian_nll", "beta_nll", "student_t_nll", "scale_from_raw")
def test_slopes_beyond_the_largest_half_are_that_number(row: Row):
    assert_finite_in(jnp.float16, row)


def assert_finite_in(dtype: Any, row: Row) -> None:
    """From the least to the largest number of a type, with a deviation of 0 and less, too."""
    top = float(jnp.finfo(dtype).max)
    places = np.array([-top, -1e4, -1.0, 0.0, 1e-7, 2.0, 1e4, top])
    sizes = np.array([-1.0, 0.0, float(jnp.finfo(dtype).tiny), 1e-3, 1.0, 1e4, top])
    axes = [sizes if name == "scale" else places for name in row.names]
    flat = [x.ravel() for x in np.meshgrid(*axes)]
    value, slopes = value_and_gradients(row, *flat, dtype=dtype)
    chex.assert_type(value, jnp.float32)
    for slope in slopes:
        chex.assert_type(slope, dtype)
    chex.assert_tree_all_finite((value, slopes))
    rounded = (np.asarray(x, dtype).astype(np.float32) for x in flat)
    chex.assert_trees_all_close(value, value_and_gradients(row, *rounded)[0], rtol=1e-6)


@over_some("gaussian_nll", "faithful_nll", "laplace_nll", "crps_gaussian", "pinball_loss")
def test_value_and_gradient_make_no_array_but_the_gradient(row: Row):
    some = [jax.ShapeDtypeStruct((2**18,), jnp.float32)] * len(row.names)
    both = jax.jit(jax.value_and_grad(lambda *a: row(*a).mean()))
    memory = both.lower(*some).compile().memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < 0.1 * 4 * 2**18


@over_functions
def test_bad_arguments_are_named(row: Row):
    def asked(*arrays: Any, **others: Any) -> Any:
        return jax.eval_shape(lambda: row(*arrays, **others))

    batch = list(row.batch)
    row(*(x.tolist() for x in batch))  # lists are numbers
    for name, given in row.traced.items():
        with pytest.raises(ValueError, match=f"{name} must broadcast to"):
            asked(*batch, **{name: np.full(5, given)})
    for i, name in enumerate(row.names):
        changed = list(batch)
        changed[i] = batch[i].astype(int)
        if name == "target":
            asked(*changed)  # integers are numbers
            changed[i] = batch[i][..., None]
            with pytest.raises(ValueError, match=r"target must have the shape of .*\(4, 3, 1\)"):
                asked(*changed)
            with pytest.raises(ValueError, match=r"target is \(4,\), .* is \(4, 1\)"):
                asked(*(x[:, 0] if i == j else x[:, :1] for j, x in enumerate(batch)))
        else:
            with pytest.raises(TypeError, match=f"{name} must be floating, got int"):
                asked(*changed)
        if name == "scale":
            changed[i] = batch[i][:, :2]
            with pytest.raises(ValueError, match="scale must broadcast to mean"):
                asked(*changed)


# --- likelihoods ----------------------------------------------------------------------------------


@over_some("gaussian_nll", "kl_normal")
def test_one_deviation_serves_all(row: Row):
    place = row.names.index("scale")
    one = narrow(row.batch)
    one[place] = jnp.float32(0.7)
    every = [jnp.broadcast_to(x, MEAN.shape) for x in one]
    slope = jax.jit(jax.grad(lambda *a: row(*a).sum(), argnums=place))
    chex.assert_trees_all_close(row(*one), row(*every), rtol=1e-6)
    chex.assert_trees_all_close(slope(*one), slope(*every).sum(), rtol=1e-4)


def test_beta_nll_lies_between_the_likelihood_and_the_squared_error():
    m, s, y = narrow((MEAN, SCALE, TARGET))
    chex.assert_trees_all_close(dm.beta_nll(m, s, y, beta=0.0), dm.gaussian_nll(m, s, y), rtol=1e-6)
    slope = jax.grad(lambda m: dm.beta_nll(m, s, y, beta=1.0).sum())(m)
    chex.assert_trees_all_close(slope, m - y, rtol=1e-5)
    bend, plain = (
        jax.jit(jax.vmap(jax.hessian(f, argnums=(0, 1))))(*(x.ravel() for x in (m, s, y)))
        for f in (functools.partial(dm.beta_nll, beta=0.5), dm.gaussian_nll)
    )
    factor = jnp.ravel(s)  # σ^2β, which has no derivative
    chex.assert_trees_all_close(bend, jax.tree.map(lambda x: factor * x, plain), rtol=1e-4)


def test_student_t_becomes_the_normal_distribution():
    m, s, y = narrow((MEAN, SCALE, TARGET))
    for df in (1e6, 1e20, 1e30):
        t = dm.student_t_nll(m, s, y, df=df)
        chex.assert_trees_all_close(t, dm.gaussian_nll(m, s, y), rtol=1e-5, atol=1e-5)


def test_degrees_of_freedom_can_be_learnt():
    df = np.array([0.5, 3.0, 19.0, 21.0, 1e4], np.float32)
    slope = jax.vmap(jax.grad(lambda df: dm.student_t_nll(0.0, 1.0, 1.5, df=df)))(df)
    for d, found in zip(df.tolist(), slope.tolist(), strict=True):
        h = 1e-4 * d
        around = [ref.student_t_nll(0.0, 1.0, 1.5, d + sign * h) for sign in (-1, 1)]
        np.testing.assert_allclose(found, (around[1] - around[0]) / (2 * h), rtol=1e-3, atol=1e-6)


def test_deviations_start_where_they_are_told_and_never_stop_being_positive():
    at_zero = dm.scale_from_raw(0.0, min_scale=1e-3, init_scale=0.05)
    np.testing.assert_allclose(at_zero, 0.05, rtol=1e-5)
    far = dm.scale_from_raw(jnp.array([-1e4, 1e4]), min_scale=0.0, init_scale=1.0)
    assert far[0] > 0
    np.testing.assert_allclose(far[1], 1e4, rtol=1e-4)
    np.testing.assert_allclose(dm.scale_from_raw(jnp.zeros(2), init_scale=1e-30, min_scale=0.0),
                               1e-30, rtol=1e-5)  # fmt: skip


# --- CRPS -----------------------------------------------------------------------------------------


def test_crps_has_its_exact_slope_down_to_no_deviation_at_all():
    slope = jax.vmap(jax.grad(dm.crps_gaussian, argnums=1), (None, 0, None))
    scales = jnp.array([1e-3, 1e-6, 1e-10, 1e-20, 1e-30, 0.0])
    np.testing.assert_allclose(slope(0.0, scales, 1.0), -1 / math.sqrt(math.pi), rtol=1e-6)
    hit = math.sqrt(2 / math.pi) - 1 / math.sqrt(math.pi)
    np.testing.assert_allclose(slope(1.0, scales, 1.0), hit, rtol=1e-6)
    np.testing.assert_allclose(dm.crps_gaussian(0.0, 0.0, -3.0), 3.0)


@pytest.mark.parametrize("fair", [False, True])
@pytest.mark.parametrize("n", [2, 7, 64])
def test_crps_of_samples_is_that_of_all_pairs(n: int, fair: bool):
    x = np.random.default_rng(n).normal(size=(n, 4)).astype(np.float32)
    x[: n // 2, 1] = x[0, 1]  # ties
    x[:, 2] = 1000 + 0.01 * x[:, 2]
    y = np.array([0.3, 0.0, 1000.005, 1e4], np.float32)
    expected = [ref.crps_sample(x[:, i].tolist(), float(y[i]), fair) for i in range(4)]
    found = dm.crps_sample(x, y, fair=fair)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_weight_of_two_is_two_draws_and_one_of_zero_is_none():
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    y = np.zeros(4, np.float32)
    weights = np.array([2.0, 1.0, 0.0, 3.0, 1.0], np.float32)
    expected = dm.crps_sample(np.repeat(x, weights.astype(int), 0), y)
    x[2] = np.nan
    np.testing.assert_allclose(dm.crps_sample(x, y, weights=weights), expected, rtol=1e-5)
    equal = np.full(5, 0.7, np.float32)
    x[2] = 0.3
    found = dm.crps_sample(x, y, weights=equal, fair=True)
    np.testing.assert_allclose(found, dm.crps_sample(x, y, fair=True), rtol=1e-5, atol=1e-6)


def test_crps_of_samples_says_what_it_needs():
    with pytest.raises(ValueError, match="two or more draws for a fair score, got 1"):
        dm.crps_sample(np.zeros((1, 2)), np.zeros(2), fair=True)
    with pytest.raises(ValueError, match=r"samples must have a leading axis .*\(0, 2\)"):
        dm.crps_sample(np.zeros((0, 2)), np.zeros(2))
    with pytest.raises(ValueError, match=r"target is \(2, 1\), samples\[0\] is \(2,\)"):
        dm.crps_sample(np.zeros((5, 2)), np.zeros((2, 1)))


# --- members together -----------------------------------------------------------------------------

MEANS = np.random.default_rng(2).normal(size=(3, 4))
SCALES = np.random.default_rng(3).uniform(0.3, 1.5, size=(3, 4))
TARGETS = np.random.default_rng(4).normal(size=4)
SHARES = np.array([0.5, 0.2, 0.3])
MIXTURES = ("crps_mixture", "mixture_log_likelihood", "moment_matched_log_likelihood")
over_mixtures = pytest.mark.parametrize("name", MIXTURES)


@over_mixtures
def test_members_together_are_the_definition(name: str):
    m, s, y = narrow((MEANS, SCALES, TARGETS))
    found, reference = getattr(dm, name), getattr(ref, name)
    weights = {"given": 4 * SHARES, "each": np.tile(SHARES[:, None], 4), "equal": None}
    for kind, w in weights.items():
        shares = [1 / 3] * 3 if kind == "equal" else SHARES.tolist()
        expected = [
            reference(MEANS[:, i].tolist(), SCALES[:, i].tolist(), float(TARGETS[i]), shares)
            for i in range(4)
        ]
        np.testing.assert_allclose(found(m, s, y, weights=w), expected, rtol=2e-5, atol=1e-5)


@over_mixtures
def test_members_are_finite_at_the_extremes(name: str):
    ends = np.array([-1e30, 0.0, 1.0, 1e30])
    sizes = np.array([0.0, 1e-30, 1.0, 1e30])
    # The narrower of the types of this range.
    grid = narrow([x.ravel() for x in np.meshgrid(ends, ends, sizes, sizes, ends)], jnp.bfloat16)
    m, s, y = jnp.stack(grid[:2], 1), jnp.stack(grid[2:4], 1), grid[4]
    both = jax.jit(jax.vmap(jax.value_and_grad(getattr(dm, name), argnums=(0, 1, 2))))
    chex.assert_tree_all_finite(both(m, s, y))


@over_mixtures
def test_one_member_is_itself_and_equal_members_are_one(name: str):
    m, s, y = narrow((MEANS[:1], SCALES[:1], TARGETS))
    found, one = getattr(dm, name), {"crps_mixture": dm.crps_gaussian}.get(name)
    alone = one(m[0], s[0], y) if one else -dm.gaussian_nll(m[0], s[0], y)
    chex.assert_trees_all_close(found(m, s, y), alone, rtol=1e-5, atol=1e-6)
    thrice = found(jnp.tile(m, (3, 1)), jnp.tile(s, (3, 1)), y)
    chex.assert_trees_all_close(thrice, alone, rtol=1e-5, atol=1e-6)


@over_mixtures
def test_bad_members_are_named(name: str):
    m, s, y = narrow((MEANS, SCALES, TARGETS))
    found = getattr(dm, name)
    with pytest.raises(ValueError, match=r"target must have the shape of means\[0\]"):
        found(m, s, y[:, None])
    with pytest.raises(ValueError, match="scales must broadcast to means"):
        found(m, s[:, :2], y)
    with pytest.raises(ValueError, match="leading axis of members"):
        found(m[:0], s[:0], y)
    with pytest.raises(ValueError, match=r"weights must have one number a member, \(3,\)"):
        found(m, s, y, weights=np.ones(4))
    with pytest.raises(TypeError, match="means must be floating"):
        found(m.astype(int), s, y)


def test_variance_is_noise_and_disagreement():
    expected = [
        ref.variances(MEANS[:, i].tolist(), SCALES[:, i].tolist(), SHARES.tolist())
        for i in range(4)
    ]
    found = dm.decompose_variance(*narrow((MEANS, SCALES)), weights=SHARES)
    np.testing.assert_allclose(np.stack(found, 1), expected, rtol=1e-5)


def test_disagreement_of_members_far_from_zero_keeps_its_digits():
    means = np.asarray(1000 + 0.01 * np.random.default_rng(0).normal(size=(10, 50)), np.float32)
    _, epistemic = dm.decompose_variance(means, np.float32(0.0))
    np.testing.assert_allclose(epistemic, np.var(np.float64(means), 0), rtol=2e-2)
    naive = jnp.mean(means**2, 0) - jnp.mean(means, 0) ** 2
    assert jnp.any(naive <= 0)  # what it is there for


def test_members_that_agree_have_a_gradient():
    chex.assert_tree_all_finite(
        jax.grad(lambda m: sum(x.sum() for x in dm.decompose_variance(m, 0.0)))(jnp.ones((3, 2)))
    )
    largest = dm.decompose_variance(jnp.array([-1e30, 1e30]), jnp.float32(1e30))
    chex.assert_tree_all_finite(largest)


# --- intervals, weights ---------------------------------------------------------------------------


def test_a_hit_leaves_a_quantile_alone():
    slope = jax.grad(lambda q: dm.pinball_loss(q, 1.0, level=0.9))(1.0)
    assert slope == 0.0


def test_kl_keeps_its_digits_near_the_prior_and_is_never_negative():
    scale = np.asarray([1.0, 1 + 1e-6, 1 + 1e-4, 0.999, 0.51, 0.49, 1.5, 1e-20], np.float32)
    u = np.float64(scale) - 1.0
    expected = 0.5 * u * (u + 2) - np.log(np.float64(scale))
    found = dm.kl_normal(jnp.zeros(8), scale)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-14)
    assert jnp.all(found >= -1e-14)


def test_the_bound_does_not_depend_on_how_the_batch_and_the_layers_are_cut():
    nll = np.asarray(np.random.default_rng(0).normal(size=12), np.float32)
    kl = np.asarray(np.random.default_rng(1).uniform(size=(6, 4)), np.float32)
    whole = dm.elbo_loss(nll, kl, num_data=1000)
    halves = [dm.elbo_loss(part, [kl[:2], kl[2:]], num_data=1000) for part in (nll[:6], nll[6:])]
    np.testing.assert_allclose(whole, np.mean(halves), rtol=1e-6)
    np.testing.assert_allclose(whole, nll.mean() + kl.sum() / 1000, rtol=1e-6)
    np.testing.assert_allclose(
        dm.elbo_loss(nll, kl, num_data=1000, beta=0.1), nll.mean() + 0.1 * kl.sum() / 1000,
        rtol=1e-6,
    )  # fmt: skip


def test_the_bound_wants_one_number_an_example():
    with pytest.raises(ValueError, match=r"one value for each example, \(B,\), got shape \(4, 2\)"):
        dm.elbo_loss(np.zeros((4, 2)), 1.0, num_data=100)
    with pytest.raises(ValueError, match="num_data must broadcast to a scalar"):
        dm.elbo_loss(np.zeros(4), 1.0, num_data=np.ones(4))


def test_many_narrow_divergences_are_added_up_in_float32():
    kl = jnp.full((300, 300), 1.0, jnp.bfloat16)
    np.testing.assert_allclose(dm.elbo_loss(np.zeros(4), kl, num_data=1), 90_000.0)
