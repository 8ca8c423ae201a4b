"""LLCM for the doctor."""
from __future__ import annotations

__all__ = ["read_llcm"]

import re
from pathlib import Path

from torchreid_nas.doctor.findings import counted
from torchreid_nas.doctor.records import Data, Expected, Record
from torchreid_nas.doctor.sets.notes import Notes, marked
from torchreid_nas.metrics.protocols import PROTOCOLS

_TEST = "idx/test_id.txt"
_WORDS = {"vis": ("visible", "query"), "nir": ("infrared", "gallery")}
_NAME = re.compile(r"(?P<pid>[0-9]{1,9})_c(?P<camera>[0-9]{1,9})_.*", re.DOTALL)


def read_llcm(folder: Path) -> Data:
    """Read LLCM (Zhang and Wang, CVPR 2023): two training lists, one of test persons, and the test folders of each modality.

    A query is visible here and the gallery infrared; the other direction has the same persons and images. A camera has
    one number in both modalities, so that Market-1501's rule (not the same person in the same camera) is LLCM's.

    Raises:
        InputError: the folder cannot be read, or holds no image.
    """
    notes = Notes(folder)
    tested = notes.numbers(_TEST)
    records: list[Record] = []
    named: set[str] = set()
    labels: list[tuple[int, str]] = []
    for word, (modality, _) in _WORDS.items():
        index = f"idx/train_{word}.txt"
        strangers = []
        for image, label in notes.labelled(index):
            found = _NAME.fullmatch(image.rpartition("/")[2])
            named.add(image)
            if found is None:
                notes.bad_line(index, None, image)
            elif not notes.has(image):
                notes.missing(index, image)
            else:
                strangers += [image] if _is_of_other(image, word) else []
                person = str(int(found["pid"]))
                labels.append((label, person))
                records.append(Record(notes.path(image), person, int(found["camera"]) - 1, modality, "train"))
        if strangers:
            notes.disagree(f"{index} names {counted(len(strangers), 'image')} of the other modality", strangers)
    notes.check_labels("The training lists", labels)
    present = set()
    misplaced = []
    for name in notes.images:
        place = re.fullmatch(r"test_(vis|nir)/cam([0-9]{1,9})/([0-9]{1,9})/[^/]+", name)
        if place is None:
            if name not in named:
                notes.not_listed(name)
            continue
        if int(place[3]) not in tested:
            notes.not_listed(name)
            continue
        said = _NAME.fullmatch(name.rpartition("/")[2])
        if said is not None and (int(said["pid"]), int(said["camera"])) != (int(place[3]), int(place[2])):
            misplaced.append(name)
        modality, part = _WORDS[place[1]]
        present.add(int(place[3]))
        records.append(Record(notes.path(name), str(int(place[3])), int(place[2]) - 1, modality, part))
    if misplaced:
        what = f"The names of {counted(len(misplaced), 'test image')} tell another person or camera than their folders"
        notes.disagree(what, misplaced)
    notes.without_images(_TEST, map(str, sorted(tested - present)))
    expected = (
        Expected("training identities", (713,), ("train",), "persons"),
        Expected("test identities", (351,), ("query", "gallery"), "persons", listed=frozenset(map(str, tested))),
        Expected("images", (46_767,), ("train", "query", "gallery")),
    )
    data = Data(
        "LLCM", folder, records, PROTOCOLS["market1501"], expected, frozenset(range(9)), (1, 1_064), infrared_is_grey=False,
        source="https://github.com/ZYK100/LLCM",
    )
    return marked(data, notes)


def _is_of_other(image: str, word: str) -> bool:
    """Return whether the name of an image ends with the word of the other modality."""
    other = next(key for key in _WORDS if key != word)
    return image.rpartition(".")[0].endswith(f"_{other}")
