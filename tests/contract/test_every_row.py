"""What every public function promises, asked over the one table of all of them."""

from __future__ import annotations

import inspect
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffmetrics as dm
from diffmetrics import testing
from tests.rows import ROWS, Row, over, the

# What is public and no function: results, statistics and two modules.
CLASSES = {
    "BrierDecomposition", "Constraint", "Counts", "Curve", "OperatingPoint", "Reliability",
    "Sparsification",
}  # fmt: skip
MODULES = {"diagnose", "testing"}
PUBLIC = {name for name in vars(dm) if not name.startswith("_")}
ITERATORS = {"balanced_batches", "stratified_batches"}
LOSSES = ("elements", "sets", "rankings", "pairs", "distributions")


def test_every_public_name_has_a_row():
    assert {row.name for row in ROWS} | CLASSES | MODULES == PUBLIC


def test_no_two_rows_are_alike():
    assert len({(row.id, row.softmax) for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("name", sorted(PUBLIC - MODULES))
def test_documented_with_an_example_that_runs(name: str):
    doc = inspect.getdoc(getattr(dm, name))
    assert doc is not None
    assert "Example:" in doc
    assert ">>>" in doc
    assert doc.splitlines()[0].endswith(".")


@over(lambda row: row.family in LOSSES and row.name != "score_loss", once=True)
def test_losses_take_arrays_first_and_all_else_by_keyword(row: Row):
    parameters = list(inspect.signature(row.public).parameters.values())
    count = len(row.batch) + ("multipliers" in row.traced)
    assert all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters[:count])
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[count:])
    doc = inspect.getdoc(row.public) or ""
    assert all(part in doc for part in ("Args:", "Returns:", "References:"))
    if row.family in ("elements", "sets", "rankings"):
        assert [p.name for p in parameters[:2]] == ["logits", "labels"]
    if row.family in ("sets", "rankings"):
        assert {"axis", "where", "weights"} <= {p.name for p in parameters}
    elif row.family == "elements":
        assert ".. math::" in doc
        shared = ("where", "class_axis")  # docs/arguments.md says what they are
        assert all(f"{p.name}:" in doc for p in parameters if p.name not in shared)
    if row.family == "sets":
        assert "prior" in {p.name for p in parameters}


def two_of(x: Any) -> Any:
    """Two different arguments for one: other numbers, and labels in another order."""
    if isinstance(x, jax.Array):  # a random key
        return jnp.stack([x, x])
    if np.issubdtype(np.asarray(x).dtype, np.floating):
        return np.stack([x, 0.9 * x])
    return np.stack([x, x[::-1]])


def batched(row: Row) -> tuple[Any, Any]:
    """The row as a function of arrays and hyper-parameters, under vmap, and two of each of them."""

    def of(arrays: Any, traced: Any) -> Any:
        return row(*arrays, **traced)

    return jax.vmap(of), jax.tree.map(two_of, (row.batch, row.traced))


@over(lambda row: row.name not in ITERATORS, once=True)
def test_jit_and_vmap_trace_all_arrays_and_hyper_parameters(row: Row):
    """Which compiles nothing; that the numbers are right is then for JAX, and asked of engines."""
    of, both = batched(row)
    arrays, traced = jax.tree.map(lambda x: x[0], both)
    alone = jax.eval_shape(lambda: row(*arrays, **traced))
    found = jax.eval_shape(of, *both)  # of the same types, so that one trace serves both
    expected = jax.tree.map(lambda x: jax.ShapeDtypeStruct((2, *x.shape), x.dtype), alone)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    assert [x.shape for x in jax.tree.leaves(found)] == [x.shape for x in jax.tree.leaves(expected)]


# One of each engine.
ENGINES = (
    "softmax_focal_loss", "dice_loss", "lovasz_hinge_loss", "roc_auc_loss", "aum_loss",
    "recall_at_precision_loss", "pr_auc_lagrangian", "js_divergence", "pairwise_kl_hinge_loss",
    "batch_hard_triplet_loss", "gaussian_nll", "crps_sample", "average_precision",
    "equal_error_rate", "fit_threshold", "ause", "brier_decomposition", "maximize_expected_fbeta",
)  # fmt: skip


@pytest.mark.parametrize("name", ENGINES)
def test_a_batch_of_calls_is_a_loop_of_calls(name: str):
    row = the(name)
    of, both = batched(row)
    each = [row(*a, **t) for a, t in (jax.tree.map(lambda x, i=i: x[i], both) for i in range(2))]
    looped = jax.tree.map(lambda *x: jnp.stack([*map(jnp.asarray, x)]), *each)
    chex.assert_trees_all_close(jax.jit(of)(*both), looped, rtol=1e-5, atol=1e-6)


# Without jit every primitive is compiled alone, which is why one of a family is asked.
ONE_BY_ONE = (
    "dice_loss", "lovasz_hinge_loss", "roc_auc_loss", "js_divergence", "gaussian_nll",
    "crps_sample", "curve",
)  # fmt: skip


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_engine_finds_the_same_without_jit(name: str):
    row = the(name)
    with jax.disable_jit():
        alone = row(*row.batch)
    chex.assert_trees_all_close(alone, row(*row.batch), rtol=1e-5, atol=1e-6)


def has_derivatives_of_its_own(row: Row) -> bool:
    """A face of a set loss without a number of its own has those of its engine.

    Its gradient is compared with that of the loops in `test_sets`.
    """
    face = row.family in ("sets", "rankings") and not row.engine
    return row.smooth and not (face and set(row.traced) <= set(row.constant))


@over(has_derivatives_of_its_own, once=True)
def test_derivatives_match_finite_differences(row: Row):
    """In all arrays that are numbers, and in all hyper-parameters, together."""
    moving = {i: x for i, x in enumerate(row.batch) if jnp.issubdtype(x.dtype, jnp.floating)}
    hyper = {name: x for name, x in row.traced.items() if name not in row.constant}

    def loss(moved: Any, batch: Any) -> jax.Array:
        arrays, traced = moved
        return row.total(*(arrays.get(i, x) for i, x in enumerate(batch)), **traced)

    # The polynomial of the logistic surrogate is good for 3e-7, also in the slopes.
    tolerance = 3e-6 if row.options.get("surrogate") == "logistic" else 1e-6
    testing.assert_gradient_matches_numerical(loss, (moving, hyper), row.batch, tolerance=tolerance)
