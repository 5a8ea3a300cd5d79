"""A command line of several commands, whose errors are one line where the user can mend them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tyro
from rich.console import Console

from experiments.shared.training import NonFiniteLossError


def run(
    commands: Mapping[str, Callable[..., Any]],
    otherwise: Callable[..., Any],
    arguments: Sequence[str],
    *,
    program: str,
    description: str | None,
    console: Console,
    mendable: tuple[type[Exception], ...] = (),
) -> int:
    """Run the command that the first argument names, or `otherwise` with all arguments.

    Args:
      commands: dataclasses whose fields are options and whose instances are called.
      otherwise: the same, for what no command's name begins.
      arguments: of the command line.
      program: how the command line begins, for its help.
      description: help of `otherwise`.
      console: where errors and the time are printed.
      mendable: exceptions to print as one line, beside `OSError`, `ValueError` and a loss that is
        not finite.

    Returns:
      Exit status: 0, 1 for an error, 130 if interrupted.
    """
    name, rest = (arguments[0], arguments[1:]) if arguments[:1] else ("", [])
    begun = time.perf_counter()
    try:
        if name in commands:
            command = tyro.cli(commands[name], args=rest, prog=f"{program} {name}")
        else:
            command = tyro.cli(otherwise, args=arguments, prog=program, description=description)
        command()
    except KeyboardInterrupt as stopped:
        saved = f"{stopped}; continue with --resume" if stopped.args else "interrupted"
        console.print(saved, style="yellow")
        return 130
    except (OSError, ValueError, NonFiniteLossError, *mendable) as error:
        console.print(f"error: {error}", style="bold red", markup=False)
        return 1
    console.print(f"{time.perf_counter() - begun:.0f} s")
    return 0
