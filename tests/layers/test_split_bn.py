"""split_batchnorm on torchreid's own backbones: which layers it replaces, and that it changes nothing else."""
from __future__ import annotations

import copy

import pytest
import torch
import torchreid
from torch import nn

from torchreid_nas.architecture import SPLIT, Architecture
from torchreid_nas.errors import InputError
from torchreid_nas.layers import (
    MixedBatchNorm2d,
    SplitBatchNorm2d,
    active_modality,
    bn_slots,
    modality_context,
    split_batchnorm,
)

# name -> number of BatchNorm2d, first and last slot
BACKBONES = {
    "resnet18": (20, "bn1", "layer4.1.bn2"),
    "resnet50": (53, "bn1", "layer4.2.bn3"),
    "osnet_x0_25": (79, "conv1.bn", "conv5.bn"),
    "mobilenetv2_x1_0": (53, "conv1.bn", "conv9.bn"),
}
_built: dict[str, nn.Module] = {}


def backbone(name: str) -> nn.Module:
    """A network of torchreid with affine parameters and running statistics as different as pretrained ones."""
    if name not in _built:
        torch.manual_seed(0)
        model = getattr(torchreid.models, name)(num_classes=3, loss="softmax", pretrained=False)
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(layer.weight, 1, 0.1)
                nn.init.normal_(layer.bias, 0, 0.1)
                nn.init.normal_(layer.running_mean, 0, 0.1)
                nn.init.uniform_(layer.running_var, 0.5, 1.5)
        _built[name] = model
    return copy.deepcopy(_built[name]).eval()


def images(count: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, 64, 32, generator=torch.Generator().manual_seed(seed))


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


# -- slots --------------------------------------------------------------------


@pytest.mark.parametrize("name", BACKBONES)
def test_slots_are_the_batchnorms_in_definition_order(name):
    model = backbone(name)
    slots = bn_slots(model)
    assert slots == tuple(path for path, layer in model.named_modules() if isinstance(layer, nn.BatchNorm2d))
    assert (len(slots), slots[0], slots[-1]) == BACKBONES[name]


def test_one_dimensional_norms_are_no_slots():
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), nn.BatchNorm1d(2), nn.InstanceNorm2d(2))
    assert bn_slots(model) == ("1",)


@pytest.mark.parametrize("architecture", ["split", "random-1"])
def test_surgery_does_not_change_the_slots(architecture):
    model = backbone("resnet18")
    before = bn_slots(model)
    assert bn_slots(split_batchnorm(model, architecture)) == before
    model.bn1 = MixedBatchNorm2d(nn.BatchNorm2d(64))
    assert bn_slots(model) == before


# -- what the surgery leaves --------------------------------------------------


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
def test_sharing_all_is_the_original_network_to_the_bit(name, training):
    original, shared = backbone(name).train(training), backbone(name).train(training)
    assert split_batchnorm(shared, "share") is shared
    assert list(shared.state_dict()) == list(original.state_dict())
    torch.manual_seed(0)
    expected = original(images())
    torch.manual_seed(0)
    assert torch.equal(shared(images()), expected)


@pytest.mark.parametrize("name", BACKBONES)
@torch.no_grad()
def test_a_freshly_split_network_evaluates_as_the_original_in_either_modality(name):
    original, split = backbone(name), split_batchnorm(backbone(name), "random-3")
    for modality in ("visible", "infrared"):
        with modality_context(modality):
            torch.testing.assert_close(split(images()), original(images()))
    with modality_context("both"):
        torch.testing.assert_close(split(images()), original(images()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", BACKBONES)
def test_each_slot_keeps_only_the_batchnorms_that_it_needs(name):
    model = backbone(name)
    architecture = Architecture.preset("random-2", bn_slots(model))
    split_batchnorm(model, architecture)
    for slot, choice in architecture.choices:
        layer = model.get_submodule(slot)
        kept = [path for path, module in layer.named_modules() if isinstance(module, nn.BatchNorm2d)]
        assert kept == (["visible", "infrared"] if choice == SPLIT else [""])
        assert isinstance(layer, SplitBatchNorm2d if choice == SPLIT else nn.BatchNorm2d)


def test_pretrained_weights_and_statistics_are_copied_into_both_and_not_shared():
    original, model = backbone("resnet18"), split_batchnorm(backbone("resnet18"), "split")
    for slot in bn_slots(original):
        source, layer = original.get_submodule(slot).state_dict(), model.get_submodule(slot)
        for own in (layer.visible, layer.infrared):
            assert all(torch.equal(value, source[key]) for key, value in own.state_dict().items())
    with torch.no_grad():
        model.bn1.visible.weight.zero_()
    assert torch.equal(model.bn1.infrared.weight, original.bn1.weight)


def test_splitting_all_of_resnet50_adds_the_papers_53120_parameters():
    model = backbone("resnet50")
    before = parameters(model)
    assert parameters(split_batchnorm(model, "split")) == before + 53_120


# -- a joint batch ------------------------------------------------------------


@pytest.mark.parametrize("kind", [SplitBatchNorm2d, MixedBatchNorm2d])
def test_a_copy_of_data_parallel_refuses_a_joint_batch_and_takes_one_modality(kind):
    layer = kind(3)
    copy = layer._replicate_for_data_parallel()
    # What torch gives the copies next: parameters and parts on their GPU.
    copy._parameters, copy._modules = layer._parameters, layer._modules
    with pytest.raises(InputError, match="nn.DataParallel over several GPUs parts a joint batch"):
        copy(torch.randn(4, 3, 2, 2))
    with modality_context("visible"):
        assert copy(torch.randn(4, 3, 2, 2)).shape == (4, 3, 2, 2)


@pytest.mark.parametrize("name", BACKBONES)
@torch.no_grad()
def test_split_all_treats_a_joint_batch_as_each_half_alone(name):
    joint, alone = (split_batchnorm(backbone(name), "split").double().train() for _ in range(2))
    visible, infrared = images(4, 1).double(), images(4, 2).double() * 0.3 + 1
    # The feature maps, because OSNet's head has a BatchNorm1d and MobileNetV2's a dropout.
    together = joint.featuremaps(torch.cat((visible, infrared)))
    for half, batch, modality in ((slice(0, 4), visible, "visible"), (slice(4, 8), infrared, "infrared")):
        with modality_context(modality):
            torch.testing.assert_close(together[half], alone.featuremaps(batch), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(dict(joint.named_buffers()), dict(alone.named_buffers()), rtol=1e-9, atol=1e-9)


def test_only_the_split_slots_tell_the_modalities_apart():
    layer = SplitBatchNorm2d(nn.BatchNorm2d(3)).double()
    x = images(8).double()
    x[4:] = 4 * x[4:] + 7
    output = layer(x)
    for half, source, bn in ((output[:4], x[:4], layer.visible), (output[4:], x[4:], layer.infrared)):
        mean, var = source.mean((0, 2, 3)), source.var((0, 2, 3), unbiased=False)
        torch.testing.assert_close(half, (source - mean[:, None, None]) / (var + bn.eps).sqrt()[:, None, None])
        torch.testing.assert_close(bn.running_mean, 0.1 * mean)
        torch.testing.assert_close(bn.running_var, 0.9 + 0.1 * source.var((0, 2, 3)))
    assert layer.infrared.running_mean.min() > 0.5 > layer.visible.running_mean.max()


def test_the_halves_of_one_distribution_normalise_as_the_shared_layer_would():
    half = images(4).double()
    x = torch.cat((half, half))
    torch.testing.assert_close(SplitBatchNorm2d(nn.BatchNorm2d(3).double())(x), nn.BatchNorm2d(3).double()(x))


def test_a_declared_modality_moves_its_own_statistics_only():
    layer = SplitBatchNorm2d(nn.BatchNorm2d(3))
    with modality_context("infrared"):
        layer(images() + 5)
    assert layer.infrared.num_batches_tracked == 1 and layer.visible.num_batches_tracked == 0
    assert torch.equal(layer.visible.running_mean, torch.zeros(3))


def test_gradients_stay_within_the_modality():
    layer = SplitBatchNorm2d(nn.BatchNorm2d(3))
    layer(images(8))[4:].square().sum().backward()
    assert layer.infrared.weight.grad.abs().min() > 0 and not layer.visible.weight.grad.any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtype_and_memory_format_of_the_input_are_kept(dtype):
    layer = SplitBatchNorm2d(nn.BatchNorm2d(4)).to(dtype)
    x = torch.randn(4, 4, 5, 3).to(dtype).contiguous(memory_format=torch.channels_last)
    output = layer(x)
    assert output.dtype == dtype and output.is_contiguous(memory_format=torch.channels_last)


# -- what is refused ----------------------------------------------------------


def test_an_odd_joint_batch():
    with pytest.raises(InputError, match="as many visible as infrared images, got 5.*CrossModalityIdentitySampler"):
        split_batchnorm(backbone("resnet18"), "first-1").train()(images(5))


def test_evaluation_without_a_modality():
    model = split_batchnorm(backbone("resnet18"), "last-1")
    with pytest.raises(InputError, match='in eval mode which modality.*"visible".* or "infrared"'):
        model(images())
    assert split_batchnorm(backbone("resnet18"), "share")(images()).shape == (4, 512)


def test_an_unknown_modality():
    message = 'modality "thermal" is unknown, expected one of visible, infrared, both'
    with pytest.raises(InputError, match=message), modality_context("thermal"):
        pass
    with pytest.raises(InputError, match='did you mean "visible"'), modality_context("visibel"):
        pass


def test_contexts_nest_and_end_with_an_exception():
    model = split_batchnorm(backbone("resnet18"), "last-1")
    with modality_context("visible"):
        with modality_context("infrared"):
            assert active_modality(training=True) == "infrared"
        assert active_modality(training=True) == "visible"
    with pytest.raises(KeyError), modality_context("visible"), modality_context("infrared"):
        raise KeyError
    with pytest.raises(InputError, match="eval mode"):
        model(images())


def test_splitting_twice():
    model = split_batchnorm(backbone("resnet18"), "first-1")
    with pytest.raises(InputError, match='slot "bn1" is split already; call split_batchnorm once'):
        split_batchnorm(model, "split")


def test_a_network_without_batchnorm():
    with pytest.raises(InputError, match="Sequential has no BatchNorm2d layer to split"):
        split_batchnorm(nn.Sequential(nn.Conv2d(3, 3, 1)), "split")


def test_a_bare_batchnorm_is_no_backbone():
    with pytest.raises(InputError, match="no BatchNorm2d layer"):
        split_batchnorm(nn.BatchNorm2d(3), "split")


def test_surgery_keeps_the_mode_of_each_layer():
    for training in (True, False):
        model = split_batchnorm(backbone("resnet18").train(training), "random-1")
        assert {layer.training for layer in model.modules()} == {training}


@pytest.mark.parametrize("name", ["resnet18", "osnet_x0_25"])
def test_an_architecture_of_another_backbone_leaves_the_network_untouched(name):
    model = backbone(name)
    keys = list(model.state_dict())
    with pytest.raises(InputError, match=f"53 norm slots, this one has {BACKBONES[name][0]}"):
        split_batchnorm(model, [0] * 53)
    assert list(model.state_dict()) == keys


def test_as_many_slots_do_not_make_it_the_same_backbone():
    with pytest.raises(InputError, match='names the slot "bn1" where this backbone has "conv1.bn"'):
        split_batchnorm(backbone("mobilenetv2_x1_0"), [0] * 53)
