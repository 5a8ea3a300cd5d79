"""Losses of pairs and embeddings once more, one pair or example at a time, as a reader would write.

Plain floats: no stable rewriting and no import of `diffmetrics`, except that logits are taken as
small enough for the textbook form. What bears the name of a public function takes its arguments.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from tests.references.entropy import softmax

Vector = Sequence[float]


def each(of_example: Callable[..., float]) -> Callable[..., list[float]]:
    """The value of every example by itself."""

    def of_all(*arrays: Any, **options: Any) -> list[float]:
        lists = (array.tolist() for array in arrays)
        return [of_example(*example, **options) for example in zip(*lists, strict=True)]

    return of_all


def of_logits(of_probabilities: Callable[..., float]) -> Callable[..., list[float]]:
    """A function of two distributions as one of all pairs of their logits."""
    return each(lambda p, q, *others, **o: of_probabilities(softmax(p), softmax(q), *others, **o))


def smoothed(of_probabilities: Callable[..., float]) -> Callable[..., list[float]]:
    """The same of probabilities, to each of which epsilon is added first."""

    def of_pair(p: Vector, q: Vector, epsilon: float) -> float:
        return of_probabilities([x + epsilon for x in p], [x + epsilon for x in q])

    return each(of_pair)


def hinge(x: float, sharpness: float | None = None) -> float:
    """What is above 0, with a round corner if it has a sharpness."""
    return max(0.0, x) if sharpness is None else math.log(1 + math.exp(sharpness * x)) / sharpness


def kl(p: Vector, q: Vector) -> float:
    """Kullback–Leibler divergence of the probabilities q from p."""
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def symmetric_kl(p: Vector, q: Vector) -> float:
    """KL there and back."""
    return kl(p, q) + kl(q, p)


def js(p: Vector, q: Vector) -> float:
    """Mean KL from the middle."""
    middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    return kl(p, middle) / 2 + kl(q, middle) / 2


def kl_hinge(
    p: Vector, q: Vector, same: bool, margin: float, sharpness: float | None = None
) -> float:
    """Both directions, each with its hinge."""
    if same:
        return kl(p, q) + kl(q, p)
    return hinge(margin - kl(p, q), sharpness) + hinge(margin - kl(q, p), sharpness)


def pairwise_kl_hinge_loss(
    logits: Sequence[Vector],
    identities: Sequence[int],
    margin: float,
    where: Any = None,
    sharpness: float | None = None,
) -> float:
    """Sum over ordered pairs over half their number."""
    p = [softmax(z) for z in logits]
    total, directions = 0.0, 0
    for i in range(len(p)):
        for j in range(len(p)):
            if i == j or (where is not None and not where[i][j]):
                continue
            divergence = kl(p[i], p[j])
            same = identities[i] == identities[j]
            total += divergence if same else hinge(margin - divergence, sharpness)
            directions += 1
    return total / (directions / 2) if directions else 0.0


def contrastive(a: Vector, b: Vector, same: bool, margin: float) -> float:
    """Half the square of the distance, or of what it lacks."""
    d = math.dist(a, b)
    return d**2 / 2 if same else max(0.0, margin - d) ** 2 / 2


def triplet(
    a: Vector, p: Vector, n: Vector, margin: float, sharpness: float | None = None
) -> float:
    """How much the negative is too near."""
    return hinge(math.dist(a, p) - math.dist(a, n) + margin, sharpness)


def batch_hard_triplet_loss(
    x: Any,
    identities: Sequence[int],
    margin: float,
    where: Any = None,
    sharpness: float | None = None,
) -> list[float]:
    """Every anchor with its farthest positive and its closest negative."""
    present = [i for i in range(len(x)) if where is None or where[i]]
    losses = [0.0] * len(x)
    for i in present:
        others = [j for j in present if j != i]
        positives = [math.dist(x[i], x[j]) for j in others if identities[i] == identities[j]]
        negatives = [math.dist(x[i], x[j]) for j in others if identities[i] != identities[j]]
        if positives and negatives:
            losses[i] = hinge(max(positives) - min(negatives) + margin, sharpness)
    return losses


def angular(
    cosines: Vector, label: int, scale: float, angular_margin: float, cosine_margin: float
) -> float:
    """Cross-entropy after the angle of the label was made wider."""
    angle = math.acos(cosines[label]) + angular_margin
    target = (
        math.cos(angle)
        if angle <= math.pi
        else cosines[label] - angular_margin * math.sin(angular_margin)
    )
    logits = [scale * c for c in cosines]
    logits[label] = scale * (target - cosine_margin)
    return math.log(sum(math.exp(z - logits[label]) for z in logits))


kl_hinge_loss = of_logits(kl_hinge)
contrastive_loss = each(contrastive)
triplet_loss = each(triplet)
angular_margin_loss = each(angular)
