"""The promises of every loss with one value per element or example, over the table of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from diffmetrics import testing
from tests.contract.per_example import BINARY, CLASSES, ROWS, Row

MAX = float(np.finfo(np.float32).max)
# Signs and sizes at which a textbook softplus, log, power or difference overflows or cancels.
EXTREMES = np.array([0.0, 1e-30, 1e-4, 1.0, 20.0, 88.0, 104.0, 1e4, 1e19, 1e30, MAX], np.float32)
EXTREMES = np.concatenate([-EXTREMES[::-1], EXTREMES])


def over(chosen: Callable[[Row], bool]) -> pytest.MarkDecorator:
    """A test of every chosen row."""
    rows = [row for row in ROWS if chosen(row)]
    names = ["-".join([row.name, *(f"{k}={np.shape(v) or v}" for k, v in row.traced.items())])
             for row in rows]  # fmt: skip
    return pytest.mark.parametrize("row", rows, ids=names)


FIRST = {row.name: row for row in reversed(ROWS)}
over_all = over(lambda row: True)
# What does not depend on the hyper-parameters is asked once of every function.
over_functions = over(lambda row: FIRST[row.name] is row)
over_binary = over(lambda row: not row.softmax)
over_softmax = over(lambda row: row.softmax)


def one_hot(ids: np.ndarray, number: int = 4) -> np.ndarray:
    return (ids[..., None] == np.arange(number)).astype(np.float32)


def by_the_definition(row: Row, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The reference, element by element or example by example."""
    z = logits.astype(np.float64)
    values = np.empty(labels.shape)
    for index in np.ndindex(labels.shape):
        of: Any = z[index].tolist()
        values[index] = row.reference(of, int(labels[index]), **row.traced)
    return values


def derivatives(row: Row, logits: Any, labels: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Value, gradient and the diagonal of the second derivative, of every example."""

    def alone(z: jax.Array, y: jax.Array) -> jax.Array:
        return row.loss(z, y, **row.traced)

    def bend(z: jax.Array, y: jax.Array) -> jax.Array:
        directions = jnp.eye(z.size, dtype=z.dtype) if row.softmax else jnp.ones((1,), z.dtype)

        def second(direction: jax.Array) -> jax.Array:
            return jnp.sum(jax.jvp(lambda x: jax.grad(alone)(x, y), (z,), (direction,))[1])

        return jax.vmap(second)(directions) if row.softmax else second(jnp.ones((), z.dtype))

    def everything(z: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        return *jax.value_and_grad(alone)(z, y), bend(z, y)

    return jax.jit(jax.vmap(everything))(jnp.asarray(logits), jnp.asarray(labels))


@over_all
def test_loss_is_its_definition(row: Row):
    for factor in (0.1, 1.0, 4.0):
        logits = factor * row.batch[0]
        expected = by_the_definition(row, logits, row.batch[1])
        value = row.loss(logits, row.batch[1], **row.traced)
        chex.assert_trees_all_close(value, jnp.asarray(expected, jnp.float32), rtol=3e-5, atol=1e-6)


@over_binary
def test_binary_loss_and_derivatives_are_finite_at_every_finite_logit(row: Row):
    logits, labels = (a.ravel() for a in np.meshgrid(EXTREMES, np.array([0, 1])))
    chex.assert_tree_all_finite(derivatives(row, logits, labels))


@over_softmax
def test_softmax_loss_and_derivatives_are_finite_at_every_finite_logit(row: Row):
    some = np.array([-MAX, -1e4, -1.0, 0.0, 60.0, 1e19, MAX], np.float32)
    logits = np.stack(np.meshgrid(some, some, some, np.array([0.0, -MAX], np.float32)), -1).reshape(
        -1, 4
    )
    for label in range(4):
        result = derivatives(row, logits, np.full(len(logits), label))
        chex.assert_tree_all_finite(result)


@over_functions
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
def test_every_half_precision_logit_is_close_to_float64(row: Row, dtype: Any):
    every = np.arange(65_536, dtype=np.uint16).view(dtype)
    size = np.abs(every.astype(np.float32))
    # XLA takes numbers below the smallest normal float32, which bfloat16 has, for zero.
    every = every[np.isfinite(size) & ((size == 0) | (size >= np.finfo(np.float32).tiny))]
    zeros = np.zeros_like(every)
    rest = [zeros, zeros - dtype(1), zeros + dtype(0.5)]
    logits = np.stack([every, *rest], -1) if row.softmax else every
    for label in (0, 1):
        labels = np.full(every.shape, label)
        value, gradient = _value_and_gradient(row, jnp.asarray(logits), labels)
        chex.assert_type(value, jnp.float32)
        chex.assert_type(gradient, dtype)
        chex.assert_tree_all_finite((value, gradient))
        with jax.enable_x64(True):
            wide = _value_and_gradient(row, jnp.asarray(logits.astype(np.float64)), labels)
            exact, slope = (np.asarray(a, np.float64) for a in wide)
        exact = np.minimum(exact, MAX)
        np.testing.assert_allclose(value, exact, rtol=2e-5, atol=2e-6)
        rtol = 8e-3 if dtype is ml_dtypes.bfloat16 else 1e-3
        top = float(ml_dtypes.finfo(dtype).max)
        np.testing.assert_allclose(
            np.clip(np.asarray(gradient, np.float64), -top, top),
            np.clip(slope, -top, top), rtol=rtol, atol=row.atol,
        )  # fmt: skip


def _value_and_gradient(row: Row, logits: jax.Array, labels: Any) -> tuple[jax.Array, jax.Array]:
    value, pull = jax.vjp(lambda z: row.loss(z, labels, **row.traced), logits)
    return value, pull(jnp.ones_like(value))[0]


@over_functions
def test_derivatives_match_finite_differences(row: Row):
    testing.assert_gradient_matches_numerical(row.loss, *row.batch, **row.traced)


@over_functions
def test_loss_agrees_under_jit_and_vmap(row: Row):
    testing.assert_jit_and_vmap_agree(row.loss, *row.batch, **row.traced)


@over_functions
def test_the_public_assertion_holds(row: Row):
    testing.assert_gradient_finite(row.loss, *row.batch, **row.traced)


@over_functions
def test_nothing_is_reduced_and_order_does_not_matter(row: Row):
    value = row.loss(*row.batch, **row.traced)
    chex.assert_shape(value, row.batch[1].shape)
    testing.assert_order_invariant(row.loss, *row.batch, **row.traced)


@over_functions
def test_value_and_gradient_make_no_array_but_the_gradient(row: Row):
    """Labels are float here: XLA's CPU backend converts integers in an array of their own."""
    shape = (64, 4096) if not row.softmax else (4096, 64)
    logits = jax.ShapeDtypeStruct(shape, jnp.float32)
    labels = jax.ShapeDtypeStruct(shape, jnp.float32)
    if row.softmax:
        labels = jax.ShapeDtypeStruct(shape[:-1], jnp.int32)
    traced = {k: _widened(v, shape[-1]) for k, v in row.traced.items()}

    def mean(z: jax.Array, y: jax.Array) -> jax.Array:
        return row.loss(z, y, **traced).mean()

    compiled = jax.jit(jax.value_and_grad(mean)).lower(logits, labels).compile()
    memory = compiled.memory_analysis()
    assert memory is not None
    temporary = memory.temp_size_in_bytes / (4 * np.prod(shape))
    assert temporary <= row.arrays + 0.1, f"{temporary:.2f} arrays of the size of the logits"


def _widened(value: Any, classes: int) -> Any:
    """A hyper-parameter per class, or pair of classes, for more classes."""
    value = np.asarray(value, np.float32)
    return np.ones((classes,) * value.ndim, np.float32) * value.mean()


@over_functions
def test_wrong_shapes_raise(row: Row):
    testing.assert_shapes_checked(row.loss, *row.batch, **row.traced)
    logits, labels = row.batch
    if not row.softmax:
        testing.assert_shapes_checked(row.loss, logits[:, 0], labels[:, 0], **row.traced)
    with pytest.raises(TypeError, match="logits must be floating"):
        row.loss(logits.astype(int), labels, **row.traced)
    with pytest.raises(ValueError, match="labels must have the shape of logits"):
        row.loss(logits, np.eye(5)[np.zeros(12, int)], **row.traced)


@over_softmax
def test_what_is_no_id_is_named(row: Row):
    logits, ids = row.batch
    with pytest.raises(ValueError, match="class ids and must be integers"):
        row.loss(logits, ids.astype(np.float32), **row.traced)
    with pytest.raises(ValueError, match="last axis of two or more classes"):
        row.loss(logits[:, :1], ids, **row.traced)


@over_functions
def test_narrow_floats_are_computed_in_float32(row: Row):
    testing.assert_accumulates_in_float32(row.loss, *row.batch, **row.traced)


@over_functions
def test_lists_booleans_and_floats_are_accepted(row: Row):
    logits, labels = row.batch
    value = row.loss(logits, labels, **row.traced)
    others = [labels.tolist()]
    if not row.softmax:
        others += [labels.astype(bool), labels.astype(np.float32), labels.astype(np.uint8)]
    for other in others:
        chex.assert_trees_all_close(
            row.loss(logits.tolist(), other, **row.traced), value, rtol=1e-6
        )


@over_all
def test_right_beyond_doubt_costs_nothing(row: Row):
    labels = row.batch[1]
    right = one_hot(labels) > 0 if row.softmax else labels == 1
    perfect = np.where(right, 100.0, -100.0).astype(np.float32)
    best = row.loss(perfect, labels, **row.traced)
    worst = row.loss(-perfect, labels, **row.traced)
    chex.assert_trees_all_close(best, jnp.full_like(best, row.perfect), atol=1e-6)
    assert jnp.all(worst > best + 0.05)


@over_functions
def test_hyper_parameters_are_traced_and_can_be_swept(row: Row):
    for name, value in row.traced.items():
        others = {k: v for k, v in row.traced.items() if k != name}
        value = np.asarray(value, np.float32)

        def at(x: Any, name: str = name, others: dict[str, Any] = others) -> jax.Array:
            return row.loss(*row.batch, **others, **{name: x})

        swept = jax.vmap(at)(jnp.stack([value, 0.9 * value]))
        each = jnp.stack([at(value), at(0.9 * value)])
        chex.assert_trees_all_close(swept, each, rtol=1e-5, atol=1e-6)
        gradient = jax.grad(lambda x, at=at: at(x).sum())(jnp.asarray(value))
        chex.assert_tree_all_finite(gradient)


@over(lambda row: bool(row.traced))
def test_hyper_parameters_that_do_not_fit_are_named(row: Row):
    for name in row.traced:
        with pytest.raises(ValueError, match=name):
            row.loss(*row.batch, **{**row.traced, name: np.ones((7, 5), np.float32)})


@over(lambda row: row.soft_labels)
def test_soft_labels_mix_the_losses(row: Row):
    logits, labels = row.batch
    if row.softmax:
        soft = np.random.default_rng(1).dirichlet(np.ones(4), 12).astype(np.float32)
        parts = [soft[:, k] * row.loss(logits, np.full(12, k), **row.traced) for k in range(4)]
    else:
        soft = np.random.default_rng(1).random(labels.shape, np.float32)
        ends = [row.loss(logits, np.full_like(labels, k), **row.traced) for k in (0, 1)]
        parts = [(1 - soft) * ends[0], soft * ends[1]]
    chex.assert_trees_all_close(row.loss(logits, soft, **row.traced), sum(parts), rtol=1e-5)


@over_softmax
def test_class_ids_equal_their_one_hot(row: Row):
    logits, ids = CLASSES

    def total(z: jax.Array, y: Any) -> jax.Array:
        return row.loss(z, y, **row.traced).sum()

    chex.assert_trees_all_close(
        jax.value_and_grad(total)(jnp.asarray(logits), ids),
        jax.value_and_grad(total)(jnp.asarray(logits), one_hot(ids)),
        rtol=1e-5, atol=1e-6,
    )  # fmt: skip


@over_softmax
def test_what_is_no_class_costs_and_moves_nothing(row: Row):
    for stranger in (-1, 4, 255):
        value, gradient = _value_and_gradient(
            row, jnp.asarray(CLASSES[0]), np.full_like(CLASSES[1], stranger)
        )
        chex.assert_trees_all_equal(
            (value, gradient), jax.tree.map(jnp.zeros_like, (value, gradient))
        )


@over_softmax
def test_logits_may_be_shifted_together(row: Row):
    if row.name not in {"angular_margin_loss"}:
        logits, ids = CLASSES
        shifted = row.loss(logits + 3.0, ids, **row.traced)
        chex.assert_trees_all_close(
            shifted, row.loss(logits, ids, **row.traced), rtol=1e-4, atol=1e-5
        )


@over_functions
def test_documented_alike(row: Row):
    parameters = list(inspect.signature(row.loss).parameters.values())
    assert [p.name for p in parameters[:2]] == ["logits", "labels"]
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[2:])
    doc = inspect.getdoc(row.loss) or ""
    for part in (".. math::", "Args:", "Returns:", "Example:", "References:"):
        assert part in doc
    assert all(f"{p.name}:" in doc for p in parameters)


def test_batches_hold_every_label():
    assert set(BINARY[1].ravel()) == {0, 1}
    assert set(CLASSES[1].ravel()) == set(range(4))
