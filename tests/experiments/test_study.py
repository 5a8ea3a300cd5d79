"""What all experiments share: results that are found once, and settings that mean something."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from experiments.shared import settings, study, tables
from experiments.shared.training import NonFiniteLossError


def test_a_result_is_found_once_and_only_read_with_resume(tmp_path: Path):
    calls = []

    def find(directory: Path) -> dict[str, float]:
        calls.append(directory)
        return {"f1": 0.5}

    first = study.result(tmp_path / "run", {"steps": 3}, find, resume=False)
    assert first["f1"] == 0.5
    assert {"seconds", "device", "date"} <= set(first)
    with pytest.raises(FileExistsError, match="pass --resume to continue it, or another --out"):
        study.result(tmp_path / "run", {"steps": 3}, find, resume=False)
    with pytest.raises(ValueError, match="made with other settings: steps was 3, is 4"):
        study.result(tmp_path / "run", {"steps": 4}, find, resume=True)
    assert study.result(tmp_path / "run", {"steps": 3}, find, resume=True) == first
    assert calls == [tmp_path / "run"]
    assert study.described(tmp_path / "run") == {"steps": 3}


def test_a_start_that_fails_claims_nothing(tmp_path: Path):
    def find(directory: Path) -> dict[str, float]:
        raise ValueError("no such image")

    with pytest.raises(ValueError, match="no such image"):
        study.result(tmp_path / "run", {"steps": 3}, find, resume=False)
    assert not (tmp_path / "run").exists()


def test_what_can_be_continued_stays_claimed(tmp_path: Path):
    def find(directory: Path) -> dict[str, float]:
        (directory / "checkpoints" / "100").mkdir(parents=True)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study.result(tmp_path / "run", {"steps": 3}, find, resume=False)
    assert study.described(tmp_path / "run") == {"steps": 3}


def test_two_programs_do_not_work_on_one_run(tmp_path: Path):
    with (
        study.claim(tmp_path / "run", {}, resume=False),
        pytest.raises(FileExistsError, match="run is in use: another program works on it"),
        study.claim(tmp_path / "run", {}, resume=True),
    ):
        pass
    with study.claim(tmp_path / "run", {}, resume=True):
        assert study.described(tmp_path / "run") == {}


def test_a_loss_that_is_not_finite_is_a_result(tmp_path: Path):
    def find(directory: Path) -> dict[str, float]:
        raise NonFiniteLossError("the loss is nan at step 3")

    found = study.result(tmp_path / "run", {}, find, resume=False)
    assert found["failed"] == "the loss is nan at step 3"
    with pytest.raises(ValueError, match="did not finish: the loss is nan at step 3"):
        study.found(tmp_path / "run")


def test_means_of_nested_results_and_what_one_of_them_lacks():
    row = tables.means([{"a": {"x": 1.0}, "name": "n"}, {"a": {"x": 3.0}, "b": 2}, {"a": {}}])
    assert math.isnan(row["a"]["x"][0])
    row = tables.means([{"a": {"x": 1.0}, "b": 2, "name": "n"}, {"a": {"x": 3.0}, "b": 2}])
    assert row == {"a": {"x": (2.0, 1.0)}, "b": (2.0, 0.0)}


def test_errors_of_a_difference_are_of_pairs_and_grow_with_shared_rows():
    pair = [0.5, 0.7, 0.9], [0.4, 0.5, 0.6]
    mean, error = tables.difference(*pair)
    assert mean == pytest.approx(0.2)
    assert error == pytest.approx(0.1 / math.sqrt(3))
    assert tables.difference(*pair, overlap=0.25)[1] == pytest.approx(0.1 * math.sqrt(1 / 3 + 0.25))
    assert tables.clear((0.2, error))
    assert not tables.clear((0.1, error))


def test_differences_are_of_the_seeds_that_both_finished_and_few_tell_nothing():
    def results(*eers: float | None) -> list[dict[str, Any]]:
        return [{"failed": "nan"} if eer is None else {"figures": {"eer": eer}} for eer in eers]

    compared = {"EER": ("figures", "eer")}
    base = results(0.1, 0.2, 0.1, 0.2, 0.1, None)
    found = {"asked": results(0.3, 0.4, 0.3, 0.4, 0.31, 0.9), "cross-entropy": base}
    said = list(tables.against(found, "cross-entropy", compared))
    assert said == [
        "asked less cross-entropy, same seeds: EER +0.202 ±0.002",
        "1 difference in all; about 0 would be chance",
    ]
    few = {method: each[:4] for method, each in found.items()}
    assert list(tables.against(few, "cross-entropy", compared)) == [
        "4 seeds: too few to tell differences from chance"
    ]
    assert not list(tables.against(found, "dice", compared))
    found["asked"] = results(*[None] * 6)
    assert not list(tables.against(found, "cross-entropy", compared))


@pytest.mark.parametrize(
    ("value", "interval", "message"),
    [
        (0, "[1, inf)", "x must be at least 1, got 0"),
        (0.0, "(0, inf)", "x must be above 0, got 0.0"),
        (1.0, "[0, 1)", r"x must lie in \[0, 1\), got 1.0"),
        (math.nan, "[0, 1]", r"x must lie in \[0, 1\], got nan"),
    ],
)
def test_a_setting_that_means_nothing_is_named(value: float, interval: str, message: str):
    with pytest.raises(ValueError, match=message):
        settings.require_within({"x": value}, x=interval)
    settings.require_within({"x": None}, x=interval)


def test_a_name_that_is_not_known_is_told_what_may_be_meant():
    with pytest.raises(ValueError, match="no loss is called dise; did you mean dice"):
        settings.require_known("loss", ["dise"], ["cross-entropy", "dice"])
    with pytest.raises(ValueError, match="no loss is called zzz; there are cross-entropy, dice"):
        settings.require_known("loss", ["zzz"], ["cross-entropy", "dice"])


def test_what_is_published_is_read_again(tmp_path: Path, printed):
    from rich.console import Console

    table = study.Table("numbers", ("loss", "F1"), [["dice", "0.50"]])
    study.publish(tmp_path, "comparison", [table], ["a tie"], {"seconds": 60.0}, Console())
    assert "| dice | 0.50 |" in (tmp_path / "comparison.md").read_text()
    assert json.loads((tmp_path / "comparison.json").read_text())["seconds"] == 60.0
    assert "a tie" in printed()


@dataclasses.dataclass(frozen=True)
class Made:
    data: tuple[Path, ...] = ()
    init: Path | None = None
    rates: tuple[float, ...] = (0.1,)
    name: str = "dice"
    new: int = 7


def test_the_settings_of_a_run_are_read_back(tmp_path: Path):
    made = Made((Path("a"), Path("b")), Path("c"), (0.1, 0.2), "focal")
    described = {"seed": 3, **dataclasses.asdict(made)}
    del described["new"]  # a run of before there was such a setting
    with study.claim(tmp_path / "run", described, resume=False):
        pass
    assert study.settings_of(tmp_path / "run", Made) == (made, {"seed": 3})
