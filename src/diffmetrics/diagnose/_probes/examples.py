"""Probe of whether all that is wrong gets a gradient."""

from __future__ import annotations

import numpy as np

from diffmetrics.diagnose._forms import CLASSES, CLASSIFYING, class_logits
from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, defect, ok
from diffmetrics.diagnose._subject import Subject

BATCHES = 8


@probe("examples", CLASSIFYING, rank=5.5)
def examples(subject: Subject) -> Finding | None:
    """Whether every example that is wrong gets a gradient in some batch."""
    form, rng = subject.form, np.random.default_rng(12)
    margins = -rng.uniform(0.5, 3.0, (BATCHES, *form.elements))
    turned = np.arange(BATCHES) % 2 == 1  # every place has more than one label
    if form.decides:
        labels = np.stack([1 - form.targets() if t else form.targets() for t in turned])
        z = margins * (2 * labels - 1)
    else:
        ids = [(form.true + 2 * t) % CLASSES for t in turned]
        labels = np.stack([form.encoded(some) for some in ids])
        z = np.stack([class_logits(c, m) for c, m in zip(ids, margins, strict=True)])
    value, slopes = subject.measure(z, labels)
    if not np.isfinite(slopes).all() or not slopes.any():
        return None
    reached = np.abs(slopes).reshape(BATCHES, form.examples, -1).sum(-1) > 0
    if (most := int(reached.sum(1).max())) <= 2 < form.examples:
        return defect(
            f"only {most} of the {form.examples} examples of a batch moves: a max, a min, a median "
            "or an index stands where a mean is meant",
            f"all predictions are wrong, and the others have no gradient, in {BATCHES} batches",
            "reduce by the mean",
        )
    never = np.flatnonzero(~reached.any(0))
    # A loss of the worst, as of a part of the ROC curve, sees them if they are worse than all.
    z[:, never] *= 10.0
    if not never.size or (subject.measure(z, labels).value != value).any():
        return ok("every example that is wrong gets a gradient")
    places = f"{never[0]}" if never.size == 1 else f"{never[0]} to {never[-1]}"
    cut = never.size == np.ptp(never) + 1 and (never[0] == 0 or never[-1] == form.examples - 1)
    return defect(
        f"{never.size} of {form.examples} examples never get a gradient"
        + (": a slice or a shift by one cuts them off" if cut else ""),
        f"those at {places}, in {BATCHES} batches of wrong predictions with other labels",
        "look for slices ([:-1], [1:]) and masks of places in the loss",
    )
