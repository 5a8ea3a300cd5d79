"""What is special about the entropies: limits, equalities between them, and no dead zone."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffmetrics as dm
from tests.rows import BINARY, CLASSES

BINARY_LABELS = BINARY[1].astype(np.float32)
MAX = float(np.finfo(np.float32).max)


@functools.partial(jax.jit, static_argnums=0)
def compiled(loss: Callable[..., jax.Array], z: jax.Array, *rest: Any) -> Any:
    value, pull = jax.vjp(lambda x: loss(x, *rest), z)
    return value, pull(jnp.ones_like(value))[0]


def both(loss: Callable[..., jax.Array], *args: Any, **options: Any) -> tuple[jax.Array, jax.Array]:
    """Value and gradient of the sum; one program for all that ask the same loss."""
    z, *rest = args
    of = functools.partial(loss, **options) if options else loss
    return compiled(of, np.asarray(z, np.float32), *rest)


def assert_same(one: Any, other: Any) -> None:
    chex.assert_trees_all_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        (dm.softmax_focal_loss, {"gamma": 0.0}),
        (dm.softmax_poly_loss, {"epsilon": 0.0}),
        (dm.generalized_cross_entropy, {"q": 0.0}),
        (dm.weighted_softmax_cross_entropy, {"class_weights": np.ones(4)}),
        (dm.logit_adjusted_softmax_loss, {"prevalence": np.full(4, 7.0)}),
        (dm.logit_adjusted_softmax_loss, {"prevalence": np.arange(4.0), "tau": 0.0}),
        (dm.ldam_loss, {"class_counts": np.ones(4), "max_margin": 0.0, "scale": 1.0}),
    ],
)
def test_softmax_losses_contain_cross_entropy(loss: Any, options: dict[str, Any]):
    extremes = np.array([[MAX, -MAX, 0, 0], [-MAX, MAX, 0, 1], [100, 0, 0, 0]], np.float32)
    loss = functools.partial(loss, **options)
    for logits, ids in (CLASSES, (extremes, np.zeros(3, int))):
        assert_same(both(loss, logits, ids), both(dm.softmax_cross_entropy, logits, ids))


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        (dm.sigmoid_focal_loss, {"gamma": 0.0}),
        (dm.sigmoid_poly_loss, {"epsilon": 0.0}),
        (dm.weighted_sigmoid_cross_entropy, {"positive_weight": 1.0}),
        (dm.logit_adjusted_sigmoid_loss, {"prevalence": 0.5}),
        (dm.asymmetric_loss, {"gamma_positive": 0.0, "gamma_negative": 0.0, "shift": 0.0}),
    ],
)
def test_sigmoid_losses_contain_cross_entropy(loss: Any, options: dict[str, Any]):
    extremes = np.array([-MAX, -30.0, 0.0, 30.0, 90.0, MAX], np.float32)
    loss = functools.partial(loss, **options)
    for logits, labels in (BINARY, (extremes, np.zeros(6)), (extremes, np.ones(6))):
        assert_same(both(loss, logits, labels), both(dm.sigmoid_cross_entropy, logits, labels))


def test_generalized_cross_entropy_is_smooth_in_q_at_cross_entropy():
    logits, ids = CLASSES
    gradient = jax.grad(lambda q: dm.generalized_cross_entropy(logits, ids, q=q).sum())(0.0)
    expected = -0.5 * (dm.softmax_cross_entropy(logits, ids) ** 2).sum()
    assert_same(gradient, expected)


def test_asymmetric_has_no_dead_zone_for_confident_errors():
    far = np.array([20.0, 30.0, 90.0, 1e4, 1e30])
    _, of_positive = both(dm.asymmetric_loss, -far, np.ones(5))
    chex.assert_trees_all_close(of_positive, -jnp.ones(5), rtol=1e-4)
    _, of_negative = both(dm.asymmetric_loss, far, np.zeros(5), shift=0.0)
    chex.assert_trees_all_close(of_negative, jnp.ones(5), rtol=1e-4)


def test_asymmetric_asks_nothing_of_easy_negatives():
    easy = np.array([-3.0, -10.0, -MAX])
    chex.assert_trees_all_equal(
        both(dm.asymmetric_loss, easy, np.zeros(3), gamma_negative=0.0), (jnp.zeros(3),) * 2
    )


def test_asymmetric_ends_where_the_shift_says():
    value = dm.asymmetric_loss(jnp.array([100.0, MAX]), jnp.zeros(2), gamma_negative=0.0, shift=0.1)
    chex.assert_trees_all_close(value, jnp.full(2, -np.log(0.1)), rtol=1e-5)


def test_weights_may_differ_by_label():
    logits, labels = BINARY
    weights = np.array([1.0, 2.0, 5.0])
    weighted = dm.weighted_sigmoid_cross_entropy(logits, labels, positive_weight=weights)
    for k, weight in enumerate(weights):
        alone = dm.weighted_sigmoid_cross_entropy(
            logits[:, k], labels[:, k], positive_weight=weight
        )
        assert_same(weighted[:, k], alone)


def test_a_loss_held_at_the_largest_number_still_comes_down():
    z = jnp.array([[-MAX, 0.0]])
    value, gradient = both(
        dm.weighted_softmax_cross_entropy, z, np.array([0]), class_weights=np.array([4.0, 1.0])
    )
    assert_same((value, gradient), (jnp.array([MAX]), jnp.array([[-4.0, 4.0]])))


def test_the_best_constant_logit_of_logit_adjustment_is_zero():
    """The prior is in the adjustment, so that nothing of it is left for the logit."""
    labels = np.array([1.0] + [0.0] * 9)
    _, slopes = both(dm.logit_adjusted_sigmoid_loss, np.zeros(10), labels, prevalence=0.1)
    assert abs(np.sum(slopes)) < 1e-5
    counts, ids = np.array([5, 3, 2]), np.repeat(np.arange(3), [5, 3, 2])
    _, slopes = both(dm.logit_adjusted_softmax_loss, np.zeros((10, 3)), ids, prevalence=counts)
    np.testing.assert_allclose(np.sum(slopes, 0), np.zeros(3), atol=1e-5)


@pytest.mark.parametrize("prevalence", [0.0, 1.0])
def test_logit_adjustment_is_finite_for_a_label_without_examples(prevalence: float):
    chex.assert_tree_all_finite(
        both(dm.logit_adjusted_sigmoid_loss, *BINARY, prevalence=prevalence)
    )


def test_losses_of_classes_are_finite_with_empty_classes():
    for counts in (np.array([10.0, 0.0, 5.0, 1.0]), np.zeros(4)):
        chex.assert_tree_all_finite(both(dm.ldam_loss, *CLASSES, class_counts=counts))
        chex.assert_tree_all_finite(
            both(dm.logit_adjusted_softmax_loss, *CLASSES, prevalence=counts)
        )


def test_ldam_margins_fall_with_the_fourth_root():
    counts = np.array([16.0, 1.0, 0.0, 81.0])
    logits = np.zeros((4, 4), np.float32)
    expected = []
    for k, margin in enumerate([0.25, 0.5, 0.5, 0.5 / 3]):
        moved = logits[k] - margin * (np.arange(4) == k)
        expected.append(-jax.nn.log_softmax(10.0 * moved)[k])
    value = dm.ldam_loss(logits, np.arange(4), class_counts=counts, scale=10.0)
    assert_same(value, jnp.stack(expected))


def test_ldam_keeps_the_order_of_huge_logits():
    z = np.array([[MAX, MAX / 2, 0.0]], np.float32)
    options: Any = {"class_counts": np.ones(3)}
    assert dm.ldam_loss(z, np.array([0]), **options) == 0.0
    assert dm.ldam_loss(z, np.array([1]), **options) == MAX


def test_focal_alpha_is_a_factor_by_class():
    alpha = np.array([0.1, 0.2, 0.3, 0.4])
    plain = dm.softmax_focal_loss(*CLASSES)
    assert_same(dm.softmax_focal_loss(*CLASSES, alpha=alpha), plain * alpha[CLASSES[1]])
    assert_same(dm.softmax_focal_loss(*CLASSES, alpha=0.5), plain * 0.5)
