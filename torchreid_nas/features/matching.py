"""The nearest gallery images of every query, over galleries that come block by block."""
from __future__ import annotations

__all__ = ["METRICS", "GalleryRanking", "Matches", "pairwise_distances", "to_distance", "to_score", "unit"]

import os
from collections import Counter
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from torchreid_nas.errors import InputError, nearest
from torchreid_nas.features.feature_set import FeatureSet

METRICS = ("euclidean", "cosine")
BLOCK_ENTRIES = 2**22
"""Distances that are in memory at once, roughly; 32 MiB of float64."""


def unit(features: torch.Tensor) -> torch.Tensor:
    """Return (N, D) features of length 1 in float64, in which distances near 0 keep their digits."""
    return F.normalize(features.double())


def pairwise_distances(queries: torch.Tensor, gallery: torch.Tensor, metric: str = "euclidean") -> torch.Tensor:
    """Return the (Q, G) distances of features of length 1 in [0, 2].

    Args:
        queries, gallery: (Q, D) and (G, D), as :func:`unit` returns them.
        metric: ``"euclidean"`` (not squared), or ``"cosine"``: 1 − cosine similarity, as torchreid's.

    Raises:
        InputError: another metric.
    """
    if metric not in METRICS:
        raise InputError(f'the metric "{metric}" is unknown, expected {" or ".join(METRICS)}{nearest(metric, METRICS)}')
    distances = (1 - queries @ gallery.T).clamp_(0, 2)
    return distances if metric == "cosine" else distances.mul_(2).sqrt_()


def to_score(distance: float, metric: str) -> float:
    """Return a distance as people read it: cosine as similarity in [-1, 1], Euclidean as it is."""
    return 1 - distance if metric == "cosine" else distance


def to_distance(score: float, metric: str) -> float:
    """The inverse of :func:`to_score`."""
    return to_score(score, metric)


@dataclass(frozen=True, eq=False)
class Matches:
    """The ranked list of every query.

    Attributes:
        queries: Q of them.
        paths, labels: of each query's gallery images, nearest first; Q lists of
            at most ``top``.
        distances: of these, Q lists.
        metric: of the distances; see :func:`pairwise_distances`.
        gallery_size: images of the gallery.
        gallery_identities: identities that occur in it.
        findable: of each query, whether another image of the gallery shows its person.
        gallery_modality: its modality, or ``""``.
    """

    queries: FeatureSet
    paths: list[list[str]]
    labels: list[list[str]]
    distances: list[list[float]]
    metric: str
    gallery_size: int
    gallery_identities: frozenset[str]
    findable: tuple[bool, ...]
    gallery_modality: str = ""

    def is_correct(self, query: int, rank: int) -> bool | None:
        """Whether query and gallery image at ``rank`` (0-based) show the same person; None where a label is missing."""
        labels = self.queries.labels[query], self.labels[query][rank]
        return labels[0] == labels[1] if all(labels) else None


class GalleryRanking:
    """Keeps the ``top`` nearest gallery images per query while the gallery passes by.

    Equal distances keep the order of the gallery, as in
    :func:`torchreid_nas.metrics.rank_queries`. An image is never ranked for
    itself: gallery images with the path of the query are left out.

    Args:
        queries: Q features.
        top: length of the lists.
        metric: see :func:`pairwise_distances`.

    Raises:
        InputError: ``top`` below 1 or an unknown metric.
    """

    def __init__(self, queries: FeatureSet, top: int = 10, metric: str = "euclidean") -> None:
        if top < 1:
            raise InputError(f"the length of the ranked lists (top) is {top}, expected at least 1")
        self.queries, self.top, self.metric = queries, top, metric
        self._features = unit(queries.features)
        self._rows: dict[str, list[int]] = {}
        for row, path in enumerate(queries.paths):
            self._rows.setdefault(os.path.abspath(path), []).append(row)
        self._itself: Counter[int] = Counter()
        self._distances = torch.empty(len(queries), 0, dtype=torch.float64)
        self._columns = torch.empty(len(queries), 0, dtype=torch.int64)
        self._paths: list[str] = []
        self._labels: list[str] = []
        self._modality = ""

    def add(self, block: FeatureSet) -> None:
        """Rank the next images of the gallery.

        Raises:
            InputError: their features are of another length than the queries'.
        """
        if block.features.shape[1] != self._features.shape[1]:
            raise InputError(
                f"the gallery has features of length {block.features.shape[1]} and the queries of length "
                f"{self._features.shape[1]}; extract both with the same model"
            )
        gallery = unit(block.features)
        itself = [
            (row, column) for column, path in enumerate(block.paths)
            for row in self._rows.get(os.path.abspath(path), ())
        ]
        self._itself.update(row for row, column in itself if block.labels[column] == self.queries.labels[row])
        size = max(1, BLOCK_ENTRIES // max(1, len(self.queries)))
        for start in range(0, len(block), size):
            self._merge(gallery[start:start + size], len(self._paths) + start, [
                (row, column - start) for row, column in itself if start <= column < start + size
            ])
        self._paths += block.paths
        self._labels += block.labels
        self._modality = block.modality

    def result(self) -> Matches:
        """Return the lists.

        Raises:
            InputError: the gallery was empty.
        """
        if not self._paths:
            raise InputError("the gallery is empty; give at least one image to rank")
        kept = [
            [(distance, column) for distance, column in zip(distances, columns) if distance != float("inf")]
            for distances, columns in zip(self._distances.tolist(), self._columns.tolist())
        ]
        images = Counter(self._labels)
        findable = tuple(
            bool(label) and images[label] > self._itself[row] for row, label in enumerate(self.queries.labels)
        )
        return Matches(
            self.queries, [[self._paths[column] for _, column in row] for row in kept],
            [[self._labels[column] for _, column in row] for row in kept],
            [[distance for distance, _ in row] for row in kept],
            self.metric, len(self._paths), frozenset(self._labels) - {""}, findable, self._modality,
        )

    def _merge(self, gallery: torch.Tensor, offset: int, itself: list[tuple[int, int]]) -> None:
        distances = pairwise_distances(self._features, gallery, self.metric)
        for row, column in itself:
            distances[row, column] = float("inf")
        columns = _nearest_columns(distances, self.top)
        # What came earlier stands first, so that a stable sort keeps the order of the gallery.
        merged = torch.cat([self._distances, distances.gather(1, columns)], dim=1)
        order = merged.argsort(dim=1, stable=True)[:, :self.top]
        self._columns = torch.cat([self._columns, columns + offset], dim=1).gather(1, order)
        self._distances = merged.gather(1, order)


def _nearest_columns(distances: torch.Tensor, count: int) -> torch.Tensor:
    """Return for each row the columns of its ``count`` smallest entries, ascending; the first columns among equals."""
    if count >= distances.shape[1]:
        return torch.arange(distances.shape[1]).expand(len(distances), -1)
    values, columns = distances.topk(count, dim=1, largest=False)
    # topk takes any of equal entries: where more are equal to the last than fit, a stable sort decides.
    tied = (distances <= values[:, -1:]).sum(dim=1) > count
    columns[tied] = distances[tied].argsort(dim=1, stable=True)[:, :count]
    return columns.sort(dim=1).values
