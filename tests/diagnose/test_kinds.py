"""How a loss is called: the kind is found out, and what cannot be called is named."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

import diffmetrics as dm
from diffmetrics import diagnose
from tests.diagnose import broken_losses

partial = functools.partial


def _labels_first(y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
    return dm.sigmoid_cross_entropy(y_pred, y_true)


def _of_probabilities(p: jax.Array, y: jax.Array) -> jax.Array:
    return -(y * jnp.log(p) + (1 - y) * jnp.log(1 - p)).mean()


@pytest.mark.parametrize(
    ("loss", "kind", "words"),
    [
        (dm.sigmoid_cross_entropy, "binary", "loss(logits, labels)"),
        (_labels_first, "binary", "loss(labels, logits)"),
        (lambda a, b: _labels_first(a, b), "binary", "loss(labels, logits)"),
        (_of_probabilities, "binary", "loss(probabilities, labels)"),
        (partial(dm.dice_loss, axis=(1, 2)), "binary", "loss(logits, labels)"),
        (dm.softmax_cross_entropy, "multiclass", "loss(logits, ids)"),
        (optax.softmax_cross_entropy, "multiclass", "loss(logits, one_hot)"),
        (partial(dm.pairwise_kl_hinge_loss, margin=2.0), "embedding", "loss(embeddings, labels)"),
        (partial(dm.kl_hinge_loss, margin=2.0), "pair", "loss(a, b, same)"),
        (broken_losses.no_penalty, "mean_scale", "loss(mean, scale, target)"),
        (optax.squared_error, "regression", "loss(predictions, labels)"),
        (
            lambda predictions, targets: abs((targets - predictions) / targets),
            "regression",
            "loss(predictions, labels)",
        ),
        (
            lambda y_true, y_pred: (y_pred - y_true * jnp.log(y_pred)).mean(),
            "counts",
            "loss(counts, rates)",
        ),
    ],
)
def test_the_kind_is_found_out(loss: Any, kind: str, words: str):
    assert diagnose.loss(loss, probes=()).kind == f"{kind}, {words}"


def test_a_tuple_of_mean_and_scale_is_a_kind_of_its_own():
    def loss(outputs: tuple[jax.Array, jax.Array], target: jax.Array) -> jax.Array:
        mean, scale = outputs
        return broken_losses.no_penalty(mean, scale, target) + jnp.log(scale)

    report = diagnose.loss(loss, kind="mean_scale", probes=("scale",))
    assert report.kind.endswith("loss((mean, scale), target)")


def test_what_cannot_be_examined_is_said():
    with pytest.raises(TypeError, match="needs the keywords max_fpr: bind them"):
        diagnose.loss(dm.partial_roc_auc_loss)
    with pytest.raises(ValueError, match=r"kind must be one of binary, .*, got 'images'"):
        diagnose.loss(dm.dice_loss, kind="images")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"probes of binary losses are .*; got color"):
        diagnose.loss(dm.dice_loss, kind="binary", probes=("color",))
    with pytest.raises(TypeError, match="loss must be callable, got int"):
        diagnose.loss(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="probes must be a list of names, got the string 'alive'"):
        diagnose.loss(dm.dice_loss, probes="alive")
    with pytest.raises(TypeError, match="takes 1 positional arguments"):
        diagnose.loss(lambda logits: logits.sum())

    def picky(logits: jax.Array, labels: jax.Array) -> jax.Array:
        raise ValueError(f"nothing of shape {logits.shape} will do")

    with pytest.raises(TypeError, match=r"(?s)picky cannot be called .*ValueError: nothing of"):
        diagnose.loss(picky)


def _focal(logits: jax.Array, labels: jax.Array, alpha: float) -> jax.Array:
    return optax.sigmoid_focal_loss(logits, labels, alpha=alpha)


def _smoothed(y_true: jax.Array, y_pred: jax.Array, class_weights: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy(y_pred, y_true) * class_weights


@pytest.mark.parametrize(("loss", "name"), [(_focal, "alpha"), (_smoothed, "class_weights")])
def test_a_third_argument_that_is_an_option_makes_no_pair(loss: Any, name: str):
    with pytest.raises(TypeError, match=f"needs the keywords {name}: bind them"):
        diagnose.loss(loss)
    with pytest.raises(TypeError, match=f"--set {name}=..."):
        diagnose.loss(loss, kind="binary")


def test_a_loss_that_is_never_finite_is_asked_nothing_else():
    def never(logits: jax.Array, labels: jax.Array) -> jax.Array:
        return jnp.log(logits.sum() * labels.sum() * 0.0 - 1.0)

    report = diagnose.loss(never, kind="binary")
    assert [f.cause for f in report.results] == ["it is not finite on an ordinary batch"]
