"""LLCM: nine cameras with a visible and a near-infrared sensor each, in low light; galleries drawn at random."""
from __future__ import annotations

__all__ = ["LLCM"]

import dataclasses
import random
import re
from pathlib import Path
from typing import Any

import numpy as np

from torchreid_nas.data.dataset import MODALITIES, CrossModalityDataset
from torchreid_nas.data.folders import IMAGE_SUFFIXES, Layout, read_identities
from torchreid_nas.data.image_list import read_image_list
from torchreid_nas.errors import InputError, nearest
from torchreid_nas.metrics.protocols import PROTOCOLS, Protocol

# LLCM's own words for the modalities, in its folders, its lists and the names of its images.
WORDS = ("vis", "nir")
NUM_CAMERAS = PROTOCOLS["llcm"].second_sensor
# The cameras of the test; the near-infrared sensor of camera 3 has no folder.
TEST_CAMERAS = {"vis": (1, 2, 3, 4, 5, 6, 7, 8, 9), "nir": (1, 2, 4, 5, 6, 7, 8, 9)}
TEST_IDS = "idx/test_id.txt"
_EXAMPLE = "0351_c06_s200656_f4830_nir.jpg"

LAYOUT = Layout(
    name="LLCM",
    markers=("idx", "test_vis"),
    tree=(
        "idx/train_vis.txt, idx/train_nir.txt    lines of a path from this folder and a label",
        "idx/test_id.txt                         one comma-separated line of identities",
        f"test_vis/cam<1 to 9>/<identity>/         images such as {_EXAMPLE.replace('nir', 'vis')}",
        f"test_nir/cam<1, 2, 4 to 9>/<identity>/   images such as {_EXAMPLE}",
    ),
    request="https://github.com/ZYK100/LLCM",
    stand_in="llcm",
)


class LLCM(CrossModalityDataset):
    """LLCM, low-light cross-modality: visible and near-infrared images of 1,064 identities.

    Zhang and Wang, "Diverse Embedding Expansion Network and Low-Light
    Cross-Modality Benchmark for Visible-Infrared Person Re-identification",
    CVPR 2023.

    Trains on the identities of the two training lists (713; labels 0..N-1, the
    same for an identity in both modalities). Queries are all test images of one
    modality; a gallery is one image of the other modality per identity and
    camera, drawn anew for each of ten trials. Test labels are the identity
    numbers.

    A camera has a visible and a near-infrared sensor, and torchreid's camera
    number has to tell the modality: the images of camera 6 have camid 5 where
    they are visible and 14 where they are infrared. The protocols know that both
    are one camera.

    Args:
        root: the folder that holds ``LLCM``, or that folder itself.
        split_id: the trial of ``gallery``, from 0.
        query_modality: ``"visible"`` queries an infrared gallery,
            ``"infrared"`` the other way round.
        **kwargs: see :class:`CrossModalityDataset`.

    Raises:
        InputError: the data set or an image is missing, a list is corrupt or
            names a wrong camera or modality (file and line are named), training
            and test share an identity, no query identity is in the gallery, or
            an argument is out of range.
    """

    dataset_dir = LAYOUT.name
    infrared_camids = frozenset(range(NUM_CAMERAS, 2 * NUM_CAMERAS))
    draws_gallery = True
    protocol = "llcm"
    setting = "{protocol}"
    options = ("num_trials",)
    stand_in = LAYOUT.stand_in

    def __init__(self, root: str = "", split_id: int = 0, query_modality: str = "visible", **kwargs: Any):
        if query_modality not in MODALITIES:
            raise InputError(
                f'query_modality is "{query_modality}", expected one of {", ".join(MODALITIES)}'
                f"{nearest(query_modality, MODALITIES)}"
            )
        folder = LAYOUT.locate(root)
        lists = {word: f"idx/train_{word}.txt" for word in WORDS}
        LAYOUT.require(folder, [*lists.values(), TEST_IDS, "test_vis", "test_nir"])
        self.dataset_dir = str(folder)
        self.query_modality = query_modality
        test_ids = sorted(read_identities(folder / TEST_IDS))
        listed = [item for word in WORDS for item in _read_list(folder, lists[word], word, frozenset(test_ids))]
        labels = {label: number for number, label in enumerate(sorted({label for _, label, _ in listed}))}
        train = [(path, labels[label], camid) for path, label, camid in listed]

        words = WORDS if query_modality == "visible" else WORDS[::-1]
        self._query, self._pool = ({pid: _images(folder, word, pid) for pid in test_ids} for word in words)
        query, pool = (_items(images, word) for images, word in zip((self._query, self._pool), words))
        if {pid for _, pid, _ in query}.isdisjoint(pid for _, pid, _ in pool):
            raise InputError(
                f'no identity of "{folder / TEST_IDS}" has images both in test_vis ({len(query if words == WORDS else pool)}) '
                f"and in test_nir ({len(pool if words == WORDS else query)}); unpack the data set again"
            )
        camids = {path: camid for path, _, camid in pool}
        gallery = [(path, pid, camids[path]) for path, pid, _ in self.draw_gallery(split_id)]
        super().__init__(train, query, gallery, gallery_pool=pool, **kwargs)

    def draw_gallery(self, trial: int) -> list[tuple[str, int, int]]:
        """Return the (path, pid, camid) of one trial's gallery, by identity, then camera.

        A generator seeded with ``trial`` chooses one of the sorted images of
        each identity and camera, in this order, which equals the authors' code.
        Camids are the data set's camera numbers less one, 0 to 8, in both modalities.

        Args:
            trial: the trial, from 0; the protocol uses 0 to 9.

        Raises:
            InputError: the trial is no integer of at least 0.
        """
        if isinstance(trial, bool) or not isinstance(trial, (int, np.integer)) or trial < 0:
            raise InputError(f"the gallery trial is {trial!r}, expected an integer of at least 0")
        generator = random.Random(int(trial))
        return [
            (generator.choice(paths), pid, camera - 1)
            for pid, cameras in self._pool.items() for camera, paths in cameras.items()
        ]

    def adapted(self, protocol: Protocol) -> Protocol:
        """Return a protocol for this direction: the authors' repository transposes visible → infrared alone."""
        return protocol if self.query_modality == "visible" else dataclasses.replace(protocol, transposed=False)


def _read_list(folder: Path, name: str, word: str, test_ids: frozenset[int]) -> list[tuple[str, int, int]]:
    """Read one training list into (path, label, camid) triples."""

    def camera_of(image: str, named: str) -> int:
        pid, camera = _check_name(image, word, named)
        if pid in test_ids:
            raise InputError(f'{named}, of a person whom "{folder / TEST_IDS}" lists for the test; restore the lists in idx/')
        return _camid(camera, word)

    return read_image_list(folder, folder / name, f"train_{word}/0351/{_EXAMPLE.replace('nir', word)} 0", camera_of)


def _images(folder: Path, word: str, pid: int) -> dict[int, list[str]]:
    """Return the sorted test images of an identity by camera, without files that are no images, such as ``Thumbs.db``."""
    images: dict[int, list[str]] = {}
    for camera in TEST_CAMERAS[word]:
        place = folder / f"test_{word}" / f"cam{camera}" / f"{pid:04d}"
        names = sorted(file.name for file in place.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES) if place.is_dir() else []
        for name in names:
            found = _check_name(f"cam{camera}/{name}", word, f'the image "{place / name}" has the name "{name}"')
            if found[0] not in (None, pid):
                raise InputError(f'the image "{place / name}" is of another person by its name; move it to that person\'s folder')
        if names:
            images[camera] = [str(place / name) for name in names]
    return images


def _check_name(image: str, word: str, named: str) -> tuple[int | None, int]:
    """Return the identity and the camera that the path of an image names; None for an identity that only a folder tells.

    Raises:
        InputError: it names no camera, two, one beyond 9, or the other modality; ``named`` begins the sentence.
    """
    name = image.rpartition("/")[2]
    by_name = re.match(r"([0-9]{1,9})_c([0-9]{1,9})_", name)
    by_folder = re.search(r"(?:^|/)cam([0-9]{1,9})/", image)
    cameras = [int(found) for found in (by_name and by_name[2], by_folder and by_folder[1]) if found]
    if not cameras:
        example = _EXAMPLE.replace("nir", word)
        raise InputError(f"{named}, expected a name that tells the camera, such as {example}; restore it")
    if len(set(cameras)) > 1:
        raise InputError(f"{named}, of camera {cameras[0]} in the folder of camera {cameras[1]}; move it to its own folder")
    if not 1 <= cameras[0] <= NUM_CAMERAS:
        raise InputError(f"{named}, of camera {cameras[0]}, expected cameras 1 to {NUM_CAMERAS}; restore it")
    if Path(name).stem.endswith(f"_{WORDS[1 - WORDS.index(word)]}"):
        raise InputError(f"{named}, an image of the other modality, expected one of {word}; restore it")
    return int(by_name[1]) if by_name else None, cameras[0]


def _items(images: dict[int, dict[int, list[str]]], word: str) -> list[tuple[str, int, int]]:
    """Return (path, pid, camid) by identity, then camera, then name."""
    return [
        (path, pid, _camid(camera, word))
        for pid, cameras in images.items() for camera, paths in cameras.items() for path in paths
    ]


def _camid(camera: int, word: str) -> int:
    """Return the camid of a sensor: those of near-infrared follow those of visible light."""
    return camera - 1 + NUM_CAMERAS * WORDS.index(word)
