"""A U-Net for binary segmentation (Ronneberger et al., 2015, arXiv:1505.04597) in Flax NNX.

Two choices keep a training step fast without a hand-written gradient. Normalisation is one
multiply-add whose two coefficients come from per-channel sums: its derivative then needs sums only,
and nothing of the activations' size is kept beside the activations. The channels are halved before
upsampling, not after: a 1x1 convolution commutes with repeating pixels and costs a quarter.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike


class GroupNormReLU(nnx.Module):
    """Group normalisation (Wu and He, 2018, arXiv:1803.08494) followed by a ReLU.

    The statistics are float32 whatever the dtype of the input, and so are the two coefficients;
    the output has the input's dtype. Agrees with `nnx.relu(nnx.GroupNorm(...)(x))`.
    """

    def __init__(self, channels: int, *, epsilon: float = 1e-5):
        # Groups of eight channels, not eight groups: a group of one channel would forget how strong
        # the contrast of an image was, and a network that amplifies calm sea sees ships in it.
        self.groups = 1 if channels % 8 else channels // 8
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))

    def __call__(self, x: jax.Array) -> jax.Array:
        wide = x.astype(jnp.float32)
        mean, square = (
            v.mean((1, 2)).reshape(len(x), self.groups, -1).mean(-1, keepdims=True)
            for v in (wide, jnp.square(wide))
        )
        # Rounding can make the difference negative where a group is constant.
        inverse = jax.lax.rsqrt(jnp.maximum(square - jnp.square(mean), 0) + self.epsilon)
        scale = self.scale[...].reshape(1, self.groups, -1) * inverse
        shift = self.bias[...].reshape(1, self.groups, -1) - mean * scale
        scale, shift = (v.reshape(len(x), 1, 1, -1) for v in (scale, shift))
        return nnx.relu(wide * scale + shift).astype(x.dtype)


class Block(nnx.Module):
    """Two 3x3 convolutions, each normalised; a bias before a normalisation would have no effect."""

    def __init__(self, channels_in: int, channels: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        def conv(inputs: int) -> nnx.Conv:
            return nnx.Conv(inputs, channels, (3, 3), use_bias=False, dtype=dtype, rngs=rngs)

        self.conv1, self.norm1 = conv(channels_in), GroupNormReLU(channels)
        self.conv2, self.norm2 = conv(channels), GroupNormReLU(channels)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm2(self.conv2(self.norm1(self.conv1(x))))


class UNet(nnx.Module):
    """Logits of a binary mask, one a pixel.

    Fully convolutional: a network trained on tiles runs on whole images. But group normalisation
    takes its statistics over the field of view, so the logits of a tile differ from those of the
    same pixels within a larger image, also far from the tile's border.

    Args:
      width: channels at full resolution, doubled at each level down.
      depth: number of times that the resolution is halved.
      patch: edge of the squares of pixels that are joined to one position before the first
        convolution, and parted after the last: 2 takes a quarter of the time.
      channels_in: channels of the images.
      dtype: dtype of the activations; parameters, statistics and logits are float32.
      rngs: source of the initial parameters.
    """

    def __init__(
        self,
        *,
        width: int = 16,
        depth: int = 4,
        patch: int = 1,
        channels_in: int = 3,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        widths = [width * 2**level for level in range(depth + 1)]
        self.depth, self.patch = depth, patch
        self.dtype = dtype
        self.encoder = nnx.List(
            Block(i, o, dtype=dtype, rngs=rngs)
            for i, o in zip([channels_in * patch**2, *widths[:-1]], widths, strict=True)
        )
        self.narrow = nnx.List(nnx.Linear(2 * o, o, dtype=dtype, rngs=rngs) for o in widths[:-1])
        self.decoder = nnx.List(Block(2 * o, o, dtype=dtype, rngs=rngs) for o in widths[:-1])
        self.head = nnx.Linear(width, patch**2, dtype=dtype, rngs=rngs)
        # Coarser logits, which only training looks at (deep supervision; Lee et al., 2015,
        # arXiv:1409.5185).
        self.coarser = nnx.List(nnx.Linear(o, 1, dtype=dtype, rngs=rngs) for o in widths[1:-1])

    def __call__(self, images: jax.Array) -> jax.Array:
        """Return float32 logits of shape (B, H, W) for images of shape (B, H, W, C).

        Raises:
          ValueError: if H or W is not divisible by ``patch * 2**depth``.
        """
        return _part(self.head(self._decode(images)[-1]), self.patch)

    def at_all_scales(self, images: jax.Array) -> list[jax.Array]:
        """Logits of the image, then those of squares of pixels, of twice the edge each time.

        The first are those of a call; the edge of the second's squares is ``2 * patch``.
        """
        *coarse, finest = self._decode(images)
        logits = [_part(self.head(finest), self.patch)]
        for head, x in zip(self.coarser, reversed(coarse), strict=True):
            logits.append(_part(head(x), 1))
        return logits

    def _decode(self, images: jax.Array) -> list[jax.Array]:
        """What the blocks of the decoder give, the coarsest first."""
        height, width = images.shape[1:3]
        unit = self.patch * 2**self.depth
        if height % unit or width % unit:
            raise ValueError(
                f"images must have height and width divisible by patch * 2**depth = {unit}, "
                f"got {height} x {width}"
            )
        x = self.encoder[0](_join(images.astype(self.dtype), self.patch))
        skips = []
        for block in self.encoder[1:]:
            skips.append(x)
            x = block(_halve(x))
        decoded = []
        for level in reversed(range(self.depth)):
            up = _double(self.narrow[level](x))
            x = self.decoder[level](jnp.concatenate([skips[level], up], axis=-1))
            decoded.append(x)
        return decoded or [x]


def _join(x: jax.Array, patch: int) -> jax.Array:
    """[B, H, W, C] to [B, H / patch, W / patch, patch² C]."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // patch, patch, w // patch, patch, c).swapaxes(2, 3)
    return x.reshape(b, h // patch, w // patch, patch**2 * c)


def _part(x: jax.Array, patch: int) -> jax.Array:
    """[B, H / patch, W / patch, patch²] to float32 [B, H, W]."""
    b, h, w, _ = x.shape
    x = x.reshape(b, h, w, patch, patch).swapaxes(2, 3)
    return x.reshape(b, h * patch, w * patch).astype(jnp.float32)


def _halve(x: jax.Array) -> jax.Array:
    """Max-pool by two.

    Pixels that tie share the gradient. After a ReLU they tie at zero, where there is none to share.
    """
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).max((2, 4))


def _double(x: jax.Array) -> jax.Array:
    """Repeat each pixel twice along height and width."""
    b, h, w, c = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)
