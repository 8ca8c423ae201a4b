"""Which gallery images a query does not rank, because of the cameras of both."""
from __future__ import annotations

__all__ = ["skipped_cameras", "skipped_images"]

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torchreid_nas.metrics.protocols import Protocol


def skipped_cameras(skipped: Mapping[int, frozenset[int]], q_camids: np.ndarray, g_camids: np.ndarray) -> np.ndarray:
    """Return which gallery images queries skip whatever their identity, bool (Q, G).

    Args:
        skipped: the gallery cameras that the queries of a camera skip.
        q_camids: (Q,) cameras of the queries.
        g_camids: (G,) cameras of the gallery.

    Example:
        >>> skipped_cameras({2: frozenset({1})}, np.array([2, 3]), np.array([0, 1]))
        array([[False,  True],
               [False, False]])
    """
    found = np.zeros((len(q_camids), len(g_camids)), dtype=bool)
    for camera, others in skipped.items():
        found |= (q_camids == camera)[:, None] & np.isin(g_camids, list(others))
    return found


def skipped_images(protocol: Protocol, q_pids: Any, g_pids: Any, q_camids: Any, g_camids: Any) -> np.ndarray:
    """Return which gallery images queries do not rank under a protocol, bool (Q, G).

    Args:
        protocol: one that is not ``transposed``.
        q_pids: (Q,) identities of the queries.
        g_pids: (G,) identities of the gallery.
        q_camids: (Q,) cameras of the queries, 0-based.
        g_camids: (G,) cameras of the gallery, 0-based.

    Example:
        >>> from torchreid_nas.metrics import PROTOCOLS
        >>> skipped_images(PROTOCOLS["market1501"], [1], [1, 1, 2], [0], [0, 1, 0])
        array([[ True, False, False]])
    """
    q_pids, g_pids, q_camids, g_camids = (np.asarray(labels) for labels in (q_pids, g_pids, q_camids, g_camids))
    if protocol.second_sensor:
        q_camids, g_camids = q_camids % protocol.second_sensor, g_camids % protocol.second_sensor
    found = skipped_cameras(protocol.skipped_cameras, q_camids, g_camids)
    if protocol.skips_own_camera:
        found |= (q_pids[:, None] == g_pids) & (q_camids[:, None] == g_camids)
    return found
