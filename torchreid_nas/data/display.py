"""How images of infrared cameras are shown to people."""
from __future__ import annotations

__all__ = ["STRETCHED", "stretched"]

from PIL import Image, ImageOps

STRETCHED = "infrared brightness stretched for display"
"""What a caption says of images that :func:`stretched` returned."""


def stretched(image: Image.Image) -> Image.Image:
    """Return an infrared image in grey with its darkest percent black and its brightest percent white.

    Infrared images use a small part of the grey values, often a dark one, and
    look nearly black on a screen. Networks never see a stretched image.

    >>> dark = Image.new("RGB", (2, 1), (60, 60, 60))
    >>> dark.putpixel((0, 0), (40, 40, 40))
    >>> stretched(dark).getpixel((0, 0)), stretched(dark).getpixel((1, 0))
    ((0, 0, 0), (255, 255, 255))
    """
    return ImageOps.autocontrast(image.convert("L"), cutoff=1).convert("RGB")
