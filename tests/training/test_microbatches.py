"""Counts of parts add up, and a loss that sorts gets all logits: both are those of the whole.

The batch is sorted by label, so that every part is unlike the whole. Two processes are in
test_processes.py. Scores of one label differ only in what they make of the sum of counts, so one of
them stands for all.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jax.sharding import NamedSharding, PartitionSpec

import diffmetrics as dm

PARTS, DEVICES = 16, 8
ROWS, FEATURES, HIDDEN, CLASSES = 2048, 16, 128, 4
THRESHOLDS = np.array([np.inf, *np.linspace(4, -4, 9), -np.inf], np.float32)
Params = dict[str, jax.Array]
Gradient = tuple[jax.Array, Params]
Array = jax.Array | np.ndarray
Loss = Callable[[Any, Any], jax.Array]


def model(params: Params, x: Array) -> jax.Array:
    return jnp.tanh(jnp.asarray(x) @ params["in"]) @ params["out"]


def soft_roc_auc(c: dm.Counts) -> jax.Array:
    return dm.roc_auc(dm.Curve(c, THRESHOLDS))


@dataclasses.dataclass(frozen=True)
class Problem:
    """A score of counts, of one label, of exclusive classes or of a curve; or a loss of logits."""

    score: Callable[[dm.Counts], jax.Array] = dm.dice
    exclusive: bool = False
    curve: bool = False
    of_logits: Loss | None = None

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

    @property
    def zeros(self) -> dm.Counts:
        sets = CLASSES if self.exclusive else THRESHOLDS.size if self.curve else 1
        return jax.tree.map(lambda _: jnp.zeros(sets), dm.Counts())

    def stats(self, params: Params, x: jax.Array, y: jax.Array, where: Any = None) -> dm.Counts:
        logits = model(params, x)
        if self.curve:
            logits = 2 * (logits - THRESHOLDS[None])
            y = jnp.broadcast_to(y, logits.shape)
        activation = jax.nn.softmax if self.exclusive else jax.nn.sigmoid
        return dm.counts(activation(logits), y, axis=0, where=where)

    def loss(self, c: dm.Counts) -> jax.Array:
        return 1 - self.score(c).mean()

    def whole(self, params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
        if self.of_logits:
            return self.of_logits(model(params, x), y)
        return self.loss(self.stats(params, x, y))


DICE = Problem()
SCORES = {
    "mcc": Problem(dm.mcc),
    "macro dice": Problem(exclusive=True),
    "curve": Problem(soft_roc_auc, curve=True),
}
# Losses that sort all logits at once; benchmarks/test_microbatch.py has average precision.
SORTED = {
    "lovasz hinge": Problem(of_logits=dm.lovasz_hinge_loss),
    "roc auc": Problem(of_logits=dm.roc_auc_loss),
}
over_scores = pytest.mark.parametrize("problem", SCORES.values(), ids=SCORES)
over_sorted = pytest.mark.parametrize("problem", SORTED.values(), ids=SORTED)
over_all = pytest.mark.parametrize("problem", (SCORES | SORTED).values(), ids=SCORES | SORTED)


def step(f: Callable[..., jax.Array], problem: Problem, *batch: Any) -> tuple[Gradient, int]:
    """Value and gradient, and the bytes that they need besides what goes in and out."""
    arguments = (problem.params, *(batch or problem.batch))
    compiled = jax.jit(jax.value_and_grad(f)).lower(*arguments).compile()
    analysis = compiled.memory_analysis()
    assert analysis is not None
    return compiled(*arguments), analysis.temp_size_in_bytes


def gradient(f: Callable[..., jax.Array], problem: Problem, *batch: Any) -> Gradient:
    return step(f, problem, *batch)[0]


@functools.cache
def truth(problem: Problem) -> tuple[Gradient, int]:
    return step(problem.whole, problem)


def distance(ours: Gradient, theirs: Gradient) -> float:
    """Relative error of the gradient as one long vector."""
    # On the host: which mesh the truth lies on depends on who asked for it first.
    a, b = (np.asarray(ravel_pytree(g)[0]) for _, g in (ours, theirs))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def assert_equal(ours: Gradient, theirs: Gradient) -> None:
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5)
    assert distance(ours, theirs) < 1e-5


def assert_exact(ours: Gradient, problem: Problem) -> None:
    assert_equal(ours, truth(problem)[0])


def scanned(problem: Problem, params: Params, *batch: jax.Array) -> dm.Counts:
    """The counts of the parts, one after the other; nothing is kept for the backward pass."""

    @jax.checkpoint
    def add(total: dm.Counts, part: Any) -> tuple[dm.Counts, None]:
        return total + problem.stats(params, *part), None

    parts = tuple(a.reshape(PARTS, -1, *a.shape[1:]) for a in batch)
    return jax.lax.scan(add, problem.zeros, parts)[0]


# --- microbatches ---------------------------------------------------------------------------------


@over_scores
def test_scanned_counts_are_exact_in_a_fraction_of_the_memory(problem: Problem):
    ours, needed = step(lambda *a: problem.loss(scanned(problem, *a)), problem)
    assert_exact(ours, problem)
    assert needed < truth(problem)[1] / 4


def two_pass(problem: Problem) -> Callable[..., jax.Array]:
    """Logits of all parts, without their activations; cotangents go back part by part."""
    loss = problem.of_logits
    assert loss

    def f(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
        row = jax.checkpoint(partial(model, params))
        return loss(jax.lax.map(row, x, batch_size=ROWS // PARTS), y)

    return f


@over_sorted
def test_two_passes_are_exact_in_a_fraction_of_the_memory(problem: Problem):
    ours, needed = step(two_pass(problem), problem)
    assert_exact(ours, problem)
    assert needed < truth(problem)[1] / 4


@over_all
def test_mean_of_microbatch_losses_is_another_quantity(problem: Problem):
    of_part = jax.jit(jax.value_and_grad(problem.whole))
    parts = zip(*(np.split(a, PARTS) for a in problem.batch), strict=True)
    with jax.debug_nans(False):  # a curve of a part without positives is NaN
        each = [of_part(problem.params, *part) for part in parts]
    mean = jax.tree.map(lambda *a: np.mean(a, 0), *each)
    assert not distance(mean, truth(problem)[0]) < 0.1


def test_prior_is_added_once_after_summing():
    prior = dm.Counts(tp=8.0)
    x, y = DICE.batch

    def loss(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
        return dm.dice_loss(model(params, x), y, axis=0, prior=prior).mean()

    def with_prior(params: Params, x: jax.Array, y: jax.Array, times: Array) -> jax.Array:
        priors = jax.tree.map(lambda p: times * p, prior)
        return DICE.loss(scanned(DICE, params, x, y) + priors)

    whole = gradient(loss, DICE)
    ours = jax.jit(jax.value_and_grad(with_prior))
    assert distance(ours(DICE.params, x, y, np.float32(1)), whole) < 1e-5
    assert distance(ours(DICE.params, x, y, np.float32(PARTS)), whole) > 0.1


def test_rows_of_padding_count_for_nothing():
    problem = SCORES["macro dice"]
    x, y = problem.batch
    kept = ROWS - 100  # not a multiple of the number of parts
    padded = x.copy()
    padded[kept:] = np.nan
    real = (np.arange(ROWS) < kept)[:, None]

    def loss(params: Params, x: jax.Array, y: jax.Array, real: jax.Array) -> jax.Array:
        # The rows themselves must be clean: a NaN in a model's input is one in its gradient.
        return problem.loss(scanned(problem, params, jnp.where(real, x, 0), y, real))

    whole = gradient(problem.whole, problem, x[:kept], y[:kept])
    assert distance(gradient(loss, problem, padded, y, real), whole) < 1e-5


# --- devices --------------------------------------------------------------------------------------

EVERYWHERE, SPLIT = PartitionSpec(), PartitionSpec("data")


@pytest.fixture(scope="module")
def mesh() -> jax.sharding.Mesh:
    if jax.device_count() < DEVICES:
        pytest.skip(f"needs {DEVICES} devices, has {jax.device_count()}")
    return jax.make_mesh((DEVICES,), ("data",))


def spread(problem: Problem, mesh: jax.sharding.Mesh) -> tuple[jax.Array, jax.Array]:
    """The batch, some rows on each device."""
    return jax.device_put(problem.batch, NamedSharding(mesh, SPLIT))


def over_devices(mesh: jax.sharding.Mesh, f: Callable[..., Any], **options: Any) -> Any:
    """`f(params, x, y)` on each device's own rows."""
    specs = {"in_specs": (EVERYWHERE, SPLIT, SPLIT), "out_specs": EVERYWHERE}
    return jax.jit(jax.shard_map(f, mesh=mesh, **specs, **options))


def together(problem: Problem) -> Callable[..., jax.Array]:
    """The loss of all devices' rows: of the sum of their counts, or of all their logits."""

    def gathered(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
        assert problem.of_logits
        every = partial(jax.lax.all_gather, axis_name="data", tiled=True)
        value = problem.of_logits(every(model(params, x)), every(y))
        # Every device has it; the mean of equal values says that it is one.
        return jax.lax.pmean(value, "data")  # pyright: ignore[reportReturnType]

    def summed(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
        return problem.loss(jax.lax.psum(problem.stats(params, x, y), "data"))

    return gathered if problem.of_logits else summed


@over_all
def test_jit_on_sharded_arrays_is_exact(problem: Problem, mesh: jax.sharding.Mesh):
    batch = spread(problem, mesh)
    assert len(batch[0].sharding.device_set) == DEVICES
    with jax.set_mesh(mesh):
        assert_exact(gradient(problem.whole, problem, *batch), problem)


@over_all
def test_shard_map_is_exact(problem: Problem, mesh: jax.sharding.Mesh):
    inside = over_devices(mesh, jax.value_and_grad(together(problem)))
    assert_exact(inside(problem.params, *spread(problem, mesh)), problem)


# Its transpose sums over devices, whatever is inside: one score and one loss that sorts.
@pytest.mark.parametrize("problem", [SCORES["macro dice"], SORTED["lovasz hinge"]])
def test_gradient_of_shard_map_is_exact(problem: Problem, mesh: jax.sharding.Mesh):
    outside = jax.value_and_grad(over_devices(mesh, together(problem)))
    with jax.set_mesh(mesh):
        assert_exact(outside(problem.params, *spread(problem, mesh)), problem)


@pytest.mark.parametrize(
    ("how", "problem"),
    [("pmap", SORTED["lovasz hinge"]), ("shard_map without check_vma", SCORES["mcc"])],
)
def test_unchecked_devices_take_the_mean_of_gradients(
    how: str, problem: Problem, mesh: jax.sharding.Mesh
):
    """Their psum transposes to a psum, so each device's gradient is already `DEVICES` times its
    share: a second psum multiplies the whole, and a mean makes it exact."""
    x, y = problem.batch

    def both(*a: Any) -> tuple[Gradient, Gradient]:
        value, g = jax.value_and_grad(together(problem))(*a)
        return (value, jax.lax.pmean(g, "data")), (value, jax.lax.psum(g, "data"))

    if how == "pmap":
        rows = (a.reshape(DEVICES, -1, a.shape[-1]) for a in (x, y))
        every = jax.pmap(both, axis_name="data", in_axes=(None, 0, 0))(problem.params, *rows)
        mean, (value, g) = jax.tree.map(lambda a: a[0], every)
    else:
        arguments = (problem.params, *spread(problem, mesh))
        mean, (value, g) = over_devices(mesh, both, check_vma=False)(*arguments)
        outside = over_devices(mesh, together(problem), check_vma=False)
        with jax.set_mesh(mesh):
            assert_exact(jax.value_and_grad(outside)(*arguments), problem)
    assert_exact(mean, problem)
    assert_exact((value, jax.tree.map(lambda a: a / DEVICES, g)), problem)
