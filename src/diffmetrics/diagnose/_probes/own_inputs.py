"""Whether the numbers of a batch of the user's are what the loss takes them for.

A loss says itself what it takes. One of logits is next to nothing where each is far on its right
side, and one of probabilities where each is next to its label. What fits neither, such as a
regression, a distance or a critic, is not asked.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffmetrics.diagnose._forms import OWN
from diffmetrics.diagnose._inputs import like_probabilities, misread, unlike_probabilities
from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, defect
from diffmetrics.diagnose._subject import OwnBatch

FAR, NEAR = 20.0, 2.0**-8  # a logit, and a distance to 0 or 1 that bfloat16 has, too
LITTLE = 0.01


@probe("inputs", (OWN,), rank=3)
def inputs(batch: OwnBatch) -> list[Finding]:
    """Labels that are no probabilities, and logits and probabilities in each other's place."""
    asked = _Asked.of(batch)
    if asked is None:
        return []
    odd = _odd(asked)
    if odd is not None:  # what the loss takes predictions for can be asked with others only
        return [odd] if asked.reads_as_probabilities else []
    found = (_logits(asked), _probabilities(asked))
    return [finding for finding in found if finding is not None]


class _Range(NamedTuple):
    """What a loss is where all is right and where all is wrong, and whether that has a slope."""

    right: float
    wrong: float
    alive: bool

    @property
    def meant(self) -> bool:
        """Whether these are the numbers that the loss takes: right is next to nothing."""
        return bool(np.isfinite(self.wrong) and abs(self.right) <= LITTLE * self.wrong)


class _Asked:
    """Decisions or classes, and what the loss is at predictions that are right or wrong."""

    def __init__(self, batch: OwnBatch, positive: np.ndarray) -> None:
        self.batch, self.positive = batch, positive
        self.z, self.y = batch.form.predictions(), batch.form.targets()
        self.decides = self.y.shape == self.z.shape
        # Of class ids nothing is changed.
        self.hard = jnp.asarray(positive, self.y.dtype) if self.decides else self.y

    @classmethod
    def of(cls, batch: OwnBatch) -> _Asked | None:
        """None if predictions and labels are neither 0/1 nor ids of classes, or all of a kind."""
        z, y = batch.form.predictions(), np.asarray(batch.form.targets())
        if not isinstance(z, jax.Array) or not jnp.issubdtype(z.dtype, jnp.floating):
            return None
        if y.shape == z.shape:
            floating = jnp.issubdtype(y.dtype, jnp.floating)
            positive = y > 0.5 if floating else y > 0
        elif y.shape == z.shape[:-1] and y.dtype.kind in "iu":
            positive = y[..., None].astype(np.int64) == np.arange(z.shape[-1])
        else:
            return None
        return cls(batch, positive) if positive.any() and not positive.all() else None

    def ends(self, low: float, high: float) -> _Range:
        """The loss between two predictions, of which one is right for each element."""
        right, wrong = (
            self.batch.look(jnp.asarray(np.where(some, high, low), self.z.dtype), self.hard)
            for some in (self.positive, ~self.positive)
        )
        alive = np.isfinite(wrong.slope).all() and wrong.slope.any()
        return _Range(right.value, wrong.value, bool(alive))

    @functools.cached_property
    def as_logits(self) -> _Range:
        return self.ends(-FAR, FAR)

    @functools.cached_property
    def as_probabilities(self) -> _Range:
        return self.ends(NEAR, 1 - NEAR)

    @property
    def compares(self) -> bool:
        """Whether predictions and labels may move together, as those of a regression."""
        if not self.decides or self.hard.dtype == bool:
            return False
        here, there = (self.batch.look(self.z + up, self.hard + up).value for up in (0, 1))
        return bool(abs(here - there) <= 1e-3 * abs(here))

    @property
    def reads_as_probabilities(self) -> bool:
        """Whether labels outside of [0, 1] make another loss of predictions that are right.

        Those of a regression are met by predictions like them; what reads -1 as "no", as a hinge
        does, finds nothing wrong with it.
        """
        takes, right = self.as_logits, np.where(self.positive, FAR, -FAR)
        if not takes.meant:
            takes, right = self.as_probabilities, np.where(self.positive, 1 - NEAR, NEAR)
        if not takes.meant:
            return False
        like_labels, hard = (
            self.batch.look(jnp.asarray(z, self.z.dtype), self.y).value for z in (self.y, right)
        )
        near = LITTLE * takes.wrong
        return not (abs(like_labels) <= near or abs(hard - takes.right) <= near)


def _odd(asked: _Asked) -> Finding | None:
    """Labels that are not between 0 and 1."""
    y = np.asarray(asked.y)
    if not asked.decides or y.dtype == bool:
        return None
    floating = jnp.issubdtype(y.dtype, jnp.floating)
    return unlike_probabilities(y) if floating else misread(y)


def _logits(asked: _Asked) -> Finding | None:
    """Logits where the loss takes probabilities."""
    z = np.asarray(asked.z, np.float64)
    # Distances are never below 0, and may be what is meant.
    if not (z < 0).any() or not asked.as_probabilities.meant:
        return None
    if (asked.as_logits.meant and asked.as_logits.alive) or asked.compares:
        return None
    return defect(
        "predictions are logits, and the loss takes probabilities",
        f"they lie in [{z.min():.3g}, {z.max():.3g}]; the loss is next to 0 where each is 0 or 1 "
        f"as its label, and {asked.as_logits.right:.3g} at logits of {FAR:g} on the right side",
        "put a sigmoid or softmax before it; better: a loss that takes logits",
    )


def _probabilities(asked: _Asked) -> Finding | None:
    """Probabilities where the loss takes logits."""
    like = like_probabilities(np.asarray(asked.z))
    if like is None or not asked.as_logits.meant or asked.as_probabilities.meant:
        return None
    return like
