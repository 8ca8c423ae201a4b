"""The searched BatchNorm as its formula stands: three BatchNorms, each over tensors of its own, and a weighted sum."""
from __future__ import annotations

__all__ = ["PlainMixedBatchNorm2d", "plain_supernet"]

import copy

import torch
from torch import nn

from torchreid_nas.layers import MixedBatchNorm2d
from torchreid_nas.layers.modality import BOTH, active_modality
from torchreid_nas.layers.norms import replace_module


class PlainMixedBatchNorm2d(nn.Module):
    """softmax(logits / temperature) weighs BN_share(x) and [BN_visible; BN_infrared](x); starts as a copy of ``mixed``."""

    def __init__(self, mixed: MixedBatchNorm2d) -> None:
        super().__init__()
        self.share, self.visible, self.infrared = map(copy.deepcopy, (mixed.share, mixed.visible, mixed.infrared))
        self.logits = nn.Parameter(mixed.logits.detach().clone())
        self.temperature = mixed.temperature

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        modality = active_modality(self.training)
        if modality == BOTH:
            visible, infrared = x.chunk(2)
            split = torch.cat((self.visible(visible), self.infrared(infrared)))
        else:
            split = getattr(self, modality)(x)
        weights = torch.softmax(self.logits / self.temperature, 0)
        return weights[0] * self.share(x) + weights[1] * split


def plain_supernet(model: nn.Module) -> nn.Module:
    """Put the plain layer in the place of every :class:`MixedBatchNorm2d`, in place, parameters and state as they are."""
    for path, layer in list(model.named_modules()):
        if isinstance(layer, MixedBatchNorm2d):
            replace_module(model, path, PlainMixedBatchNorm2d(layer))
    return model
