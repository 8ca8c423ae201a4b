"""Relaxations: how a discrete choice among candidates becomes differentiable.

A relaxation maps the logits α of a slot's n candidates to n weights and to the
candidates that have to be computed. :class:`torchreid_nas.search.depth_space.MBlock`
sums the former over the latter.

- :class:`TopK`: Top-k Sample Search (Li et al., CDNet, CVPR 2021).
- :class:`Softmax`: the mixture of all (Liu et al., DARTS, ICLR 2019, eq. 2).
- :class:`GumbelSample`: one sampled path (Dong & Yang, GDAS, CVPR 2019, eq. 3-6).
"""
from __future__ import annotations

__all__ = ["GumbelSample", "RELAXATIONS", "Relaxation", "Softmax", "TopK", "gumbel_noise", "relaxation"]

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, Protocol

import torch

from torchreid_nas.errors import InputError, nearest


class Relaxation(Protocol):
    """What an MBlock asks for; implementations are frozen values."""

    @property
    def temperature(self) -> float:
        """τ, which divides the logits."""

    def at(self, temperature: float) -> Relaxation:
        """Return the same relaxation at another temperature."""

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor | None:
        """Draw the noise of one slot, (count,) float32 on the generator's device; None where there is none."""

    def __call__(self, alpha: torch.Tensor, noise: torch.Tensor | None = None) -> tuple[torch.Tensor, list[int]]:
        """Return the weights (n,), differentiable in ``alpha`` (n,), and the candidates to compute, best first.

        Without ``noise`` the answer is a function of ``alpha`` alone; among equal logits the first comes first.
        """


@dataclasses.dataclass(frozen=True)
class TopK:
    """Top-k Sample Search: the k likeliest candidates, straight through.

    p = softmax(α / τ), h = 1 at the k largest and 0 elsewhere,
    w = (h − p).detach() + p: in value h, in gradient p.

    The logits start equal, so the sort alone would decide which k are the
    largest, and always the same. The jitter is ours: Gaussian noise far below
    any step of α. The jitter breaks ties anew at every draw and enters the
    selection only, never p.

    Args:
        k: candidates computed; 2 in the paper.
        temperature: τ; 1 in the paper.
        tie_jitter: standard deviation of the jitter on α; 0 for none.

    Raises:
        InputError: k below 1 or, in a call, above the number of candidates.

    >>> weights, computed = TopK(k=2)(torch.tensor([0.1, 0.3, 0.2]))
    >>> weights.tolist(), computed
    ([0.0, 1.0, 1.0], [1, 2])
    """

    k: int = 2
    temperature: float = 1.0
    tie_jitter: float = 1e-6

    def __post_init__(self) -> None:
        _check_temperature(self.temperature)
        if self.k < 1:
            raise InputError(f"top-k sampling computes at least one candidate per block, got k = {self.k}")
        if self.tie_jitter < 0:
            raise InputError(f"the jitter that breaks ties is a standard deviation, got {self.tie_jitter}")

    def at(self, temperature: float) -> TopK:
        """Return the same relaxation at another temperature."""
        return dataclasses.replace(self, temperature=temperature)

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Draw the jitter that breaks ties, normal of the standard deviation ``tie_jitter``."""
        return self.tie_jitter * torch.randn(count, generator=generator, device=generator.device)

    def __call__(self, alpha: torch.Tensor, noise: torch.Tensor | None = None) -> tuple[torch.Tensor, list[int]]:
        """Return w and the k likeliest candidates; the noise enters the selection only."""
        if self.k > len(alpha):
            raise InputError(f"top-k sampling asks for k = {self.k} of {len(alpha)} candidates; choose a smaller k")
        preference = alpha.detach() if noise is None else alpha.detach() + noise
        return _straight_through(torch.softmax(alpha / self.temperature, dim=0), _order(preference)[: self.k])


@dataclasses.dataclass(frozen=True)
class Softmax:
    """DARTS: w = softmax(α / τ), all candidates computed.

    Args:
        temperature: τ; 1 in the paper.

    >>> weights, computed = Softmax()(torch.zeros(4))
    >>> weights.tolist(), computed
    ([0.25, 0.25, 0.25, 0.25], [0, 1, 2, 3])
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        _check_temperature(self.temperature)

    def at(self, temperature: float) -> Softmax:
        """Return the same relaxation at another temperature."""
        return dataclasses.replace(self, temperature=temperature)

    def draw(self, count: int, generator: torch.Generator) -> None:
        """Draw nothing: the mixture has no noise."""

    def __call__(self, alpha: torch.Tensor, noise: torch.Tensor | None = None) -> tuple[torch.Tensor, list[int]]:
        """Return the softmax and all candidates."""
        return torch.softmax(alpha / self.temperature, dim=0), list(range(len(alpha)))


@dataclasses.dataclass(frozen=True)
class GumbelSample:
    """GDAS: the argmax of p = softmax((α + g) / τ), g ~ Gumbel(0, 1), straight through.

    Without noise it is the argmax of α.

    Args:
        temperature: τ; the paper anneals it from 10 to 0.1.

    >>> GumbelSample()(torch.tensor([0.1, 0.3, 0.2]))[1]
    [1]
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        _check_temperature(self.temperature)

    def at(self, temperature: float) -> GumbelSample:
        """Return the same relaxation at another temperature."""
        return dataclasses.replace(self, temperature=temperature)

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Draw Gumbel noise."""
        return gumbel_noise(count, generator)

    def __call__(self, alpha: torch.Tensor, noise: torch.Tensor | None = None) -> tuple[torch.Tensor, list[int]]:
        """Return w and the one sampled candidate."""
        logits = alpha if noise is None else alpha + noise
        return _straight_through(torch.softmax(logits / self.temperature, dim=0), _order(logits.detach())[:1])


RELAXATIONS: dict[str, Callable[..., Relaxation]] = {"topk": TopK, "softmax": Softmax, "gumbel": GumbelSample}
"""The relaxations by the names that a config gives them."""


def gumbel_noise(count: int, generator: torch.Generator) -> torch.Tensor:
    """Draw (count,) float32 from Gumbel(0, 1), on the generator's device."""
    # The bounds differ from 0 and 1 in float32; the logarithm of 0 is infinite, that of 1 zero.
    uniform = torch.rand(count, generator=generator, device=generator.device).clamp_(1e-9, 1 - 1e-7)
    return -torch.log(-torch.log(uniform))


def relaxation(name: str, **options: Any) -> Relaxation:
    """Return the relaxation of that name with its options.

    Raises:
        InputError: an unknown name, an option that the relaxation does not have, or a value that it refuses.

    >>> relaxation("topk", k=3)
    TopK(k=3, temperature=1.0, tie_jitter=1e-06)
    """
    if name not in RELAXATIONS:
        raise InputError(
            f'the relaxation "{name}" is unknown, expected one of {", ".join(RELAXATIONS)}{nearest(name, RELAXATIONS)}'
        )
    fields = list(inspect.signature(RELAXATIONS[name]).parameters)
    for option in options:
        if option not in fields:
            raise InputError(
                f'the relaxation "{name}" has no option "{option}", it takes {", ".join(fields)}'
                f"{nearest(option, fields)}"
            )
    return RELAXATIONS[name](**options)


def _order(preference: torch.Tensor) -> list[int]:
    """Indices from the largest on; a stable sort, for torch.topk may break ties differently on every device."""
    return torch.sort(preference, descending=True, stable=True).indices.tolist()


def _straight_through(p: torch.Tensor, selected: list[int]) -> tuple[torch.Tensor, list[int]]:
    hard = torch.zeros_like(p)
    hard[selected] = 1
    return (hard - p).detach() + p, selected


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise InputError(f"the temperature of a relaxation divides its logits and must be above 0, got {temperature}")
