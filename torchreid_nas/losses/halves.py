"""Checks and precision that all losses over the two parts of a cross-modality batch share."""
from __future__ import annotations

__all__ = ["full_precision_halves", "full_precision_parts", "check_num_instances", "check_nonnegative"]

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from torchreid_nas.errors import InputError


@contextlib.contextmanager
def full_precision_halves(visible: Tensor, infrared: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Check both halves and yield them in float32 or better, with autocast switched off.

    Losses over pairs subtract numbers of nearly equal size; in half precision
    the difference is mostly rounding. Casting to float32 is not enough: inside an
    autocast region a matrix product casts float32 inputs down again.

    Args:
        visible: features of the visible half, shape (B, D), any floating dtype.
        infrared: features of the infrared half, same shape and device.

    Yields:
        Both halves, float16 and bfloat16 as float32, float32 and float64 as they are.

    Raises:
        InputError: the halves are not two floating (B, D) tensors of one shape on one device.

    >>> with full_precision_halves(torch.ones(2, 3).half(), torch.ones(2, 3)) as (visible, infrared):
    ...     visible.dtype
    torch.float32
    """
    with full_precision_parts(visible, infrared) as (visible, infrared):
        if visible.shape != infrared.shape:
            raise InputError(
                f"visible has shape {tuple(visible.shape)} and infrared {tuple(infrared.shape)}, expected two non-empty "
                "tensors of one shape (B, D); draw as many infrared as visible images and pass one feature row per image"
            )
        yield visible, infrared


@contextlib.contextmanager
def full_precision_parts(visible: Tensor, infrared: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Do what :func:`full_precision_halves` does for a visible part of one or more copies of B images: (n·B, D) and (B, D).

    Raises:
        InputError: the parts are not two floating (n·B, D) and (B, D) tensors on one device.

    >>> with full_precision_parts(torch.ones(4, 3), torch.ones(2, 3)) as (visible, infrared):
    ...     len(visible) // len(infrared)
    2
    """
    for name, half in (("visible", visible), ("infrared", infrared)):
        if not isinstance(half, Tensor) or not half.is_floating_point():
            kind = half.dtype if isinstance(half, Tensor) else type(half).__name__
            raise InputError(f"{name} is {kind}, expected a floating-point tensor of shape (B, D); pass the features")
    fits = visible.dim() == infrared.dim() == 2 and visible.shape[1] == infrared.shape[1] and visible.numel() and infrared.numel()
    if not fits or len(visible) % len(infrared):
        raise InputError(
            f"visible has shape {tuple(visible.shape)} and infrared {tuple(infrared.shape)}, expected two non-empty tensors of "
            "one shape (B, D), or a visible part of two or more copies, (n·B, D) and (B, D); draw the batch by "
            "CrossModalityIdentitySampler and pass one feature row per image"
        )
    if visible.device != infrared.device:
        raise InputError(
            f"visible is on {visible.device} and infrared on {infrared.device}; move both to the same device"
        )
    dtype = torch.promote_types(torch.promote_types(visible.dtype, infrared.dtype), torch.float32)
    with torch.autocast(visible.device.type, enabled=False):
        yield visible.to(dtype), infrared.to(dtype)


def check_num_instances(num_instances: int) -> int:
    """Return ``num_instances`` (K, images per identity and modality) when it is an integer of at least 1.

    Raises:
        InputError: ``num_instances`` is anything else.
    """
    if isinstance(num_instances, bool) or not isinstance(num_instances, int) or num_instances < 1:
        raise InputError(
            f"num_instances is {num_instances!r}, expected an integer of at least 1; "
            "give the number of images per identity and modality that the sampler draws"
        )
    return num_instances


def check_nonnegative(name: str, value: float) -> float:
    """Return ``value`` as a float when it is a finite number of at least 0.

    Raises:
        InputError: ``value`` is anything else; the message names ``name``.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise InputError(f"{name} is {value!r}, expected a finite number of at least 0")
    return float(value)
