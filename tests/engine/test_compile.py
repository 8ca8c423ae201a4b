"""train.compile: the numbers of the network as it was written, and nothing else changed."""
import copy
import shutil

import pytest
import torch
from torch import nn

from torchreid_nas.engine import ResumableEngine, TrainingOptions
from torchreid_nas.layers import SplitBatchNorm2d


class Network(nn.Module):
    """A backbone of one block, and a head beside it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), SplitBatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(4, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(images).mean(dim=(2, 3)))


class Engine(ResumableEngine):
    def losses(self, data, metric_only=False):
        return {"squares": self.model(data).square().mean()}


class Data:
    train_loader, test_loader = [torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))], {}


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_compiled_network_learns_the_same():
    engines = []
    for compiled in (False, True):
        model = Network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        engines.append(Engine(Data, model, optimizer, options=TrainingOptions(ema=0.5, compile=compiled)))
    plain, compiled = engines
    for engine in engines:
        engine.model.train()
        assert engine.forward_backward(Data.train_loader[0])["squares"] > 0
    assert compiled.model.backbone._compiled_call_impl is not None
    assert list(compiled.model.state_dict()) == list(plain.model.state_dict())
    for key, value in plain.model.state_dict().items():
        torch.testing.assert_close(compiled.model.state_dict()[key], value, rtol=1e-4, atol=1e-6, msg=key)
    # Copies are the network as it was written: the average, and what a search derives.
    assert compiled.ema.module.backbone._compiled_call_impl is None
    assert copy.deepcopy(compiled.model).backbone._compiled_call_impl is None
