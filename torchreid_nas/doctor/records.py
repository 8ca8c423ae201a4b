"""What the doctor knows of a data set before it looks at the images: a record per image, and what a complete copy holds."""
from __future__ import annotations

__all__ = ["TEST_PARTS", "Data", "Expected", "Record", "records_of"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torchreid

from torchreid_nas.data.dataset import MODALITIES, CrossModalityDataset, as_cross_modality
from torchreid_nas.doctor.findings import Finding
from torchreid_nas.metrics.protocols import PROTOCOLS, Protocol, find_protocol

TEST_PARTS = ("query", "gallery", "test")


@dataclass(frozen=True, slots=True)
class Record:
    """One image of a data set.

    Attributes:
        path: of the file.
        person: as the data name the person, the same in all parts; ``""`` for junk and distractors.
        camera: torchreid's number, from 0; None where nobody knows.
        modality: ``"visible"``, ``"infrared"``, or ``""`` where nobody knows.
        part: ``"train"``, ``"query"``, ``"gallery"``, ``"test"`` where only that is known, or ``""`` for none of them.
        sequence: of a video; ``""`` for none.

    Example:
        >>> Record("cam3/0001/0001.jpg", "1", 2, "infrared", "query").camera
        2
    """

    path: str
    person: str
    camera: int | None = None
    modality: str = ""
    part: str = ""
    sequence: str = ""


@dataclass(frozen=True)
class Expected:
    """A number that every complete copy of a named data set has.

    Attributes:
        what: is counted, for people: ``"training identities"``.
        complete: the number; several where different complete copies are about.
        parts: whose records are counted.
        unit: ``"images"``, ``"persons"``, or ``"visits"``, pairs of person and camera.
        modality: counts only that; ``""`` counts both.
        listed: the persons whom the lists of the copy name; they tell who is missing.

    Example:
        >>> rule = Expected("training identities", (3,), ("train",), "persons")
        >>> rule.count([Record("a.jpg", "7", part="train"), Record("b.jpg", "7", part="train"), Record("c.jpg", "8")])
        1
    """

    what: str
    complete: tuple[int, ...]
    parts: tuple[str, ...]
    unit: str = "images"
    modality: str = ""
    listed: frozenset[str] = frozenset()

    def count(self, records: Sequence[Record]) -> int:
        """Return how many the records hold."""
        chosen = [
            record for record in records
            if record.part in self.parts and (not self.modality or record.modality == self.modality)
        ]
        if self.unit == "images":
            return len(chosen)
        return len({(record.person, record.camera if self.unit == "visits" else None) for record in chosen if record.person})

    def absent(self, records: Sequence[Record]) -> list[str]:
        """Return the listed persons of whom the records hold no image."""
        present = {record.person for record in records if record.part in self.parts}
        return sorted(self.listed - present, key=lambda name: (len(name), name))


@dataclass
class Data:
    """A data set as the doctor reads it: tolerantly, so that one fault does not hide the others.

    Attributes:
        name: for people.
        root: folder that paths are shown relative to.
        records: of all images, those of no part too.
        protocol: how queries are scored.
        expected: what a complete copy holds; empty for own data and generated stand-ins.
        cameras: torchreid's numbers that the data set has; None for any.
        persons: least and largest person number; None for any.
        infrared_is_grey: whether infrared images are stored without colour.
        found: what reading the lists and names has found.
        source: where a complete copy comes from.
        remarks: lines for the head of the report.
        camera_names: of own data; cameras of named data sets are numbers from 1.
    """

    name: str
    root: Path
    records: list[Record]
    protocol: Protocol = PROTOCOLS["market1501"]
    expected: tuple[Expected, ...] = ()
    cameras: frozenset[int] | None = None
    persons: tuple[int, int] | None = None
    infrared_is_grey: bool = True
    found: list[Finding] = field(default_factory=list)
    source: str = ""
    remarks: list[str] = field(default_factory=list)
    camera_names: Mapping[int, str] = field(default_factory=dict)

    def part(self, *names: str) -> list[Record]:
        """Return the records of parts."""
        return [record for record in self.records if record.part in names]

    @property
    def modalities(self) -> set[str]:
        """Modalities that its images are of."""
        return {record.modality for record in self.records if record.modality}

    def camera_name(self, camera: int) -> str:
        """Return the name of a camera, for people."""
        return self.camera_names.get(camera, f"{camera + 1}")

    def shown(self, path: str) -> str:
        """Return a path relative to the folder of the data set, where it lies in that folder."""
        prefix = f"{self.root}/"
        return path.removeprefix(prefix)


def records_of(dataset: torchreid.data.ImageDataset, same_numbers: bool = False) -> list[Record]:
    """Return records of a data set that a data manager has loaded.

    Args:
        dataset: of torchreid.
        same_numbers: whether a number means the same person in training and test. Training labels are counted anew in
            most data sets, so that by default nothing is concluded from equal numbers.

    Raises:
        InputError: it is no image data set.

    Example:
        >>> campus = CrossModalityDataset([("a.jpg", 0, 0)], [("b.jpg", 0, 1)], [("c.jpg", 0, 0)], {1}, verbose=False)
        >>> [(record.person, record.modality) for record in records_of(campus)]
        [('training label 0', 'visible'), ('0', 'infrared'), ('0', 'visible')]
    """
    cross = as_cross_modality(dataset)
    two = bool(cross.infrared_camids)
    names: Mapping[str, Sequence[tuple]] = {"train": cross.train, "query": cross.query, "gallery": cross.gallery_pool}
    return [
        Record(
            path, str(pid) if same_numbers or part != "train" else f"training label {pid}", camid,
            MODALITIES[cross.modality_of(camid)] if two else "", part,
        )
        for part, items in names.items() for path, pid, camid, _ in items
    ]


def protocol_of(dataset: torchreid.data.ImageDataset) -> Protocol:
    """Return how the queries of a loaded data set are scored."""
    return find_protocol(getattr(dataset, "protocol", CrossModalityDataset.protocol))
