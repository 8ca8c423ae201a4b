"""Records: the rows that every form of own images is read into."""
from __future__ import annotations

__all__ = ["Record", "Records", "check_records", "natural", "order_of", "repeated", "same_name"]

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torchreid_nas.errors import InputError, shown


@dataclass(frozen=True)
class Record:
    """One image.

    Attributes:
        path: of the file, as the program can open it.
        pid: name of the person; ``""`` for images without labels.
        camid: name of the camera; ``""`` where the cameras are not known.
        modality: ``"visible"``, ``"infrared"``, or ``""`` where it is not known; training takes such images for visible ones.
        split: ``"train"``, ``"test"``, or ``""`` where nothing says it.
        role: of a test image ``"query"`` or ``"gallery"``; ``""`` where nothing says it.
        sequence: name of the recording; ``""`` where it is not known; it counts within its modality.
        frame: where in its sequence, or among the images of its person, the image stands; ``""`` where it is not known.
    """

    path: str
    pid: str
    camid: str = ""
    modality: str = ""
    split: str = ""
    role: str = ""
    sequence: str = ""
    frame: str = ""


@dataclass(frozen=True)
class Records:
    """All images of a source, in the order of :func:`order_of`, which does not depend on the order of files or rows.

    Attributes:
        source: name of the source, ``folder:PATH`` or ``csv:FILE``.
        base: the folder that paths are named below: the folder itself, or the folder of the CSV.
        rows: a record per image.
        layout: how the source was read, in words.
        unmatched: images that do not fit the layout and are left out, by their names below ``base``.
        other_files: files that are no images, by their names below ``base``.
    """

    source: str
    base: Path
    rows: tuple[Record, ...]
    layout: str = ""
    unmatched: tuple[str, ...] = ()
    other_files: tuple[str, ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labelled(self) -> bool:
        """Whether the images have labels."""
        return any(row.pid for row in self.rows)

    @property
    def has_cameras(self) -> bool:
        """Whether the cameras are known."""
        return any(row.camid for row in self.rows)

    @property
    def has_sequences(self) -> bool:
        """Whether sequences are known."""
        return any(row.sequence for row in self.rows)

    @property
    def is_split(self) -> bool:
        """Whether the source says which images train and which test."""
        return any(row.split for row in self.rows)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities of the images; images of unknown modality count as visible."""
        found = {row.modality or "visible" for row in self.rows}
        return tuple(word for word in ("visible", "infrared") if word in found)

    def name_of(self, path: str) -> str:
        """Return the name of an image below :attr:`base`, with ``/``."""
        return os.path.relpath(path, self.base).replace(os.sep, "/")


def natural(name: str) -> tuple[Any, ...]:
    """Return a key that sorts numbers in names by their value.

    >>> sorted(["p10", "p9", "p2b"], key=natural)
    ['p2b', 'p9', 'p10']
    """
    parts = re.split(r"([0-9]{1,18})", name)
    return tuple((0, int(part), part) if index % 2 else (1, part) for index, part in enumerate(parts) if part)


def same_name(name: str) -> str:
    """Return the form in which names are alike that differ only in case or in leading zeros.

    >>> same_name("P007") == same_name("p7"), same_name("10") == same_name("100")
    (True, False)
    """
    return re.sub(r"(?<![0-9])0+(?=[0-9])", "", name.casefold())


def order_of(row: Record) -> tuple[Any, ...]:
    """Return the key by which records are in order: person, modality, camera, sequence, frame, path."""
    return (
        natural(row.pid), row.modality != "visible", natural(row.camid), natural(row.sequence), natural(row.frame),
        natural(row.path),
    )


def check_records(records: Records, where: str) -> Records:
    """Return the records in their order.

    Args:
        records: of a source.
        where: the source as sentences name it.

    Raises:
        InputError: a label is given for some of the images only, or names of persons or cameras differ in case or in leading
            zeros only.
    """
    rows = records.rows
    for column, what in (("pid", "person"), ("split", "split"), ("modality", "modality"), ("camid", "camera")):
        empty = [row for row in rows if not getattr(row, column)]
        if empty and len(empty) < len(rows):
            raise InputError(
                f'{where} says no {what} ({column}) of "{records.name_of(empty[0].path)}" and of {len(empty) - 1:,} more of its '
                f"{len(rows):,} images; give the {what} of all images or of none"
            )
    for column, what in (("pid", "persons"), ("camid", "cameras")):
        pair = _alike(getattr(row, column) for row in rows)
        if pair:
            raise InputError(
                f'{where} has the {what} "{shown(pair[0])}" and "{shown(pair[1])}", which differ in case or in leading zeros '
                "only; give one name to what is one, and names that differ more to what is not"
            )
    ordered = tuple(sorted(rows, key=order_of))
    return Records(records.source, records.base, ordered, records.layout, records.unmatched, records.other_files)


def repeated(names: Iterable[str]) -> str | None:
    """Return the first name that comes twice, None where all differ."""
    counts = Counter(names)
    return next((name for name, count in counts.items() if count > 1), None)


def _alike(names: Iterable[str]) -> Sequence[str]:
    """Return the first two different names that are alike, nothing where there are none."""
    first: dict[str, str] = {}
    for name in dict.fromkeys(names):
        other = first.setdefault(same_name(name), name)
        if other != name:
            return sorted((other, name))
    return ()
