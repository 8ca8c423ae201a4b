"""The nearest gallery images of every query, over galleries that come block by block."""
from __future__ import annotations

__all__ = [
    "METRICS", "GalleryRanking", "Matches", "candidate_distances", "pairwise_distances", "to_distance", "to_score", "unit",
]

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch.nn import functional as F

from torchreid_nas.errors import InputError, nearest
from torchreid_nas.features.feature_set import FeatureSet
from torchreid_nas.features.pairs import Images, counted_pairs

_Score = TypeVar("_Score", float, np.ndarray)
METRICS = ("euclidean", "cosine")
BLOCK_ENTRIES = 2**22
"""Distances that are in memory at once, roughly; 32 MiB of float64."""


def unit(features: torch.Tensor) -> torch.Tensor:
    """Return (N, D) features of length 1 in float64; distances near 0 keep their digits there."""
    return F.normalize(features.double())


def pairwise_distances(queries: torch.Tensor, gallery: torch.Tensor, metric: str = "euclidean") -> torch.Tensor:
    """Return the (Q, G) distances of features of length 1 in [0, 2].

    Args:
        queries: (Q, D), as :func:`unit` returns them.
        gallery: (G, D), likewise.
        metric: ``"euclidean"`` (not squared), or ``"cosine"``: 1 − cosine similarity, as torchreid's.

    Returns:
        (Q, G) float64.

    Raises:
        InputError: another metric.

    Example:
        >>> queries, gallery = unit(torch.tensor([[2.0, 0.0]])), unit(torch.tensor([[0.0, 3.0]]))
        >>> pairwise_distances(queries, gallery, "cosine").tolist()
        [[1.0]]
    """
    return _distances(queries @ gallery.T, metric)


def candidate_distances(queries: torch.Tensor, gallery: np.ndarray, rows: np.ndarray, metric: str = "euclidean") -> np.ndarray:
    """Return the distances of each query to candidates of its own, as :func:`pairwise_distances` computes them.

    Args:
        queries: (Q, D), as :func:`unit` returns them.
        gallery: (G, D) float32; only the candidates are read.
        rows: (Q, C) of the gallery.
        metric: see :func:`pairwise_distances`.

    Returns:
        (Q, C) float64.

    Raises:
        InputError: another metric.

    Example:
        >>> candidate_distances(unit(torch.eye(2)), np.eye(2, dtype=np.float32), np.array([[0], [0]]), "cosine").tolist()
        [[0.0], [1.0]]
    """
    chosen = unit(torch.from_numpy(gallery[rows.reshape(-1)])).view(*rows.shape, -1)
    return _distances(torch.einsum("qd,qcd->qc", queries, chosen), metric).numpy()


def _distances(similarities: torch.Tensor, metric: str) -> torch.Tensor:
    if metric not in METRICS:
        raise InputError(f'the metric "{metric}" is unknown, expected {" or ".join(METRICS)}{nearest(metric, METRICS)}')
    distances = (1 - similarities).clamp_(0, 2)
    return distances if metric == "cosine" else distances.mul_(2).sqrt_()


def to_score(distance: _Score, metric: str) -> _Score:
    """Return a distance, or an array of them, as people read it: cosine as similarity in [-1, 1], Euclidean as it is.

    >>> to_score(0.25, "cosine"), to_score(0.25, "euclidean")
    (0.75, 0.25)
    """
    return 1 - distance if metric == "cosine" else distance


def to_distance(score: float, metric: str) -> float:
    """The inverse of :func:`to_score`."""
    return to_score(score, metric)


@dataclass(frozen=True, eq=False)
class Matches:
    """The ranked list of every query.

    Attributes:
        queries: Q of them.
        paths: of each query's gallery images, nearest first; Q lists of at most ``top``.
        labels: of the same images.
        distances: of the same images.
        metric: of the distances; see :func:`pairwise_distances`.
        gallery_size: images of the gallery.
        gallery_identities: identities that occur in it.
        positives: of each query, how many images of its person count.
        counted: of each query, how many gallery images count.
        left_out: pairs of one image, and other pairs of one person by one camera, which do not count;
            see :func:`torchreid_nas.features.pairs.counted_pairs`.
        gallery_modality: the modality of the gallery, or ``""``.
    """

    queries: FeatureSet
    paths: list[list[str]]
    labels: list[list[str]]
    distances: list[list[float]]
    metric: str
    gallery_size: int
    gallery_identities: frozenset[str]
    positives: tuple[int, ...]
    counted: tuple[int, ...]
    left_out: tuple[int, int] = (0, 0)
    gallery_modality: str = ""

    @property
    def findable(self) -> tuple[bool, ...]:
        """Of each query, whether an image that counts shows its person."""
        return tuple(count > 0 for count in self.positives)

    def is_correct(self, query: int, rank: int) -> bool | None:
        """Whether query and gallery image at ``rank`` (0-based) show the same person; None where a label is missing."""
        labels = self.queries.labels[query], self.labels[query][rank]
        return labels[0] == labels[1] if all(labels) else None


class GalleryRanking:
    """Keeps the ``top`` nearest gallery images per query while the gallery passes by.

    Equal distances keep the order of the gallery, as in
    :func:`torchreid_nas.metrics.rank_queries`. Pairs that do not count
    (:func:`torchreid_nas.features.pairs.counted_pairs`) are in no list.

    Args:
        queries: Q features.
        top: length of the lists.
        metric: see :func:`pairwise_distances`.

    Raises:
        InputError: ``top`` below 1 or an unknown metric.

    Example:
        >>> import numpy as np
        >>> camids = np.array([-1, -1])
        >>> ranking = GalleryRanking(FeatureSet(torch.eye(2), ("q0", "q1"), ("7", "8"), camids), top=1)
        >>> ranking.add(FeatureSet(torch.eye(2), ("g0", "g1"), ("7", "7"), camids))
        >>> matches = ranking.result()
        >>> matches.paths, matches.findable
        ([['g0'], ['g1']], (True, False))
    """

    def __init__(self, queries: FeatureSet, top: int = 10, metric: str = "euclidean") -> None:
        if top < 1:
            raise InputError(f"the length of the ranked lists (top) is {top}, expected at least 1")
        self.queries, self.top, self.metric = queries, top, metric
        self._features = unit(queries.features)
        self._images = Images.of(queries)
        self._distances = torch.empty(len(queries), 0, dtype=torch.float64)
        self._columns = torch.empty(len(queries), 0, dtype=torch.int64)
        self._positives, self._counted = (np.zeros(len(queries), dtype=np.int64) for _ in range(2))
        self._left_out = np.zeros(2, dtype=np.int64)
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
        gallery, images = unit(block.features), Images.of(block)
        size = max(1, BLOCK_ENTRIES // max(1, len(self.queries)))
        for start in range(0, len(block), size):
            span = slice(start, start + size)
            same_image, same_person, counted = counted_pairs(self._images, images[span])
            self._positives += (same_person & counted).sum(axis=1)
            self._counted += counted.sum(axis=1)
            self._left_out += same_image.sum(), (~counted & ~same_image).sum()
            self._merge(gallery[span], len(self._paths) + start, torch.from_numpy(~counted))
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
        same_images, same_cameras = self._left_out.tolist()
        return Matches(
            self.queries, [[self._paths[column] for _, column in row] for row in kept],
            [[self._labels[column] for _, column in row] for row in kept],
            [[distance for distance, _ in row] for row in kept],
            self.metric, len(self._paths), frozenset(self._labels) - {""}, tuple(self._positives.tolist()),
            tuple(self._counted.tolist()), (same_images, same_cameras), self._modality,
        )

    def _merge(self, gallery: torch.Tensor, offset: int, left_out: torch.Tensor) -> None:
        distances = pairwise_distances(self._features, gallery, self.metric).masked_fill_(left_out, float("inf"))
        columns = _nearest_columns(distances, self.top)
        # Earlier images stand first, so that a stable sort keeps the order of the gallery.
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
