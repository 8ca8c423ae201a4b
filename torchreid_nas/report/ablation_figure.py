"""The picture of an ablation: Rank-1 and mAP of every variant, side by side."""
from __future__ import annotations

__all__ = ["draw_ablation"]

import os
from collections.abc import Mapping
from typing import Any

from torchreid_nas.errors import InputError
from torchreid_nas.metrics.scores import find_score, row_scores
from torchreid_nas.report.style import (
    FAINT,
    GENERATED,
    GRID,
    INK,
    SHARE_COLOURS,
    SPLIT_COLOURS,
    is_generated,
    new_figure,
    save_figure,
)

_BAR = 0.36
_DRAWN = (("rank1", SHARE_COLOURS[1], -_BAR / 2), ("mAP", SPLIT_COLOURS[1], _BAR / 2))  # metric, colour, offset of its bar


def draw_ablation(results: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Draw horizontal bars of Rank-1 and mAP in percent, a pair per variant, as PNG; one panel per data set and protocol.

    Args:
        results: the content of an ablation's ``results.json``: entries as
            :func:`~torchreid_nas.report.results_table` takes them, each with
            ``variant``. ``cmc_std`` and ``mAP_std`` are drawn where ``num_trials`` is above 1.
        path: the picture; its folder is made.

    Raises:
        InputError: no entry, or the folder cannot be written.
    """
    entries = results.get("results")
    if not entries:
        raise InputError("the ablation holds no result to draw; test at least one variant")
    tests = list(dict.fromkeys((entry["dataset"], entry.get("protocol", "")) for entry in entries))
    variants = list(dict.fromkeys(entry["variant"] for entry in entries))
    suffix = f", {GENERATED}" if is_generated(results) else ""
    figure = new_figure((6.4 * len(tests), 0.62 * len(variants) + 1.1), layout="constrained")
    for axes, (dataset, protocol) in zip(figure.subplots(1, len(tests), squeeze=False)[0], tests):
        chosen = {
            entry["variant"]: entry for entry in entries if (entry["dataset"], entry.get("protocol", "")) == (dataset, protocol)
        }
        longest = max(row_scores(entry)[name] for entry in chosen.values() for name, _, _ in _DRAWN)
        for name, colour, offset in _DRAWN:
            scores = [100 * row_scores(entry)[name] for entry in chosen.values()]
            places = [variants.index(variant) + offset for variant in chosen]
            stds = [
                100 * row_scores(entry, "_std")[name] if entry["num_trials"] > 1 else 0.0 for entry in chosen.values()
            ]
            axes.barh(
                places, scores, _BAR, color=colour, label=find_score(name).title, xerr=stds if any(stds) else None,
                ecolor=INK,
            )
            for place, score, std in zip(places, scores, stds):
                axes.text(score + std + longest, place, f"{score:.1f}", va="center", fontsize=8.5, color=INK)
        axes.set_yticks(range(len(variants)), variants, fontsize=9.5, color=INK)
        axes.invert_yaxis()
        axes.set_xlim(0, 115 * longest)
        under = f", {protocol}" if protocol not in ("", dataset) else ""
        axes.set_title(f"{dataset}{under}{suffix} (%)", fontsize=10.5, color=INK, loc="left")
        axes.grid(axis="x", color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=9, colors=INK, color=FAINT, length=3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(FAINT)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower right", ncols=2, frameon=False, fontsize=9)
    save_figure(figure, path)
