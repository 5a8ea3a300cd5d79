"""Train on the metric you are judged by: differentiable losses, with the exact metrics beside them.

A score is a function of counts. Counts add up. What you count decides whether it is hard or soft::

    dice(counts(logits > 0, labels))                   # the exact metric
    1 - dice(counts(jax.nn.sigmoid(logits), labels))   # the loss, also dice_loss(logits, labels)

Every function takes logits (or predictions) first, labels second, and everything else by keyword.
A `*_loss` takes logits and is minimised; a score such as `dice` takes `Counts` and is maximised.
docs/arguments.md explains the arguments, docs/choosing.md helps to choose a loss. Below, the names
stand by what they are for.

`diffmetrics.testing` holds assertions for your own losses, and `diffmetrics.diagnose` the loss
doctor.
"""

from diffmetrics import diagnose as diagnose, testing as testing
from diffmetrics._decisions.expected_fbeta import (
    expected_fbeta as expected_fbeta,
    maximize_expected_fbeta as maximize_expected_fbeta,
)
from diffmetrics._decisions.priors import (
    correct_class_priors as correct_class_priors,
    correct_prior as correct_prior,
    estimate_class_priors as estimate_class_priors,
    estimate_prior as estimate_prior,
)
from diffmetrics._decisions.recalibration import (
    conformal_quantile as conformal_quantile,
    fit_scale as fit_scale,
    fit_temperature as fit_temperature,
)
from diffmetrics._decisions.thresholds import (
    bayes_threshold as bayes_threshold,
    bootstrap_threshold as bootstrap_threshold,
    fit_threshold as fit_threshold,
)
from diffmetrics._losses.distributions.crps import (
    crps_gaussian as crps_gaussian,
    crps_mixture as crps_mixture,
    crps_sample as crps_sample,
)
from diffmetrics._losses.distributions.likelihood import (
    beta_nll as beta_nll,
    faithful_nll as faithful_nll,
    gaussian_nll as gaussian_nll,
    laplace_nll as laplace_nll,
    scale_from_raw as scale_from_raw,
    student_t_nll as student_t_nll,
)
from diffmetrics._losses.distributions.quantile import (
    interval_score as interval_score,
    pinball_loss as pinball_loss,
)
from diffmetrics._losses.distributions.variational import (
    elbo_loss as elbo_loss,
    kl_normal as kl_normal,
)
from diffmetrics._losses.elements.class_hinge import (
    crammer_singer_loss as crammer_singer_loss,
    weston_watkins_loss as weston_watkins_loss,
)
from diffmetrics._losses.elements.cost import (
    cost_sensitive_cross_entropy as cost_sensitive_cross_entropy,
    expected_cost_loss as expected_cost_loss,
)
from diffmetrics._losses.elements.entropy import (
    generalized_cross_entropy as generalized_cross_entropy,
    sigmoid_cross_entropy as sigmoid_cross_entropy,
    sigmoid_focal_loss as sigmoid_focal_loss,
    sigmoid_poly_loss as sigmoid_poly_loss,
    softmax_cross_entropy as softmax_cross_entropy,
    softmax_focal_loss as softmax_focal_loss,
    softmax_poly_loss as softmax_poly_loss,
)
from diffmetrics._losses.elements.hinge import (
    exponential_loss as exponential_loss,
    hinge_loss as hinge_loss,
    modified_huber_loss as modified_huber_loss,
    perceptron_loss as perceptron_loss,
    ramp_loss as ramp_loss,
    smooth_hinge_loss as smooth_hinge_loss,
    softplus_hinge_loss as softplus_hinge_loss,
    squared_hinge_loss as squared_hinge_loss,
)
from diffmetrics._losses.elements.imbalance import (
    asymmetric_loss as asymmetric_loss,
    ldam_loss as ldam_loss,
    logit_adjusted_sigmoid_loss as logit_adjusted_sigmoid_loss,
    logit_adjusted_softmax_loss as logit_adjusted_softmax_loss,
    weighted_sigmoid_cross_entropy as weighted_sigmoid_cross_entropy,
    weighted_softmax_cross_entropy as weighted_softmax_cross_entropy,
)
from diffmetrics._losses.elements.proper import (
    beta_family_loss as beta_family_loss,
    brier_loss as brier_loss,
    winkler_loss as winkler_loss,
)
from diffmetrics._losses.pairs.divergence import (
    js_divergence as js_divergence,
    js_divergence_from_probabilities as js_divergence_from_probabilities,
    kl_divergence as kl_divergence,
    kl_divergence_from_probabilities as kl_divergence_from_probabilities,
    symmetric_kl_divergence as symmetric_kl_divergence,
    symmetric_kl_divergence_from_probabilities as symmetric_kl_divergence_from_probabilities,
)
from diffmetrics._losses.pairs.embedding import (
    angular_margin_loss as angular_margin_loss,
    batch_hard_triplet_loss as batch_hard_triplet_loss,
    contrastive_loss as contrastive_loss,
    triplet_loss as triplet_loss,
)
from diffmetrics._losses.pairs.kl_hinge import (
    kl_hinge_loss as kl_hinge_loss,
    pairwise_kl_hinge_loss as pairwise_kl_hinge_loss,
)
from diffmetrics._losses.rankings.lagrangian import (
    pr_auc_lagrangian as pr_auc_lagrangian,
    precision_at_recall_lagrangian as precision_at_recall_lagrangian,
    recall_at_precision_lagrangian as recall_at_precision_lagrangian,
    tpr_at_fpr_lagrangian as tpr_at_fpr_lagrangian,
)
from diffmetrics._losses.rankings.multipliers import (
    Constraint as Constraint,
    dual_update as dual_update,
)
from diffmetrics._losses.rankings.operating_point import (
    fpr_at_tpr_loss as fpr_at_tpr_loss,
    pr_auc_loss as pr_auc_loss,
    precision_at_recall_loss as precision_at_recall_loss,
    recall_at_precision_loss as recall_at_precision_loss,
    tpr_at_fpr_loss as tpr_at_fpr_loss,
)
from diffmetrics._losses.rankings.ranking import (
    aucm_loss as aucm_loss,
    aum_loss as aum_loss,
    average_precision_loss as average_precision_loss,
    partial_roc_auc_loss as partial_roc_auc_loss,
    roc_auc_loss as roc_auc_loss,
)
from diffmetrics._losses.sets.lovasz import (
    lovasz_hinge_loss as lovasz_hinge_loss,
    lovasz_softmax_loss as lovasz_softmax_loss,
)
from diffmetrics._losses.sets.overlap import (
    balanced_accuracy_loss as balanced_accuracy_loss,
    dice_loss as dice_loss,
    fbeta_loss as fbeta_loss,
    focal_tversky_loss as focal_tversky_loss,
    generalized_dice_loss as generalized_dice_loss,
    jaccard_loss as jaccard_loss,
    mcc_loss as mcc_loss,
    squared_dice_loss as squared_dice_loss,
    tversky_loss as tversky_loss,
)
from diffmetrics._losses.sets.score_loss import (
    score_loss as score_loss,
)
from diffmetrics._metrics.class_counts import (
    confusion as confusion,
    counts_per_class as counts_per_class,
    one_vs_rest as one_vs_rest,
)
from diffmetrics._metrics.classes import (
    log_loss as log_loss,
    top_k_accuracy as top_k_accuracy,
)
from diffmetrics._metrics.counts import (
    Counts as Counts,
    counts as counts,
)
from diffmetrics._metrics.curve_points import (
    OperatingPoint as OperatingPoint,
    best_fbeta as best_fbeta,
    equal_error_rate as equal_error_rate,
    min_detection_cost as min_detection_cost,
    precision_at_recall as precision_at_recall,
    recall_at_precision as recall_at_precision,
    tpr_at_fpr as tpr_at_fpr,
)
from diffmetrics._metrics.curves import (
    Curve as Curve,
    average_precision as average_precision,
    curve as curve,
    detection_error_curve as detection_error_curve,
    partial_roc_auc as partial_roc_auc,
    precision_recall_curve as precision_recall_curve,
    roc_auc as roc_auc,
    roc_curve as roc_curve,
    threshold_counts as threshold_counts,
)
from diffmetrics._metrics.deviations import (
    interval_coverage as interval_coverage,
    normal_interval as normal_interval,
    normalized_calibration_error as normalized_calibration_error,
    probability_integral_transform as probability_integral_transform,
    regression_calibration_error as regression_calibration_error,
    sharpness as sharpness,
)
from diffmetrics._metrics.matrix_scores import (
    multiclass_kappa as multiclass_kappa,
    multiclass_mcc as multiclass_mcc,
)
from diffmetrics._metrics.mixtures import (
    decompose_variance as decompose_variance,
    mixture_log_likelihood as mixture_log_likelihood,
    moment_matched_log_likelihood as moment_matched_log_likelihood,
)
from diffmetrics._metrics.reliability import (
    BrierDecomposition as BrierDecomposition,
    Reliability as Reliability,
    adaptive_calibration_error as adaptive_calibration_error,
    brier_decomposition as brier_decomposition,
    debiased_calibration_error as debiased_calibration_error,
    expected_calibration_error as expected_calibration_error,
    reliability_bins as reliability_bins,
)
from diffmetrics._metrics.scores import (
    accuracy as accuracy,
    balanced_accuracy as balanced_accuracy,
    cohen_kappa as cohen_kappa,
    dice as dice,
    fbeta as fbeta,
    fowlkes_mallows as fowlkes_mallows,
    geometric_mean as geometric_mean,
    informedness as informedness,
    jaccard as jaccard,
    mcc as mcc,
    negative_predictive_value as negative_predictive_value,
    precision as precision,
    prevalence as prevalence,
    recall as recall,
    specificity as specificity,
    tversky as tversky,
)
from diffmetrics._metrics.sparsification import (
    Sparsification as Sparsification,
    attainable as attainable,
    ause as ause,
    rank_correlation as rank_correlation,
    risk_at_coverage as risk_at_coverage,
    sparsification_curve as sparsification_curve,
)
from diffmetrics._training.batches import (
    balanced_batches as balanced_batches,
    stratified_batches as stratified_batches,
)
from diffmetrics._training.class_weights import (
    balanced_class_weights as balanced_class_weights,
    effective_number_weights as effective_number_weights,
)
from diffmetrics._training.combine import (
    combine as combine,
    dynamic_average_weights as dynamic_average_weights,
    gradient_norm_weights as gradient_norm_weights,
    uncertainty_weights as uncertainty_weights,
)
