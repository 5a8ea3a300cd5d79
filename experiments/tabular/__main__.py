"""How do I use the F-score as a loss, with few positives? Train on it, and see what changes.

    python -m experiments.tabular                                  breast cancer, 2 % malignant
    python -m experiments.tabular --data FILE_OR_FOLDER ...        CSV, KEEL .dat, ARFF
    python -m experiments.tabular --losses cross_entropy soft_f1   some of the losses

A small network is trained with every loss on the same splits of the rows: half to train, a quarter
to choose learning rate, steps and thresholds, a quarter to judge. Ctrl-C keeps the losses that are
finished; --resume goes on with the others.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.shared import commands, records, tables, training
from experiments.tabular import report
from experiments.tabular.data import Splits, Table, make_splits, open_tables
from experiments.tabular.fit import Training, fit
from experiments.tabular.losses import (
    BASELINE,
    LOSSES,
    at_prevalence,
    for_labels,
    require_known,
)
from experiments.tabular.measure import measure
from experiments.tabular.report import Row, SetReport

CONSOLE = Console()


@dataclasses.dataclass(frozen=True)
class Compare:
    """Train every loss on the same splits; a table, JSON and a figure."""

    data: tuple[Path, ...] = ()
    """CSV, KEEL .dat or ARFF files, or folders of them; the last columns are the labels. Default:
    scikit-learn's breast-cancer set, thinned to 2 % malignant."""
    labels: int | None = None
    """Number of label columns; default 1, in ARFF all of the last 0/1 columns."""
    losses: tuple[str, ...] = tuple(LOSSES)
    """Losses by name."""
    splits: int = 20
    """How often the rows are divided anew."""
    seed: int = 0
    """Of splits and parameters."""
    training: tyro.conf.OmitArgPrefixes[Training] = dataclasses.field(default_factory=Training)
    out: Path = Path("runs/tabular")
    """Folder for results, table and figure."""
    resume: bool = False
    """Keep what is finished there."""

    def __post_init__(self) -> None:
        if self.splits < 1:
            raise ValueError(f"splits must be at least 1, got {self.splits}")
        if self.labels is not None and self.labels < 1:
            raise ValueError(f"labels must be at least 1, got {self.labels}")

    def __call__(self) -> None:
        require_known(self.losses)
        sets = [
            (table, make_splits(table, self.splits, self.seed))
            for table in open_tables(self.data, self.labels)
        ]
        for table, _ in sets:
            records.claim(self.out / table.name, self._describe(table), resume=self.resume)
        work = [
            (table, splits, name)
            for table, splits in sets
            for name in for_labels(self.losses, table.labels.shape[1])
        ]
        rows: dict[str, list[Row]] = {table.name: [] for table, _ in sets}
        with _display() as progress:
            bar = progress.add_task("", total=len(work))
            for done, (table, splits, name) in enumerate(work):
                progress.update(bar, description=f"{table.name}: {name}")
                try:
                    rows[table.name].append(self._one(table, splits, name))
                except KeyboardInterrupt:
                    raise KeyboardInterrupt(f"{done} of {len(work)} runs are kept") from None
                progress.advance(bar)
        self._report([_set_report(table, splits, rows[table.name]) for table, splits in sets])

    def _describe(self, table: Table) -> dict[str, Any]:
        """What makes two results comparable; further losses may be added to them."""
        described = dataclasses.asdict(self)
        for name in ("out", "resume", "losses", "data"):
            del described[name]
        return described | {"table": str(table)}

    def _one(self, table: Table, splits: Splits, name: str) -> Row:
        """Train and judge one loss, or read what was found before."""
        path = self.out / table.name / f"{name}.json"
        if path.exists():
            return json.loads(path.read_text())
        examined = at_prevalence(name, round(float(table.labels.mean()), 3))
        training.examine(examined, "multilabel", CONSOLE)
        begun = time.perf_counter()
        fitted = fit(LOSSES[name], table, splits, self.training, self.seed)
        row = {
            "loss": name,
            "figures": measure(LOSSES[name], table, splits, fitted),
            "validation_average_precision": fitted.average_precision,
            "steps": fitted.steps,
            "learning_rate": fitted.learning_rate,
            "seconds": time.perf_counter() - begun,
            **records.environment(),
        }
        records.write_json(path, row)
        return json.loads(path.read_text())

    def _report(self, reports: list[SetReport]) -> None:
        """Everything in files; on the terminal the tables, and what they say as the last lines."""
        where = records.environment()
        seconds = sum(row["seconds"] for each in reports for row in each.rows)
        done = f"{where['device']}, jax {where['jax']}, {seconds / 60:.1f} minutes, {where['date']}"
        written = []
        for each in reports:
            columns, lines = ("loss", *each.columns.values()), list(report.cells(each))
            tables.show(columns, lines, each.described, CONSOLE, section=len(lines))
            written.append(tables.markdown(columns, lines, each.described))
        CONSOLE.print(report.NOTES, markup=False, highlight=False, soft_wrap=True)
        lines = list(_conclusions(reports))
        for line in lines:
            CONSOLE.print(line, markup=False, highlight=False, soft_wrap=True)
        (self.out / "comparison.md").write_text(
            "\n".join([*written, report.NOTES, "", *lines, "", done, ""])
        )
        records.write_json(
            self.out / "comparison.json",
            {
                "settings": dataclasses.asdict(self),
                "minutes": seconds / 60,
                **where,
                "sets": [dataclasses.asdict(each) for each in reports],
                "differences": {
                    each.name: [dataclasses.asdict(d) for d in report.differences(each)]
                    for each in reports
                },
            },
        )
        report.draw(reports, self.out / "comparison.png")
        CONSOLE.print(f"{done}; comparison.md, .json and .png in {self.out}", soft_wrap=True)


def _set_report(table: Table, splits: Splits, rows: list[Row]) -> SetReport:
    described = f"{table}; {len(splits.train)} splits of {splits.train.shape[1]} rows to train on"
    overlap = splits.test.shape[1] / (splits.train.shape[1] + splits.validation.shape[1])
    return SetReport(table.name, described, table.labels.shape[1], overlap, rows)


def _conclusions(reports: list[SetReport]) -> Iterator[str]:
    for each in reports:
        yield ""
        if each.baseline() is None:
            yield f"{each.name}: {BASELINE} is not among the losses, so nothing is compared with it"
            continue
        yield f"{each.name}, against {BASELINE} on the same splits:"
        yield from (f"  {line}" for line in report.verdicts(each))
        corrected = report.prior_correction(each)
        if corrected:
            yield f"  {corrected}"
    told = report.conclusion(reports)
    if told:
        yield ""
        yield told


def _display() -> Progress:
    return Progress(
        TextColumn("{task.description:>40}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=CONSOLE,
    )


def main(arguments: list[str]) -> int:
    """Run; an error that a user can mend is one line, not a traceback."""
    program = "python -m experiments.tabular"
    return commands.run(
        {}, Compare, arguments, program=program, description=__doc__, console=CONSOLE
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
