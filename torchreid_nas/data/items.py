"""The images of a data set as torchreid's tuples."""
from __future__ import annotations

__all__ = ["Item", "as_items"]

import os
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np

from torchreid_nas.errors import InputError

Item = tuple[str, int, int, int]
"""torchreid's (path, pid, camid, dsetid)."""


def as_items(part: str, items: Sequence[tuple]) -> list[Item]:
    """Return the images of a part as torchreid's 4-tuples, with identities and cameras as Python's integers.

    Args:
        part: names the part in messages.
        items: (path, identity, camera) or torchreid's 4-tuples.

    Raises:
        InputError: an image has no path, or an identity or a camera that is no whole number.

    Example:
        >>> as_items("train", [("a.jpg", 3.0, 0)])
        [('a.jpg', 3, 0, 0)]
    """
    return [_as_item(part, number, item) for number, item in enumerate(items)]


def _as_item(part: str, number: int, item: Any) -> Item:
    if not isinstance(item, (tuple, list)) or len(item) not in (3, 4) or not isinstance(item[0], (str, os.PathLike)):
        raise InputError(
            f"image {number} of the {part} part is {item!r}, expected (path, identity, camera) or (path, identity, camera, "
            "number of the data set)"
        )
    path, *labels = item
    for what, value in zip(("identity", "camera", "data set number"), labels):
        # NumPy's integers are accepted, too, and whole floats, such as those of np.loadtxt and of pandas.
        if type(value) is not int and (
            isinstance(value, (bool, np.bool_)) or not isinstance(value, Real) or value % 1 != 0
        ):
            raise InputError(
                f'the {what} of image {number} of the {part} part ("{path}") is {value!r}, expected a whole number; number '
                "identities and cameras, such as by their places in a sorted list"
            )
    pid, camid, dsetid = (int(value) for value in (*labels, 0)[:3])
    return os.fspath(path), pid, camid, dsetid
