"""Differentiable twins of the metrics people are judged by, with the exact metrics beside them.

A score is a function of counts. Counts add up. Hard or soft is decided by what is counted:

    dice(counts(logits > 0, labels))                   # the exact metric
    1 - dice(counts(jax.nn.sigmoid(logits), labels))   # the loss, also dice_loss(logits, labels)

The families:

* **Counts**: `Counts`, `counts`, `confusion`, `one_vs_rest`.
* **Scores** of counts, larger is better: `accuracy`, `balanced_accuracy`, `precision`, `recall`,
  `specificity`, `negative_predictive_value`, `fbeta`, `dice`, `jaccard`, `tversky`, `mcc`,
  `cohen_kappa`, `informedness`, `geometric_mean`, `fowlkes_mallows`, `prevalence`; of a confusion
  matrix: `multiclass_mcc`, `multiclass_kappa`.
* **Overlap losses** of logits, smaller is better: `score_loss` makes one of any score; its named
  faces are `fbeta_loss`, `dice_loss`, `jaccard_loss`, `tversky_loss`, `focal_tversky_loss`,
  `mcc_loss`, `balanced_accuracy_loss`; their relatives `squared_dice_loss`,
  `generalized_dice_loss`, `lovasz_hinge_loss`, `lovasz_softmax_loss`.
* **Losses of one value per element or example**, unreduced: `sigmoid_cross_entropy`,
  `softmax_cross_entropy`, `sigmoid_focal_loss`, `softmax_focal_loss`, `sigmoid_poly_loss`,
  `softmax_poly_loss`, `generalized_cross_entropy`; for classes of unequal size
  `weighted_sigmoid_cross_entropy`, `weighted_softmax_cross_entropy`, `asymmetric_loss`,
  `logit_adjusted_sigmoid_loss`, `logit_adjusted_softmax_loss`, `ldam_loss`; for errors of unequal
  cost `expected_cost_loss`, `cost_sensitive_cross_entropy`; proper scoring rules `brier_loss`,
  `beta_family_loss`, `winkler_loss`.
* **Margins**: `hinge_loss`, `squared_hinge_loss`, `smooth_hinge_loss`, `softplus_hinge_loss`,
  `modified_huber_loss`, `ramp_loss`, `exponential_loss`, `perceptron_loss`, `crammer_singer_loss`,
  `weston_watkins_loss`.
* **Divergences** of logits, `kl_divergence`, `symmetric_kl_divergence`, `js_divergence`, and of
  probabilities, `..._from_probabilities`; identities from pairs `kl_hinge_loss`,
  `pairwise_kl_hinge_loss`.
* **Embeddings**: `contrastive_loss`, `triplet_loss`,
  `batch_hard_triplet_loss`, `angular_margin_loss`.
* **Rankings**, over all pairs by one sort: `roc_auc_loss`, `partial_roc_auc_loss`,
  `average_precision_loss`, `aucm_loss`, `aum_loss`.
* **Curves**, counts with a thresholds axis: `curve` of all thresholds, `threshold_counts` of given
  ones, which add up; to draw `roc_curve`, `precision_recall_curve`, `detection_error_curve`; read
  off them `roc_auc`, `partial_roc_auc`, `average_precision`, `recall_at_precision`,
  `precision_at_recall`, `tpr_at_fpr`, `best_fbeta`, `equal_error_rate`, `min_detection_cost`; of
  probabilities `log_loss`, `top_k_accuracy`.
* **Decisions**: `fit_threshold`, `bootstrap_threshold`, `bayes_threshold`, `expected_fbeta`,
  `maximize_expected_fbeta`; other class frequencies `correct_prior`, `correct_class_priors`,
  `estimate_prior`, `estimate_class_priors`, `balanced_class_weights`, `effective_number_weights`;
  batches with given ones `balanced_batches`, `stratified_batches`.
* **Operating points**, stateless with the threshold at a quantile: `precision_at_recall_loss`,
  `recall_at_precision_loss`, `tpr_at_fpr_loss`, `fpr_at_tpr_loss`, `pr_auc_loss`; with multipliers
  and the threshold at logit 0: the same names with `..._lagrangian`, `Constraint`, `dual_update`.
* **Predicted distributions**, the prediction first and the target last: a deviation from a network
  `scale_from_raw`; likelihoods `gaussian_nll`, `beta_nll`, `faithful_nll`, `laplace_nll`,
  `student_t_nll`; in the units of the target `crps_gaussian`, `crps_sample`, `crps_mixture`,
  `pinball_loss`, `interval_score`; weights with a distribution `kl_normal`,
  `elbo_loss`; of members together `mixture_log_likelihood`, `moment_matched_log_likelihood`,
  `decompose_variance`.
* **Calibration**, of predicted distributions: `normal_interval`, `interval_coverage`,
  `probability_integral_transform`, `regression_calibration_error`, `normalized_calibration_error`,
  `sharpness`; whether the wrong ones are uncertain `sparsification_curve`, `ause`,
  `risk_at_coverage`, `rank_correlation`, and what is `attainable`; of classifiers
  `reliability_bins`, `expected_calibration_error`, `adaptive_calibration_error`,
  `debiased_calibration_error`, `brier_decomposition`; mended by `fit_scale`, `fit_temperature`,
  `conformal_quantile`.
* **Several losses on one output**: `combine`, with weights of your own, or those of
  `uncertainty_weights`, `dynamic_average_weights`, `gradient_norm_weights`.
* **`diffmetrics.testing`**: assertions for losses, ours and yours.
* **`diffmetrics.diagnose`**: the loss doctor; `loss`, `run`, `batch`, and a command.

Every function takes logits (or predictions) first, labels second, and everything else by keyword;
`*_loss` goes down, a bare noun goes up.
"""

from diffmetrics import diagnose as diagnose
from diffmetrics import testing as testing
from diffmetrics._decisions.expected_fbeta import expected_fbeta as expected_fbeta
from diffmetrics._decisions.expected_fbeta import maximize_expected_fbeta as maximize_expected_fbeta
from diffmetrics._decisions.priors import correct_class_priors as correct_class_priors
from diffmetrics._decisions.priors import correct_prior as correct_prior
from diffmetrics._decisions.priors import estimate_class_priors as estimate_class_priors
from diffmetrics._decisions.priors import estimate_prior as estimate_prior
from diffmetrics._decisions.recalibration import conformal_quantile as conformal_quantile
from diffmetrics._decisions.recalibration import fit_scale as fit_scale
from diffmetrics._decisions.recalibration import fit_temperature as fit_temperature
from diffmetrics._decisions.thresholds import bayes_threshold as bayes_threshold
from diffmetrics._decisions.thresholds import bootstrap_threshold as bootstrap_threshold
from diffmetrics._decisions.thresholds import fit_threshold as fit_threshold
from diffmetrics._losses.distributions.crps import crps_gaussian as crps_gaussian
from diffmetrics._losses.distributions.crps import crps_mixture as crps_mixture
from diffmetrics._losses.distributions.crps import crps_sample as crps_sample
from diffmetrics._losses.distributions.likelihood import beta_nll as beta_nll
from diffmetrics._losses.distributions.likelihood import faithful_nll as faithful_nll
from diffmetrics._losses.distributions.likelihood import gaussian_nll as gaussian_nll
from diffmetrics._losses.distributions.likelihood import laplace_nll as laplace_nll
from diffmetrics._losses.distributions.likelihood import scale_from_raw as scale_from_raw
from diffmetrics._losses.distributions.likelihood import student_t_nll as student_t_nll
from diffmetrics._losses.distributions.quantile import interval_score as interval_score
from diffmetrics._losses.distributions.quantile import pinball_loss as pinball_loss
from diffmetrics._losses.distributions.variational import elbo_loss as elbo_loss
from diffmetrics._losses.distributions.variational import kl_normal as kl_normal
from diffmetrics._losses.elements.class_hinge import crammer_singer_loss as crammer_singer_loss
from diffmetrics._losses.elements.class_hinge import weston_watkins_loss as weston_watkins_loss
from diffmetrics._losses.elements.cost import (
    cost_sensitive_cross_entropy as cost_sensitive_cross_entropy,
)
from diffmetrics._losses.elements.cost import expected_cost_loss as expected_cost_loss
from diffmetrics._losses.elements.entropy import (
    generalized_cross_entropy as generalized_cross_entropy,
)
from diffmetrics._losses.elements.entropy import sigmoid_cross_entropy as sigmoid_cross_entropy
from diffmetrics._losses.elements.entropy import sigmoid_focal_loss as sigmoid_focal_loss
from diffmetrics._losses.elements.entropy import sigmoid_poly_loss as sigmoid_poly_loss
from diffmetrics._losses.elements.entropy import softmax_cross_entropy as softmax_cross_entropy
from diffmetrics._losses.elements.entropy import softmax_focal_loss as softmax_focal_loss
from diffmetrics._losses.elements.entropy import softmax_poly_loss as softmax_poly_loss
from diffmetrics._losses.elements.hinge import exponential_loss as exponential_loss
from diffmetrics._losses.elements.hinge import hinge_loss as hinge_loss
from diffmetrics._losses.elements.hinge import modified_huber_loss as modified_huber_loss
from diffmetrics._losses.elements.hinge import perceptron_loss as perceptron_loss
from diffmetrics._losses.elements.hinge import ramp_loss as ramp_loss
from diffmetrics._losses.elements.hinge import smooth_hinge_loss as smooth_hinge_loss
from diffmetrics._losses.elements.hinge import softplus_hinge_loss as softplus_hinge_loss
from diffmetrics._losses.elements.hinge import squared_hinge_loss as squared_hinge_loss
from diffmetrics._losses.elements.imbalance import asymmetric_loss as asymmetric_loss
from diffmetrics._losses.elements.imbalance import ldam_loss as ldam_loss
from diffmetrics._losses.elements.imbalance import (
    logit_adjusted_sigmoid_loss as logit_adjusted_sigmoid_loss,
)
from diffmetrics._losses.elements.imbalance import (
    logit_adjusted_softmax_loss as logit_adjusted_softmax_loss,
)
from diffmetrics._losses.elements.imbalance import (
    weighted_sigmoid_cross_entropy as weighted_sigmoid_cross_entropy,
)
from diffmetrics._losses.elements.imbalance import (
    weighted_softmax_cross_entropy as weighted_softmax_cross_entropy,
)
from diffmetrics._losses.elements.proper import beta_family_loss as beta_family_loss
from diffmetrics._losses.elements.proper import brier_loss as brier_loss
from diffmetrics._losses.elements.proper import winkler_loss as winkler_loss
from diffmetrics._losses.pairs.divergence import js_divergence as js_divergence
from diffmetrics._losses.pairs.divergence import (
    js_divergence_from_probabilities as js_divergence_from_probabilities,
)
from diffmetrics._losses.pairs.divergence import kl_divergence as kl_divergence
from diffmetrics._losses.pairs.divergence import (
    kl_divergence_from_probabilities as kl_divergence_from_probabilities,
)
from diffmetrics._losses.pairs.divergence import symmetric_kl_divergence as symmetric_kl_divergence
from diffmetrics._losses.pairs.divergence import (
    symmetric_kl_divergence_from_probabilities as symmetric_kl_divergence_from_probabilities,
)
from diffmetrics._losses.pairs.embedding import angular_margin_loss as angular_margin_loss
from diffmetrics._losses.pairs.embedding import batch_hard_triplet_loss as batch_hard_triplet_loss
from diffmetrics._losses.pairs.embedding import contrastive_loss as contrastive_loss
from diffmetrics._losses.pairs.embedding import triplet_loss as triplet_loss
from diffmetrics._losses.pairs.kl_hinge import kl_hinge_loss as kl_hinge_loss
from diffmetrics._losses.pairs.kl_hinge import pairwise_kl_hinge_loss as pairwise_kl_hinge_loss
from diffmetrics._losses.rankings.lagrangian import Constraint as Constraint
from diffmetrics._losses.rankings.lagrangian import dual_update as dual_update
from diffmetrics._losses.rankings.lagrangian import pr_auc_lagrangian as pr_auc_lagrangian
from diffmetrics._losses.rankings.lagrangian import (
    precision_at_recall_lagrangian as precision_at_recall_lagrangian,
)
from diffmetrics._losses.rankings.lagrangian import (
    recall_at_precision_lagrangian as recall_at_precision_lagrangian,
)
from diffmetrics._losses.rankings.lagrangian import tpr_at_fpr_lagrangian as tpr_at_fpr_lagrangian
from diffmetrics._losses.rankings.operating_point import fpr_at_tpr_loss as fpr_at_tpr_loss
from diffmetrics._losses.rankings.operating_point import pr_auc_loss as pr_auc_loss
from diffmetrics._losses.rankings.operating_point import (
    precision_at_recall_loss as precision_at_recall_loss,
)
from diffmetrics._losses.rankings.operating_point import (
    recall_at_precision_loss as recall_at_precision_loss,
)
from diffmetrics._losses.rankings.operating_point import tpr_at_fpr_loss as tpr_at_fpr_loss
from diffmetrics._losses.rankings.ranking import aucm_loss as aucm_loss
from diffmetrics._losses.rankings.ranking import aum_loss as aum_loss
from diffmetrics._losses.rankings.ranking import average_precision_loss as average_precision_loss
from diffmetrics._losses.rankings.ranking import partial_roc_auc_loss as partial_roc_auc_loss
from diffmetrics._losses.rankings.ranking import roc_auc_loss as roc_auc_loss
from diffmetrics._losses.sets.lovasz import lovasz_hinge_loss as lovasz_hinge_loss
from diffmetrics._losses.sets.lovasz import lovasz_softmax_loss as lovasz_softmax_loss
from diffmetrics._losses.sets.overlap import balanced_accuracy_loss as balanced_accuracy_loss
from diffmetrics._losses.sets.overlap import dice_loss as dice_loss
from diffmetrics._losses.sets.overlap import fbeta_loss as fbeta_loss
from diffmetrics._losses.sets.overlap import focal_tversky_loss as focal_tversky_loss
from diffmetrics._losses.sets.overlap import generalized_dice_loss as generalized_dice_loss
from diffmetrics._losses.sets.overlap import jaccard_loss as jaccard_loss
from diffmetrics._losses.sets.overlap import mcc_loss as mcc_loss
from diffmetrics._losses.sets.overlap import squared_dice_loss as squared_dice_loss
from diffmetrics._losses.sets.overlap import tversky_loss as tversky_loss
from diffmetrics._losses.sets.score_loss import score_loss as score_loss
from diffmetrics._metrics.classes import log_loss as log_loss
from diffmetrics._metrics.classes import top_k_accuracy as top_k_accuracy
from diffmetrics._metrics.counts import Counts as Counts
from diffmetrics._metrics.counts import confusion as confusion
from diffmetrics._metrics.counts import counts as counts
from diffmetrics._metrics.counts import one_vs_rest as one_vs_rest
from diffmetrics._metrics.curve_points import OperatingPoint as OperatingPoint
from diffmetrics._metrics.curve_points import best_fbeta as best_fbeta
from diffmetrics._metrics.curve_points import equal_error_rate as equal_error_rate
from diffmetrics._metrics.curve_points import min_detection_cost as min_detection_cost
from diffmetrics._metrics.curve_points import precision_at_recall as precision_at_recall
from diffmetrics._metrics.curve_points import recall_at_precision as recall_at_precision
from diffmetrics._metrics.curve_points import tpr_at_fpr as tpr_at_fpr
from diffmetrics._metrics.curves import Curve as Curve
from diffmetrics._metrics.curves import average_precision as average_precision
from diffmetrics._metrics.curves import curve as curve
from diffmetrics._metrics.curves import detection_error_curve as detection_error_curve
from diffmetrics._metrics.curves import partial_roc_auc as partial_roc_auc
from diffmetrics._metrics.curves import precision_recall_curve as precision_recall_curve
from diffmetrics._metrics.curves import roc_auc as roc_auc
from diffmetrics._metrics.curves import roc_curve as roc_curve
from diffmetrics._metrics.curves import threshold_counts as threshold_counts
from diffmetrics._metrics.deviations import interval_coverage as interval_coverage
from diffmetrics._metrics.deviations import normal_interval as normal_interval
from diffmetrics._metrics.deviations import (
    normalized_calibration_error as normalized_calibration_error,
)
from diffmetrics._metrics.deviations import (
    probability_integral_transform as probability_integral_transform,
)
from diffmetrics._metrics.deviations import (
    regression_calibration_error as regression_calibration_error,
)
from diffmetrics._metrics.deviations import sharpness as sharpness
from diffmetrics._metrics.mixtures import decompose_variance as decompose_variance
from diffmetrics._metrics.mixtures import mixture_log_likelihood as mixture_log_likelihood
from diffmetrics._metrics.mixtures import (
    moment_matched_log_likelihood as moment_matched_log_likelihood,
)
from diffmetrics._metrics.reliability import BrierDecomposition as BrierDecomposition
from diffmetrics._metrics.reliability import Reliability as Reliability
from diffmetrics._metrics.reliability import (
    adaptive_calibration_error as adaptive_calibration_error,
)
from diffmetrics._metrics.reliability import brier_decomposition as brier_decomposition
from diffmetrics._metrics.reliability import (
    debiased_calibration_error as debiased_calibration_error,
)
from diffmetrics._metrics.reliability import (
    expected_calibration_error as expected_calibration_error,
)
from diffmetrics._metrics.reliability import reliability_bins as reliability_bins
from diffmetrics._metrics.scores import accuracy as accuracy
from diffmetrics._metrics.scores import balanced_accuracy as balanced_accuracy
from diffmetrics._metrics.scores import cohen_kappa as cohen_kappa
from diffmetrics._metrics.scores import dice as dice
from diffmetrics._metrics.scores import fbeta as fbeta
from diffmetrics._metrics.scores import fowlkes_mallows as fowlkes_mallows
from diffmetrics._metrics.scores import geometric_mean as geometric_mean
from diffmetrics._metrics.scores import informedness as informedness
from diffmetrics._metrics.scores import jaccard as jaccard
from diffmetrics._metrics.scores import mcc as mcc
from diffmetrics._metrics.scores import multiclass_kappa as multiclass_kappa
from diffmetrics._metrics.scores import multiclass_mcc as multiclass_mcc
from diffmetrics._metrics.scores import negative_predictive_value as negative_predictive_value
from diffmetrics._metrics.scores import precision as precision
from diffmetrics._metrics.scores import prevalence as prevalence
from diffmetrics._metrics.scores import recall as recall
from diffmetrics._metrics.scores import specificity as specificity
from diffmetrics._metrics.scores import tversky as tversky
from diffmetrics._metrics.sparsification import Sparsification as Sparsification
from diffmetrics._metrics.sparsification import attainable as attainable
from diffmetrics._metrics.sparsification import ause as ause
from diffmetrics._metrics.sparsification import rank_correlation as rank_correlation
from diffmetrics._metrics.sparsification import risk_at_coverage as risk_at_coverage
from diffmetrics._metrics.sparsification import sparsification_curve as sparsification_curve
from diffmetrics._training.batches import balanced_batches as balanced_batches
from diffmetrics._training.batches import stratified_batches as stratified_batches
from diffmetrics._training.class_weights import balanced_class_weights as balanced_class_weights
from diffmetrics._training.class_weights import effective_number_weights as effective_number_weights
from diffmetrics._training.combine import combine as combine
from diffmetrics._training.combine import dynamic_average_weights as dynamic_average_weights
from diffmetrics._training.combine import gradient_norm_weights as gradient_norm_weights
from diffmetrics._training.combine import uncertainty_weights as uncertainty_weights

__version__ = "0.1.0"
