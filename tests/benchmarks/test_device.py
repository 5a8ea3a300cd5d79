"""The command for a device on a handful of losses: what it finds, says and leaves out."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import importlib.util
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from rich.console import Console

import diffmetrics as dm
from benchmarks import (
    bare,
    device,
    device_checks,
    device_report,
    device_stages as stages,
    device_steps,
    device_warm,
    peers,
    work,
)
from benchmarks.device_checks import Check, check
from benchmarks.device_steps import StepRow
from benchmarks.losses import LOSSES
from benchmarks.measure import Patience
from benchmarks.run import Timing, choose
from benchmarks.work import Workload
from tests.rows import the

ONCE = Patience(0.0, 1, 1)
TINY = (Workload("masks", ("binary",), (2, 4, 4)),)
STEP = StepRow("ships", "bfloat16", 4, 100, Timing((2.0, 2.0, 2.0), 1, 0.1, None),
               {"torch": Timing((5.0, 5.0, 5.0), 1, 0.0, None)}, {})  # fmt: skip


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


def printed(console: Console) -> str:
    return console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


# --- checks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["brier_loss", "dice_loss", "aum_loss", "triplet_loss", "laplace_nll"]
)
def test_a_loss_of_each_family_is_right(name: str):
    [found] = device_checks.run([the(name)], ["float32"])
    assert found.failed == ""
    assert found.value_error is not None
    assert found.gradient_error is not None


def more(z: Any, y: Any) -> Any:
    return 1.001 * dm.brier_loss(z, y)


def steeper(z: Any, y: Any) -> Any:
    """Right in its value, and its gradient a hundredth too large."""
    right = dm.brier_loss(z, y)
    return right + 0.01 * (right - jax.lax.stop_gradient(right))


def broken(z: Any, y: Any) -> Any:
    raise TypeError("no such loss")


def infinite(z: Any, y: Any) -> Any:
    return jax.numpy.log1p(jax.numpy.exp(z))  # of 89 and more


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (more, "value off by 0.00"),
        (steeper, "gradient off by 0.0"),
        (infinite, "not finite at an extreme"),
        (broken, "TypeError: no such loss"),
    ],
)
def test_a_wrong_loss_is_named_with_what_is_wrong(loss: Callable[..., Any], said: str):
    row = dataclasses.replace(the("brier_loss"), call=loss)
    with jax.debug_nans(False):
        found = check(row, ["float32"])
    assert [(each.loss, each.failed[: len(said)]) for each in found] == [("brier_loss", said)]
    console = quiet()
    device_report.print_checks(console, [*found, Check("dice_loss", "float32", 0.0, 0.0)])
    assert "wrong: brier_loss, float32: " + said in printed(console)


def test_nan_is_the_largest_error():
    assert device_checks.worst([1.0, 2.0], [1.0, 2.0]) == 0.0
    assert device_checks.worst([np.nan], [1.0]) == np.inf


def test_quick_checks_ask_every_function_once():
    every, some = device_checks.chosen(), device_checks.chosen(quick=True)
    assert {row.name for row in every} == {row.name for row in some}
    assert len(some) < len(every)


# --- stages ---------------------------------------------------------------------------------------


def a_run(seconds: float, tmp_path: Path) -> stages.Run:
    clock = stages.Clock(time.monotonic(), seconds, lambda _: None)
    findings = device_report.Findings({"device": "a"}, {})
    write = lambda: stages.records.write_json(  # noqa: E731
        tmp_path / "gpu.json", findings.content(complete=False)
    )
    return stages.Run(True, clock, quiet(), findings, write, warm=False)


def test_a_table_is_written_and_judged_by_a_floor_that_starts_once(tmp_path: Path):
    run = a_run(100.0, tmp_path)
    stages.losses(run, TINY, ["float32"], "jnp", lambda loss, _: loss.label == "dice_loss")
    content = json.loads((tmp_path / "gpu.json").read_text())
    [row], [floor] = content["rows"], content["floors"]
    [launch] = content["launch_ms"].values()
    assert row["loss"] == "dice_loss"
    assert set(row["peers"]) == {"jnp"}
    assert row["ahead"] == {"jnp": 1.0, "optax": 1.0}
    both = floor["ms"]["sum"] + floor["ms"]["product"]
    assert row["floor_ms"] == pytest.approx(max(both - launch, launch))


def test_a_stage_ends_when_its_time_is_over_and_says_so(tmp_path: Path):
    run = a_run(0.2, tmp_path)

    def endless() -> None:
        while True:
            time.sleep(0.01)
            run.clock("still here")

    begun = time.monotonic()
    assert not stages.attempt(run, "endless", 0.5, endless)
    assert time.monotonic() - begun < 1.0
    assert run.findings.missing == ["stage endless: cut after 0 s"]
    time.sleep(0.1)
    assert not stages.attempt(run, "late", 1.0, lambda: pytest.fail("there is no time for it"))
    assert json.loads((tmp_path / "gpu.json").read_text())["missing"][-1].startswith("stage late")


def test_a_stage_that_fails_does_not_stop_the_others(tmp_path: Path):
    run = a_run(100.0, tmp_path)

    def fail() -> None:
        raise RuntimeError("RESOURCE_EXHAUSTED\nand so on")

    assert not stages.attempt(run, "failing", 1.0, fail)
    assert run.findings.missing == ["stage failing: RuntimeError: RESOURCE_EXHAUSTED"]
    assert stages.attempt(run, "next", 1.0, lambda: None)


def test_ctrl_c_is_not_taken_for_the_end_of_time(tmp_path: Path):
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stages.attempt(a_run(100.0, tmp_path), "checks", 1.0, stop)


def test_a_peer_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "torch" else find(name, *a)
    )
    run = a_run(100.0, tmp_path)
    stages.losses(run, TINY, ["float32"], "torch", lambda *_: False)
    assert any("peer torch (pip install torch" in each for each in run.findings.missing)
    made = SimpleNamespace(batch={"x": jax.numpy.zeros(1)})
    assert "not installed" in str(device_steps._absent(made))  # pyright: ignore


def test_every_chosen_loss_exists_and_is_asked_somewhere():
    assert set(stages.CHOSEN) <= {loss.label for loss in LOSSES}
    asked = {
        loss.label
        for group in choose(stages.LARGE, ["float32"])
        for loss in group.losses
        if stages.is_chosen(loss, group.workload) or stages.is_other(loss, group.workload)
    }
    assert asked == {loss.label for loss in LOSSES}


def test_what_was_found_is_printed_written_and_drawn(tmp_path: Path):
    run = a_run(100.0, tmp_path)
    run.findings.steps.append(STEP)
    stages.finish(run.findings, tmp_path / "gpu", run.console, draw=True)
    assert (tmp_path / "gpu-steps.png").stat().st_size > 2000
    content = run.findings.content(complete=True)
    assert {"environment", "complete", "missing", "checks", "rows", "floors", "steps"} <= {*content}
    assert content["steps"][0]["ratio"] == {"torch": 2.5}
    assert content["steps"][0]["rate"] == 2_000.0
    console = quiet()
    device_report.print_steps(console, [STEP])
    assert "torch 2.50x" in printed(console)


def test_only_a_whole_run_on_an_accelerator_is_a_record():
    gpu, cpu = SimpleNamespace(platform="gpu"), SimpleNamespace(platform="cpu")
    whole = argparse.Namespace(only=",".join(device.STAGES), quick=False, out=None)
    part, quick = argparse.Namespace(**vars(whole)), argparse.Namespace(**vars(whole))
    part.only, quick.quick = "checks", True
    assert stages.place(whole, gpu) == Path("benchmarks/results/gpu")
    assert stages.place(part, gpu) == Path("runs/benchmarks/gpu")
    assert stages.place(quick, cpu) == Path("runs/benchmarks/device-cpu")
    assert stages.place(whole, cpu) == Path("runs/benchmarks/device-cpu")


def test_an_unknown_stage_says_which_there_are(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        device.main(["--only", "chekcs"])
    assert "--only chekcs: there are checks, steps" in capsys.readouterr().err


def test_programs_are_compiled_from_shapes_alone():
    groups = choose(TINY, ["float32"], "^dice_loss/")
    found = list(device_warm.programs(groups, peers.load("jnp")))
    assert [compile_one().name for compile_one in found] == ["ours", "jnp"]


# --- steps ----------------------------------------------------------------------------------------


def test_a_step_updates_its_state():
    made = device_steps.steps.text("bfloat16", quick=True)
    before = np.array(made.state["params"]["head"]["kernel"])
    with jax.numpy_dtype_promotion("standard"):
        state, loss = made.step(made.state, made.batch)
    assert np.isfinite(loss)
    assert np.any(np.asarray(state["params"]["head"]["kernel"]) != before)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("name", ["ships", "text", "speakers"])
def test_the_network_in_pytorch_is_ours(name: str):
    pytest.importorskip("torch", reason="PyTorch is left to the reader")
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        made = device_steps.steps.STEPS[name]("float32", quick=True)
        runner = device_steps._theirs("torch", name, made, "float32", 1, quick=True)
    runner.run()  # or it would have raised


# --- a bare machine -------------------------------------------------------------------------------


def test_a_module_that_is_missing_and_dispensable_has_a_stand_in(monkeypatch: pytest.MonkeyPatch):
    assert bare.missing(("jax", "no_such_package")) == ["no_such_package"]
    monkeypatch.setattr(bare, "DISPENSABLE", ("no_such_package", "jax"))
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    assert bare.stand_in() == ["no_such_package"]
    module = importlib.import_module("no_such_package.inner")
    assert callable(module.anything)
    del sys.modules["no_such_package"], sys.modules["no_such_package.inner"]
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("another_package")


def test_types_are_those_of_the_workloads():
    assert set(device_checks.TOLERANCE) == set(work.DTYPES)
