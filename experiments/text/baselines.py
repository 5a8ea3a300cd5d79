"""What needs no network: TF-IDF with a linear classifier, from scikit-learn."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.svm import LinearSVC

from experiments.text.corpus import Corpus, Parts
from experiments.text.data import Problem
from experiments.text.words import tokens

LOGISTIC, SVM = "TF-IDF, logistic", "TF-IDF, SVM"
# The SVM's margins are no probabilities.
PROBABILITIES = {LOGISTIC: True, SVM: False}


def terms(text: str) -> list[str]:
    """Words, and pairs of neighbours."""
    words = tokens(text)
    return words + [f"{a} {b}" for a, b in itertools.pairwise(words)]


def make(name: str) -> Pipeline:
    """Words and pairs of words, logarithmic counts, and a linear classifier."""
    classifiers: dict[str, Any] = {
        LOGISTIC: LogisticRegression(C=10.0, max_iter=1000),
        SVM: LinearSVC(random_state=0),
    }
    features = TfidfVectorizer(analyzer=cast("Any", terms), sublinear_tf=True)
    return Pipeline([("features", features), ("classifier", classifiers[name])])


def train_and_judge(name: str, problem: Problem[Any], _: Path) -> dict[str, Any]:
    """The figures of a model for each seed."""
    margins = logits(name, problem.corpus, problem.parts)
    return {"runs": problem.judge(margins, probabilities=PROBABILITIES[name])}


def logits(name: str, corpus: Corpus, parts: Sequence[Parts]) -> np.ndarray:
    """Log-odds or margins [R, n] of all texts, of a model for each run's training texts."""
    rows = []
    for part in parts:
        model = make(name).fit(
            [corpus.texts[k] for k in part.train], corpus.labels[part.train].tolist()
        )
        rows.append(model.decision_function(corpus.texts))
    return np.stack(rows)
