"""Camera styles from files: the images released with CamStyle and ECN, or made by ``torchreid-nas camstyle``."""
from __future__ import annotations

__all__ = ["FileStyler"]

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from torchreid_nas.data.camstyle.names import CamstyleNames, camstyle_folder, camstyle_name, shared_camstyle_file
from torchreid_nas.data.camstyle.styler import CameraStyler, style_camids
from torchreid_nas.data.dataset import Item
from torchreid_nas.errors import InputError


class FileStyler(CameraStyler):
    """Each image in the style of another camera is read from its file beside the training folder.

    CamStyle (Zhong et al., CVPR 2018) transfers by CycleGAN, with a network for
    each pair of cameras. The images released with ECN for MSMT17 come from a
    StarGAN and belong to the authors' copy of MSMT17 in the layout of Market-1501.
    Its names differ from the names of torchreid's MSMT17, so these images are not
    found for torchreid's MSMT17.

    The folders are listed once, when the styler is made; the styler keeps folder
    and name of the missing files. The real image takes the place of a missing file
    (ours; the authors' code stops at a missing file). Each of several data sets has
    the styles of its own cameras alone, since no others are on disk.

    Args:
        items: (path, pid, camid, dsetid) of one or several data sets' training images.
        names: the names of the files of each data set, by its dsetid.

    Attributes:
        camids: the cameras of ``items``, ascending.
        num_files: number of files of a complete set.
        num_missing: number of missing files.

    Raises:
        InputError: all files of a data set are missing, two images would share a file
            (the names of SYSU-MM01 repeat), a data set has fewer than two cameras,
            or ``names`` has no entry for a data set.
    """

    def __init__(self, items: Sequence[Item], names: Sequence[CamstyleNames] = (CamstyleNames(),)) -> None:
        self._names = tuple(names)
        parts = {number: [item for item in items if item[3] == number] for number in sorted({item[3] for item in items})}
        if max(parts, default=0) >= len(self._names):
            raise InputError(
                f"the items are of {max(parts) + 1} data sets, but there are names for {len(self._names)}; "
                "give a CamstyleNames for each"
            )
        self._camids = {number: style_camids(own) for number, own in parts.items()}
        self.camids = tuple(sorted(camid for camids in self._camids.values() for camid in camids))
        self._folders = tuple(sorted({str(camstyle_folder(item[0])) for item in items}))
        self.num_files = 0
        self._missing: frozenset[tuple[str, str]] = frozenset()
        for number, own in parts.items():
            _check_distinct(own, self._names[number].msmt17)
            self._look_for(own)
        self.num_missing = len(self._missing)

    def camids_of(self, item: Item) -> Sequence[int]:
        """Return the cameras of the image's data set."""
        return self._camids[item[3]]

    def source(self, item: Item, new_camid: int) -> str:
        """Return the file of ``item`` in the style of ``new_camid``, or the real image where the file is missing.

        The sizes of the two may differ.
        """
        place = next(self._places(item, new_camid), None)
        return item[0] if place is None or place in self._missing else str(Path(*place))

    def files_of(self, item: Item) -> Sequence[str]:
        """Return the existing files of ``item`` in the styles of other cameras."""
        return [str(Path(*place)) for place in self._places(item) if place not in self._missing]

    def __call__(self, pixels: np.ndarray, item: Item, new_camid: int, drawn: int = 0) -> np.ndarray:
        """Return ``pixels`` itself: the image of :meth:`source` has the style already."""
        return pixels

    def summary(self) -> str:
        """Return in one sentence how many images were found, and what replaces the missing ones."""
        folders = '", "'.join(self._folders)
        found = (
            f"{self.num_files - self.num_missing:,} of {self.num_files:,} camera-style images of {len(self.camids)} "
            f'cameras found in "{folders}"'
        )
        return f"{found}; the {self.num_missing:,} missing are replaced by real ones" if self.num_missing else found

    def _look_for(self, items: Sequence[Item]) -> None:
        """Count the files of one data set, and keep the missing ones."""
        expected = [place for item in items for place in self._places(item)]
        listed = {folder: _names_in(folder) for folder in {folder for folder, _ in expected}}
        missing = frozenset((folder, name) for folder, name in expected if name not in listed[folder])
        self.num_files += len(expected)
        self._missing |= missing
        if len(missing) == len(expected):
            folder, name = expected[0]
            state = "does not exist, so there are none"
            if Path(folder).is_dir():
                state = "holds other files, but none" if listed[folder] else "has none"
            released = (
                "put the images released for Market-1501 and DukeMTMC-reID there (github.com/zhunzhong07/CamStyle and "
                "github.com/zhunzhong07/ECN), make images"
            )
            if self._names[items[0][3]].msmt17:
                released = (
                    "the images released for MSMT17 belong to the authors' own copy of MSMT17, whose names differ from "
                    "the names of torchreid's MSMT17, so make images"
                )
            raise InputError(
                f'the folder "{folder}" {state} of the {len(expected):,} camera-style images that are expected '
                f'(one is "{name}"); {released} with torchreid-nas camstyle, or set ecn.camstyle '
                "to fourier, statistics or none"
            )

    def _places(self, item: Item, *new_camids: int) -> Iterator[tuple[str, str]]:
        """Yield folder and file name in the style of each camera but the own one; by default of all cameras."""
        folder, name = str(camstyle_folder(item[0])), Path(item[0]).name
        msmt17, first = self._names[item[3]]
        for camid in new_camids or self.camids_of(item):
            if camid != item[2]:
                yield folder, camstyle_name(name, item[2] - first, camid - first, msmt17)


def _names_in(folder: str) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries}
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise InputError(
            f'the folder of camera-style images "{folder}" cannot be listed ({error.strerror}); '
            "check the path and its permissions"
        ) from error


def _check_distinct(items: Sequence[Item], msmt17: bool) -> None:
    """Refuse two images whose styles would share a file: an identity would get the picture of another identity."""
    shared = shared_camstyle_file(items, msmt17)
    if shared:
        folder, stem, count = shared
        raise InputError(
            f'{count} training images are named "{stem}", so that their camera-style images would share a file in '
            f'"{folder}"; camera styles from files need names that differ, so set ecn.camstyle to fourier, statistics '
            "or none"
        )
