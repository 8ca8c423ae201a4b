"""MSMT17 for the doctor."""
from __future__ import annotations

__all__ = ["FOLDERS", "read_msmt17"]

from pathlib import Path

from torchreid_nas.data.full_names import MSMT17
from torchreid_nas.doctor.records import Data, Expected, Record
from torchreid_nas.doctor.sets.notes import Notes, marked
from torchreid_nas.errors import InputError
from torchreid_nas.metrics.protocols import PROTOCOLS

FOLDERS = (("train", "test"), ("mask_train_v2", "mask_test_v2"))
"""Folders of the training and of the test images in versions 1 and 2."""
_LISTS = {"list_train.txt": "train", "list_val.txt": "train", "list_query.txt": "query", "list_gallery.txt": "gallery"}


def read_msmt17(folder: Path) -> Data:
    """Read MSMT17 (Wei et al., CVPR 2018): four lists. Training and test count their persons from 0, each by itself.

    Raises:
        InputError: the folder cannot be read, or holds no image.
    """
    notes = Notes(folder)
    places = next((pair for pair in FOLDERS if (folder / pair[0]).is_dir()), FOLDERS[0])
    records = []
    named: set[str] = set()
    labels: dict[str, list[tuple[int, str]]] = {"train": [], "test": []}
    for index, part in _LISTS.items():
        place, side = (places[0], "train") if part == "train" else (places[1], "test")
        for image, label in notes.labelled(index):
            name = f"{place}/{image}"
            named.add(name)
            try:
                pid, camera = MSMT17.read(image.rpartition("/")[2], "the image")
            except InputError:
                notes.bad_line(index, None, image)
                continue
            if not notes.has(name):
                notes.missing(index, name)
                continue
            labels[side].append((label, str(pid)))
            records.append(Record(notes.path(name), f"{side} {label}", camera, "", part))
    for side, pairs in labels.items():
        notes.check_labels(f"The {side} lists and the names of their images", pairs)
    for name in notes.images:
        if name not in named:
            notes.not_listed(name)
    expected = (
        Expected("training identities", (1_041,), ("train",), "persons"),
        # With list_val.txt, and without.
        Expected("training images", (32_621, 30_248), ("train",)),
        Expected("queries", (11_659,), ("query",)),
        Expected("gallery images", (82_161,), ("gallery",)),
    )
    data = Data(
        "MSMT17", folder, records, PROTOCOLS["market1501"], expected, frozenset(range(15)), None,
        source="https://www.pkuvmc.com/dataset.html",
    )
    return marked(data, notes)
