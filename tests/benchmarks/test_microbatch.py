"""`python -m benchmarks microbatch` on a tiny batch: what it computes and writes, not how fast."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffmetrics as dm
from benchmarks import __main__ as command, microbatch
from benchmarks.microbatch import MEAN, ORDERS, WHOLE, Size

TINY = Size(rows=256, parts=8, features=4, hidden=64, positives=0.1)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command leaves in its folder."""
    folder = tmp_path_factory.mktemp("microbatch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(microbatch, "QUICK", TINY)
        patch.delitem(microbatch.LOSSES, "fbeta_loss")  # another score of the same counts
        assert command.main(["microbatch", "--quick", "--out", str(folder)]) == 0
    return folder


def test_every_way_to_every_loss_is_written_and_drawn(written: Path):
    [file], [chart] = written.glob("*-microbatch.json"), written.glob("*-microbatch.png")
    content = json.loads(file.read_text())
    losses = ("dice_loss", "average_precision_loss")
    expected = [(loss, way) for loss in losses for way in microbatch.ways(loss, TINY)]
    assert [(row["loss"], row["way"]) for row in content["rows"]] == expected
    assert all(row["ms"][0] > 0 for row in content["rows"])
    assert content["complete"]
    assert chart.stat().st_size > 2000


def test_exact_ways_save_memory_and_the_mean_of_losses_is_another_gradient(written: Path):
    [file] = written.glob("*.json")
    rows = json.loads(file.read_text())["rows"]
    whole = {row["loss"]: row["temp_mib"] for row in rows if row["way"] == WHOLE}
    for row in rows:
        errors = np.ravel([row["error"][order] for order in ORDERS])
        if row["way"] == MEAN:
            assert (errors > 0.01).all()
            assert min(row["cosine"]["sorted"]) < 0.99
        else:
            assert (errors <= 1e-4).all()
        if row["way"] != WHOLE:
            assert row["temp_mib"] < whole[row["loss"]] / 2


def test_every_loss_of_counts_can_add_them():
    for loss, score in microbatch.SCORES.items():
        z, y = jnp.array([2.0, -1.0, 0.5]), jnp.array([1, 0, 0])
        soft = dm.counts(jax.nn.sigmoid(z), y)
        np.testing.assert_allclose(microbatch.LOSSES[loss](z, y), 1 - score(soft), rtol=1e-6)


def test_the_deviation_of_gradients_is_relative():
    truth = np.array([3.0, 4.0])
    assert microbatch.deviation(truth, truth) == (0.0, 1.0)
    assert microbatch.deviation(2 * truth, truth) == (1.0, 1.0)
    error, cosine = microbatch.deviation(np.array([4.0, -3.0]), truth)
    assert (error, cosine) == pytest.approx((2**0.5, 0.0))


def test_both_orders_hold_the_same_rows():
    ordered, shuffled = (microbatch.draw_rows(TINY, order) for order in ORDERS)
    assert ordered["y"].sum() == shuffled["y"].sum() == round(TINY.rows * TINY.positives)
    assert (jnp.diff(ordered["y"].astype(int)) >= 0).all()
    np.testing.assert_array_equal(jnp.sort(ordered["x"], 0), jnp.sort(shuffled["x"], 0))


def test_a_way_that_should_be_exact_and_is_not_is_never_timed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(microbatch.SCORES, "dice_loss", dm.jaccard)
    with pytest.raises(AssertionError, match="counts added"):
        next(microbatch.compare(TINY, command.Patience(0.0, 1, 1), lambda _: None))
