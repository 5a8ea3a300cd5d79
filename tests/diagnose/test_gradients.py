"""The loss doctor names what gradients, weights and keywords give away."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from diffmetrics import diagnose
from diffmetrics.diagnose import _forms
from tests.diagnose.broken_gradients import CASES
from tests.diagnose.broken_losses import Case

partial = functools.partial


@functools.lru_cache
def _report(loss: Any, kind: Any, *probes: str) -> diagnose.Report:
    quick = [name for name in diagnose.QUICK[kind] if name not in ("jit", "shapes")]
    return diagnose.loss(loss, kind=kind, probes=(*quick, *probes))


@pytest.mark.parametrize("case", CASES, ids=[f"{_forms.name_of(c.loss)}-{c.probe}" for c in CASES])
def test_the_cause_is_named(case: Case):
    report = _report(case.loss, case.kind, case.probe)
    told = [f for f in report.findings if f.probe == case.probe and case.cause in f.cause]
    assert told, str(report)
    assert told[0].status == case.status
    assert told[0].evidence
    assert told[0].advice
    assert max(map(len, str(report).splitlines())) <= 100
    if case.status == "defect":
        assert report.findings[0] is told[0], str(report)
    else:
        assert report.healthy, str(report)
