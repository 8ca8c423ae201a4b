"""From a distance matrix to CMC, mAP and mINP, for any protocol: exact, in blocks, without a loop over queries."""
from __future__ import annotations

__all__ = ["RankingResult", "rank_queries", "average_results"]

from dataclasses import dataclass
from typing import Any, Callable, Sequence

import numpy as np
import torch

from torchreid_nas.errors import InputError

BLOCK_BYTES = 64 * 2**20
"""Bound on the working memory of :func:`rank_queries` beyond its inputs, roughly."""

_SCORES = ("mAP", "mAP_trapezoid", "mINP")
_ROW_COPIES = 4  # arrays as large as a block that are alive at once


@dataclass(frozen=True, eq=False)
class RankingResult:
    """What a protocol reports about one distance matrix. All scores are fractions in [0, 1].

    Attributes:
        cmc: (max_rank,) float64, read-only; ``cmc[k - 1]`` is rank-k, the share of valid
            queries whose identity is among the first k.
        mAP: mean average precision (step-wise, as torchreid), averaged over the valid queries.
        mAP_trapezoid: the same with AP as the area under straight lines between the points of
            precision over recall, as the evaluation code of Market-1501 (Zheng et al., ICCV 2015)
            integrates, and after it that of many papers (ECN among them). It is at most ``mAP``:
            name it where figures of such a paper are quoted.
        mINP: mean inverse negative penalty (Ye et al., "Deep Learning for Person
            Re-identification: A Survey and Outlook", TPAMI 2021): number of positives
            over the 1-based position of the last of them, averaged over the valid queries.
        num_valid_queries: queries whose identity is left in their gallery.
    """

    cmc: np.ndarray
    mAP: float
    mAP_trapezoid: float
    mINP: float
    num_valid_queries: int


def rank_queries(
    distmat: Any,
    q_pids: Any,
    g_pids: Any,
    max_rank: int = 20,
    *,
    excluded: Callable[[slice], np.ndarray] | None = None,
    unique_identities: bool = False,
) -> RankingResult:
    """Rank the gallery for every query and score the rankings.

    Entries rank by distance, smaller first. Ties keep the order of the gallery
    (a stable sort): that rule is ours, the papers are silent, and it makes the
    result a function of the inputs alone.

    Rows are sorted by value only, and the positives are then looked up in the
    sorted row: that finds their ranks at a fraction of the cost of an argsort.
    Where a positive is tied with anything, the row is replaced by its stable
    ranks, which have the same order and no ties, and scored again.

    Args:
        distmat: (Q, G) distances, NumPy or torch, any real dtype; half precision is read as float32.
        q_pids: (Q,) integer identities of the queries.
        g_pids: (G,) integer identities of the gallery.
        max_rank: length of the CMC. Ranks beyond the gallery repeat its last value.
        excluded: given a slice of queries, the boolean (rows, G) mask (or one that
            broadcasts to it) of gallery entries that these queries skip.
        unique_identities: count the CMC on identities instead of images: of every
            gallery identity only its first hit keeps a place. AP and INP always
            count images.

    Returns:
        The scores; invalid queries (identity absent or skipped entirely) count nowhere.

    Raises:
        InputError: shapes do not agree, identities are no integers, ``max_rank`` is below 1,
            a distance is not finite, or no query is valid.
    """
    distances = _as_distances(distmat)
    num_queries, num_gallery = distances.shape
    q_pids = as_labels("q_pids", q_pids, num_queries, "rows")
    g_pids = as_labels("g_pids", g_pids, num_gallery, "columns")
    if isinstance(max_rank, bool) or not isinstance(max_rank, (int, np.integer)) or max_rank < 1:
        raise InputError(f"max_rank is {max_rank!r}, expected an integer of at least 1; 20 is customary")
    gallery = _Gallery(g_pids)
    if not np.isin(q_pids, gallery.identities).any():
        raise InputError(
            "no overlap of query and gallery identities: none of the "
            f"{len(np.unique(q_pids))} query identities {_some(q_pids)} is among the {len(gallery.identities)} of the "
            f"gallery {_some(g_pids)}; check that both come from the same test split and that neither was relabelled"
        )

    hits = np.zeros(max_rank, dtype=np.int64)
    sums = np.zeros(3)
    num_valid = 0
    rows = max(1, BLOCK_BYTES // (_ROW_COPIES * num_gallery * distances.itemsize))
    for start in range(0, num_queries, rows):
        span = slice(start, min(start + rows, num_queries))
        block = distances[span]
        _check_finite(block, start)
        if excluded is not None:
            block = np.where(excluded(span), block.dtype.type(np.inf), block)
        # A transposed matrix (the other direction of RegDB) would be sorted and searched across its memory order.
        block = np.ascontiguousarray(block)
        positives = gallery.positives(q_pids[span])
        valid, first, scores = _score(block, positives, gallery, unique_identities)
        hits += np.bincount(first[valid & (first < max_rank)], minlength=max_rank)
        sums += scores[valid].sum(axis=0)
        num_valid += int(valid.sum())
    if num_valid == 0:
        raise InputError(
            "no overlap of query and gallery identities is left: the protocol makes every query skip all gallery "
            "images of its identity, as when query and gallery come from the same camera; check the camera ids of both"
        )
    cmc = hits.cumsum() / num_valid
    cmc.flags.writeable = False
    return RankingResult(cmc, *(sums / num_valid).tolist(), num_valid)


def average_results(results: Sequence[RankingResult]) -> tuple[RankingResult, dict[str, Any]]:
    """Average the results of several trials (ten galleries of SYSU-MM01, ten splits of RegDB).

    Args:
        results: one result per trial, all with a CMC of the same length; every trial weighs the same.

    Returns:
        The mean, whose ``num_valid_queries`` is the mean rounded to an integer,
        and the standard deviations ``{"cmc": (max_rank,) array, "mAP": float, "mAP_trapezoid":
        float, "mINP": float}`` over the trials at hand (divided by their number, ``ddof=0``,
        NumPy's default).

    Raises:
        InputError: there is no result, or the CMCs differ in length.
    """
    if not results:
        raise InputError("no results to average; evaluate at least one trial first")
    lengths = sorted({len(result.cmc) for result in results})
    if len(lengths) > 1:
        raise InputError(
            f"the CMCs to average have lengths {lengths}, expected one; use the same max_rank in each trial"
        )
    cmc = np.stack([result.cmc for result in results])
    scores = {name: np.array([getattr(result, name) for result in results]) for name in _SCORES}
    mean_cmc = cmc.mean(axis=0)
    mean_cmc.flags.writeable = False
    num_valid = round(float(np.mean([result.num_valid_queries for result in results])))
    means = {name: float(values.mean()) for name, values in scores.items()}
    stds = {name: float(values.std()) for name, values in scores.items()}
    return RankingResult(cmc=mean_cmc, num_valid_queries=num_valid, **means), {"cmc": cmc.std(axis=0), **stds}


def as_labels(name: str, labels: Any, count: int, what: str) -> np.ndarray:
    """Return ``labels`` as an integer array of shape (count,).

    Raises:
        InputError: another shape or no integers; the message names ``name`` and ``what`` of distmat they belong to.
    """
    array = labels.detach().cpu().numpy() if isinstance(labels, torch.Tensor) else np.asarray(labels)
    if array.shape != (count,) or not np.issubdtype(array.dtype, np.integer):
        raise InputError(
            f"{name} has shape {array.shape} and dtype {array.dtype}, expected ({count},) integers; "
            f"pass one per each of the {count} {what} of distmat"
        )
    return array


class _Gallery:
    """The columns of a distance matrix by identity."""

    def __init__(self, pids: np.ndarray) -> None:
        self.by_identity = np.argsort(pids, kind="stable")
        self.identities, self.starts, self.counts = np.unique(
            pids[self.by_identity], return_index=True, return_counts=True
        )

    def positives(self, q_pids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Columns of each query's identity, (rows, P) with P the largest number, and the mask of real ones."""
        at = np.searchsorted(self.identities, q_pids).clip(max=len(self.identities) - 1)
        counts = np.where(self.identities[at] == q_pids, self.counts[at], 0)
        offsets = np.arange(max(1, counts.max()))
        places = (self.starts[at][:, None] + offsets).clip(max=len(self.by_identity) - 1)
        return self.by_identity[places], offsets < counts[:, None]

    def first_hits(self, block: np.ndarray) -> np.ndarray:
        """Smallest entry of each identity in each row, (rows, identities)."""
        return np.minimum.reduceat(block[:, self.by_identity], self.starts, axis=1)


def _score(
    block: np.ndarray, positives: tuple[np.ndarray, np.ndarray], gallery: _Gallery, unique_identities: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score one block of rows; skipped entries are inf.

    Returns:
        Per row: whether it is valid, the 0-based rank of the first hit, and
        (rows, 3) AP, trapezoid AP and INP; the last two mean nothing where it is not.
    """
    columns, real = positives
    wanted = np.take_along_axis(block, columns, axis=1)
    wanted[~real] = np.inf
    wanted.sort(axis=1)
    left = np.isfinite(wanted)
    num_left = left.sum(axis=1)

    values = torch.from_numpy(np.sort(block, axis=1))
    wanted_values = torch.from_numpy(wanted)
    ranks = torch.searchsorted(values, wanted_values).numpy()
    tied = ((torch.searchsorted(values, wanted_values, right=True).numpy() - ranks > 1) & left).any(axis=1)

    nth = np.arange(1, wanted.shape[1] + 1)
    precision = np.divide(nth, ranks + 1, out=np.zeros(wanted.shape), where=left)
    # Recall grows at the positives alone, each time from the place before; there is none before the first, where the
    # curve begins at precision 1.
    before = np.divide(nth - 1, ranks, out=np.ones(wanted.shape), where=ranks > 0)
    before[~left] = 0
    total = num_left.clip(min=1)
    average_precision = precision.sum(axis=1) / total
    trapezoid = 0.5 * (average_precision + before.sum(axis=1) / total)
    scores = np.stack([average_precision, trapezoid, precision[np.arange(len(block)), total - 1]], axis=1)
    first = (gallery.first_hits(block) < wanted[:, :1]).sum(axis=1) if unique_identities else ranks[:, 0]

    valid = num_left > 0
    if tied.any():
        untied = _stable_ranks(block[tied])
        rescored = _score(untied, (columns[tied], real[tied]), gallery, unique_identities)
        first[tied], scores[tied] = rescored[1:]
    return valid, first, scores


def _stable_ranks(block: np.ndarray) -> np.ndarray:
    """Replace finite entries by their 0-based rank in the stable order of their row; inf stays."""
    order = np.argsort(block, axis=1, kind="stable")
    ranks = np.empty(block.shape, dtype=block.dtype)
    np.put_along_axis(ranks, order, np.arange(block.shape[1], dtype=block.dtype)[None], axis=1)
    ranks[np.isinf(block)] = np.inf
    return ranks


def _as_distances(distmat: Any) -> np.ndarray:
    if isinstance(distmat, torch.Tensor):
        distmat = distmat.detach().cpu()
        # NumPy knows no bfloat16.
        distmat = (distmat.float() if distmat.dtype in (torch.float16, torch.bfloat16) else distmat).numpy()
    array = np.asarray(distmat)
    if array.ndim != 2 or array.size == 0 or array.dtype.kind not in "fiu":
        raise InputError(
            f"distmat has shape {array.shape} and dtype {array.dtype}, expected a non-empty real matrix of shape "
            "(queries, gallery); pass one distance per pair"
        )
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float32 if array.dtype == np.float16 else np.float64)
    return array


def _check_finite(block: np.ndarray, start: int) -> None:
    finite = np.isfinite(block)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise InputError(
            f"distmat[{start + row}, {column}] is {block[row, column]}, expected finite distances; "
            "check the features, which a diverged or half-precision model turns to nan or inf"
        )


def _some(pids: np.ndarray) -> str:
    known = np.unique(pids)
    return "(" + ", ".join(map(str, known[:3])) + (", …)" if len(known) > 3 else ")")
