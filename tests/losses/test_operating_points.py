"""Losses at an operating point: their bounds, the identities of their source, and its example."""

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
from tests.references import operating_points as reference
from tests.references.operating_points import cost
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


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    labels = draw.random(60) < 0.3
    logits = draw.normal(size=60) + labels
    return np.round(logits, 1 if seed % 2 else 6).astype(np.float32), labels.astype(int)


@over_surrogates
@pytest.mark.parametrize("seed", range(2))
def test_quantile_form_bounds_the_exact_errors(seed: int, surrogate: Any):
    z, y = drawn(seed)
    positives, negatives = z[y == 1], z[y == 0]
    for rate in (0.05, 0.3, 0.7, 1.0):
        q = reference.threshold_of_recall(z.tolist(), y.tolist(), [1.0] * 60, rate)
        alarms = float(np.sum(negatives >= q))
        fpr = dm.fpr_at_tpr_loss(z, y, target_tpr=rate, surrogate=surrogate)
        assert fpr >= alarms / len(negatives) - 1e-6
        assert np.mean(positives >= q) >= rate - 1e-6
        per_positive = dm.precision_at_recall_loss(z, y, target_recall=rate, surrogate=surrogate)
        precision = np.sum(positives >= q) / (np.sum(positives >= q) + alarms)
        assert precision >= rate / (rate + per_positive) - 1e-6

        q = reference.threshold_of_alarms(z.tolist(), y.tolist(), [1.0] * 60, rate * len(negatives))
        missed = dm.tpr_at_fpr_loss(z, y, target_fpr=rate, surrogate=surrogate)
        assert missed >= 1 - np.mean(positives > q) - 1e-6


@over_surrogates
@pytest.mark.parametrize("seed", range(2))
def test_pr_auc_bounds_one_minus_average_precision(seed: int, surrogate: Any):
    z, y = drawn(seed)
    loss = dm.pr_auc_loss(z, y, num_anchors=int(y.sum()), surrogate=surrogate)
    assert 1 - average_precision_score(y, z) - 1e-6 <= loss <= 1


def test_a_perfect_ranking_costs_nothing_and_the_worst_much():
    perfect = jnp.where(LABELS == 1, 100.0, -100.0)
    for name in QUANTILE:
        loss = the(name).loss
        np.testing.assert_allclose(loss(perfect, LABELS), 0, atol=1e-6)
        assert loss(-perfect, LABELS) > 0.45


def test_recall_at_precision_is_tpr_at_the_fpr_that_full_recall_allows():
    z, y = drawn(0)
    fpr = 0.2 / 0.8 * np.sum(y == 1) / np.sum(y == 0)
    np.testing.assert_allclose(
        dm.recall_at_precision_loss(z, y, target_precision=0.8),
        dm.tpr_at_fpr_loss(z, y, target_fpr=fpr),
        rtol=1e-6,
    )


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


# --- the Lagrangian form: the identities of global_objectives -------------------------------------


@over_surrogates
def test_at_the_strictest_target_and_multiplier_one_it_is_the_surrogate_itself(surrogate: Any):
    for name, target in (
        ("recall_at_precision", "target_precision"),
        ("precision_at_recall", "target_recall"),
    ):
        loss, _ = getattr(dm, f"{name}_lagrangian")(
            LOGITS, LABELS, 1.0, prevalence=0.34, surrogate=surrogate, **{target: 1.0}
        )
        pairs = zip(LOGITS.ravel(), LABELS.ravel(), strict=True)
        expected = np.mean([cost(-z if y == 1 else z, surrogate) for z, y in pairs])
        np.testing.assert_allclose(loss, expected, rtol=1e-5)


def at_anchors(number: int, **options: Any) -> jax.Array:
    ones = jnp.ones(number)
    return dm.pr_auc_lagrangian(LOGITS, LABELS, ones, biases=0 * ones, **options)[0]


@over_surrogates
def test_one_anchor_is_recall_at_that_precision(surrogate: Any):
    for precision in (0.5, 0.7):
        near = (precision - 0.01, precision + 0.01)
        point, _ = dm.recall_at_precision_lagrangian(
            LOGITS, LABELS, 1.0, target_precision=precision, surrogate=surrogate
        )
        one = at_anchors(1, precision_range=near, surrogate=surrogate)
        np.testing.assert_allclose(one, point, rtol=1e-6)


@over_surrogates
def test_anchors_are_points_of_their_own(surrogate: Any):
    multipliers, biases = jnp.array([0.5, 1.0, 2.0]), jnp.array([-0.5, 0.2, 1.0])
    options = {"surrogate": surrogate, "weights": FACTORS[0]}
    loss, constraint = dm.pr_auc_lagrangian(
        LOGITS[0], LABELS[0], multipliers, biases=biases, **options
    )
    points = [
        dm.recall_at_precision_lagrangian(
            LOGITS[0] + bias,
            LABELS[0],
            multiplier,
            target_precision=precision,
            **options,
        )
        for multiplier, bias, precision in zip(multipliers, biases, (0.25, 0.5, 0.75), strict=True)
    ]
    losses, constraints = zip(*points, strict=True)
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-5)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *constraints)
    chex.assert_trees_all_close(constraint, stacked, rtol=1e-5, atol=1e-6)


# Every distance from 0 is such that the surrogate is 1, 0 or (`TWO`) 2 errors.
FLAGS = np.repeat([[1, 1], [0, 0]], 3, axis=0)
FIRST = np.array([[0, 15], [16, 0], [14, 0], [-17, 0], [-15, 0], [0, -101]], np.float32)
TWO = {"hinge": 1.0, "logistic": float(np.log(3))}


def second(surrogate: str) -> tuple[np.ndarray, np.ndarray]:
    two = TWO[surrogate]
    positives = [[0, 13], [12, 0], [15, 0], [0, 30], [13, 0], [18, 0]]
    negatives = [[-16, two], [-15, two], [two, -111], [-133, -14], [-14, -16], [-19.9, -101]]
    return np.array([*positives, *negatives], np.float32), np.repeat([[1, 1], [0, 0]], 6, axis=0)


LIKE = {"axis": 0, "target_recall": 0.5}


@over_surrogates
def test_bounds_are_those_of_the_source(surrogate: Any):
    def bounds(z: np.ndarray, y: np.ndarray, **weights: Any) -> list[list[float]]:
        _, c = dm.precision_at_recall_lagrangian(
            z, y, jnp.ones(2), surrogate=surrogate, **LIKE, **weights
        )
        return [c.tp_lower.tolist(), c.fp_upper.tolist()]

    def weighted(*weights: float) -> dict[str, np.ndarray]:
        return {"weights": np.array(weights)[:, None]}

    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    close(bounds(FIRST, FLAGS), [[2, 1], [1, 2]])
    close(bounds(*second(surrogate)), [[4, 2], [2, 4]])
    close(bounds(FIRST, FLAGS, **weighted(0, 2, 0.5, 1, 2, 3))[0], [2.5, 0])
    close(bounds(FIRST, FLAGS, **weighted(1, 2, 3, 4, 5, 6))[0], [5, 1])
    close(bounds(FIRST, FLAGS, **weighted(3, 2, 1, 0, 1, 2))[1], [2, 1])
    close(bounds(FIRST, FLAGS, **weighted(13, 12, 11, 0.5, 0, 0.5))[1], [0.5, 0.5])


@over(LAGRANGIAN)
def test_multiplier_falls_where_the_constraint_holds_and_rises_where_not(name: str):
    """Label 0 of the source's batch keeps its constraint, and label 1 violates it."""
    target = next(iter(LAGRANGIAN[name]))
    z = FIRST + 1e-3 * (1 - 2 * FLAGS)  # just on the wrong side, which is where it is counted
    for rate in (0.35, 0.65):
        _, constraint = getattr(dm, name)(z, FLAGS, jnp.ones(2), axis=0, **{target: rate})
        after = dm.dual_update(jnp.ones(2), constraint.violation, 0.1)
        assert after[0] < 1 < after[1]


# --- multipliers ----------------------------------------------------------------------------------


def test_dual_step_of_the_source():
    """½ (x - y)² at x = 2 and y = 1, ascended in y at rate 0.3."""
    np.testing.assert_allclose(dm.dual_update(1.0, 1.0 - 2.0, 0.3), 0.7, rtol=1e-6)


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


def test_violations_are_those_of_the_exact_counts_and_of_no_unit():
    for weight in (1.0, 3.0):
        exact, weights = dm.counts(LOGITS > 0, LABELS), np.full(SHAPE, weight)
        for name, expected in (
            ("precision_at_recall_lagrangian", 0.7 - dm.recall(exact)),
            ("recall_at_precision_lagrangian", 0.8 - dm.precision(exact)),
            ("tpr_at_fpr_lagrangian", 1 - dm.specificity(exact) - 0.2),
        ):
            _, constraint = getattr(dm, name)(
                LOGITS, LABELS, 1.0, weights=weights, **LAGRANGIAN[name]
            )
            np.testing.assert_allclose(constraint.violation, expected, rtol=1e-5)


def test_flagging_nothing_relaxes_a_precision():
    _, constraint = dm.recall_at_precision_lagrangian(
        -np.ones(4, np.float32), np.array([1, 0, 0, 0]), 1.0, target_precision=0.9
    )
    np.testing.assert_allclose(constraint.violation, -0.1, rtol=1e-5)


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


def test_a_target_out_of_reach_lets_its_multiplier_grow_and_a_cap_holds_it():
    z, y = jnp.array([-1.0, 1.0]), jnp.array([1, 0])
    free = held = jnp.ones(())
    for _ in range(20):
        _, constraint = dm.precision_at_recall_lagrangian(z, y, free, target_recall=0.9)
        free = dm.dual_update(free, constraint.violation, 1.0)
        held = jnp.minimum(dm.dual_update(held, constraint.violation, 1.0), 5.0)
    assert free > 15
    assert held == 5.0
