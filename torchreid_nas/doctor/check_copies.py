"""Copies of images: byte for byte, pixel for pixel, or nearly; within a part, and across training and test."""
from __future__ import annotations

__all__ = ["copies"]

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from torchreid_nas.doctor.check_images import Measured
from torchreid_nas.doctor.findings import Finding, Group, are, counted, in_order, listed
from torchreid_nas.doctor.hashes import near_copies
from torchreid_nas.doctor.measure import State
from torchreid_nas.doctor.records import Data

# Groups that are kept for pictures; files are all kept.
_GROUPS = 100
# Grey values with a smaller standard deviation show nothing whose copy would matter (ours).
_CONTRAST = 2.0


def copies(measured: Measured) -> Iterator[Finding]:
    """Copies across training and test, of different persons, of a query in the gallery, and within a part.

    A group of copies is named under one kind: training and test before
    persons, persons before query and gallery, these before copies within a part.
    """
    labels = _labels(measured.data)
    exact = [group for group in _exact_groups(measured) if _shows_something(measured, group)]
    groups: dict[str, list[list[int]]] = {}
    for group in exact:
        groups.setdefault(_kind(_of(measured, labels, group)), []).append(group)
    of_group = {number: index for index, group in enumerate(exact) for number in group}
    bytes_alike = {
        index for index, group in enumerate(exact) if len({measured.rows["file"][number] for number in group}) == 1
    }
    for kind, found in groups.items():
        yield _exact_finding(kind, found, measured, labels, [of_group[group[0]] in bytes_alike for group in found])
    near: dict[str, list[list[int]]] = {}
    for first, second in _near_pairs(measured):
        if of_group.get(first, -1) == of_group.get(second, -2):
            continue
        kind = _kind(_of(measured, labels, [first, second]))
        near.setdefault({"leaked_image": "near_leak", "two_labels": "near_two_labels"}.get(kind, "near_duplicate"), []).append(
            [first, second]
        )
    for kind, pairs in near.items():
        yield _near_finding(kind, pairs, measured, labels)


_Labels = dict[str, set[tuple[str, str]]]
"""path -> (part, person) of its records."""


def _labels(data: Data) -> _Labels:
    labels: _Labels = {}
    for record in data.records:
        labels.setdefault(record.path, set()).add((record.part, record.person))
    return labels


def _of(measured: Measured, labels: _Labels, group: Iterable[int]) -> list[tuple[str, str]]:
    return [pair for number in group for pair in sorted(labels[measured.paths[number]])]


def _kind(pairs: Sequence[tuple[str, str]]) -> str:
    """Return what copies with these parts and persons are."""
    sides = {part == "train" for part, _ in pairs if part}
    persons = {(part == "train", person) for part, person in pairs if person}
    if len(sides) == 2:
        return "leaked_image"
    if len({person for _, person in persons}) > 1:
        return "two_labels"
    return "query_in_gallery" if {"query", "gallery"} <= {part for part, _ in pairs} else "duplicate"


def _exact_groups(measured: Measured) -> Iterator[list[int]]:
    """Yield the groups of images with equal pixels; files that cannot be decoded are compared by their bytes."""
    keys = measured.rows["pixels"].copy()
    unread = (measured.rows["state"] != State.GOOD) & (measured.rows["file"] != b"")
    keys[unread] = measured.rows["file"][unread]
    order = np.argsort(keys, kind="stable")
    for key, members in itertools.groupby(order.tolist(), key=keys.__getitem__):
        group = sorted(members)
        if key and len(group) > 1:
            yield group


def _shows_something(measured: Measured, group: Sequence[int]) -> bool:
    row = measured.rows[group[0]]
    return bool(row["state"] == State.GOOD and max(row["spread"], row["colour"]) > _CONTRAST)


def _near_pairs(measured: Measured) -> Iterator[tuple[int, int]]:
    # Of exact copies the first stands for all.
    usable = np.flatnonzero(measured.good)
    _, first = np.unique(measured.rows["pixels"][usable], return_index=True)
    chosen = usable[np.sort(first)]
    pairs = near_copies(measured.rows["hash"][chosen], measured.rows["thumb"][chosen])
    yield from ((int(chosen[one]), int(chosen[two])) for one, two in pairs)


def _exact_finding(
    kind: str, groups: list[list[int]], measured: Measured, labels: _Labels, bytes_alike: Sequence[bool],
) -> Finding:
    if kind == "leaked_image":
        count = sum(not _trained(labels[measured.paths[number]]) for group in groups for number in group)
    elif kind == "query_in_gallery":
        count = sum("query" in {part for part, _ in labels[measured.paths[number]]} for group in groups for number in group)
    elif kind == "duplicate":
        count = sum(len(group) - 1 for group in groups)
    else:
        count = sum(map(len, groups))
    share = sum(bytes_alike) / len(bytes_alike)
    how = "byte for byte" if share == 1 else "pixel for pixel" if share == 0 else "byte for byte or pixel for pixel"
    words = {"images": counted(count, "image"), "verb": are(count), "how": how, "names": _persons(groups, measured, labels)}
    return Finding(kind, count, words, _files(groups, measured), _shown(groups, measured, labels))


def _near_finding(kind: str, pairs: list[list[int]], measured: Measured, labels: _Labels) -> Finding:
    numbers = {number for pair in pairs for number in pair}
    if kind == "near_leak":
        numbers = {number for number in numbers if not _trained(labels[measured.paths[number]])}
    elif kind == "near_duplicate":
        numbers = {pair[1] for pair in pairs}
    verb = are(len(numbers), "looks", "look")
    words = {"images": counted(len(numbers), "image"), "verb": verb, "names": _persons(pairs, measured, labels)}
    return Finding(kind, len(numbers), words, _files(pairs, measured), _shown(pairs, measured, labels))


def _trained(pairs: set[tuple[str, str]]) -> bool:
    return any(part == "train" for part, _ in pairs)


def _persons(groups: Iterable[Sequence[int]], measured: Measured, labels: _Labels) -> str:
    """Return which persons the groups mix, each mixture once: ``"3 with 4, 10 with 16"``."""
    mixtures = dict.fromkeys(
        " with ".join(in_order({person for _, person in _of(measured, labels, group) if person})) for group in groups
    )
    return listed(filter(None, mixtures))


def _files(groups: Iterable[Sequence[int]], measured: Measured) -> tuple[str, ...]:
    return tuple(dict.fromkeys(measured.paths[number] for group in groups for number in group))


def _caption(pairs: set[tuple[str, str]]) -> str:
    return "; ".join(", ".join(filter(None, (part, person and f"person {person}"))) for part, person in sorted(pairs))


def _shown(groups: Sequence[Sequence[int]], measured: Measured, labels: _Labels) -> tuple[Group, ...]:
    shown = []
    for group in groups[:_GROUPS]:
        files = tuple(measured.paths[number] for number in group)
        shown.append(Group("", files, tuple(_caption(labels[path]) for path in files)))
    return tuple(shown)
