"""Joint batches whose visible part is longer: every layer that knows the modalities against its plain form."""
from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from torchreid_nas.errors import InputError
from torchreid_nas.layers import (
    MixedBatchNorm2d,
    MixedNorm,
    SplitBatchNorm2d,
    SplitConv2d,
    SplitNorm,
    joint_lengths,
    modality_context,
)
from torchreid_nas.layers.modality import visible_length

LENGTHS = [(8, 4), (4, 4), (3, 5)]


def batch(lengths, channels=5):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(sum(lengths), channels, 4, 3, generator=generator, dtype=torch.float64)
    x[lengths[0]:] = 0.25 * x[lengths[0]:] + 1.5
    return x, torch.randn(x.shape, generator=generator, dtype=torch.float64)


def randomised(layer):
    torch.manual_seed(0)
    layer = layer.double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return layer


def plain_mixed(layer, x, length):
    share, split = layer.probabilities()
    return share * layer.share(x) + split * torch.cat((layer.visible(x[:length]), layer.infrared(x[length:])))


def plain_split(layer, x, length):
    return torch.cat((layer.visible(x[:length]), layer.infrared(x[length:])))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("make, plain", [
    (lambda: MixedBatchNorm2d(5), plain_mixed), (lambda: SplitBatchNorm2d(5), plain_split),
    (lambda: SplitConv2d(nn.Conv2d(5, 5, 3, padding=1)), plain_split), (lambda: SplitNorm(nn.GroupNorm(1, 5)), plain_split),
    (lambda: MixedNorm(nn.GroupNorm(1, 5)), plain_mixed),
])
def test_values_gradients_and_statistics_equal_the_plain_form(make, plain, lengths, channels_last):
    layer = randomised(make())
    other = copy.deepcopy(layer)
    x, upstream = batch(lengths)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    ours, theirs = (x.clone().contiguous(memory_format=memory_format).requires_grad_() for _ in range(2))
    with joint_lengths(*lengths):
        output = layer(ours)
    # The backward pass runs outside of the declaration.
    output.backward(upstream)
    expected = plain(other, theirs, lengths[0])
    expected.backward(upstream)
    torch.testing.assert_close((output, ours.grad), (expected, theirs.grad), rtol=1e-9, atol=1e-9)
    for (name, own), their in zip(layer.named_parameters(), other.parameters()):
        torch.testing.assert_close(own.grad, their.grad, rtol=1e-9, atol=1e-9, msg=name)
    for (name, own), their in zip(layer.named_buffers(), other.buffers()):
        torch.testing.assert_close(own, their, rtol=1e-9, atol=1e-9, msg=name)


@pytest.mark.parametrize("layer", [SplitBatchNorm2d(5), MixedBatchNorm2d(5), SplitConv2d(nn.Conv2d(5, 5, 1))])
def test_frozen_layers_and_single_modalities_take_their_part(layer):
    layer = layer.eval()
    x = torch.randn(12, 5, 4, 3)
    with joint_lengths(8, 4), modality_context("both"):
        joint = layer(x)
    for part, modality in ((slice(0, 8), "visible"), (slice(8, 12), "infrared")):
        with joint_lengths(8, 4), modality_context(modality):
            torch.testing.assert_close(layer(x[part]), joint[part])


def test_equal_lengths_are_the_undeclared_halves_to_the_bit():
    layer = MixedBatchNorm2d(5)
    x = torch.randn(8, 5, 4, 3)
    with joint_lengths(4, 4):
        declared = copy.deepcopy(layer)(x)
    assert torch.equal(declared, layer(x))


def test_a_batch_of_other_lengths_than_declared_is_refused():
    layer = SplitBatchNorm2d(5)
    with joint_lengths(8, 4):
        assert visible_length(24) == 16
        with pytest.raises(InputError, match="8 visible and 4 infrared images is declared by joint_lengths, got 10 images"):
            layer(torch.randn(10, 5, 4, 3))
    with pytest.raises(InputError, match="as many visible as infrared images, got 9 images"):
        layer(torch.randn(9, 5, 4, 3))
    with pytest.raises(InputError, match="0 visible and 4 infrared images has an empty part"), joint_lengths(0, 4):
        pass
