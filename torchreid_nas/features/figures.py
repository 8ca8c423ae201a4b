"""Pictures of matching: ranked lists, and the ROC with the chosen threshold.

matplotlib is imported where it is used.
"""
from __future__ import annotations

__all__ = ["draw_ranked_lists", "draw_roc"]

import os
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from torchreid_nas.data.display import STRETCHED, stretched
from torchreid_nas.data.synthetic.store import in_synthetic
from torchreid_nas.errors import printable
from torchreid_nas.features.images import read_named
from torchreid_nas.features.labels import NO_LABEL
from torchreid_nas.features.matching import Matches, to_score
from torchreid_nas.features.threshold import ROC, OperatingPoint
from torchreid_nas.report.style import (
    FAINT,
    GENERATED,
    GRID,
    INK,
    SHARE_COLOURS,
    SPLIT_COLOURS,
    new_figure,
    save_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CORRECT, _WRONG = "#1a7f37", "#cf222e"
_ROWS = 6
_CELL = (0.95, 2.05)  # inches, of images 1:2 with a line above and one below
_HISTOGRAM_BINS = 60
_NAMES = {"euclidean": "Euclidean distance", "cosine": "cosine similarity"}


def draw_ranked_lists(
    matches: Matches, folder: str | os.PathLike[str], threshold: float | None = None, limit: int | None = None
) -> list[Path]:
    """Draw the query left, its gallery images right, six queries to a picture ``ranked_001.png`` and so on.

    Frames are green or red where both identities are known; what lies beyond
    the threshold is pale and says "no match". The brightness of infrared
    images is stretched, and the caption says so. Pictures of that name which an
    earlier call left are removed.

    Args:
        matches: what to draw; images are read again from their paths.
        folder: where to.
        threshold: the largest distance that still matches, in the metric's own sense (1 − similarity for cosine).
        limit: at most so many queries.

    Returns:
        The paths of the pictures.

    Raises:
        InputError: a file cannot be written.
    """
    folder = Path(folder)
    queries = range(min(len(matches.queries), len(matches.queries) if limit is None else limit))
    pages = [queries[start:start + _ROWS] for start in range(0, len(queries), _ROWS)]
    paths = [folder / f"ranked_{number:03d}.png" for number in range(1, len(pages) + 1)]
    for page, path in zip(pages, paths):
        _draw_page(matches, page, path, threshold)
    for path in folder.glob("ranked_*.png") if folder.is_dir() else ():
        if re.fullmatch(r"ranked_\d{3,}\.png", path.name) and path not in paths:
            path.unlink()
    return paths


def _draw_page(matches: Matches, rows: Sequence[int], path: Path, threshold: float | None) -> None:
    top = max(len(matches.paths[row]) for row in rows)
    names = [matches.queries.paths[row] for row in rows] + [name for row in rows for name in matches.paths[row]]
    images = read_named(sorted(set(names)))
    width = max(_CELL[0] * (top + 1.35) + 0.2, 4.6)
    # At a size of 8 points a letter is 0.07 inches wide on average.
    lines = textwrap.wrap(_caption(matches, threshold, any(map(in_synthetic, images))), int((width - 0.2) / 0.07))
    # A dot stands between two words of one line.
    caption = "\n".join(line.rstrip(" \u00a0·") for line in lines)
    head = 0.45 + 0.17 * (1 + caption.count("\n"))
    height = _CELL[1] * len(rows) + head - 0.17
    figure = new_figure((width, height))
    grid = figure.add_gridspec(
        len(rows), top + 2, width_ratios=[1, 0.35, *[1] * top], left=0.1 / width, right=1 - 0.1 / width,
        top=1 - head / height, bottom=0.22 / height, hspace=0.3, wspace=0.08,
    )
    figure.text(0.1 / width, 1 - 0.12 / height, caption, va="top", fontsize=8, color=INK)
    for place, row in enumerate(rows):
        axes = figure.add_subplot(grid[place, 0])
        _show(axes, images.get(matches.queries.paths[row]), INK, matches.queries.modality)
        axes.set_title("query", fontsize=7, color=INK, pad=3)
        below = _below(matches.queries.paths[row], matches.queries.labels[row])
        axes.set_xlabel(below, fontsize=5.5, color=FAINT, labelpad=2, parse_math=False)
        for rank, name in enumerate(matches.paths[row]):
            axes = figure.add_subplot(grid[place, rank + 2])
            _show_match(axes, matches, row, rank, images.get(name), threshold)
    save_figure(figure, path)


def _show_match(
    axes: Axes, matches: Matches, row: int, rank: int, image: Image.Image | None, threshold: float | None
) -> None:
    correct, distance = matches.is_correct(row, rank), matches.distances[row][rank]
    colour = GRID if correct is None else _CORRECT if correct else _WRONG
    beyond = threshold is not None and distance > threshold
    _show(axes, image, colour, matches.gallery_modality, pale=beyond)
    # A sign beside the colour: one man in twelve cannot tell red from green.
    sign = "" if correct is None else " ✓" if correct else " ✗"
    score = f"{to_score(distance, matches.metric):.3f}"
    axes.set_title(f"{rank + 1}:  {score}{sign}", fontsize=6.5, color=FAINT if correct is None else colour, pad=3)
    below = _below(matches.paths[row][rank], matches.labels[row][rank])
    axes.set_xlabel(below, fontsize=5.5, color=FAINT, labelpad=2, parse_math=False)
    if beyond:
        axes.text(
            0.5, 0.5, "no\nmatch", transform=axes.transAxes, ha="center", va="center", fontsize=7, color=INK,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5},
        )


def _show(axes: Axes, image: Image.Image | None, colour: str, modality: str, pale: bool = False) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    if image is None:
        axes.set_facecolor(GRID)
        axes.text(0.5, 0.5, "file\ngone", transform=axes.transAxes, ha="center", va="center", fontsize=7, color=FAINT)
        axes.set_box_aspect(2)
    else:
        # All cells are of one shape, as the network sees them; large photographs would only slow the drawing.
        image = stretched(image) if modality == "infrared" else image
        axes.imshow(image.resize((128, 256)), alpha=0.35 if pale else 1.0, aspect="equal")
    for spine in axes.spines.values():
        spine.set(color=colour, linewidth=2.2)


def _below(path: str, label: str) -> str:
    name = printable(path.rpartition("/")[2])
    short = name if len(name) <= 18 else f"{name[:8]}…{name[-9:]}"
    return f"{short}\nid {textwrap.shorten(printable(label), 16, placeholder='…')}" if label != NO_LABEL else short


def _caption(matches: Matches, threshold: float | None, generated: bool) -> str:
    modalities = (matches.queries.modality, matches.gallery_modality)
    parts = [" → ".join(modalities) if all(modalities) else "", f"{matches.gallery_size:,} gallery images"]
    notes = [STRETCHED if "infrared" in modalities else "", GENERATED if generated else ""]
    sign = "≥" if matches.metric == "cosine" else "≤"
    limit = "" if threshold is None else f", a match is {sign} {to_score(threshold, matches.metric):.4g}"
    # Lines break after a dot only: the other spaces are ones that do not break.
    given = filter(None, (*parts, _NAMES[matches.metric] + limit, *notes))
    return "\u00a0\u00a0·  ".join(part.replace(" ", "\u00a0") for part in given)


def draw_roc(roc: ROC, point: OperatingPoint, path: str | os.PathLike[str], pairs: str = "", generated: bool = False) -> Path:
    """Draw the ROC with the chosen point, and how far genuine and impostor pairs lie apart.

    Args:
        roc: of the validation pairs.
        point: the chosen one.
        path: of the PNG.
        pairs: what was compared, for the caption, e.g. ``"infrared → visible"``.
        generated: whether images are generated; the caption then says so.

    Raises:
        InputError: the file cannot be written.
    """
    figure = new_figure((8.4, 3.5))
    curve, distances = figure.subplots(1, 2)
    _draw_curve(curve, roc, point)
    _draw_distances(distances, roc, point)
    counts = f"{roc.num_genuine:,} pairs of the same person, {roc.num_impostor:,} of different persons"
    caption = "  ·  ".join(filter(None, (pairs, counts, GENERATED if generated else "")))
    figure.suptitle(caption, fontsize=8.5, color=INK, x=0.02, ha="left")
    for axes in (curve, distances):
        axes.tick_params(labelsize=7, colors=FAINT)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(GRID)
    figure.tight_layout(rect=(0, 0, 1, 1.02))
    _label_point(curve, roc, point)
    save_figure(figure, path)
    return Path(path)


def _draw_curve(axes: Axes, roc: ROC, point: OperatingPoint) -> None:
    _, far, tar = roc.curve()
    # Rates of 0 have no place on a logarithmic axis: they stand at half a pair.
    least = 0.5 / roc.num_impostor
    # A step after each rate, as vertices, so that the label of the point can ask where the curve runs.
    axes.plot(np.repeat(np.maximum(far, least), 2)[1:], np.repeat(tar, 2)[:-1], color=SHARE_COLOURS[1], linewidth=1.6)
    chance = np.geomspace(least, 1, 100)
    axes.plot(chance, chance, color=FAINT, linewidth=0.8, linestyle=":", label="chance")
    axes.plot(max(point.far, least), point.tar, "o", color=SPLIT_COLOURS[1], markersize=7, label="chosen", zorder=3)
    axes.set(xscale="log", xlim=(least, 1.05), ylim=(-0.02, 1.03))
    axes.set_xlabel("false-accept rate (different persons accepted)", fontsize=8, color=INK)
    axes.set_ylabel("true-accept rate (same person accepted)", fontsize=8, color=INK)
    axes.grid(color=GRID, linewidth=0.5)
    _legend_above(axes)


def _label_point(axes: Axes, roc: ROC, point: OperatingPoint) -> None:
    """Write the rates of the chosen point at the place closest to it where no curve crosses the words."""
    from matplotlib.transforms import Bbox

    at = (max(point.far, 0.5 / roc.num_impostor), point.tar)
    label = axes.annotate(
        f"FAR {point.far:.2%}\nTAR {point.tar:.1%}", at, fontsize=7.5, color=INK, xytext=(0, 0), textcoords="offset pixels",
        va="bottom", bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
    )
    box, frame = label.get_window_extent(), axes.get_window_extent()
    curves = [line.get_transform().transform_path(line.get_path()) for line in axes.lines if line.get_marker() == "None"]
    (x, y), room = axes.transData.transform(at), 12
    # Left or right of the point and above or below it, a multiple of the room away.
    right, up = [room * step for step in range(1, 40)], [room * step for step in range(1, 30)]
    places = [
        (dx, dy) for dx in (*right, *(-box.width - away for away in right))
        for dy in (*up, *(-box.height - away for away in up))
        if frame.x0 <= x + dx and x + dx + box.width <= frame.x1 and frame.y0 <= y + dy and y + dy + box.height <= frame.y1
    ]
    places.sort(key=lambda place: np.hypot(place[0] + box.width / 2, place[1] + box.height / 2))
    for dx, dy in places:
        # The space around the words counts as words.
        there = Bbox.from_bounds(x + dx, y + dy, box.width, box.height).padded(room / 3)
        if not any(curve.intersects_bbox(there, filled=False) for curve in curves):
            break
    # Where no place is free the last one serves: the white box keeps the words readable.
    label.set_position((dx, dy))


def _draw_distances(axes: Axes, roc: ROC, point: OperatingPoint) -> None:
    places = np.flatnonzero(roc.genuine + roc.impostor)
    distances = roc.curve()[0]
    scores = to_score(distances, roc.metric)
    edges = np.histogram_bin_edges(scores, _HISTOGRAM_BINS)
    for counts, colour, name in (
        (roc.genuine, SHARE_COLOURS[1], "same person"), (roc.impostor, SPLIT_COLOURS[1], "different persons"),
    ):
        axes.hist(scores, edges.tolist(), weights=counts[places] / counts.sum(), color=colour, alpha=0.6, label=name)
    threshold = to_score(point.distance, roc.metric)
    axes.axvline(threshold, color=INK, linewidth=1.2)
    # On the side of the line where there is more room.
    left = threshold > sum(axes.get_xlim()) / 2
    axes.text(
        threshold, 1.0, f" {threshold:.4f} ", transform=axes.get_xaxis_transform(), fontsize=7.5, color=INK, va="top",
        ha="right" if left else "left",
    )
    axes.set_xlabel(_NAMES[roc.metric], fontsize=8, color=INK)
    axes.set_ylabel("share of the pairs", fontsize=8, color=INK)
    _legend_above(axes)


def _legend_above(axes: Axes) -> None:
    axes.legend(
        fontsize=7, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2,
        handletextpad=0.4,
    )
