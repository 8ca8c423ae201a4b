"""Where camera-style images lie and what they are called: the layouts in which they were released (Zhong et al.).

The images released for MSMT17 were made from a copy with the authors' own
names, "the structure the same as Market-1501" (README of their ECN): stems
with ``_c<camera>``, where torchreid's MSMT17 has ``0000_000_01_0303morning_…``.
"""
from __future__ import annotations

__all__ = ["CAMSTYLE_FOLDER", "CamstyleNames", "camstyle_folder", "camstyle_name", "is_msmt17", "shared_camstyle_file"]

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

CAMSTYLE_FOLDER = "bounding_box_train_camstyle"


class CamstyleNames(NamedTuple):
    """How the camera-style images of one data set are called, the items of which may be numbered with those of others.

    Args:
        msmt17: as for :func:`camstyle_name`.
        first_camid: what the data set's own camera 0 is in the items; above 0 where it was added to others.
    """

    msmt17: bool = False
    first_camid: int = 0


def is_msmt17(dataset: str) -> bool:
    """Return whether the data set of this name in torchreid's registry has its files named as MSMT17's."""
    return dataset.startswith("msmt17")


def camstyle_folder(image: str | Path) -> Path:
    """Return the folder of the camera-style images of a training image: beside the training folder.

    MSMT17 keeps the images of an identity in a folder of their own below
    ``train/``; its camera-style images lie in one folder all the same.
    """
    image = Path(image)
    train = image.parent.parent if image.parent.name.isdigit() else image.parent
    return train.parent / CAMSTYLE_FOLDER


def camstyle_name(image: str | Path, camid: int, new_camid: int, msmt17: bool = False) -> str:
    """Return the file name of a training image in the style of another camera.

    Market-1501 and DukeMTMC-reID: ``<stem>_fake_<own>to<new>.jpg``; MSMT17:
    ``<stem>_fake_<new>.jpg``. Cameras are 0-based here, as in torchreid, and
    1-based in names.
    """
    own = "" if msmt17 else f"{camid + 1}to"
    return f"{Path(image).stem}_fake_{own}{new_camid + 1}.jpg"


def shared_camstyle_file(items: Iterable[tuple], msmt17: bool = False) -> tuple[Path, str, int] | None:
    """Return folder and stem that most training images would share, and how many they are; None where each has its own.

    Args:
        items: torchreid's (path, pid, camid, …).
        msmt17: as for :func:`camstyle_name`.
    """
    keys = Counter((os.path.dirname(path), Path(path).stem, 0 if msmt17 else camid) for path, _, camid, *_ in items)
    # Folders of images are few, and two of them can have one folder of styles.
    folders = {parent: camstyle_folder(Path(parent, "image")) for parent, *_ in keys}
    counts: Counter = Counter()
    for (parent, stem, camid), count in keys.items():
        counts[folders[parent], stem, camid] += count
    (folder, stem, _), count = counts.most_common(1)[0]
    return (folder, stem, count) if count > 1 else None
