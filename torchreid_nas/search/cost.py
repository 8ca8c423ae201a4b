"""A budget of a search: a target for the cost of the architecture, as a differentiable term (ours, beyond the papers)."""
from __future__ import annotations

__all__ = ["Budget"]

import dataclasses

import torch

from torchreid_nas.errors import InputError
from torchreid_nas.models.size import COST_KINDS, check_kind


@dataclasses.dataclass(frozen=True)
class Budget:
    """A target for the expected cost: weight · max(0, E / target − 1).

    E = fixed + Σ_slots Σ_i p_i · cost_i. The term is a hinge, so that below the
    target the validation loss alone decides, and relative, so that one weight
    suits every kind. E is the mean over the architectures that p stands for:
    the argmax keeps the target only once p has become sharp.

    Args:
        kind: one of :data:`COST_KINDS`.
        target: in the kind's unit, for the whole network at test time.
        weight: of the term in the architecture loss.
        table: cost of each candidate by slot.
        fixed: cost of what surrounds the slots.

    Raises:
        InputError: a target or weight that is not positive, or a target below
            the cheapest architecture.

    >>> budget = Budget("macs", 8.0, 1.0, {"a": {"small": 1.0, "large": 9.0}}, fixed=3.0)
    >>> budget.of({"a": "large"}), budget.penalty({"a": torch.tensor([0.0, 1.0])}).item()
    (12.0, 0.5)
    """

    kind: str
    target: float
    weight: float
    table: dict[str, dict[str, float]]
    fixed: float

    def __post_init__(self) -> None:
        check_kind(self.kind)
        if not self.target > 0 or not self.weight > 0:
            raise InputError(
                f"the budget of {self.kind} has the target {self.target} and the weight {self.weight}, "
                "expected both above 0"
            )
        cheapest = self.fixed + sum(min(costs.values()) for costs in self.table.values())
        if self.target < cheapest:
            unit = COST_KINDS[self.kind]
            raise InputError(
                f"the budget of {self.target:g} {unit} is below the cheapest architecture's {cheapest:g}; "
                "raise it, or search at a smaller width or input size"
            )

    def of(self, choices: dict[str, str]) -> float:
        """Return the cost of the architecture with these choices by slot."""
        return self.fixed + sum(self.table[slot][choice] for slot, choice in choices.items())

    def expected(self, probabilities: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return E for the probabilities (n,) of every slot's candidates, in the order of the table."""
        costs = [torch.dot(p, p.new_tensor(list(self.table[slot].values()))) for slot, p in probabilities.items()]
        return sum(costs[1:], start=self.fixed + costs[0])

    def penalty(self, probabilities: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return weight · max(0, E / target − 1)."""
        return self.weight * torch.relu(self.expected(probabilities) / self.target - 1)
