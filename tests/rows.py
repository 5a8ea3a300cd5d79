"""One table of every public function, with what distinguishes it; all tests filter it.

A new function is a definition in `references`, a row here, the function, and its export. A public
name without a row fails the suite.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal

import jax
import numpy as np
import pytest

import diffmetrics as dm
from diffmetrics.diagnose import Kind
from tests.references import (
    distributions,
    divergence,
    entropy,
    hinge,
    operating_points,
    rankings,
    sets as set_reference,
)

Family = Literal[
    "elements", "sets", "rankings", "pairs", "distributions", "members", "scores", "matrices",
    "counting", "curves", "calibration", "decisions", "training",
]  # fmt: skip

rng = np.random.default_rng(0)
BINARY = (rng.normal(size=(12, 3)).astype(np.float32), rng.integers(0, 2, (12, 3)))
CLASSES = (rng.normal(size=(12, 4)).astype(np.float32), np.tile(np.arange(4), 3))
WEIGHTS = np.array([1.0, 2.0, 3.0, 4.0], np.float32)
FREE_DIAGONAL = (rng.uniform(0.5, 4.0, (4, 4)) * (1 - np.eye(4))).astype(np.float32)
PAIR_COSTS = rng.uniform(0.5, 4.0, (4, 4)).astype(np.float32)
MEAN, TARGET = rng.normal(size=(2, 4, 3)).astype(np.float32)
SCALE = rng.uniform(0.3, 2.0, (4, 3)).astype(np.float32)
MEMBERS = (*np.stack([MEAN, SCALE]), TARGET[0])
P, Q, R = rng.normal(size=(3, 6, 5)).astype(np.float32)
SHARES_P, SHARES_Q = rng.dirichlet(np.ones(5), (2, 6)).astype(np.float32)
SAME = np.array([1, 0, 0, 1, 0, 1])
IDENTITIES = np.array([3, 1, 3, 2, 1, 3])  # of 2 there is only one
COSINES = np.tanh(rng.normal(size=(6, 4))).astype(np.float32)
LEVELS = rng.integers(-3, 4, 60).astype(np.float32)  # many ties
FLAGS = (rng.random(60) < 0.3).astype(int)
PROBABILITIES = rng.uniform(0.05, 0.95, (12, 3)).astype(np.float32)
CELLS = dm.Counts(*np.array([[6, 1], [2, 3], [1, 2], [5, 5]]))
MATRIX = rng.integers(1, 9, (4, 4))
DEVIATION = np.exp(0.5 * rng.normal(size=40)).astype(np.float32)
CENTRE = rng.normal(size=40).astype(np.float32)
OUTCOME = (CENTRE + 1.3 * DEVIATION * rng.normal(size=40)).astype(np.float32)
PREDICTED = (CENTRE, DEVIATION, OUTCOME)


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """One public function, in one form, on small arrays: `row(*row.batch)`."""

    name: str
    family: Family
    # What it is called with; `call` does so, if that is not the public function itself.
    batch: tuple[Any, ...]
    # Float hyper-parameters, all of them traced.
    traced: dict[str, Any] = dataclasses.field(default_factory=dict)
    # All other keywords.
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    call: Callable[..., Any] | None = None
    # The definition in plain loops: of one element or example in floats, f(logit or logits, label)
    # or f(mean, scale, target), or of whole arrays with the keywords of the function, if of sets.
    reference: Callable[..., Any] | None = None
    # The exact metric of counts to which one minus the loss tends as the logits sharpen.
    metric: Callable[..., Any] | None = None
    # What the loss doctor takes it for.
    kind: Kind | None = None
    # It has code of its own between door and result, and is asked for all that an engine promises;
    # the others are faces of one of these.
    engine: bool = False
    # It has derivatives, and they are those of its value: nothing in it is a constant on purpose.
    smooth: bool = False
    # Hyper-parameters in which it is not differentiated, of most because they are constants to it.
    constant: tuple[str, ...] = ()
    # How many temporary arrays of the logits' size value and gradient may take: none, but for
    # what XLA's CPU backend writes out around a `where` or a clamp in the value.
    arrays: float = 0.0
    # Absolute error of the gradient at a loss of 65,504, where it is a difference.
    atol: float = 1e-5
    # Keywords of the reference that hold what has no gradient, from one element.
    detached: Callable[..., dict[str, float]] = lambda *_: {}

    @property
    def public(self) -> Callable[..., Any]:
        if not hasattr(dm, self.name):
            pytest.fail(f"{self.name} has a row: write it and export it (CONTRIBUTING.md, step 4)")
        return getattr(dm, self.name)

    @property
    def loss(self) -> Callable[..., Any]:
        """The function with its options; what is left are the arrays."""
        return partial(self.call or self.public, **self.options, **self.traced)

    def __call__(self, *arrays: Any, **others: Any) -> Any:
        return self.loss(*arrays, **others)

    def total(self, *arrays: Any, **others: Any) -> jax.Array:
        """The sum over all sets or elements; of a Lagrangian without what it reports."""
        value = self(*arrays, **others)
        return (value[0] if isinstance(value, tuple) else value).sum()

    @property
    def softmax(self) -> bool:
        return self.batch is CLASSES

    @property
    def names(self) -> list[str]:
        """What its arrays are called."""
        parameters = inspect.signature(self.public).parameters.values()
        return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]

    @property
    def id(self) -> str:
        values = {**self.traced, **{k: v for k, v in self.options.items() if k != "score"}}
        of = [f"{k}={getattr(v, '__name__', np.shape(v) or v)}" for k, v in values.items()]
        return "-".join([self.name, *of])


def over(chosen: Callable[[Row], bool], *, once: bool = False) -> pytest.MarkDecorator:
    """A test of every chosen row; `once`: of the first of those that only differ in a number."""
    rows = [row for row in ROWS if chosen(row)]
    if once:
        ways = {(r.name, r.softmax, *r.traced, str(r.options)): r for r in reversed(rows)}
        rows = list(ways.values())[::-1]
    return pytest.mark.parametrize("row", rows, ids=[row.id for row in rows])


def of(*families: Family) -> list[Row]:
    return [row for row in ROWS if row.family in families]


def the(name: str) -> Row:
    """The first row of a name."""
    return next(row for row in ROWS if row.name == name)


# --- losses of one value per element or example ---------------------------------------------------


def element(name: str, reference: Callable[..., float], batch: Any = BINARY, **others: Any) -> Row:
    kind: Kind = "multiclass" if batch is CLASSES else "binary"
    return Row(name, "elements", batch, reference=reference, kind=kind, smooth=True, **others)


def elements(module: Any, batch: Any, table: Iterable[tuple[str, dict[str, Any], dict[str, Any]]]):
    return [
        element(name, getattr(module, name), batch, traced=traced, **others)
        for name, traced, others in table
    ]


ELEMENTS = [
    *elements(entropy, BINARY, [
        ("sigmoid_cross_entropy", {}, {}),
        ("sigmoid_focal_loss", {"gamma": 2.0, "alpha": 0.25}, {}),
        ("sigmoid_focal_loss", {"gamma": 0.5}, {}),
        ("sigmoid_focal_loss", {"gamma": 0.0}, {}),
        ("sigmoid_poly_loss", {"epsilon": 1.0}, {}),
        ("weighted_sigmoid_cross_entropy", {"positive_weight": 3.0}, {}),
        ("asymmetric_loss", {"gamma_positive": 1.0, "gamma_negative": 4.0, "shift": 0.05},
         {"arrays": 2.0}),
        ("asymmetric_loss", {"gamma_positive": 0.0, "gamma_negative": 2.0, "shift": 0.0}, {}),
        ("logit_adjusted_sigmoid_loss", {"prevalence": 0.1, "tau": 1.0}, {}),
        ("brier_loss", {}, {}),
        ("winkler_loss", {"center": 0.3}, {}),
        # Its second derivatives in alpha and beta take long to compile; test_proper asks the first.
        ("beta_family_loss", {"alpha": 1.0, "beta": 2.0},
         {"arrays": 24.0, "constant": ("alpha", "beta")}),
        ("beta_family_loss", {"alpha": 0.0, "beta": 0.0}, {}),
        ("beta_family_loss", {"alpha": -0.5, "beta": -0.5}, {}),
    ]),
    *elements(hinge, BINARY, [
        ("hinge_loss", {"margin": 1.0}, {}),
        ("squared_hinge_loss", {"margin": 0.75}, {}),
        ("smooth_hinge_loss", {"width": 1.0}, {}),
        ("smooth_hinge_loss", {"width": 0.1}, {}),
        ("softplus_hinge_loss", {"sharpness": 2.0, "margin": 1.0}, {}),
        ("modified_huber_loss", {}, {}),
        ("ramp_loss", {}, {}),
        ("exponential_loss", {}, {}),
        ("perceptron_loss", {}, {}),
    ]),
    *elements(entropy, CLASSES, [
        ("softmax_cross_entropy", {}, {}),
        ("softmax_focal_loss", {"gamma": 2.0, "alpha": WEIGHTS}, {"arrays": 0.1}),
        ("softmax_focal_loss", {"gamma": 0.5}, {"arrays": 0.1}),
        ("softmax_focal_loss", {"gamma": 0.0}, {}),
        ("softmax_poly_loss", {"epsilon": 1.0}, {}),
        ("generalized_cross_entropy", {"q": 0.7}, {}),
        ("generalized_cross_entropy", {"q": 0.0}, {}),
        ("weighted_softmax_cross_entropy", {"class_weights": WEIGHTS}, {}),
        ("logit_adjusted_softmax_loss", {"prevalence": WEIGHTS / 10, "tau": 1.0},
         {"arrays": 1.0}),
        ("ldam_loss", {"class_counts": 50 * WEIGHTS, "max_margin": 0.5, "scale": 30.0},
         {"arrays": 2.0}),
        ("expected_cost_loss", {"cost": FREE_DIAGONAL}, {"arrays": 2.0}),
        ("cost_sensitive_cross_entropy", {"cost": FREE_DIAGONAL}, {"arrays": 4.0, "atol": 5e-3}),
    ]),
    *elements(hinge, CLASSES, [
        ("crammer_singer_loss", {}, {}),
        ("crammer_singer_loss", {"cost": PAIR_COSTS}, {"arrays": 0.1}),
        ("weston_watkins_loss", {}, {}),
        ("weston_watkins_loss", {"cost": PAIR_COSTS}, {}),
    ]),
]  # fmt: skip

# --- losses of sets -------------------------------------------------------------------------------


def on_sets(family: Family, name: str, batch: Any = BINARY, **others: Any) -> Row:
    module = {"sets": set_reference, "rankings": rankings}[family]
    kind: Kind = "multiclass" if batch is CLASSES else "binary"
    others = {"reference": getattr(module, name, None), "kind": kind, "smooth": True} | others
    return Row(name, family, batch, **others)


UNEVEN = {"fp_weight": 0.3, "fn_weight": 0.9}
FOCUSED = {**UNEVEN, "gamma": 0.6}
MACRO = {"activation": jax.nn.softmax, "axis": 0}
SOFTMAX = {"activation": jax.nn.softmax}
loss_of = partial(on_sets, "sets")
SETS = [
    loss_of("dice_loss", metric=dm.dice, engine=True),
    loss_of("fbeta_loss", traced={"beta": 2.0}, metric=partial(dm.fbeta, beta=2.0)),
    loss_of("jaccard_loss", metric=dm.jaccard),
    loss_of("tversky_loss", traced=UNEVEN, metric=partial(dm.tversky, **UNEVEN)),
    loss_of("focal_tversky_loss", traced=FOCUSED,
            metric=lambda c: 1 - (1 - dm.tversky(c, **UNEVEN)) ** FOCUSED["gamma"]),
    loss_of("mcc_loss", metric=dm.mcc),
    loss_of("balanced_accuracy_loss", metric=dm.balanced_accuracy),
    loss_of("score_loss", call=dm.score_loss(dm.informedness), metric=dm.informedness,
            reference=set_reference.score_loss(set_reference.informedness)),
    loss_of("squared_dice_loss", metric=dm.dice, engine=True),
    loss_of("generalized_dice_loss", engine=True),
    loss_of("lovasz_hinge_loss", engine=True),
    loss_of("lovasz_softmax_loss", CLASSES, engine=True),
    # The same engines where classes compete and labels are ids.
    loss_of("dice_loss", CLASSES, options=MACRO, engine=True),
    loss_of("squared_dice_loss", CLASSES, options=MACRO),
    loss_of("generalized_dice_loss", CLASSES, options=SOFTMAX),
]  # fmt: skip

MARGIN = {"margin": 0.7}
TARGETS = {
    "precision_at_recall": {"target_recall": 0.7},
    "recall_at_precision": {"target_precision": 0.8},
    "tpr_at_fpr": {"target_fpr": 0.2},
    "fpr_at_tpr": {"target_tpr": 0.7},
}
LAGRANGIANS = tuple(TARGETS)[:3]
ranking = partial(on_sets, "rankings")


def at_a_point(name: str, **others: Any) -> Row:
    reference = getattr(operating_points, name, None)
    return ranking(name, reference=reference, **others)


RANKINGS = [
    *(
        ranking("roc_auc_loss", traced=MARGIN, options={"surrogate": surrogate}, engine=True)
        for surrogate in ("squared_hinge", "hinge", "square", "exponential", "logistic")
    ),
    ranking("partial_roc_auc_loss", traced=MARGIN | {"max_fpr": 0.33, "min_tpr": 0.4}, engine=True),
    ranking("average_precision_loss", traced={"temperature": 0.8}, engine=True),
    ranking("aucm_loss", traced=MARGIN, engine=True),
    ranking("aum_loss", engine=True),
    *(
        at_a_point(f"{name}_loss", traced=target, constant=(*target,),
                   engine=name == "recall_at_precision")
        for name, target in TARGETS.items()
    ),
    at_a_point("precision_at_recall_loss", traced=TARGETS["precision_at_recall"],
               constant=("target_recall",), options={"surrogate": "hinge"}),
    at_a_point("pr_auc_loss", options={"num_anchors": 4}, engine=True),
    *(
        at_a_point(f"{name}_lagrangian", traced={**TARGETS[name], "multipliers": 1.5},
                   constant=("multipliers",), engine=name == "tpr_at_fpr")
        for name in LAGRANGIANS
    ),
    at_a_point("pr_auc_lagrangian", constant=("multipliers",), engine=True,
               traced={"multipliers": np.full(3, 1.5, np.float32),
                       "biases": np.linspace(-1, 1, 3, dtype=np.float32)}),
]  # fmt: skip

# --- losses of pairs ------------------------------------------------------------------------------


def pair(name: str, batch: Any, kind: Kind, **others: Any) -> Row:
    others = {"reference": getattr(divergence, name, None), "smooth": True} | others
    return Row(name, "pairs", batch, kind=kind, **others)


DIVERGENCES = {
    "kl_divergence": divergence.kl,
    "symmetric_kl_divergence": divergence.symmetric_kl,
    "js_divergence": divergence.js,
}
SHARP = {"margin": 2.0, "sharpness": 3.0}
ANGLES = {"scale": 8.0, "angular_margin": 0.3, "cosine_margin": 0.1}
PAIRS = [
    *(
        pair(name, (2 * P, 2 * Q), "divergence", reference=divergence.of_logits(reference))
        for name, reference in DIVERGENCES.items()
    ),
    *(
        pair(f"{name}_from_probabilities", (SHARES_P, SHARES_Q), "divergence",
             reference=divergence.smoothed(reference), traced={"epsilon": 0.01})
        for name, reference in DIVERGENCES.items()
    ),
    pair("kl_hinge_loss", (2 * P, 2 * Q, SAME), "pair", traced={"margin": 2.0}),
    pair("kl_hinge_loss", (2 * P, 2 * Q, SAME), "pair", traced=SHARP),
    pair("pairwise_kl_hinge_loss", (2 * P, IDENTITIES), "embedding", traced={"margin": 1.0},
         engine=True),
    pair("pairwise_kl_hinge_loss", (2 * P, IDENTITIES), "embedding", traced=SHARP),
    pair("contrastive_loss", (P, Q, SAME), "pair", traced={"margin": 5.0}),
    pair("triplet_loss", (P, Q, R), "triplet", traced={"margin": 0.4}),
    pair("triplet_loss", (P, Q, R), "triplet", traced={"margin": 0.0, "sharpness": 2.0}),
    pair("batch_hard_triplet_loss", (P, IDENTITIES), "embedding", traced={"margin": 4.0},
         engine=True),
    pair("batch_hard_triplet_loss", (P, IDENTITIES), "embedding",
         traced={"margin": 0.4, "sharpness": 3.0}),
    pair("angular_margin_loss", (COSINES, np.array([0, 1, 2, 3, 1, 0])), "multiclass",
         traced=ANGLES),
]  # fmt: skip

# --- predicted distributions ----------------------------------------------------------------------


def predicted(name: str, batch: Any = (MEAN, SCALE, TARGET), **others: Any) -> Row:
    kind: Kind | None = "mean_scale" if len(batch) == 3 else None
    others = {"reference": getattr(distributions, name), "kind": kind, "smooth": True} | others
    return Row(name, "distributions", batch, **others)


DISTRIBUTIONS = [
    predicted("gaussian_nll"),
    *(
        predicted("beta_nll", traced={"beta": beta}, smooth=False,
                  detached=lambda m, s, y: {"constant_scale": s})
        for beta in (0.5, 1.0)
    ),
    predicted("faithful_nll", smooth=False, detached=lambda m, s, y: {"constant_error": y - m}),
    predicted("laplace_nll"),
    *(predicted("student_t_nll", traced={"df": df}) for df in (4.0, 0.7, 30.0)),
    predicted("crps_gaussian"),
    predicted("kl_normal", (MEAN, SCALE), traced={"prior_mean": 0.3, "prior_scale": 0.8}),
    predicted("pinball_loss", (MEAN, TARGET), traced={"level": 0.8}, kind="regression"),
    predicted("interval_score", (MEAN, MEAN + SCALE, TARGET), traced={"coverage": 0.8}, kind=None),
    predicted("scale_from_raw", (MEAN,), traced={"min_scale": 0.1, "init_scale": 0.6}),
    *(
        Row(name, "members", MEMBERS, {"weights": WEIGHTS}, smooth=True,
            reference=getattr(distributions, name))
        for name in ("crps_mixture", "mixture_log_likelihood", "moment_matched_log_likelihood")
    ),
    Row("decompose_variance", "members", MEMBERS[:2], {"weights": WEIGHTS}),
    Row("crps_sample", "members", (MEAN, TARGET[0]), options={"fair": True},
        reference=distributions.crps_sample, smooth=True),
    Row("elbo_loss", "members", (MEAN[:, 0], SCALE), {"num_data": 1000.0, "beta": 0.1},
        smooth=True),
]  # fmt: skip

# --- metrics --------------------------------------------------------------------------------------


def score(name: str, **traced: float) -> Row:
    return Row(name, "scores", (CELLS,), traced, reference=getattr(set_reference, name))


def on_curve(number: Callable[..., Any]) -> Callable[..., Any]:
    """A number of a curve as one of scores and labels."""

    def of_scores(
        scores: Any, labels: Any, *, axis: Any = None, where: Any = None, weights: Any = None,
        **options: Any,
    ) -> Any:  # fmt: skip
        curve = dm.curve(scores, labels, axis=axis, where=where, weights=weights)
        return number(curve, **options)

    return of_scores


def on_a_curve(name: str, traced: dict[str, float] | None = None, **options: Any) -> Row:
    call = on_curve(getattr(dm, name))
    return Row(name, "curves", (LEVELS, FLAGS), traced or {}, options, call)


def calibrated(name: str, batch: Any, traced: Any = None, **options: Any) -> Row:
    return Row(name, "calibration", batch, traced or {}, options)


METRICS = [
    *(
        score(name)
        for name in (
            "accuracy", "balanced_accuracy", "cohen_kappa", "dice", "fowlkes_mallows",
            "geometric_mean", "informedness", "jaccard", "mcc", "negative_predictive_value",
            "precision", "prevalence", "recall", "specificity",
        )
    ),
    score("fbeta", beta=0.5),
    score("tversky", **UNEVEN),
    Row("multiclass_mcc", "matrices", (MATRIX,), reference=set_reference.multiclass_mcc),
    *(
        Row("multiclass_kappa", "matrices", (MATRIX,), options={"weighting": weighting},
            reference=set_reference.multiclass_kappa)
        for weighting in ("unweighted", "linear", "quadratic")
    ),
    Row("counts", "counting", (PROBABILITIES, BINARY[1]), reference=set_reference.counts),
    Row("confusion", "counting", (CLASSES[1], CLASSES[1][::-1]), options={"num_classes": 4},
        reference=set_reference.confusion),
    Row("counts_per_class", "counting", (CLASSES[1], CLASSES[1][::-1]),
        options={"num_classes": 4}, reference=set_reference.counts_per_class),
    Row("one_vs_rest", "counting", (MATRIX,), reference=set_reference.one_vs_rest),
    Row("curve", "counting", (LEVELS, FLAGS)),
    Row("threshold_counts", "counting", (LEVELS, FLAGS, np.linspace(-4, 4, 33, dtype=np.float32))),
    *map(on_a_curve, ("roc_curve", "precision_recall_curve", "detection_error_curve")),
    *map(on_a_curve, ("roc_auc", "average_precision")),
    on_a_curve("partial_roc_auc", {"max_fpr": 0.3}),
    on_a_curve("recall_at_precision", {"precision": 0.4}),
    on_a_curve("precision_at_recall", {"recall": 0.6}),
    on_a_curve("tpr_at_fpr", {"fpr": 0.2}),
    on_a_curve("best_fbeta", {"beta": 2.0}),
    on_a_curve("min_detection_cost", {"target_prior": 0.1}),
    *(on_a_curve("equal_error_rate", method=m) for m in ("interpolate", "nearest", "convex_hull")),
    calibrated("log_loss", (PROBABILITIES, BINARY[1])),
    calibrated("top_k_accuracy", CLASSES, k=2),
    calibrated("normal_interval", PREDICTED[:2], {"coverage": 0.9}),
    calibrated("interval_coverage", (CENTRE - DEVIATION, CENTRE + DEVIATION, OUTCOME)),
    calibrated("probability_integral_transform", PREDICTED),
    calibrated("regression_calibration_error", PREDICTED),
    calibrated("normalized_calibration_error", PREDICTED, bins=4),
    calibrated("sharpness", PREDICTED[1:2]),
    calibrated("sparsification_curve", (DEVIATION, OUTCOME - CENTRE)),
    calibrated("ause", (DEVIATION, OUTCOME - CENTRE)),
    calibrated("risk_at_coverage", (DEVIATION, OUTCOME - CENTRE), {"coverage": 0.7}),
    calibrated("rank_correlation", (DEVIATION, abs(OUTCOME - CENTRE))),
    calibrated("conformal_quantile", (DEVIATION,), {"coverage": 0.8}),
    calibrated("fit_scale", PREDICTED),
    calibrated("fit_temperature", CLASSES),
    *(
        calibrated(name, (PROBABILITIES.ravel(), BINARY[1].ravel()), bins=5)
        for name in (
            "reliability_bins", "expected_calibration_error", "adaptive_calibration_error",
            "debiased_calibration_error", "brier_decomposition",
        )
    ),
    calibrated("attainable", (jax.random.key(0), DEVIATION), metric=dm.ause, draws=3),
]  # fmt: skip

# --- decisions and training -----------------------------------------------------------------------


def decision(name: str, batch: Any, traced: Any = None, **options: Any) -> Row:
    return Row(name, "decisions", batch, traced or {}, options)


def training(name: str, batch: Any, traced: Any = None, **options: Any) -> Row:
    return Row(name, "training", batch, traced or {}, options)


def of_multiples(state: Any, factors: Any, output: Any, **options: Any) -> Any:
    """Balanced gradients of the squared length of an output, times factors."""
    losses = {n: lambda x, factor=factor: factor * (x**2).sum() for n, factor in factors.items()}
    return dm.gradient_norm_weights(state, losses, output, **options)


OF_CLASSES = {"trained_priors": WEIGHTS / 10, "true_priors": WEIGHTS[::-1] / 10}
PARTS = {"near": np.float32(0.4), "far": np.float32(2.0)}
STATE = dict.fromkeys(PARTS, 0.0)
OTHERS = [
    decision("correct_prior", BINARY[:1], {"trained_prior": 0.5, "true_prior": 0.1}),
    decision("correct_class_priors", CLASSES[:1], OF_CLASSES),
    decision("estimate_prior", BINARY[:1], {"trained_prior": 0.3}),
    decision("estimate_class_priors", CLASSES[:1], {"trained_priors": WEIGHTS / 10}),
    decision("fit_threshold", (LEVELS, FLAGS), {"beta": 2.0}, score=dm.fbeta),
    decision("bootstrap_threshold", (jax.random.key(0), LEVELS, FLAGS), score=dm.mcc, resamples=8),
    decision("bayes_threshold", (PAIR_COSTS[:2, :2],)),
    decision("expected_fbeta", (PROBABILITIES, BINARY[1] == 1), {"beta": 2.0}),
    decision("maximize_expected_fbeta", (PROBABILITIES,), {"beta": 2.0}),
    training("dual_update", (np.float32(1.5), np.float32(0.2), np.float32(0.1))),
    training("balanced_class_weights", (50 * WEIGHTS,)),
    training("effective_number_weights", (50 * WEIGHTS,), {"beta": 0.9}),
    training("combine", (PARTS, {"near": np.float32(1.0), "far": np.float32(0.5)})),
    training("uncertainty_weights", (STATE, PARTS), {"rate": 0.1}),
    training("dynamic_average_weights", (STATE, PARTS), {"temperature": 1.5}),
    Row("gradient_norm_weights", "training", (STATE, PARTS, P[0]), {"decay": 0.5},
        call=of_multiples),
    # These two are iterators of the host.
    training("balanced_batches", (FLAGS,), batch_size=8),
    training("stratified_batches", (FLAGS,), batch_size=8),
]  # fmt: skip

ROWS: list[Row] = [*ELEMENTS, *SETS, *RANKINGS, *PAIRS, *DISTRIBUTIONS, *METRICS, *OTHERS]
