"""One run in many processes, on one machine or on a pod: each reads its share of every batch.

All processes run the same program. Parameters lie on all devices of all processes, and a batch is
spread over them, so that what is compiled sees the whole batch: its mean, and the counts of a set
loss, are those of one process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec
from rich.console import Console

SECONDS_TO_MEET = 300


def join(
    processes: Literal["auto"] | None = None,
    coordinator: str | None = None,
    process: int | None = None,
    of: int | None = None,
    *,
    seconds: int = SECONDS_TO_MEET,
) -> None:
    """Meet the other processes of this run; without arguments there are none.

    To be called before any use of JAX, but after `training.use_every_core`.

    Args:
      processes: "auto" asks Slurm, MPI, Kubernetes or the TPU pod who the others are.
      coordinator: address of the first process, HOST:PORT, where nobody can be asked.
      process: number of this one, from 0.
      of: how many there are.
      seconds: to wait for them.

    Raises:
      ValueError: if the arguments do not say who they are.
      TimeoutError: if they do not come.
    """
    named = {"--coordinator": coordinator, "--process": process, "--of": of}
    missing = [option for option, value in named.items() if value is None]
    if processes is None and len(missing) == len(named):
        return
    if processes is not None and len(missing) < len(named):
        raise ValueError("--processes auto finds the others itself: leave --coordinator out")
    if processes is None and missing:
        raise ValueError(f"--coordinator, --process and --of go together; {missing[0]} is missing")
    if process is not None and of is not None and not 0 <= process < of:
        raise ValueError(f"--process must be from 0 to --of - 1 = {of - 1}, got {process}")
    if coordinator is not None and not coordinator.rpartition(":")[2].isdigit():
        raise ValueError(f"--coordinator must be HOST:PORT, got {coordinator!r}")
    at_ctrl_c = signal.signal(signal.SIGINT, signal.SIG_DFL)  # which waiting would not hear
    try:
        jax.distributed.initialize(coordinator, of, process, initialization_timeout=seconds)
    except ValueError as error:
        raise ValueError(
            "--processes auto finds no Slurm, MPI, Kubernetes or TPU pod here; name the processes "
            "with --coordinator HOST:PORT --process I --of N"
        ) from error
    except jax.errors.JaxRuntimeError as error:
        where = coordinator or "the first process"
        raise TimeoutError(f"{where} was not reached in {seconds} s") from error
    finally:
        signal.signal(signal.SIGINT, at_ctrl_c)
    sys.excepthook = _end_at_once
    # Gloo gives up where one comes half a minute after another, but only at their first meeting.
    multihost_utils.sync_global_devices("joined")


@dataclasses.dataclass(frozen=True)
class Others:
    """Which processes share a run: by default none."""

    processes: Literal["auto"] | None = None
    """auto: Slurm, MPI, Kubernetes or the TPU pod says who the others are."""
    coordinator: str | None = None
    """Where nobody can be asked: HOST:PORT of the first process."""
    process: int | None = None
    """Number of this one, from 0."""
    of: int | None = None
    """How many there are."""

    def join(self, console: Console) -> None:
        """Meet them, before any other use of JAX; only the first goes on talking."""
        if self.process == 0:
            console.print(f"waiting for {self.of} processes at {self.coordinator}", markup=False)
        join(self.processes, self.coordinator, self.process, self.of)
        console.quiet = not first()


def several() -> bool:
    """Whether this run has other processes."""
    return jax.process_count() > 1


def first() -> bool:
    """Whether it is this process that writes files and talks."""
    return jax.process_index() == 0


def rows(batch_size: int) -> slice:
    """The rows of every batch that this process loads: p·B/n to (p + 1)·B/n.

    Raises:
      ValueError: if the processes cannot share them evenly.
    """
    count = jax.process_count()
    if batch_size % count:
        raise ValueError(f"batch_size must be a multiple of {count} processes, got {batch_size}")
    share = batch_size // count
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def once(act: Callable[[], Any]) -> None:
    """Run `act` in the first process alone; where it fails there, every process fails.

    Raises:
      ValueError: in the others, with the words of the first.
    """
    error: Exception | None = None
    if first():
        try:
            act()
        except Exception as raised:
            error = raised
    told = text_from_first(f"{error or type(error).__name__}" if error else "")
    if error is not None:
        raise error
    if told:
        raise ValueError(told)


def text_from_first(text: str) -> str:
    """What the first process says, in every process."""
    if not several():
        return text
    said = np.frombuffer(text.encode(), np.uint8)
    length = int(from_first(np.int32(len(said))))
    return from_first(np.resize(said, length)).tobytes().decode() if length else ""


def from_first(tree: Any) -> Any:
    """What the first process has, in every process; the shapes must be the same in all."""
    return multihost_utils.broadcast_one_to_all(tree) if several() else tree


def most(*numbers: float) -> list[float]:
    """Of each number the largest that any process has. All must ask, at the same step."""
    with together(ValueError):
        everyone = multihost_utils.process_allgather(np.array(numbers, np.float32))
    return everyone.max(0).tolist()


@contextlib.contextmanager
def together(*others: type[Exception]) -> Iterator[None]:
    """What is done within needs all processes.

    Args:
      others: errors that say so, beside those of JAX's runtime.

    Raises:
      ConnectionError: if one of them is no more.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, *others) as error:
        if not several():
            raise
        reason = str(error).split("\n", 1)[0]
        raise ConnectionError(f"another process of this run has ended: {reason}") from error


def leave(status: int) -> int:
    """The exit status of a failure that is this process's own: it ends here if there are others.

    A usual exit waits minutes for the others, while they wait for this process. Once its
    connections are closed they fail, too. Not for what all processes raise at the same step: an
    interruption that was saved, or a loss that is not finite.
    """
    if several():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def _end_at_once(*raised: Any) -> None:
    sys.__excepthook__(*raised)
    leave(1)


@dataclasses.dataclass(frozen=True)
class Places:
    """Where a run's arrays lie."""

    batch_size: int
    batch: NamedSharding
    everywhere: NamedSharding

    def spread(self, batch: Any) -> Any:
        """A batch over all devices, from this process's rows of it, or from the whole of it."""
        if not several():
            return jax.device_put(batch, self.batch)
        return jax.tree.map(lambda x: self._global(self.batch, x, self.batch_size), batch)

    def repeat(self, state: Any) -> Any:
        """A state on each device, as the first process has it."""
        if not several():
            return jax.device_put(state, self.everywhere)
        put = lambda x: self._global(self.everywhere, x, *x.shape[:1])  # noqa: E731
        return jax.tree.map(put, from_first(state))

    @staticmethod
    def _global(place: NamedSharding, x: Any, *length: int) -> jax.Array:
        x = np.asarray(x)
        shape = (*length, *x.shape[1:])
        return jax.make_array_from_process_local_data(place, x, shape)


def here(state: Any) -> Any:
    """A state on this process's first device, with which it may do as it likes, without others.

    All processes must ask at the same step. Of one process the state is left as it is.
    """

    def local(x: jax.Array) -> Any:
        if x.is_fully_replicated:
            return x.addressable_data(0)
        return multihost_utils.process_allgather(x, tiled=True)

    return jax.tree.map(local, state) if several() else state


def places(batch_size: int, devices: Sequence[Any] | None = None) -> Places:
    """Spread batches over as many devices of each process as divide them evenly.

    Args:
      batch_size: examples in a batch.
      devices: to choose from; default: all.

    Raises:
      ValueError: if the processes cannot share a batch evenly, or one has no device.
    """
    devices = jax.devices() if devices is None else devices
    owned = [[d for d in devices if d.process_index == p] for p in range(jax.process_count())]
    fewest = min(map(len, owned))
    if not fewest:
        raise ValueError(
            f"this trains on {len(devices)} device, and there are {len(owned)} processes: run it "
            "in one"
        )
    share = len(range(batch_size)[rows(batch_size)])
    each = max(n for n in range(1, fewest + 1) if share % n == 0)
    # Process after process, so that a process's rows lie on its own devices.
    mesh = jax.sharding.Mesh(np.array([d for own in owned for d in own[:each]]), ("batch",))
    return Places(
        batch_size,
        batch=NamedSharding(mesh, PartitionSpec("batch")),
        everywhere=NamedSharding(mesh, PartitionSpec()),
    )
