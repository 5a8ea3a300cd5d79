"""Two processes of `jax.distributed`, two devices each, compute what one process does.

Each of them runs this module: `python -m tests.training.test_processes RANK ...`.
"""

from __future__ import annotations

import functools
import os
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import multihost_utils
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import diffmetrics as dm

PROCESSES, DEVICES_EACH = 2, 2
ROWS, FEATURES, HIDDEN = 512, 8, 32
SECONDS = 60  # more than ten times what it takes on an idle machine
MANY = 2**24 + 1  # float32 counts no further than 2**24

Params = dict[str, jax.Array]
Batch = tuple[np.ndarray, np.ndarray]
Found = dict[Any, Any]
EVERYWHERE, SPLIT = PartitionSpec(), PartitionSpec("data")
SET_LOSSES: dict[str, Callable[[Any, Any], jax.Array]] = {
    "dice": dm.dice_loss,
    "lovasz hinge": dm.lovasz_hinge_loss,
    "roc auc": dm.roc_auc_loss,
}
JIT, GATHERED, SUMMED = "jit", "shard_map, gathered logits", "shard_map, summed counts"
# The compiler divides each loss in its own way; gathering gives any loss the same logits.
CASES = [*((JIT, loss) for loss in SET_LOSSES), (GATHERED, "roc auc"), (SUMMED, "dice")]


def problem() -> tuple[Params, Batch]:
    """Parameters, and rows sorted by label: one process sees hardly a positive."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
    y = x[:, 0] + 0.5 * rng.normal(size=ROWS) > 1.5
    order = np.argsort(y, kind="stable")
    weights = {"in": rng.normal(size=(FEATURES, HIDDEN)), "out": rng.normal(size=HIDDEN)}
    return jax.tree.map(lambda w: jnp.asarray(0.3 * w, jnp.float32), weights), (x[order], y[order])


def model(params: Params, x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ params["in"]) @ params["out"]


def of_model(loss: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    return lambda params, x, y: loss(model(params, x), y)


def psum_of_counts(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    soft = dm.counts(jax.nn.sigmoid(model(params, x)), y)
    return 1 - dm.dice(jax.lax.psum(soft, "data"))


def gathered(loss: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    def f(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
        every = partial(jax.lax.all_gather, axis_name="data", tiled=True)
        value = loss(every(model(params, x)), every(y))
        return jax.lax.pmean(value, "data")  # pyright: ignore[reportReturnType]

    return f


def hard_counts(rank: int, batch: Batch) -> dm.Counts:
    """What one process has counted, batch by batch, and a past of its own."""
    params, (x, y) = problem()[0], batch
    total = dm.Counts(tn=MANY + rank).to_host()
    for rows in np.split(np.arange(len(y)), 4):
        total += dm.counts(model(params, jnp.asarray(x[rows])) > 0, y[rows])
    return total


def hard_curve(batch: Batch) -> dm.Curve:
    params, (x, y) = problem()[0], batch
    return dm.threshold_counts(model(params, jnp.asarray(x)), y, np.linspace(-3, 3, 7))


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
    params, batch = problem()
    x, y = (np.split(a, PROCESSES)[rank] for a in batch)
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    rows = partial(jax.make_array_from_process_local_data, NamedSharding(mesh, SPLIT))
    shared = jax.device_put(params, NamedSharding(mesh, EVERYWHERE))

    def run(how: str, name: str) -> Any:
        loss = SET_LOSSES[name]
        parts = {JIT: of_model(loss), GATHERED: gathered(loss), SUMMED: psum_of_counts}
        step = jax.value_and_grad(parts[how])
        if how != JIT:
            specs = {"in_specs": (EVERYWHERE, SPLIT, SPLIT), "out_specs": EVERYWHERE}
            step = jax.shard_map(step, mesh=mesh, **specs)
        value, gradient = jax.jit(step)(shared, rows(x), rows(y))
        return jax.tree.map(np.asarray, (value, ravel_pytree(gradient)[0]))

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
    environment.pop("XLA_FLAGS", None)  # the number of devices is set in `work`
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


def test_the_processes_found_each_other(results: list[Found]):
    for each in results:
        assert each["devices"] == (PROCESSES, PROCESSES * DEVICES_EACH, DEVICES_EACH)


@functools.cache
def whole(name: str) -> tuple[jax.Array, jax.Array]:
    """Value and gradient of a loss in this process."""
    params, batch = problem()
    value, gradient = jax.jit(jax.value_and_grad(of_model(SET_LOSSES[name])))(params, *batch)
    return value, ravel_pytree(gradient)[0]


@pytest.mark.parametrize(("how", "name"), CASES)
def test_two_processes_find_value_and_gradient_of_the_whole(
    how: str, name: str, results: list[Found]
):
    value, truth = whole(name)
    for each in results:
        ours, slope = each[how, name]
        np.testing.assert_allclose(ours, value, rtol=1e-5)
        assert np.linalg.norm(slope - truth) < 1e-5 * np.linalg.norm(truth)


def test_streamed_counts_of_two_processes_are_exact(results: list[Found]):
    params, (x, y) = problem()
    once = dm.counts(model(params, jnp.asarray(x)) > 0, y).to_host()
    expected = once + dm.Counts(tn=2 * MANY + 1).to_host()
    for each in results:
        assert each["total"] == expected


def test_streamed_curves_of_two_processes_are_exact(results: list[Found]):
    whole = hard_curve(problem()[1]).to_host().counts
    for each in results:
        chex.assert_trees_all_equal(each["curve"], whole)


if __name__ == "__main__":
    work(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
