"""MixedBatchNorm2d against the plain weighted sum of a shared and a split BatchNorm."""
import copy
import importlib

import pytest
import torch
from scripts import BENCHMARKS
from torch import nn

from torchreid_nas.errors import InputError
from torchreid_nas.layers import MixedBatchNorm2d, SplitBatchNorm2d, affine, modality_context
from torchreid_nas.layers.affine import can_normalize

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(BENCHMARKS))
    PlainMixedBatchNorm2d = importlib.import_module("plain.mixed_normalization").PlainMixedBatchNorm2d


def random_mixed(channels=5, dtype=torch.float64):
    torch.manual_seed(0)
    mixed = MixedBatchNorm2d(nn.BatchNorm2d(channels)).to(dtype)
    with torch.no_grad():
        for bn in (mixed.share, mixed.visible, mixed.infrared):
            bn.weight.normal_(1, 0.5)
            bn.bias.normal_()
            bn.running_mean.normal_()
            bn.running_var.uniform_(0.5, 2)
        mixed.logits.copy_(torch.tensor([0.3, -0.7]))
    mixed.temperature = 0.8
    return mixed


def distorted_batch(channels=5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(8, channels, 4, 3, generator=generator, dtype=dtype)
    x[4:] = 0.25 * x[4:] + 1.5
    return x


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_equals_the_plain_weighted_sum(memory_format):
    mixed = random_mixed()
    plain = PlainMixedBatchNorm2d(mixed)
    x = distorted_batch().contiguous(memory_format=memory_format)
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype)
    results = []
    for layer in (mixed, plain):
        inputs = x.clone(memory_format=torch.preserve_format).requires_grad_()
        output = layer(inputs)
        output.backward(upstream)
        results.append((output.detach(), inputs.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(mixed.logits.grad, plain.logits.grad, rtol=1e-9, atol=1e-9)
    pairs = [(mixed.share, plain.share), (mixed.visible, plain.visible), (mixed.infrared, plain.infrared)]
    for ours, theirs in pairs:
        torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(ours.bias.grad, theirs.bias.grad, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(ours.running_mean, theirs.running_mean, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(ours.running_var, theirs.running_var, rtol=1e-9, atol=1e-9)
        assert ours.num_batches_tracked == theirs.num_batches_tracked == 1


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("modality", ["visible", "infrared", "both"])
def test_equals_the_plain_sum_for_a_declared_modality_in_either_mode(modality, training):
    mixed = random_mixed().train(training)
    plain = PlainMixedBatchNorm2d(mixed).train(training)
    with modality_context(modality):
        torch.testing.assert_close(mixed(distorted_batch()), plain(distorted_batch()), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("lacking", ["_normalize", "_reduce"])
def test_without_an_operator_of_torch_the_plain_sum_is_computed(lacking, monkeypatch):
    monkeypatch.setattr(affine, lacking, None)
    assert not can_normalize(distorted_batch().device)
    test_equals_the_plain_weighted_sum(torch.contiguous_format)
    with pytest.raises(InputError, match=r"one value per channel, \(1, 5, 1, 1\)"):
        random_mixed()(distorted_batch()[:2, :, :1, :1])


def test_gradcheck():
    mixed = random_mixed(channels=2)
    x = distorted_batch(channels=2)[2:6].requires_grad_()

    def run(x, logits, *affine):
        names = [f"{bn}.{name}" for bn in ("share", "visible", "infrared") for name in ("weight", "bias")]
        return torch.func.functional_call(copy.deepcopy(mixed), {"logits": logits, **dict(zip(names, affine))}, (x,))

    affine = [p.detach().clone().requires_grad_() for bn in (mixed.share, mixed.visible, mixed.infrared)
              for p in (bn.weight, bn.bias)]
    assert torch.autograd.gradcheck(run, (x, mixed.logits.detach().clone().requires_grad_(), *affine))


@pytest.mark.parametrize("choice_is_split", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_one_candidate_with_all_the_weight_equals_the_plain_layer(choice_is_split, training):
    mixed = random_mixed()
    with torch.no_grad():
        mixed.logits.copy_(torch.tensor([-1e4, 1e4]) if choice_is_split else torch.tensor([1e4, -1e4]))
    for bn in (mixed.share, mixed.visible, mixed.infrared):
        bn.requires_grad_(False)  # as a search fixes them
    layer = mixed.harden(choice_is_split)
    assert isinstance(layer, SplitBatchNorm2d if choice_is_split else nn.BatchNorm2d)
    assert all(parameter.requires_grad for parameter in layer.parameters())
    mixed.train(training), layer.train(training)
    with modality_context("both"):
        torch.testing.assert_close(mixed(distorted_batch()), layer(distorted_batch()), rtol=1e-12, atol=1e-12)


def test_equal_statistics_make_the_logits_irrelevant():
    mixed = MixedBatchNorm2d(nn.BatchNorm2d(3).double())
    half = torch.randn(4, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    out = mixed(torch.cat((half, half)))
    (out.square().sum()).backward()
    assert mixed.logits.grad.abs().max() < 1e-9


def test_bfloat16_channels_last_stays_close_to_float32():
    mixed = random_mixed(dtype=torch.float32)
    reference = copy.deepcopy(mixed)
    x = distorted_batch(dtype=torch.float32).contiguous(memory_format=torch.channels_last)
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    half, full = x.bfloat16().requires_grad_(), x.bfloat16().float().requires_grad_()
    output = mixed(half)
    assert output.dtype == torch.bfloat16 and output.is_contiguous(memory_format=torch.channels_last)
    output.backward(upstream.bfloat16())
    expected = reference(full)
    expected.backward(upstream.bfloat16().float())
    torch.testing.assert_close(output.float(), expected, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(half.grad.float(), full.grad, rtol=3e-2, atol=3e-2)
    torch.testing.assert_close(mixed.logits.grad, reference.logits.grad, rtol=3e-2, atol=3e-2)
    torch.testing.assert_close(mixed.share.running_var, reference.share.running_var, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("modality", ["both", "visible"])
@pytest.mark.parametrize("frozen", ["share", "visible", "infrared"])
def test_in_train_mode_a_frozen_batchnorm_normalises_by_running_statistics_which_stay(frozen, modality):
    mixed = random_mixed()
    expected = copy.deepcopy(mixed).eval()
    mixed.train().get_submodule(frozen).eval()
    before = {key: value.clone() for key, value in mixed.state_dict().items()}
    with modality_context(modality):
        torch.testing.assert_close(mixed(distorted_batch()), expected(distorted_batch()), rtol=0, atol=0)
    assert all(torch.equal(value, before[key]) for key, value in mixed.state_dict().items())


@pytest.mark.parametrize(("modality", "images"), [("both", 2), ("infrared", 1)])
def test_one_value_per_channel_is_refused_before_it_spoils_the_statistics(modality, images):
    mixed = MixedBatchNorm2d(4)
    with modality_context(modality), pytest.raises(InputError, match=r"one value per channel, \(1, 4, 1, 1\)"):
        mixed(torch.randn(images, 4, 1, 1))
    assert (mixed.share.running_var == 1).all() and (mixed.visible.running_var == 1).all()


def test_the_mode_is_that_of_the_layer_it_takes_the_place_of():
    for training in (True, False):
        assert {part.training for part in MixedBatchNorm2d(nn.BatchNorm2d(3).train(training)).modules()} == {training}


def test_refuses_a_batchnorm_without_running_statistics():
    with pytest.raises(InputError, match="running statistics"):
        MixedBatchNorm2d(nn.BatchNorm2d(3, track_running_stats=False))


# -- the native path ----------------------------------------------------------


def gradients(layer, x, upstream):
    """Gradient of the input and of every parameter by name, and the output."""
    given = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    output = layer(given)
    output.backward(upstream)
    return {"x": given.grad, **{name: p.grad for name, p in layer.named_parameters() if p.grad is not None}}, output.detach()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dtype_and_memory_format_of_the_input_are_kept_both_ways(memory_format, dtype):
    mixed = random_mixed(dtype=torch.float32)
    x = distorted_batch(dtype=torch.float32).to(dtype).contiguous(memory_format=memory_format)
    of, output = gradients(mixed, x, torch.ones_like(x))
    assert output.dtype == of["x"].dtype == dtype and output.stride() == of["x"].stride() == x.stride()
    assert {of[name].dtype for name in of if name != "x"} == {torch.float32}


def test_fixed_scales_and_shifts_change_no_other_gradient():
    mixed, fixed = random_mixed(), random_mixed()
    for bn in (fixed.share, fixed.visible, fixed.infrared):
        bn.requires_grad_(False)
    upstream = torch.randn(8, 5, 4, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (all_of, _), (some, _) = (gradients(layer, distorted_batch(), upstream) for layer in (mixed, fixed))
    assert set(some) == {"x", "logits"} and len(all_of) == 8
    torch.testing.assert_close(some, {name: all_of[name] for name in some}, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("level", ["weights", "architecture"])
def test_a_step_of_one_level_gets_that_level_alone(level):
    mixed, x = random_mixed(), distorted_batch().requires_grad_()
    inputs = [x] if level == "weights" else [mixed.logits]
    torch.autograd.backward(mixed(x).pow(3).sum(), inputs=inputs)
    assert (x.grad is None) == (level == "architecture") and (mixed.logits.grad is None) == (level == "weights")


def test_what_is_kept_for_the_backward_pass_is_the_input_and_a_few_numbers_per_channel():
    mixed, x = random_mixed(), distorted_batch().requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        mixed(x)
    large = {tensor.data_ptr() for tensor in kept if tensor.numel() > 3 * x.shape[1]}
    assert large == {x.data_ptr()}


def test_a_view_and_an_expanded_gradient():
    mixed, plain = random_mixed(), PlainMixedBatchNorm2d(random_mixed())
    x = distorted_batch().transpose(2, 3)
    results = []
    for layer in (mixed, plain):
        given = x.clone(memory_format=torch.preserve_format).requires_grad_()
        layer(given).sum().backward()
        results.append((given.grad, layer.logits.grad))
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("modality", ["visible", "infrared"])
def test_gradients_and_statistics_of_a_declared_modality(modality):
    mixed, plain = random_mixed(), PlainMixedBatchNorm2d(random_mixed())
    upstream = torch.randn(8, 5, 4, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    with modality_context(modality):
        (ours, _), (theirs, _) = (gradients(layer, distorted_batch(), upstream) for layer in (mixed, plain))
    torch.testing.assert_close(ours, {name: theirs[name] for name in ours}, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(dict(mixed.named_buffers()), dict(plain.named_buffers()), rtol=1e-9, atol=1e-9)


def test_an_odd_joint_batch():
    with pytest.raises(InputError, match="as many visible as infrared images, got 7"):
        random_mixed()(distorted_batch()[:7])


def test_a_second_derivative_is_refused():
    x = distorted_batch().requires_grad_()
    gradient, = torch.autograd.grad(random_mixed()(x).pow(3).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.gpu
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_gpu(memory_format, dtype):
    mixed = random_mixed(dtype=torch.float32)
    x = distorted_batch(dtype=torch.float32).to(dtype).contiguous(memory_format=memory_format)
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    expected = gradients(copy.deepcopy(mixed), x.float(), upstream.float())
    of, output = gradients(mixed.cuda(), x.cuda(), upstream.cuda())
    tolerance = 1e-4 if dtype == torch.float32 else 3e-2
    found = {name: value.cpu().float() for name, value in of.items()}, output.cpu().float()
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
