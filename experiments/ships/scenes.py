"""Drawn satellite scenes like those of the Airbus challenge, for when its images are not at hand.

A scene is built as it is seen: water, then what stands in it, then ships, clouds and the camera.
Colours, wave contrast and ship sizes were read off real images; the scenes keep what makes the
task hard. Most are empty, ships fill a fraction of a per cent of the pixels, and foam, clouds,
rocks, piers and roofs are as bright as they are. Labels are rotated rectangles, as in the
challenge, although hulls taper towards the bow.
"""

import io
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter

from experiments.ships.images import Example
from experiments.ships.scenery import water as sea
from experiments.ships.scenery.canvas import Canvas, fractal
from experiments.ships.scenery.land import coast
from experiments.ships.scenery.vessels import fleet

# What a scene may contain besides water, in the order of drawing, and how often.
# Land and clouds are several times rarer than in the challenge, and land is duller: within a minute
# of training a small network meets too few of them to learn that quays and clouds are no ships.
_CONTENTS = (
    (sea.shoal, 0.12),
    (sea.slick, 0.12),
    (sea.whitecaps, 0.35),
    (sea.glitter, 0.015),
    (coast, 0.004),
    (sea.rocks, 0.015),
    (sea.fish_farm, 0.04),
    (sea.buoys, 0.12),
)


@dataclass(frozen=True)
class Scenes:
    """A set of drawn scenes: scene `i` depends on `(seed, i, size)` and `empty_share` alone.

    A pixel is about 1.5 m. Lengths of ships grow with the root of `size`, so that large scenes
    have the sparser ships of the challenge's 768-pixel images without small ones having specks.
    """

    count: int
    size: int = 256
    seed: int = 0
    empty_share: float = 0.78  # as in the challenge

    def __post_init__(self) -> None:
        if self.size < 64:
            raise ValueError(f"size is {self.size}, but a scene needs at least 64 pixels a side")
        if not 0 <= self.empty_share <= 1:
            raise ValueError(f"empty_share is {self.empty_share}, but a share lies in 0..1")

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int, /) -> Example:
        rng = self._generator(index)
        has_ships = rng.random() >= self.empty_share
        image, instances = _draw(rng, self.size, has_ships)
        return Example(f"scene-{self.seed}-{index:06d}.jpg", image, instances)

    def has_ships(self, index: int, /) -> bool:
        """Whether scene `index` has ships, without drawing it."""
        return self._generator(index).random() >= self.empty_share

    def _generator(self, index: int) -> np.random.Generator:
        if not 0 <= index < self.count:
            raise IndexError(f"scene {index} of a set of {self.count}")
        return np.random.default_rng([self.seed, index])


def _draw(rng: np.random.Generator, size: int, has_ships: bool) -> tuple[np.ndarray, np.ndarray]:
    canvas = sea.water(rng, size)
    for content, chance in _CONTENTS:
        if rng.random() < chance:
            content(canvas)
    clouds = _opacity_of_clouds(canvas, has_ships) if rng.random() < 0.01 else None
    if has_ships:
        fleet(canvas)
    if clouds is not None:
        _clouds(canvas, *clouds)
    return _photograph(canvas), canvas.instances


def _opacity_of_clouds(canvas: Canvas, has_ships: bool) -> tuple[np.ndarray, np.ndarray]:
    """Thickness and opacity of clouds; ships go where one can see through them."""
    rng = canvas.rng
    overcast = rng.random() < 0.15
    billow = fractal(rng, canvas.size, rng.choice((1.7, 1.85, 2.0)))
    excess = billow - (rng.uniform(-1.5, -0.5) if overcast else rng.uniform(0.5, 1.8))
    opacity = 1 - np.exp(-rng.uniform(0.5, 2.5) * np.maximum(excess, 0) ** 1.3)
    if has_ships and np.mean(opacity > 0.35) > 0.6:
        opacity *= 0.3
    canvas.free &= opacity < 0.35
    return billow, opacity


def _clouds(canvas: Canvas, billow: np.ndarray, opacity: np.ndarray) -> None:
    rng = canvas.rng
    canvas.darken(rng.uniform(0.1, 0.4) * canvas.shadow(opacity, rng.uniform(15, 50)))
    lit = np.clip(billow - canvas.shadow(billow, 3), -1, 1)  # the side towards the sun
    white = rng.uniform(165, 225) + 40 * (opacity - 0.5) + rng.uniform(10, 40) * lit
    canvas.blend(opacity, white[..., None] * np.array((0.98, 1, 1.02), np.float32))


@lru_cache(maxsize=1)
def _lens() -> ImageFilter.Kernel:
    """Blur of the optics, then the sharpening that leaves dark rims around bright things."""
    y, x = np.mgrid[-2:3, -2:3]
    sharp, soft = (np.exp(-(x**2 + y**2) / (2 * s**2)) for s in (0.6, 1.3))
    kernel = 1.7 * sharp / sharp.sum() - 0.7 * soft / soft.sum()
    return ImageFilter.Kernel((5, 5), kernel.ravel().tolist(), scale=1)


def _photograph(canvas: Canvas) -> np.ndarray:
    """Haze, sensor noise, optics and JPEG."""
    rng, pixels = canvas.rng, canvas.pixels
    if rng.random() < 0.2:
        canvas.blend(np.full_like(canvas.waves, rng.uniform(0.1, 0.5)), (138, 150, 154))
    pixels += rng.uniform(1, 7) * (rng.random(pixels.shape, np.float32) - 0.5)
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).filter(_lens())
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=int(rng.integers(75, 93)))
    return np.array(Image.open(jpeg))
