"""Distances between queries and gallery images, as torchreid measures them."""
from __future__ import annotations

__all__ = ["distance_matrix", "distances"]

import numpy as np
import torch
import torchreid
from torch.nn import functional as F

from torchreid_nas.metrics import re_rank_features
from torchreid_nas.metrics.inputs import common_part


def distances(query: torch.Tensor, gallery: torch.Tensor, metric: str, normalize: bool) -> torch.Tensor:
    """Return torchreid's (Q, G) distance matrix, of L2-normalised features if asked for.

    Args:
        query: (Q, D).
        gallery: (G, D).
        metric: ``"euclidean"`` (squared) or ``"cosine"``.
        normalize: divide every feature by its length first.

    From nearly parallel features their mean is subtracted before Euclidean distances (ours): the distances stay, and keep
    their digits.

    Example:
        >>> distances(torch.tensor([[3.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]), "euclidean", normalize=True)
        tensor([[0., 2.]])
    """
    if normalize:
        query, gallery = F.normalize(query), F.normalize(gallery)
    common = common_part(query, metric)
    if common is not None:
        query, gallery = query - common, gallery - common
    matrix: torch.Tensor = torchreid.metrics.compute_distance_matrix(query, gallery, metric)
    return matrix


def distance_matrix(
    query: torch.Tensor, gallery: torch.Tensor, metric: str, normalize: bool, rerank: bool, by_column: bool = False,
) -> np.ndarray:
    """Return (Q, G) distances as NumPy, re-ranked by k-reciprocal encoding if asked for.

    Args:
        query: see :func:`distances`.
        gallery: see :func:`distances`.
        metric: see :func:`distances`.
        normalize: see :func:`distances`.
        rerank: re-rank.
        by_column: lay the distances out column after column, so that to draw a gallery from the matrix reads no
            other column. Re-ranked distances are laid out by row in any case.
    """
    if not rerank:
        pair = (gallery, query) if by_column else (query, gallery)
        matrix: np.ndarray = distances(*pair, metric, normalize).numpy()
        return matrix.T if by_column else matrix
    if normalize:
        query, gallery = F.normalize(query), F.normalize(gallery)
    return re_rank_features(query, gallery, metric=metric)
