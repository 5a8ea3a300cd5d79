"""Probes of one example that is wrong in a batch that is right: does it still count?"""

from __future__ import annotations

import numpy as np

from diffmetrics.diagnose._forms import CLASSIFYING, class_logits
from diffmetrics.diagnose._probes.margins import offset_free
from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, defect, ok
from diffmetrics.diagnose._subject import Subject

RIGHT, WRONG = 5.0, -8.0  # so that it is wrong in any order, too


@probe("hidden", CLASSIFYING, rank=6.5)
def hidden(subject: Subject) -> Finding | None:
    """Whether one wrong prediction among right ones gets a gradient."""
    if subject.form.decides and offset_free(subject):
        return None  # some misses are allowed at an operating point
    form, lonely = subject.form, np.zeros(subject.form.elements, bool)
    lonely[(0,) * lonely.ndim] = True
    margins = np.where(lonely, WRONG, np.array([RIGHT, WRONG]).reshape(2, *[1] * lonely.ndim))
    z = margins * form.sides() if form.decides else class_logits(form.true, margins)
    return _told(subject, z, "prediction", 0)


@probe("hidden", ("triplet",), rank=6.5)
def hidden_triplet(subject: Subject) -> Finding | None:
    """Whether one triplet the wrong way round among others gets a gradient."""
    anchor, other, noise = (subject.form.predictions(i)[0] for i in range(3))
    near, far = anchor + 0.1 * noise, anchor + 3.0 * other
    right, wrong = np.stack([anchor, near, far]), np.stack([anchor, far, near])
    right[:, 0] = wrong[:, 0]
    return _told(subject, np.stack([right, wrong]), "triplet", 1)


def _told(subject: Subject, z: np.ndarray, what: str, axis: int) -> Finding | None:
    """Of a batch in which the first alone is wrong, and one in which all are."""
    slopes = np.abs(subject.measure(z).gradient)
    alone, among = (np.take(slope, 0, axis).sum() for slope in slopes)
    if not np.isfinite(slopes).all() or among == 0:
        return None
    if alone > 0:
        return ok(f"a {what} that is wrong gets a gradient among others that are right")
    return defect(
        f"a {what} that is wrong hides behind those that are right: a maximum with 0 is taken "
        "of the whole batch and not of each example",
        f"gradient exactly 0 of the only wrong {what} of a batch, {among:.2g} if all are wrong",
        "clamp every example, then take the mean: relu(margin - d).mean()",
    )
