"""From the features of a test to its figures: one function for an evaluation and for its verification."""
from __future__ import annotations

__all__ = ["ScoredFeatures", "score_features"]

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from torchreid_nas.engine.distances import distance_matrix
from torchreid_nas.metrics import Protocol, RankingResult


@dataclasses.dataclass(frozen=True, eq=False)
class ScoredFeatures:
    """What a target's test scores.

    Attributes:
        dataset: name of the target.
        names: of the features; the last one counts.
        query: per name the features of the queries, (Q, D) float32.
        gallery: per name the features of the gallery, or of the pool that galleries are drawn from, (G, D) float32.
        q_pids, q_camids: (Q,) identities and cameras (0-based) of the queries.
        g_pids, g_camids: (G,) of the gallery.
        protocol: how distances become figures.
        galleries: per trial the positions of its gallery images, integers.
    """

    dataset: str
    names: Sequence[str]
    query: Sequence[torch.Tensor]
    gallery: Sequence[torch.Tensor]
    q_pids: np.ndarray
    q_camids: np.ndarray
    g_pids: np.ndarray
    g_camids: np.ndarray
    protocol: Protocol
    galleries: Sequence[np.ndarray]


def score_features(
    test: ScoredFeatures, metric: str, normalize: bool, rerank: bool, matrix_bytes: float, visrank: bool = False,
) -> tuple[dict[str, list[RankingResult]], np.ndarray | None]:
    """Score a target under its protocol, on all of its galleries.

    Args:
        test: the features.
        metric: ``"euclidean"`` or ``"cosine"``.
        normalize: divide every feature by its length first.
        rerank: re-rank by k-reciprocal encoding, each drawn gallery by itself.
        matrix_bytes: the largest distance matrix to make; larger ones are ranked by blocks, re-ranked ones are a matrix in
            any case.
        visrank: whether pictures need the distance matrix of the whole pool.

    Returns:
        Results per feature and trial. Then the distance matrix of the last feature, over the whole pool where galleries are
        drawn from one; None where it was ranked by blocks, or where drawn galleries were re-ranked and no pictures need
        the pool.
    """
    by_blocks = not rerank and 4 * len(test.q_pids) * len(test.g_pids) > matrix_bytes
    # Neighbours are of a gallery alone: the rest of the pool would tell what the protocol hides.
    apart = rerank and all(len(chosen) < len(test.g_pids) for chosen in test.galleries)
    results: dict[str, list[RankingResult]] = {}
    distmat = None
    for name, query, gallery in zip(test.names, test.query, test.gallery):
        if by_blocks:
            if normalize:
                query, gallery = F.normalize(query), F.normalize(gallery)
            results[name] = [
                test.protocol.evaluate_features(
                    query, gallery[chosen], test.q_pids, test.g_pids[chosen], test.q_camids, test.g_camids[chosen], metric=metric
                )
                for chosen in test.galleries
            ]
            continue
        if visrank or not apart:
            distmat = distance_matrix(query, gallery, metric, normalize, rerank, len(test.galleries) > 1)
        results[name] = []
        for chosen in test.galleries:
            if distmat is None or rerank and len(chosen) < len(gallery):
                drawn = distance_matrix(query, gallery[chosen], metric, normalize, rerank)
            else:
                drawn = _columns(distmat, chosen)
            results[name].append(
                test.protocol.evaluate(drawn, test.q_pids, test.g_pids[chosen], test.q_camids, test.g_camids[chosen])
            )
    return results, distmat


def _columns(distmat: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return the chosen columns; all of them in their order without a copy."""
    if np.array_equal(chosen, np.arange(distmat.shape[1])):
        return distmat
    return distmat.T[chosen].T
