"""Split and searched norms, put into any backbone.

CM-NAS (Fu et al., ICCV 2021): in a two-stream network the choice that matters
is which BatchNorm layers the modalities share and which they split.
"""
from __future__ import annotations

__all__ = ["mixed_layer", "split_batchnorm", "split_layer", "split_norms"]

from collections.abc import Sequence

from torch import nn

from torchreid_nas.architecture import SHARE, Architecture, ArchitectureSpec
from torchreid_nas.errors import InputError
from torchreid_nas.layers.mixed_bn import MixedBatchNorm1d, MixedBatchNorm2d
from torchreid_nas.layers.norms import bn_slots, is_norm, norm_slots, replace_module
from torchreid_nas.layers.split_bn import SplitBatchNorm2d
from torchreid_nas.layers.split_norm import MixedNorm, SplitNorm


def split_layer(norm: nn.Module) -> SplitNorm:
    """Return the split form of a norm.

    Example:
        >>> type(split_layer(nn.BatchNorm2d(4))).__name__, type(split_layer(nn.LayerNorm(4))).__name__
        ('SplitBatchNorm2d', 'SplitNorm')
    """
    return SplitBatchNorm2d(norm) if isinstance(norm, nn.BatchNorm2d) else SplitNorm(norm)


def mixed_layer(norm: nn.Module) -> MixedNorm:
    """Return the searched form of a norm.

    Raises:
        InputError: the norm lacks what a search needs; see :class:`MixedBatchNorm2d` and :class:`MixedNorm`.

    Example:
        >>> type(mixed_layer(nn.BatchNorm2d(4))).__name__, type(mixed_layer(nn.LayerNorm(4))).__name__
        ('MixedBatchNorm2d', 'MixedNorm')
    """
    if isinstance(norm, nn.BatchNorm2d):
        return MixedBatchNorm2d(norm)
    return MixedBatchNorm1d(norm) if isinstance(norm, nn.BatchNorm1d) else MixedNorm(norm)


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
    return _split(model, architecture, slots, "split_batchnorm")


def split_norms(model: nn.Module, architecture: ArchitectureSpec) -> nn.Module:
    """Split the norms of any kind of ``model`` that ``architecture`` names, in place; ours.

    Args:
        model: a backbone whose norms :func:`norm_slots` names.
        architecture: see :func:`split_batchnorm`.

    Returns:
        ``model`` itself.

    Raises:
        InputError: the model has no norm or is split already, or the architecture is made for another backbone.

    Example:
        >>> model = split_norms(nn.Sequential(nn.BatchNorm2d(3), nn.GroupNorm(1, 3)), "last-1")
        >>> [type(layer).__name__ for layer in model]
        ['BatchNorm2d', 'SplitNorm']
    """
    slots = norm_slots(model)
    if not slots:
        raise InputError(
            f"{type(model).__name__} has no norm to split (BatchNorm, LayerNorm, GroupNorm or RMSNorm with a scale); choose a "
            "backbone that has"
        )
    return _split(model, architecture, slots, "split_norms")


def _split(model: nn.Module, architecture: ArchitectureSpec, slots: Sequence[str], name: str) -> nn.Module:
    layers = {slot: model.get_submodule(slot) for slot in slots}
    for slot, layer in layers.items():
        if not is_norm(layer):
            raise InputError(f'the slot "{slot}" is split already; call {name} once, on a fresh backbone')
    for slot, choice in Architecture.resolve(architecture, slots).choices:
        if choice != SHARE:
            replace_module(model, slot, split_layer(layers[slot]))
    return model
