"""Ranking from features, block by block: galleries whose distance matrix would not fit."""
from __future__ import annotations

__all__ = ["rank_features"]

from typing import Any

import numpy as np
import torch
import torchreid

from torchreid_nas.errors import InputError
from torchreid_nas.metrics.inputs import as_cameras, as_features, as_float, as_labels, check_metric
from torchreid_nas.metrics.places import GalleryIndex, count_closer, sort_rows
from torchreid_nas.metrics.ranking import start_tally
from torchreid_nas.metrics.tally import RankingResult

BLOCK_BYTES = 64 * 2**20
"""Bound on the working memory of :func:`rank_features` beyond its inputs, roughly."""

_QUERIES = 512  # in a block: enough for a matrix product at full speed
_COPIES = 4  # arrays as large as a block that are alive at once


@torch.no_grad()
def rank_features(
    query: torch.Tensor | np.ndarray,
    gallery: torch.Tensor | np.ndarray,
    q_pids: Any,
    g_pids: Any,
    max_rank: int = 20,
    *,
    metric: str = "euclidean",
    cameras: tuple[Any, Any] | None = None,
) -> RankingResult:
    """Score rankings as :func:`~torchreid_nas.metrics.rank_queries` does, from features, without their distance matrix.

    The place of a positive is the number of gallery entries before it, and
    numbers add up over blocks of the gallery. Queries and gallery are visited
    in the order of their identities: the positives of a block of queries then
    lie in few blocks of the gallery, which are looked at first for the
    distances to compare with. Every pair has one distance, whichever block it
    is read from, and ties keep the order of the gallery as it was given. The
    distances are those of ``torchreid.metrics.compute_distance_matrix`` to the
    rounding of a matrix product of another shape.

    Args:
        query: (Q, D) features, a tensor on the device to compute on or a NumPy array; half precision is read as float32.
        gallery: (G, D) features, likewise; blocks of it are moved to the queries' device, so that it may stay in main
            memory or, as an ``np.memmap``, on disk.
        q_pids: (Q,) integer identities of the queries.
        g_pids: (G,) integer identities of the gallery.
        max_rank: length of the CMC. Ranks beyond the gallery repeat its last value.
        metric: "euclidean" or "cosine", of torchreid.
        cameras: integer cameras (Q,) and (G,), where a query skips what shows its own identity under its own camera.

    Returns:
        The scores; invalid queries count nowhere.

    Raises:
        InputError: shapes do not agree, the metric is another, features are no numbers, labels are no integers,
            ``max_rank`` is below 1, a distance is not finite, or no query is valid.
    """
    check_metric(metric)
    query, gallery = as_features(query, gallery)
    q_pids = as_labels("q_pids", q_pids, len(query), "query features")
    g_pids = as_labels("g_pids", g_pids, len(gallery), "gallery features")
    cameras = as_cameras(cameras, (len(query), len(gallery)), ("query features", "gallery features"))
    index = GalleryIndex(g_pids)
    tally = start_tally(max_rank, q_pids, index)
    blocks = _Blocks(gallery, torch.from_numpy(index.by_identity), metric, query.device)
    order = np.argsort(q_pids, kind="stable")
    for start in range(0, len(order), _QUERIES):
        rows = order[start: start + _QUERIES]
        columns, real = index.positives(q_pids[rows])
        begins = index.spans(q_pids[rows])[0]
        skipped = None if cameras is None else real & (cameras[1][columns] == cameras[0][rows, None])
        features = as_float(query[torch.from_numpy(rows).to(query.device)])
        columns, real, begins, skipped = (
            None if part is None else torch.from_numpy(part).to(query.device) for part in (columns, real, begins, skipped)
        )
        tally.add(blocks.places(features, columns, real, begins), real, skipped)
    return tally.result()


class _Blocks:
    """A gallery in the order of its identities, by blocks of distances to some queries."""

    def __init__(self, gallery: torch.Tensor, order: torch.Tensor, metric: str, device: torch.device) -> None:
        self._gallery, self._order, self._metric, self._device = gallery, order, metric, device
        self._step = max(1, BLOCK_BYTES // (_COPIES * _QUERIES * 4))

    def places(
        self, features: torch.Tensor, columns: torch.Tensor, real: torch.Tensor, begins: torch.Tensor,
    ) -> torch.Tensor:
        """Return the 0-based places of the positives, (R, P) int64.

        Args:
            features: (R, D) of the queries.
            columns: (R, P) positions of their positives in the gallery.
            real: (R, P) bool, where there is one.
            begins: (R,) positions in the order of identities at which each query's positives begin.
        """
        at = begins[:, None] + torch.arange(columns.shape[1], device=self._device)
        wanted = torch.full(at.shape, torch.inf, dtype=features.dtype, device=self._device)
        # The queries are in the order of identities too: theirs is one stretch of the gallery, others' positives included.
        first, last = at[real].aminmax() if real.any() else (at.new_tensor(0), at.new_tensor(-1))
        for start in range(int(first) // self._step * self._step, int(last) + 1, self._step):
            block = self._distances(features, start)
            rows, nth, inside = self._own(at, real, start)
            wanted[rows, nth] = block[rows, inside]
        places = torch.zeros_like(columns)
        for start in range(0, len(self._order), self._step):
            block = self._distances(features, start)
            rows, nth, inside = self._own(at, real, start)
            # Of two products of the same numbers nobody promises the same last digit.
            block[rows, inside] = wanted[rows, nth]
            values = sort_rows(block)
            if not values[:, [0, -1]].isfinite().all():
                raise InputError(
                    "a distance between query and gallery is not finite; check the features, which a diverged or "
                    "half-precision model turns to nan or inf"
                )
            present = torch.zeros_like(real)
            present[rows, nth] = True
            index = self._order[start: start + self._step].to(self._device)
            places += count_closer(block, wanted, real, columns, index, present, values)
        return places

    def _distances(self, features: torch.Tensor, start: int) -> torch.Tensor:
        part = as_float(self._gallery[self._order[start: start + self._step].to(self._gallery.device)].to(self._device))
        return torchreid.metrics.compute_distance_matrix(features, part.to(features.dtype), self._metric)

    def _own(self, at: torch.Tensor, real: torch.Tensor, start: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return rows and numbers of the positives in a block, and their columns there."""
        rows, nth = (real & (at >= start) & (at < start + self._step)).nonzero(as_tuple=True)
        return rows, nth, at[rows, nth] - start
