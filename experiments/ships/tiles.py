"""Prediction of images of any size, in tiles of one shape: nothing is compiled anew.

Group normalisation takes its statistics over the field of view, so logits depend on the tile: on
real images, tiles of twice the crop's edge kept the F1 at a tuned threshold and cost a third of
that at ½.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

Predict = Callable[[np.ndarray], np.ndarray]  # uint8 [H, W, 3] -> logits [H, W]


def predictor(forward: Callable[..., Any], params: Any, tile: int) -> Predict:
    """`forward` as a function of one image, in tiles that overlap by a quarter and are blended.

    A tile's middle weighs most. The tiles are spread over this process's devices; while some are
    computed, the next ones are cut and sent.

    Args:
      forward: jitted, (params, uint8 [B, tile, tile, 3]) to logits [B, tile, tile].
      params: a pytree of arrays.
      tile: edge of a tile; a smaller image is padded by reflection.
    """
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()), ("batch",))
    params = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
    place = NamedSharding(mesh, PartitionSpec("batch"))
    at_once = 4 * mesh.size
    # A margin, so that no pixel of the image lies where a tile's zero padding shows.
    margin = tile // 8
    ramp = np.minimum(np.arange(1, tile + 1), np.arange(tile, 0, -1)).astype(np.float32)
    window = np.minimum(ramp[:, None], ramp[None, :])

    def predict(image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        padding = [(margin, margin + max(0, tile - n - 2 * margin)) for n in (height, width)]
        image = np.pad(image, [*padding, (0, 0)], "reflect")
        total = np.zeros(image.shape[:2], np.float32)
        weight = np.zeros_like(total)
        running: deque[tuple[list[tuple[slice, ...]], Any]] = deque()

        def finish() -> None:
            some, logits = running.popleft()
            for where, part in zip(some, np.asarray(logits), strict=False):
                total[where] += window * part
                weight[where] += window

        places = list(itertools.product(*(_cut(n, tile) for n in image.shape[:2])))
        for first in range(0, len(places), at_once):
            some = places[first : first + at_once]
            cut = np.zeros((at_once, tile, tile, 3), np.uint8)
            cut[: len(some)] = [image[where] for where in some]
            running.append((some, forward(params, jax.device_put(cut, place))))
            if len(running) > 1:
                finish()
        finish()
        return (total / weight)[margin : margin + height, margin : margin + width]

    return predict


def _cut(length: int, tile: int) -> list[slice]:
    """Tiles that cover `length` evenly and overlap by at least a quarter."""
    count = 1 + max(0, -(-(length - tile) // (tile * 3 // 4)))
    starts = np.linspace(0, length - tile, count).round().astype(int).tolist()
    return [slice(start, start + tile) for start in starts]
