"""How fast the input alone is: crops a second, without a network that waits for them."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console

from experiments.ships.data import Reading, open_images
from experiments.ships.experiment import Settings
from experiments.ships.pipeline import Images, batches
from experiments.ships.splits import split


def tell(settings: Settings, reading: Reading, console: Console) -> None:
    """Print the rates of three passes over the training images."""
    images = open_images(settings, reading, console)
    rates = crops_per_second(
        images,
        split(images, 0).train,
        batch_size=settings.batch_size,
        crop=settings.crop,
        ship_share=settings.ship_share,
        workers=reading.workers,
    )
    for number, rate in enumerate(rates, 1):
        console.print(f"pass {number}: {rate:.0f} crops/s")


def crops_per_second(
    images: Images,
    members: Sequence[int],
    *,
    passes: int = 3,
    batch_size: int,
    crop: int,
    ship_share: float,
    workers: int,
) -> list[float]:
    """Rates of successive passes of as many crops as there are images, 2,000 at most.

    The first contains what is done once: processes start, files are decoded into a cache.

    Args:
      images: the whole set.
      members: those to draw from.
      passes: how many rates.
      batch_size: crops in a batch.
      crop: their edge in pixels.
      ship_share: share of the crops near a ship.
      workers: processes that draw them.
    """
    steps = max(1, min(len(members), 2000) // batch_size)
    drawn = iter(
        batches(
            images,
            list(members),
            seed=0,
            steps=passes * steps,
            batch_size=batch_size,
            crop=crop,
            ship_share=ship_share,
            workers=workers,
        )
    )
    rates = []
    for _ in range(passes):
        begun = time.perf_counter()
        for _ in range(steps):
            next(drawn)
        rates.append(steps * batch_size / (time.perf_counter() - begun))
    return rates
