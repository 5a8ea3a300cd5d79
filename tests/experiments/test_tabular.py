"""Tables with few positives: reading, splits, losses, figures, differences, and the command."""

import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics

import diffmetrics as dm
from experiments.tabular import __main__ as command, data, experiment, measure, report
from experiments.tabular.losses import BASELINE, LOSSES, asked_f2, for_labels
from experiments.tabular.measure import Fitted
from experiments.tabular.splits import Splits, make_splits
from tests import DATA


def table(n: int = 80, labels: int = 1, seed: int = 0, **fields: Any) -> data.Table:
    """Two features that tell most of every label; a fifth of the rows are positive."""
    rng = np.random.default_rng(seed)
    y = rng.permuted(np.arange(n)[:, None] % 5 == np.arange(labels), axis=0)
    x = rng.normal(size=(n, 2)) + 1.5 * y[:, :1]
    return data.Table("made", x, y, tuple(f"label {k}" for k in range(labels)), **fields)


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def csv_of(made: data.Table) -> str:
    rows = zip(made.features, made.labels[:, 0], strict=True)
    return "".join(f"{a},{b},'{'1' if y else '-1'}'\n" for (a, b), y in rows)


# --- reading --------------------------------------------------------------------------------------


def test_csv_is_read_with_and_without_a_header(tmp_path: Path):
    made = table()
    plain = data.read_table(write(tmp_path, "plain.csv", csv_of(made)))
    np.testing.assert_allclose(plain.features, made.features)
    np.testing.assert_array_equal(plain.labels, made.labels)
    named = data.read_table(write(tmp_path, "named.csv", "a,b,ill\n" + csv_of(made)))
    assert named.label_names == ("ill",)
    np.testing.assert_array_equal(named.labels, made.labels)


KEEL = """@relation small
@attribute Sex {M, F, I}
@attribute Length real [0.075, 0.815]
@attribute Class {positive, negative}
@inputs Sex, Length
@outputs Class
@data
"""


def test_keel_nominal_features_become_indicators(tmp_path: Path):
    rows = [f"{'MFI'[k % 3]}, {k / 100}, {'positive' if k < 6 else 'negative'}" for k in range(30)]
    read = data.read_table(write(tmp_path, "small.dat", KEEL + "\n".join(rows)))
    assert read.features.shape == (30, 4)
    np.testing.assert_array_equal(read.features[:3, :3], np.eye(3))
    np.testing.assert_array_equal(np.flatnonzero(read.labels), range(6))


ARFF = """% three labels
@relation 'many labels'
@attribute 'first one' numeric
@attribute second numeric
@attribute x {0,1}
@attribute y {0,1}
@attribute 'z z' {0,1}

@data
"""


def test_arff_with_several_labels_dense_and_sparse(tmp_path: Path):
    flags = np.random.default_rng(0).random((40, 3)) < 0.5
    dense, sparse = [], []
    for k, row in enumerate(flags):
        dense.append(f"{k},0.5,{','.join(str(int(flag)) for flag in row)}")
        ones = "".join(f", {2 + place} 1" for place in np.flatnonzero(row))
        sparse.append(f"{{0 {k}, 1 0.5{ones}}}")
    one = data.read_table(write(tmp_path, "dense.arff", ARFF + "\n".join(dense)))
    other = data.read_table(write(tmp_path, "sparse.arff", ARFF + "\n".join(sparse)))
    assert one.label_names == ("x", "y", "z z")
    np.testing.assert_array_equal(one.labels, flags)
    np.testing.assert_array_equal(other.labels, flags)
    np.testing.assert_array_equal(other.features, one.features)
    assert data.read_table(tmp_path / "dense.arff", labels=1).features.shape[1] == 6


def test_a_row_that_repeats_another_is_left_out(tmp_path: Path):
    text = csv_of(table())
    read = data.read_table(write(tmp_path, "twice.csv", text + text))
    assert read.repeated == len(read.labels) == 80
    assert "80 rows that repeat another left out" in str(read)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "a.csv",
            "1,2,0\n1,abc,1\n",
            r"a\.csv, line 2, column 2: must be a finite number, got 'abc'",
        ),
        ("a.csv", "1,2,0\n1,,1\n", "line 2, column 2: a value is missing"),
        ("a.csv", "1,2,0\n1,?,1\n", "line 2, column 2: a value is missing"),
        ("a.csv", "1,2,0\n1,nan,1\n", "line 2, column 2: must be a finite number, got 'nan'"),
        ("a.csv", "1,2,0\n1,1\n", "line 2: 2 columns, expected 3"),
        ("a.csv", "1,2,0\n1,3,1\n1,4,2\n", "a label has two values, this has 3: 0, 1, 2"),
        ("a.csv", "1,2,0\n1,3,1\n1,4,1\n", "has 1 different rows of its rarer class; 6 is the"),
        ("a.csv", "", "has no rows"),
        ("a.csv", "1\n2\n", "has 1 columns, which leaves no 1 labels"),
        ("a.dat", KEEL.replace("real [0.075, 0.815]", "string") + "M,1,positive", "not a number"),
        ("a.dat", KEEL + "X,1,positive\n", r"line 8, Sex: 'X' is none of \('M', 'F', 'I'\)"),
        ("a.arff", "@relation a\n@attribute x numeric\n1,2", "has no @data"),
        ("a.arff", ARFF + "{7 1}\n", "line 10: no attribute has the number 7"),
        ("a.txt", "1,2,0", r"is none of \.csv, \.dat, \.arff"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, name: str, text: str, message: str):
    with pytest.raises(data.TableError, match=message):
        data.read_table(write(tmp_path, name, text))


def test_the_sets_at_hand_are_read():
    if not DATA.is_dir():
        pytest.skip(f"{DATA} is not there")
    read = {t.name: t for t in data.open_tables([DATA / "tabular", DATA / "multilabel"], None)}
    assert {name: t.labels.shape[1] for name, t in read.items()} == {
        "abalone19": 1, "mammography": 1, "page-blocks0": 1, "yeast6": 1, "emotions": 6, "yeast": 14
    }  # fmt: skip
    assert int(read["mammography"].labels.sum()) == 254  # 260 less six that repeat another
    assert int(read["abalone19"].labels.sum()) == 32


# --- splits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [1, 3])
def test_parts_share_no_row_and_have_the_same_proportions(labels: int):
    made = table(labels=labels)
    splits = make_splits(made, 4)
    for parts in zip(splits.train, splits.validation, splits.test, strict=True):
        assert sorted(np.concatenate(parts)) == list(range(80))
        assert [len(part) for part in parts] == [40, 20, 20]
        for part in parts:
            assert np.all(np.abs(made.labels[part].mean(0) - 0.2) <= (0.0 if labels == 1 else 0.2))
    assert not np.array_equal(splits.train[0], splits.train[1])
    again = make_splits(made, 2)
    np.testing.assert_array_equal(again.train, splits.train[:2])
    np.testing.assert_array_equal(splits.weights, 1.0)


def test_a_thinned_table_is_judged_on_all_other_positives_at_the_thinned_share():
    cancer = data.breast_cancer()
    splits = make_splits(cancer, 3)
    y = cancer.labels
    assert [int(y[rows].sum(1)[0, 0]) for rows in (splits.train, splits.validation)] == [4, 2]
    assert np.all(y[splits.test].sum(1) == 212 - 6)
    shares = (splits.weights * y[splits.test]).sum(1) / splits.weights.sum(1)
    np.testing.assert_allclose(shares, 0.02, rtol=1e-5)


def test_a_label_that_a_part_lacks_is_named():
    made = table(labels=2)
    made.labels[:, 1] = np.arange(80) == 0
    with pytest.raises(ValueError, match="only one class of label 1"):
        make_splits(made, 2)


# --- losses ---------------------------------------------------------------------------------------


# Of a function one name, and of sums the terms.
TERMS = {loss.value: name for name, loss in LOSSES.items() if "+" not in name}


@pytest.mark.parametrize("name", TERMS.values())
def test_a_loss_is_a_finite_scalar_that_prefers_the_right_order(name: str):
    y = jnp.asarray(table(40, labels=2).labels, jnp.float32)
    z = 0.1 * jax.random.normal(jax.random.key(0), y.shape)
    prevalence = y.mean(0)
    both = jax.jit(jax.value_and_grad(LOSSES[name].value))
    value, gradient = both(z, y, prevalence)
    assert value.shape == ()
    assert np.all(np.isfinite(gradient))
    assert both(z + 2.0 * (2.0 * y - 1.0), y, prevalence)[0] < value


def test_the_asked_f2_is_f_of_one_half():
    y = jnp.asarray(table(40, labels=2).labels, jnp.float32)
    z = jax.random.normal(jax.random.key(0), y.shape)
    swapped = asked_f2(z, y, y.mean(0))
    assert swapped == pytest.approx(float(dm.fbeta_loss(z, y, beta=1 / 2, axis=0).mean()), abs=1e-6)
    assert swapped != pytest.approx(float(dm.fbeta_loss(z, y, beta=2, axis=0).mean()), abs=1e-2)


def test_losses_are_left_out_where_they_mean_nothing_of_their_own():
    for labels, left_out in ((1, "soft-f1-micro"), (3, "oversampled")):
        kept = set(for_labels(list(LOSSES), labels)) & {"oversampled", "soft-f1-micro"}
        assert kept == {"oversampled", "soft-f1-micro"} - {left_out}


# --- training and figures -------------------------------------------------------------------------

ZERO: Any = 0.0  # scikit-learn's annotation lists the strings only
SHORT = experiment.Settings(steps=40, check_every=20, learning_rates=(0.02, 0.1), width=4)


@pytest.fixture(scope="module")
def trained() -> tuple[data.Table, Splits, Fitted]:
    made = table()
    splits = make_splits(made, 3)
    return made, splits, experiment.fit(LOSSES["oversampled"], made, splits, SHORT)


def test_training_learns_and_says_how_its_model_was_chosen(trained):
    made, splits, fitted = trained
    assert fitted.test.shape == (3, 20, 1)
    assert set(np.asarray(fitted.steps)) <= {20, 40}
    assert all(round(float(rate), 3) in SHORT.learning_rates for rate in fitted.learning_rate)
    for k in range(3):
        y, z = made.labels[splits.validation[k], 0], np.asarray(fitted.validation)[k, :, 0]
        ap = metrics.average_precision_score(y, z)
        assert float(fitted.average_precision[k]) == pytest.approx(ap, abs=1e-5)
    assert np.mean(fitted.average_precision) > 0.5


def test_test_rows_have_no_say(trained):
    made, splits, fitted = trained
    poisoned = made.labels.copy()
    poisoned[splits.test[0]] ^= True
    other = data.Table("made", made.features, poisoned, made.label_names)
    again = experiment.fit(LOSSES["oversampled"], other, splits, SHORT)
    np.testing.assert_array_equal(again.test[0], fitted.test[0])


def test_figures_are_those_of_scikit_learn(trained):
    made, splits, fitted = trained
    figures = measure.judge(LOSSES["oversampled"], made, splits, fitted)
    for k in range(3):
        y, z = made.labels[splits.test[k], 0], np.asarray(fitted.test)[k, :, 0]
        right = z + math.log(0.2 / 0.8)  # half of the rows in training, a fifth of them here
        seen, labels = np.asarray(fitted.validation)[k, :, 0], made.labels[splits.validation[k], 0]
        best = max(metrics.f1_score(labels, seen >= t, zero_division=ZERO) for t in seen)
        threshold = dm.fit_threshold(seen, labels, score=dm.fbeta).threshold
        tuned = metrics.f1_score(labels, seen >= threshold, zero_division=ZERO)
        assert tuned == pytest.approx(best)
        p, r, _ = metrics.precision_recall_curve(y, z)
        expected = {
            "average_precision": metrics.average_precision_score(y, z),
            "roc_auc": metrics.roc_auc_score(y, z),
            "f1_half": metrics.f1_score(y, z > 0, zero_division=ZERO),
            "f1_tuned": metrics.f1_score(y, z >= threshold, zero_division=ZERO),
            "f1_corrected": metrics.f1_score(y, right > 0, zero_division=ZERO),
            "f2_half": metrics.fbeta_score(y, z > 0, beta=2.0, zero_division=ZERO),
            "micro_f1_half": metrics.f1_score(y, z > 0, zero_division=ZERO),
            "precision_at_recall": max(p[r >= 0.8]),
            "recall_at_precision": max(r[p >= 0.8]),
            "log_loss_corrected": metrics.log_loss(y, jax.nn.sigmoid(right).astype(float)),
        }
        for name, value in expected.items():
            assert figures[name][k] == pytest.approx(value, abs=1e-5), name


def test_macro_and_micro_f1_of_several_labels():
    made = table(labels=3)
    splits = make_splits(made, 1)
    z = np.random.default_rng(1).normal(size=(1, 20, 3)).astype(np.float32)
    one = jnp.ones(1)
    fitted = Fitted(jnp.asarray(z), jnp.asarray(z), one, one, one)
    figures = measure.judge(LOSSES[BASELINE], made, splits, fitted)
    y = made.labels[splits.test[0]]
    for name, average in (("f1_half", "macro"), ("micro_f1_half", "micro")):
        expected = metrics.f1_score(y, z[0] > 0, average=average, zero_division=ZERO)
        assert figures[name][0] == pytest.approx(expected, abs=1e-6)
    assert "f1_corrected" not in figures


def test_a_loss_that_is_not_finite_has_no_figures_and_says_so(trained):
    made, splits, fitted = trained
    lost = fitted._replace(average_precision=jnp.full(3, -jnp.inf))
    figures = measure.judge(LOSSES["oversampled"], made, splits, lost)
    assert np.all(np.isnan(figures["roc_auc"]))


# --- differences ----------------------------------------------------------------------------------


def rows_of(**figures: list[float]) -> report.SetReport:
    rows = [
        {
            "loss": name.replace("_", "-"),
            "figures": {"average_precision": ap, "roc_auc": ap, "f1_half": ap},
        }
        for name, ap in figures.items()
    ]
    return report.SetReport("made", "made", 1, 0.25, rows)


def test_the_last_words_name_what_exceeds_two_standard_errors_and_what_does_not():
    made = rows_of(
        cross_entropy=[0.5, 0.6, 0.5, 0.6],
        soft_f1=[0.7, 0.8, 0.7, 0.81],
        aucm=[0.4, 0.55, 0.45, 0.5],
        roc_auc=[0.4, 0.7, 0.6, 0.5],
        mcc=[math.nan, 0.5, 0.5, 0.5],
    )
    first = next(iter(report.verdicts(made)))
    assert first.startswith("AP: better: soft-f1 +0.203 ±0.003*; worse: aucm -0.075 ±0.014*")
    assert "not finite: mcc; within two standard errors: roc-auc" in first
    # t with 3 degrees of freedom passes 2 with probability 0.14, and there are 9 differences.
    said = report.conclusion([made])
    assert "6 of 9 differences" in said
    assert "about 1 would by chance, one in 7" in said


def test_cells_say_for_which_losses_a_correction_means_anything():
    lines = {line[0]: line for line in report.cells(rows_of(cross_entropy=[0.5], soft_f1=[0.5]))}
    corrected = 1 + list(report.ONE_LABEL).index("f1_corrected")
    assert lines["cross-entropy"][corrected] == "as ½"
    assert lines["soft-f1"][corrected] == "-"
    # Without the baseline there is a table and no comparison.
    made = rows_of(soft_f1=[0.5, 0.6])
    assert [line[0] for line in report.cells(made)] == ["soft-f1"]
    assert not list(report.differences(made))
    assert report.conclusion([made]) == ""


# --- the command ----------------------------------------------------------------------------------

# The table and the training of above, so that their programs are compiled once.
TINY = ["--seeds", "3", "--steps", "40", "--check-every", "20", "--width", "4"]
TINY += ["--learning-rates", "0.02", "0.1"]


def test_command_tabulates_draws_resumes_and_keeps_what_is_finished(
    tmp_path: Path, printed, monkeypatch
):
    out = tmp_path / "out"
    (tmp_path / "data").mkdir()
    write(tmp_path / "data", "small.csv", csv_of(table()))
    options = [*TINY, "--data", str(tmp_path / "data"), "--out", str(out)]
    options += ["--losses", BASELINE, "oversampled"]
    finished = experiment.fit

    def interrupted(loss, *rest):
        if loss is LOSSES["oversampled"]:
            raise KeyboardInterrupt
        return finished(loss, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(experiment, "fit", interrupted)
        assert command.main(options) == 130
    assert "1 of 2 runs are kept; continue with --resume" in printed()
    assert command.main(options) == 1
    assert "pass --resume" in printed()
    kept = (out / "small" / BASELINE / "result.json").stat().st_mtime_ns
    assert command.main([*options, "--resume"]) == 0
    assert (out / "small" / BASELINE / "result.json").stat().st_mtime_ns == kept
    said = printed()
    assert "F2 corr." in said
    assert "log loss before → after prior correction: oversampled" in said
    assert "differences to cross-entropy exceed two standard errors" in said
    written = json.loads((out / "comparison.json").read_text())
    assert [each["name"] for each in written["sets"]] == ["small"]
    assert len(written["differences"]["small"]) == 10
    assert (out / "comparison.md").read_text().count("\n| oversampled |") == 1
    assert (out / "comparison.png").stat().st_size > 2000
    assert command.main([*options, "--resume", "--width", "5"]) == 1
    assert "width was 4, is 5" in printed()
