"""What a network costs: counted by hand, and latencies."""
from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from torchreid_nas.errors import InputError
from torchreid_nas.models.size import measure_cost


class Net(nn.Module):
    """A convolution used twice, a strided grouped one, a linear layer, and one that eval mode leaves out."""

    def __init__(self) -> None:
        super().__init__()
        self.same = nn.Conv2d(4, 4, 3, padding=1)
        self.grouped = nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.linear = nn.Linear(8, 5)
        self.training_only = nn.Linear(5, 100)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.linear(self.bn(self.grouped(self.same(self.same(x)))).mean((2, 3)))
        return self.training_only(y) if self.training else y


def test_multiply_adds_are_those_of_the_textbook():
    expected = 2 * (4 * 4 * 9 * 6 * 8) + 8 * (4 // 2) * 9 * 3 * 4 + 8 * 5
    assert measure_cost(Net().eval(), torch.zeros(1, 4, 6, 8), "macs") == expected


def test_parameters_are_those_that_inference_uses_each_once():
    expected = (4 * 4 * 9 + 4) + 8 * 2 * 9 + 2 * 8 + (8 * 5 + 5)
    assert measure_cost(Net().eval(), torch.zeros(1, 4, 6, 8), "parameters") == expected


def test_latency_is_in_milliseconds_and_a_median():
    passes = []

    class Slow(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            passes.append(x)
            time.sleep(0.2 if len(passes) in (1, 5) else 0.01)  # once in warming up, once in measuring
            return x

    assert 10 <= measure_cost(Slow().eval(), torch.zeros(1, 1, 1, 1), "latency", repeats=5) < 100
    assert len(passes) == 8


def test_measuring_leaves_no_hooks_even_when_the_pass_fails():
    net = Net().eval()
    with pytest.raises(RuntimeError):
        measure_cost(net, torch.zeros(1, 3, 6, 8), "macs")
    assert not any(layer._forward_hooks for layer in net.modules())


def test_a_module_in_train_mode_or_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match=r"call Net.eval\(\) before measure_cost"):
        measure_cost(Net(), torch.zeros(1, 4, 6, 8), "macs")
    with pytest.raises(InputError, match='the cost "latencies" is unknown, .* did you mean "latency"'):
        measure_cost(Net().eval(), torch.zeros(1, 4, 6, 8), "latencies")
