"""Folders and names of camera-style images, in the layouts of the released images (Zhong et al.).

The images released for MSMT17 come from the authors' own copy of MSMT17, in the
layout of Market-1501 (as the README of their ECN says): the stems have
``_c<camera>``, where torchreid's MSMT17 has ``0000_000_01_0303morning_…``.
"""
from __future__ import annotations

__all__ = ["CAMSTYLE_FOLDER", "CamstyleNames", "camstyle_folder", "camstyle_name", "is_msmt17", "shared_camstyle_file"]

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

CAMSTYLE_FOLDER = "bounding_box_train_camstyle"


class CamstyleNames(NamedTuple):
    """The names of the camera-style images of one data set, whose items may be numbered together with other data sets.

    Args:
        msmt17: as for :func:`camstyle_name`.
        first_camid: number of the data set's camera 0 in the items; above 0 where other data sets come first.
    """

    msmt17: bool = False
    first_camid: int = 0


def is_msmt17(dataset: str) -> bool:
    """Return whether the files of a data set, by its name in torchreid's registry, are named as in MSMT17.

    >>> is_msmt17("msmt17"), is_msmt17("market1501")
    (True, False)
    """
    return dataset.startswith("msmt17")


def camstyle_folder(image: str | Path) -> Path:
    """Return the folder of the camera-style images of a training image: beside the training folder.

    MSMT17 keeps the images of each identity in a folder below ``train/``; its
    camera-style images lie in one folder all the same.

    >>> camstyle_folder("market/bounding_box_train/0002_c1s1_000451_03.jpg").as_posix()
    'market/bounding_box_train_camstyle'
    >>> camstyle_folder("msmt17/train/0000/0000_000_01_0303morning_0015_0.jpg").as_posix()
    'msmt17/bounding_box_train_camstyle'
    """
    image = Path(image)
    train = image.parent.parent if image.parent.name.isdigit() else image.parent
    return train.parent / CAMSTYLE_FOLDER


def camstyle_name(image: str | Path, camid: int, new_camid: int, msmt17: bool = False) -> str:
    """Return the file name of a training image in the style of another camera.

    Market-1501 and DukeMTMC-reID: ``<stem>_fake_<own>to<new>.jpg``; MSMT17:
    ``<stem>_fake_<new>.jpg``.

    Args:
        image: path or name of the training image.
        camid: camera of the image, 0-based as in torchreid; the file name counts from 1.
        new_camid: the other camera, 0-based.
        msmt17: whether the files are named as for MSMT17.

    >>> camstyle_name("0002_c1s1_000451_03.jpg", camid=0, new_camid=2)
    '0002_c1s1_000451_03_fake_1to3.jpg'
    """
    own = "" if msmt17 else f"{camid + 1}to"
    return f"{Path(image).stem}_fake_{own}{new_camid + 1}.jpg"


def shared_camstyle_file(items: Iterable[tuple[Any, ...]], msmt17: bool = False) -> tuple[Path, str, int] | None:
    """Return folder and stem that most training images would share, and their number; None where each has its own.

    Args:
        items: torchreid's (path, pid, camid, …).
        msmt17: as for :func:`camstyle_name`.

    >>> shared_camstyle_file([("train/1.jpg", 0, 0), ("train/1.png", 1, 0), ("train/2.jpg", 1, 1)])[1:]
    ('1', 2)
    """
    keys = Counter((Path(path).parent, Path(path).stem, 0 if msmt17 else camid) for path, _, camid, *_ in items)
    # Folders of images are few, and two of them can share a folder of styles.
    folders = {parent: camstyle_folder(Path(parent, "image")) for parent, *_ in keys}
    counts = Counter[tuple[Path, str, int]]()
    for (parent, stem, camid), count in keys.items():
        counts[folders[parent], stem, camid] += count
    (folder, stem, _), count = counts.most_common(1)[0]
    return (folder, stem, count) if count > 1 else None
