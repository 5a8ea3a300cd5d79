"""Batches with a loss, and what is to be said of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from diffmetrics import diagnose


class Trial(NamedTuple):
    """A loss and a batch, and what is to be said of them: nothing, or words of a cause."""

    what: str
    loss: Callable[..., Any]
    predictions: Any
    labels: Any
    probe: str = ""
    cause: str = ""
    status: str = "defect"


def named(trials: list[Trial]) -> Any:
    return pytest.mark.parametrize("trial", trials, ids=[trial.what for trial in trials])


def of_probe(report: diagnose.Report, probe: str) -> list[diagnose.Finding]:
    return [found for found in report.findings if found.probe == probe]


def is_told(trial: Trial) -> None:
    report = diagnose.run(trial.loss, trial.predictions, trial.labels)
    (found,) = of_probe(report, trial.probe)
    assert trial.cause in found.cause, str(report)
    assert found.status == trial.status
    assert found.evidence
    assert found.advice
    assert max(map(len, str(report).splitlines())) <= 100
    if trial.status == "defect":
        assert report.findings[0] is found, str(report)
