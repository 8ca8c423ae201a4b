"""A report as one HTML page that needs nothing beside it: pictures are in it, names of files are escaped."""
from __future__ import annotations

__all__ = ["render_page"]

from collections.abc import Sequence

from torchreid_nas.doctor.examine import Report
from torchreid_nas.doctor.findings import Finding, Group, are, counted
from torchreid_nas.doctor.kinds import Severity
from torchreid_nas.doctor.report import headline
from torchreid_nas.report.html import image_url, page, table, text

# What a page holds at most: pictures in all, groups and pictures of one finding, pictures of a group, names of files.
_PICTURES = 300
_GROUPS = 10
_OF_FINDING = 24
_OF_GROUP = 8
_NAMES = 200
# Width and height of a picture in pixels, twice what the page shows.
_SIZE = 176, 264
# Findings whose files no picture explains.
_WITHOUT = {"unreadable", "empty_file", "truncated", "deep", "listed_missing", "bad_line", "other_files", "incomplete"}

_STYLE = """
.way{border-top:1px dashed var(--line);padding-top:6px;margin-top:8px}
.groups{display:flex;flex-wrap:wrap;gap:8px;margin:8px 0}
.group{background:var(--dim);border-radius:6px;padding:8px 10px}
.group .pics{margin:4px 0 0}
.group>b{font-weight:600;font-size:.85rem}figcaption b{font-weight:600;color:var(--ink)}
figure{width:88px}
figure img{display:block;width:88px;height:132px;object-fit:contain;background:var(--dim);border:1px solid var(--line);
border-radius:3px}
.group figure img{background:var(--card)}
.group .soft,.group figcaption{color:var(--ink)}
figcaption{font-size:.7rem;line-height:1.25;margin-top:2px}
nav ol{padding-left:2.4em}nav .tag{min-width:6em;margin-right:6px}
"""


def render_page(report: Report) -> str:
    """Return the page.

    Example:
        >>> from pathlib import Path
        >>> from torchreid_nas.doctor.records import Data, Record
        >>> page = render_page(Report(Data("<b>Campus", Path(), [Record("a.jpg", "1")]), [], []))
        >>> "&lt;b&gt;Campus: 1 image" in page, "<b>Campus" in page
        (True, False)
    """
    pictures = _Pictures(report)
    title = text(headline(report))
    worst = report.severity.name.lower() if report.findings else "ok"
    verdict = {
        Severity.ERROR: "Mend the errors before you train: figures of these data would be wrong.",
        Severity.WARNING: "Nothing is plainly wrong. Look at the warnings before you trust figures.",
        Severity.NOTE: "Nothing is wrong that these checks can see.",
    }[report.severity]
    body = [
        f'<h1>{title}</h1>', f'<p class="soft">{text(str(report.data.root))}</p>',
        *(f'<p class="soft">{text(remark)}.</p>' for remark in report.data.remarks),
        f'<p class="verdict {worst}" style="color:var(--c)">{verdict}</p>',
        _contents(report.findings),
        *(_card(number, finding, pictures) for number, finding in enumerate(report.findings)),
        '<h2>Parts</h2>', table(report.parts, "Parts"),
    ]
    if report.cameras:
        body += [
            "<h2>Cameras</h2>", table(report.cameras, "Cameras"),
            '<p class="soft">Medians per camera: mean and spread (standard deviation) of the grey values, 0 to 255; sharpness is '
            "the standard deviation of the Laplacian over that of the image.</p>",
        ]
    if report.left_out:
        body += ["<h2>Not looked at</h2>", f"<ul>{''.join(f'<li>{text(what)}</li>' for what in report.left_out)}</ul>"]
    return page(headline(report), body, _STYLE)


class _Pictures:
    """Makes small pictures for the page, so many and no more."""

    def __init__(self, report: Report) -> None:
        self.left = _PICTURES
        self.data = report.data

    def row(self, files: Sequence[str], captions: Sequence[str] = ()) -> str:
        """Return pictures side by side; files that cannot be shown are left out."""
        figures = [
            figure for number, path in enumerate(files)
            if (figure := self._figure(path, captions[number] if captions else ""))
        ]
        return f'<div class="pics">{"".join(figures)}</div>' if figures else ""

    def _figure(self, path: str, caption: str) -> str:
        source = image_url(path, _SIZE) if self.left > 0 else ""
        if not source:
            return ""
        self.left -= 1
        name = text(self.data.shown(path))
        alt = f"{name} ({text(caption)})" if caption else name
        last = text(self.data.shown(path).rpartition("/")[2])
        lines = f"<b>{text(caption)}</b><br>{last}" if caption else last
        return f'<figure><img src="{source}" alt="{alt}" title="{name}"><figcaption>{lines}</figcaption></figure>'


def _contents(findings: Sequence[Finding]) -> str:
    if len(findings) < 2:
        return ""
    items = "".join(
        f'<li class="{_level(finding)}"><span class="tag">{_level(finding)}</span>'
        f'<a href="#f{number}">{text(finding.kind.title)}</a> '
        f'<span class="soft">({finding.count:,})</span></li>' for number, finding in enumerate(findings)
    )
    return f'<nav aria-label="Findings"><ol>{items}</ol></nav>'


def _card(number: int, finding: Finding, pictures: _Pictures) -> str:
    parts = [
        f'<section class="card {_level(finding)}" id="f{number}"><span class="tag">{_level(finding)}</span>'
        f"<h3>{text(finding.kind.title)}</h3>", f"<p>{text(finding.sentence)}</p>",
    ]
    if finding.groups:
        parts.append(f'<div class="groups">{"".join(_group(group, pictures) for group in finding.groups[:_GROUPS])}</div>')
        if len(finding.groups) > _GROUPS:
            parts.append(f'<p class="soft">… and {counted(len(finding.groups) - _GROUPS, "more group")}.</p>')
    elif finding.name not in _WITHOUT:
        parts.append(pictures.row(finding.files[:_OF_FINDING]))
    parts.append(f'<p class="way"><b>Way out:</b> {text(finding.way_out)}</p>')
    if finding.files:
        names = "\n".join(text(pictures.data.shown(path)) for path in finding.files[:_NAMES])
        more = len(finding.files) - _NAMES
        rest = f"\n… and {more:,} more; --json names all" if more > 0 else ""
        parts.append(f"<details><summary>{counted(len(finding.files), 'file')}</summary><pre>{names}{rest}</pre></details>")
    return "\n".join(filter(None, parts)) + "</section>"


def _group(group: Group, pictures: _Pictures) -> str:
    row = pictures.row(group.files[:_OF_GROUP], group.captions)
    more = len(group.files) - _OF_GROUP
    rest = f'<p class="soft">… and {more:,} more {are(more, "image", "images")}</p>' if more > 0 else ""
    title = f"<b>{text(group.title)}</b>" if group.title else ""
    return f'<div class="group">{title}{row}{rest}</div>' if row else ""


def _level(finding: Finding) -> str:
    return finding.severity.name.lower()
