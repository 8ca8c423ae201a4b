"""The search space of CM-NAS (Fu et al., ICCV 2021), every norm shared or split: 2^53 networks for ResNet-50."""
from __future__ import annotations

__all__ = ["BNSplitSpace"]

import copy
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from torchreid_nas.architecture import BN_SPACE, FORMATS, SHARE, SPLIT, Architecture
from torchreid_nas.device import move
from torchreid_nas.errors import InputError
from torchreid_nas.layers import MixedNorm, is_norm, mixed_layer, norm_slots, replace_module
from torchreid_nas.report.bn_split_figure import draw_bn_split
from torchreid_nas.search.relaxation import gumbel_noise
from torchreid_nas.search.space import SearchSpace, backbone_of, register_space


@register_space
class BNSplitSpace(SearchSpace):
    """Which norms of a two-stream network's ``backbone`` the modalities share: BatchNorms in the paper, any norm here.

    The neck stays outside the space, always shared, as in the paper. The
    relaxation is ours, for the paper publishes none: softmax over two logits,
    with optional Gumbel noise as in TF-NAS, an earlier method of the same group.

    Args:
        train_affine: train the scales and shifts of the candidates' norms
            as well. Default off, as in DARTS (Liu et al., ICLR 2019): trained
            scales could shrink a useless candidate, and the logits would
            decide less. Norms without statistics (LayerNorm) differ by scale and shift
            alone: their logits need it, or a search by paths, which always trains them.

    >>> model = nn.Module()
    >>> model.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    >>> space = BNSplitSpace()
    >>> supernet = space.build_supernet(model)
    >>> space.probabilities(supernet), space.derive(supernet).choices
    ({'1': {'share': 0.5, 'split': 0.5}}, (('1', 'share'),))
    """

    format = FORMATS[BN_SPACE]
    has_paths = True

    def __init__(self, train_affine: bool = False) -> None:
        self.train_affine = train_affine

    @classmethod
    def from_config(cls, search: Mapping[str, Any]) -> BNSplitSpace:
        """Take ``search.train_affine``."""
        return cls(search["train_affine"])

    def build_supernet(self, model: nn.Module) -> nn.Module:
        """Replace every norm of ``model.backbone`` by its searched form, :func:`torchreid_nas.layers.mixed_layer`.

        Raises:
            InputError: no norm, a slot is split already, or a norm that cannot be searched.
        """
        backbone = backbone_of(model)
        slots = norm_slots(backbone)
        if not slots:
            raise InputError(f"{type(backbone).__name__} has no norm to search over; choose another backbone")
        layers = {}
        for slot in slots:
            layer = backbone.get_submodule(slot)
            if not is_norm(layer):
                raise InputError(f'the slot "{slot}" is split already; build the supernet from a backbone that shares all')
            layers[slot] = mixed_layer(layer)
        for slot, mixed in layers.items():
            for norm in (mixed.share, mixed.visible, mixed.infrared):
                norm.requires_grad_(self.train_affine)
            replace_module(backbone, slot, mixed)
        return model

    def architecture_parameters(self, model: nn.Module) -> list[nn.Parameter]:
        """Return one (2,) tensor of logits per slot, in definition order."""
        return [layer.logits for layer in self._mixed(model).values()]

    def derive(self, model: nn.Module, source: Mapping[str, Any] | None = None) -> Architecture:
        """Split a slot where the logit of split is the larger; a tie stays shared, the cheaper choice."""
        choices = tuple(
            (slot, SPLIT if layer.logits[1] > layer.logits[0] else SHARE) for slot, layer in self._mixed(model).items()
        )
        return Architecture(BN_SPACE, choices, source or {})

    def derive_network(self, model: nn.Module) -> nn.Module:
        """Return a copy whose slots are plain shared or split norms with the supernet's weights."""
        network = copy.deepcopy(model)
        mixed = self._mixed(network)
        for slot, choice in self.derive(model).choices:
            replace_module(backbone_of(network), slot, mixed[slot].harden(choice == SPLIT))
        return network

    @torch.no_grad()
    def probabilities(self, model: nn.Module) -> dict[str, dict[str, float]]:
        """Return per slot ``{"share": p, "split": 1 - p}`` at the current temperature, noise left out."""
        mixed = self._mixed(model)
        logits = torch.stack([layer.logits / layer.temperature for layer in mixed.values()])
        rows = torch.softmax(logits, dim=1).tolist()
        return {slot: {SHARE: row[0], SPLIT: row[1]} for slot, row in zip(mixed, rows)}

    def anneal(self, model: nn.Module, temperature: float) -> None:
        """Set the temperature that divides the logits."""
        for layer in self._mixed(model).values():
            layer.temperature = temperature

    def sample(self, model: nn.Module, generator: torch.Generator | None) -> None:
        """Draw Gumbel noise for the logits of every slot; None turns the noise off."""
        for layer in self._mixed(model).values():
            layer.noise = None
            if generator is not None:
                layer.noise = move(gumbel_noise(2, generator).to(layer.logits.dtype), layer.logits.device)

    def choose(self, model: nn.Module, split: Sequence[bool] | None) -> None:
        """Send the next passes through one architecture alone, given slot by slot; None goes back to the weighted sum."""
        mixed = self._mixed(model)
        choices = [None] * len(mixed) if split is None else [SPLIT if one else SHARE for one in split]
        for layer, choice in zip(mixed.values(), choices, strict=True):
            layer.choice = choice

    @torch.no_grad()
    def prefer(self, model: nn.Module, preferences: torch.Tensor) -> None:
        """Set the logits: preference for split (S,), the logit of split minus the logit of share."""
        for layer, preference in zip(self._mixed(model).values(), preferences.tolist(), strict=True):
            layer.logits.copy_(torch.tensor([-preference / 2, preference / 2]))

    def cost(self, model: nn.Module) -> torch.Tensor:
        """Return the expected number of split slots as a share of all slots, a scalar."""
        return torch.stack([layer.probabilities()[1] for layer in self._mixed(model).values()]).mean()

    @classmethod
    def draw(
        cls, history: Sequence[Mapping[str, Any]], architecture: Architecture, path: str | os.PathLike[str], **network: Any,
    ) -> None:
        """Draw the slots over the epochs; the picture shows no network, so ``network`` is ignored."""
        draw_bn_split(history, architecture, path)

    @staticmethod
    def _mixed(model: nn.Module) -> dict[str, MixedNorm]:
        backbone = backbone_of(model)
        layers = {slot: backbone.get_submodule(slot) for slot in norm_slots(backbone)}
        return {slot: layer for slot, layer in layers.items() if isinstance(layer, MixedNorm)}
