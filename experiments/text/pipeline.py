"""Batches for several runs at once, of few shapes: texts of like length share a batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from experiments.text.words import Rows

Batch = dict[str, np.ndarray]  # "ids" [R, B, L] and "labels" [R, B]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which texts every step of every run trains on: a function of the seeds and the step alone.

    All runs have batches of one length in a step, so that one compiled program per length serves
    them all. Each run passes through its own texts of a length in a new random order every time.
    """

    rows: Rows
    labels: np.ndarray  # [n]
    members: list[list[np.ndarray]]  # for each run and length the texts, repeated if oversampled
    edges: np.ndarray  # the lengths [K]
    schedule: np.ndarray  # for each step which length
    turns: np.ndarray  # for each step how often its length came before
    seeds: Sequence[int]
    batch_size: int

    def batches(self, start: int) -> Iterator[Batch]:
        """The batches from step `start` on."""
        for step in range(start, len(self.schedule)):
            bucket, turn = self.schedule[step], self.turns[step]
            chosen = np.stack(
                [
                    _draw(members[bucket], turn, self.batch_size, (seed, int(bucket)))
                    for members, seed in zip(self.members, self.seeds, strict=True)
                ]
            )
            run = np.arange(len(self.seeds))[:, None]
            yield {
                "ids": self.rows.ids[run, chosen, : self.edges[bucket]],
                "labels": self.labels[chosen].astype(np.float32),
            }


def plan(
    rows: Rows,
    labels: np.ndarray,
    train: Sequence[np.ndarray],
    edges: np.ndarray,
    *,
    seeds: Sequence[int],
    epochs: int,
    batch_size: int,
    oversample: bool = False,
) -> Plan:
    """Plan the training of one run for each of `train` and `seeds`.

    Every length gets its share of the steps. With `oversample` the rare class's texts are repeated
    until both classes are equally frequent; the number of steps stays that of the texts.
    """
    pools = [
        _balanced(part, labels, seed) if oversample else part
        for part, seed in zip(train, seeds, strict=True)
    ]
    edges = _shared_edges(rows.lengths, pools, edges)
    buckets = [np.searchsorted(edges, rows.lengths[pool]) for pool in pools]
    members = [
        [pool[of == bucket] for bucket in range(len(edges))]
        for pool, of in zip(pools, buckets, strict=True)
    ]
    shares = np.mean([np.bincount(of, minlength=len(edges)) / len(of) for of in buckets], axis=0)
    steps = epochs * max(1, round(float(np.mean([len(part) for part in train])) / batch_size))
    places = (np.arange(steps) + 0.5) / steps
    schedule = np.searchsorted(np.cumsum(shares)[:-1], places)
    schedule = np.random.default_rng(list(seeds)).permutation(schedule)
    turns = np.zeros(steps, int)
    for bucket in range(len(edges)):
        turns[schedule == bucket] = np.arange(np.sum(schedule == bucket))
    return Plan(rows, labels, members, edges, schedule, turns, seeds, batch_size)


def _shared_edges(
    lengths: np.ndarray, pools: Sequence[np.ndarray], edges: np.ndarray
) -> np.ndarray:
    """Those of `edges` at which every run has texts; a text goes to the next that is left."""
    kept: list[int] = []
    shorter = 0
    for edge in edges[:-1]:
        if all(np.any((lengths[pool] > shorter) & (lengths[pool] <= edge)) for pool in pools):
            kept.append(int(edge))
            shorter = int(edge)
    while kept and not all(np.any(lengths[pool] > kept[-1]) for pool in pools):
        kept.pop()
    return np.array([*kept, int(edges[-1])])


def _balanced(part: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """The texts of `part`, those of the smaller class repeated as evenly as can be."""
    classes = [part[labels[part] == value] for value in (False, True)]
    smaller, larger = sorted(classes, key=len)
    shuffled = np.random.default_rng(seed).permutation(smaller)
    return np.concatenate([larger, np.resize(shuffled, len(larger))])


def _draw(members: np.ndarray, turn: int, batch_size: int, key: tuple[int, int]) -> np.ndarray:
    """The `turn`-th batch of a stream of permutations of `members`."""
    passes, places = np.divmod(turn * batch_size + np.arange(batch_size), len(members))
    orders = {
        number: np.random.default_rng((*key, int(number))).permutation(len(members))
        for number in np.unique(passes)
    }
    return members[[orders[number][place] for number, place in zip(passes, places, strict=True)]]
