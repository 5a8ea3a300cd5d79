"""How it is measured: compile, warm up, show equal, then run everything in turns.

Runs of all competitors alternate, in another order each round, so that a machine that is busy for a
while slows all alike. Each sample runs a function once before it is timed: that pays for the memory
that its neighbour has left to the allocator, and wakes the threads that its neighbour has put to
sleep. What runs for seconds outlasts that; what runs for microseconds is timed many times at once.
"""

from __future__ import annotations

import dataclasses
import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.work import ARGUMENTS, SCORES, Arrays, product

# Relative errors up to which two results are the same: of the value, and of the gradient as a
# vector. In bfloat16 libraries round each of their steps, which leaves two digits.
TOLERANCE = {"float32": (1e-4, 1e-3), "bfloat16": (2e-2, 5e-2)}

Result = tuple[float, np.ndarray | None]


@dataclasses.dataclass
class Runner:
    """Something that can be timed: it is compiled and has run."""

    name: str
    run: Callable[[], Any]
    """Runs once and waits for the device."""
    result: Callable[[], Result]
    """Value, and gradient with the classes last, in float32."""
    compile_s: float
    temp_bytes: int | None = None
    samples: list[float] = dataclasses.field(default_factory=list)
    rounds: int = 0
    block: int = 1
    """How many runs make a sample, which is their mean."""
    primed: bool = True
    """Whether a run that is not counted goes before each that is."""


@dataclasses.dataclass(frozen=True)
class Patience:
    """How often something is run: as often as fits `seconds`, between `fewest` and `most`.

    What takes `long` seconds is measured only once, and a `sample` takes about so many seconds.
    """

    seconds: float = 2.0
    fewest: int = 3
    most: int = 9
    long: float = 10.0
    sample: float = 2e-3

    def rounds(self, once: float) -> int:
        if once >= self.long:
            return 1
        return min(max(int(self.seconds / (2 * once + 1e-9)), self.fewest), self.most)

    def runs(self, once: float) -> int:
        """How many make a sample; of the shortest no more than a hundred."""
        return min(max(round(self.sample / (once + 1e-9)), 1), 100)


def compiled(
    name: str, function: Callable[[Any], jax.Array], arrays: Arrays, first: str, *, forward: bool
) -> Runner:
    """A runner of `function(a)`, or of it and its gradient in the array named `first`."""

    def of(x: jax.Array, rest: Arrays) -> jax.Array:
        return function(SimpleNamespace(**rest, **{first: x}))

    x, rest = arrays[first], {k: v for k, v in arrays.items() if k != first}
    start = time.perf_counter()
    executable = jax.jit(of if forward else jax.value_and_grad(of)).lower(x, rest).compile()
    compile_s = time.perf_counter() - start

    def run() -> Any:
        return jax.block_until_ready(executable(x, rest))

    def result() -> Result:
        out = run()
        if forward:
            return float(out), None
        return float(out[0]), np.asarray(out[1].astype(jnp.float32))

    return Runner(name, run, result, compile_s, _temporary(executable))


def yardstick(
    kind: str, arrays: Arrays, needs: Sequence[str], *, gradient: bool = True
) -> list[Runner]:
    """What no loss can avoid, each part compiled by itself.

    A value is a pass that reads every array once, ``sum(x * y)``; a gradient is one more that
    writes, ``x * y``. Sort-based losses add a key-value sort, all-pairs losses the products.
    """
    first = ARGUMENTS[kind][0]

    def total(a: Any) -> jax.Array:
        return jnp.sum(product(kind, vars(a)), dtype=jnp.float32)

    def written(a: Any) -> jax.Array:
        return product(kind, vars(a))

    def ordered(a: Any) -> Any:
        x, y, *_ = (getattr(a, name) for name in ARGUMENTS[kind])
        y = jnp.broadcast_to(y[..., None] if y.ndim < x.ndim else y, x.shape)
        sets = 1 if kind in SCORES else x.shape[-1]
        columns = tuple(jnp.reshape(t, (-1, sets)).T for t in (x, y))
        return jax.lax.sort(columns, num_keys=1)

    def pairs(a: Any) -> jax.Array:
        x = getattr(a, first)
        return x @ x.T

    parts: dict[str, Callable[[Any], Any]] = {"sum": total}
    if gradient:
        parts["product"] = written
    parts |= {"sort": ordered} if "sort" in needs else {}
    parts |= {"pairs": pairs} if "pairs" in needs else {}
    return [compiled(name, of, arrays, first, forward=True) for name, of in parts.items()]


def floor_seconds(parts: dict[str, float], needs: str, *, forward: bool) -> float:
    """The least time of a row, from the seconds of the yardstick's parts."""
    seconds = parts["sum"] + (0.0 if forward else parts["product"])
    if needs == "sort":
        seconds += parts["sort"]
    if needs == "pairs":  # the gradient is one more product of the same size
        seconds += parts["pairs"] * (1 if forward else 2)
    return seconds


def difference(ours: Result, theirs: Result, dtype: str) -> str | None:
    """What distinguishes two results, in words; None if they are equal.

    Where neither has a gradient, as in a run of the values alone, values are compared.
    """
    of_value, of_gradient = TOLERANCE[dtype]
    (value, gradient), (other, other_gradient) = ours, theirs
    if not abs(value - other) <= of_value * max(abs(value), abs(other)):
        return f"value {other:.6g} instead of {value:.6g}"
    if gradient is None or other_gradient is None:
        return None
    if gradient.shape != other_gradient.shape:
        return f"gradient of shape {other_gradient.shape} instead of {gradient.shape}"
    size = float(np.linalg.norm(gradient.ravel()))
    error = float(np.linalg.norm((gradient - other_gradient).ravel()))
    if not error <= of_gradient * size:
        return f"gradient off by {error / size if size else math.inf:.2g} of its length"
    return None


def warm_up(runner: Runner, patience: Patience) -> None:
    """Run once for the caches and once for the clock, and decide how often to run.

    What takes longer than all its runs may is not run for the caches, which it outlasts.
    """
    once = _timed(runner.run)
    runner.primed = once < patience.seconds
    once = _timed(runner.run) if runner.primed else once
    runner.rounds, runner.block = patience.rounds(once), patience.runs(once)


def in_turns(runners: Sequence[Runner], done: Callable[[], None] = lambda: None) -> None:
    """Sample every runner as often as it was granted, all of them once a round.

    Each round has an order of its own: PyTorch's threads go on spinning for a while, which would
    be to the cost of whoever always runs after it.
    """
    order, drawn = list(runners), random.Random(0)
    for number in range(max((r.rounds for r in runners), default=0)):
        drawn.shuffle(order)
        for runner in order:
            if number < runner.rounds:
                if runner.primed:
                    runner.run()
                runner.samples.append(_timed(runner.run, runner.block))
                done()


def _timed(run: Callable[[], Any], block: int = 1) -> float:
    """The mean seconds of so many runs."""
    start = time.perf_counter()
    for _ in range(block):
        run()
    return (time.perf_counter() - start) / block


def quartiles(samples: Sequence[float]) -> tuple[float, float, float]:
    """Median, first and third quartile."""
    if len(samples) == 1:
        return samples[0], samples[0], samples[0]
    low, middle, high = statistics.quantiles(samples, n=4, method="inclusive")
    return middle, low, high


def _temporary(executable: Any) -> int | None:
    """Peak temporary memory; not every backend knows it."""
    analysis = executable.memory_analysis()
    return getattr(analysis, "temp_size_in_bytes", None)
