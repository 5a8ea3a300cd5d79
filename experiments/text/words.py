"""From texts to rows of word ids of a few static lengths."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

PAD, UNKNOWN = 0, 1
FIRST = 2  # the first id that is a word

NEGATION = re.compile(r"n't\b")
TOKEN = re.compile(r"n't|'(?:s|re|ve|ll|d|m)\b|@\w+|[^\W_]+|[^\w\s]|_")
LINK = re.compile(r"(?:https?://|www\.)\S+")


def tokens(text: str) -> list[str]:
    """Lower-case words, contractions apart, marks and emoji one by one, every digit a 0.

    In the manner of Kim's `clean_str`. Links become "url"; a number keeps how long it is.
    """
    plain = LINK.sub(" url ", text.lower().replace("\u2019", "'"))
    return TOKEN.findall(NEGATION.sub(" n't", re.sub(r"\d", "0", plain)))


@dataclasses.dataclass(frozen=True)
class Words:
    """What runs that are trained side by side know: one list of words, known or not to each run.

    A run knows the words of its own training texts, so that a split leaks nothing.
    """

    words: np.ndarray
    """Strings [V]; the first two stand for padding and for an unknown word."""
    known: np.ndarray
    """Boolean [R, V]."""
    edges: np.ndarray
    """Lengths [K] to one of which a text is padded, rising; what is longer is cut."""

    def rows(self, texts: Sequence[str]) -> Rows:
        """Word ids of texts, for each run."""
        ids = {word: k for k, word in enumerate(self.words)}
        for special in (PAD, UNKNOWN):
            del ids[str(self.words[special])]
        return encode(texts, ids, int(self.edges[-1])).seen_by(self.known)

    def save(self, path: Path) -> None:
        """Write them to an .npz file, making its folder."""
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, words=self.words, known=self.known, edges=self.edges)

    @classmethod
    def load(cls, path: Path) -> Words:
        """Read what `save` has written."""
        with np.load(path) as stored:
            return cls(stored["words"], stored["known"], stored["edges"])


@dataclasses.dataclass(frozen=True)
class Rows:
    """Word ids of texts."""

    ids: np.ndarray
    """int32 [n, L] or [R, n, L], 0 after the end of a text."""
    lengths: np.ndarray
    """[n]; a text without a word has one, unknown."""

    def seen_by(self, known: np.ndarray) -> Rows:
        """The same texts for each run, words that it does not know being unknown.

        Args:
          known: boolean [R, V].
        """
        return Rows(np.where(known[:, self.ids], self.ids, np.int32(UNKNOWN)), self.lengths)


def encode(texts: Sequence[str], ids: dict[str, int], length: int) -> Rows:
    """Ids of the first `length` words of each text."""
    padded = np.zeros((len(texts), length), np.int32)
    lengths = np.empty(len(texts), np.int64)
    for row, text in enumerate(texts):
        known = [ids.get(token, UNKNOWN) for token in tokens(text)[:length]] or [UNKNOWN]
        padded[row, : len(known)] = known
        lengths[row] = len(known)
    return Rows(padded, lengths)


def collect(
    texts: Sequence[str],
    train: Sequence[np.ndarray],
    *,
    length: int,
    min_count: int,
) -> tuple[Words, Rows]:
    """The words of some training sets, and all texts in their ids.

    Args:
      texts: all of them.
      train: for each run the indices of its training texts.
      length: longer texts are cut.
      min_count: a run knows a word that its training texts have so often.

    Raises:
      ValueError: if no word is that frequent.
    """
    own = [texts[int(k)] for k in np.unique(np.concatenate(train))]
    seen = sorted({token for text in own for token in tokens(text)})
    ids = {word: k for k, word in enumerate(seen, FIRST)}
    rows = encode(texts, ids, length)
    counted = np.stack(
        [np.bincount(rows.ids[part].ravel(), minlength=len(seen) + FIRST) for part in train]
    )
    known = counted >= min_count
    known[:, :FIRST] = True
    kept = known.any(0)
    if kept.sum() == FIRST:
        raise ValueError(f"no word occurs min_count = {min_count} times in the training texts")
    renumber = np.where(kept, np.cumsum(kept) - 1, UNKNOWN).astype(np.int32)
    edges = _edges(rows.lengths[np.unique(np.concatenate(train))])
    listed = np.array(["<pad>", "<unknown>", *seen])[kept]
    rows = Rows(renumber[rows.ids][:, : edges[-1]], np.minimum(rows.lengths, edges[-1]))
    known = known[:, kept]
    return Words(listed, known, edges), rows.seen_by(known)


def _edges(lengths: np.ndarray) -> np.ndarray:
    """Up to four lengths that share the texts out, multiples of 4, the last holding the longest."""
    wanted = np.quantile(lengths, [0.3, 0.6, 0.9, 1.0], method="higher")
    return np.unique(4 * np.ceil(wanted / 4).astype(int))
