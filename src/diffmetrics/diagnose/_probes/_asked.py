"""What a loss takes a batch of the user's for: decisions or classes, logits or probabilities."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffmetrics.diagnose._inputs import mark, one_sided
from diffmetrics.diagnose._subject import OwnBatch, Seen

FAR = 20.0  # a logit
NEAR = 1e-5  # a distance to 0 or 1, unless the type of the predictions has only larger ones
LITTLE = 0.01


class Range(NamedTuple):
    """What a loss is where all is right and where all is wrong, and whether that has a slope."""

    right: float
    wrong: float
    alive: bool

    @property
    def meant(self) -> bool:
        """Whether these are the numbers that the loss takes: right is next to nothing."""
        return bool(np.isfinite(self.wrong) and abs(self.right) <= LITTLE * self.wrong)

    @property
    def told_apart(self) -> bool:
        """The same of a loss that is not 0 throughout."""
        return self.meant and self.wrong > 0


def look(batch: OwnBatch, predictions: Any, labels: Any) -> Seen:
    """What a batch that is made up shows; NaN if the loss refuses its numbers."""
    try:
        return batch.look(predictions, labels)
    except Exception:  # whatever a user's function may raise
        return Seen(np.nan, [np.full(predictions.shape, np.nan)])


class Asked:
    """Decisions or classes, and what the loss is at predictions that are right or wrong.

    Attributes:
      batch: what was given.
      z: its predictions.
      y: its labels.
      decides: whether every prediction has a label of its own.
      known: which labels are no marks of what is to be left out, nor ids of no class.
      positive: which predictions should be large.
      hard: labels that say so, without marks.
    """

    def __init__(
        self, batch: OwnBatch, known: np.ndarray, positive: np.ndarray, hard: np.ndarray
    ) -> None:
        self.batch, self.known, self.positive = batch, known, positive
        self.z, self.y = batch.form.predictions(), batch.form.targets()
        self.decides = self.y.shape == self.z.shape
        self.hard = jnp.asarray(hard, self.y.dtype)

    @classmethod
    def of(cls, batch: OwnBatch) -> Asked | None:
        """None if predictions and labels are neither 0/1 nor ids of classes, or all of a kind."""
        z, y = batch.form.predictions(), np.asarray(batch.form.targets())
        if not isinstance(z, jax.Array) or not jnp.issubdtype(z.dtype, jnp.floating):
            return None
        if y.shape == z.shape:
            positive, other = _positives(y), mark(y)
            known = np.full(y.shape, True) if other is None else y != other
            made = cls(batch, known, positive, positive)
        elif are_ids(y, z):
            made = cls._of_ids(batch, y.astype(np.int64), z.shape)
        else:
            return None
        return made if made.positive.any() and not made.positive.all() else None

    @classmethod
    def _of_ids(cls, batch: OwnBatch, ids: np.ndarray, shape: tuple[int, ...]) -> Asked:
        """Of ids, of which those that name no class are taken for one that is named."""
        known = (ids >= 0) & (ids < shape[-1])
        named = np.where(known, ids, ids[known][0] if known.any() else 0)
        positive = named.reshape(*shape[:-1], 1) == np.arange(shape[-1])
        return cls(batch, known, positive, named)

    def look(self, predictions: Any, labels: Any) -> Seen:
        """What these show instead of those that were given."""
        return look(self.batch, jnp.asarray(predictions, self.z.dtype), labels)

    def ends(self, low: float, high: float) -> Range:
        """The loss between two predictions, of which one is right for each element."""
        right, wrong = (
            self.look(np.where(some, high, low), self.hard)
            for some in (self.positive, ~self.positive)
        )
        alive = np.isfinite(wrong.slope).all() and wrong.slope.any()
        return Range(right.value, wrong.value, bool(alive))

    @functools.cached_property
    def as_logits(self) -> Range:
        return self.ends(-FAR, FAR)

    @functools.cached_property
    def as_probabilities(self) -> Range:
        return self.ends(*self.nearly)

    @property
    def nearly(self) -> tuple[float, float]:
        """Probabilities next to 0 and 1."""
        near = max(NEAR, float(jnp.finfo(self.z.dtype).eps) / 2)
        return near, 1 - near

    @functools.cached_property
    def compares(self) -> bool:
        """Whether predictions and labels may move together, as those of a regression."""
        if not self.decides:
            return False
        hard = self.hard.astype(self.z.dtype) if self.hard.dtype == bool else self.hard
        here, there = (self.look(self.z + up, hard + up).value for up in (0, 1))
        return bool(abs(here - there) <= 1e-3 * abs(here))

    @property
    def classifies(self) -> bool:
        """Whether the loss is one of decisions or of classes."""
        return (self.as_logits.told_apart or self.as_probabilities.told_apart) and not self.compares

    @property
    def is_hard(self) -> bool:
        """Whether labels are ids or decisions, and no probabilities."""
        return len(np.unique(np.asarray(self.y)[self.known])) <= 2 or not self.decides

    @property
    def undecided(self) -> jax.Array:
        """Predictions that favour nothing."""
        takes_logits = self.as_logits.meant and self.as_logits.alive
        even = 0.0 if takes_logits else 0.5 if self.decides else 1 / self.z.shape[-1]
        return jnp.full_like(self.z, even)

    def near(self, predictions: np.ndarray) -> bool:
        """Whether the loss is as small at these as at the best, with the labels that there are."""
        takes = self.as_logits if self.as_logits.meant else self.as_probabilities
        value = self.look(predictions, self.y).value
        return bool(min(abs(value), abs(value - takes.right)) <= LITTLE * takes.wrong)

    @property
    def reads_signs(self) -> bool:
        """Whether labels above 0 mean yes, and others no, whatever their numbers."""
        logits = self.as_logits.meant
        far = (-FAR, FAR) if logits else self.nearly
        yes = np.asarray(self.y, np.float64) > (0.5 if self.y.dtype.kind == "f" else 0)
        return self.near(np.where(yes, far[1], far[0]))

    @property
    def reads_as_probabilities(self) -> bool:
        """Whether labels outside of [0, 1] make another loss of predictions that are right.

        Those of a regression are met by predictions like them; what reads -1 as "no", as a hinge
        does, finds nothing wrong with it; and a ranking has its grades in their order.
        """
        if not (self.as_logits.meant or self.as_probabilities.meant):
            return False
        y = np.asarray(self.y, np.float64)
        return not (self.near(y) or self.reads_signs or self.near(FAR * y))


def are_ids(labels: np.ndarray, predictions: Any) -> bool:
    """Whether labels are one whole number for each example of several classes."""
    shape = predictions.shape
    if not shape or shape[-1] < 2 or labels.dtype.kind not in "iu":
        return False
    return labels.shape in (shape[:-1], (*shape[:-1], 1))


def one_hot(labels: np.ndarray) -> bool:
    """Whether every row has one class of several."""
    if labels.ndim < 2 or labels.shape[-1] < 3 or not np.isin(labels, (0, 1)).all():
        return False
    return bool((labels.sum(-1) == 1).all())


def _positives(y: np.ndarray) -> np.ndarray:
    """Labels that mean yes; of those that all mean the same, the larger ones."""
    if one_sided(y) is not None:
        values = y.astype(np.float64)
        return values > (values.min() + values.max()) / 2
    return y > 0.5 if jnp.issubdtype(y.dtype, jnp.floating) else y > 0
