"""What logits and labels alone tell: what to change first, before the loss."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from diffmetrics._metrics.curve_points import best_fbeta
from diffmetrics._metrics.curves import curve, roc_auc
from diffmetrics._metrics.reliability import adaptive_calibration_error
from diffmetrics.diagnose._inputs import numbers, one_sided
from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, defect, note, ok

SATURATED = 15.0


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """Logits and labels.

    Attributes:
      kind: "decisions" or "classes".
      words: the same for readers.
      logits: as they came.
      labels: as they came.
      z: logits of which the label is known, ``[N]`` or ``[N, C]``.
      y: whether each is positive, or the id of its class ``[N]``.
      share: of positives, or of each class.
      p: the probabilities that the logits mean.
      beta: of the F-beta of decisions.
    """

    kind: str
    words: str
    logits: np.ndarray
    labels: np.ndarray
    z: np.ndarray
    y: np.ndarray
    share: Any
    p: np.ndarray
    beta: float = 1.0

    @property
    def is_complete(self) -> bool:
        """Whether logits are numbers, and labels are of more than one kind."""
        known = self.y.size > 0 and not (self.kind == DECISIONS and self.share in (0.0, 1.0))
        return bool(known and np.isfinite(self.z).all())

    @functools.cached_property
    def curve(self) -> Any:
        """Recall and false alarms of decisions at every threshold."""
        return curve(self.z.astype(np.float32), self.y)

    @functools.cached_property
    def auc(self) -> float:
        """Area under it."""
        return float(roc_auc(self.curve))

    @property
    def right(self) -> np.ndarray:
        """Which of the examples are of the class that is predicted."""
        return self.z.argmax(1) == self.y


DECISIONS, CLASSES = "decisions", "classes"


def subject(logits: Any, labels: Any, beta: float) -> Batch:
    """The batch as what it is.

    Raises:
      TypeError: if one of them holds no numbers.
      ValueError: if the shapes fit neither 0/1 labels nor class ids, or `beta` is negative.
    """
    if beta < 0:
        raise ValueError(f"beta must not be negative, got {beta}")
    z, y = (np.asarray(numbers(n, a)) for n, a in (("logits", logits), ("labels", labels)))
    z = z.astype(np.float64)
    if z.shape == y.shape:
        words, positive = f"{z.size} decisions of shape {z.shape}", y.ravel() > 0.5
        p = 1 / (1 + np.exp(-np.clip(z.ravel(), -500, 500)))
        return Batch(DECISIONS, words, z, y, z.ravel(), positive, float(positive.mean()), p, beta)
    if y.shape == z.shape[:-1] and y.dtype.kind in "iu":
        words, number = f"{y.size} examples of {z.shape[-1]} classes", z.shape[-1]
        known = (y >= 0) & (y < number)
        share = np.bincount(y[known], minlength=number) / max(known.sum(), 1)
        p = np.exp(z[known] - z[known].max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        return Batch(CLASSES, words, z, y, z[known], y[known], share, p)
    raise ValueError(
        f"labels must have the shape of logits, or be integer ids of shape logits.shape[:-1]: "
        f"logits are {z.shape}, labels {y.shape} {y.dtype}"
    )


BOTH = (DECISIONS, CLASSES)


@probe("finite", BOTH, rank=13)
def finite(batch: Batch) -> Finding | None:
    """Whether logits are numbers."""
    bad = ~np.isfinite(batch.logits)
    if not bad.any():
        return None
    return defect(
        "logits are not finite",
        f"{bad.mean():.2%} of them",
        "find the step at which it began: jax.config.update('jax_debug_nans', True)",
    )


@probe("spread", BOTH, rank=24)
def spread(batch: Batch) -> Finding | None:
    """Whether logits differ."""
    if not np.ptp(batch.logits) < 1e-6:
        return None
    return defect(
        "all logits are the same: the model answers without looking",
        f"all {batch.logits.flat[0]:.4g}",
        "a dead ReLU before the last layer, a learning rate too high, or inputs that are constant",
    )


@probe("saturated", BOTH, rank=25)
def saturated(batch: Batch) -> Finding | None:
    """Whether sigmoids have a slope."""
    if not np.isfinite(batch.logits).all() or np.ptp(batch.logits) < 1e-6:
        return None
    share = float((np.abs(batch.logits) > SATURATED).mean())
    if share <= 0.05:
        return ok(f"{share:.1%} of the logits beyond +-{SATURATED:g}")
    return note(
        "many logits are saturated: probabilities of 0 or 1, whose sigmoid has no slope",
        f"{share:.1%} beyond +-{SATURATED:g}",
        "regularise, or lower the learning rate; if they are wrong, look at the labels",
    )


@probe("prevalence", (DECISIONS,), rank=26)
def prevalence(batch: Batch) -> Finding:
    """Whether there are positives, and how many."""
    look = one_sided(batch.labels)
    if look is not None:
        shown = f"prevalence {batch.share:g} of {batch.y.size}"
        return defect(f"{look.what}, and {look.why}", shown, look.advice)
    if batch.share in (0.0, 1.0):
        return defect(
            f"there are no {'positives' if batch.share == 0 else 'negatives'} in it",
            f"prevalence {batch.share:g} of {batch.y.size}",
            "take a larger batch, or stratified_batches",
        )
    text = f"{batch.y.sum()} of {batch.y.size} positive, {batch.share:.3%}"
    if batch.share >= 0.02:
        return ok(text)
    return note(
        "positives are rare: accuracy says nothing, and few batches teach what they are",
        text,
        "judge by precision, recall and average precision",
    )


@probe("ranking", (DECISIONS,), rank=27)
def ranking(batch: Batch) -> Finding:
    """Whether positives have larger logits."""
    text = f"ROC AUC {batch.auc:.3f}"
    if batch.auc < 0.45:
        return defect(
            "positives are ranked below negatives: labels or the sign of the loss are inverted",
            text,
            "check which class is called 1",
        )
    if batch.auc >= 0.6:
        return ok(text)
    return note(
        "it has hardly learnt to tell them apart: no threshold and no loss of another "
        "weight will help yet",
        text,
        "train longer, look at the inputs and the learning rate first",
    )


@probe("threshold", (DECISIONS,), rank=28)
def threshold(batch: Batch) -> Finding:
    """Whether 1/2 is a sensible threshold."""
    best, chosen = best_fbeta(batch.curve, beta=batch.beta), batch.z > 0
    at_half, top = _fbeta(chosen, batch.y, batch.beta), float(best.value)
    evidence = (
        f"F{batch.beta:g} {at_half:.3f} at p > 1/2, which predicts {chosen.mean():.2%} positive; "
        f"{top:.3f} at {_from(float(best.threshold))}"
    )
    advice = "tune it on validation data (fit_threshold) before you change the loss"
    if top - at_half <= 0.05 or batch.auc < 0.6:
        return ok(evidence)
    if chosen.mean() >= 0.1 * batch.share:
        return note("1/2 is the wrong threshold", evidence, advice)
    return defect(
        "at 1/2 it predicts next to nothing, although it has learnt: the threshold is "
        "wrong, not the model",
        evidence,
        advice,
    )


def _from(threshold: float) -> str:
    """A threshold as a probability, unless that is rounded to none or to another one."""
    p = f"{1 / (1 + np.exp(-threshold)):.3g}"
    return f"logit >= {threshold:.4g}" if p in ("0", "0.5", "1") else f"p >= {p}"


def _fbeta(predicted: np.ndarray, y: np.ndarray, beta: float) -> float:
    tp, fp, fn = ((a & b).sum() for a, b in ((predicted, y), (predicted, ~y), (~predicted, y)))
    below = (1 + beta**2) * tp + fp + beta**2 * fn
    return float((1 + beta**2) * tp / below) if below else 0.0


@probe("prior", (DECISIONS,), rank=29)
def prior(batch: Batch) -> Finding:
    """Whether it expects as many positives as there are."""
    mean = float(batch.p.mean())
    shift = mean / batch.share
    text = f"mean probability {mean:.3g}, prevalence {batch.share:.3g}"
    if 2 / 3 < shift < 1.5:
        return ok(text)
    return note(
        f"it expects {'more' if shift > 1 else 'fewer'} positives than there are: a class "
        "weight, resampling, or another class frequency than in training",
        text,
        "correct_prior, where the training's prior is known; estimate_prior, where it is not",
    )


@probe("calibration", (DECISIONS,), rank=30)
def calibration(batch: Batch) -> Finding:
    """Whether its probabilities are frequencies."""
    error = float(adaptive_calibration_error(batch.p.astype(np.float32), batch.y, bins=10))
    text = f"calibration error {error:.3f} in ten bins of equal size"
    if error <= max(0.05, 0.5 * batch.share):
        return ok(text)
    return note(MISCALIBRATED, text, "decide by a tuned threshold; do not read them as risks")


MISCALIBRATED = "its probabilities are not frequencies"


@probe("prevalence", (CLASSES,), rank=26)
def class_prevalence(batch: Batch) -> Finding:
    """Whether all classes occur, and how often."""
    if not batch.y.size:
        return defect("no label names a class", "0 examples", "check the labels")
    share, absent = batch.share, np.flatnonzero(batch.share == 0)
    rarest = int(np.where(share > 0, share, 2.0).argmin())
    text = f"class {rarest} is {share[rarest]:.2%}, class {share.argmax()} {share.max():.2%}"
    if not absent.size:
        return ok(text)
    return note(_do_not_occur(absent), text, "a larger batch, or stratified_batches")


def _do_not_occur(absent: np.ndarray) -> str:
    names, more = ", ".join(map(str, absent[:8])), absent.size - 8
    if absent.size == 1:
        return f"class {names} does not occur"
    return f"classes {names}{f' and {more} more' if more > 0 else ''} do not occur"


@probe("ranking", (CLASSES,), rank=27)
def class_ranking(batch: Batch) -> Finding:
    """Whether it is better than the most frequent class."""
    accuracy, most = float(batch.right.mean()), batch.share.max()
    text = f"accuracy {accuracy:.3f}, always class {batch.share.argmax()} {most:.3f}"
    if accuracy > most + 1e-9:
        return ok(text)
    return note("it is no better than the most frequent class", text, "train longer first")


@probe("threshold", (CLASSES,), rank=28)
def class_threshold(batch: Batch) -> Finding:
    """Whether every class is found."""
    recalls = {c: batch.right[batch.y == c].mean() for c in np.flatnonzero(batch.share)}
    worst = min(recalls, key=recalls.__getitem__)
    text = (
        f"recall {recalls[worst]:.2f} of class {worst} ({batch.share[worst]:.2%} of the examples)"
    )
    if recalls[worst] >= 0.5 * np.mean(list(recalls.values())):
        return ok(text)
    advice = "shift the logits by the class frequencies (correct_class_priors), before the loss"
    return note(f"class {worst} is hardly ever found", text, advice)


@probe("prior", (CLASSES,), rank=29)
def class_prior(batch: Batch) -> Finding:
    """Whether it expects the class frequencies that there are."""
    mean, share = batch.p.mean(0), batch.share
    shift = np.where(share > 0, np.abs(np.log((mean + 1e-6) / (share + 1e-6))), 0.0)
    c = int(shift.argmax())
    text = f"class {c}: mean probability {mean[c]:.3g}, share {share[c]:.3g}"
    if shift[c] <= np.log(1.5):
        return ok(text)
    cause = "it expects other class frequencies than there are"
    return note(cause, text, "correct_class_priors, estimate_class_priors")


@probe("calibration", (CLASSES,), rank=30)
def class_calibration(batch: Batch) -> Finding:
    """Whether the probability of the top class is a frequency."""
    top = batch.p.max(1).astype(np.float32)
    error = float(adaptive_calibration_error(top, batch.right, bins=10))
    text = f"calibration error {error:.3f} of the top class, in ten bins of equal size"
    return ok(text) if error <= 0.05 else note(MISCALIBRATED, text, "do not read them as risks")
