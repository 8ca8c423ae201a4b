"""CDNet and CNet (Li et al., CVPR 2021): searched lightweight networks of combined blocks."""
from __future__ import annotations

__all__ = ["CDNetBackbone", "CDNet", "cdnet", "cdnet_x0_75", "cdnet_x0_5", "cdnet_x0_25", "cnet"]

import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from torchreid_nas.architecture import Architecture, ArchitectureSpec
from torchreid_nas.errors import InputError
from torchreid_nas.genotypes import candidate_kernels
from torchreid_nas.hub.catalogue import initial_entry
from torchreid_nas.hub.store import fetch
from torchreid_nas.layers import CDBlock, ConvBN
from torchreid_nas.models.cdnet_weights import load_pretrained
from torchreid_nas.models.initial import init_params
from torchreid_nas.models.necked import NeckedNetwork

_STEM_CHANNELS = 64
_STAGE_CHANNELS = (256, 384, 512)
# Width 1/8 is the finest step at which the channels of every block can be quartered twice.
_WIDTH_STEP = 0.125

BlockMaker = Callable[[str, int, int], nn.Module]


class CDNetBackbone(nn.Module):
    """CDNet's macro architecture: stem, three stages of two blocks, a DownSample after the first two.

    Args:
        make_block: a function of block (``"stage1.0"`` …), input and output
            channels that returns the layer; :meth:`from_architecture` makes
            CDBlocks, a supernet makes mixtures.
        width: multiplier of all channel counts (64, 256, 384, 512), as OSNet's;
            a multiple of 0.125 up to 4.
        small_images: take the stem of the authors' CIFAR networks, a 3×3
            convolution at stride 1 without pooling, instead of 7×7 at stride 2
            and max pooling.

    Attributes:
        stage_dims: channels of the three stages' maps.
        feature_dim: channels of the last map.
        stride: factor by which images shrink, 16, or 4 with the stem for small images.

    Weights start as those of the authors: convolutions Kaiming normal,
    BatchNorms 1 and 0, biases 0.

    Raises:
        InputError: the width gives a block channels that cannot be quartered twice.

    Example:
        >>> CDNetBackbone.from_architecture("cnet", width=0.125)(torch.zeros(1, 3, 64, 32)).shape
        torch.Size([1, 64, 4, 2])
    """

    stage1: nn.Module
    stage2: nn.Module
    stage3: nn.Module

    def __init__(self, make_block: BlockMaker, width: float = 1.0, small_images: bool = False) -> None:
        super().__init__()
        if not 0 < width <= 4 or width % _WIDTH_STEP:
            given = " ".join(f"{base * width:g}" for base in _STAGE_CHANNELS)
            raise InputError(
                f"the width {width} gives CDNet's stages {given} channels, expected multiples of 16; "
                f"choose a multiple of {_WIDTH_STEP} above 0 and at most 4"
            )
        channels = int(_STEM_CHANNELS * width)
        self.stage_dims = tuple(int(base * width) for base in _STAGE_CHANNELS)
        self.feature_dim = self.stage_dims[-1]
        self.stride = 4 if small_images else 16
        self.stem = ConvBN(3, channels, 3) if small_images else ConvBN(3, channels, 7, stride=2)
        if not small_images:
            self.stem.add_module("pool", nn.MaxPool2d(3, stride=2, padding=1))
        for stage, out_channels in enumerate(self.stage_dims, start=1):
            layers: OrderedDict[str, nn.Module] = OrderedDict(
                (str(block), make_block(f"stage{stage}.{block}", in_channels, out_channels))
                for block, in_channels in enumerate((channels, out_channels))
            )
            if stage < len(self.stage_dims):
                layers["downsample"] = ConvBN(out_channels, out_channels)
                layers["downsample"].add_module("pool", nn.AvgPool2d(2))
            self.add_module(f"stage{stage}", nn.Sequential(layers))
            channels = out_channels
        init_params(self)

    @classmethod
    def from_architecture(
        cls, architecture: ArchitectureSpec = "cdnet", width: float = 1.0, small_images: bool = False,
        fusion_gate: bool = True, convolutions: str = "lite",
    ) -> CDNetBackbone:
        """Return the backbone of an architecture of CDNet's spaces; see :meth:`Architecture.genotype` and :class:`CBlock`."""
        choices = dict(Architecture.genotype(architecture).choices)

        def make_block(slot: str, in_channels: int, out_channels: int) -> CDBlock:
            return CDBlock(in_channels, out_channels, *candidate_kernels(choices[slot]), fusion_gate, convolutions)

        return cls(make_block, width, small_images)

    def stage_maps(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the maps of the second stage (after its DownSample) and of the third stage.

        Shapes: (B, 3, H, W) -> (B, C_2, H/16, W/16), (B, C_3, H/16, W/16); with
        the stem for small images H/4 and W/4.

        Raises:
            InputError: the images are so small that a DownSample has nothing to average.
        """
        after_stem = self.stem(x)
        if min(after_stem.shape[2:]) < 4:
            raise InputError(
                f"images of {x.shape[2]}x{x.shape[3]} are too small for CDNet, which shrinks them {self.stride} times; "
                f"give at least {self.stride}x{self.stride}"
            )
        second = self.stage2(self.stage1(after_stem))
        return second, self.stage3(second)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the last stage's map, (B, ``feature_dim``, H/16, W/16)."""
        return self.stage_maps(x)[-1]


class CDNet(NeckedNetwork):
    """CDNet with a neck: :class:`CDNetBackbone` -> :class:`FBLNeck`, :class:`BLNeck` or another.

    Args:
        num_classes: training identities.
        architecture: a point of the combined (depth) space: ``"cdnet"`` and
            ``"cnet"`` are the published ones; else see :meth:`Architecture.genotype`.
        neck: one of :data:`~torchreid_nas.neck_names.NECKS`; ``"fblneck"`` (768-d features at width 1) and
            ``"blneck"`` (512-d) are the paper's.
        width: see :class:`CDNetBackbone`.
        dropout: of the neck; 0.2 in the paper.
        loss: see :class:`~torchreid_nas.models.necked.NeckedNetwork`.
        small_images: see :class:`CDNetBackbone`.
        fusion_gate: whether the blocks have their gate, as in the paper.
        convolutions: of the blocks' branches, ``"lite"`` as in the paper, or ``"standard"``.

    Raises:
        InputError: the neck, the loss or a candidate is unknown, or the width does not fit.

    Example:
        >>> model = CDNet(3, "cnet", width=0.125).eval()
        >>> model(torch.zeros(1, 3, 64, 32)).shape
        torch.Size([1, 320])
    """

    def __init__(
        self, num_classes: int, architecture: ArchitectureSpec = "cdnet", neck: str = "fblneck", width: float = 1.0,
        dropout: float = 0.2, loss: str = "softmax", small_images: bool = False, fusion_gate: bool = True,
        convolutions: str = "lite",
    ) -> None:
        architecture = Architecture.genotype(architecture)
        backbone = CDNetBackbone.from_architecture(architecture, width, small_images, fusion_gate, convolutions)
        super().__init__(backbone, neck, num_classes, dropout, loss)
        self.architecture = architecture


def cdnet(
    num_classes: int, loss: str = "softmax", pretrained: bool | str | os.PathLike[str] = False, use_gpu: bool = True,
    architecture: ArchitectureSpec = "cdnet", neck: str = "fblneck", width: float = 1.0, dropout: float = 0.2,
    small_images: bool = False, fusion_gate: bool = True, convolutions: str = "lite",
) -> CDNet:
    """Return the published CDNet: 1.8 M parameters, 955 M multiply-adds at 256×128, 768-d features.

    Args:
        num_classes: training identities.
        loss: see :class:`CDNet`.
        pretrained: False, True (the authors' ImageNet weights, downloaded once
            by the model zoo), or the path of weights in this package's or the
            authors' layout. All weights of the backbone are loaded, and those of the neck that fit.
        use_gpu: accepted for torchreid's ``build_model``; move the model with ``.to(device)``.
        architecture: see :class:`CDNet`.
        neck: see :class:`CDNet`.
        width: channel multiplier.
        dropout: of the neck.
        small_images: the stem of the authors' CIFAR networks.
        fusion_gate: see :class:`CDNet`.
        convolutions: see :class:`CDNet`.

    Raises:
        InputError: :class:`CDNet` refuses an argument, or the weights cannot be had.
    """
    model = CDNet(num_classes, architecture, neck, width, dropout, loss, small_images, fusion_gate, convolutions)
    if pretrained:
        weights = _imagenet_weights(model.architecture, width, small_images) if pretrained is True else pretrained
        load_pretrained(model, weights)
    return model


def _imagenet_weights(architecture: Architecture, width: float, small_images: bool) -> Path:
    """Return the file of the zoo's ImageNet weights for a backbone.

    Raises:
        InputError: the zoo has no weights for the backbone, or the file cannot be had.
    """
    entry = initial_entry(architecture, width=width, small_images=small_images)
    if entry is None:
        raise InputError(
            f"the model zoo has no pretrained weights for this CDNet ({architecture}; width {width:g}"
            f"{', for small images' if small_images else ''}), only for the published one at width 1; name a file of "
            "weights (pretrained=PATH), or train from scratch (pretrained=False)"
        )
    return fetch(entry)


def cdnet_x0_75(
    num_classes: int, loss: str = "softmax", pretrained: bool | str | os.PathLike[str] = False, use_gpu: bool = True,
    **options: Any,
) -> CDNet:
    """Return :func:`cdnet` with 0.75 of the channels."""
    return cdnet(num_classes, loss, pretrained, use_gpu, width=0.75, **options)


def cdnet_x0_5(
    num_classes: int, loss: str = "softmax", pretrained: bool | str | os.PathLike[str] = False, use_gpu: bool = True,
    **options: Any,
) -> CDNet:
    """Return :func:`cdnet` with half of the channels."""
    return cdnet(num_classes, loss, pretrained, use_gpu, width=0.5, **options)


def cdnet_x0_25(
    num_classes: int, loss: str = "softmax", pretrained: bool | str | os.PathLike[str] = False, use_gpu: bool = True,
    **options: Any,
) -> CDNet:
    """Return :func:`cdnet` with a quarter of the channels."""
    return cdnet(num_classes, loss, pretrained, use_gpu, width=0.25, **options)


def cnet(
    num_classes: int, loss: str = "softmax", pretrained: bool | str | os.PathLike[str] = False, use_gpu: bool = True,
    **options: Any,
) -> CDNet:
    """Return the published CNet of the combined space (all depths 1), 1.4 M parameters; options as :func:`cdnet`."""
    return cdnet(num_classes, loss, pretrained, use_gpu, **{"architecture": "cnet", **options})
