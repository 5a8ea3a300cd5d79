"""Other views of the same crops: turned, mirrored, and in another light."""

from __future__ import annotations

import jax
import jax.numpy as jnp

# How far light and camera may differ, as the challenge's people had it: enough for haze, dusk and
# other sensors, not so much that a grey hull on grey water is lost.
GAMMA = 0.3  # the logarithm of the exponent
CONTRAST = 0.25  # the factor's distance from 1
BRIGHTNESS = 0.1  # of the range from black to white
COLOUR = 0.04  # the same, of each channel alone


def augment(
    key: jax.Array, images: jax.Array, masks: jax.Array, *, photometric: bool
) -> tuple[jax.Array, jax.Array]:
    """One of the eight symmetries of the square for each crop: from above there is no up.

    Args:
      key: random key.
      images: uint8 [B, N, N, 3].
      masks: [B, N, N].
      photometric: change the light, too.

    Returns:
      Images, as floats in 0..255 if the light was changed, and masks.
    """

    def turn(bits: jax.Array, x: jax.Array) -> jax.Array:
        x = jnp.where(bits[0], x[::-1], x)
        x = jnp.where(bits[1], x[:, ::-1], x)
        return jnp.where(bits[2], jnp.swapaxes(x, 0, 1), x)

    bits = jax.random.bernoulli(key, shape=(images.shape[0], 3))
    images, masks = jax.vmap(turn)(bits, images), jax.vmap(turn)(bits, masks)
    if photometric:
        images = relight(jax.random.fold_in(key, 1), images)
    return images, masks


def relight(key: jax.Array, images: jax.Array) -> jax.Array:
    """Gamma, contrast, brightness and a shift of colour, drawn for each crop; grey stays grey.

    Args:
      key: random key.
      images: [B, H, W, 3], 0 to 255.

    Returns:
      float32 [B, H, W, 3], 0 to 255.
    """
    count = images.shape[0]
    drawn = jax.random.uniform(key, (6, count, 1, 1, 1), minval=-1.0, maxval=1.0)
    gamma, contrast, brightness = drawn[:3]
    colour = jnp.concatenate(list(drawn[3:]), axis=-1)
    grey = jnp.all(images == images[..., :1], axis=(1, 2, 3), keepdims=True)

    x = jnp.power(images.astype(jnp.float32) / 255.0, jnp.exp(GAMMA * gamma))
    middle = x.mean((1, 2, 3), keepdims=True)
    x = middle + (x - middle) * (1.0 + CONTRAST * contrast)
    x += BRIGHTNESS * brightness + jnp.where(grey, 0.0, COLOUR * colour)
    return 255.0 * jnp.clip(x, 0.0, 1.0)
