"""The blocks of CDNet: Lite convolutions, the Adaptive Fusion Gate, CBlock and CDBlock.

Li, Wu, Zheng. Combined Depth Space based Architecture Search For Person
Re-identification. CVPR 2021, section 3.1.

Every block maps (N, C, H, W) to (N, C', H, W) in the dtype and memory format of
its input; only :class:`ConvBN` with a stride changes height and width.
"""
from __future__ import annotations

__all__ = ["ConvBN", "LiteConv3x3", "Lite", "Standard", "FusionGate", "CBlock", "CDBlock"]

from collections import OrderedDict

import torch
from torch import nn

from torchreid_nas.errors import InputError

# A block narrows to a quarter of its output channels, its gate to a quarter of the narrow channels.
REDUCTION = 4


class ConvBN(nn.Sequential):
    """Convolution without bias, BatchNorm, and (unless ``relu=False``) ReLU.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: of the convolution; the padding keeps height and width at stride 1.
        stride: of the convolution.
        relu: False for the linear form.

    Example:
        >>> ConvBN(3, 8, kernel_size=7, stride=2)(torch.randn(2, 3, 16, 8)).shape
        torch.Size([2, 8, 8, 4])
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1, relu: bool = True
    ) -> None:
        layers = OrderedDict(
            conv=nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False),
            bn=nn.BatchNorm2d(out_channels),
        )
        if relu:
            layers["relu"] = nn.ReLU(inplace=True)
        super().__init__(layers)


class LiteConv3x3(nn.Sequential):
    """The Lite 3×3: pointwise convolution (linear), depthwise 3×3, BatchNorm, ReLU.

    The order is that of torchreid's ``LightConv3x3`` (OSNet): pointwise first.

    Args:
        channels: of input and output.

    Example:
        >>> LiteConv3x3(4)(torch.randn(2, 4, 6, 3)).shape
        torch.Size([2, 4, 6, 3])
    """

    def __init__(self, channels: int) -> None:
        super().__init__(OrderedDict(
            pointwise=nn.Conv2d(channels, channels, 1, bias=False),
            depthwise=nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            bn=nn.BatchNorm2d(channels),
            relu=nn.ReLU(inplace=True),
        ))


class Lite(nn.Sequential):
    """The Lite k×k: (k − 1) / 2 Lite 3×3 in series, whose receptive field is k×k pixels.

    Args:
        channels: of input and output.
        kernel_size: odd, at least 3; the paper uses 3, 5, 7, 9.

    Raises:
        InputError: the kernel size is even or below 3.

    Example:
        >>> len(Lite(4, kernel_size=7))
        3
    """

    def __init__(self, channels: int, kernel_size: int) -> None:
        if kernel_size < 3 or kernel_size % 2 == 0:
            raise InputError(
                f"the kernel size {kernel_size} of a Lite convolution cannot be made of 3x3 convolutions in series; "
                "choose an odd number from 3 on"
            )
        super().__init__(*(self.conv3x3(channels) for _ in range(kernel_size // 2)))

    @staticmethod
    def conv3x3(channels: int) -> nn.Module:
        """Return one of the 3×3 convolutions."""
        return LiteConv3x3(channels)


class Standard(Lite):
    """:class:`Lite` with standard 3×3 convolutions, each with BatchNorm and ReLU, to compare Lite convolutions with.

    Example:
        >>> Standard(4, kernel_size=5)[0].conv
        Conv2d(4, 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)
    """

    @staticmethod
    def conv3x3(channels: int) -> nn.Module:
        """Return one of the 3×3 convolutions."""
        return ConvBN(channels, channels, 3)


CONVOLUTIONS = {"lite": Lite, "standard": Standard}
"""The convolutions that the branches of a block can have, by the values of ``model.convolutions``."""


class FusionGate(nn.Module):
    """The Adaptive Fusion Gate: y · σ(W2 ReLU(W1 GAP(y))), a weight per image and channel.

    Args:
        channels: of input and output, a multiple of 4.

    Raises:
        InputError: the channels do not divide by 4.

    Example:
        >>> FusionGate(8)(torch.ones(2, 8, 6, 3)).shape
        torch.Size([2, 8, 6, 3])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels % REDUCTION:
            raise InputError(
                f"the fusion gate narrows to a quarter of its channels, got {channels}; "
                f"choose a multiple of {REDUCTION}"
            )
        self.fc1 = nn.Conv2d(channels, channels // REDUCTION, 1)
        self.relu = nn.ReLU(inplace=True)
        self.fc2 = nn.Conv2d(channels // REDUCTION, channels, 1)

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """Weigh the channels of y, (N, C, H, W)."""
        pooled = y.mean((2, 3), keepdim=True)
        return y * torch.sigmoid(self.fc2(self.relu(self.fc1(pooled))))


class CBlock(nn.Module):
    """The Combined Block: two Lite branches of different kernels on one tensor, and one gate for both.

    ReLU(shortcut(x) + expand(gate(branch1(z)) + gate(branch2(z)))) with
    z = reduce(x) of ``out_channels / 4`` channels. The shortcut is the identity,
    or a linear 1×1 convolution with BatchNorm where the channels change.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, a multiple of 16.
        kernel1: kernel size of the first branch.
        kernel2: kernel size of the second branch.
        gated: False adds the branches up without the gate.
        convolutions: of the branches, ``"lite"`` or ``"standard"``.

    Raises:
        InputError: ``out_channels`` is no multiple of 16, or :class:`Lite`
            refuses a kernel size.

    Example:
        >>> CBlock(16, 32, kernel1=3, kernel2=5)(torch.randn(2, 16, 6, 3)).shape
        torch.Size([2, 32, 6, 3])
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel1: int, kernel2: int, gated: bool = True, convolutions: str = "lite",
    ) -> None:
        super().__init__()
        if out_channels < 1 or out_channels % REDUCTION**2:
            raise InputError(
                f"a combined block of {out_channels} channels cannot be quartered twice (its branches and their gate); "
                f"choose a width that makes it a multiple of {REDUCTION ** 2}"
            )
        middle = out_channels // REDUCTION
        self.reduce = ConvBN(in_channels, middle)
        branch = CONVOLUTIONS[convolutions]
        self.branch1 = branch(middle, kernel1)
        self.branch2 = branch(middle, kernel2)
        self.gate = FusionGate(middle) if gated else nn.Identity()
        self.expand = ConvBN(middle, out_channels, relu=False)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else ConvBN(in_channels, out_channels, relu=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H, W)."""
        z = self.reduce(x)
        fused = self.gate(self.branch1(z)) + self.gate(self.branch2(z))
        output: torch.Tensor = self.relu(self.expand(fused) + self.shortcut(x))
        return output


class CDBlock(nn.Sequential):
    """The Combined Depth Block: ``depth`` CBlocks in series, of which only the first changes the channels.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, a multiple of 16.
        kernel1: kernel size of the first branch of every CBlock.
        kernel2: kernel size of the second branch.
        depth: number of CBlocks; the paper's space has 1 and 2.
        gated: see :class:`CBlock`.
        convolutions: see :class:`CBlock`.

    Raises:
        InputError: the depth is below 1, or :class:`CBlock` refuses the rest.

    Example:
        >>> CDBlock(16, 32, kernel1=3, kernel2=5, depth=2)(torch.randn(2, 16, 6, 3)).shape
        torch.Size([2, 32, 6, 3])
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel1: int, kernel2: int, depth: int, gated: bool = True,
        convolutions: str = "lite",
    ) -> None:
        if depth < 1:
            raise InputError(f"a combined depth block holds at least one block, got the depth {depth}")
        super().__init__(*(
            CBlock(in_channels if index == 0 else out_channels, out_channels, kernel1, kernel2, gated, convolutions)
            for index in range(depth)
        ))
        self.gated, self.convolutions = gated, convolutions
