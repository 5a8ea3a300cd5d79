"""The loss doctor in a shell and in CI: `python -m diffmetrics.diagnose module:function`."""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import inspect
import json
import operator
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import jax

from diffmetrics import diagnose
from diffmetrics.diagnose import _cost, _forms, _inference, _names, _programs, _targets
from diffmetrics.diagnose._cost import Cost, Place

PROGRAM = "python -m diffmetrics.diagnose"
CLOSED = 128 + 13  # as a program ends in a shell whose reader has gone: SIGPIPE is 13


def find(path: str) -> Any:
    """The object that ``package.module:name`` names; the name may have dots.

    Raises:
      ValueError: if the path has no colon, or module or name do not exist, or the module fails.
    """
    module, _, name = path.partition(":")
    if not module or not name:
        raise ValueError(f"name the loss as package.module:function, got {path!r}")
    if module.endswith(".py"):
        dotted = module.removesuffix(".py").replace(os.sep, ".")
        raise ValueError(f"name the module, not its file: {dotted}:{name}")
    owner = imported(module, path)
    try:
        return operator.attrgetter(name)(owner)
    except AttributeError as error:
        raise ValueError(f"{path!r}: {error}{_names.meant(name, dir(owner))}") from error


def imported(module: str, path: str) -> Any:
    """The module, whatever it raises.

    Raises:
      ValueError: if it cannot be imported, and why.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(f"no module {error.name} (of {path!r}) in {sys.path[0] or '.'}") from error
    except (Exception, SystemExit) as error:  # SyntaxError is one, and says where
        *_, last = traceback.extract_tb(error.__traceback__)
        where = "" if isinstance(error, SyntaxError) else f" ({last.filename}, line {last.lineno})"
        reason = f"{_programs.said(error)}{where}"
        raise ValueError(f"module {module} cannot be imported: {reason}") from error


def found(path: str) -> Any:
    """What `find` finds, while whatever its module prints goes where errors go."""
    with contextlib.redirect_stdout(sys.stderr):
        return find(path)


def option(text: str) -> tuple[str, Any]:
    """``name=value``, the value as JSON, or as it is."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"expected name=value, got {text!r}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def lengths(text: str) -> tuple[int, ...]:
    """Lengths of axes, with an x between them."""
    numbers = text.lower().split("x")
    if not all(number.isdecimal() and int(number) for number in numbers):
        raise argparse.ArgumentTypeError(f"expected lengths such as 16x512x512, got {text!r}")
    return tuple(map(int, numbers))


def asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What is asked for; leaves the program if that cannot be understood."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="What is wrong with this loss? Exits with 1 on a defect."
    )
    parser.add_argument("loss", help="package.module:function, f(logits, labels) of any reduction")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--kind", choices=diagnose.KINDS, help="default: found out by calling it")
    parser.add_argument("--probes", help="names of probes, with commas; default: all of the kind")
    parser.add_argument(
        "--set", type=option, action="append", default=[], metavar="NAME=VALUE",
        help="a keyword of the loss, value as JSON; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--cost", action="store_true",
        help="also what value and gradient move and need, on arrays that are made up",
    )  # fmt: skip
    parser.add_argument(
        "--target",
        help=f"as --cost, compiled for {', '.join(_targets.TARGETS)}; default: here",
    )
    parser.add_argument(
        "--shape", type=lengths, metavar="16x512x512",
        help="as --cost, on predictions of this shape; default: a large one that suits the kind",
    )  # fmt: skip
    given = parser.parse_args(arguments)
    given.cost |= bool(given.target or given.shape)
    return given


def cost_of(loss: Any, kind: str, shape: tuple[int, ...] | None, place: Place) -> Cost:
    """The cost of a loss of this kind on arrays that are made up.

    Raises:
      ValueError: if the loss does not take them, or the compiler does not; what was said is told.
    """
    form = _inference.subject(loss, kind).form
    call, predictions, labels = _cost.made_up(loss, form, shape)
    _cost.check("predictions", predictions)
    _cost.check("labels", labels)
    try:
        return _cost.cost(loss, call, predictions, labels, place)
    except Exception as error:  # whatever the loss, or a compiler, raises
        shapes = " and ".join(str(x.shape) for x in jax.tree.leaves(predictions))
        raise ValueError(f"no cost of predictions {shapes}: {_programs.said(error)}") from error


def bound(loss: Any, options: Sequence[tuple[str, Any]]) -> Any:
    """The loss with its keywords.

    Raises:
      ValueError: if it has none of that name.
    """
    if not options:
        return loss
    loss = functools.partial(loss, **dict(options))
    try:
        named = inspect.signature(loss.func).parameters
    except (TypeError, ValueError):
        return loss  # nobody knows, and calling it will tell
    takes_all = any(p.kind is p.VAR_KEYWORD for p in named.values())
    for name, _ in options:
        if name not in named and not takes_all:
            hint = _names.meant(name, named) or f": it takes {', '.join(named)}"
            raise ValueError(f"{_forms.name_of(loss.func)} has no argument {name}{hint}")
    return loss


def probes_of(text: str | None) -> list[str] | None:
    """Names of probes, with commas between them."""
    names = [name.strip() for name in (text or "").split(",")]
    return [name for name in names if name] or None


def examined(loss: Any, given: argparse.Namespace) -> diagnose.Report:
    """The report. What the loss prints, or a callback of it, is no part of what is asked for."""
    with contextlib.redirect_stdout(sys.stderr):
        report = diagnose.loss(loss, kind=given.kind, probes=probes_of(given.probes))
        jax.effects_barrier()
    return report


def costed(loss: Any, report: diagnose.Report, given: argparse.Namespace, at: Place) -> Cost | None:
    """The cost, if it is asked for and can be told; the report stands without it."""
    kind = report.kind.split(",")[0]
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return cost_of(loss, kind, given.shape, at)
    except ValueError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return None


def printed(report: diagnose.Report, cost: Cost | None, as_json: bool) -> None:
    """Both, as JSON or for readers."""
    if as_json:
        costs = {"cost": cost.to_dict()} if cost else {}
        print(json.dumps(report.to_dict() | costs, indent=2))
    else:
        print(*filter(None, (report, cost)), sep="\n\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a report; 0 if the loss is healthy, 1 if not, 2 if nothing of it can be examined."""
    given = asked(arguments)
    sys.path.insert(0, "")
    try:
        at = _cost.place(given.target)  # which a GPU's compiler wants before JAX's first step
        loss = bound(found(given.loss), given.set)
        report = examined(loss, given)
    except (TypeError, ValueError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    cost = costed(loss, report, given, at) if given.cost else None
    printed(report, cost, given.json)
    if not report.healthy:
        return 1
    return 0 if report.results and (cost or not given.cost) else 2


def ended() -> int:
    """The status of `main`, whose reader may have gone before the last line, as `head` does."""
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's own flush
        return CLOSED
    return status


if __name__ == "__main__":
    sys.exit(ended())
