"""The picture of an advice: how far the modalities differ at every slot, and what splitting the slot alone gains."""
from __future__ import annotations

__all__ = ["draw_advice"]

import os
from typing import Any

from torchreid_nas.report.style import FAINT, GENERATED, INK, SHARE_COLOURS, SPLIT_COLOURS, new_figure, save_figure


def draw_advice(advice: Any, path: str | os.PathLike[str], is_generated: bool = False) -> None:
    """Draw two rows of bars over the slots, as PNG: distance with the null's 95th percentile, and gain with two errors.

    Args:
        advice: a :class:`~torchreid_nas.search.advisor.Advice`.
        path: the picture; its folder is made.
        is_generated: say that the images are generated.

    Raises:
        InputError: the folder cannot be written.
    """
    slots = advice.slots
    places = range(len(slots))
    colours = [(SPLIT_COLOURS if slot.splits else SHARE_COLOURS)[1] for slot in slots]
    figure = new_figure((max(5.0, 0.17 * len(slots) + 1.2), 4.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    above.bar(places, [slot.distance for slot in slots], color=colours)
    above.plot(places, [slot.null for slot in slots], "_", color=INK, markersize=7, label="95 % of exchanged identities")
    above.set_ylabel("Fréchet distance", fontsize=9, color=INK)
    above.legend(frameon=False, fontsize=8)
    title = "orange: split, blue: share" + (f", {GENERATED}" if is_generated else "")
    above.set_title(title, fontsize=10, color=INK, loc="left")
    below.bar(places, [slot.gain for slot in slots], yerr=[2 * slot.error for slot in slots], color=colours, ecolor=FAINT)
    below.axhline(0, color=INK, linewidth=0.8)
    below.set_ylabel("gain of splitting alone", fontsize=9, color=INK)
    below.set_xticks(places, [slot.slot for slot in slots], rotation=90, fontsize=6)
    for axes in (above, below):
        axes.tick_params(colors=INK, color=FAINT, length=3, labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(FAINT)
    save_figure(figure, path)
