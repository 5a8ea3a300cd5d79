"""The class of each example, which integer ids name, and what belongs to it.

`axis` is that of the classes, counted from the end.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

# So many rows of a matrix a TPU chooses from by selects, which take as long as its memory.
_FEW = 32


def is_class(ids: jax.Array, number: int) -> jax.Array:
    """Which ids name one of `number` classes."""
    return (ids >= 0) & (ids < number)


def is_true(y: jax.Array, shape: tuple[int, ...], axis: int) -> jax.Array:
    """Whether an entry of `shape` is of its example's class.

    Void ids have none; in labels of that shape it is what exceeds ½.
    """
    if jnp.issubdtype(y.dtype, jnp.floating):
        return y > 0.5
    place = jax.lax.broadcasted_iota(y.dtype, shape, len(shape) + axis)
    return place == jnp.expand_dims(y, axis)


def at_label(x: jax.Array, y: jax.Array, axis: int) -> jax.Array:
    """The entry of `x`, one for each entry or for each class, of the class of each example.

    It is 0 for a void id. For labels of the shape of the logits it is the labels' mean of `x`.
    """
    if jnp.issubdtype(y.dtype, jnp.floating):
        return jnp.sum(of_classes(x, y.ndim, axis) * y, axis)
    found = x.at[y].get(mode="clip") if x.ndim == 1 else take(x, y, axis)
    number = x.shape[0] if x.ndim == 1 else x.shape[axis]
    return jnp.where(is_class(y, number), found, 0.0)


def of_classes(x: jax.Array, ndim: int, axis: int) -> jax.Array:
    """`x` ``[C]`` on the axis of the classes of `ndim`; what has that many axes, or none, stays."""
    if x.ndim in (0, ndim):
        return x
    return x.reshape((1,) * (ndim + axis) + x.shape + (1,) * (-1 - axis))


def rows(matrix: jax.Array, ids: jax.Array, axis: int) -> jax.Array:
    """The row of `matrix` of the class of each example, that of some class for a void id.

    A TPU writes out what it gathers. There a product with one-hot rows, exact in bfloat16, joins
    the pass that uses it (1,000 classes); one with few rows is written out, too, and each is chosen
    instead: for an expected cost 1.5 times the least bytes for 3.4 (21 classes).
    """

    def gathered(matrix: jax.Array, ids: jax.Array) -> jax.Array:
        return jnp.moveaxis(matrix.at[ids].get(mode="clip"), -1, axis)

    def on_tpu(matrix: jax.Array, ids: jax.Array) -> jax.Array:
        near = jnp.clip(ids, 0, len(matrix) - 1)
        return (_chosen if len(matrix) <= _FEW else _multiplied)(matrix, near, axis)

    return jax.lax.platform_dependent(matrix, ids, tpu=on_tpu, default=gathered)


def _chosen(matrix: jax.Array, ids: jax.Array, axis: int) -> jax.Array:
    """`rows` by the bits of the ids, each of which halves what is left to choose from."""
    left, ids = list(matrix), jnp.expand_dims(ids, axis)
    left = [of_classes(row, ids.ndim, axis) for row in left]
    while len(left) > 1:
        left += left[-1:] * (len(left) % 2)
        odd, ids = (ids & 1) == 1, ids >> 1
        left = [jnp.where(odd, *pair) for pair in zip(left[1::2], left[::2], strict=True)]
    return jnp.broadcast_to(left[0], jnp.broadcast_shapes(left[0].shape, ids.shape))


def _multiplied(matrix: jax.Array, ids: jax.Array, axis: int) -> jax.Array:
    hot = jax.nn.one_hot(ids, len(matrix), dtype=matrix.dtype)
    exact = (jax.lax.Precision.DEFAULT, jax.lax.Precision.HIGHEST)
    return jnp.moveaxis(jnp.matmul(hot, matrix, precision=exact), -1, axis)


def take(x: jax.Array, ids: jax.Array, axis: int) -> jax.Array:
    """The entry of `x` of the class of each example, that of the nearest class for a void id."""
    taken = jnp.take_along_axis(x, jnp.expand_dims(ids, axis), axis, mode="clip")
    return jnp.squeeze(taken, axis)
