"""torchreid's readers of Market-1501, DukeMTMC-reID, MSMT17 and CUHK03, which here read whole names instead of parts of them.

torchreid takes one digit for a camera (``c10`` is camera 1), looks for identity
and camera anywhere in a path, and stops at numbers beyond fixed ranges with
``AssertionError``. The classes here read any number of identities and cameras,
and name the file that does not match.
"""
from __future__ import annotations

__all__ = ["FULL_READERS", "NameRule", "use_full_names"]

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torchreid

from torchreid_nas.data.folders import read_lines
from torchreid_nas.errors import InputError
from torchreid_nas.host import IMAGE_DATASETS

_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"}
_JUNK = -1  # the identity of Market-1501's junk images


@dataclasses.dataclass(frozen=True)
class NameRule:
    """How an image of a data set is named.

    Args:
        pattern: of the whole name, with the groups ``pid`` and ``camera``.
        text: the rule for people, with an example.

    Example:
        >>> MARKET.read("0002_c13s1_000451_03.jpg", "the image")
        (2, 12)
        >>> MARKET.read("copy_0002_c1.jpg", "the image")
        Traceback (most recent call last):
        torchreid_nas.errors.InputError: the image "copy_0002_c1.jpg" does not match <identity>_c<camera>….jpg, such as \
0002_c1s1_000451_03.jpg, identities from 0 (or -1 for junk) and cameras from 1; rename it, or move it elsewhere
    """

    pattern: re.Pattern[str]
    text: str

    def read(self, name: str, what: str) -> tuple[int, int]:
        """Return the identity and the 0-based camera of an image.

        Args:
            name: of the file, without its folder.
            what: what names the image in a message.

        Raises:
            InputError: the name does not match, or the camera is 0.
        """
        found = self.pattern.fullmatch(name)
        if found is None or int(found["camera"]) < 1:
            raise InputError(f'{what} "{name}" does not match {self.text}; rename it, or move it elsewhere')
        return int(found["pid"]), int(found["camera"]) - 1


_NUMBER = "[0-9]{1,18}"
MARKET = NameRule(
    re.compile(rf"(?P<pid>-1|{_NUMBER})_c(?P<camera>{_NUMBER})(?:[^0-9].*)?\.jpg", re.DOTALL),
    "<identity>_c<camera>….jpg, such as 0002_c1s1_000451_03.jpg, identities from 0 (or -1 for junk) and cameras from 1",
)
DUKE = NameRule(
    re.compile(rf"(?P<pid>{_NUMBER})_c(?P<camera>{_NUMBER})(?:[^0-9].*)?\.jpg", re.DOTALL),
    "<identity>_c<camera>….jpg, such as 0002_c1_f0044158.jpg, identities from 0 and cameras from 1",
)
MSMT17 = NameRule(
    re.compile(rf"(?P<pid>{_NUMBER})_{_NUMBER}_(?P<camera>{_NUMBER})(?:_.*)?\.jpg", re.DOTALL),
    "<identity>_<number>_<camera>_….jpg, such as 0000_000_01_0303morning_0015_0.jpg, cameras from 1",
)
CUHK03 = NameRule(
    re.compile(rf"{_NUMBER}_(?P<pid>{_NUMBER})_(?P<camera>[12])_{_NUMBER}\.png"),
    "<camera pair>_<identity>_<view>_<number>.png, such as 1_001_1_01.png, views 1 and 2",
)


class _FolderReader:
    """Reads a folder of Market-1501's layout. A mixin in front of torchreid's class, which finds the folders."""

    rule: NameRule

    def process_dir(self, dir_path: str, relabel: bool = False) -> list[tuple[str, int, int]]:
        """Return (path, identity, camera) of every image in a folder but the junk, by name.

        Args:
            dir_path: the folder.
            relabel: number the identities from 0.

        Raises:
            InputError: the folder holds no image, or an image whose name does not match the rule.
        """
        names = sorted(path.name for path in Path(dir_path).iterdir() if path.suffix.lower() in _IMAGE_SUFFIXES)
        read = [(name, *self.rule.read(name, f'in "{dir_path}" the image')) for name in names]
        kept = [(str(Path(dir_path, name)), pid, camid) for name, pid, camid in read if pid != _JUNK]
        if not kept:
            raise InputError(f'"{dir_path}" holds no images; unpack the data set again')
        labels = {pid: label for label, pid in enumerate(sorted({pid for _, pid, _ in kept}))}
        return [(path, labels[pid], camid) for path, pid, camid in kept] if relabel else kept


class FullMarket1501(_FolderReader, torchreid.data.datasets.image.Market1501):
    """torchreid's Market-1501, its names read in full."""

    rule = MARKET


class FullDukeMTMCreID(_FolderReader, torchreid.data.datasets.image.DukeMTMCreID):
    """torchreid's DukeMTMC-reID, its names read in full."""

    rule = DUKE


class FullMSMT17(torchreid.data.datasets.image.MSMT17):
    """torchreid's MSMT17, the lines of its lists and the names in them read in full."""

    def process_dir(self, dir_path: str, list_path: str) -> list[tuple[str, int, int]]:
        """Return (path, identity, camera) for every line of a list, such as ``0000/0000_000_01_0303morning_0015_0.jpg 0``.

        Args:
            dir_path: the folder of the images.
            list_path: the list.

        Raises:
            InputError: a line is no path and label, or the name in it does not match the rule.
        """
        items = []
        for number, line in read_lines(Path(list_path)):
            image, _, label = line.rpartition(" ")
            if not image.strip() or not re.fullmatch(_NUMBER, label):
                raise InputError(
                    f'line {number} of "{list_path}" is {line[:80]!r}, expected an image path and a label such as '
                    '"0000/0000_000_01_0303morning_0015_0.jpg 0"; restore the file'
                )
            image = image.strip()
            _, camid = MSMT17.read(image.rpartition("/")[2], f'in line {number} of "{list_path}" the image')
            items.append((str(Path(dir_path, image)), int(label), camid))
        return items


class FullCUHK03(torchreid.data.datasets.image.CUHK03):
    """torchreid's CUHK03, whose lists of images are checked against the names in them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for path, _, camid in (item[:3] for item in (*self.train, *self.query, *self.gallery)):
            _, expected = CUHK03.read(Path(path).name, f'in the splits of "{self.dataset_dir}" the image')
            if camid != expected:
                raise InputError(
                    f'the splits of "{self.dataset_dir}" give the image "{path}" camera {camid + 1}, its name says '
                    f"{expected + 1}; remove the files splits_*.json there, which are made anew"
                )


FULL_READERS: Mapping[Any, type] = {
    torchreid.data.datasets.image.Market1501: FullMarket1501,
    torchreid.data.datasets.image.DukeMTMCreID: FullDukeMTMCreID,
    torchreid.data.datasets.image.MSMT17: FullMSMT17,
    torchreid.data.datasets.image.CUHK03: FullCUHK03,
}
"""The classes of torchreid's registry, and those that read their names in full."""


class use_full_names:
    """Have torchreid's own ``ImageDataManager`` read names in full, too, until told otherwise.

    The data managers of this package always do. torchreid's registry is left
    alone unless a script asks for it, since the numbers of a script may change:
    cameras above 9 were other cameras before. In force at once; a ``with``
    block ends it, and so does :meth:`undo`::

        torchreid_nas.data.use_full_names()
        torchreid.data.ImageDataManager(root="data", sources="market1501")

    Example:
        >>> with use_full_names():
        ...     IMAGE_DATASETS["market1501"].__name__
        'FullMarket1501'
    """

    def __init__(self) -> None:
        self._replaced = {name: cls for name, cls in IMAGE_DATASETS.items() if isinstance(cls, type) and cls in FULL_READERS}
        IMAGE_DATASETS.update({name: FULL_READERS[cls] for name, cls in self._replaced.items()})

    def undo(self) -> None:
        """Put back what was there before; a second time it does nothing."""
        IMAGE_DATASETS.update(self._replaced)
        self._replaced = {}

    def __enter__(self) -> use_full_names:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None,
    ) -> None:
        self.undo()
