"""The loss doctor in a shell: what it prints, and the status with which it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from diffmetrics.diagnose import _targets
from diffmetrics.diagnose.__main__ import main
from tests.diagnose.processes import environment, python


def test_the_command_exits_with_one_on_a_defect(capsys: pytest.CaptureFixture[str]):
    options = ["--kind", "binary", "--probes", "weights,direction"]
    assert main(["experiments.ships.losses:asked_weighted", *options]) == 1
    assert "DEFECT  weights" in capsys.readouterr().out
    tversky = ["diffmetrics:tversky_loss", "--set", "fp_weight=0.3", "--set", "fn_weight=0.7"]
    assert main([*tversky, *options, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["healthy"] is True
    assert set(answer["findings"][0]) == {"probe", "cause", "evidence", "advice", "status"}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("diffmetrics", "name the loss as package.module:function"),
        ("diffmetrics:dise_loss", "has no attribute 'dise_loss'"),
        ("difmetrics:dice_loss", "no module difmetrics"),
        ("diffmetrics:partial_roc_auc_loss", "--set max_fpr=..."),
        ("diffmetrics:dise_loss", "did you mean dice_loss?"),
        ("diffmetrics.py:dice_loss", "name the module, not its file: diffmetrics:dice_loss"),
        ("diffmetrics:Counts", "Counts is a class, give an instance of it"),
    ],
)
def test_the_command_says_what_it_cannot_examine(
    path: str, message: str, capsys: pytest.CaptureFixture[str]
):
    assert main([path]) == 2
    assert message in capsys.readouterr().err


BROKEN = {
    "unreadable": ("def loss(:", "cannot be imported: SyntaxError: invalid syntax (unreadable.py"),
    "failing": ("raise RuntimeError('no card')", "RuntimeError: no card ("),
    "leaving": ("raise SystemExit(0)", "SystemExit: 0 ("),
    "raising": ("def loss(a, b): raise KeyError(3)", "loss raises KeyError: 3; called as"),
    "forgetful": ("def loss(a, b): print(a)", "the loss returned None: is there a `return` in it?"),
    "dictionary": ("def loss(a, b): return {'total': a}", "the loss returned a dict of 'total'"),
}


@pytest.mark.parametrize("module", BROKEN)
def test_a_module_that_fails_is_one_line(
    module: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    text, message = BROKEN[module]
    (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    assert main([f"{module}:loss", "--kind", "binary"]) == 2
    printed, told = capsys.readouterr()
    assert not printed
    (line,) = [line for line in told.splitlines() if not line.startswith("JitTracer")]
    assert message in line


DICE = ["diffmetrics:dice_loss", "--kind", "binary"]


def test_names_of_options_may_be_mistyped(capsys: pytest.CaptureFixture[str]):
    assert main([*DICE, "--probes", "direction, wieghts,"]) == 2
    assert "got wieghts; did you mean weights?" in capsys.readouterr().err
    assert main([*DICE, "--set", "axes=1"]) == 2
    assert "dice_loss has no argument axes; did you mean axis?" in capsys.readouterr().err


def test_where_nothing_is_examined_nothing_is_healthy(capsys: pytest.CaptureFixture[str]):
    assert main([*DICE, "--probes", "padding"]) == 2
    assert capsys.readouterr().out.startswith("dice_loss: nothing was examined: ")
    assert main([*DICE, "--probes", "padding", "--json"]) == 2
    assert "nothing was examined" in json.loads(capsys.readouterr().out)["verdict"]


def test_what_a_loss_prints_is_no_part_of_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    text = "def loss(z, y):\n    print('called')\n    return ((z - y) ** 2).mean()"
    (tmp_path / "chatty.py").write_text(f"print('imported')\n{text}")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["chatty:loss", "--kind", "regression", "--probes", "jit", "--json"]) == 0
    printed, told = capsys.readouterr()
    assert json.loads(printed)["healthy"]
    assert {"imported", "called"} <= set(told.splitlines())


def test_the_command_runs_as_a_module():
    options = ["--kind", "binary", "--probes", "direction"]
    done = python("-m", "diffmetrics.diagnose", "diffmetrics:dice_loss", *options)
    assert done.stdout.startswith(
        "dice_loss: healthy\nbinary, loss(logits, labels). no defects, no notes."
    )
    assert "Warning" not in done.stderr


# --- what it costs --------------------------------------------------------------------------------

FOCAL = ["optax:sigmoid_focal_loss", "--kind", "binary", "--probes", "direction"]


def test_the_cost_stands_below_the_report(capsys: pytest.CaptureFixture[str]):
    assert main([*FOCAL, "--shape", "2x64x64"]) == 0
    report, cost = capsys.readouterr().out.split("\n\n")
    assert report.endswith("lowers the loss, for every class")
    assert cost.startswith("sigmoid_focal_loss on CPU: moves ")
    assert "diffmetrics.sigmoid_focal_loss, of the same value and gradient" in cost
    assert main([*FOCAL, "--shape", "2x64x64", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["cost"]["least_bytes"] == 3 * 4 * 2 * 64 * 64
    assert answer["cost"]["ratio"] > answer["cost"]["ours"]["ratio"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "v9"], "target must be one of h100, v5e, v6e, cpu, got 'v9'"),
        (["--target", "v5e"], "target v5e needs libtpu: pip install"),
    ],
)
def test_a_target_that_is_not_there_is_one_line(
    options: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(_targets, "versions", lambda name: {})
    assert main([*FOCAL, *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_shape_that_is_none_or_that_the_loss_does_not_take_is_told(
    capsys: pytest.CaptureFixture[str],
):
    with pytest.raises(SystemExit, match="2"):
        main([*FOCAL, "--shape", "16x"])
    assert "expected lengths such as 16x512x512, got '16x'" in capsys.readouterr().err
    columns = ["diffmetrics:dice_loss", "--set", "axis=1", *FOCAL[1:]]
    assert main([*columns, "--shape", "8"]) == 2
    printed, told = capsys.readouterr()
    assert printed.startswith("dice_loss(axis=1): healthy")  # which stands without its cost
    (line,) = told.splitlines()
    assert "no cost of predictions (8,): ValueError: axis" in line


# --- pipes ----------------------------------------------------------------------------------------


def test_a_reader_that_leaves_early_is_no_error():
    command = [sys.executable, "-m", "diffmetrics.diagnose", "diffmetrics:dice_loss"]
    command += ["--kind", "binary", "--probes", "direction"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment()) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.close()  # long before there is anything to read
        told = run.stderr.read()
    assert run.returncode == 141
    assert "Traceback" not in told
    assert "BrokenPipe" not in told
