"""ResNet feature maps for re-ID: torchreid's blocks, last stride 1, a width multiplier, ImageNet weights."""
from __future__ import annotations

__all__ = ["ResNetBackbone", "resnet_backbone"]

import os
from typing import Literal

import torch
from torch import nn

from torchreid_nas.errors import InputError
from torchreid_nas.host import BasicBlock as TorchreidBasicBlock
from torchreid_nas.host import Bottleneck as TorchreidBottleneck
from torchreid_nas.host import ResNet
from torchreid_nas.models.imagenet import check_full_width, load_imagenet


class BasicBlock(TorchreidBasicBlock):
    """torchreid's block of ResNet-18; it adds and rectifies in place only where its ReLU is in place."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, h, w) to (B, C', h', w')."""
        out = self.relu(self.bn1(self.conv1(x)))
        return _residual(self, self.bn2(self.conv2(out)), x)


class Bottleneck(TorchreidBottleneck):
    """torchreid's block of ResNet-50; it adds and rectifies in place only where its ReLU is in place."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, h, w) to (B, C', h', w')."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        return _residual(self, self.bn3(self.conv3(out)), x)


def _residual(block: BasicBlock | Bottleneck, out: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return ReLU(out + shortcut(x))."""
    shortcut = x if block.downsample is None else block.downsample(x)
    output: torch.Tensor = block.relu(out.add_(shortcut) if block.relu.inplace else out + shortcut)
    return output


_DEPTHS = {
    18: (BasicBlock, (2, 2, 2, 2)), 34: (BasicBlock, (3, 4, 6, 3)), 50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
}
"""For each depth the block, and the number of blocks of each stage."""


class ResNetBackbone(ResNet):
    """torchreid's ResNet without head, whose ``forward`` returns the feature map.

    State-dict keys are those of torchvision's and torchreid's ResNets.

    Args:
        depth: 18, 34, 50 or 101.
        width: multiplier of all channel counts, as OSNet's; 1 is the published network.
        last_stride: stride of the last stage; 1 in re-ID (Luo et al., CVPRW 2019).

    Attributes:
        feature_dim: channels of the feature map.

    Shapes: (B, 3, H, W) -> (B, ``feature_dim``, H/16, W/16) with ``last_stride=1``.

    Raises:
        InputError: the width leaves no channel or is above 4.

    Example:
        >>> ResNetBackbone(18, width=0.0625)(torch.zeros(1, 3, 32, 16)).shape
        torch.Size([1, 32, 2, 1])
    """

    def __init__(self, depth: int, width: float = 1.0, last_stride: int = 1) -> None:
        # torchreid's constructor fixes the channel counts; its blocks, _make_layer and featuremaps do not.
        nn.Module.__init__(self)
        if not 1 <= 64 * width <= 4 * 64:
            raise InputError(
                f"model.width is {width}, expected a multiplier above 0 and at most 4 that leaves one of 64 channels or more"
            )
        block, counts = _DEPTHS[depth]
        self._norm_layer = nn.BatchNorm2d
        self.inplanes, self.dilation, self.groups, self.base_width = int(64 * width), 1, 1, 64
        self.conv1 = nn.Conv2d(3, self.inplanes, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(self.inplanes)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        for stage, (blocks, stride) in enumerate(zip(counts, (1, 2, 2, last_stride))):
            planes = int(64 * 2**stage * width)
            self.add_module(f"layer{stage + 1}", self._make_layer(block, planes, blocks, stride=stride))
        self.feature_dim = self.inplanes
        self._init_params()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the feature map of images (B, 3, H, W)."""
        maps: torch.Tensor = self.featuremaps(x)
        return maps

    def load_imagenet(self, source: Literal[True] | str | os.PathLike[str], depth: int) -> None:
        """Load ImageNet weights: ``True`` for torchvision's (V1, downloaded once into torch's cache), or a file.

        Raises:
            InputError: the weights cannot be downloaded or read, or they are of another network.
        """
        load_imagenet(self, source, f"resnet{depth}", f"ResNet-{depth}")


def resnet_backbone(
    depth: int, width: float = 1.0, last_stride: int = 1, pretrained: bool | str | os.PathLike[str] = False,
) -> ResNetBackbone:
    """Return a :class:`ResNetBackbone`, with ImageNet weights if asked for (see :meth:`ResNetBackbone.load_imagenet`).

    Raises:
        InputError: the weights cannot be had, or the width is not 1.
    """
    backbone = ResNetBackbone(depth, width, last_stride)
    if pretrained:
        check_full_width(width)
        backbone.load_imagenet(pretrained, depth)
    return backbone
