"""Scores against scikit-learn where it has them and against the plain definitions everywhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings, strategies as st

import diffmetrics as dm
from tests.references import sets as reference
from tests.rows import CELLS, MATRIX, Row, of, over

Score = Callable[..., jax.Array]

# Ours, and scikit-learn's of (labels, predictions).
BINARY: dict[str, tuple[Score, Callable[..., float]]] = {
    "accuracy": (dm.accuracy, sk.accuracy_score),
    "balanced_accuracy": (dm.balanced_accuracy, sk.balanced_accuracy_score),
    "precision": (dm.precision, sk.precision_score),
    "recall": (dm.recall, sk.recall_score),
    "specificity": (dm.specificity, partial(sk.recall_score, pos_label=0)),
    "negative_predictive_value": (
        dm.negative_predictive_value,
        partial(sk.precision_score, pos_label=0),
    ),
    "dice": (dm.dice, sk.f1_score),
    "fbeta": (partial(dm.fbeta, beta=2.0), partial(sk.fbeta_score, beta=2.0)),
    "jaccard": (dm.jaccard, sk.jaccard_score),
    "mcc": (dm.mcc, sk.matthews_corrcoef),
    "cohen_kappa": (dm.cohen_kappa, sk.cohen_kappa_score),
}
with_sklearn = pytest.mark.parametrize(("ours", "theirs"), BINARY.values(), ids=BINARY)
over_scores = over(lambda row: row.family == "scores")
over_matrices = over(lambda row: row.family == "matrices")


def random_labels(seed: int, positives: float = 0.3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, predictions that are right four times in five, and sample weights."""
    rng = np.random.default_rng(seed)
    labels = rng.random(300) < positives
    predictions = labels ^ (rng.random(300) < 0.2)
    return labels, predictions, rng.uniform(0.1, 3.0, 300)


# --- two classes ----------------------------------------------------------------------------------


@with_sklearn
@pytest.mark.parametrize("positives", [0.5, 0.02])
def test_score_matches_sklearn(ours: Score, theirs: Callable[..., float], positives: float):
    labels, predictions, weights = random_labels(1, positives)
    plain = ours(dm.counts(predictions, labels))
    np.testing.assert_allclose(plain, theirs(labels, predictions), rtol=1e-5)
    weighted = ours(dm.counts(predictions, labels, weights=weights))
    np.testing.assert_allclose(
        weighted, theirs(labels, predictions, sample_weight=weights), rtol=1e-5
    )


def defined(row: Row, cells: Iterable[float]) -> float:
    assert row.reference is not None
    return row.reference(reference.Counts(*cells), **row.traced)


@over_scores
def test_degenerate_score_is_zero_where_it_divides_by_zero_and_its_gradient_finite(row: Row):
    gradient = jax.jit(jax.grad(row.loss))
    for table in np.ndindex(2, 2, 2, 2):
        cells = [float(n * filled) for n, filled in zip((5, 3, 7, 11), table, strict=True)]
        expected = defined(row, cells)
        np.testing.assert_allclose(row(dm.Counts(*cells)), expected, rtol=2e-6, err_msg=f"{cells}")
        chex.assert_tree_all_finite(gradient(dm.Counts(*cells)))


@over_scores
@settings(deadline=None, max_examples=30)
@given(cells=st.tuples(*[st.integers(1, 10**6)] * 4))
def test_score_matches_its_definition(row: Row, cells: tuple[int, int, int, int]):
    # Correlations can nearly vanish, which leaves an absolute error of single precision.
    expected = defined(row, cells)
    np.testing.assert_allclose(row(dm.Counts(*cells)), expected, rtol=1e-5, atol=1e-6)


@over_scores
def test_score_does_not_depend_on_the_unit_of_counting(row: Row):
    for factor in (1e-6, 1e9):
        scaled = jax.tree.map(lambda cell, f=factor: cell * f, CELLS)
        chex.assert_trees_all_close(row(scaled), row(CELLS), rtol=1e-5)


def test_fowlkes_mallows_of_two_clusterings_is_that_of_their_pairs():
    first, second = np.random.default_rng(2).integers(0, 3, (2, 40))
    i, j = np.triu_indices(40, 1)
    together = dm.counts(second[i] == second[j], first[i] == first[j])
    expected = sk.fowlkes_mallows_score(first, second)
    np.testing.assert_allclose(dm.fowlkes_mallows(together), expected, rtol=1e-6)


def exact_mcc(tp: int, fp: int, fn: int, tn: int) -> float:
    """Matthews correlation from integers of any length."""
    margins = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return float((tp * tn - fp * fn) / Fraction(math.isqrt(margins * 10**20), 10**10))


@pytest.mark.parametrize(
    "cells",
    [
        (6 * 10**9, 10**9, 10**9, 2 * 10**9),
        (900, 300, 100, 10**10),
        (9, 10**6, 1, 10**10),
        (10**10, 1, 10**5, 3),
        (1, 2, 2, 10**10),
    ],
)
def test_mcc_of_ten_billion_samples(cells: tuple[int, int, int, int]):
    np.testing.assert_allclose(dm.mcc(dm.Counts(*cells)), exact_mcc(*cells), atol=1e-6, rtol=1e-5)


@over_scores
def test_score_of_integer_counts_at_the_end_of_int32_and_of_host_totals(row: Row):
    cells = (2**31 - 1, 2**30, 2**29, 2**31 - 1)
    counted = dm.Counts(*(jnp.asarray(cell, jnp.int32) for cell in cells))
    np.testing.assert_allclose(row(counted), defined(row, cells), rtol=2e-6)
    cells = (10**11, 10**10, 3 * 10**10, 10**12)
    np.testing.assert_allclose(row(dm.Counts(*cells).to_host()), defined(row, cells), rtol=2e-6)


# --- averages over classes ------------------------------------------------------------------------


def random_ids(seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Class ids of unequal frequency and predictions that are right two times in three."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, 500, p=[0.7, 0.2, 0.09, 0.01])
    return labels, np.where(rng.random(500) < 2 / 3, labels, rng.integers(0, 4, 500))


AVERAGED: dict[str, tuple[Score, Callable[..., float]]] = {
    "fbeta": (partial(dm.fbeta, beta=0.5), partial(sk.fbeta_score, beta=0.5)),
    "precision": (dm.precision, sk.precision_score),
    "recall": (dm.recall, sk.recall_score),
    "jaccard": (dm.jaccard, sk.jaccard_score),
}
over_averaged = pytest.mark.parametrize(("ours", "theirs"), AVERAGED.values(), ids=AVERAGED)


@over_averaged
def test_averages_over_exclusive_classes_match_sklearn(ours: Score, theirs: Callable[..., float]):
    labels, predictions = random_ids()
    each = dm.one_vs_rest(dm.confusion(predictions, labels, 4))
    values = {
        "macro": ours(each).mean(),
        "weighted": np.average(ours(each), weights=each.tp + each.fn),
        "micro": ours(each.sum()),
    }
    for average, value in values.items():
        expected = theirs(labels, predictions, average=average, zero_division=0)
        np.testing.assert_allclose(value, expected, rtol=1e-5, err_msg=average)


@over_averaged
def test_averages_over_many_labels_are_axes(ours: Score, theirs: Callable[..., float]):
    rng = np.random.default_rng(4)
    labels = rng.random((200, 5)) < np.array([0.5, 0.3, 0.1, 0.02, 0.0])
    predictions = labels ^ (rng.random(labels.shape) < 0.1)
    values = {
        "macro": ours(dm.counts(predictions, labels, axis=0)).mean(),
        "micro": ours(dm.counts(predictions, labels)),
        "samples": ours(dm.counts(predictions, labels, axis=1)).mean(),
    }
    for average, value in values.items():
        expected = theirs(labels, predictions, average=average, zero_division=0)
        np.testing.assert_allclose(value, expected, rtol=1e-5, err_msg=average)


# --- scores of a confusion matrix -----------------------------------------------------------------

WEIGHTINGS = {"unweighted": None, "linear": "linear", "quadratic": "quadratic"}


def test_multiclass_mcc_matches_sklearn_and_definition():
    labels, predictions = random_ids()
    matrix = dm.confusion(predictions, labels, 4)
    expected = sk.matthews_corrcoef(labels, predictions)
    np.testing.assert_allclose(dm.multiclass_mcc(matrix), expected, rtol=1e-5)
    np.testing.assert_allclose(reference.multiclass_mcc(matrix), expected)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_multiclass_kappa_matches_sklearn_and_definition(weighting: Any):
    labels, predictions = random_ids()
    matrix = dm.confusion(predictions, labels, 4)
    expected = sk.cohen_kappa_score(labels, predictions, weights=WEIGHTINGS[weighting])
    ours = dm.multiclass_kappa(matrix, weighting=weighting)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)
    np.testing.assert_allclose(reference.multiclass_kappa(matrix, weighting=weighting), expected)


@pytest.mark.parametrize(
    "matrix",
    [
        np.zeros((3, 3)),
        np.diag([4, 0, 0]),
        np.diag([4, 2, 0]),
        [[3, 0, 0], [2, 0, 0], [1, 0, 0]],
        [[3, 2, 1], [0, 0, 0], [0, 0, 0]],
        [[0, 5], [7, 0]],
    ],
    ids=["empty", "one class", "absent class", "one prediction", "one label", "all wrong"],
)
def test_degenerate_matrix_matches_definition(matrix: Any):
    for row in of("matrices"):
        assert row.reference is not None
        expected = row.reference(matrix, **row.options)
        np.testing.assert_allclose(row(matrix), expected, atol=1e-6)


@over_matrices
def test_matrix_score_takes_a_stack_of_square_ones(row: Row):
    stack = np.stack([MATRIX, MATRIX.T + 1])
    each = np.stack([row(m) for m in stack])
    np.testing.assert_allclose(row(stack), each, rtol=1e-5)
    chex.assert_tree_all_finite(jax.jit(jax.grad(row.loss))(np.zeros((3, 3), np.float32)))
    with pytest.raises(ValueError, match=r"matrix must have shape \[..., C, C\], got \(2, 3\)"):
        row(np.ones((2, 3)))


# One class holds 99.999 % of ten billion samples, so that 1 - Σ t² is the difference of two numbers
# that single precision cannot tell apart.
LOPSIDED = np.array(
    [[9_999_900_000, 20_000, 300], [10_000, 60_000, 2_000], [500, 1_000, 26_200]], np.int64
)


@over_matrices
def test_matrix_score_keeps_its_digits_when_one_class_holds_nearly_everything(row: Row):
    assert row.reference is not None
    expected = row.reference(LOPSIDED, **row.options)
    np.testing.assert_allclose(row(LOPSIDED), expected, rtol=1e-5)


def test_unknown_weighting_is_named():
    with pytest.raises(ValueError, match=r"weighting must be one of .*'linear'.* got 'cubic'"):
        dm.multiclass_kappa(LOPSIDED, weighting="cubic")  # pyright: ignore[reportArgumentType]


# --- what a score takes ---------------------------------------------------------------------------

DECISIONS, TRUTH = np.array([True, False]), np.array([1, 0])
NOT_COUNTS: dict[str, tuple[Callable[[], Any], str]] = {
    "both and beta": (lambda: dm.fbeta(DECISIONS, TRUTH, beta=2.0), "fbeta .* bool of shape"),  # type: ignore
    "both": (lambda: dm.precision(DECISIONS, TRUTH), "precision .* bool of shape"),  # type: ignore
    "lists": (lambda: dm.recall([1, 0], [1, 0]), "recall takes Counts, got list"),  # type: ignore
    "by name": (lambda: dm.dice(counts=TRUTH), "dice takes Counts, got int64 of shape"),  # type: ignore
    "matrix": (lambda: dm.mcc(jnp.eye(3)), r"mcc.* \(3, 3\).* mcc\(one_vs_rest\(matrix\)\)"),  # type: ignore
    "jit": (lambda: jax.jit(dm.jaccard)(jnp.eye(3)), "jaccard takes Counts, got float32"),
}


@pytest.mark.parametrize(("call", "message"), NOT_COUNTS.values(), ids=NOT_COUNTS)
def test_a_score_says_that_it_takes_counts(call: Callable[[], Any], message: str):
    with pytest.raises(TypeError, match=f"(?s){message}"):
        call()
    with pytest.raises(TypeError, match=r"\(counts\(predictions, labels\)\), of class ids"):
        call()


@over_matrices
def test_a_score_of_a_matrix_is_no_score_of_counts(row: Row):
    message = f"{row.name} takes a confusion matrix .*, got Counts.* such as mcc"
    with pytest.raises(TypeError, match=message):
        row(CELLS)
    with pytest.raises(TypeError, match=message):
        dm.score_loss(row.loss)(jnp.ones(3), jnp.ones(3))


# --- types and shapes -----------------------------------------------------------------------------


@over_scores
def test_score_has_the_type_of_its_counts(row: Row):
    with jax.enable_x64(True):
        for dtype in (jnp.float32, jnp.float64):
            cells = [jnp.asarray(cell.astype(dtype)) for cell in jax.tree.leaves(CELLS)]
            mixed = dm.Counts(cells[0], cells[1].astype(jnp.int32), cells[2], 5.0)
            for counts in (dm.Counts(*cells), mixed):
                value = jax.eval_shape(lambda counts=counts: row(counts))  # which compiles nothing
                assert value.dtype == dtype


def test_beta_may_differ_from_set_to_set():
    counted = dm.Counts(*np.array([[6.0, 1.0], [2.0, 3.0], [1.0, 2.0], [5.0, 5.0]]))
    both = jax.tree.map(lambda cell: np.stack([cell, cell + 1]), counted)
    betas = np.array([0.5, 2.0], np.float32)
    each = [[dm.fbeta(both[i, j], beta=betas[j]) for j in range(2)] for i in range(2)]
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        np.testing.assert_allclose(dm.fbeta(both, beta=betas), each, rtol=1e-6)
        np.testing.assert_allclose(dm.fbeta(both[0, 0], beta=betas).shape, (2,))


def test_fbeta_keeps_its_digits_for_a_large_beta():
    found = dm.fbeta(dm.Counts(tp=1.0, fp=1e7, fn=0.0), beta=1e4)
    np.testing.assert_allclose(found, (1 + 1e8) / (1 + 1e8 + 1e7), rtol=1e-6)


@over_matrices
def test_matrix_score_under_strict_promotion(row: Row):
    whole = row(np.stack([MATRIX, MATRIX]))
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        for dtype in (jnp.int32, jnp.int8, jnp.float32):
            found = row(jnp.asarray(np.stack([MATRIX] * 2).astype(dtype)))
            np.testing.assert_allclose(found, whole, rtol=1e-6)
    with jax.enable_x64(True):
        chex.assert_type(row(jnp.asarray(MATRIX, jnp.float32)), jnp.float32)
