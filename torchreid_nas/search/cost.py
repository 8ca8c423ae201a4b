"""What a network costs at test time: multiply-adds, parameters, latency; and a budget as a differentiable term.

All of it beyond the papers (ours). Counted is what one forward pass in eval
mode executes, so that a neck's classifiers, which inference drops, do not weigh.
"""
from __future__ import annotations

__all__ = ["COST_KINDS", "Budget", "measure_cost"]

import dataclasses
import statistics
import time

import torch
from torch import nn

from torchreid_nas.errors import InputError, nearest

COST_KINDS = {"macs": "multiply-adds", "parameters": "parameters", "latency": "milliseconds"}
"""The kinds of cost and their units."""

_WARM_UP = 3


@torch.no_grad()
def measure_cost(module: nn.Module, x: torch.Tensor, kind: str, repeats: int = 20) -> float:
    """Return what ``module``, in eval mode already, costs on ``x``.

    Args:
        module: any module of one tensor.
        x: (1, C, H, W), on the module's device.
        kind: ``"macs"``, those of convolutions and linear layers, the usual
            count; ``"parameters"``, of the layers that the pass executes, each
            once; ``"latency"``, milliseconds on this machine's device with the
            threads that torch has now: the median of ``repeats`` passes after
            three that do not count.
        repeats: passes of a latency.

    Raises:
        InputError: an unknown kind, or a module in train mode, whose
            statistics the pass would move.
    """
    check_kind(kind)
    if any(layer.training for layer in module.modules()):
        raise InputError(f"the cost is that of inference; call {type(module).__name__}.eval() before measuring it")
    if kind == "latency":
        return _latency(module, x, repeats)
    macs, layers = 0, set()

    def count(layer: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        nonlocal macs
        layers.add(layer)
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            # Every output element is a dot product with one filter; of linear layers and 1×1 maps alike.
            macs += output.numel() * layer.weight[0].numel()

    hooks = [layer.register_forward_hook(count) for layer in module.modules() if not any(layer.children())]
    try:
        module(x)
    finally:
        for hook in hooks:
            hook.remove()
    if kind == "macs":
        return float(macs)
    return float(sum(parameter.numel() for layer in layers for parameter in layer.parameters()))


def check_kind(kind: str) -> None:
    """Raise InputError unless ``kind`` is one of :data:`COST_KINDS`."""
    if kind not in COST_KINDS:
        raise InputError(
            f'the cost "{kind}" is unknown, expected one of {", ".join(COST_KINDS)}{nearest(kind, COST_KINDS)}'
        )


def _latency(module: nn.Module, x: torch.Tensor, repeats: int) -> float:
    seconds = []
    for _ in range(_WARM_UP + repeats):
        start = time.perf_counter()
        module(x)
        if x.is_cuda:
            torch.cuda.synchronize(x.device)
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds[_WARM_UP:])


@dataclasses.dataclass(frozen=True)
class Budget:
    """A target for the expected cost: weight · max(0, E / target − 1).

    E = fixed + Σ_slots Σ_i p_i · cost_i. A hinge, so that below the target the
    validation loss alone decides; relative, so that one weight suits every
    kind. E is the mean over architectures that p stands for: the argmax keeps
    the target only once p has become sharp.

    Args:
        kind: one of :data:`COST_KINDS`.
        target: in the kind's unit, for the whole network at test time.
        weight: of the term in the architecture loss.
        table: cost of each candidate by slot.
        fixed: cost of what surrounds the slots.

    Raises:
        InputError: a target or weight that is not positive, or a target below
            the cheapest architecture.
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
        total = self.fixed
        for slot, p in probabilities.items():
            total = total + torch.dot(p, p.new_tensor(list(self.table[slot].values())))
        return total

    def penalty(self, probabilities: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return weight · max(0, E / target − 1)."""
        return self.weight * torch.relu(self.expected(probabilities) / self.target - 1)
