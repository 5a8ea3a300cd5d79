"""Losses at an operating point: their ends and ties, what they report, their source's example."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

import diffmetrics as dm
from diffmetrics._core import order
from diffmetrics._losses.rankings import order_statistics
from tests.references import operating_points as reference
from tests.rows import of, the

rng = np.random.default_rng(0)
SHAPE = (2, 9, 4)
LOGITS = rng.normal(scale=2.0, size=SHAPE)
LABELS = rng.integers(0, 2, SHAPE)
KEEP = rng.random(SHAPE) < 0.7
FACTORS = rng.uniform(0.5, 2.0, SHAPE)

AT_A_POINT = [row for row in of("rankings") if hasattr(reference, row.name) or "pr_auc" in row.name]
QUANTILE = [row.name for row in AT_A_POINT if row.name.endswith("_loss")]
TARGET = {name: the(name).traced for name in QUANTILE if the(name).traced}
LAGRANGIAN = {
    row.name: {k: v for k, v in row.traced.items() if k != "multipliers"}
    for row in AT_A_POINT
    if row.name.endswith("_lagrangian") and row.reference
}
over_surrogates = pytest.mark.parametrize("surrogate", ["logistic", "hinge"])


def over(names: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", dict.fromkeys(names))


# --- what they report, and their targets ----------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"axis": 1, "where": KEEP[:, :, :1], "weights": FACTORS[0]},
        {"axis": 1, "surrogate": "hinge", "weights": FACTORS, "prevalence": 0.3},
    ],
    ids=["logistic", "hinge"],
)
@over(LAGRANGIAN)
def test_loss_and_constraint_of_a_lagrangian_match_the_loops(name: str, options: dict[str, Any]):
    options = {**options, **LAGRANGIAN[name]}
    value, constraint = getattr(dm, name)(LOGITS, LABELS, 1.5, **options)
    ours = (value, constraint.tp_lower, constraint.fp_upper, constraint.violation)
    expected = getattr(reference, name)(LOGITS, LABELS, 1.5, **options)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-6)


@over([*TARGET, *LAGRANGIAN])
def test_targets_are_one_per_loss(name: str):
    (target,) = TARGET.get(name) or LAGRANGIAN[name]
    z, y = LOGITS[0], LABELS[0]
    several = np.array([0.2, 0.5, 0.7, 0.9], np.float32)
    loss = the(name)
    with pytest.raises(ValueError, match=rf"{target} must broadcast to the loss: .* is \(4,\)"):
        jax.eval_shape(lambda: loss(z, y, **{target: several}))
    if not loss.engine:
        return
    together = loss(z, y, axis=0, **{target: several})
    alone = [loss(z[:, c], y[:, c], **{target: t}) for c, t in enumerate(several.tolist())]
    chex.assert_trees_all_close(together, jax.tree.map(lambda *x: jnp.stack(x), *alone), rtol=1e-5)


# --- the quantile form ----------------------------------------------------------------------------


@over(TARGET)
@pytest.mark.parametrize("rate", [0.05, 1.0])
def test_quantile_form_matches_the_loops_at_the_ends_of_its_targets(name: str, rate: float):
    (target,) = TARGET[name]
    options = {"axis": 1, "surrogate": "hinge", "weights": FACTORS, target: rate}
    expected = getattr(reference, name)(LOGITS, LABELS, **options)
    np.testing.assert_allclose(getattr(dm, name)(LOGITS, LABELS, **options), expected, rtol=1e-5)


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    labels = draw.random(60) < 0.3
    logits = draw.normal(size=60) + labels
    return np.round(logits, 1 if seed % 2 else 6).astype(np.float32), labels.astype(int)


@over_surrogates
@pytest.mark.parametrize("seed", range(2))
def test_pr_auc_bounds_one_minus_average_precision(seed: int, surrogate: Any):
    z, y = drawn(seed)
    loss = dm.pr_auc_loss(z, y, num_anchors=int(y.sum()), surrogate=surrogate)
    assert 1 - average_precision_score(y, z) - 1e-6 <= loss <= 1


@over(QUANTILE)
def test_quantile_form_only_ranks_and_is_silent_where_the_constrained_class_is_absent(name: str):
    both = jax.jit(jax.value_and_grad(the(name).loss))
    value, gradient = both(LOGITS, LABELS)
    np.testing.assert_allclose(both(LOGITS + 3.0, LABELS)[0], value, rtol=1e-5)
    np.testing.assert_allclose(gradient.sum(), 0, atol=1e-6)
    for label in [0] if name in ("precision_at_recall_loss", "pr_auc_loss") else [0, 1]:
        value, gradient = both(LOGITS, np.full(SHAPE, label))
        assert value == 0
        assert not gradient.any()


@pytest.mark.parametrize("n", [50, 550, 100_000])
def test_a_quantile_is_not_missed_by_rounding(n: int):
    """2 % of 550 are 11 positives below the threshold; (1 - 0.98) · 550 is 10.99999 in float32."""
    z = np.arange(2 * n, dtype=np.float32)
    y = np.arange(2 * n) % 2
    gradient = np.asarray(jax.grad(dm.precision_at_recall_loss)(z, y, target_recall=0.98))
    assert np.argmin(gradient) == 2 * round(0.02 * n) + 1
    gradient = np.asarray(jax.grad(dm.tpr_at_fpr_loss)(z, y, target_fpr=0.02))
    assert np.argmax(gradient) == 2 * (n - 1 - round(0.02 * n))


@over(QUANTILE)
def test_tied_elements_share_the_gradient(name: str):
    z = np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0], np.float32)
    y = np.array([1, 1, 0, 1, 0, 0, 0])
    order = np.array([6, 3, 5, 1, 4, 0, 2])
    gradient = jax.jit(jax.grad(the(name).loss))
    np.testing.assert_allclose(gradient(z, y)[order], gradient(z[order], y[order]), atol=1e-7)


# --- the Lagrangian form --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("surrogate", "span", "precisions"),
    [
        ("logistic", {}, (0.25, 0.5, 0.75)),
        ("hinge", {"precision_range": (0.4, 0.8)}, (0.5, 0.6, 0.7)),
    ],
    ids=["logistic", "hinge"],
)
def test_anchors_are_points_of_their_own(surrogate: Any, span: Any, precisions: Any):
    multipliers, biases = jnp.array([0.5, 1.0, 2.0]), jnp.array([-0.5, 0.2, 1.0])
    options = {"surrogate": surrogate, "weights": FACTORS[0]}
    loss, constraint = dm.pr_auc_lagrangian(
        LOGITS[0], LABELS[0], multipliers, biases=biases, **span, **options
    )
    points = [
        dm.recall_at_precision_lagrangian(
            LOGITS[0] + bias, LABELS[0], multiplier, target_precision=precision, **options
        )
        for multiplier, bias, precision in zip(multipliers, biases, precisions, strict=True)
    ]
    losses, constraints = zip(*points, strict=True)
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-5)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *constraints)
    chex.assert_trees_all_close(constraint, stacked, rtol=1e-5, atol=1e-6)


# --- multipliers ----------------------------------------------------------------------------------


def test_dual_update_takes_trees_and_stays_above_zero():
    multipliers = {"recall": jnp.ones(2), "fpr": jnp.zeros(())}
    violation = {"recall": jnp.array([0.5, -3.0]), "fpr": jnp.array(0.25)}
    after = jax.jit(dm.dual_update)(multipliers, violation, 2.0)
    chex.assert_trees_all_close(after, {"recall": jnp.array([2.0, 0.0]), "fpr": jnp.array(0.5)})
    with pytest.raises(ValueError, match=r"violation must have the shape of multipliers"):
        dm.dual_update(jnp.ones(()), jnp.ones(3), 1.0)


@over([*LAGRANGIAN, "pr_auc_lagrangian"])
def test_no_gradient_reaches_the_multipliers_or_leaves_the_constraint(name: str):
    row = the(name)
    state = {k: jnp.asarray(v) for k, v in row.traced.items() if k in ("multipliers", "biases")}

    @jax.jit
    def pulled(z: jax.Array, state: Any) -> Any:
        (value, constraint), pull = jax.vjp(lambda z, state: row(z, LABELS, **state), z, state)
        nothing, ones = (jax.tree.map(f, constraint) for f in (jnp.zeros_like, jnp.ones_like))
        return pull((jnp.ones_like(value), nothing))[1], pull((jnp.zeros_like(value), ones))[0]

    of_loss, of_constraint = pulled(jnp.asarray(LOGITS), state)
    assert not jnp.any(of_loss["multipliers"])
    assert not jnp.any(of_constraint)
    assert jnp.all(of_loss.get("biases", 1.0) != 0)  # which are trained


def test_flagging_nothing_relaxes_a_precision():
    _, constraint = dm.recall_at_precision_lagrangian(
        -np.ones(4, np.float32), np.array([1, 0, 0, 0]), 1.0, target_precision=0.9
    )
    np.testing.assert_allclose(constraint.violation, -0.1, rtol=1e-5)


@over(LAGRANGIAN)
def test_a_constraint_counts_in_weights_and_nan_as_wrong(name: str):
    loss = partial(getattr(dm, name), LOGITS, LABELS, 1.0, **LAGRANGIAN[name])
    _, one = loss(weights=FACTORS)
    _, tiny = loss(weights=1e-20 * FACTORS)
    np.testing.assert_allclose(tiny.violation, one.violation, rtol=1e-5)
    np.testing.assert_allclose(tiny.fp_upper, 1e-20 * one.fp_upper, rtol=1e-5)
    np.testing.assert_allclose(tiny.tp_lower, 1e-20 * one.tp_lower, rtol=1e-5)
    for label in (0, 1):
        broken = np.where((label == LABELS) & KEEP, np.nan, LOGITS)
        wrong = np.where(np.isnan(broken), 1.0 - 2.0 * label, broken)
        with jax.debug_nans(False):
            value, constraint = getattr(dm, name)(broken, LABELS, 1.0, **LAGRANGIAN[name])
        _, expected = getattr(dm, name)(wrong, LABELS, 1.0, **LAGRANGIAN[name])
        assert jnp.isnan(value)
        np.testing.assert_allclose(constraint.violation, expected.violation, rtol=1e-6)


@over(LAGRANGIAN)
def test_an_absent_class_violates_nothing(name: str):
    label = 1 if name == "tpr_at_fpr_lagrangian" else 0
    same = np.full(SHAPE, label)
    _, constraint = getattr(dm, name)(LOGITS, same, 1.0, **LAGRANGIAN[name])
    assert constraint.violation == 0
    hidden, _ = getattr(dm, name)(LOGITS, LABELS, 1.0, where=False * KEEP, **LAGRANGIAN[name])
    assert hidden == 0


def test_state_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"multipliers must broadcast to the loss"):
        dm.tpr_at_fpr_lagrangian(LOGITS, LABELS, jnp.ones(3), target_fpr=0.1)
    with pytest.raises(ValueError, match=r"last axis of anchors: the loss is \(\), .* are \(\)"):
        dm.pr_auc_lagrangian(LOGITS, LABELS, 1.0, biases=0.0)
    with pytest.raises(ValueError, match=r"biases must have the shape of multipliers"):
        dm.pr_auc_lagrangian(LOGITS, LABELS, jnp.ones(3), biases=jnp.zeros(2))


# --- the example of the source --------------------------------------------------------------------

# Two clouds of each class: centre, spread, number, label. One line separates almost all of both
# classes, but not the line of least cross-entropy, which gives up the few positives at (1, -½).
# Data and training are those of tensorflow/models, research/global_objectives/
# loss_layers_example.py (its "variances" multiply unit normals).
CLOUDS = [
    ((0.0, -0.5), 0.15, 3000, 0),
    ((0.0, 1.0), 0.15, 500, 1),
    ((1.0, -0.5), 0.1, 50, 1),
    ((1.0, 1.0), 0.1, 100, 0),
]
RECALL = 0.98
STEPS = 151
EXAMPLE: dict[str, Callable[..., tuple[jax.Array, Any]]] = {
    "cross-entropy": lambda z, y, _: (dm.sigmoid_cross_entropy(z, y).mean(), 0.0),
    "quantile": lambda z, y, _: (dm.precision_at_recall_loss(z, y, target_recall=RECALL), 0.0),
    "lagrangian": lambda z, y, multiplier: dm.precision_at_recall_lagrangian(
        z, y, multiplier, target_recall=RECALL
    ),
}


def clouds(seed: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    points = [centre + spread * draw.normal(size=(n, 2)) for centre, spread, n, _ in CLOUDS]
    labels = np.repeat([label for *_, label in CLOUDS], [n for _, _, n, _ in CLOUDS])
    return np.concatenate(points).astype(np.float32), labels


@partial(jax.jit, static_argnums=0)
def fit_line(name: str, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Gradient descent with a rate that falls linearly from 1, and a dual step after each."""

    def step(state: Any, progress: jax.Array) -> tuple[Any, None]:
        (w, b), multiplier = state
        loss = lambda w, b: EXAMPLE[name](x @ w + b, y, multiplier)  # noqa: E731
        _, pullback, constraint = jax.vjp(loss, w, b, has_aux=True)
        dw, db = pullback(jnp.ones(()))
        rate = 1.0 - progress * (1.0 - 1.0 / (STEPS - 1))
        if name == "lagrangian":
            multiplier = dm.dual_update(multiplier, constraint.violation, 2.0)
        return ((w - rate * dw, b - rate * db), multiplier), None

    start = (jnp.array([-1.0, -1.0]), jnp.zeros(())), jnp.ones(())
    ((w, b), multiplier), _ = jax.lax.scan(step, start, jnp.linspace(0.0, 1.0, STEPS))
    return w, b, multiplier


def precision_at_recall(scores: np.ndarray, labels: np.ndarray) -> float:
    flagged = scores >= np.percentile(scores[labels == 1], 100 - 100 * RECALL)
    return float(np.mean(labels[flagged]))


def example(name: str, seed: int) -> float:
    """Precision at the recall on new data of the same clouds."""
    w, b, _ = fit_line(name, *clouds(2 * seed))
    x, y = clouds(2 * seed + 1)
    return precision_at_recall(x @ w + b, y)


@pytest.mark.parametrize(
    ("name", "precision"), [("cross-entropy", 0.15), ("quantile", 0.84), ("lagrangian", 0.84)]
)
def test_example_of_the_source(name: str, precision: float):
    for seed in range(2):
        np.testing.assert_allclose(example(name, seed), precision, atol=0.01)


def test_lagrangian_keeps_the_recall_at_logit_zero():
    x, y = clouds(0)
    w, b, multiplier = fit_line("lagrangian", x, y)
    exact = dm.counts(x @ w + b > 0, y)
    assert dm.recall(exact) >= RECALL - 0.01
    assert dm.precision(exact) > 0.8
    assert multiplier > 1


# --- how thresholds are found ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bits_and_a_sort_find_the_same_threshold(dtype: str):
    with jax.enable_x64(dtype == "float64"):
        keys = jax.jit(order.bits)(np.round(rng.normal(size=(3, 700)), 1).astype(dtype))
        mass = rng.integers(0, 3, (3, 700)).astype(dtype)
        allowed = rng.uniform(0.0, 0.99, (3, 7)).astype(dtype) * mass.sum(-1, keepdims=True)
        ways = order_statistics.by_digits, order_statistics.in_order
        by_bits, by_sort = (jax.jit(way)(keys, mass, allowed) for way in ways)
        chex.assert_trees_all_equal(by_bits, by_sort)
