"""From a function of one list of elements to a call with axes, masks, weights and class ids.

This is the plumbing of the other references, apart from them so that definitions stay bare.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Floats = Sequence[float] | Array
Activation = Callable[[Array], Array]
Axis = int | Sequence[int] | None


def sigmoid(z: Array) -> Array:
    """Map each logit to a probability."""
    p = np.empty_like(z)
    for index in np.ndindex(z.shape):
        # exp overflows for a very negative logit in the textbook form; both forms are equal.
        e = math.exp(-abs(z[index]))
        p[index] = 1 / (1 + e) if z[index] >= 0 else e / (1 + e)
    return p


def softmax(z: Array) -> Array:
    """Map the logits along the last axis to probabilities that sum to one."""
    p = np.empty_like(z)
    for row in np.ndindex(z.shape[:-1]):
        largest = max(z[row])
        powers = [math.exp(value - largest) for value in z[row]]
        p[row] = [power / sum(powers) for power in powers]
    return p


def identity(p: Array) -> Array:
    """Leave probabilities as they are."""
    return p


def set_loss(
    of_lists: Callable[..., float], *, activation: Activation = sigmoid, classes: bool = False
) -> Callable[..., Array]:
    """Give a loss of one set, `of_lists(p, y, w, **options)`, the signature of the library.

    The set is a list of elements, or with `classes` one such list for each entry of the last axis.
    """
    default = activation

    def loss(
        logits: ArrayLike,
        labels: ArrayLike,
        *,
        axis: Axis = None,
        where: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        activation: Activation = default,
        **options: Any,
    ) -> Array:
        p = activation(np.asarray(logits, float))
        arrays = (p, one_hot(labels, p), per_element(weights, 1.0, p), per_element(where, True, p))

        def of_set(*arrays: Array) -> float:
            if not classes:
                return of_lists(*chosen(*arrays), **options)
            per_class = [chosen(*(x[..., c] for x in arrays)) for c in range(p.shape[-1])]
            return of_lists(*zip(*per_class, strict=True), **options)

        if classes and axis is None:
            axis = range(p.ndim - 1)
        return along(of_set, axis, *arrays, keep_last=classes)

    return loss


def chosen(p: Array, y: Array, w: Array, keep: Array) -> tuple[Array, Array, Array]:
    """List the elements that `where` selects."""
    k = keep.astype(bool)
    return p[k], y[k], w[k]


def along(f: Callable[..., float], axis: Axis, *arrays: Array, keep_last: bool = False) -> Array:
    """Apply `f` to every slice of the arrays along `axis`; with `keep_last` the classes stay in."""
    shape = arrays[0].shape
    named = range(len(shape)) if axis is None else (axis,) if isinstance(axis, int) else axis
    axes = {a % len(shape) for a in named} | ({len(shape) - 1} if keep_last else set())
    rest = [a for a in range(len(shape)) if a not in axes]
    result = np.empty([shape[a] for a in rest])
    for position in itertools.product(*(range(shape[a]) for a in rest)):
        fixed = dict(zip(rest, position, strict=True))
        index = tuple(fixed.get(a, slice(None)) for a in range(len(shape)))
        result[position] = f(*(array[index] for array in arrays))
    return result


def per_element(x: ArrayLike | None, default: float, like: Array) -> Array:
    """Give every element its own factor, or its own yes and no."""
    return np.broadcast_to(np.asarray(default if x is None else x, float), like.shape)


def one_hot(labels: ArrayLike, p: Array) -> Array:
    """Write class ids out as rows of zeros with a one; leave labels of the shape of `p` alone."""
    y = np.asarray(labels)
    if y.shape == p.shape:
        return y.astype(float)
    rows = np.zeros(p.shape)
    for index in np.ndindex(y.shape):
        for c in range(p.shape[-1]):  # an id that is no class (255 for "void") matches none
            rows[(*index, c)] = float(y[index] == c)
    return rows
