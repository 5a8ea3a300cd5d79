"""The doors: signatures that tell every keyword, and sets with their masses on the last axis."""

from __future__ import annotations

import inspect
from typing import Annotated, Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffmetrics as dm
from diffmetrics._core import calls, set_doors

SCORES = np.array([[0.1, jnp.nan, 0.3], [0.4, 0.5, 0.6]])
LABELS = np.array([[1, 0, 1], [0, 1, 0]])
KEEP = np.array([[True, True, False], [True, True, True]])


class Shared(calls.SetOptions, total=False):
    power: Annotated[float, 2.0]


def test_shared_keywords_are_spelled_out_with_type_and_default():
    @calls.compiled("axis")
    def mean_power(x: Any, **options: Unpack[Shared]) -> jax.Array:
        return jnp.mean(jnp.asarray(x) ** options.get("power", 2.0), options.get("axis"))

    parameters = inspect.signature(mean_power).parameters
    assert list(parameters) == ["x", "axis", "where", "weights", "power"]
    assert all(p.kind is p.KEYWORD_ONLY for p in list(parameters.values())[1:])
    assert [p.default for p in list(parameters.values())[1:]] == [None, None, None, 2.0]
    assert parameters["where"].annotation == "ArrayLike | None"
    np.testing.assert_allclose(mean_power(np.ones((2, 3)), axis=0), np.ones(3))


def test_every_public_function_tells_its_keywords():
    for name in (name for name in vars(dm) if name.islower() and not name.startswith("_")):
        function = getattr(dm, name)
        for p in inspect.signature(function).parameters.values() if callable(function) else ():
            assert p.kind is not p.VAR_KEYWORD or p.name == "hyperparameters", name


def test_scores_come_as_rows_with_the_mass_of_either_class():
    """NaN is wrong: the greatest score of a negative."""
    with jax.debug_nans(False):
        s, positive, negative = set_doors.scored(SCORES, LABELS, axis=1, where=KEEP)
    assert positive.dtype == negative.dtype == jnp.int32
    assert s.tolist() == [[pytest.approx(0.1), np.inf, -np.inf], pytest.approx([0.4, 0.5, 0.6])]
    assert positive.tolist() == [[1, 0, 0], [0, 1, 0]]
    assert negative.tolist() == [[0, 1, 0], [1, 0, 1]]


def test_shares_and_weights_make_floating_masses():
    soft = np.where(KEEP, 0.25, np.nan).astype(np.float32)
    with jax.debug_nans(False):
        _, positive, negative = set_doors.scored(
            SCORES, soft, where=KEEP, weights=np.array([2, 4, 8])
        )
    assert positive.tolist() == [0.5, 1.0, 0.0, 0.5, 1.0, 2.0]
    assert negative.tolist() == [1.5, 3.0, 0.0, 1.5, 3.0, 6.0]


def test_losses_of_two_classes_round_soft_labels_and_hide_nan():
    soft = np.where(LABELS == 1, 0.75, 0.25)
    hidden = np.isfinite(SCORES)
    with jax.debug_nans(False):
        z, positive, negative = set_doors.two_classes(
            SCORES, soft, axis=0, where=hidden, weights=3.0
        )
    assert z.tolist() == [pytest.approx([0.1, 0.4]), [0.0, 0.5], pytest.approx([0.3, 0.6])]
    assert positive.tolist() == [[3.0, 0.0], [0.0, 3.0], [3.0, 0.0]]
    assert negative.tolist() == [[0.0, 3.0], [0.0, 0.0], [0.0, 3.0]]


def test_rows_go_back_to_where_they_came_from():
    x = jnp.arange(24).reshape(2, 3, 4)
    for axes in ((0,), (1, 2), (0, 2), (0, 1, 2)):
        np.testing.assert_array_equal(
            set_doors.sets_back(set_doors.sets_last(x, axes), x.shape, axes), x
        )
