"""BNNeck (Luo et al., CVPRW 2019): a BatchNorm without a trainable shift between feature and classifier."""
from __future__ import annotations

__all__ = ["BNNeck"]

import torch
from torch import nn


class BNNeck(nn.BatchNorm1d):
    """BatchNorm1d whose bias is a buffer of zeros.

    Other code freezes the bias by ``requires_grad_(False)``, which torchreid's
    ``open_all_layers`` undoes at every epoch. No optimiser can train a buffer,
    and the state dict keeps its usual keys.

    Args:
        num_features: D.

    Shapes: (B, D) -> (B, D).

    Example:
        >>> neck = BNNeck(4)
        >>> neck(torch.randn(8, 4)).shape, [name for name, _ in neck.named_parameters()]
        (torch.Size([8, 4]), ['weight'])
    """

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)
        del self.bias
        self.register_buffer("bias", torch.zeros(num_features))
