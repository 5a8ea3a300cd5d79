"""How many bytes a compiled program moves between memory and chip, read off its text.

XLA's own `cost_analysis` is no help: it is empty for a GPU, and for a TPU it counts what is read
from the chip's own memory as well. The text says of every operation what it reads, what it writes
and, by ``S(1)`` in a layout, what stays on the chip. An operation reads each operand once and
writes its result; of a slice only the slice is read, of an update in place only the update is
written. A loop is as many times its body. A sort counts as one reading and one writing, whatever it
does inside. What layouts are padded by is not counted, nor what a chip reads of a line of memory
beside the number that is gathered.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence

ARRAY = re.compile(r"([a-z]\w*)\[([\d,]*)\](?:\{([^}]*)\})?")
ON_CHIP = re.compile(r"S\([1-9]")
NAME = re.compile(r"%([\w.\-]+)")
HEADER = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
LINE = re.compile(r"\s*(ROOT )?%?([\w.\-]+) = (.*)$")
CALLED = re.compile(r"(?:calls|to_apply|\w+_computations?)=(\{[^}]*\}|%[\w.\-]+)")
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
TARGET = re.compile(r'custom_call_target="([^"]*)"')

# Other names for what is there already, and memory that is not yet filled.
FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id",
    "replica-id", "add-dependency", "opt-barrier", "AllocateBuffer",
}  # fmt: skip
# Of the first operand of these only as much is read as comes out.
SLICES = {"slice", "dynamic-slice", "gather"}
# These change their first operand where it lies; the operand that says to what.
UPDATES = {"dynamic-update-slice": 1, "scatter": 2}
# These look at more of their operands than at one element for each of their own.
WHOLE = {"sort", "scatter", "gather", "reduce-window", "dot", "convolution", "custom-call"}
# One operand in another shape, which a fusion does not write out.
SAME = {"bitcast", "copy", "reshape", "transpose"}


@dataclasses.dataclass(frozen=True)
class Traffic:
    """What a program does when it runs once."""

    bytes: int = 0
    kernels: int = 0
    endless: int = 0
    """Loops of an unknown number of turns; each counts as one turn."""

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(
            self.bytes + other.bytes, self.kernels + other.kernels, self.endless + other.endless
        )

    def times(self, n: int) -> Traffic:
        return Traffic(n * self.bytes, n * self.kernels, self.endless)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a program."""

    name: str
    type: str
    code: str
    """What is done; of a custom call, what is called."""
    arguments: str
    attributes: str
    root: bool

    @property
    def operands(self) -> list[str]:
        return NAME.findall(self.arguments)

    @property
    def called(self) -> list[str]:
        return [name for group in CALLED.findall(self.attributes) for name in NAME.findall(group)]

    @property
    def elements(self) -> int:
        return sum(_elements(dims) for _, dims, _ in ARRAY.findall(self.type))

    @property
    def all(self) -> int:
        """Bytes of the result."""
        return sum(_bytes(kind, dims) for kind, dims, _ in ARRAY.findall(self.type))

    @property
    def outside(self) -> int:
        """Bytes of the result that do not stay on the chip."""
        arrays = ARRAY.findall(self.type)
        return sum(_bytes(kind, dims) for kind, dims, at in arrays if not ON_CHIP.search(at))


Computation = dict[str, Instruction]


def count(text: str) -> Traffic:
    """The traffic of the program whose text is `compiled.as_text()`."""
    computations: dict[str, Computation] = {}
    entry, current = "", {}
    for line in text.splitlines():
        if header := HEADER.match(line):
            current = computations[header[2]] = {}
            entry = header[2] if header[1] else entry
        elif found := _instruction(line):
            current[found.name] = found
    return _Program(computations).traffic(entry)


def _instruction(line: str) -> Instruction | None:
    found = LINE.match(line)
    if not found:
        return None
    root, name, rest = found.groups()
    end = _closed(rest) if rest.startswith("(") else rest.index(" ")
    type_, rest = rest[:end], rest[end:].lstrip()
    code, _, _ = rest.partition("(")
    end = len(code) + _closed(rest[len(code) :])
    target = TARGET.search(rest, end)
    return Instruction(
        name, type_, target[1] if target else code, rest[len(code) + 1 : end - 1], rest[end:],
        bool(root),
    )  # fmt: skip


def _closed(text: str) -> int:
    """Where the bracket that `text` begins with is closed again."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return place + 1
    return len(text)


def _bytes(kind: str, dims: str) -> int:
    digits = re.search(r"\d+", kind)
    bits = 8 if kind == "pred" else int(digits.group()) if digits else 0
    return _elements(dims) * bits // 8


def _elements(dims: str) -> int:
    return math.prod(int(n) for n in dims.split(",") if n)


@dataclasses.dataclass(frozen=True)
class _Program:
    computations: dict[str, Computation]

    def traffic(self, name: str) -> Traffic:
        """Of one computation, and of those that it calls as often as it does."""
        inside = self.computations[name]
        return sum((self._of(x, inside) for x in inside.values()), Traffic())

    def _of(self, x: Instruction, inside: Computation) -> Traffic:
        if x.code == "while":
            return self._loop(x)
        if x.code == "conditional":  # the dearest branch
            return max(map(self.traffic, x.called), key=lambda traffic: traffic.bytes)
        if x.code in ("call", "async-start"):
            return self.traffic(x.called[0])
        if x.code in FREE or x.code.endswith(("-start", "-update")):
            return Traffic()
        if x.code.endswith("-done"):
            return Traffic(sum(_arrived(x, inside)))
        operands = [inside[name] for name in x.operands]
        fused = self.computations[x.called[0]] if x.code == "fusion" else {}
        # What a TPU does to single numbers beside its arrays is no kernel.
        kernel = x.code == "fusion" or any(y.elements > 1 for y in (x, *operands))
        moved = _fused(x, operands, fused) if fused else _moved(x, operands)
        return Traffic(sum(moved), int(kernel))

    def _loop(self, x: Instruction) -> Traffic:
        body, condition = (
            re.findall(rf"\b{key}=%([\w.\-]+)", x.attributes)[0] for key in ("body", "condition")
        )
        once, known = self.traffic(body), TRIPS.search(x.attributes)
        turns = int(known[1]) if known else self._turns(condition)
        return once + Traffic(endless=1) if turns is None else once.times(turns)

    def _turns(self, condition: str) -> int | None:
        """How often a loop runs that counts from 0 up to a constant, as JAX's loops do."""
        lines = list(self.computations[condition].values())
        lines += [y for x in lines for name in x.called for y in self.computations[name].values()]
        bounds = [x.arguments for x in lines if x.code == "constant" and x.arguments.isdecimal()]
        below = [x for x in lines if x.code == "compare" and "direction=LT" in x.attributes]
        return int(bounds[0]) if len(bounds) == len(below) == 1 else None


def _arrived(x: Instruction, inside: Computation) -> Iterator[int]:
    """What a copy between memory and chip moves that goes on beside other work."""
    start = inside[x.operands[0]]
    while start.code.endswith("-update"):
        start = inside[start.operands[0]]
    if start.code != "async-start":  # whose computation has been counted
        yield min(inside[start.operands[0]].outside, x.all)
        yield x.outside


def _moved(x: Instruction, operands: Sequence[Instruction]) -> Iterator[int]:
    """What an operation reads and writes."""
    first, others = operands[:1], [y for y in operands[1:] if y is not operands[0]]
    yield from (y.outside for y in {y.name: y for y in others}.values())
    if x.code in UPDATES:
        yield operands[UPDATES[x.code]].all if x.outside else 0
        return
    yield from (min(y.outside, x.all) if x.code in SLICES else y.outside for y in first)
    yield x.outside


def _fused(x: Instruction, operands: Sequence[Instruction], inside: Computation) -> Iterator[int]:
    """What a fusion reads and writes: of its operands what the operations inside ask for."""
    updates = _updates(inside)
    asked = _asked(inside, updates)
    numbers = {y.arguments: y for y in inside.values() if y.code == "parameter"}
    for number, operand in enumerate(operands):
        parameter = numbers[str(number)]
        share = asked.get(parameter.name, 0) / max(parameter.elements, 1)
        yield round(min(share, 1.0) * operand.outside)
    yield min(x.outside, x.all - sum(updates.values()))


def _asked(inside: Computation, updates: Mapping[str, int]) -> dict[str, int]:
    """How many elements of each line of a fusion are computed: those that a later line takes."""
    asked: dict[str, int] = {}
    for y in reversed(inside.values()):
        own = y.elements if y.root else min(asked.get(y.name, 0), y.elements)
        for place, name in enumerate(y.operands):
            whole = inside[name].elements
            lazy = (y.code not in WHOLE and y.elements == whole) or (y.code in SLICES and not place)
            untouched = y.name in updates and not place
            asked[name] = asked.get(name, 0) + (0 if untouched else own if lazy else whole)
    return asked


def _updates(inside: Computation) -> dict[str, int]:
    """Bytes that a fusion leaves as they are in each of its parameters that it only updates."""
    [root] = [x for x in inside.values() if x.root]
    results = [inside[name] for name in root.operands] if root.code == "tuple" else [root]
    return {
        x.name: x.all - inside[x.operands[UPDATES[x.code]]].all
        for x in (_origin(y, inside) for y in results)
        if x.code in UPDATES and _origin(inside[x.operands[0]], inside).code == "parameter"
    }


def _origin(x: Instruction, inside: Computation) -> Instruction:
    """What `x` is another shape of."""
    while x.code in SAME:
        x = inside[x.operands[0]]
    return x
