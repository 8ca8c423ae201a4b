"""Plots of what a trained network does well and badly: CMC with its band, distances of pairs, a map of features."""
from __future__ import annotations

__all__ = ["cmc_figure", "distances_figure", "features_figure", "intervals_figure"]

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torchreid_nas.report.style import FAINT, INK, MANY_COLOURS, SHARE_COLOURS, SPLIT_COLOURS, new_figure, plain_axes

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

_SIZE = (3.5, 2.6)
_MARKERS = {"visible": "o", "infrared": "^"}


def cmc_figure(curve: np.ndarray, low: np.ndarray, high: np.ndarray, chance: float) -> Figure:
    """Return the CMC with a band.

    Args:
        curve: (R,) the CMC from rank 1 on, fractions.
        low: (R,) lower ends of the intervals.
        high: (R,) upper ends.
        chance: Rank-1 of a random order.
    """
    figure = new_figure(_SIZE, layout="constrained")
    axes = figure.subplots()
    ranks = range(1, len(curve) + 1)
    axes.fill_between(ranks, 100 * low, 100 * high, color=SHARE_COLOURS[1], alpha=0.25, linewidth=0, label="95 % interval")
    axes.plot(ranks, 100 * curve, color=SHARE_COLOURS[1], linewidth=1.8, marker="o", markersize=2.8, label="CMC")
    axes.axhline(100 * chance, color=FAINT, linewidth=0.9, linestyle=":", label="Rank-1 by chance")
    axes.set(xlim=(0.5, len(curve) + 0.5), ylim=(0, 102), xticks=[1, *range(5, len(curve) + 1, 5)])
    axes.set_xlabel("rank", fontsize=9, color=INK)
    axes.set_ylabel("right person found (%)", fontsize=9, color=INK)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK, loc="lower right")
    plain_axes(axes)
    return figure


def distances_figure(
    edges: np.ndarray, same: np.ndarray, different: np.ndarray, threshold: tuple[float, str] | None,
) -> Figure:
    """Return histograms of the distances of pairs of the same person and of different persons.

    Args:
        edges: (B + 1,) of the bins.
        same: (B,) shares of the pairs of the same person.
        different: (B,) shares of the pairs of different persons.
        threshold: a distance, and what it is the threshold of.
    """
    figure = new_figure(_SIZE, layout="constrained")
    axes = figure.subplots()
    for shares, colours, name in ((different, SPLIT_COLOURS, "different persons"), (same, SHARE_COLOURS, "same person")):
        axes.stairs(100 * shares, edges, fill=True, color=colours[1], alpha=0.5, label=name)
        axes.stairs(100 * shares, edges, color=colours[1], linewidth=1.2)
    if threshold is not None:
        axes.axvline(threshold[0], color=INK, linewidth=1.2, linestyle="--", label=threshold[1])
    axes.set_xlabel("distance", fontsize=9, color=INK)
    axes.set_ylabel("pairs (%)", fontsize=9, color=INK)
    figure.legend(frameon=False, fontsize=8, labelcolor=INK, loc="outside upper left", ncols=2)
    plain_axes(axes)
    return figure


def features_figure(
    points: np.ndarray, identities: Sequence[int], modalities: Sequence[str], shares: Sequence[float],
) -> Figure:
    """Return a map of features: a colour and a number per identity, a shape per modality.

    Args:
        points: (N, 2).
        identities: N of at most ten different ones.
        modalities: N of ``"visible"`` and ``"infrared"``.
        shares: of the variance along both axes, fractions.
    """
    import numpy as np

    figure = new_figure((3.5, 3.3), layout="constrained")
    axes = figure.subplots()
    names = list(dict.fromkeys(identities))
    labels = np.array(identities)
    kinds = np.array(modalities)
    for number, identity in enumerate(names):
        colour = MANY_COLOURS[number % len(MANY_COLOURS)]
        for modality in dict.fromkeys(modalities):
            chosen = (labels == identity) & (kinds == modality)
            axes.plot(
                *points[chosen].T, _MARKERS[modality], color=colour, markersize=4.2, alpha=0.85, markeredgecolor="white",
                markeredgewidth=0.4, linestyle="none",
            )
    for identity in names:
        axes.annotate(
            str(identity), points[labels == identity].mean(axis=0), fontsize=8, color=INK, ha="center", va="center",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8},
        )
    for modality in dict.fromkeys(modalities):
        axes.plot([], [], _MARKERS[modality], color=FAINT, markersize=5, linestyle="none", label=modality)
    axes.set_xlabel(f"first component ({shares[0]:.0%} of the variance)", fontsize=8.5, color=INK)
    axes.set_ylabel(f"second component ({shares[1]:.0%})", fontsize=8.5, color=INK)
    axes.set(xticks=[], yticks=[])
    figure.legend(frameon=False, fontsize=8, labelcolor=INK, loc="outside upper left", ncols=2)
    plain_axes(axes, grid=False)
    return figure


def intervals_figure(rows: Mapping[str, tuple[float, float, float]], unit: str, zero: bool = False) -> Figure:
    """Return a row per name: a figure with its interval.

    Args:
        rows: figure, lower and upper end by name; fractions, drawn in percent or points.
        unit: of the axis.
        zero: mark zero, for differences.
    """
    figure = new_figure((_SIZE[0], 0.75 + 0.42 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, (name, (mean, low, high)) in enumerate(rows.items()):
        colour = (SPLIT_COLOURS if zero else SHARE_COLOURS)[1]
        axes.plot([100 * low, 100 * high], [place, place], color=colour, linewidth=2.2, solid_capstyle="butt")
        axes.plot([100 * mean], [place], "o", color=colour, markersize=6)
        axes.annotate(
            name, (0, place - 0.3), xycoords=("axes fraction", "data"), fontsize=8.5, color=INK, va="center", ha="left",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6}, zorder=4,
        )
    if zero:
        axes.axvline(0, color=INK, linewidth=0.9)
    axes.set(ylim=(len(rows) - 0.5, -0.7), yticks=[])
    axes.set_xlabel(unit, fontsize=9, color=INK)
    plain_axes(axes)
    axes.spines["left"].set_visible(False)
    return figure
