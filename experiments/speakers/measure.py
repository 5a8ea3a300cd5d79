"""What embeddings of speakers are worth who were never heard in training."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import diffmetrics as dm
from experiments.speakers import clustering

EER_METHOD = "interpolate"
TARGET_PRIOR = 0.01  # NIST's, with equal costs; normalised


FEW = 6  # segments of an utterance among which single ones are compared


def spread_evenly(x: np.ndarray, count: int) -> np.ndarray:
    """So many rows at most, from the first to the last."""
    return x[np.linspace(0, len(x) - 1, min(count, len(x))).astype(int)]


def same_pairs(speakers: np.ndarray) -> np.ndarray:
    """Whether pairs i < j are of one speaker, in the order of condensed distances."""
    i, j = np.triu_indices(len(speakers), 1)
    return speakers[i] == speakers[j]


def verify(embeddings: np.ndarray, speakers: np.ndarray) -> dict[str, Any]:
    """Equal error rate and detection cost over all pairs of utterances, and the curve's corners."""
    scores = -clustering.distances(embeddings).astype(np.float32)
    curve = dm.curve(scores, same_pairs(speakers))
    fpr, fnr, _ = (np.asarray(array) for array in dm.detection_error_curve(curve))
    # Both ends of every step: without the lower ones each miss would seem to last for a step more.
    level, steep = np.diff(fnr) == 0, np.diff(fpr) == 0
    straight = (level[1:] & level[:-1]) | (steep[1:] & steep[:-1])
    corners = np.union1d(np.flatnonzero(~straight) + 1, [0, len(fpr) - 1])
    return {
        "eer": float(dm.equal_error_rate(curve, method=EER_METHOD)),
        "min_dcf": float(dm.min_detection_cost(curve, target_prior=TARGET_PRIOR).value),
        "det": {"false_alarms": fpr[corners].tolist(), "misses": fnr[corners].tolist()},
    }


def tune_pairs(embeddings: np.ndarray, speakers: np.ndarray) -> float:
    """The score, minus a distance, above which two should be taken for one speaker."""
    scores = -clustering.distances(embeddings).astype(np.float32)
    fitted = dm.fit_threshold(scores, same_pairs(speakers), score=dm.balanced_accuracy)
    return float(fitted.threshold)


def pair_accuracy(embeddings: np.ndarray, speakers: np.ndarray, threshold: float) -> float:
    """Mean of the accuracies on same and on different pairs: chance is ½ however many there are."""
    scores = -clustering.distances(embeddings).astype(np.float32)
    return float(dm.balanced_accuracy(dm.counts(scores > threshold, same_pairs(speakers))))


def spread(embeddings: np.ndarray, speakers: np.ndarray) -> dict[str, float]:
    """Whether embeddings have collapsed: mean distances, and how many directions they use."""
    apart, same = clustering.distances(embeddings), same_pairs(speakers)
    return {
        "same": float(apart[same].mean()),
        "different": float(apart[~same].mean()),
        "effective_rank": effective_rank(embeddings),
    }


def effective_rank(embeddings: np.ndarray) -> float:
    """Exponential of the entropy of the spectrum (Roy and Vetterli, 2007), around the mean.

    1 if all lie on a line, D if they fill the space evenly; 0 if all are one point.
    """
    x = np.asarray(embeddings, np.float64)
    values = np.linalg.svd(x - x.mean(0), compute_uv=False)
    if values.sum() <= 1e-9 * max(np.abs(x).max(), 1e-30):
        return 0.0
    share = values / values.sum()
    share = share[share > 0]
    return float(np.exp(-np.sum(share * np.log(share))))


class Heard(NamedTuple):
    """Embeddings of what speakers have said."""

    utterances: np.ndarray
    """[n, D]: means over segments of embeddings at length 1."""
    speakers: np.ndarray
    """Ids [n]."""
    segments: np.ndarray
    """[m, D]: a few single segments of each utterance."""
    segment_speakers: np.ndarray
    """Ids [m]."""


def figures(dev: Heard, test: Heard) -> dict[str, Any]:
    """All figures of the test speakers, with every threshold from the development speakers.

    What the table does not show of them is a record.
    """
    result: dict[str, Any] = {}
    for linkage in clustering.LINKAGES:
        tree = clustering.grow(dev.utterances, linkage)
        tuned = clustering.best_cut(tree, dev.speakers).threshold
        result[linkage] = clustering.score_cuts(test.utterances, test.speakers, linkage, tuned)
    result |= verify(test.utterances, test.speakers)
    result["dev_eer"] = verify(dev.utterances, dev.speakers)["eer"]
    for name in ("utterances", "segments"):
        owners = "speakers" if name == "utterances" else "segment_speakers"
        (dev_x, dev_ids), (x, ids) = (
            (getattr(heard, name), getattr(heard, owners)) for heard in (dev, test)
        )
        result[f"accuracy_{name}"] = pair_accuracy(x, ids, tune_pairs(dev_x, dev_ids))
    return result | spread(test.utterances, test.speakers)
