"""BNNeck (Luo et al., CVPRW 2019): a BatchNorm without a trainable shift between feature and classifier."""
from __future__ import annotations

__all__ = ["BNNeck"]

import torch
from torch import nn


class BNNeck(nn.BatchNorm1d):
    """BatchNorm1d whose bias is a buffer.

    "Bias frozen" is usually done with ``requires_grad_(False)``, which
    torchreid's ``open_all_layers`` undoes at every epoch. A buffer cannot be
    trained by anybody, and the state dict keeps its usual keys.

    Shapes: (B, D) -> (B, D).
    """

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)
        del self.bias
        self.register_buffer("bias", torch.zeros(num_features))
