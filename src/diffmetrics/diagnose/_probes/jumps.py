"""Probe of a loss that jumps where the decision changes, and of a value that does nothing else."""

from __future__ import annotations

import functools

import numpy as np

from diffmetrics.diagnose._forms import CLASSIFYING
from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, defect, ok
from diffmetrics.diagnose._subject import Subject

NEAR = np.array([-0.1, -1e-3, 0.0, 1e-3, 0.1])


@functools.lru_cache(4)
def jumps(subject: Subject) -> tuple[str, ...]:
    """Where the loss jumps as the decision changes, between any two classes."""
    groups = subject.form.groups(pairwise=True)
    rows = np.concatenate([subject.form.at_margins(NEAR, group) for group in groups])
    value, gradient = subject.measure(rows)
    steep = np.abs(gradient).reshape(len(groups), len(NEAR), -1).sum(2)
    found = []
    for group, v, g in zip(groups, value.reshape(-1, len(NEAR)), steep, strict=True):
        expected = 2e-3 * max(g.max(), np.abs(v[0] - v[1]) / 0.099, np.abs(v[4] - v[3]) / 0.099)
        if g.max() > 0 and abs(v[1] - v[3]) > 10 * expected + 1e-6:
            tie = f", {v[2]:.4g} at a tie" if v[2] > max(v[1], v[3]) * 1.0001 else ""
            found.append(f"{group.name}: {v[1]:.4g} just before, {v[3]:.4g} just after{tie}")
    return tuple(found)


@probe("continuity", CLASSIFYING, rank=8)
def continuity(subject: Subject) -> Finding | None:
    """Whether the loss jumps where the decision changes."""
    found = jumps(subject)
    if not found:
        return ok("no jump where the decision changes")
    if straight_through(subject):
        return None  # `gradient` tells
    return defect(
        "the loss jumps where the decision changes: an argmax or comparison inside it switches "
        "a weight, which has no gradient of its own and is off once the decision is right",
        "; ".join(found[:2]),
        "weight by the probabilities instead: expected_cost_loss, cost_sensitive_cross_entropy",
    )


@functools.lru_cache(4)
def straight_through(subject: Subject) -> bool:
    """Whether the value does not change as predictions grow on their side, and yet has a slope."""
    z = subject.form.predictions(1)
    values, gradients = subject.measure(np.stack([z, 1.01 * z, 1.5 * z]))
    return bool(np.ptp(values) <= 1e-6 * np.abs(values).max() and gradients[0].any())
