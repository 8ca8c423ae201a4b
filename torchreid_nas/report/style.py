"""What all figures share: colours, and how a figure is made and saved.

Figures are drawn on an Agg canvas of their own: no display, no pyplot, no
global state. matplotlib is imported where it is used, so that a run that draws
nothing does not pay for it.
"""
from __future__ import annotations

__all__ = [
    "FAINT", "GENERATED", "GRID", "INK", "MANY_COLOURS", "MIDDLE", "SHARE_COLOURS", "SPLIT_COLOURS", "WARMUP", "epoch_ticks",
    "is_generated", "new_figure", "plain_axes", "save_figure", "write_svg",
]

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torchreid_nas.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Blue and orange stay apart for every kind of colour blindness, and both run into one near-white middle.
SHARE_COLOURS = ("#0b3f7f", "#3a86c0", "#aed1e8")
SPLIT_COLOURS = ("#fbcd98", "#e8862a", "#a03d04")
# Of about one lightness: what they tell apart is told apart by shapes, dashes or numbers too.
MANY_COLOURS = (
    "#3a86c0", "#e8862a", "#3f9a4e", "#d0484b", "#8d6cc0", "#94655a", "#d678b6", "#7d8a2e", "#2f9fae", "#b0893a",
)
MIDDLE, INK, FAINT, GRID = "#f6f5f2", "#24292f", "#7a828c", "#d9dde2"
WARMUP: dict[str, Any] = {"facecolor": MIDDLE, "edgecolor": "#c4cad1", "hatch": "////", "linewidth": 0}
GENERATED = "on generated images"
_DPI = 160


def new_figure(size: tuple[float, float], **kwargs: Any) -> Figure:
    """Return an empty white figure of ``size`` in inches; ``kwargs`` go to matplotlib's ``Figure``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=_DPI, facecolor="white", **kwargs)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: str | os.PathLike) -> None:
    """Write the figure as PNG, or as SVG where ``path`` ends so, through a temporary name; the folder of ``path`` is made.

    Raises:
        InputError: the file cannot be written; an older picture stays as it was.
    """
    with atomic_path(path) as temporary:
        if os.fspath(path).endswith(".svg"):
            write_svg(figure, temporary)
        else:
            figure.savefig(temporary, format="png", dpi=_DPI)


def write_svg(figure: Figure, file: Any, name: str = "") -> None:
    """Write the figure as SVG, whose text stays text; ``name`` tells the parts of several figures of one page apart."""
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})


def plain_axes(axes: Axes, grid: bool = True) -> None:
    """Give axes the look of all plots: faint lines at the left and below, and a grid behind the data."""
    if grid:
        axes.grid(color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
    axes.tick_params(labelsize=8.5, colors=INK, color=FAINT, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)


def is_generated(source: Mapping[str, Any]) -> bool:
    """Return whether what an architecture or results say of their origin names generated images.

    >>> is_generated({"data": {"sources": ["regdb"], "synthetic": True}}), is_generated({})
    (True, False)
    """
    data = source.get("data")
    return isinstance(data, Mapping) and data.get("synthetic") is True


def epoch_ticks(epochs: Sequence[int], length: float, apart: float) -> list[int]:
    """Return the indices of the epochs that an axis with one cell per epoch names.

    The first and the last epoch are always named, and round epochs between
    them where there is room.

    Args:
        epochs: numbers of the epochs, in order.
        length: of the axis, in inches.
        apart: the least distance of two ticks' centres, in inches.
    """
    room = length / len(epochs)
    # A fifth more room than the numbers need: an axis full of numbers is hard to read.
    step = next((step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500) if step * room >= 1.2 * apart), 1000)
    ends = {0, len(epochs) - 1}
    return [
        index for index, epoch in enumerate(epochs)
        if index in ends or epoch % step == 0 and all(abs(index - end) * room >= apart for end in ends)
    ]
