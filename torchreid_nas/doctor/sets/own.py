"""Own images, and data sets of torchreid's registry that have no reader of their own, for the doctor."""
from __future__ import annotations

__all__ = ["read_own", "read_registered"]

import os
from pathlib import Path

from torchreid_nas.data.loading import load_dataset
from torchreid_nas.data.own import read_records
from torchreid_nas.data.own.records import natural
from torchreid_nas.doctor.findings import Finding, are, counted
from torchreid_nas.doctor.records import Data, Record, protocol_of, records_of
from torchreid_nas.errors import shown
from torchreid_nas.metrics.protocols import PROTOCOLS, Protocol

_WITHOUT_CAMERAS = Protocol("own_without_cameras", "own data without cameras")


def read_own(source: str, layout: str = "", root: str | os.PathLike[str] = "") -> Data:
    """Read a folder or a CSV file of own images.

    Args:
        source: ``folder:PATH``, ``csv:FILE``, or a plain path to either.
        layout: of a folder, see :class:`torchreid_nas.data.own.Pattern`; ``""`` recognises it.
        root: where a relative path is sought besides the current folder.

    Raises:
        InputError: see :func:`torchreid_nas.data.own.read_records`.
    """
    read = read_records(source, layout, root)
    cameras = {name: number for number, name in enumerate(sorted({row.camid for row in read.rows if row.camid}, key=natural))}
    two = len(read.modalities) > 1
    records = [
        Record(
            row.path, row.pid, cameras.get(row.camid), row.modality if two else "",
            ((row.role or "test") if row.split == "test" else row.split) if read.is_split else "train", row.sequence,
        )
        for row in read.rows
    ]
    data = Data(
        read.source, read.base, records, PROTOCOLS["market1501"] if cameras else _WITHOUT_CAMERAS,
        camera_names={number: name for name, number in cameras.items()},
    )
    if read.layout:
        data.remarks.append(f"layout: {read.layout}")
    if not read.is_split:
        data.remarks.append("nothing says which images are for training and which for test: all count as training")
    if not cameras:
        data.remarks.append("nothing says which camera took an image: the checks of cameras take all images together")
    if not read.labelled:
        data.remarks.append("nothing says who is on an image: the checks of persons find nothing")
    for name, names, verbs in (("bad_name", read.unmatched, ("has", "have")), ("other_files", read.other_files, ("is", "are"))):
        if names:
            number = counted(len(names), "image" if name == "bad_name" else "file")
            words = {"images": number, "files": number, "verb": are(len(names), *verbs), "example": shown(names[0], 100)}
            data.found.append(Finding(name, len(names), words, tuple(f"{read.base}/{each}" for each in names)))
    return data


def read_registered(name: str, root: str | os.PathLike[str], split_id: int = 0) -> Data:
    """Read any other data set of torchreid's registry by its own reader, which stops at the first fault.

    Raises:
        InputError: there is no data set of that name, or it is missing or broken.
    """
    dataset = load_dataset(name, {"root": os.fspath(root), "split_id": split_id})
    folder = Path(os.path.commonpath([os.path.dirname(record.path) for record in records_of(dataset)]))  # noqa: PTH120
    data = Data(name, folder, records_of(dataset), protocol_of(dataset))
    data.remarks.append("equal numbers of training and test persons prove nothing in this data set: only equal files do")
    return data
