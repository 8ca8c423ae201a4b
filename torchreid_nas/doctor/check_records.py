"""Checks that need no image: counts, persons on both sides, queries without a match, cameras, modalities, balance."""
from __future__ import annotations

__all__ = ["QUICK_CHECKS", "RECORD_CHECKS"]

import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from torchreid_nas.doctor.findings import Finding, are, counted, in_order, listed
from torchreid_nas.doctor.records import TEST_PARTS, Data, Record

# A person with more than this many times the median of images is named (ours).
_MANY = 10
# A camera with a smaller share of the images is named (ours).
_RARE = 0.01


def completeness(data: Data) -> Iterator[Finding]:
    """What a complete copy has, and this copy has not, or has besides."""
    for rule in data.expected:
        number = rule.count(data.records)
        if number in rule.complete:
            continue
        nearest = min(rule.complete, key=lambda complete: abs(complete - number))
        words = {"what": rule.what, "expected": f"{nearest:,}", "source": data.source or "where it came from"}
        if number < nearest:
            absent = rule.absent(data.records)
            names = f": {listed(absent, 30)}" if absent else ""
            yield Finding("incomplete", nearest - number, {**words, "missing": f"{nearest - number:,}", "names": names})
        else:
            yield Finding("surplus", number - nearest, {**words, "over": f"{number - nearest:,}"})


def shared_persons(data: Data) -> Iterator[Finding]:
    """Persons of the training part who are in the test part too."""
    trained, tested = _by_person(data.part("train")), _by_person(data.part(*TEST_PARTS))
    shared = in_order(trained.keys() & tested.keys())
    if shared:
        files = tuple(record.path for name in shared for record in (*trained[name], *tested[name]))
        words = {"persons": counted(len(shared), "person"), "verb": are(len(shared)), "names": listed(shared)}
        yield Finding("shared_person", len(shared), words, files)


def shared_files(data: Data) -> Iterator[Finding]:
    """Files that are listed for training and for test, but those of persons on both sides."""
    people = {r.person for r in data.part("train") if r.person} & {r.person for r in data.part(*TEST_PARTS)}
    trained, tested = ({r.path for r in data.part(*parts) if r.person not in people} for parts in (("train",), TEST_PARTS))
    shared = sorted(trained & tested)
    if shared:
        words = {"files": counted(len(shared), "file"), "verb": are(len(shared))}
        yield Finding("shared_file", len(shared), words, tuple(shared))


def unmatched_queries(data: Data) -> Iterator[Finding]:
    """Queries whose person is not left in the gallery under the protocol."""
    queries, gallery = data.part("query"), data.part("gallery")
    if not queries or not gallery:
        return
    seen: dict[str, set[int]] = {}
    for record in gallery:
        seen.setdefault(record.person, set()).add(_camera(record))
    scored: dict[tuple[str, int], bool] = {}
    for record in queries:
        key = record.person, _camera(record)
        if key not in scored:
            places = sorted(seen.get(record.person, ()))
            scored[key] = bool(data.protocol.count_valid([0], [0] * len(places), [key[1]], places))
    alone = [record for record in queries if not scored[record.person, _camera(record)]]
    if not alone:
        return
    skips = data.protocol.skips_own_camera or bool(data.protocol.skipped_cameras)
    apart = " by a camera that the protocol does not skip" if skips else ""
    words = {
        "total": counted(len(queries), "query", "queries"), "reason": f"no gallery image shows the same person{apart}",
        "apart": apart, "queries": f"{len(alone):,}",
    }
    files = tuple(record.path for record in alone)
    if len(alone) == len(queries):
        yield Finding("nothing_scored", len(alone), {**words, "total": f"{len(queries):,}"}, files)
    else:
        yield Finding("no_match", len(alone), words, files)


def unpaired_persons(data: Data) -> Iterator[Finding]:
    """Persons of the training part with images of one modality, where the data have two."""
    if len(data.modalities) < 2:
        return
    people = _by_person(data.part("train"))
    alone = in_order(name for name, records in people.items() if len({record.modality for record in records}) < 2)
    if alone:
        words = {"persons": counted(len(alone), "person"), "verb": are(len(alone), "has", "have"), "names": listed(alone)}
        yield Finding("unpaired", len(alone), words, tuple(record.path for name in alone for record in people[name]))


def one_camera(data: Data) -> Iterator[Finding]:
    """Persons of the training part whom one camera saw, where there are cameras to choose from."""
    records = [record for record in data.part("train") if record.camera is not None]
    if len({record.camera for record in records}) <= max(len(data.modalities), 1):
        return
    people = _by_person(records)
    alone = in_order(
        name for name, own in people.items()
        if len({record.camera for record in own}) == 1 and (len(data.modalities) < 2 or len(own) > 1)
    )
    if alone:
        words = {"persons": counted(len(alone), "person"), "verb": are(len(alone)), "names": listed(alone)}
        yield Finding("one_camera", len(alone), words, tuple(record.path for name in alone for record in people[name]))


def numbers_in_range(data: Data) -> Iterator[Finding]:
    """Camera and person numbers that the data set does not have."""
    if data.cameras is not None:
        strange = [record for record in data.records if record.camera is not None and record.camera not in data.cameras]
        if strange:
            cameras = sorted({(record.camera or 0) + 1 for record in strange})
            yield _out_of_range(
                "camera_range", data, strange, listed(map(str, cameras)), _ranges(camera + 1 for camera in data.cameras),
            )
    if data.persons is not None:
        low, high = data.persons
        strange = [
            record for record in data.records
            if (number := re.search(r"\d{1,18}$", record.person)) and not low <= int(number[0]) <= high
        ]
        if strange:
            names = in_order({record.person for record in strange})
            yield _out_of_range("person_range", data, strange, listed(names), f"{low:,} to {high:,}")


def balance(data: Data) -> Iterator[Finding]:
    """Persons with one image or with very many, and cameras with hardly any."""
    people = _by_person(data.part("train"))
    alone = in_order(name for name, records in people.items() if len(records) == 1)
    if alone:
        words = {"persons": counted(len(alone), "person"), "verb": are(len(alone), "has", "have"), "names": listed(alone)}
        yield Finding("one_image", len(alone), words, tuple(people[name][0].path for name in alone))
    if people:
        median = statistics.median(map(len, people.values()))
        many = sorted((name for name in people if len(people[name]) > _MANY * median), key=lambda name: -len(people[name]))
        if many:
            words = {
                "persons": counted(len(many), "person"), "verb": are(len(many), "has", "have"), "times": f"{_MANY}",
                "median": f"{median:g}", "names": listed(f"{name} ({len(people[name]):,})" for name in many),
            }
            yield Finding("many_images", len(many), words, tuple(record.path for name in many for record in people[name]))
    cameras = Counter(record.camera for record in data.records if record.camera is not None)
    rare = sorted(camera for camera, number in cameras.items() if number < _RARE * cameras.total())
    if rare:
        words = {
            "cameras": counted(len(rare), "camera"), "verb": are(len(rare), "has", "have"), "share": f"{_RARE:.0%}",
            "names": listed(f"{data.camera_name(camera)} ({counted(cameras[camera], 'image')})" for camera in rare),
        }
        chosen = set(rare)
        yield Finding("rare_camera", len(rare), words, tuple(r.path for r in data.records if r.camera in chosen))


QUICK_CHECKS: tuple[Callable[[Data], Iterator[Finding]], ...] = (
    completeness, shared_persons, shared_files, unmatched_queries, unpaired_persons,
)
"""Checks that a training makes before it starts."""

RECORD_CHECKS = (*QUICK_CHECKS, one_camera, numbers_in_range, balance)
"""All checks that need no image."""


def _camera(record: Record) -> int:
    return 0 if record.camera is None else record.camera


def _by_person(records: Iterable[Record]) -> dict[str, list[Record]]:
    people: dict[str, list[Record]] = {}
    for record in records:
        if record.person:
            people.setdefault(record.person, []).append(record)
    return people


def _out_of_range(name: str, data: Data, strange: list[Record], names: str, expected: str) -> Finding:
    words = {
        "images": counted(len(strange), "image"), "verb": are(len(strange), "has", "have"), "name": data.name, "names": names,
        "expected": expected,
    }
    return Finding(name, len(strange), words, tuple(record.path for record in strange))


def _ranges(numbers: Iterable[int]) -> str:
    """Return whole numbers as text, neighbours together.

    >>> _ranges([1, 2, 4, 5, 6, 9])
    '1 to 2, 4 to 6, 9'
    """
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}" if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)
