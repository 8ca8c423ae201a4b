"""DukeMTMC-reID in synthetic pedestrians: other persons than in Market-1501, outdoors on a dull winter day."""
from __future__ import annotations

__all__ = ["DUKEMTMCREID", "write_dukemtmcreid"]

import os
from pathlib import Path

from torchreid_nas.data.synthetic.camera_network import CameraNetwork, Look
from torchreid_nas.data.synthetic.person import Wardrobe
from torchreid_nas.data.synthetic.settings import SyntheticSettings

# The real cameras stood on a campus in winter. The distance between the two domains
# is ours: bluish light, pale ground, bare shrubs, softer pictures, looser boxes, and
# coats, jackets, trousers and backpacks in darker colours.
_WINTER = Look(
    wardrobe=Wardrobe(
        tops=((0, 1, 6, 7, 6), (0, 1, 2, 2, 2)),
        men=((20, 1, 0, 0), (8, 1, 0, 0)),
        women=((12, 0, 2, 2), (5, 0, 1, 1)),
        bags=((4, 7, 3, 2), (1, 2, 1, 1)),
        darkness=1.15,
    ),
    outdoors=True,
    paint=(1.15, 1.15, 1.16),
    foliage=(0.3, 0.25, 0.2),
    illuminant=(0.82, 0.91, 1.05),
    blur=0.5,
    noise=0.008,
    zoom=0.92,
)

DUKEMTMCREID = CameraNetwork(
    title="DukeMTMC-reID",
    domain="dukemtmcreid",
    folder="dukemtmc-reid",
    subfolder="DukeMTMC-reID",
    file_name="{label}_c{camera}_f{frame:07d}.jpg",
    # One frame in 120, that is one in two seconds, was labelled in the real set.
    interval=120,
    # Labels have four digits. Labels from 5000 on belong to the persons whom one camera saw.
    most_identities=4999,
    most_cameras=8,
    # The real set has 3.17 of eight cameras. With this share, equal settings would give
    # far fewer images than Market-1501 has (ours).
    attendance=0.5,
    # Three quarters of the cast of Market-1501: a network learns eight cameras from no more images.
    cast=0.09,
    # The real gallery holds 408 persons whom one camera saw beside the 702 test identities; no bad boxes.
    lone=408 / 702,
    look=_WINTER,
)


def write_dukemtmcreid(root: str | os.PathLike, settings: SyntheticSettings) -> Path:
    """Write ``<root>/dukemtmc-reid``, which torchreid's ``DukeMTMCreID`` reads from ``root``, and return it.

    See :meth:`.CameraNetwork.write`; up to eight cameras. Boxes are drawn by hand,
    so none is bad. Beside the test identities the gallery has persons whom one
    camera saw, in the share of the real set, labelled from 5000 on.

    Names are like ``0001_c2_f0046182.jpg``: identity, camera, frame.

    With equal settings the persons, cameras, places and the look differ from
    :func:`~.market1501.write_market1501`: a network trained on one of the two data
    sets loses much on the other.
    """
    return DUKEMTMCREID.write(root, settings)
