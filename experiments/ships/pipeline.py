"""From images to batches of crops: a chosen share of them near ships, and random access.

Every batch is a pure function of (seed, step), so a resumed run sees what an uninterrupted one
would have seen, without an iterator's state in the checkpoint.
"""

from __future__ import annotations

import functools
import os
import signal
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.typing import ArrayLike

from experiments.ships.images import Example, ImageSet, UnreadableImage

Batch = dict[str, Any]  # arrays, on the host or on the device

# Decoding or drawing an image takes as long as training on it, and crops come back to the same
# images, if there are not too many. 1024 of them are 0.3 GB at 256 x 256 and 2 GB at 768 x 768.
KEPT_IMAGES = 1024


class Images:
    """An image set that keeps what it has read or drawn, and names once what it cannot read.

    A file that proves damaged only when it is decoded is left out, or stops the run if `strict`.

    Args:
      source: the set.
      strict: raise for an image that cannot be read.
      kept: how many images are kept in memory, in each process that draws crops.
    """

    def __init__(self, source: ImageSet, *, strict: bool = False, kept: int = KEPT_IMAGES) -> None:
        self.source = source
        self._options = {"strict": strict, "kept": kept}
        self._strict = strict
        self._fetch = functools.lru_cache(kept)(source.__getitem__)
        self.unreadable: dict[str, str] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(Images, **self._options), (self.source,)

    def __len__(self) -> int:
        return len(self.source)

    def has_ships(self, index: int) -> bool:
        return self.source.has_ships(index)

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
    workers: int = 0,
    rows: slice | None = None,
) -> Iterator[Batch]:
    """Batches `start` to `steps` of crops: uint8 "image" [B, crop, crop, 3], bool "mask".

    A share of the crops is centred near a random ship pixel, so that rare ships are seen often;
    the others lie anywhere in any image. An image smaller than a crop is padded by reflection, and
    a file that turns out to be unreadable is replaced by another draw.

    Args:
      images: the whole set.
      members: those to draw from.
      seed: of the draws.
      steps: number of the last batch.
      start: number of batches to leave out.
      batch_size: crops in a batch.
      crop: their edge in pixels.
      ship_share: share of the crops near a ship.
      rows: of every batch, an even share; default: all of them.
      workers: processes that draw them; 0 draws them on threads of this one. The batches are the
        same whatever their number.
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
    threads = 1 if workers else max(2, os.cpu_count() or 1)
    reading = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)  # batches
    first, end, _ = (rows or slice(None)).indices(batch_size)
    share, count = end - first, batch_size // (end - first)
    mine = crops.batch(share)[start * count + first // share :: count]
    found = mine.to_iter_dataset(reading)
    flags.FLAGS.mark_as_parsed()  # grain asks its own before it starts a process
    processes = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=4)
    drawn = iter(found.mp_prefetch(processes, worker_init_fn=_ignore_interrupts))
    try:
        yield from drawn
    finally:
        drawn.close()


def _ignore_interrupts(_worker: int, _workers: int) -> None:
    """Ctrl-C goes to every process, but it is the loop that decides when to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _crop(example: Example, size: int, rng: np.random.Generator, *, on_ship: bool) -> Batch:
    image, instances = example.image, example.instances
    short = [(0, max(0, size - n)) for n in instances.shape]
    if any(after for _, after in short):
        image = np.pad(image, [*short, (0, 0)], "reflect")
        instances = np.pad(instances, short, "reflect")
    room = np.array(instances.shape) - size
    if on_ship:
        pixels = np.flatnonzero(instances != 0)
        centre = np.array(np.unravel_index(rng.choice(pixels), instances.shape))
        corner = np.clip(centre - rng.integers(size // 4, 3 * size // 4, 2), 0, room)
    else:
        corner = rng.integers(0, room + 1)
    rows, columns = (slice(int(c), int(c) + size) for c in corner)
    return {"image": image[rows, columns], "mask": instances[rows, columns] > 0}


def normalize(image: ArrayLike) -> jax.Array:
    """uint8 pixels as floats in [-1, 1]; done on the device, so that bytes cross the bus."""
    return jnp.asarray(image, jnp.float32) / 127.5 - 1.0
