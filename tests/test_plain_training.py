"""The plain training step, with which benchmarks compare ours: the same losses, gradients, averages and curve."""
import importlib
import sys
from types import SimpleNamespace

import pytest
import torch
from scripts import BENCHMARKS

from torchreid_nas.engine import ExponentialMovingAverage
from torchreid_nas.layers import SplitBatchNorm2d
from torchreid_nas.losses import C3MMDLoss, CrossModalityTripletLoss
from torchreid_nas.models import two_stream_resnet18


@pytest.fixture(scope="module")
def plain():
    """The modules of benchmarks/plain as attributes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield SimpleNamespace(
            normalization=importlib.import_module("plain.normalization"), training=importlib.import_module("plain.training"),
        )
    for name in [name for name in sys.modules if name.split(".")[0] == "plain"]:
        del sys.modules[name]


def halves(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    pids = torch.arange(4).repeat_interleave(3)
    return [torch.randn(12, 7, generator=generator, dtype=dtype, requires_grad=True) for _ in range(2)], pids


@pytest.mark.parametrize("name", ["triplet", "c3mmd"])
def test_the_losses_have_the_values_and_gradients_of_ours(plain, name):
    (visible, infrared), pids = halves()
    if name == "triplet":
        ours = CrossModalityTripletLoss(2.0)(visible, infrared, pids)
        values = plain.training.plain_triplet(visible, infrared, pids, 2.0), ours
    else:
        values = plain.training.plain_c3mmd(visible, infrared, 3, 5.0, 0.05), C3MMDLoss(3)(visible, infrared)
    gradients = [torch.autograd.grad(value, (visible, infrared)) for value in values]
    # The plain triplet sets an anchor's distance to itself to 1e-6.
    torch.testing.assert_close(values[0], values[1], rtol=1e-9, atol=2e-6)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=2e-6)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_split_batchnorm_is_ours(plain, memory_format):
    torch.manual_seed(0)
    ours = SplitBatchNorm2d(5)
    other = plain.normalization.plain_split(torch.nn.Sequential(SplitBatchNorm2d(5)))
    x = torch.randn(6, 5, 4, 3).contiguous(memory_format=memory_format)
    torch.testing.assert_close(other(x), ours(x))
    for key, value in ours.state_dict().items():
        torch.testing.assert_close(other.state_dict()[f"0.{key}"], value)


def test_the_average_is_ours(plain):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    averages = plain.training.PlainAverage(model, 0.8), ExponentialMovingAverage(model, 0.8)
    for _ in range(3):
        model(torch.randn(5, 3))
        with torch.no_grad():
            model[0].weight.add_(0.1)
        for average in averages:
            average.update()
    for key, value in averages[0].module.state_dict().items():
        torch.testing.assert_close(averages[1].module.state_dict()[key], value)


def test_a_plain_network_has_no_layer_of_ours_left(plain):
    model = plain.normalization.plain_split(two_stream_resnet18(4, pretrained=False, width=0.125))
    kinds = {type(module).__name__ for module in model.modules()}
    assert "PlainSplitBatchNorm2d" in kinds and "SplitBatchNorm2d" not in kinds
