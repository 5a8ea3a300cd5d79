"""A command line of several commands, whose errors are one line where the user can mend them."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import tyro
from rich.console import Console

from experiments.shared import processes
from experiments.shared.settings import require_known
from experiments.shared.training import NonFiniteLossError

# Fields of a dataclass as options of their own: --steps, not --settings.steps.
Flat = tyro.conf.OmitArgPrefixes


def choice(names: Iterable[str]) -> Any:
    """Metadata of an option that takes one of `names`, which the help lists."""
    return tyro.conf.arg(metavar=f"{{{','.join(names)}}}")


def choices(names: Iterable[str]) -> Any:
    """Metadata of an option that takes several of `names`, which the help lists."""
    return tyro.conf.arg(metavar=f"{{{','.join(names)}}} ...")


def tell_left_out(skipped: Sequence[tuple[str, str]], console: Console) -> None:
    """Name the first of what was left out, with the reason, and count them all."""
    for name, reason in skipped[:5]:
        console.print(f"  left out: {name}: {reason}", style="yellow", markup=False)
    if len(skipped) > 5:
        console.print(f"  left out {len(skipped)} in all", style="yellow")


@contextlib.contextmanager
def _warnings_in_lines(console: Console) -> Iterator[None]:
    """Warnings as a user wants to read them: without the line of our source."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        console.print(f"  {message}", style="yellow", markup=False, soft_wrap=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def run(
    commands: Mapping[str, Callable[..., Any]],
    arguments: Sequence[str],
    *,
    program: str,
    description: str | None,
    console: Console,
    mendable: tuple[type[Exception], ...] = (),
) -> int:
    """Call the function that the first argument names, or the first of all.

    Args:
      commands: functions whose parameters are options.
      arguments: of the command line.
      program: how the command line begins, for its help.
      description: help of the first command.
      console: where errors and the time are printed.
      mendable: exceptions to print as one line, beside `OSError`, `ValueError` and a loss that is
        not finite.

    Returns:
      Exit status: 0, 1 for an error, 130 if interrupted.
    """
    named = bool(arguments) and not arguments[0].startswith("-")
    begun = time.perf_counter()
    try:
        with _warnings_in_lines(console):
            if named:
                require_known("command", arguments[:1], commands)
                name = f"{program} {arguments[0]}"
                tyro.cli(commands[arguments[0]], args=arguments[1:], prog=name)
            else:
                first = next(iter(commands.values()))
                tyro.cli(first, args=arguments, prog=program, description=description)
    except KeyboardInterrupt as stopped:
        saved = f"{stopped}; continue with --resume" if stopped.args else "interrupted"
        console.print(saved, style="yellow")
        # What has no words was not agreed on with the others.
        return 130 if stopped.args else processes.leave(130)
    except NonFiniteLossError as error:
        console.print(f"error: {error}", style="bold red", markup=False, soft_wrap=True)
        return 1
    except (OSError, ValueError, *mendable) as error:
        console.quiet = False
        console.print(f"error: {error}", style="bold red", markup=False, soft_wrap=True)
        return processes.leave(1)
    console.print(f"{time.perf_counter() - begun:.0f} s")
    return 0
