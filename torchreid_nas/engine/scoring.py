"""From the features of a test to its figures: one function for an evaluation and for its verification."""
from __future__ import annotations

__all__ = ["ProtocolResult", "ProtocolTest", "ScoredFeatures", "result_lines", "results_that_count", "score_features"]

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from torchreid_nas.engine.distances import distance_matrix
from torchreid_nas.metrics import Protocol, QueryScores, RankingResult, average_results
from torchreid_nas.metrics.scores import computed_scores, find_score


@dataclasses.dataclass(frozen=True, eq=False)
class ProtocolTest:
    """One way in which a target is scored.

    Attributes:
        protocol: how distances become figures.
        galleries: per trial the positions of its gallery images, integers.
    """

    protocol: Protocol
    galleries: Sequence[np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class ScoredFeatures:
    """What a target's test scores, under all of its protocols.

    Attributes:
        dataset: name of the target.
        names: of the features; the last one counts.
        query: per name the features of the queries, (Q, D) float32.
        gallery: per name the features of the gallery, or of the pool that galleries are drawn from, (G, D) float32.
        q_pids, q_camids: (Q,) identities and cameras (0-based) of the queries.
        g_pids, g_camids: (G,) of the gallery.
        tests: protocols and galleries; the first one counts.
    """

    dataset: str
    names: Sequence[str]
    query: Sequence[torch.Tensor]
    gallery: Sequence[torch.Tensor]
    q_pids: np.ndarray
    q_camids: np.ndarray
    g_pids: np.ndarray
    g_camids: np.ndarray
    tests: Sequence[ProtocolTest]


@dataclasses.dataclass(frozen=True, eq=False)
class ProtocolResult:
    """What a test says of one target, protocol and feature.

    Attributes:
        dataset: name of the target.
        feature: name of the feature.
        test: protocol and galleries.
        trials: a result per gallery.
        queries: per gallery the scores of every query. Of a ``transposed`` protocol the queries are the images of the pool:
            those that a gallery does not hold do not count in its trial.
    """

    dataset: str
    feature: str
    test: ProtocolTest
    trials: Sequence[RankingResult]
    queries: Sequence[QueryScores]

    @functools.cached_property
    def mean(self) -> RankingResult:
        """The mean over the galleries."""
        return average_results(self.trials)[0]

    @functools.cached_property
    def std(self) -> dict[str, Any]:
        """The deviations over the galleries, see :func:`torchreid_nas.metrics.average_results`."""
        return average_results(self.trials)[1]


def score_features(
    scored: ScoredFeatures, metric: str, normalize: bool, rerank: bool, matrix_bytes: float, visrank: bool = False,
) -> tuple[list[ProtocolResult], np.ndarray | None]:
    """Score a target under its protocols, on all of their galleries.

    Args:
        scored: the features.
        metric: ``"euclidean"`` or ``"cosine"``.
        normalize: divide every feature by its length first.
        rerank: re-rank by k-reciprocal encoding, each drawn gallery by itself.
        matrix_bytes: the largest distance matrix to make; larger ones are ranked by blocks, re-ranked ones are a matrix in
            any case.
        visrank: whether pictures need the distance matrix of the whole pool.

    Returns:
        Results by protocol, then by feature. Then the distance matrix of the last feature, over the whole pool where
        galleries are drawn from one; None where it was ranked by blocks, or where drawn galleries were re-ranked and no
        pictures need the pool.
    """
    by_blocks = not rerank and 4 * len(scored.q_pids) * len(scored.g_pids) > matrix_bytes
    drawn_anew = any(len(test.galleries) > 1 for test in scored.tests)
    # Neighbours are of a gallery alone: the rest of the pool would tell what the protocol hides.
    apart = rerank and all(len(chosen) < len(scored.g_pids) for test in scored.tests for chosen in test.galleries)
    results: dict[tuple[int, int], ProtocolResult] = {}
    distmat = None
    for place, (name, query, gallery) in enumerate(zip(scored.names, scored.query, scored.gallery)):
        if by_blocks and normalize:
            query, gallery = F.normalize(query), F.normalize(gallery)
        if not by_blocks and (visrank or not apart):
            distmat = distance_matrix(query, gallery, metric, normalize, rerank, drawn_anew)
        for number, test in enumerate(scored.tests):
            trials = []
            for chosen in test.galleries:
                labels = scored.q_pids, scored.g_pids[chosen], scored.q_camids, scored.g_camids[chosen]
                if by_blocks:
                    trials.append(test.protocol.evaluate_features(query, gallery[chosen], *labels, metric=metric))
                    continue
                if distmat is None or rerank and len(chosen) < len(gallery):
                    drawn = distance_matrix(query, gallery[chosen], metric, normalize, rerank)
                else:
                    drawn = _columns(distmat, chosen)
                trials.append(test.protocol.evaluate(drawn, *labels))
            queries = [result.queries for result in trials if result.queries is not None]
            if test.protocol.transposed:
                queries = [_spread(one, chosen, len(gallery)) for one, chosen in zip(queries, test.galleries)]
            results[number, place] = ProtocolResult(scored.dataset, name, test, trials, queries)
    return [results[key] for key in sorted(results)], distmat


def result_lines(results: Sequence[ProtocolResult], ranks: Sequence[int]) -> list[str]:
    """Return a line per feature of a target with its main metrics, and with the protocol where there are several.

    Args:
        results: of one target.
        ranks: of the CMC that are shown.
    """
    several = len({result.test.protocol.name for result in results}) > 1
    lines = []
    for result in results:
        shown = [find_score(f"rank{rank}") for rank in ranks if rank <= len(result.mean.cmc)]
        shown += [score for score in computed_scores() if not score.key]
        said = "  ".join(f"{score.title} {score.value(result.mean):.1%}" for score in shown)
        lines.append(f"{result.test.protocol.label + ', ' if several else ''}{result.feature}:  {said}")
    return lines


def _spread(queries: QueryScores, chosen: np.ndarray, count: int) -> QueryScores:
    """Return scores of the images of a whole pool, of which those beside ``chosen`` do not count."""

    def over_pool(values: np.ndarray, empty: float) -> np.ndarray:
        whole = np.full(count, empty, dtype=values.dtype)
        whole[chosen] = values
        return whole

    values = {name: over_pool(own, np.nan) for name, own in queries.values.items()}
    return QueryScores(over_pool(queries.first, -1), over_pool(queries.positives, 0), queries.gallery, values)


def _columns(distmat: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return the chosen columns; all of them in their order without a copy."""
    if np.array_equal(chosen, np.arange(distmat.shape[1])):
        return distmat
    return distmat.T[chosen].T


def results_that_count(results: Sequence[ProtocolResult]) -> dict[str, dict[str, tuple[RankingResult, dict[str, Any]]]]:
    """Return per target and feature the mean over the galleries of the first protocol, the one that counts, and its deviation.

    Example:
        >>> results_that_count([])
        {}
    """
    found: dict[str, dict[str, tuple[RankingResult, dict[str, Any]]]] = {}
    for result in results:
        found.setdefault(result.dataset, {}).setdefault(result.feature, (result.mean, result.std))
    return found
