"""The table of what is measured: every public loss, how it is called, and what it must reach."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax

import diffmetrics as dm
from benchmarks.work import ARGUMENTS

# Hyper-parameters that losses and peers share.
GAMMA, ALPHA, POSITIVE_WEIGHT, EPSILON, Q = 2.0, 0.25, 3.0, 1.0, 0.7
FP_WEIGHT, FN_WEIGHT, FOCAL_TVERSKY_GAMMA, BETA = 0.3, 0.7, 0.75, 2.0
MARGIN, KL_MARGIN = 1.0, 4.0
DF, LEVEL = 4.0, 0.9

# Beyond so many scores nobody compares all pairs of them: 3 to 6 GiB in float32.
MOST_IN_PAIRS = 20_000

# Times the yardstick: a pass over the data, a sort of it; products of all pairs have no goal.
PASS, SORT = 1.25, 2.0


@dataclasses.dataclass(frozen=True)
class Loss:
    """One way of calling one public function."""

    name: str
    kind: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Keywords."""
    arrays: tuple[str, ...] = ()
    """Keywords that are arrays of the workload, of the same name."""
    of_classes: bool = False
    """A set loss of each class, softmax over the last axis."""
    needs: str = "pass"
    """What the yardstick has besides the passes over the data: "sort" or all "pairs"."""
    readings: int = 1
    """How often an accelerator must read the arrays for value and gradient: twice where the slope
    of one element needs a sum, or an order, of all."""
    ahead: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """How many times faster than which peers it must be, in float32."""
    forward_only: bool = False
    """An exact score, which has no gradient."""
    function: Callable[..., Any] | None = None
    """What is called; default: the public function of this name."""

    @property
    def label(self) -> str:
        """What the row is called: the set losses have two flavours, and of pairs each its own."""
        flavour = "softmax" if self.of_classes else self.options.get("surrogate")
        if self.name == "triplet_loss" and "sharpness" in self.options:
            flavour = "softplus"
        return f"{self.name} ({flavour})" if flavour else self.name

    @property
    def goal(self) -> float | None:
        return {"pass": PASS, "sort": SORT}.get(self.needs)

    def __call__(self, a: Any) -> jax.Array:
        """The mean loss of the arrays `a`, one scalar."""
        function = self.function or getattr(dm, self.name)
        positional = [getattr(a, name) for name in ARGUMENTS[self.kind]]
        keywords = dict(self.options) | {name: getattr(a, name) for name in self.arrays}
        if self.of_classes:
            axis = tuple(range(positional[0].ndim - 1))
            keywords |= {"activation": jax.nn.softmax, "axis": axis}
        return function(*positional, **keywords).mean()


def _hard_dice(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return dm.dice(dm.counts(logits > 0, labels > 0))


def _table() -> list[Loss]:
    focal = {"gamma": GAMMA}
    sides = {"fp_weight": FP_WEIGHT, "fn_weight": FN_WEIGHT}
    best = {"any": 1.0}
    binary = [
        Loss(
            "sigmoid_cross_entropy",
            "binary",
            ahead={"optax": 3.0, "eager": 2.5, "torch.compile": 1.0},
        ),
        Loss(
            "sigmoid_focal_loss",
            "binary",
            focal | {"alpha": ALPHA},
            ahead={"optax": 6.0, "eager": 8.0, "torch.compile": 1.0},
        ),
        Loss("weighted_sigmoid_cross_entropy", "binary", {"positive_weight": POSITIVE_WEIGHT}),
        Loss("asymmetric_loss", "binary"),
        Loss("logit_adjusted_sigmoid_loss", "binary", {"prevalence": 0.01}),
        Loss("sigmoid_poly_loss", "binary", {"epsilon": EPSILON}),
        Loss("brier_loss", "binary"),
        Loss("beta_family_loss", "binary", {"alpha": 1.0, "beta": 3.0}),
        Loss("winkler_loss", "binary", {"center": 0.1}),
        Loss("hinge_loss", "binary"),
        Loss("squared_hinge_loss", "binary"),
        Loss("smooth_hinge_loss", "binary"),
        Loss("softplus_hinge_loss", "binary"),
        Loss("modified_huber_loss", "binary"),
        Loss("ramp_loss", "binary"),
        Loss("exponential_loss", "binary"),
        Loss("perceptron_loss", "binary"),
    ]
    softmax = [
        Loss("softmax_cross_entropy", "softmax", ahead=best),
        Loss("softmax_focal_loss", "softmax", focal, ahead=best),
        Loss("weighted_softmax_cross_entropy", "softmax", arrays=("class_weights",)),
        Loss("logit_adjusted_softmax_loss", "softmax", arrays=("prevalence",)),
        Loss("ldam_loss", "softmax", arrays=("class_counts",)),
        Loss("softmax_poly_loss", "softmax", {"epsilon": EPSILON}),
        Loss("generalized_cross_entropy", "softmax", {"q": Q}),
        Loss("expected_cost_loss", "softmax", arrays=("cost",)),
        Loss("cost_sensitive_cross_entropy", "softmax", arrays=("cost",)),
        Loss("crammer_singer_loss", "softmax"),
        Loss("weston_watkins_loss", "softmax"),
    ]
    divergences = [
        Loss(name + suffix, kind)
        for kind, suffix in (("divergence", ""), ("probabilities", "_from_probabilities"))
        for name in ("kl_divergence", "symmetric_kl_divergence", "js_divergence")
    ]
    embeddings = [
        Loss("kl_hinge_loss", "related", {"margin": KL_MARGIN}),
        Loss("pairwise_kl_hinge_loss", "batch", {"margin": KL_MARGIN}, needs="pairs", readings=2),
        Loss("contrastive_loss", "pair", {"margin": MARGIN}),
        Loss("triplet_loss", "triplet", {"margin": MARGIN}),
        Loss("triplet_loss", "triplet", {"margin": 0.0, "sharpness": 1.0}),
        Loss("batch_hard_triplet_loss", "batch", needs="pairs", readings=2),
        Loss("angular_margin_loss", "cosines"),
    ]
    sets = [
        Loss("fbeta_loss", "binary", {"beta": BETA}),
        Loss("dice_loss", "binary", ahead={"torch.compile": 1.0}),
        Loss("jaccard_loss", "binary"),
        Loss("tversky_loss", "binary", sides),
        Loss("focal_tversky_loss", "binary", sides | {"gamma": FOCAL_TVERSKY_GAMMA}),
        Loss("mcc_loss", "binary"),
        Loss("balanced_accuracy_loss", "binary"),
        Loss("squared_dice_loss", "binary"),
    ]
    of_classes = [dataclasses.replace(x, kind="softmax", of_classes=True, ahead={}) for x in sets]
    # At a million scores a sort is all that is to be paid; all pairs of 20,000 are the peers'.
    pairs = {"margin": MARGIN}
    surrogates = ("hinge", "squared_hinge", "square", "exponential", "logistic")
    ranking = [
        *(
            Loss(
                "roc_auc_loss",
                "ranking",
                pairs | {"surrogate": surrogate},
                needs="pass" if surrogate in ("square", "exponential") else "sort",
                ahead={"jnp": 100.0, "rax": 100.0},
            )
            for surrogate in surrogates
        ),
        Loss("partial_roc_auc_loss", "ranking", pairs | {"max_fpr": 0.1}, needs="sort"),
        Loss("average_precision_loss", "ranking", needs="sort", ahead={"jnp": 100.0}),
        Loss("aucm_loss", "ranking"),
        Loss("aum_loss", "ranking", needs="sort"),
        Loss("precision_at_recall_loss", "ranking", {"target_recall": 0.9}, needs="sort"),
        Loss("recall_at_precision_loss", "ranking", {"target_precision": 0.5}, needs="sort"),
        Loss("tpr_at_fpr_loss", "ranking", {"target_fpr": 0.01}, needs="sort"),
        Loss("fpr_at_tpr_loss", "ranking", {"target_tpr": 0.9}, needs="sort"),
        Loss("pr_auc_loss", "ranking", needs="sort"),
    ]
    predicted = [
        Loss("gaussian_nll", "distribution"),
        Loss("beta_nll", "distribution"),
        Loss("faithful_nll", "distribution"),
        Loss("laplace_nll", "distribution"),
        Loss("student_t_nll", "distribution", {"df": DF}),
        Loss("crps_gaussian", "distribution"),
        Loss("pinball_loss", "quantile", {"level": LEVEL}),
    ]
    special = [
        Loss("generalized_dice_loss", "softmax", {"activation": jax.nn.softmax}),
        Loss("lovasz_hinge_loss", "binary", needs="sort"),
        Loss("lovasz_softmax_loss", "softmax", needs="sort"),
        Loss("dice of counts", "binary", forward_only=True, function=_hard_dice),
    ]
    of_elements = [*binary, *softmax, *divergences, *embeddings, *predicted]
    of_sets = [*sets, *of_classes, *ranking, *special]
    return [*of_elements, *(dataclasses.replace(x, readings=2) for x in of_sets)]


LOSSES = _table()
