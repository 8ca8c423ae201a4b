"""Norms of any kind per modality: slots, split and searched forms against their formula."""
from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from torchreid_nas.errors import InputError
from torchreid_nas.layers import (
    MixedNorm,
    SplitNorm,
    bn_slots,
    is_norm,
    mixed_layer,
    modality_context,
    norm_slots,
    split_batchnorm,
    split_convolutions,
    split_layer,
    split_norms,
)


def timm_layer(name: str, *arguments, **options) -> nn.Module:
    return getattr(pytest.importorskip("timm.layers"), name)(*arguments, **options)


# Makers of norms over 6 channels, and the shape of their input.
NORMS = {
    "LayerNorm": (lambda: nn.LayerNorm(6), (4, 5, 6)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 6), (4, 6, 3, 2)),
    "RMSNorm": (lambda: nn.RMSNorm(6), (4, 5, 6)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(6), (8, 6)),
    "BatchNorm1d of rows": (lambda: nn.BatchNorm1d(6), (4, 6, 5)),
    "timm LayerNorm2d": (lambda: timm_layer("LayerNorm2d", 6), (4, 6, 3, 2)),
    "timm RmsNorm": (lambda: timm_layer("RmsNorm", 6), (4, 5, 6)),
    "timm RmsNorm2d": (lambda: timm_layer("RmsNorm2d", 6), (4, 6, 3, 2)),
    "timm GroupNormAct": (lambda: timm_layer("GroupNormAct", 6, num_groups=2), (4, 6, 3, 2)),
    "timm LayerNormAct2d": (lambda: timm_layer("LayerNormAct2d", 6), (4, 6, 3, 2)),
    "timm BatchNormAct2d": (lambda: timm_layer("BatchNormAct2d", 6), (4, 6, 3, 2)),
}
AFTER = {"timm GroupNormAct", "timm LayerNormAct2d", "timm BatchNormAct2d"}


def drifted(layer: nn.Module) -> nn.Module:
    """The layer in float64 with parameters and statistics as after some training."""
    torch.manual_seed(1)
    for name, tensor in (*layer.named_parameters(), *layer.named_buffers()):
        if "num_batches" not in name:
            tensor.data = torch.rand_like(tensor.data) + (0.5 if "var" in name or "weight" in name else -0.5)
    return layer.double()


def batch(shape, seed: int = 0) -> torch.Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x[len(x) // 2:] = 0.4 * x[len(x) // 2:] + 1
    return x


def without_activation(layer: nn.Module) -> nn.Module:
    plain = copy.deepcopy(layer)
    if hasattr(plain, "act"):
        plain.act = nn.Identity()
    return plain


@pytest.mark.parametrize("name", NORMS)
def test_the_searched_norm_is_the_weighted_sum_in_value_and_gradient(name):
    make, shape = NORMS[name]
    mixed = drifted(mixed_layer(make()))
    share, visible, infrared = (without_activation(layer) for layer in (mixed.share, mixed.visible, mixed.infrared))
    after = mixed.share.act if name in AFTER else nn.Identity()
    logits = mixed.logits.detach().clone().requires_grad_()
    x, plain_x = batch(shape).requires_grad_(), batch(shape).requires_grad_()
    first, second = plain_x.chunk(2)
    p = torch.softmax(logits, 0)
    expected = after(p[0] * share(plain_x) + p[1] * torch.cat((visible(first), infrared(second))))
    actual = mixed(x)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)
    weights = torch.randn(shape, dtype=torch.float64)
    (actual * weights).sum().backward()
    (expected * weights).sum().backward()
    pairs = [(x.grad, plain_x.grad), (mixed.logits.grad, logits.grad)]
    for ours, theirs in ((mixed.share, share), (mixed.visible, visible), (mixed.infrared, infrared)):
        pairs += [(a.grad, b.grad) for a, b in zip(ours.parameters(), theirs.parameters())]
    for own, other in pairs:
        torch.testing.assert_close(own, other, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["LayerNorm", "GroupNorm", "RMSNorm", "timm LayerNorm2d"])
def test_numerical_gradients_of_a_searched_norm(name):
    make, shape = NORMS[name]
    mixed = drifted(mixed_layer(make()))
    names = [key for key, _ in mixed.named_parameters()]

    def call(x, *values):
        return torch.func.functional_call(mixed, dict(zip(names, values)), (x,))

    assert torch.autograd.gradcheck(call, (batch((2, *shape[1:])).requires_grad_(), *mixed.parameters()))


@pytest.mark.parametrize("name", NORMS)
@torch.no_grad()
def test_a_hardened_norm_equals_the_searched_one_at_that_choice(name):
    make, shape = NORMS[name]
    for split in (False, True):
        for training in (True, False):
            mixed = drifted(mixed_layer(make())).train(training)
            mixed.logits.copy_(torch.tensor([-1e4, 1e4] if split else [1e4, -1e4]))
            hard = mixed.harden(split)
            for modality in ("visible", "infrared", "both"):
                with modality_context(modality):
                    torch.testing.assert_close(hard(batch(shape)), mixed(batch(shape)), rtol=1e-10, atol=1e-10)
            mixed.choice = "split" if split else "share"
            with modality_context("both"):
                assert torch.equal(mixed(batch(shape)), hard(batch(shape)))


@pytest.mark.parametrize("name", NORMS)
@torch.no_grad()
def test_a_split_norm_is_the_norm_of_each_half(name):
    make, shape = NORMS[name]
    layer = drifted(split_layer(make())).train()
    visible, infrared = copy.deepcopy(layer.visible), copy.deepcopy(layer.infrared)
    first, second = batch(shape).chunk(2)
    expected = torch.cat((visible(first), infrared(second)))
    torch.testing.assert_close(layer(batch(shape)), expected, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(layer.buffers(), (*visible.buffers(), *infrared.buffers())):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    layer.eval()
    with modality_context("infrared"):
        assert torch.equal(layer(first), layer.infrared(first)) and not torch.equal(layer(first), layer.visible(first))


@torch.no_grad()
def test_a_split_affine_norm_of_equal_parts_is_the_shared_norm():
    for name in ("LayerNorm", "GroupNorm", "RMSNorm"):
        make, shape = NORMS[name]
        shared = drifted(make())
        assert torch.equal(SplitNorm(shared)(batch(shape)), shared(batch(shape)))


def test_slots_are_all_norms_with_a_scale_and_stay_slots():
    model = nn.Sequential(
        nn.BatchNorm2d(3), nn.Sequential(nn.LayerNorm(3), nn.InstanceNorm2d(3, affine=True)), nn.BatchNorm1d(3),
        nn.GroupNorm(1, 3), nn.RMSNorm(3), nn.LayerNorm(3, elementwise_affine=False),
    )
    slots = ("0", "1.0", "2", "3", "4")
    assert norm_slots(model) == slots and bn_slots(model) == ("0",)
    split_norms(model, "first-3")
    assert norm_slots(model) == slots
    assert [type(model.get_submodule(slot)).__name__ for slot in slots] == [
        "SplitBatchNorm2d", "SplitNorm", "SplitNorm", "GroupNorm", "RMSNorm",
    ]


def test_split_batchnorm_leaves_other_norms_alone():
    model = split_batchnorm(nn.Sequential(nn.BatchNorm2d(3), nn.GroupNorm(1, 3)), "split")
    assert isinstance(model[0], SplitNorm) and is_norm(model[1])


def test_bad_input_of_norms_is_one_sentence():
    with pytest.raises(InputError, match="Conv2d has no norm to split .*; choose a backbone that has"):
        split_norms(nn.Conv2d(3, 3, 1), "split")
    with pytest.raises(InputError, match='slot "0" is split already; call split_norms once'):
        split_norms(split_norms(nn.Sequential(nn.LayerNorm(3)), "split"), "split")
    with pytest.raises(InputError, match="holds as many visible as infrared images, got 3 images"):
        SplitNorm(nn.LayerNorm(3))(torch.zeros(3, 3))
    with pytest.raises(InputError, match="a searched norm needs a scale"):
        MixedNorm(nn.LayerNorm(3, elementwise_affine=False))
    with pytest.raises(InputError, match='the split norm "1" has no convolution of 4 channels of its own'):
        split_convolutions(split_norms(nn.Sequential(nn.Conv2d(3, 3, 1), nn.LayerNorm(4)), "split"))


def test_an_activation_with_parameters_cannot_be_mixed():
    with pytest.raises(InputError, match="cannot mix activations that have parameters"):
        mixed_layer(timm_layer("BatchNormAct2d", 6, act_layer=nn.PReLU))
