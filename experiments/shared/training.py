"""The training loop that ships, text and speakers share: progress, log, checkpoints, interruption.

An experiment owns its network and its step; this module only drives the pure step:

    for step in train(update, state, batches, directory, steps=300, batch_size=8):
        ...                       # every `log_every` steps, and at the end
    state = step.state

It is the same in one process and in many, which `processes.join` brings together before: the first
of them writes the log and the checkpoints.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from diffmetrics import diagnose
from experiments.shared import checkpoints, processes
from experiments.shared.checkpoints import has_checkpoint as has_checkpoint, restore as restore

State = TypeVar("State")
DtypeName = Literal["auto", "float32", "bfloat16"]
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
    a second Ctrl-C stops at once, and SIGTERM, by which a cluster announces the end, is a Ctrl-C.
    Of many processes each may be asked; all stop after the next logged step.

    A run's `metrics.jsonl` has a line every `log_every` steps. In it "input_wait" is the share of
    the time in which the devices stood idle because the next batch was not there: what faster
    input would save. Of many processes it is the largest.

    Args:
      update: jitted, pure ``(state, batch) -> (state, loss)``.
      state: initial state, a pytree of arrays.
      batches: ``batches(start)`` iterates over the batches from step `start` on. Of many
        processes each gives its ``processes.rows(batch_size)`` of them along the first axis, or
        whole batches, if that is no more work.
      directory: where checkpoints and log go, of the first process.
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
      A `Step` after every logged step, the last one included. Of many processes each has the
        state on a device of its own, and may use it without the others.

    Raises:
      NonFiniteLossError: naming the first such step, which is never saved.
      OSError: if the disk is full; the checkpoint before is still there.
      ValueError: if the processes cannot share a batch evenly, or the batches end early.
    """
    place = processes.places(batch_size, devices)
    with contextlib.ExitStack() as stack:
        stack.enter_context(processes.together())
        files = stack.enter_context(checkpoints.files(directory))
        start = int(processes.from_first(np.int32(files.newest)))
        state = place.repeat(files.restore(state))
        progress = stack.enter_context(_display(console))
        fields = {"loss": math.nan, "rate": 0.0, "unit": unit, "waits": ""}
        bar = progress.add_task(title, total=steps, completed=start, **fields)
        interrupted = stack.enter_context(_deferred_interrupt())

        if start >= steps:
            yield Step(steps, math.nan, processes.here(state))
            return
        clock = ThreadPoolExecutor(1)
        stack.callback(clock.shutdown, wait=False, cancel_futures=True)
        source, pending = iter(batches(start)), list[jax.Array]()
        begun = logged = time.perf_counter()
        batch, idle = _fetch(source, place, clock.submit(time.perf_counter))
        for number in range(start + 1, steps + 1):
            state, loss = update(state, batch)
            pending.append(loss)
            wanted = interrupted()
            stop = number == steps or (wanted and not processes.several())
            if not stop:  # the next batch comes while the devices are busy with this one
                batch, waited = _fetch(source, place, clock.submit(_finished, loss))
                idle += waited
            saves = stop or number % checkpoint_every == 0
            if not saves and number % log_every:
                continue
            # All processes see the same numbers here, and so go on or stop together.
            wanted, idle = processes.most(wanted, idle)
            losses = np.asarray(jax.device_get(pending), np.float64)
            first = number - len(losses) + 1
            bad = np.flatnonzero(~np.isfinite(losses))
            if bad.size:
                newest = files.newest
                left = f"the last checkpoint is of step {newest}" if newest else "nothing was saved"
                raise NonFiniteLossError(
                    f"the loss of {title} is {losses[bad[0]]} at step {first + bad[0]}; {left}"
                )
            now = time.perf_counter()
            rate, share = len(losses) * batch_size / (now - logged), idle / (now - logged)
            waits = f" · waits for input {share:.0%}" if share >= 0.01 else ""
            entry = {"step": number, "loss": losses.mean(), "examples_per_second": rate}
            files.log({**entry, "input_wait": share, "seconds": now - begun})
            progress.update(bar, completed=number, loss=losses.mean(), rate=rate, waits=waits)
            here = processes.here(state)
            pending, logged, idle = [], now, 0.0
            if saves or wanted:
                files.save(number, here)
            if wanted:
                files.wait()
                raise KeyboardInterrupt(f"stopped after step {number}, which is saved")
            yield Step(number, float(losses.mean()), here)


def _finished(loss: jax.Array) -> float:
    """When the step of this loss was done."""
    loss.block_until_ready()
    return time.perf_counter()


def _fetch(
    source: Iterator[Any], place: processes.Places, free: Future[float]
) -> tuple[Any, float]:
    """The next batch on the devices, and for how many seconds they stood idle for want of it.

    A step is only sent to the devices, so while the loop waits for a batch they may be busy.
    `free` is the moment from which they were not.
    """
    asked = time.perf_counter()
    batch = next(source, None)
    if batch is None:
        raise ValueError("batches ended before the last step")
    placed, now = place.spread(batch), time.perf_counter()
    return placed, now - max(asked, free.result()) if free.done() else 0.0


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
    if not processes.first():
        return
    line = f"doctor: {_verdict(loss, kind)}"
    console.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)


def warmup_cosine(rate: float, steps: int) -> optax.Schedule:
    """A learning rate that rises to `rate` over the first tenth and falls along a cosine to 0."""
    return optax.warmup_cosine_decay_schedule(0.0, rate, max(1, steps // 10), max(2, steps))


def compute_dtype(name: DtypeName) -> Any:
    """The type of the activations; auto is bfloat16 on an accelerator and float32 on a CPU."""
    auto = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    return auto if name == "auto" else jnp.dtype(name)


def use_every_core() -> None:
    """Make each core a device of its own, before the first use of JAX; accelerators are untouched.

    XLA's CPU backend runs the gradients of small convolutions on one thread. With the batch spread
    over a device per core, the step of `benchmarks.unet_vs_torch` takes 0.70 of the time on jax
    0.10.2 and 0.93 on 0.12 (two cores, 2026-11-23), and means the same.
    """
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)


def _display(console: Console | None) -> Progress:
    return Progress(
        TextColumn("{task.description:>24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(
            "loss {task.fields[loss]:.4f} · {task.fields[rate]:.0f} {task.fields[unit]}/s"
            "{task.fields[waits]}"
        ),
        TimeRemainingColumn(),
        console=console,
        disable=not processes.first(),
    )


@contextlib.contextmanager
def _deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a question that the loop asks between two steps."""
    asked, signals = False, (signal.SIGINT, signal.SIGTERM)

    def handler(*_: Any) -> None:
        nonlocal asked
        asked = True
        for each in signals:
            signal.signal(each, signal.default_int_handler)

    try:
        previous = {each: signal.signal(each, handler) for each in signals}
    except ValueError:  # not the main thread, which alone receives signals
        yield lambda: False
        return
    try:
        yield lambda: asked
    finally:
        for each, before in previous.items():
            signal.signal(each, before or signal.SIG_DFL)
