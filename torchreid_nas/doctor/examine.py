"""All checks of a data set, and what they found."""
from __future__ import annotations

__all__ = ["Report", "examine"]

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchreid_nas.doctor.check_copies import copies
from torchreid_nas.doctor.check_images import IMAGE_CHECKS, Measured, camera_table
from torchreid_nas.doctor.check_records import RECORD_CHECKS
from torchreid_nas.doctor.findings import Finding, worst_first
from torchreid_nas.doctor.kinds import Severity
from torchreid_nas.doctor.records import Data
from torchreid_nas.doctor.scan import measure_all
from torchreid_nas.errors import InputError

if TYPE_CHECKING:
    from torchreid_nas.doctor.suspects import Judge


@dataclass
class Report:
    """What the doctor says of a data set.

    Attributes:
        data: as it was read.
        findings: the worst first.
        parts: a row per part: images, persons, cameras, modalities.
        cameras: a row per camera, see :func:`~torchreid_nas.doctor.check_images.camera_table`; empty without images.
        left_out: checks that were not made, and why.
    """

    data: Data
    findings: list[Finding]
    parts: list[dict[str, Any]]
    cameras: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def severity(self) -> Severity:
        """Of the worst finding; a note is no reason to do anything."""
        return max((finding.severity for finding in self.findings), default=Severity.NOTE)

    def count(self, severity: Severity) -> int:
        """Return the number of findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)


def examine(
    data: Data, images: bool = True, judge: Judge | None = None, store: Path | None = None, workers: int | None = None,
    progress: bool = True,
) -> Report:
    """Make all checks of a data set.

    Args:
        data: see :func:`~torchreid_nas.doctor.reading.read_data`.
        images: decode the images; otherwise only records are checked.
        judge: names label suspects by features; None leaves that out.
        store: file of measurements that a killed run goes on with, see :class:`~torchreid_nas.doctor.scan.Store`.
        workers: processes that decode, see :func:`~torchreid_nas.doctor.scan.measure_all`.
        progress: show bars, on terminals only.

    Raises:
        InputError: the data set has no image, or the judge's model cannot read one.

    Example:
        >>> from torchreid_nas.doctor import Record
        >>> report = examine(Data("toy", Path(), [Record("a.jpg", "1", 0, part="train")]), images=False)
        >>> report.severity.name, [finding.name for finding in report.findings]
        ('WARNING', ['one_image'])
    """
    if not data.records and not data.found:
        raise InputError(f'"{data.root}" holds no image of {data.name}; check the path')
    findings = [*data.found, *(finding for check in RECORD_CHECKS for finding in check(data))]
    report = Report(data, findings, _parts(data))
    if images:
        paths = sorted({record.path for record in data.records})
        measured = Measured(data, paths, measure_all(paths, store, workers, progress))
        for check in (*IMAGE_CHECKS, copies):
            findings += check(measured)
        report.cameras = camera_table(measured)
        if judge is not None:
            findings += judge.suspects(measured)
            report.left_out += judge.left_out
    else:
        report.left_out.append("images were not decoded (--quick)")
    report.findings = worst_first(findings)
    return report


def _parts(data: Data) -> list[dict[str, Any]]:
    order = {"train": 0, "query": 1, "gallery": 2, "test": 3, "": 4}
    table = []
    for part in sorted({record.part for record in data.records}, key=lambda part: order.get(part, 5)):
        records = data.part(part)
        row: dict[str, Any] = {
            "part": part or "in no list", "images": len(records), "persons": len({r.person for r in records if r.person}),
            "cameras": len({r.camera for r in records if r.camera is not None}),
        }
        row.update(_modalities(records) if len(data.modalities) > 1 else {})
        table.append(row)
    return table


def _modalities(records: Sequence[Any]) -> dict[str, int]:
    counts = Counter(record.modality for record in records)
    return {word: counts[word] for word in ("visible", "infrared")}
