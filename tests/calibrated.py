"""Networks whose BatchNorms hold the statistics of images, as training leaves them."""
from __future__ import annotations

import torch
from torch import nn

from torchreid_nas.layers import modality_context


def noise(count: int, height: int = 64, width: int = 32, seed: int = 1) -> torch.Tensor:
    """Images (count, 3, height, width) of noise at several brightnesses and contrasts, so that features differ."""
    generator = torch.Generator().manual_seed(seed)
    look = torch.rand(count, 6, 1, 1, generator=generator)
    return (look[:, :3] + 0.2) * torch.randn(count, 3, height, width, generator=generator) + 2 * look[:, 3:] - 1


@torch.no_grad()
def calibrated(model: nn.Module, modality: str = "both") -> nn.Module:
    """Give the BatchNorms the statistics of :func:`noise` and return the model in eval mode."""
    for layer in model.modules():
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            layer.momentum = None
    with modality_context(modality):
        model.train()(noise(16, seed=2))
    return model.eval()
