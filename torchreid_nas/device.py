"""Where tensors are computed: a choice by name."""
from __future__ import annotations

__all__ = ["computes_bfloat16", "find_device"]

import platform

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


def computes_bfloat16(device: torch.device) -> bool:
    """Return whether the hardware multiplies in bfloat16, rather than torch emulating it in float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0) and torch.cuda.is_bf16_supported()
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    # On x86 oneDNN also says yes to AVX-512 without bf16 instructions, where every product is widened first.
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return native() if native is not None and platform.machine() in ("x86_64", "AMD64") else True
