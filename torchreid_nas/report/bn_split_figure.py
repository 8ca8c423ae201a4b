"""The picture of how a search of the BN space came to its architecture."""
from __future__ import annotations

__all__ = ["draw_bn_split"]

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torchreid_nas.architecture import BN_SPACE, SPLIT, Architecture
from torchreid_nas.errors import InputError
from torchreid_nas.report.history import choice_probabilities, decision_epochs, warmup_epochs
from torchreid_nas.report.style import (
    FAINT,
    GENERATED,
    INK,
    MIDDLE,
    SHARE_COLOURS,
    SPLIT_COLOURS,
    WARMUP,
    epoch_ticks,
    is_generated,
    new_figure,
    save_figure,
)
from torchreid_nas.slots import is_downsample, short_names, stages

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

# Reaches of the colour scale around 0.5, of which the smallest sufficient one is taken: their fifths have short
# decimals for the ticks, and preferences far below the first stay pale instead of being blown up to full colour.
_REACHES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
# Height of a stage's two lines of heading, in inches.
_HEADING = 0.33
# Height of the line that says that the images are generated, in inches.
_SUBTITLE = 0.22


def draw_bn_split(
    history: Sequence[Mapping[str, Any]], architecture: Architecture, path: str | os.PathLike,
) -> None:
    """Draw how a search of the BN space came to ``architecture``, as PNG.

    Slots run from the stem on the left to the last stage on the right, epochs
    downwards into the strip of the final decisions. Colour is P(split), blue
    below and orange above 0.5, over the range that the search reached and by
    the square root of the distance from 0.5, so that small early preferences
    show; the ticks of the colour bar are probabilities and a line below them
    names the scale. A black bar opens the
    epoch from which on a slot keeps its sign
    (:func:`~torchreid_nas.report.decision_epochs`); the bars on the right
    count the slots whose choice changed in an epoch.

    Args:
        history: rows of a search, see :func:`~torchreid_nas.report.read_history`: ``epoch``,
            ``probabilities`` by slot, ``architecture`` (absent in warm-up) and ``changed``.
        architecture: what the search derived in the end.
        path: the picture; its folder is made. The size follows the numbers of
            slots and epochs.

    Raises:
        InputError: another space, an empty history, one without probabilities
            or of other slots, or a folder that cannot be written.
    """
    if architecture.space != BN_SPACE:
        raise InputError(
            f'an architecture of the space "{architecture.space}" cannot be drawn as one of "{BN_SPACE}"; '
            "give one of a search over BatchNorms"
        )
    slots = architecture.slots
    probabilities = choice_probabilities(history, slots, (SPLIT,))[:, :, 0]
    warmup = warmup_epochs(history)

    names = short_names(slots)
    cell = min(max(8 / len(slots), 0.22), max(14 / len(slots), 0.14))
    font = min(9.0, 0.7 * 72 * cell)
    width, height = cell * len(slots), min(0.5 * len(history), max(4.6, min(0.05 * len(history), 6.5)))
    headings = _stage_headings(architecture, cell)
    left, right, strip, gap = 0.9, 1.55, 0.26, 0.07
    # The line below the title that says where the architecture was searched.
    subtitle = _SUBTITLE if is_generated(architecture.source) else 0.0
    head = 1.5 + subtitle + _HEADING * max(level for *_, level in headings)
    foot = 0.25 + max(map(len, names)) * font * 0.56 / 72
    size = (left + width + right, head + height + gap + strip + foot)
    figure = new_figure(size)

    def axes(x: float, y: float, w: float, h: float) -> Axes:
        """Axes by inches from the top left corner."""
        return figure.add_axes((x / size[0], 1 - (y + h) / size[1], w / size[0], h / size[1]))

    heat = axes(left, head, width, height)
    # A band of warm-up too thin for its own words is explained by the legend.
    labelled = height * warmup / len(history) >= 0.22
    reach = _colour_reach(probabilities)
    mesh = _draw_heat(heat, probabilities, reach, warmup, labelled)
    _draw_epoch_axis(heat, [row["epoch"] for row in history], height)
    _draw_decisions(heat, decision_epochs(history, slots), [row["epoch"] for row in history])
    _draw_strip(axes(left, head + height + gap, width, strip), architecture, names, font)
    _draw_changes(axes(left + width + 0.14, head, right - 0.55, height), history)
    _draw_stages(heat, architecture, headings, height, gap + strip)
    _draw_header(figure, architecture, left, subtitle, bool(warmup) and not labelled)
    _draw_colour_bar(axes(left + width - 2.4, 0.5, 2.4, 0.15), mesh, reach)
    save_figure(figure, path)


def _colour_reach(probabilities: np.ndarray) -> float:
    """Return how far from 0.5 the colour scale goes: the smallest of the reaches that holds all probabilities."""
    furthest = float(abs(probabilities - 0.5).max())
    return next((reach for reach in _REACHES if reach >= furthest), _REACHES[-1])


def _draw_heat(axes: Axes, probabilities: np.ndarray, reach: float, warmup: int, labelled: bool) -> QuadMesh:
    import numpy as np
    from matplotlib.colors import FuncNorm, LinearSegmentedColormap

    epochs, count = probabilities.shape
    norm = FuncNorm(
        (lambda p: np.sign(p - 0.5) * np.sqrt(np.abs(p - 0.5)), lambda s: 0.5 + np.sign(s) * np.square(s)),
        vmin=0.5 - reach, vmax=0.5 + reach,
    )
    colours = LinearSegmentedColormap.from_list("share-split", [*SHARE_COLOURS, MIDDLE, *SPLIT_COLOURS], N=512)
    mesh = axes.pcolormesh(
        np.arange(count + 1), np.arange(epochs + 1), probabilities, cmap=colours, norm=norm,
    )
    axes.vlines(np.arange(1, count), 0, epochs, color="white", linewidth=0.7)
    if warmup:
        axes.axhspan(0, warmup, **WARMUP, zorder=2.5)
        if labelled:
            axes.text(
                count / 2, warmup / 2, "warm-up: weights only", ha="center", va="center_baseline", fontsize=9,
                color=FAINT, style="italic", zorder=7,
                bbox={"facecolor": MIDDLE, "edgecolor": "none", "pad": 2.5},
            )
    axes.set(xlim=(0, count), ylim=(epochs, 0), xticks=[])
    for spine in axes.spines.values():
        spine.set(color=FAINT, linewidth=0.8)
    return mesh


def _draw_epoch_axis(axes: Axes, epochs: Sequence[int], height: float) -> None:
    shown = epoch_ticks(epochs, height, apart=0.2)
    axes.set_yticks([index + 0.5 for index in shown], [str(epochs[index]) for index in shown])
    axes.tick_params(axis="y", labelsize=9, colors=INK, length=3, color=FAINT)
    axes.set_ylabel("epoch", fontsize=10, color=INK)


def _draw_decisions(axes: Axes, decided: Sequence[int | None], epochs: Sequence[int]) -> None:
    tops = {epoch: index for index, epoch in enumerate(epochs)}
    marks = [(slot, tops[epoch]) for slot, epoch in enumerate(decided) if epoch is not None]
    if marks:
        axes.hlines(
            [top for _, top in marks], [slot + 0.08 for slot, _ in marks], [slot + 0.92 for slot, _ in marks],
            color="black", linewidth=1.9, zorder=5, clip_on=False,
        )


def _draw_strip(axes: Axes, architecture: Architecture, names: Sequence[str], font: float) -> None:
    colours = [SPLIT_COLOURS[1] if choice == SPLIT else SHARE_COLOURS[1] for _, choice in architecture.choices]
    axes.bar(range(len(colours)), 1, width=1, align="edge", color=colours, edgecolor="white", linewidth=0.7)
    axes.set(xlim=(0, len(colours)), ylim=(0, 1))
    axes.set_yticks([0.5], ["final"])
    axes.set_xticks([index + 0.5 for index in range(len(names))], names, rotation=90, fontsize=font)
    axes.tick_params(axis="y", labelsize=10, colors=INK, length=0)
    axes.tick_params(axis="x", colors=INK, length=0, pad=3)
    for label, (slot, _) in zip(axes.get_xticklabels(), architecture.choices):
        if is_downsample(slot):
            label.set(color=FAINT, style="italic")
    axes.spines[:].set_visible(False)


def _draw_changes(axes: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    changes = [row.get("changed", 0) for row in history]
    axes.barh([index + 0.5 for index in range(len(changes))], changes, height=0.75, color=FAINT)
    most = max(max(changes), 1)
    axes.set(xlim=(0, most * 1.05), ylim=(len(changes), 0), yticks=[])
    axes.set_xticks([0, most])
    axes.tick_params(axis="x", labelsize=8, colors=INK, color=FAINT, length=3, pad=2)
    axes.set_xlabel("choices\nchanged", fontsize=8.5, color=INK, labelpad=1, linespacing=1.1)
    axes.spines[["right", "top"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color=FAINT, linewidth=0.8)


def _stage_headings(architecture: Architecture, cell: float) -> list[tuple[str, int, int, int]]:
    """``(text, first, last + 1, level)`` per stage; a heading that would touch its neighbour goes a level higher.

    Where both levels are taken the heading is left out (an empty text): the
    names of the slots below still tell the stage.
    """
    ends = [-math.inf, -math.inf]
    headings = []
    for name, first, stop in stages(architecture.slots):
        number = sum(choice == SPLIT for _, choice in architecture.choices[first:stop])
        text = f"{name}\n{number} of {stop - first}"
        centre, half = cell * (first + stop) / 2, max(map(len, text.split("\n"))) * 0.0355 + 0.03
        level = next((level for level, end in enumerate(ends) if centre - half >= end), None)
        if level is None:
            text, level = "", 0
        else:
            ends[level] = centre + half
        headings.append((text, first, stop, level))
    return headings


def _draw_stages(
    axes: Axes, architecture: Architecture, headings: Sequence[tuple[str, int, int, int]], height: float,
    below: float,
) -> None:
    """Name the stages above the heat map, part them by a line down through the strip, point at downsample layers."""
    from matplotlib.transforms import blended_transform_factory

    across = blended_transform_factory(axes.transData, axes.transAxes)
    for index, (slot, _) in enumerate(architecture.choices):
        if is_downsample(slot):
            axes.plot(index + 0.5, 1 + 0.06 / height, "v", ms=3.4, color=FAINT, mew=0, transform=across, clip_on=False)
    for text, first, stop, level in headings:
        if first:
            axes.plot(
                [first, first], [-below / height, 1 + 0.16 / height], color=INK, linewidth=1.1, transform=across,
                clip_on=False, zorder=6,
            )
        axes.text(
            (first + stop) / 2, 1 + (0.17 + _HEADING * level) / height, text, transform=across,
            ha="center", va="bottom", fontsize=8.5, color=INK, linespacing=1.25,
        )


def _draw_header(
    figure: Figure, architecture: Architecture, left: float, subtitle: float, name_warmup: bool,
) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    width, height = figure.get_size_inches()
    split = sum(choice == SPLIT for _, choice in architecture.choices)
    figure.text(
        left / width, 1 - 0.3 / height, f"{split} of {len(architecture)} norms split", fontsize=17, weight="bold",
        color=INK, va="center",
    )
    if subtitle:
        figure.text(left / width, 1 - 0.58 / height, f"searched {GENERATED}", fontsize=9, color=FAINT, va="center")
    handles = [
        Patch(color=SPLIT_COLOURS[1], label="split"),
        Patch(color=SHARE_COLOURS[1], label="share"),
        Line2D([], [], color="black", linewidth=1.9, label="decided from here on"),
    ]
    if any(is_downsample(slot) for slot in architecture.slots):
        handles.append(Line2D([], [], marker="v", ms=4, mew=0, color=FAINT, linestyle="", label="downsample"))
    if name_warmup:
        handles.append(Patch(**WARMUP, label="warm-up"))
    figure.legend(
        handles=handles, loc="center left", bbox_to_anchor=(left / width, 1 - (0.68 + subtitle) / height), ncols=len(handles),
        frameon=False, fontsize=9, labelcolor=INK, borderpad=0, borderaxespad=0, handlelength=1.2,
        columnspacing=1.4, handletextpad=0.5,
    )


def _draw_colour_bar(axes: Axes, mesh: QuadMesh, reach: float) -> None:
    bar = axes.figure.colorbar(mesh, cax=axes, orientation="horizontal")
    ticks = [0.5 + part * reach for part in (-1, -0.2, 0, 0.2, 1)]
    bar.set_ticks(ticks, labels=[f"{round(tick, 3):g}" for tick in ticks])
    bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=8, colors=INK, length=2, pad=2)
    bar.outline.set(edgecolor=FAINT, linewidth=0.6)
    bar.ax.set_title("◂ share    P(split)    split ▸", fontsize=9, color=INK, pad=4)
    bar.ax.set_xlabel("square root of the distance from 0.5", fontsize=7, color=FAINT, labelpad=1)
