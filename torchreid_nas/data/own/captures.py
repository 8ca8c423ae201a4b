"""Captures: what a query of own images does not find itself in."""
from __future__ import annotations

__all__ = ["capture_keys"]

import os
from collections.abc import Hashable, Sequence

from torchreid_nas.data.own.records import Record
from torchreid_nas.errors import InputError


def capture_keys(rows: Sequence[Record]) -> list[Hashable]:
    """Return for each image a key; a query skips the images of its person with its own key.

    The key is the camera. Without cameras it is the sequence, and without a sequence the file: device and inode, so that two
    names of one file are one capture. Modalities are apart.

    Raises:
        InputError: a file cannot be looked at.
    """
    if any(row.camid for row in rows):
        return [(row.modality, row.camid) for row in rows]
    # The first name of a file that has two decides.
    first: dict[Hashable, Hashable] = {}
    return [
        first.setdefault(file, (row.modality, row.sequence) if row.sequence else file)
        for row, file in ((row, file_key(row.path)) for row in rows)
    ]


def file_key(path: str) -> Hashable:
    """Return what tells files apart, whatever their names: device and inode, or the real path where there are none.

    Raises:
        InputError: the file cannot be looked at.
    """
    try:
        stat = os.stat(path)  # noqa: PTH116  a path is text here, 100,000 times
    except OSError as error:
        raise InputError(f'the image "{path}" cannot be read ({error.strerror}); check the path and its permissions') from error
    return (stat.st_dev, stat.st_ino) if stat.st_ino else os.path.realpath(path)
