"""Checks of single images: files that cannot be read, size, depth, rotation, modality, exposure and sharpness."""
from __future__ import annotations

__all__ = ["IMAGE_CHECKS", "Measured", "camera_table"]

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from torchreid_nas.doctor.findings import Finding, are, counted
from torchreid_nas.doctor.measure import State
from torchreid_nas.doctor.records import Data

# Images of more pixels are huge, and below these sides tiny (ours).
_HUGE = 4_000_000
_TINY = 32, 16
# An image is grey where its colours spread by less (ours). JPEG leaves grey images below 0.5; generated visible images of
# persons are above 4.6. In between stand dim visible images, of which nothing is said.
_GREY = 1.0
_COLOURED = 3.0
# Shares of grey images from which a part counts as grey (ours).
_MOSTLY = 0.5
# Grey values of which all lie within this standard deviation are one value (ours).
_CONSTANT = 0.5
# Images that lie further from the median of their camera, in robust standard deviations, are named (ours), and which
# distance counts as one where all images of a camera are nearly alike: in the logarithm of light to dark (the mean grey value
# over what it lacks to white), and in that of sharpness.
_FAR = 6.0
_LEAST_MEAN = 0.25
_LEAST_SHARPNESS = 0.2
# At these distances an image is named also where the images of a camera differ much (ours). Clean generated images keep within
# 1.3 and 0.8; a mean of 15 is as far from a mean of 100, and sharpness that is seven times smaller.
_MOST_MEAN = 2.4
_MOST_SHARPNESS = 2.0
# Cameras with fewer images have no usual exposure (ours).
_FEW = 12


@dataclass
class Measured:
    """A data set with the measurements of its images.

    Attributes:
        data: the data set.
        paths: of its images, each once.
        rows: their measurements, shape (N,), see :data:`~torchreid_nas.doctor.measure.MEASUREMENT`.
    """

    data: Data
    paths: list[str]
    rows: np.ndarray

    def __post_init__(self) -> None:
        self.place = {path: number for number, path in enumerate(self.paths)}
        self.good = self.rows["state"] == State.GOOD

    def files(self, chosen: np.ndarray) -> tuple[str, ...]:
        """Return the paths of the images for which a mask is true."""
        return tuple(self.paths[number] for number in np.flatnonzero(chosen))

    def of(self, key: Callable[[Any], Any]) -> np.ndarray:
        """Return for each image the value of its first record, as objects."""
        values = np.empty(len(self.paths), dtype=object)
        for record in reversed(self.data.records):
            values[self.place[record.path]] = key(record)
        return values


def readable(measured: Measured) -> Iterator[Finding]:
    """Files that are missing, empty, broken off, of more than 8 bits, or no images."""
    state = measured.rows["state"]
    for kind, states, word in (
        ("unreadable", (State.MISSING, State.UNREADABLE), "file"), ("empty_file", (State.EMPTY,), "file"),
        ("truncated", (State.TRUNCATED,), "image"), ("deep", (State.DEEP,), "image"),
    ):
        chosen = np.isin(state, states)
        if chosen.any():
            first = int(np.flatnonzero(chosen)[0])
            why = measured.rows["reason"][first].decode("utf-8", "replace")
            verbs = ("has", "have") if kind == "deep" else ("is", "are")
            yield _finding(kind, measured, chosen, word, verbs, example=f"{measured.data.shown(measured.paths[first])} ({why})")


def sizes(measured: Measured) -> Iterator[Finding]:
    """Huge and tiny images, and those that lie."""
    rows = measured.rows
    height, width = rows["height"].astype(np.int64), rows["width"].astype(np.int64)
    known = measured.good & (height > 0)
    huge = (rows["state"] == State.TOO_LARGE) | known & (height * width > _HUGE)
    tiny = known & ((height < _TINY[0]) | (width < _TINY[1]))
    for kind, chosen, limit in (
        ("huge", huge, f"{_HUGE // 10**6} million pixels"), ("tiny", tiny, f"{_TINY[0]} x {_TINY[1]} pixels (height x width)"),
    ):
        if chosen.any():
            first = int(np.flatnonzero(chosen)[0])
            example = f"{measured.data.shown(measured.paths[first])} ({height[first]:,} x {width[first]:,})"
            yield _finding(kind, measured, chosen, "image", ("has", "have"), limit=limit, example=example)
    turned = measured.good & (rows["turned"] > 1)
    if turned.any():
        yield _finding("turned", measured, turned, "image", ("has", "have"))
    wide = known & ~turned & (width > height)
    # Where most images are wider than high, they are what the data set is made of.
    if wide.any() and wide.sum() < _MOSTLY * known.sum():
        yield _finding("wide", measured, wide, "image")


def contents(measured: Measured) -> Iterator[Finding]:
    """Images of one value, and of black and white alone."""
    constant = _constant(measured)
    if constant.any():
        yield _finding("constant", measured, constant, "image", ("has", "have"))
    one_bit = measured.good & (measured.rows["bits"] == 1) & ~constant
    if one_bit.any():
        yield _finding("one_bit", measured, one_bit, "image", ("has", "have"))


def modalities(measured: Measured) -> Iterator[Finding]:
    """Coloured images in the infrared part, and grey ones in the visible part.

    SYSU-MM01 and RegDB store infrared as grey. Where the infrared images of a
    data set are tinted or coloured by themselves (LLCM), nothing is said.
    """
    usable = measured.good & ~_constant(measured)
    modality = measured.of(lambda record: record.modality)
    colour = measured.rows["colour"]
    grey, coloured = usable & (colour < _GREY), usable & (colour > _COLOURED)
    infrared, visible = usable & (modality == "infrared"), usable & (modality == "visible")
    if not infrared.any() or not visible.any():
        return
    grey_share = [(grey & part).sum() / part.sum() for part in (visible, infrared)]
    coloured_share = (coloured & infrared).sum() / infrared.sum()
    if grey_share[0] > _MOSTLY and coloured_share > _MOSTLY:
        wrong = visible & grey | infrared & coloured
        words = {"visible": f"{(visible & grey).sum():,}", "infrared": f"{(infrared & coloured).sum():,}"}
        yield Finding("swapped_modalities", int(wrong.sum()), words, measured.files(wrong))
        return
    if (measured.data.infrared_is_grey or grey_share[1] > _MOSTLY) and coloured_share <= _MOSTLY and (infrared & coloured).any():
        yield _finding("colour_in_infrared", measured, infrared & coloured, "image")
    if grey_share[0] <= _MOSTLY and (visible & grey).any():
        yield _finding("grey_in_visible", measured, visible & grey, "image")


def exposure_and_sharpness(measured: Measured) -> Iterator[Finding]:
    """Images far darker, brighter or less sharp than others of their camera and modality."""
    usable = measured.good & ~_constant(measured)
    place = measured.of(lambda record: (record.modality, -1 if record.camera is None else record.camera))
    mean = measured.rows["mean"].astype(np.float64).clip(1, 254)
    light = np.log(mean / (255 - mean))
    sharpness = np.log(measured.rows["sharpness"].astype(np.float64) + 1e-3)
    exposed, blurred = np.zeros(len(usable), bool), np.zeros(len(usable), bool)
    for camera in set(place[usable]):
        own = np.flatnonzero(usable & np.array([each == camera for each in place]))
        if len(own) < _FEW:
            continue
        exposed[own] = np.abs(_deviations(light[own], _LEAST_MEAN, _MOST_MEAN / _FAR)) > _FAR
        blurred[own] = _deviations(sharpness[own], _LEAST_SHARPNESS, _MOST_SHARPNESS / _FAR) < -_FAR
    if exposed.any():
        yield _finding("dark_or_bright", measured, exposed, "image")
    # Of an image without light nothing more is said.
    if (blurred & ~exposed).any():
        yield _finding("blurred", measured, blurred & ~exposed, "image")


IMAGE_CHECKS: tuple[Callable[[Measured], Iterator[Finding]], ...] = (
    readable, sizes, contents, modalities, exposure_and_sharpness,
)
"""All checks of single images."""


def camera_table(measured: Measured) -> list[dict[str, Any]]:
    """Return a row per camera and modality: images, persons, and medians of brightness, contrast and sharpness."""
    data = measured.data
    place = measured.of(lambda record: (record.camera, record.modality))
    people = measured.of(lambda record: record.person)
    table = []
    for camera, modality in sorted(set(place), key=lambda key: (key[0] is None, key[0] or 0, key[1])):
        own = np.array([each == (camera, modality) for each in place])
        seen = own & measured.good
        row: dict[str, Any] = {
            "camera": "not known" if camera is None else data.camera_name(camera), "modality": modality, "images": int(own.sum()),
            "persons": len({name for name in people[own] if name}),
        }
        for word in ("mean", "spread", "sharpness"):
            values = measured.rows[word][seen]
            row[word] = round(float(np.median(values)), 3) if len(values) else None
        table.append(row)
    return table


def _constant(measured: Measured) -> np.ndarray:
    rows = measured.rows
    return measured.good & (rows["spread"] < _CONSTANT) & (rows["colour"] < _GREY)


def _deviations(values: np.ndarray, least: float, most: float = math.inf) -> np.ndarray:
    """Return how far values lie from their median, in robust standard deviations of ``least`` to ``most``."""
    distance = values - np.median(values)
    return distance / min(max(1.4826 * float(np.median(np.abs(distance))), least), most)


def _finding(
    kind: str, measured: Measured, chosen: np.ndarray, word: str, verbs: Iterable[str] = ("is", "are"), **words: str,
) -> Finding:
    number = int(chosen.sum())
    text = counted(number, word)
    return Finding(kind, number, {f"{word}s": text, "verb": are(number, *verbs), **words}, measured.files(chosen))
