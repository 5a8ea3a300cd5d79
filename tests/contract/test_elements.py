"""The promises of every loss with one value per element or example, over the rows of them.

What the doors answer (`doors.binary`, `doors.classes`: shapes, types, lists) is asked of one loss
behind each of them, and of all others only whether they go through that door.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from diffmetrics import testing
from tests.rows import BINARY, CLASSES, ROWS, Row, over, the

MAX = float(np.finfo(np.float32).max)
# Signs and sizes at which a textbook softplus, log, power or difference overflows or cancels.
EXTREMES = np.array([0.0, 1e-30, 1e-4, 1.0, 20.0, 88.0, 104.0, 1e4, 1e19, 1e30, MAX], np.float32)
EXTREMES = np.concatenate([-EXTREMES[::-1], EXTREMES])
BEYOND_DOUBT = 100.0

over_all = over(lambda row: row.family == "elements")
# What does not depend on the hyper-parameters is asked once of every way to call a function.
over_functions = over(lambda row: row.family == "elements", once=True)
over_softmax = over(lambda row: row.family == "elements" and row.softmax, once=True)
BEHIND = {"binary": the("sigmoid_focal_loss"), "classes": the("softmax_poly_loss")}
over_doors = pytest.mark.parametrize("row", BEHIND.values(), ids=BEHIND)


def one_hot(ids: np.ndarray, number: int = 4) -> np.ndarray:
    return (ids[..., None] == np.arange(number)).astype(np.float32)


@over_all
def test_loss_is_its_definition_and_right_beyond_doubt_costs_nothing(row: Row):
    """And nothing is reduced."""
    logits, labels = row.batch
    assert row.reference is not None
    for factor in (0.1, 1.0, 4.0):
        expected = np.empty(labels.shape)
        for index in np.ndindex(labels.shape):
            of = (factor * logits)[index].astype(np.float64).tolist()
            expected[index] = row.reference(of, int(labels[index]), **row.traced)
        value = row(factor * logits, labels)
        chex.assert_shape(value, labels.shape)
        np.testing.assert_allclose(value, expected, rtol=3e-5, atol=1e-6)
    right = one_hot(labels) > 0 if row.softmax else labels == 1
    perfect = np.where(right, BEYOND_DOUBT, -BEYOND_DOUBT).astype(np.float32)
    best, worst = row(perfect, labels), row(-perfect, labels)
    np.testing.assert_allclose(best, np.zeros(labels.shape), atol=1e-6)
    assert jnp.all(worst > best + 0.05)


@functools.partial(jax.jit, static_argnums=0)
def derivatives(
    loss: Callable[..., jax.Array], traced: dict[str, Any], logits: jax.Array, labels: jax.Array
) -> Any:
    """Value, gradient and Hessian, of every example; one program for all hyper-parameters."""

    def everything(z: jax.Array, y: jax.Array) -> Any:
        f = functools.partial(loss, labels=y, **traced)
        return *jax.value_and_grad(f)(z), jax.hessian(f)(z)

    return jax.vmap(everything)(logits, labels)


@over_all
def test_loss_and_derivatives_are_finite_at_every_finite_logit(row: Row):
    if row.softmax:
        some = np.array([-MAX, -1e4, -1.0, 0.0, 60.0, 1e19, MAX], np.float32)
        axes = (some, some, some, np.array([0.0, -MAX], np.float32))
        rows = np.stack(np.meshgrid(*axes), -1).reshape(-1, 4)
        logits, labels = np.repeat(rows, 4, 0), np.tile(np.arange(4), len(rows))
    else:
        logits, labels = (a.ravel() for a in np.meshgrid(EXTREMES, np.array([0, 1])))
    chex.assert_tree_all_finite(derivatives(row.public, row.traced, logits, labels))


@over_functions
def test_every_half_precision_logit_is_close_to_float64(row: Row):
    """And computed in float32, with a gradient in the type of the logits."""

    @jax.jit
    def both(z: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        value, pull = jax.vjp(lambda z: row(z, labels), z)
        return value, pull(jnp.ones_like(value))[0]

    for dtype, rtol in ((np.float16, 1e-3), (ml_dtypes.bfloat16, 8e-3)):
        every = np.arange(65_536, dtype=np.uint16).view(dtype)
        size = np.abs(every.astype(np.float32))
        # XLA takes numbers below the smallest normal float32, which bfloat16 has, for zero.
        known = np.isfinite(size) & ((size == 0) | (size >= np.finfo(np.float32).tiny))
        every = np.where(known, every, dtype(0))  # as many in both types
        rest = [np.full_like(every, x) for x in (0.0, -1.0, 0.5)]
        logits = np.stack([every, *rest], -1) if row.softmax else every
        top = float(ml_dtypes.finfo(dtype).max)
        for label in (0, 1):
            labels = np.full(every.shape, label, np.int32)
            value, gradient = both(jnp.asarray(logits), labels)
            chex.assert_type([value, gradient], [jnp.float32, dtype])
            chex.assert_tree_all_finite((value, gradient))
            with jax.enable_x64(True):
                wide = both(jnp.asarray(logits.astype(np.float64)), labels)
                exact, slope = (np.asarray(a, np.float64) for a in wide)
            np.testing.assert_allclose(value, np.minimum(exact, MAX), rtol=2e-5, atol=2e-6)
            ours = np.clip(np.asarray(gradient, np.float64), -top, top)
            np.testing.assert_allclose(ours, np.clip(slope, -top, top), rtol=rtol, atol=row.atol)


@over_functions
def test_value_and_gradient_make_no_array_but_the_gradient(row: Row):
    """Labels are float here: XLA's CPU backend converts integers in an array of their own."""
    shape = (64, 4096) if not row.softmax else (4096, 64)
    logits = jax.ShapeDtypeStruct(shape, jnp.float32)
    labels = jax.ShapeDtypeStruct(shape, jnp.float32)
    if row.softmax:
        labels = jax.ShapeDtypeStruct(shape[:-1], jnp.int32)
    # A hyper-parameter per class, or pair of classes, for more classes.
    traced = {k: np.full((shape[-1],) * np.ndim(v), np.mean(v)) for k, v in row.traced.items()}

    def mean(z: jax.Array, y: jax.Array) -> jax.Array:
        return row(z, y, **traced).mean()

    compiled = jax.jit(jax.value_and_grad(mean)).lower(logits, labels).compile()
    memory = compiled.memory_analysis()
    assert memory is not None
    temporary = memory.temp_size_in_bytes / (4 * np.prod(shape))
    assert temporary <= row.arrays + 0.1, f"{temporary:.2f} arrays of the size of the logits"


@over_all
def test_soft_labels_mix_the_losses(row: Row):
    logits, labels = row.batch
    draw = np.random.default_rng(1)
    if row.softmax:
        soft = draw.dirichlet(np.ones(4), 12).astype(np.float32)
        parts = [soft[:, k] * row(logits, np.full(12, k)) for k in range(4)]
    else:
        soft = draw.random(labels.shape, np.float32)
        ends = [row(logits, np.full_like(labels, k)) for k in (0, 1)]
        parts = [(1 - soft) * ends[0], soft * ends[1]]
    chex.assert_trees_all_close(row(logits, soft), sum(parts), rtol=1e-5)


# --- the doors ------------------------------------------------------------------------------------


def traced(row: Row, logits: Any, labels: Any, **options: Any) -> Any:
    """Its shape and type: what a door says, which compiles nothing."""
    return jax.eval_shape(lambda: row(logits, labels, **options))


@over_functions
def test_every_loss_goes_through_its_door(row: Row):
    logits, labels = row.batch
    testing.assert_shapes_checked(row.loss, logits, labels)
    if not row.softmax:
        testing.assert_shapes_checked(row.loss, logits[:, 0], labels[:, 0])
    with pytest.raises(TypeError, match="logits must be floating"):
        traced(row, logits.astype(int), labels)
    with pytest.raises(ValueError, match="labels must have the shape of logits"):
        traced(row, logits, np.eye(5)[np.zeros(12, int)])
    for name, value in row.traced.items():
        # What there is one of for each class, or pair of classes, is not broadcast, but for alpha.
        each = np.ndim(value) > 0 and name != "alpha"
        for shape in [(7, 5), *([(), (1,), (3,), (4, 1), (3, 3), (12, 4)] if each else [])]:
            with pytest.raises(ValueError, match=name):
                traced(row, logits, labels, **{name: np.ones(shape, np.float32)})
    if row.softmax:
        with pytest.raises(TypeError, match="class ids and must be integers"):
            traced(row, logits, labels.astype(np.float32))
        with pytest.raises(ValueError, match="last axis of two or more classes"):
            traced(row, logits[:, :1], labels)


@over_doors
def test_the_public_assertions_hold(row: Row):
    testing.assert_gradient_finite(row.loss, *row.batch)
    testing.assert_order_invariant(row.loss, *row.batch)
    testing.assert_jit_and_vmap_agree(row.loss, *row.batch)
    testing.assert_accumulates_in_float32(row.loss, *row.batch)


@over_doors
def test_lists_booleans_and_floats_are_accepted(row: Row):
    logits, labels = row.batch
    others = [labels.tolist(), labels.astype(np.uint8)]
    if not row.softmax:
        others += [labels.astype(bool), labels.astype(np.float32)]
    for other in others:
        value = row(logits.tolist(), other)
        chex.assert_trees_all_close(value, row(logits, labels), rtol=1e-6)


# --- where classes compete ------------------------------------------------------------------------


@over_softmax
def test_ids_are_their_one_hot_and_what_is_no_class_costs_and_moves_nothing(row: Row):
    logits, ids = CLASSES

    @jax.jit
    def both(z: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        value, pull = jax.vjp(lambda z: row(z, y), z)
        return value, pull(jnp.ones_like(value))[0]

    expected = both(logits, ids)
    chex.assert_trees_all_close(both(logits, one_hot(ids)), expected, rtol=1e-5, atol=1e-6)
    strange = np.where(np.arange(12) % 2, ids, np.resize([-1, 4, 255, -2_000_000_000], 12))
    value, gradient = both(logits, strange)
    chex.assert_trees_all_equal((value[::2], gradient[::2]), (jnp.zeros(6), jnp.zeros((6, 4))))
    found = value[1::2], gradient[1::2]
    chex.assert_trees_all_close(found, (expected[0][1::2], expected[1][1::2]), rtol=1e-6)


@over_softmax
def test_logits_may_be_shifted_together(row: Row):
    logits, ids = CLASSES
    np.testing.assert_allclose(row(logits + 3.0, ids), row(logits, ids), rtol=1e-4, atol=1e-5)


def test_batches_hold_every_label():
    assert set(BINARY[1].ravel()) == {0, 1}
    assert set(CLASSES[1].ravel()) == set(range(4))
    assert {row.batch is CLASSES for row in ROWS if row.family == "elements"} == {True, False}
