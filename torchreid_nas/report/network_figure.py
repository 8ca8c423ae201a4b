"""The drawing of a CDNet part by part: kernel pairs in parallel, depths in series, shapes and costs below."""
from __future__ import annotations

__all__ = ["BLOCK_WIDTH", "NETWORK_HEIGHT", "Column", "draw_network", "network_columns"]

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from torchreid_nas.architecture import Architecture
from torchreid_nas.genotypes import BLOCK_SLOTS, candidate_kernels
from torchreid_nas.report.network_parts import NetworkPart
from torchreid_nas.report.style import FAINT, GRID, INK, MIDDLE, SPLIT_COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLOCK_WIDTH = 1.6
"""The width of a block, in inches."""
NETWORK_HEIGHT = 2.35
"""The height of the drawing with its table, in inches."""

_OTHER_WIDTH, _GAP, _LEFT, _RIGHT = 0.92, 0.2, 1.2, 0.15
# Inches: below the top the blocks' names, the path of the data and the table's first line; from line to line.
_NAMES, _PATH, _TABLE, _LINE = 0.12, 0.72, 1.48, 0.25
_BOX_HEIGHT, _BRANCH_HEIGHT, _BRANCHES_APART = 0.9, 0.27, 0.2
_NECKS = {"plain": "pooling", "bnneck": "BNNeck", "blneck": "BLNeck", "fblneck": "FBLNeck"}


class Column(NamedTuple):
    """The place of a part: its left edge and its width, in inches."""

    x: float
    width: float


def network_columns(parts: Sequence[NetworkPart]) -> tuple[dict[str, Column], float]:
    """Return the columns of the parts by name, and the width of the whole with its margins, in inches."""
    columns, x = {}, _LEFT
    for part in parts:
        columns[part.name] = Column(x, BLOCK_WIDTH if part.name in BLOCK_SLOTS else _OTHER_WIDTH)
        x += columns[part.name].width + _GAP
    return columns, x - _GAP + _RIGHT


def draw_network(
    axes: Axes, parts: Sequence[NetworkPart], architecture: Architecture, columns: dict[str, Column], neck: str,
) -> None:
    """Draw the network of ``architecture`` with its table.

    Args:
        axes: in inches from its top left corner, :data:`NETWORK_HEIGHT` high and as wide
            as :func:`network_columns` says.
        parts: see :func:`~torchreid_nas.report.network_parts`.
        architecture: of CDNet's spaces.
        columns: of the parts.
        neck: one of :data:`~torchreid_nas.neck_names.NECKS`.
    """
    axes.axis("off")
    choices = dict(architecture.choices)
    for part, after in zip(parts, parts[1:]):
        column = columns[part.name]
        _arrow(axes, column.x + column.width, columns[after.name].x)
    for part in parts:
        if part.name in choices:
            _draw_block(axes, columns[part.name], part.name, choices[part.name])
        else:
            _draw_other(axes, columns[part.name], _NECKS[neck] if part.name == "neck" else part.name.split(".")[-1])
    if neck == "fblneck":
        _draw_local_branch(axes, columns)
    _draw_table(axes, parts, columns)


def _arrow(axes: Axes, start: float, end: float) -> None:
    axes.annotate(
        "", (end, _PATH), (start, _PATH),
        arrowprops={"arrowstyle": "-|>,head_width=0.18,head_length=0.3", "color": FAINT, "shrinkA": 0, "shrinkB": 0},
    )


def _box(
    axes: Axes, x: float, y: float, width: float, height: float, face: str, edge: str, zorder: float = 1,
) -> None:
    from matplotlib.patches import FancyBboxPatch

    axes.add_patch(FancyBboxPatch(
        (x, y), width, height, boxstyle="round,pad=0,rounding_size=0.05", facecolor=face, edgecolor=edge, linewidth=1,
        zorder=zorder,
    ))


def _draw_other(axes: Axes, column: Column, name: str) -> None:
    _box(axes, column.x, _PATH - 0.2, column.width, 0.4, "white", FAINT)
    axes.text(
        column.x + column.width / 2, _PATH, name, fontsize=9, color=INK, ha="center", va="center_baseline",
    )


def _draw_block(axes: Axes, column: Column, name: str, choice: str) -> None:
    kernel1, kernel2, depth = candidate_kernels(choice)
    _box(axes, column.x, _PATH - _BOX_HEIGHT / 2, column.width, _BOX_HEIGHT, MIDDLE, GRID)
    axes.text(
        column.x + column.width / 2, _NAMES, f"{name}:  {choice}", fontsize=9, color=INK, ha="center", va="center",
    )
    # Half a column each, so that a block of two is seen to be twice one.
    cell = column.width / 2
    first = column.x + (column.width - depth * cell) / 2
    axes.plot([column.x, column.x + column.width], [_PATH, _PATH], color=FAINT, linewidth=1, zorder=1)
    for index in range(depth):
        _draw_branches(axes, Column(first + index * cell, cell), (kernel1, kernel2))


def _draw_branches(axes: Axes, column: Column, kernels: tuple[int, int]) -> None:
    """One combined block: a fork, the Lite convolutions of both kernels, and the sum."""
    fork, join = column.x + 0.08, column.x + column.width - 0.09
    # Hides the path between fork and sum.
    axes.plot([fork, join], [_PATH, _PATH], color=MIDDLE, linewidth=3, solid_capstyle="butt", zorder=1.1)
    for kernel, side in zip(kernels, (-1, 1)):
        y = _PATH + side * _BRANCHES_APART
        axes.plot([fork, fork, join, join], [_PATH, y, y, _PATH], color=FAINT, linewidth=1, zorder=1.2)
        colour, ink = _kernel_colours(kernel)
        width = join - fork - 0.18
        _box(axes, fork + 0.09, y - _BRANCH_HEIGHT / 2, width, _BRANCH_HEIGHT, colour, "white", zorder=2)
        axes.text(
            fork + 0.09 + width / 2, y, f"{kernel}×{kernel}", fontsize=9, color=ink, ha="center", va="center_baseline",
        )
    axes.plot(join, _PATH, marker="o", ms=8, mfc="white", mec=FAINT, mew=1, zorder=3)
    axes.plot(join, _PATH, marker="+", ms=5, mec=INK, mew=1, zorder=3.1)


def _kernel_colours(kernel: int) -> tuple[str, str]:
    """The larger the kernel, the darker its colour; the other colour is that of letters on it."""
    from matplotlib.colors import LinearSegmentedColormap, to_hex

    shades = LinearSegmentedColormap.from_list("kernels", SPLIT_COLOURS)
    return to_hex(shades((kernel - 3) / 6)), INK if kernel < 7 else "white"


def _draw_local_branch(axes: Axes, columns: dict[str, Column]) -> None:
    """FBLNeck's second input, the map after the second stage, led over the third stage's blocks."""
    start, neck = columns["stage2.downsample"], columns["neck"]
    y = _PATH - _BOX_HEIGHT / 2 - 0.055
    x, end = start.x + start.width + 0.06, neck.x + neck.width / 2
    axes.plot([x, x, end], [_PATH, y, y], color=FAINT, linewidth=1, linestyle=(0, (4, 2)))
    axes.annotate(
        "", (end, _PATH - 0.2), (end, y),
        arrowprops={"arrowstyle": "-|>,head_width=0.18,head_length=0.3", "color": FAINT, "shrinkA": 0, "shrinkB": 0},
    )


def _draw_table(axes: Axes, parts: Sequence[NetworkPart], columns: dict[str, Column]) -> None:
    lines = {
        "output": ["×".join(map(str, part.output)) for part in parts],
        "parameters": [f"{part.parameters:,}" for part in parts],
        "multiply-adds": [f"{part.macs / 1e6:,.1f} M" for part in parts],
    }
    for line, (name, values) in enumerate(lines.items()):
        y = _TABLE + line * _LINE
        axes.text(columns["stem"].x - 0.18, y, name, fontsize=9, color=FAINT, ha="right", va="center_baseline")
        for part, value in zip(parts, values):
            x, width = columns[part.name]
            axes.text(x + width / 2, y, value, fontsize=9, color=INK, ha="center", va="center_baseline")
