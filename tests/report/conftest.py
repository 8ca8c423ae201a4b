"""What the tests of the figures share."""
from __future__ import annotations

import itertools
import math
import random

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from torchreid_nas.architecture import Architecture
from torchreid_nas.genotypes import BLOCK_SLOTS, CANDIDATES


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved, as they were when they were saved."""
    figures = []
    savefig = Figure.savefig

    def keep(self, *args, **kwargs):
        figures.append(self)
        savefig(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


@pytest.fixture
def words():
    """``words(figure)``: all that is written in it, once it is sure that all of it is inside and none overlaps."""

    def read(figure):
        renderer = figure.canvas.get_renderer()
        texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
        written = [(text.get_text(), text.get_window_extent(renderer)) for text in texts]
        width, height = figure.canvas.get_width_height()
        for text, box in written:
            assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height, text
        for (a, first), (b, second) in itertools.combinations(written, 2):
            # Fonts keep air above and below their letters; a pixel of shared air is none of ink.
            across = min(first.x1, second.x1) - max(first.x0, second.x0)
            along = min(first.y1, second.y1) - max(first.y0, second.y0)
            assert across <= 1 or along <= 1, (a, b)
        return [text for text, _ in written]

    return read


@pytest.fixture
def genotype_search():
    """``genotype_search(space, epochs)``: history and architecture of a search of CDNet's blocks, logits drifting."""

    def run(space, epochs, warmup=0, step=0.15):
        generator = random.Random(0)
        slots = [(slot, name) for slot in BLOCK_SLOTS for name in CANDIDATES[space]]
        drift, logits, history = {key: generator.gauss(0, 0.5) for key in slots}, dict.fromkeys(slots, 1e-3), []
        for epoch in range(1, epochs + 1):
            row = {"epoch": epoch, "ce": 5 / epoch, "triplet": 0.4 / epoch, "lr": 0.025, "temperature": 1.0}
            if epoch > warmup:
                row["architecture"] = 5 / epoch
                for key in slots:
                    logits[key] += step * (drift[key] + generator.gauss(0, 1))
            row["probabilities"] = {}
            for slot in BLOCK_SLOTS:
                powers = {name: math.exp(logits[slot, name]) for name in CANDIDATES[space]}
                row["probabilities"][slot] = {name: power / sum(powers.values()) for name, power in powers.items()}
            history.append(row)
        best = {slot: max(CANDIDATES[space], key=lambda name: logits[slot, name]) for slot in BLOCK_SLOTS}
        return history, Architecture(space, tuple(best.items()))

    return run
