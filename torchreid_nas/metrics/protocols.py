"""The test protocols: how the distances of queries and gallery become figures, from a matrix or from features by blocks."""
from __future__ import annotations

__all__ = [
    "PROTOCOLS", "Protocol", "evaluate_llcm", "evaluate_market1501", "evaluate_regdb", "evaluate_sysu_mm01", "find_protocol",
    "register_protocol",
]

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from torchreid_nas.errors import InputError, nearest
from torchreid_nas.metrics.inputs import as_features, as_labels
from torchreid_nas.metrics.ranking import rank_queries
from torchreid_nas.metrics.skipping import skipped_cameras
from torchreid_nas.metrics.streaming import rank_features
from torchreid_nas.metrics.tally import RankingResult


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How a test scores its queries. Everything that asks for figures asks a protocol.

    The metrics are those of :data:`~torchreid_nas.metrics.SCORES`, averaged over
    the valid queries: those whose identity is left in their gallery. AP and INP
    count images. Ties keep the order of the gallery (ours).

    Args:
        name: under which data sets name the protocol, see :data:`PROTOCOLS`.
        label: of the protocol, for people; results carry it where a data set's ``setting`` asks for it.
        skips_own_camera: a query skips the gallery images of its own identity under its own camera.
        skipped_cameras: for cameras of queries (0-based, as everywhere in torchreid) the gallery cameras whose images
            such a query skips, whatever their identity.
        num_cameras: cameras beside ``skipped_cameras`` are numbered 0 to ``num_cameras - 1``; None for any integers.
        unique_identities: count the CMC on identities: each keeps the place of its first hit.
        family: protocols of one family are ways to test the same data set; ``""`` takes the protocol's name.
        galleries: arguments of the data set's ``draw_gallery`` under this protocol, beside the trial.
        second_sensor: camera ``c + second_sensor`` is the second sensor of camera ``c``, so that both are one camera to
            ``skips_own_camera``; 0 where every camera has one sensor.
        average_precision: the metric of :data:`~torchreid_nas.metrics.SCORES` that this protocol calls mAP.
        transposed: the gallery images are the queries, and the query images are what they search.

    Example:
        >>> protocol = Protocol("toy", "toy", skipped_cameras={1: frozenset({0})})
        >>> protocol.evaluate([[0.1, 0.2]], [7], [7, 7], [1], [0, 2]).num_valid_queries
        1
    """

    name: str
    label: str
    skips_own_camera: bool = False
    skipped_cameras: Mapping[int, frozenset[int]] = dataclasses.field(default_factory=dict)
    unique_identities: bool = False
    num_cameras: int | None = None
    family: str = ""
    galleries: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    second_sensor: int = 0
    average_precision: str = "mAP"
    transposed: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "family", self.family or self.name)

    def evaluate(
        self, distmat: Any, q_pids: Any, g_pids: Any, q_camids: Any, g_camids: Any, max_rank: int = 20
    ) -> RankingResult:
        """Score one gallery from its distances.

        Args:
            distmat: (Q, G) distances, smaller is closer, NumPy or torch, any real dtype.
            q_pids: (Q,) identities of the queries, integers.
            g_pids: (G,) identities of the gallery, integers.
            q_camids: (Q,) cameras of the queries, 0-based integers; not read by a protocol that skips nothing.
            g_camids: (G,) cameras of the gallery, likewise.
            max_rank: length of the CMC; ranks beyond the gallery repeat the last value of the CMC.

        Raises:
            InputError: shapes do not agree, labels are no integers or out of range, a distance is not finite, or no
                query has its identity in the gallery.
        """
        shape = np.shape(distmat) if self._reads_cameras or self.transposed else (0, 0)
        if len(shape) != 2:
            raise InputError(f"distmat has shape {tuple(shape)}, expected (queries, gallery); pass one distance per pair")
        if self._reads_cameras:
            q_camids = self._as_cameras("q_camids", q_camids, shape[0], "rows of distmat")
            g_camids = self._as_cameras("g_camids", g_camids, shape[1], "columns of distmat")
        if self.transposed:
            q_pids, g_pids = (
                as_labels("g_pids", g_pids, shape[1], "columns of distmat"),
                as_labels("q_pids", q_pids, shape[0], "rows of distmat"),
            )
            distmat = (distmat if isinstance(distmat, torch.Tensor) else np.asarray(distmat)).T
            q_camids, g_camids = g_camids, q_camids
        return self._as_named(rank_queries(
            distmat, q_pids, g_pids, max_rank, unique_identities=self.unique_identities,
            cameras=(q_camids, g_camids) if self.skips_own_camera else None,
            excluded=(
                (lambda span: skipped_cameras(self.skipped_cameras, q_camids[span], g_camids)) if self.skipped_cameras else None
            ),
        ))

    def evaluate_features(
        self, query: torch.Tensor | np.ndarray, gallery: torch.Tensor | np.ndarray, q_pids: Any, g_pids: Any,
        q_camids: Any, g_camids: Any, max_rank: int = 20, *, metric: str = "euclidean",
    ) -> RankingResult:
        """Score one gallery from features, block by block: see :func:`~torchreid_nas.metrics.rank_features`.

        The figures are those of :meth:`evaluate` on torchreid's distances, to
        the rounding of a matrix product of another shape.

        Args:
            query: (Q, D) features, see :func:`~torchreid_nas.metrics.rank_features`.
            gallery: (G, D) features, likewise.
            q_pids: see :meth:`evaluate`.
            g_pids: see :meth:`evaluate`.
            q_camids: see :meth:`evaluate`.
            g_camids: see :meth:`evaluate`.
            max_rank: see :meth:`evaluate`.
            metric: ``"euclidean"`` or ``"cosine"``, of torchreid.

        Raises:
            InputError: see :meth:`evaluate`; features that are no numbers or do not fit, or another metric.

        Example:
            >>> features = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
            >>> PROTOCOLS["regdb"].evaluate_features(features, features, [1, 2], [1, 2], [0, 0], [1, 1]).mAP
            1.0
        """
        query, gallery = as_features(query, gallery)
        if self._reads_cameras:
            q_camids = self._as_cameras("q_camids", q_camids, len(query), "query features")
            g_camids = self._as_cameras("g_camids", g_camids, len(gallery), "gallery features")
        if self.transposed:
            q_pids, g_pids = (
                as_labels("g_pids", g_pids, len(gallery), "gallery features"),
                as_labels("q_pids", q_pids, len(query), "query features"),
            )
            (query, gallery), (q_camids, g_camids) = (gallery, query), (g_camids, q_camids)
        return self._as_named(rank_features(
            query, gallery, q_pids, g_pids, max_rank, metric=metric, unique_identities=self.unique_identities,
            cameras=(q_camids, g_camids) if self.skips_own_camera else None,
            excluded=(
                (lambda rows, columns: skipped_cameras(self.skipped_cameras, q_camids[rows], g_camids[columns]))
                if self.skipped_cameras else None
            ),
        ))

    def count_valid(
        self, q_pids: Sequence[int], g_pids: Sequence[int], q_camids: Sequence[int], g_camids: Sequence[int],
    ) -> int:
        """Return the number of queries whose identity is left in the gallery, without any distance.

        Of a ``transposed`` protocol the gallery images are the queries.

        Args:
            q_pids: see :meth:`evaluate`.
            g_pids: see :meth:`evaluate`.
            q_camids: see :meth:`evaluate`.
            g_camids: see :meth:`evaluate`.

        Example:
            >>> PROTOCOLS["market1501"].count_valid([1, 2], [1, 2], [0, 0], [0, 1])
            1
        """
        if self.transposed:
            q_pids, g_pids, q_camids, g_camids = g_pids, q_pids, g_camids, q_camids
        if self.second_sensor:
            q_camids, g_camids = ([camid % self.second_sensor for camid in camids] for camids in (q_camids, g_camids))
        cameras_of: dict[int, set[int]] = {}
        for pid, camid in zip(g_pids, g_camids):
            cameras_of.setdefault(pid, set()).add(camid)
        count = 0
        for pid, camid in zip(q_pids, q_camids):
            skipped = self.skipped_cameras.get(camid, frozenset()) | ({camid} if self.skips_own_camera else frozenset())
            count += bool(cameras_of.get(pid, set()) - skipped)
        return count

    @property
    def _reads_cameras(self) -> bool:
        return bool(self.skipped_cameras or self.second_sensor)

    def _as_named(self, result: RankingResult) -> RankingResult:
        """Return a result whose mAP is integrated as the protocol says."""
        if self.average_precision == "mAP" or result.queries is None:
            return result
        values = {**result.queries.values, "mAP": result.queries.values[self.average_precision]}
        scores = {**result.scores, "mAP": result.scores[self.average_precision]}
        return dataclasses.replace(result, scores=scores, queries=dataclasses.replace(result.queries, values=values))

    def _as_cameras(self, name: str, camids: Any, count: int, what: str) -> np.ndarray:
        cameras = as_labels(name, camids, count, what)
        if self.num_cameras is not None and cameras.size and not 0 <= cameras.min() <= cameras.max() < self.num_cameras:
            raise InputError(
                f"{name} runs from {cameras.min()} to {cameras.max()}, expected 0 to {self.num_cameras - 1}; "
                "subtract 1 from the data set's own camera numbers"
            )
        return cameras % self.second_sensor if self.second_sensor else cameras


# Camera 3 of the data set (infrared) stands where camera 2 (visible) stands.
_SYSU_MM01 = Protocol("sysu_mm01", "SYSU-MM01", skipped_cameras={2: frozenset({1})}, unique_identities=True, num_cameras=6)
# Every one of LLCM's nine cameras has a visible and a near-infrared sensor.
_LLCM = Protocol("llcm", "LLCM paper", skips_own_camera=True, unique_identities=True, second_sensor=9)

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol for protocol in (
        Protocol("market1501", "Market-1501", skips_own_camera=True),
        Protocol(
            "market1501_trapezoid", "Market-1501, mAP by trapezoid", skips_own_camera=True, family="market1501",
            average_precision="mAP_trapezoid",
        ),
        Protocol("regdb", "RegDB"),
        Protocol("regdb_identities", "RegDB (identities)", unique_identities=True, family="regdb"),
        _SYSU_MM01,
        *(
            dataclasses.replace(
                _SYSU_MM01, name=f"sysu_mm01_{search}_{shot}shot_{draw}",
                label=f"SYSU-MM01 {search}-search, {shot}-shot, {draw} galleries",
                galleries={"search": search, "shot": shot, "gallery_draw": draw},
            )
            for draw in ("random", "official") for search in ("all", "indoor") for shot in (1, 10)
        ),
        _LLCM,
        dataclasses.replace(_LLCM, name="llcm_repository", label="LLCM repository", transposed=True),
        # Own images without cameras: test images of one file, or of one sequence, have one camera number, and no others have it.
        Protocol("captures", "no cameras", skips_own_camera=True),
    )
}
"""Protocols by name: the values of ``test.protocol``. :func:`register_protocol` adds to them."""


def register_protocol(protocol: Protocol) -> None:
    """Add a protocol, so that data sets can name it.

    Raises:
        InputError: the name is taken by another protocol.

    Example:
        >>> register_protocol(Protocol("regdb", "another"))
        Traceback (most recent call last):
        torchreid_nas.errors.InputError: there is a protocol "regdb" already; choose another name
    """
    if PROTOCOLS.setdefault(protocol.name, protocol) != protocol:
        raise InputError(f'there is a protocol "{protocol.name}" already; choose another name')


def find_protocol(protocol: str | Protocol) -> Protocol:
    """Return a protocol itself, or the registered one of that name.

    Raises:
        InputError: there is no such protocol.

    Example:
        >>> find_protocol("sysu_mm01").label
        'SYSU-MM01'
    """
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise InputError(
            f'there is no protocol "{protocol}", expected one of {", ".join(PROTOCOLS)}{nearest(protocol, PROTOCOLS)}'
        )
    return PROTOCOLS[protocol]


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
        distmat: (Q, G) distances, see :meth:`Protocol.evaluate`.
        q_pids: (Q,) identities of the queries.
        g_pids: (G,) identities of the gallery.
        q_camids: (Q,) cameras of the queries, **0-based** as everywhere in
            torchreid: the data set's camera 3 is 2.
        g_camids: (G,) cameras of the gallery, 0-based.
        max_rank: length of the CMC.

    Returns:
        The scores. Ties keep the order of the gallery (ours).

    Raises:
        InputError: shapes do not agree, a camera is not within 0 to 5, a distance is
            not finite, or no query has its identity in the gallery.

    Example:
        The query of camera 3 skips both images of camera 2:

        >>> evaluate_sysu_mm01([[0.1, 0.2, 0.3]], [1], [1, 9, 1], [2], [1, 1, 0]).mAP
        1.0
    """
    return PROTOCOLS["sysu_mm01"].evaluate(distmat, q_pids, g_pids, q_camids, g_camids, max_rank)


def evaluate_regdb(distmat: Any, q_pids: Any, g_pids: Any, max_rank: int = 20) -> RankingResult:
    """Score one trial of RegDB in either direction.

    Nguyen et al., "Person Recognition System Based on a Combination of Body
    Images from Visible Light and Thermal Cameras", Sensors 2017.

    Plain CMC, mAP and mINP on images; nothing is skipped. The published figures
    are means over ten trials: :func:`~torchreid_nas.metrics.average_results`.

    Args:
        distmat: (Q, G) distances, see :meth:`Protocol.evaluate`.
        q_pids: (Q,) identities of the queries.
        g_pids: (G,) identities of the gallery.
        max_rank: length of the CMC.

    Returns:
        The scores. Ties keep the order of the gallery (ours).

    Raises:
        InputError: shapes do not agree, a distance is not finite, or no query has its
            identity in the gallery.

    Example:
        >>> evaluate_regdb([[0.1, 0.2, 0.3]], [1], [1, 9, 1]).mINP
        0.6666666666666666
    """
    return PROTOCOLS["regdb"].evaluate(distmat, q_pids, g_pids, None, None, max_rank)


def evaluate_llcm(
    distmat: Any, q_pids: Any, g_pids: Any, q_camids: Any, g_camids: Any, max_rank: int = 20
) -> RankingResult:
    """Score one gallery of LLCM as its paper does.

    Zhang and Wang, "Diverse Embedding Expansion Network and Low-Light
    Cross-Modality Benchmark for Visible-Infrared Person Re-identification",
    CVPR 2023.

    - A query skips the gallery images of its own identity and camera, whichever
      of the camera's two sensors took them.
    - CMC counts identities: each keeps the place of its first hit.
    - AP and INP count all images that are left.

    The published figures are means over ten galleries. The authors' repository
    scores visible → infrared the other way round: ``PROTOCOLS["llcm_repository"]``
    takes the same arguments, and lets the gallery images search the query images.

    Args:
        distmat: (Q, G) distances, see :meth:`Protocol.evaluate`.
        q_pids: (Q,) identities of the queries.
        g_pids: (G,) identities of the gallery.
        q_camids: (Q,) cameras of the queries; 5 and, as :class:`torchreid_nas.data.LLCM` numbers infrared sensors, 14 are
            both the data set's camera 6.
        g_camids: (G,) cameras of the gallery, likewise.
        max_rank: length of the CMC.

    Returns:
        The scores. Ties keep the order of the gallery (ours).

    Raises:
        InputError: shapes do not agree, a distance is not finite, or no query has its identity in the gallery.

    Example:
        The nearest image is of the query's own identity and camera:

        >>> evaluate_llcm([[0.1, 0.2, 0.3]], [1], [1, 9, 1], [5], [14, 9, 10]).mAP
        0.5
    """
    return PROTOCOLS["llcm"].evaluate(distmat, q_pids, g_pids, q_camids, g_camids, max_rank)


def evaluate_market1501(
    distmat: Any, q_pids: Any, g_pids: Any, q_camids: Any, g_camids: Any, max_rank: int = 20
) -> RankingResult:
    """Score by the protocol of Market-1501 (Zheng et al., ICCV 2015), which torchreid applies to every data set.

    A query skips the gallery images of its own identity and camera. Arguments,
    result and errors as :func:`evaluate_sysu_mm01`, cameras being any integers.

    Example:
        The closest image is of the query's own identity and camera:

        >>> evaluate_market1501([[0.1, 0.2, 0.3]], [1], [1, 9, 1], [0], [0, 0, 1]).mAP
        0.5
    """
    return PROTOCOLS["market1501"].evaluate(distmat, q_pids, g_pids, q_camids, g_camids, max_rank)
