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
* **`diffmetrics.testing`**: assertions for losses, ours and yours.

Every function takes logits (or predictions) first, labels second, and everything else by keyword;
`*_loss` goes down, a bare noun goes up.
"""

from diffmetrics import testing as testing
from diffmetrics._counts import Counts as Counts
from diffmetrics._counts import confusion as confusion
from diffmetrics._counts import counts as counts
from diffmetrics._counts import one_vs_rest as one_vs_rest
from diffmetrics._lovasz import lovasz_hinge_loss as lovasz_hinge_loss
from diffmetrics._lovasz import lovasz_softmax_loss as lovasz_softmax_loss
from diffmetrics._overlap import balanced_accuracy_loss as balanced_accuracy_loss
from diffmetrics._overlap import dice_loss as dice_loss
from diffmetrics._overlap import fbeta_loss as fbeta_loss
from diffmetrics._overlap import focal_tversky_loss as focal_tversky_loss
from diffmetrics._overlap import generalized_dice_loss as generalized_dice_loss
from diffmetrics._overlap import jaccard_loss as jaccard_loss
from diffmetrics._overlap import mcc_loss as mcc_loss
from diffmetrics._overlap import squared_dice_loss as squared_dice_loss
from diffmetrics._overlap import tversky_loss as tversky_loss
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

__version__ = "0.1.0"
