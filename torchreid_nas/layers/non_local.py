"""The non-local block of AGW and CAJ."""
from __future__ import annotations

__all__ = ["NonLocal"]

from torch import Tensor, nn


class NonLocal(nn.Module):
    r"""Add to each position what all positions of the feature map have in common with it.

    Wang, Girshick, Gupta, He. "Non-local Neural Networks", CVPR 2018, Eq. 2 with the
    dot-product form (Eq. 4), as AGW (Ye et al., TPAMI 2021) uses it:

    .. math:: z_i = W(\frac{1}{N} \sum_j \theta(x_i)^T \phi(x_j) g(x_j)) + x_i

    N is the number of positions; there is no softmax. θ, φ and g are 1×1 convolutions to
    *one* channel, because the authors' code divides its reduction ratio by itself. W is a
    1×1 convolution and a BatchNorm that starts at 0, so a new block changes nothing.
    Ours: with one channel the sum over j is one number per image, so the block takes
    O(N) steps; the N×N attention is never built.

    Args:
        channels: C of the feature map.

    Shapes: (B, C, H, W) -> (B, C, H, W).

    The state dict has the keys of the authors' block: ``g.0``, ``W.0``, ``W.1``, ``theta``, ``phi``.

    >>> import torch
    >>> images = torch.randn(2, 8, 4, 2)
    >>> torch.equal(NonLocal(8)(images), images)
    True
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.g = nn.Sequential(nn.Conv2d(channels, 1, 1))
        norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(norm.weight)
        nn.init.zeros_(norm.bias)
        self.W = nn.Sequential(nn.Conv2d(1, channels, 1), norm)
        self.theta = nn.Conv2d(channels, 1, 1)
        self.phi = nn.Conv2d(channels, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the feature maps with the common part added."""
        common = (self.phi(images) * self.g(images)).mean(dim=(2, 3), keepdim=True)
        changed: Tensor = self.W(self.theta(images) * common)
        return changed + images
