"""A convolution per modality, beside split BatchNorms: the manual two-stream architectures of CM-NAS's study."""
from __future__ import annotations

__all__ = ["SplitConv2d", "split_convolutions"]

import copy

import torch
from torch import nn

from torchreid_nas.errors import InputError
from torchreid_nas.layers.modality import ModalityLayer
from torchreid_nas.layers.norms import replace_module
from torchreid_nas.layers.split_norm import SplitNorm, forward_parts


class SplitConv2d(ModalityLayer):
    """One ``Conv2d`` per modality in the place of one; both start from its weights.

    Args:
        conv: the layer to split.

    Shapes: (N, C, H, W) -> (N, C', H', W') as the layer's. A joint batch ``[visible; infrared]`` is convolved by its parts.

    Example:
        >>> SplitConv2d(nn.Conv2d(3, 4, 1))(torch.zeros(2, 3, 5, 5)).shape
        torch.Size([2, 4, 5, 5])
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.visible, self.infrared = copy.deepcopy(conv), copy.deepcopy(conv)
        self.training = conv.training

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve a batch (N, C, H, W).

        Raises:
            InputError: the modality is not known in eval mode, or a joint batch does not divide into its parts.
        """
        return forward_parts(self, x, self.visible, self.infrared)


def split_convolutions(model: nn.Module) -> nn.Module:
    """Split the convolution before every split norm of ``model``, in place, and return ``model``.

    The convolution of a norm is the one that is defined last before it, as in ResNets, MobileNets and OSNets.

    Raises:
        InputError: the layer before a split norm is no convolution with as many output channels.

    Example:
        >>> from torchreid_nas.layers import split_batchnorm
        >>> model = split_batchnorm(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), "split")
        >>> type(split_convolutions(model)[0]).__name__
        'SplitConv2d'
    """
    found: dict[str, nn.Conv2d] = {}
    last: tuple[str, nn.Conv2d] | None = None
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            last = name, module
        elif isinstance(module, SplitNorm):
            channels = module.visible.weight.numel()
            if last is None or last[0] in found or last[1].out_channels != channels:
                raise InputError(
                    f'the split norm "{name}" has no convolution of {channels} channels of its own before it; set '
                    "model.separate norms"
                )
            found[last[0]] = last[1]
    for name, conv in found.items():
        replace_module(model, name, SplitConv2d(conv))
    return model
