"""`_entropy` once more, one element or example at a time, as a reader would write the definition.

Plain floats: no stable rewriting and no import of `diffmetrics`, except that logits are taken as
small enough for the textbook form.
"""

import math
from collections.abc import Sequence


def sigmoid(z: float) -> float:
    """The probability of label 1."""
    return 1 / (1 + math.exp(-z))


def softmax(z: Sequence[float]) -> list[float]:
    """The probabilities of the classes."""
    powers = [math.exp(each) for each in z]
    return [power / sum(powers) for power in powers]


def sigmoid_cross_entropy(z: float, y: float) -> float:
    """Minus the log-probability of the label."""
    return -y * math.log(sigmoid(z)) - (1 - y) * math.log(sigmoid(-z))


def softmax_cross_entropy(z: Sequence[float], y: int) -> float:
    """Minus the log-probability of the class."""
    return -math.log(softmax(z)[y])


def sigmoid_focal_loss(z: float, y: int, gamma: float, alpha: float | None = None) -> float:
    """Cross-entropy times a power of the probability that is still missing."""
    true = sigmoid(z) if y == 1 else sigmoid(-z)
    weight = 1.0 if alpha is None else (alpha if y == 1 else 1 - alpha)
    return weight * (1 - true) ** gamma * -math.log(true)
