"""One training of several networks side by side: what they train on, in a directory of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from experiments.shared import records, training
from experiments.text import vectors
from experiments.text.corpus import Corpus, Parts
from experiments.text.losses import LOSSES, OVERSAMPLED
from experiments.text.networks import Model, State, initialize, predict
from experiments.text.pipeline import plan
from experiments.text.settings import Settings
from experiments.text.words import Rows, Words, collect

# --- what is trained on ---------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Material:
    """Texts ready for several runs side by side: run r trains on ``parts[r]`` with ``seeds[r]``."""

    corpus: Corpus
    parts: Sequence[Parts]
    seeds: Sequence[int]
    words: Words
    rows: Rows
    vectors: np.ndarray
    """[R, V, D]; zeros where the variant starts without."""

    @property
    def prevalence(self) -> np.ndarray:
        """Share of the rare class in each run's training texts [R]."""
        return np.array([self.corpus.labels[part.train].mean() for part in self.parts])


def prepare(
    settings: Settings, found: Corpus, parts: Sequence[Parts], seeds: Sequence[int]
) -> Material:
    """Words and, where wanted, vectors, from each run's own training texts."""
    words, rows = collect(
        found.texts,
        [part.train for part in parts],
        length=settings.length,
        min_count=settings.min_count,
    )
    if settings.variant == "rand":
        tables = np.zeros((len(seeds), len(words.words), settings.size), np.float32)
    elif settings.vectors is not None:
        read, there = vectors.read_vectors(settings.vectors, [str(word) for word in words.words])
        tables = np.stack(
            [vectors.complete(read, there, np.random.default_rng(seed)) for seed in seeds]
        )
    else:
        tables = np.stack(
            [
                vectors.learn_vectors(ids[part.train], len(words.words), settings.size)
                for ids, part in zip(rows.ids, parts, strict=True)
            ]
        )
    return Material(found, parts, seeds, words, rows, tables)


def costs(settings: Settings, prevalence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a miss and a false alarm cost each run [R]; by default as much for either class."""
    alarm = np.full(len(prevalence), settings.alarm_cost)
    if settings.miss_cost is None:
        return alarm * (1.0 - prevalence) / prevalence, alarm
    return np.full(len(prevalence), settings.miss_cost), alarm


# --- a run ----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Trained:
    """Networks after training."""

    model: Model
    state: State
    words: Words

    def __call__(self, rows: Rows) -> np.ndarray:
        """Logits [R, n] of texts."""
        return predict(self.model, self.state, rows, self.words.edges)


def fit(
    settings: Settings,
    material: Material,
    loss: str,
    directory: Path,
    console: Console,
    *,
    resume: bool,
) -> Trained:
    """Train one loss, a network for each seed, in `directory`, or continue what is there.

    Args:
      settings: of the run.
      material: texts, parts and seeds.
      loss: by name.
      directory: for config, words, log and checkpoints.
      console: where progress is shown.
      resume: continue the run that is there.

    Raises:
      FileExistsError: if a run is there and `resume` is not set.
      ValueError: if the run there was made with other settings; they are named.
    """
    described = describe(settings, loss, material.seeds, material.vectors.shape[-1])
    records.claim(directory, described, resume=resume)
    material.words.save(directory / "words.npz")
    planned = plan(
        material.rows,
        material.corpus.labels,
        [part.train for part in material.parts],
        material.words.edges,
        seeds=material.seeds,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        oversample=loss in OVERSAMPLED,
    )
    steps = len(planned.schedule)
    shape = material.vectors.shape[1:]
    model, state = initialize(settings, shape, material.seeds, material.vectors, steps=steps)
    miss, alarm = costs(settings, material.prevalence)
    known = {"prevalence": material.prevalence, "miss": miss, "alarm": alarm}
    state["task"] = {
        "loss": jnp.asarray(list(LOSSES).index(loss), jnp.int32),
        "known": {name: jnp.asarray(value, jnp.float32) for name, value in known.items()},
    }
    runs = len(material.seeds)
    title = loss if runs == 1 else f"{loss}, {runs} runs"
    for step in training.train(
        model.update,
        state,
        planned.batches,
        directory,
        steps=steps,
        batch_size=settings.batch_size * runs,
        title=title,
        unit="texts",
        log_every=max(1, steps // 20),
        checkpoint_every=max(1, steps // 4),
        # One device: the gradients of the word vectors, which many would exchange in every step,
        # are larger than all else in it. Many processes are refused.
        devices=jax.devices()[:1],
        console=console,
    ):
        state = step.state
    return Trained(model, state, material.words)


def describe(settings: Settings, loss: str, seeds: Sequence[int], size: int) -> dict[str, Any]:
    """Everything that makes a run the run it is; the size of a vector may be its file's."""
    return {"loss": loss, "seeds": list(seeds), **dataclasses.asdict(settings), "size": size}


def load(directory: Path) -> tuple[Settings, str, list[int], Trained]:
    """A trained run: its settings, loss, seeds, and networks.

    Raises:
      FileNotFoundError: if there is no run or no checkpoint.
    """
    described = records.described(directory)
    loss, seeds = described.pop("loss"), described.pop("seeds")
    for name in ("data", "vectors"):
        described[name] = described[name] and Path(described[name])
    described["widths"] = tuple(described["widths"])
    settings = Settings(**described)
    words = Words.load(directory / "words.npz")
    model, state = initialize(settings, (len(words.words), settings.size), seeds)
    return settings, loss, seeds, Trained(model, training.restore(state, directory), words)
