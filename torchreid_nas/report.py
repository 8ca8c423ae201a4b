"""Pictures and tables of a finished run: how its architecture came about, how its training went, what it reached.

matplotlib and tabulate are imported where they are used, so that a run that
draws nothing does not pay for them. Figures are drawn on an Agg canvas of
their own: no display, no pyplot, no global state.
"""
from __future__ import annotations

__all__ = [
    "decision_epochs", "draw_architecture", "draw_training", "read_history", "results_table", "short_names", "stages",
]

import json
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from torchreid_nas.architecture import BN_SPACE, SHARE, SPLIT, Architecture
from torchreid_nas.errors import InputError
from torchreid_nas.files import atomic_path

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

# Blue and orange stay apart for every kind of colour blindness, and both run into one near-white middle.
_SHARE_COLOURS = ("#0b3f7f", "#3a86c0", "#aed1e8")
_SPLIT_COLOURS = ("#fbcd98", "#e8862a", "#a03d04")
_MIDDLE, _INK, _FAINT, _GRID = "#f6f5f2", "#24292f", "#7a828c", "#d9dde2"
_CURVES = (_SHARE_COLOURS[1], _SPLIT_COLOURS[1])
_DPI = 160
# Reaches of the colour scale around 0.5, of which the smallest sufficient one is taken: their fifths have short
# decimals for the ticks, and preferences far below the first stay pale instead of being blown up to full colour.
_REACHES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
_WARMUP = {"facecolor": _MIDDLE, "edgecolor": "#c4cad1", "hatch": "////", "linewidth": 0}
# Height of a stage's two lines of heading, in inches.
_HEADING = 0.33
_NO_LOSS = {"epoch", "lr", "seconds", "temperature", "changed"}
_TITLES = {
    "ce": "cross-entropy", "c3mmd": "C3MMD", "architecture": "architecture loss (validation part)",
    "lr": "learning rate", "validation_score": "score", "validation_rank1": "Rank-1",
}


def read_history(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Read ``history.jsonl``: a JSON object with an ``epoch`` per line; blank lines are passed over.

    Raises:
        InputError: the file is missing, or a line is no such object; its number is named.
    """
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as error:
        raise InputError(f'the history "{path}" cannot be read ({error.strerror}); check the path') from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or not isinstance(row.get("epoch"), int):
            raise InputError(
                f'the history "{path}", line {number}, is no JSON object with an "epoch"; '
                "restore the file, or cut it before that line"
            )
        rows.append(row)
    return rows


# -- what the pictures show ---------------------------------------------------


def decision_epochs(history: Sequence[Mapping[str, Any]], slots: Sequence[str]) -> list[int | None]:
    """Return for every slot the first epoch from which on its preference keeps the sign that it ends with.

    The preference is P(split) − P(share). Zero is a sign of its own (nothing
    decided, as in warm-up): a slot that leaves it and never turns was decided
    in the epoch in which it left, whichever way it went. None: it ends at zero.

    Args:
        history: one row or more with ``epoch`` and ``probabilities``.
        slots: names of the slots.
    """
    epochs = []
    for slot in slots:
        signs = [_sign(row["probabilities"][slot]) for row in history]
        first = len(signs) - 1
        while first > 0 and signs[first - 1] == signs[-1]:
            first -= 1
        epochs.append(history[first]["epoch"] if signs[-1] else None)
    return epochs


def _sign(probabilities: Mapping[str, float]) -> int:
    return (probabilities[SPLIT] > probabilities[SHARE]) - (probabilities[SPLIT] < probabilities[SHARE])


def stages(slots: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return ``(name, first, last + 1)`` of each run of slots with the same first component of their names.

    Components that all slots share (``features.``) do not count; a slot that
    is a layer of its own before the first stage is the ``stem``.

    >>> stages(["bn1", "layer1.0.bn1", "layer1.0.bn2", "layer2.0.bn1"])
    [('stem', 0, 1), ('layer1', 1, 3), ('layer2', 3, 4)]
    """
    parts = _without_common_prefix(slots)
    runs: list[tuple[str, int, int]] = []
    for index, components in enumerate(parts):
        name = components[0]
        if len(components) == 1 and len(parts) > 1 and all(len(before) == 1 for before in parts[:index]):
            name = "stem"
        if runs and runs[-1][0] == name:
            runs[-1] = (name, runs[-1][1], index + 1)
        else:
            runs.append((name, index, index + 1))
    return runs


def short_names(slots: Sequence[str]) -> list[str]:
    """Return names for slots that stand below their stage: ``layer3.0.downsample.1`` becomes ``3.0.ds``.

    Slots whose short names would be the same keep their full ones.
    """
    names = []
    for components in _without_common_prefix(slots):
        if len(components) > 1 and components[-1] == "bn":
            components = components[:-1]
        name = ".".join(components)
        if len(components) > 1:
            name = re.sub(r"^[A-Za-z_]+(?=\d+\.)", "", name)
        names.append(re.sub(r"(downsample|shortcut)(\.\d+)?$", "ds", name))
    return [name if names.count(name) == 1 else slot for name, slot in zip(names, slots)]


def _without_common_prefix(slots: Sequence[str]) -> list[list[str]]:
    parts = [slot.split(".") for slot in slots]
    while len(parts) > 1 and all(len(components) > 1 and components[0] == parts[0][0] for components in parts):
        parts = [components[1:] for components in parts]
    return parts


def _is_downsample(slot: str) -> bool:
    return "downsample" in slot or "shortcut" in slot


def _warmup_epochs(history: Sequence[Mapping[str, Any]]) -> int:
    """Number of rows before the first architecture step."""
    return next((index for index, row in enumerate(history) if "architecture" in row), len(history))


def _split_probabilities(history: Sequence[Mapping[str, Any]], slots: Sequence[str]) -> np.ndarray:
    """(epochs, slots) float64; the first row that does not fit is named."""
    import numpy as np

    if not history:
        raise InputError("the history of the search holds no epoch; search for at least one before drawing it")
    for row in history:
        given = row.get("probabilities")
        if not isinstance(given, Mapping):
            raise InputError(
                f'the history has no "probabilities" in epoch {row.get("epoch")}; '
                "give that of a search, not of a training"
            )
        missing = [slot for slot in slots if slot not in given]
        if missing or len(given) != len(slots):
            other = f'not "{missing[0]}"' if missing else f"{len(given)} slots instead of {len(slots)}"
            raise InputError(
                f"the history of the search is of another backbone than the architecture: epoch {row.get('epoch')} has "
                f"{other}; give both from one run"
            )
    return np.array([[row["probabilities"][slot][SPLIT] for slot in slots] for row in history], dtype=np.float64)


# -- the architecture ---------------------------------------------------------


def draw_architecture(
    history: Sequence[Mapping[str, Any]], architecture: Architecture, path: str | os.PathLike,
) -> None:
    """Draw how a search of the BN space came to ``architecture``, as PNG.

    Slots run from the stem on the left to the last stage on the right, epochs
    downwards into the strip of the final decisions. Colour is P(split), blue
    below and orange above 0.5, over the range that the search reached and by
    the square root of the distance from 0.5, so that small early preferences
    show; the ticks of the colour bar are probabilities. A black bar opens the
    epoch from which on a slot keeps its sign (:func:`decision_epochs`); the
    bars on the right count the slots whose choice changed in an epoch.

    Args:
        history: rows of a search, see :func:`read_history`: ``epoch``,
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
    probabilities = _split_probabilities(history, slots)
    warmup = _warmup_epochs(history)

    names = short_names(slots)
    cell = min(max(8 / len(slots), 0.22), max(14 / len(slots), 0.14))
    font = min(9.0, 0.7 * 72 * cell)
    width, height = cell * len(slots), min(0.5 * len(history), max(4.6, min(0.05 * len(history), 6.5)))
    headings = _stage_headings(architecture, cell)
    left, right, strip, gap = 0.9, 1.55, 0.26, 0.07
    head = 1.5 + _HEADING * max(level for *_, level in headings)
    foot = 0.25 + max(map(len, names)) * font * 0.56 / 72
    size = (left + width + right, head + height + gap + strip + foot)
    figure = _figure(size)

    def axes(x: float, y: float, w: float, h: float) -> Axes:
        """Axes by inches from the top left corner."""
        return figure.add_axes((x / size[0], 1 - (y + h) / size[1], w / size[0], h / size[1]))

    heat = axes(left, head, width, height)
    # A band of warm-up too thin for its own words is explained by the legend.
    labelled = height * warmup / len(history) >= 0.22
    mesh = _draw_heat(heat, probabilities, warmup, labelled)
    _draw_epoch_axis(heat, [row["epoch"] for row in history], height)
    _draw_decisions(heat, decision_epochs(history, slots), [row["epoch"] for row in history])
    _draw_strip(axes(left, head + height + gap, width, strip), architecture, names, font)
    _draw_changes(axes(left + width + 0.14, head, right - 0.55, height), history)
    _draw_stages(heat, architecture, headings, height, gap + strip)
    _draw_header(figure, architecture, left, bool(warmup) and not labelled)
    _draw_colour_bar(axes(left + width - 2.4, 0.5, 2.4, 0.15), mesh)
    _save(figure, path)


def _draw_heat(axes: Axes, probabilities: np.ndarray, warmup: int, labelled: bool) -> QuadMesh:
    import numpy as np
    from matplotlib.colors import FuncNorm, LinearSegmentedColormap

    epochs, count = probabilities.shape
    furthest = float(np.abs(probabilities - 0.5).max())
    reach = next((reach for reach in _REACHES if reach >= furthest), _REACHES[-1])
    norm = FuncNorm(
        (lambda p: np.sign(p - 0.5) * np.sqrt(np.abs(p - 0.5)), lambda s: 0.5 + np.sign(s) * np.square(s)),
        vmin=0.5 - reach, vmax=0.5 + reach,
    )
    colours = LinearSegmentedColormap.from_list("share-split", [*_SHARE_COLOURS, _MIDDLE, *_SPLIT_COLOURS], N=512)
    mesh = axes.pcolormesh(
        np.arange(count + 1), np.arange(epochs + 1), probabilities, cmap=colours, norm=norm,
    )
    axes.vlines(np.arange(1, count), 0, epochs, color="white", linewidth=0.7)
    if warmup:
        axes.axhspan(0, warmup, **_WARMUP, zorder=2.5)
        if labelled:
            axes.text(
                count / 2, warmup / 2, "warm-up: weights only", ha="center", va="center_baseline", fontsize=9,
                color=_FAINT, style="italic", zorder=7,
                bbox={"facecolor": _MIDDLE, "edgecolor": "none", "pad": 2.5},
            )
    axes.set(xlim=(0, count), ylim=(epochs, 0), xticks=[])
    for spine in axes.spines.values():
        spine.set(color=_FAINT, linewidth=0.8)
    return mesh


def _draw_epoch_axis(axes: Axes, epochs: Sequence[int], height: float) -> None:
    room = height / len(epochs)
    step = next((step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500) if step * room >= 0.24), 1000)
    # The first and the last epoch are always named; neighbours give way where both do not fit.
    ends = {0, len(epochs) - 1}
    shown = [
        index for index, epoch in enumerate(epochs)
        if index in ends or epoch % step == 0 and all(abs(index - end) * room >= 0.2 for end in ends)
    ]
    axes.set_yticks([index + 0.5 for index in shown], [str(epochs[index]) for index in shown])
    axes.tick_params(axis="y", labelsize=9, colors=_INK, length=3, color=_FAINT)
    axes.set_ylabel("epoch", fontsize=10, color=_INK)


def _draw_decisions(axes: Axes, decided: Sequence[int | None], epochs: Sequence[int]) -> None:
    tops = {epoch: index for index, epoch in enumerate(epochs)}
    marks = [(slot, tops[epoch]) for slot, epoch in enumerate(decided) if epoch is not None]
    if marks:
        axes.hlines(
            [top for _, top in marks], [slot + 0.08 for slot, _ in marks], [slot + 0.92 for slot, _ in marks],
            color="black", linewidth=1.9, zorder=5, clip_on=False,
        )


def _draw_strip(axes: Axes, architecture: Architecture, names: Sequence[str], font: float) -> None:
    colours = [_SPLIT_COLOURS[1] if choice == SPLIT else _SHARE_COLOURS[1] for _, choice in architecture.choices]
    axes.bar(range(len(colours)), 1, width=1, align="edge", color=colours, edgecolor="white", linewidth=0.7)
    axes.set(xlim=(0, len(colours)), ylim=(0, 1))
    axes.set_yticks([0.5], ["final"])
    axes.set_xticks([index + 0.5 for index in range(len(names))], names, rotation=90, fontsize=font)
    axes.tick_params(axis="y", labelsize=10, colors=_INK, length=0)
    axes.tick_params(axis="x", colors=_INK, length=0, pad=3)
    for label, (slot, _) in zip(axes.get_xticklabels(), architecture.choices):
        if _is_downsample(slot):
            label.set(color=_FAINT, style="italic")
    axes.spines[:].set_visible(False)


def _draw_changes(axes: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    changes = [row.get("changed", 0) for row in history]
    axes.barh([index + 0.5 for index in range(len(changes))], changes, height=0.75, color=_FAINT)
    most = max(max(changes), 1)
    axes.set(xlim=(0, most * 1.05), ylim=(len(changes), 0), yticks=[])
    axes.set_xticks([0, most])
    axes.tick_params(axis="x", labelsize=8, colors=_INK, color=_FAINT, length=3, pad=2)
    axes.set_xlabel("choices\nchanged", fontsize=8.5, color=_INK, labelpad=1, linespacing=1.1)
    axes.spines[["right", "top"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color=_FAINT, linewidth=0.8)


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
        if _is_downsample(slot):
            axes.plot(index + 0.5, 1 + 0.06 / height, "v", ms=3.4, color=_FAINT, mew=0, transform=across, clip_on=False)
    for text, first, stop, level in headings:
        if first:
            axes.plot(
                [first, first], [-below / height, 1 + 0.16 / height], color=_INK, linewidth=1.1, transform=across,
                clip_on=False, zorder=6,
            )
        axes.text(
            (first + stop) / 2, 1 + (0.17 + _HEADING * level) / height, text, transform=across,
            ha="center", va="bottom", fontsize=8.5, color=_INK, linespacing=1.25,
        )


def _draw_header(figure: Figure, architecture: Architecture, left: float, name_warmup: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    width, height = figure.get_size_inches()
    split = sum(choice == SPLIT for _, choice in architecture.choices)
    figure.text(
        left / width, 1 - 0.3 / height, f"{split} of {len(architecture)} BatchNorms split", fontsize=17, weight="bold",
        color=_INK, va="center",
    )
    handles = [
        Patch(color=_SPLIT_COLOURS[1], label="split"),
        Patch(color=_SHARE_COLOURS[1], label="share"),
        Line2D([], [], color="black", linewidth=1.9, label="decided from here on"),
    ]
    if any(_is_downsample(slot) for slot in architecture.slots):
        handles.append(Line2D([], [], marker="v", ms=4, mew=0, color=_FAINT, linestyle="", label="downsample"))
    if name_warmup:
        handles.append(Patch(**_WARMUP, label="warm-up"))
    figure.legend(
        handles=handles, loc="center left", bbox_to_anchor=(left / width, 1 - 0.68 / height), ncols=len(handles),
        frameon=False, fontsize=9, labelcolor=_INK, borderpad=0, borderaxespad=0, handlelength=1.2,
        columnspacing=1.4, handletextpad=0.5,
    )


def _draw_colour_bar(axes: Axes, mesh: QuadMesh) -> None:
    reach = mesh.norm.vmax - 0.5
    bar = axes.figure.colorbar(mesh, cax=axes, orientation="horizontal")
    ticks = [0.5 + part * reach for part in (-1, -0.2, 0, 0.2, 1)]
    bar.set_ticks(ticks, labels=[f"{round(tick, 3):g}" for tick in ticks])
    bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=8, colors=_INK, length=2, pad=2)
    bar.outline.set(edgecolor=_FAINT, linewidth=0.6)
    bar.ax.set_title("◂ share    P(split)    split ▸", fontsize=9, color=_INK, pad=4)


# -- the training -------------------------------------------------------------


def draw_training(history: Sequence[Mapping[str, Any]], path: str | os.PathLike) -> None:
    """Draw the curves of a training or a search, as PNG: a panel per loss term, the learning rate, the held-out scores.

    Args:
        history: rows, see :func:`read_history`. Every number other than
            ``epoch``, ``lr``, ``seconds``, ``temperature`` and ``changed``
            is a loss; ``validation_…`` are fractions in [0, 1], drawn in
            percent, present in the epochs that were validated.
        path: the picture; its folder is made.

    Raises:
        InputError: a history without epochs or numbers, or a folder that cannot be written.
    """
    keys = list(dict.fromkeys(key for row in history for key, value in row.items() if isinstance(value, (int, float))))
    losses = [key for key in keys if key not in _NO_LOSS and not key.startswith("validation_")]
    scores = [key for key in keys if key.startswith("validation_")]
    panels = [[key] for key in losses] + [["lr"]] * ("lr" in keys) + [scores] * bool(scores)
    if not panels:
        raise InputError("the history of the training holds nothing to draw; train for at least one epoch before")
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = _figure((3.7 * columns + 0.3, 2.5 * rows + 0.2), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(panels):]:
        axes.remove()
    for index, (axes, names) in enumerate(zip(grid.flat, panels)):
        _draw_curves(axes, history, names)
        if index + columns >= len(panels):
            axes.set_xlabel("epoch", fontsize=9.5, color=_INK)
    _save(figure, path)


def _draw_curves(axes: Axes, history: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    from matplotlib.ticker import MaxNLocator

    scores = names[0].startswith("validation_")
    for index, name in enumerate(names):
        points = [(row["epoch"], row[name] * (100 if scores else 1)) for row in history if name in row]
        # Points are drawn where a line alone would hide which epochs were looked at.
        axes.plot(
            *zip(*points), color=_CURVES[index % 2], linestyle="-" if index < 2 else "--", linewidth=1.6,
            marker="o" if scores or len(points) == 1 else None, markersize=3.2,
            label=_TITLES.get(name, name.removeprefix("validation_")),
        )
    title = "held-out identities (%)" if scores else _TITLES.get(names[0], names[0])
    axes.set_title(title, fontsize=10.5, color=_INK, loc="left")
    if scores:
        axes.legend(frameon=False, fontsize=8.5, labelcolor=_INK)
    first, last = history[0]["epoch"], history[-1]["epoch"]
    margin = max(0.03 * (last - first), 0.5 if first == last else 0)
    axes.set_xlim(first - margin, last + margin)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    if names == ["lr"]:
        _scale_learning_rate(axes, [row["lr"] for row in history if "lr" in row])
    axes.grid(color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8.5, colors=_INK, color=_FAINT, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)


def _scale_learning_rate(axes: Axes, rates: Sequence[float]) -> None:
    """Logarithmic where the rates span a decade, which then has labelled ticks; linear from zero otherwise."""
    from matplotlib.ticker import NullFormatter

    if 0 < 10 * min(rates) <= max(rates):
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(0, 1.08 * max(rates) or 1)


def _figure(size: tuple[float, float], **kwargs: Any) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=_DPI, facecolor="white", **kwargs)
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: str | os.PathLike) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI)


# -- the results --------------------------------------------------------------


def results_table(results: Mapping[str, Any]) -> str:
    """Return the table of a run: one row per data set and feature, scores in percent.

    Args:
        results: the content of ``results.json``: ``{"results": [...]}``, each
            entry with ``dataset``, ``direction``, ``feature``, ``ranks`` (ints),
            ``cmc`` and ``cmc_std`` (fractions at those ranks), ``mAP``,
            ``mINP`` and their ``_std`` (fractions), ``num_valid_queries``, ``num_trials``.

    Scores have two decimals, and ``± std`` where several trials were averaged.
    A rank that an entry does not give stays empty in its row.

    Raises:
        InputError: no entry, or one that lacks a key.
    """
    from tabulate import tabulate

    entries = results.get("results")
    if not entries:
        raise InputError('the results hold no entry under "results"; test at least one data set')
    try:
        ranks = sorted({rank for entry in entries for rank in entry["ranks"]})
        rows = [_table_row(entry, ranks) for entry in entries]
    except KeyError as error:
        raise InputError(f"an entry of the results lacks {error}; test again to write them anew") from error
    scores = [*(f"Rank-{rank}" for rank in ranks), "mAP", "mINP"]
    headers = ["data set", "direction", "feature", *scores, "queries", "trials"]
    align = ["left"] * 3 + ["right"] * (len(headers) - 3)
    # Numbers come formatted: tabulate would cut the zeros of 50.00.
    return tabulate(rows, headers=headers, colalign=align, disable_numparse=True)


def _table_row(entry: Mapping[str, Any], ranks: Sequence[int]) -> list[str]:
    several = entry["num_trials"] > 1

    def percent(value: float, std: float) -> str:
        return f"{100 * value:.2f} ± {100 * std:.2f}" if several else f"{100 * value:.2f}"

    stds = entry["cmc_std"] if several else [0.0] * len(entry["cmc"])
    at = {rank: percent(value, std) for rank, value, std in zip(entry["ranks"], entry["cmc"], stds)}
    scores = [percent(entry[name], entry[f"{name}_std"] if several else 0.0) for name in ("mAP", "mINP")]
    return [
        entry["dataset"], entry["direction"], entry["feature"], *(at.get(rank, "") for rank in ranks), *scores,
        f"{entry['num_valid_queries']:,}", str(entry["num_trials"]),
    ]
