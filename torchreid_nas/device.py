"""Where tensors are computed, what the hardware there does well, and the config values that follow from the device."""
from __future__ import annotations

__all__ = [
    "computes_bfloat16", "endangered_by_channels_last", "find_device", "fuses_optimizers", "move",
    "rectify_in_place", "resolve_config", "suits_channels_last", "warn_of_emulation",
]

import platform
import warnings

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from torchreid_nas.aten import find_operator
from torchreid_nas.errors import InputError, InputWarning

AUTO = "auto"


def find_device(name: str | torch.device | None = None) -> torch.device:
    """Return the device called ``name``.

    Args:
        name: as torch names devices; None and ``""`` take a GPU where there is one.

    Raises:
        InputError: torch knows no such device, or cannot compute on it here.

    Example:
        >>> find_device("cpu")
        device(type='cpu')
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise InputError(f'the device "{name}" is unknown to torch; use cpu, cuda or cuda:<number>') from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f'the device is "{name}", but torch sees no GPU here; use the device cpu')
    try:
        usable = torch.empty(0, device=device).device.type != "meta"
    except (RuntimeError, AssertionError, ImportError):
        usable = False
    if not usable:
        raise InputError(f'the device is "{name}", but torch cannot compute on it here; use cpu, cuda or cuda:<number>')
    return device


def computes_bfloat16(device: torch.device) -> bool:
    """Return whether the hardware multiplies in bfloat16, rather than torch emulating it in float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0) and torch.cuda.is_bf16_supported()
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    supported = find_operator("mkldnn::_is_mkldnn_bf16_supported")
    if supported is None or not supported():
        return False
    # On x86 oneDNN also says yes to AVX-512 without bf16 instructions, where every product is widened first.
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return native() if native is not None and platform.machine() in ("x86_64", "AMD64") else True


def warn_of_emulation(device: torch.device, key: str, way_out: str) -> None:
    """Warn that a setting asks for bfloat16 and the device does not compute bfloat16.

    Args:
        device: where tensors are computed.
        key: the config key, option or argument that the user has set.
        way_out: end of the message.
    """
    if not computes_bfloat16(device):
        warnings.warn(
            f"{key} is bf16, which {device} here does not compute but emulate, many times slower than float32; {way_out}",
            InputWarning, stacklevel=3,
        )


def suits_channels_last(device: torch.device) -> bool:
    """Return whether convolutions are faster in channels-last than in NCHW.

    On CPUs channels-last suits oneDNN in both precisions: in float32 a training
    step took 6 to 28 % less, most with CDNet. On GPUs the products in bfloat16 read
    channels as neighbours.
    """
    return computes_bfloat16(device) or device.type == "cpu" and torch.backends.mkldnn.is_available()


def endangered_by_channels_last(model: nn.Module) -> str | None:
    """Return the name of a convolution of which the training in channels-last corrupts memory on a CPU, None without one.

    The backward pass of a 1×1 convolution with a stride, in float32, reads and
    writes 16 channels at a time (oneDNN of torch 2.14 and others): with 4 to 15
    input channels it ended the process with SIGSEGV or a broken heap. Numbers of
    channels that are no multiple of 16 are left alone altogether.

    >>> endangered_by_channels_last(nn.Conv2d(8, 16, 1, stride=2)), endangered_by_channels_last(nn.Conv2d(16, 32, 1, stride=2))
    ('', None)
    """
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and max(layer.stride) > 1 and layer.in_channels % 16:
            return name
    return None


def fuses_optimizers(device: torch.device) -> bool:
    """Return whether torch has fused kernels of Adam and SGD for ``device``."""
    try:
        for optimizer in (torch.optim.Adam, torch.optim.SGD):
            optimizer([nn.Parameter(torch.zeros(1, device=device))], lr=0.1, fused=True)
    except (RuntimeError, TypeError):
        return False
    return True


def resolve_config(cfg: CfgNode, device: torch.device) -> CfgNode:
    """Return ``cfg`` with every "auto" of its ``train`` section replaced by what suits ``device``.

    A run keeps the resolved values, so a resumed run never changes its precision.

    Raises:
        InputError: fused optimisers are asked for where torch has none.
    """
    cfg = cfg.clone()
    cfg.defrost()
    train = cfg.train
    half, fused = computes_bfloat16(device), fuses_optimizers(device)
    if train.amp == AUTO:
        train.amp = "bf16" if half else "none"
    elif train.amp == "bf16":
        warn_of_emulation(device, "train.amp", "set it none or auto")
    if train.channels_last == AUTO:
        train.channels_last = suits_channels_last(device)
    if train.fused is True and not fused:
        raise InputError(f"train.fused is True, but torch {torch.__version__} has no fused optimisers for {device}; set it auto")
    if train.fused == AUTO:
        train.fused = fused
    cfg.freeze()
    return cfg


def rectify_in_place(model: nn.Module, in_place: bool) -> None:
    """Have all ReLUs, and with them the residual sums of our ResNets, overwrite their input, or return a new tensor.

    The numbers are the same. Overwriting is faster in float32. In bfloat16 torch's
    kernels take two to three times as long to overwrite, on the CPUs measured.
    """
    for module in model.modules():
        if type(module) is nn.ReLU:
            module.inplace = in_place


def move(tensor: Tensor, device: torch.device) -> Tensor:
    """Return ``tensor`` on ``device`` without waiting for a GPU: the copy from the CPU goes through pinned memory."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
