"""Which pairs of images count: the one rule of matching, of thresholds, and of the tests of torchreid's protocol."""
from __future__ import annotations

__all__ = ["RULE", "Images", "counted_pairs", "image_key"]

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from torchreid_nas.features.feature_set import FeatureSet
from torchreid_nas.features.images import split_name
from torchreid_nas.features.labels import NO_CAMERA, NO_LABEL

RULE = "left out, as in Market-1501's test: an image with itself, and the same person by the same camera"
"""The rule in words, for the line that a command prints."""


@dataclass(frozen=True)
class Images:
    """What decides whether pairs of images count.

    Attributes:
        keys: of each image what makes it the same image elsewhere: device and inode of its file, frame and box; where the
            file is gone, its resolved path; None for an image without a file.
        labels: identities; ``""`` where unknown.
        camids: (N,) 0-based cameras; -1 where unknown.
    """

    keys: Sequence[Hashable]
    labels: Sequence[str]
    camids: np.ndarray

    @classmethod
    def of(cls, part: FeatureSet) -> Images:
        """Return those of features; every file is looked up once."""
        known: dict[str, Hashable] = {}
        return cls([image_key(file, known) for file in part.files], part.labels, part.camids)

    def __getitem__(self, span: slice) -> Images:
        return Images(self.keys[span], self.labels[span], self.camids[span])


def counted_pairs(left: Images, right: Images) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each pair whether it is one image, whether it shows one person, and whether it counts.

    A pair does not count where both are one image (the same file by device and inode, whatever links and paths lead to
    it), or one person by one camera, where both are known.

    Returns:
        Three (left, right) arrays of bool: same image, same known person, counted.
    """
    same_image = _equal(left.keys, right.keys, None)
    same_person = _equal(left.labels, right.labels, NO_LABEL)
    same_camera = (left.camids[:, None] == right.camids) & (left.camids[:, None] != NO_CAMERA)
    return same_image, same_person, ~same_image & ~(same_person & same_camera)


def _equal(left: Sequence[Hashable], right: Sequence[Hashable], unknown: Hashable) -> np.ndarray:
    numbers = {value: number for number, value in enumerate({*left, *right} - {unknown})}
    # What is unknown equals nothing.
    rows = np.array([numbers.get(value, -1) for value in left], dtype=np.int64)
    columns = np.array([numbers.get(value, -2) for value in right], dtype=np.int64)
    return rows[:, None] == columns


def image_key(file: str, known: dict[str, Hashable]) -> Hashable:
    """Return what makes an image the same image elsewhere, see :class:`Images`; ``known`` keeps what was looked up."""
    if not file:
        return None
    path, frame, box = split_name(file)
    name = str(path)
    if name not in known:
        try:
            stat = path.stat()
            known[name] = (stat.st_dev, stat.st_ino)
        except (OSError, ValueError):
            known[name] = name
    return known[name], frame, None if box is None else str(box)
