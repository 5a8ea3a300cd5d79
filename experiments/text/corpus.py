"""Labelled texts: readers whose errors name the file, the line and what was expected, and splits.

The texts themselves never appear in an error or a log: some corpora are made of insults.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Texts of two classes, of which the one to be found is called rare."""

    texts: list[str]
    labels: np.ndarray
    """Boolean [n]: whether a text is of the rare class."""
    classes: tuple[str, str]
    """Names of the common and of the rare class."""
    held_out: np.ndarray | None = None
    """Boolean [n]: the corpus's own test texts, if it has such."""
    posterior: np.ndarray | None = None
    """[n]: the true probability of the rare class, where the texts were generated."""
    skipped: tuple[tuple[str, str], ...] = ()
    """Where something was left out, and why."""

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.labels):
            raise ValueError(f"{len(self.texts)} texts have {len(self.labels)} labels")
        for name, count in zip(self.classes, (~self.labels, self.labels), strict=True):
            if not count.any():
                raise ValueError(
                    f"no text is labelled {name!r}: of {len(self.texts)} texts there must be some "
                    "of either class"
                )

    def __len__(self) -> int:
        return len(self.texts)


# --- readers --------------------------------------------------------------------------------------


def decode(path: Path) -> str:
    """The whole of a UTF-8 file, with or without a byte-order mark.

    Raises:
      ValueError: naming the line and the byte that is not UTF-8.
    """
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8; convert the "
            "file first, for instance with iconv -f latin1 -t utf-8"
        ) from None


def read_table(
    path: Path,
    *,
    text: str = "text",
    label: str = "label",
    rare: str | None = None,
    strict: bool = False,
) -> Corpus:
    """A CSV or TSV file with a header: one column of texts, one of labels.

    Cells of a CSV may be quoted and then hold commas, quotes and line breaks; in a TSV a quote is a
    character like any other. Rows without a text or a label are left out, and named.

    Args:
      path: file; a name that ends in .tsv or .tab is read as TSV.
      text: header of the column of texts.
      label: header of the column of labels.
      rare: label of the class to be found, all others being common; default: the less frequent of
        two.
      strict: raise for a row that would be left out.

    Raises:
      ValueError: for a file that is not UTF-8, has no such column, or not two classes.
    """
    rows = _rows(path, text, label)
    texts, found, skipped = [], [], []
    for line, cells in rows:
        for name, value in zip((text, label), cells, strict=True):
            if value is None or not value.strip():
                reason = "is missing" if value is None else "is empty"
                skipped.append((f"{path.name}, line {line}", f"column {name!r} {reason}"))
                if strict:
                    raise ValueError(f"{path}, line {line}: column {name!r} {reason}")
                break
        else:
            texts.append(cells[0])
            found.append((cells[1] or "").strip())
    labels, classes = _two_classes(found, rare, str(path))
    return Corpus(texts, labels, classes, skipped=tuple(skipped))


def _rows(path: Path, text: str, label: str) -> Iterable[tuple[int, tuple[str | None, str | None]]]:
    """The two columns of every row, with its line; None where the row ends before."""
    tabs = path.suffix.lower() in (".tsv", ".tab")
    source = io.StringIO(decode(path), newline="")
    reader = (
        csv.reader(source, delimiter="\t", quoting=csv.QUOTE_NONE) if tabs else csv.reader(source)
    )
    header = next(reader, None)
    if not header:
        raise ValueError(f"{path} is empty: expected a header with columns {text!r}, {label!r}")
    for name, option in ((text, "--text-column"), (label, "--label-column")):
        if name not in header:
            raise ValueError(
                f"{path} has no column {name!r}; it has {', '.join(map(repr, header[:20]))}. "
                f"Name it with {option}"
            )
    places = header.index(text), header.index(label)
    line = reader.line_num
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise ValueError(f"{path}, line {line}: {error}") from None
        if row is None:
            return
        if row:
            first, second = (row[k] if k < len(row) else None for k in places)
            yield line, (first, second)


def _two_classes(
    found: Sequence[str], rare: str | None, source: str
) -> tuple[np.ndarray, tuple[str, str]]:
    counted = Counter(found)
    listed = ", ".join(f"{name!r}: {n}" for name, n in counted.most_common(10))
    if rare is None:
        if len(counted) != 2:
            raise ValueError(
                f"{source} must have two labels, got {len(counted)} ({listed}); name the one to "
                "be found with --rare, and all others are the common class"
            )
        rare = counted.most_common()[1][0]
    if rare not in counted:
        raise ValueError(f"no text in {source} is labelled {rare!r}; there are {listed}")
    others = [name for name in counted if name != rare]
    common = others[0] if len(others) == 1 else f"not {rare}"
    return np.array([each == rare for each in found], bool), (common, rare)


def read_sms(path: Path) -> Corpus:
    """The SMS Spam Collection: lines of "ham" or "spam", a tab, a message (Almeida et al., 2011).

    A folder is taken to hold `sms_spam.tsv`.
    """
    path = path / "sms_spam.tsv" if path.is_dir() else path
    texts, labels = [], []
    for number, line in enumerate(decode(path).split("\n"), 1):
        if line:
            label, tab, message = line.rstrip("\r").partition("\t")
            if not tab or label not in ("ham", "spam"):
                raise ValueError(f"{path}, line {number}: expected ham or spam, a tab, a message")
            texts.append(message)
            labels.append(label == "spam")
    return Corpus(texts, np.array(labels, bool), ("ham", "spam"))


def read_reviews(folder: Path) -> Corpus:
    """MR, sentences of film reviews: `rt-polarity.pos` and `rt-polarity.neg` (Pang and Lee, 2005).

    They are Latin-1 and hold a character that `str.splitlines` takes for the end of a line.
    """
    parts = []
    for name in ("rt-polarity.neg", "rt-polarity.pos"):
        lines = (folder / name).read_text("latin-1").split("\n")
        parts.append([line.strip() for line in lines if line.strip()])
    labels = np.repeat([False, True], [len(part) for part in parts])
    return Corpus(parts[0] + parts[1], labels, ("negative", "positive"))


def read_olid(folder: Path) -> Corpus:
    """OLID level A, offensive or not, with its official test set (Zampieri et al., 2019)."""
    train = list(_rows(folder / "olid-training-v1.0.tsv", "tweet", "subtask_a"))
    test = {
        number: tweet for _, (tweet, number) in _rows(folder / "testset-levela.tsv", "tweet", "id")
    }
    answers = [row for row in csv.reader(io.StringIO(decode(folder / "labels-levela.csv"))) if row][
        1:
    ]
    unknown = [number for number, _ in answers if number not in test]
    if unknown or len(answers) != len(test):
        raise ValueError(
            f"{folder}: testset-levela.tsv has {len(test)} tweets and labels-levela.csv "
            f"{len(answers)} labels, {len(unknown)} of them of no tweet there"
        )
    texts = [tweet or "" for _, (tweet, _) in train] + [test[number] or "" for number, _ in answers]
    names = [label for _, (_, label) in train] + [label for _, label in answers]
    labels, classes = _two_classes([name or "" for name in names], "OFF", str(folder))
    held_out = np.arange(len(texts)) >= len(train)
    return Corpus(texts, labels, classes, held_out=held_out)


# --- parts ----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Parts:
    """Indices of the texts that a run learns from, is tuned on, and is judged on."""

    train: np.ndarray
    dev: np.ndarray
    test: np.ndarray


def _groups(corpus: Corpus) -> np.ndarray:
    """A number for every text, the same for texts that differ in case or spaces only."""
    plain = [" ".join(text.casefold().split()) for text in corpus.texts]
    return np.unique(np.array(plain, object), return_inverse=True)[1]


def _ranks(corpus: Corpus, members: np.ndarray, seed: int) -> np.ndarray:
    """Numbers in [0, 1) for `members`, evenly spread in either class, equal for equal texts.

    What lies below s is a random share s of each class.
    """
    groups = _groups(corpus)[members]
    first = np.unique(groups, return_index=True)[1]
    ranks = np.empty(len(first))
    rng = np.random.default_rng(seed)
    for value in (False, True):
        of = np.flatnonzero(corpus.labels[members][first] == value)
        ranks[rng.permutation(of)] = np.arange(len(of)) / max(1, len(of))
    return ranks[np.unique(groups, return_inverse=True)[1]]


def split(corpus: Corpus, seed: int, *, dev_share: float = 0.1, test_share: float = 0.2) -> Parts:
    """Divide at random, either class alike; texts that occur twice stay in one part.

    Where the corpus has its own test texts these are the test, and the rest is divided.

    Raises:
      ValueError: if a part would lack a class.
    """
    if corpus.held_out is None:
        rest, test_share_of_rest = np.arange(len(corpus)), test_share
        test = np.array([], int)
    else:
        rest, test_share_of_rest = np.flatnonzero(~corpus.held_out), 0.0
        test = np.flatnonzero(corpus.held_out)
    ranks = _ranks(corpus, rest, seed)
    tested = ranks < test_share_of_rest
    tuned = ~tested & (ranks < test_share_of_rest + dev_share * (1.0 - test_share_of_rest))
    test = test if test.size else rest[tested]
    parts = Parts(rest[~tested & ~tuned], rest[tuned], test)
    for name, part in dataclasses.asdict(parts).items():
        for value, called in enumerate(corpus.classes):
            if not np.any(corpus.labels[part] == value):
                raise ValueError(
                    f"the {name} part of {len(part)} texts has none of class {called!r}; "
                    "give more texts or larger shares"
                )
    return parts


def folds(corpus: Corpus, number: int, seed: int) -> list[Parts]:
    """Parts of a `number`-fold cross-validation; each tests on a fold and trains on the others.

    There is no dev part: nothing is tuned.
    """
    if number < 2:
        raise ValueError(f"folds must be at least 2, got {number}")
    fold = np.floor(_ranks(corpus, np.arange(len(corpus)), seed) * number)
    nothing = np.array([], int)
    return [
        Parts(np.flatnonzero(fold != k), nothing, np.flatnonzero(fold == k)) for k in range(number)
    ]
