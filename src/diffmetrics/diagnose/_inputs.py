"""What labels and predictions look like that are not what they are taken for."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffmetrics.diagnose._report import Finding, defect, note

# Rounding, and a label that was smoothed and scaled back, may lie a little outside of [0, 1].
ROUNDING = 1e-3
# So many logits do not lie in [0, 1] by chance.
FEW = 32
# What people write where nothing is to be learnt.
MARKS = (-1.0, 255.0, -100.0)
# More kinds than this are no classes, but numbers.
MOST_CLASSES, LARGEST_ID = 64, 50
ENOUGH = 4  # labels for each class, of which none is of the first
PERCENT, SHADES = 100.0, 255.0
REACHED = 0.03  # so near to 0 and 1 come probabilities
FEW_OF_A_KIND, BETTER = 5, 0.9  # positives or negatives, and times the log loss of a constant
SEVERAL = 8  # kinds of labels, if they are numbers
LARGE = 20.0  # for a number that should be a probability
COUNT_FROM_0 = "labels - 1"
NAN = "labels are not numbers"


def numbers(name: str, given: Any) -> Any:
    """An array as it is, or of nested lists; what else has no numbers is refused by its name.

    Raises:
      TypeError: if it holds something else.
      ValueError: if it holds nothing, or lists of different lengths.
    """
    try:
        a = given if isinstance(given, jax.Array) else np.asarray(given)
    except ValueError as error:
        raise ValueError(f"{name} must be an array, got lists of different lengths") from error
    if a.dtype.kind in "OSUmM":
        what = {"U": "text", "S": "bytes"}.get(a.dtype.kind, type(given).__name__)
        raise TypeError(f"{name} must be numbers, got {'None' if given is None else what}")
    if a.size == 0:
        raise ValueError(f"{name} must hold something, got shape {a.shape}")
    return a


def numbers_to_learn(predictions: Any, labels: Any) -> Any:
    """Predictions that have a gradient: an array, or a tree of some.

    Raises:
      TypeError: if they are whole numbers, or none.
    """
    leaves = jax.tree.leaves(predictions)
    if not leaves or (isinstance(predictions, list) and not any(np.ndim(a) for a in leaves)):
        predictions = numbers("predictions", predictions)  # nested lists are no tree
    predictions = jax.tree.map(lambda a: numbers("predictions", a), predictions)
    whole = [a for a in jax.tree.leaves(predictions) if a.dtype.kind in "biu"]
    if whole:
        floating = jnp.issubdtype(labels.dtype, jnp.floating)
        hint = "; or have predictions and labels been exchanged?" if floating else ""
        raise TypeError(
            "predictions must be floating-point numbers, since only those have a gradient: got "
            f"{whole[0].dtype} of shape {whole[0].shape}{hint}"
        )
    return predictions


class Look(NamedTuple):
    """What numbers look like, why they are not what is meant, and what to do."""

    what: str
    why: str
    advice: str


def values_of(labels: np.ndarray) -> np.ndarray:
    """The different values of labels, in their order."""
    ones = labels == 1
    if (ones | (labels == 0)).all():  # the usual ones, of which there may be many to sort
        return np.unique([float(ones.all()), float(ones.any())]) if labels.size else np.zeros(0)
    return np.unique(labels).astype(np.float64)


def mark(labels: np.ndarray) -> float | None:
    """The value beside 0 and 1 that marks what is to be left out."""
    values = set(values_of(labels).tolist())
    marks = [m for m in MARKS if m in values]
    if len(marks) != 1 or values - {marks[0]} != {0.0, 1.0} or mixes_scales(labels):
        return None
    return marks[0]


def mixes_scales(labels: np.ndarray) -> bool:
    """Whether 255 is the 1 of some of the examples."""
    if labels.ndim < 2 or set(values_of(labels).tolist()) != {0.0, 1.0, SHADES}:
        return False
    rows = labels.reshape(len(labels), -1)
    scaled, unscaled = ((rows == value).any(1) for value in (SHADES, 1))
    return not (scaled & unscaled).any()


PAIRS = (
    (
        {0.0, SHADES},
        Look(
            "labels are 0 and 255, as a mask is read from an image",
            "255 is none",
            "labels > 0, or labels / 255 if they are shades",
        ),
    ),
    ({-1.0, 1.0}, Look("labels are -1 and +1", "-1 is none", "labels > 0")),
    (
        {0.0, PERCENT},
        Look("labels are 0 and 100, like percentages", "100 is none", "labels / 100"),
    ),
)


def look_of(labels: np.ndarray) -> Look:
    """What labels look like that are not between 0 and 1."""
    values = values_of(labels)
    return _pair(values) or _with_a_mark(labels) or _range(values)


def _pair(values: np.ndarray) -> Look | None:
    for pair, look in PAIRS:
        if set(values) <= pair:
            return look
    low, high = values[0], values[-1]
    if len(values) != 2 or low < 1 or high != low + 1 or low != round(low):
        return None
    what = f"labels are {low:g} and {high:g}, counted from {low:g} and not from 0"
    return Look(what, f"{high:g} is none", f"labels - {low:g}")


def _with_a_mark(labels: np.ndarray) -> Look | None:
    if mixes_scales(labels):
        what = "some of the masks are 0 and 1, and others 0 and 255"
        return Look(what, "255 is none", "labels > 0, in every one of them")
    other = mark(labels)
    if other is None:
        return None
    what = f"some labels are {other:g}, beside 0 and 1, as a mark of what is to be left out"
    return Look(what, f"{other:g} is none", left_out(other))


def _range(values: np.ndarray) -> Look:
    low, high, several = values[0], values[-1], 2 < len(values) <= MOST_CLASSES
    whole, none = bool((values == np.round(values)).all()), f"{high:g} is none"
    if low >= 0 and whole and several and high <= LARGEST_ID:
        what = f"labels are whole numbers from {low:g} to {high:g}, like ids of classes"
        return Look(what, none, "a loss of classes, with a logit for each of them")
    between = f"labels lie between {low:g} and {high:g}, like"
    if low >= 0 and LARGE < high <= PERCENT:
        return Look(f"{between} percentages", none, "labels / 100, and labels > 0.5 to decide")
    if low >= 0 and PERCENT < high <= SHADES:
        advice = "labels > 127, or labels / 255 if shades are meant"
        return Look(f"{between} shades of an image", none, advice)
    by_hand = "scale them, or decide: labels > threshold"
    return Look("labels lie outside of [0, 1]", "they are none", by_hand)


def left_out(mark: float) -> str:
    """What to do about a mark."""
    return (
        f"known = labels != {mark:g}; the loss of where(known, labels, 0), times known, over "
        "known.sum()"
    )


def unlike_probabilities(labels: np.ndarray) -> Finding | None:
    """Floating labels are probabilities: what else they seem to be, or None.

    Integers are decisions, positive above 0, and may be 0 and 255, or -1 and +1.
    """
    y = labels.astype(np.float64).ravel()
    fine = (y >= -ROUNDING) & (y <= 1 + ROUNDING)
    if fine.all() or not jnp.issubdtype(labels.dtype, jnp.floating):
        return None
    missing = ~np.isfinite(y)
    if missing.any():
        return defect(NAN, f"{missing.mean():.2%} of them are NaN or infinite", "leave them out")
    evidence = f"{(~fine).mean():.2%} of {y.size} labels, which lie in [{y.min():g}, {y.max():g}]"
    look = look_of(labels)
    cause = f"{look.what}: as floats they count as probabilities, and {look.why}"
    return defect(cause, evidence, look.advice)


def swapped(predictions: np.ndarray, labels: np.ndarray) -> Finding | None:
    """Decisions in the place of predictions, and numbers of all kinds in that of labels."""
    if predictions.shape != labels.shape or not jnp.issubdtype(labels.dtype, jnp.floating):
        return None
    z, y = predictions.astype(np.float64), labels.astype(np.float64)
    if z.size < SEVERAL or not np.isin(z, (0, 1)).all() or np.ptp(z) == 0:
        return None
    if not np.isfinite(y).all() or len(values_of(y)) < SEVERAL or (y.min() >= 0 and y.max() <= 1):
        return None
    return defect(
        "predictions and labels stand in each other's place: predictions are all 0 or 1, and "
        "labels are real numbers",
        f"{z.mean():.2%} of {z.size} predictions are 1; labels from {y.min():.3g} to {y.max():.3g}",
        "exchange the two: predictions are what the model returns, labels are what is true",
    )


def misread(labels: np.ndarray) -> Finding | None:
    """What to say of integer labels if a loss computes with them, where they mean yes and no."""
    values = values_of(labels)
    if set(values) <= {0.0, 1.0}:
        return None
    shown = ", ".join(f"{v:g}" for v in values[:4]) + (", ..." if len(values) > 4 else "")
    evidence = f"{labels.dtype} labels {shown}, of which {(labels > 0).mean():.2%} are above 0"
    look = look_of(labels)
    return defect(
        f"{look.what}, and the loss computes with these numbers as if they were 0 and 1",
        evidence,
        look.advice,
    )


def one_sided(labels: np.ndarray) -> Look | None:
    """Labels that differ, and yet are all above 0, or none is, so that all mean the same."""
    values = values_of(labels)
    if len(values) < 2 or not np.isfinite(values).all() or values[0] <= 0 < values[-1]:
        return None
    above = values[0] > 0
    if jnp.issubdtype(labels.dtype, jnp.floating) and values[-1] <= 1 and above:
        return None
    shown = f"between {values[0]:g} and {values[-1]:g}: all are"
    if len(values) == 2:
        shown = f"{values[0]:g} and {values[1]:g}: both are"
    if above:
        advice = f"labels - {values[0]:g}"
        return Look(f"labels are {shown} above 0", "all count as positive", advice)
    advice = "logical_not(labels), if ~ was meant to invert a mask of integers"
    return Look(f"labels are {shown} not above 0", "all count as negative", advice)


def from_one(ids: np.ndarray, number: int) -> bool:
    """Whether ids of so many classes are counted from 1."""
    return bool(ids.size >= ENOUGH * number and ids.min() == 1 and ids.max() == number)


def seem_from_one(ids: np.ndarray, number: int) -> str:
    """The same as a question, of too few to be sure; nothing if it cannot be."""
    asked = ids.size and ids.min() >= 1 and ids.max() == number
    return f"do they count from 1? then {COUNT_FROM_0}; if not, " if asked else ""


def like_probabilities(predictions: np.ndarray, labels: np.ndarray) -> Finding | None:
    """Numbers that should be logits, and seem to have been through a sigmoid or softmax.

    Logits of a young model may lie in [0, 1] by chance, but neither fill it up to both ends, nor
    fit the labels as probabilities.
    """
    z = predictions.astype(np.float64)
    if not ((z >= 0) & (z <= 1)).all() or np.ptp(z) < 1e-6:
        return None
    decisions = like_decisions(z, labels)
    if decisions is not None:
        return decisions
    shown = f"all {z.size} lie in [{z.min():.3g}, {z.max():.3g}]"
    advice = "give what the last layer returns, or log(p), or log(p / (1 - p))"
    if z.ndim > 1 and z.shape[-1] > 1 and np.allclose(z.sum(-1), 1.0, atol=ROUNDING):
        cause = "logits are probabilities already: those of each example add up to 1"
        return defect(cause, shown, advice)
    if z.size < FEW:
        return None
    cause = "logits look like probabilities: none is below 0 or above 1"
    if z.size >= 2 * FEW and z.min() < REACHED and z.max() > 1 - REACHED:
        return defect(f"{cause}, and they reach from one to the other", shown, advice)
    fit = _fit(z, labels)
    if fit:
        return defect(f"{cause}, and as such they fit the labels", f"{shown}; {fit}", advice)
    return note(cause, shown, advice)


def log_loss(p: np.ndarray, positive: np.ndarray) -> float:
    """Of probabilities that never are surer than `ROUNDING`."""
    p = np.clip(p, ROUNDING, 1 - ROUNDING)
    return float(-np.where(positive, np.log(p), np.log1p(-p)).mean())


def entropy(shares: Any) -> Any:
    """The part of each share in an entropy."""
    return -shares * np.log(np.where(shares > 0, shares, 1.0))


def of_constant(share: Any) -> Any:
    """The log loss of a constant that knows the share of positives, or of each of several."""
    return entropy(share) + entropy(1 - share)


def _fit(z: np.ndarray, labels: np.ndarray) -> str:
    """How much better numbers tell decisions as probabilities than as logits, or nothing."""
    positive = labels > (0.5 if jnp.issubdtype(labels.dtype, jnp.floating) else 0)
    share = positive.mean() if positive.shape == z.shape else 0.0
    if min(share, 1 - share) * z.size < FEW_OF_A_KIND:
        return ""
    as_probabilities = log_loss(z, positive)
    as_logits = np.logaddexp(0, np.where(positive, -z, z)).mean()
    if as_probabilities > BETTER * min(as_logits, of_constant(share)):
        return ""
    return f"log loss {as_probabilities:.3g} as probabilities, {as_logits:.3g} as logits"


def like_decisions(predictions: np.ndarray, labels: np.ndarray) -> Finding | None:
    """Predictions that a threshold, or an argmax, has been at."""
    z = predictions
    if z.size < FEW or not np.isin(z, (0, 1)).all() or np.ptp(z) == 0:
        return None
    soft = jnp.issubdtype(labels.dtype, jnp.floating) and len(values_of(labels)) >= SEVERAL
    asked = "have predictions and labels been exchanged? if not, " if soft else ""
    return note(
        "predictions are all 0 or 1: a threshold, a round or an argmax came before, and no "
        "gradient passes through those",
        f"all {z.size}, of which {z.mean():.1%} are 1",
        f"{asked}give what stands before the threshold; decide where you evaluate",
    )


def like_percentages(predictions: np.ndarray) -> Look | None:
    """Predictions of which none is below 0, and that go far beyond 1."""
    z = predictions.astype(np.float64)
    if z.size < FEW or not (z >= 0).all() or not LARGE < z.max() <= SHADES:
        return None
    like, top = ("percentages", PERCENT) if z.max() <= PERCENT else ("shades of an image", SHADES)
    shown = f"all {z.size} lie in [{z.min():.3g}, {z.max():.3g}]"
    return Look(f"look like {like}", shown, f"predictions / {top:g}")


def graded(labels: np.ndarray) -> Finding | None:
    """Integers of three values or more, of which everything above 0 means yes."""
    values = values_of(labels)
    if len(values) < 3 or jnp.issubdtype(labels.dtype, jnp.floating):
        return None
    if mark(labels) is not None or mixes_scales(labels):
        return None
    between = ((labels > 0) & (labels < values[-1])).mean()
    what, advice = "noise at the edges of a mask that was saved as JPEG", "labels > 127"
    if values[-1] <= LARGEST_ID:
        what, advice = "every class but 0, if these are ids of classes", "labels == the class"
    return note(
        f"labels have {len(values)} values from {values[0]:g} to {values[-1]:g}, and all above 0 "
        f"count as positive: so does {what}",
        f"{(labels > 0).mean():.2%} are above 0, {between:.2%} below the largest as well",
        advice,
    )
