"""Words in the names of folders and in the cells of tables: modalities, parts of a split, cameras."""
from __future__ import annotations

__all__ = ["MODALITY_WORDS", "PARTS", "as_modality", "as_part", "is_camera", "is_date"]

import re

_VISIBLE = ("visible", "vis", "rgb", "color", "colour")
_INFRARED = ("infrared", "ir", "nir", "thermal", "fir", "lwir", "tir")
MODALITY_WORDS = (*_VISIBLE, *_INFRARED)
"""The words that name a modality, in any case."""

PARTS = {
    "train": ("train", ""), "training": ("train", ""), "bounding_box_train": ("train", ""),
    "test": ("test", ""), "testing": ("test", ""),
    "query": ("test", "query"), "queries": ("test", "query"), "probe": ("test", "query"),
    "gallery": ("test", "gallery"), "bounding_box_test": ("test", "gallery"),
}
"""Words of a split, and what they say: the split and the role."""

_CAMERA = re.compile(r"cam(?:era)?[ _-]?[0-9]{1,9}", re.IGNORECASE)
# A date has a year, then perhaps a month and a day.
_DATE = re.compile(r"(?:19|20)[0-9]{2}[-_.]?(?:0[1-9]|1[0-2])[-_.]?(?:0[1-9]|[12][0-9]|3[01])(?:[-_T ]?[0-9:]+)?")


def as_modality(word: str) -> str:
    """Return ``"visible"``, ``"infrared"``, or ``""`` for a word that names no modality.

    >>> as_modality("RGB"), as_modality("thermal"), as_modality("alice")
    ('visible', 'infrared', '')
    """
    word = word.strip().lower()
    return "visible" if word in _VISIBLE else "infrared" if word in _INFRARED else ""


def as_part(word: str) -> tuple[str, str] | None:
    """Return the split and the role that a word names; None for another word.

    >>> as_part("bounding_box_test"), as_part("Train"), as_part("alice")
    (('test', 'gallery'), ('train', ''), None)
    """
    return PARTS.get(word.strip().lower())


def is_camera(word: str) -> bool:
    """Return whether the name of a folder says that it is a camera's.

    >>> is_camera("cam3"), is_camera("camera_03"), is_camera("3")
    (True, True, False)
    """
    return _CAMERA.fullmatch(word) is not None


def is_date(word: str) -> bool:
    """Return whether the name of a folder is a day, and so hardly a person.

    >>> is_date("20240501"), is_date("2024-05-01"), is_date("0042")
    (True, True, False)
    """
    return _DATE.fullmatch(word) is not None
