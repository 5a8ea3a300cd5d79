"""No false alarm: sound losses have no defect, and what is noted of them is true."""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

import diffmetrics as dm
from diffmetrics import diagnose
from tests import ROOT
from tests.diagnose import asked
from tests.diagnose.healthy_losses import HEALTHY, MASKED, Healthy, rax_losses

# One of each kind of program is asked everything.
COMPLETE = {"entropy_and_dice", "poisson", "masked_mean", "optax_triplet"}
# Of these the kind is found out as well, which takes a second for those of logits and labels.
FOUND_OUT = {"counts", "regression", "mean_scale", "divergence"}


@pytest.mark.parametrize("row", HEALTHY, ids=lambda row: row.name)
def test_a_sound_loss_has_no_defect(row: Healthy):
    found_out = row.kind in FOUND_OUT or row in MASKED or row.name in COMPLETE
    if found_out:
        probes = None if row.name in COMPLETE else asked.quick(row.kind)
        report = diagnose.loss(row.loss, probes=probes)
    else:
        report = asked.report(row.loss, row.kind)
    assert report.healthy, str(report)
    assert report.kind.startswith(f"{row.kind}, ")


# Of which there is nothing to know at all.
SPOTLESS = (
    "entropy_by_hand", "softmax_of_one_hot", "squared", "poisson", "triplet", "masked_mean",
    "optax_softmax",
)  # fmt: skip


@pytest.mark.parametrize("name", SPOTLESS)
def test_of_a_textbook_loss_nothing_is_noted(name: str):
    (row,) = [row for row in HEALTHY if row.name == name]
    report = asked.report(row.loss, row.kind)
    assert not report.findings, str(report)


@pytest.mark.parametrize("row", rax_losses(), ids=lambda row: row.name)
def test_a_sound_loss_of_rax_has_no_defect(row: Healthy):
    report = diagnose.loss(row.loss, kind=row.kind, probes=asked.quick(row.kind))  # type: ignore[arg-type]
    assert report.healthy, str(report)


def _keras() -> str:
    """What is defective of Keras's, from a process that tells it its backend."""
    environment = os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    command = (
        "from diffmetrics import diagnose\n"
        "from tests.diagnose.healthy_losses import keras_losses\n"
        "for row in keras_losses():\n"
        "    report = diagnose.loss(row.loss, probes=diagnose.QUICK[row.kind])\n"
        "    taken = report.kind.split(',')[0]\n"
        "    if not report.healthy or taken != row.kind: print(row.name, report)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_sound_losses_of_keras_have_no_defect():
    if importlib.util.find_spec("keras") is None:
        pytest.skip("Keras is no dependency; its losses are examined where it is installed")
    assert _keras() == ""


def more_than_each_class(logits: jax.Array, ids: jax.Array) -> jax.Array:
    """Ordinal: the cumulative logits of CORAL (Cao et al., 2020)."""
    levels = (ids[:, None] > jnp.arange(logits.shape[-1])).astype(logits.dtype)
    return (jnp.logaddexp(0.0, logits) - levels * logits).sum(-1).mean()


def of_a_teacher(student: jax.Array, teacher: jax.Array) -> jax.Array:
    return -(jax.nn.softmax(teacher) * jax.nn.log_softmax(student)).sum(-1).mean()


def test_what_is_none_of_the_kinds_is_said():
    with pytest.raises(TypeError, match="ordered classes, which is none of the kinds: wrap it"):
        diagnose.loss(more_than_each_class)
    with pytest.raises(TypeError, match="another model's logits, which is none of the kinds"):
        diagnose.loss(of_a_teacher)


def test_they_can_be_wrapped():
    def levels(logits: jax.Array, labels: jax.Array) -> jax.Array:
        return (jnp.logaddexp(0.0, logits) - labels * logits).sum(-1).mean()

    def taught(logits: jax.Array, one_hot: jax.Array) -> jax.Array:
        return of_a_teacher(logits, jnp.log(one_hot + 1e-6))

    for loss, kind in ((levels, "multilabel"), (taught, "multiclass")):
        report = diagnose.loss(loss, kind=kind, probes=("direction", "alive", "minimum"))  # type: ignore[arg-type]
        assert report.healthy, str(report)


def test_a_padding_mask_means_what_the_loss_takes_it_for():
    def says_real(logits: jax.Array, labels: jax.Array, padding_mask: jax.Array) -> jax.Array:
        return (jnp.logaddexp(0.0, -logits) * labels * padding_mask).sum() + (
            jnp.logaddexp(0.0, logits) * (1 - labels) * padding_mask
        ).sum()

    report = diagnose.loss(says_real, probes=("padding", "alive"))
    assert report.kind == "multilabel, loss(logits, labels, padding_mask)"
    assert report.healthy, str(report)


def test_the_verdict_comes_first():
    def broken(logits: jax.Array, labels: jax.Array) -> jax.Array:
        return (labels * logits - jnp.logaddexp(0.0, logits)).mean()

    ask = functools.partial(diagnose.loss, kind="binary", probes=("direction", "minimum"))
    first, second, *_ = str(ask(broken)).splitlines()
    assert first == "broken: broken: it pulls predictions to the wrong side (and 1 more defect)"
    assert second == "binary, loss(logits, labels). 2 defects, no notes."
    assert str(ask(lambda z, y: -broken(z, y))).startswith("loss: healthy\n")
    smoothed = ask(lambda z, y: -broken(z, 0.9 * y + 0.05))
    assert smoothed.verdict == "loss: healthy, with 2 things to know"


def test_padding_that_a_smoothed_loss_learns_is_noted():
    def smoothed(logits: jax.Array, ids: jax.Array) -> jax.Array:
        labels = optax.smooth_labels(jax.nn.one_hot(ids, logits.shape[-1]), 0.1)
        return optax.softmax_cross_entropy(logits, labels).mean()

    (found,) = diagnose.loss(smoothed, kind="multiclass", probes=["ids"]).results
    assert found.status == "note"
    assert "an id of -1 is learnt" in found.cause
    (found,) = diagnose.loss(dm.softmax_cross_entropy, kind="multiclass", probes=["ids"]).results
    assert found.evidence == "an id of -1 costs 0, and has no gradient"


def _token_entropy(logits: jax.Array, ids: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, ids)


@pytest.mark.parametrize(
    ("loss", "noted"),
    [
        (lambda logits, ids, weight: (_token_entropy(logits, ids) * weight).mean(), False),
        (lambda logits, ids, loss_mask: (_token_entropy(logits, ids) * loss_mask).mean(), True),
    ],
)
def test_a_mean_over_all_is_noted_of_a_mask_and_not_of_weights(loss: Any, noted: bool):
    report = diagnose.loss(loss, kind="multiclass", probes=["padding"])
    causes = [found.cause.split(":")[0] for found in report.findings]
    assert causes == ["its mean is over padding too"] * noted
