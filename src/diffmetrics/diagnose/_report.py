"""What a diagnosis says: findings, and the report that holds them."""

from __future__ import annotations

import dataclasses
import textwrap
from typing import Any, Literal

Status = Literal["ok", "note", "defect"]

WIDTH = 100


@dataclasses.dataclass(frozen=True)
class Finding:
    """One result of a probe: a defect, a note, or that all is as it should be.

    Attributes:
      probe: which probe.
      cause: what it is, and the likely cause, in one sentence.
      evidence: the numbers.
      advice: what to do, in one sentence.
      status: ``"defect"`` if training with the loss goes wrong, ``"note"`` for a property that you
        should know, ``"ok"`` if all is as it should be.
    """

    probe: str
    cause: str
    evidence: str
    advice: str = ""
    status: Status = "defect"


# A probe says what it found with these three. Its name is put on by `@probe`.


def defect(cause: str, evidence: str, advice: str = "") -> Finding:
    """Something on account of which training with the loss goes wrong."""
    return Finding("", cause, evidence, advice)


def note(cause: str, evidence: str, advice: str = "") -> Finding:
    """A property to know, which is no defect."""
    return Finding("", cause, evidence, advice, "note")


def ok(evidence: str) -> Finding:
    """All is as it should be."""
    return Finding("", "", evidence, "", "ok")


@dataclasses.dataclass(frozen=True)
class Report:
    """The result of a diagnosis: a table of what was probed, what was found, and what to do.

    `print` it, or ask it for `healthy` and `findings`.

    Attributes:
      subject: the name of the loss, or what the batch was.
      kind: kind of the predictions, and how the loss is called.
      results: the findings of every probe that ran, the good ones too, in the order of the probes.
    """

    subject: str
    kind: str
    results: tuple[Finding, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found, defects first, and causes before what follows from them."""
        found = (f for f in self.results if f.status != "ok")
        return tuple(sorted(found, key=lambda f: f.status != "defect"))

    @property
    def defects(self) -> tuple[Finding, ...]:
        """The findings that are defects."""
        return tuple(f for f in self.findings if f.status == "defect")

    @property
    def healthy(self) -> bool:
        """Whether there is no defect. Notes do not count."""
        return not self.defects

    @property
    def verdict(self) -> str:
        """The gravest defect in one line, or that the loss is healthy and what there is to know."""
        if self.healthy:
            return f"{self.subject}: {self._healthy}"
        return f"{self.subject}: broken: {self.defects[0].cause}{self._more}"

    @property
    def headline(self) -> str:
        """The verdict without its explanation, which the table gives."""
        if self.healthy:
            return self.verdict
        return f"{self.subject}: broken: {self.defects[0].cause.split(': ')[0]}{self._more}"

    @property
    def _healthy(self) -> str:
        if not self.results:
            return "nothing was examined: no probe that was asked for concerns it"
        count = len(self.findings)
        return f"healthy, with {_several(count, 'thing')} to know" if count else "healthy"

    @property
    def _more(self) -> str:
        count = len(self.defects) - 1
        return f" (and {_several(count, 'more defect')})" if count else ""

    def to_dict(self) -> dict[str, Any]:
        """Everything, as a dictionary that JSON can hold."""
        return {
            "subject": self.subject,
            "kind": self.kind,
            "verdict": self.verdict,
            "healthy": self.healthy,
            "findings": [dataclasses.asdict(f) for f in self.findings],
            "passed": [dataclasses.asdict(f) for f in self.results if f.status == "ok"],
        }

    def __str__(self) -> str:
        defects = len(self.defects)
        notes = len(self.findings) - defects
        count = f"{_several(defects, 'defect')}, {_several(notes, 'note')}"
        lines = _wrapped(self.headline, "  ") + _wrapped(f"{self.kind}. {count}.", "")
        for finding in self.findings:
            mark = "DEFECT" if finding.status == "defect" else "note"
            lines += _wrapped(f"{mark:<7} {finding.probe:<13} {finding.cause}", " " * 22)
            lines += _wrapped(" " * 22 + finding.evidence, " " * 22)
            if finding.advice:
                lines += _wrapped(" " * 22 + "-> " + finding.advice, " " * 25)
        flagged = {f.probe for f in self.findings}
        passed = [f for f in self.results if f.status == "ok" and f.probe not in flagged]
        for finding in passed:
            lines += _wrapped(f"{'ok':<7} {finding.probe:<13} {finding.evidence}", " " * 22)
        return "\n".join(lines)


def _several(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, subsequent_indent=indent, drop_whitespace=True, break_on_hyphens=False
    )
