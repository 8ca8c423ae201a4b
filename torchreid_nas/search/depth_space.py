"""The block spaces of CDNet: which pair of kernels, and how deep, each of six blocks has.

Li, Wu, Zheng. Combined Depth Space based Architecture Search For Person
Re-identification. CVPR 2021, sections 3.1-3.2. Combined depth space: 12^6
architectures; combined space: 6^6.
"""
from __future__ import annotations

__all__ = ["CombinedDepthSpace", "CombinedSpace", "MBlock"]

import copy
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from torchreid_nas.architecture import FORMATS, Architecture
from torchreid_nas.errors import InputError
from torchreid_nas.genotypes import BLOCK_SLOTS, CANDIDATES, COMBINED_DEPTH_SPACE, COMBINED_SPACE, candidate_kernels
from torchreid_nas.layers import CDBlock, ConvBN
from torchreid_nas.layers.norms import replace_module
from torchreid_nas.models.initial import init_params
from torchreid_nas.models.size import check_kind, measure_cost
from torchreid_nas.report.genotype_figure import draw_genotype
from torchreid_nas.search.cost import Budget
from torchreid_nas.search.relaxation import Relaxation, TopK, relaxation
from torchreid_nas.search.space import SearchSpace, backbone_of, register_space

_ALPHA_INIT = 1e-3
_LAST = "last"


class MBlock(nn.Module):
    """All candidates of one block, summed as a relaxation of the logits says.

    Σ_{i computed} w_i · op_i(x) + Σ_{others} w_i. A candidate that is not
    computed costs nothing; its weight w_i is zero in value and carries the
    gradient to α.

    The parameters of such a candidate keep ``grad`` None, so that an optimiser
    leaves them alone: neither weight decay nor the momentum of earlier
    selections moves them. The statistics of its BatchNorms stay, too. Gradients
    must be cleared to None, torch's default, as ``BilevelOptimizer`` does.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, a multiple of 16.
        candidates: names, see :data:`torchreid_nas.genotypes.CANDIDATES`.
        relaxation: see :mod:`torchreid_nas.search.relaxation`; top-2 unless told.
        gated: see :class:`torchreid_nas.layers.CBlock`.
        convolutions: see :class:`torchreid_nas.layers.CBlock`.

    Attributes:
        ops: a :class:`CDBlock` per candidate, by name.
        alpha: (n,) logits, 10⁻³ at the start. Only the architecture optimiser holds them.
        noise: (n,) for the relaxation, or None.

    Raises:
        InputError: an unknown candidate, or channels that a block refuses.

    >>> block = MBlock(16, 32, ("3,5", "7,9"), TopK(k=1))
    >>> block(torch.zeros(2, 16, 8, 4)).shape, block.choice()
    (torch.Size([2, 32, 8, 4]), '3,5')
    """

    def __init__(
        self, in_channels: int, out_channels: int, candidates: Sequence[str], relaxation: Relaxation | None = None,
        gated: bool = True, convolutions: str = "lite",
    ) -> None:
        super().__init__()
        self.ops = nn.ModuleDict(
            {name: CDBlock(in_channels, out_channels, *candidate_kernels(name), gated, convolutions) for name in candidates}
        )
        self.alpha = nn.Parameter(torch.full((len(self.ops),), _ALPHA_INIT))
        self.relaxation: Relaxation = relaxation or TopK()
        self.noise: torch.Tensor | None = None
        # A k above the number of candidates is refused here and not at the first batch.
        self.relaxation(self.alpha)

    @property
    def candidates(self) -> tuple[str, ...]:
        """Names in the order of ``alpha``."""
        return tuple(self.ops)

    def probabilities(self) -> torch.Tensor:
        """Return softmax(α / τ), (n,), differentiable, noise left out."""
        return torch.softmax(self.alpha / self.relaxation.temperature, dim=0)

    def choice(self) -> str:
        """Return the candidate with the largest logit, among equals the first."""
        return self.candidates[self.alpha.detach().cpu().argmax()]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, ``in_channels``, H, W) to (B, ``out_channels``, H, W)."""
        weights, computed = self.relaxation(self.alpha, self.noise)
        ops = list(self.ops.values())
        output: torch.Tensor = weights[computed[0]] * ops[computed[0]](x)
        for index in computed[1:]:
            output = output + weights[index] * ops[index](x)
        left_out = [index for index in range(len(ops)) if index not in computed]
        return output + weights[left_out].sum() if left_out else output

    def extra_repr(self) -> str:
        """Name the relaxation."""
        return str(self.relaxation)


@register_space
class CombinedDepthSpace(SearchSpace):
    """The combined depth space: 12 candidates for each of the six blocks of a CDNet.

    Works on a model whose ``backbone`` is a
    :class:`torchreid_nas.models.CDNetBackbone`, whatever its neck and width.

    Args:
        relaxation: of every block; :class:`TopK` with k = 2 unless told.
        last_conv: append the 1×1 convolution with BatchNorm and ReLU that ends
            the paper's search network, and it alone, to the third stage.

    The supernet at k = 1 equals the network of the derived architecture
    exactly, the last convolution kept (see :meth:`derive_network`).

    >>> from torchreid_nas.models import cdnet
    >>> space = CombinedDepthSpace()
    >>> supernet = space.build_supernet(cdnet(4, width=0.125))
    >>> [len(logits) for logits in space.architecture_parameters(supernet)]
    [12, 12, 12, 12, 12, 12]
    """

    format = FORMATS[COMBINED_DEPTH_SPACE]

    def __init__(self, relaxation: Relaxation | None = None, last_conv: bool = True) -> None:
        self.relaxation: Relaxation = relaxation or TopK()
        self.last_conv = last_conv
        self.budget: Budget | None = None

    @classmethod
    def from_config(cls, search: Mapping[str, Any]) -> CombinedDepthSpace:
        """Take ``search.relaxation``, for top-k ``k`` and ``tie_jitter`` too, and ``search.last_conv``; no budget is set."""
        options = {key: search[key] for key in ("tie_jitter", "k")} if search["relaxation"] == "topk" else {}
        return cls(relaxation(search["relaxation"], **options), search["last_conv"])

    def build_supernet(self, model: nn.Module) -> nn.Module:
        """Replace the six blocks of ``model.backbone`` by :class:`MBlock`, in place, and return ``model``.

        All candidates start afresh, initialised as the authors initialise
        their networks: trained weights of one candidate would decide the
        search. Stem and DownSamples keep their weights.

        Raises:
            InputError: the backbone does not have the six blocks, or is a
                supernet already.
        """
        backbone = backbone_of(model)
        if any(isinstance(layer, MBlock) for layer in backbone.modules()):
            raise InputError("this network is a supernet already; build the supernet from a plain CDNet")
        found = tuple(name for name, layer in backbone.named_modules() if isinstance(layer, CDBlock))
        if found != BLOCK_SLOTS:
            raise InputError(
                f"{type(backbone).__name__} has {len(found)} combined depth blocks ({', '.join(found) or 'none'}), "
                f"expected the {len(BLOCK_SLOTS)} of CDNet: {', '.join(BLOCK_SLOTS)}"
            )
        for slot in BLOCK_SLOTS:
            block: Any = backbone.get_submodule(slot)
            convolutions = [layer for layer in block.modules() if isinstance(layer, nn.Conv2d)]
            channels = convolutions[0].in_channels, convolutions[-1].out_channels
            mixed = MBlock(*channels, CANDIDATES[self.name], self.relaxation, block.gated, block.convolutions)
            replace_module(backbone, slot, _like(mixed, block))
        if self.last_conv:
            channels = (convolutions[-1].out_channels,) * 2
            backbone.get_submodule("stage3").add_module(_LAST, _like(ConvBN(*channels), backbone.get_submodule("stem")))
        return model

    def architecture_parameters(self, model: nn.Module) -> list[nn.Parameter]:
        """Return one (n,) tensor of logits per block, in the order of the slots."""
        return [block.alpha for block in self._blocks(model).values()]

    def derive(self, model: nn.Module, source: Mapping[str, Any] | None = None) -> Architecture:
        """Choose the candidate with the largest logit per block; among equal logits the first, as the authors' argmax."""
        choices = tuple((slot, block.choice()) for slot, block in self._blocks(model).items())
        return Architecture(self.name, choices, source or {})

    def derive_network(self, model: nn.Module, keep_last: bool = False) -> nn.Module:
        """Return a copy of plain blocks with the supernet's weights.

        Args:
            model: the supernet.
            keep_last: keep the search network's last convolution. Without it
                the state dict fits ``cdnet(..., architecture=derive(model))``.
        """
        architecture = self.derive(model)
        blocks = self._blocks(model)
        # A stand-in is copied in the place of each candidate that lost: a supernet has many times the network's weights.
        stand_in = nn.Identity()
        network = copy.deepcopy(model, {
            id(op): stand_in
            for slot, choice in architecture.choices for name, op in blocks[slot].ops.items() if name != choice
        })
        backbone, chosen = backbone_of(network), self._blocks(network)
        for slot, choice in architecture.choices:
            replace_module(backbone, slot, chosen[slot].ops[choice])
        stage3 = backbone.get_submodule("stage3")
        if not keep_last and hasattr(stage3, _LAST):
            delattr(stage3, _LAST)
        network.__dict__["architecture"] = architecture
        return network

    @torch.no_grad()
    def probabilities(self, model: nn.Module) -> dict[str, dict[str, float]]:
        """Return per block softmax(α / τ) by candidate, noise left out."""
        return {
            slot: dict(zip(block.candidates, block.probabilities().tolist()))
            for slot, block in self._blocks(model).items()
        }

    def anneal(self, model: nn.Module, temperature: float) -> None:
        """Set the temperature τ of the relaxation."""
        for block in self._blocks(model).values():
            block.relaxation = block.relaxation.at(temperature)

    def sample(self, model: nn.Module, generator: torch.Generator | None) -> None:
        """Draw the noise of the relaxation (jitter, Gumbel) for the next passes; None turns the noise off."""
        for block in self._blocks(model).values():
            noise = block.relaxation.draw(len(block.ops), generator) if generator is not None else None
            block.noise = noise if noise is None else noise.to(block.alpha)

    # -- budget ---------------------------------------------------------------

    def set_budget(
        self, model: nn.Module, kind: str, target: float, weight: float = 1.0,
        input_size: tuple[int, int] = (256, 128), repeats: int = 20,
    ) -> Budget:
        """Measure every candidate where it stands, and make :meth:`cost` a term that keeps a target (ours).

        Args:
            model: the supernet.
            kind: ``"macs"``, ``"parameters"`` or ``"latency"`` (milliseconds,
                batch 1, on the device of ``model`` in this machine); see
                :func:`torchreid_nas.models.size.measure_cost`.
            target: for the whole network at test time, the neck included, the
                search network's last convolution not.
            weight: of the term.
            input_size: (height, width) of the images.
            repeats: passes of each latency.

        The input is zeros for what surrounds the blocks and normal noise of
        seed 0 for the candidates.

        Raises:
            InputError: an unknown kind, a size too small for the network, or
                what :class:`Budget` refuses.
        """
        check_kind(kind)
        network = self.derive_network(model).eval()
        parameter = next(network.parameters())
        shapes: dict[str, torch.Size] = {}
        hooks = [
            backbone_of(network).get_submodule(slot).register_forward_hook(
                lambda _, inputs, __, slot=slot: shapes.update({slot: inputs[0].shape})
            )
            for slot in BLOCK_SLOTS
        ]
        images = parameter.new_zeros(1, 3, *input_size)
        with torch.no_grad():
            network(images)
        for hook in hooks:
            hook.remove()
        generator = torch.Generator().manual_seed(0)
        table = {}
        for slot, block in self._blocks(model).items():
            x = torch.randn(shapes[slot], generator=generator).to(parameter)
            ops = copy.deepcopy(block.ops).eval()
            table[slot] = {name: measure_cost(op, x, kind, repeats) for name, op in ops.items()}
        chosen = sum(table[slot][choice] for slot, choice in self.derive(model).choices)
        # The latency of the whole can fall below the sum of the parts' latencies, each measured with cold caches.
        fixed = max(0.0, measure_cost(network, images, kind, repeats) - chosen)
        self.budget = Budget(kind, target, weight, table, fixed)
        return self.budget

    def cost(self, model: nn.Module) -> torch.Tensor:
        """Return the budget's term, weight · max(0, E / target − 1), differentiable in α.

        Raises:
            InputError: no budget has been set.
        """
        if self.budget is None:
            raise InputError("the cost of this space is the term of a budget, and no budget is set; call set_budget first")
        return self.budget.penalty({slot: block.probabilities() for slot, block in self._blocks(model).items()})

    # -- the picture ----------------------------------------------------------

    @classmethod
    def draw(
        cls, history: Sequence[Mapping[str, Any]], architecture: Architecture, path: str | os.PathLike[str], **network: Any,
    ) -> None:
        """Draw every block's candidates over the epochs, and the network; see :func:`~torchreid_nas.report.draw_genotype`."""
        draw_genotype(history, architecture, path, **network)

    @staticmethod
    def _blocks(model: nn.Module) -> dict[str, MBlock]:
        blocks = {slot: backbone_of(model).get_submodule(slot) for slot in BLOCK_SLOTS}
        return {slot: block for slot, block in blocks.items() if isinstance(block, MBlock)}


@register_space
class CombinedSpace(CombinedDepthSpace):
    """The combined space: the six pairs of kernels, all of depth 1. It leads to CNet."""

    format = FORMATS[COMBINED_SPACE]


def _like(layer: nn.Module, other: nn.Module) -> nn.Module:
    """Initialise ``layer`` as the authors do, on the device, in the dtype and mode of ``other``."""
    init_params(layer)
    return layer.to(next(other.parameters())).train(other.training)
