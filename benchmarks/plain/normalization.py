"""BatchNorm by modality as it is first written: two layers, two halves, one concatenation."""
from __future__ import annotations

__all__ = ["PlainSplitBatchNorm2d", "plain_split"]

import torch
from torch import nn

from torchreid_nas.layers.norms import replace_module
from torchreid_nas.layers.split_bn import SplitBatchNorm2d


class PlainSplitBatchNorm2d(nn.Module):
    """The joint batch [visible; infrared] (N, C, H, W) through one BatchNorm2d per half."""

    def __init__(self, visible: nn.BatchNorm2d, infrared: nn.BatchNorm2d) -> None:
        super().__init__()
        self.visible, self.infrared = visible, infrared

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        visible, infrared = x.chunk(2)
        return torch.cat((self.visible(visible), self.infrared(infrared)))


def plain_split(model: nn.Module) -> nn.Module:
    """Put the plain layer in the place of every :class:`SplitBatchNorm2d`, in place, parameters and state as they are."""
    for path, layer in list(model.named_modules()):
        if isinstance(layer, SplitBatchNorm2d):
            replace_module(model, path, PlainSplitBatchNorm2d(layer.visible, layer.infrared))
    return model
