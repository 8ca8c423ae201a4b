"""How the page of a run shows what it shows: sections, figures that a keyboard reaches, and the word on generated images."""
from __future__ import annotations

__all__ = ["STYLE", "Frame", "percent", "section", "span"]

import dataclasses
from collections.abc import Sequence

from torchreid_nas.report.html import text

STYLE = """
main{max-width:1180px}
h2{font-size:1.25rem;margin:40px 0 8px;border-bottom:1px solid var(--line);padding-bottom:4px}
h3{display:block;margin:24px 0 6px}
.lead{font-size:1.1rem;max-width:75ch}
.wide{max-width:75ch}
.gen{display:inline-block;border:1px solid var(--warning);color:var(--warning);border-radius:4px;padding:0 6px;font-size:.75rem;
font-weight:600;white-space:nowrap}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(104px,220px));gap:12px;margin:6px 0 14px}
.tile{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:10px 14px}
.tile b{display:block;font-size:clamp(1.2rem,4vw,1.7rem);white-space:nowrap;line-height:1.2;font-variant-numeric:tabular-nums}
.tile span{display:block;font-size:.85rem;color:var(--soft)}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr));gap:12px;margin:12px 0}
figure{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:10px;min-width:0}
figure.rows{margin:12px 0}
figure svg{display:block;width:100%;height:auto;margin:0 auto}
.scroll svg{min-width:min(760px,var(--natural,760px));max-width:100%!important}
.paper,.paper .scroll{--card:#fff;--ink:#1d2126;--soft:#5b6470;--line:#d9dde2;--dim:#f0f1ee;--warning:#8a5a00;background:#fff;
color:var(--ink)}
figcaption{font-size:.85rem;margin-top:6px}
figcaption b{color:var(--ink)}
svg text{fill:var(--ink)}
.row{display:flex;flex-wrap:wrap;gap:6px;padding:6px 0}
.row+.row{border-top:1px dashed var(--line)}
.shot{width:74px;font-size:.72rem;line-height:1.25;color:var(--soft)}
.shot img{display:block;width:74px;height:148px;object-fit:fill;background:var(--dim);border:3px solid var(--line);
border-radius:3px}
.shot.query{margin-right:14px}.shot.query img{border-color:var(--ink)}
.shot.right img{border-color:var(--ok)}.shot.right b{color:var(--ok)}
.shot.wrong img{border-color:var(--error)}.shot.wrong b{color:var(--error)}
.pairs{display:flex;flex-wrap:wrap;gap:12px}.pairs .row{border:0;background:var(--dim);border-radius:6px;padding:8px}
.pairs .shot{color:var(--ink)}.pairs .shot.query{margin-right:0}.pairs .shot img{background:var(--card)}
.strip{display:flex;flex-wrap:wrap;gap:10px 14px;margin:8px 0;padding:0;list-style:none}
.strip ul{display:flex;flex-wrap:wrap;gap:3px;margin:2px 0 0;padding:0;list-style:none}
.strip li li{padding:0 6px;border-radius:4px;font-size:.75rem;border:1px solid var(--line)}
.strip .split{background:#fbcd98;color:#1d2126}.strip .share{background:#aed1e8;color:#1d2126}
.best td{font-weight:700}
nav ol{columns:2;column-gap:2.5em;max-width:70ch}
dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 16px;margin:8px 0}dt{color:var(--soft)}dd{margin:0}
@media(max-width:600px){.shot,.shot img{width:58px}.shot img{height:116px}.tile{padding:8px 10px}.pairs{gap:6px}
nav ol{columns:1}dl{grid-template-columns:1fr}dd{margin-bottom:6px}th,td{padding:4px 6px}}
"""


@dataclasses.dataclass(frozen=True)
class Frame:
    """Makes the figures of a page.

    Args:
        generated: the images are generated; every figure then says so.
    """

    generated: bool

    def figure(self, content: str, label: str, caption: str = "", kind: str = "chart") -> str:
        """Return content as a figure.

        Args:
            content: HTML.
            label: plain text, what the figure shows.
            caption: HTML below it; default the label.
            kind: its CSS class.
        """
        mark = ' <span class="gen">generated images</span>' if self.generated else ""
        return (
            f'<figure class="{kind}" tabindex="0" role="group" aria-label="{text(label)}">{content}'
            f"<figcaption>{caption or text(label)}{mark}</figcaption></figure>"
        )

    @staticmethod
    def charts(figures: Sequence[str]) -> str:
        """Return figures side by side, as many as there is room for."""
        return f'<div class="charts">{"".join(figures)}</div>' if any(figures) else ""

    @staticmethod
    def shot(url: str, alt: str, lines: Sequence[str], kind: str = "") -> str:
        """Return a small picture with lines of HTML below it; ``""`` where there is no picture."""
        return f'<div class="shot {kind}"><img src="{url}" alt="{text(alt)}">{"<br>".join(lines)}</div>' if url else ""


def section(name: str, title: str, parts: Sequence[str]) -> str:
    """Return a section with its heading; ``""`` where no part shows anything."""
    content = "\n".join(filter(None, parts))
    return f'<section id="{name}"><h2>{text(title)}</h2>\n{content}</section>' if content else ""


def percent(value: float) -> str:
    """Return a fraction as the page shows it.

    >>> percent(0.294)
    '29.4 %'
    """
    return f"{100 * value:.1f} %"


def span(low: float, high: float) -> str:
    """Return the ends of an interval of fractions, in percent.

    >>> span(0.241, 0.35)
    '24.1 to 35.0'
    """
    return f"{100 * low:.1f} to {100 * high:.1f}"
