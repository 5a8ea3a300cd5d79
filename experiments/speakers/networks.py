"""The networks, in Flax NNX: segments of a spectrogram to embeddings.

All read [B, T, bands] and end in the same head, a class for each training speaker; what is compared
is the embedding before it. `width` is the size of the embedding, `speakers` are told apart in
training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx


class Outputs(NamedTuple):
    """What losses read, float32."""

    embedding: jax.Array
    """[B, D]."""
    logits: jax.Array
    """[B, C]: a linear map of the embedding."""
    cosines: jax.Array
    """[B, C]: of the angles between the embedding and the rows of that map."""


def unit(x: jax.Array) -> jax.Array:
    """`x` at length 1 along the last axis, with gradient 0 where it has no direction."""
    square = jnp.sum(x * x, -1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(square, 1e-12))


class Head(nnx.Module):
    """A score and an angle for each training speaker."""

    def __init__(self, size: int, speakers: int, *, rngs: nnx.Rngs):
        self.linear = nnx.Linear(size, speakers, rngs=rngs)

    def __call__(self, embedding: jax.Array) -> Outputs:
        centres = unit(self.linear.kernel[...].T)
        return Outputs(embedding, self.linear(embedding), unit(embedding) @ centres.T)


class BiLSTM(nnx.Module):
    """The question's network: two bidirectional LSTM layers; the second's last states are kept.

    Half of the embedding comes from each direction.
    """

    def __init__(self, bands: int, speakers: int, *, width: int, rngs: nnx.Rngs):
        self.units = width // 2
        self.layers = nnx.List(
            nnx.Bidirectional(
                *(
                    nnx.RNN(nnx.OptimizedLSTMCell(size, self.units, rngs=rngs), rngs=False)
                    for _ in range(2)
                ),
                rngs=False,
            )
            for size in (bands, width)
        )
        self.head = Head(width, speakers, rngs=rngs)

    def __call__(self, x: jax.Array) -> Outputs:
        zeros = jnp.zeros((len(x), self.units), x.dtype)
        rest = (zeros, zeros)
        for layer in self.layers:
            x = jnp.asarray(layer(x, initial_carry=(rest, rest)))
        # The backward direction is in the order of time, so that its last state comes first.
        return self.head(jnp.concatenate([x[:, -1, : self.units], x[:, 0, self.units :]], -1))


class TDNN(nnx.Module):
    """A dilated time-delay network with statistics pooling, an x-vector in small.

    A layer sees some frames at distances that grow from layer to layer; mean and deviation over
    time are pooled, and a linear layer makes the embedding (Snyder et al., X-vectors, 2018).

    The frames that a layer sees are put side by side and multiplied by one matrix, which is the
    convolution, and whose gradient XLA's CPU backend computes on every core.
    """

    CONTEXTS = ((5, 1, 2), (3, 1, 1), (3, 2, 1))  # taps, distance, stride

    def __init__(self, bands: int, speakers: int, *, width: int, rngs: nnx.Rngs):
        sizes = [bands, width, width]
        self.layers = nnx.List(
            nnx.Linear(taps * size, width, rngs=rngs)
            for size, (taps, _, _) in zip(sizes, self.CONTEXTS, strict=True)
        )
        self.norms = nnx.List(nnx.LayerNorm(width, rngs=rngs) for _ in self.CONTEXTS)
        self.pooled = nnx.Linear(2 * width, width, rngs=rngs)
        self.head = Head(width, speakers, rngs=rngs)

    def __call__(self, x: jax.Array) -> Outputs:
        for layer, norm, context in zip(self.layers, self.norms, self.CONTEXTS, strict=True):
            x = norm(nnx.relu(layer(_side_by_side(x, *context))))
        mean = jnp.mean(x, 1)
        deviation = jnp.sqrt(jnp.mean(jnp.square(x - mean[:, None]), 1) + 1e-5)
        return self.head(self.pooled(jnp.concatenate([mean, deviation], -1)))


def _side_by_side(x: jax.Array, taps: int, distance: int, stride: int) -> jax.Array:
    """Frames [B, T', taps * F], `distance` apart, of frames [B, T, F]."""
    last = x.shape[1] - (taps - 1) * distance
    return jnp.concatenate(
        [x[:, k * distance : k * distance + last : stride] for k in range(taps)], -1
    )


# To add one: a module ``(bands, speakers, *, width, rngs)`` that maps segments to `Outputs` and can
# read as few frames as `SHORTEST`.
NETWORKS: dict[str, Callable[..., nnx.Module]] = {"tdnn": TDNN, "bilstm": BiLSTM}
SHORTEST = 13
