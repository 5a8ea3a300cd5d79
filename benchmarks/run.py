"""A run: choose rows, show each equal to its peers, time all of a group in turns, judge."""

from __future__ import annotations

import dataclasses
import gc
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks import measure, torch_peers, work
from benchmarks.losses import LOSSES, Loss
from benchmarks.measure import Patience, Runner
from benchmarks.peers import EAGER, Peers, on_torch
from benchmarks.work import ARGUMENTS, Arrays, Workload


@dataclasses.dataclass(frozen=True)
class Group:
    """Rows that share their arrays, and therefore their yardstick."""

    workload: Workload
    kind: str
    dtype: str
    losses: tuple[Loss, ...]

    @property
    def name(self) -> str:
        return f"{self.workload.name}, {self.kind}, {self.dtype}"


@dataclasses.dataclass(frozen=True)
class Timing:
    """What was measured of one function."""

    ms: tuple[float, float, float]
    """Median, first and third quartile."""
    rounds: int
    compile_s: float
    temp_mib: float | None

    @property
    def median(self) -> float:
        return self.ms[0]


@dataclasses.dataclass(frozen=True)
class Row:
    """One loss on one workload in one type, beside its peers."""

    loss: str
    workload: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    forward: bool
    ours: Timing
    floor_ms: float
    gigabytes: float
    """What a pass over the data must move, in 1e9 bytes."""
    goal: float | None
    ahead: Mapping[str, float]
    peers: Mapping[str, Timing]
    unequal: Mapping[str, str]
    """Peers that were not timed, and why."""

    @property
    def times_floor(self) -> float:
        return self.ours.median / self.floor_ms

    @property
    def best(self) -> tuple[str, float] | None:
        """The fastest peer, and how many times as long as ours it takes."""
        if not self.peers:
            return None
        name = min(self.peers, key=lambda peer: self.peers[peer].median)
        return name, self.peers[name].median / self.ours.median

    def missed(self) -> list[str]:
        """The goals that this row does not reach, in words; of absent peers nothing is asked."""
        short = []
        if self.goal is not None and self.times_floor > self.goal:
            short.append(f"{self.times_floor:.2f}x floor, goal {self.goal:g}")
        for who, goal in self.ahead.items():
            rivals = {"eager": EAGER, "any": tuple(self.peers)}.get(who, (who,))
            found = [self.peers[name].median for name in rivals if name in self.peers]
            if found and (ratio := min(found) / self.ours.median) < goal:
                short.append(f"{ratio:.2f}x as fast as {who}, goal {goal:g}")
        return short


@dataclasses.dataclass(frozen=True)
class Floor:
    """The yardstick of a group."""

    group: str
    ms: Mapping[str, float]
    """Medians of its parts."""
    forward: bool
    gigabytes: float
    complete: bool = True
    """Whether everything in its group ran as often as it should."""

    @property
    def pass_ms(self) -> float:
        return self.ms["sum"] + (0.0 if self.forward else self.ms["product"])


def choose(
    workloads: Sequence[Workload],
    dtypes: Sequence[str],
    pattern: str = "",
    losses: Sequence[Loss] = tuple(LOSSES),
) -> list[Group]:
    """The groups whose rows' names, ``loss/workload/dtype``, hold the regular expression.

    Raises:
      ValueError: if it is none, or nothing matches; what exists is listed.
    """
    searched = expression(pattern)
    groups = []
    for dtype in dtypes:
        for workload in workloads:
            for kind in workload.kinds:
                found = tuple(
                    loss
                    for loss in losses
                    if loss.kind == kind
                    and searched.search(f"{loss.label}/{workload.name}/{dtype}")
                )
                groups += [Group(workload, kind, dtype, found)] if found else []
    if not groups:
        names = ", ".join(dict.fromkeys(loss.label for loss in losses))
        places = ", ".join(w.name for w in workloads)
        raise ValueError(
            f"--filter {pattern!r} matches no row. Rows are called loss/workload/type; "
            f"losses: {names}; workloads: {places}; types: {', '.join(dtypes)}"
        )
    return groups


def expression(pattern: str) -> re.Pattern[str]:
    """A regular expression that a user has typed. Raises `ValueError`."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"--filter {pattern!r} is no regular expression: {error}") from error


class Interrupted(KeyboardInterrupt):
    """Ctrl-C; what was measured before it was handed on."""


def run(
    groups: Iterable[Group],
    peers: Peers,
    patience: Patience,
    *,
    forward: bool = False,
    told: Callable[[str], None] = lambda _: None,
) -> Iterator[tuple[Floor, list[Row]]]:
    """Measure every group; after Ctrl-C hand on what there is, then raise `Interrupted`."""
    for group in groups:
        arrays = work.draw(group.kind, group.workload.shape, group.dtype)
        measured = _Measured(group, arrays, peers, patience, forward, told)
        stopped = False
        try:
            measured.prepare()
            measured.time()
        except KeyboardInterrupt:
            stopped = True
        if measured.has_yardstick():
            floor, rows = measured.results()
            yield dataclasses.replace(floor, complete=not stopped), rows
        if stopped:
            raise Interrupted
        del arrays, measured  # some are of gigabytes: before the next ones are made
        torch_peers.forget()
        gc.collect()


class _Measured:
    """The runners of one group, and what they came to."""

    def __init__(
        self,
        group: Group,
        arrays: Arrays,
        peers: Peers,
        patience: Patience,
        forward: bool,
        told: Callable[[str], None],
    ):
        self.group, self.arrays, self.peers, self.patience = group, arrays, peers, patience
        self.forward, self.told = forward, told
        self.first = ARGUMENTS[group.kind][0]
        self.floor: list[Runner] = []
        self.runners: list[tuple[Loss, Runner, list[Runner], dict[str, str]]] = []
        self.tensors: Any = None

    def prepare(self) -> None:
        """Compile everything, and keep of the peers those that are equal to ours."""
        needs = {loss.needs for loss in self.group.losses}
        gradient = not (self.forward or all(x.forward_only for x in self.group.losses))
        kind = self.group.kind
        self.floor = measure.yardstick(kind, self.arrays, sorted(needs), gradient=gradient)
        for runner in self.floor:
            measure.warm_up(runner, self.patience)
        for loss in self.group.losses:
            self.told(f"{self.group.name}: {loss.label}, compile and compare")
            self.runners.append(self._competitors(loss))

    def _competitors(self, loss: Loss) -> tuple[Loss, Runner, list[Runner], dict[str, str]]:
        forward = self.forward or loss.forward_only
        ours = measure.compiled("ours", loss, self.arrays, self.first, forward=forward)
        expected = ours.result()
        measure.warm_up(ours, self.patience)
        equal, unequal = [], {}
        for name, function in self.peers.of(loss.label).items():
            try:
                runner = self._peer(name, function, forward)
                reason = measure.difference(expected, runner.result(), self.group.dtype)
            except Exception as error:  # whatever another library raises is its result
                runner, reason = None, f"{type(error).__name__}: {str(error).split(chr(10))[0]}"
            if reason or not runner:
                unequal[name] = str(reason)
            else:
                measure.warm_up(runner, self.patience)
                equal.append(runner)
        return loss, ours, equal, unequal

    def _peer(self, name: str, function: Callable[[Any], Any], forward: bool) -> Runner:
        if not on_torch(name):
            return measure.compiled(name, function, self.arrays, self.first, forward=forward)
        kind = self.group.kind
        if self.tensors is None:
            if reason := torch_peers.usable(_device(self.arrays)):
                raise ValueError(reason)
            self.tensors = torch_peers.tensors(self.arrays, kind)
        return torch_peers.runner(name, function, self.tensors, kind, self.first, forward=forward)

    def time(self) -> None:
        everyone = [*self.floor]
        for _, ours, equal, _ in self.runners:
            everyone += [ours, *equal]
        total, done = sum(r.rounds for r in everyone), 0

        def count() -> None:
            nonlocal done
            done += 1
            self.told(f"{self.group.name}: {done} of {total} runs")

        measure.in_turns(everyone, count)

    def has_yardstick(self) -> bool:
        """Whether anything can be judged; not if Ctrl-C came early."""
        return bool(self.floor) and all(r.samples for r in self.floor)

    def results(self) -> tuple[Floor, list[Row]]:
        """Everything that has run at least once."""
        parts = {r.name: 1e3 * measure.quartiles(r.samples)[0] for r in self.floor}
        group, rows = self.group, []
        forward = "product" not in parts
        gigabytes = work.bytes_moved(group.kind, self.arrays, forward=forward) / 1e9
        for loss, ours, equal, unequal in self.runners:
            if not ours.samples:
                continue
            alone = self.forward or loss.forward_only
            moved = work.bytes_moved(group.kind, self.arrays, forward=alone) / 1e9
            # Rows in bfloat16 are only asked to keep up with the memory.
            ahead = loss.ahead if group.dtype == "float32" and not alone else {}
            rows.append(
                Row(
                    loss=loss.label,
                    workload=group.workload.name,
                    kind=group.kind,
                    shape=group.workload.shape,
                    dtype=group.dtype,
                    forward=alone,
                    ours=_timing(ours),
                    floor_ms=measure.floor_seconds(parts, loss.needs, forward=alone),
                    gigabytes=moved,
                    goal=loss.goal,
                    ahead=dict(ahead),
                    peers={r.name: _timing(r) for r in equal if r.samples},
                    unequal=unequal,
                )
            )
        return Floor(group.name, parts, forward, gigabytes), rows


def _timing(runner: Runner) -> Timing:
    middle, low, high = (1e3 * x for x in measure.quartiles(runner.samples))
    temp = None if runner.temp_bytes is None else runner.temp_bytes / 2**20
    return Timing((middle, low, high), len(runner.samples), runner.compile_s, temp)


def _device(arrays: Arrays) -> Any:
    return next(iter(next(iter(arrays.values())).devices()))
