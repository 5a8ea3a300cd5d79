"""From images to batches of crops: split by image, chosen share of ship crops, random access.

Every batch is a pure function of (seed, step), so a resumed run sees what an uninterrupted one
would have seen, without an iterator's state in the checkpoint.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from experiments.ships.images import Example, ImageSet, UnreadableImage

Batch = dict[str, Any]  # arrays, on the host or on the device

# Decoding or drawing an image takes as long as training on it, and crops come back to the same
# images, if there are not too many. 1024 of them are 0.5 GB at 256 x 256 and 4 GB at 768 x 768.
CACHED_IMAGES = 1024


class Images:
    """An image set that keeps what it has read or drawn, and names once what it cannot read.

    A file that proves damaged only when it is decoded is left out, or stops the run if `strict`.
    """

    def __init__(self, images: ImageSet, *, strict: bool = False) -> None:
        self._images = images
        self._strict = strict
        self._fetch = functools.lru_cache(CACHED_IMAGES)(images.__getitem__)
        self.unreadable: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._images)

    def has_ships(self, index: int) -> bool:
        return self._images.has_ships(index)

    def read(self, index: int) -> Example | None:
        """The image, or None if it cannot be read."""
        try:
            return self._fetch(index)
        except UnreadableImage as error:
            if self._strict:
                raise
            if error.name not in self.unreadable:
                self.unreadable[error.name] = error.reason
                warnings.warn(f"left out: {error}", stacklevel=2)
            return None

    def readable(self, members: Iterable[int]) -> Iterator[Example]:
        """Those of the images that can be read, one at a time."""
        return (example for i in members if (example := self.read(i)) is not None)


@dataclass(frozen=True)
class Split:
    """Image numbers for training, for tuning thresholds, and for the report."""

    train: list[int]
    validation: list[int]
    test: list[int]


def split(images: Images, *, seed: int, shares: tuple[float, float] = (0.15, 0.25)) -> Split:
    """Divide images, not crops, into parts with the same share of empty images.

    Args:
      images: the whole set.
      seed: another seed is another split.
      shares: of validation and test.

    Raises:
      ValueError: if a part would have no image with ships.
    """
    rng = np.random.default_rng(seed)
    parts: tuple[list[int], ...] = ([], [], [])
    full = np.array([images.has_ships(i) for i in range(len(images))], bool)
    for members in (np.flatnonzero(full), np.flatnonzero(~full)):
        order = rng.permutation(members)
        first, second = (round(len(order) * share) for share in shares)
        pieces = (order[first + second :], order[:first], order[first : first + second])
        for part, piece in zip(parts, pieces, strict=True):
            part.extend(int(i) for i in piece)
    for name, part in zip(("training", "validation", "test"), parts, strict=True):
        if not any(full[i] for i in part):
            raise ValueError(
                f"the {name} part would have no image with ships: {int(full.sum())} of "
                f"{len(images)} images have some, at least 4 are needed"
            )
    return Split(*(sorted(part) for part in parts))


def batches(
    images: Images,
    members: list[int],
    *,
    seed: int,
    steps: int,
    start: int = 0,
    batch_size: int,
    crop: int,
    ship_share: float,
    rows: slice | None = None,
) -> Iterator[Batch]:
    """Batches `start` to `steps` of crops: uint8 "image" [B, crop, crop, 3], bool "mask".

    A share of the crops is centred near a random ship pixel, so that rare ships are seen often;
    the others lie anywhere in any image. An image smaller than a crop is padded by reflection, and
    a file that turns out to be unreadable is replaced by another draw. Of many processes each
    reads its `rows` of every batch, an even share.
    """
    everything = np.array(members)
    with_ships = np.array([i for i in members if images.has_ships(i)])

    def draw(_: int, rng: np.random.Generator) -> Batch:
        wants_ship = rng.random() < ship_share
        for _attempt in range(20):
            example = images.read(int(rng.choice(with_ships if wants_ship else everything)))
            if example is not None:
                return _crop(example, crop, rng, on_ship=wants_ship)
        raise UnreadableImage("training images", "20 in a row could not be read")

    crops = grain.MapDataset.range(steps * batch_size).seed(seed).random_map(draw)
    reading = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)  # batches
    first, end, _ = (rows or slice(None)).indices(batch_size)
    share, count = end - first, batch_size // (end - first)
    mine = crops.batch(share)[start * count + first // share :: count]
    yield from mine.to_iter_dataset(reading)


def _crop(example: Example, size: int, rng: np.random.Generator, *, on_ship: bool) -> Batch:
    image, mask = example.image, example.instances > 0
    short = [(0, max(0, size - n)) for n in mask.shape]
    if any(after for _, after in short):
        image, mask = np.pad(image, [*short, (0, 0)], "reflect"), np.pad(mask, short, "reflect")
    room = np.array(mask.shape) - size
    if on_ship:
        pixels = np.flatnonzero(mask)
        centre = np.array(np.unravel_index(rng.choice(pixels), mask.shape))
        corner = np.clip(centre - rng.integers(size // 4, 3 * size // 4, 2), 0, room)
    else:
        corner = rng.integers(0, room + 1)
    rows, columns = (slice(int(c), int(c) + size) for c in corner)
    return {"image": image[rows, columns], "mask": mask[rows, columns]}


def normalize(image: ArrayLike) -> jax.Array:
    """uint8 pixels as floats in [-1, 1]; done on the device, so that bytes cross the bus."""
    return jnp.asarray(image, jnp.float32) / 127.5 - 1.0


def augment(key: jax.Array, image: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """One of the eight symmetries of the square for each crop: from above there is no up.

    Args:
      key: random key.
      image: [B, N, N, 3].
      mask: [B, N, N].
    """

    def turn(bits: jax.Array, x: jax.Array) -> jax.Array:
        x = jnp.where(bits[0], x[::-1], x)
        x = jnp.where(bits[1], x[:, ::-1], x)
        return jnp.where(bits[2], jnp.swapaxes(x, 0, 1), x)

    bits = jax.random.bernoulli(key, shape=(image.shape[0], 3))
    return jax.vmap(turn)(bits, image), jax.vmap(turn)(bits, mask)
