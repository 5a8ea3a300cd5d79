"""How fast the input alone is: crops a second, without a network that waits for them."""

from __future__ import annotations

import time
from collections.abc import Iterator

from rich.console import Console

from experiments.ships.data import Reading, open_images
from experiments.ships.experiment import Settings, crops_of
from experiments.ships.pipeline import Images
from experiments.ships.splits import split

PASSES = 3


def tell(settings: Settings, reading: Reading, console: Console) -> None:
    """Print the rates of some passes over the training images."""
    images = open_images(settings, reading, console)
    rates = crops_per_second(settings, reading, images, split(images, 0).train)
    for number, rate in enumerate(rates, 1):
        console.print(f"pass {number}: {rate:.0f} crops/s")


def crops_per_second(
    settings: Settings, reading: Reading, images: Images, members: list[int]
) -> Iterator[float]:
    """Rates of successive passes of as many crops as there are images, 2,000 at most.

    The first contains what is done once: processes start, files are decoded into a cache.
    """
    steps = max(1, min(len(members), 2000) // settings.batch_size)
    crops = crops_of(settings, reading, images, members, seed=0)(steps=PASSES * steps)
    for _ in range(PASSES):
        begun = time.perf_counter()
        for _ in range(steps):
            next(crops)
        yield steps * settings.batch_size / (time.perf_counter() - begun)
