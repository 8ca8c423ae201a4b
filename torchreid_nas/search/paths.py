"""Scores of slots from whole architectures: an additive model of the losses of sampled paths through a supernet.

A path is an architecture of a binary space, a row of 0 and 1 (1: split). One
supernet whose weights were trained on random paths (single path one-shot, Guo
et al., ECCV 2020) tells the loss of any path without training. The model is ours:

    loss(path) = c + Σ_i effect_i · (path_i − 1/2) + noise,   effect ~ N(0, τ² K),   noise ~ N(0, σ²)
    K_ij = ρ · exp(−|i − j| / ℓ) + (1 − ρ) · [i = j]

Neighbouring slots see alike statistics, so that ρ of an effect is common to
the neighbourhood. ρ and τ/σ are those under which the losses are likeliest.
The posterior is exact, also with fewer paths than slots.
"""
from __future__ import annotations

__all__ = ["SlotEffects", "additive_effects", "draw_paths"]

import dataclasses
import math

import torch

from torchreid_nas.errors import InputError

_LENGTH = 4.0  # ℓ, in slots: MobileNetV2's blocks have three, ResNet-50's three or four
_COMMON = (0.0, 0.5, 0.9)
_RATIOS = tuple(10.0 ** (power / 2) for power in range(-6, 5))


@dataclasses.dataclass(frozen=True)
class SlotEffects:
    """What splitting each slot changes of the loss, the other slots being drawn.

    Attributes:
        mean: (S,) below 0 where splitting lowers the loss.
        error: (S,) standard deviation of ``mean``.
    """

    mean: torch.Tensor
    error: torch.Tensor


def draw_paths(count: int, slots: int, generator: torch.Generator) -> torch.Tensor:
    """Draw ``count`` paths, (count, slots) of 0 and 1, in pairs of opposites: every slot is split in half of them.

    Example:
        >>> draw_paths(4, 3, torch.Generator().manual_seed(0)).sum(0).tolist()
        [2.0, 2.0, 2.0]
    """
    half = torch.randint(2, (math.ceil(count / 2), slots), generator=generator).double()
    return torch.stack([half, 1 - half], dim=1).flatten(0, 1)[:count]


def additive_effects(paths: torch.Tensor, losses: torch.Tensor) -> SlotEffects:
    """Return the effect of every slot, fitted to the losses of paths.

    Args:
        paths: (M, S) of 0 and 1.
        losses: (M,).

    Raises:
        InputError: fewer than 4 paths, or shapes that do not fit.

    Example:
        >>> paths = draw_paths(32, 3, torch.Generator().manual_seed(0))
        >>> losses = paths @ torch.tensor([0.5, -2.0, 1.0]).double()
        >>> [round(effect, 1) for effect in additive_effects(paths, losses).mean.tolist()]
        [0.5, -2.0, 1.0]
    """
    count, slots = paths.shape
    if count < 4 or losses.shape != (count,):
        raise InputError(f"effects need at least 4 paths with a loss each, got {count} paths, losses {tuple(losses.shape)}")
    design = paths.double() - 0.5
    values = losses.double()
    scale = values.std().clamp(min=1e-12)
    values = (values - values.mean()) / scale
    distance = (torch.arange(slots)[:, None] - torch.arange(slots)[None, :]).abs().double()
    identity, ones = torch.eye(count, dtype=torch.float64), torch.ones(count, count, dtype=torch.float64)
    best = None
    for common in _COMMON:
        prior = common * torch.exp(-distance / _LENGTH) + (1 - common) * torch.eye(slots, dtype=torch.float64)
        for ratio in _RATIOS:
            # The constant has a prior so wide that it takes part in nothing.
            covariance = identity + ratio * design @ prior @ design.T + 1e4 * ones
            factor = torch.linalg.cholesky(covariance)
            solved = torch.cholesky_solve(values[:, None], factor)[:, 0]
            noise = float(values @ solved) / count
            evidence = -0.5 * count * math.log(noise) - float(factor.diagonal().log().sum())
            if best is None or evidence > best[0]:
                best = evidence, ratio * prior, factor, solved, noise
    assert best is not None
    _, prior, factor, solved, noise = best
    cross = design @ prior
    mean = cross.T @ solved
    variance = noise * (prior.diagonal() - (cross * torch.cholesky_solve(cross, factor)).sum(0))
    return SlotEffects(mean * scale, variance.clamp(min=0).sqrt() * scale)
