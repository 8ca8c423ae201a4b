"""Pillow's resizing of decoded pixels; bilinear by a faster kernel wherever that gives the same bits."""
from __future__ import annotations

__all__ = ["resize_pixels"]

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

# torch's kernel is faster than Pillow on these CPUs alone; on others it gives the same bits in three times the time.
_FAST = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
# The weights of longer sides would not be exact: torch keeps them as fractions of 14 bits.
_LARGEST = 2**13


def resize_pixels(pixels: np.ndarray, out: np.ndarray, interpolation: str = "bilinear") -> None:
    """Write an image into ``out`` at its size, with the bits that torchvision's ``resize`` of PIL images gives.

    Both Pillow and torch's kernel for uint8 resize along the width, round, and
    resize along the height, with weights in fixed point: of 22 bits and of 14.
    Where an axis grows to n pixels, n a power of two, each weight is a multiple
    of 1/2n, which both represent exactly, so that every bit agrees. (The inputs
    of the papers, 256 x 128, are such a size, and most images are smaller.)
    torch takes a third of Pillow's time; for all other sizes Pillow is called.

    Args:
        pixels: uint8 (H, W, 3), with any strides.
        out: uint8 (height, width, 3), contiguous.
        interpolation: ``"bilinear"``; ``"bicubic"`` and ``"lanczos"`` are Pillow's alone.
    """
    height, width, _ = out.shape
    if interpolation == "bilinear" and _FAST and _exact(pixels.shape[0], height) and _exact(pixels.shape[1], width):
        # The pixels are copied, because torch warns of an array that is mapped read-only.
        batch = torch.from_numpy(np.array(pixels))[None].permute(0, 3, 1, 2)
        resized = F.interpolate(batch, size=(height, width), mode="bilinear", antialias=True)
        out[:] = resized.permute(0, 2, 3, 1)[0].numpy()
    else:
        out[:] = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling[interpolation.upper()]))


def _exact(own: int, new: int) -> bool:
    """Say whether both libraries resize an axis of ``own`` pixels to ``new`` with the same weights."""
    return own <= new <= _LARGEST and new & (new - 1) == 0
