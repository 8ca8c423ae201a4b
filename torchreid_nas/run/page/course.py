"""How a run came about: its losses, learning rate and held-out scores, and the search of its architecture."""
from __future__ import annotations

__all__ = ["course"]

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from torchreid_nas.architecture import BN_SPACE, Architecture
from torchreid_nas.methods import make_method
from torchreid_nas.report.html import scrolling, table, text
from torchreid_nas.report.outlook import LEAST_EPOCHS, outlook
from torchreid_nas.report.style import INK, new_figure
from torchreid_nas.report.svg import figure_svg, page_svg
from torchreid_nas.report.training_figure import NO_SCORES, draw_panel, is_score, training_panels
from torchreid_nas.run.page.facts import RunFacts
from torchreid_nas.run.page.frame import Frame, section
from torchreid_nas.run.page.verdict import brief
from torchreid_nas.search.space import draw_architecture
from torchreid_nas.slots import short_names, stages

_FURTHER = 10
"""Outlooks that the table shows."""


def course(facts: RunFacts, frame: Frame) -> str:
    """Return the sections of the training and of the search."""
    return "\n".join([_training(facts, frame), _search(facts, frame)])


def _training(facts: RunFacts, frame: Frame) -> str:
    if not facts.train:
        return ""
    panels = training_panels(facts.train)
    held_out = any(is_score(names[0]) for names in panels.values())
    seconds = sum(row.get("seconds", 0) for row in facts.train)
    return section("training", "How the training went", [
        f'<p class="soft">{len(facts.train)} epochs in {_duration(seconds)}.</p>',
        frame.charts(_panels(facts.train, frame)), "" if held_out else f'<p class="soft wide">{text(NO_SCORES)}</p>',
    ])


def _panels(history: Sequence[Mapping[str, Any]], frame: Frame) -> list[str]:
    charts = []
    for title, names in training_panels(history).items():
        figure = new_figure((3.5, 2.3), layout="constrained")
        axes = figure.subplots()
        draw_panel(axes, history, names)
        axes.set_title("", loc="left")
        axes.set_xlabel("epoch", fontsize=9, color=INK)
        known = [row[names[0]] for row in history if names[0] in row]
        label = f"{title} by epoch, from {known[0]:.4g} to {known[-1]:.4g}"
        charts.append(frame.figure(figure_svg(figure, label), label, f"<b>{text(title)}</b>"))
    return charts


def _search(facts: RunFacts, frame: Frame) -> str:
    architecture = facts.architecture
    if architecture is None and not facts.search:
        return ""
    parts = [_slots(architecture)] if architecture is not None else []
    if facts.search:
        seconds = sum(row.get("seconds", 0) for row in facts.search)
        parts.append(f'<p class="soft">{len(facts.search)} epochs of search in {_duration(seconds)}.</p>')
        if architecture is not None and facts.folder.is_searched():
            parts.append(_picture(facts, architecture, frame))
        parts += [_outlook(facts.search), frame.charts(_panels(facts.search, frame))]
    return section("architecture", "The architecture and how it was found", parts)


def _slots(architecture: Architecture) -> str:
    """Return the choices along the network, from the stem to the last stage."""
    names = short_names(architecture.slots)
    kinds = architecture.space == BN_SPACE
    items = []
    for stage, first, end in stages(architecture.slots):
        cells = "".join(
            f'<li class="{choice if kinds else ""}">{text(names[place])}: {text(choice)}</li>'
            for place, (_, choice) in list(enumerate(architecture.choices))[first:end]
        )
        items.append(f"<li><b>{text(stage)}</b><ul>{cells}</ul></li>")
    said = "Split slots have a BatchNorm per modality; shared slots have one for both. " if kinds else ""
    return (
        f'<p class="wide">{text(said + brief(architecture))}.</p>'
        f'<details><summary>Every slot along the network</summary><ol class="strip">{"".join(items)}</ol></details>'
    )


def _picture(facts: RunFacts, architecture: Architecture, frame: Frame) -> str:
    """Return the space's own picture of its search: slots along the network, probabilities over epochs."""
    cfg = facts.cfg
    options = {} if cfg is None else make_method(cfg, torch.device("cpu")).figure_options()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "architecture.svg"
        draw_architecture(facts.search, architecture, path, **options)
        drawn = path.read_text(encoding="utf-8")
    label = f"Probabilities of the choices of {len(architecture)} slots over {len(facts.search)} epochs. {brief(architecture)}"
    caption = "Slots along the network, the probability of each choice by epoch, and what was chosen."
    return frame.figure(scrolling(page_svg(drawn, label), "Picture of the search"), label, caption, "rows paper")


def _outlook(history: Sequence[Mapping[str, Any]]) -> str:
    if not any("probabilities" in row for row in history):
        return ""
    soon = [one for one in outlook(history) if one.epochs <= len(history)]
    if not soon:
        decided = sum("architecture" in row for row in history)
        said = "At the pace of its last epochs, no choice would change within as many epochs as the search had."
        if decided < LEAST_EPOCHS:
            epochs = "1 epoch" if decided == 1 else f"{decided} epochs"
            said = f"Not known: the search has {epochs} after its warm-up, and a pace needs {LEAST_EPOCHS}."
        return f'<h3>If the search went on</h3><p class="wide">{said}</p>'
    rows = [
        {"slot": one.slot, "chosen": one.choice, "would become": one.other, "lead (points)": f"{100 * one.lead:.2f}",
         "per epoch": f"{100 * one.pace:+.2f}", "changes after (epochs)": f"{one.epochs:.0f}"} for one in soon[:_FURTHER]
    ]
    many = f'{len(soon)} choice{"s" if len(soon) > 1 else ""}'
    more = f" The first {_FURTHER} of them:" if len(soon) > _FURTHER else ""
    return (
        f'<h3>If the search went on</h3><p class="wide">At the pace of its last epochs, {many} would change within as many '
        f"epochs as the search had. A straight line drawn on, no forecast.{more}</p>" + table(rows, "If the search went on")
    )


def _duration(seconds: float) -> str:
    """Return a time for people.

    >>> _duration(75), _duration(7300)
    ('1 min 15 s', '2 h 1 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"
