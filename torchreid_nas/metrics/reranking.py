"""Re-ranking by k-reciprocal encoding from features or from distances, in blocks: no matrix of all pairs ever exists."""
from __future__ import annotations

__all__ = ["re_rank_features", "re_ranking"]

from typing import Any, Protocol

import numpy as np
import torch
from scipy.sparse import csr_array
from torch.nn import functional as F

from torchreid_nas.errors import InputError
from torchreid_nas.metrics.blocks import blocks
from torchreid_nas.metrics.inputs import as_features, as_float, as_tensor, check_metric, common_part
from torchreid_nas.metrics.k_reciprocal import encode, nearest

BLOCK_BYTES = 128 * 2**20
"""Bound on a block of distances, and on the working memory of the other steps, roughly."""

_PAIR_COPIES = 8  # arrays as large as the expanded lists that are alive at once


def re_rank_features(
    query: torch.Tensor | np.ndarray, gallery: torch.Tensor | np.ndarray, k1: int = 20, k2: int = 6,
    lambda_value: float = 0.3, metric: str = "euclidean", out: np.ndarray | None = None,
) -> np.ndarray:
    """Re-rank by k-reciprocal encoding, from features.

    Zhong et al., "Re-ranking Person Re-identification with k-reciprocal
    Encoding", CVPR 2017.

    All N = Q + G images are encoded by their reciprocal neighbours
    (:func:`~torchreid_nas.metrics.k_reciprocal.encode`); the result is
    (1 - λ) Jaccard distance + λ original distance (equation 12).

    The numbers are those of ``torchreid.utils.re_ranking`` to rounding. As
    there, the distances given are squared (torchreid's "euclidean" are squares
    already) and divided by the largest of their image; neighbours include the
    image itself; the half lists have ``np.around(k1 / 2) + 1`` entries. It
    works in float32, as this does; the float16 of the paper's own code is in
    neither. Tied neighbours keep the order queries, then gallery, where
    torchreid's depend on an unstable sort, and on ties that its division makes
    of distances next to each other: there single entries may differ by more.

    Memory beyond features and result: N lists of max(k1 + 1, k2) neighbours,
    the sparse vectors, and blocks of ``BLOCK_BYTES``.

    Args:
        query: (Q, D) features, a tensor or a NumPy array (a memory map is read
            into memory); float32 or float64, half precision is read as float32.
            Distances are computed on their device, the rest on the CPU.
        gallery: (G, D) features of the same dtype and device.
        k1: neighbours that reciprocal sets are sought among, as in the paper.
        k2: neighbours that a vector is averaged over, as in the paper.
        lambda_value: λ, the share of the original distance, as in the paper.
        metric: "euclidean" (squared) or "cosine", as in torchreid.
        out: (Q, G) float32 array to write into, e.g. an ``np.memmap``; by default a new one.

    Returns:
        (Q, G) float32 distances; ``out`` where it was given.

    Raises:
        InputError: shapes, dtypes or parameters do not fit, or a feature or the square of a distance is not finite.

    Example:
        >>> query, gallery = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.1, 0.0], [3.0, 0.0], [0.0, 0.2]])
        >>> re_rank_features(query, gallery, k1=2, k2=1).argsort().tolist()
        [[0, 2, 1]]
    """
    query, gallery = as_features(query, gallery)
    check_metric(metric)
    features = torch.cat([query.detach(), gallery.detach()])
    if not features.is_floating_point() or not torch.stack(features.aminmax()).isfinite().all():
        raise InputError(
            "the features to re-rank are not all finite floating-point numbers; check the model, which may have diverged"
        )
    return _re_rank(_OfFeatures(features, metric), len(query), k1, k2, lambda_value, out)


def re_ranking(
    q_g_dist: Any, q_q_dist: Any, g_g_dist: Any, k1: int = 20, k2: int = 6, lambda_value: float = 0.3,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Re-rank as :func:`re_rank_features` does, from distances; takes the place of ``torchreid.utils.re_ranking``.

    Args:
        q_g_dist: (Q, G) distances, NumPy or torch.
        q_q_dist: (Q, Q) distances.
        g_g_dist: (G, G) distances.
        k1: see :func:`re_rank_features`.
        k2: see :func:`re_rank_features`.
        lambda_value: see :func:`re_rank_features`.
        out: see :func:`re_rank_features`.

    Returns:
        (Q, G) float32 distances.

    Raises:
        InputError: shapes or parameters do not fit, or a distance is not finite.

    Example:
        >>> re_ranking([[0.1, 3.0]], [[0.0]], [[0.0, 2.0], [2.0, 0.0]], k1=1, k2=1).argsort().tolist()
        [[0, 1]]
    """
    # NumPy, which looks up single distances, knows no bfloat16.
    parts = [as_float(as_tensor("the distances are", part).detach().cpu()) for part in (q_g_dist, q_q_dist, g_g_dist)]
    shapes = [tuple(part.shape) for part in parts]
    if len(shapes[0]) != 2 or 0 in shapes[0] or shapes[1:] != [(size, size) for size in shapes[0]]:
        raise InputError(
            f"q_g_dist, q_q_dist and g_g_dist have shapes {', '.join(map(str, shapes))}, expected (Q, G), (Q, Q) and (G, G)"
        )
    return _re_rank(_OfMatrices(*parts), shapes[0][0], k1, k2, lambda_value, out)


class _Distances(Protocol):
    """Squares of the distances of all images, queries first."""

    count: int

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Return those of some images to all, (stop - start, N); the caller may write into it."""

    def pairs(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Return those of pairs of images."""


class _OfFeatures:
    def __init__(self, features: torch.Tensor, metric: str) -> None:
        features = as_float(features)
        self.count = len(features)
        self._cosine = metric == "cosine"
        common = common_part(features, metric)
        features = features if common is None else features - common
        self._features = F.normalize(features) if self._cosine else features
        self._lengths = self._features.square().sum(dim=1)

    def rows(self, start: int, stop: int) -> torch.Tensor:
        left = self._features[start:stop]
        if self._cosine:
            return (1 - left @ self._features.T).square_()
        sums = self._lengths[start:stop, None] + self._lengths
        return sums.addmm_(left, self._features.T, alpha=-2).square_()

    def pairs(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        step = max(1, BLOCK_BYTES // (4 * self._features.shape[1] * self._features.element_size()))
        squares = np.empty(len(left), dtype=np.float32)
        for start in range(0, len(left), step):
            part = slice(start, start + step)
            a, b = (torch.from_numpy(images[part]).to(self._features.device) for images in (left, right))
            products = torch.linalg.vecdot(self._features.index_select(0, a), self._features.index_select(0, b))
            distances = 1 - products if self._cosine else self._lengths[a] + self._lengths[b] - 2 * products
            squares[part] = distances.square_().float().cpu().numpy()
        return squares


class _OfMatrices:
    def __init__(self, between: torch.Tensor, queries: torch.Tensor, gallery: torch.Tensor) -> None:
        self._between, self._queries, self._gallery = between, queries, gallery
        self._split = len(queries)
        self.count = len(queries) + len(gallery)

    def rows(self, start: int, stop: int) -> torch.Tensor:
        parts = []
        if start < self._split:
            rows = slice(start, min(stop, self._split))
            parts.append(torch.cat([self._queries[rows], self._between[rows]], dim=1))
        if stop > self._split:
            rows = slice(max(start - self._split, 0), stop - self._split)
            parts.append(torch.cat([self._between[:, rows].T, self._gallery[rows]], dim=1))
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).float().square_()

    def pairs(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        between, queries, gallery = (part.numpy() for part in (self._between, self._queries, self._gallery))
        split = self._split
        distances = np.empty(len(left), dtype=np.float32)
        for matrix, of, (rows, from_row), (columns, from_column) in (
            (queries, (left < split) & (right < split), (left, 0), (right, 0)),
            (between, (left < split) & (right >= split), (left, 0), (right, split)),
            (between, (left >= split) & (right < split), (right, 0), (left, split)),
            (gallery, (left >= split) & (right >= split), (left, split), (right, split)),
        ):
            distances[of] = matrix[rows[of] - from_row, columns[of] - from_column]
        return np.square(distances)


def _re_rank(
    distances: _Distances, num_queries: int, k1: int, k2: int, lambda_value: float, out: np.ndarray | None,
) -> np.ndarray:
    count = distances.count
    for name, value in (("k1", k1), ("k2", k2)):
        if value < 1:
            raise InputError(f"{name} is {value}, expected at least 1; the paper's are k1 = 20 and k2 = 6")
    shape = (num_queries, count - num_queries)
    if out is None:
        out = np.empty(shape, dtype=np.float32)
    elif out.shape != shape or out.dtype != np.float32:
        raise InputError(f"out has shape {out.shape} and dtype {out.dtype}, expected {shape} and float32")
    neighbours = np.empty((count, min(max(k1 + 1, k2), count)), dtype=np.int32)
    scaled = np.empty(neighbours.shape, dtype=np.float32)
    largest = np.empty((count, 1), dtype=np.float32)
    rows = max(1, BLOCK_BYTES // (2 * 4 * count))
    for span in blocks(count, rows, "re-ranking"):
        start, stop = span.start, span.stop
        block = distances.rows(start, stop)
        largest[start:stop] = block.amax(dim=1, keepdim=True).clamp_(min=torch.finfo(torch.float32).tiny).cpu()
        if not np.isfinite(largest[start:stop]).all():
            raise InputError(
                "the square of a distance to re-rank is not a finite number of float32; check the features, which may come "
                "from a diverged model"
            )
        smallest, neighbours[start:stop] = nearest(block, neighbours.shape[1])
        scaled[start:stop] = smallest / largest[start:stop]
        if start < num_queries:
            queries = slice(start, min(stop, num_queries))
            shown = block[: queries.stop - start, num_queries:].float().cpu().numpy()
            np.multiply(shown, lambda_value / largest[queries], out=out[queries])
    vectors = encode(
        neighbours, scaled, lambda left, right: distances.pairs(left, right) / largest[left, 0], k1, k2
    )
    _add_jaccard(vectors, num_queries, 1 - lambda_value, out)
    return out


def _add_jaccard(vectors: csr_array, num_queries: int, weight: float, out: np.ndarray) -> None:
    """Add ``weight`` times the Jaccard distance of queries and gallery to ``out`` (equation 10).

    The sum of minima runs over the inverted lists of what a query's vector
    names. Both vectors have the sum 1, so that that of their maxima is 2 less it.
    """
    queries, lists = vectors[:num_queries], vectors[num_queries:].T.tocsr()
    lengths = np.diff(lists.indptr)[queries.indices]
    work = np.concatenate([[0], lengths.cumsum()])[queries.indptr]
    num_gallery = out.shape[1]
    start = 0
    while start < num_queries:
        # As many queries as fit in both ways: entries of their lists, and a dense row each.
        most = BLOCK_BYTES // (8 * _PAIR_COPIES)
        stop = int(np.searchsorted(work, work[start] + most, side="right")) - 1
        stop = max(start + 1, min(stop, start + BLOCK_BYTES // (16 * num_gallery), num_queries))
        entries = slice(queries.indptr[start], queries.indptr[stop])
        sizes = lengths[entries]
        rows = np.repeat(np.arange(stop - start), np.diff(queries.indptr[start: stop + 1]))
        begins = sizes.cumsum() - sizes
        places = np.arange(sizes.sum()) + np.repeat(lists.indptr[queries.indices[entries]] - begins, sizes)
        minima = np.minimum(np.repeat(queries.data[entries], sizes), lists.data[places])
        targets = np.repeat(rows * num_gallery, sizes) + lists.indices[places]
        shared = np.bincount(targets, minima, minlength=(stop - start) * num_gallery).reshape(stop - start, num_gallery)
        out[start:stop] += weight * (1 - shared / (2 - shared))
        start = stop
