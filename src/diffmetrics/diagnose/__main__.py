"""The loss doctor in a shell and in CI: `python -m diffmetrics.diagnose module:function`."""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import operator
import sys
from collections.abc import Sequence
from typing import Any

from diffmetrics import diagnose


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a report; 0 if the loss is healthy, 1 if not, 2 if it cannot be examined."""
    parser = argparse.ArgumentParser(
        prog="python -m diffmetrics.diagnose",
        description="What is wrong with this loss? Exits with 1 on a defect.",
    )
    parser.add_argument("loss", help="package.module:function, f(logits, labels) of any reduction")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--kind", choices=diagnose.KINDS, help="default: found out by calling it")
    parser.add_argument("--probes", help="names of probes, with commas; default: all of the kind")
    parser.add_argument(
        "--set", type=option, action="append", default=[], metavar="NAME=VALUE",
        help="a keyword of the loss, value as JSON; may be repeated",
    )  # fmt: skip
    given = parser.parse_args(arguments)
    sys.path.insert(0, "")
    try:
        loss = find(given.loss)
        if given.set:
            loss = functools.partial(loss, **dict(given.set))
        probes = given.probes.split(",") if given.probes else None
        report = diagnose.loss(loss, kind=given.kind, probes=probes)
    except (TypeError, ValueError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report.to_dict(), indent=2) if given.json else report)
    return 0 if report.healthy else 1


if __name__ == "__main__":
    sys.exit(main())
