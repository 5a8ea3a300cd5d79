"""The losses by name, each a scalar of one batch's logits [B] and labels [B], and of a task.

A `Task` is what is known of the problem: how frequent the rare class is in training, and what the
two errors cost. All are traced, so that one compiled program serves every loss.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import diffmetrics as dm


class Task(NamedTuple):
    """A number each, or one for each of several networks."""

    prevalence: Any
    """Share of the rare class in the training texts."""
    miss: Any
    """Cost of a rare text that is not found."""
    alarm: Any
    """Cost of a common text that is taken for rare."""


def make_task(prevalence: np.ndarray, miss: float | None, alarm: float) -> Task:
    """The task of networks whose training texts have these shares [R] of the rare class.

    Without a cost of its own a miss costs as many alarms as there are common texts to a rare one:
    both classes weigh the same.
    """
    alarms = np.full(len(prevalence), alarm)
    misses = alarms * (1.0 - prevalence) / prevalence
    return Task(prevalence, misses if miss is None else np.full(len(prevalence), miss), alarms)


# --- where networks begin -------------------------------------------------------------------------


def at_share(task: Task) -> np.ndarray:
    """The log-odds [R] of the rare class in the training texts."""
    return np.log(task.prevalence / (1.0 - task.prevalence))


def at_weighted_share(task: Task) -> np.ndarray:
    """The log-odds where every text weighs what it costs to mistake it."""
    return np.log(task.miss / task.alarm * task.prevalence / (1.0 - task.prevalence))


def at_half(task: Task) -> np.ndarray:
    """For losses that see both classes alike."""
    return np.zeros(len(task.prevalence))


@dataclasses.dataclass(frozen=True)
class Loss:
    """What is minimised, on which texts, and from where."""

    value: Callable[[jax.Array, jax.Array, Task], jax.Array]
    """``(logits [B], labels [B], task) -> scalar``."""
    begin_at: Callable[[Task], np.ndarray] = at_share
    """Logits [R] with which networks begin: the log-odds of the rare class for which it trains.

    From elsewhere the first steps move every text alike, whatever tells the classes apart.
    """
    oversampled: bool = False
    """Train on texts of the rare class that are repeated until both are equally frequent."""


# --- values ---------------------------------------------------------------------------------------


def cross_entropy(logits: jax.Array, labels: jax.Array, task: Task) -> jax.Array:
    """Mean binary cross-entropy."""
    return dm.sigmoid_cross_entropy(logits, labels).mean()


def class_weighted(logits: jax.Array, labels: jax.Array, task: Task) -> jax.Array:
    """Cross-entropy, the rare class weighing what missing it costs; Keras's `class_weight`."""
    weight = task.miss / task.alarm
    return dm.weighted_sigmoid_cross_entropy(logits, labels, positive_weight=weight).mean()


def soft_mask(logits: jax.Array, labels: jax.Array, task: Task) -> jax.Array:
    """What the question was after: the weight is the mean of w[true, .] under the softmax."""
    z, y = _two_columns(logits), labels.astype(jnp.int32)
    return dm.cost_sensitive_cross_entropy(z, y, cost=_question_weights(task)).mean()


def expected_cost(logits: jax.Array, labels: jax.Array, task: Task) -> jax.Array:
    """Mean cost of decisions drawn from the softmax."""
    z, y = _two_columns(logits), labels.astype(jnp.int32)
    return dm.expected_cost_loss(z, y, cost=cost_matrix(task.miss, task.alarm)).mean()


def cross_entropy_and_expected_cost(logits: jax.Array, labels: jax.Array, task: Task) -> jax.Array:
    """Their sum, which starts where expected cost alone may not."""
    return cross_entropy(logits, labels, task) + expected_cost(logits, labels, task)


def logit_adjusted(logits: jax.Array, labels: jax.Array, task: Task) -> jax.Array:
    """Cross-entropy of what the logits add to the log-odds of the class."""
    return dm.logit_adjusted_sigmoid_loss(logits, labels, prevalence=task.prevalence).mean()


def focal(logits: jax.Array, labels: jax.Array, task: Task) -> jax.Array:
    """Focal loss with the constants of the paper (Lin et al., 2017, arXiv:1708.02002)."""
    return dm.sigmoid_focal_loss(logits, labels, alpha=0.25, gamma=2.0).mean()


def asymmetric(logits: jax.Array, labels: jax.Array, task: Task) -> jax.Array:
    """Asymmetric loss with the constants of the paper (Ridnik et al., 2021, arXiv:2009.14119)."""
    return dm.asymmetric_loss(logits, labels).mean()


def soft_f1(logits: jax.Array, labels: jax.Array, task: Task) -> jax.Array:
    """One minus soft F1 of the batch."""
    return dm.fbeta_loss(logits, labels)


def soft_f2(logits: jax.Array, labels: jax.Array, task: Task) -> jax.Array:
    """One minus soft F2 of the batch: recall matters more."""
    return dm.fbeta_loss(logits, labels, beta=2.0)


def cross_entropy_and_soft_f1(logits: jax.Array, labels: jax.Array, task: Task) -> jax.Array:
    """Their sum: cross-entropy pulls back what soft F1 alone would leave saturated."""
    return cross_entropy(logits, labels, task) + soft_f1(logits, labels, task)


# --- the question's own ---------------------------------------------------------------------------
# `asked-…` are the losses of a question on Stack Overflow, reproduced literally, errors included:
# `w_categorical_crossentropy` of Keras issue 2115, cross-entropy times w[true, argmax], for a
# softmax of two columns.


def _question_weights(task: Task) -> jax.Array:
    """w[true, predicted]: one, but more for a rare text that is not found."""
    return jnp.array([[1.0, 1.0], [0.0, 1.0]]).at[1, 0].set(task.miss / task.alarm)


def _hard_mask(p: jax.Array, y: jax.Array, task: Task) -> jax.Array:
    """Each text's weight: piecewise constant, so that its gradient is zero; a tie counts twice."""
    chosen = (p == jnp.max(p, axis=-1, keepdims=True)).astype(p.dtype)
    return jnp.sum(y @ _question_weights(task) * chosen, axis=-1)


def _keras_categorical_crossentropy(target: jax.Array, output: jax.Array) -> jax.Array:
    """What `K.categorical_crossentropy(target, output)` computes since Keras 2."""
    output = output / jnp.sum(output, axis=-1, keepdims=True)
    return -jnp.sum(target * jnp.log(jnp.clip(output, 1e-7, 1.0 - 1e-7)), axis=-1)


def asked_mask(logits: jax.Array, labels: jax.Array, task: Task) -> jax.Array:
    """The question's loss with the arguments in the order that Keras 2 wants.

    Once a rare text is on the right side of ½ its weight falls to one: nothing builds a margin.
    """
    p, y = jax.nn.softmax(_two_columns(logits)), jax.nn.one_hot(labels.astype(jnp.int32), 2)
    return jnp.mean(_keras_categorical_crossentropy(y, p) * _hard_mask(p, y, task))


def asked_swapped(logits: jax.Array, labels: jax.Array, task: Task) -> jax.Array:
    """The question's loss as it was written, in the order of Keras 1.

    Labels and predictions change places, so it is 16.1 (1 - p of the true class): linear, and its
    gradient vanishes on the texts that are most wrong.
    """
    p, y = jax.nn.softmax(_two_columns(logits)), jax.nn.one_hot(labels.astype(jnp.int32), 2)
    return jnp.mean(_keras_categorical_crossentropy(p, y) * _hard_mask(p, y, task))


def _two_columns(logits: jax.Array) -> jax.Array:
    """A softmax over these is the sigmoid of the one logit."""
    return jnp.stack([jnp.zeros_like(logits), logits], axis=-1)


def cost_matrix(miss: jax.Array | float, alarm: jax.Array | float) -> jax.Array:
    """What it costs to predict the second index when the first is true."""
    return jnp.array([[0.0, 1.0], [0.0, 0.0]]) * alarm + jnp.array([[0.0, 0.0], [1.0, 0.0]]) * miss


def of_task(name: str, task: Task) -> Callable[..., jax.Array]:
    """The named loss as ``f(logits, labels)``, under its own name, at the mean of some tasks."""
    return _at(name, Task(*(round(float(np.mean(numbers)), 3) for numbers in task)))


@functools.cache
def _at(name: str, task: Task) -> Callable[..., jax.Array]:
    task = Task(*map(jnp.float32, task))

    def loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
        return LOSSES[name].value(logits, labels, task)

    loss.__name__ = loss.__qualname__ = name
    return loss


# To add one: a function of logits, labels and task, and its name here.
LOSSES: dict[str, Loss] = {
    "cross-entropy": Loss(cross_entropy),
    "class-weighted": Loss(class_weighted, at_weighted_share),
    "asked-mask": Loss(asked_mask),
    "asked-swapped": Loss(asked_swapped),
    "soft-mask": Loss(soft_mask),
    "expected-cost": Loss(expected_cost),
    "cross-entropy+expected-cost": Loss(cross_entropy_and_expected_cost),
    "logit-adjusted": Loss(logit_adjusted, at_half),
    "focal": Loss(focal),
    "asymmetric": Loss(asymmetric),
    "soft-f1": Loss(soft_f1),
    "soft-f2": Loss(soft_f2),
    "cross-entropy+soft-f1": Loss(cross_entropy_and_soft_f1),
    "oversampled": Loss(cross_entropy, at_half, oversampled=True),
    "cross-entropy-from-half": Loss(cross_entropy, at_half),
    "soft-f1-from-half": Loss(soft_f1, at_half),
}
