"""What is counted of every loss, and what none may exceed.

Programs of accelerators are compiled in processes of their own, since this one has the flags and
devices of the tests. Where the compilers are not installed, these tests are skipped.
"""

from __future__ import annotations

import functools
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from rich.console import Console

import diffmetrics as dm
from benchmarks import (
    __main__ as command,
    peers,
    plan,
    plan_report,
    plan_steps,
    steps,
    work,
)
from benchmarks.losses import LOSSES
from benchmarks.plan import Row
from benchmarks.run import Group, choose
from benchmarks.work import Workload
from diffmetrics.diagnose import _targets as targets
from diffmetrics.diagnose._targets import Program
from experiments.shared import records

ROOT = Path(__file__).parents[2]

# The most bytes, over the least, that a row may move: what it moves today, to be tightened when it
# moves less. Of float32, at the benchmark's own sizes, which do not fit on a TPU's chip.
MOST: dict[str, dict[str, float]] = {
    "h100": {
        "sigmoid_cross_entropy/masks": 1.01,
        "hinge_loss/masks": 1.01,
        "dice_loss/masks": 1.01,
        "focal_tversky_loss/masks": 1.01,
        "softmax_cross_entropy/class masks": 1.75,
        "softmax_cross_entropy/class labels": 1.52,
        "dice_loss (softmax)/class masks": 2.52,
        "dice_loss (softmax)/class labels": 2.02,
        "mcc_loss (softmax)/class labels": 2.03,
        "kl_divergence/class labels": 1.68,
        "js_divergence_from_probabilities/class labels": 1.01,
        "triplet_loss/embeddings": 1.77,
        "gaussian_nll/targets": 1.01,
        "beta_nll/targets": 1.01,
    },
    "v5e": {
        "sigmoid_cross_entropy/masks": 1.01,
        "hinge_loss/masks": 1.01,
        "dice_loss/masks": 1.01,
        "focal_tversky_loss/masks": 1.01,
        "softmax_cross_entropy/class masks": 1.52,
        "softmax_cross_entropy/class labels": 1.51,
        "dice_loss (softmax)/class masks": 1.64,
        "dice_loss (softmax)/class labels": 1.68,
        "mcc_loss (softmax)/class labels": 1.68,
        "kl_divergence/class labels": 1.68,
        "js_divergence_from_probabilities/class labels": 1.01,
        "triplet_loss/embeddings": 1.51,
        "gaussian_nll/targets": 1.01,
        "beta_nll/targets": 1.01,
    },
}


# --- the least ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "kind", "arrays"),
    [
        ("sigmoid_cross_entropy", "binary", 3),  # logits, labels, gradient
        ("dice_loss", "binary", 5),  # the totals before the gradient: both twice
        ("roc_auc_loss (hinge)", "ranking", 5),
        ("lovasz_hinge_loss", "binary", 5),
        ("dice of counts", "binary", 2),  # no gradient
        ("kl_divergence", "divergence", 3),
        ("gaussian_nll", "distribution", 4),
    ],
)
def test_the_least_is_what_no_chip_can_avoid(label: str, kind: str, arrays: int):
    [loss] = [x for x in LOSSES if (x.label, x.kind) == (label, kind)]
    drawn = work.draw(kind, (4, 8), "float32")
    assert plan.least(loss, drawn) == arrays * 4 * 8 * 4


def test_the_least_of_classes_counts_ids_by_their_own_size():
    one, two = (
        next(x for x in LOSSES if x.label == label)
        for label in ("softmax_cross_entropy", "dice_loss (softmax)")
    )
    drawn = work.draw("softmax", (4, 8), "bfloat16")
    logits, ids = 4 * 8 * 2, 4 * 4
    assert plan.least(one, drawn) == logits + ids + logits
    assert plan.least(two, drawn) == 2 * (logits + ids) + logits


@pytest.mark.parametrize("kind", work.ARGUMENTS)
def test_arrays_that_are_not_made_have_the_shapes_of_those_that_are(kind: str):
    shape = (6, 8, 5) if kind in ("binary", *work.CLASSES) else (24, 5)
    shape = (24,) if kind == "ranking" else shape
    drawn = work.draw(kind, shape, "bfloat16")
    found = plan.shapes(kind, shape, "bfloat16", jax.devices()[0])
    assert {k: (x.shape, x.dtype) for k, x in found.items()} == {
        k: (x.shape, x.dtype) for k, x in drawn.items()
    }


# --- the command, for this processor --------------------------------------------------------------

TINY = (Workload("masks", ("binary",), (2, 8, 8)), Workload("scores", ("ranking",), (50,)))


def tiny(pattern: str) -> list[tuple[Group, Any]]:
    return list(plan.by_name(choose(TINY, ["float32"], pattern)).values())


def test_a_row_is_compiled_counted_printed_written_and_drawn(tmp_path: Path):
    functions = {
        "jnp": {"dice_loss": lambda a: dm.dice_loss(a.logits, a.labels)},
        "optax": {"dice_loss": lambda a: 1.1 * dm.dice_loss(a.logits, a.labels)},
        "keras": {"dice_loss": lambda a: a.nothing},
    }
    wanted = tiny("^(dice_loss|dice of counts)")
    found = list(plan.rows(wanted, peers.Peers(functions), jax.devices("cpu")[0]))
    assert [row.name for row in found] == [
        "dice_loss/masks/float32",
        "dice of counts/masks/float32",
    ]
    dice = found[0]
    assert dice.ours.bytes >= dice.least == 5 * 2 * 8 * 8 * 4
    assert dice.ours.kernels > 0
    assert set(dice.peers) == {"jnp"}
    assert set(dice.failed) == {"optax", "keras"}
    assert "value" in dice.failed["optax"]
    assert "AttributeError" in dice.failed["keras"]

    console = Console(file=io.StringIO(), width=60)
    plan_report.print_rows(console, found, ["rax (pip install rax)"])
    printed = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert "dice of counts (value)" in printed
    assert "not counted: optax dice_loss/masks/float32: value" in printed
    assert "peers absent: rax" in printed
    content = plan_report.record({"device": "cpu"}, {"peers": "all"}, found, whole=3)
    assert not content["complete"]
    path = tmp_path / "plan-cpu.json"
    records.write_json(path, content)
    again = plan_report.read(path, {"device": "cpu", "commit": "b"}, {"peers": "all"})
    assert list(again.values()) == found
    with pytest.raises(ValueError, match="with peers 'all', now it is 'none'"):
        plan_report.read(path, {"device": "cpu"}, {"peers": "none"})
    plan_report.draw(json.loads(path.read_text()), tmp_path / "plan.png")
    assert (tmp_path / "plan.png").stat().st_size > 2000


def row(bytes_: int, **others: int) -> Row:
    def made(n: int) -> Program:
        return Program(n, 1, 0, 0, 0.0)

    programs_ = {name: made(n) for name, n in others.items()}
    return Row(
        "dice_loss", "masks", "binary", (8,), "float32", forward=False, least=100,
        ours=made(bytes_), peers=programs_, failed={},
    )  # fmt: skip


def test_a_peer_that_moves_less_is_told():
    assert row(120, jnp=110, optax=200).best == ("jnp", 1.1)
    assert plan_report.is_behind(row(120, jnp=110, optax=200))
    assert not plan_report.is_behind(row(120, jnp=120))
    assert not plan_report.is_behind(row(120))


def test_a_step_is_compiled_or_refused(monkeypatch: pytest.MonkeyPatch):
    def add(state: Any, batch: Any) -> Any:
        return state + batch["x"], jnp.sum(batch["x"])

    def refuse(state: Any, batch: Any) -> Any:
        raise jax.errors.JaxRuntimeError("UNIMPLEMENTED: no such library\nbecause")

    batch = {"x": jnp.ones(1000)}

    def offered(step: Any, dtype: str) -> steps.Training:
        return steps.Training(step, jnp.ones(1000, dtype), batch)

    known = {"add": functools.partial(offered, add), "refuse": functools.partial(offered, refuse)}
    monkeypatch.setattr(steps, "STEPS", known)
    wanted = plan_steps.choose(["float32", "bfloat16"], "32")
    made, refused = plan_steps.compiled(wanted, jax.devices("cpu")[0])
    assert made.program is not None
    assert made.program.bytes >= 3 * 4000
    assert made.program.memory_bytes >= 3 * 4000
    assert made.batch == {"x": (1000,)}
    assert refused.program is None
    assert refused.refused == "UNIMPLEMENTED: no such library"
    console = Console(file=io.StringIO(), width=60)
    plan_steps.print_steps(console, [made, refused])
    printed = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert "refused: refuse, float32" in printed
    with pytest.raises(ValueError, match="matches no step; there are add/float32, refuse/float32"):
        plan_steps.choose(["float32"], "divide")


def test_only_peers_in_jax_are_compiled():
    assert plan.in_jax("all") == "jnp,optax,keras,rax"
    assert plan.in_jax("optax,torch") == "optax"
    assert plan.in_jax("torch") == plan.in_jax("none") == "none"


def test_an_unknown_type_or_an_absent_compiler_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert command.main(["plan", "--target", "cpu", "--dtypes", "float8"]) == 1
    assert "no float8; there are float32, bfloat16" in capsys.readouterr().out
    monkeypatch.setattr(targets, "versions", lambda name: {"jax-cuda12-plugin": "0.10"})
    assert command.main(["plan", "--target", "h100", "--peers", "none"]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "target h100 needs jax-cuda12-pjrt, nvidia-cuda-nvcc-cu12: pip install" in printed


# --- accelerators ---------------------------------------------------------------------------------


def alone(arguments: list[str]) -> str:
    """Run Python without the flags of the tests, and return what it prints."""
    environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_PLATFORMS")}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def needs(target: str) -> None:
    if absent := targets.missing(target):
        pytest.skip(f"{', '.join(absent)} not installed: pip install -e '.[accelerators]'")


@pytest.mark.parametrize("target", MOST)
def test_no_loss_moves_more_than_it_did(target: str, tmp_path: Path):
    needs(target)
    names = "|".join(name.replace("(", "[(]").replace(")", "[)]") for name in MOST[target])
    arguments = ["--target", target, "--dtypes", "float32", "--peers", "none"]
    arguments += ["--filter", f"^({names})/", "--out", str(tmp_path)]
    alone(["-m", "benchmarks", "plan", *arguments])
    rows = json.loads((tmp_path / f"plan-{target}.json").read_text())["rows"]
    found = {f"{row['loss']}/{row['workload']}": row["ratio"] for row in rows}
    assert found.keys() == MOST[target].keys()
    assert {k: x for k, x in found.items() if x > MOST[target][k]} == {}


BRANCHES = """
import jax
from diffmetrics.diagnose import _targets as targets

def either(x):
    return jax.lax.platform_dependent(x, cpu=jax.numpy.sin, default=jax.numpy.exp)

device = targets.device("{target}")
x = targets.abstract(jax.ShapeDtypeStruct((4096,), "float32"), device)
print(jax.jit(either).lower(x).compile().as_text())
"""


@pytest.mark.parametrize("target", MOST)
def test_what_suits_a_cpu_stays_out_of_programs_for_others(target: str):
    needs(target)
    text = alone(["-c", BRANCHES.format(target=target)])
    assert "exponential(" in text
    assert "sine(" not in text
