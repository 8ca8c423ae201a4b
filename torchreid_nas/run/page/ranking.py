"""What the features of a test say beyond its figures: ranked lists, whom the network takes for whom, distances of pairs."""
from __future__ import annotations

__all__ = ["Rankings", "Side", "pair_histograms", "rank_sample"]

import dataclasses
from collections import Counter

import numpy as np
import torch

from torchreid_nas.engine.distances import distances
from torchreid_nas.engine.scoring import ScoredFeatures
from torchreid_nas.errors import InputError
from torchreid_nas.features.feature_set import FeatureSet
from torchreid_nas.features.threshold import ROC, compute_roc
from torchreid_nas.metrics.skipping import skipped_images

_TOP = 8
_MOST_PAIRS = 2**25  # distances of a sample
_MOST_IMAGES = 2000  # per side, of the pairs of the histograms
_BINS = 48

Side = tuple[torch.Tensor, np.ndarray, np.ndarray]
"""Features (N, D), identities (N,) and cameras (N,) of one side of the pairs."""


@dataclasses.dataclass(frozen=True, eq=False)
class Rankings:
    """The first gallery images of some queries.

    Attributes:
        queries: (N,) places among the queries, ascending.
        nearest: (N, K) places in the gallery, nearest first; -1 where a query has fewer images to rank.
        right: (N, K) bool, whether they show the person of the query.
        whole: whether these are all queries.
    """

    queries: np.ndarray
    nearest: np.ndarray
    right: np.ndarray
    whole: bool

    def confused(self, q_pids: np.ndarray, g_pids: np.ndarray) -> list[tuple[tuple[int, int], int, int]]:
        """Return pairs (person, whom the network takes the person for), how often, and a row that shows it; most often first."""
        wrong = np.flatnonzero((self.nearest[:, 0] >= 0) & ~self.right[:, 0])
        pairs = {row: (int(q_pids[self.queries[row]]), int(g_pids[self.nearest[row, 0]])) for row in wrong.tolist()}
        counts = Counter(pairs.values())
        firsts = {pair: row for row, pair in reversed(pairs.items())}
        return [(pair, count, firsts[pair]) for pair, count in sorted(counts.items(), key=lambda one: (-one[1], one[0]))]


def rank_sample(scored: ScoredFeatures, metric: str, normalize: bool) -> Rankings:
    """Return the ranked lists of the first gallery of a test, of all queries or, of a large test, of a sample.

    Args:
        scored: a target whose first protocol is not ``transposed``.
        metric: as of the test.
        normalize: likewise.
    """
    test = scored.tests[0]
    chosen = np.asarray(test.galleries[0])
    query, gallery = scored.query[-1], scored.gallery[-1][torch.from_numpy(chosen)]
    count = min(len(query), max(64, _MOST_PAIRS // len(gallery)))
    rows = np.arange(len(query))
    if count < len(query):
        rows = np.sort(np.random.default_rng(0).choice(rows, count, replace=False))
    nearest = []
    for part in np.array_split(rows, max(1, len(rows) * len(gallery) // 2**22)):
        matrix = distances(query[torch.from_numpy(part)], gallery, metric, normalize).numpy()
        labels = scored.q_pids[part], scored.g_pids[chosen], scored.q_camids[part], scored.g_camids[chosen]
        matrix = np.where(skipped_images(test.protocol, *labels), np.inf, matrix)
        order = np.argsort(matrix, axis=1, kind="stable")[:, :_TOP]
        far = ~np.isfinite(np.take_along_axis(matrix, order, axis=1))
        nearest.append(np.where(far, -1, chosen[order]))
    found = np.concatenate(nearest)
    right = (scored.g_pids[found] == scored.q_pids[rows][:, None]) & (found >= 0)
    return Rankings(rows, found, right, len(rows) == len(query))


def pair_histograms(left: Side, right: Side | None) -> tuple[ROC, np.ndarray, np.ndarray, np.ndarray]:
    """Return the pairs of images by their distance, and two histograms: edges, same person, different persons.

    The distances are Euclidean, of features of length 1. Of many images a sample counts.

    Args:
        left: one side; cameras of -1 are unknown, so that all pairs count.
        right: the other side; None for the pairs within ``left``.

    Raises:
        InputError: there is no pair of the same person, or none of different persons.
    """
    roc = compute_roc(_feature_set(*left, "q"), None if right is None else _feature_set(*right, "g"))
    counts = np.stack([roc.genuine, roc.impostor])
    places = np.flatnonzero(counts.sum(axis=0))
    scale = 2 / (counts.shape[1] - 1)
    edges = np.linspace(max(0.0, places[0] * scale - 0.02), min(2.0, places[-1] * scale + 0.02), _BINS + 1)
    same, different = (
        np.histogram(places * scale, edges, weights=row[places])[0] / row.sum() for row in counts
    )
    return roc, edges, same, different


def _feature_set(features: torch.Tensor, pids: np.ndarray, camids: np.ndarray, name: str) -> FeatureSet:
    if not bool(features.isfinite().all()):
        raise InputError("Features of the test are not finite, so that no distances are shown.")
    chosen = np.arange(len(pids))
    if len(chosen) > _MOST_IMAGES:
        # Whole identities, so that pairs of the same person are left.
        people = np.random.default_rng(0).permutation(np.unique(pids))
        sizes = np.cumsum([int((pids == person).sum()) for person in people])
        chosen = np.flatnonzero(np.isin(pids, people[: max(2, int((sizes <= _MOST_IMAGES).sum()))]))
    names = tuple(f"{name}{place}" for place in chosen.tolist())
    return FeatureSet(
        features[torch.from_numpy(chosen)], names, tuple(str(pid) for pid in pids[chosen].tolist()), camids[chosen], files=names,
    )
