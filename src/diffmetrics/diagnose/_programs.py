"""Programs of a loss: compiled for small arrays, and what they return as one number."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxprs_in_params


def returned(out: Any) -> Any:
    """The loss, of what the loss returned.

    Raises:
      TypeError: if that holds no array.
    """
    if isinstance(out, tuple) and out:
        out = out[0]  # (loss, auxiliary)
    if out is None:
        raise TypeError("the loss returned None: is there a `return` in it?")
    if isinstance(out, dict):
        names = ", ".join(map(repr, out))
        raise TypeError(f"the loss returned a dict of {names}: wrap it, and return one of them")
    return out


def total(out: Any) -> Any:
    """What a loss returned as one number: the mean of what it left unreduced."""
    out = returned(out)
    xp: Any = jnp if isinstance(out, jax.Array) else np
    x = xp.asarray(out)
    if x.dtype.kind not in "fV":
        raise TypeError(f"the loss returned {x.dtype} of shape {x.shape}, which has no gradient")
    wide = x.astype(np.float64 if x.dtype == np.float64 else np.float32)
    return xp.sum(wide / float(max(x.size, 1)))  # which may be no 32-bit integer


CONCRETE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.NonConcreteBooleanIndexError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerBoolConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.UnexpectedTracerError,
)


def shapes_within(jaxpr: Any) -> Iterator[tuple[int, ...]]:
    """Shapes of all that is computed on the way, in inner programs too."""
    for equation in jaxpr.eqns:
        for variable in equation.outvars:
            yield tuple(getattr(variable.aval, "shape", ()))
        for inner in jaxprs_in_params(equation.params):
            yield from shapes_within(inner)


# LLVM's expensive passes and, in jax 0.10, the newer of two generators of code are for programs
# that run for long. At level 0 XLA made NaN of gradients of convolutions, which a loss may have.
SHORT: dict[str, int | bool] = {
    "xla_backend_optimization_level": 1,
    "xla_cpu_parallel_codegen_split_count": 1,
}
if jax.__version_info__ < (0, 11):
    SHORT["xla_cpu_use_fusion_emitters"] = False


def jitted(function: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.jit` for small arrays and few calls: on a CPU it compiles in half the time."""
    short = SHORT if jax.default_backend() == "cpu" else None
    return jax.jit(function, compiler_options=short)  # pyright: ignore[reportArgumentType]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Dry calls try what the loss may warn of, and NaN is what is looked for."""
    with warnings.catch_warnings(), jax.debug_nans(False):
        warnings.simplefilter("ignore")
        yield


def said(error: object) -> str:
    """An error in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:140] if lines else ''}"
