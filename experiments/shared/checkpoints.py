"""The log and the checkpoints of a run, written by the first process; a full disk is one line."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

import jax
import orbax.checkpoint as ocp

from experiments.shared import processes

State = TypeVar("State")
FOLDER, LOG = "checkpoints", "metrics.jsonl"


def restore(state: State, directory: Path, *, steps: int | None = None) -> State:
    """The newest checkpoint in `directory`, in the structure of `state`.

    Args:
      state: a state of the same structure.
      directory: of a run.
      steps: that its training should have had; default: a run that was stopped will do.

    Raises:
      FileNotFoundError: if there is none.
      ValueError: if it was stopped before.
    """
    if not has_checkpoint(directory):
        raise FileNotFoundError(f"{directory} holds no checkpoint; was a run trained there?")
    newest = max(ocp.utils.checkpoint_steps(directory / FOLDER))
    if steps is not None and newest < steps:
        raise ValueError(
            f"{directory} was stopped after step {newest} of {steps}: finish it with --resume"
        )
    with _manager(directory) as saved:
        return _newest(saved, state)


def has_checkpoint(directory: Path) -> bool:
    """Whether a run in `directory` can be continued."""
    return bool(ocp.utils.checkpoint_steps(directory / FOLDER))


@dataclasses.dataclass(frozen=True)
class Files:
    """Log and checkpoints; the first process has them, and to the others they are not there."""

    _saved: ocp.CheckpointManager | None
    _log: IO[str] | None

    @property
    def newest(self) -> int:
        """Step of the last checkpoint; 0 if there is none."""
        return (self._saved and self._saved.latest_step()) or 0

    def restore(self, state: State) -> State:
        """The last checkpoint, or `state` where there is none."""
        return _newest(self._saved, state) if self._saved and self.newest else state

    def save(self, step: int, state: Any) -> None:
        """Begin to write a checkpoint: arrays are copied at once, and a thread writes them."""
        if self._saved:
            # Orbax takes an array of one among many processes for a part that others have.
            state = jax.device_get(state) if processes.several() else state
            self._saved.save(step, args=ocp.args.StandardSave(state))

    def wait(self) -> None:
        """Until what was saved is on the disk."""
        if self._saved:
            self._saved.wait_until_finished()

    def log(self, entry: Mapping[str, Any]) -> None:
        """Add a line, and raise what a checkpoint's thread has met."""
        if self._saved and self._log:
            self._log.write(json.dumps(entry) + "\n")
            self._log.flush()
            self._saved.check_for_errors()


@contextlib.contextmanager
def files(directory: Path) -> Iterator[Files]:
    """The files of a run while it is trained; one that fails leaves no half of a checkpoint.

    One that fails before its first checkpoint leaves no log and no folder of checkpoints.

    Raises:
      OSError: in one line, where orbax and its threads meet a full disk.
    """
    if not processes.first():
        yield Files(None, None)
        return
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with _said_once(), _manager(directory) as saved, (directory / LOG).open("a") as log:
            yield Files(saved, log)
    except BaseException as error:
        _forget_unfinished(directory)
        number = re.search(r"os_error_code='(\d+)'", str(error))  # of tensorstore, a `ValueError`
        code = error.errno if isinstance(error, OSError) else number and int(number[1])
        if code is not None and (number or code == errno.ENOSPC):
            steps = ocp.utils.checkpoint_steps(directory / FOLDER)
            left = f"the last checkpoint is of step {max(steps)}" if steps else "nothing was saved"
            raise OSError(f"{os.strerror(code).lower()}: {directory}; {left}") from None
        raise


def _forget_unfinished(directory: Path) -> None:
    for half in (directory / FOLDER).glob(f"*{ocp.utils.TMP_DIR_SUFFIX}*"):
        for _ in range(20):  # threads that have not failed yet go on writing, and make it again
            shutil.rmtree(half, ignore_errors=True)
            time.sleep(0.05)
            if not half.exists():
                break
    if not has_checkpoint(directory):
        shutil.rmtree(directory / FOLDER, ignore_errors=True)
        (directory / LOG).unlink(missing_ok=True)


@contextlib.contextmanager
def _said_once() -> Iterator[None]:
    """Keep orbax from printing the traceback of what it raises, which it does for each thread."""
    # This one stays: what is left of its tasks is told whenever they are collected.
    logging.getLogger("asyncio").addFilter(_is_not_of_orbax)
    logger = logging.getLogger("absl")
    logger.addFilter(_is_not_of_orbax)
    try:
        yield
    finally:
        logger.removeFilter(_is_not_of_orbax)


def _is_not_of_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in record.pathname and "orbax" not in record.getMessage()


def _manager(directory: Path) -> ocp.CheckpointManager:
    """Checkpoints that this process reads and writes without others."""
    folder = (directory / FOLDER).resolve()
    options: dict[str, Any] = {"max_to_keep": 2}
    if processes.several():
        folder.mkdir(exist_ok=True)
        me = jax.process_index()
        alone = ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me})
        options |= {"multiprocessing_options": alone, "create": False}
    return ocp.CheckpointManager(folder, options=ocp.CheckpointManagerOptions(**options))


def _newest(saved: ocp.CheckpointManager, state: Any) -> Any:
    wanted = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
    return saved.restore(saved.latest_step(), args=ocp.args.StandardRestore(wanted))
