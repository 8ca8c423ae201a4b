"""Dropout for the batch of all processes: in one process nothing changes; tests/distributed/ has two and three."""
from __future__ import annotations

import pytest
import torch
from torch import nn

from torchreid_nas.layers import joint_lengths, modality_context, whole_dropout
from torchreid_nas.layers.modality import joint_parts


class DropPath(nn.Module):
    """Named as timm's layer, whose factors are one per image."""

    def forward(self, x):
        return x * x.new_empty(len(x), *[1] * (x.dim() - 1)).bernoulli_(0.5)


def test_in_one_process_the_layers_stay_as_they_are():
    layer = nn.Dropout(0.5)
    with whole_dropout(layer):
        assert type(layer) is nn.Dropout


@pytest.mark.parametrize("layer", [nn.Dropout(0.4), nn.Dropout(0.4, inplace=True), nn.Dropout2d(0.4), DropPath()])
@pytest.mark.parametrize("modality, lengths, parts", [(None, (1, 1), 1), ("both", (2, 2), 2), ("both", (4, 2), 3)])
def test_two_processes_drop_what_one_drops(monkeypatch, layer, modality, lengths, parts):
    part = 4
    images = torch.randn(part * parts, 3, 2, 2)
    torch.manual_seed(0)
    expected = layer(images.clone())
    monkeypatch.setattr("torchreid_nas.layers.dropout.processes", lambda: 2)
    for number in range(2):
        monkeypatch.setattr("torchreid_nas.layers.dropout.rank", lambda number=number: number)
        own = torch.cat([rows.chunk(2)[number] for rows in images.split(part)])
        torch.manual_seed(0)
        with whole_dropout(layer), joint_lengths(*lengths), modality_context(modality or "visible"):
            output = layer(own)
        assert torch.allclose(output, torch.cat([rows.chunk(2)[number] for rows in expected.split(part)]))
        assert "WholeBatch" not in type(layer).__name__


def test_nothing_is_dropped_in_eval_mode(monkeypatch):
    monkeypatch.setattr("torchreid_nas.layers.dropout.processes", lambda: 2)
    layer, images = nn.Dropout(0.5).eval(), torch.randn(4, 3)
    with whole_dropout(layer):
        assert torch.equal(layer(images), images)


def test_rows_of_one_modality_are_one_part():
    with modality_context("visible"), joint_lengths(4, 2):
        assert joint_parts(6) == [6]
    with modality_context("both"):
        assert joint_parts(6) == [3, 3]
