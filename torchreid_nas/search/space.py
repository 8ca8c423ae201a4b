"""What the bilevel engine asks of a search space."""
from __future__ import annotations

__all__ = ["SearchSpace"]

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import nn

from torchreid_nas.architecture import Architecture


class SearchSpace(Protocol):
    """Three verbs — build the supernet, name its architecture parameters, derive an Architecture — and their helpers.

    A derived network equals its supernet at that choice, exactly.
    """

    def build_supernet(self, model: nn.Module) -> nn.Module:
        """Put every candidate into ``model``, in place, and return it."""

    def architecture_parameters(self, model: nn.Module) -> list[nn.Parameter]:
        """The parameters α of the supernet."""

    def derive(self, model: nn.Module, source: Mapping[str, Any] | None = None) -> Architecture:
        """The architecture that α prefers now."""

    def derive_network(self, model: nn.Module) -> nn.Module:
        """A plain network of that architecture with the supernet's weights."""

    def probabilities(self, model: nn.Module) -> dict[str, dict[str, float]]:
        """Per slot the probability of each candidate, noise left out."""

    def anneal(self, model: nn.Module, temperature: float) -> None:
        """Set the temperature of the relaxation."""

    def sample(self, model: nn.Module, generator: torch.Generator | None) -> None:
        """Draw the relaxation's noise for the next passes; None turns it off."""

    def cost(self, model: nn.Module) -> torch.Tensor:
        """Expected cost of the architecture, differentiable in α."""
