"""The test protocols of the cross-modality data sets, as functions of a distance matrix and labels."""
from __future__ import annotations

__all__ = ["PROTOCOLS", "evaluate_market1501", "evaluate_regdb", "evaluate_sysu_mm01"]

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from torchreid_nas.errors import InputError
from torchreid_nas.metrics.inputs import as_labels
from torchreid_nas.metrics.ranking import rank_queries
from torchreid_nas.metrics.tally import RankingResult

_SYSU_CAMERAS = 6
_SYSU_QUERY_CAMERA = 2  # camera 3 of the data set, infrared, which stands where camera 2 stands
_SYSU_SKIPPED_CAMERA = 1  # camera 2 of the data set, visible


def evaluate_sysu_mm01(
    distmat: Any, q_pids: Any, g_pids: Any, q_camids: Any, g_camids: Any, max_rank: int = 20
) -> RankingResult:
    """Score one gallery of SYSU-MM01 (Wu et al., "RGB-Infrared Cross-Modality Person Re-Identification", ICCV 2017).

    - A query of camera 3 skips every gallery image of camera 2, whatever its
      identity: both stand in the same place.
    - CMC counts identities: each keeps the place of its first hit.
    - AP and INP count all images that are left.
    - Only queries whose identity is left in the gallery count (2,208 of 3,803 in
      indoor search).

    The published figures are means over ten galleries:
    :func:`~torchreid_nas.metrics.average_results`.

    Args:
        distmat: (Q, G) distances, smaller is closer, NumPy or torch, any real dtype.
        q_pids: (Q,) identities of the queries, integers.
        g_pids: (G,) identities of the gallery, integers.
        q_camids: (Q,) cameras of the queries, **0-based** as everywhere in
            torchreid: the data set's camera 3 is 2.
        g_camids: (G,) cameras of the gallery, 0-based.
        max_rank: length of the CMC; ranks beyond the gallery repeat its last value.

    Returns:
        The scores. Ties keep the order of the gallery (ours).

    Raises:
        InputError: shapes do not agree, a camera is not within 0 to 5, a distance is
            not finite, or no query has its identity in the gallery.
    """
    shape = np.shape(distmat)
    if len(shape) != 2:
        raise InputError(f"distmat has shape {tuple(shape)}, expected (queries, gallery); pass one distance per pair")
    q_camids = _as_cameras("q_camids", q_camids, shape[0], "rows of distmat")
    g_camids = _as_cameras("g_camids", g_camids, shape[1], "columns of distmat")
    queries = (q_camids == _SYSU_QUERY_CAMERA)[:, None]
    skipped = g_camids == _SYSU_SKIPPED_CAMERA
    return rank_queries(
        distmat, q_pids, g_pids, max_rank, excluded=lambda span: queries[span] & skipped, unique_identities=True
    )


def evaluate_regdb(distmat: Any, q_pids: Any, g_pids: Any, max_rank: int = 20) -> RankingResult:
    """Score one trial of RegDB (Nguyen et al., "Person Recognition System Based on a Combination of Body Images
    from Visible Light and Thermal Cameras", Sensors 2017), in either direction.

    Plain CMC, mAP and mINP on images; nothing is skipped. The published figures
    are means over ten trials: :func:`~torchreid_nas.metrics.average_results`.

    Args:
        distmat: (Q, G) distances, smaller is closer, NumPy or torch, any real dtype.
        q_pids: (Q,) identities of the queries, integers.
        g_pids: (G,) identities of the gallery, integers.
        max_rank: length of the CMC; ranks beyond the gallery repeat its last value.

    Returns:
        The scores. Ties keep the order of the gallery (ours).

    Raises:
        InputError: shapes do not agree, a distance is not finite, or no query has its
            identity in the gallery.
    """
    return rank_queries(distmat, q_pids, g_pids, max_rank)


def evaluate_market1501(
    distmat: Any, q_pids: Any, g_pids: Any, q_camids: Any, g_camids: Any, max_rank: int = 20
) -> RankingResult:
    """Score by the protocol of Market-1501 (Zheng et al., ICCV 2015), which torchreid applies to every data set.

    A query skips the gallery images of its own identity and camera. Arguments,
    result and errors as :func:`evaluate_sysu_mm01`, cameras being any integers.
    """
    return rank_queries(distmat, q_pids, g_pids, max_rank, cameras=(q_camids, g_camids))


PROTOCOLS: Mapping[str, Callable[..., RankingResult]] = {
    "market1501": evaluate_market1501,
    "regdb": lambda distmat, q_pids, g_pids, q_camids, g_camids, max_rank=20: evaluate_regdb(
        distmat, q_pids, g_pids, max_rank
    ),
    "sysu_mm01": evaluate_sysu_mm01,
}
"""Protocols by name, all called with (distmat, q_pids, g_pids, q_camids, g_camids, max_rank)."""


def _as_cameras(name: str, camids: Any, count: int, what: str) -> np.ndarray:
    camids = as_labels(name, camids, count, what)
    if camids.size and not 0 <= camids.min() <= camids.max() < _SYSU_CAMERAS:
        raise InputError(
            f"{name} runs from {camids.min()} to {camids.max()}, expected 0 to {_SYSU_CAMERAS - 1}; "
            "subtract 1 from the data set's own camera numbers"
        )
    return camids
