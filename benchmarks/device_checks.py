"""Value and gradient of every loss on a device, against float64 loops and against the processor.

At ordinary numbers the judge is the definition in `tests/references`, plain loops over float64
numbers: the value is compared with it, and the gradient with its central differences. At the
extremes, where loops overflow, all must be finite, and what the processor finds is the judge.
The numbers are such as bfloat16 has, so that one definition judges both types.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.torch_peers import cores
from benchmarks.work import DTYPES
from tests.references import along_axes
from tests.rows import ROWS, Row

FAMILIES = ("elements", "sets", "rankings", "pairs", "distributions")
MAX = float(np.finfo(np.float32).max)
EXTREMES = np.array([0.0, 1e-30, 1e-4, 20.0, 88.0, 104.0, 1e4, 1e19, 1e30, MAX])
EXTREMES = np.concatenate([-EXTREMES[:0:-1], EXTREMES])
STEP = 1e-5  # of central differences
# Errors, over the size of what is expected and FLOOR: of values, of gradients, and of both against
# the processor.
# A value is float32 in either type; a bfloat16 gradient is rounded to eight bits at its end.
FLOOR = 0.05
TOLERANCE = {"float32": (5e-5, 5e-4, 2e-4), "bfloat16": (5e-5, 1e-2, 1e-2)}


@dataclasses.dataclass(frozen=True)
class Check:
    """What was found of one loss in one type."""

    loss: str
    dtype: str
    value_error: float | None = None
    """Largest error against the definition, relative to its size and `FLOOR`."""
    gradient_error: float | None = None
    extremes_error: float | None = None
    """Against the processor; None if that is the device."""
    failed: str = ""
    """What is wrong, in words."""


@dataclasses.dataclass(frozen=True)
class Case:
    """Batches of a row, along a new first axis: ordinary ones, then extreme ones."""

    row: Row
    arrays: tuple[np.ndarray, ...]
    ordinary: int

    @property
    def moving(self) -> tuple[int, ...]:
        """Which arrays are numbers."""
        return tuple(i for i, x in enumerate(self.arrays) if x.dtype.kind == "f")

    def program(self) -> Callable[..., Any]:
        """Value and gradients of every batch."""

        def total(*arrays: jax.Array) -> jax.Array:
            return self.row.total(*arrays).astype(jnp.float32)

        return jax.vmap(jax.value_and_grad(total, argnums=self.moving))

    def inputs(self, dtype: str) -> list[jax.Array]:
        kept = DTYPES[dtype]
        return [jnp.asarray(x, kept if x.dtype.kind == "f" else None) for x in self.arrays]


def chosen(*, quick: bool = False) -> list[Row]:
    """Every row of a loss, or one of each function."""
    rows = [row for row in ROWS if row.family in FAMILIES and row.reference]
    return list({(r.name, r.softmax): r for r in reversed(rows)}.values())[::-1] if quick else rows


def name(row: Row) -> str:
    return f"{row.id} (classes)" if row.softmax and row.family == "sets" else row.id


def run(
    rows: Sequence[Row],
    dtypes: Sequence[str],
    told: Callable[[str], None] = lambda _: None,
) -> Iterator[Check]:
    """Check rows, as many at once as there are cores, of which compiling takes most.

    They come as they are done: a definition that integrates has seconds of Python to run, and those
    behind it need not wait.
    """
    with ThreadPoolExecutor(cores()) as pool:
        found = {pool.submit(check, row, dtypes): name(row) for row in rows}
        try:
            for each in as_completed(found):
                told(f"checked {found[each]}")
                yield from each.result()
        finally:  # also if time is over
            pool.shutdown(wait=False, cancel_futures=True)


def check(row: Row, dtypes: Sequence[str]) -> list[Check]:
    """What a row is worth in each type; whatever it raises is its failure."""
    try:
        case = case_of(row)
        judge = definition(case)
        return [_judged(case, judge, dtype) for dtype in dtypes]
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).split(chr(10))[0]}"
        return [Check(name(row), dtype, failed=reason) for dtype in dtypes]


def _judged(case: Case, judge: Judge, dtype: str) -> Check:
    device = jax.devices()[0]
    values, gradients = _on(device, case, dtype)
    there = None if device.platform == "cpu" else _on(jax.devices("cpu")[0], case, dtype)
    faults, (of_value, of_gradient, of_extreme) = [], TOLERANCE[dtype]
    if not all(np.isfinite(x).all() for x in (values, *gradients)):
        faults.append("not finite at an extreme")
    value_error = worst(values[: case.ordinary], judge.values)
    gradient_error = max(slope.error(gradients) for slope in judge.slopes)
    extremes_error = None
    if there is not None:
        pairs = zip((values, *gradients), (there[0], *there[1]), strict=True)
        extremes_error = max(worst(ours, theirs) for ours, theirs in pairs)
    for what, error, tolerance in (
        ("value", value_error, of_value),
        ("gradient", gradient_error, of_gradient),
        ("extremes, against the processor,", extremes_error or 0.0, of_extreme),
    ):
        if not error <= tolerance:
            faults.append(f"{what} off by {error:.2g}")
    failed = "; ".join(faults)
    return Check(name(case.row), dtype, value_error, gradient_error, extremes_error, failed)


def _on(device: Any, case: Case, dtype: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """Values and gradients in float64, as a device computes them."""
    with jax.default_device(device):
        values, gradients = jax.jit(case.program())(*case.inputs(dtype))
    wide = [np.asarray(x.astype(jnp.float32), np.float64) for x in (values, *gradients)]
    return wide[0], wide[1:]


def worst(found: Any, expected: Any) -> float:
    """The largest error over the size of what is expected; NaN counts as infinite."""
    found, expected = (np.asarray(x, np.float64) for x in (found, expected))
    error = np.abs(found - expected) / (np.abs(expected) + FLOOR)
    return float(np.nan_to_num(error, nan=math.inf).max(initial=0.0))


# --- batches --------------------------------------------------------------------------------------


def rounded(x: Any) -> np.ndarray:
    """To what bfloat16 has, in float32; beyond its end its largest number."""
    top = float(jnp.finfo(jnp.bfloat16).max)
    return np.asarray(np.clip(x, -top, top), jnp.bfloat16).astype(np.float32)


def case_of(row: Row) -> Case:
    """The batches on which a row is asked."""
    rng = np.random.default_rng(0)
    ordinary, extreme = _BATCHES[row.family](row, rng)
    arrays = zip(*ordinary, *extreme, strict=True)
    stacked = [np.stack([np.asarray(x) for x in each]) for each in arrays]
    kept = tuple(rounded(x) if x.dtype.kind == "f" else x.astype(np.int32) for x in stacked)
    return Case(row, kept, len(ordinary))


Batches = tuple[list[Any], list[Any]]


def _elements(row: Row, rng: np.random.Generator) -> Batches:
    if not row.softmax:
        z = np.concatenate([rng.normal(scale=3.0, size=120), EXTREMES])
        batches = list(itertools.product(z, (0, 1)))
        return batches[:240], batches[240:]
    some = (-MAX, -1e4, 0.0, 60.0, 1e19, MAX)
    sides = itertools.product(some, some, some, (0.0, -MAX))
    logits = [*rng.normal(scale=3.0, size=(60, 4)), *map(np.array, sides)]
    batches = [(z, k % 4) for k, z in enumerate(logits)]
    return batches[:60], batches[60:]


def _sets(row: Row, rng: np.random.Generator) -> Batches:
    shape, labels = np.shape(row.batch[0]), np.asarray(row.batch[1])
    grid = np.unique(rounded(rng.normal(size=4_000)))  # no two alike, of which some losses have
    ordinary = [  # no one slope
        (factor * rng.permutation(grid)[: math.prod(shape)].reshape(shape), labels)
        for factor in (0.5, 1.0, 2.0)
    ]
    alike = [(np.full(shape, z), labels) for z in EXTREMES]
    mixed = [(rng.choice(EXTREMES, shape), labels) for _ in range(20)]
    lonely = [(rng.choice(EXTREMES, shape), np.full_like(labels, k)) for k in (0, 1)]
    return ordinary, [*alike, *mixed, *lonely]


def _pairs(row: Row, rng: np.random.Generator) -> Batches:
    def scaled(factor: float, by: Callable[[np.ndarray], np.ndarray] = lambda x: x) -> Any:
        return [factor * by(x) if x.dtype.kind == "f" else x for x in map(np.asarray, row.batch)]

    bounded = {"p", "cosines"} & set(row.names)
    ordinary = [scaled(factor) for factor in ((0.5, 1.0) if bounded else (0.5, 1.0, 2.0))]
    ends = [scaled(1.0, np.round), scaled(1.0, lambda x: 1.0 * (x == x.max(-1, keepdims=True)))]
    if bounded:
        return ordinary, ends
    signs = [scaled(factor, np.sign) for factor in (0.0, 1e-30, 1e4, 1e18)]
    return ordinary, [*ends, *signs]


DEVIATIONS, ERRORS = (1e-30, 1e-10, 1e-3, 1.0, 1e3, 1e10, 1e30), (0.0, 1e-30, 0.1, 3.0, 1e10, 1e30)


def _distributions(row: Row, rng: np.random.Generator) -> Batches:
    ordinary = list(zip(*(np.ravel(x) for x in row.batch), strict=True))
    signed = [-e for e in ERRORS[1:]] + list(ERRORS)
    if "scale" not in row.names:
        extreme = [(e, *[0.0] * (len(row.names) - 1)) for e in signed]
        extreme = [(e, e + 1.0, 0.0) for e in signed] if "lower" in row.names else extreme
        return ordinary, extreme
    grid = itertools.product(signed, DEVIATIONS)
    return ordinary, [(e, s, 0.0)[: len(row.names)] for e, s in grid]


_BATCHES: dict[str, Callable[[Row, np.random.Generator], Batches]] = {
    "elements": _elements,
    "sets": _sets,
    "rankings": _sets,
    "pairs": _pairs,
    "distributions": _distributions,
}

# --- definitions ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Slope:
    """The change of a value along a direction in each of the moving arrays."""

    batch: int
    along: list[np.ndarray]
    expected: float

    def error(self, gradients: Sequence[np.ndarray]) -> float:
        """Of the gradient's own, over the size of what it sums up."""
        parts = [g[self.batch] * v for g, v in zip(gradients, self.along, strict=True)]
        size = sum(float(np.abs(part).sum()) for part in parts) + FLOOR
        error = abs(sum(float(part.sum()) for part in parts) - self.expected) / size
        return math.inf if math.isnan(error) else error


@dataclasses.dataclass(frozen=True)
class Judge:
    """What the definition says of the ordinary batches."""

    values: np.ndarray
    slopes: list[Slope]


def definition(case: Case) -> Judge:
    """Values, and two slopes of each batch, by central differences."""
    of, rng = plain(case.row), np.random.default_rng(1)
    values, slopes = [], []
    for k in range(case.ordinary):
        at = [x[k].astype(np.float64 if x.dtype.kind == "f" else x.dtype) for x in case.arrays]
        fixed = case.row.detached(*at) if case.row.family == "distributions" else {}
        values.append(of(*at))
        for _ in range(2):
            along = [rng.normal(size=at[i].shape) for i in case.moving]
            ends = [of(*_moved(at, case.moving, along, s), **fixed) for s in (STEP, -STEP)]
            slopes.append(Slope(k, along, (ends[0] - ends[1]) / (2 * STEP)))
    return Judge(np.array(values), slopes)


def _moved(at: Any, moving: Sequence[int], along: Any, by: float) -> list[Any]:
    there = list(at)
    for i, v in zip(moving, along, strict=True):
        there[i] = at[i] + by * v
    return there


ACTIVATIONS = {jax.nn.softmax: along_axes.softmax, jax.nn.sigmoid: along_axes.sigmoid}


def plain(row: Row) -> Callable[..., float]:
    """The definition of a row as the total of one batch in float64."""
    keywords = {**row.options, **row.traced} if row.family in ("sets", "rankings") else row.traced
    options = {name: _plain(value) for name, value in keywords.items()}
    reference: Any = row.reference

    def total(*arrays: np.ndarray, **fixed: float) -> float:
        of_numbers = row.family in ("elements", "distributions")
        found = reference(*(x.tolist() if of_numbers else x for x in arrays), **options, **fixed)
        if row.family == "rankings" and isinstance(found, tuple | list):
            found = found[0]  # of a Lagrangian without what it reports
        return float(np.sum(found))

    return total


def _plain(value: Any) -> Any:
    """An activation as the definitions have it, and arrays in float64, or they would round."""
    if isinstance(value, np.ndarray):
        return value.astype(np.float64)
    return ACTIVATIONS.get(value, value) if callable(value) else value
