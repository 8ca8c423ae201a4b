"""The picture of a study: bars per row, curves over the values of a key, or accuracy over multiply-adds."""
from __future__ import annotations

__all__ = ["draw_study"]

import os
from collections.abc import Mapping, Sequence
from typing import Any

from torchreid_nas.metrics.scores import find_score
from torchreid_nas.report import draw_ablation
from torchreid_nas.report.style import FAINT, GENERATED, GRID, INK, SHARE_COLOURS, SPLIT_COLOURS, new_figure, save_figure

_COLOURS = (SHARE_COLOURS[1], SPLIT_COLOURS[1], SHARE_COLOURS[0], SPLIT_COLOURS[2], FAINT)


def draw_study(content: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Draw the picture of a study as PNG.

    Args:
        content: of ``study.json``, with at least one cell.
        path: the picture; its folder is made.

    Raises:
        InputError: the picture cannot be written.
    """
    if content["figure"] == "curve":
        _draw_curves(content, path)
    elif content["figure"] == "pareto" and any("macs" in cell for cell in content["cells"]):
        _draw_pareto(content, path)
    else:
        draw_ablation({"results": list(map(_entry, content["cells"])), "data": {"synthetic": _generated(content)}}, path)


def _entry(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Return a cell as an entry of an ablation."""
    scores = cell["scores"]
    rank1, mean = scores["rank1"], scores["mAP"]
    return {
        "variant": cell["row"], "dataset": _label(cell), "ranks": [1], "cmc": [rank1["mean"]], "cmc_std": [rank1["std"] or 0.0],
        "mAP": mean["mean"], "mAP_std": mean["std"] or 0.0, "num_trials": len(cell["seeds"]),
    }


def _label(cell: Mapping[str, Any]) -> str:
    return ", ".join(filter(None, (cell["column"], cell["dataset"])))


def _generated(content: Mapping[str, Any]) -> bool:
    return any(cell["generated"] for cell in content["cells"])


def _groups(content: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """Return the cells of each panel: one column and target."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for cell in content["cells"]:
        groups.setdefault(_label(cell), []).append(cell)
    return groups


def _draw_curves(content: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    groups = _groups(content)
    figure = new_figure((4.6 * len(groups), 3.3), layout="constrained")
    for axes, (label, cells) in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups.items()):
        values = [float(cell["row"]) for cell in cells]
        for name, colour in zip(content["shown"]["scores"], _COLOURS):
            scores = [cell["scores"][name] for cell in cells]
            means, stds = ([100 * (score[key] or 0.0) for score in scores] for key in ("mean", "std"))
            axes.errorbar(
                values, means, stds, color=colour, marker="o", markersize=4, linewidth=1.6, elinewidth=1, capsize=2,
                label=find_score(name).title,
            )
        axes.set_xlabel(content["sweep"], fontsize=9, color=INK)
        _finish(axes, label, content)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower right", ncols=2, frameon=False, fontsize=9)
    save_figure(figure, path)


def _draw_pareto(content: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    name = content["shown"]["scores"][-1]
    datasets = dict.fromkeys(cell["dataset"] for cell in content["cells"])
    figure = new_figure((5.4 * len(datasets), 3.8), layout="constrained")
    for axes, dataset in zip(figure.subplots(1, len(datasets), squeeze=False)[0], datasets):
        cells = [cell for cell in content["cells"] if cell["dataset"] == dataset and "macs" in cell]
        points = [(cell["macs"] / 1e6, 100 * cell["scores"][name]["mean"]) for cell in cells]
        front = _front(points)
        axes.plot(*zip(*front), color=SHARE_COLOURS[2], linewidth=1.4, zorder=1)
        for cell, (macs, score) in zip(cells, points):
            best = (macs, score) in front
            axes.errorbar(
                macs, score, 100 * (cell["scores"][name]["std"] or 0.0), color=SPLIT_COLOURS[1] if best else FAINT, marker="o",
                markersize=5, elinewidth=1, capsize=2,
            )
            text = ", ".join(filter(None, (cell["column"], cell["row"])))
            axes.annotate(text, (macs, score), xytext=(5, 4), textcoords="offset points", fontsize=8, color=INK)
        axes.set_xlabel("multiply-adds per image (millions)", fontsize=9, color=INK)
        axes.margins(x=0.2, y=0.15)
        _finish(axes, f"{dataset}, {find_score(name).title}", content)
    save_figure(figure, path)


def _front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that no other point beats in both values, from the cheapest on.

    >>> _front([(1.0, 10.0), (2.0, 9.0), (3.0, 12.0)])
    [(1.0, 10.0), (3.0, 12.0)]
    """
    front: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or point[1] > front[-1][1]:
            front.append(point)
    return front


def _finish(axes: Any, title: str, content: Mapping[str, Any]) -> None:
    suffix = f", {GENERATED}" if _generated(content) else ""
    axes.set_title(f"{title}{suffix} (%)", fontsize=9.5, color=INK, loc="left")
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, colors=INK, color=FAINT, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
