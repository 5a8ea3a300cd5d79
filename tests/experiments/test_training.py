"""The shared loop: log, checkpoints, resume, interruption, and what stops a run."""

import io
import json
import os
import signal
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


def run(directory: Path, steps: int = 20, source=batches, step: Any = update):
    options: dict[str, Any] = {"batch_size": 8, "log_every": 5, "checkpoint_every": 10}
    return list(training.train(step, start(), source, directory, steps=steps, **options))


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
