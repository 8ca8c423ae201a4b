"""The two-stream network: shapes, torchreid's conventions, the neck, the standardised input, pretrained weights."""
from __future__ import annotations

import urllib.error
from pathlib import Path

import pytest
import torch
import torchreid
from torch import nn

from torchreid_nas.architecture import Architecture
from torchreid_nas.errors import InputError
from torchreid_nas.layers import SplitBatchNorm2d, bn_slots, modality_context
from torchreid_nas.models import ResNetBackbone, TwoStreamNetwork, two_stream_resnet18, two_stream_resnet50


def small(**kwargs) -> TwoStreamNetwork:
    """ResNet-18 at a quarter of its width, 128-d features, 5 classes."""
    torch.manual_seed(0)
    return two_stream_resnet18(5, **{"pretrained": False, "width": 0.25, **kwargs})


def images(count: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, 64, 32, generator=torch.Generator().manual_seed(seed))


# -- shapes -------------------------------------------------------------------


@pytest.mark.parametrize(("factory", "slots", "feature_dim"), [
    (two_stream_resnet18, 20, 512), (two_stream_resnet50, 53, 2048),
])
@torch.no_grad()
def test_slots_feature_size_and_map_size(factory, slots, feature_dim):
    model = factory(10, pretrained=False).eval()
    assert len(bn_slots(model.backbone)) == slots and model.feature_dim == feature_dim
    assert all(isinstance(model.backbone.get_submodule(slot), SplitBatchNorm2d) for slot in bn_slots(model.backbone))
    with modality_context("visible"):
        assert model.backbone(images(2)).shape == (2, feature_dim, 4, 2)
    before, after = model.features(images(2), "infrared")
    assert before.shape == after.shape == (2, feature_dim)
    assert model.classifier.weight.shape == (10, feature_dim)


@pytest.mark.parametrize(("last_stride", "size"), [(1, (4, 2)), (2, (2, 1))])
def test_the_last_stride(last_stride, size):
    model = small(architecture="share", last_stride=last_stride)
    assert model.backbone(images()).shape[2:] == size


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_at_full_width_the_backbone_is_torchreids_network_without_its_head(name):
    reference = getattr(torchreid.models, name)(num_classes=3, loss="softmax", pretrained=False).eval()
    # torchreid's models have last stride 2 here; theirs for re-ID is another entry.
    backbone = ResNetBackbone(int(name[6:]), last_stride=2).eval()
    state = {key: value for key, value in reference.state_dict().items() if not key.startswith(("classifier", "fc"))}
    backbone.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(backbone(images(2)), reference.featuremaps(images(2)))


def test_weights_start_as_torchreids_do():
    # Kaiming's normal distribution by the outputs; torch's own start has less than half the deviation.
    weight = small(width=1.0).backbone.layer3[1].conv1.weight
    assert weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.02)


def test_width_scales_the_channels():
    assert small().feature_dim == 128
    assert two_stream_resnet50(3, pretrained=False, width=0.125).feature_dim == 256
    assert small(width=1 / 64).eval()(images(), "visible").shape == (4, 8)
    for width in (0, -1, 5, 0.01):
        with pytest.raises(InputError, match=f"model.width is {width}, expected a multiplier above 0"):
            small(width=width)


# -- torchreid's conventions --------------------------------------------------


def test_forward_follows_the_loss():
    softmax, triplet = small(), small(loss="triplet")
    assert softmax(images()).shape == (4, 5)
    logits, features = triplet(images())
    assert logits.shape == (4, 5) and features.shape == (4, 128)
    before, after = triplet.features(images())
    torch.testing.assert_close(features, before)
    torch.testing.assert_close(logits, triplet.classifier(after))
    with pytest.raises(InputError, match='loss "contrastive" is unknown.*"softmax" or "triplet"'):
        small(loss="contrastive")


@pytest.mark.parametrize("loss", ["softmax", "triplet"])
@torch.no_grad()
def test_forward_in_eval_mode_gives_the_features_after_the_neck(loss):
    model = small(loss=loss).eval()
    nn.init.normal_(model.bnneck.running_mean)
    torch.testing.assert_close(model(images(), "visible"), model.features(images(), "visible")[1])
    assert not torch.equal(*model.features(images(), "visible"))


@torch.no_grad()
def test_modality_by_argument_context_or_default():
    model = small()
    for layer in model.backbone.modules():
        if isinstance(layer, SplitBatchNorm2d):
            nn.init.normal_(layer.infrared.bias)
    model.eval()
    visible, infrared = (model.features(images(), modality)[1] for modality in ("visible", "infrared"))
    assert (visible - infrared).abs().max() > 0.1
    with modality_context("infrared"):
        assert torch.equal(model(images()), infrared)
        assert torch.equal(model(images(), "visible"), visible), "the argument is nearer than the context"
    joint = model(torch.cat((images(), images())), "both")
    torch.testing.assert_close(joint, torch.cat((visible, infrared)))
    with pytest.raises(InputError, match="eval mode"):
        model(images())
    model.train()
    assert model(images()).shape == (4, 5), "a training batch is a joint one"


def test_a_shared_network_needs_no_modality():
    assert small(architecture="share").eval()(images()).shape == (4, 128)


# -- neck and classifier ------------------------------------------------------


def test_the_classifier_has_no_bias_and_starts_near_zero():
    weight = two_stream_resnet18(400, pretrained=False).classifier.weight
    assert small().classifier.bias is None
    assert weight.std().item() == pytest.approx(0.001, rel=0.05)


def test_the_necks_shift_is_never_trained_not_even_by_open_all_layers():
    model = small()
    torchreid.utils.open_all_layers(model)
    assert "bnneck.bias" not in dict(model.named_parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model(images()).square().sum().backward()
    optimizer.step()
    assert model.bnneck.bias.grad is None and not model.bnneck.bias.any()
    assert model.bnneck.weight.grad.abs().sum() > 0


def test_the_necks_keys_are_those_of_a_batchnorm():
    assert set(small().bnneck.state_dict()) == set(nn.BatchNorm1d(128).state_dict())


def test_the_neck_is_a_batchnorm_with_its_shift():
    neck, reference = small().bnneck, nn.BatchNorm1d(128)
    shift = torch.randn(128)
    neck.load_state_dict({**reference.state_dict(), "bias": shift})
    x = torch.randn(6, 128)
    torch.testing.assert_close(neck(x), reference(x) + shift)


# -- standardised input -------------------------------------------------------


def test_a_standardised_input_makes_the_sensors_gain_and_offset_irrelevant():
    x = torch.cat((images(4, 1), images(4, 2))).double()
    changed = x.clone()
    gain = torch.tensor([0.3, 2.0, 5.0], dtype=torch.float64)[:, None, None]
    changed[4:] = gain * changed[4:] + torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)[:, None, None]
    differences = {}
    for switch in (True, False):
        model = small(architecture="share", standardize_input=switch).double()
        before, _ = model.features(x, "both")
        differences[switch] = (model.features(changed, "both")[0] - before).abs().max().item()
    # Exact up to BatchNorm's epsilon, 1e-5 of a variance of 0.09 and more.
    assert differences[True] < 1e-3 < 0.1 < differences[False]


def test_a_standardised_input_has_no_parameters_and_is_no_slot():
    model, plain = small(standardize_input=True), small()
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in plain.parameters())
    assert bn_slots(model.backbone) == bn_slots(plain.backbone)


def test_a_standardised_input_evaluates_with_the_modalitys_own_statistics():
    model = small(architecture="share", standardize_input=True)
    x = torch.cat((images(4, 1), images(4, 2) + 3))
    for _ in range(100):
        model.features(x)
    model.eval()
    with modality_context("infrared"):
        standardized = model.standardize(x[4:])
    torch.testing.assert_close(standardized.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-2)
    torch.testing.assert_close(standardized.std((0, 2, 3)), torch.ones(3), rtol=0, atol=1e-2)
    with pytest.raises(InputError, match="eval mode"):
        model(x)


# -- architecture and registry ------------------------------------------------


def test_the_architecture_decides_which_slots_are_split(tmp_path):
    slots = bn_slots(small(architecture="share").backbone)
    architecture = Architecture.preset("random-4", slots)
    architecture.save(tmp_path / "architecture.json")
    for spec in (architecture, "random-4", tmp_path / "architecture.json", architecture.to_ints()):
        backbone = small(architecture=spec).backbone
        split = [slot for slot in slots if isinstance(backbone.get_submodule(slot), SplitBatchNorm2d)]
        assert split == [slot for slot, choice in architecture.choices if choice == "split"]
    with pytest.raises(InputError, match="53 norm slots, this one has 20"):
        small(architecture=[1] * 53)


# -- pretrained weights -------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A file in torchvision's layout, classifier included, step counters left out as in torchvision's V1 files."""
    torch.manual_seed(1)
    state = torchreid.models.resnet18(num_classes=4, pretrained=False).state_dict()
    state = {key: value + 0.1 * torch.randn_like(value) for key, value in state.items() if value.is_floating_point()}
    state = {key.replace("classifier", "fc"): value for key, value in state.items()}
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(state, path)
    return path


@pytest.mark.parametrize("wrap", [
    lambda state: state,
    lambda state: {"state_dict": state, "epoch": 3},
    lambda state: {f"module.{key}": value for key, value in state.items()},
], ids=["plain", "state_dict", "module."])
def test_pretrained_weights_reach_every_batchnorm_of_a_slot(tmp_path, weights, wrap):
    state = torch.load(weights)
    torch.save(wrap(state), tmp_path / "wrapped.pth")
    model = two_stream_resnet18(5, "first-10", pretrained=tmp_path / "wrapped.pth")
    own = model.backbone.state_dict()
    assert torch.equal(own["conv1.weight"], state["conv1.weight"])
    for name in ("weight", "bias", "running_mean", "running_var"):
        for branch in ("visible", "infrared"):
            assert torch.equal(own[f"bn1.{branch}.{name}"], state[f"bn1.{name}"])
        assert torch.equal(own[f"layer4.1.bn2.{name}"], state[f"layer4.1.bn2.{name}"])


def test_pretrained_weights_of_another_network_name_file_and_key(weights):
    message = 'do not fit ResNet-50: "layer1.0.conv1.weight" is .64, 64, 3, 3., expected .64, 64, 1, 1.'
    with pytest.raises(InputError, match=message) as error:
        two_stream_resnet50(5, pretrained=weights)
    assert str(weights) in str(error.value)


def test_pretrained_weights_without_a_key_or_without_tensors(tmp_path, weights):
    state = torch.load(weights)
    del state["layer4.1.bn2.running_var"]
    torch.save(state, tmp_path / "part.pth")
    with pytest.raises(InputError, match='do not fit ResNet-18: "layer4.1.bn2.running_var" is missing'):
        two_stream_resnet18(5, pretrained=tmp_path / "part.pth")
    for content in ([1, 2], {"state_dict": 3}, {0: torch.zeros(1)}):
        torch.save(content, tmp_path / "other.pth")
        with pytest.raises(InputError, match="other.pth"):
            two_stream_resnet18(5, pretrained=tmp_path / "other.pth")


def test_a_missing_or_truncated_weights_file_is_named(tmp_path, weights):
    with pytest.raises(InputError, match="does not exist") as error:
        two_stream_resnet18(5, pretrained=tmp_path / "absent.pth")
    assert "absent.pth" in str(error.value)
    (tmp_path / "half.pth").write_bytes(weights.read_bytes()[:10_000])
    with pytest.raises(InputError, match="half.pth.*truncated"):
        two_stream_resnet18(5, pretrained=tmp_path / "half.pth")


def test_without_network_one_sentence_names_the_file_and_the_key(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(InputError, match="could not be downloaded .*Name or service not known") as error:
        two_stream_resnet18(5)
    message = str(error.value)
    assert "resnet18-f37072fd.pth" in message and str(tmp_path / "checkpoints") in message
    assert "model.pretrained PATH" in message and "\n" not in message


def test_torchvisions_cache_is_used_without_network(tmp_path, monkeypatch, weights):
    def offline(*args, **kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    cache = tmp_path / "checkpoints"
    cache.mkdir()
    (cache / "resnet18-f37072fd.pth").write_bytes(weights.read_bytes())
    model = two_stream_resnet18(5, "share")
    assert torch.equal(model.backbone.conv1.weight, torch.load(weights)["conv1.weight"])


def test_pretrained_weights_exist_at_full_width_only(weights):
    for pretrained in (True, weights):
        with pytest.raises(InputError, match="model.width 1 only, got 0.5; set model.pretrained False"):
            two_stream_resnet18(5, pretrained=pretrained, width=0.5)
