"""The shared loop: log, checkpoints, resume, interruption, and what stops a run."""

import gc
import io
import itertools
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from experiments.shared import plots, records, training


@jax.jit
def update(state: dict, batch: jax.Array) -> tuple[dict, jax.Array]:
    """A step whose result depends on every batch and on their order."""
    w = 0.9 * state["w"] + batch.mean(0)
    return {"w": w, "step": state["step"] + 1}, jnp.sum(w**2)


def start() -> dict:
    return {"w": jnp.zeros(3), "step": jnp.zeros((), jnp.int32)}


def batches(first: int):
    for step in range(first, 20):
        yield np.random.default_rng(step).normal(size=(8, 3)).astype(np.float32)


def run(
    directory: Path, steps: int = 20, source=batches, step: Any = update, state: Any = None
) -> list[training.Step]:
    options: dict[str, Any] = {"batch_size": 8, "log_every": 5, "checkpoint_every": 10}
    return list(training.train(step, state or start(), source, directory, steps=steps, **options))


def test_yields_logs_and_saves(tmp_path: Path):
    seen = run(tmp_path)
    assert [step.number for step in seen] == [5, 10, 15, 20]
    log = plots.read_log(tmp_path / "metrics.jsonl")
    np.testing.assert_array_equal(log["step"], [5, 10, 15, 20])
    assert np.all(log["examples_per_second"] > 0)
    restored = training.restore(start(), tmp_path)
    np.testing.assert_array_equal(restored["w"], seen[-1].state["w"])
    plots.training_curves({"a": tmp_path / "metrics.jsonl"}, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        training.restore(start(), tmp_path / "elsewhere")


def test_resume_ends_where_an_uninterrupted_run_ends(tmp_path: Path):
    whole = run(tmp_path / "whole")[-1].state
    run(tmp_path / "parts", steps=10)
    parts = run(tmp_path / "parts")[-1].state
    np.testing.assert_array_equal(parts["w"], whole["w"])
    assert int(parts["step"]) == 20
    again = run(tmp_path / "parts")[-1]
    assert again.number == 20


def test_interruption_saves_the_step_in_flight(tmp_path: Path):
    def interrupted(first: int):
        for step, batch in enumerate(batches(first), first):
            if step == 7:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="stopped after step 8, which is saved"):
        run(tmp_path / "parts", source=interrupted)
    assert int(training.restore(start(), tmp_path / "parts")["step"]) == 8
    parts, whole = run(tmp_path / "parts")[-1], run(tmp_path / "whole")[-1]
    np.testing.assert_array_equal(parts.state["w"], whole.state["w"])
    assert signal.getsignal(signal.SIGINT) is before


def test_a_loss_that_is_not_finite_stops_the_run_and_is_not_saved(tmp_path: Path):
    def poisoned(first: int):
        for step, batch in enumerate(batches(first), first):
            yield batch * np.float32(np.nan if step == 12 else 1.0)

    raised = pytest.raises(training.NonFiniteLossError, match=r"nan at step 13; .* of step 10")
    with jax.debug_nans(False), raised:
        run(tmp_path, source=poisoned)
    assert np.all(np.isfinite(training.restore(start(), tmp_path)["w"]))


def test_a_run_that_fails_before_its_first_checkpoint_leaves_nothing(tmp_path: Path):
    def short(first: int):
        yield from itertools.islice(batches(first), 7)

    with pytest.raises(ValueError, match="batches ended before the last step"):
        run(tmp_path / "short", source=short)
    assert list((tmp_path / "short").iterdir()) == []


# Arrays that were still being written when the first one failed find no loop to report to.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_is_one_line_and_leaves_the_checkpoint_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    resource = pytest.importorskip("resource")  # no file may grow, which Linux and macOS know
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def filling(first: int):
        for step, batch in enumerate(batches(first), first):
            if step == 15:
                while not training.has_checkpoint(tmp_path):
                    time.sleep(0.01)  # it is being written
                resource.setrlimit(resource.RLIMIT_FSIZE, (2**15, before[1]))
            yield batch

    noise = jax.random.bits(jax.random.key(0), (2**15,))
    large = jax.jit(lambda state, batch: ({**update(state, batch)[0], "noise": noise}, 0.0))
    try:
        with pytest.raises(
            OSError, match=r"^file too large: .*; the last checkpoint is of step 10"
        ):
            run(tmp_path, source=filling, step=large, state={**start(), "noise": noise})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["10"]
    time.sleep(0.5)  # for those arrays, so that no later test is told of them
    gc.collect()  # of tasks that failed, when asyncio would tell of them
    assert caplog.text == ""


def test_the_log_tells_how_long_the_devices_wait_for_input(tmp_path: Path):
    def slow(first: int):
        for batch in batches(first):
            time.sleep(0.02)
            yield batch

    run(tmp_path, source=slow)
    waited = plots.read_log(tmp_path / "metrics.jsonl")["input_wait"]
    assert np.all((waited[1:] > 0.3) & (waited[1:] <= 1.0))  # the first compiles


def test_batches_are_spread_over_the_devices_that_divide_them(tmp_path: Path):
    seen: list[int] = []

    def spy(state: dict, batch: jax.Array) -> tuple[dict, jax.Array]:
        seen.append(len(batch.sharding.device_set))
        return update(state, batch)

    run(tmp_path, step=spy)
    assert set(seen) == {min(8, jax.device_count())}


def test_json_is_written_whole_and_plain(tmp_path: Path):
    path = tmp_path / "deep" / "result.json"
    records.write_json(path, {"a": np.float32(0.5), "b": Path("x"), "c": jnp.arange(2)})
    assert json.loads(path.read_text()) == {"a": 0.5, "b": "x", "c": [0, 1]}
    assert [p.name for p in path.parent.iterdir()] == ["result.json"]


def test_the_doctor_says_one_line_and_never_stops_a_run():
    def without_gradient(logits: jax.Array, labels: jax.Array) -> jax.Array:
        return jnp.abs((logits > 0).astype(labels.dtype) - labels).mean()

    def broken(logits: jax.Array, labels: jax.Array) -> jax.Array:
        raise RuntimeError("no such loss")

    console = Console(file=io.StringIO(), width=300)
    for loss in (without_gradient, broken):
        training.examine(loss, "binary", console)
    first, second = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert first.startswith("doctor: without_gradient: broken: it has no gradient at all")
    assert "not examined" in second
    assert "no such loss" in second
