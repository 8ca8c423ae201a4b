"""RegDB: visible and thermal images of 412 identities, ten fixed trials."""
from __future__ import annotations

__all__ = ["RegDB"]

from numbers import Integral
from pathlib import Path
from typing import Any

from torchreid_nas.data.dataset import MODALITIES, CrossModalityDataset
from torchreid_nas.data.folders import Layout
from torchreid_nas.data.image_list import read_image_list
from torchreid_nas.errors import InputError, nearest

NUM_TRIALS = 10
# RegDB's own word for infrared, in its folders and its index files.
WORDS = ("visible", "thermal")

LAYOUT = Layout(
    name="RegDB",
    markers=("idx", "Visible"),
    tree=(
        "Visible/<identity>/*.bmp",
        "Thermal/<identity>/*.bmp",
        "idx/{train,test}_{visible,thermal}_{1..10}.txt    lines like: Visible/285/male_back_v_05528_285.bmp 0",
    ),
    request="http://dm.dongguk.edu/link.html",
    stand_in="regdb",
)


class RegDB(CrossModalityDataset):
    """RegDB: visible and thermal images of 412 identities.

    Nguyen et al., "Person recognition system based on a combination of body
    images from visible light and thermal cameras", Sensors 2017.

    412 identities with 10 visible and 10 thermal images each; every trial
    trains on 206 identities and tests on the others. Camera 0 is visible,
    camera 1 thermal (infrared). Training labels are 0..N-1, the same for an
    identity in both modalities; test labels are those of the index files.

    Args:
        root: the folder that holds ``RegDB``, or that folder itself.
        split_id: the trial, 0 to 9 (index files ``*_1.txt`` to ``*_10.txt``).
        query_modality: ``"visible"`` queries an infrared gallery,
            ``"infrared"`` the other way round.
        **kwargs: see :class:`CrossModalityDataset`.

    Raises:
        InputError: the data set or an image is missing, an index line is
            corrupt (file and line number are named), a list is empty, no query
            identity is in the gallery, or an argument is out of range.
    """

    protocol = "regdb"
    setting = "{protocol} split_id {split_id}"
    options = ("split_id",)
    num_splits = NUM_TRIALS
    stand_in = LAYOUT.stand_in
    dataset_dir = LAYOUT.name
    infrared_camids = frozenset({1})

    def __init__(self, root: str = "", split_id: int = 0, query_modality: str = "visible", **kwargs: Any):
        if isinstance(split_id, bool) or not isinstance(split_id, Integral) or not 0 <= split_id < NUM_TRIALS:
            raise InputError(
                f"the RegDB trial (split_id) is {split_id!r}, expected an integer from 0 to {NUM_TRIALS - 1}"
            )
        if query_modality not in MODALITIES:
            raise InputError(
                f'query_modality is "{query_modality}", expected one of {", ".join(MODALITIES)}'
                f"{nearest(query_modality, MODALITIES)}"
            )
        folder = LAYOUT.locate(root)
        lists = {
            (part, word): f"idx/{part}_{word}_{split_id + 1}.txt" for part in ("train", "test") for word in WORDS
        }
        LAYOUT.require(folder, ["Visible", "Thermal", *lists.values()])
        self.dataset_dir = str(folder)
        self.split_id = split_id

        train = [item for word in WORDS for item in _read_list(folder, lists["train", word], word)]
        labels = {pid: label for label, pid in enumerate(sorted({pid for _, pid, _ in train}))}
        train = [(path, labels[pid], camid) for path, pid, camid in train]

        words = WORDS if query_modality == "visible" else WORDS[::-1]
        query, gallery = (_read_list(folder, lists["test", word], word) for word in words)
        if {pid for _, pid, _ in query}.isdisjoint(pid for _, pid, _ in gallery):
            names = [folder / lists["test", word] for word in WORDS]
            raise InputError(
                f'"{names[0]}" and "{names[1]}" share no identity, so that no query can be found in the gallery; '
                "labels of the same identity must agree in both"
            )
        super().__init__(train, query, gallery, **kwargs)


def _read_list(folder: Path, name: str, word: str) -> list[tuple[str, int, int]]:
    """Read one index file into (path, label, camid) triples."""
    place = word.capitalize()

    def camera_of(image: str, named: str) -> int:
        folders = image.split("/")
        if folders[0].lower() != word:
            raise InputError(
                f"{named}, expected an image under {place}/ since the file lists one modality; restore the file"
            )
        if len(folders) != 3 or not all(folders):
            raise InputError(
                f"{named}, which does not match {place}/<identity>/<file>, such as "
                f"{place}/285/male_back_v_05528_285.bmp; restore the file"
            )
        return WORDS.index(word)

    return read_image_list(folder, folder / name, f"{place}/1/image.bmp 0", camera_of)
