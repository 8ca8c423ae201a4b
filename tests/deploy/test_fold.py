"""The test-time form: same features, nothing left that inference does not need, and it exports."""
from __future__ import annotations

import copy

import pytest
import torch
from randomised import NORMS, assert_same, count, images, narrow_cdnet, randomised, two_stream, two_stream_on_cdnet
from torch import nn

from torchreid_nas.deploy.fold import DeployedNetwork
from torchreid_nas.errors import InputError
from torchreid_nas.layers import BNNeck, MixedBatchNorm2d, SplitBatchNorm2d, bn_slots, modality_context, split_batchnorm
from torchreid_nas.models import (
    cdnet,
    cdnet_x0_25,
    cnet,
    two_stream_resnet18,
    two_stream_resnet50,
)

# -- same features ------------------------------------------------------------

TWO_STREAM = {
    "share": lambda: two_stream("share"),
    "split": two_stream,
    "first-7": lambda: two_stream("first-7"),
    "random-3": lambda: two_stream("random-3"),
    "standardized input": lambda: two_stream("random-3", standardize_input=True),
    "last stride 2": lambda: two_stream(last_stride=2),
    "resnet50": lambda: randomised(two_stream_resnet50(5, "random-2", pretrained=False, width=0.125)),
    "cdnet backbone": two_stream_on_cdnet,
}
CDNETS = {
    "fblneck": narrow_cdnet,
    "blneck": lambda: narrow_cdnet(neck="blneck"),
    "triplet": lambda: narrow_cdnet(loss="triplet"),
    "small images": lambda: narrow_cdnet(small_images=True),
    "cnet": lambda: randomised(cnet(5, width=0.125)),
}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)], ids=str)
@pytest.mark.parametrize("name", TWO_STREAM)
@torch.no_grad()
def test_two_stream_features_per_modality(name, dtype, tolerance):
    model, x = TWO_STREAM[name]().to(dtype), images().to(dtype)
    for modality in ("visible", "infrared"):
        before, after = model.features(x, modality)
        assert_same(model.deploy(modality)(x), after, tolerance)
        assert_same(model.deploy(modality, feature="before BNNeck")(x), before, tolerance)
    assert not torch.equal(before, after)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)], ids=str)
@pytest.mark.parametrize("name", CDNETS)
@torch.no_grad()
def test_cdnet_features(name, dtype, tolerance):
    model, x = CDNETS[name]().to(dtype), images().to(dtype)
    deployed = model.deploy()
    assert_same(deployed(x), model(x), tolerance)
    assert deployed.feature_dim == deployed(x).shape[1] == model.feature_dim


@torch.no_grad()
def test_the_networks_of_the_modalities_differ_only_where_split():
    for architecture, same in (("split", False), ("share", True)):
        model = two_stream(architecture)
        visible, infrared = model.deploy("visible"), model.deploy("infrared")
        assert torch.equal(visible(images()), infrared(images())) is same
        assert (visible.modality, infrared.modality) == ("visible", "infrared")
    assert torch.equal(model.deploy()(images()), visible(images())), "a shared network needs no modality"


@torch.no_grad()
def test_a_split_cdnet_has_a_network_per_modality():
    torch.manual_seed(0)
    model = randomised(split_batchnorm(cdnet_x0_25(5), "random-1"))
    with modality_context("infrared"):
        expected = model(images())
    assert_same(model.deploy("infrared")(images()), expected, 1e-4)


@torch.no_grad()
def test_other_images_than_the_traces():
    model = narrow_cdnet().double()
    deployed = model.deploy()
    for shape in ((1, 3, 33, 47), (5, 3, 128, 64)):
        x = torch.randn(shape, dtype=torch.float64)
        torch.testing.assert_close(deployed(x), model(x), rtol=1e-9, atol=1e-12)
    with pytest.raises(InputError, match="too small for CDNet"):
        deployed(torch.zeros(1, 3, 8, 8, dtype=torch.float64))


# -- what is left -------------------------------------------------------------


@pytest.mark.parametrize(("build", "slots"), [
    (two_stream, 20),
    (lambda: randomised(two_stream_resnet50(5, pretrained=False, width=0.125)), 53),
    (two_stream_on_cdnet, None),
], ids=["resnet18", "resnet50", "cdnet"])
def test_of_a_two_stream_network_only_the_necks_batchnorm_is_left(build, slots):
    model = build()
    assert slots in (None, len(bn_slots(model.backbone))) and bn_slots(model.backbone)
    deployed = model.deploy("visible")
    assert count(deployed) == count(deployed, SplitBatchNorm2d) == count(deployed, nn.Linear) == 0
    assert [type(module) for module in deployed.modules() if isinstance(module, NORMS)] == [BNNeck]
    assert count(model.deploy("visible", feature="before BNNeck"), NORMS) == 0


def test_standardising_before_a_padded_convolution_is_not_folded():
    model = two_stream(standardize_input=True)
    deployed = model.deploy("infrared")
    assert count(deployed) == 1
    assert torch.equal(deployed.network.standardize.running_mean, model.standardize.infrared.running_mean)


@pytest.mark.parametrize("neck", ["fblneck", "blneck"])
def test_of_cdnet_convolutions_are_left(neck):
    model = narrow_cdnet(neck=neck)
    deployed = model.deploy()
    assert count(model, nn.Dropout) == 1
    assert count(deployed, NORMS) == count(deployed, nn.Linear) == count(deployed, nn.Dropout) == 0
    assert count(deployed, nn.Conv2d) == count(model, nn.Conv2d)


@pytest.mark.parametrize(("build", "published", "channels"), [
    # Channels of the BatchNorms, stem and stages: 64 + 2,176 + 3,744 + 4,352 and 64 + 1,920 + 3,072 + 3,072.
    (cdnet, 1_796_600, 10_336), (cnet, 1_436_240, 8_128),
])
def test_a_published_scale_and_shift_per_channel_become_one_bias(build, published, channels):
    deployed = build(5).deploy()
    assert sum(parameter.numel() for parameter in deployed.parameters()) == published - channels
    assert not list(deployed.buffers())


def test_parameters_of_a_two_stream_network():
    model = two_stream("split")
    deployed = model.deploy("visible")
    weights = sum(conv.weight.numel() for conv in model.modules() if isinstance(conv, nn.Conv2d))
    shifts = sum(conv.out_channels for conv in model.modules() if isinstance(conv, nn.Conv2d))
    assert sum(parameter.numel() for parameter in deployed.parameters()) == weights + shifts + model.feature_dim


def test_the_original_is_left_as_it_was():
    for model, arguments in ((two_stream("random-3"), ("visible",)), (narrow_cdnet(), ())):
        model.train()
        state, kinds = copy.deepcopy(model.state_dict()), [type(module) for module in model.modules()]
        deployed = model.deploy(*arguments)
        assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
        assert [type(module) for module in model.modules()] == kinds and all(m.training for m in model.modules())
        assert all(parameter.requires_grad for parameter in model.parameters())
        assert not any(m._forward_hooks for network in (model, deployed) for m in network.modules())
        memory = {parameter.data_ptr() for parameter in model.parameters()}
        assert not memory & {parameter.data_ptr() for parameter in deployed.parameters()}


def test_gradients_are_off_and_train_mode_changes_nothing():
    deployed = two_stream(standardize_input=True).deploy("visible")
    assert not any(parameter.requires_grad for parameter in deployed.parameters())
    features = deployed(images())
    assert not features.requires_grad
    state = copy.deepcopy(deployed.state_dict())
    deployed.train()
    assert torch.equal(deployed(images()), features) and not any(module.training for module in deployed.modules())
    assert all(torch.equal(value, state[key]) for key, value in deployed.state_dict().items())


# -- export, files ------------------------------------------------------------

DEPLOYED = {
    "two-stream": lambda: two_stream().deploy("infrared"),
    "fblneck": lambda: narrow_cdnet().deploy(),
    "blneck": lambda: narrow_cdnet(neck="blneck").deploy(),
}


@pytest.mark.parametrize("name", DEPLOYED)
@torch.no_grad()
def test_export_with_a_free_batch_size(name):
    deployed = DEPLOYED[name]()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(deployed, (images(2),), dynamic_shapes=({0: batch},))
    assert_same(program.module()(images(5)), deployed(images(5)), 1e-5)
    assert sum("conv2d" in str(node.target) for node in program.graph.nodes) >= count(deployed, nn.Conv2d)
    assert sum("batch_norm" in str(node.target) for node in program.graph.nodes) == count(deployed, NORMS)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("name", DEPLOYED)
@torch.no_grad()
def test_jit_trace(name):
    deployed = DEPLOYED[name]()
    traced = torch.jit.trace(deployed, images(2))
    torch.testing.assert_close(traced(images(5)), deployed(images(5)))


@torch.no_grad()
def test_the_state_dict_fits_the_test_time_form_of_another_such_network(tmp_path):
    deployed = two_stream("random-3").deploy("visible")
    torch.save(deployed.state_dict(), tmp_path / "visible.pth")
    other = randomised(two_stream_resnet18(9, "share", pretrained=False, width=0.25), seed=5).deploy("visible")
    assert not torch.equal(other(images()), deployed(images()))
    other.load_state_dict(torch.load(tmp_path / "visible.pth"))
    assert torch.equal(other(images()), deployed(images()))


# -- errors -------------------------------------------------------------------


def test_a_split_network_needs_a_modality():
    with pytest.raises(InputError, match='split norms.*call deploy."visible". or deploy."infrared".'):
        two_stream("first-1").deploy()
    with pytest.raises(InputError, match="split norms.*per modality"):
        two_stream("share", standardize_input=True).deploy()


def test_an_unknown_modality_or_feature():
    with pytest.raises(InputError, match='"infra" has no network of its own.*did you mean "infrared"'):
        two_stream().deploy("infra")
    with pytest.raises(InputError, match='"both" has no network of its own, expected one of visible, infrared'):
        two_stream().deploy("both")
    with pytest.raises(InputError, match='feature "before" is unknown.*did you mean "before BNNeck"'):
        two_stream().deploy("visible", feature="before")


def test_cdnet_without_a_split_has_no_modality():
    with pytest.raises(InputError, match=r'"visible".*call deploy\(\) without argument'):
        narrow_cdnet().deploy("visible")


@pytest.mark.parametrize("modality", [None, "visible"])
def test_a_supernet_has_no_test_time_form(modality):
    model, light = two_stream("share"), narrow_cdnet()
    model.backbone.bn1 = MixedBatchNorm2d(model.backbone.bn1)
    light.backbone.stem.bn = MixedBatchNorm2d(light.backbone.stem.bn)
    for supernet in (model, light):
        with pytest.raises(InputError, match="still searched.*derive the architecture first"):
            supernet.deploy(modality)


def test_the_test_time_form_is_a_module_of_its_own():
    deployed = narrow_cdnet().deploy()
    assert isinstance(deployed, DeployedNetwork) and deployed.modality is None
