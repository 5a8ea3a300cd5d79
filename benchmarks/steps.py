"""The training steps of three experiments, with all that they take, on batches made up for them.

Each function returns ``(step, state, batch)``: ``step(state, batch)`` is the experiment's own
update, ``(state, loss)``, and may be compiled for a device that is not here. Pixels, words and
sounds are noise, because time does not depend on them; only words are as frequent as in language.

What `dtype` means is what people mean by it. Parameters and optimiser are float32. The U-Net's
activations are of this type, as its own setting makes them; the other two networks multiply
matrices of this type and add up in float32, and all else in them stays float32: PyTorch's autocast.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.ships import experiment as of_ships
from experiments.speakers import experiment as of_speakers, features
from experiments.text import experiment as of_text
from experiments.text.losses import make_task

SHIPS_LOSS, SPEAKERS_LOSS = "dice", "angular-margin"
# Of products of matrices. Without a word an accelerator would round float32 to ten bits or seven.
PRECISION = {"float32": "highest", "bfloat16": "BF16_BF16_F32"}
WORDS, QUICK_WORDS = 20_000, 2_000


class Training(NamedTuple):
    """A step, and what it is called with."""

    step: Callable[[Any, Any], tuple[Any, jax.Array]]
    state: Any
    batch: dict[str, jax.Array]


def ships_settings(dtype: Any, *, quick: bool = False) -> of_ships.Settings:
    """A U-Net of 7.8 million parameters, or of its first 0.1."""
    if quick:
        return of_ships.Settings(dtype=dtype, width=8, depth=3, crop=64, batch_size=4)
    return of_ships.Settings(dtype=dtype, width=32, depth=4, crop=256, batch_size=32)


def text_settings(*, quick: bool = False) -> of_text.Settings:
    """Kim's network on more texts at once than his 50, so that an accelerator has work."""
    if quick:
        return of_text.Settings(length=24, dtype="float32")
    return of_text.Settings(size=300, length=64, batch_size=512, dtype="float32")


def speakers_settings(*, quick: bool = False) -> of_speakers.Settings:
    """The dilated network at the width of an x-vector, on segments of two seconds."""
    if quick:
        return of_speakers.Settings()
    return of_speakers.Settings(train_speakers=1_000, width=512, frames=200, batch_speakers=64)


def ships(dtype: str = "bfloat16", *, quick: bool = False) -> Training:
    """Augmentation, U-Net, soft Dice, Adam."""
    settings = ships_settings(dtype, quick=quick)
    graph, state = of_ships.initialize(settings, 0)
    update = functools.partial(of_ships.make_update(graph, settings, SHIPS_LOSS), jnp.uint32(0))
    rng, shape = np.random.default_rng(0), (settings.batch_size, settings.crop, settings.crop)
    image, mask = rng.integers(0, 256, (*shape, 3), np.uint8), rng.random(shape) < 0.02
    # Its convolutions have their type from the arrays, and know no other precision than the best.
    precise = update if dtype == "bfloat16" else with_products(update, dtype)
    return Training(precise, state, {"image": jnp.asarray(image), "mask": jnp.asarray(mask)})


def text(dtype: str = "bfloat16", *, quick: bool = False) -> Training:
    """Two channels of word vectors, cross-entropy, Adam, the last layer's norm kept small."""
    settings, words = text_settings(quick=quick), QUICK_WORDS if quick else WORDS
    rng, shape = np.random.default_rng(0), (1, settings.batch_size, settings.length)
    tables = rng.uniform(-0.25, 0.25, (1, words, settings.size)).astype(np.float32)
    tables[:, 0] = 0.0
    model, state = of_text.initialize(settings, tables, range(1), steps=10_000)
    lengths = rng.integers(settings.length // 2, settings.length + 1, shape[:2])
    ids = np.minimum(2 + rng.zipf(1.3, shape), words - 1)
    ids = np.where(np.arange(settings.length) < lengths[..., None], ids, 0).astype(np.int32)
    labels = (rng.random(shape[:2]) < 0.25).astype(np.float32)
    batch = {"ids": jnp.asarray(ids), "labels": jnp.asarray(labels)}
    update = model.update_with("cross-entropy", make_task(np.full(1, 0.25), None, 1.0))
    return Training(with_products(update, dtype), state, batch)


def speakers(dtype: str = "bfloat16", *, quick: bool = False) -> Training:
    """Dilated time-delay network, angular margin, Adam on clipped gradients."""
    settings = speakers_settings(quick=quick)
    rng, shape = np.random.default_rng(0), (settings.batch_size, settings.frames, features.BANDS)
    scale = {"mean": np.zeros(features.BANDS), "deviation": np.ones(features.BANDS)}
    scale = {name: x.astype(np.float32) for name, x in scale.items()}
    graph, state = of_speakers.initialize(settings, 0, scale)
    update = of_speakers.make_update(graph, settings, SPEAKERS_LOSS)
    voices = rng.choice(settings.voices, settings.batch_speakers, replace=False)
    batch = {
        "segments": jnp.asarray(rng.standard_normal(shape, np.float32)),
        "speakers": jnp.asarray(voices.repeat(settings.batch_segments), jnp.int32),
    }
    return Training(with_products(update, dtype), state, batch)


STEPS: dict[str, Callable[..., Training]] = {"ships": ships, "text": text, "speakers": speakers}


def with_products(update: Callable[..., Any], dtype: str) -> Callable[..., Any]:
    """The step with products of matrices, and convolutions, in `dtype`."""

    def step(state: Any, batch: Any) -> Any:
        with jax.default_matmul_precision(PRECISION[dtype]):
            return update(state, batch)

    return step
