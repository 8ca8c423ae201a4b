"""Any norm with separate parameters per modality, fixed (split) or searched (mixed).

BatchNorms have subclasses of their own (split_bn.py, mixed_bn.py), for their
statistics are those of a part of the batch. A norm of each image by itself
(LayerNorm, GroupNorm, RMSNorm) gives n(x) γ + β: the modalities share n and
have γ and β of their own. The weighted sum of a shared and a split norm is
again such a norm, of one effective scale and shift per modality:

    p_share (n(x) γ_s + β_s) + p_split (n(x) γ_m + β_m) = n(x) γ + β,
    γ = p_share γ_s + p_split γ_m,   β = p_share β_s + p_split β_m.

None of the papers has it; it is ours.
"""
from __future__ import annotations

__all__ = ["MixedNorm", "SplitNorm", "check_joint", "forward_parts"]

import copy
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from torchreid_nas.architecture import SHARE, SPLIT
from torchreid_nas.errors import InputError
from torchreid_nas.layers.modality import BOTH, MODALITIES, ModalityLayer, visible_length
from torchreid_nas.layers.norms import is_norm


def check_joint(layer: nn.Module, x: torch.Tensor) -> int:
    """Return the length of the visible part of a joint batch ``x``.

    Raises:
        InputError: the images do not divide into the declared parts, or ``nn.DataParallel`` has parted the batch.
    """
    # torch sets this attribute on the copies that nn.DataParallel makes of a module.
    if getattr(layer, "_is_replica", False):
        raise InputError(
            "nn.DataParallel over several GPUs parts a joint batch [visible; infrared] between the GPUs, so that the halves "
            "of a part are not the modalities; train a network with split BatchNorms on one GPU"
        )
    return visible_length(x.shape[0])


def forward_parts(layer: ModalityLayer, x: torch.Tensor, visible: nn.Module, infrared: nn.Module) -> torch.Tensor:
    """Pass a batch through the module of ``layer`` that its modality has, a joint batch by its parts.

    Raises:
        InputError: the modality is not known in eval mode, or a joint batch does not divide into its parts.
    """
    modality = layer.modality()
    if modality != BOTH:
        output: torch.Tensor = (visible, infrared)[MODALITIES.index(modality)](x)
        return output
    length = check_joint(layer, x)
    # The backward pass of torch.split writes both gradients into one tensor; that of two slices writes two whole tensors.
    first, second = torch.split(x, [length, x.shape[0] - length])
    return torch.cat((visible(first), infrared(second)))


class SplitNorm(ModalityLayer):
    """One norm per modality in the place of one; both start from its parameters.

    Args:
        norm: the layer to split, any that :func:`torchreid_nas.layers.is_norm` names.

    Shapes: as the layer's; the first dimension is that of the images, or of parts of images, image by image.

    Example:
        >>> layer = SplitNorm(nn.LayerNorm(4))
        >>> layer(torch.randn(6, 3, 4)).shape
        torch.Size([6, 3, 4])
    """

    # The class holds norms of any kind and its subclasses hold BatchNorms: no narrower type fits both.
    visible: Any
    infrared: Any

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.visible, self.infrared = copy.deepcopy(norm), copy.deepcopy(norm)
        self.training = norm.training

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise a batch.

        Raises:
            InputError: the modality is not known in eval mode, or a joint
                batch has an odd number of images.
        """
        return forward_parts(self, x, self.visible, self.infrared)


class MixedNorm(ModalityLayer):
    """A shared and a split norm at once, weighted by two logits, at the price of the split one.

    Args:
        norm: the layer to search over; a LayerNorm, GroupNorm or RMSNorm with a scale. The shared norm and the norms of
            the modalities start from its parameters.

    Attributes:
        logits: (2,) parameter, preferences for ``(share, split)``, zero at the
            start. It belongs to the architecture optimiser only.
        temperature: divides the logits before the softmax.
        noise: (2,) tensor added to the logits (Gumbel noise), or None.
        choice: ``"share"`` or ``"split"`` for that candidate alone, exactly as :meth:`harden` makes it; the other one
            stays. None for the weighted sum.

    An activation behind the norm (timm's LayerNormAct) acts on the weighted sum.

    Shapes: as the layer's.

    Raises:
        InputError: ``norm`` has no scale, or an activation with parameters.

    Example:
        >>> layer = MixedNorm(nn.LayerNorm(4))
        >>> layer(torch.randn(6, 3, 4)).shape, layer.probabilities().tolist()
        (torch.Size([6, 3, 4]), [0.5, 0.5])
        >>> type(layer.harden(choice_is_split=True)).__name__
        'SplitNorm'
    """

    # Their type is that of SplitNorm's norms.
    share: Any
    visible: Any
    infrared: Any
    split_class: type[SplitNorm] = SplitNorm

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        weight = getattr(norm, "weight", None)
        if not is_norm(norm) or weight is None:
            raise InputError(f"a searched norm needs a scale, got {norm}")
        if any(True for child in norm.children() for _ in child.parameters()):
            raise InputError(f"a searched norm cannot mix activations that have parameters, got {norm}; choose another backbone")
        self.share, self.visible, self.infrared = (copy.deepcopy(norm) for _ in range(3))
        self.logits = nn.Parameter(weight.new_zeros(2))
        self.temperature = 1.0
        self.noise: torch.Tensor | None = None
        self.choice: str | None = None
        self.training = norm.training

    def probabilities(self) -> torch.Tensor:
        """Return (2,) weights of ``(share, split)`` as the forward pass uses them."""
        logits = self.logits if self.noise is None else self.logits + self.noise
        return torch.softmax(logits if self.temperature == 1 else logits / self.temperature, dim=0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise a batch.

        Raises:
            InputError: the modality is not known in eval mode, or a joint batch does not divide into its parts.
        """
        if self.choice == SHARE:
            output: torch.Tensor = self.share(x)
            return output
        if self.choice == SPLIT:
            return forward_parts(self, x, self.visible, self.infrared)
        modality, probabilities = self.modality(), self.probabilities()
        if modality != BOTH:
            return self._effective(x, getattr(self, modality), probabilities)
        length = check_joint(self, x)
        sizes = [length, x.shape[0] - length]
        return torch.cat([
            self._effective(part, norm, probabilities) for part, norm in zip(torch.split(x, sizes), (self.visible, self.infrared))
        ])

    def _effective(self, x: torch.Tensor, norm: nn.Module, probabilities: torch.Tensor) -> torch.Tensor:
        """Normalise a batch of one modality, whose norm is given, with the effective scale and shift."""
        share, split = probabilities
        own = dict(norm.named_parameters())
        mixed = {name: share * shared + split * own[name] for name, shared in self.share.named_parameters()}
        output: torch.Tensor = functional_call(self.share, mixed, (x,))
        return output

    def harden(self, choice_is_split: bool) -> nn.Module:
        """Return the plain layer that equals this layer when one candidate has all the weight."""
        if not choice_is_split:
            shared: nn.Module = copy.deepcopy(self.share).requires_grad_()
            return shared
        layer = self.split_class(self.share)
        layer.visible, layer.infrared = copy.deepcopy(self.visible), copy.deepcopy(self.infrared)
        return layer.requires_grad_()
