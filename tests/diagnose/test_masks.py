"""Masks that lie otherwise than what was predicted of them, or belong to other images."""

from __future__ import annotations

import re

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import diffmetrics as dm
from diffmetrics import diagnose
from diffmetrics.diagnose import _masks
from tests.diagnose.trials import Trial, is_told, named, of_probe

binary = optax.sigmoid_binary_cross_entropy
of_ids = optax.softmax_cross_entropy_with_integer_labels


def _ships(number: int, height: int, width: int) -> np.ndarray:
    """Masks of an ellipse or two."""
    draw = np.random.default_rng(1)
    rows, columns = np.mgrid[:height, :width]
    masks = np.zeros((number, height, width), bool)
    for mask in masks:
        for _ in range(draw.integers(1, 3)):
            y, x = draw.integers(4, height - 4), draw.integers(4, width - 4)
            a, b = draw.uniform(1.5, 5, 2)
            mask |= ((rows - y) / a) ** 2 + ((columns - x) / b) ** 2 < 1
    return masks


def _predicted(masks: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(2).normal(size=masks.shape)
    return (6.0 * masks - 3.0 + noise).astype(np.float32)


def _two_kinds(masks: np.ndarray) -> np.ndarray:
    """Ids of a background and of two classes."""
    return np.where(masks, 1 + np.arange(masks.shape[-1]) % 2, 0)


SHIPS, WIDE = _ships(8, 24, 24), _ships(8, 16, 32)
SEEN, WIDE_SEEN = _predicted(SHIPS), _predicted(WIDE)
KINDS = _two_kinds(SHIPS)
KINDS_SEEN = np.stack([_predicted(np.equal(KINDS, c)) for c in range(3)], -1)
TRANSPOSED = SHIPS.swapaxes(1, 2)
BY_COLUMNS = WIDE.swapaxes(1, 2).reshape(WIDE.shape)  # of run lengths that go down the columns
BY_ROWS = WIDE.reshape(8, 32, 16).swapaxes(1, 2)
FLOATS = SHIPS.astype(np.float32)
DIAGONAL = "masks lie transposed"
OTHER_ORDER = "masks were read along the wrong axis"

MISPLACED = [
    Trial("transposed", binary, SEEN, TRANSPOSED.astype("f"), "masks", DIAGONAL),
    Trial("booleans", dm.dice_loss, SEEN, TRANSPOSED, "masks", DIAGONAL),
    Trial("0 and 255", dm.dice_loss, SEEN, TRANSPOSED.astype(np.uint8) * 255, "masks", DIAGONAL),
    Trial("signs", optax.hinge_loss, SEEN, 2.0 * TRANSPOSED - 1, "masks", DIAGONAL),
    Trial("a channel", binary, SEEN[..., None], TRANSPOSED[..., None], "masks", DIAGONAL),
    Trial("classes", of_ids, KINDS_SEEN, KINDS.swapaxes(1, 2), "masks", DIAGONAL),
    Trial("one image", binary, SEEN[0], TRANSPOSED[0], "masks", DIAGONAL, "note"),
    Trial("by columns", binary, WIDE_SEEN, BY_COLUMNS, "masks", OTHER_ORDER),
    Trial("by rows", binary, WIDE_SEEN, BY_ROWS, "masks", OTHER_ORDER),
    Trial("upside down", binary, SEEN, SHIPS[:, ::-1], "masks", "masks lie upside down"),
    Trial("mirrored", binary, SEEN, SHIPS[:, :, ::-1], "masks", "flipped left to right"),
    Trial("half a turn", binary, SEEN, SHIPS[:, ::-1, ::-1], "masks", "turned by 180 degrees"),
    Trial("a quarter", binary, SEEN, np.rot90(SHIPS, 1, (1, 2)), "masks", "rotated by 90"),
    Trial("of the image before", binary, SEEN, np.roll(SHIPS, 1, 0), "masks", "the image before"),
    Trial("of the next image", binary, SEEN, np.roll(SHIPS, -1, 0), "masks", "the next image"),
    Trial("shuffled", binary, SEEN, SHIPS[[2, 0, 1, 5, 3, 4, 7, 6]], "masks", "of another image"),
]


@named(MISPLACED)
def test_masks_that_lie_otherwise_than_their_predictions(trial: Trial):
    is_told(trial)


def test_both_ious_are_told():
    report = diagnose.run(binary, SEEN, TRANSPOSED)
    (found,) = of_probe(report, "masks")
    told = re.fullmatch(
        r"IoU with the predictions (.*) as they are, (.*) transposed", found.evidence
    )
    assert told
    assert float(told[1]) < 0.2
    assert float(told[2]) > 0.9
    assert "flat.reshape(width, height).T" in found.advice
    assert found.advice.startswith("labels.swapaxes(-1, -2)")


NOISE = np.random.default_rng(3).normal(size=SHIPS.shape).astype(np.float32)
DOTS = (np.arange(SHIPS.size).reshape(SHIPS.shape) % 613 == 0).astype(np.float32)
ROAD = np.zeros_like(FLOATS)
ROAD[:, 16:] = 1.0
SKY = (NOISE + 4.0 * (np.arange(24) < 8)[:, None]).astype(np.float32)
SOUND = [
    Trial("masks", binary, SEEN, FLOATS),
    Trial("masks of classes", of_ids, KINDS_SEEN, KINDS),
    Trial("untrained", binary, NOISE, FLOATS),
    Trial("few pixels", binary, NOISE, DOTS),
    Trial("one answer for all", binary, np.broadcast_to(SEEN[:1], SEEN.shape), FLOATS),
    Trial("symmetric masks", binary, SEEN, FLOATS * TRANSPOSED),
    Trial("a bias to the other side", binary, SKY, ROAD),
    Trial("images", lambda z, y: jnp.abs(z - y).mean(), SEEN, SEEN.swapaxes(1, 2)),
]


@named(SOUND)
def test_masks_that_lie_right_are_not_complained_of(trial: Trial):
    report = diagnose.run(trial.loss, trial.predictions, trial.labels)
    assert report.healthy, str(report)
    assert not of_probe(report, "masks"), str(report)


@pytest.mark.parametrize("number", [2, 4, 8])
def test_blurs_that_know_nothing_of_each_other_fit_by_no_turn(number: int):
    """Three hundred untrained models on masks of a few large objects."""
    for seed in range(100):
        seen, truth = np.random.default_rng(seed).normal(size=(2, number, 24, 24))
        waves = np.exp(-0.5 * (np.fft.fftfreq(24) * 2 * np.pi * 3) ** 2)
        low = waves[:, None] * waves
        blurred = [np.fft.ifft2(np.fft.fft2(each) * low).real for each in (seen, truth)]
        masks = blurred[1] > np.quantile(blurred[1], 0.9)
        two = _masks.decisions(blurred[0], masks)
        assert two is not None
        assert _masks.misplaced(*two) is None, seed
