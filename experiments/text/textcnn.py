"""A convolutional network for sentences (Kim, 2014, arXiv:1408.5882) in Flax NNX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.typing import DTypeLike

from experiments.text.words import PAD

Variant = Literal["rand", "static", "non-static", "multichannel"]


class Frozen(nnx.Variable):
    """An array that no gradient reaches, because only `nnx.Param` is trained."""


class TextCNN(nnx.Module):
    """One logit for each text.

    A filter of width w sees w neighbouring words; its largest response over the text, through a
    ReLU, is one feature. In `multichannel` every filter is applied to both channels and the results
    are added. Filters are linear, so it is the same to add the channels first, and two cost what
    one does.

    A text's logit does not depend on the length to which it is padded.

    Args:
      words: size of the vocabulary.
      size: numbers in a word's vector.
      variant: rand, random vectors that are trained; static, given ones as they are; non-static,
        given ones that are trained; multichannel, both of these, from the same vectors.
      vectors: the given ones [words, size].
      widths: of the filters.
      maps: filters of each width.
      dropout: share of the features that a training step leaves out.
      begin_at: the logit near which all texts begin.
      dtype: of the activations; parameters, features after the maximum and logits are float32.
      rngs: source of the initial parameters.
    """

    def __init__(
        self,
        words: int,
        size: int,
        *,
        variant: Variant = "multichannel",
        vectors: np.ndarray | None = None,
        widths: Sequence[int] = (3, 4, 5),
        maps: int = 100,
        dropout: float = 0.5,
        begin_at: float = 0.0,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if variant == "rand":
            start = jax.random.uniform(rngs.params(), (words, size), minval=-0.25, maxval=0.25)
        elif vectors is None:
            raise ValueError(f"variant {variant!r} needs vectors; only 'rand' starts without")
        else:
            if vectors.shape != (words, size):
                raise ValueError(f"vectors must be {(words, size)}, got {vectors.shape}")
            start = jnp.asarray(vectors, jnp.float32)
        # Arrays of their own: the trained table must not share memory with the one that stays.
        self.static = Frozen(start) if variant in ("static", "multichannel") else None
        self.tuned = nnx.Param(jnp.array(start)) if variant != "static" else None
        self.filters = nnx.List(
            nnx.Conv(size, maps, (width,), padding="SAME", rngs=rngs) for width in widths
        )
        bias = nnx.initializers.constant(begin_at)
        self.head = nnx.Linear(maps * len(widths), 1, bias_init=bias, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)
        self.dtype = dtype

    def __call__(self, ids: jax.Array, dropout_key: jax.Array | None = None) -> jax.Array:
        """Return float32 logits [B] of word ids [B, L], 0 after the end of a text.

        Args:
          ids: at least one word in each.
          dropout_key: for a training step; without it nothing is left out.
        """
        present = (ids != PAD).astype(self.dtype)[..., None]
        channels = [table[...] for table in (self.static, self.tuned) if table is not None]
        x = present * jnp.asarray(sum(table[ids] for table in channels), self.dtype)
        # Beyond the end responses are pushed below any other, and the ReLU forgets by how much.
        responses = _convolve(x, self.filters) - 1e9 * (1.0 - present)
        h = nnx.relu(jnp.max(responses, axis=1)).astype(jnp.float32)
        h = self.dropout(h, deterministic=dropout_key is None, rngs=dropout_key)
        return self.head(h)[..., 0]


def constrain(params: Any, max_norm: float) -> Any:
    """The parameters of a `TextCNN`, the last layer's weights with a norm of at most `max_norm`."""
    head = params["head"]
    kernel = optax.projections.projection_l2_ball(head["kernel"], max_norm)
    return {**params, "head": {**head, "kernel": kernel}}


def _convolve(x: jax.Array, filters: Sequence[nnx.Conv]) -> jax.Array:
    """What the filters give, one after the other on the last axis, as one product of x's dtype.

    Narrow filters count as wide ones with zeros at their ends. That is a quarter more arithmetic
    than three convolutions and, with its gradient, half the time on XLA's CPU backend; and over
    networks side by side it stays a batched product.

    Args:
      x: [B, L, D].
      filters: with kernels [w, D, F], padding "SAME".
    """
    kernels = [conv.kernel[...] for conv in filters]
    widest = max(len(kernel) for kernel in kernels)
    before = (widest - 1) // 2
    wide = []
    for kernel in kernels:
        left = before - (len(kernel) - 1) // 2
        padded = jnp.pad(kernel, ((left, widest - left - len(kernel)), (0, 0), (0, 0)))
        wide.append(padded.reshape(-1, kernel.shape[-1]))
    length = x.shape[1]
    x = jnp.pad(x, ((0, 0), (before, widest - 1 - before), (0, 0)))
    windows = jnp.concatenate([x[:, k : k + length] for k in range(widest)], axis=-1)
    biases = [conv.bias[...] for conv in filters if conv.bias is not None]
    kernel, bias = (jnp.concatenate(each, axis=-1).astype(x.dtype) for each in (wide, biases))
    return windows @ kernel + bias[None, None]
