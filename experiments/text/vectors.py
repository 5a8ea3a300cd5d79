"""Word vectors: read from files of word2vec and GloVe, or learnt from the training texts."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import svds

from experiments.text.words import FIRST, PAD

# A uniform on ±0.25 has this deviation; so have Kim's vectors of words that word2vec does not know.
SPREAD = 0.25 / np.sqrt(3.0)
WINDOW = 5  # how far apart two words may stand that count as neighbours


def read_vectors(path: Path, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of those `words` that a file has: word2vec binary or text, or GloVe text.

    Args:
      path: file; which format it is, its first bytes tell.
      words: V words; a file's words are compared as they are, then in lower case.

    Returns:
      Vectors [V, D], zero where there is none, and boolean [V]: where there is one.

    Raises:
      ValueError: for a file that is cut or malformed, naming where, or that has none of the words.
    """
    wanted = {word: k for k, word in enumerate(words)}
    found, exact, vectors = np.zeros(len(words), bool), np.zeros(len(words), bool), None
    for word, vector in _read(path):
        if vectors is None:
            vectors = np.zeros((len(words), len(vector)), np.float32)
        k = wanted.get(word)
        place = wanted.get(word.lower()) if k is None else k
        # The word itself is better than the same word in capitals, whichever comes first.
        if place is not None and (k is not None or not found[place]) and not exact[place]:
            vectors[place], found[place], exact[place] = vector, True, k is not None
    if vectors is None or not found.any():
        raise ValueError(f"{path} has a vector for none of the {len(words)} words of the texts")
    return vectors, found


def size_of(path: Path) -> int:
    """How many numbers a vector in a file has.

    Raises:
      ValueError: if there is none, or the first one cannot be read.
    """
    for _, vector in _read(path):
        return len(vector)
    raise ValueError(f"{path} holds no word vectors")


def _read(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The words and vectors of a file, one after the other."""
    with path.open("rb") as file:
        if not file.read(1):
            raise ValueError(f"{path} is empty: expected word vectors")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield from _read_either(path, content)


def _read_either(path: Path, content: mmap.mmap) -> Iterator[tuple[str, np.ndarray]]:
    end = content.find(b"\n")
    first = content[: end if end >= 0 else len(content)]
    header = re.fullmatch(rb"\s*(\d+) (\d+)\s*", first)
    if not header:
        yield from _read_text(path, content, 0, len(first.split()) - 1)
        return
    number, size = int(header[1]), int(header[2])
    after = content[end + 1 : max(end + 1, content.find(b"\n", end + 1))].split()
    if len(after) == size + 1 and all(map(_is_number, after[1:])):
        yield from _read_text(path, content, end + 1, size)
    else:
        yield from _read_binary(path, content, end + 1, number, size)


def _read_text(
    path: Path, content: mmap.mmap, start: int, size: int
) -> Iterator[tuple[str, np.ndarray]]:
    if size < 1:
        raise ValueError(f"{path}: expected word vectors: on each line a word and numbers")
    content.seek(start)
    for number, line in enumerate(iter(content.readline, b""), 1 + (start > 0)):
        cells = line.rstrip().split(b" ")
        if len(cells) <= size:
            raise ValueError(
                f"{path}, line {number}: expected a word and {size} numbers, got {len(cells)} cells"
            )
        # A few of GloVe's words contain spaces: the numbers are the last cells.
        try:
            vector = np.array(cells[-size:], np.float32)
        except ValueError:
            raise ValueError(f"{path}, line {number}: expected {size} numbers") from None
        yield b" ".join(cells[:-size]).decode(errors="replace"), vector


def _read_binary(
    path: Path, content: mmap.mmap, start: int, number: int, size: int
) -> Iterator[tuple[str, np.ndarray]]:
    place, width = start, 4 * size
    for k in range(number):
        space = content.find(b" ", place)
        if space < 0 or space + 1 + width > len(content):
            raise ValueError(f"{path} ends within vector {k + 1} of {number}: is it complete?")
        word = content[place:space].lstrip(b"\n").decode(errors="replace")
        yield word, np.frombuffer(content[space + 1 : space + 1 + width], "<f4")
        place = space + 1 + width


def _is_number(cell: bytes) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def complete(vectors: np.ndarray, found: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw what is missing, uniformly, with the deviation of what is there (Kim, 2014)."""
    limit = np.sqrt(3.0) * vectors[found].std()
    drawn = rng.uniform(-limit, limit, vectors.shape)
    result = np.where(found[:, None], vectors, drawn).astype(np.float32)
    result[PAD] = 0.0
    return result


def learn_vectors(ids: np.ndarray, words: int, size: int) -> np.ndarray:
    """Vectors of words from the words beside which they stand: PPMI, then an SVD.

    Counts within `WINDOW` become positive pointwise mutual information, contexts smoothed by a
    power of 0.75; the largest singular vectors are scaled by the root of their value. Skip-gram
    factorises nearly the same matrix (Levy, Goldberg and Dagan, TACL 3, 2015).

    Args:
      ids: [n, L] words of the training texts, 0 after the end. Labels play no part.
      words: how many words there are, V.
      size: numbers in a vector, D; those beyond the rank are 0.

    Returns:
      float32 [V, D] with the deviation `SPREAD`; zero for words that do not occur.
    """
    pairs = []
    for apart in range(1, min(WINDOW, ids.shape[1] - 1) + 1):
        left, right = ids[:, :-apart].ravel(), ids[:, apart:].ravel()
        both = (left >= FIRST) & (right >= FIRST)
        pairs.append((left[both], right[both]))
    left, right = (np.concatenate([pair[k] for pair in pairs]) for k in (0, 1))
    counted = sp.coo_array((np.ones(len(left)), (left, right)), shape=(words, words)).tocsr()
    counted = sp.coo_array(counted + counted.T)
    if counted.nnz == 0:
        raise ValueError("no two known words stand together in the training texts: lower min_count")
    row, column = counted.coords
    mass = np.bincount(row, counted.data, minlength=words)
    context = mass**0.75
    context /= context.sum()
    information = np.log(counted.data / (mass[row] * context[column]))
    positive = information > 0
    matrix = sp.csr_array(
        (information[positive].astype(np.float32), (row[positive], column[positive])),
        shape=(words, words),
    )
    rank = min(size, words - 1, max(1, matrix.nnz - 1))
    # A given start makes the result the same on every call. Single precision has the values to six
    # digits, in less than half the time.
    start = np.random.default_rng(0).normal(size=words).astype(np.float32)
    u, s, _ = svds(matrix, k=rank, v0=start, tol=1e-2)  # pyright: ignore[reportArgumentType]
    vectors = np.zeros((words, size), np.float32)
    vectors[:, :rank] = (u * np.sqrt(s))[:, ::-1]
    vectors[mass == 0] = 0.0
    return vectors * np.float32(SPREAD / max(vectors[mass > 0].std(), 1e-12))
