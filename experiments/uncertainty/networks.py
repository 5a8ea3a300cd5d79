"""Small regression networks that predict a Normal distribution: mean and deviation for each input.

What is uncertain about the world is the Normal's deviation (aleatoric); what is uncertain about the
network is how far its mean moves between draws (epistemic): draws of mean-field weights, of dropout
masks, or members of an ensemble.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

import diffmetrics as dm

MIN_SCALE = 1e-3  # of standardised targets


@dataclasses.dataclass(frozen=True)
class Design:
    """The architecture of a network, without its weights."""

    layer: Literal["plain", "dropout", "mean-field"] = "plain"
    deviation: Literal["constant", "of-input"] = "of-input"
    hidden: tuple[int, ...] = (50,)
    before_scale: Literal["linear", "relu"] = "linear"  # relu: the mistake of `collapse`
    init_scale: float = 0.5  # of standardised targets, so at first about half is unexplained
    dropout: float = 0.05
    prior_scale: float = 3.0  # deviation of the fixed prior of each weight, over √fan-in


class MeanFieldDense(nnx.Module):
    """A dense layer whose weights are independent Normals (Graves, 2011; Blundell et al., 2015).

    Each call draws the *outputs*, not the weights (local reparametrisation, Kingma et al., 2015,
    arXiv:1506.02557): rows of a batch have noise of their own, so the gradient varies less. The
    prior is fixed; with a trainable prior mean for each weight, the penalty on the means is gone.
    """

    def __init__(self, inputs: int, outputs: int, *, prior_scale: float, rngs: nnx.Rngs):
        self.prior_scale = prior_scale / math.sqrt(inputs)
        kernel = nnx.initializers.lecun_normal()(rngs.params(), (inputs, outputs))
        self.kernel_mean = nnx.Param(kernel)
        self.bias_mean = nnx.Param(jnp.zeros(outputs))
        # Posterior deviations start at a tenth of the prior's, lest noise drown the first steps.
        self.kernel_log_scale = nnx.Param(jnp.full((inputs, outputs), math.log(0.1), jnp.float32))
        self.bias_log_scale = nnx.Param(jnp.full(outputs, math.log(0.1), jnp.float32))

    def _scales(self) -> tuple[jax.Array, jax.Array]:
        """Posterior deviations: a trained multiple of the prior's."""
        kernel = self.prior_scale * jnp.exp(self.kernel_log_scale[...])
        return kernel, self.prior_scale * jnp.exp(self.bias_log_scale[...])

    def __call__(self, x: jax.Array, key: jax.Array) -> jax.Array:
        kernel_scale, bias_scale = self._scales()
        mean = x @ self.kernel_mean[...] + self.bias_mean[...][None]
        variance = jnp.square(x) @ jnp.square(kernel_scale) + jnp.square(bias_scale)[None]
        return mean + jnp.sqrt(variance) * jax.random.normal(key, mean.shape)

    def kl(self) -> jax.Array:
        """KL divergence of the posterior from the prior: a sum over all weights and biases."""
        kernel_scale, bias_scale = self._scales()
        pairs = (self.kernel_mean[...], kernel_scale), (self.bias_mean[...], bias_scale)
        return jnp.stack(
            [dm.kl_normal(*p, prior_scale=self.prior_scale).sum() for p in pairs]
        ).sum()


class Network(nnx.Module):
    """ReLU layers, and a head for mean and deviation; holds no random state, keys are passed."""

    def __init__(self, inputs: int, design: Design, *, rngs: nnx.Rngs):
        def dense(inputs: int, outputs: int) -> nnx.Module:
            if design.layer == "mean-field":
                return MeanFieldDense(inputs, outputs, prior_scale=design.prior_scale, rngs=rngs)
            return nnx.Linear(inputs, outputs, rngs=rngs)

        self.design = design
        widths = (inputs, *design.hidden)
        self.body = nnx.List([dense(i, o) for i, o in itertools.pairwise(widths)])
        of_input = design.deviation == "of-input"
        self.head = dense(widths[-1], 2 if of_input else 1)
        self.raw = None if of_input else nnx.Param(jnp.zeros(()))

    def __call__(self, x: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean and deviation [B] of inputs [B, d], for one draw of whatever is random."""
        keys = jax.random.split(key, 2 * len(self.body) + 1)
        for k, layer in enumerate(self.body):
            x = nnx.relu(_apply(layer, x, keys[2 * k]))
            if self.design.layer == "dropout":
                kept = jax.random.bernoulli(keys[2 * k + 1], 1 - self.design.dropout, x.shape)
                x = jnp.where(kept, x / (1 - self.design.dropout), 0.0)
        out = _apply(self.head, x, keys[-1])
        if self.design.before_scale == "relu":
            out = nnx.relu(out)
        raw = out[:, 1] if self.raw is None else jnp.broadcast_to(self.raw[...], out.shape[:1])
        scale = dm.scale_from_raw(raw, min_scale=MIN_SCALE, init_scale=self.design.init_scale)
        return out[:, 0], scale

    def kl(self) -> jax.Array:
        """KL divergence of all layers together; 0 where weights are plain numbers."""
        layers = [*self.body, self.head]
        return sum(
            (each.kl() for each in layers if isinstance(each, MeanFieldDense)), jnp.zeros(())
        )


def _apply(layer: Any, x: jax.Array, key: jax.Array) -> jax.Array:
    return layer(x, key) if isinstance(layer, MeanFieldDense) else layer(x)


def graph_of(design: Design, inputs: int) -> Any:
    """A network without its parameters."""
    return nnx.split(nnx.eval_shape(lambda: Network(inputs, design, rngs=nnx.Rngs(0))))[0]


@functools.partial(jax.jit, static_argnames=("design", "inputs"))
def initialize(design: Design, inputs: int, keys: jax.Array) -> Any:
    """Fresh parameters for each of the keys [...], stacked."""

    def parameters(key: jax.Array) -> Any:
        return nnx.to_pure_dict(nnx.split(Network(inputs, design, rngs=nnx.Rngs(key)))[1])

    for _ in keys.shape:
        parameters = jax.vmap(parameters)
    return parameters(keys)
