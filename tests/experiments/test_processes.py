"""Two processes that share every batch train what one process trains, and stop together.

Each of them runs this module: `python -m tests.experiments.test_processes RANK ADDRESS FOLDER`.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffmetrics as dm
from experiments.shared import plots, processes, training

PROCESSES, STEPS, BATCH = 2, 6, 8
SECONDS = 60  # ten times what it takes on an idle machine


@jax.jit
def update(state: dict[str, jax.Array], batch: Any) -> tuple[dict[str, jax.Array], jax.Array]:
    """A step of gradient descent on the Dice loss of a whole batch, which it also keeps."""

    def objective(w: jax.Array) -> jax.Array:
        return dm.dice_loss(batch["x"] @ w, batch["y"])

    loss, gradient = jax.value_and_grad(objective)(state["w"])
    return {"w": state["w"] - gradient, "last": batch["x"]}, loss


def begin() -> dict[str, jax.Array]:
    return {"w": jnp.zeros(3), "last": jnp.zeros((BATCH, 3))}


def batches(start: int) -> Iterator[dict[str, np.ndarray]]:
    """Rows are sorted by label: the first process sees hardly a positive. One array is whole."""
    mine = processes.rows(BATCH)
    for step in range(start, STEPS):
        x = np.random.default_rng(step).normal(size=(BATCH, 3)).astype(np.float32)
        x = x[np.argsort(x[:, 0])]
        yield {"x": x[mine], "y": x[:, 0] > 0.5}


def train(directory: Path, source: Any = batches) -> list[training.Step]:
    options: dict[str, Any] = {
        "steps": STEPS,
        "batch_size": BATCH,
        "log_every": 2,
        "checkpoint_every": 6,
    }
    return list(training.train(update, begin(), source, directory, **options))


# --- one of the processes -------------------------------------------------------------------------


def work(rank: int, address: str, folder: Path) -> None:
    """The second is interrupted while it reads; both go on from what the first has saved."""
    processes.join(coordinator=address, process=rank, of=PROCESSES, seconds=SECONDS // 2)

    def interrupted(start: int) -> Iterator[dict[str, np.ndarray]]:
        for step, batch in enumerate(batches(start)):
            if step == 2 and rank == 1:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch

    with pytest.raises(KeyboardInterrupt, match="stopped after step 4, which is saved"):
        train(folder / "run", interrupted)
    with pytest.raises(ValueError, match="refused by process 0"):
        processes.once(refuse)
    *_, last = train(folder / "run")
    np.savez(folder / f"{rank}.npz", **last.state)  # by itself, without the other


def refuse() -> None:
    raise ValueError(f"refused by process {jax.process_index()}")


# --- both of them, from outside -------------------------------------------------------------------


def test_two_processes_train_what_one_trains_and_stop_together(tmp_path: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    environment |= {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    command = [sys.executable, "-m", __name__]
    both = [
        subprocess.Popen(
            [*command, str(rank), address, str(tmp_path)],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for rank in range(PROCESSES)
    ]
    one = train(tmp_path / "one")[-1].state
    try:
        said = [process.communicate(timeout=SECONDS)[0] for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [0, 0], "\n".join(said)
    for rank in range(PROCESSES):
        with np.load(tmp_path / f"{rank}.npz") as found:
            np.testing.assert_array_equal(found["last"], one["last"])
            np.testing.assert_allclose(found["w"], one["w"], rtol=1e-5)
    log = plots.read_log(tmp_path / "run" / "metrics.jsonl")
    np.testing.assert_array_equal(log["step"], [2, 4, 6])
    restored = training.restore(begin(), tmp_path / "run")
    np.testing.assert_allclose(restored["w"], one["w"], rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coordinator": "here:1", "of": 2}, "--process is missing"),
        ({"processes": "auto", "of": 2}, "leave --coordinator out"),
        ({"coordinator": "here", "process": 0, "of": 2}, "must be HOST:PORT, got 'here'"),
        ({"coordinator": "here:1", "process": 2, "of": 2}, "from 0 to --of - 1 = 1, got 2"),
    ],
)
def test_processes_are_named_wholly_or_not_at_all(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        processes.join(**options)


if __name__ == "__main__":
    work(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
