"""The benchmark command on tiny arrays: what it computes and writes, never how fast."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import diffmetrics as dm
from benchmarks import (
    __main__ as command,
    jax_peers,
    measure,
    overview,
    peers,
    report,
    run,
    scaling,
    work,
)
from benchmarks.losses import LOSSES, Loss
from benchmarks.measure import Patience
from benchmarks.run import Row, Timing, choose
from benchmarks.work import ARGUMENTS, Workload
from experiments.shared import records

TINY = (
    Workload("masks", ("binary",), (2, 4, 4)),
    Workload("class masks", work.CLASSES, (2, 4, 4, 3)),
    Workload("embeddings", work.EMBEDDINGS, (16, 8)),
    Workload("scores", ("ranking",), (200,)),
    Workload("targets", work.TARGETS, (40,)),
)
ONCE = Patience(seconds=0.0, fewest=1, most=1)
NOBODY = peers.Peers({})


def timing(ms: float) -> Timing:
    return Timing((ms, ms, ms), 1, 0.0, 0.0)


def row(**changed: Any) -> Row:
    made = Row(
        "dice_loss", "masks", "binary", (2, 4, 4), "float32", forward=False, ours=timing(12.0),
        floor_ms=10.0, gigabytes=1.0, goal=1.25, ahead={}, peers={}, unequal={},
    )  # fmt: skip
    return dataclasses.replace(made, **changed)


def test_every_public_loss_has_a_row():
    endings = ("_loss", "_nll", "cross_entropy", "divergence", "_from_probabilities")
    # `score_loss` makes losses, of which the named ones are measured; `log_loss` is a metric,
    # and `elbo_loss` a mean and a sum.
    public = {name for name in dir(dm) if name.endswith(endings) and name[0] != "_"}
    public |= {"crps_gaussian"}
    assert public - {"score_loss", "log_loss", "elbo_loss"} == {
        loss.name for loss in LOSSES if not loss.function
    }


def test_every_row_has_its_own_name_and_every_peer_a_row():
    labels = [(loss.label, loss.kind) for loss in LOSSES]
    assert len(set(labels)) == len(labels)
    assert {*jax_peers.plain(), *jax_peers.of_optax()} <= {loss.label for loss in LOSSES}


def arrays_of(loss: Loss) -> work.Arrays:
    return work.draw(loss.kind, next(w.shape for w in TINY if loss.kind in w.kinds), "float32")


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.label)
def test_every_loss_is_called_with_what_it_takes(loss: Loss):
    value = jax.eval_shape(lambda a: loss(SimpleNamespace(**a)), arrays_of(loss))
    assert value.shape == ()


WRITTEN = [loss for loss in LOSSES if loss.label in jax_peers.plain()]


@pytest.mark.parametrize("loss", WRITTEN, ids=lambda loss: loss.label)
def test_a_loss_equals_what_a_user_would_write(loss: Loss):
    arrays, first = arrays_of(loss), ARGUMENTS[loss.kind][0]
    ours, peer = (
        measure.compiled("", each, arrays, first, forward=loss.forward_only).result()
        for each in (loss, jax_peers.plain()[loss.label])
    )
    assert (ours[1] is None) == loss.forward_only
    assert measure.difference(ours, peer, "float32") is None


def test_a_run_is_printed_written_and_drawn(tmp_path: Path):
    groups = choose(
        TINY, ["float32", "bfloat16"], "^(dice_loss/masks|lovasz_softmax|dice of counts)"
    )
    tables: report.Tables = {}
    console = Console(file=io.StringIO(), width=60)
    for floor, found in run.run(groups, NOBODY, ONCE):
        report.print_group(console, floor, found)
        tables[floor.group] = (floor, found)
    rows = [row for _, found in tables.values() for row in found]
    report.print_end(console, rows, ["torch (pip install torch)"])
    content = report.record({"commit": "a"}, {"peers": "all"}, tables, whole=len(groups))
    assert content["complete"]
    records.write_json(tmp_path / "cpu.json", content)
    # Another commit may go on with it; other peers may not.
    assert report.read(tmp_path / "cpu.json", {"commit": "b"}, {"peers": "all"}) == tables
    with pytest.raises(ValueError, match="with peers 'all', now it is 'none'"):
        report.read(tmp_path / "cpu.json", {"commit": "a"}, {"peers": "none"})
    report.draw(json.loads((tmp_path / "cpu.json").read_text()), tmp_path / "cpu.png")

    written = json.loads((tmp_path / "cpu.json").read_text())["rows"]
    names = {(row["loss"], row["dtype"], row["forward"]) for row in written}
    losses = {"dice_loss": False, "lovasz_softmax_loss": False, "dice of counts": True}
    expected = {(name, dtype, to) for name, to in losses.items() for dtype in work.DTYPES}
    assert names == expected
    assert all(row["ours"]["ms"][0] > 0 for row in written)
    assert (tmp_path / "cpu.png").stat().st_size > 2000
    printed = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert all(name in printed for name, _, _ in expected)
    assert "peers absent: torch (pip install torch)" in printed.replace("\n", " ")


def test_a_run_of_values_has_a_floor_without_the_product():
    groups = choose(TINY, ["float32"], "^sigmoid_cross_entropy/masks")
    [(floor, [found])] = run.run(groups, NOBODY, ONCE, forward=True)
    assert set(floor.ms) == {"sum"}
    assert found.forward
    assert found.floor_ms == floor.pass_ms == floor.ms["sum"]


def test_the_floor_is_what_no_loss_can_avoid():
    parts = {"sum": 2.0, "product": 3.0, "sort": 40.0, "pairs": 10.0}
    assert measure.floor_seconds(parts, "pass", forward=False) == 5.0
    assert measure.floor_seconds(parts, "pass", forward=True) == 2.0
    assert measure.floor_seconds(parts, "sort", forward=False) == 45.0
    assert measure.floor_seconds(parts, "sort", forward=True) == 42.0
    assert measure.floor_seconds(parts, "pairs", forward=False) == 25.0
    assert measure.floor_seconds(parts, "pairs", forward=True) == 12.0


def test_the_floor_moves_every_array_the_loss_reads():
    arrays = work.draw("softmax", (2, 4, 4, 3), "bfloat16")
    logits, ids = 96 * 2, 32 * 4
    assert work.bytes_moved("softmax", arrays, forward=True) == logits + ids
    assert work.bytes_moved("softmax", arrays, forward=False) == 2 * (logits + ids) + logits
    product = work.product("softmax", arrays)
    ids = arrays["ids"][..., None].astype(jnp.bfloat16)
    np.testing.assert_array_equal(product, arrays["logits"] * ids)


def test_a_goal_is_missed_or_reached():
    assert row(ours=timing(12.5)).missed() == []
    assert row(ours=timing(14.0)).missed() == ["1.40x floor, goal 1.25"]
    assert row(ours=timing(14.0), goal=2.0).missed() == []
    assert row(ours=timing(14.0), goal=None).missed() == []


def test_a_goal_against_peers_is_that_of_the_fastest_one_named():
    times = {"optax": timing(36.0), "monai": timing(60.0), "torch": timing(24.0)}
    assert row(ahead={"optax": 3.0}, peers=times).missed() == []
    assert row(ahead={"optax": 4.0}, peers=times).missed() == ["3.00x as fast as optax, goal 4"]
    assert row(ahead={"eager": 2.5}, peers=times).missed() == ["2.00x as fast as eager, goal 2.5"]
    assert row(ahead={"any": 1.0}, peers=times).missed() == []
    assert row(ahead={"torch.compile": 1.0}, peers=times).missed() == []  # not there
    assert row(peers=times).best == ("torch", 2.0)


def test_a_peer_that_computes_something_else_is_not_timed():
    functions = {
        "same": {"dice_loss": lambda a: dm.dice_loss(a.logits, a.labels)},
        "value": {"dice_loss": lambda a: 1.01 * dm.dice_loss(a.logits, a.labels)},
        "gradient": {
            "dice_loss": lambda a: dm.dice_loss(a.logits, a.labels) + 0 * a.logits.sum() ** 2
            + 1e-3 * (a.logits - a.values).sum()
        },
        "broken": {"dice_loss": lambda a: a.nothing},
    }  # fmt: skip
    group = choose(TINY, ["float32"], "^dice_loss/masks")[0]
    arrays = work.draw("binary", group.workload.shape, "float32")
    arrays["values"] = jnp.array(arrays["logits"])  # equal in value, another slope
    measured = run._Measured(group, arrays, peers.Peers(functions), ONCE, False, lambda _: None)
    measured.prepare()
    measured.time()
    found = measured.results()[1][0]
    assert set(found.peers) == {"same"}
    assert found.unequal["value"].startswith("value ")
    assert found.unequal["gradient"].startswith("gradient off by ")
    assert found.unequal["broken"].startswith("AttributeError")


@pytest.mark.parametrize(
    ("once", "rounds", "runs"),
    [(1e-5, 9, 100), (2e-4, 9, 10), (0.02, 9, 1), (0.2, 4, 1), (2.0, 3, 1), (20.0, 1, 1)],
)
def test_what_is_short_is_run_many_times_for_a_sample(once: float, rounds: int, runs: int):
    patience = Patience()
    assert (patience.rounds(once), patience.runs(once)) == (rounds, runs)


def test_nan_is_never_equal():
    ours = (1.0, np.ones(3, np.float32))
    assert measure.difference(ours, (1.0, np.ones(3, np.float32)), "float32") is None
    assert measure.difference(ours, (np.nan, np.ones(3, np.float32)), "float32")
    assert measure.difference(ours, (1.0, np.full(3, np.nan, np.float32)), "float32")
    assert measure.difference(ours, (1.0, np.ones((3, 1), np.float32)), "float32")


def test_what_was_measured_before_ctrl_c_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    groups = choose(TINY, ["float32"], "^(dice|jaccard)_loss/masks")
    in_turns = measure.in_turns

    def stopped(runners: list[measure.Runner], done: Any) -> None:
        in_turns([r for r in runners if r is not runners[-1]], done)
        raise KeyboardInterrupt

    monkeypatch.setattr(measure, "in_turns", stopped)
    measured = run.run(groups, NOBODY, ONCE)
    floor, rows = next(measured)
    assert [row.loss for row in rows] == ["dice_loss"]
    assert not floor.complete
    with pytest.raises(KeyboardInterrupt):
        next(measured)
    # Going on starts that table again.
    content = report.record({}, {}, {floor.group: (floor, rows)}, whole=1)
    records.write_json(tmp_path / "cpu.json", content)
    assert not content["complete"]
    assert report.read(tmp_path / "cpu.json", {}, {}) == {}


def test_a_filter_without_a_match_says_what_exists():
    with pytest.raises(ValueError, match=r"'diec' matches no row.*dice_loss.*masks.*float32"):
        choose(TINY, ["float32"], "diec")
    with pytest.raises(ValueError, match="no regular expression"):
        choose(TINY, ["float32"], "dice(")


def test_an_unknown_peer_says_which_there_are():
    assert peers.names("none") == []
    assert peers.names("optax, torch") == ["optax", "torch"]
    with pytest.raises(ValueError, match=r"no such peer: optix; .*jnp, optax, .*smp"):
        peers.names("torch,optix")
    with pytest.raises(ValueError, match="no such peer"):
        peers.names("")


def test_a_mistake_is_one_line_and_no_traceback(capsys: pytest.CaptureFixture[str]):
    assert command.main(["--filter", "diec", "--peers", "none"]) == 1
    assert "error: --filter 'diec' matches no row" in capsys.readouterr().out
    assert command.main(["--peers", "optix"]) == 1
    assert command.main(["scaling", "--filter", "diec"]) == 1


def test_a_part_of_a_run_does_not_replace_the_recorded_whole():
    device = SimpleNamespace(device_kind="NVIDIA H200")
    whole = Path("benchmarks/results/nvidia-h200")
    assert command.place(None, device, False, "") == whole
    assert command.place(None, device, True, "") == Path("runs/benchmarks/nvidia-h200")
    assert command.place(Path("here"), device, True, "-forward") == Path("here/nvidia-h200-forward")


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_exponent_is_that_of_the_upper_sizes(power: float):
    n = [10**k for k in range(3, 8)]
    overhead = [5.0, 1.0]
    ms = overhead + [1e-6 * x**power for x in n[2:]]
    assert scaling.exponent(n, ms) == pytest.approx(power)
    assert scaling.exponent(n[:1], ms[:1]) is None


def test_the_overview_finds_its_losses_in_what_was_recorded(tmp_path: Path):
    overview.draw(tmp_path / "speed.png")
    assert (tmp_path / "speed.png").exists()


def test_growth_is_measured_written_and_drawn(tmp_path: Path):
    losses = command.named("^(dice_loss|lovasz_softmax_loss)$")
    found = list(scaling.grow(losses, [100, 1_000], ONCE, lambda _: None))
    assert [g.loss for g in found] == ["dice_loss", "lovasz_softmax_loss"]
    assert {g.n for g in found} == {(100, 1_000)}
    console = Console(file=io.StringIO(), width=60)
    scaling.print_growth(console, found)
    content = scaling.record({}, {}, found, complete=True)
    records.write_json(tmp_path / "cpu-scaling.json", content)
    scaling.draw(json.loads((tmp_path / "cpu-scaling.json").read_text()), tmp_path / "cpu.png")
    assert (tmp_path / "cpu.png").stat().st_size > 2000


def test_a_size_that_would_not_fit_is_left_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scaling, "MOST_BYTES", -1)
    [growth] = scaling.grow(command.named("^dice_loss$"), [100, 1_000], ONCE, lambda _: None)
    assert growth.n == ()
    assert growth.stopped
    assert "100" in growth.stopped
