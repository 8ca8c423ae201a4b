"""Images of a data set in the style of its other cameras: from files, or by two methods that need no training."""
from __future__ import annotations

from collections.abc import Sequence

from torchreid_nas.data.camstyle.dataset import CameraStyleDataset, Style
from torchreid_nas.data.camstyle.files import FileStyler
from torchreid_nas.data.camstyle.fourier import FourierStyler
from torchreid_nas.data.camstyle.names import CAMSTYLE_FOLDER, CamstyleNames, camstyle_folder, camstyle_name
from torchreid_nas.data.camstyle.statistics import StatisticsStyler
from torchreid_nas.data.camstyle.styler import CameraStyler
from torchreid_nas.data.dataset import Item
from torchreid_nas.errors import InputError, nearest

__all__ = [
    "CAMSTYLE_FOLDER",
    "STYLERS",
    "CameraStyleDataset",
    "CameraStyler",
    "CamstyleNames",
    "FileStyler",
    "FourierStyler",
    "StatisticsStyler",
    "Style",
    "camstyle_folder",
    "camstyle_name",
    "make_camera_styler",
]

STYLERS = ("files", "fourier", "statistics")


def make_camera_styler(
    kind: str, items: Sequence[Item], names: Sequence[CamstyleNames] = (CamstyleNames(),), seed: int = 0,
) -> CameraStyler:
    """Make a styler by its name, with the defaults of its class.

    Args:
        kind: one of ``STYLERS``.
        items: (path, pid, camid, dsetid) of the target's training images.
        names: for ``"files"``: the names of the files of each data set, by the dsetid of its items.
        seed: for the others: of the choice of images from which they learn the cameras.

    Raises:
        InputError: the kind is unknown, or see the styler.

    .. code-block:: python

        styler = make_camera_styler("fourier", dataset.train)
        print(styler.summary())
    """
    if kind == "files":
        return FileStyler(items, names)
    if kind == "fourier":
        return FourierStyler(items, seed=seed)
    if kind == "statistics":
        return StatisticsStyler(items, seed=seed)
    raise InputError(
        f'there is no camera styler "{kind}", expected one of {", ".join(STYLERS)}{nearest(kind, STYLERS)}'
    )
