"""Market-1501 and DukeMTMC-reID for the doctor."""
from __future__ import annotations

__all__ = ["PARTS", "read_dukemtmcreid", "read_market1501"]

from pathlib import Path, PurePosixPath

from torchreid_nas.data.full_names import DUKE, MARKET, NameRule
from torchreid_nas.doctor.records import Data, Expected, Record
from torchreid_nas.doctor.sets.notes import Notes, marked
from torchreid_nas.errors import InputError
from torchreid_nas.metrics.protocols import PROTOCOLS

PARTS = {"bounding_box_train": "train", "query": "query", "bounding_box_test": "gallery"}
"""The folders of both data sets, and what they are for."""


def read_market1501(folder: Path) -> Data:
    """Read Market-1501 (Zheng et al., ICCV 2015). Junk (-1) and distractors (0000) are images of no person.

    Raises:
        InputError: the folder cannot be read, or holds no image.
    """
    expected = (
        Expected("training identities", (751,), ("train",), "persons"),
        Expected("training images", (12_936,), ("train",)),
        Expected("query identities", (750,), ("query",), "persons"),
        Expected("queries", (3_368,), ("query",)),
        # With junk and distractors, and without junk.
        Expected("gallery images", (19_732, 15_913), ("gallery",)),
    )
    source = "https://zheng-lab.cecs.anu.edu.au/Project/project_reid.html"
    return _read(folder, "Market-1501", MARKET, ("-1", "0"), expected, 6, (1, 1501), source)


def read_dukemtmcreid(folder: Path) -> Data:
    """Read DukeMTMC-reID (Ristani et al., ECCV 2016 workshops), which its authors withdrew in 2019.

    Raises:
        InputError: the folder cannot be read, or holds no image.
    """
    expected = (
        Expected("training identities", (702,), ("train",), "persons"),
        Expected("training images", (16_522,), ("train",)),
        Expected("query identities", (702,), ("query",), "persons"),
        Expected("queries", (2_228,), ("query",)),
        Expected("gallery images", (17_661,), ("gallery",)),
    )
    source = "a copy that you may use: the authors withdrew the data set in 2019"
    data = _read(folder, "DukeMTMC-reID", DUKE, (), expected, 8, None, source)
    data.remarks.append("the authors of DukeMTMC-reID withdrew the data set in 2019")
    return data


def _read(
    folder: Path, name: str, rule: NameRule, nobody: tuple[str, ...], expected: tuple[Expected, ...], cameras: int,
    persons: tuple[int, int] | None, source: str,
) -> Data:
    notes = Notes(folder)
    records = []
    for image in notes.images:
        place, _, rest = image.partition("/")
        if place not in PARTS or "/" in rest:
            continue
        try:
            pid, camera = rule.read(PurePosixPath(rest).name, "the image")
        except InputError:
            notes.bad_name(image)
            continue
        person = "" if str(pid) in nobody else str(pid)
        records.append(Record(notes.path(image), person, camera, "", PARTS[place]))
    data = Data(
        name, folder, records, PROTOCOLS["market1501"], expected, frozenset(range(cameras)), persons, source=source,
    )
    return marked(data, notes)
