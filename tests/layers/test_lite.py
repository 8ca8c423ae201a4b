"""The blocks of CDNet: written out by hand, counted, and refused."""
from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from torchreid_nas.errors import InputError
from torchreid_nas.layers import CBlock, CDBlock, ConvBN, FusionGate, Lite, LiteConv3x3


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def randomised(module: torch.nn.Module) -> torch.nn.Module:
    """The module in float64 with affine parameters and running statistics that matter."""
    torch.manual_seed(0)
    module.double()
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.dim() == 1:
            tensor.data.uniform_(0.5, 1.5)
    return module


def batch_norm(x: torch.Tensor, bn: torch.nn.BatchNorm2d) -> torch.Tensor:
    scale = bn.weight / torch.sqrt(bn.running_var + bn.eps)
    return (x - bn.running_mean[:, None, None]) * scale[:, None, None] + bn.bias[:, None, None]


def lite3x3(x: torch.Tensor, layer: LiteConv3x3) -> torch.Tensor:
    """The formula: pointwise as a matrix product, depthwise as a sum of nine shifted maps."""
    mixed = torch.einsum("oi,nihw->nohw", layer.pointwise.weight[:, :, 0, 0], x)
    padded, (height, width) = F.pad(mixed, (1, 1, 1, 1)), mixed.shape[2:]
    kernel = layer.depthwise.weight[:, 0]
    moved = sum(
        kernel[:, i, j, None, None] * padded[:, :, i:i + height, j:j + width] for i in range(3) for j in range(3)
    )
    return batch_norm(moved, layer.bn).clamp_min(0)


def gate(y: torch.Tensor, layer: FusionGate) -> torch.Tensor:
    hidden = (y.mean((2, 3)) @ layer.fc1.weight[:, :, 0, 0].T + layer.fc1.bias).clamp_min(0)
    weight = 1 / (1 + torch.exp(-(hidden @ layer.fc2.weight[:, :, 0, 0].T + layer.fc2.bias)))
    return y * weight[:, :, None, None]


def cblock(x: torch.Tensor, block: CBlock) -> torch.Tensor:
    def linear(y: torch.Tensor, layer: ConvBN) -> torch.Tensor:
        return batch_norm(torch.einsum("oi,nihw->nohw", layer.conv.weight[:, :, 0, 0], y), layer.bn)

    z = linear(x, block.reduce).clamp_min(0)
    branches = []
    for branch in (block.branch1, block.branch2):
        y = z
        for layer in branch:
            y = lite3x3(y, layer)
        branches.append(gate(y, block.gate))
    shortcut = linear(x, block.shortcut) if isinstance(block.shortcut, ConvBN) else x
    return (linear(sum(branches), block.expand) + shortcut).clamp_min(0)


@torch.no_grad()
def test_lite3x3_equals_its_formula():
    layer, x = randomised(LiteConv3x3(5)).eval(), torch.randn(2, 5, 6, 4, dtype=torch.float64)
    torch.testing.assert_close(layer(x), lite3x3(x, layer))


@pytest.mark.parametrize(("kernel", "layers"), [(3, 1), (5, 2), (7, 3), (9, 4)])
def test_a_lite_convolution_sees_k_by_k_pixels(kernel, layers):
    layer = Lite(1, kernel).eval()
    assert len(layer) == layers
    x = torch.zeros(1, 1, 21, 21, requires_grad=True)
    for parameter in layer.parameters():
        torch.nn.init.ones_(parameter)
    layer(x + 1)[0, 0, 10, 10].backward()
    seen = x.grad[0, 0].nonzero()
    assert (seen.amax(0) - seen.amin(0) + 1).tolist() == [kernel, kernel]


@torch.no_grad()
def test_the_gate_equals_its_formula_and_weighs_between_zero_and_one():
    layer, y = randomised(FusionGate(8)), torch.rand(3, 8, 5, 4, dtype=torch.float64) + 0.1
    out = layer(y)
    torch.testing.assert_close(out, gate(y, layer))
    ratio = out / y
    assert ((ratio > 0) & (ratio < 1)).all()
    torch.testing.assert_close(ratio, ratio[:, :, :1, :1].expand_as(ratio))


@pytest.mark.parametrize("channels", [(16, 16), (16, 32)])
@torch.no_grad()
def test_cblock_equals_its_formula_with_and_without_a_change_of_channels(channels):
    block, x = randomised(CBlock(*channels, 3, 7)).eval(), torch.randn(2, 16, 6, 4, dtype=torch.float64)
    assert isinstance(block.shortcut, ConvBN) == (channels[0] != channels[1])
    torch.testing.assert_close(block(x), cblock(x, block))


def test_cblock_passes_the_gradient_of_a_shared_gate():
    torch.manual_seed(0)
    block = randomised(CBlock(16, 16, 3, 5)).eval()
    x = torch.randn(1, 16, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(block, (x,), atol=1e-6)
    block(x).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in block.gate.parameters())


def test_only_the_first_block_of_a_series_changes_the_channels():
    block = CDBlock(16, 32, 3, 9, 2)
    assert len(block) == 2
    assert isinstance(block[0].shortcut, ConvBN) and isinstance(block[1].shortcut, torch.nn.Identity)
    x = torch.randn(2, 16, 6, 4)
    torch.testing.assert_close(block(x), block[1](block[0](x)))
    assert block(x).shape == (2, 32, 6, 4)


def test_parameters_are_those_of_the_description():
    # Lite 3x3 of c channels: c² + 9c + 2c; gate: c²/2 + c/4 + c.
    assert count(LiteConv3x3(8)) == 64 + 72 + 16
    assert count(Lite(8, 9)) == 4 * (64 + 72 + 16)
    assert count(FusionGate(8)) == 32 + 2 + 8
    block = 16 * 8 + 16 + (1 + 4) * (64 + 72 + 16) + 42 + 8 * 32 + 64
    assert count(CBlock(32, 32, 3, 9)) == block + 16 * 8
    assert count(CBlock(16, 32, 3, 9)) == block + 16 * 32 + 64


def test_channels_last_stays():
    block = CBlock(16, 32, 3, 5).to(memory_format=torch.channels_last)
    x = torch.randn(2, 16, 6, 4).to(memory_format=torch.channels_last)
    assert block(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("build", "message"), [
    (lambda: Lite(8, 4), "kernel size 4 .* choose an odd number from 3 on"),
    (lambda: Lite(8, 1), "kernel size 1 "),
    (lambda: FusionGate(6), "got 6; choose a multiple of 4"),
    (lambda: CBlock(16, 24, 3, 5), "24 channels .* multiple of 16"),
    (lambda: CBlock(16, 0, 3, 5), "0 channels"),
    (lambda: CDBlock(16, 16, 3, 5, 0), "at least one block, got the depth 0"),
])
def test_what_cannot_be_built_is_one_sentence(build, message):
    with pytest.raises(InputError, match=message):
        build()


def test_without_the_gate_a_block_adds_its_branches_up():
    block = CBlock(16, 32, 3, 5, gated=False).eval()
    x = torch.randn(2, 16, 6, 3)
    z = block.reduce(x)
    expected = torch.relu(block.expand(block.branch1(z) + block.branch2(z)) + block.shortcut(x))
    assert torch.equal(block(x), expected)


def test_standard_convolutions_stand_in_the_place_of_lite_ones():
    lite, standard = (CDBlock(16, 32, 3, 5, 2, convolutions=kind) for kind in ("lite", "standard"))
    for block, per_layer in ((lite, 8 * 8 + 9 * 8), (standard, 9 * 8 * 8)):
        branches = [branch for part in block for branch in (part.branch1, part.branch2)]
        assert [len(branch) for branch in branches] == [1, 2, 1, 2]
        assert all(sum(p.numel() for p in layer.parameters() if p.ndim == 4) == per_layer for b in branches for layer in b)
