"""The split advisor: how far the modalities' statistics differ at every slot, held against a null, and what splitting gains.

For a slot whose input has the channel means μ_m and standard deviations σ_m of
the modalities m, pooled deviation σ, the distance is the Fréchet distance of
two normal distributions per channel, in pooled variances, the mean over channels:

    d = mean_c [(μ_v − μ_t)² + (σ_v − σ_t)²] / σ²

The null exchanges modalities of whole identities. Images of one person are
alike, so that a permutation of images finds two halves of different people
"different" in every trial; identities are the units that are drawn.
"""
from __future__ import annotations

__all__ = ["Advice", "IdentityStatistics", "SlotAdvice", "frechet_distance", "permutation_test"]

import dataclasses
from collections.abc import Sequence

import torch
from torch import nn

from torchreid_nas.architecture import BN_SPACE, SHARE, SPLIT, Architecture
from torchreid_nas.errors import InputError


class IdentityStatistics:
    """Sums of a slot's input per identity and modality, gathered by a hook over any number of joint batches.

    Attributes:
        counts: (2, K) values per channel.
        sums, squares: (2, K, C).
    """

    def __init__(self, layer: nn.Module, pids: Sequence[int]) -> None:
        self.index = {pid: row for row, pid in enumerate(sorted(set(pids)))}
        self.counts = torch.zeros(2, len(self.index), dtype=torch.float64)
        self.sums = self.squares = torch.zeros(0)
        self._rows: torch.Tensor | None = None
        self._handle = layer.register_forward_pre_hook(self._add)

    def expect(self, pids: torch.Tensor) -> None:
        """Say whose images the next joint batch holds, (N,) in its order."""
        self._rows = torch.tensor([self.index[int(pid)] for pid in pids])

    def remove(self) -> None:
        """Take the hook off the layer."""
        self._handle.remove()

    def _add(self, _: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        (x,) = inputs
        assert self._rows is not None
        x = x.detach().double()
        if not len(self.sums):
            self.sums = torch.zeros(2, len(self.index), x.shape[1], dtype=torch.float64)
            self.squares = torch.zeros_like(self.sums)
        totals, squares = x.sum((2, 3)).cpu(), x.square().sum((2, 3)).cpu()
        pixels = x.shape[2] * x.shape[3]
        half = len(x) // 2
        for modality, part in enumerate((slice(0, half), slice(half, None))):
            rows = self._rows[part]
            self.sums[modality].index_add_(0, rows, totals[part])
            self.squares[modality].index_add_(0, rows, squares[part])
            self.counts[modality].index_add_(0, rows, torch.full((len(rows),), float(pixels), dtype=torch.float64))


def frechet_distance(counts: torch.Tensor, sums: torch.Tensor, squares: torch.Tensor) -> torch.Tensor:
    """Return the distance d of the two sides, a scalar.

    Args:
        counts: (2,) values per channel of each side.
        sums: (2, C).
        squares: (2, C) sums of squares.

    Example:
        >>> one = torch.tensor([[0.0], [2.0]])  # one value a side: 0 and 2, pooled mean 1 and variance 1
        >>> frechet_distance(torch.ones(2), one, one.square()).item()
        4.0
    """
    mean = sums / counts[:, None]
    var = (squares / counts[:, None] - mean.square()).clamp(min=0)
    pooled_mean = sums.sum(0) / counts.sum()
    pooled = (squares.sum(0) / counts.sum() - pooled_mean.square()).clamp(min=1e-12)
    means, deviations = mean.diff(dim=0)[0].square(), var.sqrt().diff(dim=0)[0].square()
    return ((means + deviations) / pooled).mean()


def permutation_test(
    counts: torch.Tensor, sums: torch.Tensor, squares: torch.Tensor, draws: int, generator: torch.Generator,
) -> tuple[float, float, float]:
    """Return the distance, the 95th percentile of the null and the p-value.

    Identities with both modalities exchange the two at random; those with one modality exchange it among themselves.

    Args:
        counts: (2, K) values per channel of each identity in each modality, 0 where it has none.
        sums: (2, K, C).
        squares: (2, K, C).
        draws: permutations.
        generator: of the permutations.

    Raises:
        InputError: a modality has no image.
    """
    if not bool((counts.sum(1) > 0).all()):
        raise InputError("the advisor compares two modalities, and the images are of one; give visible and infrared images")
    observed = float(frechet_distance(counts.sum(1), sums.sum(1), squares.sum(1)))
    both = (counts > 0).all(0)
    single = (~both).nonzero()[:, 0]
    null = []
    for _ in range(draws):
        swap = torch.rand(counts.shape[1], generator=generator) < 0.5
        if len(single):
            visible = counts[0, single] > 0
            swap[single] = visible != visible[torch.randperm(len(single), generator=generator)]
        order = torch.stack([swap.long(), 1 - swap.long()])
        drawn = [torch.gather(values, 0, order[..., None].expand_as(values)).sum(1) for values in (sums, squares)]
        null.append(float(frechet_distance(counts.gather(0, order).sum(1), *drawn)))
    ordered = sorted(null)
    return observed, ordered[min(draws - 1, int(0.95 * draws))], (1 + sum(value >= observed for value in null)) / (1 + draws)


@dataclasses.dataclass(frozen=True)
class SlotAdvice:
    """What is known of one slot before any training.

    Attributes:
        slot: its name.
        distance: d of the modalities at its input.
        null: 95th percentile of the distances under exchanged identities.
        p: p-value of ``distance``.
        gain: how much the loss of retrieval falls when this slot alone is split, running statistics counted afresh.
        error: standard error of ``gain`` over the identities.
    """

    slot: str
    distance: float
    null: float
    p: float
    gain: float
    error: float

    @property
    def splits(self) -> bool:
        """Whether to split: the statistics differ, and splitting is not shown to harm (two standard errors)."""
        return self.p <= 0.05 and self.gain > -2 * self.error


@dataclasses.dataclass(frozen=True)
class Advice:
    """The advice for all slots of a network, in definition order.

    Example:
        >>> advice = Advice((SlotAdvice("bn1", 0.5, 0.1, 0.01, 0.2, 0.1), SlotAdvice("bn2", 0.1, 0.2, 0.4, 0.0, 0.1)))
        >>> print(advice.architecture())
        1 of 2 norms split: bn1
    """

    slots: Sequence[SlotAdvice]

    def architecture(self, **source: object) -> Architecture:
        """Return the advised architecture, its source recorded."""
        choices = tuple((slot.slot, SPLIT if slot.splits else SHARE) for slot in self.slots)
        return Architecture(BN_SPACE, choices, {"advisor": "frechet distance and gain of splitting alone", **source})
