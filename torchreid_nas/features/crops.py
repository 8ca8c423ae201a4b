"""Persons cut out of scenes and videos by a file of boxes, as own images."""
from __future__ import annotations

__all__ = ["cut_persons"]

import os
import warnings
from pathlib import Path

from tqdm.auto import tqdm

from torchreid_nas.data.own.records import Record, Records, check_records
from torchreid_nas.errors import InputError, InputWarning, shown
from torchreid_nas.features.images import Source, split_name
from torchreid_nas.files import atomic_folder


def cut_persons(source: str, boxes: str | os.PathLike[str], stride: int, folder: Path) -> Records:
    """Write the box of every person as a PNG, a folder per person, and return the records of own images.

    The identity of a box is the person. Boxes without identity are left out, unless no box has one. A video, or a folder of
    frames, is a sequence; of a single one no sequence is said, for all images of a person would be in it.

    Args:
        source: images, a video, or a folder of them.
        boxes: see :func:`torchreid_nas.features.boxes.read_boxes`.
        stride: of the frames of videos.
        folder: of the PNGs, written as a whole or not at all; must not exist.

    Raises:
        InputError: the source or the boxes cannot be read, no box holds a picture, or the folder cannot be written.
    """
    rows: list[Record] = []
    problems: list[str] = []
    with atomic_folder(folder) as temporary:
        for number, picture in enumerate(tqdm(Source(source, stride, boxes), unit="person", leave=False, disable=None)):
            if picture.image is None:
                problems.append(picture.problem)
                continue
            path, frame, _ = split_name(picture.name)
            place = Path(_folder_of(picture.label.identity), f"{number:07d}.png")
            (temporary / place).parent.mkdir(exist_ok=True)
            picture.image.save(temporary / place)
            sequence = path.stem if frame is not None else path.parent.name
            shot = number if frame is None else frame
            rows.append(Record(str(folder / place), picture.label.identity, sequence=sequence, frame=str(shot)))
        if not rows:
            raise InputError(f'no box of "{boxes}" holds a picture of "{source}": {problems[0] if problems else "there is none"}')
        kept = [row for row in rows if row.pid] or rows
        for row in set(rows) - set(kept):
            (temporary / Path(row.path).relative_to(folder)).unlink()
        if len({row.sequence for row in kept}) == 1:
            kept = [Record(row.path, row.pid, frame=row.frame) for row in kept]
        records = check_records(
            Records(f"folder:{folder}", folder, tuple(kept), f"boxes of {Path(boxes).name}, a folder per person"), f'"{boxes}"',
        )
    left_out = [(len(problems), "hold no picture", problems), (len(rows) - len(kept), "say no identity", [])]
    for count, what, first in left_out:
        if count:
            said = f", the first: {first[0]}" if first else ""
            warnings.warn(f"{count:,} boxes {what} and are left out{said}", InputWarning, stacklevel=2)
    return records


def _folder_of(identity: str) -> str:
    """Return the folder of a person.

    Raises:
        InputError: no folder can have this name.
    """
    if identity in (".", "..") or "/" in identity or "\0" in identity or len(identity.encode()) > 200:
        raise InputError(f'the boxes name a person "{shown(identity)}", which no folder can be called; give another id')
    return identity or "unknown"
