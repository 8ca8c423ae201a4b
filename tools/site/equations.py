"""Equations as pictures inside a page: the site needs no script and no font of another server to show them."""
from __future__ import annotations

import html
import re

from matplotlib.path import Path
from matplotlib.textpath import TextPath

_BLOCK = re.compile(r"^\$\$\n(.+?)\n\$\$$", re.MULTILINE | re.DOTALL)
_DIRECTIVE = re.compile(r"^( *)\.\. math::[ \n]+(.+?)$((?:\n\1 +\S.*$)*)", re.MULTILINE)
# An example: from the first prompt to the next empty line.
_DOCTEST = re.compile(r"^( *)>>> .*(?:\n *\S.*)*", re.MULTILINE)
_SIZE = 17.0
# What TeX has and matplotlib's mathtext calls otherwise.
_NAMES = {
    r"\lVert": r"\Vert", r"\rVert": r"\Vert", r"\|": r"\Vert ", r"\ge": r"\geq", r"\le": r"\leq", r"\operatorname": r"\mathrm",
}
_NAME = re.compile(r"\\(?:[A-Za-z]+|\|)")


def equation_svg(tex: str) -> str:
    """Return an equation as an SVG element in the colour of the text, with its TeX as text for readers that see no picture.

    Raises:
        ValueError: matplotlib's mathtext does not know a command of ``tex``.

    Example:
        >>> equation_svg("x^2").startswith('<svg class="equation" role="img" aria-label="x^2"')
        True
    """
    drawn = _NAME.sub(lambda match: _NAMES.get(match[0], match[0]), " ".join(tex.split()))
    path = TextPath((0, 0), f"${drawn}$", size=_SIZE, usetex=False)
    box = path.get_extents()
    left, bottom, right, top = box.x0 - 1, box.y0 - 1, box.x1 + 1, box.y1 + 1
    letters = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C"}
    words = []
    for points, code in path.iter_segments(simplify=False, curves=True):
        if code == Path.CLOSEPOLY:
            words.append("Z")
        else:
            # SVG counts from the top.
            places = [top - value if number % 2 else value - left for number, value in enumerate(points)]
            words.append(letters[code] + " ".join(f"{place:.2f}" for place in places))
    return (
        f'<svg class="equation" role="img" aria-label="{html.escape(" ".join(tex.split()))}" '
        f'width="{right - left:.0f}" viewBox="0 0 {right - left:.2f} {top - bottom:.2f}">'
        f'<path fill="currentColor" d="{"".join(words)}"/></svg>'
    )


def with_equations(text: str) -> str:
    r"""Return a page whose ``$$`` blocks (a line of ``$$`` above and below) are pictures.

    Example:
        >>> with_equations("a\n\n$$\nx\n$$\n").startswith('a\n\n<div class="math"><svg')
        True
    """
    return _BLOCK.sub(lambda match: _element(match[1]), text)


def docstring_page(text: str) -> str:
    """Return a docstring as a page: ``.. math::`` as pictures, ``>>>`` as code, roles such as ``:class:`Name``` as names.

    Example:
        >>> print(docstring_page("See :class:`~torchreid_nas.losses.C3MMDLoss`."))
        See `C3MMDLoss`.
    """
    text = _DIRECTIVE.sub(lambda match: match[1] + _element(match[2] + match[3]), text)
    text = re.sub(r":\w+:`~[\w.]*?(\w+)`", r"`\1`", text)
    text = re.sub(r":\w+:`([^`]+)`", r"`\1`", text)
    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    return _DOCTEST.sub(lambda match: f"{match[1]}```pycon\n{match[0]}\n{match[1]}```", text)


def _element(tex: str) -> str:
    """Return the pictures of an equation, one for each line; ``&``, where TeX aligns lines, is left out."""
    lines = tex.replace("&", "").split(r"\\")
    return f'<div class="math">{"".join(map(equation_svg, lines))}</div>'
