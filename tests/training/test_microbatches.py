"""Counts of parts add up, and a loss that sorts gets all logits: both are those of the whole.

The batch is sorted by label, so that every part is unlike the whole. Two processes are in
test_processes.py.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import diffmetrics as dm

PARTS, DEVICES = 16, 8
ROWS, FEATURES, HIDDEN, CLASSES = 2048, 16, 128, 4
THRESHOLDS = np.array([np.inf, *np.linspace(4, -4, 9), -np.inf], np.float32)
Params = dict[str, jax.Array]
Gradient = tuple[jax.Array, Params]
Array = jax.Array | np.ndarray


def model(params: Params, x: Array) -> jax.Array:
    return jnp.tanh(jnp.asarray(x) @ params["in"]) @ params["out"]


def soft_roc_auc(c: dm.Counts) -> jax.Array:
    return dm.roc_auc(dm.Curve(c, THRESHOLDS))


@dataclasses.dataclass(frozen=True)
class Problem:
    """A score, and whether it is asked of one label, of exclusive classes or of a curve."""

    score: Callable[[dm.Counts], jax.Array]
    exclusive: bool = False
    curve: bool = False

    @property
    def params(self) -> Params:
        rng = np.random.default_rng(1)
        columns = CLASSES if self.exclusive else 1
        normal = partial(rng.normal, scale=0.3)
        weights = {"in": normal(size=(FEATURES, HIDDEN)), "out": normal(size=(HIDDEN, columns))}
        return jax.tree.map(lambda w: jnp.asarray(w, jnp.float32), weights)

    @property
    def batch(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows sorted by label; 5 % are positive, or four classes of falling frequency."""
        rng = np.random.default_rng(0)
        x = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
        evidence = x[:, 0] + 0.5 * rng.normal(size=ROWS)
        thresholds = [0.2, 1.0, 1.8] if self.exclusive else [1.8]
        labels = np.digitize(evidence, thresholds)
        order = np.argsort(labels, kind="stable")
        return x[order], labels[order] if self.exclusive else labels[order, None]

    def stats(self, params: Params, x: jax.Array, y: jax.Array, where: Any = None) -> dm.Counts:
        logits = model(params, x)
        if self.curve:
            logits = 2 * (logits - THRESHOLDS)
            y = jnp.broadcast_to(y, logits.shape)
        activation = jax.nn.softmax if self.exclusive else jax.nn.sigmoid
        return dm.counts(activation(logits), y, axis=0, where=where)

    def loss(self, c: dm.Counts) -> jax.Array:
        return 1 - self.score(c).mean()

    def whole(self, params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
        return self.loss(self.stats(params, x, y))


PROBLEMS = {
    "dice": Problem(dm.dice),
    "mcc": Problem(dm.mcc),
    "macro dice": Problem(dm.dice, exclusive=True),
    "curve": Problem(soft_roc_auc, curve=True),
}
over_problems = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)

# Losses of all logits at once: the first is one of counts, the others sort the set.
Loss = Callable[[Any, Any], jax.Array]
SET_LOSSES: dict[str, Loss] = {
    "dice": dm.dice_loss,
    "lovasz hinge": dm.lovasz_hinge_loss,
    "roc auc": dm.roc_auc_loss,
    "average precision": dm.average_precision_loss,
}
over_set_losses = pytest.mark.parametrize("loss", SET_LOSSES.values(), ids=SET_LOSSES)


def gradient(f: Callable[..., jax.Array], problem: Problem, *batch: Any) -> Gradient:
    return jax.jit(jax.value_and_grad(f))(problem.params, *(batch or problem.batch))


def distance(ours: Gradient, theirs: Gradient) -> float:
    """Relative error of the gradient as one long vector."""
    (a, _), (b, _) = (ravel_pytree(g) for _, g in (ours, theirs))
    return float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))


def assert_equal(ours: Gradient, theirs: Gradient) -> None:
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5)
    assert distance(ours, theirs) < 1e-5


@functools.cache
def truth(problem: Problem) -> Gradient:
    return gradient(problem.whole, problem)


def assert_exact(ours: Gradient, problem: Problem) -> None:
    assert_equal(ours, truth(problem))


def of_model(loss: Loss) -> Callable[..., jax.Array]:
    """The loss of all logits of a batch."""
    return lambda params, x, y: loss(model(params, x), y)


@functools.cache
def truth_of_model(loss: Loss) -> Gradient:
    return gradient(of_model(loss), PROBLEMS["dice"])


def assert_exact_of_model(ours: Gradient, loss: Loss) -> None:
    assert_equal(ours, truth_of_model(loss))


def temporary(f: Callable[..., jax.Array], problem: Problem) -> int:
    """Bytes that value and gradient need besides what goes in and out."""
    compiled = jax.jit(jax.value_and_grad(f)).lower(problem.params, *problem.batch).compile()
    analysis = compiled.memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes


def scan(add: Callable[..., Any], start: Any, *batch: Any) -> Any:
    """Fold the parts of a batch, one after the other, keeping nothing for the backward pass."""
    parts = [a.reshape(PARTS, -1, *a.shape[1:]) for a in batch]
    step = jax.checkpoint(lambda total, part: (add(total, *part), None))
    return jax.lax.scan(step, start, tuple(parts))[0]


def zeros(problem: Problem) -> dm.Counts:
    nothing = jnp.zeros(CLASSES if problem.exclusive else THRESHOLDS.size if problem.curve else 1)
    return dm.Counts(nothing, nothing, nothing, nothing)


# --- microbatches ---------------------------------------------------------------------------------


@over_problems
def test_scanned_counts_are_exact(problem: Problem):
    def scanned(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
        def add(total: dm.Counts, *part: jax.Array) -> dm.Counts:
            return total + problem.stats(params, *part)

        return problem.loss(scan(add, zeros(problem), x, y))

    assert_exact(gradient(scanned, problem), problem)


@over_problems
def test_optax_microbatching_of_counts_is_exact(problem: Problem):
    stats = optax.microbatching.microbatch(
        jax.checkpoint(problem.stats),
        argnums=(1, 2),
        microbatch_size=ROWS // PARTS,
        accumulator=optax.microbatching.AccumulationType.SUM,
    )
    assert_exact(gradient(lambda *a: problem.loss(stats(*a)), problem), problem)


@over_problems
def test_mean_of_microbatch_losses_is_another_quantity(problem: Problem):
    def averaged(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
        def add(total: jax.Array, *part: jax.Array) -> jax.Array:
            return total + problem.whole(params, *part) / PARTS

        return scan(add, 0.0, x, y)

    # A curve of a part without positives is NaN.
    assert not distance(gradient(averaged, problem), truth(problem)) < 0.1


def test_scanned_counts_need_a_fraction_of_the_memory():
    problem = PROBLEMS["dice"]

    def scanned(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
        return problem.loss(scan(lambda c, *p: c + problem.stats(params, *p), zeros(problem), x, y))

    assert temporary(scanned, problem) < temporary(problem.whole, problem) / 4


def test_prior_is_added_once_after_summing():
    problem, prior = PROBLEMS["dice"], dm.Counts(tp=8.0)
    x, y = problem.batch

    def loss(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
        return dm.dice_loss(model(params, x), y, axis=0, prior=prior).mean()

    def scanned(params: Params, x: jax.Array, y: jax.Array, each: Any, once: Any) -> jax.Array:
        def add(total: dm.Counts, *part: jax.Array) -> dm.Counts:
            return total + problem.stats(params, *part) + each

        return problem.loss(scan(add, zeros(problem), x, y) + once)

    whole = gradient(loss, problem)
    assert distance(gradient(scanned, problem, x, y, dm.Counts(), prior), whole) < 1e-5
    assert distance(gradient(scanned, problem, x, y, prior, dm.Counts()), whole) > 0.1


def test_rows_of_padding_count_for_nothing():
    problem = PROBLEMS["macro dice"]
    x, y = problem.batch
    kept = ROWS - 100  # not a multiple of the number of parts
    padded = x.copy()
    padded[kept:] = np.nan
    real = (np.arange(ROWS) < kept)[:, None]

    def scanned(params: Params, x: jax.Array, y: jax.Array, real: jax.Array) -> jax.Array:
        def add(total: dm.Counts, *part: jax.Array) -> dm.Counts:
            x, y, where = part
            # The rows themselves must be clean: a NaN in a model's input is one in its gradient.
            return total + problem.stats(params, jnp.where(where, x, 0), y, where)

        return problem.loss(scan(add, zeros(problem), x, y, real))

    whole = gradient(problem.whole, problem, x[:kept], y[:kept])
    assert distance(gradient(scanned, problem, padded, y, real), whole) < 1e-5


def test_hard_counts_of_parts_are_exactly_those_of_the_whole():
    problem = PROBLEMS["macro dice"]
    x, y = problem.batch
    predicted = model(problem.params, x).argmax(-1)[:, None] == np.arange(CLASSES)
    one_hot = y[:, None] == np.arange(CLASSES)
    count = partial(dm.counts, axis=0)
    parts = jax.vmap(count)(*(a.reshape(PARTS, -1, CLASSES) for a in (predicted, one_hot)))
    chex.assert_trees_all_equal(jax.tree.map(lambda c: c.sum(0), parts), count(predicted, one_hot))


def test_hard_curves_of_parts_are_exactly_those_of_the_whole():
    problem = PROBLEMS["dice"]
    x, y = problem.batch
    curve = partial(dm.threshold_counts, thresholds=THRESHOLDS[1:-1])
    logits = model(problem.params, x)
    parts = [curve(*part) for part in zip(*(np.split(a, PARTS) for a in (logits, y)), strict=True)]
    total = functools.reduce(operator.add, parts)
    chex.assert_trees_all_equal(total, curve(logits, y))


# --- microbatches of a loss that needs all logits -------------------------------------------------


def two_pass(loss: Loss) -> Callable[..., jax.Array]:
    """Logits of all parts, without their activations; cotangents go back part by part."""

    def f(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
        parts = x.reshape(PARTS, -1, FEATURES)
        logits = jax.lax.map(jax.checkpoint(partial(model, params)), parts)
        return loss(logits.reshape(y.shape), y)

    return f


@over_set_losses
def test_two_passes_over_microbatches_are_exact(loss: Loss):
    assert_exact_of_model(gradient(two_pass(loss), PROBLEMS["dice"]), loss)


@over_set_losses
def test_optax_microbatching_of_logits_is_exact(loss: Loss):
    logits = optax.microbatching.microbatch(
        jax.checkpoint(model),
        argnums=1,
        microbatch_size=ROWS // PARTS,
        accumulator=optax.microbatching.AccumulationType.CONCAT,
    )
    ours = gradient(lambda params, x, y: loss(logits(params, x), y), PROBLEMS["dice"])
    assert_exact_of_model(ours, loss)


@over_set_losses
def test_two_passes_need_a_fraction_of_the_memory(loss: Loss):
    problem = PROBLEMS["dice"]
    assert temporary(two_pass(loss), problem) < temporary(of_model(loss), problem) / 4


def test_two_passes_serve_a_last_part_that_is_shorter():
    problem, loss = PROBLEMS["dice"], dm.lovasz_hinge_loss
    x, y = (a[:-100] for a in problem.batch)

    def f(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
        row = jax.checkpoint(partial(model, params))
        return loss(jax.lax.map(row, x, batch_size=ROWS // PARTS), y)

    assert_equal(gradient(f, problem, x, y), gradient(of_model(loss), problem, x, y))


@over_set_losses
def test_mean_of_microbatch_losses_of_a_set_is_another_quantity(loss: Loss):
    def averaged(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
        return scan(lambda total, *part: total + of_model(loss)(params, *part) / PARTS, 0.0, x, y)

    problem = PROBLEMS["dice"]
    assert distance(gradient(averaged, problem), truth_of_model(loss)) > 0.1


# --- devices --------------------------------------------------------------------------------------

EVERYWHERE, SPLIT = PartitionSpec(), PartitionSpec("data")


@pytest.fixture(scope="module")
def mesh() -> jax.sharding.Mesh:
    if jax.device_count() < DEVICES:
        pytest.skip(f"needs {DEVICES} devices, has {jax.device_count()}")
    return jax.make_mesh((DEVICES,), ("data",), axis_types=(AxisType.Auto,))


def over_devices(mesh: jax.sharding.Mesh, f: Callable[..., Any], **options: Any) -> Any:
    """`f(params, x, y)` on each device's own rows."""
    return jax.jit(
        jax.shard_map(
            f, mesh=mesh, in_specs=(EVERYWHERE, SPLIT, SPLIT), out_specs=EVERYWHERE, **options
        )
    )


def summed(problem: Problem) -> Callable[..., jax.Array]:
    """The loss of the counts of all devices."""
    return lambda *a: problem.loss(jax.lax.psum(problem.stats(*a), "data"))


@over_problems
def test_jit_on_sharded_arrays_is_exact(problem: Problem, mesh: jax.sharding.Mesh):
    batch = jax.device_put(problem.batch, NamedSharding(mesh, SPLIT))
    assert len(batch[0].sharding.device_set) == DEVICES
    assert_exact(gradient(problem.whole, problem, *batch), problem)


@pytest.mark.parametrize("loss", [dm.generalized_dice_loss, dm.lovasz_softmax_loss])
def test_losses_that_are_no_score_are_exact_on_sharded_arrays(
    loss: Callable[..., jax.Array], mesh: jax.sharding.Mesh
):
    problem = PROBLEMS["macro dice"]
    x, ids = problem.batch
    logits = model(problem.params, x)
    f = jax.jit(jax.value_and_grad(partial(loss, activation=jax.nn.softmax)))
    sharded = f(*jax.device_put((logits, ids), NamedSharding(mesh, SPLIT)))
    chex.assert_trees_all_close(sharded, f(logits, ids), rtol=1e-4, atol=1e-7)


@over_problems
def test_shard_map_with_summed_counts_is_exact(problem: Problem, mesh: jax.sharding.Mesh):
    outside = jax.value_and_grad(over_devices(mesh, summed(problem)))
    assert_exact(outside(problem.params, *problem.batch), problem)
    inside = over_devices(mesh, jax.value_and_grad(summed(problem)))
    assert_exact(inside(problem.params, *problem.batch), problem)


@over_problems
def test_mean_of_device_losses_is_another_quantity(problem: Problem, mesh: jax.sharding.Mesh):
    def averaged(*a: jax.Array) -> jax.Array:
        return jax.lax.pmean(problem.whole(*a), "data")  # pyright: ignore[reportArgumentType]

    ours = over_devices(mesh, jax.value_and_grad(averaged))(problem.params, *problem.batch)
    assert not distance(ours, truth(problem)) < 0.1


@pytest.mark.parametrize("how", ["pmap", "shard_map without check_vma"])
def test_unchecked_devices_take_the_mean_of_gradients(how: str, mesh: jax.sharding.Mesh):
    """Their psum transposes to a psum, so each device's gradient is already `DEVICES` times its
    share: a second psum multiplies the whole, and a mean makes it exact."""
    problem = PROBLEMS["dice"]
    x, y = problem.batch

    def run(reduce: Callable[..., Any]) -> Gradient:
        def step(*a: Any) -> Gradient:
            value, g = jax.value_and_grad(summed(problem))(*a)
            return value, reduce(g, "data")

        if how == "pmap":
            rows = (a.reshape(DEVICES, -1, a.shape[-1]) for a in (x, y))
            every = jax.pmap(step, axis_name="data", in_axes=(None, 0, 0))(problem.params, *rows)
            return jax.tree.map(lambda a: a[0], every)
        return over_devices(mesh, step, check_vma=False)(problem.params, x, y)

    assert_exact(run(jax.lax.pmean), problem)
    value, g = run(jax.lax.psum)
    assert_exact((value, jax.tree.map(lambda a: a / DEVICES, g)), problem)


# --- devices, and a loss that needs all logits ----------------------------------------------------


def gathered(loss: Loss) -> Callable[..., jax.Array]:
    """Every device has the loss of all logits; the mean of equal values says that it is one."""

    def f(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
        every = partial(jax.lax.all_gather, axis_name="data", tiled=True)
        value = loss(every(model(params, x)), every(y))
        return jax.lax.pmean(value, "data")  # pyright: ignore[reportReturnType]

    return f


@over_set_losses
def test_jit_of_a_set_loss_on_sharded_arrays_is_exact(loss: Loss, mesh: jax.sharding.Mesh):
    problem = PROBLEMS["dice"]
    batch = jax.device_put(problem.batch, NamedSharding(mesh, SPLIT))
    assert_exact_of_model(gradient(of_model(loss), problem, *batch), loss)


@over_set_losses
def test_shard_map_with_gathered_logits_is_exact(loss: Loss, mesh: jax.sharding.Mesh):
    problem = PROBLEMS["dice"]
    outside = jax.value_and_grad(over_devices(mesh, gathered(loss)))
    assert_exact_of_model(outside(problem.params, *problem.batch), loss)
    inside = over_devices(mesh, jax.value_and_grad(gathered(loss)))
    assert_exact_of_model(inside(problem.params, *problem.batch), loss)


def test_unchecked_devices_take_the_mean_of_gradients_of_gathered_logits(mesh: jax.sharding.Mesh):
    problem, loss = PROBLEMS["dice"], dm.lovasz_hinge_loss

    def run(reduce: Callable[..., Any]) -> Gradient:
        def step(*a: Any) -> Gradient:
            value, g = jax.value_and_grad(gathered(loss))(*a)
            return value, reduce(g, "data")

        return over_devices(mesh, step, check_vma=False)(problem.params, *problem.batch)

    assert_exact_of_model(run(jax.lax.pmean), loss)
    value, g = run(jax.lax.psum)
    assert_exact_of_model((value, jax.tree.map(lambda a: a / DEVICES, g)), loss)
    outside = jax.value_and_grad(over_devices(mesh, gathered(loss), check_vma=False))
    assert_exact_of_model(outside(problem.params, *problem.batch), loss)
