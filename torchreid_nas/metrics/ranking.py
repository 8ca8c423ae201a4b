"""From a distance matrix to CMC, mAP and mINP, for any protocol: exact, in blocks, without a loop over queries."""
from __future__ import annotations

__all__ = ["rank_queries", "average_results"]

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from torchreid_nas.errors import InputError
from torchreid_nas.metrics.blocks import blocks
from torchreid_nas.metrics.inputs import as_cameras, as_labels, as_tensor
from torchreid_nas.metrics.places import GalleryIndex, count_closer, sort_rows
from torchreid_nas.metrics.tally import RankingResult, Tally

BLOCK_BYTES = 64 * 2**20
"""Bound on the working memory of :func:`rank_queries` beyond its inputs, roughly."""

_ROW_COPIES = 4  # arrays as large as a block that are alive at once


def rank_queries(
    distmat: Any,
    q_pids: Any,
    g_pids: Any,
    max_rank: int = 20,
    *,
    excluded: Callable[[slice], np.ndarray] | None = None,
    cameras: tuple[Any, Any] | None = None,
    unique_identities: bool = False,
) -> RankingResult:
    """Rank the gallery for every query and score the rankings, on the device that the distances are on.

    Entries rank by distance, smaller first. Ties keep the order of the gallery
    (a stable sort): that rule is ours, the papers are silent, and it makes the
    result a function of the inputs alone.

    Args:
        distmat: (Q, G) distances, NumPy or torch, any real dtype; half precision is read as float32.
        q_pids: (Q,) integer identities of the queries.
        g_pids: (G,) integer identities of the gallery.
        max_rank: length of the CMC. Ranks beyond the gallery repeat its last value.
        excluded: given a slice of queries, the boolean (rows, G) mask (or one that
            broadcasts to it) of gallery entries that these queries skip.
        cameras: integer cameras (Q,) and (G,), where a query skips what shows its
            own identity under its own camera. Cheaper than the same mask.
        unique_identities: count the CMC on identities instead of images: of every
            gallery identity only its first hit keeps a place. AP and INP always
            count images.

    Returns:
        The scores; invalid queries (identity absent or skipped entirely) count nowhere.

    Raises:
        InputError: shapes do not agree, identities are no integers, ``max_rank`` is below 1,
            a distance is not finite, or no query is valid.

    Example:
        The positives of the query stand at places 1 and 3:

        >>> result = rank_queries([[0.1, 0.2, 0.3]], [7], [7, 8, 7], max_rank=2)
        >>> result.cmc, round(result.mAP, 3)
        (array([1., 1.]), 0.833)
        >>> rank_queries([[0.1, 0.2, 0.3]], [7], [7, 8, 7], cameras=([0], [0, 0, 1])).mAP
        0.5
    """
    distances = _as_distances(distmat)
    num_queries, num_gallery = distances.shape
    q_pids = as_labels("q_pids", q_pids, num_queries, "rows of distmat")
    g_pids = as_labels("g_pids", g_pids, num_gallery, "columns of distmat")
    cameras = as_cameras(cameras, (num_queries, num_gallery), ("rows of distmat", "columns of distmat"))
    if cameras is not None and unique_identities:
        # The first hits of all identities are sought in the block itself: there what is skipped must be gone.
        excluded, cameras = _own_camera(q_pids, g_pids, cameras, excluded), None
    gallery = GalleryIndex(g_pids, distances.device)
    tally = start_tally(max_rank, q_pids, gallery)
    index = torch.arange(num_gallery, device=distances.device)
    rows = max(1, BLOCK_BYTES // (_ROW_COPIES * num_gallery * distances.element_size()))
    for span in blocks(num_queries, rows, "ranking"):
        # A transposed matrix (the other direction of RegDB) would be sorted across its memory order.
        block = distances[span].contiguous()
        if excluded is not None:
            _check_finite(torch.stack(block.aminmax()), block, span.start)
            block = block.masked_fill(torch.as_tensor(excluded(span), device=block.device), torch.inf)
        values = sort_rows(block)
        if excluded is None:
            _check_finite(values[:, [0, -1]], block, span.start)
        of_identity, is_real = gallery.positives(q_pids[span])
        skipped = None
        if cameras is not None:
            skipped = torch.from_numpy(is_real & (cameras[1][of_identity] == cameras[0][span, None])).to(distances.device)
        columns, real = (torch.from_numpy(part).to(distances.device) for part in (of_identity, is_real))
        wanted = block.gather(1, columns)
        real &= wanted.isfinite()
        places = count_closer(block, wanted, real, columns, index, real, values)
        first = _first_identities(block, wanted, real, columns, gallery) if unique_identities else None
        tally.add(places, real, skipped, first)
    return tally.result()


def start_tally(max_rank: int, q_pids: np.ndarray, gallery: GalleryIndex) -> Tally:
    """Return an empty tally.

    Raises:
        InputError: ``max_rank`` is no integer of at least 1, or no query identity is in the gallery.
    """
    if isinstance(max_rank, bool) or not isinstance(max_rank, (int, np.integer)) or max_rank < 1:
        raise InputError(f"max_rank is {max_rank!r}, expected an integer of at least 1; 20 is customary")
    if not np.isin(q_pids, gallery.identities).any():
        raise InputError(
            "no overlap of query and gallery identities: none of the "
            f"{len(np.unique(q_pids))} query identities {_some(q_pids)} is among the {len(gallery.identities)} of the "
            f"gallery {_some(gallery.identities)}; check that both come from the same test split and that neither was "
            "relabelled"
        )
    return Tally(int(max_rank), len(gallery.by_identity))


def average_results(results: Sequence[RankingResult]) -> tuple[RankingResult, dict[str, Any]]:
    """Average the results of several trials (ten galleries of SYSU-MM01, ten splits of RegDB).

    Args:
        results: one result per trial, all with a CMC of the same length; every trial weighs the same.

    Returns:
        The mean, whose ``num_valid_queries`` is the mean rounded to an integer,
        and the standard deviations over the trials at hand (divided by their number, ``ddof=0``,
        NumPy's default): ``"cmc"``, a (max_rank,) array, and every other metric by name, a float.

    Raises:
        InputError: there is no result, or the CMCs differ in length.

    Example:
        >>> trials = [rank_queries([[0.1, 0.2]], [1], gallery) for gallery in ([1, 2], [2, 1])]
        >>> mean, deviation = average_results(trials)
        >>> mean.mAP, deviation["mAP"]
        (0.75, 0.25)
    """
    if not results:
        raise InputError("no results to average; evaluate at least one trial first")
    lengths = sorted({len(result.cmc) for result in results})
    if len(lengths) > 1:
        raise InputError(
            f"the CMCs to average have lengths {lengths}, expected one; use the same max_rank in each trial"
        )
    cmc = np.stack([result.cmc for result in results])
    scores = {name: np.array([result.scores[name] for result in results]) for name in results[0].scores}
    mean_cmc = cmc.mean(axis=0)
    mean_cmc.flags.writeable = False
    num_valid = round(float(np.mean([result.num_valid_queries for result in results])))
    means = {name: float(values.mean()) for name, values in scores.items()}
    stds = {name: float(values.std()) for name, values in scores.items()}
    return RankingResult(mean_cmc, means, num_valid), {"cmc": cmc.std(axis=0), **stds}


def _first_identities(
    block: torch.Tensor, wanted: torch.Tensor, real: torch.Tensor, columns: torch.Tensor, gallery: GalleryIndex,
) -> torch.Tensor:
    """Return the 0-based rank of each row's own identity among the first hits of all; nothing where no hit is real."""
    hits = gallery.first_hits(block)
    nearest = wanted.masked_fill(~real, torch.inf).amin(dim=1, keepdim=True)
    first = (hits < nearest).sum(dim=1)
    tied = ((hits == nearest).sum(dim=1) > 1) & real.any(dim=1)
    if tied.any():
        block, nearest = block[tied], nearest[tied]
        own = columns[tied].masked_fill(~(real[tied] & (wanted[tied] == nearest)), block.shape[1]).amin(dim=1, keepdim=True)
        earlier = torch.arange(block.shape[1], device=block.device) < own
        closer = (block < nearest) | ((block == nearest) & earlier)
        first[tied] = (gallery.first_hits((~closer).to(torch.uint8)) == 0).sum(dim=1)
    return first


def _as_distances(distmat: Any) -> torch.Tensor:
    if not isinstance(distmat, torch.Tensor):
        array = np.asarray(distmat)
        if array.dtype.kind not in "fiu":
            raise _no_matrix(array)
        if array.dtype not in (np.float16, np.float32, np.float64):
            array = array.astype(np.float64)
        distmat = as_tensor("the distances are", array)
    distances: torch.Tensor = distmat.detach()
    if distances.ndim != 2 or distances.numel() == 0 or distances.is_complex() or distances.dtype == torch.bool:
        raise _no_matrix(distances)
    if distances.dtype in (torch.float32, torch.float64):
        return distances
    # NumPy, which sorts on the CPU, knows no bfloat16.
    return distances.to(torch.float32 if distances.dtype in (torch.float16, torch.bfloat16) else torch.float64)


def _no_matrix(given: np.ndarray | torch.Tensor) -> InputError:
    return InputError(
        f"distmat has shape {tuple(given.shape)} and dtype {given.dtype}, expected a non-empty real matrix of shape "
        "(queries, gallery); pass one distance per pair"
    )


def _own_camera(
    q_pids: np.ndarray, g_pids: np.ndarray, cameras: tuple[np.ndarray, np.ndarray],
    excluded: Callable[[slice], np.ndarray] | None,
) -> Callable[[slice], np.ndarray]:
    def mask(span: slice) -> np.ndarray:
        own: np.ndarray = (q_pids[span, None] == g_pids) & (cameras[0][span, None] == cameras[1])
        return own if excluded is None else own | np.asarray(excluded(span))

    return mask


def _check_finite(probe: torch.Tensor, block: torch.Tensor, start: int) -> None:
    """Refuse a block if one of ``probe`` is not finite; ``start`` is the first row of the block in distmat."""
    if not probe.isfinite().all():
        row, column = (~block.isfinite()).nonzero()[0].tolist()
        raise InputError(
            f"distmat[{start + row}, {column}] is {block[row, column].item()}, expected finite distances; "
            "check the features, which a diverged or half-precision model turns to nan or inf"
        )


def _some(pids: np.ndarray) -> str:
    known = np.unique(pids)
    return "(" + ", ".join(map(str, known[:3])) + (", …)" if len(known) > 3 else ")")
