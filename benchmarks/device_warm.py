"""Compile the programs of many tables at once, so that a lent device waits for one of them only.

A compiler uses one or two cores for a program; a machine with an accelerator has many. What they
make lies in JAX's compilation cache, where the table that times it finds it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

from benchmarks import measure, work
from benchmarks.peers import Peers, on_torch
from benchmarks.run import Group
from benchmarks.torch_peers import cores

FEW = 4  # cores, with which nothing is gained


def keep_programs() -> tempfile.TemporaryDirectory[str] | None:
    """Switch the cache on, in a folder of its own that goes with what is returned.

    With few cores it stays off, and the times of compiling are those of a user.
    """
    if cores() <= FEW:
        return None
    folder = tempfile.TemporaryDirectory()
    jax.config.update("jax_compilation_cache_dir", folder.name)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


def warm(groups: Sequence[Group], peers: Peers, told: Callable[[str], None]) -> None:
    """Compile ours and the JAX peers of all groups, in their order, on all cores but two."""
    pool = ThreadPoolExecutor(max(cores() - 2, 1))
    begun = [pool.submit(compile_one) for compile_one in programs(groups, peers)]
    try:
        for number, each in enumerate(begun):
            told(f"compiling {number + 1} of {len(begun)}")
            each.exception()  # that is for the table to tell
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def programs(groups: Sequence[Group], peers: Peers) -> Iterator[Callable[[], Any]]:
    """What compiles each of them, from shapes alone."""
    for group in groups:
        shapes = jax.eval_shape(
            lambda g=group: work.draw(g.kind, g.workload.shape, g.dtype)  # pyright: ignore
        )
        first = work.ARGUMENTS[group.kind][0]
        for loss in group.losses:
            of = {name: f for name, f in peers.of(loss.label).items() if not on_torch(name)}
            for name, f in {"ours": loss, **of}.items():
                yield lambda n=name, f=f, s=shapes, x=first, loss=loss: measure.compiled(
                    n, f, s, x, forward=loss.forward_only
                )
