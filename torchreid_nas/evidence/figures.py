"""Pictures of a comparison: intervals, paired differences, and the queries that changed most."""
from __future__ import annotations

__all__ = ["draw_changes", "draw_comparison"]

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torchreid_nas.evidence.comparing import Compared, QueryChange, Table
from torchreid_nas.metrics.scores import find_score
from torchreid_nas.report.style import FAINT, GENERATED, GRID, INK, SHARE_COLOURS, SPLIT_COLOURS, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL.Image import Image


def draw_comparison(compared: Compared, path: str | os.PathLike[str]) -> None:
    """Draw every table's intervals and, beside them, the intervals of its differences; write a PNG.

    Raises:
        InputError: the file cannot be written.
    """
    tables = compared.tables
    rows = [max(len(table.estimates), len(table.comparisons), 1) for table in tables]
    longest = max(len(name) for table in tables for name in (*table.estimates, *(f"{c.a} − {c.b}" for c in table.comparisons)))
    margin = 0.6 + 0.075 * longest
    figure = new_figure((2 * (margin + 3.6), sum(0.34 * count + 1.15 for count in rows) + 0.3), layout="constrained")
    axes = figure.subplots(len(tables), 2, squeeze=False, gridspec_kw={"height_ratios": [0.34 * count + 0.6 for count in rows]})
    for (left, right), table in zip(axes, tables):
        title = find_score(table.score).title
        _intervals(left, [(name, found.mean, found.low, found.high) for name, found in table.estimates.items()], SHARE_COLOURS[1])
        named = table.dataset if table.protocol in table.dataset else f"{table.dataset} ({table.protocol})"
        left.set_title(_plain(f"{named}: {title}, {table.feature}"), fontsize=9, color=INK, loc="left")
        left.set_xlabel(f"{title}, percent, with {100 * compared.level:g} % interval", fontsize=8, color=FAINT)
        _intervals(right, [(f"{c.a} − {c.b}", c.difference, c.low, c.high) for c in table.comparisons], SPLIT_COLOURS[1])
        right.axvline(0, color=INK, linewidth=0.8)
        right.set_title("Differences on the same queries" if table.comparisons else "One method: no difference", fontsize=9,
                        color=INK, loc="left")
        right.set_xlabel("points", fontsize=8, color=FAINT)
    if compared.generated:
        figure.suptitle("Generated images", fontsize=9, color=FAINT)
    save_figure(figure, path)


def draw_changes(table: Table, root: Path, path: str | os.PathLike[str], generated: bool = False) -> list[str]:
    """Draw the queries whose average precision changed most, a row per pair of methods; write a PNG.

    Args:
        table: of one target.
        root: of the data; the query images lie below it.
        path: of the picture.
        generated: whether the images are generated; the picture then says so.

    Returns:
        The query images that are not there or damaged; without any image no picture is written.

    Raises:
        InputError: the file cannot be written.
    """
    pairs = [(pair, queries) for pair, queries in table.changes.items() if queries]
    images = {query.path: _read(root / query.path) for _, queries in pairs for query in queries}
    missing = sorted(path for path, image in images.items() if image is None)
    columns = max((len(queries) for _, queries in pairs), default=0)
    if len(missing) == len(images):
        return missing
    width = max(0.95 * columns + 0.3, 4.0)
    figure = new_figure((width, 2.75 * len(pairs) + 0.3), layout="constrained")
    parts = figure.subfigures(len(pairs), 1, squeeze=False)[:, 0]
    for part, ((a, b), queries) in zip(parts, pairs):
        said = f"{a} (first number) and {b} (second): average precision of a query, percent; {table.dataset}"
        # A letter of this size is about 0.065 inches wide.
        said = textwrap.fill(f"{said}, {GENERATED}" if generated else said, int(width / 0.065))
        part.suptitle(_plain(said), x=0.01, ha="left", fontsize=7.5, color=INK)
        row = part.subplots(1, columns, squeeze=False)[0]
        for axis in row:
            axis.axis("off")
        for axis, query in zip(row, queries):
            image = images[query.path]
            if image is not None:
                axis.imshow(image)
            axis.set_title(_caption(query), fontsize=6, color=INK)
    save_figure(figure, path)
    return missing


def _read(path: Path) -> Image | None:
    """Return an image with its grey levels stretched to the whole range: infrared images are nearly black.

    None where it is not there, or damaged.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            return ImageOps.autocontrast(image.convert("RGB"), cutoff=1)
    except (OSError, ValueError):
        return None


def _plain(text: str) -> str:
    """Return a text that matplotlib draws as it stands: a pair of dollar signs in the name of a folder is no formula."""
    return text.replace("$", r"\$")


def _caption(query: QueryChange) -> str:
    return f"person {query.pid}\n{100 * query.a:.0f} and {100 * query.b:.0f}"


def _intervals(axis: Axes, rows: Sequence[tuple[str, float, float, float]], colour: str) -> None:
    """Draw a line per row, the first on top."""
    for place, (_, mean, low, high) in enumerate(rows):
        axis.plot([100 * low, 100 * high], [place, place], color=colour, linewidth=2.5, solid_capstyle="round")
        axis.plot([100 * mean], [place], "o", color=colour, markersize=6, markeredgecolor="white")
    axis.set_yticks(range(len(rows)), [_plain(name) for name, *_ in rows], fontsize=8)
    axis.set_ylim(max(len(rows), 1) - 0.4, -0.6)
    axis.tick_params(colors=INK, labelsize=8, length=0)
    axis.grid(axis="x", color=GRID, linewidth=0.6)
    for side in axis.spines.values():
        side.set_visible(False)
