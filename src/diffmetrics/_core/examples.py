"""Functions with one value for each element or example: what `where` hides, where classes lie."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Annotated, Any, ParamSpec, TypedDict, TypeVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from diffmetrics._core import calls, doors

P = ParamSpec("P")
R = TypeVar("R")


class ElementOptions(TypedDict, total=False):
    """The keyword of functions with one value for each element, pair or example."""

    where: Annotated[ArrayLike | None, None]


class ClassOptions(ElementOptions, total=False):
    """The keywords of functions of the scores of classes, with one value for each example."""

    class_axis: Annotated[int, -1]


def per_element(
    *static: str, vectors: int | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """`calls.compiled`, for functions with one value for each element; `where` is answered here.

    `vectors` is the axis of what a value is made of, such as an embedding (-1) or an ensemble (0).
    """
    return lambda function: calls.compiled(*static)(_hidden(function, vectors))


def per_example(*shared: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """`per_element` for the scores of classes: `class_axis` is answered here, too.

    `shared` are the names of hyper-parameters that are of the classes, not of the examples.
    """
    return lambda function: calls.compiled("class_axis")(_hidden(_moved(function, shared), -1))


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
        mask = doors.select(where, out.shape, _values_of(function))
        mask = jnp.broadcast_to(mask, out.shape)
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


def _moved(function: Callable[P, R], shared: tuple[str, ...]) -> Callable[P, R]:
    """`function`, whose classes lie on the last axis, for classes on any axis.

    What lies behind the classes is mapped over, so that nothing is transposed. Hyper-parameters of
    the examples do not fit that, and then the logits are.
    """

    @functools.wraps(calls.spelled_out(function))
    def anywhere(*arrays: Any, class_axis: int = -1, **others: Any) -> Any:
        first = jnp.asarray(arrays[0])
        place = doors.axis_of_classes(class_axis, first.shape)
        if place == first.ndim - 1:
            return function(*arrays, **others)
        every = [jnp.asarray(x) for x in arrays]
        of_examples = [n for n, x in others.items() if jnp.ndim(x) and n not in shared]
        if of_examples:
            moved = (jnp.moveaxis(x, place, -1) if x.ndim == first.ndim else x for x in every)
            return function(*moved, **others)
        behind = first.shape[place + 1 :]
        flat = [x.reshape(*x.shape[: x.ndim - len(behind)], math.prod(behind)) for x in every]
        alone = functools.partial(function, **others)
        found = jax.vmap(alone, in_axes=-1, out_axes=-1)(*flat)
        return jax.tree.map(lambda x: x.reshape(*x.shape[:-1], *behind), found)

    moved_function: Any = anywhere
    return moved_function
