"""The losses of elements once more, one at a time, as a reader would write the definition.

Plain floats: no stable rewriting and no import of `diffmetrics`, except that logits are taken as
small enough for the textbook form.
"""

import math
from collections.abc import Callable, Sequence


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


def softmax_focal_loss(
    z: Sequence[float], y: int, gamma: float, alpha: Sequence[float] | None = None
) -> float:
    """The same of classes, each with a weight of its own."""
    true = softmax(z)[y]
    weight = 1.0 if alpha is None else float(alpha[y])
    return weight * (1 - true) ** gamma * -math.log(true)


def weighted_sigmoid_cross_entropy(z: float, y: float, positive_weight: float) -> float:
    """A positive counts as several examples."""
    return -positive_weight * y * math.log(sigmoid(z)) - (1 - y) * math.log(sigmoid(-z))


def weighted_softmax_cross_entropy(
    z: Sequence[float], y: int, class_weights: Sequence[float]
) -> float:
    """An example of a class counts as several."""
    return float(class_weights[y]) * -math.log(softmax(z)[y])


def asymmetric_loss(
    z: float, y: int, gamma_positive: float, gamma_negative: float, shift: float
) -> float:
    """Focal loss with an exponent for each label, whose negatives below `shift` are done."""
    p = sigmoid(z)
    if y == 1:
        return (1 - p) ** gamma_positive * -math.log(p)
    shifted = max(p - shift, 0.0)
    return shifted**gamma_negative * -math.log(1 - shifted)


def logit_adjusted_sigmoid_loss(z: float, y: float, prevalence: float, tau: float) -> float:
    """Cross-entropy of the logit with the prior's log-odds added."""
    return sigmoid_cross_entropy(z + tau * math.log(prevalence / (1 - prevalence)), y)


def logit_adjusted_softmax_loss(
    z: Sequence[float], y: int, prevalence: Sequence[float], tau: float
) -> float:
    """Cross-entropy of the logits with the classes' log-prior added."""
    adjusted = [each + tau * math.log(p) for each, p in zip(z, prevalence, strict=True)]
    return softmax_cross_entropy(adjusted, y)


def ldam_loss(
    z: Sequence[float], y: int, class_counts: Sequence[float], max_margin: float, scale: float
) -> float:
    """Cross-entropy of scaled logits, of which the true one first lost its class's margin."""
    margin = max_margin * (class_counts[y] / min(class_counts)) ** -0.25
    handicapped = [scale * (each - margin * (k == y)) for k, each in enumerate(z)]
    return softmax_cross_entropy(handicapped, y)


def sigmoid_poly_loss(z: float, y: int, epsilon: float) -> float:
    """Cross-entropy plus the probability that is missing."""
    true = sigmoid(z) if y == 1 else sigmoid(-z)
    return -math.log(true) + epsilon * (1 - true)


def softmax_poly_loss(z: Sequence[float], y: int, epsilon: float) -> float:
    """The same of classes."""
    true = softmax(z)[y]
    return -math.log(true) + epsilon * (1 - true)


def generalized_cross_entropy(z: Sequence[float], y: int, q: float) -> float:
    """Box and Cox's transform of the true probability: its logarithm for q = 0."""
    true = softmax(z)[y]
    return (1 - true**q) / q if q != 0 else -math.log(true)


def expected_cost_loss(z: Sequence[float], y: int, cost: Sequence[Sequence[float]]) -> float:
    """The mean cost of a class that is drawn with the softmax."""
    return float(sum(c * p for c, p in zip(cost[y], softmax(z), strict=True)))


def cost_sensitive_cross_entropy(
    z: Sequence[float], y: int, cost: Sequence[Sequence[float]]
) -> float:
    """Cross-entropy times the expected cost."""
    return softmax_cross_entropy(z, y) * expected_cost_loss(z, y, cost)


def brier_loss(z: float, y: float) -> float:
    """The squared distance of the probability from the label."""
    return (sigmoid(z) - y) ** 2


def winkler_loss(z: float, y: int, center: float) -> float:
    """One minus the quadratic score, rescaled so that `center` scores 0 and certainty 1."""
    q = sigmoid(z)
    best = (1 - center) ** 2 if q >= center else center**2
    return 1 - ((y - center) ** 2 - (y - q) ** 2) / best


def beta_family_loss(z: float, y: int, alpha: float, beta: float) -> float:
    """The integral of the losses of all thresholds, weighted by a beta density."""

    def integrand(t: float) -> float:
        # of the logit t: dq is q (1 - q) dt
        q, rest = sigmoid(t), sigmoid(-t)
        distance = rest if y == 1 else q
        return distance * q ** (alpha - 1) * rest ** (beta - 1) * q * rest

    lower, upper = (z, z + 60.0) if y == 1 else (z - 60.0, z)
    return _simpson(integrand, lower, upper)


def _simpson(f: Callable[[float], float], lower: float, upper: float, pieces: int = 2000) -> float:
    step = (upper - lower) / pieces
    weights = [1, *[4, 2] * (pieces // 2 - 1), 4, 1]
    return step / 3 * sum(w * f(lower + i * step) for i, w in enumerate(weights))
