"""The settings of a run, and the texts that they name."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from rich.console import Console

from experiments.text import corpus, messages
from experiments.text.corpus import Corpus
from experiments.text.textcnn import Variant


@dataclasses.dataclass(frozen=True)
class Settings:
    """What makes two runs the same run."""

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
    variant: Variant = "multichannel"
    """Kim's: random vectors; given ones, frozen or trained; or two channels of them, one frozen."""
    vectors: Path | None = None
    """Word vectors, word2vec's binary or GloVe's text; without, learnt from the training texts."""
    size: int = 100
    """Numbers in a word's vector; a file of vectors decides itself."""
    widths: tuple[int, ...] = (3, 4, 5)
    """Words that a filter sees."""
    maps: int = 100
    """Filters of each width."""
    dropout: float = 0.5
    """Share of the features that a training step leaves out."""
    max_norm: float = 3.0
    """Largest Euclidean norm of the last layer's weights."""
    length: int = 64
    """Longer texts are cut."""
    min_count: int = 2
    """A word that the training texts have less often is unknown."""
    batch_size: int = 50
    """Texts in a step."""
    epochs: int = 3
    """How often a training text is seen."""
    optimizer: Literal["adam", "adadelta"] = "adam"
    """Adam, or Kim's Adadelta (decay 0.95), at whose learning rate of 1 it takes many epochs."""
    learning_rate: float = 2e-3
    """At the beginning; it falls to zero along a line."""

    def __post_init__(self) -> None:
        least = {"size": 1, "maps": 1, "length": 1, "min_count": 1, "batch_size": 1, "epochs": 1}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ValueError(f"{name} must be at least {value}, got {getattr(self, name)}")
        for name in ("learning_rate", "alarm_cost", "max_norm"):
            if getattr(self, name) <= 0.0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.miss_cost is not None and self.miss_cost <= 0.0:
            raise ValueError(f"miss_cost must be above 0, got {self.miss_cost}")
        for name in ("dev_share", "test_share", "dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths must be positive, got {self.widths}")


def open_corpus(settings: Settings, console: Console) -> Corpus:
    """The texts that the settings name, with a word on what was left out."""
    if settings.data is None:
        return messages.generate(settings.messages)
    if settings.layout == "table":
        found = corpus.read_table(
            settings.data,
            text=settings.text_column,
            label=settings.label_column,
            rare=settings.rare,
            strict=settings.strict,
        )
    else:
        readers = {"sms": corpus.read_sms, "mr": corpus.read_reviews, "olid": corpus.read_olid}
        found = readers[settings.layout](settings.data)
    console.print(
        f"{len(found)} texts in {settings.data}, {found.labels.mean():.1%} of them "
        f"{found.classes[1]!r}",
        markup=False,
    )
    for where, reason in found.skipped[:5]:
        console.print(f"  left out: {where}: {reason}", style="yellow", markup=False)
    if found.skipped:
        console.print(f"  left out {len(found.skipped)} rows in all", style="yellow")
    return found


NAMES = {"sms": "SMS spam", "mr": "MR", "olid": "OLID"}


def name_corpus(settings: Settings) -> str:
    """What a title calls the texts."""
    if settings.data is None:
        return f"{settings.messages:,} generated messages"
    return NAMES.get(settings.layout, settings.data.name)
