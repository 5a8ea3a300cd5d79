"""What a probe is: a function that measures a loss and says what it found.

To write one is all that a new probe takes. In a file of `_probes/`:

    from diffmetrics.diagnose._registry import probe
    from diffmetrics.diagnose._report import Finding, note, ok
    from diffmetrics.diagnose._subject import Subject

    @probe("sober", kinds=("regression",), rank=40)
    def sober(subject: Subject) -> Finding:
        y = subject.form.targets()
        (value,) = subject.measure(y[None]).value
        return ok(f"{value:g}") if value == 0 else note("a perfect prediction costs", f"{value:g}")

Then reports hold it, `probes=` and `allow=` take its name, and `PROBES` and `QUICK` list it.
`measure` takes many batches at once, on a leading axis; ranks go up to 30 so far. A broken loss in
tests/diagnose/broken_losses.py shows that it finds what it is for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable
from typing import Any

from diffmetrics.diagnose._forms import KINDS
from diffmetrics.diagnose._report import Finding

Ask = Callable[[Any], Finding | Iterable[Finding] | None]


@dataclasses.dataclass(frozen=True)
class Probe:
    """A question to a subject.

    Attributes:
      name: by which it is asked for, and which its findings bear.
      rank: its place in a report. What explains the most comes first: a loss that is blind to its
        labels has nothing else to say.
      slow: whether it compiles programs of its own.
      ask: what it does: from a subject to findings without a name.
    """

    name: str
    rank: float
    slow: bool
    ask: Ask

    def __call__(self, subject: Any) -> list[Finding]:
        """What it finds."""
        told = self.ask(subject)
        told = [told] if isinstance(told, Finding) else told or ()
        return [dataclasses.replace(found, probe=self.name) for found in told]


# Of every kind the probes by name, in the order of their ranks; and the names of the quick ones.
PROBES: dict[str, dict[str, Probe]] = {}
QUICK: dict[str, tuple[str, ...]] = {}


def probe(
    name: str, kinds: Collection[str] = KINDS, *, rank: float, slow: bool = False
) -> Callable[[Ask], Probe]:
    """Makes a probe of a function. Other kinds may have another of the same name.

    Raises:
      ValueError: if one of the kinds has it already.
    """

    def register(ask: Ask) -> Probe:
        made = Probe(name, rank, slow, ask)
        for kind in kinds:
            some = PROBES.get(kind, {})
            if name in some:
                raise ValueError(f"there is a probe {name} of {kind} already")
            PROBES[kind] = dict(sorted({**some, name: made}.items(), key=lambda p: p[1].rank))
            QUICK[kind] = tuple(each for each, p in PROBES[kind].items() if not p.slow)
        return made

    return register


def examined(kind: str, subject: Any, names: Collection[str]) -> tuple[Finding, ...]:
    """What those probes of a kind find that are named."""
    return tuple(f for name, ask in PROBES[kind].items() if name in names for f in ask(subject))
