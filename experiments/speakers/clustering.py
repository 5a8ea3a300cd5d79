"""Utterances into speakers: hierarchical clustering of embeddings, and how wrong it is.

All functions take embeddings, never a matrix of distances. SciPy takes a square one for a list of
points without a word, and clusters the rows of distances instead (a warning at most); on real
speech that doubles the error.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from scipy.cluster import hierarchy
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import pdist
from sklearn.metrics import adjusted_rand_score
from sklearn.metrics.cluster import contingency_matrix

Linkage = Literal["complete", "average"]
LINKAGES: tuple[Linkage, ...] = ("complete", "average")


def grow(embeddings: np.ndarray, linkage: Linkage) -> np.ndarray:
    """The tree of merges of embeddings [n, D] by cosine distance, as SciPy has it."""
    if embeddings.ndim != 2 or len(embeddings) < 2:
        raise ValueError(f"embeddings must be [n, D] with n of two or more, got {embeddings.shape}")
    return hierarchy.linkage(distances(embeddings), linkage)


def distances(embeddings: np.ndarray) -> np.ndarray:
    """Cosine distances of all pairs i < j, condensed [n (n - 1) / 2]."""
    apart = pdist(np.asarray(embeddings, np.float64), "cosine")
    return np.clip(np.nan_to_num(apart, nan=1.0), 0.0, 2.0)  # an embedding of 0 is near nothing


def cut(tree: np.ndarray, threshold: float) -> np.ndarray:
    """A cluster for each utterance; those merged at a distance up to `threshold` are one."""
    return hierarchy.fcluster(tree, threshold, "distance")


def cut_into(tree: np.ndarray, clusters: int) -> np.ndarray:
    """A cluster for each utterance, so many in all."""
    return hierarchy.cut_tree(tree, clusters)[:, 0]


def misclassification_rate(clusters: np.ndarray, speakers: np.ndarray) -> float:
    """Share of the utterances that are not in the one cluster that belongs to their speaker.

    Each speaker owns at most one cluster and each cluster at most one speaker, assigned so that the
    fewest utterances are wrong, exactly, by the Hungarian method (Kotti et al., 2008; published
    code assigns greedily). All utterances alone is not all wrong: with two for each speaker, 0.5.
    """
    table = np.asarray(contingency_matrix(speakers, clusters))
    chosen = linear_sum_assignment(table, maximize=True)
    return float(1.0 - table[chosen].sum() / table.sum())


def average_cluster_purity(clusters: np.ndarray, speakers: np.ndarray) -> float:
    """Mean over utterances of the share of their cluster's pairs that are of one speaker."""
    table = np.asarray(contingency_matrix(speakers, clusters), float)
    return float((np.square(table).sum(0) / table.sum(0)).sum() / table.sum())


class Cut(NamedTuple):
    error: float
    threshold: float


def best_cut(tree: np.ndarray, speakers: np.ndarray) -> Cut:
    """The least misclassification rate over all thresholds, and the middle one of those with it.

    On the utterances that are judged this is what papers report; on others it is tuning.
    """
    heights = np.unique(tree[:, 2])
    between = 0.5 * (heights[1:] + heights[:-1])
    tried = np.concatenate([[0.5 * heights[0]], between, [heights[-1] + 1e-6]])
    errors = np.array([misclassification_rate(cut(tree, t), speakers) for t in tried])
    best = np.flatnonzero(errors == errors.min())
    return Cut(float(errors.min()), float(tried[best[len(best) // 2]]))


def score_cuts(
    embeddings: np.ndarray, speakers: np.ndarray, linkage: Linkage, threshold: float
) -> dict[str, float]:
    """Clusterings at the best cut, at a threshold found on other speakers, at the known number."""
    tree = grow(embeddings, linkage)
    tuned, known = cut(tree, threshold), cut_into(tree, len(np.unique(speakers)))
    return {
        "mr_best": best_cut(tree, speakers).error,
        "mr_tuned": misclassification_rate(tuned, speakers),
        "mr_known": misclassification_rate(known, speakers),
        "ari_tuned": float(adjusted_rand_score(speakers, tuned)),
        "acp_tuned": average_cluster_purity(tuned, speakers),
        "threshold": threshold,
    }
