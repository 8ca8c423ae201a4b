"""A report as text and as JSON."""
from __future__ import annotations

__all__ = ["as_dict", "as_text", "headline"]

from typing import Any

from tabulate import tabulate

from torchreid_nas.doctor.examine import Report
from torchreid_nas.doctor.findings import counted
from torchreid_nas.doctor.kinds import Severity
from torchreid_nas.errors import shown

# Files of a finding that the text names.
_FILES = 3


def headline(report: Report) -> str:
    """Return what a report comes to, in one line.

    >>> from pathlib import Path
    >>> from torchreid_nas.doctor.records import Data, Record
    >>> headline(Report(Data("Campus", Path(), [Record("a.jpg", "1")]), [], []))
    'Campus: 1 image, no errors, no warnings'
    """
    images = counted(len({record.path for record in report.data.records}), "image")
    numbers = ", ".join(
        counted(number, word) if (number := report.count(severity)) else f"no {word}s"
        for severity, word in ((Severity.ERROR, "error"), (Severity.WARNING, "warning"))
    )
    return f"{shown(report.data.name, 200)}: {images}, {numbers}"


def as_text(report: Report) -> str:
    """Return the report for a terminal, the worst finding first."""
    lines = [headline(report), *(f"  {remark}" for remark in report.data.remarks)]
    if report.parts:
        lines += ["", tabulate(report.parts, headers="keys", intfmt=",")]
    for finding in report.findings:
        lines += ["", f"{finding.severity.name.lower()}: {finding.sentence}", f"  {finding.way_out}"]
        lines += [f"    {shown(report.data.shown(path), 200)}" for path in finding.files[:_FILES]]
        if len(finding.files) > _FILES:
            lines.append(f"    … and {len(finding.files) - _FILES:,} more")
    lines += ["", *(f"not looked at: {what}" for what in report.left_out)] if report.left_out else []
    return "\n".join(lines)


def as_dict(report: Report) -> dict[str, Any]:
    """Return the report as plain values: every finding with all of its files."""
    data = report.data
    return {
        "name": data.name, "root": str(data.root), "exit_code": int(report.severity), "headline": headline(report),
        "remarks": data.remarks, "left_out": report.left_out, "parts": report.parts, "cameras": report.cameras,
        "findings": [
            {
                "kind": finding.name, "severity": finding.severity.name.lower(), "count": finding.count,
                "sentence": finding.sentence, "way_out": finding.way_out, "files": [data.shown(path) for path in finding.files],
                "groups": [
                    {"title": group.title, "files": [data.shown(path) for path in group.files], "captions": list(group.captions)}
                    for group in finding.groups
                ],
            }
            for finding in report.findings
        ],
    }
