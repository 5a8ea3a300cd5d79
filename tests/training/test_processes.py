"""Two processes of `jax.distributed`, two devices each, compute what one process does.

Each of them runs this module: `python -m tests.training.test_processes RANK ...`.
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import chex
import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding

import diffmetrics as dm
from tests.training.test_microbatches import (
    DICE,
    EVERYWHERE,
    SORTED,
    SPLIT,
    assert_exact,
    model,
    over_devices,
    together,
)

PROCESSES, DEVICES_EACH = 2, 2
SECONDS = 60  # more than ten times what it takes on an idle machine
MANY = 2**24 + 1  # float32 counts no further than 2**24

Batch = tuple[np.ndarray, np.ndarray]
Found = dict[Any, Any]
JIT, SHARD_MAP = "jit", "shard_map"
# Rows are sorted by label: one process sees hardly a positive.
PROBLEMS = {"dice": DICE, **{name: SORTED[name] for name in ("lovasz hinge", "roc auc")}}
# The compiler divides each loss in its own way; gathering gives any loss the same logits.
CASES = [*((JIT, name) for name in PROBLEMS), (SHARD_MAP, "roc auc"), (SHARD_MAP, "dice")]


def hard_counts(rank: int, batch: Batch) -> dm.Counts:
    """What one process has counted, batch by batch, and a past of its own."""
    x, y = batch
    total = dm.Counts(tn=MANY + rank).to_host()
    for rows in np.split(np.arange(len(y)), 4):
        total += dm.counts(model(DICE.params, x[rows]) > 0, y[rows])
    return total


def hard_curve(batch: Batch) -> dm.Curve:
    x, y = batch
    return dm.threshold_counts(model(DICE.params, x), y, np.linspace(-3, 3, 7))


def over_processes(total: dm.Counts) -> dm.Counts:
    """The sum of all processes' counts; as pairs of 32 bits, since JAX would round 64."""
    leaves, tree = jax.tree.flatten(total)
    words = np.stack(leaves).view(np.uint32)
    everyone = multihost_utils.process_allgather(words)
    return jax.tree.unflatten(tree, everyone.view(np.float64).sum(axis=0))


# --- one of the processes -------------------------------------------------------------------------


def work(rank: int, address: str, out: Path) -> None:
    """Join the others, compute everything, and write it."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", DEVICES_EACH)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_disable_most_optimizations", True)  # as in the whole suite
    jax.distributed.initialize(address, PROCESSES, rank, initialization_timeout=SECONDS // 2)
    x, y = (np.split(a, PROCESSES)[rank] for a in DICE.batch)
    mesh = jax.make_mesh((jax.device_count(),), ("data",))
    rows = partial(jax.make_array_from_process_local_data, NamedSharding(mesh, SPLIT))
    shared = jax.device_put(DICE.params, NamedSharding(mesh, EVERYWHERE))

    def run(how: str, name: str) -> Any:
        problem = PROBLEMS[name]
        step = jax.jit(jax.value_and_grad(problem.whole))
        if how == SHARD_MAP:
            step = over_devices(mesh, jax.value_and_grad(together(problem)))
        return jax.tree.map(np.asarray, step(shared, rows(x), rows(y)))

    found = {
        "devices": (jax.process_count(), jax.device_count(), jax.local_device_count()),
        **{case: run(*case) for case in CASES},
        "total": over_processes(hard_counts(rank, (x, y))),
        "curve": over_processes(hard_curve((x, y)).to_host().counts),
    }
    out.write_bytes(pickle.dumps(found))
    jax.distributed.shutdown()


# --- all of them, from outside --------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[Found]:
    """What each process wrote; if one failed or hung, what all of them said."""
    folder, address = tmp_path_factory.mktemp("processes"), f"127.0.0.1:{free_port()}"
    outputs = [folder / f"{rank}.pickle" for rank in range(PROCESSES)]
    logs = [folder / f"{rank}.log" for rank in range(PROCESSES)]
    processes = [
        start([str(rank), address, str(out)], log)
        for rank, (out, log) in enumerate(zip(outputs, logs, strict=True))
    ]
    codes = wait(processes)
    if codes != [0] * PROCESSES:
        said = "\n".join(f"--- process {k}\n{log.read_text()}" for k, log in enumerate(logs))
        pytest.fail(f"exit codes {codes}, where None was ended from outside\n{said}")
    return [pickle.loads(out.read_bytes()) for out in outputs]


def start(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    flags = os.environ.get("XLA_FLAGS", "").split()  # the number of devices is set in `work`
    environment["XLA_FLAGS"] = " ".join(flag for flag in flags if "device_count" not in flag)
    command = [sys.executable, "-m", __name__, *arguments]
    with log.open("w") as written:
        return subprocess.Popen(command, stdout=written, stderr=written, env=environment)


def wait(processes: list[subprocess.Popen[bytes]]) -> list[int | None]:
    """Exit codes once all are done; early if one fails, for which the others would wait."""
    deadline = time.monotonic() + SECONDS
    try:
        while time.monotonic() < deadline:
            codes = [p.poll() for p in processes]
            if any(codes) or None not in codes:
                break
            time.sleep(0.05)
        return [p.poll() for p in processes]
    finally:
        for p in processes:
            p.kill()
            p.wait()


@pytest.mark.parametrize(("how", "name"), CASES)
def test_two_processes_find_value_and_gradient_of_the_whole(
    how: str, name: str, results: list[Found]
):
    for each in results:
        assert_exact(each[how, name], PROBLEMS[name])


def test_streamed_counts_and_curves_of_two_processes_are_exact(results: list[Found]):
    x, y = DICE.batch
    once = dm.counts(model(DICE.params, x) > 0, y).to_host()
    whole = hard_curve(DICE.batch).to_host().counts
    for each in results:
        assert each["devices"] == (PROCESSES, PROCESSES * DEVICES_EACH, DEVICES_EACH)
        assert each["total"] == once + dm.Counts(tn=2 * MANY + 1).to_host()
        chex.assert_trees_all_equal(each["curve"], whole)


if __name__ == "__main__":
    work(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
