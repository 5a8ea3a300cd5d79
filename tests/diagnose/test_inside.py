"""What is seen inside of a loss's program, and what looks like a mistake there and is none."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import diffmetrics as dm
from diffmetrics import diagnose
from diffmetrics.diagnose import _forms, _inside
from diffmetrics.diagnose._subject import Subject

FORM = _forms.Form("binary", (64,))


def seen(loss: Any) -> dict[str, np.ndarray]:
    """The last array of each operation, for two batches."""
    z = np.stack([FORM.predictions(0), FORM.predictions(1)])
    return {step.name: step.array for step in _inside.steps(Subject(loss, FORM), z)}


def by_hand(logits: jax.Array, labels: jax.Array) -> jax.Array:
    @jax.custom_jvp
    def entropy(p: jax.Array) -> jax.Array:
        return -jnp.log(1 - p)

    entropy.defjvps(lambda t, _, p: t / (1 - p))
    each = jax.jit(jax.checkpoint(entropy))(jax.nn.sigmoid(logits))
    return (each - labels * logits).mean()


def test_inner_programs_are_seen_through():
    found = seen(by_hand)
    z = np.stack([FORM.predictions(0), FORM.predictions(1)])
    np.testing.assert_allclose(found["log"], 1 / (1 + np.exp(z)), rtol=1e-5)
    assert found["log"].shape == (2, 64)


def looped(logits: jax.Array, labels: jax.Array) -> jax.Array:
    def add(total: jax.Array, here: Any) -> Any:
        z, y = here
        return total + jnp.logaddexp(0.0, z) - y * z, None

    return jax.lax.scan(add, jnp.zeros(()), (logits, labels))[0] / len(labels)


def unrolled(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return sum((jnp.tanh(logits[i]) - labels[i]) ** 2 for i in [*range(64)] * 2)  # type: ignore[return-value]


def eager(logits: jax.Array, labels: jax.Array) -> jax.Array:
    if (labels > 2).any():
        raise ValueError
    return jnp.square(logits - labels).mean()


def test_loops_are_one_step_and_what_is_long_or_not_traced_is_left_alone():
    assert seen(looped)["scan"].shape == (2,)
    assert seen(unrolled) == seen(eager) == {}


# --- no false alarm -------------------------------------------------------------------------------


def capped_by_tanh(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """As pointer networks cap their logits."""
    return optax.sigmoid_binary_cross_entropy(10 * jnp.tanh(logits / 10), labels).mean()


def cosines_with_scale(logits: jax.Array, labels: jax.Array) -> jax.Array:
    z = 30 * logits / jnp.linalg.norm(logits, axis=-1, keepdims=True)
    return optax.softmax_cross_entropy_with_integer_labels(z, labels).mean()


def normalised_twice(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """A log_softmax of a log_softmax is the same."""
    z = jax.nn.log_softmax(logits)
    return optax.softmax_cross_entropy_with_integer_labels(z, labels).mean()


def gated(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Focal weights of a sigmoid, and a softplus of the logits."""
    p = jax.nn.sigmoid(logits)
    return (jnp.exp(p) * (jnp.logaddexp(0.0, logits) - labels * logits)).mean()


def little_epsilon(logits: jax.Array, labels: jax.Array) -> jax.Array:
    p = jax.nn.sigmoid(logits)
    return -(labels * jnp.log(p + 1e-7) + (1 - labels) * jnp.log(1 - p + 1e-7)).mean()


def smoothed_dice(logits: jax.Array, labels: jax.Array) -> jax.Array:
    p = jax.nn.sigmoid(logits)
    return 1 - (2 * (p * labels).sum() + 1) / (p.sum() + labels.sum() + 1)


def of_probabilities(probabilities: jax.Array, ids: jax.Array) -> jax.Array:
    true = jnp.take_along_axis(probabilities, ids[:, None], 1)
    return -jnp.log(jnp.clip(true, 1e-30, 1.0)).mean()


PROBES = ("activation", "logarithm", "examples", "smoothing")
SOUND = [
    (capped_by_tanh, "binary"), (cosines_with_scale, "multiclass"), (gated, "binary"),
    (normalised_twice, "multiclass"), (little_epsilon, "binary"), (smoothed_dice, "binary"),
    (of_probabilities, "multiclass"),
    (dm.sigmoid_cross_entropy, "binary"),
]  # fmt: skip


@pytest.mark.parametrize(("loss", "kind"), SOUND, ids=[loss.__name__ for loss, _ in SOUND])
def test_what_looks_like_a_mistake_and_is_none(loss: Any, kind: Any):
    probes = [name for name in PROBES if name in diagnose.PROBES[kind]]
    report = diagnose.loss(loss, kind=kind, probes=probes)
    assert not [f for f in report.findings if f.probe in PROBES], str(report)


def test_a_shift_that_is_meant_is_a_note():
    report = diagnose.loss(dm.asymmetric_loss, kind="binary", probes=("logarithm",))
    (found,) = report.findings
    assert (found.status, "log(p + 0.05)" in found.cause) == ("note", True)
