"""A contact sheet of own images: what they show before anything trains on them."""
from __future__ import annotations

__all__ = ["own_sheet"]

import os
from collections import Counter
from pathlib import Path

from torchreid_nas.data.dataset import MODALITIES
from torchreid_nas.data.display import STRETCHED
from torchreid_nas.data.own.records import Record, Records, natural
from torchreid_nas.data.sheet import check_sheet_name, draw_sheet, padded
from torchreid_nas.data.synthetic.store import in_synthetic

_SIZE = (48, 96)


def own_sheet(records: Records, path: str | os.PathLike[str], persons: int = 24, images: int = 4) -> Path:
    """Draw a PNG with the first persons of own images and return its path.

    A person is a block with one row per modality. The images of a row are spread over the person's images in their order,
    so that several cameras or sequences are seen. Images without labels are drawn one by one.

    Args:
        records: see :func:`~torchreid_nas.data.own.read_records`.
        path: of the PNG.
        persons: blocks at most.
        images: columns of a block at most.

    Raises:
        InputError: ``path`` does not end in .png or cannot be written, or an image cannot be read.
    """
    check_sheet_name(path)
    of_person: dict[str, list[Record]] = {}
    for row in records.rows:
        of_person.setdefault(row.pid or row.path, []).append(row)
    shown = sorted(of_person, key=natural)[:persons]
    most = max(Counter((pid, row.modality) for pid in shown for row in of_person[pid]).values())
    columns = min(images, most)

    def row_of(pid: str, modality: str) -> list[Path | None]:
        files = [Path(row.path) for row in of_person[pid] if (row.modality or MODALITIES[0]) == modality]
        return padded(_spread(files, columns), columns)

    blocks = [[row_of(pid, modality) for modality in records.modalities] for pid in shown]
    whose = f"{len(shown):,} of {len(of_person):,} {'persons' if records.labelled else 'images'}"
    rows = f", {' above '.join(records.modalities)}" if len(records.modalities) > 1 else ""
    stretch = {place for place, modality in enumerate(records.modalities) if modality == MODALITIES[1]}
    generated = "generated images: " if any(in_synthetic(row.path) for row in records.rows[:1]) else ""
    caption = f"{generated}{records.source}: {whose}{rows}" + (f"; {STRETCHED}" if stretch else "")
    return draw_sheet(path, blocks, min(len(blocks), 4 if records.labelled else 12), _SIZE, caption, stretch)


def _spread(files: list[Path], count: int) -> list[Path]:
    """Return ``count`` files at equal distances, the first one among them.

    >>> [path.name for path in _spread([Path(name) for name in "abcdef"], 3)]
    ['a', 'c', 'e']
    """
    return files if len(files) <= count else [files[place * len(files) // count] for place in range(count)]
