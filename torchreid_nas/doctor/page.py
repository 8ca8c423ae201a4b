"""A report as one HTML page that needs nothing beside it: pictures are in it, names of files are escaped."""
from __future__ import annotations

__all__ = ["render_page"]

import base64
import contextlib
import html
import io
import warnings
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageOps

from torchreid_nas.data.dataset import read_image
from torchreid_nas.doctor.examine import Report
from torchreid_nas.doctor.findings import Finding, Group, are, counted
from torchreid_nas.doctor.kinds import Severity
from torchreid_nas.doctor.report import headline
from torchreid_nas.errors import InputError, shown

# What a page holds at most: pictures in all, groups and pictures of one finding, pictures of a group, names of files.
_PICTURES = 300
_GROUPS = 10
_OF_FINDING = 24
_OF_GROUP = 8
_NAMES = 200
# Width and height of a picture in pixels, twice what the page shows.
_SIZE = 176, 264
_MOST_PIXELS = 40_000_000
# Findings whose files no picture explains.
_WITHOUT = {"unreadable", "empty_file", "truncated", "deep", "listed_missing", "bad_line", "other_files", "incomplete"}

_STYLE = """
:root{color-scheme:light dark;--bg:#fafaf8;--card:#fff;--ink:#1d2126;--soft:#5b6470;--line:#d9dde2;--error:#b3261e;
--warning:#8a5a00;--note:#3b5f8a;--ok:#1f6b3a;--dim:#f0f1ee}
@media(prefers-color-scheme:dark){:root{--bg:#15181c;--card:#1d2126;--ink:#e6e8eb;--soft:#9aa4b0;--line:#363c44;--error:#ff8a80;
--warning:#f0b54a;--note:#8fb8e8;--ok:#7fcf9b;--dim:#262b31}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;
overflow-wrap:anywhere}
main{max-width:1080px;margin:0 auto;padding:24px 16px 48px}
h1{font-size:1.5rem;line-height:1.25;margin:0 0 4px}
h2{font-size:1.1rem;margin:32px 0 8px}
h3{font-size:1.05rem;margin:0;display:inline}
p{margin:6px 0}.soft{color:var(--soft)}
.verdict{font-weight:600;margin:8px 0 12px}
.card{background:var(--card);border:1px solid var(--line);border-left:4px solid var(--c);border-radius:6px;padding:12px 16px;
margin:12px 0}
.error{--c:var(--error)}.warning{--c:var(--warning)}.note{--c:var(--note)}.ok{--c:var(--ok)}
.tag{display:inline-block;color:var(--c);font-size:.75rem;font-weight:700;text-transform:uppercase;letter-spacing:.05em;
margin-right:8px}
.way{border-top:1px dashed var(--line);padding-top:6px;margin-top:8px}
.pics{display:flex;flex-wrap:wrap;gap:8px;margin:10px 0}
.group{background:var(--dim);border-radius:6px;padding:8px 10px;margin:8px 0}
.group .pics{margin:4px 0 0}
.group b{font-weight:600;font-size:.85rem}
figure{margin:0;width:88px}
figure img{display:block;width:88px;height:132px;object-fit:contain;background:var(--dim);border:1px solid var(--line);
border-radius:3px}
.group figure img{background:var(--card)}
figcaption{font-size:.7rem;line-height:1.25;color:var(--soft);margin-top:2px}
details{margin-top:8px}summary{cursor:pointer;color:var(--soft)}
pre{white-space:pre-wrap;font:.8rem/1.45 ui-monospace,monospace;background:var(--dim);padding:8px;border-radius:4px;
max-height:320px;overflow:auto;margin:6px 0 0}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.9rem;background:var(--card)}
th,td{border:1px solid var(--line);padding:4px 10px;text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}th{color:var(--soft);font-weight:600}
nav a{color:inherit}nav ol{margin:4px 0;padding-left:1.4em}nav li{margin:2px 0}
nav .tag{min-width:4.6em;margin-right:6px}
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
    title = _text(headline(report))
    worst = report.severity.name.lower() if report.findings else "ok"
    verdict = {
        Severity.ERROR: "Mend the errors before you train: figures of these data would be wrong.",
        Severity.WARNING: "Nothing is plainly wrong. Look at the warnings before you trust figures.",
        Severity.NOTE: "Nothing is wrong that these checks can see.",
    }[report.severity]
    body = [
        f'<h1>{title}</h1>', f'<p class="soft">{_text(str(report.data.root))}</p>',
        *(f'<p class="soft">{_text(remark)}.</p>' for remark in report.data.remarks),
        f'<p class="verdict {worst}" style="color:var(--c)">{verdict}</p>',
        _contents(report.findings),
        *(_card(number, finding, pictures) for number, finding in enumerate(report.findings)),
        '<h2>Parts</h2>', _table(report.parts),
    ]
    if report.cameras:
        body += [
            "<h2>Cameras</h2>", _table(report.cameras),
            '<p class="soft">Medians per camera: mean and spread (standard deviation) of the grey values, 0 to 255; sharpness is '
            "the standard deviation of the Laplacian over that of the image.</p>",
        ]
    if report.left_out:
        body += ["<h2>Not looked at</h2>", f"<ul>{''.join(f'<li>{_text(what)}</li>' for what in report.left_out)}</ul>"]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style></head>\n<body><main>\n" + "\n".join(body) + "\n</main></body></html>\n"
    )


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
        source = _data_url(path) if self.left > 0 else ""
        if not source:
            return ""
        self.left -= 1
        name = _text(self.data.shown(path))
        alt = f"{name} ({_text(caption)})" if caption else name
        last = _text(self.data.shown(path).rpartition("/")[2])
        lines = f"<b>{_text(caption)}</b><br>{last}" if caption else last
        return f'<figure><img src="{source}" alt="{alt}" title="{name}"><figcaption>{lines}</figcaption></figure>'


def _contents(findings: Sequence[Finding]) -> str:
    if len(findings) < 2:
        return ""
    items = "".join(
        f'<li class="{_level(finding)}"><span class="tag">{_level(finding)}</span>'
        f'<a href="#f{number}">{_text(finding.kind.title)}</a> '
        f'<span class="soft">({finding.count:,})</span></li>' for number, finding in enumerate(findings)
    )
    return f'<nav aria-label="Findings"><ol>{items}</ol></nav>'


def _card(number: int, finding: Finding, pictures: _Pictures) -> str:
    parts = [
        f'<section class="card {_level(finding)}" id="f{number}"><span class="tag">{_level(finding)}</span>'
        f"<h3>{_text(finding.kind.title)}</h3>", f"<p>{_text(finding.sentence)}</p>",
    ]
    if finding.groups:
        parts += [_group(group, pictures) for group in finding.groups[:_GROUPS]]
        if len(finding.groups) > _GROUPS:
            parts.append(f'<p class="soft">… and {counted(len(finding.groups) - _GROUPS, "more group")}.</p>')
    elif finding.name not in _WITHOUT:
        parts.append(pictures.row(finding.files[:_OF_FINDING]))
    parts.append(f'<p class="way"><b>Way out:</b> {_text(finding.way_out)}</p>')
    if finding.files:
        names = "\n".join(_text(pictures.data.shown(path)) for path in finding.files[:_NAMES])
        more = len(finding.files) - _NAMES
        rest = f"\n… and {more:,} more; --json names all" if more > 0 else ""
        parts.append(f"<details><summary>{counted(len(finding.files), 'file')}</summary><pre>{names}{rest}</pre></details>")
    return "\n".join(filter(None, parts)) + "</section>"


def _group(group: Group, pictures: _Pictures) -> str:
    row = pictures.row(group.files[:_OF_GROUP], group.captions)
    more = len(group.files) - _OF_GROUP
    rest = f'<p class="soft">… and {more:,} more {are(more, "image", "images")}</p>' if more > 0 else ""
    title = f"<b>{_text(group.title)}</b>" if group.title else ""
    return f'<div class="group">{title}{row}{rest}</div>' if row else ""


def _table(rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return '<p class="soft">There are none.</p>'
    head = "".join(f'<th scope="col">{_text(str(key))}</th>' for key in rows[0])
    lines = "".join(f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in row.values())}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, (int, float)) else _text(str(value))


def _level(finding: Finding) -> str:
    return finding.severity.name.lower()


def _text(text: str) -> str:
    return html.escape(shown(text, 2000))


def _data_url(path: str) -> str:
    """Return a small JPEG of an image as a URL that holds it; ``""`` for one that cannot be shown."""
    with contextlib.suppress(InputError, MemoryError, OSError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as image:
            if image.width * image.height > _MOST_PIXELS:
                return ""
        small = ImageOps.contain(read_image(path), _SIZE)
        file = io.BytesIO()
        small.save(file, "JPEG", quality=80)
        return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
    return ""

