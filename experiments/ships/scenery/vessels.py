"""Ships at sea and at berth, their wakes, and the rectangles that label them."""

import math
from dataclasses import dataclass

import numpy as np

from experiments.ships.scenery.canvas import Berth, Box, Canvas, Place, lattice, ramp

# Images of the challenge's training set with 1, 2, ... 15 ships.
_SHIPS_PER_IMAGE = np.array(
    [27104, 7674, 2954, 1622, 925, 657, 406, 318, 243, 168, 144, 124, 75, 76, 66]
)
# Deck, fittings, rail. Black and blue decks exist too; a minute's training sees too few of them.
_DECKS = np.array(
    [
        [(136, 66, 60), (164, 88, 82), (108, 48, 46)],  # red lead
        [(158, 76, 62), (184, 110, 92), (122, 58, 50)],  # orange
        [(206, 206, 204), (232, 230, 224), (178, 182, 186)],  # white
        [(214, 214, 206), (196, 198, 198), (226, 228, 230)],  # white, grey fittings
        [(206, 198, 182), (222, 214, 196), (176, 170, 158)],  # cream
        [(146, 152, 158), (122, 128, 134), (176, 178, 180)],  # grey
    ],
    np.float32,
)
_CONTAINERS = np.array(
    [(202, 196, 182), (136, 74, 62), (164, 110, 72), (92, 100, 104), (76, 92, 118)], np.float32
)


@dataclass(frozen=True)
class _Ship:
    place: Place
    length: float
    width: float

    def rectangle(self, size: int, margin: float = 0) -> tuple[Box, np.ndarray]:
        """The pixels whose centres lie in the ship's rectangle, grown by a margin."""
        a, b = self.length / 2 + margin, self.width / 2 + margin
        box = self.place.box(size, (-a, a), (-b, b))
        along, across = self.place.frame(box)
        return box, (np.abs(along) <= a) & (np.abs(across) <= b)


def fleet(canvas: Canvas) -> None:
    """Draw and label at least one ship."""
    rng, size = canvas.rng, canvas.size
    count = 1 + rng.choice(len(_SHIPS_PER_IMAGE), p=_SHIPS_PER_IMAGE / _SHIPS_PER_IMAGE.sum())
    scale = math.sqrt(size / 256) * count**-0.1
    # Ships at anchor all head into the same wind.
    wind = rng.uniform(0, 2 * math.pi) if rng.random() < 0.4 else None
    water = canvas.free.copy()
    ships: list[_Ship] = []
    for _ in range(count):
        length = float(np.clip(rng.lognormal(math.log(42 * scale), 0.7), 5, 120 * scale))
        slender = float(np.clip(2.6 + 0.04 * length + rng.normal(0, 0.5), 2.2, 6.5))
        width = max(length / slender, 2.4)
        moored = None
        if canvas.berths and rng.random() < 0.6:
            berth = canvas.berths.pop(rng.integers(len(canvas.berths)))
            moored = _moored(canvas, berth, length, width)
        ship = moored or _afloat(canvas, wind, length, width, must=not ships)
        if ship is None:
            continue
        if not moored and rng.random() < (0.6 if wind is None else 0.15):
            _wake(canvas, ship, water)
        ships.append(ship)
        box, inside = ship.rectangle(size, margin=2)
        canvas.free[box] &= ~inside
    for label, ship in enumerate(ships, 1):  # after all wakes, which run under other ships
        _hull(canvas, ship)
        box, inside = ship.rectangle(size)
        canvas.instances[box][inside] = label


def _moored(canvas: Canvas, berth: Berth, length: float, width: float) -> _Ship | None:
    row, column = Place(*berth).at(width / 2 + 2, 0)
    ship = _Ship(Place(row, column, berth.outward + math.pi / 2), length, width)
    box, inside = ship.rectangle(canvas.size)
    return ship if inside.sum() > 8 and canvas.free[box][inside].all() else None


def _afloat(
    canvas: Canvas, wind: float | None, length: float, width: float, must: bool
) -> _Ship | None:
    """A ship in free water; one that does not fit is tried smaller, down to a dinghy."""
    rng, size = canvas.rng, canvas.size
    places = np.flatnonzero(canvas.free)
    for _ in range(40 if len(places) else 0):
        row, column = divmod(int(rng.choice(places)), size)
        heading = rng.uniform(0, 2 * math.pi) if wind is None else rng.normal(wind, 0.12)
        ship = _Ship(Place(row + 0.5, column + 0.5, heading), length, width)
        box, inside = ship.rectangle(size, margin=2)
        if canvas.free[box][inside].all():
            return ship
        length, width = max(0.95 * length, 5), max(0.95 * width, 2.4)
    return _Ship(Place(size / 2, size / 2, rng.uniform(0, math.pi)), 5, 2.4) if must else None


def _wake(canvas: Canvas, ship: _Ship, water: np.ndarray) -> None:
    """Foam astern that widens and fades, between the two arms of the bow wave."""
    rng, half = canvas.rng, ship.width / 2
    reach = ship.length * rng.uniform(0.5, 2.0) + rng.uniform(10, 50)
    box = ship.place.box(canvas.size, (-3 * reach, ship.length), (-reach, reach))
    along, across = ship.place.frame(box)
    astern = np.maximum(-along - 0.42 * ship.length, 0)
    across = across + rng.normal(0, 0.08) / reach * astern**2

    spread = 0.6 * half + 0.5 + rng.uniform(0.01, 0.08) * astern
    trail = np.exp(-astern / reach - (across / spread) ** 2)
    trail += 0.8 * np.exp(-astern / (3 * half) - (across / (1.1 * half)) ** 2)
    trail *= astern > 0
    from_bow = np.maximum(ship.length / 2 - along, 0)
    arm = (np.abs(across) - 0.7 * half - rng.uniform(0.07, 0.2) * from_bow) / (0.8 + from_bow / 40)
    arms = np.exp(-(arm**2) - from_bow / reach) * (from_bow > 0)
    grain = 0.6 + 0.12 * canvas.waves[box] + 0.8 * rng.random(along.shape, np.float32)
    foam = (trail + rng.uniform(0.1, 0.7) * arms) * grain
    foam = np.clip(rng.uniform(0.25, 1.0) * foam, 0, 0.92) * water[box]
    # Amid sun glint the smoothed water looks dark.
    if canvas.pixels[box].mean() > 105 and rng.random() < 0.5:
        canvas.darken(0.25 * foam, box)
    else:
        canvas.blend(foam, (206, 218, 220), box)


def _hull(canvas: Canvas, ship: _Ship) -> None:
    rng, length, width = canvas.rng, ship.length, ship.width
    a, b = length / 2 + 3, width / 2 + 3
    box = ship.place.box(canvas.size, (-a, a), (-b, b))
    water = canvas.pixels[box].mean((0, 1))
    if rng.random() < 0.8:
        drop, angle = 0.4 + 0.16 * width, canvas.sun - ship.place.heading
        along, across = ship.place.frame(box)
        shade = np.abs(along - drop * math.cos(angle)) < 0.47 * length
        shade &= np.abs(across - drop * math.sin(angle)) < width / 2
        canvas.darken(0.6 * shade, box)

    samples = 4 if length < 40 else 2
    along, across = ship.place.frame(box, samples)
    u, v = along * (2 / length), across * (2 / width)
    shoulder = 1 - rng.uniform(0.8, 2.0) * width / length
    side = 1 - ramp(u, shoulder, 1) ** rng.uniform(1.8, 2.6) - 0.25 * ramp(-u, 0.93, 1) ** 2
    inside = (np.abs(u) <= 1) & (np.abs(v) <= side)
    colours = _deck(canvas, ship, u, v, side, water) * inside[..., None]

    def average(values: np.ndarray) -> np.ndarray:
        rows, columns = (s.stop - s.start for s in box)
        return values.reshape(rows, samples, columns, samples, -1).mean((1, 3))

    pixels = canvas.pixels[box]
    pixels *= 1 - average(inside)
    pixels += average(colours) * (1 + 0.05 * canvas.waves[box][..., None])


def _deck(
    canvas: Canvas, ship: _Ship, u: np.ndarray, v: np.ndarray, side: np.ndarray, water: np.ndarray
) -> np.ndarray:
    """Colours of a ship seen from above; `u` and `v` run from -1 to 1, the bow is at u = 1."""
    rng, length = canvas.rng, ship.length
    decks = _DECKS * rng.uniform(0.85, 1.15)
    visible = np.abs(decks[:, 0] - water).max(1) > 65
    deck, fittings, rail = decks[rng.choice(np.flatnonzero(visible))]
    colours = np.broadcast_to(deck, (*u.shape, 3)).astype(np.float32)
    colours[np.abs(v) > side - 1.6 / ship.width] = rail
    if length < 16:  # a boat with a cabin or an open well
        cabin = (np.abs(u - rng.uniform(-0.5, 0.2)) < rng.uniform(0.2, 0.45)) & (np.abs(v) < 0.6)
        colours[cabin] = rng.choice([(236, 234, 228), (64, 68, 72), (190, 186, 176)])
        return colours

    hold = (u > -0.62) & (u < 0.78) & (np.abs(v) < np.minimum(0.86, side - 0.1))
    cargo = rng.random()
    if cargo < 0.3:
        pitch = (2 * 9 / length, 2 * 2.2 / ship.width)
        boxes, paint = lattice(rng, u, v, pitch, (0.8, 1.05), _CONTAINERS)
        colours[hold] *= 0.6
        boxes &= hold
        colours[boxes] = paint[boxes]
    elif cargo < 0.6:
        number = rng.integers(3, 8)
        hatch = (np.abs((u + 0.62) / 1.4 * number % 1 - 0.5) < 0.36) & (np.abs(v) < 0.62)
        colours[hold & hatch] = fittings
    elif cargo < 0.85:
        pipes = (np.abs(v) < 0.09) | (np.abs(u - 0.05) < 1.5 / length)
        colours[hold & pipes] = fittings * 0.8
    behind = np.abs(u + 0.76 - 0.14 * math.cos(canvas.sun - ship.place.heading)) < 0.16
    colours[behind & (np.abs(v) < 0.8)] *= 0.55
    bridge = (np.abs(u + 0.76) < rng.uniform(0.08, 0.16)) & (np.abs(v) < rng.uniform(0.7, 0.95))
    colours[bridge] = rng.uniform(170, 240)
    colours[(np.abs(u + 0.84) < 0.04) & (np.abs(v) < 0.25)] = (70, 64, 60)  # funnel
    return colours
