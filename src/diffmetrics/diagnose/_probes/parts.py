"""Probe of a loss that claims to combine several."""

from __future__ import annotations

import numpy as np

from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, defect, ok
from diffmetrics.diagnose._subject import Subject


@probe("parts", rank=5)
def parts(subject: Subject) -> Finding | None:
    """By which weight each of several losses enters the gradient of their total."""
    if not subject.parts:
        return None
    names, form = list(subject.parts), subject.form
    z = np.stack([2.0 * form.predictions(i) for i in range(8)])
    others = [Subject(part, form) for part in subject.parts.values()]
    columns = np.stack([other.measure(z).gradient.ravel() for other in others], 1)
    goal = subject.measure(z).gradient.ravel()
    fit = np.linalg.lstsq(columns, goal, rcond=None)[0]
    rest = np.linalg.norm(columns @ fit - goal) / max(float(np.linalg.norm(goal)), 1e-30)
    terms = " + ".join(f"{w:.3g} {name}" for name, w in zip(names, fit, strict=True))
    evidence = f"total gradient = {terms}, {rest:.1%} unexplained"
    silent = [name for name, w in zip(names, fit, strict=True) if abs(w) < 1e-3]
    if not silent:
        return ok(evidence)
    why = "" if names[0] in silent else ": of several losses of one output only the first counts"
    return defect(
        f"{', '.join(silent)} does not train{why}",
        evidence,
        "write their sum as one function, and log its parts",
    )
