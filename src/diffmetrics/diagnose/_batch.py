"""What logits and labels alone tell: what to change first, before the loss."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffmetrics._metrics.curve_points import best_fbeta
from diffmetrics._metrics.curves import curve, roc_auc
from diffmetrics._metrics.reliability import adaptive_calibration_error
from diffmetrics.diagnose._report import Finding, note, ok

SATURATED = 15.0


def probe(logits: Any, labels: Any, beta: float) -> tuple[str, list[Finding]]:
    """The kind of the batch in words, and what was found.

    Raises:
      ValueError: if the shapes fit neither 0/1 labels nor class ids.
    """
    z, y = np.asarray(logits, np.float64), np.asarray(labels)
    if z.size == 0:
        raise ValueError(f"logits must hold something, got shape {z.shape}")
    if z.shape == y.shape:
        words = f"{z.size} decisions of shape {z.shape}"
        return words, _health(z) + _binary(z.ravel(), y.ravel() > 0.5, beta)
    if y.shape == z.shape[:-1] and y.dtype.kind in "iu":
        words = f"{y.size} examples of {z.shape[-1]} classes"
        return words, _health(z) + _classes(z.reshape(-1, z.shape[-1]), y.ravel())
    raise ValueError(
        f"labels must have the shape of logits, or be integer ids of shape logits.shape[:-1]: "
        f"logits are {z.shape}, labels {y.shape} {y.dtype}"
    )


def _health(z: np.ndarray) -> list[Finding]:
    if not np.isfinite(z).all():
        return [
            Finding(
                "finite",
                "logits are not finite",
                f"{(~np.isfinite(z)).mean():.2%} of them",
                "find the step at which it began: jax.config.update('jax_debug_nans', True)",
            )
        ]
    if np.ptp(z) < 1e-6:
        return [
            Finding(
                "spread",
                "all logits are the same: the model answers without looking",
                f"all {z.flat[0]:.4g}",
                "a dead ReLU before the last layer, a learning rate too high, or inputs that are "
                "constant",
            )
        ]
    share = float((np.abs(z) > SATURATED).mean())
    if share > 0.05:
        return [
            note(
                "saturated",
                "many logits are saturated: probabilities of 0 or 1, whose sigmoid has no slope",
                f"{share:.1%} beyond +-{SATURATED:g}",
                "regularise, or lower the learning rate; if they are wrong, look at the labels",
            )
        ]
    return [ok("saturated", f"{share:.1%} of the logits beyond +-{SATURATED:g}")]


def _binary(z: np.ndarray, y: np.ndarray, beta: float) -> list[Finding]:
    prevalence = float(y.mean())
    if prevalence in (0.0, 1.0):
        return [
            Finding(
                "prevalence",
                f"there are no {'positives' if prevalence == 0 else 'negatives'} in it",
                f"prevalence {prevalence:g} of {y.size}",
                "take a larger batch, or stratified_batches",
            )
        ]
    found: list[Finding] = []
    number = int(y.sum())
    text = f"{number} of {y.size} positive, {prevalence:.3%}"
    found.append(
        note(
            "prevalence",
            "positives are rare: accuracy says nothing, and few batches teach what they are",
            text,
            "judge by precision, recall and average precision",
        )
        if prevalence < 0.02
        else ok("prevalence", text)
    )
    if not np.isfinite(z).all():
        return found
    points = curve(z.astype(np.float32), y)
    auc, best = float(roc_auc(points)), best_fbeta(points, beta=beta)
    name = f"F{beta:g}"
    at_half = _fbeta(z > 0, y, beta)
    top, threshold = float(best.value), float(best.threshold)
    probability = 1 / (1 + np.exp(-threshold))
    if auc < 0.45:
        found.append(
            Finding(
                "ranking",
                "positives are ranked below negatives: labels or the sign of the loss are inverted",
                f"ROC AUC {auc:.3f}",
                "check which class is called 1",
            )
        )
    elif auc < 0.6:
        found.append(
            note(
                "ranking",
                "it has hardly learnt to tell them apart: no threshold and no loss of another "
                "weight will help yet",
                f"ROC AUC {auc:.3f}",
                "train longer, look at the inputs and the learning rate first",
            )
        )
    else:
        found.append(ok("ranking", f"ROC AUC {auc:.3f}"))
    evidence = (
        f"{name} {at_half:.3f} at p > 1/2, which predicts {(z > 0).mean():.2%} positive; "
        f"{top:.3f} at p > {probability:.3g}"
    )
    if top - at_half > 0.05 and auc >= 0.6:
        nothing = (z > 0).mean() < 0.1 * prevalence
        found.append(
            Finding(
                "threshold",
                (
                    "at 1/2 it predicts next to nothing, although it has learnt: the threshold is "
                    "wrong, not the model"
                    if nothing
                    else "1/2 is the wrong threshold"
                ),
                evidence,
                "tune it on validation data (fit_threshold) before you change the loss",
                "defect" if nothing else "note",
            )
        )
    else:
        found.append(ok("threshold", evidence))
    p = 1 / (1 + np.exp(-np.clip(z, -500, 500)))
    mean = float(p.mean())
    shift = mean / prevalence
    text = f"mean probability {mean:.3g}, prevalence {prevalence:.3g}"
    found.append(
        note(
            "prior",
            f"it expects {'more' if shift > 1 else 'fewer'} positives than there are: a class "
            "weight, resampling, or another class frequency than in training",
            text,
            "correct_prior, where the training's prior is known; estimate_prior, where it is not",
        )
        if not 2 / 3 < shift < 1.5
        else ok("prior", text)
    )
    error = float(adaptive_calibration_error(p.astype(np.float32), y, bins=10))
    text = f"calibration error {error:.3f} in ten bins of equal size"
    found.append(
        note(
            "calibration",
            "its probabilities are not frequencies",
            text,
            "decide by a tuned threshold; do not read them as risks",
        )
        if error > max(0.05, 0.5 * prevalence)
        else ok("calibration", text)
    )
    return found


def _fbeta(predicted: np.ndarray, y: np.ndarray, beta: float) -> float:
    tp, fp, fn = ((a & b).sum() for a, b in ((predicted, y), (predicted, ~y), (~predicted, y)))
    below = (1 + beta**2) * tp + fp + beta**2 * fn
    return float((1 + beta**2) * tp / below) if below else 0.0


def _classes(z: np.ndarray, y: np.ndarray) -> list[Finding]:
    number = z.shape[1]
    known = (y >= 0) & (y < number)
    if not known.all():
        z, y = z[known], y[known]
    found: list[Finding] = []
    if len(y) == 0:
        return [Finding("prevalence", "no label names a class", "0 examples", "check the labels")]
    share = np.bincount(y, minlength=number) / len(y)
    absent = np.flatnonzero(share == 0)
    rarest = int(np.where(share > 0, share, 2.0).argmin())
    text = f"class {rarest} is {share[rarest]:.2%}, class {share.argmax()} {share.max():.2%}"
    found.append(
        note(
            "prevalence",
            f"classes {', '.join(map(str, absent[:8]))} do not occur",
            text,
            "a larger batch, or stratified_batches",
        )
        if absent.size
        else ok("prevalence", text)
    )
    if not np.isfinite(z).all():
        return found
    predicted = z.argmax(1)
    recall = np.array(
        [(predicted[y == c] == c).mean() if share[c] else np.nan for c in range(number)]
    )
    accuracy, worst = float((predicted == y).mean()), int(np.nanargmin(recall))
    text = f"accuracy {accuracy:.3f}, always class {share.argmax()} {share.max():.3f}"
    found.append(
        note("ranking", "it is no better than the most frequent class", text, "train longer first")
        if accuracy <= share.max() + 1e-9
        else ok("ranking", text)
    )
    text = f"recall {recall[worst]:.2f} of class {worst} ({share[worst]:.2%} of the examples)"
    found.append(
        note(
            "threshold",
            f"class {worst} is hardly ever found",
            text,
            "shift the logits by the class frequencies (correct_class_priors), before the loss",
        )
        if recall[worst] < 0.5 * np.nanmean(recall)
        else ok("threshold", text)
    )
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    shift = np.abs(np.log((p.mean(0) + 1e-6) / (share + 1e-6)))
    shift[share == 0] = 0.0
    c = int(shift.argmax())
    text = f"class {c}: mean probability {p[:, c].mean():.3g}, share {share[c]:.3g}"
    found.append(
        note("prior", "it expects other class frequencies than there are", text,
             "correct_class_priors, estimate_class_priors")
        if shift[c] > np.log(1.5)
        else ok("prior", text)
    )  # fmt: skip
    right = predicted == y
    error = float(adaptive_calibration_error(p.max(1).astype(np.float32), right, bins=10))
    text = f"calibration error {error:.3f} of the top class, in ten bins of equal size"
    found.append(
        note("calibration", "its probabilities are not frequencies", text,
             "do not read them as risks")
        if error > 0.05
        else ok("calibration", text)
    )  # fmt: skip
    return found
