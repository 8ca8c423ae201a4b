"""BatchNorm with separate statistics and affine parameters per modality, put into any backbone.

CM-NAS (Fu et al., ICCV 2021): in a two-stream network what matters is which
BatchNorm layers the modalities share and which they split.
"""
from __future__ import annotations

__all__ = ["SplitBatchNorm2d", "bn_slots", "split_batchnorm", "replace_module"]

import copy

import torch
from torch import nn

from torchreid_nas.architecture import SHARE, Architecture, ArchitectureSpec
from torchreid_nas.errors import InputError
from torchreid_nas.layers.modality import BOTH, MODALITIES, ModalityLayer
from torchreid_nas.layers.split_function import halves, is_plain, split_batch_norm


def check_joint(layer: nn.Module, x: torch.Tensor) -> None:
    """Raise InputError unless ``layer`` may get a joint batch ``x``: even in number, not parted by ``nn.DataParallel``."""
    # Set by torch on the copies of a module that nn.DataParallel makes.
    if getattr(layer, "_is_replica", False):
        raise InputError(
            "nn.DataParallel over several GPUs parts a joint batch [visible; infrared] between them, so that the halves of "
            "a part are not the modalities; train a network with split BatchNorms on one GPU"
        )
    if x.shape[0] % 2:
        raise InputError(
            f"a joint batch holds as many visible as infrared images, got {x.shape[0]} images; "
            "use CrossModalityIdentitySampler or declare one modality with modality_context(...)"
        )


class SplitBatchNorm2d(ModalityLayer):
    """One ``BatchNorm2d`` per modality in the place of one.

    A joint batch (N, C, H, W) is normalised by halves; a batch of one declared
    modality goes through that modality's BatchNorm alone. Dtype and memory
    format of the input are kept. In train mode plain halves are written into
    one output by the native kernel (see split_function.py); hooked, frozen or
    other layers run as they are.

    Args:
        bn: the layer to split, or the number of channels of a new one; both
            copies start from its parameters and running statistics (CM-NAS
            copies the pretrained BN into all).
    """

    def __init__(self, bn: nn.BatchNorm2d | int) -> None:
        super().__init__()
        bn = nn.BatchNorm2d(bn) if isinstance(bn, int) else bn
        self.visible = copy.deepcopy(bn)
        self.infrared = copy.deepcopy(bn)
        self.training = bn.training

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        modality = self.modality()
        if modality == BOTH:
            check_joint(self, x)
            if is_plain(x, self.visible, self.infrared):
                return split_batch_norm(x, self.visible, self.infrared)
            visible, infrared = halves(x)
            return torch.cat((self.visible(visible), self.infrared(infrared)))
        return getattr(self, modality)(x)


def bn_slots(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the BatchNorm2d slots of ``model`` in definition order.

    A slot that was split already (or is being searched) counts as one slot
    under its own name, so the slots of a network do not change by surgery.
    """
    slots: list[str] = []

    def visit(module: nn.Module, prefix: str) -> None:
        for name, child in module.named_children():
            path = f"{prefix}{name}"
            if isinstance(child, nn.BatchNorm2d) or _holds_slot(child):
                slots.append(path)
            else:
                visit(child, f"{path}.")

    visit(model, "")
    return tuple(slots)


def _holds_slot(module: nn.Module) -> bool:
    return all(isinstance(getattr(module, name, None), nn.BatchNorm2d) for name in MODALITIES)


def replace_module(model: nn.Module, path: str, module: nn.Module) -> None:
    """Put ``module`` at the dotted ``path`` of ``model``."""
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)


def split_batchnorm(model: nn.Module, architecture: ArchitectureSpec) -> nn.Module:
    """Split the BatchNorm2d layers of ``model`` that ``architecture`` names, in place.

    Works on any backbone that normalises with ``BatchNorm2d``; the ResNet-50
    of the paper (53 slots) is one case. A shared slot keeps its own
    ``BatchNorm2d`` and so its native speed; a split slot gets two.

    Args:
        model: a backbone, pretrained or not.
        architecture: an :class:`Architecture`, the name of a preset
            (``share``, ``split``, ``first-<k>``, ``last-<k>``,
            ``random-<seed>``), the path of an architecture file, or the
            authors' list of ints (0 = split, 1 = share).

    Returns:
        ``model`` itself.

    Raises:
        InputError: no BatchNorm2d, already split, or an architecture made for
            another backbone.
    """
    slots = bn_slots(model)
    if not slots:
        raise InputError(f"{type(model).__name__} has no BatchNorm2d layer to split; choose a backbone that has")
    layers = {slot: model.get_submodule(slot) for slot in slots}
    for slot, layer in layers.items():
        if not isinstance(layer, nn.BatchNorm2d):
            raise InputError(f'the slot "{slot}" is split already; call split_batchnorm once, on a fresh backbone')
    for slot, choice in Architecture.resolve(architecture, slots).choices:
        if choice != SHARE:
            replace_module(model, slot, SplitBatchNorm2d(layers[slot]))
    return model
