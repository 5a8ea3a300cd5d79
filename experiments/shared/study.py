"""A study: results that are found once, kept in folders, and published together.

An experiment says what makes a result the result it is, and how to find it:

    found = study.result(out / "dice-0", described, train_and_judge, resume=resume)

and what is to be read of all of them: a table, sentences, JSON.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from rich.console import Console

from experiments.shared import processes, records, tables, training

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Settings = TypeVar("Settings", bound="DataclassInstance")
CONFIG, RESULT, SECONDS = "config.json", "result.json", "seconds.json"


def result(
    directory: Path,
    described: dict[str, Any],
    find: Callable[[Path], dict[str, Any]],
    *,
    resume: bool,
) -> dict[str, Any]:
    """Read what was found in `directory`, or find it and write it down as `result.json`.

    A loss that becomes NaN or infinite is a result, too: its message stands under "failed". Of
    several processes the first works in `directory`; what the others write is thrown away.

    Args:
      directory: of this result alone.
      described: all that makes it the result it is.
      find: makes it, in `directory`, where it may keep checkpoints.
      resume: read, or go on with, what is there.

    Raises:
      FileExistsError: if something is there and `resume` is not set.
      ValueError: if what is there was made with other settings; they are named.
    """
    with contextlib.ExitStack() as stack:
        if not processes.first():
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(claim(directory, described, resume=resume))
        path = directory / RESULT
        known = processes.text_from_first(path.read_text() if path.exists() else "")
        if not known:
            with records.stopwatch(directory / SECONDS) as seconds:
                try:
                    found = find(directory)
                except training.NonFiniteLossError as error:
                    found = {"failed": str(error)}
            records.write_json(path, {**found, "seconds": seconds(), **records.environment()})
        return json.loads(known or path.read_text())


@contextlib.contextmanager
def claim(directory: Path, described: dict[str, Any], *, resume: bool) -> Iterator[None]:
    """Write `config.json` into a new directory, or check that an old one is for this very run.

    If what is done within fails before there is a checkpoint, the claim is taken back: the
    corrected command finds the directory free. So it does after a loss that was never finite.

    Raises:
      FileExistsError: if a run is there and `resume` is not set, or another program works on it.
      ValueError: if the run there was made with other settings; they are named.
    """
    described = json.loads(json.dumps(described, default=str))
    path = directory / CONFIG
    if processes.first() and path.exists() and not resume and _came_to_nothing(directory):
        _take_back(directory)
    new = not path.exists()

    def begin() -> None:
        held.enter_context(_held(directory))
        if new:
            records.write_json(path, described)
        else:
            _require_same(directory, json.loads(path.read_text()), described, resume)

    with contextlib.ExitStack() as held:
        processes.once(begin)
        try:
            yield
        except BaseException:
            if new and processes.first() and not training.has_checkpoint(directory):
                _take_back(directory)
                with contextlib.suppress(OSError):  # others' files are in it
                    directory.rmdir()
            raise


@contextlib.contextmanager
def _held(directory: Path) -> Iterator[None]:
    """Keep a second program from working on the same run beside this one."""
    directory.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        yield
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FileExistsError(f"{directory} is in use: another program works on it") from None
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(handle)


def _take_back(directory: Path) -> None:
    for name in (CONFIG, RESULT, SECONDS):
        (directory / name).unlink(missing_ok=True)


def _came_to_nothing(directory: Path) -> bool:
    """Whether a loss was not finite before there was a checkpoint."""
    path = directory / RESULT
    failed = path.exists() and "failed" in json.loads(path.read_text())
    return failed and not training.has_checkpoint(directory)


def _require_same(
    directory: Path, before: dict[str, Any], now: dict[str, Any], resume: bool
) -> None:
    if not resume:
        raise FileExistsError(
            f"{directory} already holds a run; pass --resume to continue it, or another --out"
        )
    changed = [key for key in now if now[key] != before.get(key)]
    if changed:
        what = ", ".join(f"{key} was {before.get(key)!r}, is {now[key]!r}" for key in changed)
        raise ValueError(f"{directory} was made with other settings: {what}")


def described(directory: Path) -> dict[str, Any]:
    """What `claim` has written of the run in `directory`.

    Raises:
      FileNotFoundError: if there is no run.
    """
    path = directory / CONFIG
    if not path.exists():
        inside = sorted(each.parent.name for each in directory.glob(f"*/{CONFIG}"))
        runs = f"; runs are in it: {', '.join(inside)}" if inside else ""
        raise FileNotFoundError(f"{directory} holds no run: there is no {path.name} in it{runs}")
    return json.loads(path.read_text())


def settings_of(directory: Path, kind: type[Settings]) -> tuple[Settings, dict[str, Any]]:
    """The settings of the run in `directory`, and what else `claim` was told of it.

    Args:
      directory: of a run.
      kind: dataclass of settings; a field that a run of an earlier version lacks has its default.

    Raises:
      FileNotFoundError: if there is no run.
    """
    rest, hints = described(directory), get_type_hints(kind)

    def restored(value: Any, hint: str) -> Any:
        if isinstance(value, list):
            return tuple(restored(each, hint) for each in value)
        return Path(value) if isinstance(value, str) and "Path" in hint else value

    names = [field.name for field in dataclasses.fields(kind) if field.name in rest]
    return kind(**{name: restored(rest.pop(name), str(hints[name])) for name in names}), rest


def found(directory: Path) -> dict[str, Any]:
    """What `result` has written in `directory`.

    Raises:
      FileNotFoundError: if there is no run, or it was not finished.
      ValueError: if its loss was not finite.
    """
    described(directory)
    path = directory / RESULT
    if not path.exists():
        raise FileNotFoundError(f"{directory} holds no {RESULT}: finish its training with --resume")
    read = json.loads(path.read_text())
    if "failed" in read:
        raise ValueError(f"{directory} did not finish: {read['failed']}")
    return read


# --- what is published ----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Table:
    """Lines of text under a title."""

    title: str
    columns: Sequence[str]
    lines: Sequence[Sequence[str]]
    section: int | None = None
    """Lines between two rules on a terminal; default: a rule before each line with a name."""

    def markdown(self) -> str:
        return tables.markdown(self.columns, self.lines, self.title)


def publish(
    out: Path,
    name: str,
    written: Sequence[Table],
    notes: Iterable[str],
    content: dict[str, Any],
    console: Console,
) -> None:
    """Print tables and notes, and write them as NAME.md, with everything else as NAME.json."""
    if not processes.first():
        return
    where, notes = records.environment(), list(notes)
    records.write_json(out / f"{name}.json", {**content, **where})
    seconds = content.get("seconds", math.nan)
    took = "" if math.isnan(seconds) else f"{seconds / 60:.1f} minutes, "
    done = f"{where['device']}, {took}jax {where['jax']}, {where['date']}"
    parts = [each.markdown() for each in written]
    (out / f"{name}.md").write_text("\n".join([*parts, *notes, "", done, ""]))
    for each in written:
        tables.show(each.columns, each.lines, each.title, console, section=each.section)
    for note in notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    console.print(f"{done}; {name}.md, {name}.json and figures in {out}", soft_wrap=True)
