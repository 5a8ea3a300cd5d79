"""The hinges once more, one element or example at a time, as a reader would write the definition.

Plain floats and loops: no stable rewriting and no import of `diffmetrics`.
"""

import math
from collections.abc import Sequence


def margin_of(z: float, y: int) -> float:
    """How far the logit is on the right side."""
    return z if y == 1 else -z


def hinge_loss(z: float, y: int, margin: float = 1.0) -> float:
    """What is missing to the margin."""
    return max(0.0, margin - margin_of(z, y))


def squared_hinge_loss(z: float, y: int, margin: float = 1.0) -> float:
    """The square of what is missing to the margin."""
    return max(0.0, margin - margin_of(z, y)) ** 2


def smooth_hinge_loss(z: float, y: int, width: float = 1.0) -> float:
    """The hinge, whose kink is a parabola of this width."""
    m = margin_of(z, y)
    if m >= 1:
        return 0.0
    if m > 1 - width:
        return (1 - m) ** 2 / (2 * width)
    return 1 - width / 2 - m


def softplus_hinge_loss(z: float, y: int, sharpness: float = 1.0, margin: float = 1.0) -> float:
    """The softplus of what is missing to the margin."""
    return math.log(1 + math.exp(sharpness * (margin - margin_of(z, y)))) / sharpness


def modified_huber_loss(z: float, y: int) -> float:
    """The squared hinge with a tangent for a tail."""
    m = margin_of(z, y)
    return max(0.0, 1 - m) ** 2 if m >= -1 else -4 * m


def ramp_loss(z: float, y: int) -> float:
    """The hinge, 1 at most."""
    return min(1.0, max(0.0, 1 - margin_of(z, y)))


def exponential_loss(z: float, y: int) -> float:
    """The exponential of minus the margin."""
    return math.exp(-margin_of(z, y))


def perceptron_loss(z: float, y: int) -> float:
    """How far the logit is on the wrong side."""
    return max(0.0, -margin_of(z, y))


def violations(
    z: Sequence[float], y: int, cost: Sequence[Sequence[float]] | None = None
) -> list[float]:
    """How far each wrong class is within its margin of the true one."""
    return [
        (1.0 if cost is None else float(cost[y][j])) + z[j] - z[y] for j in range(len(z)) if j != y
    ]


def crammer_singer_loss(
    z: Sequence[float], y: int, cost: Sequence[Sequence[float]] | None = None
) -> float:
    """The hinge of the worst wrong class."""
    return max(0.0, *violations(z, y, cost))


def weston_watkins_loss(
    z: Sequence[float], y: int, cost: Sequence[Sequence[float]] | None = None
) -> float:
    """The hinges of all wrong classes."""
    return sum(max(0.0, each) for each in violations(z, y, cost))
