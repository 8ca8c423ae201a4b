"""SYSU-MM01 for the doctor."""
from __future__ import annotations

__all__ = ["read_sysu_mm01"]

import re
from pathlib import Path

from torchreid_nas.data.sysu_mm01 import CAMERAS, ID_LISTS, LAYOUT, PERMUTATIONS, QUERY_CAMERAS, read_permutations
from torchreid_nas.doctor.findings import are, counted
from torchreid_nas.doctor.records import Data, Expected, Record
from torchreid_nas.doctor.sets.notes import Notes, marked
from torchreid_nas.errors import InputError
from torchreid_nas.metrics.protocols import PROTOCOLS

_NAME = re.compile(r"cam(?P<camera>[0-9]{1,9})/(?P<pid>[0-9]{1,18})/(?P<number>[0-9]{1,18})\.[A-Za-z]+")


def read_sysu_mm01(folder: Path) -> Data:
    """Read SYSU-MM01 (Wu et al., ICCV 2017): the lists of ``exp/``, the images of ``cam1`` to ``cam6``, the official draws.

    Raises:
        InputError: the folder cannot be read, or holds no image.
    """
    notes = Notes(folder)
    ids = {part: notes.numbers(name) for part, name in ID_LISTS.items()}
    trained, tested = ids["train"] | ids["val"], ids["test"]
    records: list[Record] = []
    numbers: dict[tuple[int, int], set[int]] = {}
    for name in notes.images:
        found = _NAME.fullmatch(name)
        if found is None:
            notes.bad_name(name)
            continue
        camera, pid = int(found["camera"]), int(found["pid"])
        numbers.setdefault((camera, pid), set()).add(int(found["number"]))
        infrared = camera in QUERY_CAMERAS
        parts = [
            *(["train"] if pid in trained else []), *(["query" if infrared else "gallery"] if pid in tested else []),
        ]
        modality = "" if camera not in CAMERAS else "infrared" if infrared else "visible"
        records += [Record(notes.path(name), str(pid), camera - 1, modality, part) for part in parts or [""]]
    present = {pid for _, pid in numbers}
    for part, name in ID_LISTS.items():
        notes.without_images(name, map(str, sorted(ids[part] - present)))
    _check_draws(notes, numbers, tested)
    listed = {part: frozenset(map(str, persons)) for part, persons in (("train", trained), ("test", tested))}
    data = Data(
        LAYOUT.name, folder, records, PROTOCOLS["sysu_mm01"], cameras=frozenset(camera - 1 for camera in CAMERAS),
        persons=(1, 533), source=LAYOUT.request, expected=(
            Expected("training identities", (395,), ("train",), "persons", listed=listed["train"]),
            Expected("test identities", (96,), ("query", "gallery"), "persons", listed=listed["test"]),
            Expected("visible training images", (22_258,), ("train",), modality="visible"),
            Expected("infrared training images", (11_909,), ("train",), modality="infrared"),
            Expected("queries", (3_803,), ("query",)),
            Expected("gallery images of a single-shot draw", (301,), ("gallery",), "visits"),
        ),
    )
    strangers = present - trained - tested
    if strangers and (trained or tested):
        data.remarks.append(f"{counted(len(strangers), 'person')} on the disk {are(len(strangers))} in no list")
    return marked(data, notes)


def _check_draws(notes: Notes, numbers: dict[tuple[int, int], set[int]], tested: set[int]) -> None:
    """Hold the official gallery draws, where there are any, against the images."""
    file = notes.folder / PERMUTATIONS
    if not file.is_file():
        return
    try:
        cameras = read_permutations(file)
    except InputError as error:
        notes.disagree(str(error).partition(";")[0].replace(str(file), PERMUTATIONS))
        return
    wrong = []
    for camera, cells in enumerate(cameras, start=1):
        for pid in sorted(tested):
            runs = cells[pid - 1] if 0 < pid <= len(cells) else None
            drawn = set(runs[0].tolist()) if runs is not None and runs.size else set()
            if not drawn <= numbers.get((camera, pid), set()):
                wrong.append(f"person {pid} in camera {camera}")
    if wrong:
        notes.disagree(
            f"{PERMUTATIONS} draws images that do not exist, of {len(wrong):,} persons in a camera, the first: {wrong[0]}",
            [PERMUTATIONS],
        )
