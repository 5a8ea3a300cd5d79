"""Functions with one value for each element or example: what `where` hides, where classes lie."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import calls, doors

P = ParamSpec("P")
R = TypeVar("R")


def per_element(
    *static: str, vectors: int | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """`calls.compiled`, for functions with one value for each element; `where` is answered here.

    `vectors` is the axis of what a value is made of, such as an embedding (-1) or an ensemble (0).
    """
    return lambda function: calls.compiled(*static)(_hidden(function, vectors))


def per_example(*static: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """`per_element` for the scores of classes, which lie on `class_axis`."""
    return per_element("class_axis", *static, vectors=-1)


def _hidden(function: Callable[P, R], vectors: int | None) -> Callable[P, R]:
    """Make `where` select: a hidden value is 0, and so is its gradient, whatever is there.

    The arrays are replaced, because 0 times the NaN of a slope is NaN, and the value, too.
    """

    @functools.wraps(calls.spelled_out(function))
    def masked(*arrays: Any, where: ArrayLike | None = None, **others: Any) -> Any:
        if where is None:
            return function(*arrays, **others)
        arrays = tuple(map(jnp.asarray, arrays))
        alone = functools.partial(function, **others)
        (out, *_) = jax.tree.leaves(jax.eval_shape(alone, *arrays))
        mask = doors.selected(where, out.shape, _values_of(function))
        place = others.get("class_axis", vectors)
        shown = (_replaced(x, mask, place) for x in arrays)
        return jax.tree.map(lambda x: jnp.where(mask, x, jnp.zeros_like(x)), alone(*shown))

    hidden: Any = masked
    return hidden


def _values_of(function: Callable[..., Any]) -> str:
    """What a mask is a mask of, in words."""
    first, *others = inspect.signature(function).parameters
    return "the examples" if "class_axis" in others else f"the values of {first}"


def _replaced(x: jax.Array, mask: jax.Array, vectors: int | None) -> jax.Array:
    """`x` with a harmless number where it is hidden; what all values share is left alone."""
    if x.ndim > mask.ndim and vectors is not None:
        mask = jnp.expand_dims(mask, vectors)
    if x.ndim != mask.ndim:
        return x
    return jnp.where(mask, x, jnp.ones_like(x))
