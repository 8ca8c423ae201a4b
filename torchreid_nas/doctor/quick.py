"""The cheap checks, which a training makes before it starts: no image is decoded."""
from __future__ import annotations

__all__ = ["quick_checks", "quick_line"]

from collections.abc import Sequence
from pathlib import Path

import torchreid

from torchreid_nas.doctor.check_records import QUICK_CHECKS
from torchreid_nas.doctor.findings import Finding, counted, worst_first
from torchreid_nas.doctor.kinds import Severity
from torchreid_nas.doctor.records import Data, Record, protocol_of, records_of
from torchreid_nas.metrics.protocols import PROTOCOLS, Protocol


def quick_checks(data: Data | torchreid.data.ImageDataset | Sequence[Record], protocol: Protocol | None = None) -> list[Finding]:
    """Return what is wrong with counts, persons on both sides, and queries without a match, the worst first.

    Args:
        data: records, a loaded data set of torchreid, or what the doctor has read. Of a loaded data set only equal
            *files* on both sides are found; records also say whether equal *persons* are.
        protocol: how queries are scored; default the data set's own, for records Market-1501's.

    Raises:
        InputError: an object of another type, or an unknown protocol.

    Example:
        >>> tested = [Record("b.jpg", "7", 0, part="query"), Record("c.jpg", "7", 1, part="gallery")]
        >>> [finding.sentence for finding in quick_checks([Record("a.jpg", "7", 0, part="train"), *tested])]
        ['1 person of the training part is in the test part too: 7.']
    """
    if isinstance(data, Sequence) and not isinstance(data, torchreid.data.ImageDataset):
        data = Data("records", Path(), list(data), protocol or PROTOCOLS["market1501"])
    elif not isinstance(data, Data):
        data = Data(type(data).__name__, Path(), records_of(data), protocol or protocol_of(data))
    return worst_first(finding for check in QUICK_CHECKS for finding in check(data))


def quick_line(findings: Sequence[Finding]) -> str:
    """Return one line about findings: how many of each severity, and the worst.

    >>> quick_line([])
    'quick checks of the data: nothing found'
    >>> quick_line([Finding("shared_file", 1, {"files": "1 file", "verb": "is"})])
    'quick checks of the data: 1 error; 1 file is listed both for training and for test.'
    """
    if not findings:
        return "quick checks of the data: nothing found"
    numbers = [
        counted(number, severity.name.lower()) for severity in sorted(Severity, reverse=True)
        if (number := sum(finding.severity == severity for finding in findings))
    ]
    return f"quick checks of the data: {', '.join(numbers)}; {worst_first(findings)[0].sentence}"
