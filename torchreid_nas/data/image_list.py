"""Lists of training images: a path and a label in each line."""
from __future__ import annotations

__all__ = ["read_image_list"]

import os
import re
from collections.abc import Callable
from pathlib import Path

from torchreid_nas.data.folders import read_lines
from torchreid_nas.errors import InputError


def read_image_list(
    folder: Path, index: Path, example: str, camera_of: Callable[[str, str], int],
) -> list[tuple[str, int, int]]:
    """Read a list of images into (path, label, camid) triples.

    Args:
        folder: of the data set, which the paths start from.
        index: the list.
        example: of a line, for messages.
        camera_of: given a path and the words ``line 3 of "…" names "…"``, returns the 0-based camera, or raises InputError.

    Raises:
        InputError: a line is no path and label, or names an image twice, or an image that is not there; the list is empty.
    """
    items: list[tuple[str, int, int]] = []
    missing: list[tuple[int, str]] = []
    seen: dict[str, int] = {}
    for number, line in read_lines(index):
        image, _, label = line.replace("\t", " ").rpartition(" ")
        image = image.strip().replace("\\", "/").removeprefix("./")
        if not image or not re.fullmatch("[0-9]{1,18}", label):
            raise InputError(
                f'line {number} of "{index}" is {line[:80]!r}, expected an image path and a label such as "{example}"; '
                "restore the file"
            )
        named = f'line {number} of "{index}" names "{image}"'
        camid = camera_of(image, named)
        if image in seen:
            raise InputError(f"{named}, which line {seen[image]} already does; restore the file")
        seen[image] = number
        path = folder / image
        if not os.path.isfile(path):  # noqa: PTH113  Path.is_file raises on a name that is too long
            missing.append((number, image))
        items.append((str(path), int(label), camid))
    if not items:
        raise InputError(f'"{index}" lists no images; restore the file')
    if missing:
        number, image = missing[0]
        raise InputError(
            f'the image "{folder / image}", line {number} of "{index}", does not exist ({len(missing)} of the '
            f"{len(items)} listed images are missing); unpack the data set again"
        )
    return items
