"""Separate convolutions: each modality goes through its own, and deployed networks hold one of them."""
import pytest
import torch
from torch import nn

from torchreid_nas.errors import InputError
from torchreid_nas.layers import SplitConv2d, bn_slots, modality_context, split_batchnorm, split_convolutions
from torchreid_nas.models import two_stream_resnet18


def network(architecture="stages-stem+layer1"):
    torch.manual_seed(0)
    model = two_stream_resnet18(3, architecture, pretrained=False, width=0.0625)
    split_convolutions(model.backbone)
    return model


def test_the_convolution_of_each_split_slot_is_split_and_no_other():
    backbone = network().backbone
    split = {name for name, module in backbone.named_modules() if isinstance(module, SplitConv2d)}
    assert split == {"conv1", *(f"layer1.{block}.conv{number}" for block in (0, 1) for number in (1, 2))}
    assert len(bn_slots(backbone)) == 20


def test_a_joint_batch_equals_each_half_through_its_own_convolution():
    layer = SplitConv2d(nn.Conv2d(3, 4, 3))
    nn.init.ones_(layer.infrared.weight)
    images = torch.randn(6, 3, 8, 4)
    expected = torch.cat([layer.visible(images[:3]), layer.infrared(images[3:])])
    assert torch.equal(layer(images), expected)
    with modality_context("infrared"):
        assert torch.equal(layer.eval()(images), layer.infrared(images))


def test_both_convolutions_start_from_the_same_weights_and_learn_apart():
    model = network("split")
    stem = model.backbone.conv1
    assert torch.equal(stem.visible.weight, stem.infrared.weight)
    model(torch.randn(4, 3, 32, 16)).square().mean().backward()
    assert not torch.equal(stem.visible.weight.grad, stem.infrared.weight.grad)


@pytest.mark.parametrize("modality", ["visible", "infrared"])
def test_the_deployed_network_of_a_modality_equals_its_features(modality):
    model = network()
    for module in model.modules():
        if isinstance(module, SplitConv2d):
            nn.init.normal_(module.infrared.weight, std=0.1)
    images = torch.randn(2, 3, 32, 16)
    with torch.no_grad():
        expected, deployed = model.eval()(images, modality), model.deploy(modality)
        assert not any(isinstance(module, SplitConv2d) for module in deployed.modules())
        torch.testing.assert_close(deployed(images), expected, rtol=1e-4, atol=1e-5)


def test_a_batchnorm_without_a_convolution_before_it_is_refused():
    model = split_batchnorm(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1)), "split")
    with pytest.raises(InputError, match='the split norm "0" has no convolution of 3 channels of its own'):
        split_convolutions(model)
