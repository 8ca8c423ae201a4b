"""The network of AGW and CAJ: a stem per modality, non-local blocks, GeM pooling, BNNeck.

Ye, Shen, Lin, Xiang, Shao, Hoi. "Deep Learning for Person Re-identification: A Survey and Outlook", TPAMI 2021 (AGW).
Ye, Ruan, Du, Shou. "Channel Augmented Joint Learning for Visible-Infrared Recognition", ICCV 2021 (CAJ).
"""
from __future__ import annotations

__all__ = ["AGW_ARCHITECTURE", "AGWBackbone", "agw_resnet18", "agw_resnet50"]

import os
from typing import Any

import torch
from torch import nn

from torchreid_nas.architecture import ArchitectureSpec
from torchreid_nas.layers import GeMPool, NonLocal, SplitConv2d, replace_module, split_batchnorm
from torchreid_nas.models.resnet import Bottleneck, ResNetBackbone, resnet_backbone
from torchreid_nas.models.two_stream import TwoStreamNetwork

AGW_ARCHITECTURE = "stages-stem"
"""The architecture of the authors: the BatchNorm of the stem alone is split."""

# Non-local blocks behind the last blocks of a stage, by stage.
_NON_LOCAL = {2: 2, 3: 3}


class AGWBackbone(ResNetBackbone):
    """A ResNet with non-local blocks behind the last two blocks of layer2 and the last three of layer3.

    State-dict keys are those of the ResNet, and ``NL_2.*`` and ``NL_3.*`` as in the authors' code. A new non-local block
    changes nothing, so that the network starts as the ResNet. Ours: depths other than 50; ResNet-18 has two blocks in
    layer3, so two non-local ones.

    Args:
        depth: 18, 34, 50 or 101.
        width: see :class:`ResNetBackbone`.
        last_stride: see :class:`ResNetBackbone`.

    Shapes: (B, 3, H, W) -> (B, ``feature_dim``, H/16, W/16) with ``last_stride=1``.

    Raises:
        InputError: the width leaves no channel or is above 4.

    Example:
        >>> backbone = AGWBackbone(18, width=0.0625)
        >>> backbone(torch.zeros(1, 3, 32, 16)).shape, len(backbone.NL_2), len(backbone.NL_3)
        (torch.Size([1, 32, 2, 1]), 2, 2)
    """

    def __init__(self, depth: int, width: float = 1.0, last_stride: int = 1) -> None:
        super().__init__(depth, width, last_stride)
        for stage in range(1, 5):
            blocks = self._modules.pop(f"layer{stage}")
            assert isinstance(blocks, nn.Sequential), "the stages of torchreid's ResNet are sequences of blocks"
            self.add_module(f"layer{stage}", blocks)
            count = min(_NON_LOCAL.get(stage, 0), len(blocks))
            if count:
                last: Any = blocks[-1]
                channels: int = (last.conv3 if isinstance(last, Bottleneck) else last.conv2).out_channels
                # The blocks stand right behind their stage, for the order of the modules is that of the slots.
                self.add_module(f"NL_{stage}", nn.ModuleList(NonLocal(channels) for _ in range(count)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the feature map of images (B, 3, H, W)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in range(1, 5):
            blocks = self.get_submodule(f"layer{stage}")
            assert isinstance(blocks, nn.Sequential), "see __init__"
            attention = list(getattr(self, f"NL_{stage}", ()))
            first = len(blocks) - len(attention)
            for index, block in enumerate(blocks):
                x = block(x)
                if index >= first:
                    x = attention[index - first](x)
        return x


def _agw(
    depth: int, num_classes: int, architecture: ArchitectureSpec, loss: str, pretrained: bool | str | os.PathLike[str],
    width: float, last_stride: int, standardize_input: bool, classifier_dropout: float,
) -> TwoStreamNetwork:
    backbone = AGWBackbone(depth, width, last_stride)
    if pretrained:
        plain = resnet_backbone(depth, width, last_stride, pretrained)
        backbone.load_state_dict(plain.state_dict(), strict=False)
    replace_module(backbone, "conv1", SplitConv2d(backbone.conv1))
    split_batchnorm(backbone, architecture)
    return TwoStreamNetwork(
        backbone, backbone.feature_dim, num_classes, loss, standardize_input, classifier_dropout, pool=GeMPool(3.0),
    )


def agw_resnet50(
    num_classes: int, architecture: ArchitectureSpec = AGW_ARCHITECTURE, pretrained: bool | str | os.PathLike[str] = True,
    loss: str = "softmax", use_gpu: bool = True, width: float = 1.0, last_stride: int = 1,
    standardize_input: bool = False, classifier_dropout: float = 0.0,
) -> TwoStreamNetwork:
    """Return the network of AGW and CAJ: ResNet-50, 58 BatchNorm slots, 2048-d features.

    The first convolution is one per modality, whatever the architecture. Five of
    the slots are those of the non-local blocks.

    Args:
        num_classes: training identities.
        architecture: which BatchNorms are split; the authors split that of the stem, ``"stages-stem"``. Ours: any other,
            a searched one among them.
        pretrained: ImageNet weights: True (torchvision's, downloaded once), the path of a file, or False. Both stems get a copy.
        loss: see :class:`TwoStreamNetwork`.
        use_gpu: accepted for torchreid's ``build_model``; move the model with ``.to(device)``.
        width: channel multiplier.
        last_stride: stride of the last stage, 1 in both papers.
        standardize_input: see :class:`TwoStreamNetwork`.
        classifier_dropout: see :class:`TwoStreamNetwork`; 0 in both papers.

    Raises:
        InputError: the architecture is for another backbone, or the weights cannot be had.
    """
    return _agw(50, num_classes, architecture, loss, pretrained, width, last_stride, standardize_input, classifier_dropout)


def agw_resnet18(
    num_classes: int, architecture: ArchitectureSpec = AGW_ARCHITECTURE, pretrained: bool | str | os.PathLike[str] = True,
    loss: str = "softmax", use_gpu: bool = True, width: float = 1.0, last_stride: int = 1,
    standardize_input: bool = False, classifier_dropout: float = 0.0,
) -> TwoStreamNetwork:
    """Return :func:`agw_resnet50` with ResNet-18 (24 slots, 512-d features), for small runs (ours); same arguments.

    Example:
        >>> model = agw_resnet18(3, pretrained=False, width=0.0625).eval()
        >>> model(torch.zeros(2, 3, 32, 16), "infrared").shape
        torch.Size([2, 32])
    """
    return _agw(18, num_classes, architecture, loss, pretrained, width, last_stride, standardize_input, classifier_dropout)
