"""Own images in the layouts of Market-1501 and RegDB, for programs that read these."""
from __future__ import annotations

__all__ = ["FORMATS", "write_layout"]

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torchreid_nas.data.dataset import MODALITIES
from torchreid_nas.data.own.captures import capture_keys
from torchreid_nas.data.own.records import Record, Records, natural
from torchreid_nas.data.own.split import divide, lone_persons
from torchreid_nas.data.regdb import LAYOUT, NUM_TRIALS, WORDS
from torchreid_nas.data.synthetic.market1501 import MARKET1501
from torchreid_nas.errors import InputError
from torchreid_nas.files import atomic_folder, write_text


def write_layout(form: str, records: Records, out: Path, seed: int = 0, share: float = 0.5) -> Path:
    """Write copies of own images, and return the folder of the data set below ``out``, the root to name.

    Args:
        form: ``"market1501"`` or ``"regdb"``.
        records: of own images, see :func:`~torchreid_nas.data.own.read_records`.
        out: the root of the data set.
        seed: of the division, see :func:`~torchreid_nas.data.own.split.divide`; RegDB's ten trials take ``seed`` to
            ``seed + 9``. A source that says its split has it in all trials.
        share: of the persons that train, likewise.

    Raises:
        InputError: the images have no labels, or what they say has no place in the layout; nothing is written then.
    """
    if not records.labelled:
        raise InputError(
            f'the images of "{records.source}" have no labels, which the layout {form} needs; say with --layout where the '
            "persons stand"
        )
    return _WRITERS[form](records, out, seed, share)


def _write_market1501(records: Records, out: Path, seed: int, share: float) -> Path:
    if len(records.modalities) > 1 or records.modalities == MODALITIES[1:]:
        raise InputError(
            f'"{records.source}" has infrared images, and the layout market1501 is of visible images; take --as regdb or --as csv'
        )
    rows = divide(records, seed, share).rows
    numbers = {pid: number for number, pid in enumerate(sorted({row.pid for row in rows}, key=natural), 1)}
    keys = capture_keys(rows)
    captures = {key: number for number, key in enumerate(sorted(set(keys), key=lambda key: natural(str(key))), 1)}
    cameras = "cameras" if records.has_cameras else "captures, which take the place of cameras,"
    limits = ("persons", len(numbers), MARKET1501.most_identities), (cameras, len(captures), MARKET1501.most_cameras)
    for what, count, most in limits:
        if count > most:
            raise InputError(
                f'"{records.source}" has {count:,} {what} and the layout market1501 has at most {most:,}; take --as csv'
            )
    folder = out / MARKET1501.folder
    with atomic_folder(folder) as temporary:
        for number, (row, key) in enumerate(zip(rows, keys), 1):
            name = f"{numbers[row.pid]:04d}_c{captures[key]}s1_{number:06d}_00.jpg"
            for part in _parts(row):
                _copy(row.path, temporary / MARKET1501.subfolder / part / name)
    return folder


def _parts(row: Record) -> Sequence[str]:
    """Return the folders of Market-1501 that an image belongs to; a query without a role is in the gallery too."""
    if row.split == "train":
        return ("bounding_box_train",)
    parts = {"query": ("query",), "gallery": ("bounding_box_test",)}
    return parts.get(row.role, ("query", "bounding_box_test"))


def _write_regdb(records: Records, out: Path, seed: int, share: float) -> Path:
    if len(records.modalities) < 2:
        raise InputError(
            f'"{records.source}" has {records.modalities[0]} images only, and the layout regdb is of both modalities; take '
            "--as market1501 or --as csv"
        )
    if any(row.role for row in records.rows):
        raise InputError(
            f'"{records.source}" says which test images query, and the layout regdb has no place for that; take --as csv'
        )
    lone = lone_persons(records.rows)
    rows = [row for row in records.rows if row.pid not in lone]
    numbers = {pid: number for number, pid in enumerate(sorted({row.pid for row in rows}, key=natural), 1)}
    divisions = [
        {row.pid: row.split for row in divide(records, seed + trial, share).rows} for trial in range(NUM_TRIALS)
    ]
    folder = out / LAYOUT.name
    with atomic_folder(folder) as temporary:
        lines: dict[str, list[tuple[str, str]]] = {word: [] for word in WORDS}
        for number, row in enumerate(rows, 1):
            word = WORDS[MODALITIES.index(row.modality or MODALITIES[0])]
            name = f"{word.capitalize()}/{numbers[row.pid]}/{number:06d}{Path(row.path).suffix.lower()}"
            _copy(row.path, temporary / name)
            lines[word].append((row.pid, f"{name} {numbers[row.pid] - 1}\n"))
        for trial, division in enumerate(divisions, 1):
            for word, own in lines.items():
                for part in ("train", "test"):
                    text = "".join(line for pid, line in own if division[pid] == part)
                    write_text(temporary / "idx" / f"{part}_{word}_{trial}.txt", text)
    return folder


_WRITERS: Mapping[str, Callable[[Records, Path, int, float], Path]] = {
    "market1501": _write_market1501, "regdb": _write_regdb,
}
FORMATS = ("csv", *_WRITERS)
"""Forms of :func:`write_layout`, and the table of :func:`~torchreid_nas.data.own.write.write_table`."""


def _copy(source: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(os.path.realpath(source), target)
