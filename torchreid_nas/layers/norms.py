"""Which layers of a network are norm slots, and where they stand.

A BatchNorm has statistics of its own: what a modality may have of its own are
statistics, scale and shift. LayerNorm, GroupNorm and RMSNorm normalise each
image by itself: what a modality may have of its own are scale and shift alone.
"""
from __future__ import annotations

__all__ = ["bn_slots", "has_activation", "is_batchnorm", "is_norm", "norm_slots", "replace_module"]

from collections.abc import Callable
from typing import Any

from torch import nn

from torchreid_nas.layers.modality import MODALITIES

# These norms of timm are no subclasses of torch's norms, as timm's others are. They are compared by name: timm need not be
# imported.
_TIMM_RMS = frozenset({"RmsNorm", "RmsNormFp32", "RmsNorm2d", "RmsNorm2dFp32"})


def is_batchnorm(module: Any) -> bool:
    """Return whether ``module`` is a BatchNorm2d or a BatchNorm1d, timm's with activation among them.

    Example:
        >>> is_batchnorm(nn.BatchNorm2d(4)), is_batchnorm(nn.LayerNorm(4))
        (True, False)
    """
    return isinstance(module, (nn.BatchNorm2d, nn.BatchNorm1d))


def is_norm(module: Any) -> bool:
    """Return whether ``module`` is a norm that a slot can hold: a BatchNorm, or a LayerNorm, GroupNorm or RMSNorm with a scale.

    InstanceNorm is none: it takes the style of each image away, that of the modality with it.

    Example:
        >>> is_norm(nn.LayerNorm(4)), is_norm(nn.LayerNorm(4, elementwise_affine=False)), is_norm(nn.InstanceNorm2d(4))
        (True, False, False)
    """
    if is_batchnorm(module):
        return True
    affine = isinstance(module, (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)) or any(
        kind.__name__ in _TIMM_RMS and kind.__module__.startswith("timm.") for kind in type(module).__mro__
    )
    return affine and module.weight is not None


def has_activation(module: Any) -> bool:
    """Return whether ``module`` is timm's BatchNormAct2d, a BatchNorm2d with dropout and activation behind it."""
    return any(kind.__name__ == "BatchNormAct2d" and kind.__module__.startswith("timm.") for kind in type(module).__mro__)


def norm_slots(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the norm slots of ``model`` in definition order.

    A slot that is split already or is being searched counts as one slot under
    its own name: surgery does not change the slots of a network.

    Example:
        >>> norm_slots(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.Flatten(), nn.LayerNorm(4)))
        ('1', '2', '4')
    """
    return _slots(model, is_norm)


def bn_slots(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the BatchNorm2d slots of ``model`` alone, those of CM-NAS, in definition order.

    Example:
        >>> bn_slots(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.GroupNorm(2, 4)))
        ('1',)
    """
    return _slots(model, lambda module: isinstance(module, nn.BatchNorm2d))


def _slots(model: nn.Module, fits: Callable[[Any], bool]) -> tuple[str, ...]:
    slots: list[str] = []

    def visit(module: nn.Module, prefix: str) -> None:
        for name, child in module.named_children():
            path = f"{prefix}{name}"
            if fits(child) or all(fits(getattr(child, modality, None)) for modality in MODALITIES):
                slots.append(path)
            else:
                visit(child, f"{path}.")

    visit(model, "")
    return tuple(slots)


def replace_module(model: nn.Module, path: str, module: nn.Module) -> None:
    """Put ``module`` at the dotted ``path`` of ``model``.

    Example:
        >>> model = nn.Sequential(nn.Sequential(nn.ReLU()))
        >>> replace_module(model, "0.0", nn.Identity())
        >>> model[0][0]
        Identity()
    """
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)
