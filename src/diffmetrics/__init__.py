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
* **Embeddings**: `contrastive_loss`, `triplet_loss`, `softplus_triplet_loss`,
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
from diffmetrics._batches import balanced_batches as balanced_batches
from diffmetrics._batches import stratified_batches as stratified_batches
from diffmetrics._calibration import interval_coverage as interval_coverage
from diffmetrics._calibration import normal_interval as normal_interval
from diffmetrics._calibration import normalized_calibration_error as normalized_calibration_error
from diffmetrics._calibration import (
    probability_integral_transform as probability_integral_transform,
)
from diffmetrics._calibration import regression_calibration_error as regression_calibration_error
from diffmetrics._calibration import sharpness as sharpness
from diffmetrics._class_margin import crammer_singer_loss as crammer_singer_loss
from diffmetrics._class_margin import weston_watkins_loss as weston_watkins_loss
from diffmetrics._classification import log_loss as log_loss
from diffmetrics._classification import top_k_accuracy as top_k_accuracy
from diffmetrics._compose import combine as combine
from diffmetrics._compose import dynamic_average_weights as dynamic_average_weights
from diffmetrics._compose import gradient_norm_weights as gradient_norm_weights
from diffmetrics._compose import uncertainty_weights as uncertainty_weights
from diffmetrics._constrained import fpr_at_tpr_loss as fpr_at_tpr_loss
from diffmetrics._constrained import pr_auc_loss as pr_auc_loss
from diffmetrics._constrained import precision_at_recall_loss as precision_at_recall_loss
from diffmetrics._constrained import recall_at_precision_loss as recall_at_precision_loss
from diffmetrics._constrained import tpr_at_fpr_loss as tpr_at_fpr_loss
from diffmetrics._cost import cost_sensitive_cross_entropy as cost_sensitive_cross_entropy
from diffmetrics._cost import expected_cost_loss as expected_cost_loss
from diffmetrics._counts import Counts as Counts
from diffmetrics._counts import confusion as confusion
from diffmetrics._counts import counts as counts
from diffmetrics._counts import one_vs_rest as one_vs_rest
from diffmetrics._crps import crps_gaussian as crps_gaussian
from diffmetrics._crps import crps_mixture as crps_mixture
from diffmetrics._crps import crps_sample as crps_sample
from diffmetrics._curve_points import OperatingPoint as OperatingPoint
from diffmetrics._curve_points import best_fbeta as best_fbeta
from diffmetrics._curve_points import equal_error_rate as equal_error_rate
from diffmetrics._curve_points import min_detection_cost as min_detection_cost
from diffmetrics._curve_points import precision_at_recall as precision_at_recall
from diffmetrics._curve_points import recall_at_precision as recall_at_precision
from diffmetrics._curve_points import tpr_at_fpr as tpr_at_fpr
from diffmetrics._curves import Curve as Curve
from diffmetrics._curves import average_precision as average_precision
from diffmetrics._curves import curve as curve
from diffmetrics._curves import detection_error_curve as detection_error_curve
from diffmetrics._curves import partial_roc_auc as partial_roc_auc
from diffmetrics._curves import precision_recall_curve as precision_recall_curve
from diffmetrics._curves import roc_auc as roc_auc
from diffmetrics._curves import roc_curve as roc_curve
from diffmetrics._curves import threshold_counts as threshold_counts
from diffmetrics._decision import bayes_threshold as bayes_threshold
from diffmetrics._decision import bootstrap_threshold as bootstrap_threshold
from diffmetrics._decision import expected_fbeta as expected_fbeta
from diffmetrics._decision import fit_threshold as fit_threshold
from diffmetrics._decision import maximize_expected_fbeta as maximize_expected_fbeta
from diffmetrics._divergence import js_divergence as js_divergence
from diffmetrics._divergence import (
    js_divergence_from_probabilities as js_divergence_from_probabilities,
)
from diffmetrics._divergence import kl_divergence as kl_divergence
from diffmetrics._divergence import (
    kl_divergence_from_probabilities as kl_divergence_from_probabilities,
)
from diffmetrics._divergence import symmetric_kl_divergence as symmetric_kl_divergence
from diffmetrics._divergence import (
    symmetric_kl_divergence_from_probabilities as symmetric_kl_divergence_from_probabilities,
)
from diffmetrics._embedding import angular_margin_loss as angular_margin_loss
from diffmetrics._embedding import batch_hard_triplet_loss as batch_hard_triplet_loss
from diffmetrics._embedding import contrastive_loss as contrastive_loss
from diffmetrics._embedding import softplus_triplet_loss as softplus_triplet_loss
from diffmetrics._embedding import triplet_loss as triplet_loss
from diffmetrics._entropy import generalized_cross_entropy as generalized_cross_entropy
from diffmetrics._entropy import sigmoid_cross_entropy as sigmoid_cross_entropy
from diffmetrics._entropy import sigmoid_focal_loss as sigmoid_focal_loss
from diffmetrics._entropy import sigmoid_poly_loss as sigmoid_poly_loss
from diffmetrics._entropy import softmax_cross_entropy as softmax_cross_entropy
from diffmetrics._entropy import softmax_focal_loss as softmax_focal_loss
from diffmetrics._entropy import softmax_poly_loss as softmax_poly_loss
from diffmetrics._imbalance import balanced_class_weights as balanced_class_weights
from diffmetrics._imbalance import correct_class_priors as correct_class_priors
from diffmetrics._imbalance import correct_prior as correct_prior
from diffmetrics._imbalance import effective_number_weights as effective_number_weights
from diffmetrics._imbalance import estimate_class_priors as estimate_class_priors
from diffmetrics._imbalance import estimate_prior as estimate_prior
from diffmetrics._imbalanced_entropy import asymmetric_loss as asymmetric_loss
from diffmetrics._imbalanced_entropy import ldam_loss as ldam_loss
from diffmetrics._imbalanced_entropy import (
    logit_adjusted_sigmoid_loss as logit_adjusted_sigmoid_loss,
)
from diffmetrics._imbalanced_entropy import (
    logit_adjusted_softmax_loss as logit_adjusted_softmax_loss,
)
from diffmetrics._imbalanced_entropy import (
    weighted_sigmoid_cross_entropy as weighted_sigmoid_cross_entropy,
)
from diffmetrics._imbalanced_entropy import (
    weighted_softmax_cross_entropy as weighted_softmax_cross_entropy,
)
from diffmetrics._kl_hinge import kl_hinge_loss as kl_hinge_loss
from diffmetrics._kl_hinge import pairwise_kl_hinge_loss as pairwise_kl_hinge_loss
from diffmetrics._lagrangian import Constraint as Constraint
from diffmetrics._lagrangian import dual_update as dual_update
from diffmetrics._lagrangian import fpr_at_tpr_lagrangian as fpr_at_tpr_lagrangian
from diffmetrics._lagrangian import pr_auc_lagrangian as pr_auc_lagrangian
from diffmetrics._lagrangian import precision_at_recall_lagrangian as precision_at_recall_lagrangian
from diffmetrics._lagrangian import recall_at_precision_lagrangian as recall_at_precision_lagrangian
from diffmetrics._lagrangian import tpr_at_fpr_lagrangian as tpr_at_fpr_lagrangian
from diffmetrics._lovasz import lovasz_hinge_loss as lovasz_hinge_loss
from diffmetrics._lovasz import lovasz_softmax_loss as lovasz_softmax_loss
from diffmetrics._margin import exponential_loss as exponential_loss
from diffmetrics._margin import hinge_loss as hinge_loss
from diffmetrics._margin import modified_huber_loss as modified_huber_loss
from diffmetrics._margin import perceptron_loss as perceptron_loss
from diffmetrics._margin import ramp_loss as ramp_loss
from diffmetrics._margin import smooth_hinge_loss as smooth_hinge_loss
from diffmetrics._margin import softplus_hinge_loss as softplus_hinge_loss
from diffmetrics._margin import squared_hinge_loss as squared_hinge_loss
from diffmetrics._overlap import balanced_accuracy_loss as balanced_accuracy_loss
from diffmetrics._overlap import dice_loss as dice_loss
from diffmetrics._overlap import fbeta_loss as fbeta_loss
from diffmetrics._overlap import focal_tversky_loss as focal_tversky_loss
from diffmetrics._overlap import generalized_dice_loss as generalized_dice_loss
from diffmetrics._overlap import jaccard_loss as jaccard_loss
from diffmetrics._overlap import mcc_loss as mcc_loss
from diffmetrics._overlap import squared_dice_loss as squared_dice_loss
from diffmetrics._overlap import tversky_loss as tversky_loss
from diffmetrics._probabilistic import beta_nll as beta_nll
from diffmetrics._probabilistic import faithful_nll as faithful_nll
from diffmetrics._probabilistic import gaussian_nll as gaussian_nll
from diffmetrics._probabilistic import laplace_nll as laplace_nll
from diffmetrics._probabilistic import scale_from_raw as scale_from_raw
from diffmetrics._probabilistic import student_t_nll as student_t_nll
from diffmetrics._proper import beta_family_loss as beta_family_loss
from diffmetrics._proper import brier_loss as brier_loss
from diffmetrics._proper import winkler_loss as winkler_loss
from diffmetrics._quantile import interval_score as interval_score
from diffmetrics._quantile import pinball_loss as pinball_loss
from diffmetrics._ranking import aucm_loss as aucm_loss
from diffmetrics._ranking import aum_loss as aum_loss
from diffmetrics._ranking import average_precision_loss as average_precision_loss
from diffmetrics._ranking import partial_roc_auc_loss as partial_roc_auc_loss
from diffmetrics._ranking import roc_auc_loss as roc_auc_loss
from diffmetrics._recalibration import conformal_quantile as conformal_quantile
from diffmetrics._recalibration import fit_scale as fit_scale
from diffmetrics._recalibration import fit_temperature as fit_temperature
from diffmetrics._reliability import BrierDecomposition as BrierDecomposition
from diffmetrics._reliability import Reliability as Reliability
from diffmetrics._reliability import adaptive_calibration_error as adaptive_calibration_error
from diffmetrics._reliability import brier_decomposition as brier_decomposition
from diffmetrics._reliability import debiased_calibration_error as debiased_calibration_error
from diffmetrics._reliability import expected_calibration_error as expected_calibration_error
from diffmetrics._reliability import reliability_bins as reliability_bins
from diffmetrics._scores import accuracy as accuracy
from diffmetrics._scores import balanced_accuracy as balanced_accuracy
from diffmetrics._scores import cohen_kappa as cohen_kappa
from diffmetrics._scores import dice as dice
from diffmetrics._scores import fbeta as fbeta
from diffmetrics._scores import fowlkes_mallows as fowlkes_mallows
from diffmetrics._scores import geometric_mean as geometric_mean
from diffmetrics._scores import informedness as informedness
from diffmetrics._scores import jaccard as jaccard
from diffmetrics._scores import mcc as mcc
from diffmetrics._scores import multiclass_kappa as multiclass_kappa
from diffmetrics._scores import multiclass_mcc as multiclass_mcc
from diffmetrics._scores import negative_predictive_value as negative_predictive_value
from diffmetrics._scores import precision as precision
from diffmetrics._scores import prevalence as prevalence
from diffmetrics._scores import recall as recall
from diffmetrics._scores import specificity as specificity
from diffmetrics._scores import tversky as tversky
from diffmetrics._set_loss import score_loss as score_loss
from diffmetrics._sparsification import Sparsification as Sparsification
from diffmetrics._sparsification import attainable as attainable
from diffmetrics._sparsification import ause as ause
from diffmetrics._sparsification import rank_correlation as rank_correlation
from diffmetrics._sparsification import risk_at_coverage as risk_at_coverage
from diffmetrics._sparsification import sparsification_curve as sparsification_curve
from diffmetrics._variational import decompose_variance as decompose_variance
from diffmetrics._variational import elbo_loss as elbo_loss
from diffmetrics._variational import kl_normal as kl_normal
from diffmetrics._variational import mixture_log_likelihood as mixture_log_likelihood
from diffmetrics._variational import moment_matched_log_likelihood as moment_matched_log_likelihood

__version__ = "0.1.0"
