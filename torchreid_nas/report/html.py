"""What every HTML page of this package is made of: style, escaped text, tables, and pictures that lie in the page.

A page is one file that needs nothing beside it and no script. It follows the light or dark setting of the reader, prints in
light, and is laid out for widths from 320 pixels on.
"""
from __future__ import annotations

__all__ = ["cell", "data_url", "image_url", "page", "scrolling", "table", "text"]

import base64
import contextlib
import html
import io
import os
import warnings
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageOps

from torchreid_nas.errors import InputError, shown

_MOST_PIXELS = 40_000_000
_MOST_LETTERS = 2000

# Every pair of colours of text and ground has a contrast of 4.5 or more (WCAG 2.2, AA): tests/run/test_page_browser.py.
_STYLE = """
:root{color-scheme:light dark;--bg:#fafaf8;--card:#fff;--ink:#1d2126;--soft:#5b6470;--line:#d9dde2;--error:#b3261e;
--warning:#8a5a00;--note:#3b5f8a;--ok:#1f6b3a;--dim:#f0f1ee}
@media screen and (prefers-color-scheme:dark){:root{--bg:#15181c;--card:#1d2126;--ink:#e6e8eb;--soft:#a3adb9;--line:#363c44;
--error:#ff8a80;--warning:#f0b54a;--note:#8fb8e8;--ok:#7fcf9b;--dim:#262b31}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;
overflow-wrap:anywhere}
main{max-width:1080px;margin:0 auto;padding:24px 16px 48px}
h1{font-size:1.5rem;line-height:1.25;margin:0 0 4px}
h2{font-size:1.1rem;margin:32px 0 8px}
h3{font-size:1.05rem;margin:0;display:inline}
p{margin:6px 0}.soft{color:var(--soft)}
a{color:var(--note)}
:focus-visible{outline:3px solid var(--note);outline-offset:2px}
.verdict{font-weight:600;margin:8px 0 12px}
.card{background:var(--card);border:1px solid var(--line);border-left:4px solid var(--c);border-radius:6px;padding:12px 16px;
margin:12px 0}
.error{--c:var(--error)}.warning{--c:var(--warning)}.note{--c:var(--note)}.ok{--c:var(--ok)}
.tag{display:inline-block;color:var(--c);font-size:.75rem;font-weight:700;text-transform:uppercase;letter-spacing:.05em;
margin-right:8px}
.pics{display:flex;flex-wrap:wrap;gap:8px;margin:10px 0}
figure{margin:0}
figcaption{color:var(--soft)}
details{margin-top:8px}summary{cursor:pointer;color:var(--soft)}
pre{white-space:pre-wrap;font:.8rem/1.45 ui-monospace,monospace;background:var(--dim);padding:8px;border-radius:4px;
max-height:320px;overflow:auto;margin:6px 0 0}
.scroll{overflow-x:auto;max-width:100%}
table{border-collapse:collapse;font-size:.9rem;background:var(--card)}
th,td{border:1px solid var(--line);padding:4px 10px;text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}th{color:var(--soft);font-weight:600}
nav a{color:inherit}nav ol{margin:4px 0;padding-left:1.4em}nav li{margin:2px 0}
@media print{main{max-width:none;padding:0}body{background:#fff}.card,figure,tr{break-inside:avoid}.scroll{overflow:visible}}
"""


def page(title: str, body: Sequence[str], style: str = "") -> str:
    """Return a page.

    Args:
        title: plain text.
        body: HTML of the parts, in their order.
        style: CSS beside the common one.

    Example:
        >>> "<title>a &amp; b</title>" in page("a & b", ["<h1>a &amp; b</h1>"])
        True
    """
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        # Browsers ask for an icon otherwise.
        '<link rel="icon" href="data:,">\n'
        f"<title>{text(title)}</title>\n<style>{_STYLE}{style}</style></head>\n<body><main>\n" + "\n".join(filter(None, body))
        + "\n</main></body></html>\n"
    )


def text(value: object) -> str:
    """Return a value, which may hold names of files, as text of a page.

    >>> text('<b> "7"')
    '&lt;b&gt; &quot;7&quot;'
    """
    return html.escape(shown(value, _MOST_LETTERS))


def table(rows: Sequence[dict[str, Any]], label: str = "table") -> str:
    """Return a table whose columns are the keys of the first row; one that is too wide scrolls in itself.

    Args:
        rows: values are texts, numbers, or None where nothing is known.
        label: what the table shows, for readers that hear the page.
    """
    if not rows:
        return '<p class="soft">There are none.</p>'
    head = "".join(f'<th scope="col">{text(key)}</th>' for key in rows[0])
    lines = "".join(f"<tr>{''.join(f'<td>{cell(value)}</td>' for value in row.values())}</tr>" for row in rows)
    return scrolling(f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>", label)


def scrolling(content: str, label: str) -> str:
    """Return content in a frame that scrolls by itself, also by the keys of the keyboard."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{text(label)}">{content}</div>'


def cell(value: Any) -> str:
    """Return a value as a table shows it.

    >>> cell(12000), cell(None), cell("a<b")
    ('12,000', '–', 'a&lt;b')
    """
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, (int, float)) else text(value)


def image_url(path: str | os.PathLike[str], size: tuple[int, int], infrared: bool = False) -> str:
    """Return a small JPEG of an image as a URL that holds it; ``""`` for an image that cannot be shown.

    Args:
        path: of the image.
        size: width and height that the picture stays within, in pixels.
        infrared: stretch the brightness, see :func:`torchreid_nas.data.display.stretched`.
    """
    from torchreid_nas.data.dataset import read_image
    from torchreid_nas.data.display import stretched

    with contextlib.suppress(InputError, MemoryError, OSError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as image:
            if image.width * image.height > _MOST_PIXELS:
                return ""
        small = ImageOps.contain(read_image(path), size)
        return data_url(stretched(small) if infrared else small)
    return ""


def data_url(image: Image.Image) -> str:
    """Return an image as a JPEG in a URL."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
