"""What a loss computes on the way: every array inside of its program, for predictions of ours.

A formula that is wrong often shows it in the middle. A sigmoid of a sigmoid is an array that equals
one, however it was written; a logarithm with an epsilon has an argument that never falls below it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from diffmetrics.diagnose._programs import jitted, quiet
from diffmetrics.diagnose._subject import Subject

# The parameters in which an equation keeps the program that it calls, and calls once.
PROGRAMS = ("jaxpr", "call_jaxpr", "fun_jaxpr")
# These do more than to call it: they repeat, choose or map.
OPAQUE = {"scan", "while", "cond", "shard_map", "pallas_call", "custom_linear_solve"}
# A program of more equations was unrolled, and would take long to compile.
MOST = 250


class Step(NamedTuple):
    """One operation of a loss: its name, and what it makes of batches ``[R, ...]``.

    Of a logarithm it is what it takes, which says more.
    """

    name: str
    array: np.ndarray


def steps(subject: Subject, predictions: np.ndarray) -> list[Step]:
    """The floats that a loss computes of batches ``[R, ...]``, those inside of a loop left out.

    There are none if it cannot be traced.
    """
    if subject.mode != "compiled" or subject.jaxpr is None:
        return []
    program, names = subject.jaxpr, []
    if sum(1 for _ in _equations(program.jaxpr)) > MOST:
        return []

    def everything(z: jax.Array, y: jax.Array) -> Any:
        played: list[tuple[str, Any]] = []
        _play(program, [z, y], played)
        names[:] = [name for name, _ in played]
        return [array for _, array in played]

    with quiet():
        found = jitted(jax.vmap(everything, in_axes=(0, None)))(
            np.asarray(predictions, np.float32), subject.form.targets()
        )
    return [Step(name, np.asarray(x)) for name, x in zip(names, found, strict=True)]


def _equations(program: Jaxpr) -> Iterator[Any]:
    for equation in program.eqns:
        inner = called(equation)
        yield from [equation] if inner is None else _equations(inner.jaxpr)


def called(equation: Any) -> ClosedJaxpr | None:
    """The program that an equation calls, if that is all it does."""
    if equation.primitive.name in OPAQUE:
        return None
    for name in PROGRAMS:
        inner = equation.params.get(name)
        if isinstance(inner, ClosedJaxpr):
            return inner
        if isinstance(inner, Jaxpr) and not inner.constvars:
            return ClosedJaxpr(inner, ())
    return None


def _play(program: ClosedJaxpr, arguments: Sequence[Any], played: list[Any]) -> list[Any]:
    """The program's results; what its operations make is added to `played`."""
    known: dict[Any, Any] = dict(zip(program.jaxpr.constvars, program.consts, strict=True))
    known.update(zip(program.jaxpr.invars, arguments, strict=True))

    def read(some: Sequence[Any]) -> list[Any]:
        return [v.val if isinstance(v, Literal) else known[v] for v in some]

    for equation in program.jaxpr.eqns:
        taken, inner = read(equation.invars), called(equation)
        if inner is not None and len(inner.jaxpr.invars) == len(taken):
            made = _play(inner, taken, played)
        else:
            name, made = equation.primitive.name, equation.primitive.bind(*taken, **equation.params)
            made = list(made) if equation.primitive.multiple_results else [made]
            told = taken if name == "log" else made
            played.extend(
                (name, x) for x in told if jnp.issubdtype(jnp.result_type(x), jnp.inexact)
            )
        known.update(zip(equation.outvars, made, strict=True))
    return read(program.jaxpr.outvars)


STEPS = {
    "argmax": "an argmax", "argmin": "an argmin", "top_k": "a top_k", "round": "a rounding",
    "floor": "a floor", "ceil": "a ceil", "sign": "a sign",
}  # fmt: skip


def steps_within(subject: Subject) -> list[str]:
    """What in a loss has no gradient: roundings, decisions, and numbers made of comparisons."""
    if subject.jaxpr is None:
        return []
    found = []
    for equation in _equations(subject.jaxpr.jaxpr):
        name = equation.primitive.name
        if name == "convert_element_type":
            before, after = equation.invars[0].aval.dtype, equation.outvars[0].aval.dtype
            if before.kind == "b":
                found.append("a comparison")
            elif before.kind == "f" and after.kind in "iu":
                found.append("a cast to integers")
        elif name in STEPS:
            found.append(STEPS[name])
    return list(dict.fromkeys(found))
