"""Whether the predictions of a batch of the user's are the wrong way round."""

from __future__ import annotations

import numpy as np

from diffmetrics.diagnose._forms import OWN
from diffmetrics.diagnose._inputs import log_loss, of_constant
from diffmetrics.diagnose._probes._asked import Asked
from diffmetrics.diagnose._probes.own_batch import decided, direction
from diffmetrics.diagnose._probes.own_inputs import inputs
from diffmetrics.diagnose._probes.own_masks import masks
from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, defect, note
from diffmetrics.diagnose._subject import OwnBatch

ENOUGH, OF_EACH = 100, 10  # decisions, and positives or negatives
BELOW = 0.3  # for the ROC AUC
FITS = 0.25  # times the log loss of a constant: so well predictions fit that are turned round
SOME = 100_000


@probe("inverted", (OWN,), rank=5)
def inverted(batch: OwnBatch) -> Finding | None:
    """Whether positives are ranked below negatives by predictions that the loss pulls back.

    A young model may do so by chance, but its probabilities would not fit the inverted labels.
    """
    some = decided(batch)
    if some is None or some.wrong.size < ENOUGH or some.wrong.mean() < 0.5:
        return None
    z = np.asarray(batch.form.predictions(), np.float64)
    area = _area(z, some.positive)
    if not area < BELOW or _explained(batch):
        return None
    p = z if some.of_probabilities else 1 / (1 + np.exp(-np.clip(z, -500, 500)))
    cause = "most predictions are wrong, and positives are ranked below negatives"
    evidence = f"{some.wrong.sum()} of {some.wrong.size} are wrong, ROC AUC {area:.3f}"
    advice = "check which class is called 1, and whether masks were inverted"
    inverted_labels = ~some.positive
    if log_loss(p, inverted_labels) < FITS * of_constant(inverted_labels.mean()):
        return defect(f"{cause}, as if labels were inverted", evidence, advice)
    return note(cause, evidence, f"{advice}; of a model that has learnt nothing yet it is chance")


def _explained(batch: OwnBatch) -> bool:
    """Whether another probe tells why, or it is no loss of decisions."""
    asked = Asked.of(batch)
    if asked is None or not asked.decides or not asked.classifies:
        return True
    return any(
        found.status == "defect" for ask in (direction, inputs, masks) for found in ask(batch)
    )


def _area(scores: np.ndarray, positive: np.ndarray) -> float:
    """ROC AUC of some of the decisions; NaN if there are too few of a kind."""
    every = -(-scores.size // SOME)
    scores, positive = scores.ravel()[::every], positive.ravel()[::every]
    above, below = scores[positive], np.sort(scores[~positive])
    if min(above.size, below.size) < OF_EACH:
        return float("nan")
    lower = (np.searchsorted(below, above, side) for side in ("left", "right"))
    return float(sum(each.mean() for each in lower) / 2 / below.size)
