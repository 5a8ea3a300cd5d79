"""Points of curves on devices, on the host, and in the types of their curve."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffmetrics as dm

rng = np.random.default_rng(0)
LABELS = rng.integers(0, 2, 40)
SCORES = (rng.normal(size=40) + LABELS).astype(np.float32)

POINTS: dict[str, Callable[[dm.Curve], Any]] = {
    "recall_at_precision": lambda c: dm.recall_at_precision(c, precision=0.7),
    "precision_at_recall": lambda c: dm.precision_at_recall(c, recall=0.7),
    "tpr_at_fpr": lambda c: dm.tpr_at_fpr(c, fpr=0.2),
    "best_fbeta": lambda c: dm.best_fbeta(c, beta=2),
    "min_detection_cost": lambda c: dm.min_detection_cost(c, target_prior=0.1, miss_cost=10),
    "interpolate": lambda c: dm.equal_error_rate(c, method="interpolate"),
    "nearest": lambda c: dm.equal_error_rate(c, method="nearest"),
    "convex_hull": lambda c: dm.equal_error_rate(c, method="convex_hull"),
}
points = pytest.mark.parametrize("point", POINTS.values(), ids=POINTS)


@points
def test_each_device_finds_the_point_of_its_own_rows(point: Callable[[dm.Curve], Any]):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("data")

    def own(scores: Any, labels: Any) -> Any:
        return jax.tree.map(lambda x: x[None], point(dm.curve(scores, labels)))

    over = jax.jit(jax.shard_map(own, mesh=mesh, in_specs=spec, out_specs=spec))
    found = over(SCORES, LABELS)
    halves = [point(dm.curve(SCORES[i : i + 20], LABELS[i : i + 20])) for i in (0, 20)]
    chex.assert_trees_all_close(found, jax.tree.map(lambda *x: jnp.stack(x), *halves), rtol=1e-6)


@points
def test_points_have_the_type_of_soft_counts(point: Callable[[dm.Curve], Any]):
    with jax.enable_x64(True):
        soft = dm.curve(SCORES, LABELS.astype(np.float32))
        chex.assert_type(jax.tree.leaves(point(soft)), jnp.float32)


@points
def test_points_of_several_curves_under_strict_promotion(point: Callable[[dm.Curve], Any]):
    curves = dm.curve(SCORES.reshape(2, 20), LABELS.reshape(2, 20), axis=1)
    each = [point(dm.curve(SCORES[i : i + 20], LABELS[i : i + 20])) for i in (0, 20)]
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        found = point(curves)
    chex.assert_trees_all_close(found, jax.tree.map(lambda *x: jnp.stack(x), *each), rtol=1e-6)


def test_an_operating_point_on_the_host_is_two_plain_numbers():
    point = dm.best_fbeta(dm.curve(SCORES, LABELS))
    value, threshold = point.to_host()
    assert isinstance(value, float)
    assert isinstance(threshold, float)
    assert json.loads(json.dumps([value, threshold])) == [point.value, point.threshold]
    several = dm.best_fbeta(dm.curve(SCORES.reshape(2, 20), LABELS.reshape(2, 20), axis=1))
    assert isinstance(several.to_host().threshold, np.ndarray)
    np.testing.assert_array_equal(several.to_host().threshold, several.threshold)
