"""The problem: texts of two classes, how they are divided, what is known of their words."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np
from rich.console import Console

from experiments.shared import commands
from experiments.shared.settings import require_within
from experiments.text import corpus, measure, messages, vectors
from experiments.text.corpus import Corpus, Parts
from experiments.text.losses import Task, make_task
from experiments.text.words import Rows, Words, collect

READERS = {"sms": corpus.read_sms, "mr": corpus.read_reviews, "olid": corpus.read_olid}
NAMES = {"sms": "SMS spam", "mr": "MR", "olid": "OLID"}


@dataclasses.dataclass(frozen=True)
class Texts:
    """Settings of the texts, and of what they become."""

    data: Path | None = None
    """File or folder of texts; without it messages are generated."""
    layout: Literal["table", "sms", "mr", "olid"] = "table"
    """Any CSV or TSV file with a header, or one of the public corpora in its own files."""
    text_column: str = "text"
    """Header of the column of texts, for a table."""
    label_column: str = "label"
    """Header of the column of labels, for a table."""
    rare: str | None = None
    """Label of the class to be found, for a table; default: the less frequent of two."""
    strict: bool = False
    """Stop at the first row without a text or label instead of leaving it out."""
    messages: int = 3000
    """How many messages to generate, in all three parts together."""
    dev_share: float = 0.1
    """Share of the training texts on which thresholds are tuned."""
    test_share: float = 0.2
    """Share of all texts that is tested on, unless the corpus has test texts of its own."""
    miss_cost: float | None = None
    """Cost of a rare text that is not found; default: the odds of the common class in training."""
    alarm_cost: float = 1.0
    """Cost of a common text that is taken for rare."""
    vectors: Path | None = None
    """Word vectors, word2vec's binary or GloVe's text; without, learnt from the training texts."""
    size: int = 100
    """Numbers in a word's vector; a file of vectors decides itself."""
    length: int = 64
    """Longer texts are cut."""
    min_count: int = 2
    """A word that the training texts have less often is unknown."""

    def __post_init__(self) -> None:
        require_within(self, dev_share="[0, 1)", test_share="[0, 1)")
        require_within(self, miss_cost="(0, inf)", alarm_cost="(0, inf)")
        require_within(self, **dict.fromkeys(("size", "length", "min_count"), "[1, inf)"))

    @property
    def name(self) -> str:
        """What a title calls the texts."""
        if self.data is None:
            return f"{self.messages:,} generated messages"
        return NAMES.get(self.layout, self.data.name)


Settings = TypeVar("Settings", bound=Texts)


def open_texts(settings: Settings, console: Console) -> tuple[Settings, Corpus]:
    """The texts that the settings name, and the settings with the size of a file of vectors."""
    if settings.vectors is not None:
        settings = dataclasses.replace(settings, size=vectors.size_of(settings.vectors))
    if settings.data is None:
        return settings, messages.generate(settings.messages)
    if settings.layout in READERS:
        texts = READERS[settings.layout](settings.data)
    else:
        texts = corpus.read_table(
            settings.data,
            text=settings.text_column,
            label=settings.label_column,
            rare=settings.rare,
            strict=settings.strict,
        )
    console.print(
        f"{len(texts)} texts in {settings.data}, {texts.labels.mean():.1%} of them "
        f"{texts.classes[1]!r}",
        markup=False,
    )
    commands.tell_left_out(texts.skipped, console)
    return settings, texts


class Problem(NamedTuple, Generic[Settings]):
    """Networks side by side and their texts: network r has seed r and parts r."""

    settings: Settings
    corpus: Corpus
    seeds: list[int]
    parts: list[Parts]

    @property
    def task(self) -> Task:
        """What a loss knows of each network's training texts."""
        share = np.array([self.corpus.labels[part.train].mean() for part in self.parts])
        return make_task(share, self.settings.miss_cost, self.settings.alarm_cost)

    def describe(self, method: str) -> dict[str, Any]:
        """Everything that makes a run the run it is."""
        return {"loss": method, "seeds": self.seeds, **dataclasses.asdict(self.settings)}

    def directory(self, out: Path, method: str) -> Path:
        """Where the result of a method lies in a folder of many."""
        return out / f"{method.replace(', ', '-').lower()}-{self.seeds[0]}"

    def judge(self, logits: np.ndarray, probabilities: bool = True) -> list[dict[str, Any]]:
        """All figures of each network, from logits [R, n] of all texts."""
        labels, (_, miss, alarm) = self.corpus.labels, self.task
        logits = np.asarray(logits, np.float32)
        return measure.judge(logits, labels, self.parts, miss, alarm, probabilities=probabilities)


def pose(settings: Settings, texts: Corpus, seeds: Sequence[int]) -> Problem[Settings]:
    """Divide the texts anew for each seed."""
    shares = {"dev_share": settings.dev_share, "test_share": settings.test_share}
    parts = [corpus.split(texts, seed, **shares) for seed in seeds]
    return Problem(settings, texts, list(seeds), parts)


class Material(NamedTuple):
    """The texts as each network knows them, and the vectors [R, V, D] of its words."""

    words: Words
    rows: Rows
    vectors: np.ndarray


def prepare(problem: Problem[Any], *, with_vectors: bool) -> Material:
    """Words and vectors, from each network's own training texts: a split leaks nothing.

    Without vectors zeros take their place.
    """
    settings, train = problem.settings, [part.train for part in problem.parts]
    words, rows = collect(
        problem.corpus.texts, train, length=settings.length, min_count=settings.min_count
    )
    shape = len(words.words), settings.size
    if not with_vectors:
        tables = [np.zeros(shape, np.float32) for _ in train]
    elif settings.vectors is None:
        own = [ids[part] for ids, part in zip(rows.ids, train, strict=True)]
        tables = [vectors.learn_vectors(ids, *shape) for ids in own]
    else:
        read, there = vectors.read_vectors(settings.vectors, [str(word) for word in words.words])
        rngs = map(np.random.default_rng, problem.seeds)
        tables = [vectors.complete(read, there, rng) for rng in rngs]
    return Material(words, rows, np.stack(tables))
