"""Where tensors are computed: a choice by name."""
from __future__ import annotations

__all__ = ["find_device"]

import torch

from torchreid_nas.errors import InputError


def find_device(name: str | torch.device | None = None) -> torch.device:
    """Return the device called ``name``; None and ``""`` take a GPU where there is one.

    Raises:
        InputError: torch knows no such device, or sees no GPU here.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise InputError(f'the device "{name}" is unknown to torch; use cpu, cuda or cuda:<number>') from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f'the device "{name}" was asked for, but torch sees no GPU here; use --device cpu')
    return device
