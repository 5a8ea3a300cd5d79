"""What a model is worth: pixels at every threshold, objects as the challenge scores them.

Thresholds are chosen on validation images and applied to test images, never the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import jax
import numpy as np

import diffmetrics as dm
from experiments.ships.objects import airbus_f2, components, matches
from experiments.ships.pipeline import Images
from experiments.ships.tiles import Predict
from experiments.ships.tuning import Candidates, Rule, best_rule, candidates, objects

# Thresholds on the logit, dense around 0, which is p = ½, and out to ±1490: a count loss drives
# logits far beyond where a probability of 32 bits can tell them apart.
THRESHOLDS = np.sinh(np.linspace(-8.0, 8.0, 2001)).astype(np.float32)
# Of these, where objects are tuned. Far below ½ everything is one object.
OBJECT_THRESHOLDS = [float(t) for t in THRESHOLDS[::25] if t > -5]
SIZES = {"under 100 pixels": 1, "100 to 399": 100, "400 to 1599": 400, "1600 and more": 1600}
BLOCK = 2**16  # pixels; images are counted in multiples, since every size would be compiled anew

Found = TypeVar("Found")


@dataclass(frozen=True)
class Survey:
    """What a model predicted on a set of images, in figures that add up."""

    curve: dm.Curve  # of pixels, at every one of THRESHOLDS
    names: list[str]
    has_ships: np.ndarray  # boolean [images]
    probability_range: tuple[float, float]


def survey(
    predict: Predict,
    images: Images,
    members: Sequence[int],
    look: Callable[[np.ndarray, np.ndarray], Found],
) -> tuple[Survey, list[Found]]:
    """Predict the images `members` one by one; unreadable ones are left out.

    Args:
      predict: uint8 [H, W, 3] to logits [H, W].
      images: the whole set.
      members: which of them.
      look: what to keep of an image, given its logits and its true instances.
    """
    curve = dm.threshold_counts(np.zeros(0), np.zeros(0, bool), THRESHOLDS).to_host()
    names: list[str] = []
    full: list[bool] = []
    found: list[Found] = []
    low, high = np.inf, -np.inf
    for example in images.readable(members):
        logits, mask = predict(example.image), example.instances > 0
        curve += _counted(logits, mask)
        names.append(example.name)
        full.append(bool(mask.any()))
        found.append(look(logits, example.instances))
        low, high = min(low, float(logits.min())), max(high, float(logits.max()))
    if not names:
        raise ValueError(f"none of the {len(members)} images to judge on can be read")
    extremes = float(jax.nn.sigmoid(low)), float(jax.nn.sigmoid(high))
    return Survey(curve, names, np.array(full, bool), extremes), found


def _counted(logits: np.ndarray, mask: np.ndarray) -> dm.Curve:
    padding = (0, -mask.size % BLOCK)
    inside = np.ones_like(mask)
    scores, labels, inside = (np.pad(a.ravel(), padding) for a in (logits, mask, inside))
    return dm.threshold_counts(scores, labels, THRESHOLDS, where=inside)


def tune(validation: Survey) -> float:
    """The threshold with the best pixel F1; of equal ones the middle, far from edges."""
    f1 = np.asarray(dm.fbeta(validation.curve.counts))
    middle = int(np.median(np.flatnonzero(f1 >= f1.max() - 1e-6)))
    return float(np.asarray(validation.curve.thresholds)[middle])


def tune_objects(found: Sequence[Sequence[Candidates]]) -> tuple[Rule, float]:
    """The rule with the best object F2, from each image's candidates at OBJECT_THRESHOLDS."""
    return best_rule(dict(zip(OBJECT_THRESHOLDS, zip(*found, strict=True), strict=True)))


def judge(
    predict: Predict, images: Images, validation: Sequence[int], test: Sequence[int]
) -> dict[str, Any]:
    """All figures of a trained model on `test`.

    Pixels and objects at ½ and at the threshold with the best pixel F1 on `validation`; objects
    also by the rule with the best object F2 there, of which "sizes" tells how many objects of each
    size it finds, at an IoU above ½. Beside them stand two yardsticks: a submission without any
    object, and the true mask as a model that knows pixels and not objects would see it.
    """

    def try_thresholds(logits: np.ndarray, true: np.ndarray) -> list[Candidates]:
        return [candidates(logits, true, t) for t in OBJECT_THRESHOLDS]

    seen, found = survey(predict, images, validation, try_thresholds)
    tuned, (rule, expected) = tune(seen), tune_objects(found)

    def score(logits: np.ndarray, true: np.ndarray) -> tuple[list[float], np.ndarray]:
        guesses = [objects(logits, each) for each in (Rule(0.0), Rule(tuned), rule)]
        scores = [airbus_f2(each, true) for each in (*guesses, 0 * true, components(true))]
        return scores, _found_by_size(guesses[-1], true)

    tested, looked = survey(predict, images, test, score)
    scores, by_size = zip(*looked, strict=True)
    half, at_tuned, by_rule, empty, perfect = np.array(scores).T
    sizes = zip(SIZES, *np.sum(by_size, 0).tolist(), strict=True)
    result = {
        "at_half": _pixels(tested, 0.0) | _objects(tested, half),
        "at_tuned": _pixels(tested, tuned) | _objects(tested, at_tuned),
        "objects": {
            "threshold": float(jax.nn.sigmoid(rule.threshold)),
            "min_area": rule.min_area,
            "peak": float(jax.nn.sigmoid(rule.peak)),
            "validation_airbus_f2": expected,
            **_objects(tested, by_rule),
        },
        "sizes": {name: {"objects": there, "found": hit} for name, there, hit in sizes},
        "rule": asdict(rule),  # in logits: a probability near 1 has not enough digits
        "yardsticks": {
            "empty_submission": _objects(tested, empty),
            "perfect_mask": _objects(tested, perfect),
        },
        "average_precision": float(dm.average_precision(tested.curve)),
        "prevalence": float(np.asarray(dm.prevalence(tested.curve.counts))[0]),
        "probability_range": tested.probability_range,
        "test_images": len(tested.has_ships),
        "test_images_with_ships": int(tested.has_ships.sum()),
        "image_scores": dict(zip(tested.names, by_rule.tolist(), strict=True)),
    }
    return {**result, "verdict": verdict(result)}


def _found_by_size(guess: np.ndarray, true: np.ndarray) -> np.ndarray:
    """How many true objects there are of each of SIZES, and how many are found: [2, sizes]."""
    areas, levels, _ = matches(true, guess)
    sizes = np.digitize(areas, list(SIZES.values()))  # 0 for numbers that no object has
    return np.stack(
        [np.bincount(sizes[which], minlength=1 + len(SIZES))[1:] for which in (..., levels > 0)]
    )


def rule_of(result: dict[str, Any]) -> Rule:
    """The rule in what `judge` returned, or in the JSON that was made of it."""
    return Rule(**result["rule"])


def _objects(tested: Survey, scores: np.ndarray) -> dict[str, float]:
    ships = float(scores[tested.has_ships].mean())
    return {"airbus_f2": float(scores.mean()), "airbus_f2_ships": ships}


def _pixels(tested: Survey, threshold: float) -> dict[str, float]:
    place = int(np.flatnonzero(np.asarray(tested.curve.thresholds) == np.float32(threshold))[0])
    cells = jax.tree.map(lambda cell: cell[place], tested.curve.counts)
    return {
        "threshold": float(jax.nn.sigmoid(threshold)),
        "precision": float(dm.precision(cells)),
        "recall": float(dm.recall(cells)),
        "f1": float(dm.fbeta(cells)),
        "f2": float(dm.fbeta(cells, beta=2.0)),
        "predicted_share": float(
            (cells.tp + cells.fp) / (cells.tp + cells.fp + cells.fn + cells.tn)
        ),
    }


def verdict(result: dict[str, Any]) -> str:
    """What became of the model at a threshold of ½, in a few words; figures come after a colon."""
    half, (low, high) = result["at_half"], result["probability_range"]
    share, prevalence = half["predicted_share"], result["prevalence"]
    if low > 0.02 and high < 0.98:
        return f"stuck in the middle: every p in {low:.2f}-{high:.2f}"
    if half["recall"] < 0.01:
        return "predicts nothing"
    if share > 5 * prevalence:
        return f"predicts far too much: {share:.2%} of the image, and {prevalence:.2%} is ship"
    if half["recall"] < 0.5:
        return "misses more than half"
    if half["precision"] < 0.5:
        return "more false alarms than ships"
    return "finds ships"
