"""Probes of numbers that are added so that nothing is 0: to counts, and to labels."""

from __future__ import annotations

import jax
import numpy as np

from diffmetrics.diagnose._forms import CLASSES, DECIDING
from diffmetrics.diagnose._probes.margins import offset_free, separable
from diffmetrics.diagnose._probes.tradeoffs import SURE
from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, defect, note, ok
from diffmetrics.diagnose._subject import Subject


@probe("smoothing", DECIDING, rank=10.5)
def smoothing(subject: Subject) -> Finding | None:
    """What nothing costs, where nothing is right and where something is missed, of a ratio."""
    form = subject.form
    (slope,) = subject.measure(form.predictions()[None]).gradient
    if separable(subject) or offset_free(subject) or not slope.any():
        return None  # no ratio of sums, an order, or decisions
    y = form.labels_of_share(0.25)
    none, sides = 0.0 * y, 2.0 * y - 1.0
    some = np.stack([sides, -sides, none - 1.0, none - 1.0, none]) * SURE
    perfect, wrong, missed, *empty = subject.measure(some, np.stack([y, y, y, none, none])).value
    if not (np.isfinite([perfect, wrong, missed]).all() and abs(perfect) < 0.1 and wrong < 1.05):
        return None  # not one minus a score
    if perfect < -1e-3:
        return note(
            "a perfect prediction scores more than 1: smoothing is added to the numerator alone",
            f"loss {perfect:.3g}",
            "add it to the denominator, too",
        )
    if missed < 0.45 * wrong:
        evidence = (
            f"loss {missed:.2g} where a quarter of {y.size} elements is positive and none is "
            f"predicted, {wrong:.2g} where all is wrong, of 1"
        )
        if wrong > 0.9:
            return defect(
                "misses cost next to nothing: to predict nothing is as good as right",
                evidence,
                "the misses, (1 - p) y, belong into the denominator, with a weight of their own",
            )
        return defect(
            "its smoothing outweighs what it counts: to predict nothing is cheap",
            evidence,
            "add smoothing of 1 to sums, not to means; or none, and make 0/0 a 0 by two jnp.where",
        )
    if np.isfinite(empty).all() and empty[0] > perfect + 0.5 * (wrong - perfect):
        return note(
            "a set without a positive costs as much as a wrong one, whatever is predicted: nothing "
            "is learnt from it, and no false alarm in it is opposed",
            f"loss {empty[0]:.2g} if nothing is predicted in it, {empty[1]:.2g} at p = 1/2",
            "add the same smoothing to numerator and denominator (in ours prior=Counts(tp=1)), "
            "take the images of a batch as one set, or add a cross-entropy",
        )
    return ok(f"to predict nothing costs {missed:.2g}; where nothing is, {empty[0]:.2g}")


@probe("smoothing", ("multiclass",), rank=10.5)
def smoothed_labels(subject: Subject) -> Finding | None:
    """What the labels of a cross-entropy sum to, if they are smoothed.

    Of equal logits its gradient is their sum / C - label, so it tells them; another batch tells
    whether it is a cross-entropy.
    """
    z = np.stack([0.0 * subject.form.predictions(), subject.form.predictions(30)])
    value, gradient = subject.measure(z)
    total = value[0] / np.log(CLASSES)
    labels = total / CLASSES - subject.form.examples * gradient[0]
    cross_entropy = -(labels * np.asarray(jax.nn.log_softmax(z[1]))).sum(-1).mean()
    least = labels.min()
    if not (abs(cross_entropy - value[1]) < 1e-4 * abs(value[1]) and least > 1e-3 * labels.max()):
        return None
    if abs(total - 1) < 0.02:
        return ok(f"labels are smoothed to {labels.max():.3g} and {least:.3g}")
    return note(
        f"its smoothed labels do not sum to 1, but to {total:.3g}",
        f"{labels.max():.3g} for the class of the label, {least:.3g} for each other, so that it is "
        f"smoothed like labels of {labels.max() / total:.2g} and {least / total:.2g}",
        "label * (1 - epsilon) + epsilon / C: the number of classes is missing (or the loss is "
        "scaled on purpose)",
    )
