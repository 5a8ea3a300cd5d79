"""The stages of a run on a device, what matters most first, and the time that each may take."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console

from benchmarks import (
    device_checks,
    device_report,
    device_steps,
    device_warm,
    measure,
    peers,
    report,
    run as run_,
    work,
)
from benchmarks.device import STAGES
from benchmarks.device_report import Findings
from benchmarks.losses import LOSSES, Loss
from benchmarks.measure import Patience
from benchmarks.run import Group, Row
from benchmarks.work import Workload
from experiments.shared import records

RESERVE = 0.03  # of the time, to write and draw

# So large that a pass takes some times as long as to start a program, which is 0.05 ms or more.
LARGE = (
    Workload("masks", ("binary",), (64, 768, 768)),
    *(w for w in work.FULL if w.name in ("class masks", "class labels", "embeddings")),
    *(w for w in work.FULL if w.name in ("scores", "few scores")),
    Workload("targets", work.TARGETS, (2**24,)),
)
SMALL = tuple(
    w
    for w in work.FULL
    if w.name in ("65,536 labels", "few class labels", "few embeddings", "few targets")
)
# One of each way to be computed, among them what people reach for first. PyTorch's compiler takes
# up to twenty seconds for each, and runs for these alone.
CHOSEN = (
    "sigmoid_cross_entropy", "dice_loss", "softmax_cross_entropy", "sigmoid_focal_loss",
    "dice_loss (softmax)", "mcc_loss", "kl_divergence", "roc_auc_loss (squared_hinge)",
    "average_precision_loss", "triplet_loss (softplus)", "triplet_loss", "gaussian_nll",
    "lovasz_hinge_loss", "cost_sensitive_cross_entropy",
)  # fmt: skip
PLACES = {"class labels": ("softmax_cross_entropy",)}
"""Workloads that ask few of the chosen; the others ask all."""
JAX_PEERS, EVERYONE = "jnp,optax", "jnp,optax,torch,torchvision,torch.compile"
EAGER = "jnp,optax,torch,torchvision"
PORTION = 6  # losses in a table, so that there is something to write every half minute


class OutOfTime(KeyboardInterrupt):
    """A stage took all that it may; like Ctrl-C, it ends with what there is."""


class Clock:
    """When to stop, and what is told until then."""

    def __init__(self, begun: float, seconds: float, told: Callable[[str], None]):
        self.end, self.seconds, self.told = begun + seconds, seconds, told
        self.until = self.end

    def grant(self, share: float) -> None:
        """Give the next stage a share of all time, and no more than is left."""
        self.until = min(self.end, time.monotonic() + share * self.seconds)

    def over(self) -> bool:
        return time.monotonic() >= self.until

    def __call__(self, word: str) -> None:
        if self.over():
            raise OutOfTime
        self.told(word)


@dataclasses.dataclass
class Run:
    """What the stages share."""

    quick: bool
    clock: Clock
    console: Console
    findings: Findings
    write: Callable[[], None]
    warm: bool
    """Whether programs are compiled beforehand."""

    @property
    def patience(self) -> Patience:
        return Patience(0.1, 3, 5) if self.quick else Patience(0.3, 5, 21)


def checks(run: Run) -> None:
    """Every loss, float32 before bfloat16."""
    rows, dtypes = device_checks.chosen(quick=run.quick), ("float32", "bfloat16")
    try:
        for dtype in dtypes[: 1 if run.quick else 2]:
            for check in device_checks.run(rows, [dtype], run.clock):
                run.findings.checks.append(check)
            run.write()
    finally:
        device_report.print_checks(run.console, run.findings.checks)


def steps(run: Run, *names: str) -> None:
    """The three training steps, each as soon as it is done."""
    block, patience = (1, Patience(0.5, 2, 3)) if run.quick else (10, Patience(2.0, 3, 9))
    found = []
    try:
        for experiment in ("text", "speakers", "ships"):  # what compiles longest comes last
            row = device_steps.compare(
                experiment,
                "bfloat16",
                names,
                patience,
                block=block,
                quick=run.quick,
                told=run.clock,
            )
            found.append(row)
            run.findings.steps.append(row)
            run.write()
    finally:
        device_report.print_steps(run.console, found)


def losses(
    run: Run,
    workloads: Sequence[Workload],
    dtypes: Sequence[str],
    asked: str,
    wanted: Callable[[Loss, Workload], bool],
) -> None:
    """Tables of some losses on some workloads."""
    found = peers.load(asked)
    run.findings.missing += [f"peer {each}" for each in found.absent]
    groups = [
        dataclasses.replace(group, losses=portion)
        for group in run_.choose(workloads, dtypes)
        for portion in portions([x for x in group.losses if wanted(x, group.workload)])
    ]
    if run.warm:
        device_warm.warm(groups, found, run.clock)
    for group in groups:
        try:
            table(run, group, found)
        except Exception as error:  # of memory, say: the next table may fit
            run.findings.missing.append(f"{group.name}: {first_line(error)}")


def portions(losses: Sequence[Loss]) -> list[tuple[Loss, ...]]:
    return [tuple(losses[i : i + PORTION]) for i in range(0, len(losses), PORTION)]


def table(run: Run, group: Group, found: peers.Peers) -> None:
    """Measure one group, print it, keep it."""
    launch = launch_ms(run.patience)
    for floor, rows in run_.run([group], found, run.patience, told=run.clock):
        judged = [judge(row, launch) for row in rows]
        key = f"{floor.group}, {len(run.findings.tables) + 1}"
        run.findings.tables[key] = (floor, judged)
        run.findings.launches[key] = launch
        report.print_group(run.console, floor, judged)
        run.console.print(
            f"a program starts in {launch:.2g} ms; x floor has one start", style="dim"
        )
        run.write()


def launch_ms(patience: Patience) -> float:
    """The time of a program that does next to nothing."""
    arrays = work.draw("binary", (8,), "float32")
    nothing = measure.compiled(
        "launch", lambda a: jnp.sum(a.logits), arrays, "logits", forward=True
    )
    measure.warm_up(nothing, patience)
    measure.in_turns([nothing])
    return 1e3 * measure.quartiles(nothing.samples)[0]


PARTS = {"pass": 2, "sort": 3, "pairs": 4}


def judge(row: Row, launch: float) -> Row:
    """The row, with a floor that is started once, as a loss is, and not once for each part.

    Other goals than a processor's: no JAX peer is faster.
    """
    needs = {(loss.label, loss.kind): loss.needs for loss in LOSSES}[row.loss, row.kind]
    parts = PARTS[needs] - row.forward - (needs == "pairs" and row.forward)
    floor = max(row.floor_ms - (parts - 1) * launch, launch)
    ahead = {} if row.forward else {"jnp": 1.0, "optax": 1.0}
    return dataclasses.replace(row, floor_ms=floor, ahead=ahead)


def is_chosen(loss: Loss, workload: Workload) -> bool:
    return loss.label in PLACES.get(workload.name, CHOSEN) and loss.label in CHOSEN


def is_other(loss: Loss, workload: Workload) -> bool:
    return not is_chosen(loss, workload) and workload.name not in ("class labels", "few scores")


def stages(run: Run) -> dict[str, tuple[float, Callable[[], None]]]:
    """Name to the largest share of all time, and what is done."""
    large, small = (work.QUICK, ()) if run.quick else (LARGE, SMALL)
    both = tuple(work.DTYPES)

    def of(*arguments: Any) -> Callable[[], None]:
        return lambda: losses(run, *arguments)

    return {
        "checks": (0.35, lambda: checks(run)),
        "steps": (0.3, lambda: steps(run, "torch")),
        "chosen": (0.4, of(large, ["float32"], EVERYONE, is_chosen)),
        "narrow": (0.2, of(large, ["bfloat16"], EAGER, is_chosen)),
        "compiled": (0.25, lambda: steps(run, "torch.compile")),
        "others": (1.0, of(large, ["float32"], JAX_PEERS, is_other)),
        "small": (1.0, of(small, both, JAX_PEERS, lambda loss, _: loss.label in CHOSEN)),
    }


# A processor has no use for the rest when it only shows that the command runs.
QUICK = ("checks", "steps", "chosen", "narrow")


def run(options: argparse.Namespace, begun: float, absent: Sequence[str]) -> int:
    """Run the stages; 1 if a loss is wrong."""
    console, device = Console(), jax.devices()[0]
    where = place(options, device)
    asked = [name for name in options.only.split(",") if not options.quick or name in QUICK]
    findings = Findings(device_report.environment(device), report.plain(vars(options)))
    findings.missing += [f"{name} is not installed" for name in absent]
    if "matplotlib" in absent:
        findings.missing.append("charts: pip install matplotlib")
    complete, programs = True, device_warm.keep_programs()
    if programs is not None:
        findings.missing.append("times of compiling: many programs were compiled at once")

    def write(*, complete: bool = False) -> None:
        content = findings.content(complete=complete)
        records.write_json(where.with_suffix(".json"), content)

    with console.status("") as status:
        clock = Clock(begun, 60.0 * (1.0 - RESERVE) * options.minutes, status.update)
        this = Run(options.quick, clock, console, findings, write, warm=programs is not None)
        for name, (share, stage) in stages(this).items():
            if name in asked:
                complete &= attempt(this, name, share, stage)
    write(complete=complete)
    finish(findings, where, console, draw="matplotlib" not in absent)
    console.print(f"{time.monotonic() - begun:.0f} s")
    return int(any(check.failed for check in findings.checks))


def first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).split(chr(10))[0]}"


def attempt(run: Run, name: str, share: float, stage: Callable[[], None]) -> bool:
    """Run a stage for as long as it may; whether it came to its end."""
    begun = time.monotonic()
    run.clock.grant(share)
    run.console.print(f"\n[bold]{name}[/bold]")
    try:
        run.clock(name)
        stage()
        reason = ""
    except KeyboardInterrupt:
        if not run.clock.over():
            raise
        reason = f"stage {name}: cut after {time.monotonic() - begun:.0f} s"
    except Exception as error:  # whatever a driver raises, the other stages go on
        reason = f"stage {name}: {first_line(error)}"
    run.findings.seconds[name] = time.monotonic() - begun
    if reason:
        run.findings.missing.append(reason)
    run.write()
    return not reason


def finish(findings: Findings, where: Path, console: Console, *, draw: bool) -> None:
    """Draw what there is, and say what is not."""
    content = findings.content(complete=False)
    if draw and content["rows"]:
        report.draw(content, where.with_suffix(".png"))
    if draw and content["steps"]:
        device_report.draw_steps(content, where.with_name(f"{where.name}-steps.png"))
    rows = [row for _, found in findings.tables.values() for row in found]
    report.print_end(console, rows, [])
    for each in content["missing"]:
        console.print(f"missing: {each}", style="yellow", markup=False, highlight=False)
    console.print(f"{where}.json", highlight=False)


def place(options: argparse.Namespace, device: Any) -> Path:
    """Where results go, without an ending; a part, or a processor's, replaces no record."""
    whole = set(options.only.split(",")) == set(STAGES) and not options.quick
    recorded = whole and device.platform != "cpu"
    folder = options.out or (report.RECORDED if recorded else report.SCRATCH)
    return folder / ("gpu" if device.platform == "gpu" else f"device-{device.platform}")
