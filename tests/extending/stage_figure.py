"""The picture of the space from outside: the probability of a scale, a line per stage."""
from __future__ import annotations

from torchreid_nas.report.style import new_figure, save_figure


def draw_stages(history, architecture, path):
    figure = new_figure((5, 3), layout="constrained")
    axes = figure.subplots()
    for slot, choice in architecture.choices:
        points = [row["probabilities"][slot]["scaled"] for row in history]
        axes.plot([row["epoch"] for row in history], points, marker="o", label=f"{slot}: {choice}")
    axes.set(xlabel="epoch", ylabel="P(scaled)", ylim=(0, 1), title=str(architecture))
    axes.legend()
    save_figure(figure, path)
