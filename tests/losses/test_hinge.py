"""What is special to the hinge family: its kinks, its limits, its relatives and its costs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffmetrics as dm

rng = np.random.default_rng(0)
MAX = float(np.finfo(np.float32).max)
MARGINS = np.concatenate([np.linspace(-4, 4, 65), [-1e4, 1e4]]).astype(np.float32)
LOGITS, LABELS = (a.ravel() for a in np.meshgrid(MARGINS, np.array([0, 1])))
Z = (2 * rng.normal(size=(40, 4))).astype(np.float32)
IDS = rng.integers(0, 4, 40)
# Predicting 3 when 0 is true costs most; the diagonal is not 0 on purpose.
COST = rng.uniform(0.5, 6.0, (4, 4)).astype(np.float32)
over_classes = pytest.mark.parametrize(
    "loss", [dm.crammer_singer_loss, dm.weston_watkins_loss], ids=["crammer_singer", "weston"]
)


@functools.partial(jax.jit, static_argnums=0)
def compiled(loss: Callable[..., jax.Array], z: jax.Array, y: jax.Array, options: Any) -> jax.Array:
    return jax.grad(lambda z: loss(z, y, **options).sum())(z)


def slope(loss: Callable[..., jax.Array], logits: Any, labels: Any, **options: Any) -> jax.Array:
    """The gradient of the loss, element by element or example by example."""
    return compiled(loss, np.asarray(logits, np.float32), np.asarray(labels), options)


# --- kinks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "kinks"),
    [
        (dm.hinge_loss, [1.0]),
        (lambda z, y: dm.hinge_loss(z, y, margin=0.25), [0.25]),
        (lambda z, y: dm.hinge_loss(z, y, margin=0.0), [0.0, -0.0]),
        (lambda z, y: dm.smooth_hinge_loss(z, y, width=0.0), [1.0]),
        (dm.perceptron_loss, [0.0, -0.0]),
        (dm.ramp_loss, [0.0, -0.0, 1.0]),
    ],
    ids=["hinge", "hinge at 0.25", "hinge at 0", "smooth hinge of no width", "perceptron", "ramp"],
)
def test_at_a_kink_the_slope_is_that_of_the_side_that_pulls(loss: Any, kinks: list[float]):
    chex.assert_trees_all_equal(slope(loss, kinks, np.ones(len(kinks), int)), -jnp.ones(len(kinks)))
    negative = slope(loss, [-m for m in kinks], np.zeros(len(kinks), int))
    chex.assert_trees_all_equal(negative, jnp.ones(len(kinks)))


def test_a_slope_ends_right_beside_its_kink():
    above, below = np.nextafter(np.float32(1), np.float32(2)), np.float32(-1e-30)
    assert slope(dm.hinge_loss, above, 1) == 0
    assert slope(dm.ramp_loss, above, 1) == 0
    assert slope(dm.ramp_loss, below, 1) == 0
    assert slope(dm.perceptron_loss, -below, 1) == 0


def test_a_wrong_class_exactly_at_its_margin_pulls():
    z = jnp.array([[3.0, 2.0, 0.0]])
    chex.assert_trees_all_equal(slope(dm.crammer_singer_loss, z, [0]), jnp.array([[-1.0, 1, 0]]))
    chex.assert_trees_all_equal(slope(dm.weston_watkins_loss, z, [0]), jnp.array([[-1.0, 1, 0]]))
    beyond = z.at[0, 0].set(3.001)
    assert not slope(dm.crammer_singer_loss, beyond, [0]).any()
    assert not slope(dm.weston_watkins_loss, beyond, [0]).any()


@over_classes
def test_zero_logits_learn_even_without_a_margin(loss: Any):
    gradient = slope(loss, np.zeros((1, 4)), [2], cost=np.zeros((4, 4)))
    share = 1 / 3 if loss is dm.crammer_singer_loss else 1.0
    expected = share * jnp.array([[1.0, 1.0, -3.0, 1.0]])
    chex.assert_trees_all_close(gradient, expected, rtol=1e-6)


def test_wrong_classes_that_tie_share_the_slope_evenly():
    z = jnp.array([[0.0, 5.0, 5.0, 1.0]])
    expected = jnp.array([[-1.0, 0.5, 0.5, 0.0]])
    chex.assert_trees_all_equal(slope(dm.crammer_singer_loss, z, [0]), expected)
    chex.assert_trees_all_equal(
        slope(dm.weston_watkins_loss, z, [0]), jnp.array([[-3.0, 1.0, 1.0, 1.0]])
    )


# --- limits and relatives -------------------------------------------------------------------------


def test_smooth_hinge_tends_to_the_hinge_as_it_narrows():
    hinge = dm.hinge_loss(LOGITS, LABELS)
    for width in (1.0, 0.1, 1e-3, 1e-9, 0.0):
        loss = dm.smooth_hinge_loss(LOGITS, LABELS, width=width)
        assert jnp.all((loss <= hinge) & (hinge <= loss + 0.51 * width))
    chex.assert_trees_all_equal(
        slope(dm.smooth_hinge_loss, LOGITS, LABELS, width=0.0), slope(dm.hinge_loss, LOGITS, LABELS)
    )


def test_softplus_hinge_tends_to_the_hinge_as_it_sharpens():
    hinge = dm.hinge_loss(LOGITS, LABELS, margin=0.5)
    for sharpness in (1.0, 10.0, 1e3, 1e9):
        loss = dm.softplus_hinge_loss(LOGITS, LABELS, sharpness=sharpness, margin=0.5)
        assert jnp.all((hinge <= loss) & (loss <= hinge + 0.6932 / sharpness))


def test_softplus_hinge_pulls_beyond_its_margin():
    assert jnp.all(slope(dm.softplus_hinge_loss, [2.0, 10.0, 80.0], [1, 1, 1]) < 0)


def test_extreme_sharpness_is_finite():
    for z in (-MAX, -1.0, 1.0, MAX):
        for sharpness in (1e-6, 1e6, 1e30):
            options = {"sharpness": sharpness}
            assert jnp.isfinite(dm.softplus_hinge_loss(jnp.float32(z), 1, **options))
            assert jnp.isfinite(slope(dm.softplus_hinge_loss, z, 1, **options))


# --- the largest numbers --------------------------------------------------------------------------


def test_losses_are_held_at_the_largest_number_and_still_pull():
    z = jnp.array([-MAX, -1e20, -1e4], jnp.float32)
    for loss, rtol in ((dm.exponential_loss, 0.0), (dm.squared_hinge_loss, 1e-7)):
        last = 3 if loss is dm.exponential_loss else 2
        np.testing.assert_allclose(loss(z[:last], np.ones(last, int)), MAX, rtol=rtol)
        gradient = slope(loss, z, [1, 1, 1])
        assert jnp.all(jnp.isfinite(gradient) & (gradient < 0))
    assert dm.modified_huber_loss(jnp.float32(-MAX), 1) == MAX
    assert slope(dm.modified_huber_loss, -MAX, 1) == -4


def test_float16_gradients_are_held_at_the_largest_float16():
    z = jnp.array([-65504.0, -12.0], jnp.float16)
    for loss in (dm.exponential_loss, dm.squared_hinge_loss):
        gradient = jax.grad(lambda z, loss=loss: loss(z, jnp.ones(2, int)).sum())(z)
        assert gradient.dtype == jnp.float16
        assert gradient[0] == -65504
    chex.assert_trees_all_close(gradient[1], jnp.float16(-26))


@over_classes
def test_differences_beyond_the_largest_number_are_held(loss: Any):
    z = jnp.array([[-MAX, MAX, 0.0], [MAX, -MAX, 0.0]], jnp.float32)
    value, gradient = loss(z, np.zeros(2, int)), slope(loss, z, [0, 0])
    chex.assert_trees_all_equal(value, jnp.array([MAX, 0.0], jnp.float32))
    assert gradient[0, 0] < 0 < gradient[0, 1]
    assert not gradient[1].any()


@over_classes
def test_costs_keep_their_digits_in_large_logits(loss: Any):
    cost = np.full((2, 2), 0.3, np.float32)
    value = loss(jnp.full((1, 2), 1e6, jnp.float32), [0], cost=cost)
    np.testing.assert_allclose(value, 0.3, rtol=1e-6)


# --- over classes ---------------------------------------------------------------------------------


@over_classes
def test_the_diagonal_of_the_costs_is_ignored(loss: Any):
    strange = np.where(np.eye(4), np.nan, COST).astype(np.float32)
    chex.assert_trees_all_equal(loss(Z, IDS, cost=strange), loss(Z, IDS, cost=COST))
    with jax.debug_nans(False):
        gradient = jax.grad(lambda c: loss(Z, IDS, cost=c).sum())(jnp.asarray(strange))
    chex.assert_trees_all_equal(jnp.diagonal(gradient), jnp.zeros(4))


@over_classes
def test_what_is_of_no_class_costs_and_moves_nothing(loss: Any):
    nothing = np.zeros((40, 4))
    assert not loss(Z, nothing, cost=COST).any()
    assert not slope(loss, Z, nothing).any()


def test_ids_of_eight_bits_name_some_of_many_classes():
    """One loss tells of the door of all."""
    z, ids = rng.normal(size=(5, 700)).astype(np.float32), np.array([0, 3, 44, 100, 127])
    for dtype in (np.int8, np.uint8, np.int16):
        loss = dm.crammer_singer_loss
        chex.assert_trees_all_equal(loss(z, ids.astype(dtype)), loss(z, ids))
        chex.assert_trees_all_equal(slope(loss, z, ids.astype(dtype)), slope(loss, z, ids))


@over_classes
def test_a_single_example_and_further_axes_are_accepted(loss: Any):
    assert loss(Z[0], IDS[0]) == loss(Z, IDS)[0]
    cube = loss(Z.reshape(5, 8, 4), IDS.reshape(5, 8), cost=COST)
    chex.assert_trees_all_equal(cube, loss(Z, IDS, cost=COST).reshape(5, 8))


def test_a_margin_per_label_broadcasts():
    margin = np.array([0.0, 0.5, 1.0, 2.0], np.float32)
    loss = dm.hinge_loss(Z, Z > 0, margin=margin)
    each = [dm.hinge_loss(Z[:, k], Z[:, k] > 0, margin=margin[k]) for k in range(4)]
    chex.assert_trees_all_equal(loss, jnp.stack(each, -1))


@pytest.mark.parametrize("loss", [dm.crammer_singer_loss, dm.weston_watkins_loss])
@pytest.mark.parametrize("with_cost", [False, True])
def test_hinges_of_one_hot_labels_change_their_slope_nowhere(loss, with_cost):
    draw = np.random.default_rng(0)
    z, y = draw.normal(size=(6, 4)).astype(np.float32), np.eye(4, dtype=np.float32)
    y = y[draw.integers(0, 4, 6)]
    cost = draw.uniform(size=(4, 4)).astype(np.float32) if with_cost else None

    def total(z):
        return jnp.sum(loss(z, y, cost=cost))

    np.testing.assert_array_equal(jax.jit(jax.hessian(total))(z), 0.0)
