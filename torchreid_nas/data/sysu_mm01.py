"""SYSU-MM01: four visible and two infrared cameras, galleries drawn at random."""
from __future__ import annotations

__all__ = ["SYSUMM01", "read_permutations"]

import dataclasses
import random
import re
import warnings
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from torchreid_nas.data.dataset import CrossModalityDataset
from torchreid_nas.data.folders import IMAGE_SUFFIXES, Layout, read_identities
from torchreid_nas.errors import InputError, InputWarning, nearest
from torchreid_nas.metrics.protocols import PROTOCOLS, Protocol

CAMERAS = (1, 2, 3, 4, 5, 6)
QUERY_CAMERAS = (3, 6)
GALLERY_CAMERAS = {"all": (1, 2, 4, 5), "indoor": (1, 2)}
GALLERY_DRAWS = ("random", "official")
ID_LISTS = {part: f"exp/{part}_id.txt" for part in ("train", "val", "test")}
PERMUTATIONS = "exp/rand_perm_cam.mat"
IMAGE_NAME = re.compile(r"[0-9]{1,18}\.(jpe?g|png|bmp)", re.IGNORECASE)

# What scipy raises on truncated, foreign and version 7.3 files.
UNREADABLE = (
    OSError, ValueError, TypeError, IndexError, NotImplementedError, zlib.error, scipy.io.matlab.MatReadError
)

LAYOUT = Layout(
    name="SYSU-MM01",
    markers=("exp", "cam1"),
    tree=(
        "cam1/<identity>/<number>.jpg    such as cam1/0001/0001.jpg; so for",
        "cam2/ ... cam6/",
        "exp/{train,val,test}_id.txt     one comma-separated line of identities each",
        "exp/rand_perm_cam.mat           for the official galleries only",
    ),
    request="https://github.com/wuancong/SYSU-MM01",
    stand_in="sysu_mm01",
)

Images = dict[int, dict[int, list[str]]]
"""identity -> 1-based camera -> sorted paths."""


class SYSUMM01(CrossModalityDataset):
    """SYSU-MM01 (Wu et al., "RGB-Infrared Cross-Modality Person Re-Identification", ICCV 2017).

    Trains on the 395 identities of the train and val lists (labels 0..N-1; the
    relabelled identities of the val list are ``val_pids``), all six cameras.
    Queries are all test images of the infrared cameras 3 and 6; a gallery is
    drawn per trial from the visible cameras. Test labels are the identity
    numbers. Camera numbers are 0-based: SYSU's camera 3 is camid 2.

    The protocol averages over ten galleries: :meth:`draw_gallery` gives each,
    as images of ``gallery_pool``. For torchreid's own data manager
    ``gallery`` is the single draw of trial ``split_id``.

    Args:
        root: the folder that holds ``SYSU-MM01``, or that folder itself.
        split_id: the trial of ``gallery``, from 0.
        search: ``"all"`` (cameras 1, 2, 4, 5) or ``"indoor"`` (1, 2).
        gallery_draw: ``"random"`` (the common code: AGW, CM-NAS, DEEN) or
            ``"official"`` (``exp/rand_perm_cam.mat``: MPANet, IDKL, MCJA);
            results are comparable only within one.
        shot: images per identity and camera in a gallery.
        **kwargs: see :class:`CrossModalityDataset`.

    Raises:
        InputError: the data set is missing, a list is corrupt (file and line
            number are named) or empty, training and test share an identity,
            no query identity is in the gallery, or an argument is out of range.
    """

    dataset_dir = LAYOUT.name
    infrared_camids = frozenset(camera - 1 for camera in QUERY_CAMERAS)
    draws_gallery = True
    protocol: str | Protocol = "sysu_mm01"
    setting = "{protocol}"
    options = ("shot", "gallery_draw", "num_trials")
    stand_in = LAYOUT.stand_in

    def __init__(
        self,
        root: str = "",
        split_id: int = 0,
        search: str = "all",
        gallery_draw: str = "random",
        shot: int = 1,
        **kwargs: Any,
    ):
        _check_draw(search, gallery_draw)
        folder = LAYOUT.locate(root)
        LAYOUT.require(folder, [*(f"cam{camera}" for camera in CAMERAS), *ID_LISTS.values()])
        self.dataset_dir = str(folder)
        self.search = search
        self.gallery_draw = gallery_draw
        self.shot = shot
        # Another number of images than 1 or 10 is no protocol of the papers and has no name of its own.
        self.protocol = PROTOCOLS.get(f"sysu_mm01_{search}_{shot}shot_{gallery_draw}") or dataclasses.replace(
            PROTOCOLS["sysu_mm01"], label=f"SYSU-MM01 {search}-search, {shot}-shot, {gallery_draw} galleries",
        )
        self._permutations: list[list[np.ndarray]] | None = None

        ids = {part: read_identities(folder / name) for part, name in ID_LISTS.items()}
        shared = (ids["train"] | ids["val"]) & ids["test"]
        if shared:
            raise InputError(
                f'"{folder / ID_LISTS["test"]}" lists {len(shared)} identities that are also for training '
                f"(such as {min(shared)}); restore the lists in exp/"
            )
        images = _list_images(folder, ids["train"] | ids["val"] | ids["test"])
        for part, name in ID_LISTS.items():
            _check_images(folder / name, ids[part], images)

        pids = sorted(pid for pid in ids["train"] | ids["val"] if pid in images)
        labels = {pid: label for label, pid in enumerate(pids)}
        self.val_pids = frozenset(labels[pid] for pid in ids["val"] if pid in labels)
        train = [(path, labels[pid], camid) for path, pid, camid in _items(images, pids, CAMERAS)]

        test_pids = sorted(pid for pid in ids["test"] if pid in images)
        query = _items(images, test_pids, QUERY_CAMERAS)
        pool = _items(images, test_pids, GALLERY_CAMERAS[search])
        if {pid for _, pid, _ in query}.isdisjoint(pid for _, pid, _ in pool):
            raise InputError(
                f'no identity of "{folder / ID_LISTS["test"]}" has images both in the query cameras 3, 6 '
                f"({len(query)} images) and in the gallery cameras "
                f"{', '.join(map(str, GALLERY_CAMERAS[search]))} ({len(pool)} images); unpack the data set again"
            )
        self._test_images = {pid: images[pid] for pid in test_pids}
        super().__init__(train, query, self.draw_gallery(split_id), gallery_pool=pool, **kwargs)

    def draw_gallery(
        self, trial: int, shot: int | None = None, search: str | None = None, gallery_draw: str | None = None,
    ) -> list[tuple[str, int, int]]:
        """Return the (path, pid, camid) of one trial's gallery, by identity, then camera.

        ``"random"``: a generator seeded with ``trial`` draws ``shot`` of the
        sorted images of each identity and camera without replacement, in this
        order, which equals the common code; that code stops where fewer images
        exist, ours takes all of them. ``"official"``: the first ``shot`` image
        numbers in row ``trial`` of the published permutations.

        Args:
            trial: the trial, from 0; the protocol uses 0 to 9.
            shot: images per identity and camera; default the constructor's.
            search: ``"all"`` or ``"indoor"``; likewise.
            gallery_draw: ``"random"`` or ``"official"``; likewise.

        Raises:
            InputError: an argument is out of range, or the permutations are
                missing, unreadable or do not fit the images.
        """
        shot = self.shot if shot is None else shot
        search, gallery_draw = search or self.search, gallery_draw or self.gallery_draw
        _check_draw(search, gallery_draw)
        for key, value, least in (("trial", trial, 0), ("shot", shot, 1)):
            if not isinstance(value, (int, np.integer)) or value < least:
                raise InputError(f"the gallery {key} is {value!r}, expected an integer of at least {least}")
        generator = random.Random(int(trial))
        gallery: list[tuple[str, int, int]] = []
        for pid, cameras in self._test_images.items():
            for camera in GALLERY_CAMERAS[search]:
                paths = cameras.get(camera, [])
                if not paths:
                    continue
                if gallery_draw == "random":
                    drawn = generator.sample(paths, min(shot, len(paths)))
                else:
                    drawn = self._official(camera, pid, trial, shot, paths)
                gallery.extend((path, pid, camera - 1) for path in drawn)
        return gallery

    def _official(self, camera: int, pid: int, trial: int, shot: int, paths: list[str]) -> list[str]:
        """Return the images that the published permutation names for one identity and camera."""
        file = Path(self.dataset_dir) / PERMUTATIONS
        if self._permutations is None:
            self._permutations = read_permutations(file)
        cells = self._permutations[camera - 1]
        runs = cells[pid - 1] if pid <= len(cells) else np.empty((0, 0), int)
        if runs.size == 0 or trial >= len(runs):
            raise InputError(
                f'"{file}" has no draw of trial {trial} for identity {pid} in camera {camera}, which has '
                f'{len(paths)} images; restore the file, or set gallery_draw to "random"'
            )
        numbered = {int(Path(path).stem): path for path in paths}
        drawn = []
        for number in runs[trial, :shot].tolist():
            if number not in numbered:
                raise InputError(
                    f'"{file}" draws image {number} of identity {pid} in camera {camera}, which does not exist; '
                    "unpack the data set again"
                )
            drawn.append(numbered[number])
        return drawn


def _check_draw(search: str, gallery_draw: str) -> None:
    for key, value, known in (("search", search, GALLERY_CAMERAS), ("gallery_draw", gallery_draw, GALLERY_DRAWS)):
        if value not in known:
            raise InputError(f'{key} is "{value}", expected one of {", ".join(known)}{nearest(value, known)}')


def _list_images(folder: Path, ids: set[int]) -> Images:
    """List the images of the wanted identities; files that are no images, such as ``Thumbs.db``, are passed over.

    Raises:
        InputError: the name of an image, or the folder of its identity, is no number.
    """
    images: Images = {}
    for camera in CAMERAS:
        for identity in sorted((folder / f"cam{camera}").iterdir()):
            name = identity.name
            numbered = bool(re.fullmatch("[0-9]{1,18}", name))
            if (numbered and int(name) not in ids) or not identity.is_dir():
                continue
            images_here = sorted(file for file in identity.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
            for file in images_here:
                if not numbered or not IMAGE_NAME.fullmatch(file.name):
                    raise InputError(
                        f'the image "{file}" does not match cam<camera>/<identity>/<number>.jpg, such as cam1/0001/0001.jpg; '
                        "rename it, or move it elsewhere"
                    )
            paths = [str(file) for file in images_here]
            if paths:
                images.setdefault(int(name), {}).setdefault(camera, []).extend(paths)
    return images


def _check_images(path: Path, ids: set[int], images: Images) -> None:
    """Refuse a list of which no identity has images; warn when some have none."""
    absent = sorted(ids - images.keys())
    if len(absent) == len(ids):
        raise InputError(
            f'none of the {len(ids)} identities of "{path}" has an image in cam1 to cam6; unpack the data set again'
        )
    if absent:
        warnings.warn(
            f'{len(absent)} of the {len(ids)} identities of "{path}" have no image in any camera and are left out: '
            f'{", ".join(map(str, absent[:5]))}{", ..." if len(absent) > 5 else ""}',
            InputWarning,
            stacklevel=3,
        )


def _items(images: Images, pids: Iterable[int], cameras: Iterable[int]) -> list[tuple[str, int, int]]:
    """Return (path, pid, camid) by identity, then camera, then name."""
    return [
        (path, pid, camera - 1) for pid in pids for camera in cameras for path in images[pid].get(camera, [])
    ]


def read_permutations(path: Path) -> list[list[np.ndarray]]:
    """Read the official draws: for each camera and identity an array (runs, images) of 1-based image numbers.

    MATLAB cells arrive as object arrays, 6 x 1 or 1 x 6, with one more level
    of nesting or not, depending on what wrote them.
    """
    if not path.is_file():
        raise InputError(
            f'"{path}" does not exist, which gallery_draw "official" needs; copy it from {LAYOUT.request}, '
            'or set gallery_draw to "random"'
        )
    try:
        cells = scipy.io.loadmat(path)["rand_perm_cam"]
    except KeyError as error:
        raise InputError(f'"{path}" holds no variable rand_perm_cam; restore the file') from error
    except UNREADABLE as error:
        raise InputError(f'"{path}" is truncated or no MATLAB file of version 5 to 7; restore the file') from error
    cameras = _unwrap(cells)
    if cameras.dtype != object or cameras.size != len(CAMERAS):
        raise InputError(
            f'rand_perm_cam in "{path}" has the shape {cameras.shape}, expected a cell for each of the '
            f"{len(CAMERAS)} cameras; restore the file"
        )
    try:
        return [
            [np.atleast_2d(_unwrap(identity)).astype(int) for identity in _unwrap(camera).ravel()]
            for camera in cameras.ravel()
        ]
    except (TypeError, ValueError) as error:
        raise InputError(
            f'rand_perm_cam in "{path}" does not hold an array of image numbers for each identity; restore the file'
        ) from error


def _unwrap(value: Any) -> np.ndarray:
    """Open cells that hold nothing but another cell or array of numbers."""
    value = np.asarray(value)
    while value.dtype == object and value.size == 1 and isinstance(value.item(), np.ndarray):
        value = value.item()
    return value
