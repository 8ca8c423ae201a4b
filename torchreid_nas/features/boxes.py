"""Where persons are on pictures of whole scenes: boxes from a file, in the form of the MOT challenge or as CSV."""
from __future__ import annotations

__all__ = ["Box", "Boxes", "read_boxes"]

import csv
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from torchreid_nas.errors import InputError, shown
from torchreid_nas.features.labels import NO_LABEL

_SIZED, _CORNERS = ("left", "top", "width", "height"), ("x1", "y1", "x2", "y2")
_FILE, _FRAME, _ID = ("file", "image", "path"), ("frame",), ("id", "identity", "pid")
_FAR = 1e7
"""Limit of coordinates, frames and ids; no image is that large."""


@dataclass(frozen=True)
class Box:
    """One person on one picture.

    Attributes:
        left: of the box, in pixels from the left of the image; may lie outside.
        top: of the box, in pixels from the top of the image; may lie outside.
        width: in pixels.
        height: in pixels.
        identity: the person's number or name; ``""`` where unknown; None where the file has no column for it.
    """

    left: int
    top: int
    width: int
    height: int
    identity: str | None = None

    def __str__(self) -> str:
        return f"{self.left},{self.top},{self.width},{self.height}"

    def crop(self, image: Image.Image) -> Image.Image | None:
        """Return the part of the image inside the box; None where nothing of the box lies on the image.

        >>> Box(-2, 3, 6, 4).crop(Image.new("RGB", (10, 5))).size
        (4, 2)
        """
        left, top = max(0, self.left), max(0, self.top)
        right, bottom = min(image.width, self.left + self.width), min(image.height, self.top + self.height)
        return image.crop((left, top, right, bottom)) if right > left and bottom > top else None


@dataclass(frozen=True)
class Boxes:
    """The boxes of a file.

    Attributes:
        path: the file.
        of_frame: boxes by 0-based frame, in files that name no images.
        of_file: boxes by the name of the image or video as the file has it, then by frame (0 without frames).
    """

    path: Path
    of_frame: Mapping[int, Sequence[Box]]
    of_file: Mapping[str, Mapping[int, Sequence[Box]]]

    def __len__(self) -> int:
        groups = [self.of_frame, *self.of_file.values()]
        return sum(len(boxes) for group in groups for boxes in group.values())

    def name_of(self, file: Path) -> str | None:
        """Return by which name the file has boxes of an image or video: its path, the end of its path, or its name."""
        parts = file.parts
        ends = ("/".join(parts[start:]) for start in range(len(parts)))
        return next((end for end in (str(file), *ends) if end in self.of_file), None)


def read_boxes(path: str | os.PathLike[str]) -> Boxes:
    """Read a file of boxes.

    - MOT challenge (``det.txt``, ``gt.txt``): no header; frame (from 1), id (-1: unknown), left, top, width, height, and
      whatever follows.
    - CSV with a header: ``left, top, width, height`` or ``x1, y1, x2, y2`` in pixels, and where they are of use ``file``
      (an image or video by its path or the end of its path), ``frame`` (from 0, as names of features count) and ``id``.

    Raises:
        InputError: the file cannot be read, has no boxes, or a line with a value that is none.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f'the file of boxes "{path}" does not exist or is no regular file; check the path')
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [(number, row) for number, row in enumerate(csv.reader(file), 1) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f'the file of boxes "{path}" is no text of comma-separated values ({error}); save it as CSV') from error
    if not rows:
        raise InputError(f'the file of boxes "{path}" is empty; expected one box a line')
    header = [cell.strip().lower() for cell in rows[0][1]]
    if any(name in header for name in (*_SIZED, *_CORNERS)):
        return _from_csv(path, header, rows[1:])
    return _from_mot(path, rows)


def _from_mot(path: Path, rows: Sequence[tuple[int, list[str]]]) -> Boxes:
    of_frame: dict[int, list[Box]] = {}
    for line, row in rows:
        if len(row) < 6:
            raise InputError(
                f'"{path}", line {line} has {len(row)} values, expected frame, id, left, top, width, height as in the MOT '
                "challenge, or a first line with the names of the columns"
            )
        frame, identity, *sides = (_number(path, line, cell) for cell in row[:6])
        if frame < 1:
            raise InputError(f'"{path}", line {line} is of frame {row[0]}, frames of the MOT challenge count from 1')
        of_frame.setdefault(int(frame) - 1, []).append(
            _box(path, line, sides, NO_LABEL if identity < 0 else str(int(identity)))
        )
    return Boxes(path, of_frame, {})


def _from_csv(path: Path, header: Sequence[str], rows: Sequence[tuple[int, list[str]]]) -> Boxes:
    places = {name: place for place, name in enumerate(header)}
    corners = sum(name in places for name in _CORNERS) > sum(name in places for name in _SIZED)
    missing = [name for name in (_CORNERS if corners else _SIZED) if name not in places]
    if missing:
        raise InputError(
            f'the file of boxes "{path}" has no column "{missing[0]}", expected {", ".join(_SIZED)} or {", ".join(_CORNERS)}'
        )
    file, frame, identity = (
        next((places[name] for name in names if name in places), None) for names in (_FILE, _FRAME, _ID)
    )
    if file is None and frame is None:
        raise InputError(f'the file of boxes "{path}" has neither a column "file" nor "frame"; one must say whose boxes they are')
    of_frame: dict[int, list[Box]] = {}
    of_file: dict[str, dict[int, list[Box]]] = {}
    for line, row in rows:
        if len(row) != len(header):
            raise InputError(f'"{path}", line {line} has {len(row)} values, expected {len(header)} as the first line')
        sides = [_number(path, line, row[places[name]]) for name in (_CORNERS if corners else _SIZED)]
        if corners:
            sides[2:] = sides[2] - sides[0], sides[3] - sides[1]
        number = 0 if frame is None or not row[frame].strip() else int(_number(path, line, row[frame]))
        if number < 0:
            raise InputError(f'"{path}", line {line} is of frame {number}, frames count from 0')
        name = None if identity is None else row[identity].strip()
        box = _box(path, line, sides, NO_LABEL if name == "-1" else name)
        group = of_frame if file is None else of_file.setdefault(row[file].strip(), {})
        group.setdefault(number, []).append(box)
    return Boxes(path, of_frame, of_file)


def _box(path: Path, line: int, sides: Sequence[float], identity: str | None) -> Box:
    left, top, width, height = sides
    box = Box(round(left), round(top), round(width), round(height), identity)
    if box.width < 1 or box.height < 1:
        raise InputError(f'"{path}", line {line} has a box of {width:g} x {height:g} pixels, expected at least 1 x 1')
    return box


def _number(path: Path, line: int, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not abs(value) < _FAR:
        raise InputError(f'"{path}", line {line} holds "{shown(cell)}", expected a number of pixels, a frame or an id')
    return value
