"""The promises that every public function keeps, each tested once over one table of all of them.

A new function enters here first: a public name without a row fails the suite.
"""

from __future__ import annotations

import ast
import dataclasses
import graphlib
import inspect
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffmetrics as dm
from diffmetrics import testing
from tests import ROOT
from tests.contract import per_example

rng = np.random.default_rng(0)
BINARY = (rng.normal(size=(12, 3)).astype(np.float32), rng.integers(0, 2, (12, 3)))
CLASSES = (rng.normal(size=(12, 4)).astype(np.float32), np.tile(np.arange(4), 3))
CELLS = dm.Counts(tp=np.array([6.0, 1.0]), fp=np.array([2.0, 3.0]), fn=np.array([1.0, 2.0]), tn=5.0)
MATRIX = rng.integers(1, 9, (4, 4)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class LossRow:
    """One loss with what distinguishes it; everything else is asked of all alike."""

    name: str
    loss: Callable[..., jax.Array]
    batch: tuple[np.ndarray, np.ndarray] = BINARY
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    # The exact metric to which one minus the loss tends as the logits sharpen.
    metric: Callable[[dm.Counts], jax.Array] | None = None
    # Float hyper-parameters, which must be traced.
    traced: dict[str, Any] = dataclasses.field(default_factory=dict)


SOFTMAX = {"activation": jax.nn.softmax}
MACRO = {"activation": jax.nn.softmax, "axis": 0}
LOSSES = [
    LossRow("fbeta_loss", dm.fbeta_loss, metric=partial(dm.fbeta, beta=2.0), traced={"beta": 2.0}),
    LossRow("dice_loss", dm.dice_loss, metric=dm.dice),
    LossRow("jaccard_loss", dm.jaccard_loss, metric=dm.jaccard),
    LossRow(
        "tversky_loss",
        dm.tversky_loss,
        metric=partial(dm.tversky, fp_weight=0.3, fn_weight=0.9),
        traced={"fp_weight": 0.3, "fn_weight": 0.9},
    ),
    LossRow(
        "focal_tversky_loss",
        dm.focal_tversky_loss,
        metric=lambda c: 1 - (1 - dm.tversky(c, fp_weight=0.3, fn_weight=0.9)) ** 0.6,
        traced={"fp_weight": 0.3, "fn_weight": 0.9, "gamma": 0.6},
    ),
    LossRow("mcc_loss", dm.mcc_loss, metric=dm.mcc),
    LossRow("balanced_accuracy_loss", dm.balanced_accuracy_loss, metric=dm.balanced_accuracy),
    LossRow("squared_dice_loss", dm.squared_dice_loss, metric=dm.dice),
    LossRow("generalized_dice_loss", dm.generalized_dice_loss),
    LossRow("lovasz_hinge_loss", dm.lovasz_hinge_loss),
    LossRow("lovasz_softmax_loss", dm.lovasz_softmax_loss, batch=CLASSES),
    LossRow("score_loss", dm.score_loss(dm.informedness), metric=dm.informedness),
    # The same losses where classes compete and labels are ids.
    LossRow("dice_loss", dm.dice_loss, batch=CLASSES, options=MACRO),
    LossRow("fbeta_loss", dm.fbeta_loss, batch=CLASSES, options=MACRO, traced={"beta": 0.5}),
    LossRow("mcc_loss", dm.mcc_loss, batch=CLASSES, options=MACRO),
    LossRow("squared_dice_loss", dm.squared_dice_loss, batch=CLASSES, options=MACRO),
    LossRow("generalized_dice_loss", dm.generalized_dice_loss, batch=CLASSES, options=SOFTMAX),
]
SCORES: dict[str, Callable[..., jax.Array]] = {
    "accuracy": dm.accuracy,
    "balanced_accuracy": dm.balanced_accuracy,
    "cohen_kappa": dm.cohen_kappa,
    "dice": dm.dice,
    "fbeta": partial(dm.fbeta, beta=2.0),
    "fowlkes_mallows": dm.fowlkes_mallows,
    "geometric_mean": dm.geometric_mean,
    "informedness": dm.informedness,
    "jaccard": dm.jaccard,
    "mcc": dm.mcc,
    "negative_predictive_value": dm.negative_predictive_value,
    "precision": dm.precision,
    "prevalence": dm.prevalence,
    "recall": dm.recall,
    "specificity": dm.specificity,
    "tversky": partial(dm.tversky, fp_weight=0.3, fn_weight=0.9),
}
MATRIX_SCORES: dict[str, Callable[..., jax.Array]] = {
    "multiclass_kappa": dm.multiclass_kappa,
    "multiclass_mcc": dm.multiclass_mcc,
}
# Their rows are in per_example.py, their contract in test_contract_per_example.py.
PER_EXAMPLE = {row.name for row in per_example.ROWS}
# Losses of pairs take two arrays of logits or embeddings; test_divergence.py, test_embedding.py.
DIVERGENCES = {
    f"{name}_divergence{given}"
    for name in ("kl", "symmetric_kl", "js")
    for given in ("", "_from_probabilities")
}
PAIRS = DIVERGENCES | {
    "kl_hinge_loss",
    "pairwise_kl_hinge_loss",
    "contrastive_loss",
    "triplet_loss",
    "batch_hard_triplet_loss",
    "angular_margin_loss",  # of cosines, which have a range of their own
}
# Losses of a ranking; test_ranking.py.
RANKINGS = {
    "roc_auc_loss",
    "partial_roc_auc_loss",
    "average_precision_loss",
    "aucm_loss",
    "aum_loss",
}
# Losses that have a target, and of the second form a state; test_constrained.py.
OPERATING_POINTS = {
    f"{name}_{form}"
    for name in (
        "precision_at_recall",
        "recall_at_precision",
        "tpr_at_fpr",
        "fpr_at_tpr",
        "pr_auc",
    )
    for form in ("loss", "lagrangian")
} - {"fpr_at_tpr_lagrangian"} | {"Constraint", "dual_update"}
STATISTICS = {"Counts", "counts", "confusion", "one_vs_rest"}
# Read off counts with a thresholds axis, or off probabilities; test_curves.py.
CURVES = {
    "Curve",
    "OperatingPoint",
    "curve",
    "threshold_counts",
    "roc_curve",
    "precision_recall_curve",
    "detection_error_curve",
    "roc_auc",
    "partial_roc_auc",
    "average_precision",
    "recall_at_precision",
    "precision_at_recall",
    "tpr_at_fpr",
    "best_fbeta",
    "min_detection_cost",
    "equal_error_rate",
    "log_loss",
    "top_k_accuracy",
}
# test_imbalance.py, test_decision.py and test_batches.py.
DECISIONS = {
    "balanced_class_weights",
    "effective_number_weights",
    "correct_prior",
    "correct_class_priors",
    "estimate_prior",
    "estimate_class_priors",
    "fit_threshold",
    "bootstrap_threshold",
    "bayes_threshold",
    "expected_fbeta",
    "maximize_expected_fbeta",
    "balanced_batches",
    "stratified_batches",
}
# Their rows and their contract are in test_probabilistic.py.
PROBABILISTIC = {
    "scale_from_raw",
    "gaussian_nll",
    "beta_nll",
    "faithful_nll",
    "laplace_nll",
    "student_t_nll",
    "crps_gaussian",
    "crps_sample",
    "crps_mixture",
    "pinball_loss",
    "interval_score",
    "kl_normal",
    "elbo_loss",
    "mixture_log_likelihood",
    "moment_matched_log_likelihood",
    "decompose_variance",
}
# test_calibration.py
CALIBRATION = {
    "normal_interval",
    "interval_coverage",
    "probability_integral_transform",
    "regression_calibration_error",
    "normalized_calibration_error",
    "sharpness",
    "Sparsification",
    "sparsification_curve",
    "ause",
    "risk_at_coverage",
    "rank_correlation",
    "attainable",
    "Reliability",
    "reliability_bins",
    "expected_calibration_error",
    "adaptive_calibration_error",
    "debiased_calibration_error",
    "BrierDecomposition",
    "brier_decomposition",
    "fit_scale",
    "fit_temperature",
    "conformal_quantile",
}
# test_compose.py
COMPOSITION = {
    "combine",
    "uncertainty_weights",
    "dynamic_average_weights",
    "gradient_norm_weights",
}
MODULES = {"diagnose", "testing"}


def over(chosen: Callable[[LossRow], bool]) -> pytest.MarkDecorator:
    """A test of every chosen row."""
    rows = [row for row in LOSSES if chosen(row)]
    names = [f"{row.name}-{'ids' if row.batch is CLASSES else 'binary'}" for row in rows]
    return pytest.mark.parametrize("row", rows, ids=names)


over_losses = over(lambda row: True)
over_scores = pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)


def test_every_public_name_has_a_row():
    public = {name for name in vars(dm) if not name.startswith("_")}
    scores = set(SCORES) | set(MATRIX_SCORES)
    losses = {row.name for row in LOSSES} | PER_EXAMPLE | PAIRS | RANKINGS
    losses |= OPERATING_POINTS | PROBABILISTIC
    others = STATISTICS | CURVES | DECISIONS | CALIBRATION | COMPOSITION | MODULES
    assert public == others | scores | losses


# --- losses ---------------------------------------------------------------------------------------


@over_losses
def test_loss_is_finite_for_every_finite_logit(row: LossRow):
    testing.assert_gradient_finite(row.loss, *row.batch, **row.options, **row.traced)


@over_losses
def test_derivatives_match_finite_differences(row: LossRow):
    testing.assert_gradient_matches_numerical(row.loss, *row.batch, **row.options, **row.traced)


@over_losses
def test_loss_agrees_under_jit_and_vmap(row: LossRow):
    testing.assert_jit_and_vmap_agree(row.loss, *row.batch, **row.options, **row.traced)


@over_losses
def test_order_of_examples_does_not_matter(row: LossRow):
    testing.assert_order_invariant(row.loss, *row.batch, **row.options, **row.traced)


@over_losses
def test_wrong_shapes_raise(row: LossRow):
    testing.assert_shapes_checked(row.loss, *row.batch, **row.options)
    flat = (row.batch[0][:, 0], row.batch[1].reshape(12, -1)[:, 0])
    if row.name not in ("lovasz_softmax_loss", "generalized_dice_loss"):
        testing.assert_shapes_checked(row.loss, *flat)


@over_losses
def test_hidden_examples_are_absent(row: LossRow):
    testing.assert_where_selects(row.loss, *row.batch, **row.options, **row.traced)


@over_losses
def test_weights_are_multiplicities(row: LossRow):
    testing.assert_weights_count(row.loss, *row.batch, **row.options, **row.traced)


@over_losses
def test_narrow_floats_are_accumulated_in_float32(row: LossRow):
    testing.assert_accumulates_in_float32(row.loss, *row.batch, **row.options, **row.traced)


@over(lambda row: row.metric is not None)
def test_soft_tends_to_hard(row: LossRow):
    metric = row.metric
    assert metric is not None
    testing.assert_tends_to_metric(
        partial(row.loss, **row.traced), lambda p, y: metric(dm.counts(p, y)), *BINARY
    )


@over_losses
def test_perfect_prediction_costs_nothing(row: LossRow):
    labels = row.batch[1]
    one_hot = labels if labels.ndim == 2 else labels[:, None] == np.arange(4)
    perfect = np.where(one_hot, 100.0, -100.0).astype(np.float32)
    worst = row.loss(-perfect, labels, **row.options, **row.traced)
    best = row.loss(perfect, labels, **row.options, **row.traced)
    chex.assert_trees_all_close(best, jnp.zeros_like(best), atol=1e-6)
    assert jnp.all(worst > 0.45)


@over_losses
def test_hyper_parameters_are_traced_and_can_be_swept(row: LossRow):
    for name, value in row.traced.items():
        others = {k: v for k, v in row.traced.items() if k != name}

        def at(x: Any, name: str = name, others: dict[str, float] = others) -> jax.Array:
            return row.loss(*row.batch, **row.options, **others, **{name: x})

        swept = jax.vmap(at)(jnp.array([value, 2 * value]))
        chex.assert_trees_all_close(
            swept, jnp.stack([at(value), at(2 * value)]), rtol=1e-5, atol=1e-6
        )


@over_losses
def test_axis_keeps_the_rest(row: LossRow):
    logits, labels = row.batch
    images = np.stack([logits, -logits, 2 * logits])
    masks = np.stack([labels, labels[::-1], labels])
    axis = (1,) if row.batch is CLASSES else (1, 2)
    if row.name == "generalized_dice_loss":
        axis = (1,)
    options = {**row.options, **row.traced}
    options.pop("axis", None)
    alone = [
        row.loss(z, y, **{**options, "axis": tuple(a - 1 for a in axis)})
        for z, y in zip(images, masks, strict=True)
    ]
    chex.assert_trees_all_close(
        row.loss(images, masks, axis=axis, **options), jnp.stack(alone), rtol=1e-5, atol=1e-6
    )


@over_losses
def test_lists_are_accepted(row: LossRow):
    logits, labels = row.batch
    listed = row.loss(logits.tolist(), labels.tolist(), **row.options, **row.traced)
    arrays = row.loss(logits, labels, **row.options, **row.traced)
    chex.assert_trees_all_close(listed, arrays, rtol=1e-6)


@over_losses
def test_bad_arguments_are_named(row: LossRow):
    logits, labels = row.batch
    with pytest.raises(TypeError, match="logits must be floating"):
        row.loss(logits.astype(int), labels, **row.options)
    with pytest.raises(TypeError, match="where must be boolean"):
        row.loss(logits, labels, where=np.ones(logits.shape), **row.options)
    with pytest.raises(ValueError, match=r"where must broadcast to logits: where is \(5,\)"):
        row.loss(logits, labels, where=np.ones(5, bool), **row.options)
    with pytest.raises(ValueError, match="weights must broadcast to logits"):
        row.loss(logits, labels, weights=np.ones(5), **row.options)
    with pytest.raises(TypeError, match="weights must be numbers"):
        row.loss(logits, labels, weights=np.ones(logits.shape, bool), **row.options)
    with pytest.raises(ValueError, match="axis must lie in"):
        row.loss(logits, labels, **{**row.options, "axis": 7})
    with pytest.raises(ValueError, match="labels must have the shape of logits"):
        row.loss(logits, np.eye(5)[np.zeros(12, int)], **row.options)
    with pytest.raises(TypeError, match=r"Counts\(tp=1.0\)"):
        row.loss(logits, labels, prior=1.0, **row.options)


@over(lambda row: row.batch is CLASSES)
def test_class_ids_equal_their_one_hot(row: LossRow):
    logits, ids = CLASSES
    one_hot = (ids[:, None] == np.arange(4)).astype(np.float32)
    chex.assert_trees_all_close(
        row.loss(logits, ids, **row.options, **row.traced),
        row.loss(logits, one_hot, **row.options, **row.traced),
        rtol=1e-6,
    )


# An absent class is left out, and to the Lovász hinge the empty set is a lesson already.
@over(
    lambda row: (
        row.batch is BINARY and row.name not in ("lovasz_hinge_loss", "generalized_dice_loss")
    )
)
def test_a_prior_teaches_emptiness(row: LossRow):
    logits, labels = BINARY[0], np.zeros_like(BINARY[1])
    prior = dm.Counts(tp=1.0, tn=1.0)
    gradient = jax.grad(lambda z: row.loss(z, labels, prior=prior, **row.options, **row.traced))
    assert jnp.all(gradient(logits) > 0)


# --- scores ---------------------------------------------------------------------------------------


@over_scores
def test_score_is_finite_on_empty_cells(score: Callable[..., jax.Array]):
    for mask in np.ndindex(2, 2, 2, 2):
        cells = [3.0 * m for m in mask]
        value = score(dm.Counts(*cells))
        gradient = jax.grad(lambda *c: score(dm.Counts(*c)), argnums=(0, 1, 2, 3))(*cells)
        chex.assert_tree_all_finite((value, gradient))


@over_scores
def test_score_agrees_under_jit_and_vmap_and_on_the_host(score: Callable[..., jax.Array]):
    cells = jax.tree.map(lambda cell: jnp.broadcast_to(cell, (2,)), CELLS)
    value = score(CELLS)
    chex.assert_shape(value, (2,))
    chex.assert_trees_all_close(jax.jit(score)(cells), value)
    chex.assert_trees_all_close(jax.vmap(score)(cells), value, rtol=1e-6)
    chex.assert_trees_all_close(score(cells.to_host()), value, rtol=1e-6)


@over_scores
def test_score_does_not_depend_on_the_unit_of_counting(score: Callable[..., jax.Array]):
    for factor in (1e-6, 1e9):
        scaled = jax.tree.map(lambda cell, f=factor: cell * f, CELLS)
        chex.assert_trees_all_close(score(scaled), score(CELLS), rtol=1e-5)


@over_scores
def test_score_of_integer_cells_does_not_overflow(score: Callable[..., jax.Array]):
    large = jax.tree.map(lambda cell: jnp.asarray(cell * 300_000_000, jnp.int32), CELLS)
    chex.assert_trees_all_close(score(large), score(CELLS), rtol=1e-5)


@pytest.mark.parametrize("score", MATRIX_SCORES.values(), ids=MATRIX_SCORES)
def test_matrix_score_agrees_under_jit_and_vmap(score: Callable[..., jax.Array]):
    stack = np.stack([MATRIX, MATRIX.T + 1])
    each = jnp.stack([score(m) for m in stack])
    chex.assert_trees_all_close(score(stack), each, rtol=1e-5)
    chex.assert_trees_all_close(jax.jit(jax.vmap(score))(stack), each, rtol=1e-5)
    chex.assert_tree_all_finite(jax.grad(score)(jnp.zeros((3, 3))))
    with pytest.raises(ValueError, match=r"matrix must have shape \[..., C, C\], got \(2, 3\)"):
        score(np.ones((2, 3)))


# --- conventions of the source --------------------------------------------------------------------


def _functions() -> list[Any]:
    named = [getattr(dm, name) for name in vars(dm) if not name.startswith("_")]
    return [f for f in named if callable(f)]


@pytest.mark.parametrize("function", _functions(), ids=lambda f: f.__name__)
def test_documented_with_an_example_that_runs(function: Any):
    doc = inspect.getdoc(function)
    assert doc is not None
    assert "Example:" in doc
    assert ">>>" in doc
    assert doc.splitlines()[0].endswith(".")


@over(lambda row: row.name != "score_loss")
def test_options_are_keyword_only_and_named_alike(row: LossRow):
    parameters = list(inspect.signature(row.loss).parameters.values())
    assert [p.name for p in parameters[:2]] == ["logits", "labels"]
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[2:])
    assert {"axis", "where", "weights", "prior"} <= {p.name for p in parameters}
    doc = inspect.getdoc(row.loss) or ""
    assert "References:" in doc
    assert "Returns:" in doc


# Who may import whom: a package may use only what is listed below it, and itself.
FLOORS = (
    {"_core"},
    {"_metrics"},
    {"_losses"},
    {"_decisions", "_training"},
    {"diagnose"},
    {"testing"},
    {"__init__"},
)
LIBRARY = Path(dm.__file__).parent


def _imported(source: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def _modules() -> dict[str, Path]:
    """The files of the library by module, below the name of the package."""
    found = {}
    for path in LIBRARY.rglob("*.py"):
        parts = path.relative_to(LIBRARY).with_suffix("").parts
        package = len(parts) > 1 and parts[-1] == "__init__"
        found[".".join(parts[:-1] if package else parts)] = path
    return found


def _arrows() -> dict[str, set[str]]:
    """Which modules of the library each of them imports."""
    modules = _modules()
    below = {
        name: {i.removeprefix("diffmetrics.") for i in _imported(path.read_text())}
        for name, path in modules.items()
    }
    # A package is named on the way to its files, and when it is empty nothing hangs on it.
    empty = {name for name, path in modules.items() if not path.read_text().strip()}
    return {name: (some & set(modules)) - {name} - empty for name, some in below.items()}


def test_arrows_go_down():
    floor = {name: height for height, names in enumerate(FLOORS) for name in names}
    arrows = _arrows()
    assert {name.split(".")[0] for name in arrows} == set(floor)
    for name, imports in arrows.items():
        room = name.split(".")[0]
        for imported in imports:
            below = imported.split(".")[0]
            assert below == room or floor[below] < floor[room], f"{name} imports {imported}"


def test_families_of_losses_do_not_know_each_other():
    for name, imports in _arrows().items():
        for imported in imports:
            if name.startswith("_losses.") and imported.startswith("_losses."):
                assert name.split(".")[1] == imported.split(".")[1], f"{name} imports {imported}"


def test_no_import_goes_round_in_a_circle():
    # A file of the loss doctor may name its own package on the way to a sibling.
    arrows = {n: {i for i in some if not n.startswith(f"{i}.")} for n, some in _arrows().items()}
    tuple(graphlib.TopologicalSorter(arrows).static_order())  # raises CycleError


def test_library_needs_only_jax_chex_and_numpy():
    allowed = {"jax", "chex", "numpy", "diffmetrics", "__future__"}
    allowed |= set(sys.stdlib_module_names)
    for name, path in _modules().items():
        roots = {name.split(".")[0] for name in _imported(path.read_text())}
        assert roots <= allowed, name


@pytest.mark.parametrize("folder", ["experiments", "benchmarks"])
def test_users_of_the_library_stay_out_of_its_private_rooms(folder: str):
    for path in (ROOT / folder).rglob("*.py"):
        private = [n for n in _imported(path.read_text()) if n.startswith("diffmetrics._")]
        assert not private, f"{path.name} imports {private}"
