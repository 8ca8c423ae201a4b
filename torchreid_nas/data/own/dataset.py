"""Own images as a data set of torchreid."""
from __future__ import annotations

__all__ = ["OwnDataset"]

import os
from collections.abc import Hashable, Sequence
from typing import Any

from torchreid_nas.data.dataset import MODALITIES, CrossModalityDataset
from torchreid_nas.data.own.captures import capture_keys
from torchreid_nas.data.own.names import split_source
from torchreid_nas.data.own.reading import read_records
from torchreid_nas.data.own.records import Record, Records, natural
from torchreid_nas.data.own.split import RULE, divide, lone_persons


class OwnDataset(CrossModalityDataset):
    """Own images by the name of their source, such as ``folder:photos`` or ``csv_ir2vis:all.csv``.

    - **Persons** are numbered alike in all parts: those of training from 0, then the others, each in the order of names.
    - **Cameras** are numbered in the order of modalities and names; without cameras all images of a modality are of one.
    - **One modality**: a query skips the images of its person under its camera, as in Market-1501. Without cameras it skips the
      same file and, where sequences are known, the same sequence (``PROTOCOLS["captures"]``).
    - **Two modalities**: the name ``folder:`` or ``csv:`` queries visible images in an infrared gallery, ``folder_ir2vis:`` or
      ``csv_ir2vis:`` infrared images in a visible gallery. Nothing is skipped, as in RegDB. Persons of one modality only take no
      part, unless the source gives their images a role.
    - **No labels**: every image trains as a person of its own, which domain adaptation does not read; nothing is tested.

    Args:
        source: the name.
        root: where a relative path is sought besides the current folder.
        layout: of a folder; see :class:`~torchreid_nas.data.own.Pattern`. ``""`` recognises it.
        split_seed: of the division where the source says no split; see :func:`~torchreid_nas.data.own.split.divide`.
        train_share: of the persons that train, likewise.
        **kwargs: see :class:`CrossModalityDataset`.

    Attributes:
        records: the images with their split and role.
        divided: whether the rule divided the persons.
        remarks: sentences on the data, for the summary.

    Raises:
        InputError: see :func:`~torchreid_nas.data.own.read_records` and :func:`~torchreid_nas.data.own.split.divide`.
    """

    needed_parts = ()
    options = ("layout", "split_seed", "train_share")

    def __init__(
        self, source: str, root: str | os.PathLike[str] = "", layout: str = "", split_seed: int = 0, train_share: float = 0.5,
        **kwargs: Any,
    ) -> None:
        own = split_source(source)
        read = read_records(source, layout, root)
        self.records = divide(read, split_seed, train_share)
        self.divided = read.labelled and not read.is_split
        self.labelled = read.labelled
        rows, crossed = self.records.rows, len(read.modalities) == 2
        lone = lone_persons(rows)
        train = [row for row in rows if row.split == "train" and row.pid not in lone] if self.labelled else list(rows)
        tests = [row for row in rows if row.split == "test" and (row.pid not in lone or row.role)]
        query, gallery = ([row for row in tests if row.role in ("", role)] for role in ("query", "gallery"))
        if crossed:
            query = [row for row in query if row.modality == own.query_modality]
            gallery = [row for row in gallery if row.modality != own.query_modality]
        captured = not crossed and not read.has_cameras
        self.protocol = "regdb" if crossed else "captures" if captured else "market1501"
        self.setting = _setting(read, crossed, split_seed if self.divided else None)
        self.remarks = _remarks(read, self.divided, captured, split_seed, train_share, lone)

        numbers = _numbers(train, [*query, *gallery]) if self.labelled else {}
        cameras = _cameras(rows)
        infrared = {number for (modality, _), number in cameras.items() if modality == "infrared"}
        places = [cameras[row.modality, row.camid] for row in (*query, *gallery)]
        if captured:
            places = _after(len(cameras), capture_keys([*query, *gallery]))
            infrared |= set(places) if "infrared" in read.modalities else set()
        items = [
            (row.path, numbers.get(row.pid, place), cameras[row.modality, row.camid]) for place, row in enumerate(train)
        ]
        tested = [(row.path, numbers[row.pid], camera) for row, camera in zip((*query, *gallery), places)]
        super().__init__(items, tested[:len(query)], tested[len(query):], infrared_camids=infrared, **kwargs)

    def count_cameras(self, items: Sequence[tuple]) -> int | None:
        """Return the number of cameras of some images; None where the cameras are not known."""
        return super().count_cameras(items) if self.records.has_cameras else None


def _setting(records: Records, crossed: bool, seed: int | None) -> str:
    skipped = (
        "nothing skipped, as RegDB" if crossed else "own camera skipped, as Market-1501" if records.has_cameras else
        "no cameras, own sequence skipped" if records.has_sequences else "no cameras, own file skipped"
    )
    return skipped if seed is None else f"{skipped}, divided by seed {seed}"


def _remarks(
    records: Records, divided: bool, captured: bool, seed: int, share: float, lone: frozenset[str],
) -> tuple[str, ...]:
    name, said = records.source, []
    if not records.labelled:
        said.append(f"{name} has no labels: its images take part in domain adaptation, and nothing is tested on it")
    if records.unmatched:
        said.append(
            f"{len(records.unmatched):,} images of {name} do not fit the layout and are left out, such as "
            f'"{records.unmatched[0]}"; `torchreid-nas data show` lists them'
        )
    if divided:
        said.append(f"{name} says no split: {RULE} (seed {seed}, share {share:g}); split.csv in the folder of the run keeps it")
    if lone:
        said.append(
            f"{len(lone):,} persons of {name} have images of one modality only and are left out of what crosses modalities: "
            f"{', '.join(sorted(lone, key=natural)[:5])}{', …' if len(lone) > 5 else ''}"
        )
    if captured and records.labelled:
        what = "its own sequence" if records.has_sequences else "its own file"
        said.append(
            f"{name} names no cameras: a query skips {what} alone, so that figures are higher than those of a protocol across "
            "cameras"
        )
    return tuple(said)


def _numbers(train: Sequence[Record], tests: Sequence[Record]) -> dict[str, int]:
    """Number the persons: those of training first, so that their numbers are labels."""
    first, second = ({row.pid for row in rows} for rows in (train, tests))
    names = [*sorted(first, key=natural), *sorted(second - first, key=natural)]
    return {name: number for number, name in enumerate(names)}


def _cameras(rows: Sequence[Record]) -> dict[tuple[str, str], int]:
    """Number the cameras of each modality; an unknown modality counts as visible."""
    found = {(row.modality, row.camid) for row in rows}
    order = sorted(found, key=lambda pair: (MODALITIES.index(pair[0] or MODALITIES[0]), natural(pair[1])))
    return {pair: number for number, pair in enumerate(order)}


def _after(first: int, keys: Sequence[Hashable]) -> list[int]:
    """Number keys in the order in which they come, from ``first``."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(key, first + len(numbers)) for key in keys]
