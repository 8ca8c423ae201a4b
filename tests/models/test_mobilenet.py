"""MobileNetV2 as a two-stream backbone: torchvision's network, its stages, its weights."""
from __future__ import annotations

import pytest
import torch
import torchvision

from torchreid_nas.errors import InputError
from torchreid_nas.layers import SplitBatchNorm2d, bn_slots
from torchreid_nas.models import MobileNetBackbone, two_stream_mobilenetv2
from torchreid_nas.models.size import model_size


@pytest.fixture(scope="module")
def network() -> torchvision.models.MobileNetV2:
    """torchvision's network with statistics and scales that differ from channel to channel."""
    torch.manual_seed(0)
    network = torchvision.models.mobilenet_v2(weights=None).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
    return network


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "mobilenet_v2.pth"
    torch.save(network.state_dict(), path)
    return path


def images(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 64, 32, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_with_last_stride_2_the_features_are_torchvisions(network, weights):
    model = two_stream_mobilenetv2(5, "stages-layer1+layer3", pretrained=weights, last_stride=2).eval()
    expected = network.features(images()).mean((2, 3))
    for modality in ("visible", "infrared"):
        torch.testing.assert_close(model.features(images(), modality)[0], expected)


@torch.no_grad()
def test_slots_feature_size_and_map_size():
    model = two_stream_mobilenetv2(10, pretrained=False).eval()
    slots = bn_slots(model.backbone)
    assert len(slots) == 52 and model.feature_dim == 1280
    assert all(isinstance(model.backbone.get_submodule(slot), SplitBatchNorm2d) for slot in slots)
    assert model.features(images(), "visible")[0].shape == (2, 1280)
    plain = MobileNetBackbone().eval()
    assert plain(images()).shape == (2, 1280, 4, 2)


def test_splitting_all_slots_adds_34112_parameters():
    sizes = [model_size(two_stream_mobilenetv2(1, preset, pretrained=False), 96, 48) for preset in ("split", "share")]
    assert sizes[0][0] - sizes[1][0] == 34_112 and sizes[0][2] == sizes[1][2]


def test_a_narrow_network_has_channels_in_multiples_of_8_and_all_features():
    model = two_stream_mobilenetv2(3, pretrained=False, width=0.1)
    assert model.feature_dim == 1280
    assert {model.backbone.get_submodule(slot).visible.num_features % 8 for slot in bn_slots(model.backbone)} == {0}
    with pytest.raises(InputError, match="model.width is 0, expected a multiplier above 0"):
        two_stream_mobilenetv2(3, pretrained=False, width=0)


def test_weights_of_another_network_name_file_and_key(tmp_path, weights):
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(InputError, match='resnet18.pth" do not fit MobileNetV2: "features.0.0.weight" is missing'):
        two_stream_mobilenetv2(3, pretrained=tmp_path / "resnet18.pth")
    torch.save(torchvision.models.mobilenet_v2(weights=None, width_mult=1.4).state_dict(), tmp_path / "wide.pth")
    with pytest.raises(InputError, match=r'wide.pth" do not fit MobileNetV2: "features.0.0.weight" is \(48, 3, 3, 3\)'):
        two_stream_mobilenetv2(3, pretrained=tmp_path / "wide.pth")
    with pytest.raises(InputError, match="model.width 1 only, got 0.5; set model.pretrained False"):
        two_stream_mobilenetv2(3, pretrained=weights, width=0.5)
