"""What a probe is: a function that measures a loss and says what it found.

To write one is all that a new probe takes. In a file of `_probes/`:

    @probe("sober", kinds=("regression",), rank=40)
    def sober(subject: Subject) -> Iterator[Finding]:
        y = subject.form.targets()
        (value,) = subject.measure(y[None]).value
        yield ok(f"{value:g}") if value == 0 else note("a perfect prediction costs", f"{value:g}")

Then reports hold it, `probes=` and `allow=` take its name, and `PROBES` and `QUICK` list it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from diffmetrics.diagnose._forms import KINDS
from diffmetrics.diagnose._report import Finding

Ask = Callable[[Any], Iterable[Finding]]


@dataclasses.dataclass(frozen=True)
class Probe:
    """A question to the losses of some kinds.

    Attributes:
      name: by which it is asked for, and which its findings bear.
      kinds: of the losses that it is for.
      rank: its place in a report. What explains the most comes first: a loss that is blind to its
        labels has nothing else to say.
      slow: whether it compiles programs of its own.
      ask: what it does: from a subject to findings without a name.
    """

    name: str
    kinds: Collection[str]
    rank: float
    slow: bool
    ask: Ask

    def __call__(self, subject: Any) -> list[Finding]:
        """What it finds."""
        return [dataclasses.replace(found, probe=self.name) for found in self.ask(subject)]


REGISTERED: list[Probe] = []


def probe(
    name: str, kinds: Collection[str] = KINDS, *, rank: float, slow: bool = False
) -> Callable[[Ask], Probe]:
    """Makes a probe of a function. Losses of several kinds may be asked the same in other ways.

    Raises:
      ValueError: if the name is taken for one of the kinds, or has another rank elsewhere.
    """

    def register(ask: Ask) -> Probe:
        for other in REGISTERED:
            if other.name == name and (other.rank != rank or set(other.kinds) & set(kinds)):
                raise ValueError(f"there is a probe {name} of {other.kinds}, of rank {other.rank}")
        REGISTERED.append(Probe(name, kinds, rank, slow, ask))
        return REGISTERED[-1]

    return register


def of_kind(kind: str) -> dict[str, Probe]:
    """The probes of a kind by name, in the order of their ranks."""
    found = sorted((p for p in REGISTERED if kind in p.kinds), key=lambda p: p.rank)
    return {p.name: p for p in found}


def examined(kind: str, subject: Any, names: Collection[str]) -> tuple[Finding, ...]:
    """What those of the kind's probes find that are named."""
    probes = of_kind(kind)
    return tuple(f for name, each in probes.items() if name in names for f in each(subject))


@dataclasses.dataclass(frozen=True)
class Names(Mapping[str, tuple[str, ...]]):
    """The names of the probes of each kind: of all, or of those that are not slow."""

    quick: bool = False

    def __getitem__(self, kind: str) -> tuple[str, ...]:
        if kind not in KINDS:
            raise KeyError(kind)
        return tuple(p.name for p in of_kind(kind).values() if not (self.quick and p.slow))

    def __iter__(self) -> Iterator[str]:
        return iter(KINDS)

    def __len__(self) -> int:
        return len(KINDS)
