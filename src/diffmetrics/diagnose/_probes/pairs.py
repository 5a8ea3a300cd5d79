"""Probes of pairs, triplets and embeddings: do the same come together, and do others part?"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from diffmetrics.diagnose._forms import CLASSES, PAIRS
from diffmetrics.diagnose._probes.margins import abrupt
from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, defect, note, ok
from diffmetrics.diagnose._subject import Subject

MEANING = "check whether the label means same or different"


class Pairs(NamedTuple):
    """Pairs that are the same, and by how much the loss falls per step of two towards each other.

    `near` are predictions near to the first ones, `together` the pull of the same, and `apart` that
    of others which are near.
    """

    first: np.ndarray
    near: np.ndarray
    same: np.ndarray
    together: float
    apart: float


@functools.lru_cache(4)
def _pairs(subject: Subject) -> Pairs | None:
    """The pairs, or None if the pulls are not finite, of which `finite` tells."""
    a, b = subject.form.predictions()
    near, same = a + 0.3 * b, np.ones(len(a), np.float32)
    others, labels = np.stack([b, near]), np.stack([same, 0 * same])
    gradient = subject.measure(np.stack([np.stack([a, other]) for other in others]), labels)[1]
    together, apart = ((gradient[:, 0] - gradient[:, 1]) * (a - others)).reshape(2, -1).sum(1)
    if subject.form.kind == "divergence":  # all are to be the same
        apart = 0.0
    return Pairs(a, near, same, together, apart) if np.isfinite(together + apart) else None


@probe("direction", PAIRS, rank=6)
def direction_of_pairs(subject: Subject) -> Iterator[Finding]:
    """Whether the same come together and others part."""
    pairs = _pairs(subject)
    if pairs is None:
        return
    if pairs.apart > 0 and _part_if_near(subject, pairs):
        yield defect(
            "it pulls back different ones that are further apart than its margin: a maximum with 0 "
            "is missing",
            f"different ones are pushed apart at a hundredth of a distance at which they are "
            f"pulled together by {pairs.apart:.3g}",
            "different ones cost max(0, margin - distance), squared after the maximum",
        )
        return
    if pairs.together < 0 or pairs.apart > 0:
        yield defect(
            "it pulls the same apart" if pairs.together < 0 else "it pulls different ones together",
            f"pull of the same {pairs.together:.3g} (should be above 0), of different ones "
            f"{pairs.apart:.3g} (should be below 0)",
            f"{MEANING}, and whether the prediction is a distance or a similarity",
        )
        return
    if subject.form.kind == "pair" and _never_parts(subject, pairs):
        yield defect(
            "different ones are never pushed apart, however near they are: a margin on the wrong "
            "side, max(0, -margin - distance), or a missing term",
            "gradient exactly 0 for different pairs at 0.3 to 0.001 of their distance",
            "different ones cost max(0, margin - distance): diffmetrics.contrastive_loss",
        )
        return
    yield ok("the same are pulled together, different ones apart")
    if subject.form.kind != "pair":
        return
    # Whether the labels of the others turn the pull of a pair round.
    labels = np.stack([np.eye(len(pairs.same), dtype="f")[0], pairs.same])
    gradient = subject.measure(np.stack([np.stack([pairs.first, pairs.near])] * 2), labels)[1]
    towards = (gradient[:, 0, 0] - gradient[:, 1, 0]) * (pairs.first[0] - pairs.near[0])
    alone, together = towards.sum(-1)
    if alone < 0.5 * together:
        yield defect(
            "the hinge is averaged over the batch before it meets the labels, so a pair of the "
            "same is pushed apart as well while others are different",
            f"one pair of the same among different ones is pulled by {alone:.3g}, among pairs of "
            f"the same by {together:.3g}",
            "multiply each pair's hinge by its own label, and take the mean last",
        )


def _part_if_near(subject: Subject, pairs: Pairs) -> bool:
    """Whether different ones are pushed apart if they are very near to each other."""
    step = 0.01 * (pairs.near - pairs.first)
    z = np.stack([pairs.first, pairs.first + step])[None]
    (gradient,) = subject.measure(z, 0 * pairs.same).gradient
    return float(((gradient[1] - gradient[0]) * step).sum()) < 0


def _never_parts(subject: Subject, pairs: Pairs) -> bool:
    """Whether different ones get no gradient at any distance, and the same do."""
    if pairs.apart != 0 or pairs.together == 0:
        return False
    closer = np.multiply.outer([0.3, 0.1, 0.03, 0.01, 0.001], pairs.near - pairs.first)
    z = np.stack([np.stack([pairs.first, pairs.first + step]) for step in closer])
    return not subject.measure(z, 0 * pairs.same).gradient.any()


@probe("direction", ("embedding",), rank=6)
def direction_of_embeddings(subject: Subject) -> Finding | None:
    """Whether the same come together, and right clusters cost less than wrong ones."""
    form, ids = subject.form, subject.form.targets()
    z = form.predictions()
    (gradient,) = subject.measure(z[None], 0 * ids).gradient
    pull = -float((gradient * (z.mean(0) - z)).sum())
    corners, noise = 6.0 * np.eye(form.shape[1])[:CLASSES], 0.01 * form.predictions(1)
    wrong = (ids + np.arange(len(ids)) // CLASSES) % CLASSES
    clusters = np.stack([corners[ids] + noise, corners[wrong] + noise])
    right, mixed = subject.measure(clusters, ids).value
    if not np.isfinite(right + mixed + pull):
        return None  # `finite` tells
    evidence = f"right clusters {right:.3g}, wrong ones {mixed:.3g}; pull of the same {pull:.3g}"
    if right < mixed and pull >= -1e-3 * np.abs(gradient).sum() - 1e-6:
        return _no_rival_moves(subject) or ok(evidence)
    return defect("it does not bring the same together", evidence, MEANING)


def _no_rival_moves(subject: Subject) -> Finding | None:
    """Whether examples without another of their kind get no gradient, however near all are."""
    form = subject.form
    ids = np.maximum(np.arange(form.examples) - 1, 0).astype(np.int32)  # 0, 0, 1, 2, 3, ...
    near = np.multiply.outer([0.001, 0.01, 0.1, 1.0], form.predictions())
    gradient = subject.measure(near, ids).gradient
    if gradient[:, 2:].any() or not gradient[:, :2].any():
        return None
    return defect(
        "different ones are never pushed apart, however near they are: a margin on the wrong side, "
        "max(0, -margin - distance), or a missing term",
        "gradient exactly 0 of all examples that have no other of their identity",
        "different ones cost max(0, margin - distance): diffmetrics.pairwise_kl_hinge_loss",
    )


@probe("itself", ("embedding",), rank=20.5)
def itself(subject: Subject) -> Finding | None:
    """Whether an example is among those that it is compared with.

    Of n identical embeddings of one identity a cross-entropy over the others is log(n - 1), at any
    temperature, and one over all of them log(n).
    """
    form = subject.form
    alike = np.broadcast_to(form.predictions()[:1], form.shape)
    (value,) = subject.measure(alike[None], 0 * form.targets()).value
    n = form.examples
    if abs(value - math.log(n)) < 1e-3:
        return note(
            "every example is compared with itself, and is its own best match",
            f"{n} identical examples of one identity cost {value:.4f} = log({n}), and without the "
            f"comparison with itself log({n - 1}) = {math.log(n - 1):.4f}",
            "leave the diagonal out of the sum, in the denominator too",
        )
    if abs(value - math.log(n - 1)) < 1e-3:
        return ok(f"{n} identical examples cost log({n - 1}): none is compared with itself")
    return None


@probe("direction", ("triplet",), rank=6)
def direction_of_triplets(subject: Subject) -> Finding | None:
    """Whether positives are pulled to the anchor and negatives away."""
    z = subject.form.predictions()
    a, p, n = z
    (gradient,) = subject.measure(z[None]).gradient
    pull, push = -(gradient[1] * (a - p)).sum(), -(gradient[2] * (n - a)).sum()
    if push < 0 < pull:  # other anchors may move a negative more, if it is one of theirs, too
        (gradient,) = subject.measure(np.stack([0 * a + a[0], p, n])[None]).gradient
        push = -(gradient[2] * (n - a[0])).sum()
    if not np.isfinite(pull + push):
        return None  # `finite` tells
    evidence = f"pull of the positive {pull:.3g}, push of the negative {push:.3g}"
    if pull > 0 and push > 0:
        return _lets_violations_pass(subject) or ok(evidence)
    if pull < 0 and push < 0:
        return defect(
            "positives and negatives are swapped: it pulls the negative to the anchor and pushes "
            "the positive away",
            evidence,
            "check the order of the arguments (anchors, positives, negatives), and that the loss "
            "rises with the distance of the positive",
        )
    cause = "it does not pull the positive and push the negative"
    if pull > 0 and push == 0:
        cause = "no negative is pushed away: it has no gradient in them"
    advice = "check the order of the arguments: anchors, positives, negatives"
    return defect(cause, evidence, advice)


def _lets_violations_pass(subject: Subject) -> Finding | None:
    """Whether a negative that is a little nearer than the positive is good enough.

    Of unit vectors, so that cosines and distances agree on who is nearer.
    """
    _, n, width = subject.form.shape
    a, p, q = (np.eye(width)[(np.arange(n) + i) % width] for i in range(3))

    def at(positive: float, negative: float, size: float) -> np.ndarray:
        turned = (np.cos(t) * a + np.sin(t) * side for t, side in ((positive, p), (negative, q)))
        return size * np.stack([a, *turned])

    little, much = subject.measure(np.stack([at(1.0, 0.95, 1.0), at(2.0, 0.2, 10.0)])).gradient
    if little.any() or not much.any():
        return None
    return defect(
        "its margin is on the wrong side: a negative that is nearer to the anchor than the "
        "positive, but not by much, gets no gradient",
        "gradient exactly 0 with the positive at 57 degrees from the anchor and the negative at 54",
        "ask for max(0, margin + distance to positive - distance to negative)",
    )


FAR = np.array([1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 20.0, 25.0, 30.0, 40.0, 60.0, 80.0])


@probe("alive", PAIRS, rank=12)
def alive(subject: Subject) -> Finding | None:
    """The gradient of a same pair whose predictions disagree more and more."""
    pairs, (_, n, width) = _pairs(subject), subject.form.shape
    if pairs is None:
        return None
    first = np.eye(width)[np.arange(n) % width]
    far = np.multiply.outer(FAR, np.stack([first, np.roll(first, 1, -1)]))
    value, gradient = subject.measure(far, pairs.same)
    size = np.abs(gradient[:, 1]).reshape(len(FAR), -1).max(1)
    if not np.isfinite(size).all() or size.max() == 0:
        return None
    gone = size < 1e-3 * size.max()
    if not gone[-1]:
        return ok(f"at logits 80 apart {size[-1] / size.max():.2g} of the largest pull")
    start = FAR[np.argmax(gone)]
    evidence = (
        f"the same, but logits {start:g} apart: {size[np.argmax(gone)] / size.max():.1g} of the "
        f"largest gradient, value {value[-1]:.4g} of at most {value.max():.4g}"
    )
    last = int(np.flatnonzero(size > 0.25 * size.max()).max())
    strong = FAR[last]
    if strong >= 8 and abrupt(size[last], size[last + 1], FAR[last + 1] - strong):
        return defect(
            "probabilities are clipped: two that should be the same but disagree for sure get "
            "no gradient, and never meet",
            evidence + f"; a clip between {math.exp(-start):.0e} and {math.exp(-strong):.0e}",
            "compute from logits: diffmetrics.kl_divergence, symmetric_kl_divergence",
        )
    return note(
        "it saturates: two that should be the same but disagree for sure hardly move",
        evidence,
        "as Jensen-Shannon does; a symmetric KL keeps its slope",
    )


@probe("flat", ("pair",), rank=23)
def flat(subject: Subject) -> Finding | None:
    """Whether different ones that coincide ever part."""
    pairs = _pairs(subject)
    if pairs is None:
        return None
    coincident = np.stack([pairs.first, pairs.first])[None]
    steepest = np.abs(subject.measure(coincident, 0 * pairs.same).gradient).max()
    if not steepest < 1e-6 * max(1.0, abs(pairs.together)):
        return None
    return note(
        "its hinge is flat where two different ones coincide: they never part",
        "gradient 0 for different pairs with identical predictions",
        "start from embeddings that differ; a distance without the square has a slope",
    )


@probe("minimum", PAIRS, rank=10)
def minimum(subject: Subject) -> Finding | None:
    """Whether identical ones are the minimum."""
    pairs, many = _pairs(subject), _many(subject)
    if pairs is None:
        return None
    identical = np.stack([many[:, 0], many[:, 0]], 1)
    one = np.repeat(many[:, :, :1], subject.form.examples, 2)
    best, value, single = (subject.measure(z, pairs.same).value for z in (identical, many, one))
    lowest, least = min(np.nanmin(value), np.nanmin(single)), best.min()
    if not lowest < least - 1e-5 * np.abs(value).max():
        return ok(f"identical {least:.3g}, others {value.min():.3g} or more")
    evidence = f"{lowest:.4g} for different predictions, {least:.4g} for identical ones"
    below = "it falls below the loss of identical ones"
    if subject.form.kind == "pair":
        return defect(f"{below}, of pairs that are the same", evidence, MEANING)
    times = _scaled(subject, pairs)
    if times:
        return defect(
            f"it is least where the second logits are {times:g} times the first, and not where "
            "both are the same: a temperature divides one of the two only",
            evidence,
            "divide both by the temperature, and multiply the loss by its square",
        )
    return defect(
        f"{below}: what it compares are no distributions (they do not sum to 1), so its "
        "logarithms are no divergence",
        evidence,
        "take a softmax first, or diffmetrics.kl_divergence of logits",
    )


TIMES = np.array([1.0, 0.1, 0.125, 0.2, 0.25, 0.5, 2.0, 3.0, 4.0, 5.0, 8.0, 10.0, 20.0])


def _scaled(subject: Subject, pairs: Pairs) -> float:
    """How many times the first the second logits are where it is least, if that is the minimum."""
    z = np.stack([np.stack([pairs.first, t * pairs.first]) for t in TIMES])
    value, gradient = subject.measure(z, pairs.same)
    least = int(np.nanargmin(value))
    flat = np.abs(gradient[least, 1]).max() < 1e-3 * np.abs(gradient[:, 1]).max()
    return float(TIMES[least]) if flat and least else 0.0


@probe("symmetric", PAIRS, rank=22)
def symmetric(subject: Subject) -> Finding | None:
    """Whether both sides are treated alike."""
    pairs, many = _pairs(subject), _many(subject)
    if pairs is None:
        return None
    value, turned = (subject.measure(z, pairs.same).value for z in (many, many[:, ::-1]))
    known = _known_divergence(subject, many, value)
    off = np.abs(turned - value).max() / max(np.abs(value).max(), 1e-30)
    if off > 1e-2:
        return note(
            "it is asymmetric: exchanging its two arguments changes it"
            + (f"; it is {known}" if known else ""),
            f"exchanging the two changes the loss by up to {off:.0%}",
            "if both move, take symmetric_kl_divergence; if one is the teacher, all is well",
        )
    return ok("exchanging the two changes nothing" + (f": it is {known}" if known else ""))


def _known_divergence(subject: Subject, many: np.ndarray, value: np.ndarray) -> str | None:
    """Which divergence of softmax probabilities it is, up to its size."""
    first, second = (
        name.removeprefix("logits_").removeprefix("probabilities_")
        for name in subject.form.predicted
    )
    log_p, log_q = (many[:, i] - _log_sum_exp(many[:, i]) for i in (0, 1))
    middle = np.logaddexp(log_p, log_q) - math.log(2)
    forth, back = _kl(log_p, log_q), _kl(log_q, log_p)
    known = {
        f"KL({first} || {second}), which wants {second} to cover all that {first} holds likely": (
            forth
        ),
        f"KL({second} || {first}), which lets {second} choose one of what {first} holds likely": (
            back
        ),
        "the symmetric KL": forth + back,
        "the Jensen-Shannon divergence": _kl(log_p, middle) + _kl(log_q, middle),
    }
    for name, of_rows in known.items():
        expected = of_rows.mean(-1)
        factor = (value * expected).sum() / (expected**2).sum()
        if factor > 0 and np.allclose(value, factor * expected, rtol=1e-3):
            return name
    return None


def _log_sum_exp(z: np.ndarray) -> np.ndarray:
    return np.logaddexp.reduce(z, -1, keepdims=True)


def _kl(log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    return (np.exp(log_p) * (log_p - log_q)).sum(-1)


def _many(subject: Subject) -> np.ndarray:
    return np.stack([subject.form.predictions(i) for i in range(24)])
