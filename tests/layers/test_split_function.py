"""The native path of SplitBatchNorm2d against two layers and a concatenation, and which layers may take it."""
from __future__ import annotations

import copy
import shutil

import pytest
import torch
from torch import nn

from torchreid_nas.layers import SplitBatchNorm2d, modality_context, split_function
from torchreid_nas.layers.split_function import is_plain

FORMATS = pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])


def layer(channels: int = 5, dtype: torch.dtype = torch.float64, **options) -> SplitBatchNorm2d:
    """A split BatchNorm whose two halves differ."""
    torch.manual_seed(0)
    split = SplitBatchNorm2d(nn.BatchNorm2d(channels, **options)).to(dtype)
    for tensor in (*split.parameters(), *(b for b in split.buffers() if b.is_floating_point())):
        nn.init.uniform_(tensor, 0.5, 1.5)
    return split


def batch(channels: int = 5, dtype: torch.dtype = torch.float64, memory_format=torch.contiguous_format) -> torch.Tensor:
    x = torch.randn(8, channels, 4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x[4:] = 0.25 * x[4:] + 1.5
    return x.to(dtype).contiguous(memory_format=memory_format)


def plain(split: SplitBatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    visible, infrared = x.chunk(2)
    return torch.cat((split.visible(visible), split.infrared(infrared)))


def compare(split: SplitBatchNorm2d, x: torch.Tensor, rtol: float = 1e-9) -> torch.Tensor:
    """Output, gradients and buffers of both; returns the output."""
    reference = copy.deepcopy(split)
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(x)
    results = []
    for module, function in ((split, split), (reference, lambda given: plain(reference, given))):
        given = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
        output = function(given)
        output.backward(upstream)
        gradients = {name: p.grad for name, p in module.named_parameters()}
        results.append((output.detach(), given.grad, gradients, dict(module.named_buffers())))
    torch.testing.assert_close(results[0], results[1], rtol=rtol, atol=rtol)
    assert results[0][1].stride() == results[0][0].stride() == x.stride()
    return results[0][0]


@FORMATS
def test_equals_two_layers_and_a_concatenation(memory_format):
    x = batch(memory_format=memory_format)
    assert is_plain(x, layer().visible, layer().infrared)
    compare(layer(), x)


@FORMATS
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs_keep_statistics_in_the_dtype_of_the_parameters(memory_format, dtype):
    split = layer(dtype=torch.float32)
    output = compare(split, batch(dtype=dtype, memory_format=memory_format), rtol=1e-2)
    assert output.dtype == dtype and split.visible.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_leaves_the_dtype_that_a_convolution_gives(dtype):
    split = layer(dtype=torch.float32)
    convolution = nn.Conv2d(5, 5, 1)
    with torch.autocast("cpu", dtype):
        output = split(convolution(batch(dtype=torch.float32)))
    assert output.dtype == dtype
    output.float().square().sum().backward()
    assert convolution.weight.grad.dtype == torch.float32 and convolution.weight.grad.isfinite().all()


def test_first_and_second_derivatives():
    split = layer(channels=2)
    names = [name for name, _ in split.named_parameters()]

    def run(x, *parameters):
        return torch.func.functional_call(copy.deepcopy(split), dict(zip(names, parameters)), (x,))

    x = batch(channels=2)[2:6, :, :2].clone()
    inputs = [tensor.detach().clone().requires_grad_() for tensor in (x, *split.parameters())]
    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs)


def test_layers_whose_momentum_and_epsilon_differ():
    split = layer()
    split.infrared.momentum, split.infrared.eps = 0.3, 0.1
    compare(split, batch())


def test_a_view_and_an_expanded_gradient():
    split, x = layer(), batch().transpose(2, 3)
    torch.testing.assert_close(split(x), plain(layer(), x))
    given = x.clone().requires_grad_()
    split(given).sum().backward()
    torch.testing.assert_close(given.grad, torch.zeros_like(given), rtol=0, atol=1e-12)


@pytest.mark.parametrize("frozen", ["visible.weight", "infrared.bias", "all", "input"])
def test_only_the_gradients_that_are_asked_for(frozen):
    split, x = layer(), batch().requires_grad_(frozen != "input")
    for name, parameter in split.named_parameters():
        parameter.requires_grad_(frozen not in (name, "all"))
    split(x).square().sum().backward()
    for name, parameter in split.named_parameters():
        assert (parameter.grad is None) == (frozen in (name, "all"))
    assert (x.grad is None) == (frozen == "input")


def test_without_gradients_the_statistics_move_all_the_same():
    split, reference, x = layer(), layer(), batch()
    with torch.no_grad():
        torch.testing.assert_close(split(x), plain(reference, x))
    torch.testing.assert_close(dict(split.named_buffers()), dict(reference.named_buffers()))


# -- layers that are run as they are ------------------------------------------


@pytest.mark.parametrize("options", [{"affine": False}, {"track_running_stats": False}, {"momentum": None}])
def test_other_batchnorms(options):
    split = layer(**options)
    assert not is_plain(batch(), split.visible, split.infrared)
    compare(split, batch())


def test_a_frozen_half_keeps_its_statistics():
    split = layer()
    split.infrared.eval()
    before = split.infrared.running_mean.clone()
    compare(split, batch())
    assert torch.equal(split.infrared.running_mean, before)


def test_eval_mode():
    split = layer().eval()
    with modality_context("both"):
        compare(split, batch())


def test_hooks_are_called():
    split, seen = layer(), []
    split.visible.register_forward_hook(lambda *_: seen.append("visible"))
    split(batch())
    assert seen == ["visible"]


def test_one_value_per_channel_is_refused_as_by_the_layer_itself():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        layer()(batch()[:2, :, :1, :1])
    with pytest.raises(ValueError, match="expected 4D input"):
        layer()(batch()[:, :, 0])


def test_functional_transforms():
    split, x = layer(), batch()
    parameters = {name: p.detach() for name, p in split.named_parameters()}

    def loss(given):
        return torch.func.functional_call(copy.deepcopy(split), parameters, (given,)).pow(3).sum()

    gradient = torch.func.grad(loss)(x)
    given = x.clone().requires_grad_()
    split(given).pow(3).sum().backward()
    torch.testing.assert_close(gradient, given.grad)


@pytest.mark.parametrize("lacking", ["_normalize", "_differentiate"])
def test_without_an_operator_of_torch_both_layers_are_called(lacking, monkeypatch):
    monkeypatch.setattr(split_function, lacking, None)
    assert not is_plain(batch(), layer().visible, layer().infrared)
    compare(layer(), batch())


# -- what users do with a layer -----------------------------------------------


def test_copies_and_state_dicts():
    split = layer()
    copied = copy.deepcopy(split)
    parts = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    assert list(split.state_dict()) == [f"{name}.{part}" for name in ("visible", "infrared") for part in parts]
    copied(batch())
    assert split.visible.num_batches_tracked == 0 and copied.infrared.num_batches_tracked == 1


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler")
def test_compiled_it_is_the_same():
    split, reference, x = layer(dtype=torch.float32), layer(dtype=torch.float32), batch(dtype=torch.float32)
    given, expected = (x.clone().requires_grad_() for _ in range(2))
    compiled = torch.compile(nn.Sequential(nn.ReLU(), split))
    output, target = compiled(given), reference(expected.relu())
    torch.testing.assert_close(output, target)
    upstream = batch(dtype=torch.float32).flip(0)
    output.backward(upstream), target.backward(upstream)
    torch.testing.assert_close(given.grad, expected.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(split.infrared.running_var, reference.infrared.running_var)


@FORMATS
def test_the_statistics_are_taken_as_cudnn_hands_them_out(monkeypatch, memory_format):
    """cuDNN writes into statistics of the right size, and returns a reserve that its backward pass wants back."""
    normalize, differentiate = split_function._normalize, split_function._differentiate
    reserves = []

    def forward(x, *given, out, save_mean, save_invstd, reserve):
        assert save_mean.shape == save_invstd.shape == x.shape[1:2]
        reserves.append(torch.zeros(16, dtype=torch.uint8))
        return *normalize(x, *given, out=out, save_mean=save_mean, save_invstd=save_invstd, reserve=reserve)[:3], reserves[-1]

    def backward(*given):
        assert given[-1].data_ptr() == reserves.pop(0).data_ptr()
        return differentiate(*given)

    monkeypatch.setattr(split_function, "_normalize", forward)
    monkeypatch.setattr(split_function, "_differentiate", backward)
    compare(layer(), batch(memory_format=memory_format))
    assert not reserves


@pytest.mark.gpu
@FORMATS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_on_a_gpu(memory_format, dtype):
    split = layer(dtype=torch.float32)
    on_gpu = copy.deepcopy(split).cuda()
    x = batch(dtype=dtype, memory_format=memory_format)
    output = compare(on_gpu, x.cuda(), rtol=1e-4 if dtype == torch.float32 else 2e-2)
    torch.testing.assert_close(output.cpu().float(), split(x.float()).detach(), rtol=2e-2, atol=2e-2)
