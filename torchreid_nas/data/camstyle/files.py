"""Camera styles from files: the images released with CamStyle and ECN, or those of ``torchreid-nas camstyle``."""
from __future__ import annotations

__all__ = ["FileStyler"]

import os
from collections.abc import Iterator, Sequence

import numpy as np

from torchreid_nas.data.camstyle.names import CamstyleNames, camstyle_folder, camstyle_name, shared_camstyle_file
from torchreid_nas.data.camstyle.styler import CameraStyler, style_camids
from torchreid_nas.data.dataset import Item
from torchreid_nas.errors import InputError


class FileStyler(CameraStyler):
    """Has each image in the style of another camera read from its file beside the training folder.

    CamStyle (Zhong et al., CVPR 2018) transfers by CycleGAN, one for each pair
    of cameras; the images released with ECN for MSMT17 are StarGAN's, made for
    the authors' copy of MSMT17 in the layout of Market-1501, whose names differ
    from those of torchreid's MSMT17: they are not found for it. Folders
    are listed once, here; of files that are there nothing is kept, of missing
    ones folder and name. A missing image is replaced by the real
    one when it is drawn (ours; the authors' code stops at it). Of several data
    sets each has the styles of its own cameras alone: no others are on disk.

    Args:
        items: (path, pid, camid, dsetid) of one or several data sets' training images.
        names: how the files of each data set are called, by its dsetid.

    Attributes:
        camids: the cameras of ``items``, ascending.
        num_files: how many files a complete set has.
        num_missing: how many of them are not there.

    Raises:
        InputError: all of a data set are missing, two images would share one
            (SYSU-MM01's names repeat), a data set has fewer than two cameras,
            or ``names`` lacks one.
    """

    def __init__(self, items: Sequence[Item], names: Sequence[CamstyleNames] = (CamstyleNames(),)):
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
        self.num_files, self._missing = 0, frozenset()
        for number, own in parts.items():
            _check_distinct(own, self._names[number].msmt17)
            self._look_for(own)
        self.num_missing = len(self._missing)

    def camids_of(self, item: Item) -> Sequence[int]:
        """Return the cameras of the image's data set."""
        return self._camids[item[3]]

    def source(self, item: Item, new_camid: int) -> str:
        """Return the file of ``item`` in the style of ``new_camid``, or the real image where that is missing.

        Their sizes may differ.
        """
        place = next(self._places(item, new_camid), None)
        return item[0] if place is None or place in self._missing else os.path.join(*place)

    def files_of(self, item: Item) -> Sequence[str]:
        """Return the files of ``item`` in other cameras' styles that are there."""
        return [os.path.join(*place) for place in self._places(item) if place not in self._missing]

    def __call__(self, pixels: np.ndarray, item: Item, new_camid: int, drawn: int = 0) -> np.ndarray:
        """Return ``pixels`` itself: the :meth:`source` has the style already."""
        return pixels

    def summary(self) -> str:
        """Return how many images were found, and what becomes of the others."""
        folders = '", "'.join(self._folders)
        found = (
            f"{self.num_files - self.num_missing:,} of {self.num_files:,} camera-style images of {len(self.camids)} "
            f'cameras found in "{folders}"'
        )
        return f"{found}; the {self.num_missing:,} missing are replaced by real ones" if self.num_missing else found

    def _look_for(self, items: Sequence[Item]) -> None:
        """Count the files of one data set and note the missing ones."""
        expected = [place for item in items for place in self._places(item)]
        listed = {folder: _names_in(folder) for folder in {folder for folder, _ in expected}}
        missing = frozenset((folder, name) for folder, name in expected if name not in listed[folder])
        self.num_files += len(expected)
        self._missing |= missing
        if len(missing) == len(expected):
            folder, name = expected[0]
            state = "does not exist, so there are none"
            if os.path.isdir(folder):
                state = "holds other files, but none" if listed[folder] else "has none"
            released = (
                "put there those released for Market-1501 and DukeMTMC-reID (github.com/zhunzhong07/CamStyle and "
                "github.com/zhunzhong07/ECN), make them"
            )
            if self._names[items[0][3]].msmt17:
                released = (
                    "those released for MSMT17 go with the authors' own copy of it, whose names differ from those of "
                    "torchreid's MSMT17, so make them"
                )
            raise InputError(
                f'the folder "{folder}" {state} of the {len(expected):,} camera-style images that are expected '
                f'(one is "{name}"); {released} with torchreid-nas camstyle, or do without: set ecn.camstyle '
                "to fourier, statistics or none"
            )

    def _places(self, item: Item, *new_camids: int) -> Iterator[tuple[str, str]]:
        """Yield folder and file name in the style of each camera, by default of every one, but for the own."""
        folder, name = str(camstyle_folder(item[0])), os.path.basename(item[0])
        msmt17, first = self._names[item[3]]
        for camid in new_camids or self.camids_of(item):
            if camid != item[2]:
                yield folder, camstyle_name(name, item[2] - first, camid - first, msmt17)


def _names_in(folder: str) -> set[str]:
    try:
        return set(os.listdir(folder))
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise InputError(
            f'the folder of camera-style images "{folder}" cannot be listed ({error.strerror}); '
            "check the path and its permissions"
        ) from error


def _check_distinct(items: Sequence[Item], msmt17: bool) -> None:
    """Refuse two images whose styles would have one name: an identity would get the picture of another."""
    shared = shared_camstyle_file(items, msmt17)
    if shared:
        folder, stem, count = shared
        raise InputError(
            f'{count} training images are named "{stem}", so that their camera-style images would share a file in '
            f'"{folder}"; files are for data sets whose names differ, here set ecn.camstyle to fourier, statistics or '
            "none"
        )
