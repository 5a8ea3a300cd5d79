"""Probes of how much an error of one class weighs, compared with one of another."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping

import numpy as np

from diffmetrics.diagnose import _forms
from diffmetrics.diagnose._forms import CLASSIFYING
from diffmetrics.diagnose._probes.margins import profiles, separable
from diffmetrics.diagnose._probes.tradeoffs import SURE, rounded
from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, defect, note, ok
from diffmetrics.diagnose._subject import NEGATIVE, POSITIVE, Subject


@probe("weights", CLASSIFYING, rank=9)
def weights(subject: Subject) -> Finding | None:
    """By which factor a positive weighs more than a negative, or one class than another."""
    form = subject.form
    # On both sides of 0, where maximum and abs have the slope of one side or of none.
    around = np.multiply.outer([-0.01, 0.01], np.ones(form.shape))
    gradient = subject.measure(around).gradient.mean(0)
    size = np.abs(form.in_margin(gradient))
    totals, means = np.array(
        [(size[group.members].sum(), size[group.members].mean()) for group in form.groups()]
    ).T
    if form.decides and not separable(subject):
        share = totals[0] / max(totals.sum(), 1e-300)
        half = f"at p = 1/2 positives, a quarter of the batch, hold {share:.0%} of the gradient"
        return _error_weights(subject) or ok(half)
    if not means.min() > 0:
        return None  # `alive` tells of a class without a gradient
    return _positive_weight(subject, *means) if form.decides else _class_weights(means)


def _class_weights(size: np.ndarray) -> Finding:
    evidence = "gradient of the true class at equal logits: " + ", ".join(f"{s:.3g}" for s in size)
    times = size.max() / size.min()
    if times < 1.25:
        return ok(evidence)
    return note(
        f"class {size.argmax()} weighs {rounded(times)} times as much as class {size.argmin()}",
        evidence,
        "if the heavy class is not the rare one, the weights are the wrong way round",
    )


def _positive_weight(subject: Subject, positive: float, negative: float) -> Finding:
    factor = positive / negative
    evidence = (
        f"gradient at p = 1/2: {positive:.3g} of a positive, {negative:.3g} of a negative, "
        f"ratio {factor:.3g}"
    )
    for name, claim, odds in _claimed_odds(subject.claims):
        if abs(math.log(odds)) > 0.1 and math.isclose(factor, 1 / odds, rel_tol=0.05):
            where = "positives" if name in NEGATIVE else "negatives"
            return defect(
                f"{name} = {claim:g} weighs the {where}: it sits on the wrong class",
                f"{evidence}; {name} as it is called would give {odds:.3g}",
                "positives are label 1: alpha or the positive weight there, 1 - alpha or 1 at "
                "label 0 (Lin et al., 2017)",
            )
    if factor < 0.1:
        return defect(
            f"the class weight is inverted: a negative weighs {rounded(1 / factor)} times as "
            "much as a positive, and if positives are rare nothing is ever predicted",
            evidence,
            "put the weight on label 1: weighted_sigmoid_cross_entropy(positive_weight=...)",
        )
    if 0.8 < factor < 1.25:
        return ok(evidence)
    if factor < 1:
        return _heavier_negatives(subject, factor, evidence)
    return note(
        f"a positive weighs {rounded(factor)} times as much as the other class",
        evidence,
        "probabilities are shifted by it: correct_prior, or a tuned threshold",
    )


def _heavier_negatives(subject: Subject, factor: float, evidence: str) -> Finding:
    more = f"a negative weighs {rounded(1 / factor)} times as much as a positive"
    focusing = all(p.at(0.847) < 0.3 * p.at(-0.847) for p in profiles(subject))
    if focusing:  # of which a cross-entropy has 3 / 7 there
        return note(
            f"{more}, as alpha = {factor / (1 + factor):.2g} of a focal loss does, which is meant "
            "to offset what the focusing gives to rare positives",
            evidence,
            "if rare positives are not found, raise alpha, which belongs to label 1",
        )
    return note(
        f"{more}: right only if negatives are the rare class",
        evidence,
        "if positives are rare, exchange the two weights; probabilities are shifted by them",
    )


def _claimed_odds(claims: Mapping[str, float]) -> Iterator[tuple[str, float, float]]:
    """Names and numbers that say by how much positives outweigh negatives, and by how much."""
    for name, value in claims.items():
        if name == "alpha" and 0 < value < 1:
            yield name, value, value / (1 - value)
        elif name in POSITIVE and value > 0:
            others = [claims[other] for other in NEGATIVE if claims.get(other, 0.0) > 0]
            yield name, value, value / (others or [1.0])[0]
        elif name in NEGATIVE and value > 0:
            yield name, value, 1 / value


def _error_weights(subject: Subject) -> Finding | None:
    """What a false alarm and a miss cost a score, if it is tp / (tp + a fp + b fn)."""
    form = subject.form
    one, two, three = (form.positives(each) for each in (1, 2, 3))
    predicted = np.stack([two, three, np.ones_like(two), one])
    perfect, alarm, alarms, miss = 1.0 - subject.measure(SURE * (2 * predicted - 1), two).value
    if not (abs(perfect - 1) < 0.02 and all(0.01 < s < 1.0 for s in (alarm, alarms, miss))):
        return None
    a, b = 2 * (1 / alarm - 1), 1 / miss - 1
    if not math.isclose(a, 1 / alarms - 1, rel_tol=0.1, abs_tol=1e-3):
        return None
    evidence = (
        f"half a false alarm a positive costs {1 - alarm:.3g}, half of the positives missed "
        f"{1 - miss:.3g}: as tp / (tp + {a:.2g} fp + {b:.2g} fn)"
    )
    beta = math.sqrt(b / a) if abs(a + b - 1) < 0.1 and a > 0 else 0.0
    return (
        _swapped_beta(subject, beta, evidence)
        or _swapped_alpha(subject, (a, b), evidence)
        or _as_meant(a, b, beta, evidence)
    )


def _as_meant(a: float, b: float, beta: float, evidence: str) -> Finding:
    """What the score is called."""
    if abs(beta - 1) < 0.03:
        return ok(f"{evidence}, Dice (F1)")
    if np.allclose((a, b), 1, atol=0.08):
        return ok(f"{evidence}, Jaccard")
    name = f"F-{beta:.2g}" if beta else "a Tversky score"
    return note(f"it is {name}: a miss costs {b / a:.2g} false alarms", evidence)


def _swapped_beta(subject: Subject, shown: float, evidence: str) -> Finding | None:
    """Whether it is the F of 1/beta."""
    claims = subject.claims
    asked = claims.get("beta", 0.0)
    if not shown or asked <= 0 or "alpha" in claims:
        return None
    if asked == 1.0:  # which is its own inverse
        shown, asked = _at_other_beta(subject) or (shown, asked)
    if not abs(math.log(shown * asked)) < 0.15 < abs(math.log(shown / asked)):
        return None
    return defect(
        f"false positives and false negatives are swapped: it is F-{shown:.2g}, the "
        f"F of 1/beta, not F-{asked:g}",
        f"{evidence}; beta = {asked:g} was asked for",
        "FP = p (1 - y), FN = (1 - p) y; diffmetrics.fbeta_loss(beta=...)",
    )


def _at_other_beta(subject: Subject) -> tuple[float, float] | None:
    """The beta that shows when 2 is asked for, of a loss that takes it and defaults to 1."""
    form = subject.form
    loss = functools.partial(subject.loss, beta=2.0)
    two = form.positives(2)
    alarm, miss = (
        1 - _forms.value(loss, form, (SURE * (2 * form.positives(n) - 1)).astype("f"), two)
        for n in (3, 1)
    )
    if not (0 < alarm < 1 and 0 < miss < 1):
        return None
    return math.sqrt((1 / miss - 1) / (2 * (1 / alarm - 1))), 2.0


def _swapped_alpha(subject: Subject, costs: tuple[float, float], evidence: str) -> Finding | None:
    """Whether alpha weighs the misses."""
    alpha, beta = (subject.claims.get(name) for name in ("alpha", "beta"))
    if alpha is None or beta is None or alpha == beta:
        return None
    right, swapped = (np.allclose(costs, w, rtol=0.1) for w in ((alpha, beta), (beta, alpha)))
    if right or not swapped:
        return None
    return defect(
        f"alpha = {alpha:g} weighs misses and beta = {beta:g} false alarms: they are swapped",
        evidence,
        "alpha belongs to the false positives (Salehi et al., 2017); "
        "diffmetrics.tversky_loss(fp_weight=..., fn_weight=...) says so",
    )
