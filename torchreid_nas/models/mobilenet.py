"""MobileNetV2 feature maps for re-ID (Sandler et al., CVPR 2018): torchvision's blocks, last stride 1, ImageNet weights."""
from __future__ import annotations

__all__ = ["MobileNetBackbone", "mobilenet_backbone"]

import os
from typing import Literal

import torch
import torchvision
from torch import nn

from torchreid_nas.errors import InputError
from torchreid_nas.models.imagenet import check_full_width, load_imagenet

_STARTS = {"stem": 0, "layer1": 2, "layer2": 4, "layer3": 7, "layer4": 14}
"""Where each stage starts in torchvision's ``features``; every stage halves the map, a last stride of 1 excepted."""

# Expansion, channels, blocks and stride of the inverted residuals: Table 2 of the paper.
_BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class MobileNetBackbone(nn.Module):
    """torchvision's MobileNetV2 without head, in five stages by the size of their maps; ``forward`` returns the last map.

    The stages are called as those of a ResNet: ``stem`` (first convolution and
    first block, 3 BatchNorms), ``layer1`` (6), ``layer2`` (9), ``layer3`` (21)
    and ``layer4`` with the last convolution (13).

    Args:
        width: multiplier of the channels as torchvision's ``width_mult``: channels are multiples of 8, and the last
            convolution keeps its 1280 channels where the width is below 1.
        last_stride: stride of the last stage, 2 on ImageNet and 1 in re-ID (Luo et al., CVPRW 2019).

    Attributes:
        feature_dim: channels of the feature map.

    Shapes: (B, 3, H, W) -> (B, ``feature_dim``, H/16, W/16) with ``last_stride=1``.

    Raises:
        InputError: the width is not above 0 and at most 4.

    Example:
        >>> MobileNetBackbone(width=0.1)(torch.zeros(2, 3, 32, 16)).shape
        torch.Size([2, 1280, 2, 1])
    """

    def __init__(self, width: float = 1.0, last_stride: int = 1) -> None:
        super().__init__()
        if not 0 < width <= 4:
            raise InputError(f"model.width is {width}, expected a multiplier above 0 and at most 4")
        blocks = [list(block) for block in _BLOCKS]
        blocks[5][3] = last_stride
        network = torchvision.models.MobileNetV2(num_classes=1, width_mult=width, inverted_residual_setting=blocks)
        starts = [*_STARTS.values(), len(network.features)]
        for name, start, end in zip(_STARTS, starts, starts[1:]):
            self.add_module(name, nn.Sequential(*network.features[start:end]))
        self.feature_dim: int = network.last_channel

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the feature map of images (B, 3, H, W)."""
        for stage in self.children():
            x = stage(x)
        return x

    def load_imagenet(self, source: Literal[True] | str | os.PathLike[str]) -> None:
        """Load ImageNet weights: ``True`` for torchvision's (V1, downloaded once into torch's cache), or a file.

        Raises:
            InputError: the weights cannot be downloaded or read, or they are of another network.
        """
        load_imagenet(self, source, "mobilenet_v2", "MobileNetV2", _torchvisions_key)


def _torchvisions_key(key: str) -> str:
    """Return torchvision's name of a key of the backbone.

    >>> _torchvisions_key("layer1.1.conv.2.weight")
    'features.3.conv.2.weight'
    """
    stage, index, rest = key.split(".", 2)
    return f"features.{_STARTS[stage] + int(index)}.{rest}"


def mobilenet_backbone(
    width: float = 1.0, last_stride: int = 1, pretrained: bool | str | os.PathLike[str] = False,
) -> MobileNetBackbone:
    """Return a :class:`MobileNetBackbone`, with ImageNet weights if asked for (:meth:`MobileNetBackbone.load_imagenet`).

    Raises:
        InputError: the weights cannot be had, or the width is not 1.
    """
    backbone = MobileNetBackbone(width, last_stride)
    if pretrained:
        check_full_width(width)
        backbone.load_imagenet(pretrained)
    return backbone
