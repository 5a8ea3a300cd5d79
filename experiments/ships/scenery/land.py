"""Coasts: beaches, woods, fields and towns, or a harbour with yards, tanks and piers."""

import math

import numpy as np

from experiments.ships.scenery.canvas import Berth, Canvas, Place, fractal, lattice, ramp

_CONCRETE = np.array((1.05, 1, 0.88), np.float32)
_ROOFS = np.array(
    [(138, 98, 76), (148, 110, 86), (130, 124, 112), (172, 166, 152), (104, 98, 88)], np.float32
)
_SHEDS = np.array(
    [(150, 146, 134), (180, 174, 160), (116, 110, 100), (132, 122, 104), (146, 108, 86)], np.float32
)
_STACKS = np.array(
    [(180, 172, 152), (128, 82, 66), (146, 108, 74), (96, 98, 92), (80, 90, 102)], np.float32
)


def coast(canvas: Canvas) -> None:
    """Land on one side of the scene.

    Its `height` is negative in the water and roughly counts the pixels from the shore.
    """
    rng, size = canvas.rng, canvas.size
    inland = Place(size / 2, size / 2, rng.uniform(0, 2 * math.pi))
    along, across = inland.frame(canvas.whole)
    is_harbour = rng.random() < 0.35
    relief = fractal(rng, size, 1.9)
    height = along if is_harbour else along + size * rng.uniform(0.03, 0.12) * relief
    shore = float(np.quantile(height[::4, ::4], rng.uniform(0.4, 0.88)))
    height = height - shore

    shallow = np.exp(np.minimum(height, 0) / rng.uniform(4, 40)) * rng.uniform(0.1, 0.6)
    canvas.blend(shallow, rng.choice([(52, 104, 96), (112, 118, 92), (96, 124, 104)]))
    if is_harbour:
        ground = _yards(canvas, height, across)
    else:
        ground = _countryside(canvas, height, relief)
        surf = np.exp(-(((height + 2.5 + 2 * canvas.waves) / 1.8) ** 2))
        canvas.blend(surf * rng.uniform(0, 0.8), (214, 220, 216))
    canvas.blend(ramp(height, -0.5, 0.5), ground)
    canvas.free &= height < (-1 if is_harbour else -5)
    if is_harbour:
        _piers(canvas, Place(*inland.at(shore, 0), inland.heading))


def _countryside(canvas: Canvas, height: np.ndarray, relief: np.ndarray) -> np.ndarray:
    rng, size = canvas.rng, canvas.size
    rough, cover = fractal(rng, size, 0.9), fractal(rng, size, 1.7)
    green = np.array([(46, 62, 46), (66, 78, 54), (84, 86, 64)][rng.integers(3)], np.float32)
    soil = np.array([(132, 116, 92), (120, 110, 88), (98, 96, 74)][rng.integers(3)], np.float32)
    ground = green + ramp(cover, 0.2, 1.2)[..., None] * (soil - green)
    ground *= (1 + 0.2 * rough)[..., None]
    if rng.random() < 0.35:
        along, across = (axis + 6 * relief for axis in canvas.anywhere().frame(canvas.whole))
        town = (cover + 0.3 * rough < rng.uniform(-0.4, 1.2)) & (height > 14)
        ground[town] = 0.6 * ground[town] + 0.4 * soil
        street = (along / rng.uniform(38, 60) % 1 < 0.09) | (across / 31 % 1 < 0.12)
        ground[town & street] = (130, 120, 98)
        pitch = (rng.uniform(8, 14), rng.uniform(7, 11))
        houses, roofs = lattice(rng, along, across, pitch, (0.2, 1.0), _ROOFS)
        houses &= town & ~street & (rough > -1)
        ground[canvas.shadow(houses, 2) & town] *= 0.55
        ground[houses] = 0.5 * ground[houses] + 0.5 * roofs[houses]
    width = rng.uniform(2, 24)
    sand = np.array(rng.choice([(158, 140, 112), (138, 124, 98), (106, 98, 78)]), np.float32)
    sand = sand * (1 + 0.12 * rough)[..., None]
    return ground + (1 - ramp(height, 0.6 * width, width))[..., None] * (sand - ground)


def _yards(canvas: Canvas, height: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Concrete with stacks of containers, or sheds, and tanks, behind a straight edge."""
    rng, size = canvas.rng, canvas.size
    rough, cover = fractal(rng, size, 1.0), fractal(rng, size, 2.0)
    ground = rng.uniform(90, 145) * (1 + 0.1 * rough + 0.1 * cover)[..., None] * _CONCRETE
    lanes = (np.abs(height % 41 - 17) < 1.5) | (np.abs(across % 67 - 23) < 1.5)
    ground[lanes] *= 0.85
    if rng.random() < 0.25:
        pitch, fill, colours, reach = (19.0, 4.5), (0.8, 1.0), _STACKS, 1.0
        aisles = across / 4.5 % 8 < 1.5
    else:
        pitch, fill, colours, reach = (41.0, 67 / 3), (0.2, 0.9), _SHEDS, 3.0
        aisles = lanes
    built, roofs = lattice(rng, height, across, pitch, fill, colours)
    built &= (height > rng.uniform(8, 30)) & (cover > rng.uniform(-1, 0.4)) & ~aisles
    ground[canvas.shadow(built, reach)] *= 0.55
    ridge = 1 + 0.06 * np.sign(np.sin(height * 1.5)) + 0.06 * rough
    ground[built] = 0.4 * ground[built] + 0.6 * roofs[built] * ridge[built, None]
    if rng.random() < 0.35:
        pitch = rng.uniform(24, 40)
        i, j = (np.floor(axis / pitch).astype(int) % 8 for axis in (height, across))
        radius = np.hypot(height % pitch - pitch / 2, across % pitch - pitch / 2)
        wall = pitch * rng.uniform(-0.1, 0.36, (8, 8)).astype(np.float32)[i, j]
        tanks = (radius < wall) & (height > 40)
        ground[canvas.shadow(tanks, 4)] *= 0.6
        rim = radius[tanks] > wall[tanks] - 1.5
        ground[tanks] = (rng.uniform(110, 160) * (1 - 0.3 * rim))[:, None] * _CONCRETE
    return ground


def _piers(canvas: Canvas, quay: Place) -> None:
    """Piers out from the quay; ships may berth along them and along the quay itself."""
    rng, size = canvas.rng, canvas.size
    tone = rng.uniform(90, 145) * _CONCRETE
    for across in np.arange(-0.7 * size, 0.7 * size, rng.uniform(45, 90)):
        pier = Place(*quay.at(0, across), quay.heading)
        canvas.berths.append(Berth(pier.row, pier.column, quay.heading + math.pi))
        if rng.random() < 0.5:
            continue
        length, half = rng.uniform(15, 75), rng.uniform(1.5, 6)
        box = pier.box(size, (-length, 3), (-half, half))
        u, v = pier.frame(box)
        inside = (u > -length) & (u < 3) & (np.abs(v) < half)
        canvas.darken(0.5 * canvas.shadow(inside, 2), box)
        grain = 1 + 0.06 * canvas.waves[box] - 0.1 * (np.abs(v) > half - 1)
        canvas.blend(inside, grain[..., None] * tone, box)
        canvas.free[box] &= ~inside
        canvas.berths.append(Berth(*pier.at(-length / 2, half), quay.heading + math.pi / 2))
