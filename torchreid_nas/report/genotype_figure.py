"""The picture of a search over CDNet's blocks: how their candidates fared, and the network that came out."""
from __future__ import annotations

__all__ = ["draw_genotype"]

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torchreid_nas.architecture import Architecture
from torchreid_nas.genotypes import CANDIDATES, candidate_kernels
from torchreid_nas.report.history import choice_probabilities, warmup_epochs
from torchreid_nas.report.network_figure import BLOCK_WIDTH, NETWORK_HEIGHT, Column, draw_network, network_columns
from torchreid_nas.report.network_parts import NetworkPart, network_parts
from torchreid_nas.report.style import (
    FAINT,
    GENERATED,
    INK,
    MIDDLE,
    SHARE_COLOURS,
    WARMUP,
    epoch_ticks,
    is_generated,
    new_figure,
    save_figure,
)

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.colors import FuncNorm
    from matplotlib.figure import Figure

# Where the colours begin that say "preferred"; all paler ones are for probabilities below 1 / candidates.
_EVEN = 0.25
# The colours reach at least that far to both sides of it: smaller preferences, which decide nothing, stay pale.
_LEAST_REACH = 0.02
# Inches: of the header with the panels' titles, a candidate's row, and the room below the panels for the epochs.
_HEAD, _ROW, _EPOCHS = 1.2, 0.2, 0.72
# Inches: of the line that says that the images are generated.
_SUBTITLE = 0.22


def draw_genotype(
    history: Sequence[Mapping[str, Any]], architecture: Architecture, path: str | os.PathLike, height: int = 256,
    width: int = 128, neck: str = "fblneck", model_width: float = 1.0, small_images: bool = False,
) -> None:
    """Draw how a search of CDNet's spaces came to ``architecture``, and the network that it makes, as PNG.

    Above, a panel per block in the order of the network: a row per candidate,
    those of depth 1 over those of depth 2, epochs from left to right. Colour
    is the probability, over the range that the search reached and in one scale
    for all blocks: pale up to 1/n, that of each of n candidates at the start,
    and from there by the square root of the distance, so that small early
    preferences show. A triangle points at the chosen candidate; where it ends
    as the likeliest, a black frame holds the epochs from which on it was so
    without a break.

    Below, the network: of each block its pair of kernels in two branches, as
    often in series as it is deep; under each part the shape of its output, its
    parameters and its multiply-adds at test time, see
    :func:`~torchreid_nas.report.network_parts`.

    Args:
        history: rows of a search, see :func:`~torchreid_nas.report.read_history`: ``epoch``,
            ``probabilities`` by block and candidate, ``architecture`` (absent in warm-up).
        architecture: what the search derived in the end.
        path: the picture; its folder is made.
        height: of the images, for shapes and multiply-adds.
        width: of the images.
        neck: one of :data:`~torchreid_nas.neck_names.NECKS`.
        model_width: multiplier of the channels.
        small_images: the stem of the authors' CIFAR networks.

    Raises:
        InputError: another space, an empty history, one without probabilities
            or of other candidates, a network that CDNet refuses, or a folder
            that cannot be written.
    """
    architecture = Architecture.genotype(architecture)
    candidates = sorted(CANDIDATES[architecture.space], key=lambda name: candidate_kernels(name)[2])
    probabilities = choice_probabilities(history, architecture.slots, candidates)
    parts = network_parts(architecture, height, width, neck, model_width, small_images)

    columns, breadth = network_columns(parts)
    panel = _ROW * len(candidates)
    # The line below the title that says where the architecture was searched.
    subtitle = _SUBTITLE if is_generated(architecture.source) else 0.0
    head = _HEAD + subtitle
    top = head + panel + _EPOCHS
    size = (breadth, top + NETWORK_HEIGHT)
    figure = new_figure(size)

    def axes(x: float, y: float, w: float, h: float) -> Axes:
        """Axes by inches from the top left corner."""
        return figure.add_axes((x / size[0], 1 - (y + h) / size[1], w / size[0], h / size[1]))

    epochs, warmup = [row["epoch"] for row in history], warmup_epochs(history)
    ends = _colour_ends(probabilities)
    norm = _colour_scale(*ends, 1 / len(candidates))
    for index, (slot, choice) in enumerate(architecture.choices):
        heat = axes(columns[slot].x, head, BLOCK_WIDTH, panel)
        mesh = _draw_panel(heat, probabilities[:, index], candidates, candidates.index(choice), norm, warmup)
        heat.set_title(f"{slot}:  {choice}", fontsize=10, color=INK, pad=5)
        _label_panel(heat, epochs, candidates if index == 0 else ())
    _draw_colour_bar(axes(columns["neck"].x + 0.1, head, 0.15, panel), mesh, ends, len(candidates))
    network = axes(0, top, breadth, NETWORK_HEIGHT)
    network.set(xlim=(0, breadth), ylim=(NETWORK_HEIGHT, 0))
    draw_network(network, parts, architecture, columns, neck)
    _draw_header(figure, parts, f"{height}×{width}", columns["stem"], subtitle, bool(warmup))
    save_figure(figure, path)


def _colour_ends(probabilities: np.ndarray) -> tuple[float, float]:
    """Return the probabilities at the ends of the colour scale."""
    even = 1 / probabilities.shape[-1]
    return min(float(probabilities.min()), even - _LEAST_REACH), max(float(probabilities.max()), even + _LEAST_REACH)


def _colour_scale(low: float, high: float, even: float) -> FuncNorm:
    """Return the scale that takes ``low`` to 0, ``even`` to ``_EVEN`` and ``high`` to 1."""
    import numpy as np
    from matplotlib.colors import FuncNorm

    def forward(p: np.ndarray) -> np.ndarray:
        below, above = (np.clip(p, low, even) - low) / (even - low), (np.clip(p, even, high) - even) / (high - even)
        return _EVEN * below + (1 - _EVEN) * np.sqrt(above)

    def inverse(share: np.ndarray) -> np.ndarray:
        below, above = np.clip(share / _EVEN, 0, 1), np.clip((share - _EVEN) / (1 - _EVEN), 0, 1)
        return low + (even - low) * below + (high - even) * np.square(above)

    return FuncNorm((forward, inverse), vmin=low, vmax=high)


def _draw_panel(
    axes: Axes, probabilities: np.ndarray, candidates: Sequence[str], chosen: int, norm: FuncNorm, warmup: int,
) -> QuadMesh:
    import numpy as np
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    epochs, count = probabilities.shape
    colours = LinearSegmentedColormap.from_list("probability", [MIDDLE, *reversed(SHARE_COLOURS)], N=512)
    mesh = axes.pcolormesh(
        np.arange(epochs + 1), np.arange(count + 1), probabilities.T, cmap=colours, norm=norm,
    )
    depths = [candidate_kernels(name)[2] for name in candidates]
    for row in range(1, count):
        axes.axhline(row, color="white", linewidth=0.7 if depths[row] == depths[row - 1] else 3)
    if warmup:
        axes.axvspan(0, warmup, **WARMUP, zorder=2.5)
    start = _lead_start(probabilities, chosen)
    if start is not None:
        axes.add_patch(Rectangle(
            (start, chosen), epochs - start, 1, fill=False, edgecolor="black", linewidth=1.6, zorder=5, clip_on=False,
        ))
    # In inches to the right of the panel, where no colour can hide it.
    axes.plot(
        1 + 0.075 / BLOCK_WIDTH, chosen + 0.5, marker="<", ms=5, mew=0, color="black", clip_on=False,
        transform=axes.get_yaxis_transform(),
    )
    axes.set(xlim=(0, epochs), ylim=(count, 0))
    for spine in axes.spines.values():
        spine.set(color=FAINT, linewidth=0.8)
    return mesh


def _lead_start(probabilities: np.ndarray, chosen: int) -> int | None:
    """The first row from which on ``chosen`` alone is the likeliest; None where it does not end so.

    A candidate that shares the first place, as all do before α moves, does not lead.
    """
    others = probabilities.copy()
    others[:, chosen] = -1
    leads = probabilities[:, chosen] > others.max(axis=1)
    start = len(leads)
    while start and leads[start - 1]:
        start -= 1
    return start if start < len(leads) else None


def _label_panel(axes: Axes, epochs: Sequence[int], candidates: Sequence[str]) -> None:
    shown = epoch_ticks(epochs, BLOCK_WIDTH, apart=0.27)
    axes.set_xticks([index + 0.5 for index in shown], [str(epochs[index]) for index in shown])
    axes.set_xlabel("epoch", fontsize=9, color=INK, labelpad=2)
    axes.set_yticks([row + 0.5 for row in range(len(candidates))], candidates)
    axes.tick_params(axis="x", labelsize=8, colors=INK, color=FAINT, length=3, pad=2)
    axes.tick_params(axis="y", labelsize=8.5, colors=INK, length=0)


def _draw_colour_bar(axes: Axes, mesh: QuadMesh, ends: tuple[float, float], count: int) -> None:
    bar = axes.figure.colorbar(mesh, cax=axes)
    low, high = (f"{round(end, 3):g}" for end in ends)
    bar.set_ticks([ends[0], 1 / count, ends[1]], labels=[low, f"1/{count}", high])
    bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=8.5, colors=INK, length=2, pad=2)
    bar.outline.set(edgecolor=FAINT, linewidth=0.6)
    bar.ax.set_title("probability", fontsize=9, color=INK, pad=6)
    bar.ax.annotate(
        f"square root\nabove 1/{count}", (0, 0), xytext=(0, -9), xycoords="axes fraction", textcoords="offset points",
        fontsize=7, color=FAINT, va="top", linespacing=1.2,
    )


def _draw_header(
    figure: Figure, parts: Sequence[NetworkPart], images: str, stem: Column, subtitle: float, name_warmup: bool,
) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    width, height = figure.get_size_inches()
    parameters, macs = sum(part.parameters for part in parts), sum(part.macs for part in parts)
    figure.text(
        stem.x / width, 1 - 0.3 / height, f"{parameters:,} parameters, {macs / 1e6:,.1f} M multiply-adds at {images}",
        fontsize=17, weight="bold", color=INK, va="center",
    )
    if subtitle:
        figure.text(stem.x / width, 1 - 0.57 / height, f"searched {GENERATED}", fontsize=9, color=FAINT, va="center")
    handles = [
        Line2D([], [], marker="<", ms=5, mew=0, color="black", linestyle="", label="chosen"),
        Patch(fill=False, edgecolor="black", linewidth=1.6, label="the likeliest from here on"),
    ]
    if name_warmup:
        handles.append(Patch(**WARMUP, label="warm-up: weights only"))
    figure.legend(
        handles=handles, loc="center left", bbox_to_anchor=(stem.x / width, 1 - (0.66 + subtitle) / height), ncols=len(handles),
        frameon=False, fontsize=9, labelcolor=INK, borderpad=0, borderaxespad=0, handlelength=1.2,
        columnspacing=1.4, handletextpad=0.5,
    )
