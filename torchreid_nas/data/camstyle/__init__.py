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
    """Make the styler of a name with its defaults.

    Args:
        kind: from ``STYLERS``.
        items: (path, pid, camid, dsetid) of the target's training images.
        names: for files, how those of each data set are called, by the dsetid of its items.
        seed: of the images that the other two learn the cameras from.

    Raises:
        InputError: unknown kind, or see the styler.
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
