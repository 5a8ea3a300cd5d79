"""The loss doctor in a shell and in CI: `python -m diffmetrics.diagnose module:function`."""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import operator
import os
import sys
from collections.abc import Sequence
from typing import Any

import jax

from diffmetrics import diagnose
from diffmetrics.diagnose import _cost, _forms, _inference, _targets
from diffmetrics.diagnose._cost import Cost, Place

PROGRAM = "python -m diffmetrics.diagnose"
CLOSED = 128 + 13  # as a program ends in a shell whose reader has gone: SIGPIPE is 13


def find(path: str) -> Any:
    """The object that ``package.module:name`` names; the name may have dots.

    Raises:
      ValueError: if the path has no colon, or module or name do not exist.
    """
    module, _, name = path.partition(":")
    if not module or not name:
        raise ValueError(f"name the loss as package.module:function, got {path!r}")
    try:
        return operator.attrgetter(name)(importlib.import_module(module))
    except ModuleNotFoundError as error:
        raise ValueError(f"no module {error.name} (of {path!r}) in {sys.path[0] or '.'}") from error
    except AttributeError as error:
        raise ValueError(f"{path!r}: {error}") from error


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
        "--target", help=f"with --cost: compiled for {', '.join(_targets.TARGETS)}; default: here"
    )
    parser.add_argument(
        "--shape", type=lengths, metavar="16x512x512",
        help="with --cost: of the predictions; default: a large one that suits the kind",
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
    try:
        return _cost.cost(loss, call, predictions, labels, place)
    except Exception as error:  # whatever the loss, or a compiler, raises
        shapes = " and ".join(str(x.shape) for x in jax.tree.leaves(predictions))
        raise ValueError(f"no cost of predictions {shapes}: {_forms.said(error)}") from error


def examined(given: argparse.Namespace) -> tuple[diagnose.Report, Cost | None]:
    """The report, and the cost if it is asked for.

    Raises:
      TypeError: if the loss cannot be called.
      ValueError: if it is not there, or something is asked for that does not exist.
    """
    place = _cost.place(given.target)  # which a GPU's compiler wants before JAX's first step
    loss = find(given.loss)
    if given.set:
        loss = functools.partial(loss, **dict(given.set))
    probes = given.probes.split(",") if given.probes else None
    report = diagnose.loss(loss, kind=given.kind, probes=probes)
    kind = report.kind.split(",")[0]
    return report, cost_of(loss, kind, given.shape, place) if given.cost else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a report; 0 if the loss is healthy, 1 if not, 2 if it cannot be examined."""
    given = asked(arguments)
    sys.path.insert(0, "")
    try:
        report, cost = examined(given)
    except (TypeError, ValueError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    if given.json:
        costs = {"cost": cost.to_dict()} if cost else {}
        print(json.dumps(report.to_dict() | costs, indent=2))
    else:
        print(*filter(None, (report, cost)), sep="\n\n")
    return 0 if report.healthy else 1


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
