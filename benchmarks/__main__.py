"""How fast is every loss, against memory speed and against other libraries?

    python -m benchmarks                          every loss and type; an hour with all peers
    python -m benchmarks --quick                  small arrays, a minute: does it run here?
    python -m benchmarks --filter 'focal.*masks'  some rows, named loss/workload/type
    python -m benchmarks --peers optax,torch      against these only; none needs nothing installed
    python -m benchmarks --resume                 goes on after Ctrl-C
    python -m benchmarks --forward                values without gradients
    python -m benchmarks scaling                  time and memory from 10³ to 10⁷ logits
    python -m benchmarks microbatch               gradients of a batch in parts: exact, or a mean
    python -m benchmarks plan --target v5e        what a GPU or a TPU would move; none is needed
    python -m benchmarks device                   an accelerator in ten minutes: right, and how fast

A row is first shown to be equal to its peer, value and gradient, and then timed. The yardstick of a
row is the time of reading its arrays twice and writing one, measured between its runs.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any, Literal

import jax
from rich.console import Console

from benchmarks import (
    device as device_,
    microbatch,
    peers as peers_,
    plan,
    plan_report,
    plan_steps,
    report,
    scaling,
    work,
)
from benchmarks.losses import LOSSES, Loss
from benchmarks.measure import Patience
from benchmarks.run import choose, expression, run
from diffmetrics.diagnose import _targets as targets
from experiments.shared import records

CONSOLE = Console()


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Time every loss against memory speed and its peers."""

    device: Literal["cpu", "gpu", "tpu"] | None = None
    """Where to run; default: where JAX would."""
    filter: str = ""
    """Regular expression that is searched in loss/workload/type."""
    quick: bool = False
    """Small arrays, float32, few rounds. They fit in the cache, so the ratios are no judgement."""
    forward: bool = False
    """The value alone, without the gradient."""
    peers: str = "all"
    """all, none, or names with commas between: jnp, optax, keras, rax, torch, torch.compile,
    torchvision, monai, smp."""
    out: Path | None = None
    """Folder for JSON and chart; default: benchmarks/results for a full run, else runs/benchmarks
    (--quick, --filter, chosen peers)."""
    resume: bool = False
    """Go on with this very run, which was stopped: tables that are complete are not measured
    again."""

    def __call__(self) -> None:
        device = use(self.device)
        workloads = work.QUICK if self.quick else work.FULL
        dtypes = ["float32"] if self.quick else list(work.DTYPES)
        groups = choose(workloads, dtypes, self.filter)
        peers = peers_.load(self.peers)
        patience = Patience(0.1, 3, 5) if self.quick else Patience()
        partial = bool(self.quick or self.filter or self.peers != "all")
        where = place(self.out, device, partial, "-forward" if self.forward else "")
        environment, options = report.environment(device), plain(self)
        path, names = where.with_suffix(".json"), [group.name for group in groups]
        tables: report.Tables = {}
        if self.resume and path.exists():
            tables = report.read(path, environment, options)
        left = [group for group in groups if group.name not in tables]

        def content() -> dict[str, Any]:
            ordered = {name: tables[name] for name in names if name in tables}
            return report.record(environment, options, ordered, whole=len(names))

        try:
            with CONSOLE.status("") as status:
                measured = run(left, peers, patience, forward=self.forward, told=status.update)
                for floor, found in measured:
                    tables[floor.group] = (floor, found)
                    report.print_group(CONSOLE, floor, found)
                    records.write_json(path, content())
        finally:
            if tables:
                report.draw(content(), where.with_suffix(".png"))
                rows = [row for _, found in tables.values() for row in found]
                report.print_end(CONSOLE, rows, peers.absent)
                CONSOLE.print(f"{where}.json and .png", highlight=False)


@dataclasses.dataclass(frozen=True)
class Scaling:
    """Time and memory of every loss as the number of logits grows."""

    device: Literal["cpu", "gpu", "tpu"] | None = None
    """Where to run; default: where JAX would."""
    filter: str = ""
    """Regular expression that is searched in the loss's name."""
    quick: bool = False
    """Up to 10⁶ instead of 10⁷ logits, and fewer samples."""
    out: Path | None = None
    """Folder for JSON and chart; default: benchmarks/results for a full run, else
    runs/benchmarks."""

    def __call__(self) -> None:
        device = use(self.device)
        losses = named(self.filter)
        sizes = [10**k for k in range(3, 7 if self.quick else 8)]
        patience = Patience(0.3, 1, 3) if self.quick else Patience(2.0, 2, 9)
        where = place(self.out, device, bool(self.quick or self.filter), "-scaling")
        found: list[scaling.Growth] = []
        try:
            with CONSOLE.status("") as status:
                for growth in scaling.grow(losses, sizes, patience, status.update):
                    found.append(growth)
        finally:
            if found:
                complete = len(found) == len(losses)
                environment = report.environment(device)
                content = scaling.record(environment, plain(self), found, complete=complete)
                records.write_json(where.with_suffix(".json"), content)
                scaling.draw(content, where.with_suffix(".png"))
                scaling.print_growth(CONSOLE, found)
                CONSOLE.print(f"{where}.json and .png", highlight=False)


@dataclasses.dataclass(frozen=True)
class Microbatch:
    """Time, memory and gradient error of a batch in parts, against the whole."""

    device: Literal["cpu", "gpu", "tpu"] | None = None
    """Where to run; default: where JAX would."""
    quick: bool = False
    """A small batch and few samples: does it run here?"""
    out: Path | None = None
    """Folder for JSON and chart; default: benchmarks/results for a full run, else
    runs/benchmarks."""

    def __call__(self) -> None:
        device = use(self.device)
        size = microbatch.QUICK if self.quick else microbatch.FULL
        patience = Patience(0.3, 1, 3) if self.quick else Patience()
        where = place(self.out, device, self.quick, "-microbatch")
        found: list[microbatch.Row] = []
        complete = False
        try:
            with CONSOLE.status("") as status:
                for rows in microbatch.compare(size, patience, status.update):
                    found += rows
            complete = True
        finally:
            if found:
                environment = report.environment(device)
                content = microbatch.record(
                    environment, plain(self), size, found, complete=complete
                )
                records.write_json(where.with_suffix(".json"), content)
                microbatch.draw(content, where.with_suffix(".png"))
                microbatch.print_rows(CONSOLE, size, found)
                CONSOLE.print(f"{where}.json and .png", highlight=False)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What XLA's compiler for an accelerator makes of every loss, read off its program."""

    target: Literal["h100", "v5e", "v6e", "cpu"] = "h100"
    """An NVIDIA H100, a TPU v5e or v6e, or this processor. None of the others is needed, only
    their compilers: pip install -e '.[accelerators]'."""
    filter: str = ""
    """Regular expression that is searched in loss/workload/type, or in step/type."""
    dtypes: str = ",".join(work.DTYPES)
    """Names with commas between."""
    peers: str = "all"
    """all, none, or names with commas between: jnp, optax, keras, rax."""
    steps: bool = False
    """The training steps of three experiments, instead of the losses."""
    out: Path | None = None
    """Folder for JSON and chart; default: benchmarks/results for a full run, else
    runs/benchmarks."""
    resume: bool = False
    """Go on with this very run, which was stopped: rows that are there are not compiled again."""

    def __call__(self) -> None:
        dtypes = plan.dtypes(self.dtypes)
        if self.steps:
            return self.of_steps(dtypes)
        wanted = plan.by_name(choose(work.FULL, dtypes, self.filter))
        device = planned(self.target)  # before a peer looks for others
        peers = peers_.load(plan.in_jax(self.peers))
        where = self.folder() / f"plan-{self.target}"
        environment, options = plan_report.environment(self.target, device), plain(self)
        path, found = where.with_suffix(".json"), dict[str, plan.Row]()
        if self.resume and path.exists():
            found = plan_report.read(path, environment, options)
        left = [each for name, each in wanted.items() if name not in found]

        def content() -> dict[str, Any]:
            ordered = [found[name] for name in wanted if name in found]
            return plan_report.record(environment, options, ordered, whole=len(wanted))

        try:
            with CONSOLE.status("") as status:
                for row in plan.rows(left, peers, device, status.update):
                    found[row.name] = row
                    records.write_json(path, content())
        finally:
            if found:
                plan_report.draw(content(), where.with_suffix(".png"))
                plan_report.print_rows(CONSOLE, list(found.values()), peers.absent)
                CONSOLE.print(f"{where}.json and .png", highlight=False)

    def folder(self) -> Path:
        partial = (self.filter, self.dtypes, self.peers) != ("", Plan.dtypes, "all")
        return self.out or (report.SCRATCH if partial else report.RECORDED)

    def of_steps(self, dtypes: list[str]) -> None:
        wanted = plan_steps.choose(dtypes, self.filter)
        device, found = planned(self.target), list[plan_steps.Step]()
        environment = plan_report.environment(self.target, device)
        path = self.folder() / f"plan-{self.target}-steps.json"
        with CONSOLE.status("") as status:
            for step in plan_steps.compiled(wanted, device, status.update):
                found.append(step)
                records.write_json(path, plan_steps.record(environment, plain(self), found))
        plan_steps.print_steps(CONSOLE, found)
        CONSOLE.print(path, highlight=False)


def use(name: str | None) -> Any:
    """Make the named kind of device the default, and return it.

    Raises:
      ValueError: if there is none here.
    """
    if name is None:
        return jax.devices()[0]
    try:
        device = jax.devices(name)[0]
    except RuntimeError as error:
        raise ValueError(f"JAX finds no {name} here: {error}") from error
    jax.config.update("jax_default_device", device)
    return device


def planned(target: str) -> Any:
    """The device to compile for; JAX itself stays on the CPU, and looks for no other."""
    jax.config.update("jax_platforms", "cpu")
    return targets.device(target)


def named(pattern: str) -> list[Loss]:
    """The losses whose names hold the regular expression. Raises `ValueError`."""
    found = [loss for loss in LOSSES if expression(pattern).search(loss.label)]
    if not found:
        exist = ", ".join(loss.label for loss in LOSSES)
        raise ValueError(f"--filter {pattern!r} matches no loss; there are: {exist}")
    return found


def place(out: Path | None, device: Any, partial: bool, suffix: str) -> Path:
    """Where results go, without an ending; part of a run never replaces a recorded whole one."""
    folder = out or (report.SCRATCH if partial else report.RECORDED)
    kind = "-".join(device.device_kind.lower().split())
    return folder / f"{kind}{suffix}"


def plain(command: Any) -> dict[str, Any]:
    """The options of a command as a record holds them."""
    return report.plain(dataclasses.asdict(command))


OTHERS: dict[str, type[Any]] = {"scaling": Scaling, "microbatch": Microbatch, "plan": Plan}


def main(arguments: list[str]) -> int:
    """Run a command; an error that a user can mend is one line, not a traceback."""
    if arguments[:1] == ["device"]:
        return device_.main(arguments[1:])
    import tyro  # which a bare machine lacks, and that command does without

    program, begun = "python -m benchmarks", time.perf_counter()
    try:
        if arguments and (other := OTHERS.get(arguments[0])):
            command: Any = tyro.cli(other, args=arguments[1:], prog=f"{program} {arguments[0]}")
        else:
            command = tyro.cli(Benchmark, args=arguments, prog=program, description=__doc__)
        command()
    except KeyboardInterrupt:
        CONSOLE.print("interrupted", style="yellow")
        return 130
    except (OSError, ValueError) as error:
        CONSOLE.print(f"error: {error}", style="bold red", markup=False)
        return 1
    CONSOLE.print(f"{time.perf_counter() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
