"""The picture of how a training or a search went: its losses, its learning rate and its held-out scores."""
from __future__ import annotations

__all__ = ["NO_SCORES", "draw_panel", "draw_runs", "draw_training", "is_score", "training_panels"]

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torchreid_nas.errors import InputError
from torchreid_nas.metrics.scores import SCORES
from torchreid_nas.report.style import (
    FAINT,
    INK,
    MANY_COLOURS,
    SHARE_COLOURS,
    SPLIT_COLOURS,
    new_figure,
    plain_axes,
    save_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CURVES = (SHARE_COLOURS[1], SPLIT_COLOURS[1])
_NO_LOSS = {"epoch", "lr", "seconds", "temperature", "changed"}
_TITLES = {
    "ce": "cross-entropy", "c3mmd": "C3MMD", "architecture": "architecture loss (validation part)",
    "invariance": "invariance loss of the target", "neighbour_precision": "neighbours of the same person (share)",
    "lr": "learning rate", "validation_score": "score",
}

NO_SCORES = "No curve of scores: the training held out no identities (train.holdout 0)."
"""What stands in the place of the curve."""


def draw_training(history: Sequence[Mapping[str, Any]], path: str | os.PathLike[str], title: str = "") -> None:
    """Draw the curves of a training or a search, as PNG: a panel per loss term, the learning rate, the held-out scores.

    A training without held-out identities has no scores; the picture then says so.

    Args:
        history: rows, see :func:`~torchreid_nas.report.read_history`. Every
            number other than ``epoch``, ``lr``, ``seconds``, ``temperature`` and ``changed``
            is a loss; ``validation_…`` are fractions in [0, 1], drawn in
            percent, present in the epochs that were validated.
        path: the picture; its folder is made.
        title: what was trained, and on which images; written above the panels.

    Raises:
        InputError: a history without epochs or numbers, or a folder that cannot be written.
    """
    panels = list(training_panels(history).values())
    if not panels:
        raise InputError("the history of the training holds nothing to draw; train for at least one epoch before")
    rows = _rows(len(panels))
    figure = new_figure((3.7 * max(rows) + 0.3, 2.5 * len(rows) + 0.2 + 0.3 * bool(title)), layout="constrained")
    # So many columns that the panels of every row share the whole width: no row ends in a hole.
    grid = figure.add_gridspec(len(rows), math.lcm(*rows))
    places = [
        grid[row, slice(index * math.lcm(*rows) // count, (index + 1) * math.lcm(*rows) // count)]
        for row, count in enumerate(rows) for index in range(count)
    ]
    for place, names in zip(places, panels):
        axes = figure.add_subplot(place)
        draw_panel(axes, history, names)
        if place.rowspan.stop == len(rows):
            axes.set_xlabel("epoch", fontsize=9.5, color=INK)
    if title:
        figure.suptitle(title, fontsize=11, color=INK, weight="bold", x=0.012, ha="left")
    if not any(is_score(panel[0]) for panel in panels) and not any("probabilities" in row for row in history):
        figure.supxlabel(NO_SCORES, fontsize=8.5, color=FAINT, x=0.012, ha="left")
    save_figure(figure, path)


def training_panels(history: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the panels of a history by their titles: the keys of the rows that each shows, losses first.

    >>> training_panels([{"epoch": 1, "ce": 4.2, "lr": 0.1}])
    {'cross-entropy': ['ce'], 'learning rate': ['lr']}
    """
    keys = list(dict.fromkeys(key for row in history for key, value in row.items() if isinstance(value, (int, float))))
    losses = [key for key in keys if key not in _NO_LOSS and not is_score(key)]
    scores = [key for key in keys if is_score(key)]
    panels = [[key] for key in losses] + [["lr"]] * ("lr" in keys) + [scores] * bool(scores)
    return {"held-out identities (%)" if is_score(names[0]) else _title(names[0]): names for names in panels}


def is_score(key: str) -> bool:
    """Return whether a key of the history is a score of held-out identities."""
    return key.startswith("validation_")


def _rows(count: int) -> list[int]:
    """Return the numbers of panels in each row, at most three and as even as can be.

    >>> _rows(4), _rows(5), _rows(7)
    ([2, 2], [3, 2], [3, 2, 2])
    """
    rows = math.ceil(count / 3)
    least, more = divmod(count, rows)
    return [least + 1] * more + [least] * (rows - more)


def _title(key: str) -> str:
    """Return what the picture calls a value of the history."""
    name = key.removeprefix("validation_")
    return _TITLES.get(key) or (SCORES[name].title if name in SCORES else name)


def draw_panel(axes: Axes, history: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Draw the curves of one panel of :func:`training_panels`."""
    from matplotlib.ticker import MaxNLocator

    scores = is_score(names[0])
    for index, name in enumerate(names):
        points = [(row["epoch"], row[name] * (100 if scores else 1)) for row in history if name in row]
        # Points are drawn where a line alone would hide which epochs were looked at.
        axes.plot(
            *zip(*points), color=_CURVES[index % 2], linestyle="-" if index < 2 else "--", linewidth=1.6,
            marker="o" if scores or len(points) == 1 else None, markersize=3.2,
            label=_title(name),
        )
    title = "held-out identities (%)" if scores else _title(names[0])
    axes.set_title(title, fontsize=10.5, color=INK, loc="left")
    if scores:
        axes.legend(frameon=False, fontsize=8.5, labelcolor=INK)
    first, last = history[0]["epoch"], history[-1]["epoch"]
    margin = max(0.03 * (last - first), 0.5 if first == last else 0)
    axes.set_xlim(first - margin, last + margin)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    if names == ["lr"]:
        _scale_learning_rate(axes, [row["lr"] for row in history if "lr" in row])
    plain_axes(axes)


def draw_runs(axes: Axes, histories: Mapping[str, Sequence[Mapping[str, Any]]], key: str) -> None:
    """Draw one value of the histories of several runs, by the names of the runs; the legend stands above."""
    from matplotlib.ticker import MaxNLocator

    for number, (name, history) in enumerate(histories.items()):
        points = [(row["epoch"], row[key] * (100 if is_score(key) else 1)) for row in history if key in row]
        short = name if len(name) <= 48 else f"…{name[-47:]}"
        colour, style = MANY_COLOURS[number % len(MANY_COLOURS)], ("-", "--", ":")[number % 3]
        axes.plot(*(zip(*points) if points else ((), ())), color=colour, linestyle=style, linewidth=1.5, label=short)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    if key == "lr":
        _scale_learning_rate(axes, [row["lr"] for history in histories.values() for row in history if "lr" in row])
    plain_axes(axes)
    axes.figure.legend(frameon=False, fontsize=7.5, labelcolor=INK, loc="outside upper left")


def _scale_learning_rate(axes: Axes, rates: Sequence[float]) -> None:
    """Logarithmic where the rates span a decade, which then has labelled ticks; linear from zero otherwise."""
    from matplotlib.ticker import NullFormatter

    if 0 < 10 * min(rates) <= max(rates):
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(0, 1.08 * max(rates) or 1)
