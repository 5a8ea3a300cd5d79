"""The sea: its colour, waves, shoals and foam, and the things in it that are no ships."""

import math

import numpy as np

from experiments.ships.scenery.canvas import (
    Canvas,
    Place,
    fractal,
    ramp,
    random_field,
    wave_numbers,
)

# Colour of the water, and standard deviation (grey levels) and skewness of its waves, as measured
# on images of the challenge: dark blue and green seas are calm, grey ones reflect a rough sky. The
# roughest, of 9 to 12, are drawn with 8: their crests cost a small network too much training.
_SEAS = (
    ((2, 18, 50), 1.8, 0.3),
    ((4, 28, 50), 2.6, 0.3),
    ((14, 34, 55), 2.4, 0.1),
    ((2, 40, 68), 2.4, 0.2),
    ((28, 55, 76), 3.2, 0.1),
    ((5, 42, 54), 2.2, 0.2),
    ((12, 36, 41), 1.6, 0.1),
    ((20, 62, 64), 2.4, 0.2),
    ((18, 78, 98), 2.6, 0.2),
    ((71, 133, 145), 3.4, 0.2),
    ((80, 116, 106), 4.0, 0.2),
    ((58, 76, 92), 6.5, 0.2),
    ((41, 64, 75), 6.0, 0.2),
    ((14, 27, 42), 7.5, 0.4),
    ((8, 22, 30), 8.0, 0.5),
    ((32, 46, 48), 8.0, 0.4),
    ((60, 67, 72), 8.0, 0.1),
    ((88, 91, 94), 8.0, 0.05),
    ((122, 126, 132), 8.0, 0.05),
    ((138, 149, 142), 8.0, -0.1),
)
_FOAM = (206, 216, 218)


def water(rng: np.random.Generator, size: int) -> Canvas:
    """An empty sea."""
    colour, contrast, skew = _SEAS[rng.integers(len(_SEAS))]
    colour = np.array(colour, np.float32) * rng.uniform(0.8, 1.2)
    colour = np.maximum(colour + rng.normal(0, 2.5, 3), 1).astype(np.float32)
    wind = rng.uniform(0, math.pi)
    chop = _crests(size, rng.uniform(5, 10), rng.uniform(0.5, 0.8), rng.uniform(0.3, 2.5), wind)
    swell = _crests(size, rng.uniform(11, 24), 0.35, rng.uniform(4, 12), wind + rng.normal(0, 0.5))
    waves = random_field(rng, chop + rng.uniform(0, 0.8) * swell)
    drift = fractal(rng, size, 1.6)
    waves *= 1 + 0.12 * drift
    relief = np.expm1(skew * waves) / skew  # lit crests are brighter than troughs are dark
    tilt, _ = Place(size / 2, size / 2, rng.uniform(0, 2 * math.pi)).frame(
        (slice(0, size), slice(0, size))
    )
    light = contrast * rng.uniform(0.8, 1.25) * relief
    light += rng.uniform(0.3, 1.5) * drift + rng.uniform(0, 10) / size * tilt
    tint = 0.55 + 0.45 * colour / colour.mean()
    tint *= 1 + rng.uniform(0, 0.15) * np.array((1, 0, -1), np.float32)  # low sun is warm
    pixels = colour + light[..., None] * tint.astype(np.float32)
    return Canvas(rng, pixels, waves, rng.uniform(0, 2 * math.pi))


def _crests(
    size: int, wavelength: float, spread: float, order: float, heading: float
) -> np.ndarray:
    """Amplitudes of waves of about this length; the larger `order`, the longer their crests."""
    across, down, norm = wave_numbers(size)
    amplitude = np.exp(-0.5 * (np.log(norm * wavelength) / spread) ** 2)
    facing = np.abs(math.cos(heading) * across + math.sin(heading) * down) / norm
    amplitude *= facing**order
    return amplitude / np.linalg.norm(amplitude)


def shoal(canvas: Canvas) -> None:
    """Sand or coral that shines through shallow water."""
    rng = canvas.rng
    depth = fractal(rng, canvas.size, 2.2)
    bottom = np.array(rng.choice([(30, 84, 88), (46, 112, 104), (98, 124, 106)]), np.float32)
    grain = 1 + 0.12 * fractal(rng, canvas.size, 1.4)
    cover = ramp(depth, rng.uniform(0, 1.2), 3)
    canvas.blend(rng.uniform(0.3, 0.9) * cover, bottom * grain[..., None])


def slick(canvas: Canvas) -> None:
    """Films of oil or algae, which calm and darken the water along broken lines."""
    rng = canvas.rng
    course = fractal(rng, canvas.size, 2.4) / rng.uniform(0.03, 0.2)
    strip = np.exp(-(course**2)) * ramp(fractal(rng, canvas.size, 1.2), -0.5, 2.0)
    canvas.darken(rng.uniform(0.2, 0.6) * strip)


def whitecaps(canvas: Canvas) -> None:
    crest = canvas.waves + 0.5 * fractal(canvas.rng, canvas.size, 1.4)
    limit = canvas.rng.uniform(2.9, 4.0)
    canvas.blend(canvas.rng.uniform(0.4, 0.95) * ramp(crest, limit, limit + 0.7), _FOAM)


def glitter(canvas: Canvas) -> None:
    """Sun glint, coloured because the scanner takes its three bands one after another."""
    rng = canvas.rng
    patch = ramp(fractal(rng, canvas.size, 2.0), -1.5, 1)
    sparks = rng.random(canvas.pixels.shape, np.float32) > 1 - rng.uniform(0.01, 0.04)
    white = rng.random((*patch.shape, 1), np.float32) > 1 - rng.uniform(0.01, 0.03)
    canvas.pixels += (sparks | white) * (patch[..., None] * rng.uniform(60, 200))


def rocks(canvas: Canvas) -> None:
    rng = canvas.rng
    along, across = canvas.anywhere().frame(canvas.whole)
    islet = np.exp(-(along**2 + across**2) / rng.uniform(8, 40) ** 2)
    height = fractal(rng, canvas.size, 1.3) + 2.5 * islet - 3.2
    canvas.blend(ramp(height, -0.9, -0.1) * ramp(canvas.waves, -1, 1.5), _FOAM)
    stone = rng.uniform(50, 110) * (1 + 0.25 * canvas.waves[..., None])
    canvas.blend(ramp(height, 0, 0.25), stone * np.array((1.04, 1, 0.89), np.float32))
    canvas.free &= height < -0.6


def fish_farm(canvas: Canvas) -> None:
    """Round net cages, or rafts of beams, moored in rows."""
    rng = canvas.rng
    place, pitch = canvas.anywhere(), rng.uniform(13, 24)
    half_length, half_width = pitch * rng.integers(2, 6) / 2, pitch * rng.integers(1, 4) / 2
    box = place.box(canvas.size, (-half_length, half_length), (-half_width, half_width))
    along, across = place.frame(box)
    inside = (np.abs(along) < half_length) & (np.abs(across) < half_width)
    u, v = (along + half_length) / pitch % 1 - 0.5, (across + half_width) / pitch % 1 - 0.5
    radius = np.hypot(u, v)
    if rng.random() < 0.5:
        rim = np.exp(-(((radius - 0.36) / 0.05) ** 2))
        canvas.darken(inside * (radius < 0.36) * 0.35, box)
        canvas.blend(inside * rim * 0.7, rng.choice([(20, 34, 70), (138, 146, 142)]), box)
    else:
        beams = (np.abs(u) < 0.36) & (np.abs(v) < 0.4) & ((v * pitch / 2.5) % 1 < 0.55)
        canvas.blend(inside * beams * rng.uniform(0.3, 0.7), (92, 88, 76), box)
    canvas.free[box] &= ~inside


def buoys(canvas: Canvas) -> None:
    for _ in range(canvas.rng.integers(1, 9)):
        place = canvas.anywhere()
        box = place.box(canvas.size, (-4, 4), (-4, 4))
        along, across = place.frame(box)
        spot = np.exp(-(along**2 + across**2) / canvas.rng.uniform(0.5, 1.2))
        canvas.blend(spot * canvas.rng.uniform(0.5, 1), (228, 214, 190), box)
        canvas.free[box] = False
