"""No false alarm: sound losses have no defect, and what is noted of them is true."""

from __future__ import annotations

import pytest

from diffmetrics import diagnose
from tests.diagnose.broken_losses import Case
from tests.diagnose.broken_padding import CASES
from tests.diagnose.healthy_losses import HEALTHY, Healthy, rax_losses

# One of each kind of program is asked everything.
COMPLETE = {
    "entropy_and_dice", "smoothed_softmax", "huber_by_hand", "poisson", "masked_mean",
    "optax_triplet",
}  # fmt: skip


def _quick(kind: str) -> tuple[str, ...]:
    """Probes of one program, but for two that call the loss once more, without jit."""
    return tuple(probe for probe in diagnose.QUICK[kind] if probe not in ("jit", "shapes"))


@pytest.mark.parametrize("row", HEALTHY, ids=lambda row: row.name)
def test_a_sound_loss_has_no_defect(row: Healthy):
    probes = None if row.name in COMPLETE else _quick(row.kind)
    report = diagnose.loss(row.loss, probes=probes)
    assert report.healthy, str(report)
    assert report.kind.startswith(f"{row.kind}, ")


@pytest.mark.parametrize("row", rax_losses(), ids=lambda row: row.name)
def test_a_sound_loss_of_rax_has_no_defect(row: Healthy):
    report = diagnose.loss(row.loss, kind=row.kind, probes=_quick(row.kind))  # type: ignore[arg-type]
    assert report.healthy, str(report)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_wrong_with_padding_and_counts_is_named(case: Case):
    probes = (*_quick(case.kind), case.probe)
    report = diagnose.loss(case.loss, kind=case.kind, probes=probes)  # type: ignore[arg-type]
    told = [f for f in report.findings if f.probe == case.probe and case.cause in f.cause]
    assert told, str(report)
    assert told[0].status == case.status
    if case.status == "defect":
        assert report.findings[0] is told[0], str(report)
