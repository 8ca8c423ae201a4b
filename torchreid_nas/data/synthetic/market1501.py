"""Market-1501 in synthetic pedestrians: a gallery with bad detections, in neutral light and clothes of all seasons."""
from __future__ import annotations

__all__ = ["MARKET1501", "write_market1501"]

import os
from pathlib import Path

from torchreid_nas.data.synthetic.camera_network import CameraNetwork
from torchreid_nas.data.synthetic.settings import SyntheticSettings

MARKET1501 = CameraNetwork(
    title="Market-1501",
    domain="market1501",
    folder="market1501",
    subfolder="Market-1501-v15.09.15",
    file_name="{label}_c{camera}s{sequence}_{frame:06d}_{detection:02d}.jpg",
    # In the real set one frame in 25, one per second, was labelled.
    interval=25,
    # Readers of the real set, torchreid's among them, refuse larger numbers.
    most_identities=1501,
    most_cameras=6,
    # The real 750 test identities have 3,368 queries, one per camera: 4.5 of six.
    attendance=0.75,
    # Twice the cast of the visible cameras of SYSU-MM01: here the cameras differ in
    # their cast, not in their spectrum.
    cast=0.12,
    # The real gallery holds 13,115 good boxes, 2,798 distractors and 3,819 junk boxes.
    distractors=2798 / 13115,
    junk=3819 / 13115,
)


def write_market1501(root: str | os.PathLike, settings: SyntheticSettings) -> Path:
    """Write ``<root>/market1501``, which torchreid's ``Market1501`` reads from ``root``, and return it.

    See :meth:`.CameraNetwork.write`; up to six cameras. The gallery has junk
    (-1) and distractors (0000) in the shares of the real set. These boxes miss a
    test identity by the distance of the real set's rule.

    Names are like ``0002_c1s1_000451_03.jpg``: identity, camera, sequence,
    frame, and the number of the detected box; 00 for a box drawn by hand, as the
    boxes of queries are.
    """
    return MARKET1501.write(root, settings)
