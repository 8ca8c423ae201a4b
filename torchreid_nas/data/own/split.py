"""Which of own images train, query and are searched: as the source says, or else by a seeded rule over persons."""
from __future__ import annotations

__all__ = ["RULE", "divide", "lone_persons"]

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from torchreid_nas.data.own.captures import capture_keys
from torchreid_nas.data.own.records import Record, Records, natural
from torchreid_nas.errors import InputError

RULE = (
    "the persons, sorted by name and shuffled by NumPy's default_rng(seed), are divided: the first floor(share x persons + 1/2) "
    "train, at least 1, and the others test, at least 1"
)
"""The rule of :func:`divide`, for people."""


def divide(records: Records, seed: int = 0, share: float = 0.5) -> Records:
    """Return records that all say their split, and whose test images say their role.

    A source that says the split keeps it. Otherwise :data:`RULE` divides the
    persons. Of data of both modalities only persons with images of both are
    divided; the others are counted as training persons, and no part across
    modalities takes them.

    A test image without a role is a query and is in the gallery too. Where the
    images are of one modality and none has a role, one image per person and
    capture is drawn for a query, and the others get the role of the gallery. A
    capture is a camera; without cameras it is a sequence, and without
    sequences an image, so that then every image queries.

    Args:
        records: of a source; images without labels are returned as they are.
        seed: of the division and of the draw.
        share: of the persons that train, above 0 and below 1.

    Raises:
        InputError: there are fewer than two persons to divide, or ``share`` is out of range.
    """
    if not records.labelled:
        return records
    rows = list(records.rows) if records.is_split else _divided(records, seed, share)
    if len(records.modalities) == 1 and not any(row.role for row in rows):
        rows = _with_queries(rows, seed)
    return replace(records, rows=tuple(rows))


def lone_persons(rows: Sequence[Record]) -> frozenset[str]:
    """Return the persons with images of one modality only, where the images are of two modalities; else nobody.

    >>> rows = [Record("a", "1", modality="visible"), Record("b", "1", modality="infrared"), Record("c", "2", modality="visible")]
    >>> sorted(lone_persons(rows))
    ['2']
    """
    seen: dict[str, set[str]] = {}
    for row in rows:
        seen.setdefault(row.pid, set()).add(row.modality)
    if len(set().union(*seen.values())) < 2:
        return frozenset()
    return frozenset(pid for pid, words in seen.items() if len(words) < 2)


def _divided(records: Records, seed: int, share: float) -> list[Record]:
    if not 0 < share < 1:
        raise InputError(f"the share of the persons that train (data.train_share) is {share}, expected above 0 and below 1")
    lone = lone_persons(records.rows)
    persons = sorted({row.pid for row in records.rows} - lone, key=natural)
    if len(persons) < 2:
        both = " with images of both modalities" if len(records.modalities) == 2 else ""
        raise InputError(
            f'"{records.source}" has {len(persons)} person{"" if len(persons) == 1 else "s"}{both}, expected at least 2 to '
            "divide into training and test; check the layout, or say the split of the images"
        )
    count = min(max(math.floor(share * len(persons) + 0.5), 1), len(persons) - 1)
    order = np.random.default_rng(seed).permutation(len(persons))
    train = {persons[place] for place in order[:count]} | lone
    return [replace(row, split="train" if row.pid in train else "test") for row in records.rows]


def _with_queries(rows: Sequence[Record], seed: int) -> list[Record]:
    """Give the role of the gallery to all test images but one of each person and capture."""
    tests = [row for row in rows if row.split == "test"]
    groups: dict[tuple[str, object], list[Record]] = {}
    for row, key in zip(tests, capture_keys(tests)):
        groups.setdefault((row.pid, key), []).append(row)
    generator = np.random.default_rng([seed, 1])
    queries = {group[generator.integers(len(group))].path for group in groups.values()}
    roles: Mapping[bool, str] = {True: "", False: "gallery"}
    return [replace(row, role=roles[row.path in queries]) if row.split == "test" else row for row in rows]
