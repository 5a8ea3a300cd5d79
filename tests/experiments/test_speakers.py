"""The speakers experiment: its networks, its watch, and every command in small."""

import csv
import functools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from flax import nnx
from rich.console import Console
from scipy.special import expit as sigmoid

from experiments.shared.training import Step
from experiments.speakers import experiment, labels, losses, protocol, report, voices
from experiments.speakers.__main__ import main
from experiments.speakers.losses import LOSSES
from experiments.speakers.networks import TDNN, BiLSTM, Outputs, unit
from experiments.speakers.watch import PATIENCE, Last, Watch

RATE = 8000
SMALL = (
    "--train-speakers 4 --dev-speakers 3 --test-speakers 4 --seconds 2 --steps 8 --frames 20 "
    "--width 8 --batch-speakers 4 --batch-segments 2 --speeds 1.0"
)
TINY = SMALL.split()
rng = np.random.default_rng(0)


# --- networks -------------------------------------------------------------------------------------


def test_the_tdnn_is_a_stack_of_dilated_convolutions():
    net = TDNN(6, 4, width=8, rngs=nnx.Rngs(0))
    x = rng.normal(size=(3, 40, 6)).astype(np.float32)

    @jax.jit
    def plainly(h: jax.Array) -> jax.Array:
        for layer, norm, (taps, distance, stride) in zip(
            net.layers, net.norms, TDNN.CONTEXTS, strict=True
        ):
            assert layer.bias is not None
            kernel = layer.kernel[...].reshape(taps, h.shape[-1], 8)
            h = jax.lax.conv_general_dilated(
                h, kernel, (stride,), "VALID", rhs_dilation=(distance,),
                dimension_numbers=("NWC", "WIO", "NWC"),
            )  # fmt: skip
            h = norm(nnx.relu(h + layer.bias[...][None, None]))
        return net.pooled(jnp.concatenate([h.mean(1), jnp.sqrt(h.var(1) + 1e-5)], -1))

    found = jax.jit(lambda x: net(x))(x)
    np.testing.assert_allclose(found.embedding, plainly(x), atol=1e-5)
    assert found.logits.shape == (3, 4)
    assert jnp.max(jnp.abs(found.cosines)) <= 1 + 1e-6


def test_the_bilstm_reads_both_ways_and_keeps_its_last_states():
    net = BiLSTM(3, 4, width=10, rngs=nnx.Rngs(0))
    x = rng.normal(size=(2, 6, 3)).astype(np.float32)

    def direction(rnn, x: np.ndarray) -> np.ndarray:
        w, u, b = (
            np.asarray(each[...], float)
            for each in (rnn.cell.dense_i.kernel, rnn.cell.dense_h.kernel, rnn.cell.dense_h.bias)
        )
        memory = state = np.zeros((2, 5))
        states = []
        for t in range(x.shape[1]):
            admit, keep, new, show = np.split(x[:, t] @ w + state @ u + b, 4, -1)
            memory = sigmoid(keep) * memory + sigmoid(admit) * np.tanh(new)
            state = sigmoid(show) * np.tanh(memory)
            states.append(state)
        return np.stack(states, 1)

    h = x
    for layer in net.layers:
        back = direction(layer.backward_rnn, h[:, ::-1])[:, ::-1]
        h = np.concatenate([direction(layer.forward_rnn, h), back], -1)
    expected = np.concatenate([h[:, -1, :5], h[:, 0, 5:]], -1)
    found = nnx.jit(lambda net, x: net(x))(net, x)
    np.testing.assert_allclose(found.embedding, expected, atol=1e-5)


# --- watching -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rest"), [("triplet", losses.TRIPLET_MARGIN), ("triplet-softplus", np.log(2))]
)
def test_a_loss_at_its_margin_or_at_log_two_is_warned_of_once(
    name: str, rest: float, tmp_path: Path, capsys
):
    ids = jnp.repeat(jnp.arange(5), 4)
    embedding, logits = jnp.asarray(rng.normal(size=(2, 20, 8)), jnp.float32)
    outputs = Outputs(embedding, logits, unit(embedding))
    watch = Watch(LOSSES[name], tmp_path, Console(width=200))
    last = Last(outputs, ids)
    for number in range(1, 2 * PATIENCE):
        watch(Step(number, rest * 1.001, {"last": last}))
    said = capsys.readouterr().out
    assert said.count("all embeddings are one point") == watch.warned == 1
    assert f"step {PATIENCE}: the loss stays at {rest:.3f}" in said
    watch(Step(99, 0.3 * rest, {"last": last}))
    assert watch.rested == 0
    logged = [json.loads(line) for line in (tmp_path / "watch.jsonl").read_text().splitlines()]
    assert logged[-1]["step"] == 99
    assert logged[-1]["resting"] == pytest.approx(rest, rel=1e-4)


# --- commands -------------------------------------------------------------------------------------


@pytest.fixture(autouse=True, scope="module")
def _few_losses_have_their_labels_shuffled() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels, "LOSSES", {"asked": LOSSES["asked"]})
        yield


@pytest.fixture(scope="module")
def toured(tmp_path_factory) -> Path:
    """One loss on one seed, and then on two, which joins what is finished."""
    out = tmp_path_factory.mktemp("tour")
    command = [*TINY, "--losses", "asked", "--out", str(out)]
    assert main([*command, "--seeds", "1"]) == 0
    finished = out / "tdnn-asked-0" / "result.json"
    before = finished.stat().st_mtime_ns
    assert main(["compare", *command, "--seeds", "2", "--resume"]) == 0
    assert finished.stat().st_mtime_ns == before
    return out


def test_the_tour_writes_table_figures_and_one_row_a_method(toured: Path):
    rows = json.loads((toured / "comparison.json").read_text())["rows"]
    assert [row["method"] for row in rows] == ["mfcc", "untrained", "asked"]
    for row in rows:
        eers = [one["tuned"]["eer"] for one in row["each"]]
        found = row["mean"]["tuned"]
        assert found["eer"] == pytest.approx([np.mean(eers), np.std(eers) / 1])
        assert len(eers) == 2
        assert 0.0 <= found["complete"]["mr_best"][0] <= found["complete"]["mr_tuned"][0]
    assert rows[2]["mean"]["seconds"][0] > 0.0
    for one in rows[2]["each"]:
        least = min(one["dev_eer"].values())
        assert one["dev_eer"][str(one["shrinkage"])] == least == one["tuned"]["dev_eer"]
        assert one["dev_eer"]["1.0"] == pytest.approx(one["raw"]["dev_eer"])
        assert one["dev_eer"]["0.0"] == one["whitened"]["dev_eer"]
    for name in ("comparison.md", "labels.json", "det.png", "maps.png", "curves.png"):
        assert (toured / name).stat().st_size > 100


@pytest.mark.parametrize("command", ["--data nowhere --out out", "cluster nowhere . --out out/a"])
def test_a_folder_that_is_not_there_leaves_nothing_behind(command: str, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(command.split()) == 1
    assert not list(tmp_path.iterdir())


def test_evaluate_finds_what_training_found(toured: Path):
    directory = toured / "tdnn-asked-0"
    trained = json.loads((directory / "result.json").read_text())
    assert main(["evaluate", str(directory)]) == 0
    again = json.loads((directory / "comparison.json").read_text())["rows"][0]
    assert again["mean"]["tuned"]["eer"][0] == pytest.approx(trained["tuned"]["eer"], abs=1e-6)


def test_a_folder_that_nobody_labelled_is_clustered(toured: Path, tmp_path: Path, capsys, printed):
    for each in voices.generate(3, 2.0, RATE).recordings:
        for part in range(2):
            half = each.signal[part * RATE : (part + 1) * RATE]
            soundfile.write(tmp_path / f"{each.name}-{part}.wav", half / 10, RATE)
    directory, out = str(toured / "tdnn-asked-0"), tmp_path / "out" / "found.csv"
    command = ["cluster", directory, str(tmp_path)]
    assert main([*command, "--speakers", "3", "--out", str(out)]) == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [row["file"] for row in rows] == sorted(row["file"] for row in rows)
    assert {row["cluster"] for row in rows} == {"1", "2", "3"}
    assert rows[0]["cluster"] == "1"
    capsys.readouterr()
    assert main(command) == 0
    assert "voice-000-0.wav,1" in capsys.readouterr().out
    assert main([*command, "--speakers", "7"]) == 1
    assert "has 6 recordings to cluster, expected at least 7" in printed()


def test_interrupted_runs_go_on_to_the_same_parameters(toured: Path, tmp_path: Path):
    settings = experiment.Settings(
        train_speakers=4, dev_speakers=3, test_speakers=4, seconds=2.0, steps=8, frames=20,
        width=8, batch_speakers=4, batch_segments=2, speeds=(1.0,),
    )  # fmt: skip
    console = Console(quiet=True)
    (deal,) = protocol.open_deals(settings, [0], console)
    speech = protocol.training_speech(deal.train, settings.speeds)
    fit = functools.partial(experiment.fit, settings, "asked", 0, speech, console=console)
    saved = Path("checkpoints") / "6"
    shutil.copytree(toured / "tdnn-asked-0" / saved, tmp_path / saved)
    whole, _ = fit(directory=toured / "tdnn-asked-0")
    again, _ = fit(directory=tmp_path)
    segments = rng.normal(size=(256, 20, 128)).astype(np.float32)
    np.testing.assert_array_equal(whole(segments), again(segments))


def test_a_run_whose_loss_is_not_finite_is_told_and_in_no_figure(toured: Path):
    finished = json.loads((toured / "tdnn-asked-0" / "result.json").read_text())
    failed = {"failed": "the loss is nan at step 3", "seconds": 1.0}
    some = report.summarize("asked", [failed, finished])
    none = report.summarize("cross-entropy", [failed, failed])
    lines = list(report.cells([some, none]))
    assert lines[0][8] == f"{100 * finished['tuned']['eer']:.1f}"
    assert lines[1][1:3] == ["failed", "-"]
    assert len({len(report.COLUMNS), *map(len, lines)}) == 1
    notes = " ".join(report.unusual([some, none]))
    assert (
        "asked: runs that failed, and are in no figure: 1 of 2; the loss is nan at step 3" in notes
    )
