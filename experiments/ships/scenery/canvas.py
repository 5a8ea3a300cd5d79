"""The canvas that all scenery is drawn on, random fields, and coordinates along and across things.

Everything is float32: a NumPy float64 scalar would silently promote whole images.
"""

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike

Box = tuple[slice, slice]  # rows and columns of a part of the image
Range = tuple[float, float]


class Place(NamedTuple):
    """Where a thing lies, in pixels, and the direction of its length, from columns to rows."""

    row: float
    column: float
    heading: float

    def at(self, along: float, across: float) -> tuple[float, float]:
        """Row and column of a point that is given by its coordinates along and across."""
        c, s = math.cos(self.heading), math.sin(self.heading)
        return self.row + s * along + c * across, self.column + c * along - s * across

    def box(self, size: int, along: Range, across: Range) -> Box:
        """The part of the image around a rectangle."""
        corners = [self.at(a, b) for a in along for b in across]
        rows, columns = zip(*corners, strict=True)
        return _span(rows, size), _span(columns, size)

    def frame(self, box: Box, samples: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates along and across, at `samples` x `samples` points of each pixel of a box."""
        y, x = (
            (np.arange(s.start * samples, s.stop * samples, dtype=np.float32) + 0.5) / samples
            for s in box
        )
        y, x = y[:, None] - self.row, x[None, :] - self.column
        c, s = math.cos(self.heading), math.sin(self.heading)
        return c * x + s * y, c * y - s * x


def _span(positions: tuple[float, ...], size: int) -> slice:
    low = min(max(math.floor(min(positions)), 0), size)
    return slice(low, max(min(math.ceil(max(positions)) + 1, size), low))


class Berth(NamedTuple):
    """A point on a quay where a ship may moor, and the direction out into the water."""

    row: float
    column: float
    outward: float


@dataclass
class Canvas:
    """A scene while it is drawn."""

    rng: np.random.Generator
    pixels: np.ndarray  # float32 (H, W, 3), grey levels
    waves: np.ndarray  # float32 (H, W), unit variance; also the grain of foam and stones
    sun: float  # the direction in which shadows fall
    berths: list[Berth] = field(default_factory=list)
    instances: np.ndarray = field(init=False)  # int32 (H, W)
    free: np.ndarray = field(init=False)  # bool (H, W), where a ship may lie and be seen

    def __post_init__(self) -> None:
        self.instances = np.zeros_like(self.waves, np.int32)
        self.free = np.ones_like(self.waves, bool)

    @property
    def size(self) -> int:
        return len(self.waves)

    @property
    def whole(self) -> Box:
        return slice(0, self.size), slice(0, self.size)

    def anywhere(self) -> Place:
        row, column, heading = self.rng.random(3)
        return Place(row * self.size, column * self.size, heading * 2 * math.pi)

    def blend(self, alpha: np.ndarray, colour: ArrayLike, box: Box | None = None) -> None:
        pixels = self.pixels[box or self.whole]
        alpha = alpha.astype(np.float32, copy=False)[..., None]
        pixels += alpha * (np.asarray(colour, np.float32) - pixels)

    def darken(self, alpha: np.ndarray, box: Box | None = None) -> None:
        pixels = self.pixels[box or self.whole]
        pixels *= 1 - alpha.astype(np.float32, copy=False)[..., None]

    def shadow(self, mask: np.ndarray, reach: float) -> np.ndarray:
        """A mask or opacity moved along the sun's rays; what leaves comes in at the other side."""
        offset = round(reach * math.sin(self.sun)), round(reach * math.cos(self.sun))
        return np.roll(mask, offset, (0, 1))


@lru_cache(maxsize=4)
def wave_numbers(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cycles a pixel across, down, and their norm, of the modes of `random_field`."""
    across = scipy.fft.rfftfreq(size).astype(np.float32)[None, :]
    down = scipy.fft.fftfreq(size).astype(np.float32)[:, None]
    norm = np.hypot(across, down)
    norm[0, 0] = np.inf  # so that no power law has a mean
    return across, down, norm


@lru_cache(maxsize=16)
def _power_law(size: int, exponent: float) -> np.ndarray:
    return wave_numbers(size)[2] ** -exponent


def random_field(rng: np.random.Generator, amplitude: np.ndarray) -> np.ndarray:
    """A random field of unit variance whose Fourier modes have this amplitude.

    Sums of many modes are Gaussian whatever the distribution of each; uniform is the cheapest.
    """
    size = len(amplitude)
    noise = (rng.random((*amplitude.shape, 2), np.float32) - 0.5).view(np.complex64)[..., 0]
    values = np.asarray(scipy.fft.irfft2(noise * amplitude, s=(size, size)))
    return values / values.std()


def fractal(rng: np.random.Generator, size: int, exponent: float) -> np.ndarray:
    """A random field without a scale of its own; the larger the exponent, the smoother."""
    return random_field(rng, _power_law(size, exponent))


def ramp(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, linear between."""
    return np.clip((values - low) / (high - low), 0, 1)


def lattice(
    rng: np.random.Generator,
    along: np.ndarray,
    across: np.ndarray,
    pitch: tuple[float, float],
    fill: Range,
    colours: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Rectangles of random size and colour on a grid: is a point inside one, and its colour."""
    i, j = np.floor(along / pitch[0]).astype(int), np.floor(across / pitch[1]).astype(int)
    from_middle = np.abs(along / pitch[0] - i - 0.5), np.abs(across / pitch[1] - j - 0.5)
    i, j = i - i.min(), j - j.min()
    shape = (i.max() + 1, j.max() + 1)
    half = rng.uniform(fill[0] / 2, fill[1] / 2, (2, shape[0] * shape[1])).astype(np.float32)
    colour = colours[rng.integers(len(colours), size=half.shape[1])]
    colour = colour * rng.uniform(0.8, 1.15, (half.shape[1], 1)).astype(np.float32)
    cell = i * shape[1] + j
    inside = (from_middle[0] < half[0][cell]) & (from_middle[1] < half[1][cell])
    return inside, colour[cell]
