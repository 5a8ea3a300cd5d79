"""The loss doctor names what gradients, weights and keywords give away."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import diffmetrics as dm
from diffmetrics import diagnose
from diffmetrics.diagnose import _forms
from diffmetrics.diagnose._subject import Subject
from tests.diagnose import asked
from tests.diagnose.broken_gradients import (
    negatives_first,
    stopped,
    weight_of_a_closure,
    weight_of_a_module,
)

partial = functools.partial
FORM = _forms.Form("binary", (64,))


# --- what looks like these, and is meant so -------------------------------------------------------


def stable_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """At exactly 0 the kinks of its two parts do not cancel, and negatives get no gradient."""
    rest = jnp.log1p(jnp.exp(-jnp.abs(logits)))
    return (jnp.maximum(logits, 0) - logits * labels + rest).mean()


def weights_of_the_batch(logits: jax.Array, labels: jax.Array) -> jax.Array:
    share = labels.mean()
    weights = stopped(jnp.where(labels > 0, 0.5 / share, 0.5 / (1 - share)))
    return (weights * optax.sigmoid_binary_cross_entropy(logits, labels)).mean()


def asymmetric(logits: jax.Array, labels: jax.Array, margin: float = 0.05) -> jax.Array:
    """With focusing weights that have no gradient, as its authors offer."""
    p = jnp.maximum(jax.nn.sigmoid(logits) - margin, 0.0)
    entropy = labels * jax.nn.log_sigmoid(logits) + (1 - labels) * jnp.log1p(-p)
    return -(stopped(jnp.where(labels > 0, 1.0, p**4)) * entropy).mean()


def surrogate(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Its gradient is that of an expected error, its value is nothing."""
    log_p = jax.nn.log_softmax(logits)
    chosen = stopped(jnp.exp(log_p)) * log_p
    return -jnp.take_along_axis(chosen, labels[:, None], -1).mean()


def tversky(
    logits: jax.Array, labels: jax.Array, alpha: float = 0.3, smooth: float = 0.001
) -> jax.Array:
    p = jax.nn.sigmoid(logits)
    hits, alarms, misses = (p * labels).sum(), (p * (1 - labels)).sum(), ((1 - p) * labels).sum()
    return 1 - (hits + smooth) / (hits + alpha * alarms + (1 - alpha) * misses + smooth)


def biweight(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    share = jnp.minimum(jnp.abs(predictions - targets) / 4.685, 1.0)
    return (1 - (1 - share**2) ** 3).mean()


def expectile(predictions: jax.Array, targets: jax.Array, level: float = 0.8) -> jax.Array:
    error = targets - predictions
    return (jnp.where(error > 0, level, 1 - level) * error**2).mean()


def correlation(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    a, b = predictions - predictions.mean(), targets - targets.mean()
    return 1 - (a * b).sum() / jnp.sqrt((a**2).sum() * (b**2).sum() + 1e-9)


def log_variance(outputs: jax.Array, target: jax.Array) -> jax.Array:
    """Twice the likelihood, as it is often written."""
    return outputs[..., 1] + (target - outputs[..., 0]) ** 2 * jnp.exp(-outputs[..., 1])


def log_precision(outputs: jax.Array, target: jax.Array) -> jax.Array:
    error = (target - outputs[..., 0]) ** 2
    return 0.5 * error * jnp.exp(outputs[..., 1]) - 0.5 * outputs[..., 1]


def following(a: jax.Array, b: jax.Array, same: jax.Array) -> jax.Array:
    distance = ((a - stopped(b)) ** 2).sum(-1)
    return same * distance + (1 - same) * jnp.maximum(4.0 - distance, 0.0)


def info_nce(embeddings: jax.Array, labels: jax.Array, temperature: float = 0.1) -> jax.Array:
    z = embeddings / jnp.sqrt((embeddings**2).sum(-1, keepdims=True) + 1e-9)
    itself = jnp.eye(len(z), dtype=bool)
    same = (labels[:, None] == labels) & ~itself
    log_p = jax.nn.log_softmax(jnp.where(itself, -1e9, z @ z.T / temperature))
    return -(jnp.where(same, log_p, 0).sum(-1) / jnp.maximum(same.sum(-1), 1)).mean()


def distilled(logits_p: jax.Array, logits_q: jax.Array, temperature: float = 4.0) -> jax.Array:
    log_p, log_q = (jax.nn.log_softmax(z / temperature) for z in (logits_p, logits_q))
    return temperature**2 * (jnp.exp(log_p) * (log_p - log_q)).sum(-1).mean()


def infonce_of_triplets(
    anchors: jax.Array, positives: jax.Array, negatives: jax.Array
) -> jax.Array:
    """Everybody else's positives and negatives are rivals, too."""
    a, p, n = (
        x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (anchors, positives, negatives)
    )
    own = jnp.arange(len(a))
    logits = a @ jnp.concatenate([p, n]).T / 0.1
    return optax.softmax_cross_entropy_with_integer_labels(logits, own).mean()


SOUND = [
    (infonce_of_triplets, "triplet"),
    (stable_entropy, "binary"), (weights_of_the_batch, "binary"),
    (asymmetric, "multilabel"), (surrogate, "multiclass"),
    (tversky, "binary"), (biweight, "regression"), (expectile, "regression"),
    (correlation, "regression"), (log_variance, "mean_scale"), (log_precision, "mean_scale"),
    (following, "pair"), (info_nce, "embedding"), (distilled, "divergence"),
]  # fmt: skip


@pytest.mark.parametrize(("loss", "kind"), SOUND, ids=[loss.__name__ for loss, _ in SOUND])
def test_a_sound_loss_has_no_defect(loss: Any, kind: str):
    report = asked.report(loss, kind, "keywords", "reduction")
    assert report.healthy, str(report)
    told = {f.probe for f in report.findings}
    assert not told & {"keywords", "reduction", "itself", "cancel", "outliers"}, str(report)


def test_a_divergence_is_known_by_its_name():
    (found,) = diagnose.loss(dm.js_divergence, probes=("symmetric",)).results
    assert (
        found.evidence == "exchanging the two changes nothing: it is the Jensen-Shannon divergence"
    )
    (found,) = diagnose.loss(dm.symmetric_kl_divergence, probes=("symmetric",)).results
    assert found.evidence.endswith("it is the symmetric KL")


def test_claims_are_read_wherever_a_loss_can_see_them():
    nine: Any = np.float32(9)
    bound = partial(negatives_first, pos_weight=nine)
    assert Subject(bound, FORM).claims == {"pos_weight": 9.0, "neg_weight": 1.0}
    assert Subject(weight_of_a_module, FORM).claims == {"pos_weight": 5.0}
    assert Subject(jax.jit(weight_of_a_closure), FORM).claims == {"w_pos": 7.0}


def test_alpha_of_a_focal_loss_is_known_to_offset_the_focusing():
    focal = partial(optax.sigmoid_focal_loss, alpha=0.25)
    (found,) = diagnose.loss(focal, kind="binary", probes=("weights",)).findings
    assert "as alpha = 0.25 of a focal loss does" in found.cause
