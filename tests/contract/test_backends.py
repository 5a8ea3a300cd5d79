"""What each backend computes in its own way: the ways of GPU and TPU, asked on the CPU.

`jax.lax.platform_dependent` is made to choose as it would for another backend, whose form must then
give what the CPU's gives: values, gradients, and how these change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import chex
import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest

from diffmetrics._core.class_labels import rows
from tests.contract.test_what_people_pass_in import is_float
from tests.rows import Row, over

OTHERS = ("cuda", "tpu")
# Twelve orders of magnitude, and numbers whose squares and exponentials are none.
SCALES = (1.0, 1e3, 1e30)


Choices = dict[str, list[str]]


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Choices]]:
    """Call it with a backend, and what is traced from then on is of that.

    It returns what every backend chooses, wherever this one comes to a choice. One that chooses the
    same everywhere comes to no others, so what is traced is of that one, too.
    """

    def choose(platform: str) -> Choices:
        choices: Choices = {name: [] for name in ("cpu", *OTHERS)}

        def of(*arrays: Any, default: Any = None, **others: Any) -> Any:
            for name, found in choices.items():
                found.append(name if name in others else "default")
            return others.get(platform, default)(*arrays)

        monkeypatch.setattr(jax.lax, "platform_dependent", of)
        jax.clear_caches()
        return choices

    yield choose
    monkeypatch.undo()
    jax.clear_caches()


def moving(row: Row) -> list[int]:
    return [i for i, x in enumerate(row.batch) if is_float(x)]


def everything(row: Row) -> Callable[..., Any]:
    """Value, gradient in all floating arrays, and its change along the arrays themselves."""

    def total(floats: dict[int, Any]) -> Any:
        value = row(*(floats.get(i, x) for i, x in enumerate(row.batch)))
        leaves = [x for x in jax.tree.leaves(value) if jnp.issubdtype(x.dtype, jnp.floating)]
        return sum(jnp.sum(x) for x in leaves if x.size), value

    def of(floats: dict[int, Any]) -> Any:
        gradient = jax.grad(total, has_aux=True)
        return jax.jvp(lambda x: gradient(x), (floats,), (floats,))

    return of


def scaled(row: Row, scale: float) -> dict[int, np.ndarray]:
    """Its floating arrays; only logits may be of any size."""
    of_logits = row.family in ("elements", "sets", "rankings")
    found = {i: np.asarray(row.batch[i]) for i in moving(row)}
    return {i: x * np.float32(scale if of_logits and i == 0 else 1.0) for i, x in found.items()}


@over(lambda row: bool(moving(row)) and row.family != "training", once=True)
def test_every_backend_computes_the_same(row: Row, chosen: Callable[[str], Choices]):
    of, scales = everything(row), SCALES if row.family in ("elements", "sets") else SCALES[:1]
    asked: dict[str, Choices] = {}
    traces = []
    for platform in ("cpu", *OTHERS):
        if not any(choices[platform] == choices[other] for other, choices in asked.items()):
            asked[platform] = chosen(platform)
            traces.append(jax.jit(lambda x: of(x)).trace(scaled(row, 1.0)))
    if not traces[1:]:
        return  # nothing in it depends on the backend
    of_cpu, *others = (traced.lower().compile() for traced in traces)
    with jax.debug_nans(False):
        for scale in scales:
            arrays = scaled(row, scale)
            expected = of_cpu(arrays)
            # Where large numbers cancel some digits are lost, of second derivatives all.
            digits, kept = (2e-5, 2) if scale == 1.0 else (1e-4, 1)
            for found in (compiled(arrays)[:kept] for compiled in others):
                chex.assert_trees_all_close(found, expected[:kept], rtol=digits, atol=0.1 * digits)


def running_sums(jaxpr: jax.extend.core.Jaxpr) -> Iterator[str | None]:
    """What makes the operand of each running sum: a primitive, or nothing in sight."""
    made = {v: e.primitive.name for e in jaxpr.eqns for v in e.outvars}
    for equation in jaxpr.eqns:
        if equation.primitive.name == "cumsum":
            [operand] = equation.invars
            yield None if isinstance(operand, jax.extend.core.Literal) else made.get(operand)
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from running_sums(inner)


@over(lambda row: row.family == "rankings", once=True)
def test_a_running_sum_is_shifted_after_it_not_before(row: Row):
    """XLA takes a shift before it for a part of its window, and no longer for a running sum.

    A GPU with jax 0.11.2 then adds n² terms: a million scores took 788 ms, and 1.1 shifted after.
    """
    traced = jax.make_jaxpr(jax.grad(row.total))(*row.batch)
    assert not {"concatenate", "pad"} & set(running_sums(traced.jaxpr))


@pytest.mark.parametrize("number", [1, 2, 21, 40])
@pytest.mark.parametrize("platform", OTHERS)
def test_rows_of_few_and_of_many_classes(
    number: int, platform: str, chosen: Callable[[str], list[str]]
):
    draw = np.random.default_rng(0)
    matrix = draw.normal(size=(number, 3)).astype(np.float32)
    ids = draw.integers(0, number, (4, 5)).astype(np.int32)
    chosen(platform)
    found = jax.jit(lambda x, y: rows(x, y, -2))(matrix, ids)
    expected = np.moveaxis(matrix[ids], -1, -2)
    chex.assert_trees_all_close(found, expected, rtol=1e-6)
