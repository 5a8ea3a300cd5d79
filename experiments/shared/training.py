"""The training loop that all experiments share: progress, log, checkpoints, resume, interruption.

An experiment owns its loop and its model; this module only drives a pure step:

    for step in train(update, state, batches, directory, steps=300, batch_size=8):
        ...                       # every `log_every` steps, and at the end
    state = step.state
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding, PartitionSpec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from diffmetrics import diagnose

State = TypeVar("State")
Update = Callable[[State, Any], tuple[State, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Step:
    """Where a run stands."""

    number: int
    loss: float
    state: Any


class NonFiniteLossError(RuntimeError):
    """The loss became NaN or infinite; the message says at which step."""


def train(
    update: Update[State],
    state: State,
    batches: Callable[[int], Iterable[Any]],
    directory: Path,
    *,
    steps: int,
    batch_size: int,
    title: str = "train",
    unit: str = "examples",
    log_every: int = 20,
    checkpoint_every: int = 100,
    devices: Sequence[Any] | None = None,
    console: Console | None = None,
) -> Iterator[Step]:
    """Run `update` for `steps` steps, continuing from the newest checkpoint in `directory`.

    Ctrl-C lets the step in flight finish, saves a checkpoint, and then raises `KeyboardInterrupt`;
    a second Ctrl-C stops at once. A run's `metrics.jsonl` has a line every `log_every` steps.

    Args:
      update: jitted, pure ``(state, batch) -> (state, loss)``.
      state: initial state, a pytree of arrays.
      batches: ``batches(start)`` iterates over the batches from step `start` on.
      directory: where checkpoints and log go.
      steps: total number of steps, those before a resume included.
      batch_size: examples in a batch, for the rate.
      title: what the progress display calls the run.
      unit: what the progress display calls an example.
      log_every: steps between log lines; the loss is only fetched then, so that an accelerator is
        not made to wait.
      checkpoint_every: steps between checkpoints.
      devices: those that share a batch along its first axis; default: as many as divide it.
      console: where progress is shown.

    Yields:
      A `Step` after every logged step, the last one included.

    Raises:
      NonFiniteLossError: naming the first such step, which is never saved.
    """
    directory.mkdir(parents=True, exist_ok=True)
    place = _spread(batch_size, devices or jax.devices())
    with contextlib.ExitStack() as stack:
        saved = stack.enter_context(_checkpoints(directory))
        start = saved.latest_step() or 0
        if start:
            state = saved.restore(start, args=ocp.args.StandardRestore(_abstract(state)))
        state = jax.device_put(state, place.replicated)
        log = stack.enter_context((directory / "metrics.jsonl").open("a"))
        progress = stack.enter_context(_display(console))
        bar = progress.add_task(
            title, total=steps, completed=start, loss=math.nan, rate=0.0, unit=unit
        )
        interrupted = stack.enter_context(_deferred_interrupt())

        if start >= steps:
            yield Step(steps, math.nan, state)
            return
        pending: list[jax.Array] = []
        begun = logged = time.perf_counter()
        for number, batch in enumerate(batches(start), start + 1):
            state, loss = update(state, jax.device_put(batch, place.batch))
            pending.append(loss)
            wanted = interrupted()
            stop = wanted or number == steps
            if number % log_every == 0 or number % checkpoint_every == 0 or stop:
                losses = np.asarray(jax.device_get(pending), np.float64)
                first = number - len(losses) + 1
                bad = np.flatnonzero(~np.isfinite(losses))
                if bad.size:
                    raise NonFiniteLossError(
                        f"the loss of {title} is {losses[bad[0]]} at step {first + bad[0]}; "
                        f"the last checkpoint is of step {saved.latest_step() or 0}"
                    )
                now = time.perf_counter()
                rate = len(losses) * batch_size / (now - logged)
                entry = {"step": number, "loss": losses.mean(), "examples_per_second": rate}
                log.write(json.dumps({**entry, "seconds": now - begun}) + "\n")
                log.flush()
                progress.update(bar, completed=number, loss=losses.mean(), rate=rate)
                pending, logged = [], now
                if number % checkpoint_every == 0 or stop:
                    saved.save(number, args=ocp.args.StandardSave(state))
                if wanted:
                    saved.wait_until_finished()
                    raise KeyboardInterrupt(f"stopped after step {number}, which is saved")
                yield Step(number, float(losses.mean()), state)


@functools.lru_cache
def _verdict(loss: Callable[..., Any], kind: diagnose.Kind) -> str:
    try:
        return diagnose.loss(loss, kind=kind, probes=diagnose.QUICK[kind]).verdict
    except Exception as error:  # a doctor must not stop the training
        return f"not examined: {' '.join(str(error).split())}"


def examine(loss: Callable[..., Any], kind: diagnose.Kind, console: Console) -> None:
    """Print what the loss doctor says of a loss, in one line, once before a run.

    Args:
      loss: ``f(logits, labels)``, or what its kind takes; a loss is examined once a process.
      kind: what it predicts, one of `diffmetrics.diagnose.KINDS`.
      console: where the line goes.
    """
    line = f"doctor: {_verdict(loss, kind)}"
    console.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)


def restore(state: State, directory: Path) -> State:
    """The newest checkpoint in `directory`, in the structure of `state`.

    Raises:
      FileNotFoundError: if there is none.
    """
    with _checkpoints(directory) as saved:
        newest = saved.latest_step()
        if newest is None:
            raise FileNotFoundError(f"{directory} holds no checkpoint; was a run trained there?")
        return saved.restore(newest, args=ocp.args.StandardRestore(_abstract(state)))


def has_checkpoint(directory: Path) -> bool:
    """Whether a run in `directory` can be continued."""
    with _checkpoints(directory) as saved:
        return saved.latest_step() is not None


def use_every_core() -> None:
    """Make each core a device of its own, before the first use of JAX; accelerators are untouched.

    XLA's CPU backend runs the gradients of small convolutions on one thread. With the batch spread
    over a device per core, the step of `benchmarks.unet_vs_torch` takes 0.70 of the time on jax
    0.10.2 and 0.93 on 0.12 (two cores, 2026-11-23), and means the same.
    """
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)


def _checkpoints(directory: Path) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(max_to_keep=2)
    return ocp.CheckpointManager((directory / "checkpoints").resolve(), options=options)


def _abstract(state: Any) -> Any:
    return jax.tree.map(ocp.utils.to_shape_dtype_struct, state)


@dataclasses.dataclass(frozen=True)
class _Placement:
    batch: NamedSharding
    replicated: NamedSharding


def _spread(batch_size: int, devices: Sequence[Any]) -> _Placement:
    """Batches over as many devices as divide them; parameters on each of those."""
    count = max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)
    mesh = jax.sharding.Mesh(np.array(devices[:count]), ("batch",))
    return _Placement(
        batch=NamedSharding(mesh, PartitionSpec("batch")),
        replicated=NamedSharding(mesh, PartitionSpec()),
    )


def _display(console: Console | None) -> Progress:
    return Progress(
        TextColumn("{task.description:>24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f} · {task.fields[rate]:.0f} {task.fields[unit]}/s"),
        TimeRemainingColumn(),
        console=console,
    )


@contextlib.contextmanager
def _deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a question that the loop asks between two steps."""
    asked = False

    def handler(*_: Any) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        previous = signal.signal(signal.SIGINT, handler)
    except ValueError:  # not the main thread, which alone receives signals
        yield lambda: False
        return
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, previous)
