"""The uncertainty experiment: tables, networks, protocol, and every command in small."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from rich.console import Console
from scipy import stats

from experiments.uncertainty import collapse, multiloss, published, report, synthetic
from experiments.uncertainty.__main__ import main
from experiments.uncertainty.data import (
    TableError,
    diabetes,
    folds,
    open_tables,
    read_table,
    splits,
)
from experiments.uncertainty.experiment import fit
from experiments.uncertainty.measure import judge_split
from experiments.uncertainty.methods import Method, Recipe
from experiments.uncertainty.networks import Design, MeanFieldDense, Network, graph_of, initialize
from experiments.uncertainty.predictions import predict
from tests import DATA

UCI = DATA / "uci"
TINY = ["--seeds", "2", "--periods", "3", "--period", "4", "--losses", "ensemble"]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


# --- tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["1 2\t3 \n4  5 6\n", "a,b,y\n1,2,3\n4,5,6\n", "1;2;3\n4;5;6\n", "1\t2\t3\t\n\n4\t5\t6\n"],
)
def test_tables_are_read_whatever_separates_their_numbers(tmp_path: Path, text: str):
    table = read_table(write(tmp_path / "t.csv", text))
    np.testing.assert_array_equal(table.features, [[1, 2], [4, 5]])
    np.testing.assert_array_equal(table.target, [3, 6])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,y\n1,2,3\n4,blue,6\n", "line 3, b: must be a finite number, got 'blue'"),
        ("1 2 3\n4 nan 6\n", "line 2, column 2: must be a finite number, got 'nan'"),
        ("1 2 3\n4 inf 6\n", "line 2, column 2: must be a finite number, got 'inf'"),
        ("1,2,3\n4,,6\n", "line 2, column 2: a value is missing"),
        ("1 2 3\n4 5\n", "line 2: 2 columns, expected 3"),
        ("1 2 3\n4 5 3\n", "the target, its last column, is 3.0 in every row"),
        ("1 2 3\n1 2 4\n", "every feature is constant"),
        ("1\n2\n", "at least one feature and a target"),
        ("\n \n", "got 0 rows of 0 columns"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(tmp_path: Path, text: str, message: str):
    with pytest.raises(TableError, match=message):
        read_table(write(tmp_path / "t.txt", text))


def test_a_feature_that_varies_by_rounding_only_is_constant(tmp_path: Path):
    text = "0.998,1,7\n0.9980000000000002,2,8\n0.998,4,9\n"
    table = read_table(write(tmp_path / "t.csv", text))
    assert table.left_out == ("column 1",)
    np.testing.assert_array_equal(table.features, [[1], [2], [4]])


def test_binary_files_and_folders_without_tables_or_with_two_of_a_name_are_named(tmp_path: Path):
    (tmp_path / "t.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TableError, match="not text in UTF-8"):
        open_tables(tmp_path)
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        open_tables(tmp_path / "missing")
    (tmp_path / "t.csv").touch()
    with pytest.raises(ValueError, match="2 files are called t; give them one by one"):
        open_tables(tmp_path)
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match="holds no table"):
        open_tables(tmp_path)


def test_splits_are_those_of_one_generator_and_need_rows():
    found = list(splits(308, 20))
    assert list(found[0][0][:4]) == [73, 304, 228, 238]
    for train_rows, test_rows in found:
        assert len(test_rows) == 31
        assert sorted([*train_rows, *test_rows]) == list(range(308))
    with pytest.raises(TableError, match="diabetes has 442 rows; 500 seeds need at least 500"):
        folds(diabetes(), 500)


@pytest.mark.skipif(not UCI.exists(), reason="no shared data here")
def test_the_published_files_have_their_known_repeats_in_the_first_split():
    for name, rows, repeats in (("wine-quality-red", 1599, 51), ("concrete", 1030, 5)):
        table = read_table(UCI / f"{name}.txt")
        assert len(table) == rows
        everything = np.column_stack([table.features, table.target])
        train_rows, test_rows = next(splits(rows, 20))
        seen = {tuple(row) for row in everything[train_rows]}
        assert sum(tuple(row) in seen for row in everything[test_rows]) == repeats


def test_folds_are_standardized_by_their_training_rows():
    table = diabetes()
    data = folds(table, 3)
    np.testing.assert_allclose(data.train_x.mean(1), 0, atol=1e-6)
    np.testing.assert_allclose(data.train_y.std(1), 1, atol=1e-6)
    assert abs(data.test_x.mean()) > 1e-4
    train_rows, test_rows = list(splits(len(table), 3))[2]
    np.testing.assert_array_equal(data.test_y[2], table.target[test_rows])
    back = data.train_y[2] * data.scale[2] + data.center[2]
    np.testing.assert_allclose(back, table.target[train_rows], rtol=1e-5)


# --- networks -------------------------------------------------------------------------------------


def test_drawn_outputs_have_the_distribution_of_drawn_weights():
    layer = MeanFieldDense(3, 2, prior_scale=3.0, rngs=nnx.Rngs(0))
    x = jnp.array([[1.0, -2.0, 0.5]])
    draw = jax.jit(jax.vmap(lambda key: layer(x, key)[0]))
    draws = draw(jax.random.split(jax.random.key(1), 20000))
    kernel, bias = layer.kernel_mean[...], layer.bias_mean[...][None]
    scale = 3.0 / 3.0**0.5 * 0.1
    np.testing.assert_allclose(draws.mean(0), (x @ kernel + bias)[0], atol=0.01)
    np.testing.assert_allclose(draws.var(0), scale**2 * (1 + 4 + 0.25 + 1), rtol=0.05)


def network(design: Design, inputs: int) -> Network:
    params = initialize(design, inputs, jax.random.split(jax.random.key(0), 1))
    first = jax.tree.map(lambda leaf: leaf[0], params)
    return nnx.merge(graph_of(design, inputs), nnx.State(first))


@nnx.jit
def apply(net: Network, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return net(x, jax.random.key(1))


def test_divergence_is_the_sum_over_all_weights_of_a_fixed_prior():
    net = network(Design(layer="mean-field", hidden=(4,)), 3)
    expected = 0.0
    for layer, inputs in ((net.body[0], 3), (net.head, 4)):
        assert isinstance(layer, MeanFieldDense)
        prior = 3.0 / inputs**0.5
        for mean in (layer.kernel_mean[...], layer.bias_mean[...]):
            each = np.log(10) + (0.01 + np.square(np.asarray(mean, float) / prior)) / 2 - 0.5
            expected += each.sum()
    np.testing.assert_allclose(nnx.jit(Network.kl)(net), expected, rtol=1e-5)


def test_heads_start_at_the_first_deviation_and_a_relu_never_goes_below():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(50, 3)), jnp.float32)
    for deviation in ("constant", "of-input"):
        net = network(Design(deviation=deviation, dropout=0.5, layer="dropout", hidden=(4,)), 3)
        mean, scale = apply(net, x)
        assert mean.shape == scale.shape == (50,)
        assert 0.2 < float(scale.mean()) < 1.2
        assert (np.ptp(scale) == 0) == (deviation == "constant")
        assert net.kl() == 0
    bad = dataclasses.replace(collapse.ASKED, before_scale="relu", hidden=(4,))
    mean, scale = apply(network(bad, 3), x)
    assert float(scale.min()) >= collapse.LOG_2
    assert float(mean.min()) >= 0


# --- training -------------------------------------------------------------------------------------

# Shapes and recipe are those of the synthetic world, so that they are compiled once.
METHOD = Method(Design(hidden=(8,)), members=2)
RECIPE = Recipe(**vars(METHOD), periods=3, batch_size=64)
HELD_OUT = synthetic.ROWS // 5


def world() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, synthetic.ROWS, 1)).astype(np.float32)
    return x, (2 * x[..., 0] + 0.1 * rng.normal(size=x.shape[:2])).astype(np.float32)


def test_members_differ_and_a_given_length_is_kept():
    x, y = world()
    first = fit(RECIPE, x, y, held_out=HELD_OUT, seed=0, title="test")
    assert first.scores.shape == (2, 3)
    assert np.all(first.kept == 1 + first.scores.argmax(1))
    again = fit(RECIPE, x, y, held_out=HELD_OUT, seed=0, until=np.array([1, 3]), title="test")
    np.testing.assert_array_equal(again.kept, [1, 3])
    found = predict(RECIPE, again, x[:, :481], seed=0)
    assert found.mean.shape == found.scale.shape == (2, 2, 481)
    assert np.abs(found.mean[:, 0] - found.mean[:, 1]).max() > 0.01


def test_there_are_no_more_looks_than_asked_for():
    chunks = [Recipe(periods=n, batch_size=1).chunk for n in (1, 25, 26, 50, 80, 150)]
    assert chunks == [1, 1, 2, 5, 8, 10]


def test_held_out_rows_are_not_trained_on():
    x, y = world()
    changed = y.copy()
    changed[:, -HELD_OUT:] += 0.1
    one, other = (
        fit(RECIPE, x, target, held_out=HELD_OUT, seed=0, title="test") for target in (y, changed)
    )
    np.testing.assert_array_equal(one.kept, other.kept)
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)
    assert np.all(one.scores != other.scores)
    full = fit(RECIPE, x, changed, held_out=HELD_OUT, seed=0, until=one.kept, title="test")
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), one.params, full.params)
    assert any(jax.tree.leaves(moved))


def test_right_deviations_are_found_right():
    rng = np.random.default_rng(0)
    scale = np.exp(rng.normal(size=(1, 4000)) / 2).astype(np.float32)
    mean = rng.normal(size=scale.shape).astype(np.float32)
    y = mean[0] + scale[0] * rng.normal(size=4000).astype(np.float32)
    world = tuple(jnp.asarray(each) for each in (mean, scale, y))
    figures, predicted = jax.jit(judge_split)(jax.random.key(0), world, world)
    f = {key: float(value) for key, value in figures.items()}
    expected = stats.norm.logpdf(y, mean[0], scale[0]).mean()
    for key in ("mixture", "moment_matched"):
        assert f[key] == pytest.approx(expected, abs=1e-4)
    assert f["coverage"] == pytest.approx(0.95, abs=0.01)
    assert f["coverage_conformal"] == pytest.approx(0.95, abs=0.001)
    assert f["factor"] == pytest.approx(1.0, abs=0.03)
    assert f["ause"] == pytest.approx(f["ause_attainable"], abs=0.03)
    assert f["rank"] == pytest.approx(f["rank_attainable"], abs=0.03)
    np.testing.assert_allclose(predicted["deviation"], scale[0], rtol=1e-5)


# --- commands -------------------------------------------------------------------------------------


def test_studies_are_tabulated_filtered_and_recalibrated_from_what_was_written(
    tmp_path: Path, capsys, printed
):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2))
    rows = np.column_stack([x, x.sum(1) + 0.1 * rng.normal(size=60)])
    np.savetxt(tmp_path / "yacht.txt", rows)
    out = tmp_path / "out"
    common = ["--data", str(tmp_path), "--out", str(out), *TINY]
    assert main(["uci", *common]) == 0
    assert "published: PBP" in capsys.readouterr().out
    result = json.loads((out / "yacht-ensemble" / "result.json").read_text())
    config = json.loads((out / "yacht-ensemble" / "config.json").read_text())
    assert config["recipe"]["periods"] == config["periods"] == 3
    assert config["recipe"]["batch_size"] == 32
    assert len(result["figures"]["rmse"]) == 2
    begun = (out / "yacht-ensemble" / "result.json").stat().st_mtime_ns
    assert main(["filter", *common]) == 1
    assert "already holds a run" in printed()
    assert main(["filter", *common, "--resume"]) == 0
    assert main(["recalibrate", *common, "--resume"]) == 0
    assert main(["uci", *common, "--resume", "--seed", "1"]) == 1
    assert "seed was 0, is 1" in printed()
    assert (out / "yacht-ensemble" / "result.json").stat().st_mtime_ns == begun
    for name in ("uci", "filter", "recalibrate"):
        picture = out / f"{name}-yacht.png" if name == "filter" else out / f"{name}.png"
        assert picture.stat().st_size > 2000
        json.loads((out / f"{name}.json").read_text())
    with np.load(out / "yacht-ensemble" / "predictions.npz") as found:
        error = found["target"][0] - found["mean"][0]
    assert result["figures"]["rmse"][0] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-4)
    # A method that failed is a line of the table.
    lost = {"method": "vi", "failed": "no finite likelihood", "seconds": 1.0}
    report.uci({"yacht": [{"method": "ensemble", **result}, lost]}, 2, tmp_path / "lost", Console())
    assert "| vi | failed |" in (tmp_path / "lost" / "uci.md").read_text()
    assert "failed: no finite likelihood" in printed()


def test_collapse_happens_to_every_seed_with_a_relu_and_to_none_without(
    tmp_path: Path, monkeypatch
):
    # One hidden layer less than the command has, which the ReLU does not care about.
    monkeypatch.setattr(collapse, "ASKED", dataclasses.replace(collapse.ASKED, hidden=(50,)))
    out = tmp_path / "c"
    options = ["--seeds", "2", "--periods", "15", "--layers", "plain", "--out", str(out)]
    assert main(["collapse", *options]) == 0
    relu, linear = json.loads((out / "collapse.json").read_text())["rows"]
    assert relu["stuck"] == [True] * 2
    assert min(relu["smallest"]) >= collapse.LOG_2
    assert linear["stuck"] == [False] * 2
    assert max(linear["smallest"]) < 0.2
    assert (out / "collapse.png").exists()


def test_synthetic_bands_are_written(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(synthetic, "METHODS", {"ensemble": METHOD})
    out = tmp_path / "s"
    assert main(["synthetic", "--seeds", "2", "--periods", "3", "--out", str(out)]) == 0
    result = json.loads((out / "synthetic.json").read_text())
    assert len(result["found"]["ensemble"]["rank"]) == 2
    assert (out / "synthetic.png").exists()


def test_multiloss_trains_on_all_losses(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(multiloss, "ADAPTIVE", {"gradient norm": multiloss._gradient_norm})
    out = tmp_path / "m"
    options = ["--alphas", "0", "100", "--seeds", "2", "--steps", "200", "--out", str(out)]
    assert main(["multiloss", *options]) == 0
    rows = {row["name"]: row for row in json.loads((out / "multiloss.json").read_text())["rows"]}
    fixed, robust = (np.mean(rows[f"mse + {alpha} huber"]["rmse"]) for alpha in (0, 100))
    assert robust < 0.7 * fixed
    assert set(rows["mse + 0 huber"]["parts"]) == {"mse", "huber"}
    assert np.mean(rows["gradient norm"]["weights"]["huber"]) > 1
    assert (out / "multiloss.png").exists()


def test_published_columns():
    assert published.best_of_forty_passes("concrete") == ("MC dropout", -3.04)
    assert published.best_of_forty_passes("wine-quality-red") == ("MC dropout", -0.93)
    assert len(published.rows("power-plant")) == 7
    assert published.rows("diabetes") == {}
    assert published.best_of_forty_passes("diabetes") is None


def test_share_that_may_be_kept():
    kept, curve = np.array([1.0, 0.75, 0.5, 0.25]), np.array([1.0, 0.9, 0.6, 0.5])
    assert report._share_kept(kept, curve, 0.6) == 0.5
    assert report._share_kept(kept, curve, 0.1) == 0.0
