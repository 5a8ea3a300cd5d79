"""Whether logits are better than knowing nothing, or too good to be true."""

from __future__ import annotations

import numpy as np

from diffmetrics.diagnose._batch import BOTH, DECISIONS, Batch
from diffmetrics.diagnose._inputs import FEW, entropy, of_constant
from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, note, ok

MANY, OF_EACH = 500, 25  # decisions, and at least so many of either class
MOST_FREQUENT = 0.9


def _is_hard(labels: np.ndarray) -> bool:
    """Whether labels are decisions, and no probabilities."""
    probabilities = (labels >= 0) & (labels <= 1)
    return (
        labels.dtype.kind in "biu" or not probabilities.all() or bool(np.isin(labels, (0, 1)).all())
    )


def _decisions(batch: Batch) -> tuple[float, float, float]:
    """Log loss of each decision: of the logits, of a constant, and of the best that there is."""
    y = (batch.y if _is_hard(batch.labels) else batch.labels.ravel()).astype(np.float64)
    model = np.logaddexp(0, batch.z) - y * batch.z
    return float(model.mean()), float(of_constant(y.mean())), float(of_constant(y).mean())


def _classes(batch: Batch) -> tuple[float, float, float]:
    z = batch.z - batch.z.max(1, keepdims=True)
    true = np.take_along_axis(z, batch.y[:, None].astype(int), 1)[:, 0]
    model = np.log(np.exp(z).sum(1)) - true
    return float(model.mean()), float(entropy(batch.share).sum()), 0.0


@probe("baseline", BOTH, rank=27.5)
def baseline(batch: Batch) -> Finding | None:
    """Whether it beats a constant, in the log loss that cross-entropy trains."""
    decides = batch.kind == DECISIONS
    model, constant, best = (_decisions if decides else _classes)(batch)
    if not constant > 0:
        return None
    text = f"log loss {model:.3g}; that of a constant is {constant:.3g}"
    text += f", the best possible {best:.2g}" if best > 0 else ""
    if model < constant or batch.y.size < FEW:
        return ok(text)
    return note(
        "its probabilities are worse than a constant, which always answers with the prevalence",
        text,
        "fit_temperature or correct_prior if it ranks well; if not, it has not learnt",
    )


@probe("leak", BOTH, rank=27.7)
def leak(batch: Batch) -> Finding | None:
    """Whether not one example is wrong."""
    number = batch.y.size
    if number < MANY or not _is_hard(batch.labels):
        return None
    if batch.kind == DECISIONS:
        perfect = min(batch.y.sum(), (~batch.y).sum()) >= OF_EACH and _separates(batch)
    else:
        perfect = bool(batch.right.all()) and batch.share.max() <= MOST_FREQUENT
    if not perfect:
        return None
    return note(
        "it makes no error at all, which is too good to be true of new data",
        f"{'ROC AUC' if batch.kind == DECISIONS else 'accuracy'} 1 on {number} examples",
        "does an input hold the label? are these examples of the training set, or copies of them?",
    )


def _separates(batch: Batch) -> bool:
    return bool(batch.z[batch.y].min() > batch.z[~batch.y].max())
