"""The budget of a search: what it adds up, and its term."""
from __future__ import annotations

import pytest
import torch

from torchreid_nas.errors import InputError
from torchreid_nas.search.cost import Budget

TABLE = {"a": {"small": 1.0, "large": 3.0}, "b": {"small": 10.0, "large": 50.0}}


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
