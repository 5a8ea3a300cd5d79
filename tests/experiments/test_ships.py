"""The ship experiment: its pipeline, its losses, its figures, and every command for two steps."""

import dataclasses
import json
import os
import signal
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments.shared import training
from experiments.ships import experiment, measure, pictures, pipeline, report, tiles
from experiments.ships.__main__ import main
from experiments.ships.images import Example, UnreadableImage
from experiments.ships.losses import LOSSES
from experiments.ships.scenes import Scenes
from tests.experiments.submissions import read_submission

# One image of the folder below is broken, and named when it is drawn.
pytestmark = pytest.mark.filterwarnings("ignore:left out. 3.jpg")

SCENES = pipeline.Images(Scenes(count=40, size=64))
TINY = ["--scenes", "40", "--size", "64", "--crop", "32", "--steps", "4", "--width", "2"]
TINY += ["--depth", "0", "--batch-size", "3"]


# --- losses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_a_finite_scalar_with_a_gradient(name: str):
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(2, 8, 8)).astype(np.float32), rng.random((2, 8, 8)) > 0.9
    value, gradient = jax.jit(jax.value_and_grad(LOSSES[name]))(z, y.astype(np.float32))
    assert value.shape == ()
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))


# --- figures --------------------------------------------------------------------------------------


def test_report_of_a_perfect_and_of_an_empty_prediction():
    members = list(range(40))
    drawn = list(SCENES.readable(members))
    right = {each.image.tobytes(): np.where(each.instances > 0, 9.0, -9.0) for each in drawn}
    perfect = lambda image: right[image.tobytes()]  # noqa: E731
    best = measure.judge(perfect, SCENES, members[:20], members[20:])
    for when in ("at_half", "at_tuned"):
        assert best[when]["f1"] == best[when]["precision"] == 1.0
        assert best[when]["airbus_f2"] > 0.9
    assert best["objects"]["airbus_f2"] == pytest.approx(
        best["yardsticks"]["perfect_mask"]["airbus_f2"]
    )
    assert best["average_precision"] == pytest.approx(1.0)
    assert best["verdict"] == "finds ships"
    sizes = best["sizes"].values()
    assert sum(each["objects"] for each in sizes) == sum(
        int(each.instances.max()) for each in drawn[20:]
    )
    assert sum(each["found"] for each in sizes) > 0.9 * sum(each["objects"] for each in sizes)
    nothing = lambda image: np.full(image.shape[:2], -9.0)  # noqa: E731
    empty = measure.judge(nothing, SCENES, members[:20], members[20:])
    share = np.mean([not SCENES.has_ships(i) for i in members[20:]])
    assert empty["at_half"]["airbus_f2"] == pytest.approx(share)
    assert empty["at_half"]["airbus_f2_ships"] == 0.0
    for same in (empty["objects"], best["yardsticks"]["empty_submission"]):
        assert same["airbus_f2"] == empty["at_half"]["airbus_f2"]
    assert empty["verdict"] == "predicts nothing"
    assert sum(each["found"] for each in empty["sizes"].values()) == 0


@pytest.mark.parametrize(
    ("share", "recall", "limits", "words"),
    [
        (0.3, 0.9, (0.0, 1.0), "predicts far too much: 30.00% of the image, and 0.20% is ship"),
        (0.0, 0.0, (0.0, 0.4), "predicts nothing"),
        (0.1, 0.9, (0.1, 0.7), "stuck in the middle: every p in 0.10-0.70"),
        (0.001, 0.2, (0.0, 1.0), "misses more than half"),
        (0.009, 0.9, (0.0, 1.0), "more false alarms than ships"),
        (0.002, 0.8, (0.0, 1.0), "finds ships"),
    ],
)
def test_verdict_says_what_happened(share: float, recall: float, limits: tuple, words: str):
    precision = min(1, 0.9 * 0.002 / max(share, 1e-9))
    half = {"predicted_share": share, "recall": recall, "precision": precision}
    result = {"at_half": half, "prevalence": 0.002, "probability_range": limits}
    assert measure.verdict(result) == words


def test_of_several_seeds_equal_verdicts_are_counted_and_failures_told_whole():
    far = {"verdict": "predicts far too much: 30.00% of the image, and 0.20% is ship"}
    failed = {"failed": "step 3: the loss is nan"}
    told = report.summarize("dice", [far, failed, {"verdict": far["verdict"].replace("30", "40")}])
    assert told["verdict"] == "2 x predicts far too much; 1 x step 3: the loss is nan"


# --- prediction -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(64, 64), (70, 45), (20, 30), (130, 64)])
def test_tiles_cover_every_pixel(shape: tuple[int, int]):
    image = np.random.default_rng(0).integers(0, 255, (*shape, 3)).astype(np.uint8)
    red = lambda _, batch: batch[..., 0].astype(np.float32)  # noqa: E731
    np.testing.assert_allclose(tiles.predictor(red, {}, 32)(image), image[..., 0], rtol=1e-5)


def test_images_of_any_size_are_predicted():
    settings = experiment.Settings(depth=1, width=2, crop=32)
    graph, state = experiment.initialize(settings, seed=0)
    predict = experiment.make_predict(graph, settings, state["params"])
    logits = predict(np.zeros((37, 51, 3), np.uint8))
    assert logits.shape == (37, 51)
    assert logits.dtype == np.float32


# --- commands -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Images with masks, one of them cut short."""
    folder = tmp_path_factory.mktemp("data")
    scenes = Scenes(count=20, size=64, empty_share=0.2)
    for i, example in enumerate(scenes[i] for i in range(20)):
        Image.fromarray(example.image).save(folder / f"{i}.jpg")
        mask = Image.fromarray(np.uint8(255 * (example.instances > 0)))
        mask.save(folder / f"{i}.png")
    (folder / "3.jpg").write_bytes(b"\xff\xd8 cut")
    return folder


@pytest.fixture(scope="module")
def toured(folder: Path, tmp_path_factory) -> tuple[Path, list[str], dict[str, Any]]:
    """Two losses compared, one of them broken: where, with which options, and what was found."""
    out = tmp_path_factory.mktemp("tour")
    options = [*TINY, "--data", str(folder)]
    losses = ["--losses", "dice", "broken", "--seeds", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(LOSSES, "broken", lambda logits, labels: jnp.log(logits.sum() * 0.0 - 1.0))
        with jax.debug_nans(False):
            assert main(["compare", *options, *losses, "--out", str(out)]) == 0
    return out, options, json.loads((out / "comparison.json").read_text())


def test_the_comparison_is_tabulated_and_drawn(toured):
    out, _, found = toured
    assert [row["loss"] for row in found["rows"]] == ["dice", "broken"]
    for name in ("comparison.png", "curves.png", "predictions.png"):
        assert (out / name).stat().st_size > 2000
    assert (out / "comparison.md").read_text().count("\n| ") == 6


def test_a_loss_that_is_not_finite_has_its_row_all_the_same(toured):
    row = toured[2]["rows"][1]
    assert "at step 1" in row["verdict"]
    assert "at_half" not in row
    assert "| broken | - |" in (toured[0] / "comparison.md").read_text()


def test_a_finished_run_is_kept_and_another_seed_joins_it(toured, printed):
    out, options, _ = toured
    options = ["compare", *options, "--losses", "dice", "--seeds", "2", "--out", str(out)]
    before = (out / "dice-0" / "result.json").stat().st_mtime_ns
    assert main(options) == 1
    assert "--resume" in printed()
    assert main([*options, "--resume"]) == 0
    assert (out / "dice-0" / "result.json").stat().st_mtime_ns == before
    assert (out / "dice-1" / "result.json").exists()
    assert main([*options, "--resume", "--learning-rate", "1e-5"]) == 1
    assert "learning_rate was 0.004, is 1e-05" in printed()


def test_an_interrupted_run_goes_on_to_the_same_parameters(toured, tmp_path: Path, printed):
    out, options, _ = toured
    options = ["train", *options, "--out", str(tmp_path)]
    original = pipeline.batches

    def interrupted(*args, **kwargs):
        for k, batch in enumerate(original(*args, **kwargs)):
            if k == 1:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "batches", interrupted)
        assert main(options) == 130
    assert "after step 2" in printed()
    assert main(options) == 1
    assert "pass --resume" in printed()
    assert main([*options, "--resume"]) == 0
    image = Scenes(count=1, size=64, empty_share=0)[0].image
    whole, parts = (experiment.load(where).predict(image) for where in (out / "dice-0", tmp_path))
    np.testing.assert_array_equal(parts, whole)


def test_a_run_begins_with_what_another_has_learnt(toured, tmp_path: Path, printed):
    out, options, _ = toured
    options = ["train", *options, "--init", str(out / "dice-{seed}"), "--out", str(tmp_path)]
    assert main([*options, "--width", "4"]) == 1
    assert "init: that run has width 2, this one 4" in printed()
    assert main([*options, "--seed", "1", "--init", str(out / "dice-0")]) == 1
    assert "has seed 0, so it was trained on images that seed 1 tests on" in printed()
    assert main([*options, "--loss", "lovasz", "--deep-supervision"]) == 1
    assert "gives shares as labels, and lovasz takes decisions" in printed()
    others = ["--deep-supervision", "--photometric", "--tile", "48", "--learning-rate", "0"]
    assert main([*options, *others]) == 0
    image = Scenes(count=1, size=64, empty_share=0)[0].image
    begun = experiment.load(out / "dice-0")
    graph, state = experiment.initialize(begun.settings, 0)
    params = training.restore(state, out / "dice-0")["params"]
    larger = dataclasses.replace(begun.settings, tile=48)
    expected = experiment.make_predict(graph, larger, params)(image)
    np.testing.assert_array_equal(experiment.load(tmp_path).predict(image), expected)


def test_a_run_is_evaluated_and_predicts(toured, folder: Path, tmp_path: Path, printed):
    run_of, submission = toured[0] / "dice-0", tmp_path / "deep" / "submission.csv"
    before = json.loads((run_of / "result.json").read_text())
    assert main(["evaluate", str(run_of)]) == 0
    after = json.loads((run_of / "result.json").read_text())
    assert after["at_half"] == before["at_half"]
    assert (run_of / "best-and-worst.png").stat().st_size > 2000
    assert main(["predict", str(run_of), "--out", str(submission)]) == 0
    assert len(dict(read_submission(submission, (64, 64)))) == after["test_images"]
    printed()
    options = ["--images", str(folder), "--out", str(submission), "--threshold", "0.5"]
    assert main(["predict", str(run_of), *options]) == 0
    assert "left out: 3.jpg" in printed()
    read = dict(read_submission(submission, (64, 64)))
    assert len(read) == 39
    image = np.asarray(Image.open(folder / "0.jpg"))
    np.testing.assert_array_equal(read["0.jpg"] > 0, experiment.load(run_of).predict(image) > 0)


def test_a_file_that_proves_damaged_is_named_once_or_stops_the_run():
    class Damaged(Scenes):
        def __getitem__(self, index: int, /) -> Example:
            if index == 3:
                raise UnreadableImage("3.jpg", "is cut short")
            return super().__getitem__(index)

    images = pipeline.Images(Damaged(count=6, size=64))
    with pytest.warns(UserWarning, match=r"left out: 3\.jpg: is cut short"):
        assert len(list(images.readable(range(6)))) == 5
    assert len(list(images.readable(range(6)))) == 5  # and is not named again
    assert images.unreadable == {"3.jpg": "is cut short"}
    with pytest.raises(UnreadableImage):
        list(pipeline.Images(Damaged(count=6, size=64), strict=True).readable(range(6)))


def test_pictures_show_found_missed_and_false():
    image = np.full((4, 4, 3), 128, np.uint8)
    row, column = np.indices((4, 4))
    shown = pictures.overlay(image, row == 0, column == 0)
    assert len({tuple(pixel) for pixel in shown.reshape(-1, 3)}) == 4


def test_the_best_and_the_worst_images_are_chosen_and_shown_from_near():
    examples = [SCENES.read(i) for i in range(40)]
    names = [each.name for each in examples if each and each.instances.any()]
    scores = {name: k / 100 for k, name in enumerate(names)}
    chosen = pictures.best_and_worst(SCENES, range(40), scores, count=2)
    assert [each.name for each in chosen] == [names[-1], names[-2], names[0], names[1]]
    for each in chosen:
        rows, columns = pictures.close_up(each)
        assert each.instances[rows, columns].any()
