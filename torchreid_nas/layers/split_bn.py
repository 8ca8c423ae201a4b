"""BatchNorm with separate statistics and affine parameters per modality, put into any backbone.

CM-NAS (Fu et al., ICCV 2021): in a two-stream network the choice that matters
is which BatchNorm layers the modalities share and which they split.
"""
from __future__ import annotations

__all__ = ["SplitBatchNorm2d", "bn_slots", "normalize_by_modality", "replace_module", "split_batchnorm"]

import copy

import torch
from torch import nn

from torchreid_nas.architecture import SHARE, Architecture, ArchitectureSpec
from torchreid_nas.errors import InputError
from torchreid_nas.layers.modality import BOTH, MODALITIES, ModalityLayer
from torchreid_nas.layers.split_function import halves, is_plain, split_batch_norm


def check_joint(layer: nn.Module, x: torch.Tensor) -> None:
    """Raise InputError for a joint batch ``x`` of an odd number of images, or one that ``nn.DataParallel`` has parted."""
    # torch sets this attribute on the copies that nn.DataParallel makes of a module.
    if getattr(layer, "_is_replica", False):
        raise InputError(
            "nn.DataParallel over several GPUs parts a joint batch [visible; infrared] between the GPUs, so that the halves "
            "of a part are not the modalities; train a network with split BatchNorms on one GPU"
        )
    if x.shape[0] % 2:
        raise InputError(
            f"a joint batch holds as many visible as infrared images, got {x.shape[0]} images; "
            "use CrossModalityIdentitySampler or declare one modality with modality_context(...)"
        )


class SplitBatchNorm2d(ModalityLayer):
    """One ``BatchNorm2d`` per modality in the place of one.

    A joint batch is normalised by halves. A batch of one declared modality
    goes through the BatchNorm of that modality alone. In train mode the native
    kernel writes both halves into one output (see split_function.py); layers
    with hooks, frozen layers and subclasses are called as they are.

    Args:
        bn: the layer to split, or the number of channels of a new one. Both
            copies start from its parameters and running statistics (CM-NAS
            copies the pretrained BatchNorm into all).

    Shapes: (N, C, H, W) -> (N, C, H, W) in the dtype and memory format of the
    input: float32, or float16/bfloat16 with parameters in float32.

    Example:
        >>> layer = SplitBatchNorm2d(4)
        >>> layer(torch.randn(6, 4, 2, 2)).shape
        torch.Size([6, 4, 2, 2])
        >>> layer.visible.num_batches_tracked.item(), layer.infrared.num_batches_tracked.item()
        (1, 1)
        >>> from torchreid_nas.layers import modality_context
        >>> with modality_context("visible"):
        ...     _ = layer(torch.randn(6, 4, 2, 2))
        >>> layer.visible.num_batches_tracked.item(), layer.infrared.num_batches_tracked.item()
        (2, 1)
    """

    def __init__(self, bn: nn.BatchNorm2d | int) -> None:
        super().__init__()
        bn = nn.BatchNorm2d(bn) if isinstance(bn, int) else bn
        self.visible = copy.deepcopy(bn)
        self.infrared = copy.deepcopy(bn)
        self.training = bn.training

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise a batch (N, C, H, W).

        Raises:
            InputError: the modality is not known in eval mode, or a joint
                batch has an odd number of images.
        """
        return normalize_by_modality(self, x, self.visible, self.infrared)


def normalize_by_modality(
    layer: ModalityLayer, x: torch.Tensor, visible: nn.BatchNorm2d, infrared: nn.BatchNorm2d,
) -> torch.Tensor:
    """Normalise a batch (N, C, H, W) of ``layer`` by the BatchNorm of its modality, a joint batch by halves.

    Raises:
        InputError: the modality is not known in eval mode, or a joint batch has an odd number of images.
    """
    modality = layer.modality()
    if modality != BOTH:
        output: torch.Tensor = (visible, infrared)[MODALITIES.index(modality)](x)
        return output
    check_joint(layer, x)
    if is_plain(x, visible, infrared):
        return split_batch_norm(x, visible, infrared)
    first, second = halves(x)
    return torch.cat((visible(first), infrared(second)))


def bn_slots(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the BatchNorm2d slots of ``model`` in definition order.

    A slot that is split already or is being searched counts as one slot under
    its own name: surgery does not change the slots of a network.

    Example:
        >>> bn_slots(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), SplitBatchNorm2d(4)))
        ('1', '2')
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

    Any backbone that normalises with ``BatchNorm2d`` will do; the ResNet-50
    of the paper (53 slots) is one case. A shared slot keeps its own
    ``BatchNorm2d`` and so its native speed. A split slot gets two.

    Args:
        model: a backbone, pretrained or not.
        architecture: an :class:`Architecture`, the name of a preset
            (``share``, ``split``, ``first-<k>``, ``last-<k>``,
            ``random-<seed>``, ``stages-<name>+<name>``), the path of an architecture file, or the
            authors' list of ints (0 = split, 1 = share).

    Returns:
        ``model`` itself.

    Raises:
        InputError: the model has no BatchNorm2d or is split already, or the
            architecture is made for another backbone.

    Example:
        >>> model = split_batchnorm(nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3)), "first-1")
        >>> [type(layer).__name__ for layer in model]
        ['SplitBatchNorm2d', 'BatchNorm2d']
    """
    slots = bn_slots(model)
    if not slots:
        raise InputError(f"{type(model).__name__} has no BatchNorm2d layer to split; choose a backbone that has")
    layers: dict[str, nn.BatchNorm2d] = {}
    for slot in slots:
        layer = model.get_submodule(slot)
        if not isinstance(layer, nn.BatchNorm2d):
            raise InputError(f'the slot "{slot}" is split already; call split_batchnorm once, on a fresh backbone')
        layers[slot] = layer
    for slot, choice in Architecture.resolve(architecture, slots).choices:
        if choice != SHARE:
            replace_module(model, slot, SplitBatchNorm2d(layers[slot]))
    return model
