"""The text experiment: its network, its losses, its figures, and every command for a few steps."""

import contextlib
import dataclasses
import functools
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from rich.console import Console
from sklearn import metrics

from experiments.shared import study
from experiments.shared.training import NonFiniteLossError
from experiments.text import corpus, data, experiment, measure, messages, report, runs
from experiments.text.__main__ import main
from experiments.text.experiment import Settings
from experiments.text.losses import LOSSES, Loss, Task, cross_entropy, make_task
from experiments.text.textcnn import Frozen, TextCNN, Variant

TRAINED = ("cross-entropy", "asked-swapped", "oversampled")
# One length of text and one training, so that every program is compiled once.
SETTINGS = Settings(
    messages=200, size=6, widths=(2,), maps=4, length=8, epochs=2, batch_size=20, max_norm=0.5
)
TINY = ["--size", "6", "--widths", "2", "--maps", "4", "--length", "8", "--epochs", "2"]
TINY += ["--batch-size", "20", "--max-norm", "0.5"]


@pytest.fixture(autouse=True, scope="module")
def _networks_are_compiled_with_the_losses_that_train_them() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "LOSSES", {name: LOSSES[name] for name in TRAINED})
        yield


def network(variant: Variant = "multichannel", **options: Any) -> TextCNN:
    table = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
    return TextCNN(9, 6, variant=variant, vectors=table, maps=4, rngs=nnx.Rngs(1), **options)


def sentences(length: int = 7) -> jax.Array:
    rng = np.random.default_rng(1)
    ids = rng.integers(1, 9, (5, length))
    return jnp.asarray(np.where(np.arange(length) < rng.integers(1, length + 1, (5, 1)), ids, 0))


@nnx.jit
def logits_of(net: TextCNN, ids: jax.Array) -> jax.Array:
    return net(ids)


def bias_of(conv: nnx.Conv) -> nnx.Param:
    assert conv.bias is not None
    return conv.bias


# --- the network ----------------------------------------------------------------------------------


def test_every_filter_is_applied_to_both_channels_and_the_results_are_added():
    @nnx.jit
    def one_by_one(net: TextCNN, ids: jax.Array) -> jax.Array:
        assert net.static is not None
        assert net.tuned is not None
        present = (ids > 0)[..., None]
        features = []
        for conv in net.filters:
            responses = [
                conv(jnp.where(present, table[...][ids], 0.0)) for table in (net.static, net.tuned)
            ]
            both = responses[0] + responses[1] - bias_of(conv)[...][None, None]  # the bias once
            features.append(nnx.relu(jnp.where(present, both, -jnp.inf).max(1)))
        return net.head(jnp.concatenate(features, -1))[:, 0]

    net, ids = network(), sentences()
    assert net.tuned is not None
    net.tuned[...] = net.tuned[...] * 0.5 + 0.1  # no longer equal, as after training
    np.testing.assert_allclose(logits_of(net, ids), one_by_one(net, ids), rtol=1e-5, atol=1e-5)


def test_a_logit_does_not_depend_on_the_length_to_which_a_text_is_padded():
    net, ids = network(), sentences()
    for conv in net.filters:
        bias_of(conv)[...] = jnp.arange(1.0, 5.0)  # with which even padding would respond
    padded = jnp.pad(ids, ((0, 0), (0, 9)))
    np.testing.assert_allclose(logits_of(net, padded), logits_of(net, ids), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("variant", ["rand", "static", "non-static", "multichannel"])
def test_variants_have_the_channels_of_the_paper(variant: Variant):
    net = network(variant)
    assert (net.static is not None) == (variant in ("static", "multichannel"))
    assert (net.tuned is not None) == (variant != "static")
    if net.tuned is not None and variant != "rand":
        np.testing.assert_array_equal(
            net.tuned[...][0], np.random.default_rng(0).normal(size=6).astype("f4")
        )
    graph, params, frozen = nnx.split(net, nnx.Param, Frozen)
    assert ("tuned" in params) == (variant != "static")
    assert ("static" in frozen) == (variant in ("static", "multichannel"))
    merged = nnx.merge(graph, params, frozen)
    ids = sentences()
    np.testing.assert_array_equal(logits_of(merged, ids), logits_of(net, ids))


def test_dropout_acts_with_a_key_alone():
    net, ids = network(), sentences()
    np.testing.assert_array_equal(logits_of(net, ids), logits_of(net, ids))
    dropped = nnx.jit(lambda net, ids, key: net(ids, key))
    a, b = (dropped(net, ids, jax.random.key(k)) for k in (0, 1))
    assert np.any(np.asarray(a) != np.asarray(b))
    with pytest.raises(ValueError, match="'static' needs vectors; only 'rand'"):
        TextCNN(9, 6, variant="static", rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"vectors must be \(9, 6\), got \(9, 5\)"):
        TextCNN(9, 6, vectors=np.zeros((9, 5), np.float32), rngs=nnx.Rngs(0))


def test_activations_of_bfloat16_keep_parameters_and_logits_in_float32():
    ids = sentences()
    half = network(dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(half, nnx.Param))} == {
        jnp.dtype("float32")
    }
    near, logits = logits_of(half, ids), logits_of(network(), ids)
    assert near.dtype == jnp.float32
    np.testing.assert_allclose(near, logits, atol=0.05)
    assert np.any(near != logits)


# --- the losses -----------------------------------------------------------------------------------

TASK = Task(prevalence=jnp.array(0.25), miss=jnp.array(5.0), alarm=jnp.array(1.0))


@functools.cache
def value_and_gradient(name: str) -> Callable[..., tuple[jax.Array, jax.Array]]:
    return jax.jit(jax.value_and_grad(LOSSES[name].value))


@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_a_finite_scalar_with_a_gradient(name: str):
    z = jnp.array([-30.0, -2.0, -0.1, 0.2, 3.0, 40.0])
    y = jnp.array([1.0, 0.0, 1.0, 1.0, 0.0, 0.0])
    value, gradient = value_and_gradient(name)(z, y, TASK)
    assert value.shape == ()
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))
    assert np.any(gradient != 0)


def of_one_rare_text(name: str, logit: float) -> tuple[float, float]:
    value, gradient = value_and_gradient(name)(jnp.array([logit]), jnp.ones(1), TASK)
    return float(value), float(gradient[0])


def test_the_questions_mask_falls_off_where_a_text_crosses_one_half():
    assert of_one_rare_text("asked-mask", -0.01) == pytest.approx((3.49, -2.51), abs=0.01)
    assert of_one_rare_text("asked-mask", 0.01) == pytest.approx((0.688, -0.497), abs=0.001)
    # A tie counts as both classes, weight 6.
    assert of_one_rare_text("asked-mask", 0.0)[0] == pytest.approx(6 * np.log(2), rel=1e-5)
    # The weight of a class stays on, and builds a margin.
    assert of_one_rare_text("class-weighted", 0.01)[1] == pytest.approx(-2.49, abs=0.01)


def test_networks_begin_at_the_share_that_their_loss_sees():
    task = make_task(np.array([0.2, 0.5]), None, 1.0)
    begun = LOSSES["cross-entropy"].begin_at(task)
    np.testing.assert_allclose(begun, [-np.log(4.0), 0.0], atol=1e-7)
    for name in ("class-weighted", "oversampled", "cross-entropy-from-half"):
        np.testing.assert_allclose(LOSSES[name].begin_at(task), 0.0, atol=1e-7)
    costly = LOSSES["class-weighted"].begin_at(task._replace(miss=8.0))
    np.testing.assert_allclose(costly, np.log([2.0, 8.0]), rtol=1e-6)  # eight to one


def test_swapped_arguments_lose_the_gradient_of_the_worst_errors():
    worst = float(np.log(0.0003 / 0.9997))
    assert abs(of_one_rare_text("cross-entropy", worst)[1]) == pytest.approx(0.9997, abs=1e-4)
    assert abs(of_one_rare_text("asked-swapped", worst)[1]) / 5.0 < 0.006
    assert of_one_rare_text("asked-swapped", worst)[0] / 5.0 == pytest.approx(16.1, abs=0.1)


# --- figures --------------------------------------------------------------------------------------


def test_figures_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    labels = rng.random(300) < 0.3
    logits = (rng.normal(size=(2, 300)) + 1.5 * labels - 1.0).astype(np.float32)
    parts = [corpus.Parts(np.arange(0), np.arange(0, 90), np.arange(90, 300))]
    parts += [corpus.Parts(np.arange(0), np.arange(200, 300), np.arange(0, 200))]
    judged = measure.judge(logits, labels, parts, np.array([4.0, 4.0]), np.ones(2))
    for z, part, found in zip(logits, parts, judged, strict=True):
        y, s = labels[part.test], z[part.test]
        p = 1.0 / (1.0 + np.exp(-s.astype(float)))
        assert found["average_precision"] == pytest.approx(
            metrics.average_precision_score(y, s), abs=1e-5
        )
        for when, threshold in (("at_half", 0.5), ("at_bayes", 0.2)):
            guess, at = p > threshold, found[when]
            assert at["threshold"] == pytest.approx(threshold)
            assert at["f1"] == pytest.approx(metrics.f1_score(y, guess), abs=1e-5)
            assert at["macro_f1"] == pytest.approx(
                metrics.f1_score(y, guess, average="macro"), abs=1e-5
            )
            assert at["mcc"] == pytest.approx(metrics.matthews_corrcoef(y, guess), abs=1e-5)
            cells = metrics.confusion_matrix(y, guess).ravel().tolist()
            assert [at[name] for name in ("tn", "fp", "fn", "tp")] == cells
            assert at["cost"] == pytest.approx((4 * cells[2] + cells[1]) / len(y), abs=1e-5)
        dev = [metrics.f1_score(labels[part.dev], z[part.dev] > t) for t in z[part.dev] - 1e-4]
        assert found["at_tuned"]["dev_f1"] == pytest.approx(max(dev), abs=1e-5)
        assert sum(found["reliability"]["texts"]) == len(y)
        assert sum(found["reliability"]["rare"]) == pytest.approx(y.sum(), rel=1e-5)
        assert 0.0 < found["calibration_error"] < 0.5
    assert judged[0]["curve"]["recall"][-1] == 1.0


# --- a run ----------------------------------------------------------------------------------------


QUIET = Console(file=io.StringIO())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple:
    problem = data.pose(SETTINGS, messages.generate(SETTINGS.messages), [0, 1])
    material = experiment.prepare(problem)
    directory = tmp_path_factory.mktemp("run") / "a"
    with study.claim(directory, problem.describe("cross-entropy"), resume=False):
        networks = experiment.fit(problem, material, "cross-entropy", directory, QUIET)
    return problem, material, directory, networks


def test_the_frozen_channel_is_bit_identical_after_training(trained: tuple):
    _, material, directory, networks = trained
    static, tuned = networks.state["frozen"]["static"], networks.state["params"]["tuned"]
    assert material.vectors.any()
    np.testing.assert_array_equal(static, material.vectors)
    changed = np.asarray(tuned) != material.vectors
    assert changed.any((1, 2)).all()  # they began equal, and only one has moved
    assert not changed[:, 0].any()  # padding stays zero
    norms = np.linalg.norm(networks.state["params"]["head"]["kernel"], axis=(1, 2))
    np.testing.assert_array_less(norms, SETTINGS.max_norm + 1e-6)
    restored = runs.load(directory)[-1]
    np.testing.assert_array_equal(restored.state["frozen"]["static"], material.vectors)
    np.testing.assert_array_equal(restored(material.rows), networks(material.rows))


def test_networks_side_by_side_are_the_same_in_any_order(trained: tuple, tmp_path: Path):
    problem, material, _, networks = trained
    turned = material._replace(
        rows=dataclasses.replace(material.rows, ids=material.rows.ids[::-1]),
        vectors=material.vectors[::-1],
    )
    other = problem._replace(seeds=[1, 0], parts=problem.parts[::-1])
    pair = experiment.fit(other, turned, "cross-entropy", tmp_path / "b", QUIET)(turned.rows)
    first = networks(material.rows)
    np.testing.assert_array_equal(pair[::-1], first)
    assert np.any(first[0] != first[1])


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(
    trained: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    problem, material, _, networks = trained
    real = experiment.plan

    def short(*arguments, **options):
        plan = real(*arguments, **options)
        assert len(plan.schedule) == 14
        return dataclasses.replace(plan, schedule=plan.schedule[:7])

    arguments = (problem, material, "cross-entropy", tmp_path / "c", QUIET)
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "plan", short)
        # The learning rate falls over all steps, so the part is cut from the same schedule.
        initialize = experiment.initialize
        patch.setattr(experiment, "initialize", lambda *a, steps: initialize(*a, steps=14))
        experiment.fit(*arguments)
    # In the meantime somebody adds a loss, and the checkpoint does not know which it is of.
    added = {"another": Loss(lambda z, y, task: -cross_entropy(z, y, task))}
    added["cross-entropy"] = LOSSES["cross-entropy"]
    monkeypatch.setattr(experiment, "LOSSES", added)
    whole = experiment.fit(*arguments)
    jax.tree.map(np.testing.assert_array_equal, whole.state["params"], networks.state["params"])


def test_a_loss_that_is_not_finite_is_a_line_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed
):
    def fit(*_):
        raise NonFiniteLossError("the loss is nan at step 3")

    monkeypatch.setattr(experiment, "fit", fit)
    quick = ["--losses", "cross-entropy", "--messages", "200", "--seeds", "1"]
    assert main([*TINY, *quick, "--out", str(tmp_path)]) == 0
    said = printed()
    assert "cross-entropy failed: the loss is nan at step 3" in said
    assert "| cross-entropy | failed | - |" in (tmp_path / "comparison.md").read_text()
    assert main(["train", *TINY, "--messages", "200", "--out", str(tmp_path / "a")]) == 1
    assert "did not finish: the loss is nan at step 3" in printed()


# --- commands -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], str]:
    """Two losses compared on a table of texts: where, with which options, and what was said."""
    folder, said = tmp_path_factory.mktemp("tour"), io.StringIO()
    found = messages.generate(200)
    lines = [f'"{text}",{int(y)}' for text, y in zip(found.texts, found.labels, strict=True)]
    (folder / "a.csv").write_text("\n".join(["body,kind", *lines, '"",1']))
    options = [*TINY, "--data", str(folder / "a.csv")]
    options += ["--text-column", "body", "--label-column", "kind"]
    losses = ["--losses", "asked-swapped", "oversampled", "--seeds", "2", "--out", str(folder)]
    with contextlib.redirect_stdout(said):
        assert main([*options, *losses]) == 0
    return folder, options, " ".join(said.getvalue().split())


def test_the_tour_writes_table_json_and_figures(toured: tuple):
    out, _, told = toured
    assert "200 texts" in told
    assert "left out: a.csv, line 202: column 'body' is empty" in told
    assert "doctor: asked-swapped: broken: the loss jumps where the decision changes" in told
    assert "chosen on the development texts" in told
    written = json.loads((out / "comparison.json").read_text())
    assert [row["method"] for row in written["rows"]] == [
        *("TF-IDF, logistic", "TF-IDF, SVM", "asked-swapped", "oversampled", report.CORRECTED)
    ]
    assert written["rows"][1]["at_bayes"]["f1"] == [None, None]  # margins are no probabilities
    corrected, plain = written["rows"][-1], written["rows"][-2]
    assert corrected["average_precision"] == plain["average_precision"]
    for name in ("comparison", "curves", "precision-recall", "reliability", "confusion"):
        assert (out / f"{name}.png").stat().st_size > 2000
    assert "| asked-swapped | ½ |" in (out / "comparison.md").read_text()


def test_generated_messages_are_judged_by_their_own_probabilities_too(tmp_path: Path):
    problem = data.pose(SETTINGS, messages.generate(200), [0, 1])
    name, found = next(experiment._results(problem, [], tmp_path, QUIET, False))
    assert name == report.IDEAL
    assert problem.corpus.posterior is not None
    test = problem.parts[0].test
    y, p = problem.corpus.labels[test], problem.corpus.posterior[test]
    expected = metrics.average_precision_score(y, p)
    assert found["runs"][0]["average_precision"] == pytest.approx(expected)


def test_finished_runs_are_kept(toured: tuple, printed):
    out, options, _ = toured
    again = [*options, "--losses", "asked-swapped", "--seeds", "2", "--out", str(out)]
    assert main(again) == 1
    assert "--resume" in printed()
    run_of = out / "oversampled-0"
    before = (run_of / "result.json").stat().st_mtime_ns
    train = ["train", *options, "--loss", "oversampled", "--together", "2", "--out", str(run_of)]
    train += ["--resume"]
    assert main(train) == 0
    assert (run_of / "result.json").stat().st_mtime_ns == before
    assert main([*train, "--learning-rate", "1e-5"]) == 1
    assert "learning_rate was 0.002, is 1e-05" in printed()


def test_a_run_is_evaluated_and_predicts(
    toured: tuple, tmp_path: Path, capsys, printed, monkeypatch
):
    out, guesses = toured[0] / "oversampled-0", tmp_path / "out.csv"
    before = json.loads((out / "result.json").read_text())["runs"]
    assert main(["evaluate", str(out)]) == 0
    assert json.loads((out / "comparison.json").read_text())["rows"][0]["runs"] == before
    texts = tmp_path / "texts.txt"
    texts.write_text("this is urgent\n\nthank you\n")
    assert main(["predict", str(out), "--texts", str(texts), "--out", str(guesses)]) == 0
    rows = guesses.read_text().splitlines()
    assert rows[0] == "line,probability,rare"
    assert len(rows) == 4
    capsys.readouterr()
    monkeypatch.setattr("sys.stdin", io.StringIO("this is urgent\n\nthank you\n"))
    assert main(["predict", str(out), "--threshold", "0"]) == 0
    piped = capsys.readouterr().out.splitlines()
    assert [row.split(",")[:2] for row in piped] == [row.split(",")[:2] for row in rows]
    assert all(row.endswith(",1") for row in piped[1:4])
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main(["predict", str(out)]) == 1
    assert "standard input holds no text" in printed()


def test_crossvalidation_stands_beside_the_published_figures(tmp_path: Path, printed):
    found = messages.generate(200)
    folder, out = tmp_path / "mr", tmp_path / "cv"
    folder.mkdir()
    for name, value in (("neg", False), ("pos", True)):
        texts = [text for text, y in zip(found.texts, found.labels, strict=True) if y == value]
        (folder / f"rt-polarity.{name}").write_text("\n".join(texts))
    command = ["crossvalidate", *TINY, "--data", str(folder), "--layout", "mr", "--folds", "2"]
    command += ["--out", str(out), "--variants", "rand", "--optimizer", "adadelta"]
    assert main(command) == 0
    told = printed()
    assert "TextCNN, rand" in told
    assert "Kim 2014, CNN-rand 76.1" in told
    rows = json.loads((out / "crossvalidation.json").read_text())["rows"]
    assert [len(row["each_fold"]) for row in rows] == [2, 2, 2]
    assert main([*command, "--resume"]) == 0
