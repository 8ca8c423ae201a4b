"""Ranking from features, block by block: galleries whose distance matrix would not fit."""
from __future__ import annotations

__all__ = ["rank_features"]

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torchreid

from torchreid_nas.errors import InputError
from torchreid_nas.metrics.blocks import blocks
from torchreid_nas.metrics.inputs import as_cameras, as_features, as_float, as_labels, check_metric, common_part
from torchreid_nas.metrics.places import GalleryIndex, count_closer, sort_rows
from torchreid_nas.metrics.ranking import start_tally
from torchreid_nas.metrics.tally import RankingResult

BLOCK_BYTES = 64 * 2**20
"""Bound on the working memory of :func:`rank_features` beyond its inputs, roughly."""

Mask = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Given (R,) positions of queries and (C,) positions in a gallery: which entries the queries skip, (R, C) bool."""

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
    excluded: Mask | None = None,
    unique_identities: bool = False,
) -> RankingResult:
    """Score rankings as :func:`~torchreid_nas.metrics.rank_queries` does, from features, without their distance matrix.

    The place of a positive is the number of gallery entries before it, and
    numbers add up over blocks of the gallery. Queries and gallery are visited
    in the order of their identities: the positives of a block of queries then
    lie in few blocks of the gallery, which are looked at first for the
    distances to compare with. Every pair has one distance, whichever block it
    is read from, and ties keep the order of the gallery as it was given. The
    distances are those of ``torchreid.metrics.compute_distance_matrix`` to the
    rounding of a matrix product of another shape; from nearly parallel features
    their mean is subtracted first, which keeps digits that are lost there.

    Args:
        query: (Q, D) features, a tensor on the device to compute on or a NumPy array; half precision is read as float32.
        gallery: (G, D) features, likewise; blocks of it are moved to the queries' device, so that it may stay in main
            memory or, as an ``np.memmap``, on disk.
        q_pids: (Q,) integer identities of the queries.
        g_pids: (G,) integer identities of the gallery.
        max_rank: length of the CMC. Ranks beyond the gallery repeat its last value.
        metric: "euclidean" or "cosine", of torchreid.
        cameras: integer cameras (Q,) and (G,), where a query skips what shows its own identity under its own camera.
        excluded: see :data:`Mask`.
        unique_identities: count the CMC on identities instead of images, as ``rank_queries`` does.

    Returns:
        The scores; invalid queries count nowhere.

    Raises:
        InputError: shapes do not agree, the metric is another, features are no numbers, labels are no integers,
            ``max_rank`` is below 1, a distance is not finite, or no query is valid.

    Example:
        >>> features = torch.eye(3)
        >>> rank_features(features, features, [4, 5, 6], [4, 5, 6]).mAP
        1.0
    """
    check_metric(metric)
    query, gallery = as_features(query, gallery)
    q_pids = as_labels("q_pids", q_pids, len(query), "query features")
    g_pids = as_labels("g_pids", g_pids, len(gallery), "gallery features")
    cameras = as_cameras(cameras, (len(query), len(gallery)), ("query features", "gallery features"))
    if cameras is not None and unique_identities:
        # The first hits of all identities are sought in the blocks themselves: there what is skipped must be gone.
        excluded, cameras = _own_camera((q_pids, g_pids), cameras, excluded), None
    index = GalleryIndex(g_pids)
    tally = start_tally(max_rank, q_pids, index)
    distances = _Blocks(gallery, index, metric, query.device, common_part(query, metric))
    order = np.argsort(q_pids, kind="stable")
    for span in blocks(len(order), _QUERIES, "ranking"):
        rows = order[span]
        columns, real = index.positives(q_pids[rows])
        skipped = None if cameras is None else real & (cameras[1][columns] == cameras[0][rows, None])
        positives = _Positives(
            *(torch.from_numpy(part).to(query.device) for part in (columns, real, index.spans(q_pids[rows])[0]))
        )
        mask = None if excluded is None else lambda columns, rows=rows, excluded=excluded: excluded(rows, columns)
        places, first = distances.places(
            as_float(query[torch.from_numpy(rows).to(query.device)]), positives, mask, unique_identities
        )
        tally.add(
            places, positives.real, None if skipped is None else torch.from_numpy(skipped).to(query.device), first
        )
    return tally.result(order)


def _own_camera(pids: tuple[np.ndarray, np.ndarray], cameras: tuple[np.ndarray, np.ndarray], excluded: Mask | None) -> Mask:
    """Return the mask of what shows a query's own identity under its own camera, beside what is excluded already."""

    def mask(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        same = [own[rows, None] == others[columns] for own, others in (pids, cameras)]
        own_camera: np.ndarray = same[0] & same[1]
        return own_camera if excluded is None else own_camera | excluded(rows, columns)

    return mask


class _Positives:
    """The gallery entries of the identities of R queries, of which a query has up to P.

    Args:
        columns: (R, P) positions in the gallery.
        real: (R, P) bool, where there is an entry.
        begins: (R,) positions in the order of identities at which the entries of a query begin.

    Attributes:
        at: (R, P) positions in the order of identities.
    """

    def __init__(self, columns: torch.Tensor, real: torch.Tensor, begins: torch.Tensor) -> None:
        self.columns, self.real = columns, real
        self.at = begins[:, None] + torch.arange(columns.shape[1], device=columns.device)

    def within(self, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return rows and numbers of the entries in a stretch of the order of identities, and their columns there."""
        rows, nth = (self.real & (self.at >= start) & (self.at < stop)).nonzero(as_tuple=True)
        return rows, nth, self.at[rows, nth] - start


class _Blocks:
    """A gallery in the order of its identities, by blocks of distances to some queries."""

    def __init__(
        self, gallery: torch.Tensor, index: GalleryIndex, metric: str, device: torch.device, common: torch.Tensor | None,
    ) -> None:
        self._gallery, self._metric, self._device, self._common = gallery, metric, device, common
        self._order = torch.from_numpy(index.by_identity)
        # The identity of each entry, numbered in the order of identities.
        self._numbers = torch.from_numpy(np.repeat(np.arange(len(index.counts)), index.counts)).to(device)
        self._step = max(1, BLOCK_BYTES // (_COPIES * _QUERIES * 4))

    def places(
        self, features: torch.Tensor, positives: _Positives, mask: Callable[[np.ndarray], np.ndarray] | None,
        unique_identities: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the 0-based places of the positives, (R, P) int64, and the ranks of the identities, (R,), if asked for.

        Positives that the mask hides are taken out of ``positives.real``.

        Args:
            features: (R, D) of the queries.
            positives: of these queries.
            mask: gives for positions in the gallery which of them the queries skip, (R, C) bool.
            unique_identities: whether ranks of identities are asked for.
        """
        at, columns = positives.at, positives.columns
        wanted = torch.full(at.shape, torch.inf, dtype=features.dtype, device=self._device)
        # The queries are in the order of identities too: theirs is one stretch of the gallery, others' positives included.
        first, last = at[positives.real].aminmax() if positives.real.any() else (at.new_tensor(0), at.new_tensor(-1))
        for start in range(int(first) // self._step * self._step, int(last) + 1, self._step):
            block = self._distances(features, start, mask)
            rows, nth, inside = positives.within(start, start + self._step)
            wanted[rows, nth] = block[rows, inside]
        positives.real &= wanted.isfinite()
        places = torch.zeros_like(columns)
        ranks = _IdentityRanks(wanted, positives) if unique_identities else None
        for start in range(0, len(self._order), self._step):
            block = self._distances(features, start, mask)
            rows, nth, inside = positives.within(start, start + self._step)
            # Of two products of the same numbers nobody promises the same last digit.
            block[rows, inside] = wanted[rows, nth]
            present = torch.zeros_like(positives.real)
            present[rows, nth] = True
            index = self._order[start: start + self._step].to(self._device)
            places += count_closer(block, wanted, positives.real, columns, index, present, sort_rows(block))
            if ranks is not None:
                ranks.add(block, index, self._numbers[start: start + self._step])
        return places, None if ranks is None else ranks.counts

    def _distances(
        self, features: torch.Tensor, start: int, mask: Callable[[np.ndarray], np.ndarray] | None,
    ) -> torch.Tensor:
        """Return the distances to a block, inf where the mask hides an entry.

        Raises:
            InputError: a distance is not finite.
        """
        columns = self._order[start: start + self._step]
        part = as_float(self._gallery[columns.to(self._gallery.device)].to(self._device))
        part = part.to(features.dtype)
        if self._common is not None:
            features, part = features - self._common, part - self._common
        block: torch.Tensor = torchreid.metrics.compute_distance_matrix(features, part, self._metric)
        if not torch.stack(block.aminmax()).isfinite().all():
            raise InputError(
                "a distance between query and gallery is not finite; check the features, which a diverged or "
                "half-precision model turns to nan or inf"
            )
        return block if mask is None else block.masked_fill(torch.from_numpy(mask(columns.numpy())).to(self._device), torch.inf)


class _IdentityRanks:
    """Counts, block by block, the identities whose first hit stands before that of each query's own identity.

    Args:
        wanted: (R, P) distances of the positives.
        positives: of the queries.

    Attributes:
        counts: (R,) int64; they mean nothing for a query without a positive.
    """

    def __init__(self, wanted: torch.Tensor, positives: _Positives) -> None:
        self._nearest = wanted.amin(dim=1, keepdim=True)
        nearest = positives.real & (wanted == self._nearest)
        self._own = positives.columns.masked_fill(~nearest, torch.iinfo(torch.int64).max).amin(dim=1, keepdim=True)
        self.counts = torch.zeros_like(positives.columns[:, 0])
        self._last: tuple[int, torch.Tensor] | None = None

    def add(self, block: torch.Tensor, index: torch.Tensor, numbers: torch.Tensor) -> None:
        """Count a block.

        Args:
            block: (R, C) distances.
            index: (C,) positions in the gallery.
            numbers: (C,) numbers of the identities, ascending.
        """
        closer = (block < self._nearest) | ((block == self._nearest) & (index < self._own))
        first, last = int(numbers[0]), int(numbers[-1])
        hits = torch.zeros(len(block), last - first + 1, dtype=torch.int32, device=block.device)
        hit = hits.index_add_(1, numbers - first, closer.int()) > 0
        self.counts += hit.sum(dim=1)
        if self._last is not None and self._last[0] == first:
            # The block before ended in the same identity, which counts once.
            self.counts -= (hit[:, 0] & self._last[1]).long()
            hit[:, 0] |= self._last[1]
        self._last = last, hit[:, -1]
