"""Costs counted by hand, latencies, and the budget's term."""
from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from torchreid_nas.errors import InputError
from torchreid_nas.search.cost import Budget, measure_cost

TABLE = {"a": {"small": 1.0, "large": 3.0}, "b": {"small": 10.0, "large": 50.0}}


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
    with pytest.raises(InputError, match=r"call Net.eval\(\) before measuring"):
        measure_cost(Net(), torch.zeros(1, 4, 6, 8), "macs")
    with pytest.raises(InputError, match='the cost "latencies" is unknown, .* did you mean "latency"'):
        measure_cost(Net().eval(), torch.zeros(1, 4, 6, 8), "latencies")


def test_a_budget_adds_up_chosen_and_expected_costs():
    budget = Budget("macs", 20.0, 2.0, TABLE, fixed=5.0)
    assert budget.of({"a": "large", "b": "small"}) == 18.0
    p = {"a": torch.tensor([0.25, 0.75]), "b": torch.tensor([0.5, 0.5])}
    assert budget.expected(p).item() == 5 + 0.25 + 2.25 + 5 + 25
    assert budget.penalty(p).item() == pytest.approx(2 * (37.5 / 20 - 1))
    cheap = {"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([1.0, 0.0])}
    assert budget.penalty(cheap).item() == 0, "below the target nothing pulls"


def test_a_hard_expectation_is_the_cost_of_that_choice():
    budget = Budget("latency", 100.0, 1.0, TABLE, fixed=0.5)
    assert budget.expected({"a": torch.tensor([0.0, 1.0]), "b": torch.tensor([1.0, 0.0])}).item() == budget.of(
        {"a": "large", "b": "small"}
    )


def test_the_cheapest_architecture_is_the_least_target():
    assert Budget("macs", 16.0, 1.0, TABLE, fixed=5.0).target == 16.0
    with pytest.raises(InputError, match="budget of 15.9 multiply-adds is below the cheapest architecture's 16; raise"):
        Budget("macs", 15.9, 1.0, TABLE, fixed=5.0)
