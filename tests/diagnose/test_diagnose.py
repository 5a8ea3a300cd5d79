"""The loss doctor names what is wrong with broken losses, and has no complaint of sound ones."""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import diffmetrics as dm
from diffmetrics import diagnose
from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import note
from diffmetrics.diagnose._subject import Subject
from tests.diagnose import asked, broken_losses
from tests.diagnose.processes import python
from tests.rows import ROWS, Row, the

# --- one vocabulary -------------------------------------------------------------------------------


def test_a_name_has_one_place_in_every_report():
    ranks = {
        (probe.name, probe.rank) for some in diagnose.PROBES.values() for probe in some.values()
    }
    assert len(ranks) == len(dict(ranks))


def test_a_new_probe_is_one_function(monkeypatch: pytest.MonkeyPatch):
    for table in (diagnose.PROBES, diagnose.QUICK):  # which are as before at the end
        monkeypatch.setitem(table, "regression", table["regression"])  # type: ignore[arg-type]

    @probe("sober", kinds=("regression",), rank=0.5)
    def sober(subject: Subject) -> diagnose.Finding:
        return note("it is sober", f"{subject.form.examples} glasses of water", "a coffee")

    examined = functools.partial(diagnose.loss, optax.squared_error, kind="regression")
    quick, every = (set(table["regression"]) for table in (diagnose.QUICK, diagnose.PROBES))
    assert {"sober", "direction"} < quick < every
    assert "sober" not in diagnose.PROBES["pair"]
    assert examined(probes=diagnose.QUICK["regression"]).findings[0].probe == "sober"
    (found,) = examined(probes=("sober",)).results
    evidence = "64 glasses of water"
    assert found == diagnose.Finding("sober", "it is sober", evidence, "a coffee", "note")
    with pytest.raises(ValueError, match="there is a probe sober of regression already"):
        probe("sober", kinds=("regression",), rank=0.5)(lambda subject: None)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"probes of regression losses are .*; got sober"):
        examined(probes=("sober",))


# --- ours are healthy -----------------------------------------------------------------------------

partial = functools.partial
# What is so on purpose, and said in the docstring.
INTENDED = {"ramp_loss": {"alive"}}  # far outliers get no gradient, so that they do not rule
# They share an engine with one that is tested here, or are asked for more below.
ELSEWHERE = {
    "recall_at_precision_loss", "tpr_at_fpr_loss", "fpr_at_tpr_loss", "partial_roc_auc_loss",
    "tpr_at_fpr_lagrangian", "recall_at_precision_lagrangian", "pr_auc_lagrangian",
    "symmetric_kl_divergence", "symmetric_kl_divergence_from_probabilities", "faithful_nll",
    "js_divergence_from_probabilities", "weston_watkins_loss", "squared_hinge_loss",
    "softplus_hinge_loss", "softmax_poly_loss", "logit_adjusted_softmax_loss", "jaccard_loss",
    "weighted_softmax_cross_entropy", "balanced_accuracy_loss", "score_loss", "tversky_loss",
    "dice_loss", "softmax_cross_entropy", "fbeta_loss", "beta_nll", "focal_tversky_loss",
}  # fmt: skip
EXAMINED = {(row.name, row.kind): row for row in reversed(ROWS) if row.kind}


def _of_logits(row: Row) -> Callable[..., Any]:
    """The loss as the doctor calls it; cosines have a range of their own."""
    if row.name == "angular_margin_loss":
        return lambda logits, labels: row(jnp.tanh(logits), labels)
    return row.loss


@pytest.mark.parametrize(
    "row",
    [row for row in EXAMINED.values() if row.name not in ELSEWHERE],
    ids=lambda row: row.id,
)
def test_ours_are_healthy_or_meant_so(row: Row):
    kind = str(row.kind)
    report = diagnose.loss(_of_logits(row), kind=row.kind, probes=asked.quick(kind))
    assert {f.probe for f in report.defects} == INTENDED.get(row.name, set()), str(report)


def test_every_public_loss_is_examined():
    ends = ("_loss", "_nll", "_lagrangian", "_divergence", "_from_probabilities", "_cross_entropy")
    losses = {name for name in vars(dm) if name.endswith(ends) and not name.startswith("_")}
    others = {"log_loss", "elbo_loss"}  # a metric, a sum
    examined = {name for name, _ in EXAMINED}
    assert losses <= examined | others, f"give {losses - examined} a kind in tests/rows.py"


@pytest.mark.parametrize("name", ["softmax_cross_entropy", "dice_loss"])
def test_ours_pass_every_probe(name: str):
    dm.testing.assert_healthy(the(name).public)


# --- what is to know of sound losses --------------------------------------------------------------


def _note(report: diagnose.Report, name: str) -> diagnose.Finding:
    (found,) = [f for f in report.findings if f.probe == name]
    assert found.status == "note"
    return found


def test_a_loss_of_counts_is_not_proper_and_does_not_decompose_and_is_healthy():
    report = diagnose.loss(
        partial(dm.fbeta_loss, beta=2.0),
        kind="binary",
        probes=("proper", "decomposable", "weights"),
    )
    assert report.healthy
    assert "a decision, not a confidence" in _note(report, "proper").cause
    assert "whole batch" in _note(report, "decomposable").cause
    assert "it is F-2: a miss costs 4 false alarms" in _note(report, "weights").cause


def test_the_bias_of_a_weight_is_measured():
    loss = partial(dm.weighted_sigmoid_cross_entropy, positive_weight=9.0)
    report = diagnose.loss(loss, kind="binary", probes=("proper", "weights"))
    assert "odds 9 times" in _note(report, "proper").cause
    assert "a positive weighs 9 times" in _note(report, "weights").cause


def test_a_ranking_loss_leaves_the_offset_free():
    report = diagnose.loss(dm.roc_auc_loss, kind="binary", probes=("proper",))
    assert "offset free" in _note(report, "proper").cause


def test_cross_entropy_predicts_nothing_on_rare_positives_and_dice_does():
    entropy = diagnose.loss(dm.sigmoid_cross_entropy, kind="binary", probes=("collapse",))
    assert "predicts nothing at the threshold 1/2" in _note(entropy, "collapse").cause
    assert not diagnose.loss(dm.dice_loss, kind="binary", probes=("collapse",)).findings


def test_beta_nll_says_that_its_gradient_is_another():
    report = diagnose.loss(dm.beta_nll, probes=("gradient", "scale", "proper"))
    assert report.healthy, str(report)
    assert "stop_gradient" in _note(report, "gradient").cause
    assert [f for f in report.results if f.probe == "proper" and f.status == "ok"]


def test_a_scale_of_raw_outputs_reaches_down():
    def loss(outputs: jax.Array, target: jax.Array) -> jax.Array:
        return dm.gaussian_nll(outputs[..., 0], dm.scale_from_raw(outputs[..., 1]), target)

    (scale,) = diagnose.loss(loss, kind="mean_scale", probes=("scale",)).results
    assert scale.evidence == "deviations down to 0.001 can be reached"


def test_a_loss_that_is_another_each_time_is_told():
    drawn = np.random.default_rng(0)

    def noisy(logits: jax.Array, labels: jax.Array) -> jax.Array:
        return dm.sigmoid_cross_entropy(logits, labels).mean() * drawn.uniform()

    (found,) = diagnose.loss(noisy, kind="binary", probes=("jit",)).defects
    assert "keeps state, or draws at random" in found.cause


# --- several losses of one output -----------------------------------------------------------------


def test_a_list_of_losses_of_which_only_the_first_trains():
    parts = {"squared": optax.squared_error, "huber": optax.huber_loss}

    def total(predictions: jax.Array, targets: jax.Array) -> jax.Array:
        return next(part(predictions, targets).mean() for part in parts.values())

    report = diagnose.loss(total, kind="regression", probes=(), parts=parts)
    assert "huber does not train" in report.findings[0].cause
    assert "only the first counts" in report.findings[0].cause

    def both(predictions: jax.Array, targets: jax.Array) -> Any:
        values = {name: part(predictions, targets).mean() for name, part in parts.items()}
        return dm.combine(values, {"squared": 1.0, "huber": 0.3})

    report = diagnose.loss(both, kind="regression", probes=(), parts=parts)
    assert report.healthy
    assert "1 squared + 0.3 huber" in report.results[-1].evidence


# --- a batch of the user's ------------------------------------------------------------------------

rng = np.random.default_rng(0)
Z = rng.normal(size=64).astype(np.float32)
Y = (rng.random(64) < 0.3).astype(np.float32)


def _probes_of(report: diagnose.Report) -> set[str]:
    return {f.probe for f in report.defects}


def test_run_finds_a_broadcast_in_the_shapes_of_a_batch():
    report = diagnose.run(optax.sigmoid_binary_cross_entropy, Z, Y[:, None])
    assert _probes_of(report) == {"labels", "shapes"}
    assert "(64,) were broadcast against labels (64, 1) to (64, 64)" in str(report)
    assert diagnose.run(optax.sigmoid_binary_cross_entropy, Z, Y).healthy
    assert diagnose.run(lambda z, y: dm.dice_loss(z, y.ravel()), Z, Y[:, None]).healthy


def test_run_tells_of_gradients_that_are_not_there():
    assert _probes_of(diagnose.run(broken_losses.behind_relu, Z, Y)) == {"alive"}
    assert _probes_of(diagnose.run(broken_losses.naive_cross_entropy, 200 * Z, Y)) == {"finite"}
    assert "direction" in _probes_of(diagnose.run(broken_losses.score_as_loss, Z, Y))
    assert _probes_of(diagnose.run(broken_losses.looks_at_values, Z, Y)) == {"jit"}


def test_run_measures_what_a_mean_over_halves_would_change():
    report = diagnose.run(dm.dice_loss, Z, Y)
    assert report.healthy
    assert "whole batch" in _note(report, "decomposable").cause
    weights = next(f for f in report.results if f.probe == "weights")
    assert "of the gradient" in weights.evidence


def test_run_takes_pairs_and_ids():
    pair = (rng.normal(size=(8, 4)), rng.normal(size=(8, 4)))
    same = np.arange(8) % 2
    assert diagnose.run(lambda ab, y: dm.contrastive_loss(ab[0], ab[1], y), pair, same).healthy
    assert diagnose.run(dm.softmax_cross_entropy, pair[0], same).healthy


# --- logits and labels alone ----------------------------------------------------------------------

N = 5000  # one size for all, which is one compilation
ALTERNATING = np.arange(N) % 2


def test_batch_says_to_tune_the_threshold_first():
    labels = rng.random(N) < 0.01
    report = diagnose.batch(rng.normal(size=N) + 3.0 * labels - 6.0, labels)
    assert report.findings[0].probe == "threshold"
    assert "although it has learnt" in report.findings[0].cause
    assert "fit_threshold" in report.findings[0].advice


def test_batch_has_no_complaint_of_calibrated_logits():
    logits = 2.0 * rng.normal(size=N)
    labels = rng.random(N) < 1 / (1 + np.exp(-logits))
    assert not diagnose.batch(logits, labels).findings
    ids = (rng.random((N, 1)) > np.cumsum([0.2, 0.3, 0.5])).sum(1)
    scores = 3.0 * np.eye(3)[ids] + rng.gumbel(size=(N, 3)) + np.log([0.2, 0.3, 0.5])
    found = {f.probe for f in diagnose.batch(scores, ids).findings}
    assert found <= {"calibration"}


@pytest.mark.parametrize(
    ("logits", "labels", "probe"),
    [
        (rng.normal(size=N), np.zeros(N), "prevalence"),
        (np.zeros(N), ALTERNATING, "spread"),
        (np.full(N, np.nan), ALTERNATING, "finite"),
        (2.0 - 4.0 * ALTERNATING + rng.normal(size=N), ALTERNATING, "ranking"),
    ],
)
def test_batch_names_what_is_broken(logits: np.ndarray, labels: np.ndarray, probe: str):
    report = diagnose.batch(logits, labels)
    assert not report.healthy
    assert report.findings[0].probe == probe


def test_batch_notes_shifts_and_saturation():
    logits = 40.0 * (ALTERNATING - 0.5) + 20 * rng.normal(size=N)
    assert _note(diagnose.batch(logits, ALTERNATING), "saturated")
    shifted = diagnose.batch(rng.normal(size=N) + ALTERNATING + 3.0, ALTERNATING)
    assert "more positives than there are" in _note(shifted, "prior").cause
    logits = 3.0 * np.eye(3)[np.zeros(N, int)] + rng.normal(size=(N, 3))
    biased = diagnose.batch(logits, np.arange(N) % 3)
    assert {"prior", "threshold"} <= {f.probe for f in biased.findings}


def test_batch_names_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"logits are \(4, 3\), labels \(3, 4\)"):
        diagnose.batch(np.zeros((4, 3)), np.zeros((3, 4), int))


# --- the report ----------------------------------------------------------------------------------


def test_assert_healthy_raises_with_the_report():
    with pytest.raises(AssertionError, match="DEFECT  alive"):
        dm.testing.assert_healthy(dm.ramp_loss, kind="binary", probes=("alive",))
    dm.testing.assert_healthy(dm.ramp_loss, kind="binary", probes=("alive",), allow=("alive",))
    with pytest.raises(AssertionError, match="nothing was examined"):
        dm.testing.assert_healthy(dm.dice_loss, kind="binary", probes=("padding",))


# --- defects of other libraries -------------------------------------------------------------------


def kl_of_logits(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.losses.kl_divergence(jax.nn.log_softmax(logits), labels)


def dice_of_an_image(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.losses.binary_dice_loss(logits.reshape(1, -1, 1), labels.reshape(1, -1, 1))


theirs = optax.losses
skewed_triplet = partial(theirs.triplet_margin_loss, norm_degree=3)
OPTAX: list[tuple[Any, str, str, str, str]] = [
    (theirs.hinge_loss, "binary", "alive", "labels -1 and +1", "defect"),
    (theirs.sigmoid_binary_cross_entropy, "binary", "shapes", "is blind", "note"),
    (dice_of_an_image, "binary", "dtype", "float16", "note"),
    (theirs.multiclass_generalized_dice_loss, "multiclass", "minimum", "absent from", "defect"),
    (partial(theirs.dice_loss, apply_softmax=False), "multiclass", "jit", "compiled", "defect"),
    (kl_of_logits, "multiclass", "targets", "gradient in the labels", "note"),
    (theirs.ntxent, "embedding", "finite", "no two of a kind", "defect"),
    (skewed_triplet, "triplet", "finite", "not finite on an ordinary batch", "defect"),
    (theirs.cosine_distance, "divergence", "finite", "divided by its length", "note"),
    (theirs.softmax_cross_entropy_with_integer_labels, "multiclass", "ids", "last class", "note"),
]


@pytest.mark.parametrize(
    ("loss", "kind", "probe", "cause", "status"),
    OPTAX,
    ids=[f"{getattr(row[0], '__name__', 'partial')}-{row[2]}" for row in OPTAX],
)
def test_defects_of_optax_are_found(loss: Any, kind: Any, probe: str, cause: str, status: str):
    report = diagnose.loss(loss, kind=kind, probes=(probe,))
    assert [f for f in report.findings if cause in f.cause and f.status == status], str(report)
    # What a report names can be asked for alone; of odd inputs it tells all the same.
    assert {f.probe for f in report.results} <= {probe, "inputs"}


KERAS = """
import json, keras
from keras.src.trainers.compile_utils import CompileLoss
from diffmetrics import diagnose

losses = keras.losses
mse, huber = losses.MeanSquaredError(), losses.Huber()
both = CompileLoss([mse, huber])
quick = diagnose.QUICK["binary"]
reports = [
    diagnose.loss(losses.Tversky(alpha=0.9, beta=0.1), kind="binary", probes=quick),
    diagnose.loss(losses.BinaryFocalCrossentropy(from_logits=True), kind="binary", probes=quick),
    diagnose.loss(losses.BinaryCrossentropy(from_logits=True), kind="binary", probes=quick),
    diagnose.loss(lambda y_true, y_pred: both(y_true, y_pred), kind="regression", probes=(),
                  parts={"mse": mse, "huber": huber}),
]
print(json.dumps([report.to_dict() for report in reports]))
"""


def test_defects_of_keras_are_found():
    """In a process of its own, because Keras is told its backend by the environment."""
    if importlib.util.find_spec("keras") is None:
        pytest.skip("Keras is no dependency; its losses are examined where it is installed")
    done = python("-c", KERAS, KERAS_BACKEND="jax")
    tversky, focal, entropy, both = json.loads(done.stdout.splitlines()[-1])
    assert "alpha = 0.9 weighs misses and beta = 0.1 false" in tversky["findings"][0]["cause"]
    assert "clipped" in focal["findings"][0]["cause"]
    assert entropy["healthy"]
    assert "huber does not train" in both["findings"][0]["cause"]
