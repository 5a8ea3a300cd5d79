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
from experiments.speakers import labels, losses, protocol, run, voices
from experiments.speakers.__main__ import main
from experiments.speakers.losses import LOSSES
from experiments.speakers.networks import TDNN, BiLSTM, Outputs, unit
from experiments.speakers.watch import PATIENCE, Watch

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
    net = BiLSTM(3, 4, width=5, rngs=nnx.Rngs(0))
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
    last = {"outputs": outputs._asdict(), "speakers": ids}
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
    """One loss on a split, and then on another, which joins what is finished."""
    out = tmp_path_factory.mktemp("tour")
    command = [*TINY, "--losses", "asked", "--out", str(out)]
    assert main([*command, "--splits", "0"]) == 0
    finished = out / "tdnn-asked-0" / "result.json"
    before = finished.stat().st_mtime_ns
    assert main(["compare", *command, "--splits", "0", "1", "--resume"]) == 0
    assert finished.stat().st_mtime_ns == before
    return out


def test_the_tour_writes_table_figures_and_one_row_a_method(toured: Path):
    rows = json.loads((toured / "comparison.json").read_text())["rows"]
    assert [row["method"] for row in rows] == ["MFCC, no network", "untrained", "asked"]
    for raw in (row["raw"] for row in rows):
        eers = raw["each_split"]["eer"]
        assert raw["eer"] == pytest.approx([np.mean(eers), np.std(eers) / 1])
        assert len(eers) == 2
        assert 0.0 <= raw["mr_best, complete"][0] <= raw["mr_tuned, complete"][0]
    assert rows[2]["minutes"][0] > 0.0
    for name in ("comparison.md", "labels.json", "det.png", "maps.png", "curves.png"):
        assert (toured / name).stat().st_size > 100


def test_evaluate_finds_what_training_found(toured: Path):
    directory = toured / "tdnn-asked-0"
    trained = json.loads((directory / "result.json").read_text())
    assert main(["evaluate", str(directory)]) == 0
    again = json.loads((directory / "comparison.json").read_text())["rows"][0]
    assert again["raw"]["eer"][0] == pytest.approx(trained["raw"]["eer"], abs=1e-6)


def test_a_folder_that_nobody_labelled_is_clustered(toured: Path, tmp_path: Path, capsys, printed):
    for each in voices.generate(3, 2.0, seed=9).recordings:
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
    settings = run.Settings(
        train_speakers=4, dev_speakers=3, test_speakers=4, seconds=2.0, steps=8, frames=20,
        width=8, batch_speakers=4, batch_segments=2, speeds=(1.0,),
    )  # fmt: skip
    console = Console(quiet=True)
    spoken = run.open_voices(settings, console)
    parts = protocol.split(len(spoken), settings.sizes, 0)
    speech = run.training_speech(settings, spoken, parts)
    fit = functools.partial(run.fit, settings, speech=speech, loss="asked", seed=0)
    saved = Path("checkpoints") / "6"
    shutil.copytree(toured / "tdnn-asked-0" / saved, tmp_path / saved)
    whole, _ = fit(directory=toured / "tdnn-asked-0", console=console)
    again, _ = fit(directory=tmp_path, console=console)
    jax.tree.map(np.testing.assert_array_equal, whole.state["params"], again.state["params"])
