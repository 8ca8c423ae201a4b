"""Figures as SVG within a page: text stays text, and the colours of all figures follow the page's light or dark."""
from __future__ import annotations

__all__ = ["figure_svg", "page_svg"]

import io
import re
from typing import TYPE_CHECKING

from torchreid_nas.report.html import text
from torchreid_nas.report.style import FAINT, GRID, INK, MIDDLE, write_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The colours of style.py that are no data, and the page's names of them.
_THEME = {"#ffffff": "--card", INK: "--ink", FAINT: "--soft", GRID: "--line", MIDDLE: "--dim"}
_COLOUR = re.compile("|".join(_THEME))


def figure_svg(figure: Figure, label: str, widest: float = 1.3) -> str:
    """Return a figure as an ``<svg>`` element that scales with its frame.

    Args:
        figure: of :func:`torchreid_nas.report.style.new_figure`.
        label: what the figure shows, for readers that do not see it.
        widest: how much larger than drawn it may become.
    """
    file = io.StringIO()
    write_svg(figure, file, label)
    return page_svg(file.getvalue(), label, widest)


def page_svg(svg: str, label: str, widest: float = 1.0) -> str:
    """Return the ``<svg>`` element of a file that matplotlib wrote, for a page; arguments as of :func:`figure_svg`.

    Example:
        >>> svg = '<?xml version="1.0"?><svg width="72pt" height="36pt" viewBox="0 0 72 36"><g id="patch_1"/></svg>'
        >>> print(page_svg(svg, "a box"))
        <svg viewBox="0 0 72 36" width="96" height="48" style="max-width:96px" role="img" aria-label="a box"><g/></svg>
    """
    head, _, content = svg[svg.index("<svg"):].strip().partition(">")
    given = dict(re.findall(r'(\w+)="([^"]*)"', head))
    # Many figures stand on one page: their styles would be the page's, and their groups' names are not unique.
    content = re.sub(r"<(metadata|style)\b.*?</\1>|<!--.*?-->|(?<=<g) id=\"[^\"]*\"", "", content, flags=re.DOTALL)
    content = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", content)
    content = _COLOUR.sub(lambda match: f"var({_THEME[match[0]]})", content)
    # A point is 4 / 3 pixels of a page.
    width, height = (round(float(given[side].removesuffix("pt")) * 4 / 3) for side in ("width", "height"))
    return (
        f'<svg viewBox="{given["viewBox"]}" width="{width}" height="{height}" style="max-width:{round(width * widest)}px" '
        f'role="img" aria-label="{text(label)}">{content}'
    )
