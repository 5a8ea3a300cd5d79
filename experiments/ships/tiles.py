"""Prediction of images of any size, in tiles of one shape: nothing is compiled anew.

Group normalisation takes its statistics over the field of view, so logits depend on the tile. On a
CPU a pixel of a small tile costs less than one of a whole image, because a tile stays in the cache.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

Predict = Callable[[np.ndarray], np.ndarray]  # uint8 [H, W, 3] -> logits [H, W]


def predictor(forward: Callable[..., Any], params: Any, tile: int, *, overlap: int) -> Predict:
    """`forward` as a function of one image, tile by tile, spread over all devices.

    While a batch of tiles is computed, the next one is cut and sent. Of the pixels that two tiles
    share, each keeps the half that lies farther from its border.

    Args:
      forward: jitted, (params, uint8 [B, tile, tile, 3]) to logits [B, tile, tile].
      params: a pytree of arrays.
      tile: edge of a tile; a smaller image is padded by reflection.
      overlap: how many pixels neighbouring tiles share at least.
    """
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("batch",))
    params = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
    place = NamedSharding(mesh, PartitionSpec("batch"))
    # An accelerator wants more work at once; a core's cache holds one tile.
    at_once = mesh.size * (1 if jax.default_backend() == "cpu" else 4)

    def predict(image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        short = [(0, max(0, tile - n)) for n in (height, width)]
        image = np.pad(image, [*short, (0, 0)], "reflect")
        logits = np.empty(image.shape[:2], np.float32)
        running: deque[tuple[list[tuple[Cut, ...]], Any]] = deque()

        def finish() -> None:
            some, parts = running.popleft()
            for (rows, columns), part in zip(some, np.asarray(parts), strict=False):
                logits[rows.kept, columns.kept] = part[rows.of_tile, columns.of_tile]

        places = list(itertools.product(*(cut(n, tile, overlap) for n in image.shape[:2])))
        for first in range(0, len(places), at_once):
            some = places[first : first + at_once]
            tiles = np.zeros((at_once, tile, tile, 3), np.uint8)
            for k, (rows, columns) in enumerate(some):
                tiles[k] = image[rows.seen, columns.seen]
            running.append((some, forward(params, jax.device_put(tiles, place))))
            if len(running) > 1:
                finish()
        finish()
        return logits[:height, :width]

    return predict


class Cut(NamedTuple):
    """A tile along one axis."""

    seen: slice  # what it sees of the image
    kept: slice  # for which part of the image its logits are kept
    of_tile: slice  # the same part, counted from the tile's corner


def cut(length: int, tile: int, overlap: int) -> list[Cut]:
    """Tiles that cover `length` evenly and share at least `overlap` pixels."""
    count = 1 + max(0, -(-(length - tile) // (tile - overlap)))
    starts = np.linspace(0, length - tile, count).round().astype(int).tolist()
    middles = [(a + b + tile) // 2 for a, b in itertools.pairwise(starts)]
    borders = itertools.pairwise([0, *middles, length])
    return [
        Cut(slice(start, start + tile), slice(low, high), slice(low - start, high - start))
        for start, (low, high) in zip(starts, borders, strict=True)
    ]
