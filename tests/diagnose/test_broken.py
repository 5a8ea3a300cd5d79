"""The loss doctor names what is wrong with every broken loss, and says that first."""

from __future__ import annotations

import pytest

from diffmetrics import diagnose
from tests.diagnose import (
    asked,
    broken_gradients,
    broken_inside,
    broken_losses,
    broken_padding,
)
from tests.diagnose.broken_losses import Case

CASES = [
    case
    for file in (broken_losses, broken_gradients, broken_inside, broken_padding)
    for case in file.CASES
]
BY_NAME = {case.name: case for case in CASES}


def _is_first(case: Case, report: diagnose.Report) -> None:
    told = [f for f in report.findings if f.probe == case.probe and case.cause in f.cause]
    assert told, str(report)
    assert max(map(len, str(report).splitlines())) <= 100
    assert "\n" not in report.verdict
    assert told[0].status == case.status
    assert told[0].evidence
    assert told[0].advice
    # `probes=` and `allow=` take the names that a report prints.
    assert {f.probe for f in report.results} <= set(diagnose.PROBES[report.kind.split(",")[0]])
    if case.status == "defect":
        assert not report.healthy
        assert report.findings[0] is told[0], str(report)
        assert case.cause in report.verdict


@pytest.mark.parametrize("case", CASES, ids=[f"{case.name}-{case.probe}" for case in CASES])
def test_the_cause_is_named(case: Case):
    _is_first(case, asked.report(case.loss, case.kind, case.probe))


@pytest.mark.parametrize("name", ["relu_softplus", "sigmoid_twice", "pulled_back"])
def test_with_all_probes_the_kind_is_found_out_too(name: str):
    case = BY_NAME[name]
    report = diagnose.loss(case.loss)
    assert report.kind.startswith(f"{case.kind}, ")
    _is_first(case, report)


def test_there_are_many():
    assert len({case.name for case in CASES}) >= 100
