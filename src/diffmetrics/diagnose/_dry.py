"""Dry calls: what a loss makes of a few batches tells its kind, where its signature does not."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffmetrics.diagnose import _forms, _programs
from diffmetrics.diagnose._forms import CLASSES, Form, Loss
from diffmetrics.diagnose._programs import quiet


def refusal(loss: Loss, form: Form) -> str | None:
    """None if the loss can be called so, or what it raised."""
    try:
        _forms.shape_of(loss, form, form.predictions(), form.targets())
    except Exception as error:
        return _programs.said(error)
    return None


def _values(loss: Loss, form: Form, *batches: tuple[Any, Any]) -> list[float]:
    """The loss of each batch, NaN if it raises."""
    return _forms.values(loss, form, [(np.asarray(z, np.float32), y) for z, y in batches])


def _same(loss: Loss, form: Form, z: Any, y: Any, other_z: Any, other_y: Any) -> bool:
    """Whether two batches have the same loss."""
    a, b = _values(loss, form, (z, y), (other_z, other_y))
    return bool(np.isfinite(a) and np.isfinite(b) and abs(a - b) <= 1e-4 * (1e-3 + abs(a)))


def moves(loss: Loss, form: Form) -> bool:
    """Whether the loss is a number that depends on the predictions."""
    here, there = _values(loss, form, *((form.predictions(i), form.targets()) for i in (0, 1)))
    return bool(np.isfinite(here) and np.isfinite(there) and here != there)


def follows(loss: Loss, form: Form) -> bool:
    """Moving predictions and targets together changes nothing, moving one of them does."""
    up = np.array([[2.0], [0.0]], np.float32) if form.kind == "mean_scale" else 2.0
    z, y = form.predictions() + 2.0 * up, form.targets() + 4.0
    same = functools.partial(_same, loss, form, z, y)
    return same(z + up, y + 2.0) and not same(z + up, y)


def counts_are_best(loss: Loss, form: Form) -> bool:
    """Whether each count is told best by a rate as large, as by a likelihood of counts."""
    for count in (2.0, 7.0):
        rates = np.log(count) + np.array([0.0, -1.0, -0.05, 0.05, 1.0])
        y = np.full(form.shape, count, np.float32)
        best, *others = _values(loss, form, *((np.full(form.shape, z), y) for z in rates))
        if not all(best < other for other in others):  # which NaN is not
            return False
    return True


def mirrors(loss: Loss, form: Form) -> bool:
    """Whether negative targets are met as positive ones are, as by a relative error."""
    z, y = form.predictions(), form.targets()
    return _same(loss, form, z, y, -z, -y)


def only_compares(loss: Loss, form: Form) -> bool:
    """Other names for the same identities change nothing: what counts is who equals whom."""
    z, ids = form.predictions(), form.targets()
    return _same(loss, form, z, ids, z, (ids + 1) % CLASSES)


def _offsets(form: Form) -> np.ndarray:
    """To each example its own amount."""
    return np.arange(form.examples, dtype=np.float32)[:, None] % 5.0


def is_softmax(loss: Loss, form: Form) -> bool:
    """Logits of an example may move together, each example by its own amount."""
    z, y = form.predictions(), form.targets()
    same = functools.partial(_same, loss, form, z, y)
    return same(z + _offsets(form), y) and not same(-z, y)


def of_two_softmaxes(loss: Loss, form: Form) -> bool:
    """What is called as one-hot labels may move like logits, and so may be logits."""
    z, y = form.predictions(), form.targets()
    return _same(loss, form, z, y, z, y + _offsets(form))


def teaches(loss: Loss, form: Form) -> bool:
    """Whether two that are identical cost more or less with what they are: an entropy is in it."""
    (a, b), y = form.predictions(), form.targets()
    return not _same(loss, form, np.stack([a, a]), y, np.stack([b, b]), y)


def turns(loss: Loss, form: Form) -> bool:
    """Two sets of embeddings may be turned together in space, and not one of them alone."""
    (a, b), y = form.predictions(), form.targets()
    turn = np.linalg.qr(np.random.default_rng(12).normal(size=(form.shape[-1],) * 2))[0]
    same = functools.partial(_same, loss, form, np.stack([a, b]), y)
    return same(np.stack([a @ turn, b @ turn]), y) and not same(np.stack([a @ turn, b]), y)


def is_cumulative(loss: Loss, form: Form) -> bool:
    """Whether at logits of 0 an id c pulls up all logits before c, and pulls down the others."""
    z, ids = jnp.zeros(form.shape), form.targets()
    try:
        with quiet():
            slope = _programs.jitted(jax.grad(_forms.in_form(loss, form)))(z, jnp.asarray(ids))
    except Exception:
        return False
    up = np.arange(CLASSES) < ids[:, None]
    return bool((np.sign(slope) == np.where(up, -1.0, 1.0)).all())
