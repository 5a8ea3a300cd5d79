"""What logits and labels alone tell: what to change first, before the loss."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from diffmetrics._metrics.curve_points import best_fbeta
from diffmetrics._metrics.curves import curve, roc_auc
from diffmetrics._metrics.reliability import adaptive_calibration_error
from diffmetrics.diagnose._registry import of_kind, probe
from diffmetrics.diagnose._report import Finding, defect, note, ok

SATURATED = 15.0


class Batch:
    """Logits and labels.

    Attributes:
      kind: "decisions" or "classes".
      words: the same for readers.
      logits: as they came.
      z: logits of which the label is known, ``[N]`` or ``[N, C]``.
      y: whether each is positive, or the id of its class ``[N]``.
    """

    kind: str

    def __init__(self, words: str, logits: np.ndarray, z: np.ndarray, y: np.ndarray) -> None:
        self.words, self.logits, self.z, self.y = words, logits, z, y

    @property
    def answerable(self) -> Collection[str]:
        """The probes that it can be asked."""
        complete = self.compares and np.isfinite(self.z).all()
        return of_kind(self.kind) if complete else ("finite", "spread", "saturated", "prevalence")

    @property
    def compares(self) -> bool:
        """Whether there is what can be told apart."""
        return bool(self.y.size)


class Decisions(Batch):
    """Logits and 0/1 labels, and the beta of their F-beta."""

    kind = "decisions"

    def __init__(self, logits: np.ndarray, y: np.ndarray, beta: float) -> None:
        words = f"{logits.size} decisions of shape {logits.shape}"
        super().__init__(words, logits, logits.ravel(), y.ravel() > 0.5)
        self.beta, self.prevalence = beta, float(self.y.mean())

    @property
    def compares(self) -> bool:
        return 0 < self.prevalence < 1

    @functools.cached_property
    def curve(self) -> Any:
        return curve(self.z.astype(np.float32), self.y)

    @functools.cached_property
    def auc(self) -> float:
        return float(roc_auc(self.curve))

    @functools.cached_property
    def p(self) -> np.ndarray:
        """Probabilities ``[N]``."""
        return 1 / (1 + np.exp(-np.clip(self.z, -500, 500)))


class Classes(Batch):
    """Logits of classes and their ids, without those ids that name no class."""

    kind = "classes"

    def __init__(self, logits: np.ndarray, ids: np.ndarray) -> None:
        words = f"{ids.size} examples of {logits.shape[-1]} classes"
        z, y = logits.reshape(-1, logits.shape[-1]), ids.ravel()
        known = (y >= 0) & (y < z.shape[1])
        super().__init__(words, logits, z[known], y[known])
        self.share = np.bincount(self.y, minlength=z.shape[1]) / max(len(self.y), 1)
        self.right = self.z.argmax(1) == self.y

    @functools.cached_property
    def p(self) -> np.ndarray:
        """Probabilities ``[N, C]``."""
        p = np.exp(self.z - self.z.max(1, keepdims=True))
        return p / p.sum(1, keepdims=True)


def subject(logits: Any, labels: Any, beta: float) -> Batch:
    """The batch as what it is.

    Raises:
      ValueError: if the shapes fit neither 0/1 labels nor class ids.
    """
    z, y = np.asarray(logits, np.float64), np.asarray(labels)
    if z.size == 0:
        raise ValueError(f"logits must hold something, got shape {z.shape}")
    if z.shape == y.shape:
        return Decisions(z, y, beta)
    if y.shape == z.shape[:-1] and y.dtype.kind in "iu":
        return Classes(z, y)
    raise ValueError(
        f"labels must have the shape of logits, or be integer ids of shape logits.shape[:-1]: "
        f"logits are {z.shape}, labels {y.shape} {y.dtype}"
    )


# --- logits ---------------------------------------------------------------------------------------

BOTH = (Decisions.kind, Classes.kind)


@probe("finite", BOTH, rank=13)
def finite(batch: Batch) -> Iterator[Finding]:
    """Whether logits are numbers."""
    bad = ~np.isfinite(batch.logits)
    if bad.any():
        yield defect(
            "logits are not finite",
            f"{bad.mean():.2%} of them",
            "find the step at which it began: jax.config.update('jax_debug_nans', True)",
        )


@probe("spread", BOTH, rank=23)
def spread(batch: Batch) -> Iterator[Finding]:
    """Whether logits differ."""
    if np.ptp(batch.logits) < 1e-6:
        yield defect(
            "all logits are the same: the model answers without looking",
            f"all {batch.logits.flat[0]:.4g}",
            "a dead ReLU before the last layer, a learning rate too high, or inputs that are "
            "constant",
        )


@probe("saturated", BOTH, rank=24)
def saturated(batch: Batch) -> Iterator[Finding]:
    """Whether sigmoids have a slope."""
    if not np.isfinite(batch.logits).all() or np.ptp(batch.logits) < 1e-6:
        return
    share = float((np.abs(batch.logits) > SATURATED).mean())
    if share > 0.05:
        yield note(
            "many logits are saturated: probabilities of 0 or 1, whose sigmoid has no slope",
            f"{share:.1%} beyond +-{SATURATED:g}",
            "regularise, or lower the learning rate; if they are wrong, look at the labels",
        )
    else:
        yield ok(f"{share:.1%} of the logits beyond +-{SATURATED:g}")


# --- decisions ------------------------------------------------------------------------------------


@probe("prevalence", (Decisions.kind,), rank=25)
def prevalence(batch: Decisions) -> Iterator[Finding]:
    """Whether there are positives, and how many."""
    if not batch.compares:
        yield defect(
            f"there are no {'positives' if batch.prevalence == 0 else 'negatives'} in it",
            f"prevalence {batch.prevalence:g} of {batch.y.size}",
            "take a larger batch, or stratified_batches",
        )
        return
    text = f"{batch.y.sum()} of {batch.y.size} positive, {batch.prevalence:.3%}"
    if batch.prevalence < 0.02:
        yield note(
            "positives are rare: accuracy says nothing, and few batches teach what they are",
            text,
            "judge by precision, recall and average precision",
        )
    else:
        yield ok(text)


@probe("ranking", (Decisions.kind,), rank=26)
def ranking(batch: Decisions) -> Iterator[Finding]:
    """Whether positives have larger logits."""
    text = f"ROC AUC {batch.auc:.3f}"
    if batch.auc < 0.45:
        yield defect(
            "positives are ranked below negatives: labels or the sign of the loss are inverted",
            text,
            "check which class is called 1",
        )
    elif batch.auc < 0.6:
        yield note(
            "it has hardly learnt to tell them apart: no threshold and no loss of another "
            "weight will help yet",
            text,
            "train longer, look at the inputs and the learning rate first",
        )
    else:
        yield ok(text)


@probe("threshold", (Decisions.kind,), rank=27)
def threshold(batch: Decisions) -> Iterator[Finding]:
    """Whether 1/2 is a sensible threshold."""
    best = best_fbeta(batch.curve, beta=batch.beta)
    chosen = batch.z > 0
    at_half, top = _fbeta(chosen, batch.y, batch.beta), float(best.value)
    evidence = (
        f"F{batch.beta:g} {at_half:.3f} at p > 1/2, which predicts {chosen.mean():.2%} positive; "
        f"{top:.3f} at p > {1 / (1 + np.exp(-float(best.threshold))):.3g}"
    )
    advice = "tune it on validation data (fit_threshold) before you change the loss"
    if top - at_half <= 0.05 or batch.auc < 0.6:
        yield ok(evidence)
    elif chosen.mean() < 0.1 * batch.prevalence:
        yield defect(
            "at 1/2 it predicts next to nothing, although it has learnt: the threshold is "
            "wrong, not the model",
            evidence,
            advice,
        )
    else:
        yield note("1/2 is the wrong threshold", evidence, advice)


def _fbeta(predicted: np.ndarray, y: np.ndarray, beta: float) -> float:
    tp, fp, fn = ((a & b).sum() for a, b in ((predicted, y), (predicted, ~y), (~predicted, y)))
    below = (1 + beta**2) * tp + fp + beta**2 * fn
    return float((1 + beta**2) * tp / below) if below else 0.0


@probe("prior", (Decisions.kind,), rank=28)
def prior(batch: Decisions) -> Iterator[Finding]:
    """Whether it expects as many positives as there are."""
    mean = float(batch.p.mean())
    shift = mean / batch.prevalence
    text = f"mean probability {mean:.3g}, prevalence {batch.prevalence:.3g}"
    if 2 / 3 < shift < 1.5:
        yield ok(text)
    else:
        yield note(
            f"it expects {'more' if shift > 1 else 'fewer'} positives than there are: a class "
            "weight, resampling, or another class frequency than in training",
            text,
            "correct_prior, where the training's prior is known; estimate_prior, where it is not",
        )


@probe("calibration", (Decisions.kind,), rank=29)
def calibration(batch: Decisions) -> Iterator[Finding]:
    """Whether its probabilities are frequencies."""
    error = float(adaptive_calibration_error(batch.p.astype(np.float32), batch.y, bins=10))
    text = f"calibration error {error:.3f} in ten bins of equal size"
    most = max(0.05, 0.5 * batch.prevalence)
    yield _calibrated(error, most, text, "decide by a tuned threshold; do not read them as risks")


def _calibrated(error: float, most: float, text: str, advice: str) -> Finding:
    return note("its probabilities are not frequencies", text, advice) if error > most else ok(text)


# --- classes --------------------------------------------------------------------------------------


@probe("prevalence", (Classes.kind,), rank=25)
def class_prevalence(batch: Classes) -> Iterator[Finding]:
    """Whether all classes occur, and how often."""
    share = batch.share
    if not batch.compares:
        yield defect("no label names a class", "0 examples", "check the labels")
        return
    absent = np.flatnonzero(share == 0)
    rarest = int(np.where(share > 0, share, 2.0).argmin())
    text = f"class {rarest} is {share[rarest]:.2%}, class {share.argmax()} {share.max():.2%}"
    if absent.size:
        yield note(
            f"classes {', '.join(map(str, absent[:8]))} do not occur",
            text,
            "a larger batch, or stratified_batches",
        )
    else:
        yield ok(text)


@probe("ranking", (Classes.kind,), rank=26)
def class_ranking(batch: Classes) -> Iterator[Finding]:
    """Whether it is better than the most frequent class."""
    accuracy, most = float(batch.right.mean()), batch.share.max()
    text = f"accuracy {accuracy:.3f}, always class {batch.share.argmax()} {most:.3f}"
    if accuracy > most + 1e-9:
        yield ok(text)
    else:
        yield note("it is no better than the most frequent class", text, "train longer first")


@probe("threshold", (Classes.kind,), rank=27)
def class_threshold(batch: Classes) -> Iterator[Finding]:
    """Whether every class is found."""
    recalls = {c: batch.right[batch.y == c].mean() for c in np.flatnonzero(batch.share)}
    worst = min(recalls, key=recalls.__getitem__)
    text = (
        f"recall {recalls[worst]:.2f} of class {worst} ({batch.share[worst]:.2%} of the examples)"
    )
    if recalls[worst] < 0.5 * np.mean(list(recalls.values())):
        yield note(
            f"class {worst} is hardly ever found",
            text,
            "shift the logits by the class frequencies (correct_class_priors), before the loss",
        )
    else:
        yield ok(text)


@probe("prior", (Classes.kind,), rank=28)
def class_prior(batch: Classes) -> Iterator[Finding]:
    """Whether it expects the class frequencies that there are."""
    mean, share = batch.p.mean(0), batch.share
    shift = np.where(share > 0, np.abs(np.log((mean + 1e-6) / (share + 1e-6))), 0.0)
    c = int(shift.argmax())
    text = f"class {c}: mean probability {mean[c]:.3g}, share {share[c]:.3g}"
    if shift[c] <= np.log(1.5):
        yield ok(text)
    else:
        yield note(
            "it expects other class frequencies than there are",
            text,
            "correct_class_priors, estimate_class_priors",
        )


@probe("calibration", (Classes.kind,), rank=29)
def class_calibration(batch: Classes) -> Iterator[Finding]:
    """Whether the probability of the top class is a frequency."""
    top = batch.p.max(1).astype(np.float32)
    error = float(adaptive_calibration_error(top, batch.right, bins=10))
    text = f"calibration error {error:.3f} of the top class, in ten bins of equal size"
    yield _calibrated(error, 0.05, text, "do not read them as risks")
